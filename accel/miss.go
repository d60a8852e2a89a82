package accel

import (
	"net/http"
	"time"

	"github.com/accelhttp/accelerator/internal/point"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A miss is a request that goes to the handler through us: the store could not
// answer it, or by RFC9111 its method is not safe.
type miss struct {
	cache *Cache
	w     http.ResponseWriter
	r     *http.Request
	q     *question
	next  http.Handler
	outer *exchange

	found finding
	why   string // of Cache-Status
	whole bool   // the handler is asked for the whole, whatever part of it the client wants
	never string // why the response is not to be stored, whatever it is

	cacheable   bool // the key is known to be
	uncacheable bool // the key is known not to be
}

// served says how a miss ended.
type served uint8

const (
	servedMiss      served = iota // by its own run of the handler
	servedHit                     // by an entry stored meanwhile
	servedCollapsed               // by the response to another request
	notServed                     // it is to be passed on as it is
)

// rememberFor is how long a key is remembered as uncacheable. While it is, its
// requests do not wait for each other, which would serialize them for nothing.
const rememberFor = 10 * time.Second

// maxJoins is how often a request waits for others. A flight that was in the air
// may have been invalidated, crashed, or brought another variant; the one after
// it begins later than the request came. Who still has nothing then runs the
// handler alone.
const maxJoins = 2

// classify takes a finding that was no hit.
func (m *miss) classify(found finding, now time.Time) {
	m.found, m.never = found, storable
	e, q := found.entry, m.q
	note, judged := m.cache.cacheable.recall(q.flightKey(), now)
	m.cacheable, m.uncacheable = judged && note == worthAsking, judged && note == notWorthAsking
	// A handler that speaks HTTP caching is asked for the whole until that proved
	// to be nothing to store, or if it may be for one user.
	m.whole = m.cacheable || !judged && m.cache.opts.policy != OptIn && !q.authorized && m.r.Header["Cookie"] == nil
	switch {
	case e == nil && !found.notes.has(varied):
		m.why = fwdURIMiss
	case e == nil:
		m.why = fwdVaryMiss
		m.cacheable = m.cacheable || !q.authorized
		m.whole = m.whole || m.cacheable
	case q.authorized && !e.Public:
		m.why = fwdRequest
		m.found.entry = nil // it is nothing to replace, nor to fall back on
	case found.fitness >= stale:
		// A coding that this client does not take and we cannot decode. What the
		// handler answers to it would take the place of what the others read.
		m.why, m.never, m.whole = fwdRequest, reasonNotAcceptable, false
	default:
		m.why, m.whole, m.cacheable = fwdStale, true, true
		if found.notes.has(refused) {
			m.why = fwdRequest
		}
	}
	if q.guarded {
		// If the handler is to fail the request, it must see what it asks for;
		// nobody else would, if the response proves not to be for storing.
		m.whole, m.cacheable = false, false
	}
	if m.r.Method == http.MethodHead {
		// It has no body to store, and its conditions are the handler's matter.
		m.never, m.whole = reasonMethod, false
	}
}

// passes reports whether the request is to be passed on as it is: a Range on a key
// we know nothing of. Nothing that the handler answers to it would be stored.
func (m *miss) passes() bool { return m.q.ranged && !m.cacheable }

// validators returns what the handler is asked to confirm of the entry that was
// found (RFC 9111, section 4.3.1). It is empty if there is none to be confirmed.
func (m *miss) validators() rfc9111.Validators {
	e := m.found.entry
	if e == nil || m.cache.opts.policy == OptIn || m.never != storable || m.q.guarded {
		return rfc9111.Validators{}
	}
	if m.r.Header["Cookie"] != nil && !e.lasts() && !e.Public {
		return rfc9111.Validators{} // a handler that looks at no cookie might confirm what is not for this one
	}
	return e.validators()
}

// putStatus writes Cache-Status, behind what the handler wrote there, for an answer
// that is not made from an entry.
func (m *miss) putStatus(h http.Header, why, detail string) {
	if why == fwdMethod && detail == reasonMethod {
		detail = "" // it would say it twice
	}
	m.cache.opts.visibility.put(h, h["Cache-Status"], forward{why: why, detail: detail}.member(), m.q.url())
}

// unattended reports whether this is a refresh in the background, which no client
// waits for.
func (m *miss) unattended() bool {
	_, ok := m.w.(discard)
	return ok
}

// notCached answers a request with only-if-cached that cannot be answered from
// the store (RFC 9111, section 5.2.1.7).
func (m *miss) notCached() {
	m.putStatus(m.w.Header(), "", reasonOnlyIfCached)
	http.Error(m.w, http.StatusText(http.StatusGatewayTimeout), http.StatusGatewayTimeout)
}

// serve answers the request by another's response, or by running the handler.
func (m *miss) serve(now time.Time) served {
	c, q := m.cache, m.q
	if m.never != storable {
		m.lead(newSolo(m.r.Context(), q.flightKey()))
		return servedMiss
	}

	var (
		arrival  Position // what the response must not be older than
		since    Position // zero: any flight will do
		patience *time.Timer
		alone    = c.opts.patience() < 0
	)
	for joins, looks, blind := 0, 0, false; ; {
		landings := c.flights.landings(&q.key)
		// The position first, then the look-up: an invalidation between them
		// strikes what the look-up finds. And a flight that has landed since
		// the last look-up is seen.
		at := c.store.Begin()
		point.At(point.Begun)
		found := c.lookup(m.r, q, now, false)
		point.At(point.NothingFound)
		if point.Off(point.PositionBeforeLookUp) {
			c.store.End(at)
			at = c.store.Begin()
		}
		a := answer{visibility: c.opts.visibility}
		if found.answer(&a, m.r, q, now) {
			c.store.End(at) // before anything is written: a slow client must hold no position
			c.hit(m.w, m.r, q, m.next, m.outer, found, &a)
			return servedHit
		}
		if (at == Position{}) {
			// The store knows of nothing that others invalidate, so that nobody may
			// share. But it may have come up while we looked.
			if !blind {
				blind = true
				continue
			}
			alone = true
		}
		m.classify(found, now)
		if m.passes() {
			c.store.End(at)
			return notServed // what was there a moment ago is gone
		}
		key := q.flightKey()
		if m.never != storable || alone || joins == maxJoins || m.waitsInVain(key, now) {
			f := newSolo(m.r.Context(), key)
			f.hold(c.store, at)
			m.lead(f)
			return servedMiss
		}
		if looks++; looks > 1 {
			landings = c.flights.landings(&q.key) // others' flights must not keep us looking
		}
		f, leads := c.flights.join(m.r.Context(), key, c.store, at, since, landings)
		if leads {
			m.lead(f)
			return servedMiss
		}
		c.store.End(at)
		if f == nil {
			continue
		}
		if joins++; joins == 1 {
			if arrival = at; point.Off(point.FollowerArrival) {
				arrival = f.at
			}
			patience = time.NewTimer(c.opts.patience())
			defer patience.Stop()
		}
		if f.at != at && !c.store.Valid(f.at, q.urlMarks()) {
			// Its URL was invalidated, so what it brings is not for us.
			f.unwait(nil)
			f.drop()
			since = arrival
			continue
		}
		if m.follow(f, patience.C, arrival) {
			return servedCollapsed
		}
		if m.r.Context().Err() != nil {
			m.abandon()
			return servedMiss
		}
		select {
		case <-f.over:
			alone = f.outcome == private || f.outcome == failed
		default: // patience ended
			alone = true
		}
		since = arrival
		now = c.opts.now()
	}
}

// follow waits for a flight and answers with what it brought, if that suits.
func (m *miss) follow(f *flight, patience <-chan time.Time, arrival Position) bool {
	landed := f.await(m.r.Context(), patience)
	suits := landed && f.suits(m.r, m.q, arrival)
	f.drop() // before anything is written, as above
	now := m.cache.opts.now()
	switch {
	case suits:
		return m.answer(&answer{
			entry: f.entry, staleFrom: f.entry.FreshUntil, now: now,
			forward: &forward{why: m.why, collapsed: true},
		})
	case landed && f.outcome == failed && m.standsIn(now):
		return m.answerStale(f.response.Status, true, now)
	case !landed && m.r.Context().Err() == nil && m.standsIn(now):
		// Patience ended. A handler that takes so long is as good as one that
		// fails, and one more run of it would hardly be faster.
		return m.answerStale(0, true, now)
	}
	return false
}

// answer answers with an entry that was not found by a look-up.
func (m *miss) answer(a *answer) bool {
	if !a.choose(m.r, &m.q.glance) {
		return false
	}
	if m.outer != nil {
		m.outer.adopt(a.entry, a.staleFrom, a.now)
		a.nested = m.outer.stores()
	}
	a.visibility = m.cache.opts.visibility
	a.write(m.w, m.r, &m.q.glance)
	return true
}

// waitsInVain reports whether what another request's handler makes is most likely
// not for this one: the client wants it validated, it must be validated before each
// use, or it was not for storing the last time.
func (m *miss) waitsInVain(key flightKey, now time.Time) bool {
	if m.found.notes.has(refused) || m.found.entry != nil && !m.found.entry.lasts() {
		return true
	}
	_, lately := m.cache.uncacheable.recall(key, now)
	return lately || m.uncacheable
}

// standsIn reports whether the entry that was found may answer for a handler
// that fails (RFC 5861, section 4).
func (m *miss) standsIn(now time.Time) bool {
	e := m.found.entry
	return e != nil && !e.MustRevalidate && !e.ahead(now) && !m.found.notes.has(refused) && m.never == storable &&
		now.Before(m.found.staleFrom.Add(e.StaleIfError))
}

// answerStale answers with the entry that was found in place of a handler that
// failed, with this status or, if it is zero, by a panic.
func (m *miss) answerStale(status int, collapsed bool, now time.Time) bool {
	return m.answer(&answer{
		entry: m.found.entry, staleFrom: m.found.staleFrom, now: now,
		forward: &forward{why: m.why, status: status, collapsed: collapsed, detail: "stale-if-error"},
	})
}

// abandon answers a request whose context has ended while it waited. Its client
// is most likely gone. Running the handler for it would be work for nobody, and
// a crowd that comes and goes would make a lot of it.
func (m *miss) abandon() {
	m.putStatus(m.w.Header(), m.why, reasonCancelled)
	http.Error(m.w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
}
