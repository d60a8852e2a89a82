package accel

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/accelhttp/accelerator/internal/point"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// renew ends a run whose handler confirmed the entry that was found, by a 304
// (RFC 9111, sections 3.2 and 4.3.4). The entry gets the new header fields and a
// new life; its bodies stay.
//
// That the handler confirms what was rendered before a purge says nothing to the
// contrary: it compares what it thinks of, and the tags may know better. So a
// renewal of what was invalidated meanwhile is refused by the store (rule 12),
// and the handler is asked for the whole.
func (fl *fill) renew(w wishes) {
	old := fl.found.entry
	fl.capture.drop()
	if fl.refused || !rfc9111.ConfirmedBy(fl.asks, fl.capture.fields) {
		// It did something else before, or confirmed another response than we
		// asked about.
		fl.vain = true
		return
	}
	e, reason, ok := fl.renewed(old, w)
	if !ok {
		fl.vain = true
		return
	}
	stored := false
	point.At(point.Renewing)
	if reason == storable {
		if stored = !e.repeats(old); stored {
			reason = fl.put(e, old)
		} else if !fl.cache.store.Valid(e.At, e.Marks) {
			reason = reasonInvalidated
		}
		if reason == reasonInvalidated {
			fl.found.entry = nil // it is not to stand in for anything either
			fl.vain = true
			return
		}
	}
	if reason == storable {
		fl.cache.counters.renewed.Add(1)
		fl.share(e)
	} else {
		fl.refuse(reason)
	}
	fl.flight.leave() // a slow client must hold no position
	fl.reset()
	a := &answer{
		entry: e, staleFrom: e.FreshUntil, now: fl.received,
		made: true, aged: fl.capture.fields["Age"] != nil,
		forward: &forward{
			why: fl.why, status: http.StatusNotModified, stored: stored && reason == storable, detail: reason,
		},
	}
	maps.Copy(fl.w.Header(), fl.unstored)
	if !fl.answer(a) {
		// In a coding that this client does not take. The handler may know better.
		fl.vain = true
	}
}

// repeats reports whether a renewal says nothing that the entry does not: it has
// to be validated before the next use all the same, so it is not worth a write.
func (e *Entry) repeats(old *Entry) bool {
	same := func(a, b Field) bool { return a.Name == b.Name && slices.Equal(a.Values, b.Values) }
	return !e.lasts() && !old.lasts() && len(e.Tags) == len(old.Tags) &&
		slices.EqualFunc(e.Header, old.Header, same) && slices.EqualFunc(e.Control, old.Control, same) &&
		e.KeepUntil.Sub(old.KeepUntil) < keepForValidation/4
}

// lasts reports whether the response was fresh for a second when it was made, or
// may be served while it is refreshed. What does not must be validated before
// each use.
func (e *Entry) lasts() bool {
	return e.FreshUntil.Sub(e.Date) >= time.Second || e.StaleWhileRevalidate > 0
}

// renewed returns what a 304 makes of an entry, and why that may not be stored.
// It returns false if the handler has to be asked for the whole.
func (fl *fill) renewed(old *Entry, w wishes) (e *Entry, reason string, ok bool) {
	stored := make(http.Header, len(old.Header)+len(old.Control)+1)
	for _, fields := range [][]Field{old.Header, old.Control} {
		for _, f := range fields {
			stored[f.Name] = f.Values
		}
	}
	if old.ETag != "" {
		stored["Etag"] = []string{old.ETag}
	}
	update := fl.capture.fields.Clone()
	fl.removeOuter(update)
	h := rfc9111.UpdateHeader(stored, update)

	// What middleware around us says counts for whether it may be stored, and what
	// Connection takes away, too.
	judged := maps.Clone(h)
	for _, fields := range []http.Header{update, fl.before} {
		for name, values := range fields {
			if judged[name] == nil && name != "Content-Range" {
				judged[name] = values
			}
		}
	}
	if named := update["Connection"]; named != nil {
		maps.Copy(judged, update)
		delete(judged, "Content-Range")
	}
	fl.response = rfc9111.Response{
		Status: old.Status, Header: judged, Requested: fl.asked(judged), Received: fl.received,
		Targets: fl.cache.opts.targetList(),
	}
	names, star := rfc9111.VaryNames(judged)
	if star || !slices.Equal(names, old.Vary) {
		return nil, "", false // it is selected in another way now, so nobody knows for whom it is
	}

	marks := old.Marks
	if point.Off(point.RenewalUnion) {
		marks = marks[:2] // those of its URL
	}
	e = &Entry{
		Key: old.Key, At: fl.flight.at, Resource: old.Resource, Variant: old.Variant, Vary: old.Vary,
		Status: old.Status, ETag: old.ETag, Bodies: old.Bodies, Length: old.Length,
		Tags: old.Tags, Marks: slices.Clip(marks),
	}
	fl.life = fl.lifespan(w)
	fl.giveLife(e)
	fl.giveTags(e, w.tags)
	fl.unstored = maps.Clone(h)
	fl.giveHeader(e, h) // removes from h what must not be stored
	e.dropDigests()
	maps.DeleteFunc(fl.unstored, func(name string, _ []string) bool { return h[name] != nil || update[name] == nil })

	req := rfc9111.Request{Method: fl.r.Method, Header: fl.r.Header}
	switch r := rfc9111.Storable(req, fl.response, fl.permission); {
	case r != rfc9111.ReasonStorable:
		return e, r.String(), true
	case !fl.life.keepUntil.After(fl.received):
		return e, rfc9111.ReasonAlreadyStale.String(), true
	case len(e.Tags) > MaxTags:
		return e, reasonTooManyTags, true
	case headerSize(h) > maxHeader:
		return e, reasonLargeHeader, true
	case fl.mixed(fl.capture.fields):
		return e, reasonMixed, true
	}
	return e, w.forbid(), true
}

// freshen takes the response to a HEAD for what it says about the entry that was
// found (RFC 9111, section 4.3.5): if that is another now, it is dropped.
func (fl *fill) freshen(status int, h http.Header) {
	e := fl.found.entry
	if e == nil || fl.found.fitness >= stale || fl.r.Method != http.MethodHead || status != http.StatusOK || fl.cache.opts.policy == OptIn {
		return
	}
	if rfc9111.HeadContradicts(e.validators(), e.Length, h) {
		fl.drop(e)
	}
}

// validators returns those that the handler gave.
func (e *Entry) validators() rfc9111.Validators {
	h := make(http.Header, 2)
	if e.ETag != "" {
		h["Etag"] = []string{e.ETag}
	}
	for _, f := range e.Header {
		if f.Name == "Last-Modified" {
			h[f.Name] = f.Values
		}
	}
	return rfc9111.ValidatorsOf(h)
}

// drop removes an entry that is not what the handler would answer any more.
func (fl *fill) drop(e *Entry) {
	if err := fl.cache.store.Delete(e); err != nil {
		fl.cache.storeFailed("delete", err)
	}
}
