package accel_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// narrow makes a server's connections hold little of what their clients do not
// read.
func narrow(s *httptest.Server) {
	before := s.Config.ConnState
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		if state == http.StateNew {
			if c, ok := conn.(*tls.Conn); ok {
				conn = c.NetConn()
			}
			_ = conn.(*net.TCPConn).SetWriteBuffer(64 << 10)
		}
		before(conn, state)
	}
}

// A stall is a client that has read one byte of a body and reads no more.
type stall struct {
	read func() error // reads the rest, and says what is wrong with it
	end  func()
}

// slowClient returns a client for stall over HTTP/2, with one connection.
func (w *wire) slowClient() *http.Client {
	client := w.newClient()
	client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	return client
}

func (w *wire) stall(t testing.TB, client *http.Client, path, want string) stall {
	t.Helper()
	var in io.Reader
	var end func()
	if w.http2 {
		res, err := client.Do(w.request(t, "GET", path, nil))
		require.NoError(t, err)
		in, end = res.Body, func() { res.Body.Close() }
	} else {
		conn := w.dial(t)
		say(conn, "GET "+path+" HTTP/1.1\r\nHost: "+w.addr+"\r\n\r\n")
		res, err := http.ReadResponse(bufio.NewReaderSize(conn, 16), nil)
		require.NoError(t, err)
		in, end = res.Body, func() { conn.Close() }
	}
	first := make([]byte, 1)
	_, err := io.ReadFull(in, first)
	require.NoError(t, err)
	return stall{
		read: func() error {
			rest, err := io.ReadAll(in)
			if err == nil && string(first)+string(rest) != want {
				err = fmt.Errorf("%d bytes of another body", len(rest)+1)
			}
			return err
		},
		end: end,
	}
}

// half is a body of 512 KiB, more than connections hold for a client that does
// not read.
var half = counted(512 << 10)

func crowdOfStalls() int {
	if racing {
		return 20 // the race detector makes them slow enough
	}
	return 100
}

// stalled checks that a crowd of clients that have stopped reading harms nobody
// else, then lets half of them read on, while the others leave.
func (w *wire) stalled(t *testing.T, c *accel.Cache, others func(), stalls []stall) {
	t.Helper()
	eventually(t, "all handlers are stuck", func() bool { return w.serving.Load() == int64(len(stalls)) })
	others()
	assert.EqualValues(t, len(stalls), w.serving.Load(), "stalled handlers")
	for i, s := range stalls {
		if i%2 == 0 {
			s.end()
		}
	}
	var reading sync.WaitGroup
	for i, s := range stalls {
		if i%2 != 0 {
			reading.Go(func() { assert.NoError(t, s.read()) })
		}
	}
	reading.Wait()
	w.settles(t, c)
	for _, s := range stalls {
		s.end()
	}
}

// image answers with 512 KiB that are stored as they are, and with less at /small.
func image(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "image/png")
	if !strings.HasPrefix(r.URL.Path, "/none") {
		w.Header().Set("Cache-Control", "public, max-age=600")
	} else {
		w.Header().Set("Cache-Control", "no-store")
	}
	if r.URL.Path == "/small" {
		say(w, "small")
		return
	}
	_, _ = io.Copy(w, strings.NewReader(half))
}

// newSlowWire starts a server of image with narrow connections.
func newSlowWire(t *testing.T, http2 bool, policy accel.Policy, opts ...accel.Option) (*wire, *accel.Cache) {
	c := newCache(t, image, append([]accel.Option{accel.WithPolicy(policy)}, opts...)...)
	return newWire(t, http2, c, narrow), c
}

// Clients that stop in the middle of a hit occupy their connections and nothing
// else: no position of the store, and nobody waits for them.
func TestWireSlowReadersOfHits(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		w, c := newSlowWire(t, http2, policy)
		w.get(t, "/image")
		slow := w.slowClient()
		defer slow.CloseIdleConnections()
		var stalls []stall
		for range crowdOfStalls() {
			stalls = append(stalls, w.stall(t, slow, "/image", half))
		}
		w.stalled(t, c, func() {
			assert.Zero(t, c.Stats().Store.InFlight, "positions held")
			hit := w.get(t, "/image")
			expect(t, hit, "hit")
			assert.True(t, half == body(t, hit))
			expect(t, w.get(t, "/small"), "fwd=uri-miss; stored")
			require.NoError(t, c.InvalidateURL(t.Context(), w.URL+"/image"))
			again := w.get(t, "/image")
			expect(t, again, "fwd=uri-miss")
			assert.True(t, half == body(t, again))
		}, stalls)
	})
}

// Clients that stop in the middle of a miss that is larger than what is held stop
// their own handlers, and nobody waits for them.
func TestWireSlowReadersOfMisses(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		w, c := newSlowWire(t, http2, policy)
		slow := w.slowClient()
		defer slow.CloseIdleConnections()
		var stalls []stall
		for i := range crowdOfStalls() {
			stalls = append(stalls, w.stall(t, slow, fmt.Sprint("/image", i%10), half))
		}
		w.stalled(t, c, func() {
			for i := range 10 {
				res := w.get(t, fmt.Sprint("/image", i))
				assert.True(t, half == body(t, res))
				expect(t, w.get(t, fmt.Sprint("/image", i)), "hit")
			}
			expect(t, w.get(t, "/small"), "fwd=uri-miss; stored")
		}, stalls)
		for i := range 10 {
			res := w.get(t, fmt.Sprint("/image", i))
			expect(t, res, "hit")
			assert.True(t, half == body(t, res))
		}
	})
}

// What is not going to be stored holds no position of the store, however long its
// client takes: a stream may go on for days.
func TestWireSlowReadersOfWhatIsNotStored(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		w, c := newSlowWire(t, http2, policy)
		slow := w.slowClient()
		defer slow.CloseIdleConnections()
		var stalls []stall
		for range 20 {
			stalls = append(stalls, w.stall(t, slow, "/none", half))
		}
		w.stalled(t, c, func() {
			assert.Zero(t, c.Stats().Store.InFlight, "positions held")
			assert.True(t, half == body(t, w.get(t, "/none")))
		}, stalls)
	})
}

// A response that was held until its handler returned is stored, and given to all
// who wait for it, before its own client reads it. Then that client holds nothing.
func TestWireSlowLeader(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		w, c := newSlowWire(t, http2, policy, accel.WithHoldLimit(1<<20))
		slow := w.slowClient()
		defer slow.CloseIdleConnections()
		stalls := []stall{w.stall(t, slow, "/image", half)}
		w.stalled(t, c, func() {
			res := w.get(t, "/image")
			expect(t, res, "hit")
			assert.True(t, half == body(t, res))
			assert.Zero(t, c.Stats().Store.InFlight, "positions held")
		}, stalls)
	})
}

// The same for one whom others wait for: they have the response although the one
// whose handler made it does not read.
func TestWireSlowLeaderDelaysNobody(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		making, made := make(chan struct{}), make(chan struct{})
		var calls atomic.Int64
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) == 1 {
				close(making)
				receive(t, "all have asked", made)
			}
			image(w, r)
		}, accel.WithPolicy(policy), accel.WithHoldLimit(1<<20))
		w := newWire(t, http2, c, narrow)
		slow := w.slowClient()
		defer slow.CloseIdleConnections()
		leader := make(chan stall, 1)
		go func() { leader <- w.stall(t, slow, "/image", half) }()
		receive(t, "the handler runs", making)
		var followers sync.WaitGroup
		for range 20 {
			req := w.request(t, "GET", "/image", nil)
			followers.Go(func() {
				res, err := w.client.Do(req)
				if !assert.NoError(t, err) {
					return
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				assert.NoError(t, err)
				assert.True(t, half == string(b))
			})
		}
		eventually(t, "all have asked", func() bool { return w.begun.Load() == 21 })
		close(made)
		followers.Wait()
		w.stalled(t, c, func() {}, []stall{receive(t, "the leader has its byte", leader)})
		assert.EqualValues(t, 1, calls.Load(), "handler calls")
	})
}

// Many streams of one connection that ask for one thing cost one run of the
// handler, cacheable; and as many runs as there are streams, at once, if not.
func TestWireStreamsOfOneConnection(t *testing.T) {
	const n = 100
	for policyName, policy := range wirePolicies {
		for name, cacheable := range map[string]bool{"shared": true, "private": false} {
			t.Run(policyName+"/"+name, func(t *testing.T) {
				t.Parallel()
				var calls atomic.Int64
				begin := make(chan struct{})
				w, c := newCacheWire(t, true, policy, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == "/first" {
						return
					}
					calls.Add(1)
					if cacheable {
						receive(t, "all have asked", begin)
						accel.CacheFor(r.Context(), time.Hour)
					} else {
						w.Header().Set("Cache-Control", "private")
						w.WriteHeader(http.StatusOK) // lets the others go
						receive(t, "all have asked", begin)
					}
					say(w, text)
				})
				w.get(t, "/first")
				var asking sync.WaitGroup
				for range n {
					req := w.request(t, "GET", "/", nil)
					asking.Go(func() {
						res, err := w.client.Do(req)
						if !assert.NoError(t, err) {
							return
						}
						defer res.Body.Close()
						b, err := io.ReadAll(res.Body)
						assert.NoError(t, err)
						assert.Equal(t, text, string(b))
					})
				}
				want := 1
				if !cacheable {
					want = n
					eventually(t, "all handlers run at once", func() bool { return calls.Load() == n })
				}
				eventually(t, "all have asked", func() bool { return w.begun.Load() == n+1 })
				close(begin)
				asking.Wait()
				w.settles(t, c)
				assert.EqualValues(t, want, calls.Load(), "handler calls")
				assert.EqualValues(t, 1, w.opened.Load(), "connections")
			})
		}
	}
}

// A handler learns that its client has left when nobody else waits for it. What it
// then returns is not stored.
func TestWireAllLeave(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		for _, flushes := range []bool{false, true} {
			running, ended := make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				if calls.Add(1) > 1 {
					say(w, "whole")
					return
				}
				say(w, "half")
				if flushes {
					flush(w)
				}
				close(running)
				receive(t, "the handler is cancelled", r.Context().Done())
				close(ended)
			})
			ctx, leave := context.WithCancel(t.Context())
			var clients sync.WaitGroup
			ask := func() {
				req := w.request(t, "GET", "/", nil).WithContext(ctx)
				clients.Go(func() {
					if res, err := w.client.Do(req); err == nil {
						_, err = io.ReadAll(res.Body)
						assert.Error(t, err)
						res.Body.Close()
					}
				})
			}
			ask()
			receive(t, "the handler runs", running)
			if !flushes {
				for range 5 {
					ask()
				}
				eventually(t, "all have asked", func() bool { return w.begun.Load() == 6 })
			}
			leave()
			receive(t, "the handler hears of it", ended)
			clients.Wait()
			w.settles(t, c)
			assert.Equal(t, "whole", body(t, w.get(t, "/")))
		}
	})
}

// A leader that leaves takes nobody with it, and one that follows and leaves
// neither.
func TestWireSomeLeave(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		running, finish := make(chan struct{}), make(chan struct{})
		var calls atomic.Int64
		w, c := newCacheWire(t, http2, policy, func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			if calls.Add(1) == 1 {
				close(running)
				receive(t, "it may finish", finish)
			}
			say(w, text)
		})
		ctx, leave := context.WithCancel(t.Context())
		var leaving, staying sync.WaitGroup
		leader := w.request(t, "GET", "/", nil)
		leaving.Go(func() {
			if res, err := w.client.Do(leader.WithContext(ctx)); err == nil {
				res.Body.Close()
			}
		})
		receive(t, "the handler runs", running)
		for i := range 20 {
			req := w.request(t, "GET", "/", nil)
			if i%2 == 0 {
				leaving.Go(func() {
					if res, err := w.client.Do(req.WithContext(ctx)); err == nil {
						res.Body.Close()
					}
				})
				continue
			}
			staying.Go(func() {
				res, err := w.client.Do(req)
				if !assert.NoError(t, err) {
					return
				}
				defer res.Body.Close()
				b, err := io.ReadAll(res.Body)
				assert.NoError(t, err)
				assert.Equal(t, http.StatusOK, res.StatusCode)
				assert.Equal(t, text, string(b))
			})
		}
		eventually(t, "all have asked", func() bool { return w.begun.Load() == 21 })
		leave()
		leaving.Wait()
		close(finish)
		staying.Wait()
		w.settles(t, c)
		hit := w.get(t, "/")
		expect(t, hit, "hit")
		assert.Equal(t, text, body(t, hit))
	})
}

// Clients that leave anywhere, on hits and misses, as leaders and followers, while
// responses are refreshed and purged: whoever stays gets what is whole, and
// nothing is left behind. The bodies say how long they are and which they are.
func TestWireClientsThatLeave(t *testing.T) {
	sizes := map[string]int{"/small": 1 << 10, "/held": 30 << 10, "/large": 200 << 10, "/unstored": 30 << 10}
	paths := []string{"/small", "/held", "/large", "/unstored"}
	whole := func(path, b string) error {
		head, _, _ := strings.Cut(b, "\n")
		if len(b) != sizes[path] || !strings.HasPrefix(head, path+" ") || strings.Trim(b, head+"\n") != "" ||
			strings.Count(b, head+"\n") != len(b)/(len(head)+1) {
			return fmt.Errorf("%s: %d bytes, %q", path, len(b), head)
		}
		return nil
	}
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		clock := newClock()
		var version atomic.Int64
		h := func(w http.ResponseWriter, r *http.Request) {
			line := fmt.Sprintf("%s %d\n", r.URL.Path, version.Add(1))
			if r.URL.Path != "/unstored" {
				accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Minute))
				accel.Tag(r.Context(), "all")
			}
			for left := sizes[r.URL.Path]; left > 0; {
				piece := strings.Repeat(line, 100)
				piece = piece[:min(left, len(piece)/len(line)*len(line))]
				n, err := io.WriteString(w, piece)
				if err != nil {
					return // as handlers do
				}
				left -= n
			}
		}
		store := memstore.New(memstore.WithClock(clock.now))
		c := newCacheOver(t, store, h, accel.WithClock(clock.now), accel.WithPolicy(policy))
		w := newWire(t, http2, c, narrow)

		var workers sync.WaitGroup
		for worker := range uint64(10) {
			random := rand.New(rand.NewPCG(seed, worker))
			clients := []*http.Client{w.client, w.newClient()}
			workers.Go(func() {
				defer clients[1].CloseIdleConnections()
				for range 30 {
					path := paths[random.IntN(len(paths))]
					switch random.IntN(8) {
					case 0:
						clock.add(time.Duration(random.IntN(70)) * time.Second)
					case 1:
						assert.NoError(t, c.InvalidateTag(t.Context(), "all"))
					}
					if http2 {
						w.leave2(t, random, clients[random.IntN(2)], path, whole)
					} else {
						w.leave1(t, random, path, sizes[path], whole)
					}
				}
			})
		}
		workers.Wait()
		w.settles(t, c)
		for _, path := range paths {
			for range 2 {
				assert.NoError(t, whole(path, body(t, w.get(t, path))))
			}
		}
		s := c.Stats()
		t.Logf("hits %d (stale %d), collapsed %d, misses %d, stored %d, refreshes %d, not stored %v",
			s.Hits, s.StaleHits, s.Collapsed, s.Misses, s.Stored, s.Refreshes, s.NotStored)
		assert.Zero(t, s.StoreErrors)
		w.settles(t, c) // one of these hits may have been stale
	})
}

// leave1 sends a request over a connection of its own, and closes it somewhere: in
// the request, after it, in the answer, or after it.
func (w *wire) leave1(t *testing.T, random *rand.Rand, path string, size int, whole func(path, b string) error) {
	conn, err := net.Dial("tcp", w.addr)
	if !assert.NoError(t, err) {
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(wireDeadline))
	request := "GET " + path + " HTTP/1.1\r\nHost: " + w.addr + "\r\nAccept: */*\r\n\r\n"
	if random.IntN(2) == 0 {
		_ = conn.(*net.TCPConn).SetLinger(0) // a reset in place of an end
	}
	switch random.IntN(4) {
	case 0:
		say(conn, request[:random.IntN(len(request))])
	case 1:
		say(conn, request)
	case 2:
		say(conn, request)
		_, _ = io.CopyN(io.Discard, conn, int64(random.IntN(size)))
	default:
		say(conn, request)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if !assert.NoError(t, err) {
			return
		}
		b, err := io.ReadAll(res.Body)
		if assert.NoError(t, err) {
			assert.NoError(t, whole(path, string(b)))
		}
	}
}

// leave2 does the same to a stream of a connection.
func (w *wire) leave2(t *testing.T, random *rand.Rand, client *http.Client, path string, whole func(path, b string) error) {
	ctx, leave := context.WithTimeout(t.Context(), wireDeadline)
	defer leave()
	how := random.IntN(4)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL+path, nil)
	if !assert.NoError(t, err) {
		return
	}
	var leaving sync.WaitGroup
	defer leaving.Wait()
	if how == 0 {
		patience := random.IntN(200)
		leaving.Go(func() {
			for range patience {
				runtime.Gosched()
			}
			leave()
		})
	}
	res, err := client.Do(req)
	if err != nil {
		assert.Zero(t, how, err)
		return
	}
	defer res.Body.Close()
	switch how {
	case 1:
	case 2:
		_, _ = io.CopyN(io.Discard, res.Body, int64(random.IntN(40<<10)))
	default:
		b, err := io.ReadAll(res.Body)
		if how != 0 && assert.NoError(t, err) {
			assert.NoError(t, whole(path, string(b)))
		}
	}
}

// A refresh is nobody's: the client that caused it may leave, in the middle of its
// own stale answer.
func TestWireClientLeavesDuringRefresh(t *testing.T) {
	everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
		clock := newClock()
		var calls atomic.Int64
		refreshing, finish := make(chan struct{}), make(chan struct{})
		h := func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Minute))
			w.Header().Set("Content-Type", "image/png")
			n := calls.Add(1)
			if n == 2 {
				close(refreshing)
				receive(t, "it may finish", finish)
				assert.NoError(t, r.Context().Err())
			}
			w.Header().Set("X-Call", fmt.Sprint(n))
			say(w, half)
		}
		c := newCacheOver(t, memstore.New(memstore.WithClock(clock.now)), h, accel.WithClock(clock.now), accel.WithPolicy(policy))
		w := newWire(t, http2, c, narrow)
		w.get(t, "/")
		clock.add(90 * time.Second)
		slow := w.slowClient()
		s := w.stall(t, slow, "/", half)
		receive(t, "the refresh runs", refreshing)
		s.end()
		slow.CloseIdleConnections()
		eventually(t, "the answer is over", func() bool { return w.serving.Load() == 0 })
		close(finish)
		eventually(t, "the refresh is stored", func() bool { return c.Stats().Stored == 2 })
		hit := w.get(t, "/")
		assert.Equal(t, "2", hit.Header.Get("X-Call"))
		assert.True(t, half == body(t, hit))
		w.settles(t, c)
	})
}

// A client that has closed its half of the connection after its request, as
// netcat and some probes do, still reads. net/http takes it for one that left and
// cancels the context, but what the handler answers arrives.
func TestWireHalfClosed(t *testing.T) {
	for policyName, policy := range wirePolicies {
		t.Run(policyName, func(t *testing.T) {
			running, finish := make(chan struct{}), make(chan struct{})
			var calls atomic.Int64
			w, c := newCacheWire(t, false, policy, func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				if calls.Add(1) == 1 {
					close(running)
					receive(t, "it may finish", finish)
				}
				say(w, text)
			})
			leader := w.request(t, "GET", "/", nil)
			var asking sync.WaitGroup
			asking.Go(func() {
				res, err := w.client.Do(leader)
				if assert.NoError(t, err) {
					res.Body.Close()
				}
			})
			receive(t, "the handler runs", running)
			conn := w.dial(t)
			say(conn, "GET / HTTP/1.1\r\nHost: "+w.addr+"\r\n\r\n")
			require.NoError(t, conn.(*net.TCPConn).CloseWrite())
			eventually(t, "the follower has asked", func() bool { return w.begun.Load() == 2 })
			asking.Go(func() {
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if assert.NoError(t, err) {
					assert.Equal(t, http.StatusOK, res.StatusCode)
				}
			})
			close(finish)
			asking.Wait()
			w.settles(t, c)
		})
	}
}
