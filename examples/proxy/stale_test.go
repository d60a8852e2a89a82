package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// forbidStale are the directives with which a response is never served stale.
var forbidStale = []string{
	"max-age=60, must-revalidate",
	"max-age=60, proxy-revalidate",
	"s-maxage=60",
	"max-age=600, s-maxage=60",
	"max-age=60, no-cache",
	"max-age=60, MUST-REVALIDATE",
}

func TestConformance_RFC9111_4_2_4_ForbiddenOnError(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range forbidStale {
			s.run(directives, func(s *site) {
				for _, status := range []int{500, 502, 503, 504} {
					path := s.path()
					s.origin.says(http.StatusOK, "Cache-Control: stale-if-error=600, "+directives, `ETag: "a"`)
					s.stores(path)
					s.pass(60)
					s.origin.says(status)
					assert.Equal(s.t, status, s.forwards(path).StatusCode)
				}
			})
		}
	})
}

func TestConformance_RFC9111_4_2_4_ForbiddenWhileRevalidating(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range forbidStale {
			s.run(directives, func(s *site) {
				path := s.path()
				s.origin.says(http.StatusOK, "Cache-Control: stale-while-revalidate=600, "+directives, `ETag: "a"`)
				s.stores(path)
				s.pass(60)
				assert.Equal(s.t, http.StatusOK, s.forwards(path).StatusCode)
				assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
			})
		}
	})
}

// Nor when the origin is gone altogether.
func TestConformance_RFC9111_4_2_4_ForbiddenWithoutOrigin(t *testing.T) {
	everywhere(t, func(s *site) {
		var paths []string
		for _, directives := range forbidStale {
			path := s.path()
			s.origin.says(http.StatusOK, "Cache-Control: stale-if-error=600, stale-while-revalidate=600, "+directives, `ETag: "a"`)
			s.stores(path)
			paths = append(paths, path)
		}
		s.origin.close()
		s.pass(61)
		for i, path := range paths {
			a := s.get(path)
			assert.Equal(s.t, http.StatusBadGateway, a.StatusCode, forbidStale[i])
			assert.False(s.t, a.hit(), forbidStale[i])
		}
	})
}

// Nothing is served stale that its origin did not allow to be.
func TestConformance_RFC9111_4_2_4_NotWithoutPermission(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`)
		s.stores("/")
		s.pass(60)
		s.origin.says(http.StatusServiceUnavailable)
		assert.Equal(s.t, http.StatusServiceUnavailable, s.forwards("/").StatusCode)
	})
}

func TestConformance_RFC5861_3_StaleWhileRevalidate(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-while-revalidate=30", `ETag: "a"`)
		first := s.stores("/")
		s.pass(89)
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "b"`)
		stale := s.get("/")
		assert.Equal(s.t, first.body, stale.body)
		assert.Equal(s.t, "hit; ttl=-29", stale.about())
		assert.Equal(s.t, "89", stale.Header.Get("Age"))
		s.eventually("the refresh is stored", func() bool { return s.cache.Stats().Stored == 2 })
		assert.Equal(s.t, "answer 2", s.reuses("/").body)
		assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
	})
}

func TestConformance_RFC5861_3_WindowEnds(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-while-revalidate=30", `ETag: "a"`)
		s.stores("/")
		s.pass(90) // lifetime and window, to the second
		assert.Equal(s.t, "answer 2", s.forwards("/").body)
		assert.Zero(s.t, s.cache.Stats().Refreshes)

		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-while-revalidate=30", "Age: 20", `ETag: "a"`)
		s.stores("/older")
		s.pass(70)
		s.forwards("/older")
		assert.Zero(s.t, s.cache.Stats().Refreshes)
	})
}

// The request of the refresh is its own: it has the client's header, but the
// client may go, and middleware may do to its request what it likes.
func TestConformance_RFC5861_3_RefreshOutlivesItsClient(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-while-revalidate=30", "Vary: Accept-Language", `ETag: "a"`)
		first := s.stores("/", "Accept-Language: de")
		s.pass(60)

		goOn := make(chan struct{})
		release := sync.OnceFunc(func() { close(goOn) })
		defer release() // also of a test that fails
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
			<-goOn
			s.origin.write(w, http.StatusNotModified, "", "Cache-Control: max-age=60", `ETag: "a"`, "X-Refreshed: 1")
		})
		stale := s.get("/", "Accept-Language: de", "X-Client: 1", "Range: bytes=0-2", `If-None-Match: "client"`)
		assert.Equal(s.t, "ans", stale.body) // it has been answered,
		s.client.CloseIdleConnections()      // and is gone
		s.eventually("the refresh has come", func() bool { return s.origin.count() == 2 })
		assert.Equal(s.t, "de", s.origin.last().Header.Get("Accept-Language"))
		assert.Equal(s.t, "1", s.origin.last().Header.Get("X-Client"))
		assert.Equal(s.t, map[string]string{"If-None-Match": `"a"`}, s.origin.asked())

		// One refresh at a time; the others are answered meanwhile.
		before := s.origin.count()
		assert.Equal(s.t, first.body, s.get("/", "Accept-Language: de").body)
		assert.Equal(s.t, before, s.origin.count())

		release()
		s.eventually("the refresh is stored", func() bool { return s.cache.Stats().Renewed == 1 })
		again := s.reuses("/", "Accept-Language: de")
		assert.Equal(s.t, first.body, again.body)
		assert.Equal(s.t, "1", again.Header.Get("X-Refreshed"))
		assert.Equal(s.t, "0", again.Header.Get("Age"))
	})
}

func TestConformance_RFC5861_3_RefreshThatFailsChangesNothing(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-while-revalidate=30", `ETag: "a"`)
		first := s.stores("/")
		s.pass(60)
		s.origin.says(http.StatusServiceUnavailable)
		assert.Equal(s.t, first.body, s.get("/").body)
		s.eventually("the refresh is over", func() bool { return s.origin.count() == 2 && s.cache.Stats().Store.InFlight == 0 })
		s.pass(30)
		s.origin.says(http.StatusNotModified, `ETag: "a"`)
		assert.Equal(s.t, first.body, s.forwards("/").body)
	})
}

func TestConformance_RFC5861_4_StaleIfError(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, status := range []int{500, 502, 503, 504} {
			path := s.path()
			s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-if-error=60")
			first := s.stores(path)
			s.pass(119)
			s.origin.says(status)
			stale := s.forwards(path)
			assert.Equal(s.t, http.StatusOK, stale.StatusCode)
			assert.Equal(s.t, first.body, stale.body)
			assert.Equal(s.t, "119", stale.Header.Get("Age"))
			s.pass(1)
			assert.Equal(s.t, status, s.forwards(path).StatusCode, "the window is over")
		}
		// Other statuses are answers.
		for _, status := range []int{403, 404, 410, 501} {
			path := s.path()
			s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-if-error=60")
			s.stores(path)
			s.pass(60)
			s.origin.says(status)
			assert.Equal(s.t, status, s.forwards(path).StatusCode)
		}
	})
}

func TestConformance_RFC9111_4_3_3_OriginIsDown(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-if-error=600", `ETag: "a"`)
		first := s.stores("/")
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		s.stores("/unsaid")
		s.origin.close()
		assert.Equal(s.t, first.body, s.reuses("/").body)
		s.pass(60)
		for range 2 {
			stale := s.get("/")
			assert.Equal(s.t, http.StatusOK, stale.StatusCode)
			assert.Equal(s.t, first.body, stale.body)
			assert.Contains(s.t, stale.about(), "fwd=stale; fwd-status=502")
		}
		assert.Equal(s.t, http.StatusBadGateway, s.get("/unsaid").StatusCode)
		s.pass(600)
		assert.Equal(s.t, http.StatusBadGateway, s.get("/").StatusCode)
	})
}

// An origin that breaks off in the middle of its answer panics in the reverse
// proxy, with http.ErrAbortHandler.
func TestConformance_RFC9111_4_3_3_AbortIsDisconnection(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-if-error=600", `ETag: "a"`)
		first := s.stores("/")
		s.pass(60)
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
			s.origin.write(w, http.StatusOK, "half a bo", "Content-Length: 1000", "Cache-Control: max-age=60")
			panic(http.ErrAbortHandler)
		})
		for range 2 {
			a := s.get("/")
			assert.Equal(s.t, http.StatusOK, a.StatusCode)
			assert.Equal(s.t, first.body, a.body)
		}
	})
}

// Any handler may do so, before it has written anything or after.
func TestConformance_RFC9111_4_3_3_PanicIsDisconnection(t *testing.T) {
	c := newClock()
	fails := func(http.ResponseWriter) {}
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fails(w)
		w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
		_, _ = w.Write([]byte("good"))
	})
	s := serveSite(t, c, accel.New(handler, memstore.New(memstore.WithClock(c.now)),
		accel.WithClock(c.now), accel.WithPolicy(accel.RFC9111), accel.WithLogger(quiet)))
	require.True(t, s.get("/").stored())
	s.pass(60)
	for name, how := range map[string]func(http.ResponseWriter){
		"at once":      func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"a bug":        func(http.ResponseWriter) { panic("a bug") },
		"after header": func(w http.ResponseWriter) { w.Header().Set("X-Bad", "1"); panic("a bug") },
		"in the middle": func(w http.ResponseWriter) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("X-Bad", "1")
			_, _ = w.Write([]byte("ba"))
			panic(http.ErrAbortHandler)
		},
	} {
		fails = how
		a, err := s.try(http.MethodGet, "/")
		require.NoError(t, err, name)
		assert.Equal(t, http.StatusOK, a.StatusCode, name)
		assert.Equal(t, "good", a.body, name)
		assert.NotContains(t, a.Header, "X-Bad", name)
	}
}

// An origin that takes the request and says nothing is down, too: 504.
func TestConformance_RFC9111_4_3_3_TimeoutIsDisconnection(t *testing.T) {
	c := newClock()
	silent := make(chan struct{})
	answers := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !answers {
			select {
			case <-silent:
			case <-r.Context().Done():
			}
			return
		}
		w.Header()["Date"] = nil
		w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
		_, _ = w.Write([]byte("good"))
	}))
	defer server.Close()
	defer close(silent)
	u, err := url.Parse(server.URL)
	require.NoError(t, err)
	proxy := newProxy(u, time.Minute, quiet)
	s := serveSite(t, c, accel.New(proxy, memstore.New(memstore.WithClock(c.now)),
		accel.WithClock(c.now), accel.WithPolicy(accel.RFC9111), accel.WithLogger(quiet)))
	require.True(t, s.get("/").stored())
	s.pass(60)
	impatient(proxy)
	answers = false
	a := s.get("/")
	assert.Equal(t, http.StatusOK, a.StatusCode)
	assert.Equal(t, "good", a.body)
	assert.Contains(t, a.about(), "fwd=stale; fwd-status=504")
	assert.Equal(t, http.StatusGatewayTimeout, s.get("/unknown").StatusCode)
}

// impatient lets a proxy wait for a moment only.
func impatient(proxy *httputil.ReverseProxy) {
	transport := proxy.Transport.(*http.Transport)
	transport.CloseIdleConnections()
	short := transport.Clone()
	short.ResponseHeaderTimeout = 10 * time.Millisecond
	proxy.Transport = short
}
