package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

// grouped stores path with this Cache-Groups, and returns a function that sees
// whether it is still there.
func (s *site) grouped(path, groups string, lines ...string) (check func(kept bool)) {
	s.t.Helper()
	s.origin.says(http.StatusOK, "Cache-Control: public, max-age=3600", "Cache-Groups: "+groups)
	s.stores(path, lines...)
	return func(kept bool) {
		s.t.Helper()
		s.origin.says(http.StatusOK, "Cache-Control: no-store")
		assert.Equal(s.t, kept, s.get(path, lines...).hit(), path)
	}
}

// invalidates sends a request whose answer invalidates these groups.
func (s *site) invalidates(method, groups string, lines ...string) {
	s.t.Helper()
	s.origin.says(http.StatusOK, "Cache-Group-Invalidation: "+groups)
	s.do(method, "/change", lines...)
}

func TestConformance_RFC9875_3_GroupInvalidation(t *testing.T) {
	everywhere(t, func(s *site) {
		a, ab := s.grouped("/a", `"a"`), s.grouped("/ab", `"x", "b";p=1, "a"`)
		other, none := s.grouped("/other", `"A", "a b", "ab"`), s.grouped("/none", "")
		s.invalidates(http.MethodPost, `"nobody", "a";unknown=?1`)
		a(false)
		ab(false)
		other(true) // character by character, in this case
		none(true)
	})
}

func TestConformance_RFC9875_3_IgnoredOnSafeMethods(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, method := range safeMethods {
			s.run(method, func(s *site) {
				check := s.grouped(s.path(), `"a"`)
				s.invalidates(method, `"a"`)
				check(true)
			})
		}
	})
}

func TestConformance_RFC9875_2_1_GroupsBelongToAnOrigin(t *testing.T) {
	everywhere(t, func(s *site) {
		ours, theirs := s.grouped("/", `"a"`), s.grouped("/", `"a"`, "Host: other.test")
		s.invalidates(http.MethodPost, `"a"`, "Host: other.test")
		ours(true)
		theirs(false)
	})
}

func TestConformance_RFC9875_3_UnreadableSaysNothing(t *testing.T) {
	everywhere(t, func(s *site) {
		check := s.grouped("/", `"a"`)
		for _, groups := range []string{"a", `"a", b`, `"a",`, `"a" "b"`, `("a")`, `'a'`, ""} {
			s.invalidates(http.MethodPost, groups)
			check(true)
		}
	})
}

// A response that could not be found by its groups is not kept at all.
func TestConformance_RFC9875_2_UnreadableGroupsAreNotStored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", `Cache-Groups: "a", b`)
		s.storesNothing("/")
	})
}

func TestConformance_RFC9875_2_ManyGroups(t *testing.T) {
	everywhere(t, func(s *site) {
		var groups []string
		for i := range 40 {
			groups = append(groups, fmt.Sprintf("%q", fmt.Sprintf("group %02d %s", i, strings.Repeat("x", 40))))
		}
		for _, i := range []int{0, 31, 39} {
			check := s.grouped(s.path(), strings.Join(groups, ", "))
			s.invalidates(http.MethodPost, groups[i])
			check(false)
		}
	})
}

// Of what is invalidated, the groups are not: it does not cascade.
func TestConformance_RFC9875_2_2_1_NoCascade(t *testing.T) {
	everywhere(t, func(s *site) {
		both, second := s.grouped("/both", `"a", "b"`), s.grouped("/b", `"b"`)
		s.invalidates(http.MethodPost, `"a"`)
		both(false)
		second(true)
	})
}
