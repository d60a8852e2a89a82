package accel_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is the logger of tests that make the cache complain.
var quiet = slog.New(slog.DiscardHandler)

// newCache returns a cache of h over a store of its own, closed after the test.
func newCache(t testing.TB, h http.HandlerFunc, opts ...accel.Option) *accel.Cache {
	t.Helper()
	return newCacheOver(t, newStore(t), h, opts...)
}

func newCacheOver(t testing.TB, s accel.Store, h http.HandlerFunc, opts ...accel.Option) *accel.Cache {
	t.Helper()
	c := accel.New(h, s, append([]accel.Option{accel.WithLogger(quiet)}, opts...)...)
	t.Cleanup(func() {
		accel.Settle(c)
		if n := c.Stats().Store.InFlight; n != 0 {
			t.Errorf("%d positions are still held", n)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// A request is a GET to be sent to a handler; the fields are changed by the
// options of ask.
func newRequest(target string, header ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

// get sends a GET with these header fields to h.
func get(h http.Handler, target string, header ...string) *http.Response {
	return do(h, newRequest(target, header...))
}

func do(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(http1{w}, r)
	return w.Result()
}

// http1 is a writer that can be hijacked, as far as one can see, as net/http's of HTTP/1.
type http1 struct{ *httptest.ResponseRecorder }

func (http1) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

// body reads the body of a response.
func body(t testing.TB, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// status returns Cache-Status without the name of the cache: "hit",
// "fwd=uri-miss; stored". The ttl of a hit is left out.
func status(res *http.Response) string {
	s := strings.TrimPrefix(res.Header.Get("Cache-Status"), "Accelerator; ")
	s, _, _ = strings.Cut(s, "; ttl=")
	return s
}

// expect compares the Cache-Status of a response.
func expect(t testing.TB, res *http.Response, want string) {
	t.Helper()
	if got := status(res); got != want {
		t.Errorf("Cache-Status: %q, want %q", got, want)
	}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// A clock is set by hand.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// page returns a handler that asks for an hour and answers with what f returns,
// and the number of times it was called.
func page(f func(r *http.Request) string) (http.HandlerFunc, *atomic.Int64) {
	var n atomic.Int64
	return func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		accel.CacheFor(r.Context(), time.Hour)
		_, _ = io.WriteString(w, f(r))
	}, &n
}

// text is a body that is worth compressing.
var text = "<!doctype html><title>A page</title>" + strings.Repeat("<p>The quick brown fox jumps over the lazy dog.", 40)
