package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// saysWhatWasAsked makes the origin answer with the request headers that it
// selects by, and a Vary of these lines.
func (s *site) saysWhatWasAsked(vary []string, names ...string) {
	s.origin.does(func(w http.ResponseWriter, r *http.Request, n int) {
		var asked []string
		for _, name := range names {
			asked = append(asked, strings.Join(r.Header.Values(name), "|"))
		}
		header := []string{"Cache-Control: max-age=3600"}
		for _, line := range vary {
			header = append(header, "Vary: "+line)
		}
		s.origin.write(w, http.StatusOK, strings.Join(asked, ";")+" #"+strconv.Itoa(n), header...)
	})
}

func TestConformance_RFC9111_4_1_StarNeverMatches(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, vary := range [][]string{
			{"*"}, {" * "}, {"*, Accept-Language"}, {"Accept-Language, *"}, {", , *"}, {"Accept-Language,*,"},
			{"Accept-Language", "*"}, {"*", "Accept-Language"}, {"", "*"},
		} {
			s.run(strings.Join(vary, " · "), func(s *site) {
				s.saysWhatWasAsked(vary)
				s.storesNothing(s.path(), "Accept-Language: de")
			})
		}
	})
}

func TestConformance_RFC9111_4_1_AbsentMatchesAbsentOnly(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, name := range []string{"X-Arm", "Accept-Language", "Accept"} {
			s.run(name, func(s *site) {
				path := s.path()
				s.saysWhatWasAsked([]string{name}, name)
				absent := s.stores(path)
				empty := s.stores(path, name+": ")
				full := s.stores(path, name+": a/b")
				assert.Equal(s.t, absent.body, s.reuses(path).body)
				assert.Equal(s.t, empty.body, s.reuses(path, name+": ").body)
				assert.Equal(s.t, full.body, s.reuses(path, name+": a/b").body)
			})
		}
	})
}

func TestConformance_RFC9111_4_1_SeveralVariants(t *testing.T) {
	everywhere(t, func(s *site) {
		s.saysWhatWasAsked([]string{"X-Arm"}, "X-Arm")
		bodies := map[string]string{}
		for _, arm := range []string{"a", "b", "c", "d", "e", "f", "g", "h"} {
			bodies[arm] = s.stores("/", "X-Arm: "+arm).body
		}
		for arm, body := range bodies {
			assert.Equal(s.t, body, s.reuses("/", "X-Arm: "+arm).body)
		}
	})
}

func TestConformance_RFC9111_4_1_OnlyNamedFieldsAreCompared(t *testing.T) {
	everywhere(t, func(s *site) {
		s.saysWhatWasAsked([]string{"x-arm"}, "X-Arm")
		first := s.stores("/", "X-Arm: a", "User-Agent: one", "Accept-Language: de", "X-Other: 1", "Cookie: a=b")
		assert.Equal(s.t, first.body, s.reuses("/", "X-Arm: a", "User-Agent: two", "Accept: text/html", "Cookie: c=d").body)
		s.stores("/", "X-Arm: b", "User-Agent: one")
	})
}

func TestConformance_RFC9111_4_1_SeveralNames(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, vary := range [][]string{{"X-Arm, X-Leg"}, {"X-Arm", "X-Leg"}, {", x-leg ,, X-ARM"}} {
			s.run(strings.Join(vary, " · "), func(s *site) {
				path := s.path()
				s.saysWhatWasAsked(vary, "X-Arm", "X-Leg")
				one := s.stores(path, "X-Arm: a", "X-Leg: b")
				two := s.stores(path, "X-Arm: a", "X-Leg: c")
				other := s.stores(path, "X-Arm: ab")
				assert.Equal(s.t, one.body, s.reuses(path, "X-Leg: b", "X-Arm: a").body)
				assert.Equal(s.t, two.body, s.reuses(path, "X-Arm: a", "X-Leg: c").body)
				assert.Equal(s.t, other.body, s.reuses(path, "X-Arm: ab").body)
			})
		}
	})
}

func TestConformance_RFC9111_4_1_LinesAndWhitespace(t *testing.T) {
	everywhere(t, func(s *site) {
		s.saysWhatWasAsked([]string{"X-Arm"}, "X-Arm")
		first := s.stores("/", "X-Arm: a, b")
		for _, same := range [][]string{
			{"X-Arm: a", "X-Arm: b"},
			{"X-Arm:    a, b  "},
			{"X-Arm: \ta, b\t"},
			{"X-Arm:  a ", "X-Arm:  b "},
		} {
			assert.Equal(s.t, first.body, s.reuses("/", same...).body, same)
		}
		s.stores("/", "X-Arm: b, a") // nobody knows that the order means nothing
		s.stores("/", "X-Arm: A, b") // nor that the case does
	})
}

func TestConformance_RFC9111_4_1_Normalization(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, row := range []struct {
			name  string
			value string
			same  []string
			other []string
		}{
			{
				"Accept-Language", "de, en;q=0.5",
				[]string{"DE, EN;q=0.5", "de,en;q=0.5", "de , en ; q=0.5", "en;q=0.5, de", "de, en;Q=0.5", "de;q=1, en;q=0.500", "de,, en;q=0.5"},
				[]string{"de", "en, de;q=0.5", "de, en;q=0.6", "de-DE, en;q=0.5", "de, en;q=0.5, fr"},
			}, {
				"Accept", "text/html, */*;q=0.1",
				[]string{"Text/HTML, */*;q=0.1", "*/*;q=0.1,text/html", "text/html,*/* ; q=0.10"},
				[]string{"text/html", "text/html, */*", "text/html;level=1, */*;q=0.1"},
			}, {
				"Accept-Charset", "utf-8, *;q=0.1",
				[]string{"UTF-8, *;q=0.1", "*;q=0.1, utf-8"},
				[]string{"utf-8"},
			},
		} {
			s.run(row.name, func(s *site) {
				path := s.path()
				s.saysWhatWasAsked([]string{row.name}, row.name)
				first := s.stores(path, row.name+": "+row.value)
				for _, same := range row.same {
					assert.Equal(s.t, first.body, s.reuses(path, row.name+": "+same).body, same)
				}
				for _, other := range row.other {
					s.stores(path, row.name+": "+other)
				}
			})
		}
	})
}

func TestConformance_RFC9111_2_QueryIsPartOfTheKey(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600")
		targets := []string{"/a", "/a?", "/a?b=1", "/a?b=2", "/a?b=1&c=2", "/a?c=2&b=1", "/a?b=1;c=2", "/a?b=%zz", "/ab=1", "/A", "/a/", "/a%2f", "//a"}
		bodies := map[string]string{}
		for _, target := range targets {
			bodies[target] = s.stores(target).body
			assert.Equal(s.t, target, s.origin.last().RequestURI)
		}
		for _, target := range targets {
			assert.Equal(s.t, bodies[target], s.reuses(target).body, target)
		}
		s.stores("/a", "Host: other.test")
	})
}
