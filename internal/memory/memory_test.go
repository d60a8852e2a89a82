package memory_test

import (
	"container/list"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var start = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// entry builds an entry with a body of its own.
func entry(resource, variant string, vary []string, n uint64, body int) *accel.Entry {
	e := &accel.Entry{
		At: accel.Position{Epoch: 1, N: n}, Resource: resource, Variant: variant, Vary: vary,
		Status: 200, Date: start, FreshUntil: start.Add(time.Hour), KeepUntil: start.Add(time.Hour),
		Bodies: []accel.Body{{ETag: `"x"`, Data: make([]byte, body)}}, Length: int64(body),
	}
	e.Key.Resource = sha256.Sum256([]byte(resource))
	if variant != "" {
		e.Key.Variant = sha256.Sum256([]byte(variant))
	}
	return e
}

func put(t *testing.T, c *memory.Cache, e *accel.Entry) {
	t.Helper()
	ok, kept := c.Put(e, time.Time{})
	require.True(t, ok && kept, "ok %v, kept %v", ok, kept)
}

func holds(t *testing.T, c *memory.Cache, e *accel.Entry) {
	t.Helper()
	it, names, known := c.Get(e.Key, e.Vary)
	require.NotNil(t, it)
	require.Same(t, e, it.Entry)
	require.False(t, known)
	require.Nil(t, names)
}

func TestPutGet(t *testing.T) {
	c := memory.New(1 << 20)
	e := entry("/a", "", nil, 1, 100)
	it, names, known := c.Get(e.Key, nil)
	require.Nil(t, it)
	require.Nil(t, names)
	require.False(t, known)

	put(t, c, e)
	holds(t, c, e)
	require.Same(t, e, c.Peek(e.Key).Entry)
	require.Equal(t, 1, c.Len())
	require.Greater(t, c.Bytes(), memory.Size(e))

	c.Clear()
	require.Zero(t, c.Len())
	require.Nil(t, c.Peek(e.Key))
	memory.Check(t, c)
}

func TestPutNeverReplacesAHigherPosition(t *testing.T) {
	c := memory.New(1 << 20)
	five := entry("/a", "", nil, 5, 100)
	put(t, c, five)
	ok, kept := c.Put(entry("/a", "", nil, 4, 100), time.Time{})
	require.False(t, ok)
	require.False(t, kept)
	holds(t, c, five)

	again := entry("/a", "", nil, 5, 100)
	put(t, c, again)
	holds(t, c, again)

	ok, _ = c.Put(entry("/a", "en", []string{"Accept-Language"}, 4, 100), time.Time{})
	require.False(t, ok, "under other names")
	holds(t, c, again)
	memory.Check(t, c)
}

func TestVary(t *testing.T) {
	c := memory.New(1 << 20)
	lang, agent := []string{"Accept-Language"}, []string{"User-Agent"}
	en, de := entry("/a", "en", lang, 1, 10), entry("/a", "de", lang, 1, 10)
	put(t, c, en)
	put(t, c, de)
	holds(t, c, en)
	holds(t, c, de)

	it, names, known := c.Get(accel.Key{Resource: en.Key.Resource}, nil)
	require.Nil(t, it)
	require.True(t, known)
	require.Equal(t, lang, names)

	it, names, known = c.Get(entry("/a", "fr", lang, 1, 1).Key, lang)
	require.Nil(t, it)
	require.Nil(t, names)
	require.False(t, known, "the names are right, the variant is not there")

	other := entry("/a", "curl", agent, 1, 10)
	put(t, c, other)
	require.Equal(t, 1, c.Len())
	_, names, known = c.Get(en.Key, lang)
	require.True(t, known)
	require.Equal(t, agent, names)
	memory.Check(t, c)
}

func TestMaxVariants(t *testing.T) {
	c := memory.New(1 << 20)
	names := []string{"User-Agent"}
	var es []*accel.Entry
	for i := range accel.MaxVariants + 3 {
		es = append(es, entry("/a", strconv.Itoa(i), names, 1, 10))
		put(t, c, es[i])
	}
	require.Equal(t, accel.MaxVariants, c.Len())
	require.EqualValues(t, 3, c.Evicted())
	for i, e := range es {
		if i < 3 {
			require.Nil(t, c.Peek(e.Key))
		} else {
			holds(t, c, e)
		}
	}
	require.False(t, c.Promote(es[0], time.Time{}), "a promotion displaces nothing")
	memory.Check(t, c)
}

func TestDelete(t *testing.T) {
	c := memory.New(1 << 20)
	e := entry("/a", "", nil, 1, 10)
	twin := entry("/a", "", nil, 1, 10)
	other := entry("/a", "", nil, 1, 10)
	other.Marks = []accel.Hash{1}
	newer := entry("/a", "", nil, 2, 10)
	require.False(t, c.Delete(e.Key, e))
	put(t, c, e)
	require.False(t, c.Delete(e.Key, newer))
	require.False(t, c.Delete(e.Key, other))
	require.True(t, c.Delete(e.Key, twin), "the same version, read from elsewhere")
	put(t, c, newer)
	require.False(t, c.Delete(e.Key, e))
	require.True(t, c.Delete(e.Key, nil))
	require.Zero(t, c.Len())
	memory.Check(t, c)
}

func TestPromote(t *testing.T) {
	c := memory.New(1 << 20)
	e, newer := entry("/a", "", nil, 1, 10), entry("/a", "", nil, 2, 10)
	require.True(t, c.Promote(e, start))
	require.True(t, c.Peek(e.Key).StaleSince().Equal(start))
	require.False(t, c.Promote(newer, time.Time{}), "something is there")
	require.False(t, c.Promote(entry("/a", "en", []string{"Accept-Language"}, 3, 1), time.Time{}), "other names")

	ticket := c.Ticket(e.Key)
	require.True(t, c.Delete(e.Key, nil))
	require.False(t, c.PromoteSince(ticket, e, time.Time{}), "deleted while it was read below")
	ticket = c.Ticket(e.Key)
	c.Delete(e.Key, nil)
	require.False(t, c.PromoteSince(ticket, e, time.Time{}), "deleted below only")
	ticket = c.Ticket(e.Key)
	put(t, c, newer)
	c.DeleteFunc(func(*memory.Item) bool { return true })
	require.False(t, c.PromoteSince(ticket, e, time.Time{}), "put and gone again")
	require.True(t, c.PromoteSince(c.Ticket(e.Key), e, time.Time{}))
	require.False(t, memory.New(0).Promote(e, time.Time{}))
	memory.Check(t, c)
}

// While there is room, each entry is wanted; then one now and then.
func TestWants(t *testing.T) {
	c := memory.New(256 << 10)
	key := entry("/a", "", nil, 1, 0).Key
	wanted := func() (n int) {
		for range 8_000 {
			if c.Wants(key) {
				n++
			}
		}
		return n
	}
	require.Equal(t, 8_000, wanted())
	for i := range 400 {
		put(t, c, entry(fmt.Sprint(i), "", nil, 1, 1000))
	}
	require.InDelta(t, 1_000, wanted(), 300)
	c = memory.New(0)
	require.Zero(t, wanted())
}

func TestRenew(t *testing.T) {
	c := memory.New(1 << 20)
	one, two, three := entry("/a", "", nil, 1, 10), entry("/a", "", nil, 2, 10), entry("/a", "", nil, 3, 10)
	ok, _ := c.Renew(two, one, time.Time{})
	require.False(t, ok, "nothing to renew")
	put(t, c, one)
	ok, kept := c.Renew(two, one, time.Time{})
	require.True(t, ok && kept)
	holds(t, c, two)
	ok, _ = c.Renew(three, one, time.Time{})
	require.False(t, ok, "another version stands there")
	holds(t, c, two)
	memory.Check(t, c)
}

func TestGone(t *testing.T) {
	c := memory.New(1 << 20)
	e := entry("/a", "", nil, 1, 10)
	for name, remove := range map[string]func(){
		"delete":  func() { c.Delete(e.Key, e) },
		"scan":    func() { c.DeleteFunc(func(*memory.Item) bool { return true }) },
		"clear":   c.Clear,
		"replace": func() { c.Put(entry("/a", "", nil, 1, 10), time.Time{}) },
		"large":   func() { c.Put(entry("/a", "", nil, 1, 2<<20), time.Time{}) },
		"vary":    func() { c.Put(entry("/a", "en", []string{"A"}, 1, 10), time.Time{}) },
	} {
		put(t, c, e)
		it := c.Peek(e.Key)
		require.False(t, it.Gone(), name)
		remove()
		require.True(t, it.Gone(), name)
	}
}

func TestItem(t *testing.T) {
	c := memory.New(1 << 20)
	e := entry("/a", "", nil, 1, 10)
	put(t, c, e)
	it := c.Peek(e.Key)
	require.True(t, it.StaleSince().IsZero())
	it.MarkStale(time.Time{})
	require.True(t, it.StaleSince().IsZero())
	it.MarkStale(start.Add(time.Minute))
	it.MarkStale(start)
	it.MarkStale(start.Add(time.Hour))
	require.True(t, it.StaleSince().Equal(start), "the earliest stays")

	it.SetChecked(7)
	it.SetChecked(3)
	require.EqualValues(t, 7, it.Checked())

	put(t, c, entry("/a", "", nil, 1, 10))
	require.True(t, c.Peek(e.Key).StaleSince().IsZero(), "another copy is another item")
}

func TestZeroKeepsNothing(t *testing.T) {
	for _, bound := range []int64{0, -1, 100} {
		c := memory.New(bound)
		e := entry("/a", "", nil, 1, 10)
		ok, kept := c.Put(e, time.Time{})
		require.True(t, ok)
		require.False(t, kept)
		require.Nil(t, c.Peek(e.Key))
		require.LessOrEqual(t, c.Bytes(), int64(256))
	}
}

func TestTooLargeTakesTheOlderOneAway(t *testing.T) {
	c := memory.New(1 << 20)
	put(t, c, entry("/a", "", nil, 1, 10))
	big := entry("/a", "", nil, 1, 2<<20)
	ok, kept := c.Put(big, time.Time{})
	require.True(t, ok)
	require.False(t, kept)
	require.Nil(t, c.Peek(big.Key))
	memory.Check(t, c)
}

func TestWhatWasPutIsReadable(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, bound := range []int64{4 << 10, 64 << 10, 1 << 20, 40 << 20} {
		c := memory.New(bound)
		for i := range 3000 {
			e := entry("/"+strconv.Itoa(r.IntN(1000)), "", nil, 1, r.IntN(2000))
			if i%100 == 99 && bound >= 1<<20 {
				e = entry("/big", "", nil, 1, int(bound)/5)
			}
			put(t, c, e)
			holds(t, c, e)
			require.LessOrEqual(t, c.Bytes(), bound)
		}
		memory.Check(t, c)
	}
	c := memory.New(64 << 20)
	e := entry("/16MiB", "", nil, 1, 15<<20)
	put(t, c, e)
	holds(t, c, e)
}

func TestDeleteFuncVisitsAll(t *testing.T) {
	c := memory.New(64 << 20)
	for i := range 5000 {
		put(t, c, entry("/"+strconv.Itoa(i), "", nil, uint64(i), 10))
	}
	seen := map[uint64]bool{}
	// The table shrinks on the way.
	n := c.DeleteFunc(func(it *memory.Item) bool {
		seen[it.Entry.At.N] = true
		return it.Entry.At.N%100 != 0
	})
	require.Equal(t, 4950, n)
	require.Len(t, seen, 5000)
	require.Equal(t, 50, c.Len())
	memory.Check(t, c)
}

// The allocator's classes are as the runtime has them.
func TestSizeClasses(t *testing.T) {
	for n := 1; n < 200<<10; n += 1 + n/50 {
		got := cap(append([]byte(nil), make([]byte, n)...))
		assert.InEpsilon(t, got, memory.Allocated(n), 0.07, "%d bytes", n)
	}
}

// The heap agrees with the count, and with the law: a tenth above the bound.
func TestHeapStaysWithinTheBound(t *testing.T) {
	if testing.Short() {
		t.Skip("collects garbage several times")
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, body := range []int{0, 300, 5000, 200_000} {
		t.Run(strconv.Itoa(body), func(t *testing.T) {
			const bound = 8 << 20
			before := heap()
			c := memory.New(bound)
			for i := range 3 * bound / (body + 700) {
				e := entry(fmt.Sprint("http example.org /page/", i), "", nil, 1, body)
				e.Header = []accel.Field{
					{Name: "Content-Type", Values: []string{"text/html; charset=utf-8"}},
					{Name: "Cache-Control", Values: []string{fmt.Sprint("max-age=", i)}},
				}
				e.Tags = []string{fmt.Sprint("user:", i), fmt.Sprint("friends:", i)}
				e.Marks = make([]accel.Hash, 4)
				c.Put(e, time.Time{})
			}
			live := heap() - before
			t.Logf("bound %d, counted %d, live %d, %d entries", int64(bound), c.Bytes(), live, c.Len())
			require.LessOrEqual(t, live, int64(bound*11/10))
			require.GreaterOrEqual(t, c.Bytes(), int64(bound*9/10), "the bound is used")
			runtime.KeepAlive(c)
		})
	}
}

func TestBoundUnderConcurrentWrites(t *testing.T) {
	const bound = 40 << 20 // two shards
	c := memory.New(bound)
	var writers, watcher sync.WaitGroup
	done := make(chan struct{})
	watcher.Go(func() {
		for {
			if b := c.Bytes(); b > bound {
				t.Errorf("%d bytes", b)
			}
			select {
			case <-done:
				return
			default:
				runtime.Gosched()
			}
		}
	})
	for w := range 4 {
		writers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 1))
			for i := range 1500 {
				e := entry("/"+strconv.Itoa(r.IntN(4000)), strconv.Itoa(r.IntN(3)), []string{"A"}, 1, r.IntN(40_000))
				switch i % 8 {
				case 0:
					c.Delete(e.Key, nil)
				case 1:
					c.Promote(e, time.Time{})
				default:
					c.Put(e, time.Time{})
				}
				if i%500 == 0 {
					c.DeleteFunc(func(it *memory.Item) bool { return len(it.Entry.Bodies[0].Data)%7 == 0 })
				}
			}
		})
	}
	writers.Wait()
	close(done)
	watcher.Wait()
	memory.Check(t, c)
}

// A key that always holds something is found by every reader while its version
// changes, its neighbours come and go, and the table is rebuilt over and over.
func TestReadersNeverMissDuringChanges(t *testing.T) {
	c := memory.New(8 << 20)
	fixed := entry("/fixed", "", nil, 0, 10)
	put(t, c, fixed)
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			last := uint64(0)
			for {
				it, _, _ := c.Get(fixed.Key, nil)
				switch {
				case it == nil:
					t.Error("missed")
					return
				case it.Entry.At.N < last:
					t.Errorf("%d after %d", it.Entry.At.N, last)
					return
				}
				last = it.Entry.At.N
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	n := uint64(0)
	for range 8 {
		for i := range 200 {
			n++
			put(t, c, entry("/"+strconv.Itoa(i), "", nil, n, 10))
			put(t, c, entry("/fixed", "", nil, n, 10))
		}
		c.DeleteFunc(func(it *memory.Item) bool { return it.Entry.Resource != "/fixed" })
	}
	close(done)
	readers.Wait()
	memory.Check(t, c)
}

// lru is what the cache is measured against: bounded by the same bytes.
type lru struct {
	max, bytes int64
	order      *list.List // of *accel.Entry, the last used in front
	entries    map[string]*list.Element
}

func (l *lru) get(name string) bool {
	el, ok := l.entries[name]
	if ok {
		l.order.MoveToFront(el)
	}
	return ok
}

func (l *lru) put(e *accel.Entry) {
	l.entries[e.Resource] = l.order.PushFront(e)
	for l.bytes += memory.Size(e); l.bytes > l.max; {
		old := l.order.Remove(l.order.Back()).(*accel.Entry)
		delete(l.entries, old.Resource)
		l.bytes -= memory.Size(old)
	}
}

// zipf draws ranks below n with exponent a.
type zipf struct{ cdf []float64 }

func newZipf(n int, a float64) *zipf {
	z := &zipf{make([]float64, n)}
	sum := 0.0
	for i := range z.cdf {
		sum += math.Pow(float64(i+1), -a)
		z.cdf[i] = sum
	}
	return z
}

func (z *zipf) draw(r *rand.Rand) int {
	return sort.SearchFloat64s(z.cdf, r.Float64()*z.cdf[len(z.cdf)-1])
}

func TestHitRatio(t *testing.T) {
	const pages, requests = 5_000, 50_000
	type trace struct {
		exponent float64
		share    int // of the bound in all pages, in percent
		scan     bool
	}
	for _, tr := range []trace{{0.8, 10, true}, {1, 3, true}, {1, 10, false}, {1.1, 5, false}} {
		t.Run(fmt.Sprintf("%+v", tr), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			es := make([]*accel.Entry, pages)
			total := int64(0)
			for i := range es {
				es[i] = entry("/page/"+strconv.Itoa(i), "", nil, 1, 200+r.IntN(3000))
				total += memory.Size(es[i])
			}
			bound := total * int64(tr.share) / 100
			c := memory.New(bound)
			l := &lru{max: bound, order: list.New(), entries: map[string]*list.Element{}}
			z := newZipf(pages, tr.exponent)
			request := func(e *accel.Entry) (ours, theirs bool) {
				it, _, _ := c.Get(e.Key, nil)
				if it == nil {
					put(t, c, e)
				}
				theirs = l.get(e.Resource)
				if !theirs {
					l.put(e)
				}
				return it != nil, theirs
			}
			var ours, theirs, all float64
			for i := range requests {
				a, b := request(es[z.draw(r)])
				if i > requests/5 {
					all++
					if a {
						ours++
					}
					if b {
						theirs++
					}
				}
				if tr.scan && i%2 == 0 {
					request(entry("/crawl/"+strconv.Itoa(i), "", nil, 1, 1000))
				}
			}
			best := z.cdf[pages*tr.share/100] / z.cdf[pages-1]
			t.Logf("%.3f, LRU %.3f, the most popular ones for ever %.3f", ours/all, theirs/all, best)
			require.Greater(t, ours, theirs)
			require.Greater(t, ours/all, best-0.08)
			memory.Check(t, c)
		})
	}
}

// A crawler that reads every page once leaves the pages in use where they are.
func TestScanResistance(t *testing.T) {
	c := memory.New(2 << 20)
	var hot []*accel.Entry
	for i := range 200 {
		hot = append(hot, entry("/hot/"+strconv.Itoa(i), "", nil, 1, 2000))
		put(t, c, hot[i])
	}
	use := func() (hits int) {
		for _, e := range hot {
			if it, _, _ := c.Get(e.Key, nil); it != nil {
				hits++
			}
		}
		return hits
	}
	for range 3 {
		require.Equal(t, len(hot), use())
	}
	for i := range 10_000 {
		put(t, c, entry("/crawl/"+strconv.Itoa(i), "", nil, 1, 2000))
	}
	require.Equal(t, len(hot), use())
}

func TestGetAllocatesNothing(t *testing.T) {
	c := memory.New(1 << 20)
	names := []string{"Accept-Language"}
	e := entry("/a", "en", names, 1, 10)
	put(t, c, e)
	bare := accel.Key{Resource: e.Key.Resource}
	absent := entry("/b", "", nil, 1, 10).Key
	require.Zero(t, testing.AllocsPerRun(100, func() { c.Get(e.Key, names) }), "a hit")
	require.Zero(t, testing.AllocsPerRun(100, func() { c.Get(bare, nil) }), "other names")
	require.Zero(t, testing.AllocsPerRun(100, func() { c.Get(absent, nil) }), "a miss")
}

func BenchmarkGet(b *testing.B) {
	c := memory.New(64 << 20)
	var keys []accel.Key
	for i := range 4096 {
		e := entry("/"+strconv.Itoa(i), "", nil, 1, 1000)
		c.Put(e, time.Time{})
		keys = append(keys, e.Key)
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			c.Get(keys[0], nil)
		}
	})
	b.Run("many", func(b *testing.B) {
		i := 0
		for b.Loop() {
			c.Get(keys[i&4095], nil)
			i++
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				c.Get(keys[i&7], nil)
			}
		})
	})
	b.Run("miss", func(b *testing.B) {
		k := entry("/absent", "", nil, 1, 1).Key
		for b.Loop() {
			c.Get(k, nil)
		}
	})
}

func BenchmarkPut(b *testing.B) {
	for _, bound := range []int64{1 << 20, 64 << 20} {
		b.Run(strconv.FormatInt(bound>>20, 10)+"MiB", func(b *testing.B) {
			c := memory.New(bound)
			es := make([]*accel.Entry, 1<<17)
			for i := range es {
				es[i] = entry("/"+strconv.Itoa(i), "", nil, 1, 500)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				c.Put(es[i&(len(es)-1)], time.Time{})
				i++
			}
		})
	}
}
