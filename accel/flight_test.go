package accel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// crowd sends n requests made by f at once and returns their answers, when all
// are there. It is for bubbles of synctest.
func crowd(h http.Handler, n int, f func(i int) *http.Request) []*http.Response {
	out := make([]*http.Response, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { out[i] = do(h, f(i)) })
	}
	wg.Wait()
	return out
}

// brief is a body that is not compressed: the pools of the compressor must not
// get what was made in a bubble.
const brief = "Hello, everybody"

func plain(int) *http.Request { return newRequest("/") }

func TestCrowdRunsOneHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			time.Sleep(time.Second)
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.WriteString(w, brief)
		})
		statuses := map[string]int{}
		for _, res := range crowd(c, 100, plain) {
			equal(t, "body", body(t, res), brief)
			statuses[status(res)]++
		}
		equal(t, "handler calls", calls.Load(), 1)
		equal(t, "leaders", statuses["fwd=uri-miss; stored"], 1)
		equal(t, "followers", statuses["fwd=uri-miss; collapsed"], 99)
		equal(t, "collapsed", c.Stats().Collapsed, 99)
	})
}

// An uncacheable response lets everybody go at once, as soon as its header is
// written, and its key is remembered for a while: nobody waits for the next.
func TestUncacheableIsNeverSerialised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "private")
			w.WriteHeader(http.StatusOK)
			time.Sleep(time.Second)
			fmt.Fprint(w, "for ", r.Header.Get("Cookie"))
		})
		for range 2 {
			start := time.Now()
			for i, res := range crowd(c, 50, func(i int) *http.Request {
				return newRequest("/", "Cookie", fmt.Sprint("u=", i))
			}) {
				equal(t, "body", body(t, res), fmt.Sprint("for u=", i))
				expect(t, res, "fwd=uri-miss; detail=private")
			}
			equal(t, "time", time.Since(start), time.Second)
		}
	})
}

// RFC 9111, section 4.1: a follower gets the variant that its own headers
// select, and requests for one variant wait for each other.
func TestFollowersVary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			time.Sleep(100 * time.Millisecond)
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Set("Vary", "Accept-Language")
			_, _ = io.WriteString(w, r.Header.Get("Accept-Language"))
		})
		language := func(i int) string { return []string{"de", "en", "fr"}[i%3] }
		for i, res := range crowd(c, 60, func(i int) *http.Request {
			return newRequest("/", "Accept-Language", language(i))
		}) {
			equal(t, "body", body(t, res), language(i))
		}
		equal(t, "handler calls", calls.Load(), 3)
	})
}

// When everybody has left, the handler's work is for nobody: it is cancelled,
// and what it returns then, cut short perhaps, is not stored.
func TestEverybodyLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.WriteString(w, "the first half")
			<-r.Context().Done()
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		crowd(c, 10, func(int) *http.Request { return newRequest("/").WithContext(ctx) })
		stats := c.Stats()
		equal(t, "stored", stats.Stored, 0)
		equal(t, "cancelled", stats.NotStored["cancelled"], 1)
	})
}

func TestWaitNegative(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, calls := page(func(*http.Request) string { time.Sleep(time.Second); return "x" })
		c := newCache(t, h, accel.WithWait(-1))
		crowd(c, 5, plain)
		equal(t, "handler calls", calls.Load(), 5)
	})
}

// A crash does not take the others' answer away.
func TestCrashOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			if calls.Add(1) == 1 {
				panic(http.ErrAbortHandler)
			}
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.WriteString(w, brief)
		})
		var wg sync.WaitGroup
		var served atomic.Int64
		for range 20 {
			wg.Go(func() {
				defer func() { _ = recover() }()
				if body(t, do(c, newRequest("/"))) == brief {
					served.Add(1)
				}
			})
		}
		wg.Wait()
		equal(t, "served", served.Load(), 19)
		equal(t, "handler calls", calls.Load(), 2)
	})
}

// Once a response is being streamed, new arrivals run their own.
func TestNobodyWaitsForStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		big := strings.Repeat(brief, 10000)
		h := func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Set("Content-Type", "application/octet-stream")
			_, _ = io.WriteString(w, big)
			time.Sleep(time.Minute)
		}
		c := newCache(t, h)
		go do(c, newRequest("/"))
		synctest.Wait()
		start := time.Now()
		equal(t, "body", body(t, do(c, newRequest("/"))), big)
		equal(t, "time", time.Since(start), time.Minute)
		synctest.Wait()
	})
}

// A request whose context ends while it waits has an answer: what others wait
// for, too, if that comes in time. No handler runs for it.
func TestFollowerLeaves(t *testing.T) {
	for wait, want := range map[time.Duration]int{5 * time.Second: 200, time.Second / 2: 503} {
		synctest.Test(t, func(t *testing.T) {
			h, calls := page(func(*http.Request) string { time.Sleep(time.Second); return "x" })
			c := newCache(t, h, accel.WithWait(wait))
			go do(c, newRequest("/"))
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			res := do(c, newRequest("/").WithContext(ctx))
			equal(t, "status", res.StatusCode, want)
			time.Sleep(2 * time.Second)
			equal(t, "handler calls", calls.Load(), 1)
		})
	}
}

// versioned is a site with one datum: requests read it at the start of the
// handler and answer a second later.
type versioned struct {
	version atomic.Int64
	calls   atomic.Int64
}

func (v *versioned) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.calls.Add(1)
	accel.CacheFor(r.Context(), time.Hour)
	accel.Tag(r.Context(), "datum")
	n := v.version.Load()
	time.Sleep(time.Second)
	fmt.Fprintf(w, "version %d", n)
}

// commit changes the datum and invalidates its tag, in this order.
func (v *versioned) commit(t *testing.T, c *accel.Cache) {
	v.version.Add(1)
	if err := c.InvalidateTag(t.Context(), "datum"); err != nil {
		t.Error(err)
	}
}

// Security D1, interleaving 1: R C I S.
func TestPromise_LateStoreIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v versioned
		c := newCache(t, v.ServeHTTP)
		var first *http.Response
		var wg sync.WaitGroup
		wg.Go(func() { first = get(c, "/") })
		synctest.Wait()
		v.commit(t, c)
		wg.Wait()
		expect(t, first, "fwd=uri-miss; detail=invalidated")
		equal(t, "body", body(t, first), "version 0") // it came before the change
		equal(t, "body", body(t, get(c, "/")), "version 1")
		expect(t, get(c, "/"), "hit")
	})
}

// Security D1, interleaving 6: R C I, and a follower arrives after I.
func TestPromise_FollowerAfterInvalidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v versioned
		c := newCache(t, v.ServeHTTP)
		var before, after *http.Response
		var wg sync.WaitGroup
		wg.Go(func() { get(c, "/") })
		synctest.Wait()
		wg.Go(func() { before = get(c, "/") })
		synctest.Wait()
		v.commit(t, c)
		wg.Go(func() { after = get(c, "/") })
		wg.Wait()
		// No invalidation lay between the flight's start and this one's arrival.
		equal(t, "came before", body(t, before), "version 0")
		equal(t, "came after", body(t, after), "version 1")
		equal(t, "handler calls", v.calls.Load(), 2)
	})
}

// Security D1, interleaving 7: a second invalidation, after the follower came,
// must not hide the first, which was before.
func TestPromise_SecondInvalidationHidesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v versioned
		c := newCache(t, v.ServeHTTP)
		var after *http.Response
		var wg sync.WaitGroup
		wg.Go(func() { get(c, "/") })
		synctest.Wait()
		v.commit(t, c)
		wg.Go(func() { after = get(c, "/") })
		synctest.Wait()
		v.commit(t, c)
		wg.Wait()
		if got := body(t, after); got == "version 0" {
			t.Errorf("body: %s, though version 1 was committed before the request", got)
		}
	})
}

// An invalidation of something else does not keep followers from the answer: they
// find it stored.
func TestPromise_OtherTagsDoNotMatter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v versioned
		c := newCache(t, v.ServeHTTP)
		var wg sync.WaitGroup
		wg.Go(func() { get(c, "/") })
		synctest.Wait()
		if err := c.InvalidateTag(t.Context(), "other"); err != nil {
			t.Error(err)
		}
		wg.Go(func() { expect(t, get(c, "/"), "hit") })
		wg.Wait()
		equal(t, "handler calls", v.calls.Load(), 1)
	})
}

// A follower that came after an expiry is not given as fresh what a handler made
// that had begun before it.
func TestExpireTag_StrikesWhatIsBeingMade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var v versioned
		c := newCache(t, v.ServeHTTP)
		var wg sync.WaitGroup
		wg.Go(func() { get(c, "/") })
		synctest.Wait()
		v.version.Add(1)
		if err := c.ExpireTag(t.Context(), "datum"); err != nil {
			t.Error(err)
		}
		wg.Go(func() { equal(t, "body", body(t, get(c, "/")), "version 1") })
		wg.Wait()
		equal(t, "handler calls", v.calls.Load(), 2)
	})
}

// Security D1, interleaving 12: a background refresh is a fill like any other.
func TestPromise_RefreshOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var version atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Second, accel.StaleWhileRevalidate(time.Hour))
			accel.Tag(r.Context(), "datum")
			n := version.Load()
			time.Sleep(time.Second)
			fmt.Fprintf(w, "version %d", n)
		})
		get(c, "/")
		time.Sleep(time.Minute)
		equal(t, "stale", body(t, get(c, "/")), "version 0")
		synctest.Wait() // the refresh has read version 0
		version.Add(1)
		if err := c.InvalidateTag(t.Context(), "datum"); err != nil {
			t.Error(err)
		}
		equal(t, "body", body(t, get(c, "/")), "version 1")
		time.Sleep(time.Minute)
		equal(t, "body", body(t, get(c, "/")), "version 1")
		time.Sleep(time.Minute)
	})
}

// lateStore holds up the second look-up of the follower, after it has missed.
type lateStore struct {
	accel.Store
	armed  atomic.Bool
	n      atomic.Int64
	looked chan struct{}
	goOn   chan struct{}
}

func (s *lateStore) Get(ctx context.Context, key accel.Key, vary []string) (accel.Found, error) {
	found, err := s.Store.Get(ctx, key, vary)
	if s.armed.Load() && s.n.Add(1) == 2 {
		close(s.looked)
		<-s.goOn
	}
	return found, err
}

// A request that has missed, and comes to join a flight when that has just landed,
// looks again before it runs the handler.
func TestLatecomerFindsWhatHasJustLanded(t *testing.T) {
	s := &lateStore{Store: memstore.New(), looked: make(chan struct{}), goOn: make(chan struct{})}
	began, finish := make(chan struct{}, 2), make(chan struct{})
	var runs atomic.Int64
	c := newCacheOver(t, s, func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		began <- struct{}{}
		<-finish
		w.Header().Set("Cache-Control", "public, max-age=60")
		_, _ = w.Write([]byte("page"))
	})
	led, followed := make(chan struct{}), make(chan struct{})
	go func() { get(c, "/"); close(led) }()
	<-began
	s.armed.Store(true)
	go func() { get(c, "/"); close(followed) }()
	<-s.looked    // the follower has missed, and has not joined yet
	close(finish) // the leader stores, lands and is gone
	<-led
	close(s.goOn)
	<-followed
	equal(t, "runs of the handler", runs.Load(), 1)
}

// A flight whose URL was invalidated brings nothing for who comes after that, so
// nobody waits for it.
func TestNobodyJoinsADoomedFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, calls := page(func(*http.Request) string { time.Sleep(time.Minute); return "x" })
		c := newCache(t, h, accel.WithWait(time.Hour))
		go do(c, newRequest("/"))
		synctest.Wait()
		if err := c.InvalidateURL(t.Context(), "/"); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		go do(c, newRequest("/"))
		synctest.Wait()
		equal(t, "handlers begun", calls.Load(), 2)
		equal(t, "time", time.Since(start), 0)
		expect(t, get(c, "/"), "fwd=uri-miss; collapsed")
		synctest.Wait()
	})
}
