package rfc9111_test

import (
	"net/http"
	"testing"

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
	rfc9111.RemoveNoCacheFields(h)
	assert.Equal(t, http.Header{
		"Cache-Control": {`public, max-age=60, no-cache="Set-Cookie, x-session"`},
		"X-Other":       {"1"},
	}, h)

	h = http.Header{"Cache-Control": {"no-cache"}, "X-Other": {"1"}}
	rfc9111.RemoveNoCacheFields(h)
	assert.Len(t, h, 2)
}
