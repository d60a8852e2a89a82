package accel_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/memstore"
)

// Ever new URLs fill what the store is allowed to fill, and do not drive out the
// pages that are asked for.
func TestSecurity_D1_RandomURLs(t *testing.T) {
	const hot, size = 100, 4 << 10
	n := 20_000
	if racing || testing.Short() {
		n = 5000
	}
	noise := make([]byte, size+1000)
	rnd := rand.New(rand.NewPCG(7, 8))
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	path := filepath.Join(t.TempDir(), "cache.db")
	for name, test := range map[string]struct {
		store accel.Store
		limit int64
	}{
		"memstore":  {memstore.New(memstore.WithMaxSize(4 << 20)), 4 << 20},
		"boltstore": {boltstore.Open(path, boltstore.WithMaxSize(8<<20), boltstore.WithMemory(2<<20), boltstore.WithLogger(quiet)), 8 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				w.Header().Set("Content-Type", "image/png")
				_, _ = w.Write(noise[len(r.RequestURI):][:size])
			})
			c := newCacheOver(t, test.store, h)
			var hits, asked int
			for i := range n {
				res := get(c, fmt.Sprintf("/?x=%x", rnd.Uint64()))
				if b := body(t, res); len(b) != size {
					t.Fatalf("%d bytes", len(b))
				}
				target := fmt.Sprint("/hot/", i%hot)
				res = get(c, target)
				equal(t, "body", body(t, res) == string(noise[len(target):][:size]), true)
				if i >= 2*hot {
					asked++
					if status(res) == "hit" {
						hits++
					}
				}
				if i%500 == 0 {
					s := c.Stats().Store
					kept := s.FileBytes
					if name == "memstore" {
						kept = s.Bytes
					}
					if kept > test.limit+test.limit/10 {
						t.Fatalf("%d bytes of %d allowed", kept, test.limit)
					}
				}
			}
			if ratio := float64(hits) / float64(asked); ratio < 0.95 {
				t.Errorf("hit ratio of the pages that are asked for: %.3f", ratio)
			}
			if c.Stats().Store.Entries == 0 || calls.Load() < int64(n) || calls.Load() > int64(n+n/20+2*hot) {
				t.Errorf("%d entries, %d handler calls", c.Stats().Store.Entries, calls.Load())
			}
		})
	}
}

// A hundred streams without end take the memory of what may be stored and not
// more, and wait for nothing.
func TestSecurity_D2_StreamsAreNotBuffered(t *testing.T) {
	const streams, sent = 100, 8 << 20
	for name, flushed := range map[string]bool{"flushed": true, "not flushed": false} {
		t.Run(name, func(t *testing.T) {
			chunk := make([]byte, 64<<10)
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				w.Header().Set("Content-Type", "text/event-stream")
				for range sent / len(chunk) {
					_, _ = w.Write(chunk)
					if flushed {
						w.(http.Flusher).Flush()
					}
				}
			})
			c := newCache(t, h)
			var before, now runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var most atomic.Uint64
			var wg sync.WaitGroup
			for i := range streams {
				wg.Go(func() {
					w := &counter{header: http.Header{}}
					c.ServeHTTP(w, newRequest(fmt.Sprint("/", i)))
					equal(t, "bytes", w.n, sent)
				})
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			for looking := true; looking; {
				select {
				case <-done:
					looking = false
				default:
					runtime.ReadMemStats(&now)
					most.Store(max(most.Load(), now.HeapAlloc))
					runtime.Gosched()
				}
			}
			// A buffer that grows to 1 MiB leaves its smaller selves to the collector.
			if grown := int64(most.Load()) - int64(before.HeapAlloc); grown > streams*(4<<20) {
				t.Errorf("the heap has grown by %d MiB", grown>>20)
			}
			after(t, c, 0, calls, streams)
		})
	}

	// The first bytes come at once.
	read := make(chan struct{})
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-read
		_, _ = io.WriteString(w, "data: 2\n\n")
	})
	inBoth(t, func(t *testing.T, g regime) {
		calls.Store(0)
		c := newCache(t, h, g.opts...)
		s := newServer(t, c)
		res, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		in := bufio.NewReader(res.Body)
		line, _ := in.ReadString('\n')
		equal(t, "line", line, "data: 1\n")
		equal(t, "handler calls", calls.Load(), 1)
		read <- struct{}{}
		rest, _ := io.ReadAll(in)
		equal(t, "rest", string(rest), "\ndata: 2\n\n")
	})
}

// A counter is a writer that forgets.
type counter struct {
	header http.Header
	n      int
}

func (c *counter) Header() http.Header         { return c.header }
func (c *counter) Write(p []byte) (int, error) { c.n += len(p); return len(p), nil }
func (c *counter) WriteHeader(int)             {}
func (c *counter) Flush()                      {}

// Five hundred clients that read nothing of their hits hold no position of the
// store and no lock: others are served, stored and purged.
func TestSecurity_D3_SlowClientsOfHits(t *testing.T) {
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "t")
		_, _ = io.WriteString(w, "page of "+r.URL.Path)
	})
	for name, s := range map[string]accel.Store{"memstore": memstore.New(), "boltstore": openBolt(t, boltstore.WithMemory(0))} {
		t.Run(name, func(t *testing.T) {
			calls.Store(0)
			c := newCacheOver(t, s, h)
			get(c, "/")
			var wg sync.WaitGroup
			gate := make(chan struct{})
			writing := make(chan struct{}, 500)
			for range 500 {
				wg.Go(func() {
					w := &stuckWriter{ResponseRecorder: httptest.NewRecorder(), writing: make(chan struct{}), gate: gate}
					go func() { <-w.writing; writing <- struct{}{} }()
					c.ServeHTTP(w, newRequest("/"))
					equal(t, "body", w.Body.String(), "page of /")
				})
			}
			for range 500 {
				<-writing
			}
			equal(t, "positions held", c.Stats().Store.InFlight, 0)
			for i := range 50 {
				target := fmt.Sprint("/", i)
				expect(t, get(c, target), "fwd=uri-miss; stored")
				expect(t, get(c, target), "hit")
			}
			if err := c.InvalidateTag(t.Context(), "t"); err != nil {
				t.Error(err)
			}
			res := get(c, "/")
			expect(t, res, "fwd=uri-miss; stored")
			equal(t, "body", body(t, res), "page of /")
			close(gate)
			wg.Wait()
			equal(t, "handler calls", calls.Load(), 52)
			expect(t, get(c, "/"), "hit")
		})
	}
}

// A slowWriter is stuck until its gate opens.
type slowWriter struct {
	*httptest.ResponseRecorder
	gate chan struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	<-w.gate
	return w.ResponseRecorder.Write(p)
}

// The leader's client takes nothing: those who wait are served as soon as the
// handler is done.
func TestSecurity_D4_SlowClientOfLeader(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		synctest.Test(t, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				g.allow(w, r)
				time.Sleep(time.Second)
				_, _ = io.WriteString(w, brief)
			})
			c := newCache(t, h, g.opts...)
			slow := &slowWriter{ResponseRecorder: httptest.NewRecorder(), gate: make(chan struct{})}
			var leader sync.WaitGroup
			leader.Go(func() { c.ServeHTTP(slow, newRequest("/")) })
			synctest.Wait()
			start := time.Now()
			for _, res := range crowd(c, 100, plain) {
				expect(t, res, "fwd=uri-miss; collapsed")
				equal(t, "body", body(t, res), brief)
			}
			equal(t, "time", time.Since(start), time.Second)
			expect(t, get(c, "/"), "hit")
			after(t, c, 1, calls, 1)
			close(slow.gate)
			leader.Wait()
			equal(t, "body", slow.Body.String(), brief)
			after(t, c, 1, calls, 1)
		})
	})
}

// A handler that hangs keeps nobody for longer than WithWait, and nobody at all
// who wants something else.
func TestSecurity_D5_SlowHandler(t *testing.T) {
	for _, wait := range []time.Duration{0, 200 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			var calls atomic.Int64
			c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				if calls.Add(1) == 1 {
					time.Sleep(time.Minute)
				}
				_, _ = io.WriteString(w, brief)
			}, accel.WithWait(wait))
			limit := wait
			if wait == 0 {
				limit = 5 * time.Second
			}
			var leader sync.WaitGroup
			leader.Go(func() { equal(t, "body of the leader", body(t, get(c, "/")), brief) })
			synctest.Wait()
			start := time.Now()
			expect(t, get(c, "/other"), "fwd=uri-miss; stored")
			expect(t, get(c, "/?"), "fwd=uri-miss; stored")
			equal(t, "time for another", time.Since(start), 0)
			for _, res := range crowd(c, 100, plain) {
				equal(t, "body", body(t, res), brief)
			}
			equal(t, "time", time.Since(start), limit)
			if n := calls.Load(); n > 103 {
				t.Errorf("handler calls: %d", n)
			}
			// What they got is stored, and nobody waits any more.
			expect(t, get(c, "/"), "hit")
			equal(t, "time", time.Since(start), limit)
			n := calls.Load()
			leader.Wait()
			after(t, c, 3, &calls, n)
		})
	}
}

// The first client leaves: the handler goes on for the others. When the last has
// left it is cancelled, and what it returns then is not stored.
func TestSecurity_D6_LeaderLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			select {
			case <-r.Context().Done():
				_, _ = io.WriteString(w, "half")
				return
			case <-time.After(time.Second):
			}
			_, _ = io.WriteString(w, brief)
		})
		c := newCache(t, h)
		ctx, cancel := context.WithCancel(t.Context())
		go do(c, newRequest("/").WithContext(ctx))
		synctest.Wait()
		time.AfterFunc(10*time.Millisecond, cancel)
		for _, res := range crowd(c, 99, plain) {
			equal(t, "status", res.StatusCode, 200)
			equal(t, "body", body(t, res), brief)
		}
		synctest.Wait()
		after(t, c, 1, calls, 1)

		// All leave, one after the other.
		var wg sync.WaitGroup
		for i := range 100 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*time.Millisecond)
			defer cancel()
			wg.Go(func() { do(c, newRequest("/2").WithContext(ctx)) })
		}
		start := time.Now()
		wg.Wait()
		equal(t, "time", time.Since(start), 100*time.Millisecond)
		synctest.Wait()
		after(t, c, 1, calls, 2)
		equal(t, "body", body(t, get(c, "/2")), brief)
		after(t, c, 2, calls, 3)
	})
}

// A crash releases everybody: the one whose handler it was has the panic, one of
// the others tries again, then each runs its own. Nobody hangs, and what comes
// after is as if nothing had been.
func TestSecurity_D7_CrashReleasesEverybody(t *testing.T) {
	for name, crash := range map[string]func(){
		"panic":           func() { panic("boo") },
		"ErrAbortHandler": func() { panic(http.ErrAbortHandler) },
		"Goexit":          runtime.Goexit,
	} {
		for _, always := range []bool{false, true} {
			t.Run(fmt.Sprint(name, ", always ", always), func(t *testing.T) {
				inBoth(t, func(t *testing.T, g regime) {
					synctest.Test(t, func(t *testing.T) {
						var calls, ended, served atomic.Int64
						var works atomic.Bool
						c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
							n := calls.Add(1)
							g.allow(w, r)
							time.Sleep(time.Second)
							if !works.Load() && (always || n == 1) {
								_, _ = io.WriteString(w, "half")
								crash()
							}
							_, _ = io.WriteString(w, brief)
						}, g.opts...)
						var wg sync.WaitGroup
						start := time.Now()
						for range 101 {
							wg.Go(func() {
								defer func() {
									if v := recover(); v != nil || name == "Goexit" {
										ended.Add(1)
									}
								}()
								if b := body(t, do(c, newRequest("/"))); b == brief {
									served.Add(1)
									ended.Add(map[bool]int64{true: -1, false: 0}[name == "Goexit"])
								}
							})
						}
						wg.Wait()
						if d := time.Since(start); d > 3*time.Second {
							t.Errorf("it took %v", d)
						}
						equal(t, "crashed or served", ended.Load()+served.Load(), 101)
						if always {
							equal(t, "served", served.Load(), 0)
							after(t, c, 0, &calls, 101)
						} else {
							equal(t, "served", served.Load(), 100)
							after(t, c, 1, &calls, 2)
						}
						works.Store(true)
						equal(t, "body", body(t, get(c, "/")), brief)
						equal(t, "entries in the store", c.Stats().Store.Entries, 1)
					})
				})
			})
		}
	}
}

// Ten thousand ask at the moment a page expires: one of them renders it.
func TestSecurity_D8_ThunderingHerd(t *testing.T) {
	crowds := 10_000
	if racing || testing.Short() {
		crowds = 1000
	}
	for name, life := range map[string]func(w http.ResponseWriter, r *http.Request){
		"CacheFor": func(_ http.ResponseWriter, r *http.Request) { accel.CacheFor(r.Context(), time.Minute) },
		"stale while refreshed": func(_ http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour))
		},
		"max-age": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "max-age=60") },
		"validated": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.Header().Set("ETag", `"v1"`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					life(w, r)
					time.Sleep(time.Second)
					if r.Header.Get("If-None-Match") != "" {
						w.WriteHeader(http.StatusNotModified)
						return
					}
					_, _ = io.WriteString(w, brief)
				})
				policy := accel.OptIn
				if name == "max-age" || name == "validated" {
					policy = accel.RFC9111
				}
				c := newCache(t, h, accel.WithPolicy(policy))
				get(c, "/")
				time.Sleep(61 * time.Second)
				for _, res := range crowd(c, crowds, plain) {
					if b := body(t, res); b != brief || res.StatusCode != 200 {
						t.Fatalf("%d %s", res.StatusCode, b)
					}
				}
				time.Sleep(2 * time.Second)
				after(t, c, 1, calls, 2)
				expect(t, get(c, "/"), "hit")
			})
		})
	}
}

// A purge costs the same however many there were, and strikes what it names:
// other pages stay hits all along.
func TestSecurity_D9_PurgeStorm(t *testing.T) {
	for name, test := range map[string]struct {
		store  accel.Store
		purges int
	}{"memstore": {memstore.New(), 60_000}, "boltstore": {openBolt(t), 500}} {
		t.Run(name, func(t *testing.T) {
			if racing || testing.Short() {
				test.purges /= 10
			}
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				accel.Tag(r.Context(), "page:"+r.URL.Path)
				_, _ = io.WriteString(w, "page of "+r.URL.Path)
			})
			c := newCacheOver(t, test.store, h)
			for i := range 50 {
				get(c, fmt.Sprint("/", i))
			}
			var wg sync.WaitGroup
			for p := range 4 {
				wg.Go(func() {
					for i := range test.purges / 4 {
						if err := c.InvalidateTag(t.Context(), fmt.Sprint("user:", p, "/", i)); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			done := make(chan struct{})
			go func() { wg.Wait(); close(done) }()
			hits := 0
			for storm := true; storm; hits++ {
				select {
				case <-done:
					storm = false
				default:
				}
				target := fmt.Sprint("/", hits%50)
				res := get(c, target)
				if b := body(t, res); status(res) != "hit" || b != "page of "+target {
					t.Fatalf("%s: %s, %s", target, status(res), b)
				}
			}
			after(t, c, 50, calls, 50)
			if n := c.Stats().Store.Marks; n > 65_536 {
				t.Errorf("%d marks in memory", n)
			}
			if err := c.InvalidateTag(t.Context(), "page:/7"); err != nil {
				t.Error(err)
			}
			expect(t, get(c, "/7"), "fwd=uri-miss; stored")
			expect(t, get(c, "/8"), "hit")
			equal(t, "handler calls", calls.Load(), 51)
			t.Logf("%d hits during %d purges", hits, test.purges)
		})
	}
}

// A header of a megabyte is sent and not stored.
func TestSecurity_D10_LargeHeader(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		for _, test := range []struct {
			name   string
			header http.Header
			stored bool
		}{
			{"1 MiB", http.Header{"X-Big": {strings.Repeat("x", 1<<20)}}, false},
			{"33 KiB", http.Header{"X-Big": {strings.Repeat("x", 33<<10)}}, false},
			{"many", http.Header{"X-Many": slices.Repeat([]string{"x"}, 10_000)}, false},
			{"31 KiB", http.Header{"X-Big": {strings.Repeat("x", 31<<10)}}, true},
		} {
			t.Run(test.name, func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					g.allow(w, r)
					for name, values := range test.header {
						w.Header()[name] = values
					}
					_, _ = io.WriteString(w, brief)
				})
				c := newCache(t, h, g.opts...)
				s := newServer(t, c)
				for range 2 {
					got := fetch(t, s.URL)
					equal(t, "body", got.body, brief)
					for name, values := range test.header {
						equal(t, name, slices.Equal(got.header[name], values), true)
					}
				}
				if test.stored {
					after(t, c, 1, calls, 1)
				} else {
					after(t, c, 0, calls, 2)
				}
			})
		}
	})
}

// The clock jumps. Nothing panics, no entry lives on for years, and no age is
// below zero.
func TestSecurity_D12_ClockJumps(t *testing.T) {
	base := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, to := range map[string]time.Time{
		"an hour back":    base.Add(-time.Hour),
		"ten years on":    base.AddDate(10, 0, 0),
		"1970":            time.Unix(0, 0),
		"before 1970":     time.Unix(-1, 0),
		"2106":            time.Unix(1<<32, 0),
		"2038":            time.Unix(1<<31, 0),
		"year 9999":       time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
		"year 1":          time.Time{},
		"a second back":   base.Add(-time.Second),
		"behind the leap": time.Date(2028, 2, 29, 23, 59, 60, 0, time.UTC),
	} {
		for how, life := range map[string]func(w http.ResponseWriter, r *http.Request){
			"CacheFor": func(_ http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Minute), accel.StaleIfError(time.Minute))
			},
			"max-age": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=60, stale-while-revalidate=60")
			},
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				k := newClock()
				k.add(base.Sub(k.now()))
				set := func(at time.Time) {
					k.mu.Lock()
					defer k.mu.Unlock()
					k.t = at
				}
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					life(w, r)
					_, _ = io.WriteString(w, brief)
				})
				c := newCacheOver(t, memstore.New(memstore.WithClock(k.now)), h, accel.WithClock(k.now))
				defer c.Close() // and the refreshes with it
				ask := func() string {
					t.Helper()
					res := get(c, "/")
					equal(t, "body", body(t, res), brief)
					if age := res.Header.Get("Age"); strings.HasPrefix(age, "-") {
						t.Errorf("Age: %s", age)
					}
					return status(res)
				}
				ask()
				equal(t, "handler calls", calls.Load(), 1)
				set(to)
				ask()
				// It is the new time now, and time goes on: what was stored before or
				// at the jump is over within its minutes.
				t.Run("goes on", func(t *testing.T) {
					n := calls.Load()
					for range 4 {
						set(k.now().Add(time.Minute + time.Second))
						ask()
					}
					if err := waitFor(func() bool { return calls.Load() > n }); err != nil {
						t.Errorf("the page was not rendered again for four minutes after the clock jumped")
					}
				})

				// Stored in the future, by a clock that was wrong, and set right again.
				t.Run("set right again", func(t *testing.T) {
					set(base.AddDate(10, 0, 0))
					get(c, "/future")
					set(base)
					n := calls.Load()
					for range 4 {
						res := get(c, "/future")
						equal(t, "body", body(t, res), brief)
						set(k.now().Add(time.Minute + time.Second))
					}
					if err := waitFor(func() bool { return calls.Load() > n }); err != nil {
						t.Errorf("the page was not rendered again within four minutes")
					}
				})
			})
		}
	}
}

// waitFor gives what runs in the background a moment.
func waitFor(done func() bool) error {
	for range 1000 {
		if done() {
			return nil
		}
		runtime.Gosched()
	}
	return context.DeadlineExceeded
}
