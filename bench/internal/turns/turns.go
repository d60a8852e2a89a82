// Package turns measures two things beside each other: they run by turns of about
// a millisecond, so that what disturbs a shared machine disturbs both. Their ratio
// says more than either time.
package turns

import (
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"
)

// long is what a turn takes at least, unless one operation takes longer: it is much
// more than reading the clock takes, and much less than what a scheduler does to a
// process.
const long = time.Millisecond

// A Side is what was measured on one side.
type Side struct {
	Time   time.Duration // of the turns together
	Ops    int
	Allocs uint64
	Bytes  uint64 // allocated

	perOp []float64 // of each turn, in nanoseconds
}

// Mean returns the time of an operation in nanoseconds, on average over all turns:
// with the collection of garbage, and with what others did on the machine.
func (s *Side) Mean() float64 { return float64(s.Time) / float64(max(s.Ops, 1)) }

// Median returns the time of an operation in nanoseconds in the turn that was
// neither fast nor slow.
func (s *Side) Median() float64 { return median(s.perOp) }

// AllocsPerOp returns how many times an operation allocates.
func (s *Side) AllocsPerOp() float64 { return float64(s.Allocs) / float64(max(s.Ops, 1)) }

// BytesPerOp returns how many bytes an operation allocates.
func (s *Side) BytesPerOp() float64 { return float64(s.Bytes) / float64(max(s.Ops, 1)) }

// Report reports the side as the figures of one operation: the median of all turns as
// ns/op, and their mean.
func (s *Side) Report(b *testing.B) {
	b.ReportAllocs()
	b.ReportMetric(s.Median(), "ns/op")
	b.ReportMetric(s.Mean(), "mean-ns/op")
	b.ReportMetric(s.BytesPerOp(), "B/op")
	b.ReportMetric(s.AllocsPerOp(), "allocs/op")
}

func median(of []float64) float64 {
	if len(of) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

// Turn runs fn for n operations, measures them, and returns the nanoseconds of one.
// What other goroutines of the process allocate meanwhile counts too: it is done for
// these operations.
func (s *Side) Turn(fn func(n int), n int) (perOp float64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	fn(n)
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	s.Time += took
	s.Ops += n
	s.Allocs += after.Mallocs - before.Mallocs
	s.Bytes += after.TotalAlloc - before.TotalAlloc
	perOp = float64(took) / float64(n)
	s.perOp = append(s.perOp, perOp)
	return perOp
}

// A Result is what came of a comparison.
type Result struct {
	Ours, Floor Side
	// Ratio is the time of ours in terms of the floor's: the median of all turns.
	Ratio float64
}

// Measure runs ours and floor by turns as long as more returns true. Both are
// called with a number of operations to do. floor may be nil.
func Measure(more func() bool, ours, floor func(n int)) Result {
	n := size(ours)
	m := n
	if floor != nil {
		// As many as take a turn: a floor that is much faster would be over before
		// the clock has moved.
		m = size(floor)
	}
	var r Result
	var ratios []float64
	for i := 0; more(); i++ {
		if floor == nil {
			r.Ours.Turn(ours, n)
			continue
		}
		var o, f float64
		if i%2 == 0 { // neither is always the one with the warm cache
			o, f = r.Ours.Turn(ours, n), r.Floor.Turn(floor, m)
		} else {
			f, o = r.Floor.Turn(floor, m), r.Ours.Turn(ours, n)
		}
		ratios = append(ratios, o/f)
	}
	r.Ratio = median(ratios)
	return r
}

// size returns how many operations take a turn, whatever else is going on. It
// warms up what it measures.
func size(fn func(n int)) int {
	for n := 1; ; n *= 2 {
		shortest := time.Hour
		for range 3 {
			start := time.Now()
			fn(n)
			if shortest = min(shortest, time.Since(start)); shortest < long {
				break
			}
		}
		if shortest >= long {
			return n
		}
	}
}

// Benchmark is [Measure] for as long as b wants, and reports the result: an
// iteration is a turn, but ns/op, B/op and allocs/op are those of one of our
// operations. ns/op is the median of all turns, mean-ns/op their mean. With a
// floor, floor-ns/op is its median, and x/floor the ratio.
func Benchmark(b *testing.B, ours, floor func(n int)) Result {
	b.Helper()
	r := Measure(b.Loop, ours, floor)
	r.Ours.Report(b)
	if floor != nil {
		b.ReportMetric(r.Floor.Median(), "floor-ns/op")
		b.ReportMetric(r.Ratio, "x/floor")
	}
	return r
}

// Parallel returns a function that lets several workers do n operations together.
// The time of one is then the turn's by their sum: what the machine gets done, not
// how long one waits.
func Parallel(workers int, do func(worker, n int)) func(n int) {
	return func(n int) {
		var wg sync.WaitGroup
		for w := range workers {
			share := n / workers
			if w < n%workers {
				share++
			}
			wg.Go(func() { do(w, share) })
		}
		wg.Wait()
	}
}
