package bench

import (
	"fmt"
	"runtime/metrics"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/bench/internal/turns"
)

// BenchmarkCrowd is 64 goroutines that ask at once: for pages that are there; for one
// in a hundred that is not; and beside them a hundred tags a second that are made
// invalid. waited-ns/op is how long they waited for locks, the runtime's among them.
// With -mutexprofile and -blockprofile it tells for which.
func BenchmarkCrowd(b *testing.B) {
	const crowd, pages = 64, 1000
	for _, be := range backends {
		for _, mix := range []struct {
			name          string
			misses        int // one in so many
			invalidations int // a second
		}{
			{"hits", 0, 0},
			{"misses=1%", 100, 0},
			{"misses=1%-invalidations", 100, 100},
		} {
			b.Run(mix.name+"/store="+be.name, func(b *testing.B) {
				c := newCache(b, newSite(b, corpus), be.open(b))
				fill(b, c, pages, func(i int) string { return fmt.Sprint("/html/8192/", i) })
				clients := make([]*client, crowd)
				for i := range clients {
					cl := &client{r: request("GET", "/", "Accept-Encoding", acceptsGzip), w: newSink()}
					for n := range pages {
						cl.paths = append(cl.paths, "/html/8192/"+strconv.Itoa((n*7919+i*31)%pages))
					}
					clients[i] = cl
				}
				if mix.invalidations > 0 {
					n := 0
					stop := pace(b, mix.invalidations, func() {
						n++
						require.NoError(b, c.InvalidateTag(background, "nobody:"+strconv.Itoa(n)))
					})
					defer stop()
				}
				ask := func(worker, n int) {
					cl := clients[worker]
					for range n {
						cl.w.reset()
						r := cl.request()
						r.URL.RawQuery = ""
						if mix.misses > 0 && cl.next%mix.misses == 0 {
							r.URL.RawQuery = strconv.Itoa(worker<<32 | cl.next)
							r.RequestURI += "?" + r.URL.RawQuery
						}
						c.ServeHTTP(cl.w, r)
					}
				}
				before, asked := waited(), c.Stats()
				turns.Benchmark(b, turns.Parallel(crowd, ask), nil)
				after := c.Stats()
				requests := float64(after.Hits + after.Misses + after.Collapsed - asked.Hits - asked.Misses - asked.Collapsed)
				b.ReportMetric(float64(waited()-before)/requests, "waited-ns/op")
				b.ReportMetric(float64(after.Misses-asked.Misses)/requests, "misses/op")
			})
		}
	}
}

// waited returns how long goroutines have waited for locks.
func waited() time.Duration {
	sample := []metrics.Sample{{Name: "/sync/mutex/wait/total:seconds"}}
	metrics.Read(sample)
	return time.Duration(sample[0].Value.Float64() * 1e9)
}
