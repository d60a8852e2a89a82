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
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Bugs that reviews have found, as short as they can be told.

// session is middleware around the cache, as session managers are.
func session(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Vary", "Cookie")
		next.ServeHTTP(w, r)
	})
}

func testRefreshWithOuterVary(t *testing.T, opts ...accel.Option) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			n++
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour))
			fmt.Fprintf(w, "page of %s", r.Header.Get("Cookie"))
		}, opts...)
		h := session(c)
		get(h, "/", "Cookie", "alice")
		get(h, "/", "Cookie", "bob")
		if b := body(t, get(h, "/", "Cookie", "bob")); b != "page of bob" {
			t.Fatal(b)
		}
		time.Sleep(2 * time.Minute)
		expect(t, get(h, "/", "Cookie", "alice"), "hit")
		synctest.Wait()
		res := get(h, "/", "Cookie", "bob")
		equal(t, "body", body(t, res), "page of bob")
		synctest.Wait()
	})
}

// A refresh in the background has the header that middleware around the cache had
// set: without its Vary, one user's page was stored for all.
func TestRefreshHasOuterVary(t *testing.T) { testRefreshWithOuterVary(t) }

func TestRefreshHasOuterVaryByRFC9111(t *testing.T) {
	testRefreshWithOuterVary(t, accel.WithPolicy(accel.RFC9111))
}

func TestRefreshHasOuterVaryByHeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60, stale-while-revalidate=600")
			w.Header().Set("Etag", fmt.Sprintf("%q", r.Header.Get("Accept-Language")))
			if r.Header.Get("If-None-Match") == w.Header().Get("Etag") {
				w.WriteHeader(304)
				return
			}
			fmt.Fprintf(w, "in %s", r.Header.Get("Accept-Language"))
		}, accel.WithPolicy(accel.RFC9111))
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Vary", "Accept-Language")
			c.ServeHTTP(w, r)
		})
		get(h, "/", "Accept-Language", "de")
		get(h, "/", "Accept-Language", "en")
		time.Sleep(2 * time.Minute)
		get(h, "/", "Accept-Language", "de")
		synctest.Wait()
		equal(t, "body", body(t, get(h, "/", "Accept-Language", "en")), "in en")
		synctest.Wait()
	})
}

// Without its Cache-Control, so was what is private.
func TestRefreshHasOuterCacheControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour))
			fmt.Fprintf(w, "for %q", r.Header.Get("Cookie"))
		})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Cookie") != "" { // logged in: not for the cache
				w.Header().Set("Cache-Control", "private")
			}
			c.ServeHTTP(w, r)
		})
		get(h, "/", "Cookie", "alice")
		equal(t, "bob", body(t, get(h, "/")), `for ""`)
		time.Sleep(2 * time.Minute)
		get(h, "/", "Cookie", "alice")
		synctest.Wait()
		equal(t, "anonymous", body(t, get(h, "/")), `for ""`)
	})
}

// A field that the handler takes away stays away after a refresh.
func TestRefreshKeepsAHeaderAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour))
			w.Header().Del("X-Frame-Options")
			io.WriteString(w, "x")
		})
		h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Frame-Options", "DENY")
			c.ServeHTTP(w, r)
		})
		get(h, "/")
		equal(t, "hit", get(h, "/").Header.Get("X-Frame-Options"), "")
		time.Sleep(2 * time.Minute)
		get(h, "/")
		synctest.Wait()
		equal(t, "after refresh", get(h, "/").Header.Get("X-Frame-Options"), "")
	})
}

// What was purged while the handler confirmed it does not stand in for the second
// run when that fails.
func TestPurgedEntryStandsInForNothing(t *testing.T) {
	v, c, clk := newValidating(t)
	v.header = map[string]string{"Surrogate-Key": "a", "Cache-Control": "max-age=60, stale-if-error=600"}
	get(c, "/")
	clk.add(61 * time.Second)
	v.during = func(*http.Request) {
		if len(v.asked) == 2 {
			c.InvalidateTag(context.Background(), "a")
		}
	}
	v.reply = func(w http.ResponseWriter) bool {
		if len(v.asked) == 3 {
			w.WriteHeader(503)
			return true
		}
		return false
	}
	res := get(c, "/")
	if res.StatusCode == 200 {
		t.Error("purged entry served")
	}
}

// A page that says nothing of itself is not confirmed to a request with a cookie,
// by a handler that compares dates alone.
func TestUndeclaredPageIsNotConfirmedToACookie(t *testing.T) {
	const lm = "Mon, 01 Jan 2024 00:00:00 GMT"
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Last-Modified", lm)
		if r.Header.Get("If-Modified-Since") == lm {
			w.WriteHeader(304)
			return
		}
		fmt.Fprintf(w, "hello %q", r.Header.Get("Cookie"))
	}, accel.WithPolicy(accel.RFC9111))
	get(c, "/")
	res := get(c, "/", "Cookie", "alice")
	equal(t, "body", body(t, res), `hello "alice"`)
}

// A POST that gave up being stored is not stored, and holds no position.
func TestForgonePostIsNotStored(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Location", "/")
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "x")
	}, accel.WithPolicy(accel.RFC9111))
	for range 2 {
		expect(t, do(c, httptest.NewRequest("POST", "/", strings.NewReader("a"))), "fwd=method")
		equal(t, "in flight", c.Stats().Store.InFlight, 0)
	}
}

// A 304 that answers our condition is not for a client that set none.
func TestForgoneConfirmationIsNoAnswer(t *testing.T) {
	v, c, clk := newValidating(t)
	get(c, "/")
	clk.add(61 * time.Second)
	inner := v.reply
	_ = inner
	c2 := c
	v.reply = func(w http.ResponseWriter) bool {
		_ = http.NewResponseController(w).EnableFullDuplex()
		return false
	}
	res := get(c2, "/")
	equal(t, "status", res.StatusCode, 200)
}

// CacheFor does nothing in a POST.
func TestCacheForInPost(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Location", "/")
		w.Header().Set("Cache-Control", "no-cache, max-age=0")
		fmt.Fprintf(w, "%s %s", r.Method, r.Header.Get("Cookie"))
	}, accel.WithPolicy(accel.RFC9111))
	r := httptest.NewRequest("POST", "/", nil)
	r.Header.Set("Cookie", "alice")
	do(c, r)
	equal(t, "entries", c.Stats().Store.Entries, 0)
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
}

// A cache around another reads what the inner one was told.
func TestNestedCachesReadTheSameControl(t *testing.T) {
	for _, sc := range []string{"no-store", "max-age=10"} {
		clk := newClock()
		inner := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Surrogate-Control", sc)
			w.Header().Set("Cache-Control", "public, max-age=3600")
			io.WriteString(w, "x")
		}, accel.WithPolicy(accel.RFC9111), accel.WithClock(clk.now))
		outer := newCache(t, inner.ServeHTTP, accel.WithPolicy(accel.RFC9111), accel.WithClock(clk.now))
		get(outer, "/")
		clk.add(20 * time.Second)
		res := get(outer, "/")
		if strings.Contains(strings.Join(res.Header["Cache-Status"], ","), "hit") {
			t.Errorf("%s: %v", sc, res.Header)
		}
	}
}

// A client cannot have a page stored in a coding that the others do not take.
func TestCodingForFewIsNotStored(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Content-Type", "text/plain")
		if strings.Contains(r.Header.Get("Accept-Encoding"), "br") {
			w.Header().Set("Content-Encoding", "br")
		}
		io.WriteString(w, "x")
	}, accel.WithPolicy(accel.RFC9111))
	expect(t, get(c, "/", "If-Match", "*", "Accept-Encoding", "br"), "fwd=uri-miss; stored")
	res := get(c, "/", "Accept-Encoding", "gzip")
	expect(t, res, "hit")
	equal(t, "Content-Encoding", res.Header.Get("Content-Encoding"), "")
}

// A HEAD that was answered in another coding says nothing of a fresh entry.
func TestHEADDropsNothingFresh(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		w.Header().Set("Vary", "Accept-Encoding")
		w.Header().Set("Etag", `"id"`)
		if r.Method == "GET" {
			w.Header().Set("Etag", `"br"`)
			w.Header().Set("Content-Encoding", "br")
		}
		io.WriteString(w, "x")
	}, accel.WithPolicy(accel.RFC9111))
	get(c, "/", "Accept-Encoding", "br")
	expect(t, get(c, "/", "Accept-Encoding", "br"), "hit")
	r := newRequest("/")
	r.Method = "HEAD"
	expect(t, get(c, "/", "Accept-Encoding", "br"), "hit")
}

// With the default port a host is the same origin.
func TestDefaultPortIsNone(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=60")
		io.WriteString(w, "x")
	}, accel.WithPolicy(accel.RFC9111))
	get(c, "http://example.com/p")
	do(c, httptest.NewRequest("POST", "http://example.com:80/p", nil))
	expect(t, get(c, "http://example.com/p"), "fwd=uri-miss; stored")
}

// What was flushed is sent when the response outgrows what is held.
func TestFlushBeforeTapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		flushed := false
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			io.WriteString(w, "12345678")
			w.(http.Flusher).Flush()
			io.WriteString(w, "12345678")
			time.Sleep(time.Minute)
			flushed = rec.Flushed
		}, accel.WithPolicy(accel.RFC9111), accel.WithHoldLimit(10))
		c.ServeHTTP(rec, newRequest("/"))
		equal(t, "flushed", flushed, true)
	})
}

func TestFlushOfTheHeaderAlone(t *testing.T) {
	// GET with header flushed, then a little text, hold limit negative
	synctest.Test(t, func(t *testing.T) {
		rec := httptest.NewRecorder()
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.(http.Flusher).Flush()
			io.WriteString(w, "x")
			time.Sleep(time.Minute)
			equal(t, "flushed", rec.Flushed, true)
		}, accel.WithPolicy(accel.RFC9111), accel.WithHoldLimit(-1))
		c.ServeHTTP(rec, newRequest("/"))
	})
}

// A digest is of the bytes as they are sent.
func TestContentDigestIsOfWhatIsSent(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Digest", "sha-256=:of-identity:")
		w.Header().Set("Cache-Control", "public, max-age=60")
		io.WriteString(w, text)
	})
	res := get(c, "/", "Accept-Encoding", "gzip")
	if res.Header.Get("Content-Encoding") == "gzip" && res.Header.Get("Content-Digest") != "" {
		t.Error("digest of another content")
	}
}

// An entry from the future is no better for a request with a Cache-Control.
func TestClockSetBackAndADemand(t *testing.T) {
	_, c, clk := newValidating(t, accel.WithRequestDirectives())
	get(c, "/")
	clk.add(-time.Hour)
	res := get(c, "/", "Cache-Control", "no-transform")
	res2 := get(c, "/x")
	_ = res2
	if strings.HasPrefix(status(res), "hit") {
		t.Error("hit on an entry of the future")
	}
}

// Fields that must not be stored are for the client that asked.
func TestNoCacheFieldOfA304(t *testing.T) {
	v, c, clk := newValidating(t)
	v.header = map[string]string{"Cache-Control": `max-age=60, no-cache="X-Token"`, "X-Token": "t"}
	equal(t, "first", get(c, "/").Header.Get("X-Token"), "t")
	clk.add(61 * time.Second)
	res := get(c, "/")
	expect(t, res, "fwd=stale; fwd-status=304; stored")
	equal(t, "renewed", res.Header.Get("X-Token"), "t")
}

// If-Match with a tag of ours is understood by the handler, on a miss as well.
func TestIfMatchWithOurTagOnMiss(t *testing.T) {
	v, c, clk := newValidating(t)
	tag := get(c, "/", "Accept-Encoding", "gzip").Header.Get("Etag")
	equal(t, "fresh", get(c, "/", "Accept-Encoding", "gzip", "If-Match", tag).StatusCode, 200)
	clk.add(61 * time.Second)
	equal(t, "stale", get(c, "/", "Accept-Encoding", "gzip", "If-Match", tag).StatusCode, 200)
	if s := fmt.Sprint(v.asked[len(v.asked)-1]["If-Match"]); !strings.Contains(s, `"v1"`) {
		t.Error(s)
	}
}

// What a 304 names in Connection is not merged, but it is judged.
func TestConnectionHidesNothing(t *testing.T) {
	v, c, clk := newValidating(t)
	get(c, "/")
	clk.add(61 * time.Second)
	v.confirm = map[string]string{"Connection": "Cache-Control", "Cache-Control": "no-store"}
	res := get(c, "/")
	expect(t, res, "fwd=stale; fwd-status=304; detail=no-store")
}

// A handler that adds to a field of middleware around the cache would have the
// middleware's value stored for everybody: a nonce, or a session.
func TestAddingToAnOuterFieldIsNotStored(t *testing.T) {
	for name, want := range map[string]string{
		"Content-Security-Policy": "fwd=uri-miss; detail=mixed-header",
		"Vary":                    "fwd=uri-miss; stored",
	} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Add(name, "X-Handler")
			_, _ = io.WriteString(w, "x")
		})
		res := get(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set(name, "X-Middleware")
			c.ServeHTTP(w, r)
		}), "/")
		expect(t, res, want)
		equal(t, name, strings.Join(res.Header[name], " "), "X-Middleware X-Handler")
	}
}

// Many who ask at once for a page that is validated each time ask the handler
// once each: nobody waits in vain, and nobody is sent the whole who has it.
func TestCrowdOnWhatIsValidatedEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var whole, confirmed atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			w.Header().Set("Cache-Control", "no-cache")
			w.Header().Set("Etag", `"v1"`)
			if r.Header.Get("If-None-Match") == `"v1"` {
				confirmed.Add(1)
				w.WriteHeader(http.StatusNotModified)
				return
			}
			whole.Add(1)
			_, _ = io.WriteString(w, "page")
		}, accel.WithPolicy(accel.RFC9111))
		get(c, "/")
		start := time.Now()
		for _, res := range crowd(c, 50, plain) {
			equal(t, "body", body(t, res), "page")
		}
		equal(t, "time", time.Since(start), time.Second)
		equal(t, "whole", whole.Load(), 1)
		equal(t, "confirmed", confirmed.Load(), 50)
	})
}

// An error says nothing of the page that comes after it.
func TestErrorIsNotRememberedForThePage(t *testing.T) {
	var calls atomic.Int64
	clk := newClock()
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Set("Etag", `"v1"`)
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		_, _ = io.WriteString(w, "page")
	}, accel.WithPolicy(accel.RFC9111), accel.WithClock(clk.now))
	get(c, "/", "If-None-Match", `"v1"`)
	clk.add(20 * time.Second)
	expect(t, get(c, "/", "If-None-Match", `"v1"`), "fwd=uri-miss; stored")
}
