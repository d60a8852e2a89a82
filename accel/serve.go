package accel

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// choose returns the form of e for a client: the stored coding it likes best,
// else identity decoded from one. It returns nil if the client takes no coding
// that we have or can make; the handler may know how to speak to it.
//
// A client that refuses identity as well gets it nevertheless: a page it may
// not like is better than none (RFC 9110, section 12.5.3, leaves the choice).
func (p *prepared) choose(accept []string) *preparedForm {
	if len(p.offers) == 1 && p.forms[0].coding == nil {
		return &p.forms[0]
	}
	if len(accept) != 1 {
		return p.negotiate(accept)
	}
	usual := p.usual.Load()
	if usual != nil && usual.accept == accept[0] {
		return usual.form
	}
	form := p.negotiate(accept)
	if usual == nil && p.second.Load() != nil && len(accept[0]) <= maxUsual {
		p.usual.Store(&usualForm{strings.Clone(accept[0]), form})
	}
	return form
}

func (p *prepared) negotiate(accept []string) *preparedForm {
	if i, ok := codec.Negotiate(accept, p.offers); ok {
		return &p.forms[i]
	}
	if last := &p.forms[len(p.forms)-1]; last.decode || last.coding == nil {
		return last
	}
	return nil
}

// An answer is an entry on its way to a client. It is made in two steps, because
// caches around this one have to hear of it before its header is written, and
// only if there is one: choose, then write.
type answer struct {
	entry     *Entry
	staleFrom time.Time // FreshUntil, or earlier if the entry was expired
	now       time.Time
	forward   *forward // how the entry came here; nil for a hit
	made      bool     // the handler has made or confirmed it for this very request
	aged      bool     // and said that it had an Age already
	nested    bool     // a cache around this one reads what governs the entry

	visibility Visibility

	prepared *prepared // of entry, whose bodies may become more behind the answer
	form     *preparedForm
	status   int
	data     []byte
	decoded  *[]byte // holds data, if it was decoded for this answer; from decodings
	shared   *[]byte // holds data, if it was decoded for whoever wants it
	parted   bool    // several parts of data were sent
}

// decodings has the buffers in which bodies are decoded for clients that take no
// coding. They are large, and every such hit needs one.
var decodings = sync.Pool{New: func() any { return new([]byte) }}

// choose picks the coding, looks at the request's conditions (RFC 9110, section
// 13), and decodes where that is needed. It returns false if the client takes
// none of the codings.
func (a *answer) choose(r *http.Request, g *glance) bool {
	e := a.entry
	p := e.answers()
	a.prepared = p
	if a.form = p.choose(r.Header["Accept-Encoding"]); a.form == nil {
		return false
	}
	a.status = e.Status
	if g.conditional && e.Status >= 200 && e.Status < 300 {
		// Section 13.2.1: conditions are for what would be a success.
		etag := ""
		if a.form.etag != nil {
			etag = a.form.etag[0]
		}
		switch rfc9111.EvaluatePreconditions(r.Method, r.Header, etag, p.lastModified, e.Date) {
		case rfc9111.NotModified:
			a.status = http.StatusNotModified
		case rfc9111.PreconditionFailed:
			a.status = http.StatusPreconditionFailed
		}
	}
	if a.status != e.Status || r.Method == http.MethodHead || !bodyAllowed(e.Status) {
		return true
	}
	body := &e.Bodies[a.form.body]
	a.data = body.Data
	if a.form.decode && e.Length > minShared {
		a.shared = p.decoded(body, e.Length)
		if a.data = nil; a.shared == nil {
			return false
		}
		a.data = *a.shared
	} else if a.form.decode {
		buf := decodings.Get().(*[]byte)
		data, err := codec.Decode((*buf)[:0], body.Coding, body.Data, e.Length)
		if err != nil {
			a.data = nil
			return false
		}
		a.data, a.decoded = data, buf
	}
	return true
}

// release gives the buffer back that the body was decoded into.
func (a *answer) release(w http.ResponseWriter, r *http.Request) {
	if a.decoded != nil && cap(a.data) <= maxPooledDecoding && a.finished(w, r) {
		*a.decoded = a.data[:0]
		decodings.Put(a.decoded)
	}
	a.data, a.decoded, a.shared = nil, nil, nil
}

// finished reports whether nobody reads any more what was written. http.ServeContent has
// a goroutine read where there are several parts, and does not wait for it if the client
// has left.
func (a *answer) finished(w http.ResponseWriter, r *http.Request) bool {
	return !a.parted && returnsWhatItWrites(w, r)
}

// returnsWhatItWrites reports whether a buffer that was written to the request's client
// may be used for something else. A Writer keeps nothing of what it was given, but for
// net/http's of HTTP/2: when its stream is reset it returns, while the connection's
// frame writer may still be about to read. What is in the buffer by then, another's
// page, would go out to that client.
//
// So the request has to be one of HTTP/1, and the writer, too: it is one that can be
// hijacked. (Somebody may answer a client of HTTP/2 by a request of his own making.)
func returnsWhatItWrites(w http.ResponseWriter, r *http.Request) bool {
	if r.ProtoMajor != 1 {
		return false
	}
	for range maxUnwraps {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = u.Unwrap()
	}
	_, ok := w.(http.Hijacker)
	return ok
}

// maxUnwraps is how many writers of middleware are looked beneath.
const maxUnwraps = 16

// maxPooledDecoding is the capacity up to which a buffer goes back to the pool.
const maxPooledDecoding = 2 << 20

// write answers r: with the entry's status, with 206, 304, 412 or 416, with the
// header alone if the method is HEAD.
func (a *answer) write(w http.ResponseWriter, r *http.Request, g *glance) {
	h := w.Header()
	a.writeHeader(h)
	if !g.ranged || a.status != http.StatusOK || r.Method != http.MethodGet || !a.writeRange(w, r) {
		w.WriteHeader(a.status)
		if len(a.data) != 0 {
			_, _ = w.Write(a.data) // the error is the client's: it left
		}
	}
	a.release(w, r)
}

// writeHeader puts the header of the answer into h. For a 304 and a 412 it
// leaves out what describes a body that is not sent (RFC 9110, section 15.4.5).
func (a *answer) writeHeader(h http.Header) {
	e, p, form := a.entry, a.prepared, a.form
	whole := a.status == e.Status
	outerVary := h["Vary"]
	for i := range e.Header {
		f := &e.Header[i]
		if !whole {
			switch f.Name {
			case "Content-Type", "Content-Language", "Accept-Ranges":
				continue
			case "Last-Modified":
				if form.etag != nil {
					continue
				}
			}
		}
		h[f.Name] = slices.Clip(f.Values)
	}
	if a.nested {
		for _, f := range e.Control {
			h[f.Name] = slices.Clip(f.Values)
		}
	}
	if p.vary != nil {
		h["Vary"] = p.vary
	}
	for _, line := range outerVary { // middleware around us has its own
		if len(p.vary) != 0 && line == p.vary[0] {
			continue
		}
		for member := range strings.SplitSeq(line, ",") {
			h["Vary"] = addVary(h["Vary"], strings.TrimSpace(member))
		}
	}
	if form.etag != nil {
		h["Etag"] = form.etag
	}
	switch {
	case whole:
		if form.coding != nil {
			h["Content-Encoding"] = form.coding
		}
		if form.length != nil {
			h["Content-Length"] = form.length
		}
		if _, given := h["Content-Type"]; p.untyped && !given {
			h["Content-Type"] = nil // keeps net/http from guessing
		}
	case a.status == http.StatusPreconditionFailed:
		h["Content-Length"] = zeroLength
	}
	s := p.at(e, a.staleFrom, a.now)
	if p.date != nil {
		h["Date"] = p.date
		if !a.made || a.aged {
			h["Age"] = s.age // it says that this is not from the origin (RFC 9111, section 5.1)
		}
	}
	if a.forward == nil && a.visibility == ShowStatus {
		h["Cache-Status"] = s.status
		return
	}
	url, member := "", hitMember(s.ttl)
	if a.visibility == ShowKey {
		url = e.URL()
	}
	if a.forward != nil {
		member = a.forward.member()
	}
	a.visibility.put(h, p.status, member, url)
}

var zeroLength = []string{"0"}

// maxRanges is the number of ranges that are answered. Who asks for more gets
// the whole: hundreds of small ranges cost more than they save (CVE-2011-3192).
const maxRanges = 8

// writeRange answers a request with Range (RFC 9110, section 14), after
// writeHeader. It returns false, and has changed nothing, if the whole is to be
// sent: If-Range says so, the unit is unknown, or the ranges are too many.
//
// http.ServeContent does the work. It knows no content codings: it would leave
// out the length of a coded part, and take the ETag off a 416. So these fields
// are kept from it until it has decided.
func (a *answer) writeRange(w http.ResponseWriter, r *http.Request) bool {
	ranges := r.Header["Range"]
	h := w.Header()
	if len(ranges) != 1 || !strings.HasPrefix(ranges[0], "bytes=") || h.Get("Accept-Ranges") == "none" {
		return false
	}
	etag := ""
	if a.form.etag != nil {
		etag = a.form.etag[0]
	}
	if !rfc9111.IfRangeMatches(r.Header, etag, a.prepared.strongDate) {
		return false
	}
	switch n := strings.Count(ranges[0], ",") + 1; {
	case n > maxRanges:
		return false
	case n > 1 && a.form.coding != nil:
		// The parts of a multipart/byteranges would be coded and it itself not,
		// which no field can say.
		return false
	default:
		a.parted = n > 1
	}
	bare := &http.Request{Method: http.MethodGet, Header: http.Header{"Range": {a.satisfiable(ranges[0])}}}
	delete(h, "Content-Encoding")
	delete(h, "Content-Length")
	delete(h, "Content-Digest") // of the whole (RFC 9530, section 2)
	delete(h, "Content-Md5")
	http.ServeContent(&rangeWriter{w, a.form}, bare, "", time.Time{}, bytes.NewReader(a.data))
	return true
}

// satisfiable returns a Range for http.ServeContent. Suffixes of no bytes, which it
// takes for a part that is empty, become what begins behind the end: neither can
// be satisfied (RFC 9110, section 14.1.2).
func (a *answer) satisfiable(value string) string {
	if !strings.Contains(value, "-0") {
		return value
	}
	specs := strings.Split(strings.TrimPrefix(value, "bytes="), ",")
	for i, spec := range specs {
		suffix, ok := strings.CutPrefix(strings.TrimSpace(spec), "-")
		if ok && suffix != "" && strings.Trim(suffix, "0") == "" {
			specs[i] = strconv.Itoa(len(a.data)) + "-"
		}
	}
	return "bytes=" + strings.Join(specs, ",")
}

// A rangeWriter gives back to the header what was kept from http.ServeContent.
type rangeWriter struct {
	http.ResponseWriter
	form *preparedForm
}

func (w *rangeWriter) WriteHeader(status int) {
	h := w.Header()
	switch status {
	case http.StatusRequestedRangeNotSatisfiable:
		if w.form.etag != nil {
			h["Etag"] = w.form.etag
		}
	default:
		if w.form.coding != nil {
			h["Content-Encoding"] = w.form.coding
		}
	}
	w.ResponseWriter.WriteHeader(status)
}

// identityETag returns the entity tag of the identity that is decoded from b.
// It must be another than b's own (RFC 9110, section 8.8.3.3). What [codedETag]
// made is unmade; to what a handler gave its own coding, a suffix is added. The tag comes
// in two pieces, for who has room for both.
func identityETag(b Body) (tag, rest string) {
	if b.ETag == "" || strings.HasPrefix(b.ETag, "W/") {
		return b.ETag, ""
	}
	opaque := strings.TrimSuffix(b.ETag, `"`)
	if base, ok := strings.CutSuffix(opaque, "-"+b.Coding); ok && b.Coding != codec.Identity {
		return base, `"`
	}
	return opaque, `-identity"`
}

// contentETag returns an entity tag for a representation whose handler gave none,
// made of what it is: its type and its bytes.
func contentETag(contentType string, body []byte) string {
	h := sha256.New()
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(contentType)))
	h.Write(length[:])
	io.WriteString(h, contentType)
	h.Write(body)
	// 128 bits are enough against accidents, and nothing is protected by it.
	return `"` + base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16]) + `"`
}

// codedETag returns the entity tag of a representation that we encode, given
// that of its identity. A weak tag stays: it does not tell codings apart.
func codedETag(identity, coding string) string {
	if identity == "" || coding == codec.Identity || strings.HasPrefix(identity, "W/") {
		return identity
	}
	return strings.TrimSuffix(identity, `"`) + "-" + coding + `"`
}

// contentLength reads a declared Content-Length as net/http does: -1 for none,
// and for one that net/http would drop.
func contentLength(h http.Header) int64 {
	v := h["Content-Length"]
	if len(v) == 0 {
		return -1
	}
	n, err := strconv.ParseInt(strings.TrimSpace(v[0]), 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}
