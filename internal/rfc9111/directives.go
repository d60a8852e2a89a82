package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// forever is what a number of seconds that is too large to represent is
// taken for (RFC 9111, section 1.2.2). It stands for "for ever", and two of
// them can be added without overflowing a time.Duration.
const forever = 1 << 31 * time.Second

// maxExtensions bounds how many unknown directives are remembered. A client may
// send a megabyte of them, nothing here asks for one, and RFC 9111, section
// 5.2.3 says to ignore them.
const maxExtensions = 32

// Directives is a parsed Cache-Control field, all its lines together. The zero
// value says nothing. A Directives is never changed after it was parsed.
type Directives struct {
	list []directive // no two of the same name
}

// A directive is everything that was said under one name.
type directive struct {
	name      string   // in lower case
	args      []string // of the occurrences that have an argument, in order
	bare      bool     // there is an occurrence without argument
	malformed bool     // there is an occurrence that breaks the grammar
}

// known are the directives that are kept however many others there are.
var known = map[string]bool{
	// RFC 9111, section 5.2
	"max-age": true, "max-stale": true, "min-fresh": true, "must-revalidate": true,
	"must-understand": true, "no-cache": true, "no-store": true, "no-transform": true,
	"only-if-cached": true, "private": true, "proxy-revalidate": true, "public": true,
	"s-maxage": true,
	// RFC 5861, RFC 8246
	"stale-while-revalidate": true, "stale-if-error": true, "immutable": true,
}

// ParseCacheControl reads the lines of a Cache-Control field (RFC 9111,
// section 5.2). Names are compared without regard to case; a comma inside a
// quoted string separates nothing; token and quoted-string arguments are the
// same, as the RFC asks recipients to accept both.
//
// It never fails. What breaks the grammar is present but unreadable, which is
// the careful side: it forbids, it does not permit. After a quotation mark that
// is never closed, or stands where none may, nobody can say which commas
// separate: all that follows on that line is taken as unreadable in this sense.
func ParseCacheControl(lines []string) Directives {
	var d Directives
	for _, line := range lines {
		d.parse(line)
	}
	return d
}

func (d *Directives) parse(line string) {
	r := memberReader{rest: line}
	for m, more := r.next(); more; m, more = r.next() {
		if m.name != "" {
			d.add(strings.ToLower(m.name), m.arg, m.hasArg, m.ok && m.junk == "")
		}
	}
}

// A memberReader takes a line of Cache-Control, or of a field that looks like
// it, apart from its front.
type memberReader struct {
	rest string
	lost bool // a stray quotation mark has been passed: no telling what is quoted
}

// A member is one directive as it is written.
type member struct {
	name   string // in the writer's spelling; empty if there is none
	arg    string
	hasArg bool
	ok     bool   // name and argument are by the grammar
	junk   string // what stands between them and the next comma
}

// next returns the next member that is not empty.
func (r *memberReader) next() (m member, more bool) {
	r.rest = strings.TrimLeft(r.rest, " \t,")
	if r.rest == "" {
		return member{}, false
	}
	m.name = r.rest[:tokenLen(r.rest)]
	m.ok = m.name != "" && !r.lost
	rest := r.rest[len(m.name):]
	if strings.HasPrefix(rest, "=") {
		m.hasArg = true
		rest = rest[1:]
		if strings.HasPrefix(rest, `"`) && !r.lost {
			var closed bool
			if m.arg, rest, closed = quotedString(rest); !closed {
				m.ok = false // and the quotation mark is still in rest
			}
		} else {
			n := tokenLen(rest)
			m.arg, rest = rest[:n], rest[n:]
			m.ok = m.ok && n > 0
		}
	}
	m.junk, r.rest, _ = strings.Cut(rest, ",")
	m.junk = trimOWS(m.junk)
	r.lost = r.lost || strings.Contains(m.junk, `"`)
	return m, true
}

func (d *Directives) add(name, arg string, hasArg, ok bool) {
	x := d.find(name)
	if x == nil {
		if !known[name] && len(d.list) >= len(known)+maxExtensions {
			return
		}
		d.list = append(d.list, directive{name: name})
		x = &d.list[len(d.list)-1]
	}
	switch {
	case !ok:
		x.malformed = true
	case hasArg:
		x.args = append(x.args, arg)
	default:
		x.bare = true
	}
}

func (d Directives) find(name string) *directive {
	for i := range d.list {
		if d.list[i].name == name {
			return &d.list[i]
		}
	}
	return nil
}

// Has reports whether a directive is present, with or without argument,
// readable or not. It is the question to ask about what forbids. The name is in
// lower case.
func (d Directives) Has(name string) bool {
	return d.find(name) != nil
}

// Seconds returns the argument of a directive that takes a number of seconds.
// Numbers too large to represent are 2^31 seconds (RFC 9111, section 1.2.2).
//
// An argument that is missing or is anything but digits is 0: present, and
// stale at once. So are several that differ: section 4.2.1 allows the first or
// stale, and only stale is never the longest. The name is in lower case.
func (d Directives) Seconds(name string) (delta time.Duration, present bool) {
	x := d.find(name)
	if x == nil {
		return 0, false
	}
	delta, _ = x.seconds()
	return delta, true
}

// seconds is the argument as a number of seconds, and whether it was readable.
func (x *directive) seconds() (time.Duration, bool) {
	if x.malformed || x.bare || len(x.args) == 0 {
		return 0, false
	}
	first, ok := deltaSeconds(x.args[0])
	for _, arg := range x.args[1:] {
		other, otherOK := deltaSeconds(arg)
		ok = ok && otherOK && other == first
	}
	if !ok {
		return 0, false
	}
	return first, true
}

// Fields returns the header names of a qualified directive, as in
// no-cache="Set-Cookie, X-Session" (RFC 9111, sections 5.2.2.4 and 5.2.2.7), in
// canonical form and in the order they are written. No names beside
// present=true mean the unqualified directive, which is the stricter: so does a
// list that cannot be read, one that is empty, and one that stands beside an
// unqualified occurrence. The name is in lower case.
func (d Directives) Fields(name string) (names []string, present bool) {
	x := d.find(name)
	if x == nil {
		return nil, false
	}
	if x.bare || x.malformed {
		return nil, true
	}
	for _, arg := range x.args {
		for member := range strings.SplitSeq(arg, ",") {
			member = trimOWS(member)
			if member == "" {
				continue
			}
			if !isToken(member) {
				return nil, true
			}
			names = append(names, http.CanonicalHeaderKey(member))
		}
	}
	return names, true
}

// unqualified reports whether a directive is present without a list of fields.
func (d Directives) unqualified(name string) bool {
	names, present := d.Fields(name)
	return present && len(names) == 0
}

// says reports whether a directive that takes no argument is there as it should
// be. It is the question to ask about what permits.
func (d Directives) says(name string) bool {
	x := d.find(name)
	return x != nil && x.bare && !x.malformed && len(x.args) == 0
}

// deltaSeconds reads delta-seconds (RFC 9111, section 1.2.2): digits, no sign,
// leading zeros allowed, clamped.
func deltaSeconds(s string) (time.Duration, bool) {
	if s == "" {
		return 0, false
	}
	var n time.Duration
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(n*10+time.Duration(c-'0'), forever/time.Second)
	}
	return n * time.Second, true
}

// quotedString reads the quoted-string (RFC 9110, section 5.6.4) that s begins
// with and returns what it quotes and what follows it. If it is never closed,
// rest is s, and the value is empty.
func quotedString(s string) (value, rest string, closed bool) {
	var unescaped []byte // nil as long as value is a part of s
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && unescaped == nil:
			return s[1:i], s[i+1:], true
		case c == '"':
			return string(unescaped), s[i+1:], true
		case c == '\\':
			if unescaped == nil {
				unescaped = append(make([]byte, 0, len(s)), s[1:i]...)
			}
			if i++; i < len(s) {
				unescaped = append(unescaped, s[i])
			}
		case unescaped != nil:
			unescaped = append(unescaped, c)
		}
	}
	return "", s, false
}

// tokenLen returns the length of the token (RFC 9110, section 5.6.2) that s
// begins with.
func tokenLen(s string) int {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return i
		}
	}
	return len(s)
}

func isToken(s string) bool { return s != "" && tokenLen(s) == len(s) }

func isTokenByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '!', '#', '$', '%', '&', '\'', '*', '+', '-', '.', '^', '_', '`', '|', '~':
		return true
	}
	return false
}

// trimOWS removes optional whitespace (RFC 9110, section 5.6.3) from both ends.
func trimOWS(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
