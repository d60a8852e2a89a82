package linear

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"
)

// An action is what is done to a register, or to what a key holds.
type action uint8

const (
	commit action = iota // a version
	purge                // what is older than a version
	read                 // a version
	put                  // a response
	get                  // a response
)

func (a action) String() string { return [...]string{"commit", "purge", "read", "put", "get"}[a] }

// An input is what is done. What was read is in it as well: to porcupine it is
// the same.
type input struct {
	do      action
	version uint64 // or, of a put or a get, the run of the handler
	at      uint64 // the position of what is put or got
	ordered bool   // a put never has a lower position than what it replaces
	until   int64  // of a put: when what is put is past every use
	done    int64  // of a put: when it returned
}

// bounds is the state of a register.
type bounds struct{ lowest, committed uint64 }

var promise = porcupine.Model{
	Init: func() any { return bounds{} },
	Step: func(state, in, _ any) (bool, any) {
		s, i := state.(bounds), in.(input)
		switch i.do {
		case commit:
			s.committed = max(s.committed, i.version)
		case purge:
			s.lowest = max(s.lowest, i.version)
		case read:
			return s.lowest <= i.version && i.version <= s.committed, s
		}
		return true, s
	},
	DescribeOperation: func(in, _ any) string {
		i := in.(input)
		return fmt.Sprint(i.do, " ", i.version)
	},
	DescribeState: func(state any) string {
		s := state.(bounds)
		return fmt.Sprintf("%d to %d", s.lowest, s.committed)
	},
}

// held is what a key holds, if anything.
type held struct {
	at, run uint64
	until   int64
}

var newest = porcupine.Model{
	Init: func() any { return held{} },
	Step: func(state, in, _ any) (bool, any) {
		s, i := state.(held), in.(input)
		if i.do == get {
			return i.at == s.at && i.version == s.run, s
		}
		// What is past its time stands in nobody's way.
		return !i.ordered || i.at >= s.at || i.done > s.until, held{i.at, i.version, i.until}
	},
	DescribeOperation: func(in, _ any) string {
		i := in.(input)
		return fmt.Sprintf("%s %d at %d", i.do, i.version, i.at)
	},
	DescribeState: func(state any) string {
		s := state.(held)
		return fmt.Sprintf("%d at %d", s.run, s.at)
	},
}

// judge returns what is wrong with a history, one line for each register and, unless
// only these are to be judged, each key. It draws them in dir, if that is not empty.
func (h *history) judge(dir string, registers bool) (wrong []string) {
	for name, ops := range h.ops {
		if h.unclear[name] || name.key && (registers || h.slow) {
			continue
		}
		model := promise
		if name.key {
			model = newest
		}
		lanes(ops)
		// A history that is right is judged in milliseconds.
		switch result := porcupine.CheckOperationsTimeout(model, ops, 20*time.Second); result {
		case porcupine.Ok:
		case porcupine.Unknown:
			wrong = append(wrong, fmt.Sprintf("%s: not judged in time", name.name))
		default:
			line := fmt.Sprintf("%s: no order of its %d operations is right", name.name, len(ops))
			if dir != "" {
				_, info := porcupine.CheckOperationsVerbose(model, ops, 20*time.Second)
				path := filepath.Join(dir, fmt.Sprintf("%s-%d-%s.html", h.setting.name, h.seed, name.name))
				if err := os.MkdirAll(dir, 0o755); err != nil {
					line += ": " + err.Error()
				} else if err := porcupine.VisualizePath(model, info, path); err != nil {
					line += ": " + err.Error()
				} else {
					line += ", drawn in " + path
				}
			}
			wrong = append(wrong, line)
		}
	}
	return wrong
}

// lanes gives operations clients so that those of one client do not overlap.
func lanes(ops []porcupine.Operation) {
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var ends []int64
	for i := range ops {
		lane := slices.IndexFunc(ends, func(end int64) bool { return end < ops[i].Call })
		if lane < 0 {
			lane, ends = len(ends), append(ends, 0)
		}
		ops[i].ClientId, ends[lane] = lane, ops[i].Return
	}
}
