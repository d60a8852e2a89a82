package bench

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/bench/internal/turns"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/memstore"
)

// wholes is how many tags all entries of a stock bear. A whole stock is filled in
// minutes where there are a million entries, and each such tag is one measurement.
const wholes = 5

// A stock is a cache of so many entries whose tags wait to be invalidated: each entry
// bears one of its own, one that it shares with 1 000, and some that all bear.
type stock struct {
	cache *accel.Cache
	n     int
	fills int
	used  map[int]int // tags of so many entries that have been invalidated
	gone  int         // entries that they struck
}

func newStock(tb testing.TB, c *accel.Cache, n int) *stock {
	st := &stock{cache: c, n: n}
	st.fill(tb)
	return st
}

func (st *stock) fill(tb testing.TB) {
	st.fills++
	st.used, st.gone = map[int]int{}, 0
	fill(tb, st.cache, st.n, func(i int) string {
		path := fmt.Sprintf("/packed/%d/%s/%s", i, st.tag(1, i), st.tag(1000, i/1000))
		for j := range wholes {
			path += "/" + st.tag(st.n, j)
		}
		return path
	})
}

func (st *stock) tag(size, i int) string { return fmt.Sprintf("%d-%d-%d", st.fills, size, i) }

// left reports whether there is a tag that so many entries bear and that was not yet
// invalidated.
func (st *stock) left(size int) bool {
	if size == st.n {
		return st.used[size] < wholes
	}
	return st.used[size] < max(st.n/size, 1)
}

// take returns such a tag. The entries may have been invalidated, by another of their
// tags: they are still there until they are swept, and an invalidation has to look
// for them.
func (st *stock) take(size int) string {
	i := st.used[size]
	st.used[size]++
	st.gone += size
	return st.tag(size, i)
}

// stocked opens a cache for a stock.
func stocked(tb testing.TB, be string, n int) *accel.Cache {
	s := newSite(tb, corpus)
	require.NoError(tb, s.pack())
	var store accel.Store
	if be == "memstore" {
		store = memstore.New(memstore.WithMaxSize(int64(n) * 8 * kib))
	} else {
		store = openBolt(tb, filepath.Join(directory(tb), "cache.db"), boltstore.WithMaxSize(vast))
	}
	return newCache(tb, s, store)
}

// vast is the bound of a file in which nothing is to be evicted.
const vast = 64 << 30

// latencies has how long each of some operations took.
type latencies []time.Duration

// quantile returns what a share of the operations did not exceed.
func (l latencies) quantile(q float64) time.Duration {
	if len(l) == 0 {
		return 0
	}
	slices.Sort(l)
	return l[min(int(q*float64(len(l))), len(l)-1)]
}

func (l latencies) report(b *testing.B) {
	b.ReportMetric(float64(l.quantile(0.5))/1e6, "p50-ms")
	b.ReportMetric(float64(l.quantile(0.99))/1e6, "p99-ms")
	b.ReportMetric(float64(l.quantile(1))/1e6, "max-ms")
}

// BenchmarkInvalidate is a tag of so many entries, made invalid and durable. With
// sweeper=busy one follows another at once, so that the entries of the last are being
// removed; with sweeper=idle they are gone, and each measurement of all entries needs a
// stock of its own.
func BenchmarkInvalidate(b *testing.B) {
	n := entries(b)
	for _, be := range []string{"memstore", "boltstore"} {
		b.Run("store="+be, func(b *testing.B) {
			st := newStock(b, stocked(b, be, n), n)
			for _, size := range []int{1, 1000, n} {
				b.Run("entries="+strconv.Itoa(size)+"/sweeper=busy", func(b *testing.B) { st.invalidate(b, size, false, nil) })
				if be == "memstore" {
					continue // its sweeper has nobody wait
				}
				b.Run("entries="+strconv.Itoa(size)+"/sweeper=idle", func(b *testing.B) { st.invalidate(b, size, true, nil) })
			}
		})
	}
}

// invalidate measures it, if idle is set only when all is swept, while beside is done
// 1 000 times a second, if it is not nil.
func (st *stock) invalidate(b *testing.B, size int, idle bool, beside func()) {
	b.ReportAllocs()
	var took latencies
	stop := func() {}
	ready := false
	swept := func() {
		until(b, "all is swept", func() bool { return st.cache.Stats().Store.Marks == 0 })
	}
	for b.Loop() {
		b.StopTimer()
		if idle && ready {
			swept()
		}
		scarce := !st.left(size)
		if size == st.n && (idle || !ready) {
			scarce = st.gone > 0
		}
		if scarce || !ready {
			stop()
			if scarce {
				st.fill(b)
			}
			if idle {
				swept()
			}
			stop, ready = pace(b, 1000, beside), true
		}
		b.StartTimer()
		start := time.Now()
		if err := st.cache.InvalidateTag(background, st.take(size)); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	stop()
	took.report(b)
}

// pace calls do so many times a second, until it is stopped. What a busy machine
// makes it miss, it makes up for. A nil do is not called.
func pace(tb testing.TB, perSecond int, do func()) (stop func()) {
	if do == nil {
		return func() {}
	}
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for start, done := time.Now(), 0; ; {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			for due := int(time.Since(start).Seconds() * float64(perSecond)); done < due; done++ {
				do()
			}
		}
	})
	stop = sync.OnceFunc(func() { close(quit); wg.Wait() })
	tb.Cleanup(stop)
	return stop
}

// BenchmarkInvalidateBesideStores is the same while 1 000 pages a second are stored.
func BenchmarkInvalidateBesideStores(b *testing.B) {
	n := entries(b)
	st := newStock(b, stocked(b, "boltstore", n), n)
	for _, size := range []int{1, 1000, n} {
		b.Run("entries="+strconv.Itoa(size), func(b *testing.B) {
			next, w := fresh(size, "/packed", 1000), newSink()
			st.invalidate(b, size, false, func() {
				w.reset()
				st.cache.ServeHTTP(w, next())
			})
		})
	}
}

// BenchmarkHitBesideInvalidations is how long hits take while 1 000 tags a second are
// invalidated that other pages bear, and without that. The client is one, and asks
// for one page after another as fast as it is answered.
func BenchmarkHitBesideInvalidations(b *testing.B) {
	const n = 10_000
	for _, be := range []string{"memstore", "boltstore"} {
		for _, rate := range []int{0, 1000} {
			b.Run(fmt.Sprintf("store=%s/invalidations=%d", be, rate), func(b *testing.B) {
				st := newStock(b, stocked(b, be, n), n)
				hot := make([]string, 100)
				for i := range hot {
					hot[i] = fmt.Sprintf("/packed/%d/hot", i)
				}
				fill(b, st.cache, len(hot), func(i int) string { return hot[i] })
				var wg sync.WaitGroup
				slots := make(chan struct{}, 64) // who invalidates waits for the disk
				i := 0
				stop := func() {}
				if rate > 0 {
					stop = pace(b, rate, func() {
						slots <- struct{}{}
						// The tags that are used up strike nothing any more.
						tag := st.tag(1, i)
						i++
						wg.Go(func() {
							if err := st.cache.InvalidateTag(background, tag); err != nil {
								b.Error(err)
							}
							<-slots
						})
					})
				}
				r, w := request("GET", "/", "Accept-Encoding", acceptsGzip), newSink()
				took := make(latencies, 0, 1<<20)
				b.ReportAllocs()
				for k := 0; b.Loop(); k++ {
					path := hot[k%len(hot)]
					r.URL.Path, r.RequestURI = path, path
					w.reset()
					start := time.Now()
					st.cache.ServeHTTP(w, r)
					if len(took) < cap(took) {
						took = append(took, time.Since(start))
					}
				}
				stop()
				wg.Wait()
				expectHit(b, st.cache, w, r)
				took.report(b)
				b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "invalidations/s")
			})
		}
	}
}

// BenchmarkSweep is how long it takes until the entries of a tag have been removed,
// after it was invalidated. One operation is one entry.
func BenchmarkSweep(b *testing.B) {
	n := entries(b)
	for _, be := range []string{"memstore", "boltstore"} {
		b.Run(fmt.Sprintf("store=%s/entries=%d", be, n), func(b *testing.B) {
			st := newStock(b, stocked(b, be, n), n)
			var side turns.Side
			for b.Loop() {
				b.StopTimer()
				if st.used[st.n] > 0 {
					st.fill(b)
				}
				b.StartTimer()
				side.Turn(func(int) { st.sweep(b, be == "memstore") }, n)
			}
			side.Report(b)
			b.ReportMetric(1e9/side.Median(), "entries/s")
		})
	}
}

// sweep invalidates all entries, and waits until they are gone.
func (st *stock) sweep(tb testing.TB, inMemory bool) {
	before := st.cache.Stats().Store.Swept
	require.NoError(tb, st.cache.InvalidateTag(background, st.take(st.n)))
	if inMemory {
		// It goes its round every ten seconds, or when there are many marks; these
		// strike nothing.
		for i := range 9000 {
			require.NoError(tb, st.cache.InvalidateTag(background, "nothing-"+strconv.Itoa(i)))
		}
	}
	until(tb, "all is swept", func() bool { return st.cache.Stats().Store.Swept-before >= uint64(st.n) })
}

// BenchmarkMarks is a hit while the store remembers invalidations that do not strike
// it: settled, when the page was looked up since the last of them, and renewed, when
// there is a new one before each hit, so that all marks of the entry are looked for.
// A store remembers 65 536; of more it makes one that strikes everything, and the
// pages are stored anew.
func BenchmarkMarks(b *testing.B) {
	const pages = 1000
	for _, be := range []backend{memoryStore, memoryTier} {
		for _, made := range []int{0, 1000, 60_000, 100_000} {
			name := fmt.Sprintf("store=%s/marks=%d", be.name, made)
			b.Run(name, func(b *testing.B) {
				s := be.open(b)
				c := newCache(b, newSite(b, corpus), s)
				hc := hitCase{path: "/html/1024", header: []string{"Accept-Encoding", acceptsGzip}, pages: pages}
				fill(b, c, pages, hc.page)
				// While a response is being made, the marks are remembered that may
				// strike it.
				at := s.Begin()
				b.Cleanup(func() { s.End(at) })
				tags := make([]string, 0, 500)
				for i := 0; i < made; i += len(tags) {
					tags = tags[:0]
					for j := i; j < min(i+cap(tags), made); j++ {
						tags = append(tags, "other-"+strconv.Itoa(j))
					}
					require.NoError(b, c.InvalidateTag(background, tags...))
				}
				fill(b, c, pages, hc.page)
				b.Run("settled", func(b *testing.B) {
					hs := hc.setting(b, c, 1)
					ours, floor := hs.serial()
					turns.Benchmark(b, ours, floor)
					hs.report(b)
					b.ReportMetric(float64(c.Stats().Store.Marks), "marks")
				})
				b.Run("renewed", func(b *testing.B) {
					cl := hc.newClient(b, c, 0)
					var side turns.Side
					for b.Loop() {
						require.NoError(b, c.InvalidateTag(background, "another"))
						side.Turn(func(n int) { cl.ask(c, n) }, pages)
					}
					require.True(b, cl.w.hit())
					side.Report(b)
					b.ReportMetric(float64(c.Stats().Store.Marks), "marks")
				})
			})
		}
	}
}
