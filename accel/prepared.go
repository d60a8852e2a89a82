package accel

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"weak"

	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// preparedAnswers holds what every hit on an entry writes alike. It is made by
// the first hit and found ready by the others; two that make it at once make the
// same.
//
// It takes some hundred bytes that no store counts, of entries that are in use.
type preparedAnswers struct {
	p atomic.Pointer[prepared]
}

// prepared has header values as the slices that are put into a header map.
// Nobody writes to them: their capacity is their length, so that middleware
// which appends to a header makes a new slice.
type prepared struct {
	offers []string       // the codings of forms, for codec.Negotiate
	forms  []preparedForm // one for each of Bodies, and identity if it can be decoded
	vary   []string       // nil if the answer has no Vary
	date   []string       // nil if net/http is to write it

	status       []string // Cache-Status as the handler left it
	lastModified time.Time
	strongDate   time.Time // lastModified if it is a strong validator
	begins       int64     // the second before which the entry was made in the future
	untyped      bool      // no Content-Type is stored, and none is to be guessed

	second atomic.Pointer[preparedSecond]
	first  atomic.Bool // somebody has room.second
	usual  atomic.Pointer[usualForm]

	identity atomic.Pointer[weak.Pointer[[]byte]] // see decoded

	// The usual number of what the slices above are made of: an entry from the disk
	// is prepared for one answer, so that each allocation counts.
	room struct {
		lines  [9]string
		offers [2]string
		forms  [3]preparedForm
		second preparedSecond
	}
}

// line returns a field's value as the one line of it.
func line(lines *[]string, value string) []string {
	n := len(*lines)
	*lines = append(*lines, value)
	return (*lines)[n : n+1 : n+1]
}

// minShared is the length above which a decoded body is shared by those who want
// it at the same time: many slow clients would fill the memory with copies.
const minShared = 64 << 10

// decoded returns the identity of a large body, which lives as long as somebody
// holds it; nil if it cannot be decoded.
func (p *prepared) decoded(b *Body, length int64) *[]byte {
	if w := p.identity.Load(); w != nil {
		if data := w.Value(); data != nil {
			return data
		}
	}
	data, err := codec.Decode(nil, b.Coding, b.Data, length)
	if err != nil {
		return nil
	}
	w := weak.Make(&data)
	p.identity.Store(&w)
	return &data
}

// A usualForm is the form for one Accept-Encoding, that of the second answer: a few
// browsers send nearly all requests, each always the same. Not that of the first: what
// comes from the disk is often prepared for one answer only.
type usualForm struct {
	accept string
	form   *preparedForm // nil if there is none
}

// maxUsual is the length of the Accept-Encoding that is remembered at most.
const maxUsual = 64

// A preparedForm is the representation in one coding.
type preparedForm struct {
	coding []string // nil for identity
	etag   []string // nil if none
	length []string // nil if unknown, or if the status has no body
	body   int      // index into Bodies; of a decoded form, the one to decode
	decode bool
}

// A preparedSecond has what changes with the time, for one second of it.
type preparedSecond struct {
	unix   int64
	ttl    int64
	age    []string
	status []string

	room [2]string // of these, if the status is ours alone
}

func (e *Entry) answers() *prepared {
	if p := e.prepared.p.Load(); p != nil {
		return p
	}
	p := e.prepare()
	e.prepared.p.Store(p)
	return p
}

func (e *Entry) prepare() *prepared {
	p := &prepared{untyped: true, begins: e.Date.Add(-e.InitialAge - clockSkew).Unix()}
	p.offers, p.forms = p.room.offers[:0], p.room.forms[:0]
	lines := p.room.lines[:0]
	var text strings.Builder // what is written here, in one piece of memory
	text.Grow(len(e.Bodies)*8 + 8 + usualETag)
	length := func(n int64) []string {
		from := text.Len()
		text.Write(strconv.AppendInt(make([]byte, 0, 20), n, 10))
		return line(&lines, text.String()[from:])
	}
	for _, f := range e.Header {
		switch f.Name {
		case "Vary":
			p.vary = f.Values
		case "Cache-Status":
			p.status = f.Values
		case "Content-Type":
			p.untyped = false
		case "Last-Modified":
			if len(f.Values) == 0 {
				continue
			}
			if t, ok := rfc9111.ParseDate(f.Values[0]); ok {
				p.lastModified = t
				if rfc9111.StrongLastModified(t, e.Date) {
					p.strongDate = t
				}
			}
		}
	}
	if !e.ByHandler {
		p.date = line(&lines, e.Date.UTC().Format(http.TimeFormat))
	}

	identity := false
	for i, b := range e.Bodies {
		f := preparedForm{body: i}
		if b.Coding != codec.Identity {
			f.coding = line(&lines, b.Coding)
		} else {
			identity = true
		}
		if b.ETag != "" {
			f.etag = line(&lines, b.ETag)
		}
		if bodyAllowed(e.Status) {
			f.length = length(int64(len(b.Data)))
		}
		p.offers = append(p.offers, b.Coding)
		p.forms = append(p.forms, f)
	}
	switch {
	case len(e.Bodies) <= 1 && identity:
	case p.vary == nil:
		p.vary = varyCoding
	default:
		p.vary = addVary(p.vary, "Accept-Encoding")
	}
	if i := slices.IndexFunc(e.Bodies, func(b Body) bool { return codec.Known(b.Coding) }); !identity && i >= 0 && e.Length >= 0 {
		// Not among offers: a client that prefers identity gets it all the
		// same, by taking none of them.
		f := preparedForm{body: i, decode: true}
		if tag, rest := identityETag(e.Bodies[i]); tag != "" {
			from := text.Len()
			text.WriteString(tag)
			text.WriteString(rest)
			f.etag = line(&lines, text.String()[from:])
		}
		f.length = length(e.Length)
		p.forms = append(p.forms, f)
	}
	return p
}

// usualETag is for how long an entity tag there is room beforehand.
const usualETag = 48

var varyCoding = []string{"Accept-Encoding"}

// addVary returns the lines of a Vary field with name among them.
func addVary(lines []string, name string) []string {
	for _, l := range lines {
		for member := range strings.SplitSeq(l, ",") {
			if member = strings.TrimSpace(member); member == "*" || strings.EqualFold(member, name) {
				return lines
			}
		}
	}
	return append(slices.Clip(lines), name)
}

// at returns what the answer says about time.
func (p *prepared) at(e *Entry, staleFrom, now time.Time) *preparedSecond {
	unix := now.Unix()
	ttl := floorSeconds(staleFrom.Sub(now))
	if s := p.second.Load(); s != nil && s.unix == unix && s.ttl == ttl {
		return s
	}
	s := &p.room.second
	if !p.first.CompareAndSwap(false, true) {
		s = new(preparedSecond)
	}
	s.unix, s.ttl = unix, ttl
	lines := s.room[:0]
	if member := string(hitMember(ttl)); p.status == nil {
		s.status = line(&lines, member)
	} else {
		s.status = append(slices.Clip(p.status), member)
	}
	if !e.ByHandler {
		s.age = line(&lines, strconv.FormatInt(int64(e.age(now)/time.Second), 10))
	}
	p.second.Store(s)
	return s
}

// floorSeconds rounds down, below zero too: what is stale by a millisecond has
// no second left.
func floorSeconds(d time.Duration) int64 {
	s := int64(d / time.Second)
	if d < 0 && d%time.Second != 0 {
		s--
	}
	return s
}

// bodyAllowed reports whether a response of this status has a body, and hence
// a Content-Length of that body (RFC 9110, sections 6.4.1 and 8.6).
func bodyAllowed(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}
