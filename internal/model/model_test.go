package model

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
)

// tooMany stops an exploration that does not fit into memory. Every scenario ends
// before it.
const tooMany = 16_000_000

func run(c scenario, flaws ...flaw) Result {
	c.hasFollowers = slices.ContainsFunc(c.requests, func(r role) bool { return r.kind == follower })
	m := &protocol{scenario: &c}
	for _, f := range append(slices.Clip(flaws), c.flawed...) {
		m.faults[f] = true
	}
	return explore(c.initial(), tooMany, m.next)
}

func scenarioNamed(t *testing.T, name string) scenario {
	i := slices.IndexFunc(scenarios, func(c scenario) bool { return c.name == name })
	require.GreaterOrEqual(t, i, 0, "there is no scenario %q", name)
	return scenarios[i]
}

func mutantNamed(t *testing.T, name string) mutant {
	i := slices.IndexFunc(mutants, func(m mutant) bool { return m.name == name })
	require.GreaterOrEqual(t, i, 0, "there is no mutant %q", name)
	return mutants[i]
}

// TestProtocolKeepsThePromise goes through every scenario whole.
func TestProtocolKeepsThePromise(t *testing.T) {
	// The collector is to work harder before three scenarios' garbage fills the
	// machine.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(3 << 30))
	var states, steps atomic.Int64
	t.Run("scenarios", func(t *testing.T) {
		for _, c := range scenarios {
			t.Run(c.name, func(t *testing.T) {
				switch faults.Rounds(0, 1, 2) {
				case 0:
					t.Parallel()
				case 1:
					t.Parallel()
					c = c.with(c.ci)
				case 2: // one after another: they share the memory
					c = c.with(c.ci).with(c.full)
				}
				r := run(c)
				require.Empty(t, r.Broken, "%v", r)
				require.True(t, r.Whole, "%v", r)
				t.Log(r)
				states.Add(int64(r.States))
				steps.Add(int64(r.Steps))
			})
		}
	})
	t.Logf("model: %d scenarios, %d states, %d steps, none broken", len(scenarios), states.Load(), steps.Load())
}

// TestMutantsAreCaught takes one thing after another away from the protocol.
func TestMutantsAreCaught(t *testing.T) {
	pairs := 0
	t.Run("mutants", func(t *testing.T) {
		for _, m := range mutants {
			if m.behind != "" {
				pairs++
			}
			t.Run(m.name, func(t *testing.T) {
				t.Parallel()
				c := scenarioNamed(t, m.scenario)
				c.restless = m.breaks != neverEnds
				if m.behind != "" {
					r := run(c, m.flaws[0])
					require.Empty(t, r.Broken, "it was said that behind it stands %s: %v", m.behind, r)
					require.True(t, r.Whole)
				}
				r := run(c, m.flaws...)
				require.Equal(t, m.breaks, r.Broken, "%v", r)
				t.Logf("in %q: %v", m.scenario, r)
			})
		}
	})
	t.Logf("model: %d mutants, all caught, %d of them only with what stands behind them taken away", len(mutants), pairs)
}

// TestEveryFlawIsTried sees to it that no flaw is defined and forgotten.
func TestEveryFlawIsTried(t *testing.T) {
	tried := map[flaw]bool{}
	for _, m := range mutants {
		for _, f := range m.flaws {
			tried[f] = true
		}
	}
	for _, i := range interleavings {
		for _, f := range i.flaws {
			tried[f] = true
		}
	}
	for _, f := range deleting.flawed {
		tried[f] = true
	}
	for f := range faultCount {
		require.True(t, tried[f], "flaw %d", f)
	}
}

// rules maps the fourteen rules of docs/design.md to the mutants that lack them,
// and where that says little, to the scenarios.
var rules = map[int]struct {
	mutants []string
	words   string
}{
	1:  {mutants: []string{"seq is not written: positions are used again after a crash", "an invalidation does not raise the number"}},
	2:  {mutants: []string{"a position of another epoch is stored", "followers compare numbers of different epochs", "a process without the file has positions", "flights without a position are followed"}},
	3:  {mutants: []string{"a mark is dropped from memory though it has grown", "a mark counts as cleaned though it has grown", "a mark counts as paid though it has grown", "the mark is deleted from disk though it has grown", "sweeping deletes at a mark, not below it", "a step of sweeping that failed is not done again"}},
	4:  {mutants: []string{"marks are dropped while a response is in flight", "marks are dropped while an older entry is queued", "marks are dropped while an older copy is on disk", "marks are dropped while an older copy is in memory", "the generation is not compared", "promotion does not compare the generation", "promotion does not look at the marks"}},
	5:  {mutants: []string{"hard and soft are one mark", "an expiry refuses a Put", "a soft mark is deleted before since when is written", "the scan leaves expired copies as fresh", "a deletion is not queued", "followers take what is valid now"}},
	6:  {mutants: []string{"a renewal's position is taken after its look-up", "a renewal does not ask whether the old entry is valid", "a renewal has its own tags only", "a renewal does not ask whether the old entry is still there"}},
	7:  {mutants: []string{"an invalid newest version in memory lets an older one answer", "a dropped store leaves the older version on disk", "promotion replaces what is there", "Put replaces a higher position", "what is invalid at the flush leaves the older version on disk", "a Put takes no ticket", "a Put looks at the disk, but not at the queue", "promotion takes its ticket after the look at the queue"}},
	8:  {mutants: []string{"a variant lacks the mark of its URL"}},
	9:  {mutants: []string{"marks are deleted before the floor that replaces them is written", "the floor is not written", "too many marks make the oldest be forgotten", "a hung handler holds its marks for ever", "a mark that stands on disk is overlooked"}},
	10: {mutants: []string{"a failed transaction counts as committed", "what could not be written is not owed any more", "set aside without syncing the directory", "a failure takes the mark from memory"}},
	11: {mutants: []string{"acknowledged though the path leads to another file", "a restored copy is believed", "a file that was moved to the path is believed"}},
	12: {mutants: []string{"marks are not guarded", "a transaction that was lost is not noticed"}},
	13: {words: "a matter of one request; no other process or request has a part in it, and nothing is stored twice"},
	14: {mutants: []string{"acknowledged while the file is being opened", "marks made without a file are forgotten", "marks made without a file keep their numbers"}},
}

func TestEveryRuleHasItsMutants(t *testing.T) {
	for _, n := range slices.Sorted(maps.Keys(rules)) {
		r := rules[n]
		require.NotEqual(t, len(r.mutants) == 0, r.words == "", "rule %d", n)
		for _, name := range r.mutants {
			mutantNamed(t, name) // TestMutantsAreCaught runs it
		}
	}
	require.Len(t, rules, 14)
}

// deleting is another design, without look-ups that ask the marks: an invalidation
// deletes what there is, and marks keep late stores out. In memory alone it keeps
// the promise; it has nothing to fall back on, and so shows the races by themselves.
var deleting = scenario{
	name: "deleting", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, deletes: true, flawed: []flaw{blind},
	requests: []role{leads0, leads0, reads0}, writes: []write{purge0, purge0},
}

// An interleaving is one of the known races of tag invalidation: C commits in the
// application's database, I invalidates, R is the handler's read, S the store, L a
// look-up.
type interleaving struct {
	n      int
	words  string
	mutant string    // one of mutants
	in     *scenario // or this scenario with these flaws is broken
	flaws  []flaw
	kept   string // or our protocol keeps it, in this scenario
	not    string // or it does not arise
}

var interleavings = []interleaving{
	{n: 1, words: "R C I S", in: &deleting, flaws: []flaw{noMarks}},
	{n: 2, words: "R C I S; flights whose key is indexed are cancelled", in: &deleting, flaws: []flaw{noMarks, cancelsIndexed}},
	{n: 3, words: "the entry is stamped when it is stored", mutant: "stamped when it is stored"},
	{n: 4, words: "delete, gap, mark", in: &deleting, flaws: []flaw{deletesThenMarks}},
	{n: 5, words: "check, gap, put", in: &deleting, flaws: []flaw{checkedApart}},
	{n: 6, words: "a follower joins a flight from before I", mutant: "followers take what comes"},
	{n: 7, words: "as 6, discard if the last mark lies in (start, join]", mutant: "followers refuse if the last mark lies in (begin, join]"},
	{n: 8, words: "marks are forgotten too early", mutant: "marks are dropped while a response is in flight"},
	{n: 9, words: "what was queued is written after the purge", mutant: "the queue outlives the purge"},
	{n: 10, words: "as 9, checked, but marks are pruned past the queue", mutant: "marks are dropped while an older entry is queued"},
	{n: 11, words: "acknowledged before it is durable", mutant: "acknowledged before it is durable"},
	{n: 12, words: "a refresh begun before C ends after I", mutant: "stamped when it is stored"},
	{n: 13, words: "what was purged is served as stale", mutant: "hard and soft are one mark"},
	{n: 14, words: "promotion while I runs", mutant: "promotion does not look at the marks"},
	{n: 15, words: "two processes, shared store, marks local", not: "a file has one process at a time"},
	{n: 16, words: "two processes with private memory", not: "a process without the file answers from no memory; the mutant that does is caught"},
	{n: 17, words: "I before C", in: &early},
	{n: 18, words: "the handler reads a replica that lags", in: &lagging},
	{n: 19, words: "a 304 extends an entry that was purged meanwhile", mutant: "a renewal does not ask whether the old entry is valid"},
	{n: 20, words: "the file is purged by another program while we are down", kept: "take-over"},
	{n: 21, words: "the invalidation cannot be written", mutant: "a failure takes the mark from memory"},
	{n: 22, words: "everything is purged", mutant: "the floor is not written"},
}

// The contract of the application: it commits first, and handlers read what was
// committed. Who does not keep it is shown what comes of it.
var (
	early = scenario{
		name: "I before C", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, reads0}, writes: []write{{kind: hardMark, tags: 1, early: true}},
	}
	lagging = scenario{
		name: "a lagging replica", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, replica: true,
		requests: []role{leads0, reads0}, writes: []write{purge0},
	}
)

func TestInterleavings(t *testing.T) {
	require.Empty(t, run(deleting).Broken, "the design that deletes")
	for i, x := range interleavings {
		require.Equal(t, i+1, x.n)
		t.Run(fmt.Sprintf("D1 %d", x.n), func(t *testing.T) {
			t.Parallel()
			switch {
			case x.mutant != "":
				mutantNamed(t, x.mutant)
				t.Logf("%s: the mutant %q", x.words, x.mutant)
			case x.in != nil:
				c := *x.in
				c.restless = true
				r := run(c, x.flaws...)
				require.Equal(t, promiseBroken, r.Broken)
				t.Logf("%s: %v", x.words, r)
			case x.kept != "":
				scenarioNamed(t, x.kept)
				t.Logf("%s: kept, in the scenario %q", x.words, x.kept)
			default:
				require.NotEmpty(t, x.not)
				t.Logf("%s: %s", x.words, x.not)
			}
		})
	}
	require.Len(t, interleavings, 22)
}

// gaps are what our protocol does not keep. They are said in the package comment and
// here, so that whoever closes one is told.
var gaps = []struct {
	scenario scenario
	breaks   string
}{
	{scenario{
		// When a file could not be opened, and not because a process had it, one may
		// have it until the next try, or if there is none, for good.
		name: "a follower in a process that could not open its file", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{{leader, 1, 0}, {follower, 1, 0}}, writes: []write{purge0}, first: forbiddenSecond,
	}, promiseBroken},
}

func TestGaps(t *testing.T) {
	for _, g := range gaps {
		t.Run(g.scenario.name, func(t *testing.T) {
			t.Parallel()
			r := run(g.scenario)
			require.Equal(t, g.breaks, r.Broken, "it is a gap no more: %v", r)
			t.Log(r)
		})
	}
}

// TestExplorer shows the checker at work on something smaller: two processes that
// each read a number, add one, and write it back.
func TestExplorer(t *testing.T) {
	type state struct {
		shared  uint8
		local   [2]uint8
		counter [2]uint8
	}
	next := func(s *state, out *Steps[state]) string {
		for i := range uint8(2) {
			n := *s
			switch s.counter[i] {
			case 0:
				n.local[i], n.counter[i] = n.shared, 1
				out.add(&n, "", "%d reads %d", i, n.shared)
			case 1:
				n.shared, n.counter[i] = n.local[i]+1, 2
				out.add(&n, "", "%d writes %d", i, n.shared)
			}
		}
		if len(out.to) == 0 && s.shared != 2 {
			return "an addition is lost"
		}
		return ""
	}
	r := explore(state{}, 100, next)
	require.Equal(t, "an addition is lost", r.Broken)
	require.Equal(t, []string{"0 reads 0", "1 reads 0", "0 writes 1", "1 writes 1"}, r.Trace)

	all := explore(state{}, 100, func(s *state, out *Steps[state]) string { next(s, out); return "" })
	require.Equal(t, Result{States: 13, Steps: 14, Depth: 5, Whole: true}, all)
}
