package accel

import (
	"context"
	"net/http"
	"time"

	"github.com/accelhttp/accelerator/internal/point"
)

// refreshes are the background refreshes of stale entries. Each has a goroutine,
// whose owner is the cache: Close cancels them and waits for a while.
type refreshes struct {
	ctx    context.Context // of all of them
	cancel context.CancelFunc

	background
}

const (
	// maxRefreshes is how many run at once. Beyond it stale entries are served
	// without being refreshed, by the next request again.
	maxRefreshes = 16

	// refreshTimeout ends the context of a refresh that nobody waits for.
	refreshTimeout = time.Minute

	// A refresh that failed is not tried again for a second, then two, then
	// four ..., at most a minute.
	firstBackOff, lastBackOff = time.Second, time.Minute
)

func (s *refreshes) init() {
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.background.init(maxRefreshes)
}

func (s *refreshes) shut() {
	s.background.shut()
	s.cancel()
}

// refresh renders what was found stale anew, in the background, unless somebody
// is at it, it has failed lately, or too many are at it.
//
// before is what middleware around us has put into the header of the answer: to
// the handler, and to what is judged and stored, a refresh is a request as that
// one was.
func (c *Cache) refresh(before http.Header, r *http.Request, next http.Handler, found finding, now time.Time) {
	_, authorized := r.Header["Authorization"]
	key := flightKey{found.entry.Key, authorized}
	if _, backingOff := c.backOff.recall(key, now); backingOff || r.Method != http.MethodGet || !c.refreshes.begin() {
		return
	}
	at := c.store.Begin()
	point.At(point.RefreshBegins)
	f := c.flights.leadOnly(r.Context(), key, c.store, at)
	if f == nil {
		c.store.End(at)
		c.refreshes.end()
		return
	}
	// The request ends before its refresh does: what the refresh needs of it is
	// copied here.
	w := discard(before.Clone())
	if w == nil {
		w = make(discard)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), refreshTimeout)
	r = r.Clone(ctx)
	r.Body, r.ContentLength = http.NoBody, 0
	go func() {
		defer c.refreshes.end()
		defer cancel()
		defer context.AfterFunc(c.refreshes.ctx, cancel)()
		if c.runRefresh(w, r, next, f) {
			return
		}
		now := c.opts.now()
		failures, _ := c.backOff.recall(key, now)
		wait := min(firstBackOff<<min(failures, 10), lastBackOff)
		c.backOff.remember(key, min(failures, 254)+1, now.Add(wait))
	}()
}

// runRefresh reports whether the handler did not fail.
func (c *Cache) runRefresh(w discard, r *http.Request, next http.Handler, f *flight) (answered bool) {
	defer f.end(&c.flights)
	defer c.survive("refreshing in the background", r.URL.String)
	q := c.opts.ask(r)
	if q == nil {
		return true // it was asked for a moment ago, so this does not happen
	}
	defer q.release()
	now := c.opts.now()
	found := c.lookup(r, q, now, false)
	if found.entry == nil || found.fitness == fresh {
		return true // somebody was faster
	}
	c.counters.refreshes.Add(1)
	m := &miss{
		cache: c, w: w, r: r, q: q, next: next,
		found: found, why: fwdStale, whole: true,
	}
	m.lead(f)
	return f.outcome != crashed && f.outcome != failed && f.response.Status < 500
}

// discard is the writer of a refresh: there is no client. It has Flush because
// nearly every writer has, and handlers trust in it.
type discard http.Header

func (d discard) Header() http.Header         { return http.Header(d) }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
func (d discard) Flush()                      {}
