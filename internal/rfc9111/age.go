package rfc9111

import (
	"strings"
	"time"
)

// InitialAge returns how old a response was when it was received: the
// corrected_initial_age of RFC 9111, section 4.2.3, which is the greater of
// what its Date says, and what its Age says plus the time that the answer took.
//
// Date counts in whole seconds, so the fraction of the second in which a
// response was both made and received is no age.
func InitialAge(r Response) time.Duration {
	var apparent time.Duration
	if date, ok := dateOf(r); ok && !r.Received.IsZero() {
		apparent = clamp(r.Received.Truncate(time.Second).Sub(date))
	}
	age := ageValue(values(r.Header, "Age"))
	if !r.Requested.IsZero() {
		age += clamp(r.Received.Sub(r.Requested))
	}
	return clamp(max(apparent, age))
}

// ageValue reads Age (RFC 9111, section 5.1): the first member of the first
// line counts; if that is not a number, Age is ignored.
func ageValue(lines []string) time.Duration {
	if len(lines) == 0 {
		return 0
	}
	first, _, _ := strings.Cut(strings.TrimLeft(lines[0], " \t,"), ",")
	age, _ := deltaSeconds(trimOWS(first))
	return age
}

// CurrentAge returns how old a stored response is now (RFC 9111, section 4.2.3):
// how old it was at a moment, and the time since. It is never negative, whatever
// the clock did meanwhile, never more than 2^31 seconds, and allocates nothing.
func CurrentAge(initial time.Duration, at, now time.Time) time.Duration {
	return clamp(clampBoth(initial) + clampBoth(now.Sub(at)))
}

// clampBoth keeps a sum of two from overflowing.
func clampBoth(d time.Duration) time.Duration { return min(max(d, -forever), forever) }

// clamp brings a number of seconds into the range of RFC 9111, section 1.2.2.
func clamp(d time.Duration) time.Duration {
	return min(max(d, 0), forever)
}
