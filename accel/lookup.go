package accel

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A fitness says what an entry is good for at a moment.
type fitness uint8

const (
	spent    fitness = iota // for nothing as it is; the handler may confirm it
	fallback                // to stand in for a handler that fails
	stale                   // to be served while it is refreshed
	fresh                   // to be served
)

// A finding is what a look-up brought. It has no more than four fields, which is
// as many as the compiler keeps in registers.
type finding struct {
	entry     *Entry // nil if there is none
	staleFrom time.Time
	fitness   fitness // of entry
	notes     notes
}

// notes are what else there is to say about a finding.
type notes uint8

const (
	varied notes = 1 << iota // the resource has entries, selected by Vary

	// What the request itself says; see WithRequestDirectives.
	refused   // it asks for better than entry
	tolerated // it takes entry past the time that anybody else would
)

func (n notes) has(x notes) bool { return n&x != 0 }

// lookup asks the store a question. q's variant is afterwards the one selected
// by the Vary names that the store knows, if any. Whatever goes wrong in a store
// is a miss. What is found is judged as of now, or if that is zero, of the moment of
// the look-up; q.now tells which. With lend it may be lent; see loan.
func (c *Cache) lookup(r *http.Request, q *question, now time.Time, lend bool) finding {
	if q.selected { // by an earlier look-up
		q.vary(r.Header, nil)
	}
	lend = lend && c.lends != nil
	if lend {
		q.loan.header, q.loan.picked = r.Header, -1
	}
	var (
		found Found
		err   error
		n     notes
	)
	// Once, or twice. In a loop, because a function that returns Found would copy it: it is
	// eleven words, and every hit comes by.
	for names := []string(nil); ; {
		if lend {
			found, err = c.lends.Lend(r.Context(), q.key, names, q.loan.choose)
		} else {
			found, err = c.store.Get(r.Context(), q.key, names)
		}
		if n != 0 || found.Vary == nil {
			break
		}
		n = varied
		if !errors.Is(err, ErrNotFound) {
			break
		}
		// The resource has variants: ask for ours.
		names = found.Vary
		q.vary(r.Header, names)
	}
	q.loan.release = found.Release
	if now.IsZero() {
		if now = found.Now; now.IsZero() || c.opts.clock != nil {
			now = c.opts.now()
		}
	}
	q.now = now
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			c.storeFailed("get", err)
		}
		return finding{notes: n}
	}
	e := found.Entry
	if !q.answeredBy(e) {
		c.counters.mismatches.Add(1)
		return finding{notes: n}
	}
	if !q.known {
		digestsOf.put(q.resource, q.key.Resource, q.key.Target)
	}
	f := finding{entry: e, staleFrom: e.FreshUntil, notes: n}
	if since := found.StaleSince; !since.IsZero() {
		if since.After(now) {
			since = now // the clock was set back; it was expired all the same
		}
		if since.Before(f.staleFrom) {
			// Both windows count from there, hence end before the entry's own.
			f.staleFrom = since
		}
	}
	f.fitness = e.fitness(f.staleFrom, now)
	if q.demanding && c.opts.demands {
		return f.heed(rfc9111.DemandOf(r.Header), now)
	}
	return f
}

// heed applies what a request says in Cache-Control (RFC 9111, section 5.2.1).
func (f finding) heed(d rfc9111.Demand, now time.Time) finding {
	age, left := f.entry.age(now), f.staleFrom.Sub(now)
	switch {
	case f.fitness < stale:
		if left <= 0 && d.Allows(age, left, !f.entry.MustRevalidate) { // max-stale
			f.fitness, f.notes = stale, f.notes|tolerated
		}
	case d.Allows(age, left, !f.entry.MustRevalidate):
	case !d.Allows(age, max(left, 1), true):
		f.fitness, f.notes = spent, f.notes|refused
	}
	return f
}

// age returns how old the response is (RFC 9111, section 4.2.3).
func (e *Entry) age(now time.Time) time.Duration {
	return rfc9111.CurrentAge(e.InitialAge, e.Date, now) // Date may lie ahead
}

// answer makes a, which is zero, the answer that what was found gives to r, and
// reports whether there is one. An entry past its time gives one, too, if its
// window allows it.
func (f *finding) answer(a *answer, r *http.Request, q *question, now time.Time) bool {
	if f.fitness < stale || q.authorized && !f.entry.Public {
		return false
	}
	a.entry, a.staleFrom, a.now = f.entry, f.staleFrom, now
	return a.choose(r, &q.glance)
}

// clockSkew is by how much a clock may be set back before what was stored until
// then is taken for nothing. Clocks are corrected by less all the time.
const clockSkew = 5 * time.Second

// ahead reports whether the entry was made in the future: the clock was set back,
// and until when the entry is good, nobody knows.
func (e *Entry) ahead(now time.Time) bool { return now.Unix() < e.answers().begins }

// fitness is RFC 9111, section 4.2, and RFC 5861 for an entry that is fresh
// until staleFrom.
func (e *Entry) fitness(staleFrom, now time.Time) fitness {
	switch {
	case e.ahead(now):
		return spent
	case now.Before(staleFrom):
		return fresh
	case e.MustRevalidate:
		return spent
	case now.Before(staleFrom.Add(e.StaleWhileRevalidate)):
		return stale
	case now.Before(staleFrom.Add(e.StaleIfError)):
		return fallback
	}
	return spent
}

// storeFailed counts an error of the store, and logs the first of its kind.
func (c *Cache) storeFailed(doing string, err error) {
	c.counters.storeErrors.Add(1)
	if errors.Is(err, ErrClosed) && c.closed.Load() {
		return // a request that was on its way when we closed it
	}
	kind := "other"
	for _, k := range []error{ErrUnavailable, ErrClosed, ErrBusy, ErrTooLarge, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, k) {
			kind = k.Error()
			break
		}
	}
	if _, logged := c.logged.LoadOrStore(doing+": "+kind, struct{}{}); !logged {
		c.opts.log().Warn("accel: the store failed; the site is served without it", "doing", doing, "error", err)
	}
}
