package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestRFC9110_5_6_7_ParseDate(t *testing.T) {
	want := time.Date(1994, time.November, 6, 8, 49, 37, 0, time.UTC)
	for _, s := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT",
		"Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994",
		"Sun Nov 06 08:49:37 1994",
		// RFC 9111, 4.2: in either case
		"sun, 06 nov 1994 08:49:37 gmt",
		"SUN, 06 NOV 1994 08:49:37 gMT",
		"sunday, 06-NOV-94 08:49:37 Gmt",
		"SUN NOV  6 08:49:37 1994",
		// The day of the week is not checked.
		"Mon, 06 Nov 1994 08:49:37 GMT",
		"Dim, 06 Nov 1994 08:49:37 GMT",
		"Wednesday, 06-Nov-94 08:49:37 GMT",
		"Thu Nov  6 08:49:37 1994",
		// Whitespace around a field value is not part of it (RFC 9110, 5.5).
		" Sun, 06 Nov 1994 08:49:37 GMT\t",
	} {
		got, ok := rfc9111.ParseDate(s)
		assert.True(t, ok, s)
		assert.True(t, want.Equal(got), "%s: %v", s, got)
		assert.Equal(t, time.UTC, got.Location(), s)
	}

	for _, s := range []string{
		"", "0", "-1", "now", ",", "Sun,", "784111777",
		"Sun,  06 Nov 1994 08:49:37 GMT",
		"Sun, 06  Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 1994  08:49:37 GMT",
		"Sun,06 Nov 1994 08:49:37 GMT",
		"Sun, 6 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nov 94 08:49:37 GMT",
		"Sun, 06 Nov 1994 8:49:37 GMT",
		"Sun, 06 Nov 1994 08:49 GMT",
		"Sun, 06 Nov 1994 08:49:37.5 GMT",
		"Sun, 06 Nov 1994 08.49.37 GMT",
		"Sun, 06 Nov 1994 08:49:37",
		"Sun, 06 Nov 1994 08:49:37 UTC",
		"Sun, 06 Nov 1994 08:49:37 EST",
		"Sun, 06 Nov 1994 08:49:37 +0000",
		"Sun, 06 Nov 1994 08:49:37 GMT+1",
		"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
		"Sunday, 06-Nov-94 08:49:37 CET",
		"Sunday, 06-Nov-1994 08:49:37 GMT",
		"Sunday, 06 Nov 1994 08:49:37 GMT",
		"Sun Nov 6 08:49:37 1994",
		"Sun Nov   6 08:49:37 1994",
		"Sun Nov  6 08:49:37 1994 GMT",
		"Sun Nov  6 08:49:37 94",
		"Su, 06 Nov 1994 08:49:37 GMT",
		"S1n, 06 Nov 1994 08:49:37 GMT",
		"Sun, 06 Nob 1994 08:49:37 GMT",
		"Sun, 00 Nov 1994 08:49:37 GMT",
		"Sun, 31 Nov 1994 08:49:37 GMT",
		"Wed, 29 Feb 2023 08:49:37 GMT",
		"Sun, 06 Nov 1994 24:00:00 GMT",
		"Sun, 06 Nov 1994 08:60:00 GMT",
		"Sun, 06 Nov 1994 08:49:60 GMT",
		"Sun, 06 Nov 1994 23:59:61 GMT",
		"Sun, +6 Nov 1994 08:49:37 GMT",
		"1994-11-06T08:49:37Z",
		"Sun, 06 Nov 1994 08:49:37 GMT\x00",
	} {
		_, ok := rfc9111.ParseDate(s)
		assert.False(t, ok, s)
	}
}

func TestRFC9111_4_2_LeapSecondIsNotLater(t *testing.T) {
	got, ok := rfc9111.ParseDate("Sat, 31 Dec 2016 23:59:60 GMT")
	assert.True(t, ok)
	assert.Equal(t, time.Date(2016, 12, 31, 23, 59, 59, 0, time.UTC), got)
	_, ok = rfc9111.ParseDate("Thu, 29 Feb 2024 00:00:00 GMT")
	assert.True(t, ok)
}

func TestRFC9110_5_6_7_TwoDigitYear(t *testing.T) {
	for s, year := range map[string]int{
		"Sunday, 06-Nov-00 08:49:37 GMT": 2000,
		"Sunday, 06-Nov-69 08:49:37 GMT": 2069,
		"Sunday, 06-Nov-70 08:49:37 GMT": 1970,
		"Sunday, 06-Nov-99 08:49:37 GMT": 1999,
	} {
		got, ok := rfc9111.ParseDate(s)
		assert.True(t, ok, s)
		assert.Equal(t, year, got.Year(), s)
	}

	// Where the time is known, more than 50 years ahead is the past.
	for _, c := range []struct {
		now  int
		s    string
		want time.Duration // of an Expires with that date
	}{
		{2026, "Friday, 02-Jan-76 00:00:00 GMT", time.Date(2076, 1, 2, 0, 0, 0, 0, time.UTC).Sub(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))},
		{2026, "Friday, 02-Jan-77 00:00:00 GMT", 0},
		{2026, "Friday, 02-Jan-94 00:00:00 GMT", 0},
		{2099, "Friday, 02-Jun-99 00:00:00 GMT", 24 * time.Hour},
		{2099, "Friday, 01-Jun-00 00:00:00 GMT", 365 * 24 * time.Hour},
	} {
		r := rfc9111.Response{Received: time.Date(c.now, 6, 1, 0, 0, 0, 0, time.UTC), Header: http.Header{"Expires": {c.s}}}
		assert.Equal(t, c.want, rfc9111.FreshnessLifetime(r).Duration, "%s in %d", c.s, c.now)
	}
}

// All three forms of every second of the four-digit years read back.
func TestRFC9110_5_6_7_RoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := time.Unix(rapid.Int64Range(-62135596800+366*86400, 253402300799).Draw(t, "unix"), 0).UTC()
		forms := []string{http.TimeFormat, time.ANSIC}
		if y := want.Year(); y >= 1970 && y <= 2069 {
			forms = append(forms, "Monday, 02-Jan-06 15:04:05 GMT")
		}
		for _, form := range forms {
			got, ok := rfc9111.ParseDate(want.Format(form))
			if !ok || !got.Equal(want) {
				t.Fatalf("%s: %v, %v", want.Format(form), got, ok)
			}
		}
	})
}

func FuzzParseDate(f *testing.F) {
	for _, s := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994", "0", "",
		"Thu, 29 Feb 2024 23:59:60 gmt", "Sun, 06 Nov 0000 00:00:00 GMT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := rfc9111.ParseDate(s)
		if !ok {
			if !got.IsZero() {
				t.Fatalf("%q: %v beside false", s, got)
			}
			return
		}
		if got.Location() != time.UTC || got.Nanosecond() != 0 {
			t.Fatalf("%q: %v", s, got)
		}
		again, ok := rfc9111.ParseDate(got.Format(http.TimeFormat))
		if !ok || !again.Equal(got) {
			t.Fatalf("%q: %v, read back %v, %v", s, got, again, ok)
		}
	})
}
