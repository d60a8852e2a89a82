package main

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var (
	unsafeMethods = []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "MOVE", "FROBNICATE", "get"}
	safeMethods   = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, "PROPFIND", "SEARCH", "REPORT"}
)

// keeps stores path, and returns a function that sees whether it is still there.
func (s *site) keeps(path string, lines ...string) (check func(kept bool, why ...any)) {
	s.t.Helper()
	s.origin.says(http.StatusOK, "Cache-Control: public, max-age=3600", `ETag: "a"`, "Vary: Accept-Language", `Cache-Groups: "all"`)
	s.stores(path, lines...)
	return func(kept bool, why ...any) {
		s.t.Helper()
		s.origin.says(http.StatusOK, "Cache-Control: no-store")
		before := s.origin.count()
		a := s.get(path, lines...)
		assert.Equal(s.t, kept, a.hit(), append([]any{"%s %v", path}, fmt.Sprint(why...))...)
		if !kept {
			assert.Equal(s.t, 1, s.origin.count()-before)
		}
	}
}

func TestConformance_RFC9111_4_4_SuccessInvalidates(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, method := range unsafeMethods {
			s.run(method, func(s *site) {
				for _, status := range []int{200, 201, 202, 204, 205, 299, 301, 302, 303, 307, 308, 399} {
					path := s.path()
					check := s.keeps(path)
					s.origin.says(status)
					assert.Equal(s.t, status, s.do(method, path).StatusCode)
					check(false, method, status)
				}
			})
		}
	})
}

func TestConformance_RFC9111_4_4_ErrorsDoNot(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, method := range unsafeMethods {
			for _, status := range []int{400, 401, 403, 404, 405, 409, 412, 499, 500, 502, 503, 599} {
				path := s.path()
				check := s.keeps(path)
				s.origin.says(status, "Location: "+path, "Content-Location: "+path)
				s.do(method, path)
				check(true, method, status)
			}
		}
		// Nor does an origin that cannot be reached.
		check := s.keeps("/")
		s.origin.does(func(http.ResponseWriter, *http.Request, int) { panic(http.ErrAbortHandler) })
		assert.Equal(s.t, http.StatusBadGateway, s.do(http.MethodPost, "/").StatusCode)
		check(true)
	})
}

func TestConformance_RFC9111_4_4_SafeMethodsDoNot(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, method := range safeMethods {
			path := s.path()
			check := s.keeps(path)
			s.origin.says(http.StatusOK, "Location: "+path, "Content-Location: "+path, `Cache-Group-Invalidation: "all"`)
			s.do(method, path)
			check(true, method)
		}
	})
}

func TestConformance_RFC9111_4_4_AllVariants(t *testing.T) {
	everywhere(t, func(s *site) {
		checks := []func(bool, ...any){
			s.keeps("/", "Accept-Language: de"), s.keeps("/", "Accept-Language: en"), s.keeps("/"),
			s.keeps("/", "Accept-Language: de", "X-Forwarded-Host: elsewhere.test"),
		}
		others := []func(bool, ...any){s.keeps("/?a=b"), s.keeps("/a"), s.keeps("/", "Host: other.test")}
		s.origin.says(http.StatusNoContent)
		s.do(http.MethodPost, "/", "Accept-Language: fr")
		for _, check := range checks {
			check(false)
		}
		for _, check := range others {
			check(true)
		}
	})
}

func TestConformance_RFC9111_4_4_LocationOfTheSameOrigin(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, name := range []string{"Location", "Content-Location"} {
			for _, to := range []string{"/dir/b", "b", "./b", "//" + host + "/dir/b", "http://" + host + "/dir/b", "HTTP://SITE.test:80/dir/b", "/dir/b#part", "../dir/b"} {
				s.run(name+" "+to, func(s *site) {
					check, other := s.keeps("/dir/b"), s.keeps("/dir/c")
					s.origin.says(http.StatusCreated, name+": "+to)
					s.do(http.MethodPost, "/dir/a")
					check(false)
					other(true)
					s.do(http.MethodPost, "/dir/c") // for the next
				})
			}
		}
	})
}

func TestConformance_RFC9111_4_4_LocationOfAnotherOrigin(t *testing.T) {
	everywhere(t, func(s *site) {
		other, ours := s.keeps("/b", "Host: other.test"), s.keeps("/b")
		for _, name := range []string{"Location", "Content-Location"} {
			for _, to := range []string{"http://other.test/b", "//other.test/b", "https://" + host + "/b", "http://" + host + ":81/b", "http://" + host + "@other.test/b", "ftp://" + host + "/b"} {
				s.origin.says(http.StatusCreated, name+": "+to)
				s.do(http.MethodPost, "/a")
				other(true, to)
				ours(true, to)
			}
		}
	})
}

// The client that has made the change sees it: what it asks for when it has the
// answer, and be it only the header, is made anew.
func TestConformance_RFC9111_4_4_BeforeTheAnswer(t *testing.T) {
	everywhere(t, func(s *site) {
		s.keeps("/")
		goOn := make(chan struct{})
		release := sync.OnceFunc(func() { close(goOn) })
		defer release() // also of a test that fails
		s.origin.does(func(w http.ResponseWriter, r *http.Request, _ int) {
			if r.Method != http.MethodPost {
				s.origin.write(w, http.StatusOK, "new", "Cache-Control: no-store")
				return
			}
			s.origin.write(w, http.StatusOK, "half, ")
			_ = http.NewResponseController(w).Flush()
			<-goOn
		})
		req, err := http.NewRequest(http.MethodPost, s.at+"/", nil)
		require.NoError(s.t, err)
		req.Host = host
		res, err := s.client.Do(req)
		require.NoError(s.t, err)
		defer res.Body.Close()
		assert.Equal(s.t, "new", s.get("/").body)
	})
}

// What was begun before the change is not kept after it, however late it ends:
// neither a response that is being made, nor a 304 that confirms what has just
// been invalidated.
func TestConformance_RFC9111_4_4_WhileTheAnswerIsMade(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, stale := range []bool{false, true} {
			s.run(fmt.Sprintf("stale %v", stale), func(s *site) {
				path := s.path()
				if stale {
					s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`)
					s.stores(path)
					s.pass(60)
				}
				goOn := make(chan struct{})
				release := sync.OnceFunc(func() { close(goOn) })
				defer release() // also of a test that fails
				s.origin.does(func(w http.ResponseWriter, r *http.Request, _ int) {
					switch {
					case r.Method == http.MethodPost:
						s.origin.write(w, http.StatusNoContent, "")
						return
					case r.Header.Get("If-None-Match") != "":
						<-goOn
						s.origin.write(w, http.StatusNotModified, "", "Cache-Control: max-age=60", `ETag: "a"`)
						return
					}
					<-goOn
					s.origin.write(w, http.StatusOK, "old", "Cache-Control: max-age=60", `ETag: "a"`)
				})
				before := s.origin.count()
				answered := make(chan *answer)
				go func() {
					a, _ := s.try(http.MethodGet, path)
					answered <- a
				}()
				s.eventually("the origin is asked", func() bool { return s.origin.count() > before })
				s.do(http.MethodPost, path)
				release()
				if a := <-answered; assert.NotNil(s.t, a) {
					assert.False(s.t, a.stored(), a.about())
				}
				s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "b"`)
				assert.Equal(s.t, `"b"`, s.stores(path).Header.Get("ETag"))
				assert.Empty(s.t, s.origin.asked())
			})
		}
	})
}

// An origin calls itself by its own name, and means a URL of the proxy's.
func TestLocationsOfTheOriginAreOurs(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		s.stores("/b?c")
		own := s.origin.at + "/b?c"
		s.origin.says(http.StatusSeeOther, "Location: "+own)
		res := s.do(http.MethodPost, "/a")
		assert.Equal(s.t, "/b?c", res.Header.Get("Location"))
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		assert.False(s.t, s.get("/b?c").hit())
	})
}
