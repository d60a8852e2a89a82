package main

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Reading Cache-Control.

func TestConformance_RFC9111_5_2_SeveralLines(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: public", "Cache-Control: max-age=60"}, 60},
			{[]string{"Cache-Control: max-age=60", "Cache-Control: public"}, 60},
			{[]string{"Cache-Control: max-age=60", "Cache-Control: no-store"}, 0},
			{[]string{"Cache-Control: max-age=60", "Cache-Control: x=y, private"}, 0},
			{[]string{"Cache-Control: max-age=600", "Cache-Control: s-maxage=60"}, 60},
			{[]string{"Cache-Control: ", "Cache-Control: max-age=60"}, 60},
		})
	})
}

func TestConformance_RFC9111_5_2_NamesInAnyCase(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: MAX-AGE=60"}, 60},
			{[]string{"Cache-Control: Max-Age=60"}, 60},
			{[]string{"cache-control: max-age=60"}, 60},
			{[]string{"CACHE-CONTROL: max-age=60, No-Store"}, 0},
			{[]string{"Cache-Control: max-age=600, S-MaxAge=60"}, 60},
		})
	})
}

func TestConformance_RFC9111_5_2_QuotedStrings(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{`Cache-Control: extension="max-age=3600"`}, 0},
			{[]string{`Cache-Control: extension="a, max-age=3600, b"`}, 0},
			{[]string{`Cache-Control: extension="a, max-age=3600, b", max-age=60`}, 60},
			{[]string{`Cache-Control: max-age=60, extension="a, max-age=3600"`}, 60},
			{[]string{`Cache-Control: max-age=60, extension="a, no-store"`}, 60},
			{[]string{`Cache-Control: extension="a \", max-age=3600, b", max-age=60`}, 60},
		})
	})
}

// unreadable are lifetimes that say nothing but that there is one.
var unreadable = []string{
	"max-age=0", "max-age=-1", "max-age='3600'", "max-age=abc", "max-age=3600.0", "max-age=3600s", "max-age=3 600",
	"max-age=", "max-age", "max-age=0x10", "s-maxage=-1", "s-maxage=abc",
}

func TestConformance_RFC9111_4_2_1_UnreadableLifetimeIsStale(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directive := range unreadable {
			s.run(directive, func(s *site) {
				s.origin.says(http.StatusOK, "Cache-Control: "+directive)
				s.freshFor(0)
				s.origin.says(http.StatusOK, "Cache-Control: "+directive, `ETag: "a"`)
				s.freshFor(0)
			})
		}
	})
}

func TestConformance_RFC9111_4_2_1_UnreadableLifetimeSwitchesExpiresOff(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directive := range unreadable {
			s.run(directive, func(s *site) {
				s.origin.says(http.StatusOK, "Cache-Control: "+directive, "Expires: {3600}")
				s.freshFor(0)
			})
		}
	})
}

func TestConformance_RFC9111_4_2_1_UnreadableLifetimeSwitchesHeuristicsOff(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directive := range unreadable {
			s.run(directive, func(s *site) {
				s.origin.says(http.StatusOK, "Cache-Control: "+directive, "Last-Modified: {-100000}")
				s.freshFor(0)
			})
		}
	}, accel.WithHeuristicFreshness(time.Hour))
}

func TestConformance_RFC9111_1_2_2_LeadingZeros(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: max-age=0060"}, 60},
			{[]string{"Cache-Control: s-maxage=00000000000000000000060"}, 60},
			{[]string{"Cache-Control: max-age=60", "Age: 0010"}, 50},
		})
	})
}

func TestConformance_RFC9111_1_2_2_Overflow(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, seconds := range []string{"2147483647", "2147483648", "4294967296", "99999999999", "18446744073709551616", "9999999999999999999999999999"} {
			s.run(seconds, func(s *site) {
				for _, name := range []string{"max-age", "s-maxage"} {
					path := s.path()
					s.origin.says(http.StatusOK, fmt.Sprintf("Cache-Control: %s=%s", name, seconds))
					s.stores(path)
					s.pass(10)
					s.reuses(path)
				}
			})
		}
		path := s.path()
		s.origin.says(http.StatusOK, "Cache-Control: max-age=99999999999")
		s.stores(path)
		s.pass(20 * 365 * 86400)
		s.reuses(path)
	})
}

func TestConformance_RFC9111_1_2_2_DigitsOnly(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: max-age=+60"}, 0},
			{[]string{"Cache-Control: max-age=-60"}, 0},
			{[]string{"Cache-Control: s-maxage=+60, max-age=60"}, 0},
			{[]string{"Cache-Control: max-age=6_0"}, 0},
			{[]string{"Cache-Control: max-age=٦٠"}, 0},
		})
	})
}

func TestConformance_RFC9111_4_2_1_SharedMaxAgeWins(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: s-maxage=60, max-age=600"}, 60},
			{[]string{"Cache-Control: max-age=60, s-maxage=600"}, 600},
			{[]string{"Cache-Control: s-maxage=60", "Expires: {600}"}, 60},
			{[]string{"Cache-Control: s-maxage=600", "Expires: {60}"}, 600},
			{[]string{"Cache-Control: s-maxage=600, max-age=0", "Expires: {-60}"}, 600},
			{[]string{"Cache-Control: s-maxage=0, max-age=600"}, 0},
		})
	})
}

func TestConformance_RFC9111_4_2_1_MaxAgeBeatsExpires(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: max-age=60", "Expires: {600}"}, 60},
			{[]string{"Cache-Control: max-age=600", "Expires: {60}"}, 600},
			{[]string{"Cache-Control: max-age=60", "Expires: {-600}"}, 60},
			{[]string{"Cache-Control: max-age=60", "Expires: 0"}, 60},
			{[]string{"Cache-Control: max-age=60", "Expires: never"}, 60},
		})
	})
}

// The first occurrence or stale, says section 4.2.1; never the longest. Which of
// these two is the cache's own choice.
func TestConformance_RFC9111_4_2_1_Duplicates(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, header := range [][]string{
			{"Cache-Control: max-age=60, max-age=3600"},
			{"Cache-Control: max-age=60", "Cache-Control: max-age=3600"},
			{"Cache-Control: s-maxage=60, s-maxage=3600"},
		} {
			path := s.path()
			s.origin.says(http.StatusOK, header...)
			s.forwards(path)
			s.pass(60)
			s.forwards(path)
		}
		// The longest first: it may be taken, but not once it is over.
		path := s.path()
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600, max-age=60")
		s.forwards(path)
		s.pass(3600)
		s.forwards(path)
		// Twice the same is no contradiction.
		s.lifetimes([]lifetime{{[]string{"Cache-Control: max-age=60, max-age=60"}, 60}})
	})
}

// Expires and dates.

func TestConformance_RFC9111_4_2_1_ExpiresCountsFromDate(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Expires: {60}"}, 60},
			// The origin's clock is ahead: 60 seconds, not 160.
			{[]string{"Date: {100}", "Expires: {160}"}, 60},
			// It is behind: 200 seconds, of which 100 are over.
			{[]string{"Date: {-100}", "Expires: {100}"}, 100},
			{[]string{"Date: {-100}", "Expires: {-40}"}, 0},
		})
	})
}

func TestConformance_RFC9111_4_2_1_ExpiresAtDateIsStale(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Expires: {0}"}, 0},
			{[]string{"Date: {100}", "Expires: {100}"}, 0},
			{[]string{"Expires: {-60}"}, 0},
		})
	})
}

func TestConformance_RFC9111_4_2_1_ExpiresWithoutDate(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Date:", "Expires: {60}"}, 60},
			{[]string{"Date: yesterday", "Expires: {60}"}, 60},
			{[]string{"Date: 0", "Expires: {60}"}, 60},
		})
	})
}

// dates tries Expires in other spellings; the clock says 03:04:05.
func dates(t *testing.T, seconds int64, spellings ...string) {
	t.Helper()
	for _, expires := range spellings {
		t.Run(expires, func(t *testing.T) {
			everywhere(t, func(s *site) {
				s.origin.says(http.StatusOK, "Expires: "+expires)
				s.freshFor(seconds)
			})
		})
	}
}

// http.ParseTime reads all but the last four of these.
func TestConformance_RFC9110_5_6_7_StricterThanParseTime(t *testing.T) {
	dates(t, 0,
		"Wed,  02 Jan 2030 03:05:05 GMT", // spaces
		"Wed, 02  Jan 2030 03:05:05 GMT",
		"Wed, 02 Jan 2030  03:05:05 GMT",
		"Wed, 02 Jan 2030 3:05:05 GMT",         // an hour of one digit
		"Wed, 02 Jan 2030 03:05:05.500 GMT",    // a fraction
		"Wednesday, 02-Jan-30 03:05:05 UTC",    // zones
		"Wednesday, 02-Jan-30 03:05:05 PST",    //
		"Wed, 02 Jan 2030 03:05:05 UTC",        //
		"Wed, 02 Jan 2030 03:05:05 +0000",      //
		"Wed, 02 Jan 2030 03:05:05",            //
		"Wed, 2 Jan 2030 03:05:05 GMT",         // a day of one digit
		"2030-01-02T03:05:05Z",                 // another format
		"Wed, 02 Jan 30 03:05:05 GMT",          // two digits for the year
		"Wed, 32 Jan 2030 03:05:05 GMT",        // no such day
		"Wed, 02 Jan 2030 03:05:05 GMT, again", // more than a date
	)
}

func TestConformance_RFC9110_5_6_7_ThreeForms(t *testing.T) {
	dates(t, 60,
		"Wed, 02 Jan 2030 03:05:05 GMT",
		"Wednesday, 02-Jan-30 03:05:05 GMT",
		"Wed Jan  2 03:05:05 2030",
	)
}

func TestConformance_RFC9111_4_2_DatesInAnyCase(t *testing.T) {
	dates(t, 60,
		"Wed, 02 Jan 2030 03:05:05 gMT",
		"wed, 02 jAN 2030 03:05:05 GMT",
		"WEDNESDAY, 02-JAN-30 03:05:05 gmt",
	)
}

func TestConformance_RFC9110_5_6_7_DayOfTheWeekIsNotChecked(t *testing.T) {
	dates(t, 60,
		"Mon, 02 Jan 2030 03:05:05 GMT",
		"Friday, 02-Jan-30 03:05:05 GMT",
		"Sun Jan  2 03:05:05 2030",
	)
}

func TestConformance_RFC9111_5_3_UnreadableExpires(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Expires: 0"}, 0},
			{[]string{"Expires: -1"}, 0},
			{[]string{"Expires: "}, 0},
			{[]string{"Expires: tomorrow"}, 0},
			{[]string{"Expires: 3600"}, 0},
		})
	})
	// Its presence switches heuristics off.
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Expires: 0", "Last-Modified: {-100000}")
		s.freshFor(0)
	}, accel.WithHeuristicFreshness(time.Hour))
}

func TestConformance_RFC9111_4_2_1_TwoDifferingExpires(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Expires: {60}", "Expires: {600}"}, 0},
			{[]string{"Expires: {600}", "Expires: {60}"}, 0},
			{[]string{"Expires: {60}", "Expires: 0"}, 0},
			{[]string{"Expires: {60}", "Expires: {60}"}, 60},
		})
	})
}

// Heuristic freshness, which has to be asked for.

func TestConformance_RFC9111_4_2_2_HeuristicFreshness(t *testing.T) {
	heuristic := accel.WithHeuristicFreshness(time.Hour)
	everywhere(t, func(s *site) {
		for _, status := range []int{200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501} {
			s.run(fmt.Sprint(status), func(s *site) {
				s.origin.says(status, "Last-Modified: {-1000}")
				s.freshFor(100) // a tenth
			})
		}
		s.run("at most the limit", func(s *site) {
			s.origin.says(http.StatusOK, "Last-Modified: {-1000000}")
			s.freshFor(3600)
		})
		s.run("with a query, too", func(s *site) {
			s.origin.says(http.StatusOK, "Last-Modified: {-1000}")
			s.stores("/search?q=1")
			s.reuses("/search?q=1")
		})
	}, heuristic)
	everywhere(t, func(s *site) {
		for _, status := range []int{201, 202, 302, 303, 307, 400, 403, 418, 429, 500, 502, 503, 504, 599} {
			s.run(fmt.Sprint(status), func(s *site) {
				s.origin.says(status, "Last-Modified: {-1000}")
				s.freshFor(0)
				s.run("public", func(s *site) {
					s.origin.says(status, "Last-Modified: {-1000}", "Cache-Control: public")
					s.freshFor(100)
				})
			})
		}
	}, heuristic)
	t.Run("off by default", func(t *testing.T) {
		everywhere(t, func(s *site) {
			s.origin.says(http.StatusOK, "Last-Modified: {-1000}")
			s.freshFor(0)
		})
	})
}
