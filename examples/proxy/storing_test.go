package main

import (
	"fmt"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// Status codes.

func TestConformance_RFC9111_3_AnyFinalStatusWithFreshness(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, status := range []int{
			200, 201, 202, 203, 204, 205, 226, 299, 300, 301, 302, 303, 307, 308, 399,
			400, 401, 403, 404, 405, 410, 414, 418, 429, 451, 499, 500, 501, 502, 503, 504, 599,
		} {
			s.run(fmt.Sprint(status), func(s *site) {
				for _, header := range []string{"Cache-Control: max-age=60", "Expires: {60}"} {
					path := s.path()
					s.origin.says(status, header, "X-Origin: 1")
					first := s.stores(path)
					s.pass(59)
					again := s.reuses(path)
					assert.Equal(s.t, status, again.StatusCode)
					assert.Equal(s.t, first.body, again.body)
					assert.Equal(s.t, "1", again.Header.Get("X-Origin"))
				}
			})
		}
	})
}

func TestConformance_RFC9111_3_NoFreshnessIsNotStored(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, status := range []int{200, 302, 404, 500} {
			s.origin.says(status)
			s.storesNothing(s.path())
			s.origin.says(status, "Cache-Control: extension")
			s.storesNothing(s.path())
		}
	})
}

func TestConformance_RFC9111_3_3_PartialIsNotStored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusPartialContent, "Cache-Control: max-age=60", "Content-Range: bytes 0-7/100", `ETag: "a"`)
		s.storesNothing("/206")
		s.origin.says(http.StatusPartialContent, "Cache-Control: public, max-age=60")
		s.storesNothing("/206-without-range")
	})
}

// A 304 that nobody asked for is an answer to nothing.
func TestConformance_RFC9111_3_NotModifiedIsNotStored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusNotModified, "Cache-Control: max-age=60", `ETag: "a"`)
		s.storesNothing("/")
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`)
		assert.Equal(s.t, http.StatusOK, s.stores("/").StatusCode)
	})
}

// Directives.

func TestConformance_RFC9111_5_2_2_5_NoStoreBeatsMaxAge(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"no-store, max-age=3600", "max-age=3600, no-store", "public, s-maxage=3600, no-store", "no-store"} {
			s.origin.says(http.StatusOK, "Cache-Control: "+directives, `ETag: "a"`)
			s.storesNothing(s.path())
		}
	})
}

func TestConformance_RFC9111_5_2_2_7_PrivateBeatsMaxAge(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"private, max-age=3600", "max-age=3600, private", "public, s-maxage=3600, private", "private"} {
			s.origin.says(http.StatusOK, "Cache-Control: "+directives, `ETag: "a"`)
			s.storesNothing(s.path())
		}
	})
}

// A private that names fields would let the rest be stored. We keep nothing of
// it: nobody has looked at what the rest gives away.
func TestConformance_RFC9111_5_2_2_7_QualifiedPrivateIsPrivate(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, `Cache-Control: max-age=3600, private="X-User"`, "X-User: jane")
		s.storesNothing("/")
	})
}

func TestConformance_RFC9111_5_2_1_5_NoStoreInTheRequest(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600")
		s.storesNothing("/", "Cache-Control: no-store")
		s.stores("/")
	})
}

func TestConformance_RFC9111_5_2_2_4_NoCacheIsValidatedEachTime(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"no-cache, max-age=3600", "max-age=3600, no-cache", "public, s-maxage=3600, no-cache", "no-cache", `no-cache=""`} {
			s.run(directives, func(s *site) {
				path := s.path()
				header := []string{"Cache-Control: " + directives, `ETag: "a"`}
				s.origin.says(http.StatusOK, header...)
				first := s.stores(path)
				s.origin.says(http.StatusNotModified, header...)
				for range 3 {
					again := s.forwards(path)
					assert.Equal(s.t, http.StatusOK, again.StatusCode)
					assert.Equal(s.t, first.body, again.body)
					assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
				}
			})
		}
	})
}

func TestConformance_RFC9111_5_2_2_4_QualifiedNoCacheTakesFieldsOff(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, `Cache-Control: max-age=3600, no-cache="x-user, X-Mood"`, "X-User: jane", "X-Mood: good", "X-Other: 1")
		first := s.stores("/")
		assert.Equal(s.t, "jane", first.Header.Get("X-User"), "the first client gets what the origin sent")
		again := s.reuses("/")
		assert.Equal(s.t, first.body, again.body)
		assert.NotContains(s.t, again.Header, "X-User")
		assert.NotContains(s.t, again.Header, "X-Mood")
		assert.Equal(s.t, "1", again.Header.Get("X-Other"))
	})
}

func TestConformance_RFC9111_5_2_2_3_MustUnderstandOverridesNoStore(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, status := range []int{200, 203, 204, 301, 404, 410} {
			s.run(fmt.Sprint(status), func(s *site) {
				path := s.path()
				s.origin.says(status, "Cache-Control: max-age=60, must-understand, no-store")
				s.stores(path)
				s.pass(59)
				s.reuses(path)
				s.pass(1)
				s.forwards(path)
			})
		}
		for _, status := range []int{299, 399, 418, 499, 599} {
			s.run(fmt.Sprint(status), func(s *site) {
				s.origin.says(status, "Cache-Control: max-age=60, must-understand, no-store")
				s.storesNothing(s.path())
				s.origin.says(status, "Cache-Control: max-age=60, must-understand")
				s.storesNothing(s.path())
			})
		}
		s.run("private is private", func(s *site) {
			s.origin.says(http.StatusOK, "Cache-Control: max-age=60, must-understand, no-store, private")
			s.storesNothing(s.path())
		})
	})
}

// Authorization.

func TestConformance_RFC9111_3_5_AuthorizationIsNotStored(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, header := range [][]string{
			{"Cache-Control: max-age=60"},
			{"Expires: {60}"},
			{"Cache-Control: max-age=60, proxy-revalidate"},
			{"Cache-Control: max-age=60", `ETag: "a"`},
		} {
			path := s.path()
			s.origin.says(http.StatusOK, header...)
			s.storesNothing(path, "Authorization: Basic amFuZQ==")
			s.forwards(path)
		}
	})
}

func TestConformance_RFC9111_3_5_AuthorizationIsReusedByPermission(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"public, max-age=60", "must-revalidate, max-age=60", "s-maxage=60", "s-maxage=60, max-age=0"} {
			s.run(directives, func(s *site) {
				path := s.path()
				s.origin.says(http.StatusOK, "Cache-Control: "+directives)
				first := s.stores(path, "Authorization: Basic amFuZQ==")
				for _, who := range []string{"Authorization: Basic amFuZQ==", "Authorization: Basic am9l", "X-Nobody: 1"} {
					assert.Equal(s.t, first.body, s.reuses(path, who).body)
				}
				s.pass(60)
				s.forwards(path, "Authorization: Basic am9l")
			})
		}
	})
}

// What may be reused for all is not what may be reused stale: must-revalidate
// and s-maxage permit the one and forbid the other.
func TestConformance_RFC9111_3_5_PermissionKeepsItsOwnRule(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"must-revalidate, max-age=60", "s-maxage=60"} {
			path := s.path()
			s.origin.says(http.StatusOK, "Cache-Control: stale-if-error=600, "+directives, `ETag: "a"`)
			s.stores(path, "Authorization: Basic amFuZQ==")
			s.pass(61)
			s.origin.says(http.StatusServiceUnavailable)
			assert.Equal(s.t, http.StatusServiceUnavailable, s.forwards(path, "Authorization: Basic am9l").StatusCode)
		}
	})
}

// Nor does anybody who is authorized get what was stored for those who are not,
// without a word from the origin that it is the same for both.
func TestConformance_RFC9111_3_5_AuthorizationIsNotAnsweredFromStore(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
		s.stores("/")
		s.forwards("/", "Authorization: Basic amFuZQ==")
		s.reuses("/")
		s.origin.says(http.StatusOK, "Cache-Control: public, max-age=60")
		s.stores("/public")
		s.reuses("/public", "Authorization: Basic amFuZQ==")
	})
}

// Header fields.

func TestConformance_RFC9111_3_1_AllFieldsAreKept(t *testing.T) {
	header := []string{
		"Accept-Ranges: bytes",
		"Allow: GET",
		"Content-Disposition: attachment",
		"Content-Language: de, en",
		"Content-Location: /other",
		"Content-Md5: nonsense",
		"Content-Security-Policy: default-src 'self'",
		"Content-Security-Policy: img-src *",
		`Content-Type: text/x-unheard-of; charset="utf-8"`,
		"Content-Unheard-Of: 1",
		"Expires: {60}",
		"Last-Modified: {-600}",
		`Link: </a>; rel="next"`,
		`Link: </b>; rel="prev"`,
		"Location: /elsewhere",
		"Pragma: nonsense",
		"Retry-After: 120",
		"Server: teapot/1.0",
		"Set-Cookie2: a=b",
		"Via: 1.1 somebody",
		"Warning: 199 - \"nonsense\"",
		"Www-Authenticate: Basic",
		"X-Empty: ",
		"X-Unheard-Of: 1",
		"X-Unheard-Of: 2, 3",
	}
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, header...)
		first := s.stores("/")
		again := s.reuses("/")
		for _, line := range header {
			name, _, _ := strings.Cut(line, ":")
			assert.Contains(s.t, first.Header, textproto.CanonicalMIMEHeaderKey(name))
			assert.Equal(s.t, first.Header.Values(name), again.Header.Values(name), name)
		}
		assert.Len(s.t, again.Header.Values("X-Unheard-Of"), 2)
	})
}

func TestConformance_RFC9111_3_1_SetCookieIsKeptWhereItMayBeStored(t *testing.T) {
	header := []string{"Cache-Control: max-age=60", "Set-Cookie: a=1", "Set-Cookie: b=2; Path=/"}
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, header...)
		s.stores("/")
		assert.Equal(s.t, []string{"a=1", "b=2; Path=/"}, s.reuses("/").Header["Set-Cookie"])
	}, accel.WithUncacheableHeaders())
	t.Run("not by default", func(t *testing.T) {
		everywhere(t, func(s *site) {
			s.origin.says(http.StatusOK, header...)
			first := s.storesNothing("/")
			assert.Equal(s.t, []string{"a=1", "b=2; Path=/"}, first.Header["Set-Cookie"])
		})
	})
}

func TestConformance_RFC9111_3_1_ConnectionAndWhatItNames(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60",
			"Connection: X-Hop, x-other-hop", "Connection: keep-alive, x-third", "X-Hop: 1", "X-Other-Hop: 2", "X-Third: 3",
			"Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Te: trailers", "X-End: 1")
		for _, a := range []*answer{s.stores("/"), s.reuses("/")} {
			for _, name := range []string{"Connection", "X-Hop", "X-Other-Hop", "X-Third", "Keep-Alive", "Proxy-Connection", "Te"} {
				assert.NotContains(s.t, a.Header, name)
			}
			assert.Equal(s.t, "1", a.Header.Get("X-End"))
		}
	})
}

func TestConformance_RFC9111_3_1_FieldsOfTheProxy(t *testing.T) {
	header := []string{
		"Cache-Control: max-age=60",
		"Proxy-Authenticate: Basic", "Proxy-Authentication-Info: a=b", "Proxy-Authorization: Basic amFuZQ==",
	}
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, header...)
		for _, a := range []*answer{s.stores("/"), s.reuses("/")} {
			for _, name := range []string{"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization"} {
				assert.NotContains(s.t, a.Header, name)
			}
		}
		s.origin.says(http.StatusOK, "Cache-Control: no-store", header[2])
		assert.NotContains(s.t, s.forwards("/passed").Header, "Proxy-Authentication-Info")
	})
	// The cache does not rely on the proxy for that.
	t.Run("any handler", func(t *testing.T) {
		c := newClock()
		handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fields(w.Header(), append(header, "Keep-Alive: timeout=5", "Proxy-Connection: close"))
			_, _ = w.Write([]byte("body"))
		})
		s := serveSite(t, c, accel.New(handler, memstore.New(memstore.WithClock(c.now)),
			accel.WithClock(c.now), accel.WithPolicy(accel.RFC9111), accel.WithLogger(quiet)))
		require.True(t, s.get("/").stored())
		again := s.get("/")
		require.True(t, again.hit())
		for _, name := range []string{"Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Keep-Alive", "Proxy-Connection"} {
			assert.NotContains(t, again.Header, name)
		}
	})
}

// 1xx.

// early asks for path and returns the answer and the 1xx that came before it.
func (s *site) early(path string) (a *answer, hints []http.Header, codes []int) {
	s.t.Helper()
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		codes, hints = append(codes, code), append(hints, http.Header(header))
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(s.t.Context(), trace), http.MethodGet, s.at+path, nil)
	require.NoError(s.t, err)
	req.Host = host
	res, err := s.client.Do(req)
	require.NoError(s.t, err)
	defer res.Body.Close()
	return &answer{Response: res}, hints, codes
}

func TestConformance_RFC9110_15_2_EarlyHints(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, n int) {
			h := w.Header()
			h.Set("X-Early", "1")
			h.Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			h.Set("Link", "</b.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			h.Del("X-Early")
			h.Del("Link")
			s.origin.write(w, http.StatusOK, "body", "Cache-Control: max-age=60", "X-Final: 1")
		})
		a, hints, codes := s.early("/")
		assert.Equal(s.t, []int{103, 103}, codes)
		require.Len(s.t, hints, 2)
		assert.Equal(s.t, "</a.css>; rel=preload", hints[0].Get("Link"))
		assert.Equal(s.t, "1", hints[0].Get("X-Early"))
		assert.Equal(s.t, "</b.css>; rel=preload", hints[1].Get("Link"))
		require.True(s.t, a.stored(), a.about())
		assert.Equal(s.t, http.StatusOK, a.StatusCode)
		assert.Equal(s.t, "1", a.Header.Get("X-Final"))

		again, _, codes := s.early("/")
		require.True(s.t, again.hit(), again.about())
		assert.Empty(s.t, codes, "a hint out of the cache")
		for _, a := range []*answer{a, again} {
			assert.Equal(s.t, "1", a.Header.Get("X-Final"))
			assert.NotContains(s.t, a.Header, "X-Early")
			assert.NotContains(s.t, a.Header, "Link")
		}
	})
}

// The same with all that may come before an answer, in the bytes of an origin
// that is not written in Go.
func TestConformance_RFC9110_15_2_InformationalOnTheWire(t *testing.T) {
	c := newClock()
	at := rawOrigin(t, "HTTP/1.1 100 Continue\r\nX-Early: 100\r\n\r\n"+
		"HTTP/1.1 102 Processing\r\nX-Early: 102\r\nCache-Control: no-store\r\n\r\n"+
		"HTTP/1.1 103 Early Hints\r\nX-Early: 103\r\nCache-Control: private\r\n\r\n"+
		"HTTP/1.1 199 Whatever\r\nX-Early: 199\r\nETag: \"early\"\r\n\r\n"+
		"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 4\r\n\r\nbody")
	s := newSiteAt(t, c, memstore.New(memstore.WithClock(c.now)), at)
	a, hints, codes := s.early("/")
	assert.Contains(t, codes, 103)
	for i, h := range hints {
		assert.Equal(t, fmt.Sprint(codes[i]), h.Get("X-Early"))
	}
	require.True(t, a.stored(), a.about())
	again := s.get("/")
	require.True(t, again.hit(), again.about())
	assert.Equal(t, "body", again.body)
	for _, a := range []*answer{a, again} {
		assert.NotContains(t, a.Header, "X-Early")
		assert.Equal(t, "max-age=60", a.Header.Get("Cache-Control"))
		assert.NotEqual(t, `"early"`, a.Header.Get("ETag"))
	}
}

// Complete responses only.

func TestConformance_RFC9111_3_3_OriginDiesInTheMiddle(t *testing.T) {
	for name, header := range map[string]string{
		"declared length": "Content-Length: 10000\r\n\r\nhalf a bo",
		"chunked":         "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf a bo\r\n",
		"within a chunk":  "Transfer-Encoding: chunked\r\n\r\n100\r\nhalf a bo",
		"large":           "Content-Length: 200000\r\n\r\n" + strings.Repeat("half a bo", 20000), // above what is held
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			at := rawOrigin(t, "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=3600\r\nETag: \"a\"\r\n"+header)
			s := newSiteAt(t, c, memstore.New(memstore.WithClock(c.now)), at)
			for range 3 {
				a, err := s.try(http.MethodGet, "/")
				// The client must see that something is missing: no answer, or
				// one that breaks off.
				if err == nil {
					t.Errorf("a whole answer, %d, %d bytes", a.StatusCode, len(a.body))
				} else if a != nil {
					assert.False(t, a.hit(), a.about())
				}
			}
			assert.Zero(t, s.cache.Stats().Stored)
			assert.Zero(t, s.cache.Stats().Hits)
		})
	}
}

// What the transport does not read is no answer.
func TestConformance_RFC9112_6_1_UnknownTransferCoding(t *testing.T) {
	c := newClock()
	at := rawOrigin(t, "HTTP/1.1 200 OK\r\nCache-Control: max-age=3600\r\nTransfer-Encoding: made-up\r\n\r\nbody")
	s := newSiteAt(t, c, memstore.New(memstore.WithClock(c.now)), at)
	for range 2 {
		a := s.get("/")
		assert.Equal(t, http.StatusBadGateway, a.StatusCode)
		assert.False(t, a.stored(), a.about())
		assert.False(t, a.hit(), a.about())
	}
}

// A response to POST that says how long it is fresh, and that it is what a GET
// of the same URL would bring.
func TestConformance_RFC9110_9_3_3_PostWithItsOwnContentLocation(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, location := range []string{"/search?q=1", "http://" + host + "/search?q=1", "?q=1"} {
			s.run(location, func(s *site) {
				s.origin.says(http.StatusOK, "Cache-Control: max-age=60")
				s.stores("/search?q=1")
				s.origin.says(http.StatusOK, "Cache-Control: max-age=60", "Content-Location: "+location)
				posted := s.do(http.MethodPost, "/search?q=1")
				assert.Equal(s.t, posted.body, s.reuses("/search?q=1").body)
				s.pass(60)
				s.origin.says(http.StatusOK)
				s.forwards("/search?q=1")
			})
		}
	})
	everywhere(t, func(s *site) {
		for _, header := range [][]string{
			{"Cache-Control: max-age=60"}, // of something, but of what?
			{"Cache-Control: max-age=60", "Content-Location: /other"},
			{"Cache-Control: max-age=60", "Content-Location: http://evil.test/"},
			{"Content-Location: /"}, // for how long?
			{"Cache-Control: max-age=60, no-store", "Content-Location: /"},
			{"Cache-Control: max-age=60, private", "Content-Location: /"},
			{"Cache-Control: max-age=60", "Content-Location: /", "Set-Cookie: a=b"},
		} {
			s.run(strings.Join(header, " · "), func(s *site) {
				path := s.path()
				for i, line := range header {
					if line == "Content-Location: /" {
						header[i] = "Content-Location: " + path
					}
				}
				s.origin.says(http.StatusOK, header...)
				s.do(http.MethodPost, path)
				s.origin.says(http.StatusOK)
				s.forwards(path)
				s.forwards("/other")
			})
		}
	})
}

// A POST is never answered from the store, whatever is there.
func TestConformance_RFC9111_4_UnsafeMethodsAreWrittenThrough(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: public, max-age=60", "Content-Location: /")
		s.stores("/")
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, "FROBNICATE", http.MethodOptions} {
			before := s.origin.count()
			assert.False(s.t, s.do(method, "/").hit())
			assert.Equal(s.t, 1, s.origin.count()-before, method)
			assert.Equal(s.t, method, s.origin.last().Method)
		}
	})
}

// RFC 9111 has no rule on cookies. What was made for somebody in a session is not
// given to others on a guess.
func TestConformance_RFC9111_3_CookieWithoutFreshness(t *testing.T) {
	test := func(s *site) {
		for _, header := range [][]string{{"Last-Modified: {-1000}"}, {`ETag: "a"`}, {`ETag: "a"`, "Cache-Control: extension"}} {
			s.origin.says(http.StatusOK, header...)
			s.storesNothing(s.path(), "Cookie: a=b")
		}
		for _, header := range []string{"Cache-Control: max-age=60", "Expires: {60}", "CDN-Cache-Control: max-age=60"} {
			path := s.path()
			s.origin.says(http.StatusOK, header)
			s.stores(path, "Cookie: a=b")
			s.reuses(path)
		}
	}
	everywhere(t, test)
	t.Run("heuristic", func(t *testing.T) { everywhere(t, test, accel.WithHeuristicFreshness(time.Hour)) })
}

// Trailers would have to be kept apart from the header; we leave such a response
// alone, and it goes to its client with all it has.
func TestConformance_RFC9111_3_1_TrailersAreNotMixedIn(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
			w.Header().Set("Trailer", "X-Sum, Cache-Control")
			s.origin.write(w, http.StatusOK, "body", "Cache-Control: max-age=60")
			w.Header().Set("X-Sum", "1")
		})
		a := s.storesNothing("/")
		assert.NotContains(s.t, a.Header, "X-Sum")
		assert.Equal(s.t, "1", a.Trailer.Get("X-Sum"))
		// One that was not announced is known only at the end.
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
			s.origin.write(w, http.StatusOK, "body", "Cache-Control: max-age=60")
			_ = http.NewResponseController(w).Flush()
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		})
		for range 2 {
			a := s.get("/late")
			assert.NotContains(s.t, a.Header, "X-Sum")
			assert.False(s.t, a.hit(), a.about())
		}
	})
}
