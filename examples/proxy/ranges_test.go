package main

import (
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const digits = "0123456789"

func TestConformance_RFC9110_14_RangesOutOfTheStored(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody(digits, "Cache-Control: max-age=3600", `ETag: "a"`, "Last-Modified: "+modified, "X-Origin: 1",
			"Content-Type: text/plain", "Content-Location: /a", "Expires: {3600}", "Vary: Accept-Language")
		first := s.stores("/")
		s.pass(10)
		for _, row := range []struct{ asked, content, body string }{
			{"bytes=0-3", "bytes 0-3/10", "0123"},
			{"bytes=4-4", "bytes 4-4/10", "4"},
			{"bytes=4-", "bytes 4-9/10", "456789"}, // open
			{"bytes=-3", "bytes 7-9/10", "789"},    // suffix
			{"bytes=-30", "bytes 0-9/10", digits},
			{"bytes=8-100", "bytes 8-9/10", "89"},
			{"bytes=0-", "bytes 0-9/10", digits},
		} {
			s.run(row.asked, func(s *site) {
				a := s.reuses("/", "Range: "+row.asked)
				assert.Equal(s.t, http.StatusPartialContent, a.StatusCode)
				assert.Equal(s.t, row.body, a.body)
				assert.Equal(s.t, row.content, a.Header.Get("Content-Range"))
				assert.Equal(s.t, fmt.Sprint(len(row.body)), a.Header.Get("Content-Length"))
				assert.Equal(s.t, "10", a.Header.Get("Age"))
				for _, name := range []string{"Cache-Control", "Content-Location", "Content-Type", "Date", "Etag", "Expires", "Last-Modified", "Vary", "X-Origin"} {
					assert.Equal(s.t, first.Header[name], a.Header[name], name)
				}
			})
		}
	})
}

func TestConformance_RFC9110_14_SeveralRanges(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody(digits, "Cache-Control: max-age=3600", `ETag: "a"`, "Content-Type: text/plain")
		s.stores("/")
		a := s.reuses("/", "Range: bytes=0-1,-2")
		require.Equal(s.t, http.StatusPartialContent, a.StatusCode)
		typ, params, err := mime.ParseMediaType(a.Header.Get("Content-Type"))
		require.NoError(s.t, err)
		require.Equal(s.t, "multipart/byteranges", typ)
		assert.Equal(s.t, `"a"`, a.Header.Get("ETag"))
		assert.Empty(s.t, a.Header.Get("Content-Range"))
		parts := multipart.NewReader(strings.NewReader(a.body), params["boundary"])
		for _, want := range []struct{ content, body string }{{"bytes 0-1/10", "01"}, {"bytes 8-9/10", "89"}} {
			part, err := parts.NextPart()
			require.NoError(s.t, err)
			body, err := io.ReadAll(part)
			require.NoError(s.t, err)
			assert.Equal(s.t, want.body, string(body))
			assert.Equal(s.t, want.content, part.Header.Get("Content-Range"))
			assert.Equal(s.t, "text/plain", part.Header.Get("Content-Type"))
		}
		_, err = parts.NextPart()
		assert.ErrorIs(s.t, err, io.EOF)
	})
}

func TestConformance_RFC9110_14_2_WhatIsNoRange(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody(digits, "Cache-Control: max-age=3600", `ETag: "a"`)
		s.stores("/")
		for _, asked := range []string{"bytes=10-", "bytes=100-200"} {
			a := s.reuses("/", "Range: "+asked)
			assert.Equal(s.t, http.StatusRequestedRangeNotSatisfiable, a.StatusCode, asked)
			assert.Equal(s.t, "bytes */10", a.Header.Get("Content-Range"), asked)
		}
		a := s.reuses("/", "Range: lines=0-1") // a unit that is not known is ignored
		assert.Equal(s.t, http.StatusOK, a.StatusCode)
		assert.Equal(s.t, digits, a.body)
		assert.Equal(s.t, digits, s.reuses("/").body)
	})
}

func TestConformance_RFC9110_13_1_5_IfRange(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody(digits, "Cache-Control: max-age=3600", `ETag: "a"`, "Last-Modified: "+modified)
		s.stores("/")
		for condition, status := range map[string]int{
			`"a"`:    206,
			`W/"a"`:  200, // by the strong comparison
			`"b"`:    200,
			modified: 206,
			after:    200, // exactly the date
			"junk":   200,
		} {
			assert.Equal(s.t, status, s.reuses("/", "Range: bytes=0-1", "If-Range: "+condition).StatusCode, condition)
		}
		s.origin.saysBody(digits, "Cache-Control: max-age=3600", `ETag: W/"a"`)
		s.stores("/weak")
		assert.Equal(s.t, http.StatusOK, s.reuses("/weak", "Range: bytes=0-1", `If-Range: W/"a"`).StatusCode)
	})
}

// A miss with Range is between the client and the origin.
func TestConformance_RFC9111_3_3_MissWithRangeFillsNothing(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.does(func(w http.ResponseWriter, r *http.Request, _ int) {
			if r.Header.Get("Range") == "bytes=0-3" {
				s.origin.write(w, http.StatusPartialContent, digits[:4], "Cache-Control: max-age=3600", `ETag: "a"`, "Content-Range: bytes 0-3/10")
				return
			}
			s.origin.write(w, http.StatusOK, digits, "Cache-Control: max-age=3600", `ETag: "a"`)
		})
		for range 2 {
			a := s.forwards("/", "Range: bytes=0-3")
			assert.Equal(s.t, http.StatusPartialContent, a.StatusCode)
			assert.Equal(s.t, digits[:4], a.body)
			assert.Equal(s.t, map[string]string{"Range": "bytes=0-3"}, s.origin.asked())
			assert.False(s.t, a.stored())
		}
		a := s.stores("/")
		assert.Equal(s.t, http.StatusOK, a.StatusCode)
		assert.Equal(s.t, digits, a.body)
		assert.Equal(s.t, digits[:4], s.reuses("/", "Range: bytes=0-3").body)
	})
}

// An origin that ignores Range and sends the whole.
func TestConformance_RFC9111_3_3_RangeIgnoredByTheOrigin(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody(digits, "Cache-Control: max-age=3600", `ETag: "a"`)
		a := s.forwards("/", "Range: bytes=0-3")
		assert.Equal(s.t, http.StatusOK, a.StatusCode)
		assert.Equal(s.t, digits, a.body)
		s.stores("/")
	})
}

func TestConformance_RFC9111_3_3_PartialNeverReplacesTheWhole(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.saysBody(digits, "Cache-Control: max-age=60", `ETag: "a"`)
		s.stores("/")
		s.pass(60)
		// It was not asked for a range, and answers with one.
		s.origin.says(http.StatusPartialContent, "Cache-Control: max-age=60", `ETag: "a"`, "Content-Range: bytes 0-3/10")
		a := s.forwards("/", "Range: bytes=0-3")
		assert.False(s.t, a.stored(), a.about())
		s.origin.saysBody(digits, "Cache-Control: max-age=60", `ETag: "a"`)
		assert.Equal(s.t, digits, s.forwards("/").body)
	})
}
