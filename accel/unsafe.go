package accel

import (
	"context"
	"net/http"
	"time"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// invalidationWait bounds the wait for an invalidation by an unsafe method to be
// durable. It takes a millisecond; while a store opens its file it may take long.
const invalidationWait = time.Second

// serveUnsafe serves a request whose method is not known to be safe, by policy
// RFC9111: if it succeeds, what is stored for its URL may have changed (RFC 9111,
// section 4.4). The handler writes into a capture that passes everything on; what
// it sees of the request is what the client sent. It returns false for what has
// no URL that a response could be stored for.
func (c *Cache) serveUnsafe(w http.ResponseWriter, r *http.Request, next http.Handler, outer *exchange) bool {
	if r.Host == "" || r.URL == nil {
		return false
	}
	var g glance
	g.lookAtHeader(r)
	plain := !g.odd
	g.conditional, g.ranged = false, false
	q := c.opts.question(r, &g)
	if q == nil {
		return false
	}
	defer q.release()
	c.counters.at(q).passes.Add(1)
	m := &miss{cache: c, w: w, r: r, q: q, next: next, outer: outer, why: fwdMethod, never: reasonMethod}
	f := newSolo(r.Context(), q.flightKey())
	if r.Method == http.MethodPost && plain {
		f.hold(c.store, c.store.Begin())
	}
	m.lead(f)
	return true
}

// change does what the response to an unsafe method does to what is stored. It
// is done before the client sees the response, so that what it asks for next is
// made anew. It returns false if the store failed at it.
func (fl *fill) change(status int, h http.Header) bool {
	q := fl.q
	host := originHost(q.scheme, q.host)
	var marks []Mark
	if rfc9111.Invalidates(fl.r.Method, status) {
		marks = append(marks, URLMark(q.scheme, host, q.target))
		for _, name := range []string{"Location", "Content-Location"} {
			if v := h[name]; len(v) == 1 {
				if target, ok := rfc9111.SameOrigin(q.scheme, host, q.target, v[0]); ok {
					marks = append(marks, URLMark(q.scheme, host, target))
				}
			}
		}
	}
	groups, _ := rfc9111.CacheGroups(h["Cache-Group-Invalidation"]) // a field that cannot be read says nothing
	for _, g := range groups {
		if tag := groupTag(q.scheme, host, g); validTag(tag) {
			marks = append(marks, TagMark(tag))
		}
	}
	if len(marks) == 0 {
		return true
	}
	// Who leaves does not take the change back.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(fl.r.Context()), invalidationWait)
	defer cancel()
	if err := fl.cache.store.Invalidate(ctx, marks...); err != nil {
		fl.cache.storeFailed("invalidate", err)
		return false
	}
	return true
}

// judgeUnsafe is judge for the response to an unsafe method. It stores one kind:
// that of a POST which says that it is what a GET of the same URL would bring,
// and for how long (RFC 9110, section 9.3.3).
func (fl *fill) judgeUnsafe(h http.Header) (reason string) {
	f := fl.flight
	changed := fl.change(fl.response.Status, h)
	if !changed || fl.refused || f.store == nil || fl.response.Status != http.StatusOK || len(h["Content-Location"]) != 1 {
		return reasonMethod
	}
	target, ok := rfc9111.SameOrigin(fl.q.scheme, fl.q.host, fl.q.target, h["Content-Location"][0])
	if !ok || target != fl.q.target {
		return reasonMethod
	}
	req := rfc9111.Request{Method: fl.r.Method, Header: fl.r.Header}
	if rfc9111.StorablePost(req, fl.response, fl.permission) != rfc9111.ReasonStorable {
		return reasonMethod
	}
	// The invalidation that it has just caused must not strike itself; any other
	// since its handler began must. If there was none, the next number is ours.
	at := f.store.Begin()
	if at.Epoch != f.at.Epoch || at.N != f.at.N+1 {
		f.store.End(at)
		return reasonMethod
	}
	f.store.End(f.at)
	f.at = at
	return storable
}
