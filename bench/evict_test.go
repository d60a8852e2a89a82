package bench

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/bench/internal/trace"
	"github.com/accelhttp/accelerator/bench/internal/turns"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/memory"
	"github.com/accelhttp/accelerator/memstore"
)

// BenchmarkEviction is the hit ratio on requests by Zipf's law for more pages than
// there is room for, beside a perfect LRU of the same bytes: of the bound, and, as a
// store on disk needs some of it for itself, of what the entries occupied in the end.
// Pages have between 0.5 and 3 KiB. Each miss is stored. An iteration is a
// trace, an operation a request.
func BenchmarkEviction(b *testing.B) {
	const (
		keys  = 40_000
		bound = 16 * mib
	)
	c, err := corpus()
	if err != nil {
		b.Fatal(err)
	}
	far := time.Now().AddDate(1, 0, 0)
	entry := func(k int, at accel.Position) *accel.Entry {
		return storetest.Entry(fmt.Sprint("/page/", k), storetest.At(at), storetest.Tags("all", fmt.Sprint("section:", k/64)),
			storetest.Times(time.Now(), far, far),
			func(e *accel.Entry) {
				e.Bodies = []accel.Body{{Coding: "gzip", ETag: `"e"`, Data: c.Page(k, 512+k*37%2560)}}
			})
	}
	for _, tr := range []struct {
		name string
		keys []int
	}{
		{"zipf=0.8", trace.Zipf(1, 0.8, keys, 200_000)},
		{"zipf=1.0", trace.Zipf(1, 1.0, keys, 200_000)},
		{"zipf=0.8-scanned", trace.Scanned(trace.Zipf(1, 0.8, keys, 100_000), keys)},
	} {
		for _, be := range []struct {
			name string
			open func() accel.Store
		}{
			{"memstore", func() accel.Store { return memstore.New(memstore.WithMaxSize(bound)) }},
			{"disk", func() accel.Store {
				return openBolt(b, filepath.Join(directory(b), "cache.db"), boltstore.WithMaxSize(bound), boltstore.WithMemory(0))
			}},
		} {
			b.Run(tr.name+"/store="+be.name, func(b *testing.B) {
				var hits int
				var st accel.StoreStats
				var side turns.Side
				for b.Loop() {
					s := be.open()
					side.Turn(func(int) { hits, st = replay(b, s, tr.keys, entry) }, len(tr.keys))
					if err := s.Close(); err != nil {
						b.Fatal(err)
					}
				}
				ideal := func(bytes int64) float64 {
					lru, hits := trace.NewLRU(bytes), 0
					for i, k := range tr.keys {
						if lru.Ask(k, memory.Size(entry(k, accel.Position{}))) && i >= len(tr.keys)/4 {
							hits++
						}
					}
					return float64(hits)
				}
				counted := float64(len(tr.keys) - len(tr.keys)/4)
				atBound, atKept := ideal(bound), ideal(st.Bytes)
				side.Report(b)
				b.ReportMetric(100*float64(hits)/counted, "hit-%")
				b.ReportMetric(100*atBound/counted, "lru-hit-%")
				b.ReportMetric(float64(hits)/atBound, "x/floor")
				b.ReportMetric(float64(hits)/atKept, "x/lru-of-kept")
				b.ReportMetric(float64(st.Bytes)/bound, "kept/bound")
				b.ReportMetric(float64(st.FileBytes)/bound, "file/bound")
				b.ReportMetric(float64(st.Dropped), "dropped")
			})
		}
	}
}

// replay returns the hits after the first quarter, in which the store fills.
func replay(tb testing.TB, s accel.Store, keys []int, entry func(int, accel.Position) *accel.Entry) (hits int, st accel.StoreStats) {
	known := map[int]accel.Key{}
	for i, k := range keys {
		key, ok := known[k]
		if !ok {
			key = entry(k, accel.Position{}).Key
			known[k] = key
		}
		at := s.Begin()
		if found, err := s.Get(background, key, nil); err == nil && found.Entry != nil {
			if i >= len(keys)/4 {
				hits++
			}
		} else {
			_ = s.Put(entry(k, at), nil) // a queue that is full is counted
		}
		s.End(at)
		if i%256 == 0 {
			until(tb, "there is room in the queue", func() bool { return s.Stats().QueueBytes < boltstore.DefaultQueue/2 })
		}
	}
	until(tb, "the queue is written", func() bool { return s.Stats().QueueBytes == 0 })
	return hits, s.Stats()
}
