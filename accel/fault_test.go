package accel_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// The faults of this library's predecessor. Each test fails on what it did.

func TestFault_LookupBeforeMethodCheck(t *testing.T) {
	h, _ := page(func(r *http.Request) string { return r.Method })
	c := newCache(t, h)
	get(c, "/")
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PURGE", "get"} {
		r := newRequest("/")
		r.Method = method
		equal(t, "body", body(t, do(c, r)), method)
	}
	equal(t, "body", body(t, get(c, "/")), "GET")
}

func TestFault_KeyConcatenation(t *testing.T) {
	h, _ := page(func(r *http.Request) string { return r.Host + r.URL.Path + "|" + r.URL.RawQuery })
	c := newCache(t, h)
	for range 2 {
		for _, target := range []string{"/a?b=1", "/ab?=1", "/ab=1", "http://other.example/a?b=1"} {
			r := newRequest(target)
			equal(t, "body", body(t, do(c, r)), r.Host+r.URL.Path+"|"+r.URL.RawQuery)
		}
	}
}

func TestFault_ETagMissingOnHits(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	first := get(c, "/").Header.Get("Etag")
	if first == "" {
		t.Error("no ETag on a miss")
	}
	equal(t, "ETag of a hit", get(c, "/").Header.Get("Etag"), first)
}

func TestFault_ETagUnquoted(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	for range 2 {
		if tag := get(c, "/").Header.Get("Etag"); len(tag) < 3 || tag[0] != '"' || tag[len(tag)-1] != '"' {
			t.Errorf("ETag: %s", tag)
		}
	}
}

func TestFault_ETagComparedWithRequestHeaderETag(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	etag := get(c, "/").Header.Get("Etag")
	equal(t, "status for ETag", get(c, "/", "ETag", etag).StatusCode, 200)
	equal(t, "status for If-None-Match", get(c, "/", "If-None-Match", `"a", `+etag).StatusCode, 304)
}

func TestFault_304WithoutETagAndVary(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Cache-Control", "max-age=7")
		w.Header().Set("Content-Location", "/x")
		w.Header().Set("Expires", "Mon, 02 Jan 2034 15:04:05 GMT")
		_, _ = io.WriteString(w, text)
	})
	etag := get(c, "/").Header.Get("Etag")
	res := get(c, "/", "If-None-Match", etag)
	equal(t, "status", res.StatusCode, 304)
	for name, want := range map[string]string{
		"Etag": etag, "Vary": "Accept-Encoding", "Cache-Control": "max-age=7",
		"Content-Location": "/x", "Expires": "Mon, 02 Jan 2034 15:04:05 GMT",
	} {
		equal(t, name, res.Header.Get(name), want)
	}
}

func TestFault_NoVary(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Vary", "Accept-Language")
		_, _ = io.WriteString(w, r.Header.Get("Accept-Language"))
	})
	for range 2 {
		for _, l := range []string{"de", "en"} {
			equal(t, "body", body(t, get(c, "/", "Accept-Language", l)), l)
		}
	}
}

func TestFault_NoCacheControl(t *testing.T) {
	for _, cc := range []string{"private", "no-store", "max-age=60, NO-STORE", "Private"} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Set("Cache-Control", cc)
		})
		get(c, "/")
		equal(t, "stored for "+cc, c.Stats().Stored, 0)
	}
}

func TestFault_SetCookieCaseSensitive(t *testing.T) {
	for _, name := range []string{"Set-Cookie", "set-cookie", "SET-COOKIE"} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header()[name] = []string{"a=b"}
			_, _ = io.WriteString(w, "x")
		})
		expect(t, get(c, "/"), "fwd=uri-miss; detail=set-cookie")
		equal(t, "stored for "+name, c.Stats().Stored, 0)
	}
}

func TestFault_OldTagLinksLeftBehind(t *testing.T) {
	tags := []string{"old"}
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), tags...)
		_, _ = io.WriteString(w, "x")
	})
	get(c, "/")
	if err := c.InvalidateTag(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	tags = []string{"new"}
	get(c, "/")
	if err := c.InvalidateTag(t.Context(), "old"); err != nil {
		t.Fatal(err)
	}
	expect(t, get(c, "/"), "hit")
	if err := c.InvalidateTag(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
}

func TestFault_ExpiredEntriesNeverRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute)
			_, _ = io.WriteString(w, "x")
		})
		for i := range 100 {
			get(c, fmt.Sprint("/", i))
		}
		time.Sleep(time.Hour)
		if n := c.Stats().Store.Entries; n != 0 {
			t.Errorf("%d entries an hour after their end", n)
		}
	})
}

func TestFault_NoBound(t *testing.T) {
	const bound = 1 << 20
	noise := strings.Repeat("x", 10<<10)
	c := newCacheOver(t, memstore.New(memstore.WithMaxSize(bound)), func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/jpeg") // does not shrink
		_, _ = io.WriteString(w, noise)
	})
	for i := range 1000 {
		get(c, fmt.Sprint("/?x=", i))
	}
	if n := c.Stats().Store.Bytes; n > bound {
		t.Errorf("%d bytes in a store of %d", n, bound)
	}
}

func TestFault_RenderedBeforeInvalidationStoredAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v versioned
		c := newCache(t, v.ServeHTTP)
		var wg sync.WaitGroup
		wg.Go(func() { get(c, "/") })
		synctest.Wait()
		v.commit(t, c)
		wg.Wait()
		equal(t, "body", body(t, get(c, "/")), "version 1")
	})
}

func TestFault_NoCoalescing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, calls := page(func(*http.Request) string { time.Sleep(time.Second); return brief })
		c := newCache(t, h)
		crowd(c, 1000, plain)
		equal(t, "handler calls", calls.Load(), 1)
	})
}

func TestFault_WholeResponseBuffered(t *testing.T) {
	read := make(chan struct{})
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "first\n")
		w.(http.Flusher).Flush()
		<-read
		_, _ = io.WriteString(w, "second\n")
	})
	s := newServer(t, c)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	line, _ := in.ReadString('\n')
	equal(t, "line", line, "first\n")
	close(read)
	line, _ = in.ReadString('\n')
	equal(t, "line", line, "second\n")
}

// Run with -race.
func TestFault_NotSafeForConcurrentUse(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() { accel.Tag(r.Context(), fmt.Sprint("t", i), r.URL.Path) })
		}
		wg.Wait()
		_, _ = io.WriteString(w, text)
	})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				target := fmt.Sprint("/", j%7)
				equal(t, "body", body(t, get(c, target)), text)
				switch (i + j) % 10 {
				case 0:
					if err := c.InvalidateTag(t.Context(), target); err != nil {
						t.Error(err)
					}
				case 1:
					_ = c.Stats()
				case 2:
					if err := c.ExpireTag(t.Context(), "t1"); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestFault_GzipWithoutAsking(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	for range 2 {
		for _, accept := range [][]string{{}, {"Accept-Encoding", ""}, {"Accept-Encoding", "identity"}, {"Accept-Encoding", "gzip;q=0, zstd;q=0"}} {
			res := get(c, "/", accept...)
			equal(t, "Content-Encoding", res.Header.Get("Content-Encoding"), "")
			equal(t, "body", body(t, res), text)
		}
	}
}
