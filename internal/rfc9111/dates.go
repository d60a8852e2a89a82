package rfc9111

import (
	"strings"
	"time"
)

// ParseDate reads an HTTP-date in any of its three forms (RFC 9110, section
// 5.6.7). It allocates nothing.
//
// Where http.ParseTime is lax it is strict: one space is one space, numbers
// have all their digits, seconds no fraction, and the zone is GMT (RFC 9111,
// section 4.2: anything else is invalid). Where http.ParseTime is strict it is
// lax: letters may be in either case (section 4.2 again), and the day of the
// week is not looked at, because the rest of the date says it.
//
// The years of the RFC 850 form are read as 1970 to 2069.
func ParseDate(s string) (time.Time, bool) {
	return parseDate(s, time.Time{})
}

// parseDate is ParseDate for who knows what time it is: a two-digit year is
// then the last one that is not more than 50 years in the future.
func parseDate(s string, now time.Time) (time.Time, bool) {
	s = trimOWS(s)
	p := dateReader{rest: s, ok: true}
	var year, day, hour, minute, second int
	var month time.Month
	switch comma := strings.IndexByte(s, ','); {
	case comma == 3: // IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT
		p.letters(3)
		p.literal(", ")
		day = p.digits(2)
		p.literal(" ")
		month = p.month()
		p.literal(" ")
		year = p.digits(4)
		p.literal(" ")
		hour, minute, second = p.clock()
		p.literal(" GMT")
	case comma >= len("Monday") && comma <= len("Wednesday"): // RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
		p.letters(comma)
		p.literal(", ")
		day = p.digits(2)
		p.literal("-")
		month = p.month()
		p.literal("-")
		year = p.digits(2)
		p.literal(" ")
		hour, minute, second = p.clock()
		p.literal(" GMT")
		if p.ok {
			year = fullYear(year, month, day, now)
		}
	case comma < 0: // asctime: Sun Nov  6 08:49:37 1994
		p.letters(3)
		p.literal(" ")
		month = p.month()
		p.literal(" ")
		if strings.HasPrefix(p.rest, " ") {
			p.literal(" ")
			day = p.digits(1)
		} else {
			day = p.digits(2)
		}
		p.literal(" ")
		hour, minute, second = p.clock()
		p.literal(" ")
		year = p.digits(4)
	default:
		return time.Time{}, false
	}
	if !p.ok || p.rest != "" || hour > 23 || minute > 59 {
		return time.Time{}, false
	}
	if hour == 23 && minute == 59 && second == 60 {
		// A leap second, which time.Time has no room for: the nearest time that
		// is not later (RFC 9111, section 4.2).
		second = 59
	}
	if second > 59 {
		return time.Time{}, false
	}
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	if t.Day() != day { // 31 November, or day 0
		return time.Time{}, false
	}
	return t, true
}

// fullYear returns the year that ends in these two digits (RFC 9110, section
// 5.6.7: what appears to be more than 50 years in the future is the past).
func fullYear(digits int, month time.Month, day int, now time.Time) int {
	if now.IsZero() {
		if digits < 70 {
			return 2000 + digits
		}
		return 1900 + digits
	}
	now = now.UTC()
	limit := now.AddDate(50, 0, 0)
	year := now.Year()/100*100 + 100 + digits
	for time.Date(year, month, day, 0, 0, 0, 0, time.UTC).After(limit) {
		year -= 100
	}
	return year
}

// A dateReader takes a date apart from its front. After the first thing that is
// not there, ok is false for good.
type dateReader struct {
	rest string
	ok   bool
}

func (p *dateReader) take(n int) string {
	if !p.ok || len(p.rest) < n {
		p.ok = false
		return ""
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func (p *dateReader) literal(want string) {
	if !strings.EqualFold(p.take(len(want)), want) {
		p.ok = false
	}
}

func (p *dateReader) letters(n int) {
	s := p.take(n)
	for i := range len(s) {
		if c := s[i] | 0x20; c < 'a' || c > 'z' {
			p.ok = false
		}
	}
}

func (p *dateReader) digits(n int) (value int) {
	s := p.take(n)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			p.ok = false
		}
		value = value*10 + int(s[i]-'0')
	}
	return value
}

func (p *dateReader) month() time.Month {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	s := p.take(3)
	for m := time.January; m <= time.December; m++ {
		if strings.EqualFold(s, names[3*m-3:3*m]) {
			return m
		}
	}
	p.ok = false
	return 0
}

func (p *dateReader) clock() (hour, minute, second int) {
	hour = p.digits(2)
	p.literal(":")
	minute = p.digits(2)
	p.literal(":")
	second = p.digits(2)
	return hour, minute, second
}
