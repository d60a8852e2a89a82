package model

import (
	"fmt"
	"hash/maphash"
	"strings"
)

// An explorer goes through every state that can be reached, breadth first, and
// looks at each step once. So the first violation that it meets is one of the
// shortest there are.
//
// Of a state that was seen, 128 bits of a keyed hash are kept, and of the path to
// it five bytes; whole states are kept at the present and the next depth only.
// Of a hundred million states two collide with a probability of about 10^-23.
type explorer[S comparable] struct {
	seeds   [2]maphash.Seed
	seen    map[[2]uint64]struct{}
	parents []uint32
	ordinal []uint8 // which of its parent's steps led to it
}

// A Result is what an exploration found.
type Result struct {
	States, Steps, Depth int
	// Broken says what was violated; empty if nothing was.
	Broken string
	// Trace are the steps, in words, that lead to the violation.
	Trace []string
	// Whole is false if the exploration was cut off.
	Whole bool
}

// String is the counter-example, or the counts.
func (r Result) String() string {
	if r.Broken == "" {
		how := ""
		if !r.Whole {
			how = ", cut off"
		}
		return fmt.Sprintf("%d states, %d steps, depth %d%s", r.States, r.Steps, r.Depth, how)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, after %d states:\n", r.Broken, r.States)
	for i, s := range r.Trace {
		fmt.Fprintf(&b, "%4d. %s\n", i+1, s)
	}
	return b.String()
}

// Steps collects what can happen next in a state.
type Steps[S comparable] struct {
	to    []S
	words []string // one for each state, if talk is set
	bad   string   // what the last step violates
	talk  bool
}

// add adds a step. Words are a format with the verb %d only. The step is not
// looked beyond if it breaks something.
func (s *Steps[S]) add(to *S, broken, words string, args ...uint8) {
	if s.bad != "" {
		return
	}
	s.to = append(s.to, *to)
	if broken != "" {
		s.bad = broken
	}
	if s.talk {
		list := make([]any, len(args))
		for i, a := range args {
			list[i] = a
		}
		s.words = append(s.words, fmt.Sprintf(words, list...))
	}
}

func (s *Steps[S]) clear() { s.to, s.words, s.bad = s.to[:0], s.words[:0], "" }

// A queue is the states of one depth. It is cut into pieces, so that what has been
// looked at is given back at once.
type queue[S any] struct {
	pieces [][]S
	from   int // in the first piece
	n      int
}

const piece = 1 << 12

func (q *queue[S]) push(s *S) {
	last := len(q.pieces) - 1
	if last < 0 || len(q.pieces[last]) == piece {
		q.pieces = append(q.pieces, make([]S, 0, piece))
		last++
	}
	q.pieces[last] = append(q.pieces[last], *s)
	q.n++
}

func (q *queue[S]) pop() S {
	s := q.pieces[0][q.from]
	q.n--
	if q.from++; q.from == len(q.pieces[0]) {
		q.pieces[0] = nil
		q.pieces, q.from = q.pieces[1:], 0
	}
	return s
}

func (x *explorer[S]) meet(s *S, parent uint32, ordinal int) bool {
	print := [2]uint64{maphash.Comparable(x.seeds[0], *s), maphash.Comparable(x.seeds[1], *s)}
	n := len(x.seen)
	if x.seen[print] = struct{}{}; len(x.seen) == n {
		return false
	}
	x.parents = append(x.parents, parent)
	x.ordinal = append(x.ordinal, uint8(ordinal))
	return true
}

// explore looks at every state that can be reached from the first one, up to the
// limit. next adds the steps of a state, and returns what is wrong with the state
// itself, if something is. After a step that is said to break something no other is
// added.
func explore[S comparable](first S, limit int, next func(*S, *Steps[S]) (broken string)) Result {
	x := &explorer[S]{
		seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		seen:  make(map[[2]uint64]struct{}),
	}
	x.meet(&first, 0, 0)
	var res Result
	var steps Steps[S]
	var here, there queue[S]
	here.push(&first)
	index := uint32(0) // of the state at hand
	for here.n > 0 {
		for here.n > 0 {
			s := here.pop()
			steps.clear()
			broken := next(&s, &steps)
			if broken != "" || steps.bad != "" {
				last := -1
				if broken == "" {
					broken, last = steps.bad, len(steps.to)-1
				}
				res.States, res.Broken = len(x.parents), broken
				res.Trace = x.trace(first, index, last, next)
				return res
			}
			res.Steps += len(steps.to)
			for j := range steps.to {
				if x.meet(&steps.to[j], index, j) {
					there.push(&steps.to[j])
				}
			}
			index++
			if len(x.parents) > limit {
				res.States = len(x.parents)
				return res
			}
		}
		here, there = there, here
		res.Depth++
	}
	res.States, res.Whole = len(x.parents), true
	return res
}

// trace tells the way to a state, and beyond it the step last unless that is
// negative.
func (x *explorer[S]) trace(s S, index uint32, last int, next func(*S, *Steps[S]) string) []string {
	var way []int
	if last >= 0 {
		way = append(way, last)
	}
	for ; index != 0; index = x.parents[index] {
		way = append(way, int(x.ordinal[index]))
	}
	steps := Steps[S]{talk: true}
	var words []string
	for i := len(way) - 1; i >= 0; i-- {
		steps.clear()
		next(&s, &steps)
		words = append(words, steps.words[way[i]])
		s = steps.to[way[i]]
	}
	return words
}
