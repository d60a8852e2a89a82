package accel

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// maxHeader is the size in bytes of the header that is stored at most. A larger
// one is an accident, and every hit would carry it.
const maxHeader = 32 << 10

// A lifespan is how long an entry is good for, and counted from when.
type lifespan struct {
	date                     time.Time
	initialAge               time.Duration // at date
	freshUntil, keepUntil    time.Time
	whileRevalidate, ifError time.Duration
	mustRevalidate           bool
}

// lifespan returns that of the response: by the handler's word if it gave it, else
// by HTTP's (RFC 9111, section 4.2).
func (fl *fill) lifespan(w wishes) lifespan {
	resp := fl.response
	l := lifespan{date: resp.Received}
	if w.asked {
		// Date and Age of the header do not matter: the response is served with
		// a new Date, so that its max-age begins when a browser gets it.
		l.freshUntil = resp.Received.Add(w.life.ttl)
		l.whileRevalidate, l.ifError = w.life.whileRevalidate, w.life.ifError
	} else {
		age := rfc9111.InitialAge(resp)
		if d := resp.Header["Date"]; len(d) == 1 {
			// One that is lifetimes ahead is none.
			if t, ok := rfc9111.ParseDate(d[0]); ok && t.Before(resp.Received.Add(forever)) {
				l.date = t
			}
		}
		l.initialAge = age - resp.Received.Sub(l.date)
		lifetime := fl.permission.Lifetime(resp).Duration
		if rfc9111.NeedsValidation(resp) {
			lifetime = 0 // section 5.2.2.4
		}
		l.freshUntil = resp.Received.Add(lifetime - age)
		l.whileRevalidate, l.ifError = rfc9111.StaleWindows(resp)
		l.mustRevalidate = rfc9111.MustRevalidate(resp)
	}
	l.keepUntil = l.freshUntil.Add(max(l.whileRevalidate, l.ifError))
	if fl.cache.opts.policy != OptIn && !rfc9111.ValidatorsOf(resp.Header).Empty() {
		l.keepUntil = l.keepUntil.Add(keepForValidation)
	}
	return l
}

// keepForValidation is how long a response is kept beyond all other use because
// its handler may confirm it. What is asked for once a day still saves the
// handler its work; what is not, the bound on the store's size would evict anyway.
const keepForValidation = 24 * time.Hour

// build makes the entry of a response that is complete and may be stored, but for its
// bodies, which are to be made of the content.
func (fl *fill) build(w wishes) (*Entry, content) {
	c := &fl.capture
	q := fl.q
	names, _ := rfc9111.VaryNames(c.fields)
	q.vary(fl.r.Header, names)

	e := &Entry{
		Key:      q.key,
		At:       fl.flight.at,
		Resource: string(q.resource),
		Variant:  string(q.variant),
		Vary:     names,

		Status: c.status,
		ETag:   rfc9111.ValidatorsOf(c.fields).ETag,
		Marks:  q.urlMarks(),
	}
	fl.giveLife(e)
	fl.giveTags(e, w.tags)
	h := c.fields.Clone()
	if _, given := h["Content-Type"]; !given && len(c.body) != 0 && h.Get("Content-Encoding") == "" {
		// What net/http would guess, from the bytes that it would guess from.
		h["Content-Type"] = []string{http.DetectContentType(c.body)}
	}
	fl.removeOuter(h)
	fl.giveHeader(e, h)
	typ := contentType(e.Header)
	if typ == "" {
		typ = c.fields.Get("Content-Type") // from middleware around us
	}
	ct := contentOf(c.fields, c.status, typ, c.body)
	e.Length = ct.length(c.limit)
	return e, ct
}

// dropDigests takes digests off an entry that clients get in other codings than the
// handler had in mind.
func (e *Entry) dropDigests() {
	if coding := e.Bodies[0].Coding; coding != codec.Identity && (codec.Known(coding) || len(e.Bodies) > 1) {
		e.Header = slices.DeleteFunc(e.Header, func(f Field) bool { return digest(f.Name) })
	}
}

// giveLife writes into e what was decided about its time, and for whom it is.
func (fl *fill) giveLife(e *Entry) {
	e.Date, e.InitialAge = fl.life.date, fl.life.initialAge
	e.FreshUntil, e.KeepUntil = fl.life.freshUntil, fl.life.keepUntil
	e.StaleWhileRevalidate, e.StaleIfError = fl.life.whileRevalidate, fl.life.ifError
	e.MustRevalidate = fl.life.mustRevalidate

	authorized := rfc9111.Request{Method: http.MethodGet, Header: http.Header{"Authorization": {""}}}
	e.ByHandler = fl.permission.ByHandler
	e.Public = rfc9111.Storable(authorized, fl.response, fl.permission) == rfc9111.ReasonStorable
}

// giveTags adds tags to e that it does not have yet.
func (fl *fill) giveTags(e *Entry, tags []string) {
	e.Tags = slices.Clip(e.Tags)
	for _, t := range tags {
		if !slices.Contains(e.Tags, t) {
			e.Tags = append(e.Tags, t)
			e.Marks = append(e.Marks, TagMark(t).Hash)
		}
	}
}

// removeOuter removes from a header what middleware around us had put there
// before, and will put there for each request. A field without values is one
// that the handler took away.
func (fl *fill) removeOuter(h http.Header) {
	for name, values := range fl.before {
		switch {
		case len(h[name]) == 0:
			h[name] = nil
		case slices.Equal(h[name], values):
			delete(h, name)
		}
	}
}

// giveHeader writes h into e, without what ends at this hop (RFC 9111, section
// 3.1) and what is computed for each answer. What is for this cache alone is kept
// apart. It writes to h.
func (fl *fill) giveHeader(e *Entry, h http.Header) {
	rfc9111.RemoveHopByHop(h)
	if !e.ByHandler {
		rfc9111.RemoveNoCacheFields(h, fl.response)
	}
	o := &fl.cache.opts
	for _, name := range slices.Sorted(maps.Keys(h)) {
		values := slices.Clip(h[name])
		switch {
		case computed(name):
		case slices.Contains(o.strippedHeaders(), name):
			if slices.Contains(o.targetList(), name) && len(values) != 0 {
				e.Control = append(e.Control, Field{Name: name, Values: values})
			}
		case len(values) != 0 || len(fl.before[name]) != 0:
			// Without values, a field keeps net/http from adding it, which is
			// computed, or takes away what middleware around us has set.
			e.Header = append(e.Header, Field{Name: name, Values: values})
		}
	}
}

// computed reports whether a field is computed for each answer.
func computed(name string) bool {
	switch name {
	case "Age", "Content-Encoding", "Content-Length", "Date", "Etag":
		return true
	}
	return false
}

// digest reports whether a field is about the bytes of the content as they are
// coded (RFC 9530, and what was there before).
func digest(name string) bool {
	switch name {
	case "Content-Digest", "Repr-Digest", "Digest", "Content-Md5":
		return true
	}
	return false
}

func contentType(fields []Field) string {
	for _, f := range fields {
		if f.Name == "Content-Type" && len(f.Values) != 0 {
			return f.Values[0]
		}
	}
	return ""
}

func headerSize(h http.Header) (n int) {
	for name, values := range h {
		for _, v := range values {
			n += len(name) + len(v) + len(": \r\n")
		}
	}
	return n
}

func hasTrailers(h http.Header) bool {
	for name := range h {
		if strings.HasPrefix(name, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

func severalCodings(contentEncoding string) bool { return strings.Contains(contentEncoding, ",") }

// A content is a body as the handler wrote it, and in which codings it is stored.
//
// What compresses is stored compressed only: the rare client that takes no
// coding gets it decoded. What the handler encoded is kept as it is; no other
// coding is made of it, because its decoded form would be ours and not the
// handler's.
type content struct {
	body    []byte
	coding  string   // in which the handler wrote it
	etag    string   // of that; empty if none
	codings []string // to be stored in place of it, the best one first; nil if it is stored as it is
}

var storedCodings = []string{codec.Zstd, codec.Gzip}

func contentOf(h http.Header, status int, contentType string, body []byte) content {
	ct := content{body: body, etag: rfc9111.ValidatorsOf(h).ETag}
	if ct.etag == "" && status >= 200 && status < 300 && bodyAllowed(status) {
		ct.etag = contentETag(contentType, body)
	}
	if len(body) != 0 {
		ct.coding = codec.Normalize(h.Get("Content-Encoding"))
	}
	noTransform := rfc9111.ParseCacheControl(h["Cache-Control"]).Has("no-transform")
	if ct.coding == codec.Identity && codec.Worth(contentType, len(body)) && !noTransform {
		ct.codings = storedCodings
	}
	return ct
}

// length returns the length of the identity, -1 if it is unknown or above a limit.
func (ct content) length(limit int64) int64 {
	switch {
	case ct.coding == codec.Identity:
		return int64(len(ct.body))
	case codec.Known(ct.coding):
		// Once now, so that it need not be found out for each client whether it
		// can be decoded, and into how much.
		if plain, err := codec.Decode(nil, ct.coding, ct.body, limit); err == nil {
			return int64(len(plain))
		}
	}
	return -1
}

// encoded returns the body in a coding. It returns false if that makes it no shorter.
func (ct content) encoded(coding string) (Body, bool) {
	data, err := codec.Encode(nil, coding, ct.body)
	if err != nil || len(data) >= len(ct.body) {
		return Body{}, false
	}
	return Body{Coding: coding, ETag: codedETag(ct.etag, coding), Data: data}, true
}

// first returns the body for a client, in the coding that it likes best of those that
// are stored. It returns false if there is none.
func (ct content) first(accept []string) (Body, bool) {
	if i, ok := codec.Negotiate(accept, ct.codings); ok {
		return ct.encoded(ct.codings[i])
	}
	return Body{}, false
}

// bodies returns the body in all codings that are stored. One that was made already
// is among them.
func (ct content) bodies(made ...Body) (list []Body) {
	for _, coding := range ct.codings {
		i := slices.IndexFunc(made, func(b Body) bool { return b.Coding == coding })
		if i >= 0 {
			list = append(list, made[i])
		} else if b, ok := ct.encoded(coding); ok {
			list = append(list, b)
		}
	}
	if list == nil {
		list = []Body{{Coding: ct.coding, ETag: ct.etag, Data: append([]byte{}, ct.body...)}}
	}
	return list
}
