package accel

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/point"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A fill is one run of a handler whose response may be stored, by the leader of
// a flight or by a request alone.
type fill struct {
	*miss
	flight   *flight
	exchange *exchange
	capture  capture
	before   http.Header // what middleware around us had put into the header

	asks rfc9111.Validators // what the handler is asked to confirm; empty if nothing

	requested  time.Time // when the handler was called
	received   time.Time // when the header was written
	life       lifespan
	response   rfc9111.Response
	permission rfc9111.Permission
	refused    bool
	unstored   http.Header // of a 304: what is for this client and not for storing
	restricted bool        // the handler may choose only codings that we can decode
	confirmed  bool        // a 304 answered asks
	vain       bool        // but what it confirmed is of no use: ask for the whole
}

// lead runs the handler for the request, on its goroutine, and sees to it that
// those who follow learn what came of it, however it ends.
func (m *miss) lead(f *flight) {
	defer func() {
		if !f.handed {
			f.end(&m.cache.flights)
		}
	}()
	if f.ctx.Done() != m.r.Context().Done() {
		// A flight's handler outlives its client if others wait.
		defer context.AfterFunc(m.r.Context(), func() { f.unwait(context.Cause(m.r.Context())) })()
	}
	var before http.Header
	if h := m.w.Header(); len(h) != 0 {
		before = h.Clone()
	}
	if fl := m.run(f, before, m.validators()); fl.vain {
		fl.reset()
		m.run(f, before, rfc9111.Validators{})
	}
}

// run runs the handler once.
func (m *miss) run(f *flight, before http.Header, asks rfc9111.Validators) (fl *fill) {
	c := m.cache
	fl = &fill{
		miss:     m,
		flight:   f,
		exchange: &exchange{cache: c, outer: m.outer},
		before:   before,
		asks:     asks,

		requested: c.opts.now(),
	}
	buf := bodies.Get().(*[]byte)
	limit, hold := c.opts.bodyLimit(), c.opts.held()
	if m.unattended() {
		hold = limit // no client is waiting to see the beginning
	}
	fl.capture = capture{under: m.w, fill: fl, body: *buf, limit: limit, hold: min(hold, limit)}
	if c.opts.policy != OptIn {
		if fl.capture.own = before.Clone(); before == nil {
			fl.capture.own = make(http.Header)
		}
	}

	shareTrailer(m.r)
	r := m.r.WithContext(fl.exchange.in(f.ctx))
	r.Header = fl.requestHeader()

	returned := false
	defer func() {
		fl.capture.mu.Lock()
		defer fl.capture.mu.Unlock()
		fl.capture.drop()
	}()
	defer func() {
		copyBack(m.r, r)
		if !returned {
			// Recovering is a liberty that the handler allowed: it asked for a
			// stale response in place of a failure. Otherwise a panic goes on
			// unseen by us, with its value and its stack.
			if fl.canStandIn() {
				if v := recover(); v != nil {
					fl.panicked(v)
					returned = true
				}
			}
			if !returned {
				fl.crash()
			}
		}
	}()
	point.At(point.HandlerBegins)
	m.next.ServeHTTP(fl.capture.writer(), r)
	point.At(point.HandlerDone)
	returned = true
	fl.finish()
	return fl
}

// canStandIn reports whether the stale entry may still be sent in place of what
// the handler has not finished.
func (fl *fill) canStandIn() bool {
	switch fl.capture.finish() {
	case open, holding, dropping:
		return fl.standsIn(fl.cache.opts.now())
	}
	return false
}

// crash ends a fill whose handler panics or ends its goroutine.
//
// What was held is written before it goes on. That is what the client would have
// got without us: net/http drops it if it is small enough to lie in its buffers,
// sends it if it is larger, and breaks the connection in either case; and
// middleware that recovers finds a response begun, as it would have been, and
// not a header map that looks unsent and has the handler's Content-Length.
func (fl *fill) crash() {
	fl.exchange.finish()
	fl.capture.finish()
	fl.refuse(reasonCrashed)
	c := &fl.capture
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.state {
	case open:
		c.publish() // for whoever recovers
	case holding:
		c.pass(reasonCrashed)
	}
}

// panicked ends a fill whose handler panicked where a stale entry may answer.
func (fl *fill) panicked(v any) {
	if v != http.ErrAbortHandler {
		fl.cache.opts.log().Error("accel: handler panicked; a stale response is served",
			"url", fl.q.url(), "panic", v, "stack", string(debug.Stack()))
	}
	fl.exchange.finish()
	fl.response = rfc9111.Response{} // whatever it had begun
	fl.standIn(0)
}

// finish ends a fill whose handler has returned.
func (fl *fill) finish() {
	wishes := fl.exchange.finish()
	switch fl.capture.finish() {
	case open:
		// Not even a header. It may have returned because something failed, so
		// this is nothing to store; and the header is left to whoever comes
		// next, because middleware around us may want to write another.
		fl.refuse(reasonEmpty)
		if fl.why == fwdMethod {
			fl.change(http.StatusOK, fl.capture.Header())
		}
		fl.capture.publish()
		fl.putStatus(fl.w.Header(), fl.why, fl.reasonOr(reasonEmpty))
		return
	case dropping:
		if fl.confirmed {
			fl.renew(wishes)
		} else {
			fl.standIn(fl.capture.status)
		}
		return
	case holding, tapping:
		fl.store(wishes)
	}
	fl.publishTrailers()
}

// publishTrailers hands on what a handler put into the header after it was
// written: trailers, if it has announced them.
func (fl *fill) publishTrailers() {
	c := &fl.capture
	if c.state != passing && c.state != tapping {
		return
	}
	h := c.under.Header()
	for name, values := range c.own {
		if !slices.Equal(c.header[name], values) {
			h[name] = values
		}
	}
	fl.strip(h)
}

// standIn answers with the stale entry.
func (fl *fill) standIn(status int) {
	fl.cache.counters.staleIfError.Add(1)
	fl.refuse(reasonFailed)
	fl.reset()
	fl.capture.drop()
	if !fl.answerStale(status, false, fl.cache.opts.now()) {
		// Its coding is none that this client takes, but that was known before
		// the handler ran; only a damaged body comes here.
		http.Error(fl.w, http.StatusText(http.StatusBadGateway), http.StatusBadGateway)
	}
}

// reset makes the header map what it was before the handler.
func (fl *fill) reset() {
	h := fl.w.Header()
	clear(h)
	for name, values := range fl.before {
		h[name] = values
	}
}

// store stores a response that has been kept whole, and answers with it.
func (fl *fill) store(wishes wishes) {
	c := &fl.capture
	if reason := fl.completed(wishes); reason != storable {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pass(reason)
		return
	}
	held := c.state == holding
	e, ct := fl.build(wishes)
	if held && fl.storeBehind(e, ct) {
		return
	}
	e.Bodies = ct.bodies()
	e.dropDigests()
	reason := fl.put(e, nil)
	if reason == storable {
		fl.cache.counters.stored.Add(1)
	} else {
		fl.note(reason)
	}
	if held {
		fl.share(e)
	}
	c.drop()
	if held {
		fl.flight.leave() // a slow client must hold no position
		fl.firstAnswer(e, reason).write(fl.w, fl.r, &fl.q.glance)
	}
}

// storeBehind answers the first client in the one coding that it takes; the others are
// made, and all are stored, while it reads. It returns false, and has done nothing, if
// that is not to be, and the client waits:
//
//   - nothing is to be encoded, or not for this client;
//   - something older is stored, which others would get after this answer, or the entry
//     will stand elsewhere than where the request was looked up: nobody could wait;
//   - the answer might say that it was stored where that is not so;
//   - there are enough at it already, which keeps a busy site from falling behind.
func (fl *fill) storeBehind(e *Entry, ct content) bool {
	c, f := fl.cache, fl.flight
	if ct.codings == nil || fl.unattended() || fl.why != fwdURIMiss && fl.why != fwdVaryMiss || e.Key != f.key.Key ||
		!c.storeWorks.Load() || !c.store.Valid(e.At, e.Marks) {
		return false
	}
	if _, inVain := c.untaken.recall(f.key, fl.received); inVain || !c.behind.begin() {
		return false
	}
	begun := false
	defer func() {
		if !begun {
			c.behind.end()
		}
	}()
	first, ok := ct.first(fl.r.Header["Accept-Encoding"])
	if !ok || !c.flights.beginSettling(f) {
		return false
	}
	e.Bodies = []Body{first}
	e.dropDigests()
	a := fl.firstAnswer(e, storable)
	fl.capture.body = nil // it is in ct
	begun, f.handed = true, true
	go fl.storeRest(e, ct, first)
	a.write(fl.w, fl.r, &fl.q.glance)
	return true
}

// storeRest ends the flight of a response whose first client is being answered. It may
// use nothing of the request, which may be over.
func (fl *fill) storeRest(e *Entry, ct content, first Body) {
	c := fl.cache
	defer c.behind.end()
	defer fl.flight.end(&c.flights)
	defer c.survive("storing a response", e.URL)
	e.Bodies = ct.bodies(first)
	recycle(ct.body)
	if reason := fl.put(e, nil); reason == storable {
		c.counters.stored.Add(1)
	} else {
		c.note(context.Background(), reason, e.URL)
	}
	fl.share(e)
}

// firstAnswer is that to the client whose request made the entry. It gets what all
// later ones get.
func (fl *fill) firstAnswer(e *Entry, reason string) *answer {
	c := &fl.capture
	h := fl.w.Header()
	c.restore(h)
	fl.strip(h)
	for name := range h {
		switch key := http.CanonicalHeaderKey(name); {
		case key != name, computed(key), digest(key), key == "Vary":
			delete(h, name)
		}
	}
	for _, f := range e.Header { // a 304 has not all of them
		delete(h, f.Name)
	}
	if v := fl.before["Vary"]; v != nil {
		h["Vary"] = v
	}
	a := &answer{
		entry: e, staleFrom: e.FreshUntil, now: fl.received, visibility: fl.cache.opts.visibility,
		forward: &forward{why: fl.why, stored: reason == storable, detail: reason},
		made:    true, aged: c.fields["Age"] != nil, nested: fl.outer.stores(),
	}
	if !a.choose(fl.r, &fl.q.glance) {
		// The handler encoded it in a coding that this client does not take. It
		// must know why.
		a.form = &a.prepared.forms[0]
		a.status, a.data = e.Status, e.Bodies[0].Data
	}
	// Most of what a crawler asks for is never asked for again: what is prepared
	// for hits would take as much memory as the page.
	e.prepared.p.Store(nil)
	return a
}

// share gives the entry to those who wait for it. What has to be validated before
// each use, or whose time was over before it was complete, is the leader's alone
// (RFC 9111, section 4: a response may answer several requests if it may be reused
// for each of them).
func (fl *fill) share(e *Entry) {
	point.At(point.Sharing)
	if e.fitness(e.FreshUntil, fl.cache.opts.now()) < stale {
		fl.release(private)
		return
	}
	fl.flight.entry = e
	fl.release(shared)
}

// judge decides, when the header is written, whether the response may be stored
// as far as one can tell by then.
func (fl *fill) judge(status int, h http.Header, length int64) (reason string) {
	o := &fl.cache.opts
	fl.tagByHeader(h)
	wishes := fl.exchange.freeze()
	wishes.asked = wishes.asked && fl.why != fwdMethod // CacheFor is for answers to GET
	fl.received = o.now()
	fl.response = rfc9111.Response{
		Status: status, Header: h, Requested: fl.asked(h), Received: fl.received, Targets: o.targetList(),
	}
	fl.permission = rfc9111.Permission{
		ByHandler: wishes.asked, OptIn: o.policy == OptIn, Heuristic: o.heuristic, Uncacheable: o.forbidding(),
	}
	if failure(status) {
		if fl.standsIn(fl.received) {
			return reasonFailed
		}
		if fl.unattended() {
			return reasonRefreshFailed // the good one stays for its window
		}
	}
	req := rfc9111.Request{Method: fl.r.Method, Header: fl.r.Header}
	switch {
	case status == http.StatusNotModified && !fl.asks.Empty():
		fl.confirmed = true
		return reasonConfirmed
	case fl.why == fwdMethod:
		if reason := fl.judgeUnsafe(h); reason != storable {
			return reason
		}
	case fl.never != storable:
		fl.freshen(status, h)
		return fl.never
	case status == http.StatusPreconditionFailed && fl.q.conditional && !fl.whole:
		return reasonCondition // anybody could have this stored in the page's place
	default:
		r := rfc9111.Storable(req, fl.response, fl.permission)
		if r == rfc9111.ReasonStorable {
			break
		}
		if status == http.StatusNotModified && wishes.asked {
			// A conditional request came first. The next one is asked for the
			// whole, or a page that all browsers have would never be stored.
			// But not if the whole proved not to be for storing: who has it
			// would be sent it again and again.
			if _, judged := fl.cache.cacheable.recall(fl.flight.key, fl.received); !judged {
				fl.remember(worthAsking)
			}
		}
		return r.String()
	}
	if reason := wishes.forbid(); reason != storable {
		return reason
	}
	fl.life = fl.lifespan(wishes)
	return fl.fits(h, length)
}

// asked returns when the handler was asked, if it is one that asks others: the
// response may have been made as early as that.
func (fl *fill) asked(h http.Header) time.Time {
	if fl.cache.opts.policy == OptIn && h["Age"] == nil {
		return time.Time{}
	}
	return fl.requested
}

// fits decides whether a response that may be stored is one that can be, and that
// is worth it.
func (fl *fill) fits(h http.Header, length int64) (reason string) {
	switch {
	case !fl.life.keepUntil.After(fl.received):
		return rfc9111.ReasonAlreadyStale.String()
	case length > fl.cache.opts.bodyLimit():
		return reasonTooLarge
	case headerSize(h) > maxHeader:
		return reasonLargeHeader
	case fl.mixed(h):
		return reasonMixed
	case fl.unreadable(h):
		return reasonEncoding
	case len(h["Transfer-Encoding"]) != 0:
		return reasonTransfer
	case len(h["Content-Encoding"]) > 1 || severalCodings(h.Get("Content-Encoding")):
		return reasonEncoding
	}
	return storable
}

// mixed reports whether the handler has added values to a field that middleware
// around us had set. What is stored would have the middleware's values of this one
// request, a nonce or a session, in place of those of later ones. (Vary is put
// together anew for each answer.)
func (fl *fill) mixed(h http.Header) bool {
	for name, values := range fl.before {
		if n := len(values); name != "Vary" && n != 0 && len(h[name]) > n && slices.Equal(h[name][:n], values) {
			return true
		}
	}
	return false
}

// unreadable reports whether the body is in a coding that we do not know, though
// the handler was let choose it by what this one client takes. Others, who take
// what can be made of the identity, would be worse off with it.
func (fl *fill) unreadable(h http.Header) bool {
	coding := codec.Normalize(h.Get("Content-Encoding"))
	return fl.cache.opts.policy != OptIn && !fl.restricted && coding != codec.Identity && !codec.Known(coding)
}

// failure reports whether a status is one that a stale entry may be served
// instead of (RFC 5861, section 4).
func failure(status int) bool {
	switch status {
	case http.StatusInternalServerError, http.StatusBadGateway,
		http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (w *wishes) forbid() string {
	if w.vetoed {
		return reasonVetoed
	}
	return w.badTags
}

// completed decides, when the handler has returned, what could not be known
// before.
func (fl *fill) completed(wishes wishes) (reason string) {
	c := &fl.capture
	switch {
	case c.length >= 0 && int64(len(c.body)) != c.length && bodyAllowed(c.status):
		return reasonLength
	case c.unsent:
		return reasonCancelled
	case fl.flight.ctx.Err() != nil && (c.length < 0 || !bodyAllowed(c.status)):
		// It may have returned because of that, in the middle.
		return reasonCancelled
	case hasTrailers(c.Header()):
		return rfc9111.ReasonTrailer.String()
	}
	return wishes.forbid()
}

// put gives the store an entry, in place of old if that was confirmed, and returns
// why the store did not take it.
func (fl *fill) put(e, old *Entry) (reason string) {
	point.At(point.Putting)
	if point.Off(point.PositionBeforeHandler) {
		e.At = fl.cache.store.Begin()
		defer fl.cache.store.End(e.At)
	}
	err := fl.cache.store.Put(e, old)
	if err == nil {
		fl.cache.storeWorks.Store(true)
		fl.cache.uncacheable.forget(fl.flight.key)
		fl.cache.untaken.forget(fl.flight.key)
		fl.remember(worthAsking)
		return storable
	}
	fl.cache.untaken.remember(fl.flight.key, 0, fl.cache.opts.now().Add(knownFor))
	switch {
	case errors.Is(err, ErrInvalidated) && old != nil && fl.cache.store.Valid(e.At, e.Marks):
		return reasonOvertaken // nothing was purged; another renewal was faster
	case errors.Is(err, ErrInvalidated):
		return reasonInvalidated
	case errors.Is(err, ErrTooLarge):
		return reasonTooLarge
	}
	fl.cache.storeWorks.Store(false)
	fl.cache.storeFailed("put", err)
	if errors.Is(err, ErrBusy) {
		return reasonStoreBusy
	}
	return reasonStoreError
}

// What is remembered of a key, for knownFor: whether its handler is worth asking
// for the whole where the client wants less of it.
const (
	worthAsking uint8 = iota
	notWorthAsking

	knownFor = time.Hour
)

func (fl *fill) remember(note uint8) {
	now := fl.cache.opts.now()
	fl.cache.cacheable.remember(fl.flight.key, note, now.Add(knownFor))
}

// refuse says that the response will not be stored, and lets those go who wait
// for it. Only the first call counts.
func (fl *fill) refuse(reason string) {
	if fl.refused {
		return
	}
	fl.refused = true
	defer fl.flight.leave() // a stream may go on for days
	if fl.why == fwdMethod {
		return // nobody asked for it to be stored, and nobody waits
	}
	fl.note(reason)
	switch reason {
	case reasonFailed:
		fl.release(failed)
		return
	case reasonCrashed:
		fl.release(crashed)
		return
	}
	fl.release(private)
	if !aboutResponse(reason) {
		return
	}
	status := fl.response.Status
	if status != http.StatusNotModified {
		now := fl.cache.opts.now()
		fl.cache.uncacheable.remember(fl.flight.key, 0, now.Add(rememberFor))
		if status < 400 { // an error may be over with the next request
			fl.remember(notWorthAsking)
		}
	}
	if old := fl.found.entry; old != nil && status < 500 && status != http.StatusNotModified && !fl.personal(reason) {
		// What the handler answers now is not for storing, so what it answered
		// then is not its answer any more.
		fl.drop(old)
	}
}

// personal reports whether a response was refused for being one user's, who bears
// a cookie: what is stored for others is as it was. A refresh in the background is
// not so sure, because nobody but who caused it would ever try another.
func (fl *fill) personal(reason string) bool {
	if fl.unattended() || fl.r.Header["Cookie"] == nil {
		return false
	}
	switch reason {
	case reasonCookie, rfc9111.ReasonPrivate.String(), rfc9111.ReasonSetCookie.String():
		return true
	}
	return false
}

func (fl *fill) note(reason string) { fl.cache.note(fl.r.Context(), reason, fl.q.url) }

// note counts and logs why a response was not stored.
func (c *Cache) note(ctx context.Context, reason string, url func() string) {
	c.counters.notStoredFor(reason)
	if log := c.opts.log(); log.Enabled(ctx, slog.LevelDebug) {
		log.DebugContext(ctx, "accel: not stored", "reason", reason, "url", url())
	}
}

func (fl *fill) reasonOr(reason string) string {
	if fl.never != storable {
		return fl.never
	}
	return reason
}

// release lets the followers go. Only the first call counts.
func (fl *fill) release(o outcome) {
	if f := fl.flight; !f.landed {
		f.response, f.permission = fl.response, fl.permission
		f.land(&fl.cache.flights, o)
	}
}
