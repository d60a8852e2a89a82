package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestRFC9110_7_6_1_RemoveHopByHop(t *testing.T) {
	kept := http.Header{
		"Content-Type": {"text/html"}, "Set-Cookie": {"a=1", "b=2"}, "X-Unknown": {"1"}, "Content-Digest": {"x"},
		"Etag": {`"1"`}, "Www-Authenticate": {"Basic"}, "Authentication-Info": {"x"}, "Date": {"x"},
	}
	h := kept.Clone()
	for _, name := range []string{
		"Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info",
		"Proxy-Authorization", "TE", "Trailer", "Transfer-Encoding", "Upgrade", // RFC 9111, 3.1 too
		"X-One", "X-Two", "X-Three",
	} {
		h.Set(name, "x")
	}
	h["Connection"] = []string{"close, x-ONE,,", "X-Two"}
	h["connection"] = []string{" x-three "}
	h["x-one"] = []string{"in odd spelling"}
	h["TE"] = []string{"in odd spelling"}
	h[http.TrailerPrefix+"X-Sum"] = []string{"1"}

	rfc9111.RemoveHopByHop(h)
	assert.Equal(t, kept, h)

	rfc9111.RemoveHopByHop(h)
	assert.Equal(t, kept, h, "nothing more the second time")
	rfc9111.RemoveHopByHop(nil)
}

func TestRFC9111_5_2_2_4_RemoveNoCacheFields(t *testing.T) {
	h := http.Header{
		"Cache-Control": {`public, max-age=60, no-cache="Set-Cookie, x-session"`},
		"Set-Cookie":    {"a=1"}, "set-cookie": {"b=2"}, "X-Session": {"1"}, "X-Other": {"1"},
	}
	rfc9111.RemoveNoCacheFields(h, rfc9111.Response{Header: h})
	assert.Equal(t, http.Header{
		"Cache-Control": {`public, max-age=60, no-cache="Set-Cookie, x-session"`},
		"X-Other":       {"1"},
	}, h)

	h = http.Header{"Cache-Control": {"no-cache"}, "X-Other": {"1"}}
	rfc9111.RemoveNoCacheFields(h, rfc9111.Response{Header: h})
	assert.Len(t, h, 2)

	// The field that governs names them, in whichever header they are.
	r := rfc9111.Response{Targets: []string{"CDN-Cache-Control"}, Header: http.Header{
		"Cache-Control":     {`no-cache="X-Other"`},
		"Cdn-Cache-Control": {`max-age=60, no-cache="x-session"`},
	}}
	h = http.Header{"X-Session": {"1"}, "X-Other": {"1"}}
	rfc9111.RemoveNoCacheFields(h, r)
	assert.Equal(t, http.Header{"X-Other": {"1"}}, h)
}

// Lines under several spellings are read as the client will read them, and the
// same way each time.
func TestRFC9110_5_3_SpellingsAreOneField(t *testing.T) {
	r := rfc9111.Response{Targets: []string{"CDN-Cache-Control"}, Header: http.Header{
		"cdn-cache-control": {"max-age=4"}, "Cdn-Cache-Control": {"max-age=2"}, "cDN-Cache-Control": {"max-age=3"}, "CDN-Cache-Control": {"max-age=1"},
	}}
	for range 100 {
		assert.Equal(t, 4*time.Second, rfc9111.FreshnessLifetime(r).Duration, "the last counts")
	}
	r.Header["zdn-cache-control"] = []string{"max-age=5"}
	delete(r.Header, "cdn-cache-control")
	assert.Equal(t, 3*time.Second, rfc9111.FreshnessLifetime(r).Duration)

	age := rfc9111.Response{Header: http.Header{"Age": {"2"}, "age": {"3"}, "AGE": {"1"}}}
	assert.Equal(t, time.Second, rfc9111.InitialAge(age), "the first counts")
}
