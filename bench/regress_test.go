package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/bench/internal/turns"
)

// Bounds of the time of a hit in terms of the floor's, about twice what they were
// when they were set: what makes a hit twice as slow is to be noticed, what a machine
// is like is not.
const (
	memoryBound   = 8.0  // 3.3 to 3.7 measured
	answeredBound = 12.0 // 304: 5.1 to 5.6 measured; it has fewer fields, and a condition
	diskBound     = 80.0 // 19 to 45 measured; it depends on memory more than on us
)

// diskAllocs is how often a hit from disk allocates: the entry, its text and its marks,
// and what is prepared for its answer.
const diskAllocs = 6

// A change that makes a hit allocate, or much slower than a handler that has the
// answer ready, fails here, on whatever machine: no time is looked at, only ratios of
// times that were taken by turns.
func TestNoRegressions(t *testing.T) {
	if racing {
		t.Skip("the race detector allocates, and is slow in its own ways")
	}
	began := time.Now()
	for _, be := range backends {
		c := newCache(t, newSite(t, fewPages), be.open(t))
		for _, hc := range hitCases {
			if !hc.free {
				continue
			}
			t.Run(hc.name+" from "+be.name, func(t *testing.T) {
				fill(t, c, 1, hc.page)
				s := hc.setting(t, c, 1)
				ours, floor := s.serial()
				bound := memoryBound
				switch {
				case be.name == disk.name:
					bound = diskBound
				case hc.valid:
					bound = answeredBound
				}
				allowed := 0.0
				if be.name == disk.name {
					allowed = diskAllocs
					require.Eventually(t, func() bool { return c.Stats().Store.QueueBytes == 0 }, 20*time.Second, time.Millisecond)
				}
				// A second in which the answer's time to live is another begins now and
				// then, and takes some; so do the first reads from disk.
				require.LessOrEqual(t, testing.AllocsPerRun(1000, func() { ours(1) }), allowed, "allocations of a hit")
				require.True(t, s.clients[0].w.hit())
				ratio := 0.0
				for try := range 3 { // a machine may be beside itself for a while
					n := 60 << try
					more := func() bool { n--; return n >= 0 }
					if ratio = turns.Measure(more, ours, floor).Ratio; ratio <= bound {
						break
					}
				}
				t.Logf("%.2f times the floor, of at most %.0f", ratio, bound)
				require.LessOrEqual(t, ratio, bound, "time of a hit in terms of the floor's")
			})
		}
	}
	t.Log(fmt.Sprint("in all ", time.Since(began).Round(time.Millisecond)))
}
