package bench

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/memory"
)

// pairs has pages in the two codings a page is kept in, about 7.5 KiB together.
type pairs [][]accel.Body

// pairSize is how much HTML that is.
const pairSize = 17 * kib

func newPairs(tb testing.TB) pairs {
	c, err := corpus()
	require.NoError(tb, err)
	ps := make(pairs, 512)
	for i := range ps {
		for _, coding := range []string{codec.Zstd, codec.Gzip} {
			z, err := codec.Encode(nil, coding, c.Page(i, pairSize))
			require.NoError(tb, err)
			ps[i] = append(ps[i], accel.Body{Coding: coding, ETag: fmt.Sprintf(`"%032x-%s"`, i, coding), Data: z})
		}
	}
	return ps
}

// bytes returns how long a pair is on average.
func (ps pairs) bytes() float64 {
	sum := 0
	for _, bodies := range ps {
		for _, b := range bodies {
			sum += len(b.Data)
		}
	}
	return float64(sum) / float64(len(ps))
}

// queued returns what an entry counts for in the queue, on average.
func (ps pairs) queued() float64 {
	sum := int64(0)
	for i := range ps {
		sum += memory.Size(ps.entry(i, accel.Position{}, time.Time{}, time.Time{}))
	}
	return float64(sum) / float64(len(ps))
}

// entry returns an entry of three tags: its own, one of 64, and one of all.
func (ps pairs) entry(i int, at accel.Position, date, keep time.Time) *accel.Entry {
	n := strconv.Itoa(i)
	return storetest.Entry("/section/"+strconv.Itoa(i/64)+"/page/"+n,
		storetest.At(at), storetest.Tags("page:"+n, "section:"+strconv.Itoa(i/64), "all"),
		storetest.Times(date, keep, keep),
		func(e *accel.Entry) {
			e.Header = htmlHeader
			e.Bodies, e.Length = ps[i%len(ps)], pairSize
		})
}

var htmlHeader = []accel.Field{
	{Name: "Accept-Ranges", Values: []string{"bytes"}},
	{Name: "Content-Type", Values: contentHTML},
}

// A feeder stores one entry after another: as fast as they are written, with the
// queue full, or so many a second.
type feeder struct {
	store *boltstore.Store
	pairs pairs
	begin time.Time
	life  int           // an entry lives until so many others have been stored; 0: for ever
	step  time.Duration // from one entry to the next, by the store's clock; 0: a millisecond
	next  atomic.Int64
}

// now is the clock of the store. It goes by what has been stored: an entry later is a
// step later, so that one expires for each that comes.
func (f *feeder) now() time.Time { return f.begin.Add(f.steps(int(f.next.Load()))) }

func (f *feeder) steps(n int) time.Duration {
	if f.step == 0 {
		return time.Duration(n) * time.Millisecond
	}
	return time.Duration(n) * f.step
}

func (f *feeder) keepUntil() time.Time {
	if f.life == 0 {
		return f.begin.AddDate(10, 0, 0)
	}
	return f.now().Add(f.steps(f.life))
}

func (f *feeder) put(tb testing.TB) {
	at := f.store.Begin()
	e := f.pairs.entry(int(f.next.Load()), at, f.now(), f.keepUntil())
	err := f.store.Put(e, nil)
	f.store.End(at)
	if err != nil {
		tb.Fatal(err)
	}
	f.next.Add(1)
}

// feed stores n entries and keeps the queue full, but not so full that it drops any.
func (f *feeder) feed(tb testing.TB, n int) {
	const full = boltstore.DefaultQueue * 7 / 8
	for i := range n {
		if i%16 == 0 {
			until(tb, "there is room in the queue", func() bool { return f.store.Stats().QueueBytes < full })
		}
		f.put(tb)
	}
}

func (f *feeder) flush(tb testing.TB) {
	until(tb, "the queue is written", func() bool { return f.store.Stats().QueueBytes == 0 })
}

// BenchmarkStoreRate is how many pages a second boltstore takes for good: zstd and
// gzip of 7.5 KiB together, three tags, every transaction synced, so many entries
// there already, the queue full. With sweep=each, an entry expires for each that is
// stored, so that the sweeper has as much to remove as there is to write, and the
// number of entries stays. One operation is a page. written/stored is what went to the
// disk for each byte of the bodies.
func BenchmarkStoreRate(b *testing.B) {
	ps := newPairs(b)
	for _, n := range sizes(entries(b)) {
		for _, sweep := range []string{"none", "each"} {
			b.Run(fmt.Sprintf("entries=%d/sweep=%s", n, sweep), func(b *testing.B) {
				f := &feeder{pairs: ps, begin: time.Now()}
				if sweep == "each" {
					f.life = n
				}
				f.store = openBolt(b, filepath.Join(directory(b), "cache.db"), boltstore.WithMaxSize(vast), boltstore.WithClock(f.now))
				f.feed(b, n)
				f.flush(b)
				// An iteration is 256 pages, what the writer puts into one transaction.
				// What is in the queue at the start is written in the time measured,
				// and so is the last page.
				const batch = 256
				f.feed(b, 4*batch)
				before := f.store.Stats()
				disk, calls, linux := writtenBytes()
				var mem, mem2 runtime.MemStats
				runtime.ReadMemStats(&mem)
				start := time.Now()
				for b.Loop() {
					f.feed(b, batch)
				}
				f.flush(b)
				took := time.Since(start)
				runtime.ReadMemStats(&mem2)
				after := f.store.Stats()
				disk2, calls2, _ := writtenBytes()
				require.Equal(b, before.Dropped, after.Dropped)
				require.Zero(b, after.WriteErrors)
				stored := float64(after.Stored-before.Stored) + float64(before.QueueBytes)/ps.queued()
				bytes := stored * ps.bytes()
				b.ReportAllocs()
				b.ReportMetric(float64(took)/stored, "ns/op")
				b.ReportMetric(float64(mem2.TotalAlloc-mem.TotalAlloc)/stored, "B/op")
				b.ReportMetric(float64(mem2.Mallocs-mem.Mallocs)/stored, "allocs/op")
				b.ReportMetric(stored/took.Seconds(), "stores/s")
				b.ReportMetric(float64(after.Expired-before.Expired)/took.Seconds(), "swept/s")
				b.ReportMetric(float64(after.Entries), "entries")
				b.ReportMetric(ps.bytes(), "page-B")
				b.ReportMetric(float64(after.FileBytes)/mib, "file-MiB")
				if linux {
					b.ReportMetric(float64(disk2-disk)/bytes, "written/stored")
					b.ReportMetric(float64(calls2-calls)/bytes, "calls/stored")
				}
			})
		}
	}
}

// BenchmarkStoreSlowly is what a thousand pages a second cost in bytes written: a
// transaction then has few of them. An iteration is a second.
func BenchmarkStoreSlowly(b *testing.B) {
	const rate = 1000
	ps := newPairs(b)
	n := entries(b)
	f := &feeder{pairs: ps, begin: time.Now(), life: n}
	f.store = openBolt(b, filepath.Join(directory(b), "cache.db"), boltstore.WithMaxSize(vast), boltstore.WithClock(f.now))
	f.feed(b, n)
	f.flush(b)
	b.Run(fmt.Sprintf("entries=%d/rate=%d", n, rate), func(b *testing.B) {
		disk, calls, linux := writtenBytes()
		before := f.next.Load()
		stop := pace(b, rate, func() { f.put(b) })
		second := time.NewTicker(time.Second)
		defer second.Stop()
		for b.Loop() {
			<-second.C
		}
		stop()
		f.flush(b)
		disk2, calls2, _ := writtenBytes()
		bytes := float64(f.next.Load()-before) * ps.bytes()
		b.ReportMetric(float64(f.next.Load()-before)/b.Elapsed().Seconds(), "stores/s")
		if linux {
			b.ReportMetric(float64(disk2-disk)/bytes, "written/stored")
			b.ReportMetric(float64(calls2-calls)/bytes, "calls/stored")
		}
	})
}

// sizes are the numbers of entries up to n for which it is told how something grows.
func sizes(n int) []int {
	if n <= 10_000 {
		return []int{n}
	}
	return []int{10_000, n}
}
