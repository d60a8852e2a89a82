package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestConformance_RFC9111_4_2_3_AgeOfTheOriginCounts(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: max-age=60", "Age: 50"}, 10},
			{[]string{"Cache-Control: max-age=60", "Age: 60"}, 0},
			{[]string{"Cache-Control: max-age=60", "Age: 600"}, 0},
			{[]string{"Expires: {60}", "Age: 50"}, 10},
			{[]string{"Cache-Control: s-maxage=60, max-age=600", "Age: 50"}, 10},
		})
	})
}

func TestConformance_RFC9111_4_2_3_TheGreaterOfDateAndAge(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: max-age=60", "Date: {-50}"}, 10},
			{[]string{"Cache-Control: max-age=60", "Date: {-50}", "Age: 20"}, 10},
			{[]string{"Cache-Control: max-age=60", "Date: {-20}", "Age: 50"}, 10},
			{[]string{"Cache-Control: max-age=60", "Date: {100}", "Age: 50"}, 10},
			{[]string{"Cache-Control: max-age=60", "Date: {100}"}, 60}, // not younger than new
		})
	})
}

// An Age is that of the moment at which the origin was asked, so what it took to
// answer is added.
func TestConformance_RFC9111_4_2_3_ResponseDelay(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
			s.pass(30) // it thinks
			s.origin.write(w, http.StatusOK, "body", "Cache-Control: max-age=60", "Age: 10")
		})
		s.stores("/")
		assert.Equal(s.t, "40", s.reuses("/").Header.Get("Age"))
		s.pass(19)
		assert.Equal(s.t, "59", s.reuses("/").Header.Get("Age"))
		s.pass(1)
		assert.False(s.t, s.get("/").hit())
	})
}

func TestConformance_RFC9111_4_2_3_ResidentTime(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "Age: 50")
		s.stores("/")
		for _, seconds := range []int64{0, 1, 99, 1000} {
			s.pass(seconds)
		}
		assert.Equal(s.t, "1150", s.reuses("/").Header.Get("Age"))
	})
}

func TestConformance_RFC9111_5_1_FirstMemberOfTheFirstLine(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Cache-Control: max-age=60", "Age: 10", "Age: 50"}, 50},
			{[]string{"Cache-Control: max-age=60", "Age: 50", "Age: 10"}, 10},
			{[]string{"Cache-Control: max-age=60", "Age: 10, 50"}, 50},
			{[]string{"Cache-Control: max-age=60", "Age: 50, 10"}, 10},
		})
	})
}

func TestConformance_RFC9111_5_1_UnreadableAgeIsIgnored(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, age := range []string{"abc", "-7200", "7200.0", "+7200", "7200s", `"7200"`, "", "abc, 7200"} {
			s.run(age, func(s *site) {
				path := s.path()
				s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "Age: "+age)
				s.stores(path)
				s.pass(10)
				assert.Equal(s.t, []string{"10"}, s.reuses(path).Header["Age"])
			})
		}
	})
}

func TestConformance_RFC9111_5_1_HugeAgeIsStale(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, age := range []string{"2147483647", "2147483648", "4294967296", "99999999999", "18446744073709551617", "99999999999999999999999"} {
			s.run(age, func(s *site) {
				s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "Age: "+age)
				s.freshFor(0)
				s.origin.says(http.StatusOK, "Cache-Control: max-age=2147483647", "Age: "+age)
				s.freshFor(0)
			})
		}
	})
}

func TestConformance_RFC9111_5_1_AgeOnEveryHit(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, given := range []string{"", "Age: 100"} {
			s.run(given, func(s *site) {
				path, offset := s.path(), 0
				header := []string{"Cache-Control: max-age=3600", `ETag: "a"`}
				if given != "" {
					header, offset = append(header, given), 100
				}
				s.origin.says(http.StatusOK, header...)
				s.stores(path)
				for _, seconds := range []int{0, 10, 20} {
					want := []string{fmt.Sprint(offset + seconds)}
					assert.Equal(s.t, want, s.reuses(path).Header["Age"])
					assert.Equal(s.t, want, s.reuses(path, `If-None-Match: "a"`).Header["Age"], "304")
					assert.Equal(s.t, want, s.reuses(path, "Range: bytes=0-1").Header["Age"], "206")
					assert.Equal(s.t, want, s.do(http.MethodHead, path).Header["Age"], "HEAD")
					s.pass(10)
				}
			})
		}
	})
}

func TestConformance_RFC9111_5_1_DateAndExpiresStayAsStored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "Expires: {1800}", "Date: {-10}")
		stored := s.stores("/")
		for range 3 {
			s.pass(100)
			again := s.reuses("/")
			assert.Equal(s.t, stored.Header["Date"], again.Header["Date"])
			assert.Equal(s.t, stored.Header["Expires"], again.Header["Expires"])
		}
	})
}

// An Age says that the origin was not asked (section 5.1).
func TestConformance_RFC9111_5_1_NoAgeFromTheOrigin(t *testing.T) {
	everywhere(t, func(s *site) {
		header := []string{"Cache-Control: max-age=60", `ETag: "a"`}
		s.origin.says(http.StatusOK, header...)
		assert.NotContains(s.t, s.stores("/").Header, "Age")
		s.pass(60)
		s.origin.says(http.StatusNotModified, header...)
		assert.NotContains(s.t, s.forwards("/").Header, "Age", "validated")
		s.pass(60)
		assert.NotContains(s.t, s.forwards("/", `If-None-Match: "a"`).Header, "Age", "validated for a 304")
		// A cache between the origin and us may have answered.
		s.origin.says(http.StatusOK, append(header, "Age: 10")...)
		assert.Equal(s.t, []string{"10"}, s.stores("/older").Header["Age"])
	})
}

// net/http gives a response without Date one while it is written, which is at
// each hit.
func TestConformance_RFC9110_6_6_1_DateOfReceipt(t *testing.T) {
	everywhere(t, func(s *site) {
		received := httpDate(s.clock.now(), 0)
		s.origin.says(http.StatusOK, "Date:", "Cache-Control: max-age=3600")
		s.stores("/")
		for _, age := range []string{"100", "200"} {
			s.pass(100)
			again := s.reuses("/")
			assert.Equal(s.t, []string{received}, again.Header["Date"])
			assert.Equal(s.t, []string{age}, again.Header["Age"])
		}
	})
}
