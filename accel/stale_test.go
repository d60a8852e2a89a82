package accel_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// moody is a site whose handler answers with its count, or with a status, or
// panics, as it is told.
type moody struct {
	calls  atomic.Int64
	status atomic.Int64
	panics atomic.Bool
	delay  time.Duration
	opts   []accel.Freshness
	veto   atomic.Bool
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := m.calls.Add(1)
	time.Sleep(m.delay)
	if m.panics.Load() {
		panic("boo")
	}
	if s := m.status.Load(); s != 0 {
		http.Error(w, "moody", int(s))
		return
	}
	if m.veto.Load() {
		accel.NoStore(r.Context())
	}
	accel.CacheFor(r.Context(), time.Minute, m.opts...)
	accel.Tag(r.Context(), "mood")
	fmt.Fprint(w, n)
}

// RFC 5861, section 3.
func TestStaleWhileRevalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{delay: time.Second, opts: []accel.Freshness{accel.StaleWhileRevalidate(time.Minute)}}
		c := newCache(t, m.ServeHTTP)
		get(c, "/")
		time.Sleep(61 * time.Second)
		start := time.Now()
		for _, res := range crowd(c, 20, plain) {
			equal(t, "status", res.Header.Get("Cache-Status"), "Accelerator; hit; ttl=-1")
			equal(t, "body", body(t, res), "1")
		}
		equal(t, "time", time.Since(start), 0)
		time.Sleep(2 * time.Second)
		equal(t, "body", body(t, get(c, "/")), "2")
		equal(t, "handler calls", m.calls.Load(), 2)
		equal(t, "refreshes", c.Stats().Refreshes, 1)
		equal(t, "stale hits", c.Stats().StaleHits, 20)

		// The window ends: the next request waits for its own answer.
		time.Sleep(2*time.Minute + time.Second)
		equal(t, "body", body(t, get(c, "/")), "3")
	})
}

// A refresh is a request of its own: what the client wanted besides the page is
// not asked of the handler, and its leaving harms nothing.
func TestRefreshIsDetached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 2 {
				time.Sleep(time.Second)
				if r.Context().Err() != nil {
					t.Error("the context of the refresh has ended")
				}
				if len(r.Header["If-None-Match"])+len(r.Header["Range"]) != 0 {
					t.Errorf("header of the refresh: %v", r.Header)
				}
			}
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Minute))
			_, _ = io.WriteString(w, brief)
		})
		etag := get(c, "/").Header.Get("Etag")
		time.Sleep(61 * time.Second)
		equal(t, "status", get(c, "/", "If-None-Match", etag).StatusCode, 304)
		time.Sleep(2 * time.Second)
		expect(t, get(c, "/"), "hit")
		equal(t, "handler calls", calls.Load(), 2)
	})
}

// Design, section 4, rule 5: a failed refresh backs off, and the entry stays.
func TestRefreshBacksOff(t *testing.T) {
	for name, fail := range map[string]func(*moody){
		"500":   func(m *moody) { m.status.Store(500) },
		"panic": func(m *moody) { m.panics.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{opts: []accel.Freshness{accel.StaleWhileRevalidate(time.Hour)}}
				c := newCache(t, m.ServeHTTP)
				get(c, "/")
				fail(m)
				time.Sleep(61 * time.Second)
				for range 600 {
					equal(t, "body", body(t, get(c, "/")), "1")
					synctest.Wait()
					time.Sleep(time.Second)
				}
				// 1, 2, 4, 8, 16, 32, 60, 60 ... seconds apart
				if n := m.calls.Load() - 1; n < 10 || n > 18 {
					t.Errorf("%d refreshes in ten minutes", n)
				}
			})
		})
	}
}

// Design, section 4, rule 5: a refresh that may not be stored deletes the old
// entry: it is not what the handler answers any more.
func TestRefreshNotStorableDeletes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{opts: []accel.Freshness{accel.StaleWhileRevalidate(time.Hour)}}
		c := newCache(t, m.ServeHTTP)
		get(c, "/")
		m.veto.Store(true)
		time.Sleep(61 * time.Second)
		equal(t, "body", body(t, get(c, "/")), "1")
		synctest.Wait()
		res := get(c, "/")
		equal(t, "body", body(t, res), "3")
		expect(t, res, "fwd=uri-miss; detail=vetoed")
	})
}

// Close cancels a refresh and waits for it.
func TestCloseEndsRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, ended atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 2 {
				<-r.Context().Done()
				time.Sleep(time.Second)
				ended.Add(1)
			}
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour))
			_, _ = io.WriteString(w, brief)
		})
		get(c, "/")
		time.Sleep(61 * time.Second)
		get(c, "/")
		synctest.Wait()
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		equal(t, "refreshes ended", ended.Load(), 1)
		res := get(c, "/")
		equal(t, "Cache-Status after Close", res.Header.Get("Cache-Status"), "")
		equal(t, "body", body(t, res), brief)
	})
}

// Sixteen refreshes at once, and no more.
func TestRefreshesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{opts: []accel.Freshness{accel.StaleWhileRevalidate(time.Hour)}}
		c := newCache(t, m.ServeHTTP)
		for i := range 40 {
			get(c, fmt.Sprint("/", i))
		}
		time.Sleep(61 * time.Second)
		m.delay = time.Second
		for i := range 40 {
			expect(t, get(c, fmt.Sprint("/", i)), "hit")
		}
		synctest.Wait()
		equal(t, "handler calls", m.calls.Load(), 40+16)
		time.Sleep(2 * time.Second)
	})
}

// RFC 5861, section 4; RFC 9111, section 4.2.4.
func TestStaleIfError(t *testing.T) {
	for name, fail := range map[string]func(*moody){
		"500":   func(m *moody) { m.status.Store(500) },
		"502":   func(m *moody) { m.status.Store(502) },
		"503":   func(m *moody) { m.status.Store(503) },
		"504":   func(m *moody) { m.status.Store(504) },
		"panic": func(m *moody) { m.panics.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{delay: time.Second, opts: []accel.Freshness{accel.StaleIfError(time.Hour)}}
				c := newCache(t, m.ServeHTTP)
				get(c, "/")
				time.Sleep(61 * time.Second)
				fail(m)
				want := "fwd=stale; fwd-status=" + name + "; detail=stale-if-error"
				if name == "panic" {
					want = "fwd=stale; detail=stale-if-error"
				}
				res := get(c, "/")
				expect(t, res, want)
				equal(t, "status", res.StatusCode, 200)
				equal(t, "body", body(t, res), "1")
				equal(t, "Content-Type", res.Header.Get("Content-Type"), "text/plain; charset=utf-8")
				equal(t, "X-Content-Type-Options", res.Header.Get("X-Content-Type-Options"), "")

				// A crowd asks a failing handler once.
				calls := m.calls.Load()
				for _, res := range crowd(c, 20, plain) {
					equal(t, "body", body(t, res), "1")
				}
				equal(t, "handler calls", m.calls.Load()-calls, 1)

				// Other statuses are the handler's answer.
				m.panics.Store(false)
				m.status.Store(404)
				equal(t, "status", get(c, "/").StatusCode, 404)
			})
		})
	}
}

func TestStaleIfErrorEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{opts: []accel.Freshness{accel.StaleIfError(time.Hour)}}
		c := newCache(t, m.ServeHTTP)
		get(c, "/")
		time.Sleep(61*time.Minute + time.Second)
		m.status.Store(500)
		equal(t, "status", get(c, "/").StatusCode, 500)
	})
}

// What has been sent cannot be taken back.
func TestStaleIfErrorTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, accel.StaleIfError(time.Hour))
			_, _ = io.WriteString(w, brief)
			if calls.Add(1) > 1 {
				w.(http.Flusher).Flush()
				panic("boo")
			}
		})
		get(c, "/")
		time.Sleep(61 * time.Second)
		w := httptest.NewRecorder()
		defer func() {
			equal(t, "recovered", recover(), "boo")
			equal(t, "body", w.Body.String(), brief)
		}()
		c.ServeHTTP(w, newRequest("/"))
	})
}

// Design, section 4, rule 5: stale-while-revalidate counts from the expiry, and
// never beyond the entry's own window.
func TestExpireTag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{delay: time.Second, opts: []accel.Freshness{accel.StaleWhileRevalidate(10 * time.Second)}}
		c := newCache(t, m.ServeHTTP)
		get(c, "/")
		if err := c.ExpireTag(t.Context(), "mood"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		res := get(c, "/")
		equal(t, "body", body(t, res), "1")
		equal(t, "status", res.Header.Get("Cache-Status"), "Accelerator; hit; ttl=-5")
		time.Sleep(2 * time.Second)
		res = get(c, "/")
		equal(t, "body", body(t, res), "2")
		if err := c.ExpireTag(t.Context(), "mood"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(11 * time.Second) // past the window, though fresh by its own time
		equal(t, "body", body(t, get(c, "/")), "3")
	})
}

// Of several calls the earliest moment counts (of each kind).
func TestCacheForSeveralTimes(t *testing.T) {
	k := newClock()
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour, accel.StaleIfError(time.Hour))
		accel.CacheFor(r.Context(), time.Minute, accel.StaleIfError(2*time.Hour))
		_, _ = io.WriteString(w, "x")
		accel.CacheFor(r.Context(), time.Second) // too late
	}, accel.WithClock(k.now))
	get(c, "/")
	equal(t, "status", get(c, "/").Header.Get("Cache-Status"), "Accelerator; hit; ttl=60")
}

func TestCacheForNothing(t *testing.T) {
	for _, ttl := range []time.Duration{0, -time.Hour} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), ttl)
			_, _ = io.WriteString(w, "x")
		})
		expect(t, get(c, "/"), "fwd=uri-miss; detail=already-stale")
	}
}

func TestCacheForVeryLong(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), 1<<63-1, accel.StaleWhileRevalidate(1<<63-1))
		_, _ = io.WriteString(w, "x")
	})
	get(c, "/")
	expect(t, get(c, "/"), "hit")
}

// A handler that hangs is as good as one that fails, to those who wait for
// somebody else's request to it.
func TestStaleIfErrorForFollowersOfASlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{opts: []accel.Freshness{accel.StaleIfError(time.Hour)}}
		c := newCache(t, m.ServeHTTP, accel.WithWait(2*time.Second))
		get(c, "/")
		time.Sleep(61 * time.Second)
		m.delay = time.Minute
		start := time.Now()
		leader := make(chan *http.Response)
		go func() { leader <- get(c, "/") }()
		synctest.Wait()
		for _, res := range crowd(c, 20, plain) {
			expect(t, res, "fwd=stale; collapsed; detail=stale-if-error")
			equal(t, "body", body(t, res), "1")
		}
		equal(t, "time", time.Since(start), 2*time.Second)
		equal(t, "the leader's body", body(t, <-leader), "2")
		equal(t, "handler calls", m.calls.Load(), 2)
	})
}
