package turns_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/bench/internal/turns"
)

// spin is an operation that takes so long.
func spin(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

func times(n int) func() bool {
	return func() bool { n--; return n >= 0 }
}

var kept []byte

func TestMeasureTellsWhatIsSlower(t *testing.T) {
	r := turns.Measure(times(21), func(n int) {
		for range n {
			spin(40 * time.Microsecond)
			kept = make([]byte, 1000)
		}
	}, func(n int) {
		for range n {
			spin(10 * time.Microsecond)
		}
	})
	require.Greater(t, r.Ratio, 2.0)
	require.InDelta(t, 1, float64(r.Ours.Allocs)/float64(r.Ours.Ops), 0.5)
	require.Less(t, r.Floor.Allocs, uint64(r.Floor.Ops)/2)
}

func TestMeasureNeedsNoFloor(t *testing.T) {
	r := turns.Measure(times(3), func(n int) { spin(time.Millisecond) }, nil)
	require.Equal(t, 3, r.Ours.Ops)
	require.Zero(t, r.Ratio)
}

func TestParallelSharesTheWork(t *testing.T) {
	var done atomic.Int64
	do := turns.Parallel(3, func(_, n int) { done.Add(int64(n)) })
	for _, n := range []int{0, 1, 2, 100} {
		done.Store(0)
		do(n)
		require.EqualValues(t, n, done.Load())
	}
}
