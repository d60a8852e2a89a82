package accel_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/accel"
)

// A wireCase is a handler, and the request that it is asked with.
type wireCase struct {
	wireCall
	handler func(w http.ResponseWriter, r *http.Request)
}

// asked makes a case of a request, given as a method, a body if it has one, and
// header fields.
func asked(method, body string, h http.HandlerFunc, header ...string) wireCase {
	return wireCase{wireCall{method, header, body}, h}
}

// gets makes a case of a plain GET, answered by a handler that needs no request.
func gets(f func(w http.ResponseWriter)) wireCase {
	return asked("GET", "", func(w http.ResponseWriter, _ *http.Request) { f(w) })
}

// posts is gets for a POST.
func posts(f func(w http.ResponseWriter)) wireCase {
	return asked("POST", "question", func(w http.ResponseWriter, _ *http.Request) { f(w) })
}

// heads is gets for a HEAD.
func heads(f func(w http.ResponseWriter)) wireCase {
	return asked("HEAD", "", func(w http.ResponseWriter, _ *http.Request) { f(w) })
}

// says makes a case of a header field and a small body.
func says(name, value string) wireCase {
	return gets(func(w http.ResponseWriter) {
		w.Header()[name] = []string{value}
		say(w, text)
	})
}

var wireCases = map[string]wireCase{
	// What handlers do every day.
	"page":          gets(func(w http.ResponseWriter) { say(w, text) }),
	"short":         gets(func(w http.ResponseWriter) { say(w, "hi") }),
	"nothing":       gets(func(w http.ResponseWriter) {}),
	"header only":   gets(func(w http.ResponseWriter) { w.WriteHeader(200) }),
	"no content":    gets(func(w http.ResponseWriter) { w.WriteHeader(204) }),
	"reset content": gets(func(w http.ResponseWriter) { w.WriteHeader(205) }),
	"not found":     asked("GET", "", http.NotFound),
	"gone":          gets(func(w http.ResponseWriter) { http.Error(w, "gone", http.StatusGone) }),
	"failure":       gets(func(w http.ResponseWriter) { http.Error(w, "oh", 500) }),
	"overloaded":    gets(func(w http.ResponseWriter) { w.Header().Set("Retry-After", "9"); w.WriteHeader(503) }),
	"moved": asked("GET", "", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/other", http.StatusMovedPermanently)
	}),
	"found": asked("GET", "", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/other?a=b", http.StatusFound) }),
	"see other": asked("GET", "", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://other.example/", http.StatusSeeOther)
	}),
	"odd status":     gets(func(w http.ResponseWriter) { w.WriteHeader(799); say(w, "x") }),
	"no status":      gets(func(w http.ResponseWriter) { w.WriteHeader(99) }),
	"above buffer":   gets(func(w http.ResponseWriter) { say(w, aboveBuffer) }),
	"above hold":     gets(func(w http.ResponseWriter) { say(w, aboveHold) }),
	"above limit":    gets(func(w http.ResponseWriter) { say(w, aboveLimit) }),
	"copied":         gets(func(w http.ResponseWriter) { _, _ = io.Copy(w, strings.NewReader(aboveHold)) }),
	"copied, length": asked("GET", "", copied),
	"read from": gets(func(w http.ResponseWriter) {
		_, _ = io.Copy(w, struct{ io.Reader }{strings.NewReader(aboveLimit)})
	}),
	"in lines": gets(func(w http.ResponseWriter) {
		for line := range strings.Lines(aboveBuffer) {
			say(w, line)
		}
	}),
	"content":                   asked("GET", "", serveContent),
	"content, HEAD":             asked("HEAD", "", serveContent),
	"content, range":            asked("GET", "", serveContent, "Range", "bytes=5-9"),
	"content, ranges":           asked("GET", "", serveContent, "Range", "bytes=5-9,20-,-3"),
	"content, range beyond":     asked("GET", "", serveContent, "Range", "bytes=99999999-"),
	"content, bad range":        asked("GET", "", serveContent, "Range", "bytes=9-5"),
	"content, huge range":       asked("GET", "", serveContent, "Range", "bytes=0-99999999999999999999999"),
	"content, no range":         asked("GET", "", serveContent, "Range", "chapters=1-2"),
	"content, if range":         asked("GET", "", serveContent, "Range", "bytes=5-9", "If-Range", `"v1"`),
	"content, if other range":   asked("GET", "", serveContent, "Range", "bytes=5-9", "If-Range", `"v2"`),
	"content, condition":        asked("GET", "", serveContent, "If-None-Match", `"v1"`),
	"content, other condition":  asked("GET", "", serveContent, "If-None-Match", `"v2"`),
	"content, old condition":    asked("GET", "", serveContent, "If-Modified-Since", modified2020.Format(http.TimeFormat)),
	"content, failed condition": asked("GET", "", serveContent, "If-Match", `"v2"`),
	"HEAD, page":                heads(func(w http.ResponseWriter) { say(w, text) }),
	"HEAD, above buffer":        heads(func(w http.ResponseWriter) { say(w, aboveBuffer) }),
	"HEAD, nothing":             heads(func(w http.ResponseWriter) {}),
	"HEAD, length":              heads(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "12345") }),
	"HEAD, flush":               heads(func(w http.ResponseWriter) { say(w, "a"); flush(w); say(w, "b") }),
	"HEAD, panic":               heads(func(w http.ResponseWriter) { panic("boo") }),

	// Fields that mean something to the connection, to caches, or to nobody.
	"close":               says("Connection", "close"),
	"asked to close":      asked("GET", "", page200, "Connection", "close"),
	"asked to keep alive": asked("GET", "", page200, "Connection", "keep-alive"),
	"vary":                says("Vary", "Accept-Language"),
	"vary all":            says("Vary", "*"),
	"cookie":              says("Set-Cookie", "a=b"),
	"private":             says("Cache-Control", "private"),
	"content location":    says("Content-Location", "/b"),
	"line feed":           says("X-Evil", "a\r\nX-Other: b"),
	"bad name":            says("X Evil\r\nX", "b"),
	"bad value":           says("X-Evil", "\x00\x7f\xff"),
	"empty value":         says("X-Empty", ""),
	"lower case":          says("x-lower", "b"),
	"chunked by hand":     says("Transfer-Encoding", "chunked"),
	"identity by hand":    says("Transfer-Encoding", "identity"),
	"encoded":             says("Content-Encoding", "br"),
	"badly encoded":       says("Content-Encoding", "gzip"),
	"negative length":     says("Content-Length", "-5"),
	"length is no number": says("Content-Length", "x"),
	"no type":             gets(func(w http.ResponseWriter) { w.Header()["Content-Type"] = nil; say(w, text) }),
	"several lines":       gets(func(w http.ResponseWriter) { w.Header()["X-Two"] = []string{"1", "", " 2 "}; say(w, "x") }),
	"late field":          gets(func(w http.ResponseWriter) { w.WriteHeader(200); w.Header().Set("X-Late", "1"); say(w, "x") }),
	"two headers":         gets(func(w http.ResponseWriter) { w.WriteHeader(404); w.WriteHeader(200); say(w, "x") }),
	"hop-by-hop": gets(func(w http.ResponseWriter) {
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Add("Cache-Control", "no-store")
		say(w, "x")
	}),

	// Answers before the answer.
	"hints":               gets(func(w http.ResponseWriter) { w.Header().Set("Link", "</a.css>"); w.WriteHeader(103); say(w, text) }),
	"hints and no answer": gets(func(w http.ResponseWriter) { w.WriteHeader(103) }),
	"hints and panic":     gets(func(w http.ResponseWriter) { w.WriteHeader(103); panic("boo") }),
	"several hints": gets(func(w http.ResponseWriter) {
		for i := range 3 {
			w.Header().Add("Link", fmt.Sprintf("</%d.css>; rel=preload", i))
			w.WriteHeader(103)
		}
		w.Header().Del("Link")
		w.WriteHeader(102)
		say(w, text)
	}),

	// Bodies that are not what was said.
	"long": gets(func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "10")
		say(w, "0123456789")
		say(w, "abc")
	}),
	"long at once": gets(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "10"); say(w, "0123456789abc") }),
	"too short":    gets(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); say(w, "0123456789") }),
	"too short, large": gets(func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", strconv.Itoa(len(aboveHold)+1))
		say(w, aboveHold)
	}),
	"no body at all": gets(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100") }),
	"body of 204":    gets(func(w http.ResponseWriter) { w.WriteHeader(204); say(w, "x") }),
	"body of 304":    gets(func(w http.ResponseWriter) { w.WriteHeader(304); say(w, "x") }),
	"unasked 304":    gets(func(w http.ResponseWriter) { w.Header().Set("Etag", `"a"`); w.WriteHeader(304) }),

	// Ends that are none.
	"panic":              gets(func(w http.ResponseWriter) { panic("boo") }),
	"panic after header": gets(func(w http.ResponseWriter) { w.WriteHeader(418); panic("boo") }),
	"panic in small":     gets(func(w http.ResponseWriter) { say(w, "0123456789"); panic("boo") }),
	"panic in larger":    gets(func(w http.ResponseWriter) { say(w, aboveBuffer); panic("boo") }),
	"panic in large":     gets(func(w http.ResponseWriter) { say(w, aboveHold); panic("boo") }),
	"panic after flush and more": gets(func(w http.ResponseWriter) {
		say(w, "0123")
		flush(w)
		say(w, aboveBuffer)
		panic("boo")
	}),
	"abort":          gets(func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }),
	"abort in small": gets(func(w http.ResponseWriter) { say(w, "x"); panic(http.ErrAbortHandler) }),
	"abort in large": gets(func(w http.ResponseWriter) { say(w, aboveHold); panic(http.ErrAbortHandler) }),
	"exit":           gets(func(w http.ResponseWriter) { runtime.Goexit() }),
	"exit in small":  gets(func(w http.ResponseWriter) { say(w, "x"); runtime.Goexit() }),
	"exit in large":  gets(func(w http.ResponseWriter) { say(w, aboveHold); runtime.Goexit() }),
	"past deadline": gets(func(w http.ResponseWriter) {
		_ = http.NewResponseController(w).SetWriteDeadline(modified2020)
		say(w, "x")
	}),
	"past deadline, large": gets(func(w http.ResponseWriter) {
		_ = http.NewResponseController(w).SetWriteDeadline(modified2020)
		say(w, aboveHold)
	}),
	"far deadline": gets(func(w http.ResponseWriter) {
		c := http.NewResponseController(w)
		_ = c.SetReadDeadline(time.Now().Add(wireDeadline))
		_ = c.SetWriteDeadline(time.Now().Add(wireDeadline))
		say(w, "x")
	}),

	// Pieces.
	"flush":         gets(func(w http.ResponseWriter) { say(w, "a"); flush(w); say(w, "b") }),
	"flush first":   gets(func(w http.ResponseWriter) { flush(w); say(w, "b") }),
	"flush last":    gets(func(w http.ResponseWriter) { say(w, "b"); flush(w) }),
	"flush only":    gets(func(w http.ResponseWriter) { flush(w) }),
	"flush, length": gets(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "2"); say(w, "a"); flush(w); say(w, "b") }),
	"flush, too long": gets(func(w http.ResponseWriter) {
		w.Header().Set("Content-Length", "2")
		say(w, "a")
		flush(w)
		say(w, "bcd")
	}),
	"flush and trailer": gets(func(w http.ResponseWriter) {
		say(w, "a")
		flush(w)
		w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		say(w, "b")
	}),
	"trailer": gets(func(w http.ResponseWriter) {
		w.Header().Set("Trailer", "X-Sum, X-Never")
		say(w, "x")
		w.Header().Set("X-Sum", "1")
	}),
	"late trailer, larger": gets(func(w http.ResponseWriter) { say(w, aboveBuffer); w.Header().Set(http.TrailerPrefix+"X-Sum", "1") }),
	"late trailer, large":  gets(func(w http.ResponseWriter) { say(w, aboveHold); w.Header().Set(http.TrailerPrefix+"X-Sum", "1") }),
	"full duplex":          gets(func(w http.ResponseWriter) { _ = http.NewResponseController(w).EnableFullDuplex(); say(w, "x") }),
	"hijack":               gets(hijack),

	// Requests with a body, and other methods.
	"POST":                    asked("POST", "question", echo),
	"POST, large":             asked("POST", aboveHold, echo),
	"POST, continue":          asked("POST", aboveLimit, echo, "Expect", "100-continue"),
	"POST, not expected":      asked("POST", "question", http.NotFound, "Expect", "100-continue"),
	"POST, no body":           asked("POST", "", echo, "Content-Length", "0"),
	"POST, range":             asked("POST", "q", serveContent, "Range", "bytes=0-1"),
	"POST, copied":            asked("POST", "q", copied),
	"POST, unread":            posts(func(w http.ResponseWriter) { say(w, "x") }),
	"POST, created":           posts(func(w http.ResponseWriter) { w.Header().Set("Location", "/created"); w.WriteHeader(201) }),
	"POST, nothing":           posts(func(w http.ResponseWriter) {}),
	"POST, panic":             posts(func(w http.ResponseWriter) { panic("boo") }),
	"POST, panic in small":    posts(func(w http.ResponseWriter) { say(w, "x"); panic("boo") }),
	"POST, panic in large":    posts(func(w http.ResponseWriter) { say(w, aboveHold); panic("boo") }),
	"POST, panic after flush": posts(func(w http.ResponseWriter) { say(w, "x"); flush(w); panic("boo") }),
	"POST, exit":              posts(func(w http.ResponseWriter) { runtime.Goexit() }),
	"POST, flush":             posts(func(w http.ResponseWriter) { say(w, "a"); flush(w); say(w, "b") }),
	"POST, hints":             posts(func(w http.ResponseWriter) { w.WriteHeader(103); say(w, "b") }),
	"POST, too long":          posts(func(w http.ResponseWriter) { w.Header().Set("Content-Length", "1"); say(w, "ab") }),
	"POST, page":              posts(func(w http.ResponseWriter) { say(w, text) }),
	"POST, hijack":            posts(hijack),
	"POST, two headers":       posts(func(w http.ResponseWriter) { w.WriteHeader(202); w.WriteHeader(500); say(w, "x") }),
	"POST, trailer": posts(func(w http.ResponseWriter) {
		w.Header().Set("Trailer", "X-Sum")
		say(w, "x")
		w.Header().Set("X-Sum", "1")
		w.Header().Set(http.TrailerPrefix+"X-Other", "2")
	}),
	"POST, full duplex": asked("POST", "question", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		say(w, "first")
		flush(w)
		echo(w, r)
	}),
	"PUT":            asked("PUT", "question", echo),
	"DELETE":         asked("DELETE", "", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }),
	"PURGEX":         asked("PURGEX", "", echo),
	"OPTIONS":        asked("OPTIONS", "", echo),
	"TRACE":          asked("TRACE", "", echo),
	"get":            asked("get", "", echo),
	"GET, body":      asked("GET", "question", echo),
	"GET, expecting": asked("GET", "", echo, "Expect", "100-continue"),
}

func page200(w http.ResponseWriter, _ *http.Request) { say(w, text) }

func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Method", r.Method)
	b, err := io.ReadAll(r.Body) // all of it first: HTTP/1 is no full duplex
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
	}
	_, _ = w.Write(b)
}

func copied(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", strconv.Itoa(len(aboveLimit)))
	_, _ = io.Copy(w, strings.NewReader(aboveLimit))
}

func serveContent(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"v1"`)
	http.ServeContent(w, r, "a.txt", modified2020, strings.NewReader(text))
}

func hijack(w http.ResponseWriter) {
	h, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "no hijacker", http.StatusNotImplemented)
		return
	}
	conn, _, err := h.Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	say(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 2\r\n\r\nhi")
}

// wireWays are what may be said about storing a response before its handler says
// something else.
var wireWays = map[string]func(w http.ResponseWriter, r *http.Request){
	"plain":     func(w http.ResponseWriter, r *http.Request) {},
	"header":    func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "public, max-age=600") },
	"no-store":  func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "no-store") },
	"no-cache":  func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Cache-Control", "no-cache") },
	"cache-for": func(w http.ResponseWriter, r *http.Request) { accel.CacheFor(r.Context(), time.Hour) },
}

// Whatever a handler does, its client sees what it would have seen without us:
// what comes before the answer, status, header, framing, body, trailer, and
// whether the connection goes on. So it is the first time and the second.
func TestWireIsAsWithoutUs(t *testing.T) {
	hits := areAsWithoutUs(t, wireCases)
	assert.Greater(t, hits.Load(), int64(100))
}

// What a handler has flushed its client has, although the handler crashes then.
func TestWireFlushedBeforeCrash(t *testing.T) {
	areAsWithoutUs(t, map[string]wireCase{
		"panic after flush": gets(func(w http.ResponseWriter) { say(w, "0123"); flush(w); panic("boo") }),
		"abort after flush": gets(func(w http.ResponseWriter) { flush(w); panic(http.ErrAbortHandler) }),
		"exit after flush":  gets(func(w http.ResponseWriter) { say(w, "x"); flush(w); runtime.Goexit() }),
	})
}

// areAsWithoutUs asks each case in each way, with us and without, and returns how
// often the store answered.
func areAsWithoutUs(t *testing.T, cases map[string]wireCase) (hits *atomic.Int64) {
	hits = new(atomic.Int64)
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == goodbye {
			// An error, because of what is none the cache remembers that it was not
			// for storing, and may forget that of the page that is looked at.
			w.Header().Set("Cache-Control", "no-store")
			w.WriteHeader(http.StatusGone)
			return
		}
		wireWays[r.URL.Query().Get("way")](w, r)
		cases[r.URL.Query().Get("case")].handler(w, r)
	}
	t.Run("all", func(t *testing.T) {
		everyWire(t, func(t *testing.T, policy accel.Policy, http2 bool) {
			bare := newWire(t, http2, http.HandlerFunc(handler))
			cached, c := newCacheWire(t, http2, policy, handler)
			for _, name := range slices.Sorted(maps.Keys(cases)) {
				for _, way := range slices.Sorted(maps.Keys(wireWays)) {
					if (racing || cases[name].method != "GET") && way != "plain" && way != "header" {
						continue // it is nothing to store, or takes the race detector half a minute
					}
					path := "/?way=" + way + "&case=" + strings.ReplaceAll(name, " ", "%20")
					call := cases[name].wireCall
					without := bare.see(t, path, call)
					for _, time := range []string{"first", "second"} {
						with, without := cached.see(t, path, call), without
						if with.hit() {
							hits.Add(1)
						}
						switch {
						case with.hit() && (name == "close" || strings.HasPrefix(name, "past deadline")):
							continue // what the handler did to its connection
						case http2 && name == "close":
							with.kept = without.kept // by a GOAWAY, which comes when it comes
						case name == "flush first" && with.header.Get("Content-Type") != "" && policy == accel.RFC9111:
							with.header.Del("Content-Type") // guessed, because there was something to guess from
						case policy == accel.RFC9111 && time == "first" && len(call.header) != 0 && with.status == http.StatusOK &&
							(without.status == http.StatusNotModified || without.status == http.StatusPreconditionFailed):
							// The handler was asked for the whole, which might have been
							// one to store.
							without = bare.see(t, path, wireCall{})
						}
						sameSight(t, name+", "+way+", "+time+" time", with, without)
					}
				}
			}
			cached.settles(t, c)
			assert.Zero(t, c.Stats().StoreErrors)
		})
	})
	return hits
}
