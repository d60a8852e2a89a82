package accel

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A question is a request as the store is asked for it: its key, and the
// material the key was made from. Questions come from a pool and are good until
// they are released; what outlives a request copies.
type question struct {
	glance
	key      Key
	scheme   string
	host     string // as sent; see lower
	target   string
	resource []byte // hashed to key.Resource
	variant  []byte // hashed to key.Variant; empty for the zero digest
	selected bool   // variant was made with Vary names
	known    bool   // key.Resource and key.Target were remembered
	scratch  []byte
	stripe   uint32    // of the counters; see counters
	now      time.Time // of the last look-up
	loan     loan
}

// keyVersion is the first byte of the material. Another order or meaning of the
// fields after it gets another number, so that old entries are never found.
const keyVersion = 1

var stripes atomic.Uint32

var questions = sync.Pool{New: func() any {
	q := &question{
		resource: make([]byte, 0, 256),
		variant:  make([]byte, 0, 256),
		scratch:  make([]byte, 0, 256),
		stripe:   stripes.Add(1),
	}
	q.loan.choose = q.loan.pick
	return q
}}

// ask prepares the question that r puts to the store, its variant being the one
// without Vary names. It returns nil for a request that must not meet the cache.
// It allocates nothing.
func (o *options) ask(r *http.Request) *question {
	if g := look(r); !g.odd {
		return o.question(r, &g)
	}
	return nil
}

// question is ask for a request that was looked at.
func (o *options) question(r *http.Request, g *glance) *question {
	target := originForm(r)
	if target == "" || target[0] != '/' {
		return nil // an opaque or empty target: nobody's page
	}
	q := questions.Get().(*question)
	q.glance = *g
	q.scheme, q.host, q.target = "http", r.Host, target
	if r.TLS != nil {
		q.scheme = "https"
	}

	b := append(q.resource[:0], keyVersion)
	b = appendField(b, q.scheme)
	b = appendLower(b, q.host)
	b = appendField(b, target)
	b = appendRewritten(b, r, q.scheme, target)
	extra := ""
	if o.key != nil {
		extra = o.key(r)
	}
	b = appendField(b, extra)
	q.resource = b
	if q.key.Resource, q.key.Target, q.known = digestsOf.get(b); !q.known {
		q.digest()
	}

	q.vary(r.Header, nil)
	return q
}

// digest hashes what the key is made from.
func (q *question) digest() {
	q.key.Resource = sha256.Sum256(q.resource)
	b := append(q.scratch[:0], byte(KindTarget))
	b = appendField(b, q.target)
	q.scratch = b
	sum := sha256.Sum256(b)
	q.key.Target = Hash(binary.BigEndian.Uint64(sum[:8]))
}

// vary makes q's variant the one selected by these Vary names (RFC 9111, section
// 4.1).
func (q *question) vary(h http.Header, names []string) {
	q.selected = len(names) != 0
	b := q.variant[:0]
	for _, name := range names {
		value, present := rfc9111.AppendSelectingValue(q.scratch[:0], h, name)
		q.scratch = value[:0]
		b = append(b, 'v')
		b = appendField(b, name)
		if present {
			b = append(b, 1)
			b = append(appendUvarint(b, uint64(len(value))), value...)
		} else {
			b = append(b, 0)
		}
	}
	if q.keyed != 0 || q.underscored {
		start := len(b)
		if b = appendKeyed(append(b, 'k'), h, q.glance); len(b) == start+1 {
			b = b[:start]
		}
	}
	q.variant = b
	q.key.Variant = Digest{}
	if len(b) != 0 {
		q.key.Variant = sha256.Sum256(b)
	}
}

// answeredBy reports whether e was stored for this very question. The digests
// say so already; but they would say so of a damaged store's entry too, and a
// comparison costs nothing.
func (q *question) answeredBy(e *Entry) bool {
	return string(q.resource) == e.Resource && string(q.variant) == e.Variant
}

// release gives q back to the pool.
func (q *question) release() {
	if cap(q.resource)+cap(q.variant)+cap(q.scratch) > 64<<10 {
		return // one request with a giant URL should not keep memory for good
	}
	q.scheme, q.host, q.target = "", "", ""
	q.loan.clear()
	questions.Put(q)
}

// originForm returns the request target in origin form, as the client sent it.
// The path is neither decoded nor cleaned: whatever differs to some handler
// differs here. It returns "" if there is no such form.
func originForm(r *http.Request) string {
	target := r.RequestURI
	if target == "" { // a request that no server has read
		return r.URL.RequestURI()
	}
	if target[0] == '/' {
		return target
	}
	i := strings.Index(target, "://")
	if i < 0 {
		return ""
	}
	// The authority is in r.Host, where net/http puts it (RFC 9112, section
	// 3.2.2: it overrides the Host field).
	_, target = cutAuthority(target[i+3:])
	return target
}

// appendRewritten appends one field: empty if the URL is what follows from
// scheme, host and target, else what something in front of us made of it
// (http.StripPrefix and routers do), or what a client said in an absolute form
// besides. The handler sees only the URL, so it is part of what it answers.
func appendRewritten(b []byte, r *http.Request, scheme, target string) []byte {
	u := r.URL
	// Scheme and host are there in the absolute form alone. A request in it has
	// the key of one in origin form, if they are its own.
	if u.Scheme != "" && u.Scheme != scheme {
		scheme = u.Scheme
	} else {
		scheme = ""
	}
	host := u.Host
	if host == r.Host {
		host = ""
	}
	path, query, hasQuery := strings.Cut(target, "?")
	// Where the path has escapes u.Path differs from it, and all is appended.
	// It follows from the target then, so it separates nothing.
	if u.Path == path && u.RawPath == "" && u.RawQuery == query &&
		u.ForceQuery == (hasQuery && query == "") &&
		scheme == "" && host == "" && u.User == nil && u.Opaque == "" {
		return append(b, 0)
	}
	n := 1
	force, user := "", ""
	if u.ForceQuery {
		force = "?"
	}
	if u.User != nil {
		user = u.User.String() + "@"
	}
	fields := [...]string{u.Path, u.RawPath, u.RawQuery, force, scheme, user, host, u.Opaque}
	for _, f := range fields {
		n += uvarintLen(uint64(len(f))) + len(f)
	}
	b = appendUvarint(b, uint64(n))
	b = append(b, 'r')
	for _, f := range fields {
		b = appendField(b, f)
	}
	return b
}

// appendLower appends s as a field, in lower case as far as ASCII goes. Hosts
// are compared without regard to case (RFC 9110, section 4.2.3).
func appendLower(b []byte, s string) []byte {
	b = appendUvarint(b, uint64(len(s)))
	for i := 0; i < len(s); i++ {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}

// lower is appendLower as a string. strings.ToLower knows more than ASCII and
// could make two hosts one.
func lower(s string) string {
	return string(appendLower(make([]byte, 0, len(s)+2), s)[uvarintLen(uint64(len(s))):])
}

// originHost is a host as the marks of its URLs have it: in lower case, and
// without the port that is the scheme's own (RFC 9110, section 4.2.3). The key has
// the host as it was sent, because handlers see that; an invalidation strikes both.
func originHost(scheme, host string) string {
	host = lower(host)
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}

func appendUvarint(b []byte, n uint64) []byte { return binary.AppendUvarint(b, n) }

func uvarintLen(n uint64) int {
	l := 1
	for n >= 0x80 {
		n >>= 7
		l++
	}
	return l
}

// urlMarks are the hashes of the URL and of its target, which every entry of it
// carries.
func (q *question) urlMarks() []Hash {
	url := URLMark(q.scheme, originHost(q.scheme, q.host), q.target)
	return []Hash{url.Hash, url.Target}
}

// url is the URL that was asked for, for people to read.
func (q *question) url() string { return q.scheme + "://" + q.host + q.target }

// URL returns the URL that the entry was stored for, for people to read:
// scheme, host and target as they were sent. It is empty if Resource is not the
// material of a key.
func (e *Entry) URL() string {
	scheme, host, target, ok := splitResource(e.Resource)
	if !ok {
		return ""
	}
	return scheme + "://" + host + target
}

func splitResource(s string) (scheme, host, target string, ok bool) {
	if s == "" || s[0] != keyVersion {
		return "", "", "", false
	}
	s = s[1:]
	for _, f := range []*string{&scheme, &host, &target} {
		n, size := binary.Uvarint([]byte(s[:min(len(s), binary.MaxVarintLen64)]))
		if size <= 0 || n > uint64(len(s)-size) {
			return "", "", "", false
		}
		*f, s = s[size:size+int(n)], s[size+int(n):]
	}
	return scheme, host, target, true
}
