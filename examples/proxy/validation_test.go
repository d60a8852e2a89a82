package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Answering a client's conditions out of what is stored.

const (
	before   = "Wed, 02 Jan 2030 00:00:00 GMT"
	modified = "Wed, 02 Jan 2030 01:00:00 GMT" // Last-Modified
	after    = "Wed, 02 Jan 2030 02:00:00 GMT"
)

func TestConformance_RFC9110_13_2_2_IfNoneMatchBeatsIfModifiedSince(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", `ETag: "a"`, "Last-Modified: "+modified)
		s.stores("/")
		for _, row := range []struct {
			tag, since string
			status     int
		}{
			{`"a"`, before, 304},
			{`"a"`, after, 304},
			{`"b"`, modified, 200},
			{`"b"`, after, 200},
		} {
			assert.Equal(s.t, row.status, s.reuses("/", "If-None-Match: "+row.tag, "If-Modified-Since: "+row.since).StatusCode, row)
		}
	})
}

func TestConformance_RFC9110_13_1_2_WeakComparison(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, stored := range []string{`"a"`, `W/"a"`} {
			path := s.path()
			s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "ETag: "+stored)
			s.stores(path)
			for condition, status := range map[string]int{`"a"`: 304, `W/"a"`: 304, `*`: 304, `"A"`: 200, `a`: 200, `w/"a"`: 200, `"b"`: 200} {
				assert.Equal(s.t, status, s.reuses(path, "If-None-Match: "+condition).StatusCode, "%s, stored %s", condition, stored)
			}
		}
	})
}

func TestConformance_RFC9110_13_1_2_AnywhereInTheList(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", `ETag: "a,b"`)
		s.stores("/")
		for _, row := range []struct {
			lines  []string
			status int
		}{
			{[]string{`If-None-Match: "a,b", "x"`}, 304},
			{[]string{`If-None-Match: "x", "a,b"`}, 304},
			{[]string{`If-None-Match: "x",W/"a,b","y"`}, 304},
			{[]string{`If-None-Match: "x"`, `If-None-Match: "a,b"`}, 304},
			{[]string{`If-None-Match: "x", "y"`}, 200},
			{[]string{`If-None-Match: "a", "b"`}, 200},
		} {
			a := s.reuses("/", row.lines...)
			assert.Equal(s.t, row.status, a.StatusCode, row.lines)
			if row.status == 304 {
				assert.Empty(s.t, a.body)
			}
		}
	})
}

func TestConformance_RFC9110_15_4_5_FieldsOf304(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "Content-Location: /a.de", `ETag: "a"`,
			"Expires: {3600}", "Vary: Accept-Language", "Last-Modified: "+modified)
		first := s.stores("/", "Accept-Language: de")
		s.pass(10)
		a := s.reuses("/", "Accept-Language: de", `If-None-Match: "a"`)
		require.Equal(s.t, http.StatusNotModified, a.StatusCode)
		for _, name := range []string{"Cache-Control", "Content-Location", "Date", "Etag", "Expires", "Vary"} {
			assert.Contains(s.t, a.Header, name)
			assert.Equal(s.t, first.Header[name], a.Header[name], name)
		}
		assert.Equal(s.t, "10", a.Header.Get("Age"))
	})
}

func TestConformance_RFC9110_13_1_3_IfModifiedSince(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", "Last-Modified: "+modified)
		s.stores("/")
		for since, status := range map[string]int{
			modified:                            304,
			after:                               304, // not a comparison of strings
			before:                              200,
			"Wed, 02 Jan 2030 00:59:59 GMT":     200,
			"Wed, 02 Jan 2030 01:00:01 GMT":     304,
			"Wednesday, 02-Jan-30 01:00:00 GMT": 304,
			"Wednesday, 02-Jan-30 00:00:00 GMT": 200,
			"Wed Jan  2 01:00:00 2030":          304,
			"Wed Jan  2 00:00:00 2030":          200,
			"yesterday":                         200, // no condition
		} {
			assert.Equal(s.t, status, s.reuses("/", "If-Modified-Since: "+since).StatusCode, since)
		}
	})
}

// Without a Last-Modified the Date stands in for it.
func TestConformance_RFC9111_4_3_2_IfModifiedSinceAgainstDate(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600")
		s.stores("/")
		assert.Equal(s.t, http.StatusOK, s.reuses("/", "If-Modified-Since: "+after).StatusCode)
		assert.Equal(s.t, http.StatusNotModified, s.reuses("/", "If-Modified-Since: "+httpDate(s.clock.now(), 1)).StatusCode)
	})
}

// Section 4.3.2 leaves If-Match and If-Unmodified-Since to the origin. To its
// clients a gateway is the origin (RFC 9110, section 3.7), and it has what they
// ask about.
func TestConformance_RFC9111_4_3_2_IfMatchIsEvaluated(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=3600", `ETag: "a"`, "Last-Modified: "+modified)
		s.stores("/")
		for line, status := range map[string]int{
			`If-Match: "a"`:                  200,
			`If-Match: "b"`:                  412,
			`If-Match: W/"a"`:                412, // by the strong comparison
			"If-Match: *":                    200,
			"If-Unmodified-Since: " + after:  200,
			"If-Unmodified-Since: " + before: 412,
		} {
			assert.Equal(s.t, status, s.reuses("/", line).StatusCode, line)
		}
		// Where nothing is stored they are the origin's own.
		s.origin.says(http.StatusPreconditionFailed)
		assert.Equal(s.t, http.StatusPreconditionFailed, s.do(http.MethodPut, "/", `If-Match: "b"`).StatusCode)
		assert.Equal(s.t, map[string]string{"If-Match": `"b"`}, s.origin.asked())
	})
}

// If-None-Match and If-Modified-Since save bytes, and may get lost. The other two
// forbid an answer: somebody has to look at them, and if nothing is stored, nor
// will be, that is the origin.
func TestConformance_RFC9110_13_1_1_IfMatchIsNotLost(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, condition := range []string{`If-Match: "b"`, "If-Unmodified-Since: " + before} {
			name, _, _ := strings.Cut(condition, ":")
			for _, directives := range []string{"no-store", "private", "max-age=60"} {
				s.run(name+" "+directives, func(s *site) {
					says := func(w http.ResponseWriter, r *http.Request, _ int) {
						if r.Header.Get(name) != "" {
							s.origin.write(w, http.StatusPreconditionFailed, "")
							return
						}
						s.origin.write(w, http.StatusOK, "body", "Cache-Control: "+directives, `ETag: "a"`, "Last-Modified: "+modified)
					}
					s.origin.does(says)
					path := s.path()
					for range 2 {
						assert.Equal(s.t, http.StatusPreconditionFailed, s.get(path, condition).StatusCode, "unknown")
					}
					path = s.path()
					s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "old"`, "Last-Modified: "+modified)
					s.stores(path)
					s.pass(60)
					s.origin.does(says)
					for range 2 {
						assert.Equal(s.t, http.StatusPreconditionFailed, s.get(path, condition).StatusCode, "stale")
					}
				})
			}
		}
	})
}

// Validating what is stored.

// conditional are the header fields of a request that a validation is made of.
var conditional = []string{"If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range"}

// asked returns which of them the origin saw last.
func (o *origin) asked() map[string]string {
	asked := map[string]string{}
	for _, name := range conditional {
		if v := o.last().Header.Values(name); len(v) > 0 {
			asked[name] = strings.Join(v, " · ")
		}
	}
	return asked
}

func TestConformance_RFC9111_4_3_1_StoredValidatorsAndSelectingFields(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, row := range []struct {
			header []string
			asks   map[string]string
		}{
			{[]string{`ETag: "a"`}, map[string]string{"If-None-Match": `"a"`}},
			{[]string{`ETag: W/"a"`}, map[string]string{"If-None-Match": `W/"a"`}},
			{[]string{"Last-Modified: " + modified}, map[string]string{"If-Modified-Since": modified}},
			{[]string{`ETag: "a"`, "Last-Modified: " + modified}, map[string]string{"If-None-Match": `"a"`, "If-Modified-Since": modified}},
			{nil, map[string]string{}},
		} {
			s.run(fmt.Sprint(row.header), func(s *site) {
				path := s.path()
				header := append([]string{"Cache-Control: max-age=60", "Vary: Accept-Language, X-Arm"}, row.header...)
				s.origin.says(http.StatusOK, header...)
				s.stores(path, "Accept-Language: de", "X-Arm: left")
				s.pass(60)
				s.stores(path, "Accept-Language: de", "X-Arm: left", "X-Other: 1")
				assert.Equal(s.t, row.asks, s.origin.asked())
				assert.Equal(s.t, "de", s.origin.last().Header.Get("Accept-Language"))
				assert.Equal(s.t, "left", s.origin.last().Header.Get("X-Arm"))
				assert.Equal(s.t, path, s.origin.last().RequestURI)
			})
		}
	})
}

func TestConformance_RFC9111_4_3_1_ConditionsOfTheClientAreReplaced(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, lines := range [][]string{
			{`If-None-Match: "client"`},
			{`If-None-Match: "client", "a"`},
			{"If-Modified-Since: " + after},
			{"Range: bytes=0-1"},
			{"Range: bytes=0-1", `If-Range: "client"`},
		} {
			s.run(fmt.Sprint(lines), func(s *site) {
				path := s.path()
				header := []string{"Cache-Control: max-age=60", `ETag: "a"`, "Last-Modified: " + modified}
				s.origin.says(http.StatusOK, header...)
				s.stores(path)
				s.pass(60)
				s.origin.says(http.StatusNotModified, header...)
				s.forwards(path, lines...)
				assert.Equal(s.t, map[string]string{"If-None-Match": `"a"`, "If-Modified-Since": modified}, s.origin.asked())
			})
		}
	})
}

func TestConformance_RFC9111_4_3_3_NotModifiedBecomesWhatWasAskedFor(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, row := range []struct {
			lines  []string
			status int
			body   string
		}{
			{nil, 200, "0123456789"},
			{[]string{`If-None-Match: "client"`}, 200, "0123456789"},
			{[]string{`If-None-Match: "a"`}, 304, ""},
			{[]string{`If-None-Match: "client", W/"a"`}, 304, ""},
			{[]string{"If-Modified-Since: " + after}, 304, ""},
			{[]string{"If-Modified-Since: " + before}, 200, "0123456789"},
			{[]string{"Range: bytes=2-3"}, 206, "23"},
			{[]string{"Range: bytes=2-3", `If-Range: "a"`}, 206, "23"},
			{[]string{"Range: bytes=2-3", `If-Range: "client"`}, 200, "0123456789"},
		} {
			s.run(fmt.Sprint(row.lines), func(s *site) {
				path := s.path()
				header := []string{"Cache-Control: max-age=60", `ETag: "a"`, "Last-Modified: " + modified}
				s.origin.saysBody("0123456789", header...)
				s.stores(path)
				s.pass(60)
				s.origin.says(http.StatusNotModified, header...)
				a := s.forwards(path, row.lines...)
				assert.Equal(s.t, row.status, a.StatusCode)
				assert.Equal(s.t, row.body, a.body)
				assert.Equal(s.t, "fwd=stale; fwd-status=304; stored", a.about())
				s.reuses(path)
			})
		}
	})
}

func TestConformance_RFC9111_4_3_3_FullResponseReplacesTheStored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`, "X-Old: 1")
		s.stores("/")
		s.pass(60)
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "b"`, "X-New: 1")
		// Although the client has the old one, and asks for exactly that.
		a := s.stores("/", `If-None-Match: "a"`)
		assert.Equal(s.t, "answer 2", a.body)
		again := s.reuses("/")
		assert.Equal(s.t, "answer 2", again.body)
		assert.Equal(s.t, `"b"`, again.Header.Get("ETag"))
		assert.NotContains(s.t, again.Header, "X-Old")
	})
}

func TestConformance_RFC9111_3_2_NotModifiedUpdatesAllFields(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody("0123456789", "Cache-Control: max-age=60", `ETag: "a"`, "X-Kept: 1", "X-Changed: 1", "X-Lines: 1", "X-Lines: 2",
			"Last-Modified: "+modified, "Expires: {60}", "Content-Language: de", "Content-Security-Policy: default-src 'none'", "Age: 5")
		s.stores("/")
		s.pass(60)
		s.origin.says(http.StatusNotModified, "Cache-Control: max-age=600, x=y", `ETag: "a"`, "X-Changed: 2", "X-Lines: 3", "X-New: 1",
			"Expires: {600}", "Content-Language: en", "Content-Security-Policy: default-src 'self'", "Connection: X-Hop", "X-Hop: 1")
		validated := httpDate(s.clock.now(), 0)
		for _, a := range []*answer{s.forwards("/"), s.reuses("/")} {
			assert.Equal(s.t, http.StatusOK, a.StatusCode)
			assert.Equal(s.t, "0123456789", a.body)
			for name, want := range map[string][]string{
				"Cache-Control":           {"max-age=600, x=y"},
				"Content-Language":        {"en"},
				"Content-Length":          {"10"},
				"Content-Security-Policy": {"default-src 'self'"},
				"Date":                    {validated},
				"Etag":                    {`"a"`},
				"Expires":                 {httpDate(s.clock.now(), 600)},
				"Last-Modified":           {modified},
				"X-Changed":               {"2"},
				"X-Hop":                   nil,
				"X-Kept":                  {"1"},
				"X-Lines":                 {"3"},
				"X-New":                   {"1"},
			} {
				assert.Equal(s.t, want, a.Header[name], name)
			}
		}
	})
}

// What has been compressed stays what it is, whatever the 304 says about forms
// that it has never seen.
func TestConformance_RFC9111_3_2_NotModifiedLeavesTheBodyAlone(t *testing.T) {
	page := strings.Repeat("<p>The quick brown fox jumps over the lazy dog.", 100)
	read := func(s *site, a *answer) string {
		if a.Header.Get("Content-Encoding") == "" {
			return a.body
		}
		require.Equal(s.t, "gzip", a.Header.Get("Content-Encoding"))
		r, err := gzip.NewReader(strings.NewReader(a.body))
		require.NoError(s.t, err)
		var b strings.Builder
		_, err = r.WriteTo(&b)
		require.NoError(s.t, err)
		return b.String()
	}
	everywhere(t, func(s *site) {
		s.origin.saysBody(page, "Cache-Control: max-age=60", `ETag: "a"`, "Content-Type: text/html", "Content-Length: "+fmt.Sprint(len(page)))
		s.stores("/")
		s.pass(60)
		s.origin.says(http.StatusNotModified, "Cache-Control: max-age=60", `ETag: "a"`, "Content-Encoding: br", "Content-Range: bytes 0-1/2", "X-New: 1")
		first := s.forwards("/", "Accept-Encoding: gzip")
		for _, a := range []*answer{first, s.reuses("/", "Accept-Encoding: gzip"), s.reuses("/")} {
			assert.Equal(s.t, http.StatusOK, a.StatusCode)
			assert.Equal(s.t, page, read(s, a))
			assert.Equal(s.t, fmt.Sprint(len(a.body)), a.Header.Get("Content-Length"))
			assert.NotContains(s.t, a.Header, "Content-Range")
			assert.Equal(s.t, "1", a.Header.Get("X-New"))
		}
		// The tag that clients know the compressed form by is not the origin's.
		s.pass(60)
		tag := first.Header.Get("ETag")
		assert.NotEqual(s.t, `"a"`, tag)
		a := s.forwards("/", "Accept-Encoding: gzip", "If-None-Match: "+tag)
		assert.Equal(s.t, http.StatusNotModified, a.StatusCode)
		assert.Equal(s.t, tag, a.Header.Get("ETag"))
		assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
	})
}

func TestConformance_RFC9111_4_3_4_NotModifiedRestartsFreshness(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`, "Age: 10")
		s.stores("/")
		s.pass(50)
		// By its own Cache-Control, not by the one that was stored.
		s.origin.says(http.StatusNotModified, "Cache-Control: max-age=100", `ETag: "a"`)
		s.forwards("/")
		s.pass(99)
		assert.Equal(s.t, "99", s.reuses("/").Header.Get("Age"))
		s.pass(1)
		// One without Cache-Control leaves the stored one in force, counted anew.
		s.origin.says(http.StatusNotModified, `ETag: "a"`)
		s.forwards("/")
		s.pass(99)
		s.reuses("/")
		s.pass(1)
		// One with an Age is as old as it says.
		s.origin.says(http.StatusNotModified, `ETag: "a"`, "Age: 90")
		s.forwards("/")
		s.pass(9)
		assert.Equal(s.t, "99", s.reuses("/").Header.Get("Age"))
		s.pass(1)
		s.forwards("/")
	})
}

// What a 304 says is on disk, too, after a restart.
func TestConformance_RFC9111_4_3_4_UpdateIsStored(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "cache.db")
	t.Run("before", func(t *testing.T) {
		s := newSite(t, c, openBolt(t, c, path))
		s.origin.saysBody("0123456789", "Cache-Control: max-age=60", `ETag: "a"`, "X-Changed: 1")
		s.stores("/")
		s.pass(60)
		s.origin.says(http.StatusNotModified, "Cache-Control: max-age=3600", `ETag: "a"`, "X-Changed: 2")
		s.forwards("/")
	})
	t.Run("after", func(t *testing.T) {
		s := newSite(t, c, openBolt(t, c, path))
		s.pass(3599)
		s.origin.says(http.StatusServiceUnavailable) // a disk that is too slow is a miss
		s.eventually("it is read", func() bool { return s.get("/").hit() })
		a := s.reuses("/")
		assert.Equal(t, "0123456789", a.body)
		assert.Equal(t, "2", a.Header.Get("X-Changed"))
		assert.Equal(t, "max-age=3600", a.Header.Get("Cache-Control"))
		assert.Equal(t, "3599", a.Header.Get("Age"))
		s.pass(1)
		s.origin.says(http.StatusNotModified, "Cache-Control: max-age=60", `ETag: "a"`)
		assert.Equal(t, "0123456789", s.forwards("/").body)
	})
}

func TestConformance_RFC9111_4_3_4_NotModifiedOfSomethingElse(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`)
		s.stores("/")
		s.pass(60)
		s.origin.does(func(w http.ResponseWriter, r *http.Request, n int) {
			if r.Header.Get("If-None-Match") != "" {
				s.origin.write(w, http.StatusNotModified, "", "Cache-Control: max-age=60", `ETag: "other"`, "X-Wrong: 1")
				return
			}
			s.origin.write(w, http.StatusOK, "whole", "Cache-Control: max-age=60", `ETag: "b"`)
		})
		a := s.get("/")
		assert.Equal(s.t, http.StatusOK, a.StatusCode)
		assert.Equal(s.t, "whole", a.body)
		assert.NotContains(s.t, a.Header, "X-Wrong")
		assert.Equal(s.t, 3, s.origin.count())
		assert.Equal(s.t, "whole", s.reuses("/").body)
	})
}

func TestConformance_RFC9111_4_3_3_ServerErrorOnValidation(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, status := range []int{500, 502, 503, 504} {
			s.run(fmt.Sprint(status), func(s *site) {
				header := []string{`ETag: "a"`, "X-Good: 1"}
				// Without a word about errors it is passed on, and the next one
				// asks again.
				path := s.path()
				s.origin.says(http.StatusOK, append(header, "Cache-Control: max-age=60")...)
				first := s.stores(path)
				s.pass(60)
				s.origin.says(status)
				assert.Equal(s.t, status, s.forwards(path).StatusCode)
				s.origin.says(http.StatusNotModified, header...)
				assert.Equal(s.t, first.body, s.forwards(path).body, "the error has replaced what was stored")

				// With stale-if-error the stored one is sent and stays what it is,
				// even if the error would be fresh.
				path = s.path()
				s.origin.says(http.StatusOK, append(header, "Cache-Control: max-age=60, stale-if-error=600")...)
				first = s.stores(path)
				s.pass(60)
				s.origin.says(status, "Cache-Control: max-age=3600", "X-Bad: 1")
				for range 2 {
					a := s.forwards(path)
					assert.Equal(s.t, http.StatusOK, a.StatusCode)
					assert.Equal(s.t, first.body, a.body)
					assert.Equal(s.t, "1", a.Header.Get("X-Good"))
					assert.NotContains(s.t, a.Header, "X-Bad")
					assert.Contains(s.t, a.about(), fmt.Sprintf("fwd-status=%d", status))
				}
				s.origin.says(http.StatusNotModified, `ETag: "a"`)
				assert.Equal(s.t, first.body, s.forwards(path).body)
				assert.Equal(s.t, `"a"`, s.origin.last().Header.Get("If-None-Match"))
				s.reuses(path)
			})
		}
	})
}

// HEAD says what GET would, so it tells when what is stored is outdated.
func TestConformance_RFC9111_4_3_5_Head(t *testing.T) {
	everywhere(t, func(s *site) {
		header := []string{"Cache-Control: max-age=60", `ETag: "a"`}
		s.origin.saysBody("0123456789", header...)
		s.stores("/")
		before := s.origin.count()
		head := s.do(http.MethodHead, "/")
		assert.True(s.t, head.hit())
		assert.Equal(s.t, "10", head.Header.Get("Content-Length"))
		assert.Empty(s.t, head.body)
		assert.Equal(s.t, before, s.origin.count())

		s.pass(60)
		s.origin.saysBody("01234567890", "Cache-Control: max-age=60", `ETag: "b"`)
		s.do(http.MethodHead, "/")
		assert.Equal(s.t, http.MethodHead, s.origin.last().Method)
		assert.Equal(s.t, `"b"`, s.stores("/").Header.Get("ETag"))
		assert.Empty(s.t, s.origin.asked(), "it was told that the stored one is outdated")
	})
}

// A 304 may say what the stored response did not: that it is not for storing, or
// not for everybody. Who asked gets it; nobody else does any more.
func TestConformance_RFC9111_4_3_4_UpdateForbidsStoring(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, line := range []string{"Cache-Control: no-store", "Cache-Control: private, max-age=60", "CDN-Cache-Control: no-store", "Set-Cookie: a=b"} {
			s.run(line, func(s *site) {
				path := s.path()
				s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-if-error=600", `ETag: "a"`)
				first := s.stores(path)
				s.pass(60)
				s.origin.says(http.StatusNotModified, `ETag: "a"`, line)
				a := s.forwards(path)
				assert.Equal(s.t, http.StatusOK, a.StatusCode)
				assert.Equal(s.t, first.body, a.body)
				assert.False(s.t, a.stored(), a.about())
				name, value, _ := strings.Cut(line, ": ")
				assert.Equal(s.t, value, a.Header.Get(name))
				s.origin.says(http.StatusServiceUnavailable)
				assert.Equal(s.t, http.StatusServiceUnavailable, s.forwards(path).StatusCode)
				assert.Empty(s.t, s.origin.asked())
			})
		}
	})
}

// Nor does it stay for others after a 200 that is not for storing, whether a
// client waits for that or a refresh in the background.
func TestConformance_RFC9111_4_3_3_UnstorableReplacesTheStored(t *testing.T) {
	everywhere(t, func(s *site) {
		for _, directives := range []string{"no-store", "private"} {
			s.run(directives, func(s *site) {
				path := s.path()
				s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-if-error=600", `ETag: "a"`)
				s.stores(path)
				s.pass(60)
				s.origin.says(http.StatusOK, "Cache-Control: "+directives)
				s.forwards(path)
				s.origin.says(http.StatusServiceUnavailable)
				assert.Equal(s.t, http.StatusServiceUnavailable, s.forwards(path).StatusCode)

				path = s.path()
				s.origin.says(http.StatusOK, "Cache-Control: max-age=60, stale-while-revalidate=600", `ETag: "a"`)
				first := s.stores(path)
				s.pass(60)
				s.origin.says(http.StatusOK, "Cache-Control: "+directives)
				assert.Equal(s.t, first.body, s.get(path).body)
				s.eventually("the refresh has come", func() bool { return !s.get(path).hit() })
			})
		}
	})
}

// A 304 with another Vary cannot be about the response that was chosen by the
// old one.
func TestConformance_RFC9111_4_3_4_UpdateChangesVary(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.says(http.StatusOK, "Cache-Control: max-age=60", `ETag: "a"`)
		s.stores("/", "Accept-Language: de")
		s.pass(60)
		s.origin.does(func(w http.ResponseWriter, r *http.Request, n int) {
			header := []string{"Cache-Control: max-age=60", "Vary: Accept-Language", `ETag: "a"`}
			if r.Header.Get("If-None-Match") != "" {
				s.origin.write(w, http.StatusNotModified, "", header...)
				return
			}
			s.origin.write(w, http.StatusOK, r.Header.Get("Accept-Language"), header...)
		})
		assert.Equal(s.t, "de", s.get("/", "Accept-Language: de").body)
		assert.Equal(s.t, "en", s.get("/", "Accept-Language: en").body)
		assert.Equal(s.t, "de", s.reuses("/", "Accept-Language: de").body)
	})
}
