package accel_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// reflecting is a handler that writes every header of its request into its page,
// as templates do that make links out of them.
func reflecting(g regime) (http.HandlerFunc, *atomic.Int64) {
	return counting(func(w http.ResponseWriter, r *http.Request) {
		g.allow(w, r)
		fmt.Fprintf(w, "links to %q %v", r.Host, r.Header)
	})
}

// What proxies say about the client's URL, and handlers read without saying so,
// is part of the key in every spelling: who sends poison is the only one who is
// served it, and a site whose proxy always sends it still hits.
func TestSecurity_P1_UnnamedHeadersAreKeyed(t *testing.T) {
	for _, name := range []string{ // of the list, what is there
		"Forwarded", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Proto", "X-Forwarded-Scheme",
		"X-Forwarded-Server", "X-Host", "X-Original-Host", "X-Original-Url", "X-Rewrite-Url",
	} {
		if !slices.Contains(accel.KeyedHeaders(), name) {
			t.Errorf("%s is not keyed", name)
		}
	}
	odd := func(name string) string {
		b := []byte(strings.ToLower(name))
		for i := 0; i < len(b); i += 2 {
			b[i] = strings.ToUpper(name)[i]
		}
		return string(b)
	}
	for _, name := range accel.KeyedHeaders() {
		evil := "evil.example"
		if name == "Forwarded" {
			evil = "for=192.0.2.1;host=evil.example"
		}
		attacks := [][]string{
			{name + ": " + evil},
			{name + ": shop.example", name + ": " + evil},
			{name + ": shop.example, " + evil},
			{odd(name) + ": " + evil + " "},
			{strings.ToUpper(name) + ":" + evil + "/"},
			{name + ":", name + ": \tevil.example\t"},
		}
		if strings.Contains(name, "-") {
			attacks = append(attacks,
				[]string{strings.ReplaceAll(name, "-", "_") + ": " + evil},
				[]string{strings.ToLower(strings.Replace(name, "-", "_", 1)) + ": " + evil},
				[]string{strings.ReplaceAll(name, "-", "_") + ": shop.example", name + ": " + evil},
			)
		}
		for first, who := range []string{"attacker first", "victim first"} {
			h, calls := reflecting(regimes["OptIn"])
			c := newCache(t, h)
			victim := func(want string) {
				t.Helper()
				r, _ := parsed("/")
				res := do(c, r)
				if b := body(t, res); strings.Contains(b, "evil") {
					t.Errorf("%s, %s: a client without it is served %s", name, who, b)
				}
				expect(t, res, want)
			}
			if first == 1 {
				victim("fwd=uri-miss; stored")
			}
			different := map[string]bool{"": true} // what handlers can tell apart
			for _, lines := range attacks {
				for range 2 {
					r, err := parsed("/", lines...)
					if err != nil {
						t.Fatal(err)
					}
					if b := body(t, do(c, r)); !strings.Contains(b, "evil") {
						t.Errorf("%q, %s: was served another's page: %s", lines, who, b)
					}
					different[fmt.Sprint(r.Header)] = true
				}
			}
			if first == 0 {
				victim("fwd=uri-miss; stored")
			}
			victim("hit")
			after(t, c, int64(len(different)), calls, int64(len(different)))
		}
	}

	// Client addresses are no part of it: no two clients would share a page. What
	// depends on them is not for CacheFor.
	h, calls := reflecting(regimes["OptIn"])
	c := newCache(t, h)
	for i, name := range []string{"X-Forwarded-For", "True-Client-IP", "X-Real-IP", "CF-Connecting-IP"} {
		get(c, "/", name, fmt.Sprint("192.0.2.", i))
	}
	after(t, c, 1, calls, 1)
}

// A header that the handler reads, that is not on the list and that it does not
// name, is beyond what a cache can know. It has to be named: in Vary, or in the
// key. (There is no audit mode.)
func TestSecurity_P2_HandlersNameWhatTheyRead(t *testing.T) {
	answer := func(r *http.Request) string { return "rendered for " + r.Header.Get("RSC") + r.Header.Get("Accept") }
	for _, test := range []struct {
		name    string
		vary    string
		opts    []accel.Option
		entries int64
		safe    bool
	}{
		{"unnamed", "", nil, 1, false},
		{"Vary", "RSC, Accept", nil, 3, true},
		{"WithKey", "", []accel.Option{accel.WithKey(func(r *http.Request) string {
			return r.Header.Get("RSC") + "\x00" + r.Header.Get("Accept")
		})}, 3, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				if test.vary != "" {
					w.Header().Set("Vary", test.vary)
				}
				_, _ = io.WriteString(w, answer(r))
			})
			c := newCache(t, h, test.opts...)
			for range 2 {
				for _, header := range [][]string{{"RSC", "1"}, {"Accept", "application/json"}, {}} {
					r := newRequest("/", header...)
					equal(t, "its own page", body(t, do(c, r)) == answer(r), test.safe || len(header) != 0 && header[0] == "RSC")
				}
			}
			after(t, c, test.entries, calls, test.entries)
		})
	}
}

// Nothing that a client can say makes a response more storable, or takes a stored
// one away.
func TestSecurity_P3_NoControlFromOutside(t *testing.T) {
	control := []string{
		"Accel-Cache", "Accel-Tags", "Accel-Ttl", "Accel-Purge", "X-Accel-Expires", "X-Accel-Redirect",
		"Surrogate-Key", "Surrogate-Control", "Surrogate-Capability", "Cache-Tag", "Cache-Groups", "Cache-Group-Invalidation",
		"Cdn-Cache-Control", "Cache-Status", "Age", "Expires", "Date", "Etag", "Vary", "Set-Cookie", "Warning", "X-Cache",
		"X-Middleware-Prefetch", "X-Now-Route-Matches", "Purpose", "Clear-Site-Data",
	}
	values := []string{"1", "public, max-age=3600, s-maxage=3600", "t", `"t"`, "*"}
	inBoth(t, func(t *testing.T, g regime) {
		// Of what may not be stored nothing is.
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "private") })
		c := newCache(t, h, g.opts...)
		n := int64(0)
		for _, name := range control {
			for _, value := range values {
				n++
				equal(t, "body", body(t, get(c, "/", name, value)), "private")
			}
		}
		after(t, c, 0, calls, n)

		// Of what is stored all stays.
		h, calls = counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			accel.Tag(r.Context(), "t")
			_, _ = io.WriteString(w, "public")
		})
		c = newCache(t, h, g.opts...)
		get(c, "/")
		for _, name := range control {
			for _, value := range values {
				res := get(c, "/", name, value)
				equal(t, "body", body(t, res), "public")
				expect(t, res, "hit")
			}
		}
		after(t, c, 1, calls, 1)

		// PURGE and its like are methods as any other: the handler's matter.
		for _, method := range []string{"PURGE", "BAN", "CLEAR"} {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				g.allow(w, r)
				if r.Method != http.MethodGet {
					w.WriteHeader(http.StatusMethodNotAllowed)
				}
				_, _ = io.WriteString(w, brief)
			})
			c := newCache(t, h, g.opts...)
			get(c, "/")
			r := newRequest("/")
			r.Method = method
			equal(t, "status", do(c, r).StatusCode, http.StatusMethodNotAllowed)
			expect(t, get(c, "/"), "hit")
			after(t, c, 1, calls, 2)
		}
	})
}

// A redirect to where a header says: its sender alone is sent there. And 3xx are
// stored with explicit freshness only.
func TestSecurity_P4_Redirects(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		inBoth(t, func(t *testing.T, g regime) {
			redirect := func(w http.ResponseWriter, r *http.Request) {
				host := r.Host
				if h := r.Header.Get("X-Forwarded-Host"); h != "" {
					host = h
				}
				w.Header().Set("Location", "https://"+host+"/login")
				w.WriteHeader(status)
			}
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				g.allow(w, r)
				redirect(w, r)
			})
			c := newCache(t, h, g.opts...)
			for range 2 {
				equal(t, "Location", get(c, "/", "X-Forwarded-Host", "evil.example").Header.Get("Location"), "https://evil.example/login")
				res := get(c, "/")
				equal(t, "status", res.StatusCode, status)
				equal(t, "Location", res.Header.Get("Location"), "https://example.com/login")
			}
			after(t, c, 2, calls, 2)

			h, calls = counting(redirect)
			c = newCache(t, h, g.opts...)
			get(c, "/", "X-Evil-Host", "evil.example")
			get(c, "/")
			after(t, c, 0, calls, 2)
		})
	}
}

// An oversized or odd header makes the handler answer 400. By OptIn an error is
// stored if the handler calls CacheFor for it and not for what its header says.
// By RFC9111 every final status with explicit freshness is stored, as the RFC
// has it: an origin that says max-age on a 400 means it.
func TestSecurity_P5_ErrorsByOddRequests(t *testing.T) {
	big := strings.Repeat("x", 64<<10)
	for _, status := range []int{400, 401, 403, 404, 405, 410, 413, 414, 429, 431, 500, 501, 503} {
		for _, test := range []struct {
			name   string
			opts   []accel.Option
			fail   func(w http.ResponseWriter, r *http.Request)
			stored bool
		}{
			{"OptIn, says nothing", nil, func(http.ResponseWriter, *http.Request) {}, false},
			{"OptIn, by header", nil, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "public, max-age=3600, s-maxage=3600")
			}, false},
			{"OptIn, by CacheFor", nil, func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
			}, true},
			{"OptIn, vetoed", nil, func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				accel.NoStore(r.Context())
			}, false},
			{"RFC9111, says nothing", []accel.Option{accel.WithPolicy(accel.RFC9111), accel.WithHeuristicFreshness(time.Hour)},
				func(http.ResponseWriter, *http.Request) {}, false},
			{"RFC9111, by header", []accel.Option{accel.WithPolicy(accel.RFC9111)}, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Cache-Control", "max-age=3600")
			}, true},
		} {
			t.Run(fmt.Sprint(status, " ", test.name), func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					if len(r.Header.Get("X-Oversized")) > 8<<10 {
						test.fail(w, r)
						http.Error(w, "too odd", status)
						return
					}
					accel.CacheFor(r.Context(), time.Hour)
					_, _ = io.WriteString(w, "welcome")
				})
				c := newCache(t, h, test.opts...)
				equal(t, "status", get(c, "/", "X-Oversized", big).StatusCode, status)
				res := get(c, "/")
				if test.stored {
					equal(t, "status", res.StatusCode, status)
					after(t, c, 1, calls, 1)
					return
				}
				equal(t, "status", res.StatusCode, 200)
				equal(t, "body", body(t, res), "welcome")
				after(t, c, 1, calls, 2)
			})
		}
	}

	// What net/http itself refuses never comes to us.
	h, calls := page(func(*http.Request) string { return "welcome" })
	c := newCache(t, h)
	s := newServer(t, c)
	for _, line := range []string{"X-Odd: a\ab", "X-Odd : a", "X-Large: " + strings.Repeat("x", 2<<20), "Content-Length: -1", "Host: two"} {
		got := sendRaw(t, s.Listener.Addr().String(), asking("GET", "/", "shop.example", line))
		if strings.Contains(got, "welcome") {
			t.Errorf("%.20q was answered %.100q", line, got)
		}
	}
	after(t, c, 0, calls, 0)
	if got := sendRaw(t, s.Listener.Addr().String(), asking("GET", "/", "shop.example")); !strings.Contains(got, "welcome") {
		t.Errorf("the next client: %s", got)
	}
}

// A refresh that fails never takes the good page's place, and is tried again.
func TestSecurity_P6_FailedRefreshReplacesNothing(t *testing.T) {
	for name, g := range map[string]regime{
		"OptIn": {nil, func(_ http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, accel.StaleIfError(10*time.Minute))
		}},
		"RFC9111": {[]accel.Option{accel.WithPolicy(accel.RFC9111)}, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60, stale-if-error=600")
		}},
	} {
		for _, how := range []string{"500", "500 that asks to be stored", "panic"} {
			t.Run(name+", "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var fails atomic.Bool
					h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
						switch {
						case !fails.Load():
							g.allow(w, r)
							_, _ = io.WriteString(w, brief)
						case how == "panic":
							panic(http.ErrAbortHandler)
						case how == "500":
							http.Error(w, "out of order", 500)
						default:
							g.allow(w, r)
							w.WriteHeader(500)
							_, _ = io.WriteString(w, "out of order")
						}
					})
					c := newCache(t, h, g.opts...)
					equal(t, "body", body(t, get(c, "/")), brief)
					fails.Store(true)
					time.Sleep(61 * time.Second)
					for i := range 5 {
						res := get(c, "/")
						equal(t, "status", res.StatusCode, 200)
						equal(t, "body", body(t, res), brief)
						after(t, c, 1, calls, int64(i+2)) // it was asked each time: a failure is no refresh
						time.Sleep(time.Minute)
					}
					// The good page comes back as soon as the handler does.
					fails.Store(false)
					expect(t, get(c, "/"), "fwd=stale; stored")
					after(t, c, 1, calls, 7)

					// Beyond the window the failure is the answer.
					fails.Store(true)
					time.Sleep(11*time.Minute + time.Second)
					func() {
						defer func() {
							if v := recover(); (v != nil) != (how == "panic") {
								t.Errorf("recovered %v", v)
							}
						}()
						equal(t, "status", get(c, "/").StatusCode, 500)
					}()
					equal(t, "handler calls", calls.Load(), 8)
					fails.Store(false)
					time.Sleep(2 * time.Hour)
					equal(t, "body", body(t, get(c, "/")), brief)
				})
			})
		}
	}
}

// A client that says no-cache a thousand times keeps no handler busy, unless the
// site wants clients to have a say. No-store is always heeded, and a 504 to
// only-if-cached is never stored.
func TestSecurity_P7_RequestDirectives(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		site := func() (http.HandlerFunc, *atomic.Int64) {
			return counting(func(w http.ResponseWriter, r *http.Request) {
				g.allow(w, r)
				_, _ = io.WriteString(w, brief)
			})
		}
		h, calls := site()
		c := newCache(t, h, g.opts...)
		get(c, "/")
		directives := [][]string{
			{"Cache-Control", "no-cache"}, {"Cache-Control", "max-age=0"}, {"Pragma", "no-cache"}, {"Cache-Control", "min-fresh=99999"},
			{"Cache-Control", "only-if-cached"}, {"Cache-Control", "max-stale=0"}, {"Cache-Control", "no-store"},
		}
		for range 1000 {
			for _, header := range directives {
				res := get(c, "/", header...)
				if status(res) != "hit" || body(t, res) != brief {
					t.Fatalf("%q: %s", header, status(res))
				}
			}
		}
		after(t, c, 1, calls, 1)

		// Nothing is stored for who says no-store, and only-if-cached is nothing
		// that anybody is refused for.
		equal(t, "body", body(t, get(c, "/2", "Cache-Control", "no-store")), brief)
		after(t, c, 1, calls, 2)
		equal(t, "status", get(c, "/3", "Cache-Control", "only-if-cached").StatusCode, 200)
		after(t, c, 2, calls, 3)

		// With a say: the handler is asked, once for each.
		h, calls = site()
		c = newCache(t, h, append(slices.Clone(g.opts), accel.WithRequestDirectives())...)
		get(c, "/")
		for i := range 3 {
			equal(t, "body", body(t, get(c, "/", "Cache-Control", "no-cache")), brief)
			after(t, c, 1, calls, int64(i+2))
		}
		for range 3 {
			equal(t, "status", get(c, "/4", "Cache-Control", "only-if-cached").StatusCode, 504)
		}
		after(t, c, 1, calls, 4)
		res := get(c, "/4")
		equal(t, "status", res.StatusCode, 200)
		expect(t, res, "fwd=uri-miss; stored")
		after(t, c, 2, calls, 5)
	})
}

// net/http is the one parser. What two parsers read differently is a request
// with a body, which meets no cache, and what is left of the body on the
// connection is no second request.
func TestSecurity_P8_Smuggling(t *testing.T) {
	const inner = "GET /admin HTTP/1.1\r\nHost: shop.example\r\n\r\n"
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(inner), inner)
	inBoth(t, func(t *testing.T, g regime) {
		for name, attack := range map[string]string{
			"body":         "Content-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner,
			"chunked":      "Transfer-Encoding: chunked\r\n\r\n" + chunked,
			"CL and TE":    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked,
			"TE and CL":    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + chunked,
			"two lengths":  "Content-Length: 0\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner,
			"odd TE":       "Transfer-Encoding: xchunked\r\n\r\n" + inner,
			"TE twice":     "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunked,
			"space":        "Transfer-Encoding : chunked\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner,
			"obsolete":     "X-A: 1\r\n Transfer-Encoding: chunked\r\nContent-Length: " + fmt.Sprint(len(inner)) + "\r\n\r\n" + inner,
			"large length": "Content-Length: 99999999999999999999\r\n\r\n" + inner,
		} {
			t.Run(name, func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					g.allow(w, r)
					_, _ = io.WriteString(w, "page of "+r.URL.Path) // reads no body
				})
				c := newCache(t, h, g.opts...)
				addr := newServer(t, c).Listener.Addr().String()
				got := sendRaw(t, addr, "GET /x HTTP/1.1\r\nHost: shop.example\r\n"+attack+asking("GET", "/end", "shop.example"))
				if strings.Contains(got, "page of /admin") {
					t.Errorf("the inner request was answered: %s", got)
				}
				if i := strings.Index(got, "page of /x"); i >= 0 && strings.Contains(got[:i], "Cache-Status") {
					t.Errorf("the outer request met the cache: %s", got)
				}
				// Nothing is stored but what came on its own.
				want := int64(strings.Count(got, "page of /end"))
				after(t, c, want, calls, int64(strings.Count(got, "page of")))
				if got := sendRaw(t, addr, asking("GET", "/x", "shop.example")); !strings.Contains(got, "page of /x") || !strings.Contains(got, "fwd=uri-miss") {
					t.Errorf("the next client: %s", got)
				}
			})
		}
	})
}
