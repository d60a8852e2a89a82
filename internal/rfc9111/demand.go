package rfc9111

import (
	"net/http"
	"strings"
	"time"
)

// A Demand is what a request's Cache-Control says about the stored response
// that may answer it (RFC 9111, section 5.2.1). The zero Demand is that of a
// request that says nothing: it allows what is fresh, and nothing else.
type Demand struct {
	NoCache      bool // not without validation (section 5.2.1.4)
	OnlyIfCached bool // a stored response or 504 (section 5.2.1.7)

	limited  bool          // maxAge counts
	maxAge   time.Duration // how old it may be
	minFresh time.Duration // for how long it must still be fresh
	maxStale time.Duration // for how long it may have been stale
}

// DemandOf returns the demand of a request header. Pragma: no-cache counts where
// there is no Cache-Control (section 5.4).
//
// What cannot be read, or is said twice and differently, is the strictest that it
// may have meant: max-age and max-stale are 0, min-fresh is for ever. A max-stale
// without a value accepts any staleness.
//
// Every hit calls it, so it allocates nothing.
func DemandOf(h http.Header) Demand {
	var d Demand
	lines := h["Cache-Control"]
	if len(lines) == 0 {
		for _, line := range h["Pragma"] {
			r := memberReader{rest: line}
			for m, more := r.next(); more; m, more = r.next() {
				d.NoCache = d.NoCache || strings.EqualFold(m.name, "no-cache")
			}
		}
		return d
	}
	var maxAge, minFresh, maxStale argument
	for _, line := range lines {
		r := memberReader{rest: line}
		for m, more := r.next(); more; m, more = r.next() {
			switch {
			case strings.EqualFold(m.name, "no-cache"):
				d.NoCache = true
			case strings.EqualFold(m.name, "only-if-cached"):
				d.OnlyIfCached = true
			case strings.EqualFold(m.name, "max-age"):
				maxAge.read(m)
			case strings.EqualFold(m.name, "min-fresh"):
				minFresh.read(m)
			case strings.EqualFold(m.name, "max-stale"):
				if m.ok && m.junk == "" && !m.hasArg {
					m.arg, m.hasArg = anyStaleness, true
				}
				maxStale.read(m)
			}
		}
	}
	d.limited, d.maxAge = maxAge.present, maxAge.or(0)
	d.minFresh = minFresh.or(forever)
	d.maxStale = maxStale.or(0)
	return d
}

// anyStaleness is the max-stale that a max-stale without argument stands for:
// nothing is older than 2^31 seconds.
const anyStaleness = "2147483648"

// Allows reports whether a stored response may answer without validation: one of
// this age, with this much freshness left, negative if it has been stale for that
// long. mayBeStale is false if the response itself forbids to use it stale; see
// [MustRevalidate].
func (d Demand) Allows(age, left time.Duration, mayBeStale bool) bool {
	switch {
	case d.NoCache,
		d.limited && age > d.maxAge,
		d.minFresh > 0 && left < d.minFresh:
		return false
	case left > 0:
		return true
	}
	return mayBeStale && d.maxStale > 0 && left >= -d.maxStale
}

// An argument gathers what is said under one name that takes a number of
// seconds, as [Directives.Seconds] does for the names of a response.
type argument struct {
	value               time.Duration
	present, unreadable bool
}

func (a *argument) read(m member) {
	value, ok := deltaSeconds(m.arg)
	if !ok || !m.ok || m.junk != "" || a.present && value != a.value {
		a.unreadable = true
	}
	a.value, a.present = value, true
}

// or returns the number: 0 if there is none, strictest if it cannot be read.
func (a *argument) or(strictest time.Duration) time.Duration {
	if a.unreadable {
		return strictest
	}
	return a.value
}
