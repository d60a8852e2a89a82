package accel_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// mirror answers with what it sees of a request, as far as that is part of every
// key, and says that anybody may have it. The case of the host is not, nor whether
// the client wrote its own scheme and host into the target.
func mirror(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	w.Header().Set("Cache-Control", "public, max-age=600")
	host := strings.ToLower(r.Host)
	own := func(s string) string {
		for _, prefix := range []string{"http://" + host + "/", "http:///"} {
			if len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix) {
				return s[len(prefix)-1:]
			}
		}
		return s
	}
	fmt.Fprintf(w, "%q %q host %q url %q path %q raw %q query %q length %d transfer %q body %q %v, trailer %q, forwarded %q, overridden %q",
		r.Method, own(r.RequestURI), host, own(r.URL.String()), r.URL.Path, r.URL.RawPath, r.URL.RawQuery,
		r.ContentLength, r.TransferEncoding, b, err, r.Trailer, r.Header["X-Forwarded-Host"], r.Header["X-Http-Method-Override"])
}

// converse sends bytes and returns the answers to them: of methods, as many as
// there are. Behind the bytes it sends a request that ends the connection, whose
// answer shows whether it was understood as one.
func (w *wire) converse(t testing.TB, sent string) (answers []sight) {
	t.Helper()
	conn := w.dial(t)
	defer conn.Close()
	say(conn, sent+"GET /end HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n")
	method := "GET"
	if strings.HasPrefix(sent, "HEAD ") {
		method = "HEAD"
	}
	for r := bufio.NewReader(conn); ; method = "GET" {
		res, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return answers
		}
		var s sight
		s.take(res)
		answers = append(answers, s)
	}
}

// rawRequests are what clients of package net/http would not send. Most end with
// an empty line; what does not swallows what is sent after it.
var rawRequests = map[string]string{
	"plain":                      "GET /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form":              "GET http://site.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, other host":  "GET http://evil.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, https":       "GET https://site.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, other":       "GET ftp://site.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, user":        "GET http://evil:pw@site.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, no path":     "GET http://site.example HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, query only":  "GET http://site.example?/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, upper case":  "GET HTTP://SITE.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, no host":     "GET http:///page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"absolute form, 1.0":         "GET http://site.example/page HTTP/1.0\r\n\r\n",
	"opaque":                     "GET mailto:page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"relative":                   "GET page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"empty host":                 "GET /page HTTP/1.1\r\nHost:\r\n\r\n",
	"no host":                    "GET /page HTTP/1.1\r\n\r\n",
	"two hosts":                  "GET /page HTTP/1.1\r\nHost: site.example\r\nHost: evil.example\r\n\r\n",
	"two equal hosts":            "GET /page HTTP/1.1\r\nHost: site.example\r\nHost: site.example\r\n\r\n",
	"host in upper case":         "GET /page HTTP/1.1\r\nHost: SITE.EXAMPLE\r\n\r\n",
	"host with port":             "GET /page HTTP/1.1\r\nHost: site.example:80\r\n\r\n",
	"host with dot":              "GET /page HTTP/1.1\r\nHost: site.example.\r\n\r\n",
	"host with user":             "GET /page HTTP/1.1\r\nHost: evil@site.example\r\n\r\n",
	"host with path":             "GET /page HTTP/1.1\r\nHost: site.example/evil?\r\n\r\n",
	"host with space":            "GET /page HTTP/1.1\r\nHost: site.example evil\r\n\r\n",
	"host with comma":            "GET /page HTTP/1.1\r\nHost: site.example, evil.example\r\n\r\n",
	"host is an address":         "GET /page HTTP/1.1\r\nHost: [::1]\r\n\r\n",
	"1.0":                        "GET /page HTTP/1.0\r\nHost: site.example\r\n\r\n",
	"1.0, no host":               "GET /page HTTP/1.0\r\n\r\n",
	"1.0, keep-alive":            "GET /page HTTP/1.0\r\nHost: site.example\r\nConnection: keep-alive\r\n\r\n",
	"1.2":                        "GET /page HTTP/1.2\r\nHost: site.example\r\n\r\n",
	"2.0":                        "GET /page HTTP/2.0\r\nHost: site.example\r\n\r\n",
	"0.9":                        "GET /page\r\n",
	"lower-case version":         "GET /page http/1.1\r\nHost: site.example\r\n\r\n",
	"bare line feeds":            "GET /page HTTP/1.1\nHost: site.example\n\n",
	"blank lines first":          "\r\n\r\nGET /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"three spaces":               "GET   /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"tab":                        "GET\t/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"space in target":            "GET /page x HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"get":                        "get /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"Get":                        "Get /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"odd method":                 "GET! /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"bad method":                 "G(T /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"PRI":                        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"OPTIONS *":                  "OPTIONS * HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"GET *":                      "GET * HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"CONNECT":                    "CONNECT site.example:443 HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"CONNECT, path":              "CONNECT /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"POST *":                     "POST * HTTP/1.1\r\nHost: site.example\r\nContent-Length: 0\r\n\r\n",
	"POST, absolute form":        "POST http://site.example/other HTTP/1.1\r\nHost: site.example\r\nContent-Length: 1\r\n\r\nx",
	"HEAD":                       "HEAD /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"fragment":                   "GET /page#part HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"encoded fragment":           "GET /page%23part HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"two slashes":                "GET //page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"two slashes, host":          "GET //evil.example/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"dots":                       "GET /a/../page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"encoded dots":               "GET /a/%2e%2e/page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"NUL, encoded":               "GET /page%00 HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"NUL":                        "GET /page\x00 HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"slash, encoded":             "GET /%2fpage HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"letter, encoded":            "GET /%70age HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"backslash":                  "GET /\\page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"bad escape":                 "GET /page%zz HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"question mark":              "GET /page? HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"two question marks":         "GET /page?? HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"semicolon":                  "GET /page;x=1?a=1;b=2 HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"not ASCII":                  "GET /p\xc3\xa4ge\xff HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"long target":                "GET /" + strings.Repeat("a", 100_000) + " HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"too long target":            "GET /" + strings.Repeat("a", 2_000_000) + " HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"long field":                 "GET /page HTTP/1.1\r\nHost: site.example\r\nX-Long: " + strings.Repeat("a", 500_000) + "\r\n\r\n",
	"too long field":             "GET /page HTTP/1.1\r\nHost: site.example\r\nX-Long: " + strings.Repeat("a", 2_000_000) + "\r\n\r\n",
	"many fields":                "GET /page HTTP/1.1\r\nHost: site.example\r\n" + strings.Repeat("X-Many: a\r\n", 2000) + "\r\n",
	"NUL in field":               "GET /page HTTP/1.1\r\nHost: site.example\r\nX-Nul: a\x00b\r\n\r\n",
	"CR in field":                "GET /page HTTP/1.1\r\nHost: site.example\r\nX-Cr: a\rX-Forwarded-Host: evil\r\n\r\n",
	"folded field":               "GET /page HTTP/1.1\r\nHost: site.example\r\nX-Folded: a\r\n b\r\n\r\n",
	"folded host":                "GET /page HTTP/1.1\r\nHost: site.example\r\n evil\r\n\r\n",
	"field starts with space":    "GET /page HTTP/1.1\r\n X-Forwarded-Host: evil\r\nHost: site.example\r\n\r\n",
	"space before colon":         "GET /page HTTP/1.1\r\nHost: site.example\r\nX-Forwarded-Host : evil\r\n\r\n",
	"field without colon":        "GET /page HTTP/1.1\r\nHost: site.example\r\nevil\r\n\r\n",
	"field without name":         "GET /page HTTP/1.1\r\nHost: site.example\r\n: evil\r\n\r\n",
	"bad field name":             "GET /page HTTP/1.1\r\nHost: site.example\r\nX(Y): evil\r\n\r\n",
	"odd case":                   "GET /page HTTP/1.1\r\nhOsT: site.example\r\nx-fOrWaRdEd-hOsT: evil.example\r\n\r\n",
	"override":                   "GET /page HTTP/1.1\r\nHost: site.example\r\nx-http-METHOD-override: DELETE\r\n\r\n",
	"body":                       "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\n\r\nevil",
	"body of nothing":            "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 0\r\n\r\n",
	"body in chunks":             "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	"body of no chunks":          "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"body of HEAD":               "HEAD /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\n\r\nevil",
	"bad chunk":                  "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nevil\r\n0\r\n\r\n",
	"chunk extension":            "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nevil\r\n0\r\n\r\n",
	"trailer":                    "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Forwarded-Host\r\n\r\n0\r\nX-Forwarded-Host: evil\r\n\r\n",
	"POST, trailer":              "POST /other HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
	"length and chunks":          "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"POST, length and chunks":    "POST /other HTTP/1.1\r\nHost: site.example\r\nContent-Length: 40\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n",
	"two lengths":                "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!",
	"two equal lengths":          "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nevil",
	"negative length":            "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: -4\r\n\r\n",
	"length with plus":           "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: +4\r\n\r\nevil",
	"huge length":                "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 99999999999999999999\r\n\r\n",
	"odd transfer":               "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: identity\r\n\r\n",
	"two transfers":              "GET /page HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
	"connection: close":          "GET /page HTTP/1.1\r\nHost: site.example\r\nConnection: close\r\n\r\n",
	"connection: keep-alive":     "GET /page HTTP/1.1\r\nHost: site.example\r\nConnection: keep-alive\r\n\r\n",
	"connection: other":          "GET /page HTTP/1.1\r\nHost: site.example\r\nConnection: X-Foo\r\nX-Foo: 1\r\n\r\n",
	"connection: forwarded host": "GET /page HTTP/1.1\r\nHost: site.example\r\nConnection: X-Forwarded-Host\r\nX-Forwarded-Host: evil\r\n\r\n",
	"upgrade to h2c":             "GET /page HTTP/1.1\r\nHost: site.example\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n",
	"connection: upgrade":        "GET /page HTTP/1.1\r\nHost: site.example\r\nConnection: upgrade\r\n\r\n",
	"expectation":                "GET /page HTTP/1.1\r\nHost: site.example\r\nExpect: miracles\r\n\r\n",
	"accept garbage":             "GET /page HTTP/1.1\r\nHost: site.example\r\nAccept-Encoding: ;q=,,,\x80;q=9, *;q=x, \"gzip\r\n\r\n",
	"accept nothing":             "GET /page HTTP/1.1\r\nHost: site.example\r\nAccept-Encoding: identity;q=0, *;q=0\r\n\r\n",
	"accept empty":               "GET /page HTTP/1.1\r\nHost: site.example\r\nAccept-Encoding:\r\n\r\n",
	"pipeline":                   "GET /page HTTP/1.1\r\nHost: site.example\r\n\r\nPOST /other HTTP/1.1\r\nHost: site.example\r\nContent-Length: 2\r\n\r\nhiGET /page HTTP/1.1\r\nHost: site.example\r\n\r\n",
	"smuggled":                   "GET /page HTTP/1.1\r\nHost: site.example\r\nContent-Length: 47\r\n\r\nGET /evil HTTP/1.1\r\nHost: site.example\r\nX-Ignore: ",
}

// What clients of package net/http would not send is understood as net/http
// understands it, with us and without. And it leaves nothing behind: somebody
// who asks for the page after it gets the page.
func TestWireRawRequests(t *testing.T) {
	bare := newWire(t, false, http.HandlerFunc(mirror))
	page := bare.converse(t, rawRequests["plain"])
	require.Len(t, page, 2)
	for name, raw := range rawRequests {
		want := bare.converse(t, raw)
		for policyName, policy := range wirePolicies {
			t.Run(policyName+"/"+name, func(t *testing.T) {
				w, c := newCacheWire(t, false, policy, mirror)
				for _, time := range []string{"first", "second"} {
					got := w.converse(t, raw)
					if !assert.Len(t, got, len(want), "answers, the %s time", time) {
						continue
					}
					for i := range want {
						sameSight(t, fmt.Sprintf("answer %d, the %s time", i, time), got[i], want[i])
					}
				}
				got := w.converse(t, rawRequests["plain"])
				require.Len(t, got, 2)
				sameSight(t, "the page", got[0], page[0])
				w.settles(t, c)
			})
		}
	}
}

// A trailer that the client sends without having announced it reaches the handler.
func TestWireTrailerOfRequest(t *testing.T) {
	bare := newWire(t, false, http.HandlerFunc(mirror))
	for _, method := range []string{"GET", "POST"} {
		raw := method + " / HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n"
		want := bare.converse(t, raw)
		require.Len(t, want, 2)
		require.Contains(t, want[0].body, `trailer map["X-Sum":["1"]]`)
		for policyName, policy := range wirePolicies {
			t.Run(policyName+"/"+method, func(t *testing.T) {
				w, _ := newCacheWire(t, false, policy, mirror)
				got := w.converse(t, raw)
				require.Len(t, got, 2)
				assert.Equal(t, want[0].body, got[0].body)
			})
		}
	}
}

// The same page is a hit whatever the client's tone, as long as it says nothing
// that a handler could see; and is none where it could.
func TestWireRawHits(t *testing.T) {
	for _, name := range []string{
		"absolute form", "absolute form, 1.0", "absolute form, upper case", "bare line feeds",
		"1.0", "1.0, keep-alive", "HEAD", "long field", "many fields", "folded field", "body of nothing",
		"connection: close", "connection: other", "accept garbage", "accept nothing", "accept empty",
	} {
		w, _ := newCacheWire(t, false, accel.OptIn, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "public, max-age=600")
			say(w, "the page")
		})
		w.converse(t, rawRequests["plain"])
		got := w.converse(t, rawRequests[name])
		if assert.NotEmpty(t, got, name) {
			assert.True(t, got[0].hit(), "%s: %v", name, got[0])
		}
	}
	for name, raw := range rawRequests {
		w, _ := newCacheWire(t, false, accel.OptIn, mirror)
		w.converse(t, raw)
		got := w.converse(t, rawRequests["plain"])
		require.NotEmpty(t, got)
		assert.Contains(t, got[0].body, `"GET" "/page" host "site.example" url "/page" path "/page" raw "" query "" length 0 transfer [] body "" <nil>, trailer map[], forwarded [], overridden []`,
			"after %s", name)
	}
}

// Ranges and conditions that nobody would write are answered from the store as
// http.ServeContent answers them without us.
func TestWireRangesAndConditions(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=600")
		w.Header().Set("Content-Type", "image/png")
		serveContent(w, r)
	}
	var etags strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&etags, `"e%d", W/"w%d",`, i, i)
	}
	headers := []string{
		"Range: bytes=0-0", "Range: bytes=-1", "Range: bytes=0-", "Range: bytes=1915-", "Range: bytes=1916-", "Range: bytes=-0",
		"Range: bytes=-99999", "Range: bytes=0-99999", "Range: bytes=9-5", "Range: bytes=", "Range:",
		"Range: bytes=abc", "Range: bytes=0-x", "Range: bytes=-", "Range: bytes=--1", "Range: bytes=+1-2", "Range: bytes=0x1-2",
		"Range: bytes=0-99999999999999999999", "Range: bytes=99999999999999999999-", "Range: bytes=-99999999999999999999",
		"Range: bytes=9223372036854775807-", "Range: bytes=0-9223372036854775807", "Range: bytes=-9223372036854775808",
		"Range: bytes= 0-1", "Range: bytes=0 -1", "Range: bytes=0-1 ,",
		"Range: bytes=0-1,5-6", "Range: bytes=5-6,0-1", "Range: bytes=0-1,0-1,0-1", "Range: bytes=0-1,9999-", "Range: bytes=0-,0-",
		"Range: bytes=" + strings.Repeat("0-,", 500) + "0-",

		"Range: bytes=0-1\r\nIf-Range: \"v1\"", "Range: bytes=0-1\r\nIf-Range: W/\"v1\"", "Range: bytes=0-1\r\nIf-Range: v1",
		"Range: bytes=0-1\r\nIf-Range: Wed, 01 Jan 2020 00:00:00 GMT", "Range: bytes=0-1\r\nIf-Range: Wed, 01 Jan 2020 00:00:01 GMT",
		"Range: bytes=0-1\r\nIf-None-Match: \"v1\"", "Range: bytes=0-1\r\nIf-Match: \"v2\"",
		"If-None-Match: \"v1\"", "If-None-Match: W/\"v1\"", "If-None-Match: *", "If-None-Match: v1", "If-None-Match:", "If-None-Match: \"",
		"If-None-Match: " + etags.String() + "\"v1\"", "If-None-Match: " + etags.String() + "\"v2\"",
		"If-None-Match: \"v2\"\r\nIf-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT",
		"If-None-Match: ,, \"v1\"", "If-None-Match: \"a,\"v1\"",
		"If-Match: \"v1\"", "If-Match: \"v2\"", "If-Match: *", "If-Match: W/\"v1\"", "If-Match: " + etags.String() + "\"v1\"",
		"If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT", "If-Modified-Since: Tue, 31 Dec 2019 23:59:59 GMT",
		"If-Modified-Since: yesterday", "If-Modified-Since: Wednesday, 01-Jan-20 00:00:00 GMT", "If-Modified-Since: Wed Jan  1 00:00:00 2020",
		"If-Modified-Since: Fri, 31 Dec 9999 23:59:59 GMT", "If-Modified-Since: 1577836800",
		"If-Unmodified-Since: Wed, 01 Jan 2020 00:00:00 GMT", "If-Unmodified-Since: Tue, 31 Dec 2019 23:59:59 GMT", "If-Unmodified-Since: x",
	}
	// What cannot be read, or costs more than it is worth, counts as if it were not
	// there, where http.ServeContent answers 416 or does what it takes for meant.
	ignored := []string{
		"Range: bytes", "Range: ,", "Range: Bytes=0-1", "Range: bytes =0-1", "Range: items=0-1",
		"Range: bytes=" + strings.Repeat("1-2,", 500) + "4-5", "Range: bytes=0-1\r\nRange: bytes=5-6",
		"Range: bytes=0-1\r\nIf-Range:", `If-None-Match: "v0" "v1"`,
	}
	// A suffix of no bytes cannot be satisfied (RFC 9110, section 14.1.2), and
	// http.ServeContent sends one.
	headers = slices.DeleteFunc(headers, func(h string) bool { return h == "Range: bytes=-0" })
	for policyName, policy := range wirePolicies {
		for _, method := range []string{"GET", "HEAD"} {
			t.Run(policyName+"/"+method, func(t *testing.T) {
				t.Parallel()
				bare := newWire(t, false, http.HandlerFunc(handler))
				w, c := newCacheWire(t, false, policy, handler)
				w.converse(t, "GET / HTTP/1.1\r\nHost: site.example\r\n\r\n")
				for _, h := range slices.Concat(headers, ignored) {
					raw := method + " / HTTP/1.1\r\nHost: site.example\r\n" + h + "\r\n\r\n"
					with := w.converse(t, raw)
					if slices.Contains(ignored, h) {
						raw = method + " / HTTP/1.1\r\nHost: site.example\r\n\r\n"
					} else if method == "HEAD" { // which has no ranges (RFC 9110, section 14.2)
						raw = strings.NewReplacer("\r\nRange:", "\r\nX-Range:", "\r\nIf-Range:", "\r\nX-If-Range:").Replace(raw)
					}
					without := bare.converse(t, raw)
					what := h[:min(len(h), 60)]
					if assert.Len(t, with, len(without), what) {
						assert.True(t, with[0].hit(), "%s: %v", what, with[0])
						if with[0].status == http.StatusRequestedRangeNotSatisfiable {
							with[0].header.Del("Accept-Ranges")
						}
						sameSight(t, what, with[0], without[0])
					}
				}
				w.settles(t, c)
			})
		}
	}
}

// Requests that are sent without waiting for the answers are answered in their
// order: a miss, hits, a change and what comes after it.
func TestWirePipeline(t *testing.T) {
	var version atomic.Int64
	w, c := newCacheWire(t, false, accel.RFC9111, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "changed by %s to %d", b, version.Add(1))
			return
		}
		w.Header().Set("Cache-Control", "max-age=600")
		fmt.Fprintf(w, "%s, version %d", r.URL.Path, version.Load())
	})
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: site.example\r\n\r\n" }
	post := "POST /a HTTP/1.1\r\nHost: site.example\r\nContent-Length: 2\r\n\r\nme"
	var bodies, statuses []string
	for _, s := range w.converse(t, get("/a")+get("/a")+get("/b")+post+get("/a")+get("/b")+get("/a")) {
		bodies = append(bodies, s.body)
		_, what, _ := strings.Cut(s.header.Get("Cache-Status"), "; ")
		what, _, _ = strings.Cut(what, "; ttl=")
		statuses = append(statuses, what)
	}
	assert.Equal(t, []string{
		"/a, version 0", "/a, version 0", "/b, version 0", "changed by me to 1",
		"/a, version 1", "/b, version 0", "/a, version 1", "/end, version 1",
	}, bodies)
	assert.Equal(t, []string{
		"fwd=uri-miss; stored", "hit", "fwd=uri-miss; stored", "fwd=method",
		"fwd=uri-miss; stored", "hit", "hit", "fwd=uri-miss; stored",
	}, statuses)
	w.settles(t, c)
}

// A frame of HTTP/2 (RFC 9113, section 4.1).
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

const (
	frameData, frameHeaders, frameReset, frameSettings, frameGoAway = 0, 1, 3, 4, 7

	flagEndStream, flagEndHeaders, flagAck = 1, 4, 1
)

// literals encodes fields without a table and without Huffman's code (RFC 7541,
// section 6.2.2): whatever they are.
func literals(fields ...string) (b []byte) {
	for i := 0; i < len(fields); i += 2 {
		b = append(b, 0, byte(len(fields[i])))
		b = append(append(b, fields[i]...), byte(len(fields[i+1])))
		b = append(b, fields[i+1]...)
	}
	return b
}

// converse2 sends requests, each as a list of fields, over one connection, and
// returns the body of each answer, or "reset".
func (w *wire) converse2(t testing.TB, requests ...[]string) []string {
	t.Helper()
	conn := w.dial(t)
	defer conn.Close()
	out := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)
	for i, fields := range requests {
		out = append(out, frame(frameHeaders, flagEndStream|flagEndHeaders, uint32(2*i+1), literals(fields...))...)
	}
	_, err := conn.Write(out)
	require.NoError(t, err)
	answers := make([]string, len(requests))
	head := make([]byte, 9)
	for open := len(requests); open > 0; {
		_, err := io.ReadFull(conn, head)
		require.NoError(t, err)
		payload := make([]byte, binary.BigEndian.Uint32(head)>>8)
		_, err = io.ReadFull(conn, payload)
		require.NoError(t, err)
		stream := int(binary.BigEndian.Uint32(head[5:])-1) / 2
		switch kind, flags := head[3], head[4]; {
		case kind == frameSettings && flags&flagAck == 0:
			_, err := conn.Write(frame(frameSettings, flagAck, 0, nil))
			require.NoError(t, err)
		case kind == frameGoAway:
			return append(answers, "go away")
		case kind == frameReset:
			answers[stream] = "reset"
			open--
		case kind == frameData || kind == frameHeaders:
			if kind == frameData {
				answers[stream] += string(payload)
			}
			if flags&flagEndStream != 0 {
				open--
			}
		}
	}
	return answers
}

// The same for the fields of HTTP/2.
func TestWireRawHTTP2(t *testing.T) {
	mirror2 := func(w http.ResponseWriter, r *http.Request) {
		mirror(w, r)
		fmt.Fprintf(w, " Host %q", r.Header["Host"])
	}
	base := func(more ...string) []string {
		return append([]string{":method", "GET", ":scheme", "https", ":authority", "site.example", ":path", "/page"}, more...)
	}
	set := func(name, value string) []string {
		fields := base()
		fields[slices.Index(fields, name)+1] = value
		return fields
	}
	without := func(name string) []string {
		fields := base()
		i := slices.Index(fields, name)
		return slices.Delete(fields, i, i+2)
	}
	bare := newWire(t, true, http.HandlerFunc(mirror2))
	page := bare.converse2(t, base())
	require.Contains(t, page[0], `host "site.example"`)
	for name, fields := range map[string][]string{
		"plain":                 base(),
		"host beside authority": base("host", "evil.example"),
		"same host":             base("host", "site.example"),
		"two hosts":             base("host", "evil.example", "host", "site.example"),
		"host, no authority":    append(without(":authority"), "host", "evil.example"),
		"no host":               without(":authority"),
		"no path":               without(":path"),
		"no scheme":             without(":scheme"),
		"other authority":       set(":authority", "evil.example"),
		"upper-case authority":  set(":authority", "SITE.example"),
		"authority with user":   set(":authority", "evil@site.example"),
		"empty authority":       set(":authority", ""),
		"http scheme":           set(":scheme", "http"),
		"odd scheme":            set(":scheme", "evil"),
		"absolute path":         set(":path", "https://evil.example/page"),
		"empty path":            set(":path", ""),
		"star":                  set(":path", "*"),
		"relative path":         set(":path", "page"),
		"two slashes":           set(":path", "//page"),
		"fragment":              set(":path", "/page#x"),
		"space in path":         set(":path", "/page HTTP/1.1"),
		"line in path":          set(":path", "/page\r\nX: y"),
		"NUL in path":           set(":path", "/page\x00"),
		"get":                   set(":method", "get"),
		"odd method":            set(":method", "GE T"),
		"CONNECT":               set(":method", "CONNECT"),
		"OPTIONS":               set(":method", "OPTIONS"),
		"PURGEX":                set(":method", "PURGEX"),
		"upper-case field":      base("X-Forwarded-Host", "evil"),
		"connection field":      base("connection", "close"),
		"transfer field":        base("transfer-encoding", "chunked"),
		"upgrade field":         base("upgrade", "websocket"),
		"te field":              base("te", "trailers"),
		"bad te field":          base("te", "gzip"),
		"line in field":         base("x-forwarded-host", "a\r\nb: c"),
		"NUL in field":          base("x-forwarded-host", "a\x00"),
		"no field name":         base("", "x"),
		"forwarded host":        base("x-forwarded-host", "evil.example"),
		"override":              base("x-http-method-override", "DELETE"),
		"length":                base("content-length", "4"),
		"zero length":           base("content-length", "0"),
		"two paths":             base(":path", "/evil"),
		"unknown pseudo field":  base(":evil", "x"),
		"protocol":              base(":protocol", "websocket"),
		"two cookies":           base("cookie", "a=b", "cookie", "c=d"),
		"expectation":           base("expect", "100-continue"),
	} {
		want := bare.converse2(t, fields)
		for policyName, policy := range wirePolicies {
			t.Run(policyName+"/"+name, func(t *testing.T) {
				w, c := newCacheWire(t, true, policy, mirror2)
				assert.Equal(t, want, w.converse2(t, fields), "the first time")
				assert.Equal(t, want, w.converse2(t, fields), "the second time")
				if name != "same host" { // which handlers can see, though it tells them nothing
					assert.Equal(t, page, w.converse2(t, base()), "the page")
				}
				w.settles(t, c)
			})
		}
	}
}
