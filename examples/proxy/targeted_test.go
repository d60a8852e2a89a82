package main

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/accel"
)

func TestConformance_RFC9213_2_2_AgeAgainstTargetedMaxAge(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"CDN-Cache-Control: max-age=60", "Age: 50"}, 10},
			{[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: max-age=600", "Age: 50"}, 10},
			{[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: max-age=600", "Age: 60"}, 0},
			{[]string{"CDN-Cache-Control: max-age=600", "Cache-Control: max-age=60", "Age: 500"}, 100},
			{[]string{"CDN-Cache-Control: max-age=60", "Date: {-50}"}, 10},
		})
	})
}

func TestConformance_RFC9213_2_2_LongerAndShorterThanCacheControl(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"CDN-Cache-Control: max-age=3600", "Cache-Control: max-age=60"}, 3600},
			{[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: max-age=3600"}, 60},
			{[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: s-maxage=3600"}, 60},
			{[]string{"CDN-Cache-Control: max-age=60, s-maxage=120"}, 120},
			{[]string{"CDN-Cache-Control: max-age=0", "Cache-Control: max-age=3600"}, 0},
			{[]string{"CDN-Cache-Control: max-age=60"}, 60},
			{[]string{"CDN-Cache-Control: max-age=60, max-age=120"}, 120}, // in a dictionary the last one counts
		})
	})
}

func TestConformance_RFC9213_2_2_CacheControlAndExpiresAreIgnored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: no-store"}, 60},
			{[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: private, no-cache, max-age=0"}, 60},
			{[]string{"CDN-Cache-Control: max-age=60", "Expires: 0"}, 60},
			{[]string{"CDN-Cache-Control: max-age=60", "Expires: {3600}"}, 60},
			{[]string{"CDN-Cache-Control: must-revalidate", "Expires: {3600}", "Cache-Control: max-age=3600"}, 0},
			{[]string{"CDN-Cache-Control: unheard-of", "Expires: {3600}", "Cache-Control: max-age=3600"}, 0},
		})
	})
}

func TestConformance_RFC9213_2_2_NoStoreAndPrivate(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"no-store", "private", "no-store, max-age=3600", "max-age=3600, private", `private="x", max-age=3600`, "max-age=3600, no-store;a=b"} {
			s.origin.says(http.StatusOK, "CDN-Cache-Control: "+directives, "Cache-Control: public, max-age=3600", `ETag: "a"`)
			s.storesNothing(s.path())
		}
		// What is said to be false is not said.
		s.lifetimes([]lifetime{{[]string{"CDN-Cache-Control: max-age=60, no-store=?0"}, 60}})
	})
}

func TestConformance_RFC9213_2_2_NoCache(t *testing.T) {
	everywhere(t, func(s *site) {
		header := []string{"CDN-Cache-Control: no-cache, max-age=3600", "Cache-Control: public, max-age=3600", `ETag: "a"`}
		s.origin.says(http.StatusOK, header...)
		first := s.stores("/")
		s.origin.says(http.StatusNotModified, header...)
		for range 2 {
			assert.Equal(s.t, first.body, s.forwards("/").body)
			assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
		}
	})
}

func TestConformance_RFC9213_2_2_MustRevalidate(t *testing.T) {
	everywhere(t, func(s *site) {
		for directives, forbidden := range map[string]bool{
			"max-age=60, stale-if-error=600":                  false,
			"max-age=60, stale-if-error=600, must-revalidate": true,
		} {
			path := s.path()
			s.origin.says(http.StatusOK, "CDN-Cache-Control: "+directives, "Cache-Control: max-age=60, must-revalidate", `ETag: "a"`)
			s.stores(path)
			s.pass(60)
			s.origin.says(http.StatusServiceUnavailable)
			assert.Equal(s.t, forbidden, s.forwards(path).StatusCode == http.StatusServiceUnavailable, directives)
		}
	})
}

func TestConformance_RFC9213_2_1_SyntaxErrorMeansAbsent(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, value := range []string{
			"max-age=3600, &&", "max-age=3600,", "max-age=3600;;", `max-age=3600, x="open`, "max-age =3600", "max-age= 3600", "max-age = 3600",
			"Max-Age=3600", "MAX-AGE=3600, no-store", "max-age=3600 no-store", "max-age=3600, 60", `"max-age=3600"`, "max-age=36000000000000000",
			"max-age='3600'", "", " ",
		} {
			s.run(value, func(s *site) {
				s.origin.says(http.StatusOK, "CDN-Cache-Control: "+value, "Cache-Control: max-age=60")
				s.freshFor(60)
				s.origin.says(http.StatusOK, "CDN-Cache-Control: "+value, "Cache-Control: no-store")
				s.storesNothing(s.path())
				s.origin.says(http.StatusOK, "CDN-Cache-Control: "+value, "Expires: {60}")
				s.freshFor(60)
			})
		}
		s.run("one line spoils the other", func(s *site) {
			s.origin.says(http.StatusOK, "CDN-Cache-Control: max-age=3600", "CDN-Cache-Control: &", "Cache-Control: max-age=60")
			s.freshFor(60)
		})
		s.run("several lines are one field", func(s *site) {
			s.origin.says(http.StatusOK, "CDN-Cache-Control: must-revalidate", "CDN-Cache-Control: max-age=60", "Cache-Control: max-age=600")
			s.freshFor(60)
		})
	})
}

// A value of the wrong type is not used; a directive that could not be read is
// as good as a lifetime of nothing. That the field is there stays true.
func TestConformance_RFC9213_2_1_WrongTypeIsNotConsumed(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, value := range []string{`max-age="3600"`, "max-age=3600.0", "max-age", "max-age=abc", "max-age=:MzYwMA==:", "max-age=(3600)", "max-age=-3600", `s-maxage="3600", max-age=3600`} {
			s.run(value, func(s *site) {
				for _, other := range []string{"Cache-Control: no-store", "Cache-Control: max-age=0", "X-Nothing: 1"} {
					s.origin.says(http.StatusOK, "CDN-Cache-Control: "+value, other)
					s.freshFor(0)
				}
			})
		}
	})
}

func TestConformance_RFC9213_2_2_FieldIsForwarded(t *testing.T) {
	everywhere(t, func(s *site) {
		value := []string{"max-age=60;a=b,  x"}
		s.origin.says(http.StatusOK, "CDN-Cache-Control: "+value[0], "Other-Cache-Control: max-age=0", "Cache-Control: max-age=5", "Expires: {5}")
		for _, a := range []*answer{s.stores("/"), s.reuses("/")} {
			assert.Equal(s.t, value, a.Header["Cdn-Cache-Control"])
			assert.Equal(s.t, []string{"max-age=0"}, a.Header["Other-Cache-Control"])
			assert.Equal(s.t, []string{"max-age=5"}, a.Header["Cache-Control"])
		}
	})
}

func TestConformance_RFC9213_2_2_TargetList(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Ours-Cache-Control: max-age=60", "CDN-Cache-Control: max-age=600", "Cache-Control: max-age=6000"}, 60},
			{[]string{"Ours-Cache-Control: &", "CDN-Cache-Control: max-age=600", "Cache-Control: max-age=6000"}, 600},
			{[]string{"Ours-Cache-Control: ", "CDN-Cache-Control: max-age=600", "Cache-Control: max-age=6000"}, 600},
			{[]string{"Theirs-Cache-Control: max-age=60", "Cache-Control: max-age=6000"}, 6000},
			{[]string{"Surrogate-Control: max-age=60", "Cache-Control: max-age=6000"}, 6000},
		})
	}, accel.WithTargets("Ours-Cache-Control", "CDN-Cache-Control"))
}

// The W3C Note has words of its own, parameters that address, and the field ends
// at the surrogate.
func TestConformance_EdgeArchitecture_2_2_SurrogateControl(t *testing.T) {
	everywhere(t, func(s *site) {
		s.lifetimes([]lifetime{
			{[]string{"Surrogate-Control: max-age=600", "Cache-Control: max-age=60"}, 600},
			{[]string{"Surrogate-Control: max-age=60", "Cache-Control: max-age=600"}, 60},
			{[]string{"Surrogate-Control: max-age=60", "Cache-Control: no-store"}, 60},
			{[]string{`Surrogate-Control: content="ESI/1.0", max-age=60`, "Cache-Control: max-age=600"}, 60},
			{[]string{"Surrogate-Control: no-store", "Cache-Control: max-age=600"}, 0},
			{[]string{"Surrogate-Control: max-age=600;somebody-else", "Cache-Control: max-age=60"}, 60},
			{[]string{"Surrogate-Control: no-store;somebody-else, max-age=60"}, 60},
			{[]string{`Surrogate-Control: content="ESI/1.0"`, "Cache-Control: max-age=60"}, 60},
		})
		s.run("max-age=60+30", func(s *site) {
			path := s.path()
			s.origin.says(http.StatusOK, "Surrogate-Control: max-age=60+30", "Cache-Control: no-cache", `ETag: "a"`)
			first := s.stores(path)
			s.pass(89)
			stale := s.get(path)
			assert.Equal(s.t, first.body, stale.body)
			assert.True(s.t, stale.hit(), stale.about())
			s.eventually("it is refreshed", func() bool { return s.cache.Stats().Refreshes == 1 && s.cache.Stats().Store.InFlight == 0 })
		})
		s.run("removed", func(s *site) {
			path := s.path()
			s.origin.says(http.StatusOK, "Surrogate-Control: max-age=60", "Cache-Control: max-age=5")
			for _, a := range []*answer{s.stores(path), s.reuses(path)} {
				assert.NotContains(s.t, a.Header, "Surrogate-Control")
				assert.Equal(s.t, "max-age=5", a.Header.Get("Cache-Control"))
			}
		})
		s.run("in force after validation", func(s *site) {
			path := s.path()
			s.origin.says(http.StatusOK, "Surrogate-Control: max-age=60", "Cache-Control: no-store", `ETag: "a"`)
			s.stores(path)
			s.pass(60)
			s.origin.says(http.StatusNotModified, `ETag: "a"`)
			s.forwards(path)
			s.pass(59)
			assert.NotContains(s.t, s.reuses(path).Header, "Surrogate-Control", fmt.Sprint(path))
		})
	})
}
