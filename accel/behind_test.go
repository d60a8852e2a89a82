package accel_test

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// A gate is a store whose Put waits, once it is shut.
type gate struct {
	accel.Store
	shut  atomic.Bool
	open  chan struct{}
	panic any
}

func newGate(s accel.Store) *gate { return &gate{Store: s, open: make(chan struct{})} }

func (g *gate) Put(e, old *accel.Entry) error {
	if g.shut.Load() {
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

// The first client is not kept waiting while its page is encoded in what others take,
// and stored.
func TestFirstClientIsAnsweredBeforeThePageIsStored(t *testing.T) {
	for _, accept := range []string{"gzip", "zstd", ""} {
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
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
	if err := c.InvalidateURL(t.Context(), "/"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { expect(t, get(c, "/"), "fwd=uri-miss; stored") })
	close(g.open)
	wg.Wait()
	equal(t, "runs", n.Load(), 2)
	equal(t, "not stored", c.Stats().NotStored["invalidated"], 1)
}

// A store that panics in a goroutine of ours must not end the process.
func TestStorePanicsBehindTheAnswer(t *testing.T) {
	c, g, n := newGated(t)
	g.panic = "a bug"
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
	close(g.open)
	accel.Settle(c)
	g.shut.Store(false)
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
	equal(t, "runs", n.Load(), 2)
}

// Close waits for what is being stored.
func TestCloseWaitsForWhatIsStoredBehindAnswers(t *testing.T) {
	c, g, _ := newGated(t)
	get(c, "/")
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
	get(c, "/2")
	accel.Settle(c)
	for range 3 {
		expect(t, get(c, "/3"), "fwd=uri-miss; detail=store-error")
	}
	b.put = nil
	expect(t, get(c, "/3"), "fwd=uri-miss; stored")
}

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
