package accel_test

import (
	"bufio"
	"errors"
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

// What a handler flushes its client gets before the handler goes on, whatever was
// said about storing it: each event is there before the next is sent.
func TestWireEventsArriveOneByOne(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		events := make(chan string)
		var calls atomic.Int64
		w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			wireWays[r.URL.Path[1:]](w, r)
			w.Header().Set("Content-Type", "text/event-stream")
			w.WriteHeader(http.StatusOK)
			flush(w) // a browser's EventSource is open now
			for e := range events {
				fmt.Fprintf(w, "data: %s\n\n", e)
				flush(w)
			}
		})
		for way := range wireWays {
			for range 2 {
				before := calls.Load()
				res, err := w.client.Do(w.request(t, "GET", "/"+way, nil))
				require.NoError(t, err)
				if calls.Load() == before {
					// It is a hit: the events of the last time.
					require.Equal(t, accel.RFC9111, policy)
					b, err := io.ReadAll(res.Body)
					require.NoError(t, err)
					assert.Equal(t, "data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n", string(b))
					res.Body.Close()
					continue
				}
				r := bufio.NewReader(res.Body)
				for i := range 4 {
					events <- fmt.Sprint(i)
					line, err := r.ReadString('\n')
					require.NoError(t, err)
					assert.Equal(t, fmt.Sprintf("data: %d\n", i), line)
					_, _ = r.ReadString('\n')
				}
				close(events)
				rest, err := io.ReadAll(r)
				require.NoError(t, err)
				assert.Empty(t, rest)
				res.Body.Close()
				w.settles(t, c)
				events = make(chan string)
			}
		}
		if policy == accel.OptIn {
			assert.EqualValues(t, 10, calls.Load())
			assert.Zero(t, c.Stats().Stored)
		} else {
			assert.EqualValues(t, 8, calls.Load(), "the two that may be stored are, once complete")
			assert.EqualValues(t, 2, c.Stats().Stored)
		}
	})
}

// A handler that has flushed may do to the header map what it likes, at the very
// moment when what was held is sent: only trailers are read from it then.
func TestWireHeaderChangesWhileHeldIsSent(t *testing.T) {
	for version, http2 := range wireVersions {
		t.Run(version, func(t *testing.T) {
			arrived := make(chan struct{})
			w, c := newCacheWire(t, http2, accel.RFC9111, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=60")
				say(w, "begin ")
				flush(w)
				for i := 0; ; i++ {
					select {
					case <-arrived:
						say(w, "end")
						return
					default:
						w.Header().Set("X-Late", fmt.Sprint(i))
						w.Header().Del("X-Late")
					}
				}
			})
			res, err := w.client.Do(w.request(t, "GET", "/", nil))
			require.NoError(t, err)
			defer res.Body.Close()
			first := make([]byte, 6)
			_, err = io.ReadFull(res.Body, first)
			require.NoError(t, err)
			close(arrived)
			rest, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			assert.Equal(t, "begin end", string(first)+string(rest))
			w.settles(t, c)
			hit := w.get(t, "/")
			expect(t, hit, "hit")
			assert.Equal(t, "begin end", body(t, hit))
		})
	}
}

// What was flushed is on its way also where the response turns out not to be one
// to store after that, and the handler goes on for a while.
func TestWireFlushedIsSentWhenStoringEnds(t *testing.T) {
	for name, then := range map[string]func(w http.ResponseWriter){
		"nothing":     func(w http.ResponseWriter) {},
		"full duplex": func(w http.ResponseWriter) { _ = http.NewResponseController(w).EnableFullDuplex() },
		"too long":    func(w http.ResponseWriter) { say(w, "much too long") },
	} {
		t.Run(name, func(t *testing.T) {
			everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
				arrived := make(chan struct{})
				w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Cache-Control", "public, max-age=60")
					w.Header().Set("Content-Length", "10")
					say(w, "begin ")
					flush(w)
					then(w)
					receive(t, "the client has the beginning", arrived)
					say(w, "end.")
				})
				res, err := w.client.Do(w.request(t, "GET", "/", nil))
				require.NoError(t, err)
				defer res.Body.Close()
				first := make([]byte, 6)
				_, err = io.ReadFull(res.Body, first)
				require.NoError(t, err)
				close(arrived)
				rest, err := io.ReadAll(res.Body)
				if name != "too long" { // net/http breaks that off itself
					require.NoError(t, err)
					assert.Equal(t, "begin end.", string(first)+string(rest))
				}
				w.settles(t, c)
			})
		})
	}
}

// A handler may end at the very moment when its response is held no longer.
func TestWireHandlerEndsWhenHoldingEnds(t *testing.T) {
	for version, http2 := range wireVersions {
		t.Run(version, func(t *testing.T) {
			w, c := newCacheWire(t, http2, accel.RFC9111, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=600")
				say(w, "begin ")
				flush(w)
				var n int
				_, _ = fmt.Sscan(r.URL.Path[1:], &n)
				<-time.After(19*time.Millisecond + time.Duration(n)*20*time.Microsecond)
				say(w, "end")
			})
			var asking sync.WaitGroup
			for n := range 100 {
				req := w.request(t, "GET", fmt.Sprint("/", n), nil)
				asking.Go(func() {
					res, err := w.client.Do(req)
					if !assert.NoError(t, err) {
						return
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					assert.NoError(t, err)
					assert.Equal(t, "begin end", string(b))
				})
			}
			asking.Wait()
			w.settles(t, c)
			for n := range 100 {
				hit := w.get(t, fmt.Sprint("/", n))
				expect(t, hit, "hit")
				assert.Equal(t, "begin end", body(t, hit))
			}
		})
	}
}

// The beginning of a large response arrives while the rest is being made, without
// a flush, and the handler's clients hear of its end.
func TestWireLargeResponseStreams(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		arrived := make(chan struct{})
		w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.Copy(w, strings.NewReader(aboveHold))
			receive(t, "the client has the beginning", arrived)
			_, _ = io.Copy(w, strings.NewReader(aboveHold))
		})
		res, err := w.client.Do(w.request(t, "GET", "/", nil))
		require.NoError(t, err)
		defer res.Body.Close()
		first := make([]byte, 60_000)
		_, err = io.ReadFull(res.Body, first)
		require.NoError(t, err)
		close(arrived)
		rest, err := io.ReadAll(res.Body)
		require.NoError(t, err)
		assert.True(t, aboveHold+aboveHold == string(first)+string(rest))
		w.settles(t, c)
		hit := w.get(t, "/")
		expect(t, hit, "hit")
		assert.True(t, aboveHold+aboveHold == body(t, hit))
	})
}

// A connection that is upgraded is the handler's and the client's: they talk in
// turns. Only HTTP/1.1 has this.
func TestWireUpgrade(t *testing.T) {
	for policyName, policy := range wirePolicies {
		for _, method := range []string{"GET", "POST", "PURGEX"} {
			t.Run(policyName+"/"+method, func(t *testing.T) {
				ended := make(chan struct{})
				w, c := newCacheWire(t, false, policy, func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Upgrade") == "" {
						accel.CacheFor(r.Context(), time.Hour)
						say(w, "page")
						return
					}
					defer close(ended)
					conn, rw, err := http.NewResponseController(w).Hijack()
					if !assert.NoError(t, err) {
						return
					}
					defer conn.Close()
					say(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
					for {
						line, err := rw.ReadString('\n')
						if err != nil {
							return
						}
						say(conn, "echo "+line)
					}
				})
				w.get(t, "/")
				conn := w.dial(t)
				say(conn, method+" / HTTP/1.1\r\nHost: "+w.addr+"\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n")
				r := bufio.NewReader(conn)
				res, err := http.ReadResponse(r, nil)
				require.NoError(t, err)
				assert.Equal(t, 101, res.StatusCode)
				for i := range 3 {
					say(conn, fmt.Sprintf("line %d\n", i))
					line, err := r.ReadString('\n')
					require.NoError(t, err)
					assert.Equal(t, fmt.Sprintf("echo line %d\n", i), line)
				}
				conn.Close()
				receive(t, "the handler returns", ended)
				w.settles(t, c)
				expect(t, w.get(t, "/"), "hit")
			})
		}
	}
}

// Client and handler may talk in turns within one POST.
func TestWireFullDuplex(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
			err := http.NewResponseController(w).EnableFullDuplex()
			assert.True(t, err == nil || http2 && errors.Is(err, http.ErrNotSupported), err)
			flush(w)
			for in := bufio.NewReader(r.Body); ; {
				line, err := in.ReadString('\n')
				if err != nil {
					return
				}
				say(w, "echo "+line)
				flush(w)
			}
		})
		for range 2 {
			in, out := io.Pipe()
			res, err := w.client.Do(w.request(t, "POST", "/", in))
			require.NoError(t, err)
			r := bufio.NewReader(res.Body)
			for i := range 3 {
				say(out, fmt.Sprintf("line %d\n", i))
				line, err := r.ReadString('\n')
				require.NoError(t, err)
				assert.Equal(t, fmt.Sprintf("echo line %d\n", i), line)
			}
			out.Close()
			rest, err := io.ReadAll(r)
			require.NoError(t, err)
			assert.Empty(t, rest)
			res.Body.Close()
		}
		w.settles(t, c)
	})
}

// The deadlines of http.ResponseController are those of the connection.
func TestWireReadDeadline(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).SetReadDeadline(modified2020); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("the body was read after the deadline")
			}
			w.WriteHeader(http.StatusRequestTimeout)
		})
		in, out := io.Pipe() // a client that never sends its body
		defer out.Close()
		res, err := w.client.Do(w.request(t, "POST", "/", in))
		require.NoError(t, err)
		res.Body.Close()
		assert.Equal(t, http.StatusRequestTimeout, res.StatusCode)
		out.Close()
		w.settles(t, c)
	})
}

// A body that is larger than the handler takes is not read to its end.
func TestWireMaxBytesReader(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		handler := func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == goodbye {
				w.WriteHeader(http.StatusResetContent)
				return
			}
			if _, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1000)); err != nil {
				http.Error(w, "too large", http.StatusRequestEntityTooLarge)
			}
		}
		bare := newWire(t, http2, http.HandlerFunc(handler))
		w, c := newCacheWire(t, http2, policy, handler)
		for _, size := range []int{2000, 1 << 20} {
			call := wireCall{method: "POST", body: counted(size)}
			with, without := w.see(t, "/", call), bare.see(t, "/", call)
			assert.Equal(t, http.StatusRequestEntityTooLarge, with.status)
			if policy == accel.RFC9111 && !http2 {
				// MaxBytesReader tells net/http to close the connection by an
				// unexported method, which no writer around net/http's can have.
				// Then net/http reads on, 256 KiB at most, and keeps it.
				without.header.Del("Connection")
				with.header.Del("Connection")
				with.closes, with.kept = without.closes, without.kept
			}
			sameSight(t, fmt.Sprint(size), with, without)
		}
		w.settles(t, c)
	})
}
