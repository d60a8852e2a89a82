package trace_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/bench/internal/trace"
)

func TestZipfHasItsShares(t *testing.T) {
	const keys, n = 1000, 200_000
	count := make([]int, keys)
	for _, k := range trace.Zipf(1, 1, keys, n) {
		count[k]++
	}
	require.InDelta(t, 2, float64(count[0])/float64(count[1]), 0.2)
	require.InDelta(t, 10, float64(count[0])/float64(count[9]), 2)
	require.Equal(t, trace.Zipf(7, 0.8, keys, 100), trace.Zipf(7, 0.8, keys, 100))
}

func TestScannedKeepsTheTrace(t *testing.T) {
	require.Equal(t, []int{3, 10, 1, 11, 3, 12}, trace.Scanned([]int{3, 1, 3}, 10))
}

// The LRU is compared with a slice that is put in order at each request.
func TestLRUIsPerfect(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const limit = 100
	size := func(key int) int64 { return int64(1 + key*7%30) }
	c := trace.NewLRU(limit)
	var used []int // the last used at the end
	for range 20_000 {
		key := r.IntN(40)
		at := slices.Index(used, key)
		require.Equal(t, at >= 0, c.Ask(key, size(key)))
		if at >= 0 {
			used = slices.Delete(used, at, at+1)
		}
		used = append(used, key)
		sum := int64(0)
		for _, k := range used {
			sum += size(k)
		}
		for ; sum > limit; used = used[1:] {
			sum -= size(used[0])
		}
	}
	require.False(t, c.Ask(99, limit+1))
	require.False(t, c.Ask(99, limit+1), "what does not fit is not kept")
}
