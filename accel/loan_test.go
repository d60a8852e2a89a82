package accel_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/memstore"
)

// The whole suite runs on a store that lends. These are about what it has no eye for.

// What is lent has one body, and its memory goes to others. What a handler confirms has
// all of them.
func TestWhatIsLentIsNotRenewed(t *testing.T) {
	for _, header := range []string{"max-age=60", "max-age=60, stale-while-revalidate=60"} {
		v, c, clk := newValidating(t)
		v.header = map[string]string{"Cache-Control": header}
		want := decoded(t, get(c, "/"))
		for i := range 3 {
			clk.add(61 * time.Second)
			equal(t, "in gzip", decoded(t, get(c, "/", "Accept-Encoding", "gzip")), want)
			eventually(t, "renewed", func() bool { return v.calls() == i+2 && c.Stats().Renewed == uint64(i+1) })
			for _, coding := range []string{"zstd", "gzip", "identity"} {
				res := get(c, "/", "Accept-Encoding", coding)
				expect(t, res, "hit")
				equal(t, "in "+coding, decoded(t, res), want)
			}
		}
		equal(t, "handler calls", v.calls(), 4)
	}
}

// S12: what is lent is given back when it was written to net/http's writer of HTTP/1, with
// middleware around it or none, and to no other, though the request were one of HTTP/1:
// somebody may have made it to answer a client of HTTP/2.
func TestWhatIsLentIsGivenBack(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	c := newCacheOver(t, storetest.Lending(memstore.New()), h)
	get(c, "/")
	for _, test := range []struct {
		name  string
		proto int
		wrap  func(*httptest.ResponseRecorder) http.ResponseWriter
		back  bool
	}{
		{"HTTP/1", 1, func(rec *httptest.ResponseRecorder) http.ResponseWriter { return http1{rec} }, true},
		{"middleware", 1, func(rec *httptest.ResponseRecorder) http.ResponseWriter { return unwraps{unwraps{http1{rec}}} }, true},
		{"hidden", 1, func(rec *httptest.ResponseRecorder) http.ResponseWriter {
			return struct{ http.ResponseWriter }{http1{rec}}
		}, false},
		{"another writer", 1, func(rec *httptest.ResponseRecorder) http.ResponseWriter { return rec }, false},
		{"nothing beneath", 1, func(rec *httptest.ResponseRecorder) http.ResponseWriter { return hollow{rec} }, false},
		{"HTTP/2", 2, func(rec *httptest.ResponseRecorder) http.ResponseWriter { return http1{rec} }, false},
		{"HTTP/3", 3, func(rec *httptest.ResponseRecorder) http.ResponseWriter { return http1{rec} }, false},
	} {
		rec := httptest.NewRecorder()
		w := &keeping{ResponseWriter: test.wrap(rec)}
		r := newRequest("/", "Accept-Encoding", "gzip")
		r.ProtoMajor = test.proto
		c.ServeHTTP(w, r)
		equal(t, "body", decoded(t, rec.Result()), text)
		equal(t, test.name+": given back", string(w.kept[0][:2]) != "\x1f\x8b", test.back)
	}
}

// unwraps is a middleware's writer.
type unwraps struct{ http.ResponseWriter }

func (w unwraps) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// hollow says that there is a writer beneath, and there is none.
type hollow struct{ http.ResponseWriter }

func (hollow) Unwrap() http.ResponseWriter { return nil }

// http.ServeContent reads several parts in a goroutine, and does not wait for it when the
// client has left: the race detector saw it read what was another's page by then.
func TestPartsAreNotGivenBack(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 16<<10)
	h, _ := page(func(*http.Request) string { return long })
	plain := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		h(w, r)
	}
	for name, h := range map[string]http.HandlerFunc{"lent": plain, "decoded": h} {
		c := newCacheOver(t, storetest.Lending(memstore.New()), h)
		get(c, "/")
		for range 50 {
			w := &keeping{ResponseWriter: http1{httptest.NewRecorder()}, leaves: 3}
			c.ServeHTTP(w, newRequest("/", "Range", "bytes=0-100000,100002-200000"))
			equal(t, name+": status", w.ResponseWriter.(http1).Code, http.StatusPartialContent)
		}
	}
}

// lendings counts what a store is asked to lend.
type lendings struct {
	accel.Lender
	lent atomic.Int64
}

func (c *lendings) Lend(ctx context.Context, key accel.Key, vary []string, pick func(*accel.Entry) int) (accel.Found, error) {
	c.lent.Add(1)
	return c.Lender.Lend(ctx, key, vary, pick)
}

// A cache around this one keeps what it is answered, and so may who waits for it.
func TestNothingIsLentToACacheAround(t *testing.T) {
	h, calls := page(func(*http.Request) string { return text })
	s := &lendings{Lender: storetest.Lending(memstore.New())}
	inner := newCacheOver(t, s, h)
	outer := newCache(t, inner.ServeHTTP)
	get(inner, "/")
	get(inner, "/")
	lent := s.lent.Load()
	equal(t, "lent to a client", lent, 2)
	for range 2 {
		equal(t, "body", decoded(t, get(outer, "/", "Accept-Encoding", "gzip")), text)
	}
	equal(t, "lent to a cache", s.lent.Load(), lent)
	equal(t, "handler calls", calls.Load(), 1)
}

// RFC 9111, section 4.3.5: a HEAD tells that the stored page is outdated. It is to be
// deleted, which what is lent is too little for.
func TestWhatIsLentIsNotDeleted(t *testing.T) {
	v, c, clk := newValidating(t)
	get(c, "/")
	clk.add(61 * time.Second)
	v.version = 2
	r := newRequest("/", "Accept-Encoding", "gzip")
	r.Method = http.MethodHead
	do(c, r)
	equal(t, "entries", c.Stats().Store.Entries, 0)
}
