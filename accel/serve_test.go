package accel_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/memstore"
)

func decoded(t testing.TB, res *http.Response) string {
	t.Helper()
	b := body(t, res)
	if cl := res.Header.Get("Content-Length"); cl != "" && cl != strconv.Itoa(len(b)) {
		t.Errorf("Content-Length %s of a body of %d", cl, len(b))
	}
	plain, err := codec.Decode(nil, res.Header.Get("Content-Encoding"), []byte(b), 1<<20)
	if res.Header.Get("Content-Encoding") == "" {
		return b
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

// RFC 9110, sections 8.8.3.3, 12.5.3 and 12.5.5.
func TestCodings(t *testing.T) {
	h, calls := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	tags := map[string]string{}
	for i, accept := range []string{"gzip", "zstd", "identity", "gzip", "br", "gzip;q=0.1, zstd;q=0.9", "", "gzip;q=0, identity;q=0"} {
		res := get(c, "/", "Accept-Encoding", accept)
		if accept == "" {
			res = get(c, "/")
		}
		equal(t, "body for "+accept, decoded(t, res), text)
		equal(t, "Vary", res.Header.Get("Vary"), "Accept-Encoding")
		equal(t, "Content-Type", res.Header.Get("Content-Type"), "text/html; charset=utf-8")
		coding := res.Header.Get("Content-Encoding")
		etag := res.Header.Get("Etag")
		if old, ok := tags[coding]; ok && old != etag {
			t.Errorf("two ETags for %q: %s %s", coding, old, etag)
		}
		tags[coding] = etag
		want := "hit"
		if i == 0 {
			want = "fwd=uri-miss; stored"
		}
		expect(t, res, want)

		// Each is answered 304 when it is sent back, with the same fields.
		res = get(c, "/", "Accept-Encoding", accept, "If-None-Match", etag)
		equal(t, "status", res.StatusCode, 304)
		equal(t, "ETag of the 304", res.Header.Get("Etag"), etag)
		equal(t, "Vary of the 304", res.Header.Get("Vary"), "Accept-Encoding")
		equal(t, "body of the 304", body(t, res), "")
		for _, name := range []string{"Content-Type", "Content-Encoding", "Content-Length"} {
			if v, ok := res.Header[name]; ok {
				t.Errorf("a 304 has %s: %v", name, v)
			}
		}

		// HEAD says what GET would (RFC 9110, section 9.3.2).
		r := newRequest("/", "Accept-Encoding", accept)
		r.Method = http.MethodHead
		res = do(c, r)
		expect(t, res, "hit")
		equal(t, "ETag of HEAD", res.Header.Get("Etag"), etag)
		equal(t, "coding of HEAD", res.Header.Get("Content-Encoding"), coding)
		equal(t, "body of HEAD", body(t, res), "")
		if res.Header.Get("Content-Length") == "" {
			t.Error("HEAD without Content-Length")
		}
	}
	equal(t, "number of ETags", len(tags), 3)
	if tags["gzip"] == tags["zstd"] || tags["gzip"] == tags[""] {
		t.Errorf("ETags are not of one coding each: %v", tags)
	}
	equal(t, "handler calls", calls.Load(), 1)
}

func TestETagOfHandler(t *testing.T) {
	for _, test := range []struct{ given, gzip, identity string }{
		{`"v1"`, `"v1-gzip"`, `"v1"`},
		{`W/"v1"`, `W/"v1"`, `W/"v1"`},
	} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Set("ETag", test.given)
			_, _ = io.WriteString(w, text)
		})
		for range 2 {
			equal(t, "gzip", get(c, "/", "Accept-Encoding", "gzip").Header.Get("Etag"), test.gzip)
			equal(t, "identity", get(c, "/").Header.Get("Etag"), test.identity)
		}
		// Weak comparison: any coding's tag in its own coding.
		equal(t, "status", get(c, "/", "Accept-Encoding", "gzip", "If-None-Match", test.gzip).StatusCode, 304)
		equal(t, "If-Match", get(c, "/", "If-Match", `"other"`).StatusCode, 412)
	}
}

func TestETagUnquotedIsReplaced(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("ETag", "v1")
		_, _ = io.WriteString(w, text)
	})
	for range 2 {
		if tag := get(c, "/").Header.Get("Etag"); len(tag) < 3 || tag[0] != '"' {
			t.Errorf("ETag: %s", tag)
		}
	}
}

// RFC 9110, section 14; design: on a stored 200 only.
func TestRanges(t *testing.T) {
	h, calls := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	equal(t, "a Range on an unknown key", status(get(c, "/", "Range", "bytes=0-1")), "")
	get(c, "/")
	n := strconv.Itoa(len(text))
	etag := get(c, "/").Header.Get("Etag")
	for _, test := range []struct {
		header []string
		status int
		want   string
	}{
		{[]string{"Range", "bytes=0-4"}, 206, text[:5]},
		{[]string{"Range", "bytes=10-"}, 206, text[10:]},
		{[]string{"Range", "bytes=-7"}, 206, text[len(text)-7:]},
		{[]string{"Range", "bytes=0-4", "If-Range", etag}, 206, text[:5]},
		{[]string{"Range", "bytes=0-4", "If-Range", `"other"`}, 200, text},
		{[]string{"Range", "lines=0-4"}, 200, text},
		{[]string{"Range", "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7,8-8"}, 200, text},
	} {
		res := get(c, "/", test.header...)
		expect(t, res, "hit")
		equal(t, "status", res.StatusCode, test.status)
		equal(t, "body", body(t, res), test.want)
		equal(t, "ETag", res.Header.Get("Etag"), etag)
	}
	res := get(c, "/", "Range", "bytes=99999-")
	equal(t, "status", res.StatusCode, 416)
	equal(t, "ETag of the 416", res.Header.Get("Etag"), etag)
	equal(t, "Content-Range", res.Header.Get("Content-Range"), "bytes */"+n)
	if ct := get(c, "/", "Range", "bytes=0-1,3-4").Header.Get("Content-Type"); !strings.HasPrefix(ct, "multipart/byteranges") {
		t.Errorf("Content-Type of two ranges: %s", ct)
	}

	// Of a coded representation the range is of the coded bytes.
	whole := body(t, get(c, "/", "Accept-Encoding", "gzip"))
	res = get(c, "/", "Accept-Encoding", "gzip", "Range", "bytes=3-12")
	equal(t, "status", res.StatusCode, 206)
	equal(t, "body", body(t, res), whole[3:13])
	equal(t, "coding", res.Header.Get("Content-Encoding"), "gzip")
	equal(t, "length", res.Header.Get("Content-Length"), "10")
	equal(t, "two ranges", get(c, "/", "Accept-Encoding", "gzip", "Range", "bytes=0-1,3-4").StatusCode, 200)
	equal(t, "handler calls", calls.Load(), 2)
}

func TestRangeOnlyOf200(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		http.Error(w, "no such page", http.StatusNotFound)
	})
	get(c, "/")
	res := get(c, "/", "Range", "bytes=0-1", "If-None-Match", "*")
	expect(t, res, "hit")
	equal(t, "status", res.StatusCode, 404)
	equal(t, "body", body(t, res), "no such page\n")
}

func TestStatusWithoutBody(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.WriteHeader(http.StatusNoContent)
	})
	for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
		res := get(c, "/")
		expect(t, res, want)
		equal(t, "status", res.StatusCode, 204)
		if v, ok := res.Header["Content-Length"]; ok {
			t.Errorf("Content-Length of a 204: %v", v)
		}
	}
}

func TestEmptyBody(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.WriteHeader(http.StatusOK)
	})
	for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
		res := get(c, "/")
		expect(t, res, want)
		equal(t, "Content-Length", res.Header.Get("Content-Length"), "0")
	}
}

// RFC 9111, sections 4.2.3 and 5.1: by HTTP's freshness Date stays and Age
// grows; by CacheFor neither is the origin's.
func TestAgeAndDate(t *testing.T) {
	k := newClock()
	byHeader := newCacheOver(t, memstore.New(memstore.WithClock(k.now)), func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=100")
		w.Header().Set("Age", "7")
		_, _ = io.WriteString(w, "x")
	}, accel.WithClock(k.now))
	first := get(byHeader, "/")
	equal(t, "Age", first.Header.Get("Age"), "7")
	k.add(30 * time.Second)
	res := get(byHeader, "/")
	expect(t, res, "hit")
	equal(t, "Age", res.Header.Get("Age"), "37")
	equal(t, "Date", res.Header.Get("Date"), first.Header.Get("Date"))
	equal(t, "ttl", res.Header.Get("Cache-Status"), "Accelerator; hit; ttl=63")
	k.add(63 * time.Second)
	expect(t, get(byHeader, "/"), "fwd=uri-miss; stored") // the store keeps nothing that is of no use

	byHandler := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Cache-Control", "max-age=5")
		w.Header().Set("Age", "7")
		w.Header().Set("Date", "Mon, 02 Jan 2006 15:04:05 GMT")
		_, _ = io.WriteString(w, "x")
	}, accel.WithClock(k.now))
	for range 2 {
		res = get(byHandler, "/")
		equal(t, "Age", res.Header.Get("Age"), "")
		equal(t, "Date", res.Header.Get("Date"), "")
		equal(t, "Cache-Control", res.Header.Get("Cache-Control"), "max-age=5")
		k.add(20 * time.Second)
	}
	expect(t, res, "hit")
}

// RFC 9111, section 3.1.
func TestHopByHopIsNotStored(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Connection", "X-Foo")
		w.Header().Set("X-Foo", "1")
		w.Header().Set("X-Bar", "1")
		_, _ = io.WriteString(w, "x")
	})
	get(c, "/")
	res := get(c, "/")
	expect(t, res, "hit")
	equal(t, "X-Foo", res.Header.Get("X-Foo"), "")
	equal(t, "Connection", res.Header.Get("Connection"), "")
	equal(t, "X-Bar", res.Header.Get("X-Bar"), "1")
}

func TestHandlerEncodesItself(t *testing.T) {
	gz, _ := codec.Encode(nil, codec.Gzip, []byte(text))
	for _, test := range []struct{ coding, data string }{{"gzip", string(gz)}, {"br", "not really brotli, but who could tell"}} {
		t.Run(test.coding, func(t *testing.T) {
			calls := 0
			c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				accel.CacheFor(r.Context(), time.Hour)
				w.Header().Set("Vary", "Accept-Encoding")
				w.Header().Set("Content-Type", "text/html")
				if !strings.Contains(r.Header.Get("Accept-Encoding"), test.coding) {
					_, _ = io.WriteString(w, text)
					return
				}
				w.Header().Set("Content-Encoding", test.coding)
				w.Header().Set("ETag", `"own"`)
				_, _ = io.WriteString(w, test.data)
			})
			for range 2 {
				res := get(c, "/", "Accept-Encoding", test.coding)
				equal(t, "body", body(t, res), test.data)
				equal(t, "coding", res.Header.Get("Content-Encoding"), test.coding)
				equal(t, "ETag", res.Header.Get("Etag"), `"own"`)
				equal(t, "Vary", strings.Join(res.Header.Values("Vary"), ","), "Accept-Encoding")
			}
			equal(t, "handler calls", calls, 1)
			res := get(c, "/", "Accept-Encoding", "identity")
			equal(t, "body", body(t, res), text)
			if test.coding == "gzip" {
				expect(t, res, "hit")
				equal(t, "ETag", res.Header.Get("Etag"), `"own-identity"`)
				return
			}
			// Nobody here can read br: the handler's own answer, uncached.
			expect(t, res, "fwd=request; detail=not-acceptable")
			equal(t, "handler calls", calls, 2)
			expect(t, get(c, "/", "Accept-Encoding", "br"), "hit")
		})
	}
}

// A body that decodes to more than may be stored is not decoded for anybody.
func TestHandlerEncodesBomb(t *testing.T) {
	bomb, _ := codec.Encode(nil, codec.Gzip, make([]byte, 4<<20))
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb)
	})
	get(c, "/", "Accept-Encoding", "gzip")
	expect(t, get(c, "/", "Accept-Encoding", "gzip"), "hit")
	res := get(c, "/")
	expect(t, res, "fwd=request; detail=not-acceptable")
	equal(t, "body", body(t, res), string(bomb))
}

func TestContentTypeIsSniffedFromPlainBytes(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	s := httptest.NewServer(newCache(t, h))
	defer s.Close()
	bare := httptest.NewServer(h)
	defer bare.Close()
	for range 2 {
		a, b := fetch(t, s.URL, "Accept-Encoding", "gzip"), fetch(t, bare.URL, "Accept-Encoding", "gzip")
		equal(t, "Content-Type", a.header.Get("Content-Type"), b.header.Get("Content-Type"))
	}
	// An explicit nil keeps net/http from guessing, on a hit as on a miss.
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header()["Content-Type"] = nil
		_, _ = io.WriteString(w, text)
	})
	s2 := httptest.NewServer(c)
	defer s2.Close()
	for range 2 {
		res := fetch(t, s2.URL)
		if v, ok := res.header["Content-Type"]; ok {
			t.Errorf("Content-Type: %v", v)
		}
	}
}

func TestNoTransform(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Cache-Control", "no-transform")
		_, _ = io.WriteString(w, text)
	})
	for range 2 {
		equal(t, "coding", get(c, "/", "Accept-Encoding", "gzip").Header.Get("Content-Encoding"), "")
	}
}

// What middleware around the cache has put into the header is not the
// handler's: it is not stored, and a hit does not take it away.
func TestHeaderOfOuterMiddleware(t *testing.T) {
	n := 0
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Add("Vary", "Accept-Language")
		w.Header().Set("X-Handler", w.Header().Get("X-Request-Id"))
		_, _ = io.WriteString(w, text)
	})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n++
		w.Header().Set("X-Request-Id", strconv.Itoa(n))
		w.Header().Set("Vary", "Origin")
		c.ServeHTTP(w, r)
	})
	for i, want := range []string{"fwd=uri-miss; stored", "hit"} {
		res := get(h, "/")
		expect(t, res, want)
		equal(t, "X-Request-Id", res.Header.Get("X-Request-Id"), strconv.Itoa(i+1))
		equal(t, "X-Handler", res.Header.Get("X-Handler"), "1")
		vary := strings.Join(res.Header.Values("Vary"), ", ")
		for _, name := range []string{"Origin", "Accept-Language", "Accept-Encoding"} {
			if strings.Count(vary, name) != 1 {
				t.Errorf("Vary: %s", vary)
			}
		}
	}
}

// RFC 9211: behind what caches between the handler and us have said.
func TestCacheStatusIsAppended(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Cache-Status", "Origin; hit")
		_, _ = io.WriteString(w, text)
	}, accel.WithClock(newClock().now))
	for _, want := range []string{"Accelerator; fwd=uri-miss; stored", "Accelerator; hit; ttl=3600"} {
		got := get(c, "/").Header["Cache-Status"]
		if len(got) != 2 || got[0] != "Origin; hit" || got[1] != want {
			t.Errorf("Cache-Status: %q", got)
		}
	}
}
