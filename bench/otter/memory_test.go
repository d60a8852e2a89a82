package otter

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	rival "github.com/maypok86/otter/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/bench/internal/content"
	"github.com/accelhttp/accelerator/bench/internal/trace"
	"github.com/accelhttp/accelerator/bench/internal/turns"
	"github.com/accelhttp/accelerator/internal/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const mib = 1 << 20

// A tier is what is compared.
type tier interface {
	get(key *accel.Key) *accel.Entry
	put(e *accel.Entry)
	settle() // does now what is done in the background
	bytes() int64
}

type ours struct{ c *memory.Cache }

func (t ours) get(key *accel.Key) *accel.Entry {
	if it, _, _ := t.c.Get(*key, nil); it != nil {
		return it.Entry
	}
	return nil
}
func (t ours) put(e *accel.Entry) { t.c.Put(e, time.Time{}) }
func (t ours) settle()            {}
func (t ours) bytes() int64       { return t.c.Bytes() }

type theirs struct {
	c *rival.Cache[accel.Key, *accel.Entry]
}

func (t theirs) get(key *accel.Key) *accel.Entry {
	e, _ := t.c.GetIfPresent(*key)
	return e
}
func (t theirs) put(e *accel.Entry) { t.c.Set(e.Key, e) }
func (t theirs) settle()            { t.c.CleanUp() }
func (t theirs) bytes() int64       { return int64(t.c.WeightedSize()) }

var tiers = []struct {
	name string
	open func(bound int64) tier
}{
	{"ours", func(bound int64) tier { return ours{memory.New(bound)} }},
	{"otter", func(bound int64) tier {
		return theirs{rival.Must(&rival.Options[accel.Key, *accel.Entry]{
			MaximumWeight: uint64(bound),
			Weigher:       func(_ accel.Key, e *accel.Entry) uint32 { return uint32(memory.Size(e)) },
		})}
	}},
}

// An entries makes entries with a piece of a real page each.
type entries struct{ corpus *content.Corpus }

func newEntries(tb testing.TB) entries {
	c, err := content.Load(256 << 10)
	require.NoError(tb, err)
	return entries{c}
}

var far = time.Now().AddDate(1, 0, 0)

// entry makes the k-th: 0.5 to 3 KiB, which it has to itself.
func (es entries) entry(k int) *accel.Entry {
	return storetest.Entry(fmt.Sprint("/page/", k), storetest.Tags("all", fmt.Sprint("section:", k/64)), storetest.Times(time.Now(), far, far),
		func(e *accel.Entry) {
			data := es.corpus.Page(k, 512+k*37%2560)
			e.Bodies = []accel.Body{{Coding: "gzip", ETag: `"e"`, Data: append(make([]byte, 0, len(data)), data...)}}
		})
}

// BenchmarkHit is a look-up of pages that are there, by turns: ours in ns/op, and
// otter as the floor.
func BenchmarkHit(b *testing.B) {
	es := newEntries(b)
	for _, pages := range []int{1, 10_000} {
		var sides [2]func(worker, n int)
		workers := runtime.GOMAXPROCS(0)
		for i, t := range tiers {
			c := t.open(256 * mib)
			keys := make([]accel.Key, pages)
			for k := range keys {
				e := es.entry(k)
				keys[k] = e.Key
				c.put(e)
			}
			c.settle()
			next := make([]struct {
				n int
				_ [56]byte // a cache line each
			}, workers)
			sides[i] = func(worker, n int) {
				at := next[worker].n + worker*pages/2
				for range n {
					at++
					if c.get(&keys[at*7919%pages]) == nil {
						panic("not there")
					}
				}
				next[worker].n = at - worker*pages/2
			}
		}
		b.Run(fmt.Sprintf("pages=%d/serial", pages), func(b *testing.B) {
			r := turns.Benchmark(b, func(n int) { sides[0](0, n) }, func(n int) { sides[1](0, n) })
			reportHits(b, r)
		})
		b.Run(fmt.Sprintf("pages=%d/parallel", pages), func(b *testing.B) {
			r := turns.Benchmark(b, turns.Parallel(workers, sides[0]), turns.Parallel(workers, sides[1]))
			reportHits(b, r)
		})
	}
}

func reportHits(b *testing.B, r turns.Result) {
	b.ReportMetric(1e9/r.Ours.Median(), "hits/s")
	b.ReportMetric(1e9/r.Floor.Median(), "otter-hits/s")
}

// BenchmarkRatio is the share of hits on a trace, of ours, of otter and of a perfect
// LRU, all of 16 MiB, after the first quarter, in which they fill.
func BenchmarkRatio(b *testing.B) {
	const (
		keys  = 40_000
		bound = 16 * mib
	)
	es := newEntries(b)
	for _, tr := range []struct {
		name string
		keys []int
	}{
		{"zipf=0.8", trace.Zipf(1, 0.8, keys, 400_000)},
		{"zipf=1.0", trace.Zipf(1, 1.0, keys, 400_000)},
		{"zipf=0.8-scanned", trace.Scanned(trace.Zipf(1, 0.8, keys, 200_000), keys)},
	} {
		b.Run(tr.name, func(b *testing.B) {
			var hits [2]int
			var sides [2]turns.Side
			for b.Loop() {
				for i, t := range tiers {
					c := t.open(bound)
					sides[i].Turn(func(int) { hits[i] = replay(c, tr.keys, es) }, len(tr.keys))
					require.LessOrEqual(b, c.bytes(), int64(bound*11/10))
				}
			}
			lru, perfect := trace.NewLRU(bound), 0
			for i, k := range tr.keys {
				if lru.Ask(k, memory.Size(es.entry(k))) && i >= len(tr.keys)/4 {
					perfect++
				}
			}
			sides[0].Report(b)
			b.ReportMetric(sides[1].Median(), "otter-ns/op")
			counted := float64(len(tr.keys) - len(tr.keys)/4)
			b.ReportMetric(100*float64(hits[0])/counted, "hit-%")
			b.ReportMetric(100*float64(hits[1])/counted, "otter-hit-%")
			b.ReportMetric(100*float64(perfect)/counted, "lru-hit-%")
			b.ReportMetric(float64(hits[0])/float64(hits[1]), "x/floor")
		})
	}
}

func replay(c tier, keys []int, es entries) (hits int) {
	for i, k := range keys {
		e := es.entry(k)
		if c.get(&e.Key) == nil {
			c.put(e)
		} else if i >= len(keys)/4 {
			hits++
		}
	}
	c.settle()
	return hits
}

// BenchmarkLive is how many bytes are alive when many more entries have been stored
// than there is room for, in terms of the bound: right after the last, as the heap has
// it.
func BenchmarkLive(b *testing.B) {
	es := newEntries(b)
	for _, bound := range []int64{16 * mib, 128 * mib} {
		for _, t := range tiers {
			b.Run(fmt.Sprintf("bound=%dMiB/by=%s", bound/mib, t.name), func(b *testing.B) {
				var live, most float64
				var side turns.Side
				n := int(bound / 512) // about four times what fits
				for b.Loop() {
					before := liveBytes()
					c := t.open(bound)
					for part := range 4 {
						side.Turn(func(n int) {
							for k := range n {
								c.put(es.entry(part*n + k))
							}
						}, n/4)
						// Not settled: what an eviction that lags keeps alive is alive.
						most = max(most, float64(liveBytes()-before)/float64(bound))
					}
					c.settle()
					live = float64(liveBytes()-before) / float64(bound)
					b.ReportMetric(float64(c.bytes())/float64(bound), "counted/bound")
					runtime.KeepAlive(c)
				}

				side.Report(b)
				b.ReportMetric(live, "live/bound")
				b.ReportMetric(most, "most-live/bound")
			})
		}
	}
}

func liveBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
