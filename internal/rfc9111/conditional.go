package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// A Precondition is what the conditional headers of a request ask for.
type Precondition uint8

// The outcomes of RFC 9110, section 13.2.2.
const (
	Proceed            Precondition = iota // answer as if there were no condition
	NotModified                            // 304
	PreconditionFailed                     // 412
)

// String returns "proceed", "not-modified" or "precondition-failed".
func (p Precondition) String() string {
	switch p {
	case NotModified:
		return "not-modified"
	case PreconditionFailed:
		return "precondition-failed"
	}
	return "proceed"
}

// EvaluatePreconditions evaluates If-Match, If-Unmodified-Since, If-None-Match
// and If-Modified-Since in the order of RFC 9110, section 13.2.2, against the
// validators of the representation that would be sent: etag in quotes, with W/
// if it is weak, empty if there is none; lastModified is zero if there is none.
// Then date stands in for it in If-Modified-Since (RFC 9111, section 4.3.2): what
// was generated at date has not been modified since a later second. In the same
// second it may have been, and the client have the version before. It allocates
// nothing.
//
// Conditions count only if the answer without them were a 2xx (section 13.2.1);
// that is for the caller to see to. If-Match and If-Unmodified-Since, which
// other caches may pass by (RFC 9111, section 4.3.2), are evaluated because
// this cache lives inside the origin and speaks for it.
func EvaluatePreconditions(method string, h http.Header, etag string, lastModified, date time.Time) Precondition {
	switch method {
	case http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return Proceed // these select no representation (section 13.2.1)
	}
	if lines := h["If-Match"]; len(lines) > 0 {
		if !matchETag(lines, etag, strong) {
			return PreconditionFailed
		}
	} else if since, ok := conditionDate(h["If-Unmodified-Since"], lastModified); ok && modifiedAfter(lastModified, since) {
		return PreconditionFailed
	}

	read := method == http.MethodGet || method == http.MethodHead
	if lines := h["If-None-Match"]; len(lines) > 0 {
		// Present, it switches If-Modified-Since off, whatever it holds
		// (section 13.1.3).
		switch {
		case !matchETag(lines, etag, weak):
			return Proceed
		case read:
			return NotModified
		}
		return PreconditionFailed
	}
	if read {
		if lastModified.IsZero() && !date.IsZero() {
			lastModified = date.Add(time.Second)
		}
		if since, ok := conditionDate(h["If-Modified-Since"], lastModified); ok && !modifiedAfter(lastModified, since) {
			return NotModified
		}
	}
	return Proceed
}

// conditionDate returns the date of a condition on lastModified. There is none
// if the field is missing, is not exactly one date, or has nothing to be
// compared with (RFC 9110, sections 13.1.3 and 13.1.4).
func conditionDate(lines []string, lastModified time.Time) (time.Time, bool) {
	if len(lines) != 1 || lastModified.IsZero() {
		return time.Time{}, false
	}
	return ParseDate(lines[0])
}

// modifiedAfter compares in the seconds that an HTTP-date has: a finer
// lastModified would be later than the very header that was made from it.
func modifiedAfter(lastModified, since time.Time) bool {
	return lastModified.Unix() > since.Unix()
}

// MatchETagWeak reports whether the lines of an If-None-Match field list an
// entity tag, by the weak comparison (RFC 9110, sections 13.1.2 and 8.8.3.2):
// W/ makes no difference. A lone "*" matches every representation, one without
// an entity tag too; in company it is invalid, and ignored as every malformed
// member is. Commas may stand inside a tag. It allocates nothing.
func MatchETagWeak(list []string, etag string) bool {
	return matchETag(list, etag, weak)
}

// A comparison is one of the two of RFC 9110, section 8.8.3.2.
type comparison bool

const (
	weak   comparison = false
	strong comparison = true
)

func matchETag(lines []string, etag string, how comparison) bool {
	own, ok := parseETag(etag)
	ok = ok && (how == weak || !own.weak)
	members, star, match := 0, false, false
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if line == "" {
				break
			}
			members++
			tag, rest, valid := cutETag(line)
			if valid && ok && tag.opaque == own.opaque && (how == weak || !tag.weak) {
				match = true
			}
			if !valid {
				member, _, _ := strings.Cut(line, ",")
				star = star || trimOWS(member) == "*"
			}
			_, line, _ = strings.Cut(rest, ",")
		}
	}
	return match || star && members == 1
}

// IfRangeMatches reports whether the Range of a request may be honoured as far
// as its If-Range is concerned (RFC 9110, section 13.1.5): there is none, or it
// is the entity tag by the strong comparison, or exactly the date. If it is
// false, the whole representation is to be sent.
//
// A date is good only if it is a strong validator; pass a zero lastModified
// unless [StrongLastModified] says that it is.
func IfRangeMatches(h http.Header, etag string, lastModified time.Time) bool {
	lines := h["If-Range"]
	if len(lines) == 0 {
		return true
	}
	if len(lines) > 1 {
		return false
	}
	if tag, ok := parseETag(trimOWS(lines[0])); ok {
		own, ok := parseETag(etag)
		return ok && !own.weak && !tag.weak && tag.opaque == own.opaque
	}
	date, ok := conditionDate(lines, lastModified)
	return ok && date.Unix() == lastModified.Unix()
}

// StrongLastModified reports whether the Last-Modified of a stored response is
// a strong validator: its Date is at least one second later, so that no second
// change can hide in the same second (RFC 9110, section 8.8.2.2).
func StrongLastModified(lastModified, date time.Time) bool {
	return !lastModified.IsZero() && date.Unix() > lastModified.Unix()
}

// An entityTag is an entity-tag taken apart (RFC 9110, section 8.8.3).
type entityTag struct {
	opaque string // without the quotes
	weak   bool
}

// IsETag reports whether a string is an entity tag (RFC 9110, section 8.8.3). One
// without quotes never matches what a client sends back.
func IsETag(s string) bool {
	_, ok := parseETag(s)
	return ok
}

// parseETag reads a string that is an entity tag and nothing else.
func parseETag(s string) (entityTag, bool) {
	tag, rest, ok := cutETag(s)
	return tag, ok && rest == ""
}

// cutETag reads the entity tag that is the first member of the list s, and
// returns what follows it. If there is none, rest is where to look for the comma
// that ends whatever is there instead.
func cutETag(s string) (tag entityTag, rest string, ok bool) {
	opaque, isWeak := strings.CutPrefix(s, "W/") // case-sensitive
	if !strings.HasPrefix(opaque, `"`) {
		return entityTag{}, s, false
	}
	opaque = opaque[1:]
	end := strings.IndexByte(opaque, '"')
	if end < 0 {
		return entityTag{}, s, false
	}
	opaque, rest = opaque[:end], opaque[end+1:]
	for i := range len(opaque) {
		if c := opaque[i]; c <= ' ' || c == 0x7f {
			return entityTag{}, rest, false
		}
	}
	if after := strings.TrimLeft(rest, " \t"); after != "" && after[0] != ',' {
		return entityTag{}, rest, false
	}
	return entityTag{opaque, isWeak}, rest, true
}
