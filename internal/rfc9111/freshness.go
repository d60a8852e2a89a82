package rfc9111

import (
	"net/http"
	"time"
)

// A Request is what the rules need to know of a request.
type Request struct {
	Method string
	Header http.Header
}

// A Response is what the rules need to know of a response. Header is as the
// handler left it; no function here keeps it.
type Response struct {
	Status int
	Header http.Header

	// Requested is when the handler was asked. The time it took to answer is part
	// of the response's age (section 4.2.3). Zero says that it made the response
	// at the end of that time: it is a function, and not a server far away.
	Requested time.Time

	// Received is when the header was complete. It stands in for a missing
	// Date, which is the usual case: net/http adds Date while it writes.
	Received time.Time

	// Targets are the names of the fields that speak to this cache in place of
	// Cache-Control, strongest first and in any spelling: a target list (RFC
	// 9213, section 2.2). "Surrogate-Control" in it is read by its own, older
	// syntax. Nil means that Cache-Control is all there is.
	Targets []string
}

// A Source says which field a freshness lifetime came from.
type Source uint8

// The sources of a freshness lifetime, strongest first after None.
const (
	None      Source = iota // nobody says anything
	SMaxAge                 // s-maxage, of Cache-Control or a targeted field
	MaxAge                  // max-age, of Cache-Control or a targeted field
	Expires                 // Expires
	Heuristic               // a guess from Last-Modified (section 4.2.2)
)

// String returns the name of the field or directive, "heuristic" or "none".
func (s Source) String() string {
	switch s {
	case SMaxAge:
		return "s-maxage"
	case MaxAge:
		return "max-age"
	case Expires:
		return "expires"
	case Heuristic:
		return "heuristic"
	}
	return "none"
}

// A Lifetime is how long a response is fresh, counted from its generation, and
// who says so. A response is fresh as long as Duration is greater than its
// [CurrentAge]. The zero Lifetime says that nobody said anything.
type Lifetime struct {
	Duration time.Duration // never negative, at most 2^31 seconds
	Source   Source
}

// FreshnessLifetime returns the explicit lifetime of a response in a shared
// cache (RFC 9111, section 4.2.1): s-maxage, else max-age, else Expires minus
// Date. The first of these that is present decides, longer or shorter than the
// others; if it cannot be read the response is stale, and the others are still
// not asked. Where a targeted field governs, Expires is never asked (RFC 9213,
// section 2.2).
func FreshnessLifetime(r Response) Lifetime {
	d, targeted := governing(r)
	if delta, present := d.Seconds("s-maxage"); present {
		return Lifetime{delta, SMaxAge}
	}
	if delta, present := d.Seconds("max-age"); present {
		return Lifetime{delta, MaxAge}
	}
	if lines := values(r.Header, "Expires"); len(lines) > 0 && !targeted {
		return Lifetime{untilExpires(lines, r), Expires}
	}
	return Lifetime{}
}

// HeuristicLifetime returns how long a response may be taken for fresh though
// nobody said so: a tenth of the time between its Last-Modified and its Date,
// as RFC 9111, section 4.2.2 suggests, and at most limit. There is none if there
// is an explicit lifetime, even one that cannot be read, or if neither the
// status is heuristically cacheable (RFC 9110, section 15.1) nor public is said.
func HeuristicLifetime(r Response, limit time.Duration) Lifetime {
	if d, _ := governing(r); !heuristicallyCacheable(r.Status) && !d.says("public") {
		return Lifetime{}
	}
	if FreshnessLifetime(r).Source != None {
		return Lifetime{}
	}
	modified, ok := parseDate(ValidatorsOf(r.Header).LastModified, r.Received)
	if !ok {
		return Lifetime{}
	}
	generated, ok := dateOf(r)
	if !ok {
		generated = r.Received
	}
	guess := min(clamp(generated.Sub(modified))/10, clamp(limit))
	if guess == 0 {
		return Lifetime{}
	}
	return Lifetime{guess, Heuristic}
}

// untilExpires is Expires minus Date (RFC 9111, section 5.3). What cannot be
// read, "0" above all, and lines that differ mean already expired.
func untilExpires(lines []string, r Response) time.Duration {
	expires, ok := parseDate(lines[0], r.Received)
	if !ok {
		return 0
	}
	for _, line := range lines[1:] {
		if other, ok := parseDate(line, r.Received); !ok || !other.Equal(expires) {
			return 0
		}
	}
	generated, ok := dateOf(r)
	if !ok {
		generated = r.Received
	}
	if generated.IsZero() { // nobody knows when: do not count from the year 1
		return 0
	}
	return clamp(expires.Sub(generated))
}

// dateOf returns the Date of a response, if there is one that can be read.
func dateOf(r Response) (time.Time, bool) {
	lines := values(r.Header, "Date")
	if len(lines) == 0 {
		return time.Time{}, false
	}
	return parseDate(lines[0], r.Received)
}

// StaleWindows returns for how long after the end of its freshness a response
// may be served while it is refreshed, and for how long if refreshing it fails
// (RFC 5861, sections 3 and 4). Both are 0 if [MustRevalidate] forbids it, and
// one that cannot be read is 0.
//
// s-maxage forbids it too (RFC 9111, section 5.2.2.10), so that "s-maxage=60,
// stale-while-revalidate=30" has no window; "public, max-age=60,
// stale-while-revalidate=30" has.
func StaleWindows(r Response) (whileRevalidate, ifError time.Duration) {
	d, _ := governing(r)
	if mustRevalidate(d) {
		return 0, 0
	}
	whileRevalidate, _ = d.Seconds("stale-while-revalidate")
	ifError, _ = d.Seconds("stale-if-error")
	return whileRevalidate, ifError
}

// MustRevalidate reports whether a shared cache may never serve the response
// stale, not even when the origin fails: must-revalidate, proxy-revalidate,
// s-maxage, or an unqualified no-cache is present (RFC 9111, sections 4.2.4,
// 5.2.2.2, 5.2.2.4, 5.2.2.8 and 5.2.2.10). A no-cache that names fields forbids
// only these; see [RemoveNoCacheFields].
func MustRevalidate(r Response) bool {
	d, _ := governing(r)
	return mustRevalidate(d)
}

// NeedsValidation reports whether a stored response may never be served without
// validation, fresh or not: an unqualified no-cache is present (RFC 9111,
// section 5.2.2.4).
func NeedsValidation(r Response) bool {
	d, _ := governing(r)
	return d.unqualified("no-cache")
}

func mustRevalidate(d Directives) bool {
	return d.Has("must-revalidate") || d.Has("proxy-revalidate") || d.Has("s-maxage") || d.unqualified("no-cache")
}
