package accel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/memstore"
)

// protocols starts a server of h for each protocol.
func protocols(t *testing.T, h http.Handler) map[string]*httptest.Server {
	two := httptest.NewUnstartedServer(h)
	two.Config.ErrorLog = newServer(t, h).Config.ErrorLog
	two.EnableHTTP2 = true
	two.StartTLS()
	t.Cleanup(two.Close)
	one := newServer(t, h)
	one.Client().Transport.(*http.Transport).DisableKeepAlives = true // or it tries again, on another connection
	return map[string]*httptest.Server{"HTTP/1.1": one, "HTTP/2": two}
}

// Nine ways to end a response too early. What the client has got cannot be taken
// back, but nobody else gets it, and a panic goes on as the same value.
func TestSecurity_R1_TruncatedIsNotStored(t *testing.T) {
	half := strings.Repeat("first half of it", 16)
	bulk := strings.Repeat(half, 512) // 128 KiB: above the hold limit
	sizes := map[string]string{"small": half, "large": bulk, "flushed": half}
	boo := errors.New("boo")
	var leaving atomic.Pointer[context.CancelFunc]

	upstream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		first := sizes[strings.Split(r.URL.Path, "/")[2]]
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Length", strconv.Itoa(2*len(first)))
		_, _ = io.WriteString(w, first)
		if strings.Contains(r.URL.Path, "flushed") {
			w.(http.Flusher).Flush()
		}
		if r.Header.Get("X-Break") == "" {
			_, _ = io.WriteString(w, first)
		}
	})
	proxies := map[string]*httputil.ReverseProxy{}
	for name, s := range protocols(t, upstream) {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		p := httputil.NewSingleHostReverseProxy(u)
		p.Transport, p.ErrorLog = s.Client().Transport, s.Config.ErrorLog
		proxies[name] = p
	}
	causes := map[string]func(w http.ResponseWriter, r *http.Request){
		"panic":           func(http.ResponseWriter, *http.Request) { panic(boo) },
		"ErrAbortHandler": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"Goexit":          func(http.ResponseWriter, *http.Request) { runtime.Goexit() },
		"short":           nil, // returns; Content-Length is more
		"long":            nil, // writes the other half; Content-Length is less
		"client leaves": func(_ http.ResponseWriter, r *http.Request) {
			(*leaving.Load())()
			<-r.Context().Done()
		},
		"hijack": func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				panic(http.ErrAbortHandler) // HTTP/2
			}
			conn.Close()
		},
		"upstream of HTTP/1.1 ends early": nil,
		"upstream of HTTP/2 ends early":   nil,
	}

	inBoth(t, func(t *testing.T, g regime) {
		var calls atomic.Int64
		kept := int64(0)
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			g.allow(w, r)
			name, _ := url.PathUnescape(strings.Split(r.URL.Path, "/")[1])
			if version, ok := strings.CutPrefix(name, "upstream of "); ok {
				version, _, _ = strings.Cut(version, " ends")
				proxies[strings.ReplaceAll(version, "|", "/")].ServeHTTP(w, r)
				return
			}
			size := strings.Split(r.URL.Path, "/")[2]
			first := sizes[size]
			broken := r.Header.Get("X-Break") != ""
			w.Header().Set("Content-Type", "image/png")
			switch {
			case broken && name == "long":
				w.Header().Set("Content-Length", strconv.Itoa(len(first)))
			case broken && name == "short", size == "large":
				w.Header().Set("Content-Length", strconv.Itoa(2*len(first)))
			}
			_, _ = io.WriteString(w, first)
			if size == "flushed" {
				w.(http.Flusher).Flush()
			}
			if broken && causes[name] != nil {
				causes[name](w, r)
				return
			}
			if !broken || name == "long" {
				_, _ = io.WriteString(w, first)
			}
		}, g.opts...)
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		staying := map[string]*http.Client{"HTTP/1.1": {Transport: transport}}
		served := make(chan any, 1)
		for protocol, s := range protocols(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var v any
			defer func() { served <- v }()
			defer func() {
				if v = recover(); v != nil {
					panic(v)
				}
			}()
			c.ServeHTTP(w, r)
		})) {
			if staying[protocol] == nil {
				staying[protocol] = s.Client()
			}
			ask := func(ctx context.Context, path, broken string) (string, string) {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if broken != "" {
					req.Header.Set("X-Break", broken)
				}
				client := s.Client()
				if broken == "" {
					// One that stays: who closes the connection with the last byte
					// has left before the handler is done.
					client = staying[protocol]
				}
				res, err := client.Do(req)
				if err != nil {
					return "", ""
				}
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				return string(b), status(res)
			}
			for name := range causes {
				for size, first := range sizes {
					t.Run(fmt.Sprint(protocol, ", ", name, ", ", size), func(t *testing.T) {
						path := "/" + url.PathEscape(strings.ReplaceAll(name, "/", "|")) + "/" + size
						entries, n := kept, calls.Load()
						ctx, leave := context.WithCancel(t.Context())
						defer leave()
						leaving.Store(&leave)
						got, _ := ask(ctx, path, "1")
						if v := <-served; name == "panic" && v != boo || name == "ErrAbortHandler" && v != http.ErrAbortHandler {
							t.Errorf("recovered outside: %v", v)
						}
						if len(got) > len(first) {
							t.Errorf("the client has got %d bytes", len(got))
						}
						after(t, c, entries, &calls, n+1)

						got, how := ask(t.Context(), path, "")
						<-served
						if got != first+first || !strings.HasPrefix(how, "fwd=") {
							t.Errorf("the next client gets %d bytes of %d, %s", len(got), 2*len(first), how)
						}
						stored := int64(1)
						if size == "flushed" && g.opts == nil && !strings.HasPrefix(name, "upstream") {
							stored = 0 // by OptIn; the proxy does not flush what has a length
						}
						kept += stored
						after(t, c, kept, &calls, n+2)
						got, _ = ask(t.Context(), path, "")
						<-served
						equal(t, "the one after that", got == first+first, true)
						after(t, c, kept, &calls, n+3-stored)
					})
				}
			}
		}
	})
}

// A client that takes ten bytes and goes: the response is stored whole, or not.
func TestSecurity_R2_ClientLeavesInTheMiddle(t *testing.T) {
	rounds := 1000
	if racing || testing.Short() {
		rounds = 100
	}
	whole := strings.Repeat("0123456789abcdef", 20<<10) // 320 KiB
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			w.Header().Set("Content-Type", "image/png")
			for rest := whole; rest != ""; rest = rest[32<<10:] {
				if _, err := io.WriteString(w, rest[:32<<10]); err != nil {
					return // as io.Copy would
				}
			}
		})
		c := newCacheOver(t, memstore.New(memstore.WithMaxSize(16<<20)), h, g.opts...)
		served := make(chan struct{}, 1)
		s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			defer func() { served <- struct{}{} }()
			c.ServeHTTP(w, r)
		}))
		addr := s.Listener.Addr().String()
		hits := int64(0)
		for i := range rounds / 2 {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i)
			_, _ = io.ReadFull(conn, make([]byte, 10))
			if i%2 == 0 {
				_ = conn.(*net.TCPConn).SetLinger(0) // a reset
			}
			conn.Close()
			<-served
			res := get(c, fmt.Sprint("http://h/", i))
			if b := body(t, res); b != whole {
				t.Fatalf("the next client gets %d bytes of %d, %s", len(b), len(whole), status(res))
			}
			if status(res) == "hit" {
				hits++
			}
		}
		equal(t, "handler calls", calls.Load(), int64(rounds)-hits)
		equal(t, "stored", int64(c.Stats().Stored), calls.Load()-(int64(rounds/2)-hits))
	})
}

// RFC 9111, section 3.1: what ends at one hop is not told at another.
func TestSecurity_R3_HopByHop(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			for _, name := range []string{
				"Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Te", "Upgrade", "X-Foo", "X-Bar", "X-Baz",
			} {
				w.Header().Set(name, "1")
			}
			w.Header()["Connection"] = []string{"x-foo", "close, X-Bar ,"}
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, text)
		})
		c := newCache(t, h, g.opts...)
		get(c, "/")
		for _, accept := range []string{"gzip", "identity"} {
			res := get(c, "/", "Accept-Encoding", accept)
			expect(t, res, "hit")
			equal(t, "status", res.StatusCode, 200)
			equal(t, "body", decoded(t, res), text)
			for _, name := range []string{
				"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Te", "Upgrade", "X-Foo", "X-Bar",
			} {
				if v, ok := res.Header[name]; ok {
					t.Errorf("%s: %q", name, v)
				}
			}
			equal(t, "X-Baz", res.Header.Get("X-Baz"), "1")
		}
		after(t, c, 1, calls, 1)
	})

	// Framing is the connection's matter, and what has trailers is not stored.
	for _, name := range []string{"Transfer-Encoding", "Trailer"} {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Set(name, "identity")
			_, _ = io.WriteString(w, brief)
		})
		c := newCache(t, h)
		for i := range 2 {
			equal(t, "body", body(t, get(c, "/")), brief)
			after(t, c, 0, calls, int64(i+1))
		}
	}
}

// Nothing that is stored begins a new line in a header: neither tags nor what a
// damaged or hostile store returns.
func TestSecurity_R4_ResponseSplitting(t *testing.T) {
	const inject = "a\r\nInjected: 1\r\n\r\n<script>"
	for _, tag := range []string{"a\r\nb", "a\nb", "a\rb", "a\x00", inject, "\x1b[31m"} {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			accel.Tag(r.Context(), "good", tag)
			_, _ = io.WriteString(w, brief)
		})
		c := newCache(t, h)
		for i := range 2 {
			res := get(c, "/")
			expect(t, res, "fwd=uri-miss; detail=invalid-tag")
			equal(t, "body", body(t, res), brief)
			after(t, c, 0, calls, int64(i+1))
		}
		for _, err := range []error{c.InvalidateTag(t.Context(), tag), c.ExpireTag(t.Context(), tag)} {
			equal(t, "error", errors.Is(err, accel.ErrInvalidTag), true)
		}
		equal(t, "error", errors.Is(c.InvalidateURL(t.Context(), "http://h/"+tag), accel.ErrInvalidURL), true)
	}

	hostile := func(f *accel.Found) {
		if f.Entry == nil {
			return
		}
		e := f.Entry
		f.Entry = &accel.Entry{
			Key: e.Key, Resource: e.Resource, Variant: e.Variant, Status: 200, Date: e.Date, FreshUntil: e.FreshUntil, KeepUntil: e.KeepUntil,
			Header: []accel.Field{
				{Name: "Cache-Status", Values: []string{inject}},
				{Name: "Content-Type", Values: []string{"text/plain" + inject}},
				{Name: "Last-Modified", Values: []string{inject}},
				{Name: "Vary", Values: []string{inject}},
				{Name: "X-A", Values: []string{"1", inject, "a\rInjected: 1", "a\nInjected: 1"}},
				{Name: "X-B" + inject, Values: []string{"1"}},
				{Name: "X-C: 1\r\nInjected", Values: []string{"1"}},
			},
			Bodies: []accel.Body{{Coding: "gzip" + inject, ETag: `"` + inject + `"`, Data: []byte(brief)}, {ETag: `"x` + inject + `"`, Data: []byte(brief)}},
			Length: int64(len(brief)),
		}
	}
	h, calls := page(func(*http.Request) string { return brief })
	b := &broken{Store: memstore.New()}
	c := newCacheOver(t, b, h)
	servers := protocols(t, c)
	addr := servers["HTTP/1.1"].Listener.Addr().String()
	for _, visibility := range []string{"stored", "hostile"} {
		for _, line := range []string{"X-Plain: 1", `If-None-Match: "other"`, "Range: bytes=1-2", "Accept-Encoding: gzip, *"} {
			got := sendRaw(t, addr, asking("GET", "/", "h", line))
			head, rest, ok := strings.Cut(got, "\r\n\r\n")
			if !ok || strings.HasPrefix(rest, "<script>") {
				t.Errorf("%s, %s: %q", visibility, line, got)
			}
			for i, l := range strings.Split(head, "\r\n") {
				if i > 0 && !strings.Contains(l, ":") || strings.HasPrefix(l, "Injected") || strings.ContainsAny(l, "\r\n") {
					t.Errorf("%s, %s: line %q", visibility, line, l)
				}
			}
			s := servers["HTTP/2"]
			req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
			req.Host = "h2"
			name, value, _ := strings.Cut(line, ": ")
			req.Header.Set(name, value)
			if res, err := s.Client().Do(req); err == nil { // else the server has reset the stream
				for name, values := range res.Header {
					if name == "Injected" || strings.ContainsAny(name+strings.Join(values, ""), "\r\n") {
						t.Errorf("HTTP/2, %s: %q: %q", line, name, values)
					}
				}
				res.Body.Close()
			}
		}
		b.change = hostile
	}
	after(t, c, 2, calls, 2)
}

// A response with more tags than are kept is not stored: with a shortened list it
// could not be purged by those that are missing.
func TestSecurity_R5_TagLimits(t *testing.T) {
	list := func(n int) []string {
		tags := make([]string, n)
		for i := range tags {
			tags[i] = fmt.Sprint("tag-", i)
		}
		return tags
	}
	long := strings.Repeat("x", accel.MaxTagLength)
	for name, test := range map[string]struct {
		bear   func(w http.ResponseWriter, r *http.Request)
		reason string
	}{
		"128": {func(_ http.ResponseWriter, r *http.Request) { accel.Tag(r.Context(), list(128)...) }, ""},
		"129": {func(_ http.ResponseWriter, r *http.Request) { accel.Tag(r.Context(), list(129)...) }, "too-many-tags"},
		"129 by field": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Surrogate-Key", strings.Join(list(129), " "))
		}, "too-many-tags"},
		"129 by both": {func(w http.ResponseWriter, r *http.Request) {
			accel.Tag(r.Context(), list(128)...)
			w.Header().Set("Cache-Tag", "one more")
		}, "too-many-tags"},
		"100000":            {func(_ http.ResponseWriter, r *http.Request) { accel.Tag(r.Context(), list(100_000)...) }, "too-many-tags"},
		"256 bytes":         {func(_ http.ResponseWriter, r *http.Request) { accel.Tag(r.Context(), long) }, ""},
		"257 bytes":         {func(_ http.ResponseWriter, r *http.Request) { accel.Tag(r.Context(), long+"x") }, "invalid-tag"},
		"257 bytes, field":  {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Tag", long+"x") }, "invalid-tag"},
		"unreadable groups": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Cache-Groups", `"a`) }, "invalid-tag"},
	} {
		t.Run(name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				test.bear(w, r)
				_, _ = io.WriteString(w, brief)
			})
			c := newCache(t, h)
			for range 2 {
				equal(t, "body", body(t, get(c, "/")), brief)
			}
			if test.reason == "" {
				after(t, c, 1, calls, 1)
				return
			}
			after(t, c, 0, calls, 2)
			equal(t, "counter", c.Stats().NotStored[test.reason], 2)
		})
	}
}

// RFC 9110, section 8.8.3: each coding has a strong tag of its own, and what is
// said of one is said of no other.
func TestSecurity_R6_ETagOfEachCoding(t *testing.T) {
	for _, given := range []string{"", `"v1"`} {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			if given != "" {
				w.Header().Set("ETag", given)
			}
			_, _ = io.WriteString(w, text)
		})
		c := newCache(t, h)
		codings := []string{"zstd", "gzip", "identity"}
		etags, bodies := map[string]string{}, map[string]string{}
		for _, coding := range codings {
			res := get(c, "/", "Accept-Encoding", coding)
			etags[coding], bodies[coding] = res.Header.Get("Etag"), body(t, res)
		}
		for _, coding := range codings {
			for _, other := range codings {
				res := get(c, "/", "Accept-Encoding", coding, "If-None-Match", etags[other])
				want, b := 200, bodies[coding]
				if coding == other {
					want, b = 304, ""
				}
				equal(t, "status", res.StatusCode, want)
				equal(t, "body", body(t, res), b)
				equal(t, "ETag", res.Header.Get("Etag"), etags[coding])
				equal(t, "Vary", res.Header.Get("Vary"), "Accept-Encoding")

				res = get(c, "/", "Accept-Encoding", coding, "Range", "bytes=5-9", "If-Range", etags[other])
				want, b = 200, bodies[coding]
				if coding == other {
					want, b = 206, bodies[coding][5:10]
				}
				equal(t, "status", res.StatusCode, want)
				equal(t, "body", body(t, res), b)
			}
			all := strings.Join([]string{etags["zstd"], etags["gzip"], etags["identity"]}, ", ")
			equal(t, "status for all", get(c, "/", "Accept-Encoding", coding, "If-None-Match", all).StatusCode, 304)
		}
		equal(t, "different tags", len(map[string]bool{etags["zstd"]: true, etags["gzip"]: true, etags["identity"]: true}), 3)
		after(t, c, 1, calls, 1)
	}
}

// takes reports whether a client that sends this Accept-Encoding takes a coding,
// read without haste (RFC 9110, section 12.5.3). It is for values without
// parameters other than q.
func takes(accept, coding string) bool {
	weight, star := -1.0, -1.0
	for member := range strings.SplitSeq(strings.ToLower(accept), ",") {
		name, parameter, _ := strings.Cut(member, ";")
		q := 1.0
		if v, ok := strings.CutPrefix(strings.TrimSpace(parameter), "q="); ok {
			q, _ = strconv.ParseFloat(v, 64)
		}
		switch strings.TrimPrefix(strings.TrimSpace(name), "x-") {
		case coding:
			weight = q
		case "*":
			star = q
		}
	}
	switch {
	case weight >= 0:
		return weight > 0
	case star >= 0:
		return star > 0
	}
	return coding == "identity"
}

// No client gets a coding that it does not take. Who takes nothing that we have,
// not even the plain page, gets the plain page.
func TestSecurity_R7_NegotiatedCoding(t *testing.T) {
	h, calls := page(func(*http.Request) string { return text })
	c := newCache(t, h)
	get(c, "/")
	n := 20_000
	if racing || testing.Short() {
		n = 2000
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	names := []string{"gzip", "zstd", "br", "identity", "*", "x-gzip", "deflate", "GZIP", ""}
	weights := []string{"", "", ";q=0", ";q=0.0", "; q=0.001", ";q=0.5", " ; q=1", ";q=1.000", ";Q=0.3"}
	seen := map[string]int{}
	for range n {
		var members []string
		used := map[string]bool{}
		for range rnd.IntN(5) {
			name := names[rnd.IntN(len(names))]
			if plain := strings.TrimPrefix(strings.ToLower(name), "x-"); name != "" && used[plain] {
				continue // said twice is a matter of taste
			} else {
				used[plain] = true
			}
			members = append(members, name+weights[rnd.IntN(len(weights))])
		}
		accept := strings.Join(members, []string{",", ", ", " ,\t"}[rnd.IntN(3)])
		res := get(c, "/", "Accept-Encoding", accept)
		coding := res.Header.Get("Content-Encoding")
		if coding == "" {
			coding = "identity"
		}
		seen[coding]++
		if !takes(accept, coding) && (coding != "identity" || takes(accept, "gzip") || takes(accept, "zstd")) {
			t.Fatalf("%q is sent %s", accept, coding)
		}
		equal(t, "Vary", res.Header.Get("Vary"), "Accept-Encoding")
		if decoded(t, res) != text {
			t.Fatalf("%q: the body is another", accept)
		}
	}
	if len(seen) != 3 {
		t.Errorf("%v", seen)
	}
	// No field at all, and an empty one, take identity alone, with Vary as ever.
	for _, header := range [][]string{{}, {"Accept-Encoding", ""}} {
		for _, method := range []string{"GET", "HEAD"} {
			r := newRequest("/", header...)
			r.Method = method
			res := do(c, r)
			equal(t, "coding", res.Header.Get("Content-Encoding"), "")
			equal(t, "Vary", res.Header.Get("Vary"), "Accept-Encoding")
			r.Header.Set("If-None-Match", res.Header.Get("Etag"))
			res = do(c, r)
			equal(t, "status", res.StatusCode, 304)
			equal(t, "Vary of the 304", res.Header.Get("Vary"), "Accept-Encoding")
		}
	}
	after(t, c, 1, calls, 1)
}

// What the handler has encoded is never encoded again. Who cannot read it gets it
// decoded, if we can do that, else the handler's own answer, unstored.
func TestSecurity_R8_EncodedByHandler(t *testing.T) {
	gz, err := codec.Encode(nil, codec.Gzip, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	inBoth(t, func(t *testing.T, g regime) {
		for coding, data := range map[string]string{"gzip": string(gz), "br": "who could tell that this is not brotli? " + text} {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				g.allow(w, r)
				w.Header().Set("Vary", "Accept-Encoding")
				w.Header().Set("Content-Type", "text/html")
				if r.Header.Get("X-Plain") != "" { // what it would say to this client
					_, _ = io.WriteString(w, text)
					return
				}
				w.Header().Set("Content-Encoding", coding)
				_, _ = io.WriteString(w, data)
			})
			c := newCache(t, h, g.opts...)
			for _, accept := range []string{coding, coding + ", zstd", "zstd;q=1, " + coding + ";q=0.1", "*"} {
				res := get(c, "/", "Accept-Encoding", accept)
				equal(t, "coding", res.Header.Get("Content-Encoding"), coding)
				equal(t, "body", body(t, res), data)
				after(t, c, 1, calls, 1)
			}
			for _, accept := range []string{"identity", "zstd", coding + ";q=0"} {
				n := calls.Load()
				res := get(c, "/", "Accept-Encoding", accept, "X-Plain", "1")
				equal(t, "coding for "+accept, res.Header.Get("Content-Encoding"), "")
				equal(t, "body for "+accept, body(t, res), text)
				if coding == "br" {
					n++
				}
				after(t, c, 1, calls, n)
				expect(t, get(c, "/", "Accept-Encoding", coding), "hit")
			}
		}
	})
}

// A body that decodes to more than may be stored is decoded for nobody, and costs
// no memory. It is the handler's own, and goes to those who take it as it is.
func TestSecurity_R9_DecompressionBomb(t *testing.T) {
	gz, err := codec.Encode(nil, codec.Gzip, make([]byte, 10<<20))
	if err != nil {
		t.Fatal(err)
	}
	zs, err := codec.Encode(nil, codec.Zstd, make([]byte, 10<<20))
	if err != nil {
		t.Fatal(err)
	}
	for name, bomb := range map[string]struct {
		coding string
		data   []byte
	}{
		"gzip":              {"gzip", gz},
		"zstd":              {"zstd", zs},
		"gzip, ten members": {"gzip", bytes.Repeat(gz, 10)},
		"zstd, 2 GiB window": {"zstd", []byte{ // RFC 8878, section 3.1.1
			0x28, 0xb5, 0x2f, 0xfd, // magic number
			0x00,                   // no content size, no checksum
			21 << 3,                // window of 2^(10+21) bytes
			0x0b, 0x00, 0x00, 0x00, // one block of 128 equal bytes, the last
		}},
		"zstd, 2 GiB said": {"zstd", []byte{
			0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x80, 0x0b, 0x00, 0x00, 0x00,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				w.Header().Set("Content-Encoding", bomb.coding)
				_, _ = w.Write(bomb.data)
			})
			c := newCache(t, h)
			var before, behind runtime.MemStats
			runtime.ReadMemStats(&before)
			get(c, "/", "Accept-Encoding", bomb.coding)
			res := get(c, "/", "Accept-Encoding", bomb.coding)
			expect(t, res, "hit")
			equal(t, "body", body(t, res) == string(bomb.data), true)
			after(t, c, 1, calls, 1)
			for range 3 {
				res = get(c, "/")
				expect(t, res, "fwd=request; detail=not-acceptable")
				equal(t, "body", body(t, res) == string(bomb.data), true)
			}
			after(t, c, 1, calls, 4)
			runtime.ReadMemStats(&behind)
			if n := behind.TotalAlloc - before.TotalAlloc; n > 16<<20 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
	}
}

// RFC 9111, sections 3.2 and 4.3: a 304 changes what is said about the stored
// body, not what the body is; one about something else changes nothing; and who
// has not asked for a 304 gets none.
func TestSecurity_R10_NotModified(t *testing.T) {
	k := newClock()
	var confirm func(w http.ResponseWriter, r *http.Request)
	var seen []string
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Header.Get("If-None-Match")+" "+r.Header.Get("If-Modified-Since")+r.Header.Get("If-Match")+r.Header.Get("Range"))
		w.Header().Set("Cache-Control", "max-age=60")
		if r.Header.Get("If-None-Match") != "" && confirm != nil {
			confirm(w, r)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("X-Version", "old")
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, text)
	})
	c := newCache(t, h, accel.WithPolicy(accel.RFC9111), accel.WithClock(k.now))

	// A client's own condition is not the handler's business.
	first := get(c, "/", "If-None-Match", `"mine"`, "If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT", "Accept-Encoding", "gzip")
	equal(t, "status", first.StatusCode, 200)
	equal(t, "what the handler was asked", seen[0], " ")
	after(t, c, 1, calls, 1)

	confirm = func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("ETag", `"v1"`)
		h.Set("Content-Encoding", "br")
		h.Set("Content-Length", "3")
		h.Set("Content-Range", "bytes 0-2/3")
		h.Set("Content-Type", "text/evil")
		h.Set("Transfer-Encoding", "chunked")
		h.Set("Connection", "X-Hop")
		h.Set("X-Hop", "1")
		h.Set("X-Version", "new")
	}
	k.add(2 * time.Minute)
	for i, accept := range []string{"gzip", "zstd", "identity"} {
		res := get(c, "/", "Accept-Encoding", accept)
		want := "hit"
		if i == 0 {
			want = "fwd=stale; fwd-status=304; stored"
		}
		expect(t, res, want)
		equal(t, "status", res.StatusCode, 200)
		equal(t, "body", decoded(t, res), text)
		equal(t, "Content-Type", res.Header.Get("Content-Type"), "text/html")
		equal(t, "Content-Range", res.Header.Get("Content-Range"), "")
		equal(t, "X-Hop", res.Header.Get("X-Hop"), "")
		equal(t, "X-Version", res.Header.Get("X-Version"), "new")
	}
	after(t, c, 1, calls, 2)
	equal(t, "what the handler was asked", seen[1], `"v1" `)

	// About another version: the handler is asked for the whole.
	confirm = func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("ETag", `"v2"`) }
	k.add(2 * time.Minute)
	res := get(c, "/")
	equal(t, "status", res.StatusCode, 200)
	equal(t, "body", body(t, res), text)
	equal(t, "X-Version", res.Header.Get("X-Version"), "old")
	equal(t, "what the handler was asked", strings.Join(seen[2:], "|"), `"v1" | `)
	after(t, c, 1, calls, 4)

	// Not for storing any more: for this client, and nobody after it.
	confirm = func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Set-Cookie", "u=me")
	}
	k.add(2 * time.Minute)
	res = get(c, "/")
	equal(t, "body", body(t, res), text)
	after(t, c, 0, calls, 5)
	confirm = nil
	res = get(c, "/")
	equal(t, "Set-Cookie", res.Header.Get("Set-Cookie"), "")
	equal(t, "body", body(t, res), text)
	after(t, c, 1, calls, 6)

	// A handler that says 304 without being asked, to the first and to all.
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			w.Header().Set("ETag", `"v1"`)
			w.WriteHeader(http.StatusNotModified)
		})
		c := newCache(t, h, g.opts...)
		for i := range 3 {
			get(c, "/")
			after(t, c, 0, calls, int64(i+1))
		}
	})
}

// A part, or a confirmation, is never stored as the whole.
func TestSecurity_R11_PartsAreNotTheWhole(t *testing.T) {
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	inBoth(t, func(t *testing.T, g regime) {
		for _, first := range [][]string{
			{"Range", "bytes=1-3"}, {"Range", "bytes=-1"}, {"Range", "bytes=99-"}, {"Range", "bytes=0-0,2-2"},
			{"Range", "bytes=1-3", "If-Range", modified.Format(http.TimeFormat)},
			{"If-Modified-Since", modified.Format(http.TimeFormat)}, {"If-None-Match", `"v1"`}, {"If-None-Match", "*"},
			{"If-Match", `"v2"`}, {"If-Unmodified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"},
		} {
			t.Run(fmt.Sprint(first), func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					g.allow(w, r)
					w.Header().Set("ETag", `"v1"`)
					http.ServeContent(w, r, "a.txt", modified, strings.NewReader("content"))
				})
				c := newCache(t, h, g.opts...)
				for range 2 {
					res := get(c, "/", first...)
					if res.StatusCode == 200 && first[0] == "Range" {
						t.Errorf("%v: %d", first, res.StatusCode)
					}
				}
				for range 3 {
					res := get(c, "/")
					equal(t, "status", res.StatusCode, 200)
					equal(t, "body", body(t, res), "content")
				}
				if n := calls.Load(); n > 3 {
					t.Errorf("handler calls: %d", n)
				}
				after(t, c, 1, calls, calls.Load())
			})
		}
		// A handler that sends a part unasked.
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			w.Header().Set("Content-Range", "bytes 0-2/7")
			if r.URL.Path == "/206" {
				w.WriteHeader(http.StatusPartialContent)
			}
			_, _ = io.WriteString(w, "con")
		})
		c := newCache(t, h, g.opts...)
		for i, target := range []string{"/206", "/206", "/200", "/200"} {
			get(c, target)
			after(t, c, 0, calls, int64(i+1))
		}
	})
}

// A Range costs no more than the whole, whatever is asked for, and shows no byte
// that is not of the body.
func TestSecurity_R12_RangeAbuse(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	data := make([]byte, 256<<10)
	for i := range data {
		data[i] = byte(rnd.Uint32())
	}
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/jpeg")
		_, _ = w.Write(data)
	})
	c := newCache(t, h)
	get(c, "/")
	ranges := []string{
		"bytes=" + strings.Repeat("0-,", 1000) + "0-", "bytes=" + strings.Repeat("5-6,", 1000) + "5-6", "bytes=0-,0-,0-,0-,0-,0-,0-,0-",
		"bytes=0-1,1-2,2-3,3-4,4-5,5-6,6-7,7-8", "bytes=0-1,1-2,2-3,3-4,4-5,5-6,6-7,7-8,8-9",
		"bytes=-9223372036854775808", "bytes=-9223372036854775809", "bytes=-18446744073709551615", "bytes=-99999999999999999999999",
		"bytes=9223372036854775807-", "bytes=9223372036854775808-", "bytes=0-9223372036854775807", "bytes=0-9223372036854775808",
		"bytes=9223372036854775806-9223372036854775807", "bytes=-0", "bytes=0-0,-0", "bytes=-1", "bytes=1-0", "bytes=--1", "bytes=-", "bytes=",
		"bytes=0-0,", "bytes=,", "bytes=a-b", "bytes=0x0-0xf", "bytes=+0-+1", "bytes= 0 - 1 ", "BYTES=0-1", "bytes", "bytes=0-1;2-3", "bytes=0-1\x00",
		fmt.Sprintf("bytes=%d-", len(data)), fmt.Sprintf("bytes=%d-", len(data)-1), fmt.Sprintf("bytes=-%d", len(data)+1),
	}
	for range 2000 {
		ranges = append(ranges, fmt.Sprintf("bytes=%d-%d,-%d", rnd.Int64()>>rnd.IntN(63), rnd.Int64()>>rnd.IntN(63), rnd.Int64()>>rnd.IntN(63)))
	}
	for _, value := range ranges {
		w := httptest.NewRecorder()
		w.Body = bytes.NewBuffer(make([]byte, 0, len(data)+len(data)/10))
		var before, behind runtime.MemStats
		large := len(value) > 1000
		if large {
			runtime.ReadMemStats(&before)
		}
		c.ServeHTTP(w, newRequest("/", "Range", value))
		if large {
			runtime.ReadMemStats(&behind)
			if n := behind.TotalAlloc - before.TotalAlloc; n > 2*uint64(len(data)) {
				t.Errorf("%.40s: %d bytes were allocated", value, n)
			}
		}
		if n := w.Body.Len(); n > len(data)+len(data)/10 {
			t.Errorf("%.60s is answered with %d bytes", value, n)
		}
		res := w.Result()
		switch got := w.Body.Bytes(); res.StatusCode {
		case 200:
			equal(t, "whole", bytes.Equal(got, data), true)
		case 416:
			if v := res.Header.Get("Content-Range"); v != "" && v != fmt.Sprintf("bytes */%d", len(data)) {
				t.Errorf("%.60s: Content-Range: %s", value, v)
			}
		case 206:
			if !partOf(t, data, res.Header, got) {
				t.Errorf("%.60s: %s, and %d other bytes", value, res.Header.Get("Content-Range"), len(got))
			}
		default:
			t.Errorf("%.60s: %d", value, res.StatusCode)
		}
	}
	after(t, c, 1, calls, 1)

	// RFC 9110, section 14.1.2: a suffix of no bytes cannot be satisfied.
	t.Run("nothing", func(t *testing.T) {
		for _, value := range []string{"bytes=-0", "bytes=262144-,-0"} {
			equal(t, value, get(c, "/", "Range", value).StatusCode, 416)
		}
	})
}

// partOf reports whether got is what Content-Range says of data, or parts of it.
func partOf(t testing.TB, data []byte, h http.Header, got []byte) bool {
	kind, parameters, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if kind != "multipart/byteranges" {
		var first, last, length int
		_, err := fmt.Sscanf(h.Get("Content-Range"), "bytes %d-%d/%d", &first, &last, &length)
		// A suffix of no bytes is one to http.ServeContent.
		return err == nil && length == len(data) && 0 <= first && first <= last+1 && last < length && bytes.Equal(got, data[first:last+1])
	}
	for parts := multipart.NewReader(bytes.NewReader(got), parameters["boundary"]); ; {
		p, err := parts.NextPart()
		if err != nil {
			return err == io.EOF
		}
		b, err := io.ReadAll(p)
		if err != nil || !partOf(t, data, http.Header(p.Header), b) {
			return false
		}
	}
}

// Nobody's changes to a header are seen by anybody else: not those of a handler
// that keeps its slices, nor those of middleware around the cache. Run with -race.
func TestSecurity_R13_HeadersAreNotShared(t *testing.T) {
	var mu sync.Mutex
	var kept []http.Header
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		list := make([]string, 1, 8) // room for another's append
		list[0] = "1"
		w.Header()["X-List"] = list
		w.Header().Set("Vary", "X-None")
		w.Header().Set("Cache-Status", "Origin; hit")
		_, _ = io.WriteString(w, text)
		mu.Lock()
		defer mu.Unlock()
		kept = append(kept, w.Header(), http.Header{"X-List": list})
	})
	c := newCache(t, h)
	outer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rw := &meddler{ResponseWriter: w}
		c.ServeHTTP(rw, r)
	})
	for i := range 20 {
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { get(outer, fmt.Sprint("/", i), "Accept-Encoding", "gzip") })
		}
		wg.Wait()
	}
	mu.Lock()
	for _, h := range kept { // the handlers have returned long since
		for _, values := range h {
			values = append(values, "late")
			for j := range values {
				values[j] = "evil"
			}
		}
		h["X-Evil"] = []string{"1"}
	}
	mu.Unlock()
	n := calls.Load()
	for i := range 20 {
		res := get(c, fmt.Sprint("/", i))
		expectLast(t, res, "Accelerator; hit")
		equal(t, "X-List", fmt.Sprint(res.Header["X-List"]), "[1]")
		equal(t, "X-Evil", res.Header.Get("X-Evil"), "")
		equal(t, "X-Meddled", res.Header.Get("X-Meddled"), "")
		equal(t, "Vary", strings.Join(res.Header["Vary"], ", "), "X-None, Accept-Encoding")
		equal(t, "body", body(t, res), text)
	}
	after(t, c, 20, calls, n)
}

func expectLast(t testing.TB, res *http.Response, want string) {
	t.Helper()
	lines := res.Header["Cache-Status"]
	if len(lines) != 2 || lines[0] != "Origin; hit" || !strings.HasPrefix(lines[1], want) {
		t.Errorf("Cache-Status: %q", lines)
	}
}

// A meddler replaces, adds and takes away header values, as middleware may.
type meddler struct{ http.ResponseWriter }

func (m *meddler) WriteHeader(status int) {
	h := m.Header()
	for _, name := range []string{"X-List", "Vary", "Etag", "Cache-Status", "Content-Type"} {
		h.Add(name, "meddled")
	}
	h.Set("X-Meddled", "1")
	h.Del("Content-Length")
	m.ResponseWriter.WriteHeader(status)
}

// What a handler finds out about its writer is what it would find without us,
// over both protocols; and what cannot be stored, with what it does, is not.
func TestSecurity_R14_ResponseController(t *testing.T) {
	for name, test := range map[string]struct {
		use    func(w http.ResponseWriter, rc *http.ResponseController) error
		stored bool
	}{
		"SetReadDeadline": {func(_ http.ResponseWriter, rc *http.ResponseController) error { return rc.SetReadDeadline(time.Time{}) }, true},
		"SetWriteDeadline": {func(_ http.ResponseWriter, rc *http.ResponseController) error {
			return rc.SetWriteDeadline(time.Time{})
		}, true},
		"EnableFullDuplex": {func(_ http.ResponseWriter, rc *http.ResponseController) error { return rc.EnableFullDuplex() }, false},
		"Flush":            {func(_ http.ResponseWriter, rc *http.ResponseController) error { return rc.Flush() }, false},
		"Flusher": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			w.(http.Flusher).Flush()
			return nil
		}, false},
		"Push": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			p, ok := w.(http.Pusher)
			if !ok {
				return errors.New("no Pusher")
			}
			return p.Push("/x", nil)
		}, true},
		"Hijacker": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			_, ok := w.(http.Hijacker)
			return fmt.Errorf("Hijacker: %t", ok)
		}, true},
		"ReaderFrom": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			_, err := io.Copy(w, strings.NewReader("copied, "))
			return err
		}, true},
		"StringWriter": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			_, err := io.WriteString(w, "written, ")
			return err
		}, true},
		"Unwrap": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
				w = u.Unwrap()
			}
			_, err := io.WriteString(w, "beneath, ")
			return err
		}, true},
		"trailer": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			w.Header().Set("Trailer", "X-Sum")
			_, err := io.WriteString(w, "x")
			w.Header().Set("X-Sum", "1")
			return err
		}, false},
		"1xx": {func(w http.ResponseWriter, _ *http.ResponseController) error {
			w.WriteHeader(http.StatusProcessing)
			return nil
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var errs []string
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				err := test.use(w, http.NewResponseController(w))
				mu.Lock()
				errs = append(errs, fmt.Sprint(err))
				mu.Unlock()
				_, _ = io.WriteString(w, brief)
			})
			c := newCache(t, h)
			bare, with := protocols(t, h), protocols(t, c)
			entries, n := int64(0), int64(0)
			for _, protocol := range []string{"HTTP/1.1", "HTTP/2"} {
				fetch := func(s *httptest.Server) fetched {
					res, err := s.Client().Get(s.URL)
					if err != nil {
						return fetched{err: err}
					}
					defer res.Body.Close()
					b, err := io.ReadAll(res.Body)
					for name, values := range res.Trailer {
						res.Header["Trailer:"+name] = values
					}
					for _, name := range []string{"Etag", "Content-Length"} {
						res.Header.Del(name) // what a stored response has got in addition
					}
					return fetched{res.StatusCode, res.Header, string(b), err}
				}
				want := fetch(bare[protocol])
				for range 2 {
					if err := same(fetch(with[protocol]), want); err != nil {
						t.Errorf("%s: %v", protocol, err)
					}
				}
				for i := 1; i < len(errs); i++ {
					equal(t, "error over "+protocol, errs[i], errs[0])
				}
				errs = nil
				n += 3
				if test.stored {
					entries++
					n--
				}
				after(t, c, entries, calls, n)
			}
		})
	}
}
