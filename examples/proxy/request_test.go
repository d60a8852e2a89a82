package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/accel"
)

// By default clients have no say in what is fresh for them: every reload in a
// browser would go to the origin.
func TestConformance_RFC9111_5_2_1_ClientsHaveNoSay(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		s.stores("/")
		s.pass(10)
		for _, line := range []string{"Cache-Control: no-cache", "Cache-Control: max-age=0", "Cache-Control: min-fresh=600", "Pragma: no-cache"} {
			s.reuses("/", line)
		}
		s.pass(50)
		s.forwards("/", "Cache-Control: max-stale")
		s.forwards("/unknown", "Cache-Control: only-if-cached")
	})
}

func TestConformance_RFC9111_5_2_1_RequestDirectives(t *testing.T) {
	everywhere(t, func(s *site) {
		header := []string{"Cache-Control: max-age=60", `ETag: "a"`}
		for _, row := range []struct {
			line   string
			age    int64
			reused bool
		}{
			{"Cache-Control: no-cache", 10, false},
			{"Cache-Control: max-age=0", 10, false},
			{"Cache-Control: max-age=9", 10, false},
			{"Cache-Control: max-age=10", 10, true},
			{"Cache-Control: min-fresh=50", 10, true},
			{"Cache-Control: min-fresh=51", 10, false},
			{"Cache-Control: x=\"no-cache\"", 10, true},
			{"Cache-Control: max-stale", 600, true},
			{"Cache-Control: max-stale=10", 70, true},
			{"Cache-Control: max-stale=10", 71, false},
			{"Pragma: no-cache", 10, false},
			{"Pragma: other", 10, true},
		} {
			s.run(row.line, func(s *site) {
				path := s.path()
				s.origin.says(http.StatusOK, header...)
				first := s.stores(path)
				s.pass(row.age)
				s.origin.says(http.StatusNotModified, header...)
				before := s.origin.count()
				a := s.get(path, row.line)
				assert.Equal(s.t, first.body, a.body)
				assert.Equal(s.t, row.reused, a.hit(), a.about())
				assert.Equal(s.t, row.reused, s.origin.count() == before)
				if !row.reused {
					assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
				}
			})
		}
		s.run("Pragma beside Cache-Control", func(s *site) { // section 5.4
			path := s.path()
			s.origin.says(http.StatusOK, header...)
			s.stores(path)
			s.reuses(path, "Pragma: no-cache", "Cache-Control: max-age=60")
		})
		s.run("max-stale against must-revalidate", func(s *site) {
			path := s.path()
			s.origin.says(http.StatusOK, "Cache-Control: max-age=60, must-revalidate")
			s.stores(path)
			s.pass(60)
			s.forwards(path, "Cache-Control: max-stale")
		})
	}, accel.WithRequestDirectives())
}

func TestConformance_RFC9111_5_2_1_7_OnlyIfCached(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		before := s.origin.count()
		assert.Equal(s.t, http.StatusGatewayTimeout, s.get("/", "Cache-Control: only-if-cached").StatusCode)
		assert.Equal(s.t, before, s.origin.count())
		s.stores("/")
		assert.Equal(s.t, http.StatusOK, s.reuses("/", "Cache-Control: only-if-cached").StatusCode)
		s.pass(60)
		before = s.origin.count()
		assert.Equal(s.t, http.StatusGatewayTimeout, s.get("/", "Cache-Control: only-if-cached").StatusCode)
		assert.Equal(s.t, before, s.origin.count())
	}, accel.WithRequestDirectives())
}

// Cache-Status.

func TestConformance_RFC9211_2_CacheStatus(t *testing.T) {
	everywhere(t, func(s *site) {
		says := func(want string, a *answer) {
			s.t.Helper()
			assert.Equal(s.t, []string{want}, a.Header.Values("Cache-Status"))
		}
		header := []string{"Cache-Control: max-age=60", `ETag: "a"`, "Vary: X-Arm"}
		s.origin.says(http.StatusOK, header...)
		says("Accelerator; fwd=uri-miss; stored", s.get("/"))
		says("Accelerator; hit; ttl=60", s.get("/"))
		says("Accelerator; fwd=vary-miss; stored", s.get("/", "X-Arm: a"))
		s.pass(10)
		says("Accelerator; hit; ttl=50", s.get("/"))
		says("Accelerator; hit; ttl=50", s.get("/", `If-None-Match: "a"`))
		says("Accelerator; fwd=request; detail=authorization", s.get("/", "Authorization: Basic amFuZQ=="))
		s.pass(50)
		s.origin.says(http.StatusNotModified, header...)
		says("Accelerator; fwd=stale; fwd-status=304; stored", s.get("/"))
		s.origin.says(http.StatusOK, "Cache-Control: no-store")
		says("Accelerator; fwd=uri-miss; detail=no-store", s.get("/secret"))
		says("Accelerator; fwd=method", s.do(http.MethodPost, "/"))
		// That of a cache between the origin and us stands before ours.
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", "Cache-Status: Inner; hit")
		assert.Equal(s.t, []string{"Inner; hit", "Accelerator; fwd=uri-miss; stored"}, s.get("/inner").Header.Values("Cache-Status"))
		assert.Equal(s.t, []string{"Inner; hit", "Accelerator; hit; ttl=60"}, s.get("/inner").Header.Values("Cache-Status"))
	})
}

func TestConformance_RFC9211_2_7_KeyOnlyForDebugging(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		for _, want := range []string{
			`fwd=uri-miss; stored; key="http://site.test/a?b=%22"`, `hit; ttl=60; key="http://site.test/a?b=%22"`,
		} {
			assert.Equal(s.t, want, s.get("/a?b=%22").about())
		}
	}, accel.WithCacheStatus(accel.ShowKey))
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		for range 2 {
			assert.NotContains(s.t, s.get("/a").Header.Get("Cache-Status"), "key")
		}
	})
}
