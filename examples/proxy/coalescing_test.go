package main

import (
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const crowd = 20

// together sends the same GET many times at once. The origin answers when all of
// them have arrived at the proxy.
func (s *site) together(path string, says func(w http.ResponseWriter, n int)) (answers []*answer, asked int) {
	s.t.Helper()
	goOn := make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release() // also of a test that fails
	s.origin.does(func(w http.ResponseWriter, _ *http.Request, n int) {
		<-goOn
		says(w, n)
	})
	before, there := s.origin.count(), s.arrived.Load()+crowd
	answers = make([]*answer, crowd)
	errs := make([]error, crowd)
	var wait sync.WaitGroup
	for i := range answers {
		wait.Go(func() { answers[i], errs[i] = s.try(http.MethodGet, path) })
	}
	s.eventually("all have arrived", func() bool { return s.arrived.Load() == there && s.origin.count() > before })
	release()
	wait.Wait()
	for _, err := range errs {
		require.NoError(s.t, err)
	}
	return answers, s.origin.count() - before
}

func TestConformance_RFC9111_4_CollapsedRequests(t *testing.T) {
	everywhere(t, func(s *site) {
		answers, asked := s.together("/", func(w http.ResponseWriter, _ int) {
			s.origin.write(w, http.StatusOK, digits, "Cache-Control: max-age=60", "Content-Length: 10")
		})
		assert.Equal(s.t, 1, asked)
		for _, a := range answers {
			assert.Equal(s.t, digits, a.body)
		}
		s.reuses("/")
	})
}

// A response without a length comes in chunks, and the reverse proxy flushes
// after each. That is not a stream as long as the next one follows at once.
func TestConformance_RFC9111_4_CollapsedChunks(t *testing.T) {
	everywhere(t, func(s *site) {
		// On a busy machine the next one may follow too late, and the response is
		// streamed to the first client alone. One of some tries has to do.
		for try := 1; ; try++ {
			path := s.path()
			answers, asked := s.together(path, func(w http.ResponseWriter, _ int) {
				w.Header().Set("Date", httpDate(s.clock.now(), 0))
				w.Header().Set("Cache-Control", "max-age=60")
				for _, piece := range []string{"012", "345", "6789"} {
					_, _ = io.WriteString(w, piece)
					_ = http.NewResponseController(w).Flush()
				}
			})
			for _, a := range answers {
				assert.Equal(s.t, digits, a.body)
			}
			s.reuses(path) // streamed or not, it is stored
			if asked == 1 {
				break
			}
			if try == 20 {
				s.t.Fatalf("%d requests to the origin", asked)
			}
		}
	})
}

// One question is enough to hear that all may have what is stored.
func TestConformance_RFC9111_4_CollapsedValidation(t *testing.T) {
	everywhere(t, func(s *site) {
		header := []string{"Cache-Control: max-age=60", `ETag: "a"`}
		s.origin.saysBody(digits, header...)
		s.stores("/")
		s.pass(60)
		answers, asked := s.together("/", func(w http.ResponseWriter, _ int) {
			s.origin.write(w, http.StatusNotModified, "", header...)
		})
		assert.Equal(s.t, 1, asked)
		assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
		for _, a := range answers {
			assert.Equal(s.t, http.StatusOK, a.StatusCode)
			assert.Equal(s.t, digits, a.body)
		}
	})
}

// What proves not to be for sharing is not shared: each has an answer of its own.
func TestConformance_RFC9111_4_PrivateIsNotCollapsed(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"private", "no-store", "no-cache", "max-age=0", "max-age=60, private", "max-age=60, no-cache"} {
			s.run(directives, func(s *site) {
				answers, asked := s.together(s.path(), func(w http.ResponseWriter, n int) {
					s.origin.write(w, http.StatusOK, fmt.Sprint("for ", n), "Cache-Control: "+directives, `ETag: "a`+fmt.Sprint(n)+`"`)
				})
				assert.Equal(s.t, crowd, asked)
				seen := map[string]bool{}
				for _, a := range answers {
					assert.False(s.t, seen[a.body], "%q went to two", a.body)
					seen[a.body] = true
				}
			})
		}
	})
}
