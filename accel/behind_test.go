package accel_test

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// A gate is a store whose Put waits, once it is shut.
type gate struct {
	accel.Store
	shut  atomic.Bool
	open  chan struct{}
	waits chan struct{} // a Put waits
	panic any
}

func newGate(s accel.Store) *gate {
	return &gate{Store: s, open: make(chan struct{}), waits: make(chan struct{}, 16)}
}

func (g *gate) Put(e, old *accel.Entry) error {
	if g.shut.Load() {
		g.waits <- struct{}{}
		<-g.open
		if g.panic != nil {
			panic(g.panic)
		}
	}
	return g.Store.Put(e, old)
}

// newGated returns a cache over a store that takes what it is given, which the cache
// knows, and will wait with what comes next.
func newGated(t *testing.T) (*accel.Cache, *gate, *atomic.Int64) {
	t.Helper()
	g := newGate(memstore.New())
	h, n := page(func(r *http.Request) string { return text + r.URL.Path })
	c := newCacheOver(t, g, h)
	get(c, "/first")
	g.shut.Store(true)
	n.Store(0)
	return c, g, n
}

// zip asks as browsers do: for what is to be compressed.
func zip(h http.Handler, target string) *http.Response {
	return get(h, target, "Accept-Encoding", "gzip")
}

// The first client is not kept waiting while its page is encoded in what others take,
// and stored.
func TestFirstClientIsAnsweredBeforeThePageIsStored(t *testing.T) {
	for _, accept := range []string{"gzip", "zstd"} {
		t.Run(accept, func(t *testing.T) {
			c, g, n := newGated(t)
			res := get(c, "/", "Accept-Encoding", accept)
			expect(t, res, "fwd=uri-miss; stored")
			equal(t, "Content-Encoding", res.Header.Get("Content-Encoding"), accept)
			equal(t, "body", decoded(t, res), text+"/")

			// Whoever comes now finds it stored, as soon as it is.
			var wg sync.WaitGroup
			for _, r := range []*http.Request{
				newRequest("/"),
				newRequest("/", "Accept-Encoding", "gzip"),
				newRequest("/", "Range", "bytes=0-3"),
				httptest.NewRequest("HEAD", "/", nil),
			} {
				wg.Go(func() { expect(t, do(c, r), "hit") })
			}
			close(g.open)
			wg.Wait()
			equal(t, "runs", n.Load(), 1)
		})
	}
}

// What the first client gets is what all later ones get, whether it waited for the page
// to be stored or not.
func TestFirstAnswerBehindAndBefore(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), 1<<40)
		w.Header().Set("Content-Digest", "sha-256=:AAAA:")
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = w.Write([]byte(text))
	})
	tag := get(newCache(t, h), "/", "Accept-Encoding", "gzip").Header.Get("Etag")
	for _, header := range [][]string{
		{}, {"Accept-Encoding", "gzip"}, {"Accept-Encoding", "zstd"}, {"Accept-Encoding", "br"},
		{"Accept-Encoding", "gzip, identity;q=0"}, {"Accept-Encoding", "identity;q=0"},
		{"Accept-Encoding", "gzip", "If-None-Match", tag},
		{"Accept-Encoding", "gzip", "If-None-Match", `"other"`},
		{"If-Modified-Since", "Mon, 02 Jan 2007 15:04:05 GMT"},
		{"Accept-Encoding", "gzip", "If-Match", `"other"`},
	} {
		t.Run(strings.Join(header, " "), func(t *testing.T) {
			clock := newClock()
			before := newCache(t, h, accel.WithClock(clock.now))
			behind := newCache(t, h, accel.WithClock(clock.now))
			get(behind, "/another")
			a, b := get(before, "/", header...), get(behind, "/", header...)
			later := get(behind, "/", header...)
			expect(t, b, "fwd=uri-miss; stored")
			expect(t, later, "hit")
			equal(t, "status", b.StatusCode, a.StatusCode)
			equal(t, "status of a hit", later.StatusCode, a.StatusCode)
			for _, res := range []*http.Response{a, b, later} {
				res.Header.Del("Cache-Status")
			}
			same := func(x, y []string) bool { return strings.Join(x, "\n") == strings.Join(y, "\n") }
			if !maps.EqualFunc(a.Header, b.Header, same) || !maps.EqualFunc(a.Header, later.Header, same) {
				t.Errorf("before: %v\nbehind: %v\nhit:    %v", a.Header, b.Header, later.Header)
			}
			x, y, z := body(t, a), body(t, b), body(t, later)
			if x != y || x != z {
				t.Error("different bytes")
			}
		})
	}
}

// A purge that comes while the page is being stored strikes it, and whoever comes after
// the purge is given another.
func TestInvalidatedBehindTheAnswer(t *testing.T) {
	c, g, n := newGated(t)
	expect(t, zip(c, "/"), "fwd=uri-miss; stored")
	if err := c.InvalidateURL(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { expect(t, zip(c, "/"), "fwd=uri-miss; stored") })
	close(g.open)
	wg.Wait()
	equal(t, "runs", n.Load(), 2)
	equal(t, "not stored", c.Stats().NotStored["invalidated"], 1)
}

// A store that panics in a goroutine of ours must not end the process.
func TestStorePanicsBehindTheAnswer(t *testing.T) {
	c, g, n := newGated(t)
	g.panic = "a bug"
	expect(t, zip(c, "/"), "fwd=uri-miss; stored")
	close(g.open)
	accel.Settle(c)
	g.shut.Store(false)
	expect(t, zip(c, "/"), "fwd=uri-miss; stored")
	equal(t, "runs", n.Load(), 2)
}

// Close waits for what is being stored.
func TestCloseWaitsForWhatIsStoredBehindAnswers(t *testing.T) {
	c, g, _ := newGated(t)
	zip(c, "/")
	closed := make(chan error)
	go func() { closed <- c.Close() }()
	close(g.open)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	equal(t, "stored", c.Stats().Stored, 2)
}

// After a response that the store did not take, the answer waits for the store again,
// and says what came of it.
func TestAnswersTellWhatTheStoreSays(t *testing.T) {
	b := &broken{Store: newStore(t)}
	h, _ := page(func(r *http.Request) string { return text })
	c := newCacheOver(t, b, h, accel.WithLogger(quiet))
	expect(t, get(c, "/1"), "fwd=uri-miss; stored")
	b.put = accel.ErrUnavailable
	zip(c, "/2")
	accel.Settle(c)
	for range 3 {
		expect(t, zip(c, "/3"), "fwd=uri-miss; detail=store-error")
	}
	b.put = nil
	expect(t, zip(c, "/3"), "fwd=uri-miss; stored")

	// What the store takes of others says nothing of what it never takes.
	for i := range 3 {
		b.put = accel.ErrTooLarge
		res := zip(c, "/large")
		accel.Settle(c)
		if i > 0 {
			expect(t, res, "fwd=uri-miss; detail=too-large")
		}
		b.put = nil
		zip(c, "/other"+string(rune('a'+i)))
		accel.Settle(c)
	}
}

// Where an entry stands may be known only when it is there: by then another has told
// the store by which fields it is selected. Nobody would find its flight.
func TestStoredElsewhereThanAskedFor(t *testing.T) {
	var slow atomic.Bool
	begun, goOn := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Vary", "X-Foo")
		if r.Header.Get("X-Foo") == "a" && slow.CompareAndSwap(true, false) {
			close(begun)
			<-goOn
		}
		_, _ = w.Write([]byte(text + r.Header.Get("X-Foo")))
	})
	g := newGate(newStore(t))
	c := newCacheOver(t, g, h, accel.WithWait(time.Millisecond))
	zip(c, "/first")
	slow.Store(true)
	var leader sync.WaitGroup
	leader.Go(func() { expect(t, get(c, "/", "Accept-Encoding", "gzip", "X-Foo", "a"), "fwd=uri-miss; stored") })
	<-begun
	expect(t, get(c, "/", "Accept-Encoding", "gzip", "X-Foo", "b"), "fwd=uri-miss; stored")
	g.shut.Store(true)
	go close(g.open)
	close(goOn)
	leader.Wait()
	expect(t, get(c, "/", "X-Foo", "a"), "hit")
	expect(t, get(c, "/", "X-Foo", "b"), "hit")
}

// Who does not want to wait for others does not wait for the store either.
func TestSettlingIsAwaitedWithPatience(t *testing.T) {
	g := newGate(memstore.New())
	h, n := page(func(r *http.Request) string { return text })
	c := newCacheOver(t, g, h, accel.WithWait(time.Millisecond))
	get(c, "/first")
	g.shut.Store(true)
	zip(c, "/")
	<-g.waits
	g.shut.Store(false)
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
	equal(t, "runs", n.Load(), 3)
	close(g.open)
}

// A client that has read all and leaves takes nothing from those who come then.
func TestFirstClientLeavesWhileItsPageIsStored(t *testing.T) {
	c, g, n := newGated(t)
	ctx, leave := context.WithCancel(t.Context())
	r := newRequest("/", "Accept-Encoding", "gzip").WithContext(ctx)
	c.ServeHTTP(&leaver{httptest.NewRecorder(), leave}, r)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { expect(t, get(c, "/"), "hit") })
	}
	close(g.open)
	wg.Wait()
	equal(t, "runs", n.Load(), 1)
}

type leaver struct {
	http.ResponseWriter
	leave func()
}

func (w *leaver) Write(p []byte) (int, error) {
	w.leave()
	return w.ResponseWriter.Write(p)
}

// Text that compression makes no shorter is stored as it is, and answered so.
func TestTextThatDoesNotCompress(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 2000)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Digest", "sha-256=:AAAA:")
		_, _ = w.Write(noise)
	})
	for _, accept := range []string{"", "gzip"} {
		c := newCache(t, h)
		get(c, "/another")
		first, later := get(c, "/", "Accept-Encoding", accept), get(c, "/", "Accept-Encoding", accept)
		expect(t, later, "hit")
		for _, res := range []*http.Response{first, later} {
			equal(t, "Vary", res.Header.Get("Vary"), "")
			equal(t, "Content-Digest", res.Header.Get("Content-Digest"), "sha-256=:AAAA:")
		}
	}
}

// A logger that panics does so where nobody recovers.
func TestLoggerPanicsBehindTheAnswer(t *testing.T) {
	g := newGate(memstore.New())
	h, _ := page(func(r *http.Request) string { return text })
	c := accel.New(h, g, accel.WithLogger(slog.New(panickingLog{})))
	get(c, "/first")
	g.shut.Store(true)
	expect(t, zip(c, "/"), "fwd=uri-miss; stored")
	if err := c.InvalidateAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	close(g.open)
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

type panickingLog struct{}

func (panickingLog) Enabled(context.Context, slog.Level) bool  { return true }
func (panickingLog) Handle(context.Context, slog.Record) error { panic("logger") }
func (l panickingLog) WithAttrs([]slog.Attr) slog.Handler      { return l }
func (l panickingLog) WithGroup(string) slog.Handler           { return l }

// A crowd that asks while pages are encoded and stored.
func TestCrowdBehindAnswers(t *testing.T) {
	h, n := page(func(r *http.Request) string { return text + r.URL.Path })
	c := newCache(t, h)
	get(c, "/first")
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for _, accept := range []string{"gzip", "zstd", "", "br"} {
				target := "/" + string(rune('a'+i%8))
				res := get(c, target, "Accept-Encoding", accept)
				equal(t, "body", decoded(t, res), text+target)
			}
		})
	}
	wg.Wait()
	equal(t, "runs", n.Load(), 9)
}
