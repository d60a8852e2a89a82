package accel_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/memstore"
)

// A response that sets a cookie is for one client: not stored, not shared with
// those who wait, however it is spelt and wherever it comes from.
func TestSecurity_S1_SetCookie(t *testing.T) {
	var n atomic.Int64
	fresh := func() string { return fmt.Sprint("s=", n.Add(1)) }
	for name, set := range map[string]func(w http.ResponseWriter, r *http.Request){
		"SetCookie": func(w http.ResponseWriter, _ *http.Request) {
			http.SetCookie(w, &http.Cookie{Name: "s", Value: fresh()[2:]})
		},
		"lower case": func(w http.ResponseWriter, _ *http.Request) { w.Header()["set-cookie"] = []string{fresh()} },
		"capitals":   func(w http.ResponseWriter, _ *http.Request) { w.Header()["SET-COOKIE"] = []string{fresh()} },
		"two":        func(w http.ResponseWriter, _ *http.Request) { w.Header()["Set-Cookie"] = []string{fresh(), fresh()} },
		"empty":      func(w http.ResponseWriter, _ *http.Request) { w.Header()["Set-Cookie"] = []string{""} },
		"trailer":    func(w http.ResponseWriter, _ *http.Request) { w.Header()["Trailer"] = []string{"Set-Cookie"} },
		"prefix trailer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header()[http.TrailerPrefix+"Set-Cookie"] = []string{fresh()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(t *testing.T, g regime) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					g.allow(w, r)
					w.Header().Add("Cache-Control", "public, max-age=60")
					set(w, r)
					fmt.Fprint(w, "hello, ", n.Add(1))
				})
				c := newCache(t, h, g.opts...)
				seen := map[string]bool{}
				for i := range 3 {
					seen[body(t, get(c, "/", "Cookie", "u=victim"))] = true
					after(t, c, 0, calls, int64(2*i+1))
					seen[body(t, get(c, "/"))] = true
					after(t, c, 0, calls, int64(2*i+2))
				}
				equal(t, "different pages", len(seen), 6)
			})
		})
	}

	t.Run("followers", func(t *testing.T) {
		inBoth(t, func(t *testing.T, g regime) {
			synctest.Test(t, func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(time.Second)
					g.allow(w, r)
					w.Header().Set("Set-Cookie", fresh())
				})
				c := newCache(t, h, g.opts...)
				seen := map[string]bool{}
				for _, res := range crowd(c, 100, plain) {
					seen[res.Header.Get("Set-Cookie")] = true
				}
				equal(t, "different cookies", len(seen), 100)
				after(t, c, 0, calls, 100)
			})
		})
	})

	t.Run("from middleware around", func(t *testing.T) {
		h, calls := page(func(*http.Request) string { return "x" })
		c := newCache(t, h)
		outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", fresh())
			c.ServeHTTP(w, r)
		})
		seen := map[string]bool{}
		for range 3 {
			seen[get(outer, "/").Header.Get("Set-Cookie")] = true
		}
		equal(t, "different cookies", len(seen), 3)
		after(t, c, 0, calls, 3)
	})

	// Who knows what it means may have it stored.
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Set-Cookie", "theme=dark")
		_, _ = io.WriteString(w, "x")
	})
	c := newCache(t, h, accel.WithUncacheableHeaders())
	for range 2 {
		equal(t, "Set-Cookie", get(c, "/").Header.Get("Set-Cookie"), "theme=dark")
	}
	after(t, c, 1, calls, 1)
}

// RFC 9111, section 3.5: the response to a request with Authorization answers
// nobody else, unless it says so; and private is private for all. (By OptIn the
// handler calls CacheFor, which is no permission for that.)
func TestSecurity_S2_Authorization(t *testing.T) {
	for _, test := range []struct {
		cc                string
		authorized, plain bool // stored
	}{
		{"", false, true},
		{"public", true, true},
		{"private", false, false},
		{"s-maxage=60", true, true},
		{"must-revalidate", true, true},
		{"no-cache", false, true}, // without validation by OptIn, where CacheFor overrules it
		{"no-store", false, false},
		{`private="x"`, false, false},
		{"public, private", false, false},
	} {
		for name, g := range regimes {
			t.Run(name+" "+test.cc, func(t *testing.T) {
				handler := func() (http.HandlerFunc, *atomic.Int64) {
					return counting(func(w http.ResponseWriter, r *http.Request) {
						if name == "OptIn" {
							g.allow(w, r)
						}
						cc := test.cc
						if name == "RFC9111" && !strings.Contains(cc, "s-maxage") {
							cc = strings.TrimPrefix(cc+", max-age=60", ", ")
						}
						w.Header().Set("Cache-Control", cc)
						fmt.Fprint(w, "for ", r.Header.Get("Authorization"))
					})
				}
				plain := test.plain && !(name == "RFC9111" && test.cc == "no-cache") // it has no validator

				// With credentials first.
				h, calls := handler()
				c := newCache(t, h, g.opts...)
				equal(t, "body", body(t, get(c, "/", "Authorization", "me")), "for me")
				want, n := "for you", int64(2)
				if test.authorized {
					want, n = "for me", 1
				}
				equal(t, "body", body(t, get(c, "/", "Authorization", "you")), want)
				after(t, c, 2-n, calls, n)
				want = "for "
				if test.authorized {
					want = "for me"
				}
				equal(t, "body", body(t, get(c, "/")), want)

				// Without first. What is stored then is still not for those with.
				h, calls = handler()
				c = newCache(t, h, g.opts...)
				get(c, "/")
				n = 2
				if plain {
					expect(t, get(c, "/"), "hit")
					after(t, c, 1, calls, 1)
					n = 1
				} else {
					get(c, "/")
					after(t, c, 0, calls, 2)
				}
				want, n = "for me", n+1
				if test.authorized {
					want, n = "for ", 1
				}
				equal(t, "body", body(t, get(c, "/", "Authorization", "me")), want)
				equal(t, "handler calls", calls.Load(), n)
				if plain {
					res := get(c, "/")
					equal(t, "body", body(t, res), "for ")
					expect(t, res, "hit")
					after(t, c, 1, calls, n)
				}
			})
		}
	}
}

// A page for the bearer of a cookie that says nothing is not stored. By CacheFor
// it is: nearly every browser sends cookies, and CacheFor says that the page is
// for all.
func TestSecurity_S3_Cookie(t *testing.T) {
	heuristic := []accel.Option{accel.WithPolicy(accel.RFC9111), accel.WithHeuristicFreshness(time.Hour)}
	for _, test := range []struct {
		name   string
		opts   []accel.Option
		field  string
		value  string
		stored bool
	}{
		{"OptIn, nothing", nil, "", "", false},
		{"OptIn, private lifetime", nil, "Cache-Control", "max-age=60", false},
		{"OptIn, targeted", nil, "Cdn-Cache-Control", "max-age=60", false},
		{"OptIn, public", nil, "Cache-Control", "public, max-age=60", true},
		{"OptIn, s-maxage", nil, "Cache-Control", "s-maxage=60", true},
		{"OptIn, CacheFor", nil, "CacheFor", "", true},
		{"RFC9111, nothing", heuristic, "", "", false},
		{"RFC9111, explicit", heuristic, "Cache-Control", "max-age=60", true},
		{"RFC9111, public", heuristic, "Cache-Control", "public", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				switch test.field {
				case "":
				case "CacheFor":
					accel.CacheFor(r.Context(), time.Hour)
				default:
					w.Header().Set(test.field, test.value)
				}
				_, _ = io.WriteString(w, "for "+r.Header.Get("Cookie"))
			})
			c := newCache(t, h, test.opts...)
			equal(t, "body", body(t, get(c, "/", "Cookie", "u=me")), "for u=me")
			want, entries, n := "for u=you", int64(0), int64(2)
			if test.stored {
				want, entries, n = "for u=me", 1, 1
			}
			equal(t, "body", body(t, get(c, "/", "Cookie", "u=you")), want)
			after(t, c, entries, calls, n)
		})
	}
}

// Coalescing shares nothing that a hit would not share.
func TestSecurity_S4_CoalescingSharesNothingPrivate(t *testing.T) {
	// Fifty users, one URL; each has credentials, or a cookie, or nothing to tell
	// them apart by but the answer.
	for name, request := range map[string]func(i int) *http.Request{
		"Authorization": func(i int) *http.Request { return newRequest("/", "Authorization", fmt.Sprint("user ", i)) },
		"Cookie":        func(i int) *http.Request { return newRequest("/", "Cookie", fmt.Sprint("u=", i)) },
		"an address":    func(i int) *http.Request { return newRequest("/", "X-Real-Ip", fmt.Sprint("192.0.2.", i)) },
	} {
		t.Run("private by "+name, func(t *testing.T) {
			inBoth(t, func(t *testing.T, g regime) {
				synctest.Test(t, func(t *testing.T) {
					who := func(r *http.Request) string {
						return "for " + r.Header.Get("Authorization") + r.Header.Get("Cookie") + r.Header.Get("X-Real-Ip")
					}
					h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
						time.Sleep(100 * time.Millisecond)
						g.allow(w, r)
						w.Header().Add("Cache-Control", "private")
						w.WriteHeader(http.StatusOK)
						time.Sleep(100 * time.Millisecond)
						_, _ = io.WriteString(w, who(r))
					})
					c := newCache(t, h, g.opts...)
					// The first time everybody learns from the leader's header that it
					// is private; then the key is known, and nobody waits.
					for round, limit := range []time.Duration{300 * time.Millisecond, 200 * time.Millisecond} {
						start := time.Now()
						for i, res := range crowd(c, 50, request) {
							equal(t, "body", body(t, res), who(request(i)))
						}
						equal(t, "time", time.Since(start), limit)
						after(t, c, 0, calls, int64(50*(round+1)))
					}
				})
			})
		})
	}

	// Storable as such, but not for requests with credentials: those without wait
	// for each other, those with get their own.
	t.Run("some with Authorization", func(t *testing.T) {
		inBoth(t, func(t *testing.T, g regime) {
			synctest.Test(t, func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(200 * time.Millisecond)
					g.allow(w, r)
					fmt.Fprint(w, "for ", r.Header.Get("Authorization"))
				})
				c := newCache(t, h, g.opts...)
				for i, res := range crowd(c, 50, func(i int) *http.Request {
					if i%2 == 0 {
						return newRequest("/", "Authorization", fmt.Sprint("user ", i))
					}
					return newRequest("/", "Cookie", fmt.Sprint("u=", i))
				}) {
					want := "for "
					if i%2 == 0 {
						want = fmt.Sprint("for user ", i)
					}
					equal(t, "body", body(t, res), want)
				}
				after(t, c, 1, calls, 26)
			})
		})
	})

	// Storable for the leader, and not for those who wait. (The store takes
	// nothing, or they would find it there: a hit is for them.)
	for name, field := range map[string][]string{"their cookies": {"Cookie", "u="}, "no-store": {"Cache-Control", "no-store, u="}} {
		t.Run("but for "+name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					time.Sleep(200 * time.Millisecond)
					w.Header().Set("Cdn-Cache-Control", "max-age=60")
					fmt.Fprint(w, "for ", r.Header.Get(field[0]))
				})
				c := newCacheOver(t, &broken{Store: memstore.New(), put: accel.ErrBusy}, h)
				var leader sync.WaitGroup
				leader.Go(func() { equal(t, "body", body(t, get(c, "/")), "for ") })
				synctest.Wait()
				for i, res := range crowd(c, 50, func(i int) *http.Request { return newRequest("/", field[0], fmt.Sprint(field[1], i)) }) {
					equal(t, "body", body(t, res), fmt.Sprint("for ", field[1], i))
				}
				leader.Wait()
				after(t, c, 0, calls, 51)
			})
		})
	}

	// The variant that a leader's answer is has to be the follower's.
	t.Run("Vary: Cookie", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(200 * time.Millisecond)
				accel.CacheFor(r.Context(), time.Hour)
				w.Header().Set("Vary", "Cookie")
				fmt.Fprint(w, "for ", r.Header.Get("Cookie"))
			})
			c := newCache(t, h)
			for i, res := range crowd(c, 50, func(i int) *http.Request {
				return newRequest("/", "Cookie", fmt.Sprint("u=", i%10))
			}) {
				equal(t, "body", body(t, res), fmt.Sprint("for u=", i%10))
			}
			equal(t, "entries in the store", c.Stats().Store.Entries, 10)
			if n := calls.Load(); n < 10 || n > 50 {
				t.Errorf("handler calls: %d", n)
			}
		})
	})

	// What must be validated before each use is validated for each.
	t.Run("no-cache", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(200 * time.Millisecond)
				w.Header().Set("Cache-Control", "no-cache")
				w.Header().Set("ETag", `"v1"`)
				_, _ = io.WriteString(w, brief)
			})
			c := newCache(t, h, accel.WithPolicy(accel.RFC9111))
			for round := range 2 {
				for _, res := range crowd(c, 50, plain) {
					equal(t, "body", body(t, res), brief)
				}
				after(t, c, 1, calls, int64(50*(round+1)))
			}
		})
	})

	// What CacheFor allowed is for everybody, cookies or not.
	t.Run("CacheFor", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, calls := page(func(*http.Request) string { time.Sleep(200 * time.Millisecond); return brief })
			c := newCache(t, h)
			for _, res := range crowd(c, 50, func(i int) *http.Request { return newRequest("/", "Cookie", fmt.Sprint("u=", i)) }) {
				equal(t, "body", body(t, res), brief)
			}
			after(t, c, 1, calls, 1)
		})
	})
}

// A response is only for those whose headers are the same as far as Vary names
// them, on all its lines; what names Authorization is never stored, and what
// names Cookie only if the handler asks.
func TestSecurity_S5_Vary(t *testing.T) {
	for _, test := range []struct {
		name   string
		vary   []string
		field  string
		stored bool
	}{
		{"star", []string{"*"}, "Cookie", false},
		{"star among others", []string{"Accept", "Cookie , *"}, "Cookie", false},
		{"no field name", []string{"Accept Cookie"}, "Cookie", false},
		{"Authorization", []string{"Authorization"}, "Authorization", false},
		{"Authorization in odd case", []string{"accept, aUTHORIZATION"}, "Authorization", false},
		{"Cookie", []string{"Cookie"}, "Cookie", true},
		{"User-Agent", []string{"User-Agent"}, "User-Agent", true},
		{"second line", []string{"Accept", "X-Tenant"}, "X-Tenant", true},
		{"odd case", []string{"x-tENANT"}, "X-Tenant", true},
		{"empty members", []string{",, ,X-Tenant,"}, "X-Tenant", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				w.Header()["Vary"] = test.vary
				if test.name == "odd case" {
					w.Header()["vary"] = test.vary // past the methods of http.Header
					delete(w.Header(), "Vary")
				}
				w.Header().Set("Cache-Control", "public")
				v, ok := r.Header[test.field]
				fmt.Fprint(w, "for ", v, ok)
			})
			c := newCache(t, h)
			requests := [][]string{
				{}, {test.field, ""}, {test.field, "a"}, {test.field, "b"}, {test.field, "A"}, {test.field, "a", test.field, "b"},
			}
			for round := range 2 {
				for _, header := range requests {
					r := newRequest("/", header...)
					v, ok := r.Header[test.field]
					res := do(c, r)
					equal(t, "body", body(t, res), fmt.Sprint("for ", v, ok))
					if round == 1 {
						equal(t, "hit", status(res) == "hit", test.stored)
					}
				}
			}
			if test.stored {
				after(t, c, 6, calls, 6)
			} else {
				after(t, c, 0, calls, 12)
			}
		})
	}

	// Without CacheFor, Vary: Cookie is not stored by OptIn. A cache by the RFC
	// keeps it for those with the same cookies.
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Set("Vary", "Cookie")
			fmt.Fprint(w, "for ", r.Header.Get("Cookie"))
		})
		c := newCache(t, h, g.opts...)
		for range 3 {
			for _, cookie := range []string{"u=a", "u=b", ""} {
				equal(t, "body", body(t, get(c, "/", "Cookie", cookie)), "for "+cookie)
			}
		}
		if g.opts == nil {
			after(t, c, 0, calls, 9)
		} else {
			after(t, c, 3, calls, 3)
		}
	})
}

// A client that sends ever new values of what Vary names fills sixteen variants
// and no more; other pages stay where they are.
func TestSecurity_S6_VaryExplosion(t *testing.T) {
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		if r.URL.Path == "/" {
			w.Header().Set("Vary", "User-Agent")
		}
		_, _ = io.WriteString(w, "for "+r.Header.Get("User-Agent"))
	})
	c := newCache(t, h)
	const others, agents = 50, 20_000
	for i := range others {
		get(c, fmt.Sprint("/", i), "User-Agent", "decent")
	}
	var most, size int64
	for i := range agents {
		agent := fmt.Sprint("Mozilla/5.0 (evil; rv:", i, ")")
		res := get(c, "/", "User-Agent", agent)
		if b := body(t, res); b != "for "+agent {
			t.Fatalf("%s is served %s", agent, b)
		}
		if i%100 == 0 {
			s := c.Stats().Store
			most = max(most, s.Entries-others)
			if i == 1000 {
				size = s.Bytes
			}
			if size > 0 && s.Bytes > size+size/10 {
				t.Fatalf("%d bytes after %d agents, %d after 1000", s.Bytes, i, size)
			}
		}
	}
	if most > accel.MaxVariants {
		t.Errorf("%d variants", most)
	}
	for i := range others {
		res := get(c, fmt.Sprint("/", i))
		expect(t, res, "hit")
		equal(t, "body", body(t, res), "for decent")
	}
	after(t, c, others+accel.MaxVariants, calls, others+agents)

	// More names than anybody needs are no variants at all.
	var names []string
	for i := range 17 {
		names = append(names, fmt.Sprint("X-", i))
	}
	h, calls = counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Vary", strings.Join(names, ", "))
		_, _ = io.WriteString(w, brief)
	})
	c = newCache(t, h)
	for range 2 {
		expect(t, get(c, "/"), "fwd=uri-miss; detail=too-many-vary")
	}
	after(t, c, 0, calls, 2)
}

// Tags tell what a page is made from, Surrogate-Control what the site thinks of
// it. Neither is in any byte that a client gets, of whatever class the response
// is. Where the handler has its own writer nothing is taken off: there is nobody
// to do it.
func TestSecurity_S7_TagsReachNoClient(t *testing.T) {
	const secret = "secret-7f3a"
	field := regexp.MustCompile(`(?i)\n(surrogate-|cache-tag)`)
	bear := func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Surrogate-Key", secret+" b")
		h.Set("Cache-Tag", "a, "+secret)
		h.Set("Surrogate-Control", `max-age=60, content="`+secret+`"`)
		h["surrogate-key"] = []string{secret} // past the methods of http.Header
		accel.Tag(r.Context(), secret)
	}
	big := strings.Repeat("0123456789abcdef", 8<<10)
	flush := func(w http.ResponseWriter) { w.(http.Flusher).Flush() }

	kinds := map[string]func(w http.ResponseWriter, r *http.Request){
		"page":  func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, text) },
		"error": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", 500) },
		"missing": func(w http.ResponseWriter, r *http.Request) {
			accel.NoStore(r.Context())
			http.NotFound(w, r)
		},
		"redirect":  func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"nothing":   func(w http.ResponseWriter, r *http.Request) {},
		"header":    func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(200) },
		"204":       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) },
		"304":       func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) },
		"streamed":  func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, big) },
		"too large": func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, strings.Repeat(big, 10)) },
		"copied": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, strings.NewReader(strings.Repeat(big, 10)))
		},
		"flushed": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "a")
			flush(w)
			_, _ = io.WriteString(w, "b")
		},
		"flushed first": func(w http.ResponseWriter, r *http.Request) {
			flush(w)
			_, _ = io.WriteString(w, "b")
		},
		"flushed by controller": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		},
		"full duplex": func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.WriteString(w, "b")
		},
		"written beneath": func(w http.ResponseWriter, r *http.Request) {
			u := w.(interface{ Unwrap() http.ResponseWriter }).Unwrap()
			u.WriteHeader(200)
			_, _ = io.WriteString(u, "b")
		},
		"cookie": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "a=b")
			_, _ = io.WriteString(w, "x")
		},
		"private": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "private")
			_, _ = io.WriteString(w, "x")
		},
		"early hints": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "x")
		},
		"trailers": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Cache-Tag, X-Sum")
			_, _ = io.WriteString(w, "x")
			flush(w)
			w.Header().Set("X-Sum", "1")
			w.Header().Set("Cache-Tag", secret)
			w.Header().Set(http.TrailerPrefix+"Surrogate-Key", secret)
		},
		"trailers, not flushed": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Surrogate-Key")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("Surrogate-Key", secret)
			w.Header().Set(http.TrailerPrefix+"Cache-Tag", secret)
		},
		"undeclared trailer": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "x")
			w.Header().Set(http.TrailerPrefix+"Surrogate-Key", secret)
		},
		"late trailer of a long one": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, big)
			w.Header().Set(http.TrailerPrefix+"Surrogate-Key", secret)
		},
		"panic":              func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"panic after header": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(418); panic(http.ErrAbortHandler) },
		"panic in the middle": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, big)
			panic(http.ErrAbortHandler)
		},
		"panic, trailer": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "Surrogate-Key")
			_, _ = io.WriteString(w, big)
			panic("boo")
		},
		"short": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "0123456789")
		},
		"encoded": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip, br")
			_, _ = io.WriteString(w, "0123456789")
		},
		"fails later": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Fail") != "" {
				http.Error(w, "no", http.StatusServiceUnavailable)
				return
			}
			accel.CacheFor(r.Context(), time.Minute, accel.StaleIfError(time.Hour))
			_, _ = io.WriteString(w, brief)
		},
		"panics later": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Fail") != "" {
				panic(http.ErrAbortHandler)
			}
			accel.CacheFor(r.Context(), time.Minute, accel.StaleIfError(time.Hour))
			_, _ = io.WriteString(w, brief)
		},
	}
	inBoth(t, func(t *testing.T, g regime) {
		for name, kind := range kinds {
			t.Run(name, func(t *testing.T) {
				k := newClock()
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					bear(w, r)
					kind(w, r)
				})
				c := newCache(t, h, append(slices.Clone(g.opts), accel.WithClock(k.now))...)
				plain := newServer(t, c)
				// Whoever recovers a panic outside finds a header map without them, too.
				recovering := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						if v := recover(); v != nil {
							w.WriteHeader(500)
						}
					}()
					c.ServeHTTP(w, r)
				}))
				told := false
				ask := func(method string, lines ...string) (all string) {
					for _, s := range []*httptest.Server{plain, recovering} {
						got := sendRaw(t, s.Listener.Addr().String(), asking(method, "/", "h", lines...))
						if !told && (strings.Contains(got, secret) || field.MatchString(got)) {
							told = true
							t.Errorf("%s %q tells: %.300q", method, lines, got)
						}
						all += got
					}
					return all
				}
				first := ask("GET")
				etag := ""
				if i := strings.Index(first, "\r\nEtag: "); i >= 0 {
					etag, _, _ = strings.Cut(first[i+len("\r\nEtag: "):], "\r\n")
				}
				ask("GET")
				ask("GET", "Accept-Encoding: gzip")
				ask("HEAD")
				ask("GET", "If-None-Match: "+etag)
				ask("GET", `If-Match: "other"`)
				ask("GET", "Authorization: me")
				ask("GET", "Cookie: u=me")
				if name == "page" && !strings.Contains(ask("GET", "If-None-Match: "+etag), " 304 ") {
					t.Error("there was no 304")
				}
				if etag != "" { // else a Range has the handler's own writer
					ask("GET", "Range: bytes=0-4")
					ask("GET", "Range: bytes=9999999-")
				}
				k.add(2 * time.Minute)
				got := ask("GET", "X-Fail: 1")
				if strings.HasSuffix(name, "later") && !strings.Contains(got, "stale-if-error") {
					t.Errorf("no stale page for a failure: %s", got)
				}
				ask("HEAD")
				if g.opts != nil { // by OptIn the handler has its own writer
					for _, method := range []string{"POST", "DELETE", "FROBNICATE"} {
						ask(method)
					}
				}
				if calls.Load() == 0 {
					t.Error("the handler did not run")
				}
			})
		}
	})

	// Those who wait for one response.
	synctest.Test(t, func(t *testing.T) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(time.Second)
			bear(w, r)
			_, _ = io.WriteString(w, brief)
		})
		c := newCache(t, h)
		for _, res := range crowd(c, 10, plain) {
			if all := fmt.Sprint(res.Header); strings.Contains(all, secret) {
				t.Errorf("a follower is told: %s", all)
			}
		}
		after(t, c, 1, calls, 1)
	})

	// The tags work all the same.
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		bear(w, r)
		_, _ = io.WriteString(w, brief)
	})
	c := newCache(t, h)
	get(c, "/")
	expect(t, get(c, "/"), "hit")
	after(t, c, 1, calls, 1)
	if err := c.InvalidateTag(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
	after(t, c, 1, calls, 2)

	// A cache in front of this one wants them.
	c = newCache(t, h, accel.WithStrippedHeaders())
	for range 2 {
		equal(t, "Cache-Tag", get(c, "/").Header.Get("Cache-Tag"), "a, "+secret)
	}
	c = newCache(t, h, accel.WithStrippedHeaders("cache-tag"))
	for range 2 {
		equal(t, "Cache-Tag", get(c, "/").Header.Get("Cache-Tag"), "")
		equal(t, "Surrogate-Key", get(c, "/").Header.Get("Surrogate-Key"), secret+" b")
	}

	// The exception: a request that is passed on.
	r := newRequest("/", "Upgrade", "x")
	equal(t, "Surrogate-Key of a pass", do(c, r).Header.Get("Surrogate-Key"), secret+" b")
}

// Cache-Status says hit or why not. The URL is in it only for who debugs, and
// nothing says where the store is.
func TestSecurity_S8_CacheStatusTellsNoKey(t *testing.T) {
	h, calls := page(func(*http.Request) string { return text })
	for _, test := range []struct {
		visibility accel.Visibility
		key        bool
	}{{accel.ShowStatus, false}, {accel.ShowKey, true}, {accel.HideStatus, false}} {
		calls.Store(0)
		c := newCache(t, h, accel.WithCacheStatus(test.visibility))
		var etag string
		for _, header := range [][]string{{}, {}, {"Accept-Encoding", "gzip"}, {"If-None-Match", "etag"}, {"Authorization", "me"}} {
			if len(header) != 0 && header[1] == "etag" {
				header[1] = etag
			}
			res := get(c, "/reset?token=s3cret", header...)
			if len(header) == 0 {
				etag = res.Header.Get("Etag")
			}
			all := fmt.Sprint(res.Header)
			equal(t, fmt.Sprint("token in ", all), strings.Contains(all, "s3cret"), test.key)
			equal(t, "Cache-Status", len(res.Header["Cache-Status"]), map[bool]int{true: 0, false: 1}[test.visibility == accel.HideStatus])
		}
		after(t, c, 1, calls, 2)
	}

	// Nothing that is in a URL can break out of the string.
	for _, target := range []string{`/a"; hit; x="`, `/a\`, "/é", `/a";%20detail=x`} {
		r, err := parsed("/")
		if err != nil {
			t.Fatal(err)
		}
		r.RequestURI = target
		c := newCache(t, h, accel.WithCacheStatus(accel.ShowKey))
		got := do(c, r).Header.Get("Cache-Status")
		_, key, _ := strings.Cut(got, `key="`)
		inside := strings.NewReplacer(`\\`, "", `\"`, "").Replace(key)
		if strings.Count(inside, `"`) != 1 || !strings.HasSuffix(inside, `"`) || strings.Contains(inside, `\`) {
			t.Errorf("%s: %s", target, got)
		}
	}
}

// That somebody has seen a page shows in how fast it is answered: pages of single
// users are not for the cache. What can be hidden is hidden on request.
func TestSecurity_S10_HiddenStatus(t *testing.T) {
	for _, policy := range []accel.Policy{accel.OptIn, accel.RFC9111} {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			switch r.URL.Path {
			case "/private":
				accel.NoStore(r.Context())
			case "/streamed":
				_, _ = io.WriteString(w, strings.Repeat(text, 100))
			}
			_, _ = io.WriteString(w, text)
		})
		c := newCache(t, h, accel.WithPolicy(policy), accel.WithCacheStatus(accel.HideStatus))
		for _, target := range []string{"/", "/streamed", "/private"} {
			var seen []string
			for range 3 {
				for _, header := range [][]string{{}, {"If-None-Match", "*"}, {"Range", "bytes=0-1"}, {"Accept-Encoding", "gzip"}} {
					res := get(c, target, header...)
					for _, name := range []string{"Cache-Status", "Age", "X-Cache", "Via", "Warning"} {
						if v := res.Header[name]; v != nil {
							t.Errorf("%s %q: %s: %q", target, header, name, v)
						}
					}
					if len(header) == 0 {
						res.Header.Del("Date")
						seen = append(seen, fmt.Sprint(res.Header))
					}
				}
			}
			if target != "/streamed" && seen[0] != seen[1] { // a streamed one gets its ETag when it is stored
				t.Errorf("miss and hit differ: %s, %s", seen[0], seen[1])
			}
		}
		if n := c.Stats().Store.Entries; n != 2 {
			t.Errorf("%d entries", n)
		}
		if calls.Load() < 5 {
			t.Errorf("handler calls: %d", calls.Load())
		}
	}
}

// BREACH: what has a secret in it and is compressed tells the secret by its
// length. What is not for everybody is sent as the handler wrote it.
func TestSecurity_S11_PrivateIsNotCompressed(t *testing.T) {
	gz, err := codec.Encode(nil, codec.Gzip, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		header []string // of the request
		mark   func(w http.ResponseWriter, r *http.Request)
	}{
		"Set-Cookie":    {nil, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Set-Cookie", "a=b") }},
		"private":       {nil, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "private") }},
		"no-store":      {nil, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Control", "no-store") }},
		"NoStore":       {nil, func(_ http.ResponseWriter, r *http.Request) { accel.NoStore(r.Context()) }},
		"Authorization": {[]string{"Authorization", "me"}, func(http.ResponseWriter, *http.Request) {}},
		"Vary":          {nil, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Vary", "*") }},
		"request":       {[]string{"Cache-Control", "no-store"}, func(http.ResponseWriter, *http.Request) {}},
	} {
		t.Run(name, func(t *testing.T) {
			inBoth(t, func(t *testing.T, g regime) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					g.allow(w, r)
					test.mark(w, r)
					if r.URL.Path == "/encoded" {
						w.Header().Set("Content-Encoding", "gzip")
						_, _ = w.Write(gz)
						return
					}
					_, _ = io.WriteString(w, text)
				})
				c := newCache(t, h, g.opts...)
				for i := range 2 {
					res := get(c, "/", append([]string{"Accept-Encoding", "gzip, zstd"}, test.header...)...)
					equal(t, "Content-Encoding", res.Header.Get("Content-Encoding"), "")
					equal(t, "body", body(t, res), text)
					after(t, c, 0, calls, int64(i+1))
				}
				// What the handler encoded is its own business.
				res := get(c, "/encoded", append([]string{"Accept-Encoding", "gzip"}, test.header...)...)
				equal(t, "Content-Encoding", res.Header.Get("Content-Encoding"), "gzip")
				equal(t, "body", bytes.Equal([]byte(body(t, res)), gz), true)
				after(t, c, 0, calls, 3)
			})
		})
	}
}
