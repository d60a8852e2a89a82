package accel

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/internal/point"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A Cache is an [http.Handler] that answers what it has stored and asks the
// handler it was made with for the rest. Make one with [New]; the zero Cache is
// of no use, but the methods of a nil one, ServeHTTP aside, do nothing (see
// [FromContext]). A Cache is safe for concurrent use. Whoever made it closes it.
type Cache struct {
	next  http.Handler
	store Store
	lends Lender // store, if it lends
	opts  options

	flights     flights
	uncacheable recollection // keys whose response was not for others, lately
	cacheable   recollection // keys whose response was or was not, for longer; see worthAsking
	untaken     recollection // keys whose response the store did not take
	backOff     recollection // keys whose refresh failed, with the number of times
	refreshes   refreshes
	behind      background  // what is stored behind answers
	storeWorks  atomic.Bool // as far as the last response that it was given has told

	counters counters
	kept     atomic.Int64 // bytes of responses that are sent and kept; see maxKept
	logged   sync.Map     // kinds of store errors that were logged
	passing  exchange     // of requests that are passed on, with no cache around us

	closed    atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// New returns a Cache that keeps the responses of next in store. A nil next means
// [http.DefaultServeMux]; a nil store panics. The Cache owns the store from now
// on and closes it.
func New(next http.Handler, store Store, opts ...Option) *Cache {
	if store == nil {
		panic("accel: New: nil store")
	}
	c := &Cache{next: next, store: store}
	c.lends, _ = store.(Lender)
	for _, o := range opts {
		o(&c.opts)
	}
	c.passing = exchange{cache: c, passing: true}
	c.refreshes.init()
	c.behind.init(runtime.GOMAXPROCS(0)) // what they do is the processors' work
	return c
}

// Wrap returns a handler that serves next through the cache, for routers that
// take middleware: r.Use(cache.Wrap). All share the one cache, so what they wrap
// must not answer one URL in different ways. A nil next means
// [http.DefaultServeMux]. On a nil Cache it returns next.
func (c *Cache) Wrap(next http.Handler) http.Handler {
	if c == nil {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.serve(w, r, next)
	})
}

// ServeHTTP answers r out of the store or by the handler of [New].
func (c *Cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.serve(w, r, c.next)
}

// Close ends what goes on in the background and waits for it, for ten seconds at most,
// then closes the store, which writes what it has queued. Requests that come later,
// and those on their way, are served uncached. A second Close does nothing and
// returns what the first did. On a nil Cache it returns nil.
func (c *Cache) Close() error {
	if c == nil {
		return nil
	}
	c.closeOnce.Do(func() {
		c.closed.Store(true)
		c.refreshes.shut()
		c.behind.shut()
		ctx, cancel := context.WithTimeout(context.Background(), closeWait)
		defer cancel()
		c.refreshes.wait(ctx)
		c.behind.wait(ctx)
		c.closeErr = c.store.Close()
	})
	return c.closeErr
}

// serve is the way of a request.
func (c *Cache) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if next == nil {
		next = http.DefaultServeMux
	}
	outer := exchangeOf(r.Context())
	if outer.isWithin(c) {
		// New(mux) with a Wrap inside: the request would wait for itself.
		next.ServeHTTP(w, r)
		return
	}

	// May this request meet the cache at all?
	if c.closed.Load() {
		c.pass(w, r, next, outer)
		return
	}
	q := c.opts.ask(r)
	if q == nil {
		if c.opts.policy == OptIn || rfc9111.IsSafe(r.Method) || !c.serveUnsafe(w, r, next, outer) {
			c.pass(w, r, next, outer)
		}
		return
	}
	defer q.release()
	count := c.counters.at(q)

	// A hit?
	point.At(point.LookUp)
	var a answer
	found, hit := c.find(&a, r, q, outer)
	if !hit && c.flights.settle(r.Context(), &q.key, c.opts.patience()) {
		found, hit = c.find(&a, r, q, outer)
	}
	if hit {
		c.hit(w, r, q, next, outer, found, &a)
		count.hits.Add(1)
		return
	}
	now := q.now

	// A miss.
	m := miss{cache: c, w: w, r: r, q: q, next: next, outer: outer}
	m.classify(found, now)
	if c.opts.demands && q.demanding && rfc9111.DemandOf(r.Header).OnlyIfCached {
		count.misses.Add(1)
		m.notCached()
		return
	}
	if m.passes() {
		count.passes.Add(1)
		c.passOn(w, r, next, outer)
		return
	}
	switch m.serve(now) {
	case notServed:
		count.passes.Add(1)
		c.passOn(w, r, next, outer)
	case servedHit:
		count.hits.Add(1)
	case servedCollapsed:
		count.collapsed.Add(1)
	default:
		count.misses.Add(1)
	}
}

// find looks for an entry that answers r, and makes a that answer. It reports whether
// there is one.
func (c *Cache) find(a *answer, r *http.Request, q *question, outer *exchange) (found finding, hit bool) {
	found = c.lookup(r, q, time.Time{}, outer == nil && !q.authorized)
	*a = answer{visibility: c.opts.visibility}
	hit = found.answer(a, r, q, q.now)
	if q.loan.lent() && !(hit && found.fitness == fresh && q.loan.suffices(a)) {
		// It would be kept, or sent to others, or lacks what is to be sent.
		found = c.lookup(r, q, time.Time{}, false)
		*a = answer{visibility: c.opts.visibility}
		hit = found.answer(a, r, q, q.now)
	}
	return found, hit
}

// pass leaves the request to the handler as it is: with its own writer, so that
// Flush, Hijack, trailers and full duplex work as without us, and unstored. Only
// FromContext works in it.
func (c *Cache) pass(w http.ResponseWriter, r *http.Request, next http.Handler, outer *exchange) {
	c.counters.striped[0].passes.Add(1)
	c.passOn(w, r, next, outer)
}

func (c *Cache) passOn(w http.ResponseWriter, r *http.Request, next http.Handler, outer *exchange) {
	x := &c.passing
	if outer != nil {
		x = &exchange{cache: c, outer: outer, passing: true}
	}
	shareTrailer(r)
	r2 := r.WithContext(x.in(r.Context()))
	r2.Header = undoETags(r.Header)
	defer copyBack(r, r2)
	next.ServeHTTP(w, r2)
}

// hit answers r with what was found. What is stale is refreshed behind the answer.
func (c *Cache) hit(w http.ResponseWriter, r *http.Request, q *question, next http.Handler, outer *exchange, found finding, a *answer) {
	if outer != nil {
		outer.adopt(a.entry, a.staleFrom, a.now)
		a.nested = outer.stores()
	}
	if found.fitness == stale {
		c.counters.at(q).stale.Add(1)
		if !found.notes.has(tolerated) {
			c.refresh(w.Header(), r, next, found, a.now)
		}
	}
	a.write(w, r, &q.glance)
	if q.loan.lent() && a.finished(w, r) {
		q.loan.giveBack()
	}
}
