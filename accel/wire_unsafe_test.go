package accel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// A changing site answers GET with its version, and anything that is not safe with
// the status in its query, which makes the next version.
type changing struct {
	version atomic.Int64
	gets    atomic.Int64
	inPost  func(w http.ResponseWriter, r *http.Request) // before the answer, if not nil
}

func (s *changing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case "GET", "HEAD", "OPTIONS", "TRACE":
		s.gets.Add(1)
		w.Header().Set("Cache-Control", "public, max-age=600")
		fmt.Fprint(w, "version ", s.version.Load())
		return
	}
	s.version.Add(1)
	if s.inPost != nil {
		s.inPost(w, r)
		return
	}
	var status int
	_, _ = fmt.Sscan(r.URL.Query().Get("status"), &status)
	if where := r.Header.Get("X-Location"); where != "" {
		w.Header().Set("Location", where)
	}
	w.WriteHeader(status)
}

// On one connection: a page, the page again, a change, and the page as it is then.
// By policy RFC9111 a change that succeeds is seen by whoever has seen its answer;
// one that fails changes nothing. By OptIn it is the application's to say.
func TestWireChangesAreSeen(t *testing.T) {
	for version, http2 := range wireVersions {
		for policyName, policy := range wirePolicies {
			t.Run(version+"/"+policyName, func(t *testing.T) {
				t.Parallel()
				var site changing
				w, c := newCacheWire(t, http2, policy, site.ServeHTTP)
				for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "PURGEX", "get", "OPTIONS", "TRACE", "HEAD"} {
					for code, succeeds := range map[int]bool{
						200: true, 201: true, 202: true, 204: true, 303: true, 304: true,
						400: false, 404: false, 409: false, 500: false, 503: false,
					} {
						path := fmt.Sprintf("/%s?status=%d", method, code)
						expect(t, w.get(t, path), "fwd=uri-miss; stored")
						hit := w.get(t, path)
						expect(t, hit, "hit")
						old := body(t, hit)
						unsafe := method != "HEAD" && method != "OPTIONS" && method != "TRACE"

						res := w.do(t, method, path)
						if unsafe {
							assert.Equal(t, code, res.StatusCode)
						}
						after := w.get(t, path)
						if unsafe && succeeds && policy == accel.RFC9111 {
							expect(t, after, "fwd=uri-miss; stored")
							assert.Equal(t, fmt.Sprint("version ", site.version.Load()), body(t, after), path)
						} else {
							assert.Equal(t, "hit", status(after), path)
							assert.Equal(t, old, body(t, after), path)
						}
					}
				}
				if !http2 {
					assert.EqualValues(t, 1, w.opened.Load(), "connections")
				}
				w.settles(t, c)
			})
		}
	}
}

// What Location names has changed as well, if it is of the same origin.
func TestWireChangeOfLocation(t *testing.T) {
	for version, http2 := range wireVersions {
		t.Run(version, func(t *testing.T) {
			var site changing
			w, c := newCacheWire(t, http2, accel.RFC9111, site.ServeHTTP)
			for location, changes := range map[string]bool{
				"/made": true, w.URL + "/made": true, "made": true, strings.ToUpper(w.URL) + "/made": true,
				"//" + w.addr + "/made": true, "https://other.example/made": false, "//other.example/made": false,
				"ftp://" + w.addr + "/made": false, "/made%2f": false, "": false, "/other": false,
			} {
				w.get(t, "/made")
				expect(t, w.get(t, "/made"), "hit")
				w.do(t, "POST", "/?status=201", "X-Location", location)
				want := "hit"
				if changes {
					want = "fwd=uri-miss; stored"
				}
				assert.Equal(t, want, status(w.get(t, "/made")), "after Location: %s", location)
			}
			w.settles(t, c)
		})
	}
}

// The change counts from the moment when its client can know of it: with the
// header, not with the end of the answer; and not before.
func TestWireChangeCountsFromItsHeader(t *testing.T) {
	for version, http2 := range wireVersions {
		t.Run(version, func(t *testing.T) {
			working, answer, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
			site := changing{inPost: func(w http.ResponseWriter, r *http.Request) {
				close(working)
				receive(t, "the answer is wanted", answer)
				w.WriteHeader(http.StatusAccepted)
				flush(w)
				receive(t, "the end is wanted", end)
				say(w, "done")
			}}
			w, c := newCacheWire(t, http2, accel.RFC9111, site.ServeHTTP)
			w.get(t, "/")
			type result struct {
				res *http.Response
				err error
			}
			answered := make(chan result, 1)
			post := w.request(t, "POST", "/", strings.NewReader("x"))
			go func() {
				res, err := w.client.Do(post)
				answered <- result{res, err}
			}()
			receive(t, "the handler works", working)
			expect(t, w.get(t, "/"), "hit")
			close(answer)
			r := receive(t, "the header arrives", answered)
			require.NoError(t, r.err)
			defer r.res.Body.Close()
			expect(t, w.get(t, "/"), "fwd=uri-miss; stored")
			expect(t, w.get(t, "/"), "hit")
			close(end)
			b, err := io.ReadAll(r.res.Body)
			require.NoError(t, err)
			assert.Equal(t, "done", string(b))
			w.settles(t, c)
			expect(t, w.get(t, "/"), "hit")
		})
	}
}

// A response that was on its way when a change succeeded is not what the next
// client gets.
func TestWireChangeOvertakesLeader(t *testing.T) {
	for version, http2 := range wireVersions {
		t.Run(version, func(t *testing.T) {
			var gets atomic.Int64
			reading, finish := make(chan struct{}), make(chan struct{})
			w, c := newCacheWire(t, http2, accel.RFC9111, func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					w.WriteHeader(http.StatusNoContent)
					return
				}
				w.Header().Set("Cache-Control", "max-age=600")
				n := gets.Add(1)
				if n == 1 {
					close(reading)
					receive(t, "the change is made", finish)
				}
				fmt.Fprint(w, "response ", n)
			}, accel.WithWait(20*time.Millisecond)) // for the first response, which is of no use to it
			slow := w.request(t, "GET", "/", nil)
			overtaken := make(chan string, 1)
			go func() {
				defer close(overtaken)
				res, err := w.client.Do(slow)
				if !assert.NoError(t, err) {
					return
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				overtaken <- string(b)
			}()
			receive(t, "the handler reads", reading)
			w.do(t, "POST", "/")
			assert.Equal(t, "response 2", body(t, w.get(t, "/")))
			close(finish)
			assert.Equal(t, "response 1", receive(t, "the slow answer", overtaken))
			assert.Equal(t, "response 2", body(t, w.get(t, "/")))
			expect(t, w.get(t, "/"), "hit")
			w.settles(t, c)
		})
	}
}

// A change whose client has left is a change: what counts is what the handler did.
func TestWireChangeOfClientThatLeft(t *testing.T) {
	for version, http2 := range wireVersions {
		for name, test := range map[string]struct {
			answer func(w http.ResponseWriter)
			counts bool
		}{
			"no content":    {func(w http.ResponseWriter) { w.WriteHeader(204) }, true},
			"nothing":       {func(w http.ResponseWriter) {}, true},
			"a page":        {func(w http.ResponseWriter) { say(w, text) }, true},
			"a large page":  {func(w http.ResponseWriter) { say(w, aboveHold) }, true},
			"a redirection": {func(w http.ResponseWriter) { w.Header().Set("Location", "/x"); w.WriteHeader(303) }, true},
			"panic after":   {func(w http.ResponseWriter) { w.WriteHeader(200); panic("boo") }, true},
			"panic before":  {func(w http.ResponseWriter) { panic("boo") }, false},
			"failure":       {func(w http.ResponseWriter) { w.WriteHeader(500) }, false},
			"refusal":       {func(w http.ResponseWriter) { w.WriteHeader(409) }, false},
		} {
			t.Run(version+"/"+name, func(t *testing.T) {
				t.Parallel()
				working := make(chan struct{})
				site := changing{inPost: func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.ReadAll(r.Body)
					close(working)
					receive(t, "the client leaves", r.Context().Done())
					test.answer(w)
				}}
				w, c := newCacheWire(t, http2, accel.RFC9111, site.ServeHTTP)
				w.get(t, "/")
				expect(t, w.get(t, "/"), "hit")

				post := w.request(t, "POST", "/", strings.NewReader("x"))
				ctx, leave := context.WithCancel(post.Context())
				var left sync.WaitGroup
				left.Go(func() {
					if res, err := w.client.Do(post.WithContext(ctx)); err == nil {
						res.Body.Close()
						t.Error("it did not leave")
					}
				})
				receive(t, "the handler works", working)
				leave()
				left.Wait()
				w.settles(t, c)
				if test.counts {
					expect(t, w.get(t, "/"), "fwd=uri-miss; stored")
				} else {
					expect(t, w.get(t, "/"), "hit")
				}
			})
		}
	}
}
