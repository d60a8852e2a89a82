package accel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Whoever sends an If-Match that does not match gets a 412, and is the only one:
// it answers his condition and not the URL.
func TestPreconditionFailedIsNotStored(t *testing.T) {
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, header := range [][]string{
		{"If-Match", `"no such"`},
		{"If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"},
	} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			http.ServeContent(w, r, "a.txt", modified, strings.NewReader("content"))
		})
		equal(t, "status", get(c, "/", header...).StatusCode, 412)
		res := get(c, "/")
		equal(t, "status after "+header[0], res.StatusCode, 200)
		equal(t, "body", body(t, res), "content")
	}
}

// A page that is too large to be stored keeps its 304s and its ranges, although
// its handler asks for storage.
func TestTooLargeKeepsConditionsAndRanges(t *testing.T) {
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		http.ServeContent(w, r, "a.txt", modified, strings.NewReader("a film"))
	}, accel.WithMaxBody(5))
	since := []string{"If-Modified-Since", modified.Format(http.TimeFormat)}
	equal(t, "first", get(c, "/", since...).StatusCode, 304)
	get(c, "/", since...) // asked for the whole, once
	for range 3 {
		equal(t, "condition", get(c, "/", since...).StatusCode, 304)
		equal(t, "range", get(c, "/", "Range", "bytes=2-").StatusCode, 206)
	}
}

// Content-Type is what the client would have got without us, also if middleware
// around the cache has set it.
func TestContentTypeOfOuterMiddleware(t *testing.T) {
	for _, b := range []string{`{"a":1}`, ""} {
		h, _ := page(func(*http.Request) string { return b })
		c := newCache(t, h)
		outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			c.ServeHTTP(w, r)
		})
		for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
			res := get(outer, "/")
			expect(t, res, want)
			equal(t, "Content-Type", res.Header.Get("Content-Type"), "application/json")
		}
	}
}

// A status that is none panics in net/http, while we write what we held. The
// flight ends all the same; newCache looks for positions that are still held.
func TestInvalidStatusEndsFlight(t *testing.T) {
	for _, status := range []int{0, 99, 1000} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.WriteHeader(status)
		})
		s := newServer(t, c)
		if got := fetch(t, s.URL); got.err == nil {
			t.Errorf("status %d: %d", status, got.status)
		}
		s.Close()
	}
}

// A Forwarded line is cut at commas into what each proxy said. Who moves a comma
// tells the handler something else.
func TestForwardedIsKeyedAsReadersReadIt(t *testing.T) {
	h, _ := page(func(r *http.Request) string { return strings.Join(r.Header["Forwarded"], "|") })
	c := newCache(t, h)
	for _, line := range []string{
		"host=a;proto=https",
		"host=a,proto=https",
		"for=1.2.3.4;proto=http",
		"for=1.2.3.4,proto=http",
		"for=x proto=https", // some look for proto= with a regular expression
		`for="x proto=https"`,
		"for=1.2.3.4",
	} {
		equal(t, "body", body(t, get(c, "/", "Forwarded", line)), line)
	}
	expect(t, get(c, "/", "Forwarded", `for=9.9.9.9:80;proto=http`), "hit")
	expect(t, get(c, "/", "Forwarded", `For="[2001:db8::1]:4711";proto=http`), "hit")
}

// RFC 9111, section 4.2.3: a response from a clock that is fast has no age.
func TestAgeOfDateInTheFuture(t *testing.T) {
	clock := newClock()
	for _, date := range []time.Time{clock.now().Add(time.Hour), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "s-maxage=60")
			w.Header().Set("Date", date.Format(http.TimeFormat))
			_, _ = io.WriteString(w, "x")
		}, accel.WithClock(clock.now))
		get(c, "/")
		equal(t, "Age", get(c, "/").Header.Get("Age"), "0")
		clock.add(30 * time.Second)
		equal(t, "Age", get(c, "/").Header.Get("Age"), "30")
		clock.add(30 * time.Second)
		expect(t, get(c, "/"), "fwd=stale; stored")
	}
}

// HTTP/2 has :authority, and a client may send a field called Host beside it,
// which handlers may read.
func TestHTTP2HostBesideAuthority(t *testing.T) {
	h, _ := page(func(r *http.Request) string { return strings.Join(r.Header["Host"], " ") })
	c := newCache(t, h)
	equal(t, "body", body(t, get(c, "/", "Host", "evil.example")), "evil.example")
	equal(t, "body", body(t, get(c, "/")), "")
	expect(t, get(c, "/", "Host", "example.com"), "hit")
}

// A forgetful store finds nothing at its next look-up.
type forgetful struct {
	accel.Store
	forget atomic.Bool
}

func (s *forgetful) Get(ctx context.Context, key accel.Key, vary []string) (accel.Found, error) {
	if s.forget.Swap(false) {
		return accel.Found{}, accel.ErrNotFound
	}
	return s.Store.Get(ctx, key, vary)
}

// A slow client of a hit holds no position of the store, not of the second
// look-up either: marks could not be forgotten while it reads.
func TestSlowClientOfHitHoldsNoPosition(t *testing.T) {
	h, _ := page(func(*http.Request) string { return brief })
	s := &forgetful{Store: newStore(t)}
	c := newCacheOver(t, s, h)
	get(c, "/")
	s.forget.Store(true)
	slow := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), gate: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.ServeHTTP(slow, newRequest("/"))
	}()
	<-slow.writing
	equal(t, "positions held", c.Stats().Store.InFlight, 0)
	close(slow.gate)
	<-done
	expect(t, slow.Result(), "hit")
}

// A stuckWriter says when it is written to, and is stuck then.
type stuckWriter struct {
	*httptest.ResponseRecorder
	writing, gate chan struct{}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	close(w.writing)
	<-w.gate
	return w.ResponseRecorder.Write(p)
}

// A handler that takes away what middleware around the cache has set has taken it
// away from hits as well.
func TestHeaderTakenAwayByHandler(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Del("X-Frame-Options")
		w.Header().Del("Last-Modified")
		_, _ = io.WriteString(w, brief)
	})
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Frame-Options", "DENY")
		w.Header().Set("Last-Modified", "Mon, 01 Jan 2001 00:00:00 GMT")
		c.ServeHTTP(w, r)
	})
	for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
		res := get(outer, "/")
		expect(t, res, want)
		equal(t, "X-Frame-Options", res.Header.Get("X-Frame-Options"), "")
		equal(t, "Last-Modified", res.Header.Get("Last-Modified"), "")
	}
}

// What was remembered for a second is not remembered again months later, when
// the seconds of a slot have come round.
func TestRecollectionIsNotRemembered(t *testing.T) {
	equal(t, "at once", accel.Recalled(0), true)
	for _, days := range []time.Duration{1, 50, 98, 150, 193} {
		if accel.Recalled(days * 24 * time.Hour) {
			t.Errorf("after %d days it is remembered", days)
		}
	}
}

// A function of WithKey that panics on a goroutine of ours takes nothing down.
func TestRefreshSurvivesPanicInKey(t *testing.T) {
	var calls atomic.Int64
	clock := newClock()
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Second, accel.StaleWhileRevalidate(time.Hour))
		_, _ = io.WriteString(w, brief)
	}, accel.WithClock(clock.now), accel.WithKey(func(*http.Request) string {
		if calls.Add(1) == 3 {
			panic("no key")
		}
		return ""
	}))
	get(c, "/")
	clock.add(time.Minute)
	expect(t, get(c, "/"), "hit")
	if err := c.Close(); err != nil { // waits for the refresh
		t.Error(err)
	}
	equal(t, "calls", calls.Load(), 3)
}

// What reaches the client is what the bare handler sends, byte for byte: a stored
// response, the first time and the second, over both protocols.
func TestBodiesAreAsWithoutUs(t *testing.T) {
	bodies := map[string]string{
		"empty": "", "html": "<html>x", "xml": `<?xml version="1.0"?>`, "json": `{"a":1}`,
		"binary": "\x00\x01\x02", "png": "\x89PNG\r\n\x1a\n", "pdf": "%PDF-1", "utf8": "\xef\xbb\xbfabc",
		"late": strings.Repeat(" ", 505) + "<html>", "too-late": strings.Repeat(" ", 513) + "<html>",
		"long": strings.Repeat("a<b", 3000), "streamed": strings.Repeat("ab\x00", 40000),
	}
	ways := map[string]func(w http.ResponseWriter, b string){
		"plain": func(http.ResponseWriter, string) {},
		"bytes": func(w http.ResponseWriter, b string) {
			for i := range min(len(b), 20) {
				_, _ = w.Write([]byte{b[i]})
			}
		},
		"no-type":    func(w http.ResponseWriter, _ string) { w.Header()["Content-Type"] = nil },
		"empty-type": func(w http.ResponseWriter, _ string) { w.Header().Set("Content-Type", "") },
		"no-sniff":   func(w http.ResponseWriter, _ string) { w.Header().Set("X-Content-Type-Options", "nosniff") },
		"transfer":   func(w http.ResponseWriter, _ string) { w.Header().Set("Transfer-Encoding", "identity") },
		"hints": func(w http.ResponseWriter, _ string) {
			w.Header().Set("Link", "</a>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
		},
		"reset":   func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusResetContent) },
		"missing": func(w http.ResponseWriter, _ string) { w.WriteHeader(http.StatusNotFound) },
		"odd":     func(w http.ResponseWriter, _ string) { w.WriteHeader(299) },
		"length":  func(w http.ResponseWriter, b string) { w.Header().Set("Content-Length", fmt.Sprint(len(b))) },
	}
	h := func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		way, name, _ := strings.Cut(r.URL.Path[1:], "/")
		b := bodies[name]
		ways[way](w, b)
		if way == "bytes" {
			b = b[min(len(b), 20):]
		}
		_, _ = io.WriteString(w, b)
	}
	for _, http2 := range []bool{false, true} {
		start := func(h http.Handler) *httptest.Server {
			s := httptest.NewUnstartedServer(h)
			s.EnableHTTP2 = http2
			s.StartTLS()
			s.Client().Transport.(*http.Transport).DisableCompression = true
			t.Cleanup(s.Close)
			return s
		}
		bare, cached := start(http.HandlerFunc(h)), start(newCache(t, h))
		ask := func(s *httptest.Server, path string) fetched {
			res, err := s.Client().Get(s.URL + path)
			if err != nil {
				return fetched{err: err}
			}
			defer res.Body.Close()
			b, err := io.ReadAll(res.Body)
			for _, name := range []string{"Etag", "Vary", "Content-Length"} {
				res.Header.Del(name)
			}
			return fetched{res.StatusCode, res.Header, string(b), err}
		}
		for way := range ways {
			for name := range bodies {
				path := "/" + way + "/" + name
				want := ask(bare, path)
				for _, time := range []string{"first", "second"} {
					if err := same(ask(cached, path), want); err != nil {
						t.Errorf("%s, %s time, HTTP/2 %t: %v", path, time, http2, err)
					}
				}
			}
		}
	}
}

// net/http's writer of HTTP/2 returns when its stream is reset, while what it was given
// may still be read to be sent.
func TestSecurity_S12_WrittenToHTTP2IsNotReused(t *testing.T) {
	h, _ := page(func(r *http.Request) string { return text + strings.Repeat(r.URL.Path, 1000) })
	private := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		h(w, r)
		accel.NoStore(r.Context()) // only now, when it is held
	}
	for name, h := range map[string]http.HandlerFunc{"decoded": h, "private": private} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, h, accel.WithPolicy(accel.OptIn))
			var kept [][]byte
			var want []string
			for i := range 20 {
				target := "/" + string(rune('a'+i))
				for range 2 {
					r := newRequest(target)
					r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
					w := &keeping{ResponseWriter: http1{httptest.NewRecorder()}}
					c.ServeHTTP(w, r)
					kept = append(kept, w.kept...)
					for _, p := range w.kept {
						want = append(want, string(p))
					}
				}
			}
			for i, p := range kept {
				equal(t, "what was written", string(p), want[i])
			}
		})
	}
}

// A keeping writer has what it was given without copying it.
type keeping struct {
	http.ResponseWriter
	kept   [][]byte
	leaves int // the write at which the client leaves; 0 if it stays
}

func (w *keeping) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *keeping) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p)
	if len(w.kept) == w.leaves {
		return 0, io.ErrClosedPipe
	}
	return w.ResponseWriter.Write(p)
}
