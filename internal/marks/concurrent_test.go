package marks_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
)

// TestPromiseUnderLoad keeps the promise in a store in memory, with real
// goroutines: a writer commits a value, then invalidates its tag; a response
// that a later look-up finds has that value, or a newer one.
func TestPromiseUnderLoad(t *testing.T) {
	const (
		rounds = 3000
		keys   = 8
		tags   = 4
	)
	var (
		m        = marks.New(1, 0, 64)
		memory   sync.Map           // int to *copied
		data     [tags]atomic.Int64 // what handlers read
		promised [tags]atomic.Int64 // the value whose invalidation has returned
		wg       sync.WaitGroup
		hits     atomic.Int64
		worker   = func(i int, f func(r *rand.Rand)) {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(i)))
				for range rounds {
					f(r)
				}
			})
		}
	)
	type copied struct {
		e       *accel.Entry
		tag     int
		value   int64
		checked atomic.Uint64
	}
	get := func(key int) (c *copied, ok bool) {
		for {
			gen := m.Gen()
			v, found := memory.Load(key)
			if !found {
				return nil, false
			}
			c = v.(*copied)
			if c.checked.Load() == m.N() {
				return c, true
			}
			verdict := m.CheckRead(gen, c.e.At.N, c.e.Marks)
			if verdict.Valid {
				c.checked.Store(verdict.UpTo)
				return c, true
			}
			if m.Gen() == gen {
				return nil, false
			}
		}
	}
	for i := range 2 {
		worker(i, func(r *rand.Rand) { // a request
			key := r.IntN(keys)
			var want [tags]int64
			for i := range want {
				want[i] = promised[i].Load()
			}
			c, ok := get(key)
			if ok {
				hits.Add(1)
				if c.value < want[c.tag] {
					t.Errorf("value %d of tag %d was served after %d was promised", c.value, c.tag, want[c.tag])
				}
				return
			}
			at := m.Begin(time.Now())
			defer m.End(at)
			tag := r.IntN(tags)
			c = &copied{e: entry(at, accel.TagMark(fmt.Sprint(tag))), tag: tag, value: data[tag].Load()}
			_ = m.Admit(c.e, nil, false, func() error {
				memory.Store(key, c)
				return nil
			})
			if m.Valid(at, c.e.Marks) && c.value < want[c.tag] {
				t.Error("a follower was given an old value")
			}
		})
	}
	var commit [tags]sync.Mutex
	worker(2, func(r *rand.Rand) {
		tag := r.IntN(tags)
		commit[tag].Lock()
		defer commit[tag].Unlock()
		v := data[tag].Add(1)
		m.Invalidate(accel.TagMark(fmt.Sprint(tag)), accel.TagMark(fmt.Sprint("other", r.IntN(100))))
		promised[tag].Store(v)
	})
	worker(3, func(r *rand.Rand) {
		m.Expire(time.Now(), accel.TagMark(fmt.Sprint(r.IntN(tags))))
		m.Len()
		m.Floor()
	})
	worker(4, func(*rand.Rand) { // the writer, of a disk that holds nothing
		d := m.Owed()
		m.Paid(d)
		m.Cleaned(m.Pending(16)...)
		pruned := m.Prunable(time.Now())
		if pruned == nil {
			return
		}
		memory.Range(func(key, v any) bool {
			for _, h := range v.(*copied).e.Marks {
				if row, ok := pruned[h]; ok && row.Strikes(v.(*copied).e.At.N) {
					memory.CompareAndDelete(key, v)
				}
			}
			return true
		})
		m.Drop(pruned)
	})
	wg.Wait()
	if hits.Load() == 0 {
		t.Error("no hit at all")
	}
}

// TestCheckDoesNotAllocate, with marks or without.
func TestCheckDoesNotAllocate(t *testing.T) {
	for _, rows := range []int{0, 1000, 100_000} {
		m, carries := filled(rows)
		n := m.N()
		if got := testing.AllocsPerRun(100, func() { m.Check(n, n, carries) }); got != 0 {
			t.Errorf("%d rows, fast path: %v allocations", rows, got)
		}
		if got := testing.AllocsPerRun(100, func() { m.CheckRead(m.Gen(), n-1, carries) }); got != 0 {
			t.Errorf("%d rows: %v allocations", rows, got)
		}
	}
}

// filled returns marks of so many rows, and the hashes of an entry that none of
// them strikes.
func filled(rows int) (*marks.Marks, []accel.Hash) {
	m := marks.New(1, 1, 2*rows)
	for i := range rows {
		m.Invalidate(accel.TagMark(fmt.Sprint(i)))
	}
	return m, hashes(url, target, tagA, tagB, accel.TagMark("c"))
}

// BenchmarkCheck judges an entry of three tags: while nothing was invalidated
// since it was last looked at, and after.
func BenchmarkCheck(b *testing.B) {
	for _, rows := range []int{0, 1000, 100_000} {
		m, carries := filled(rows)
		n := m.N()
		b.Run(fmt.Sprintf("rows=%d/unchanged", rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.Check(n-1, n, carries)
			}
		})
		b.Run(fmt.Sprintf("rows=%d/changed", rows), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m.CheckRead(m.Gen(), n-1, carries)
			}
		})
		b.Run(fmt.Sprintf("rows=%d/changed/parallel", rows), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					m.CheckRead(m.Gen(), n-1, carries)
				}
			})
		})
	}
}
