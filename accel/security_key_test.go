package accel_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// A tuple has the fields that a key is made of.
type tuple struct{ host, target, path, rawPath, query, extra string }

func (x tuple) material() string {
	r := &http.Request{
		Method: "GET", Host: x.host, RequestURI: x.target, Header: http.Header{"X-Extra": {x.extra}},
		URL: &url.URL{Path: x.path, RawPath: x.rawPath, RawQuery: x.query},
	}
	return accel.ResourceOf(r, func(r *http.Request) string { return r.Header.Get("X-Extra") })
}

// No two tuples of fields make one key, wherever one of them ends and the next
// begins.
func TestSecurity_K1_KeyIsInjective(t *testing.T) {
	part := rapid.StringOfN(rapid.RuneFrom([]rune("ab/?=&%;\x01\x02")), 0, 6, -1)
	draw := func(t *rapid.T, name string) tuple {
		return tuple{
			"h" + part.Draw(t, name+" host"), "/" + part.Draw(t, name+" target"), part.Draw(t, name+" path"),
			part.Draw(t, name+" raw"), part.Draw(t, name+" query"), part.Draw(t, name+" extra"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := draw(t, "a"), draw(t, "b")
		if a != b && a.material() == b.material() {
			t.Fatalf("%+v and %+v have one key", a, b)
		}
	})

	// Out of so few letters that many of them have the same concatenation.
	n := 1_000_000
	if racing || testing.Short() {
		n = 50_000
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	word := func() string {
		b := make([]byte, rnd.IntN(4))
		for i := range b {
			b[i] = "a/?\x01"[rnd.IntN(4)]
		}
		return string(b)
	}
	seen := make(map[accel.Digest]tuple, n)
	for range n {
		x := tuple{"h" + word(), "/" + word(), word(), word(), word(), word()}
		key := accel.Digest(sha256.Sum256([]byte(x.material())))
		if y, ok := seen[key]; ok && y != x {
			t.Fatalf("%+v and %+v have one key", x, y)
		}
		seen[key] = x
	}

	h, calls := page(func(r *http.Request) string { return r.Host + " " + r.RequestURI })
	c := newCache(t, h)
	pairs := [][2]string{
		{"http://h/a?b=1", "http://h/ab?=1"}, {"http://h/x", "http://h/x?"}, {"http://h/p/q", "http://h.p/q"},
		{"http://h/80/p", "http://h:80/p"}, {"http://h/a?b", "http://h/a/b"},
	}
	for range 2 {
		for _, pair := range pairs {
			for _, u := range pair {
				r := newRequest(u)
				r.RequestURI = "/" + strings.SplitN(u, "/", 4)[3] // as a client sends it
				equal(t, "body", body(t, do(c, r)), r.Host+" "+r.RequestURI)
			}
		}
	}
	after(t, c, 10, calls, 10)
}

// A collider is a store in which all keys are one, as if its hash had collided.
type collider struct {
	accel.Store
	entry *accel.Entry
}

func (s *collider) Get(context.Context, accel.Key, []string) (accel.Found, error) {
	if s.entry == nil {
		return accel.Found{}, accel.ErrNotFound
	}
	return accel.Found{Entry: s.entry}, nil
}

func (s *collider) Put(e, _ *accel.Entry) error {
	s.entry = e
	return nil
}

// Of two URLs, and of two variants, whose digests are the same each gets its own
// page: the text of the key is compared as well.
func TestSecurity_K2_KeyTextIsCompared(t *testing.T) {
	for name, requests := range map[string][]func() *http.Request{
		"URLs": {
			func() *http.Request { return newRequest("/1") },
			func() *http.Request { return newRequest("/2") },
		},
		"variants": {
			func() *http.Request { return newRequest("/", "X-Forwarded-Host", "a") },
			func() *http.Request { return newRequest("/", "X-Forwarded-Host", "b") },
			func() *http.Request { return newRequest("/") },
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := func(r *http.Request) string { return r.URL.Path + r.Header.Get("X-Forwarded-Host") }
			h, calls := page(text)
			s := &collider{Store: memstore.New()}
			c := newCacheOver(t, s, h)
			for i, request := range requests {
				for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
					r := request()
					res := do(c, r)
					equal(t, "body", body(t, res), text(r))
					expect(t, res, want)
				}
				equal(t, "a mismatch was counting", c.Stats().KeyMismatches > 0, i > 0)
				equal(t, "handler calls", calls.Load(), int64(i+1))
			}
			equal(t, "entry", s.entry.Resource, accel.ResourceOf(requests[len(requests)-1](), nil))
		})
	}
}

// The query is a part of the key as it is.
func TestSecurity_K3_QueryInKey(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			_, _ = io.WriteString(w, "for "+r.URL.RawQuery)
		})
		c := newCache(t, h, g.opts...)
		for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
			for _, query := range []string{"id=1", "id=2", "id=1&", "ID=1", "id=1&id=2", "id=2&id=1", ""} {
				res := get(c, "/?"+query)
				equal(t, "body", body(t, res), "for "+query)
				expect(t, res, want)
			}
		}
		after(t, c, 7, calls, 7)
	})
}

// There is no list of allowed hosts: the Host is in the key, so that a made-up
// one gets a page of its own, and is the only one to get it. A request without
// one meets no cache.
func TestSecurity_K4_HostInKey(t *testing.T) {
	h, calls := page(func(r *http.Request) string { return "<a href=//" + r.Host + "/>" })
	c := newCache(t, h)
	s := newServer(t, c)
	addr := s.Listener.Addr().String()
	hosts := []string{"evil.example", "a.example", "b.example", "a.example:8080", "a.example.", "evil.example:a"}
	for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
		for _, host := range hosts {
			got := sendRaw(t, addr, asking("GET", "/", host))
			if !strings.Contains(got, "<a href=//"+host+"/>") || !strings.Contains(got, "Accelerator; "+want) {
				t.Errorf("host %s, %s: %s", host, want, got)
			}
		}
	}
	after(t, c, int64(len(hosts)), calls, int64(len(hosts)))
	if got := sendRaw(t, addr, asking("GET", "/", "A.EXAMPLE")); !strings.Contains(got, "a.example/") || !strings.Contains(got, "Accelerator; hit") {
		t.Errorf("the host in capitals is another: %s", got)
	}
	after(t, c, int64(len(hosts)), calls, int64(len(hosts)))

	// HTTP/1.0 may leave it out, HTTP/1.1 may leave it empty.
	for i, request := range []string{"GET / HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
		got := sendRaw(t, addr, request)
		if !strings.Contains(got, "<a href=///>") || strings.Contains(got, "Cache-Status") {
			t.Errorf("without a host: %s", got)
		}
		after(t, c, int64(len(hosts)), calls, int64(len(hosts)+i+1))
	}
}

// The absolute form is the same question as the origin form with that host,
// whatever the Host field says. What else it can say handlers see in r.URL, and
// may write into links: that is part of the key.
func TestSecurity_K5_AbsoluteForm(t *testing.T) {
	h, calls := page(func(r *http.Request) string {
		return fmt.Sprintf("host %s, scheme %q, user %q", r.Host, r.URL.Scheme, r.URL.User)
	})
	c := newCache(t, h)
	addr := newServer(t, c).Listener.Addr().String()

	for _, target := range []string{"javascript://other/x", "https://other/x", "http://evil:pw@other/x"} {
		got := sendRaw(t, addr, asking("GET", target, "other"))
		if !strings.Contains(got, "fwd=uri-miss") {
			t.Errorf("%s: %s", target, got)
		}
	}
	equal(t, "handler calls", calls.Load(), 3)
	if got := sendRaw(t, addr, asking("GET", "/x", "other")); !strings.HasSuffix(got, `host other, scheme "", user ""`) {
		t.Errorf("a client is told scheme or user of another: %s", got)
	}
	for _, host := range []string{"other", "example.com", "evil.example"} {
		got := sendRaw(t, addr, asking("GET", "http://other/x", host))
		if !strings.HasSuffix(got, `host other, scheme "", user ""`) || !strings.Contains(got, "Accelerator; hit") {
			t.Errorf("the absolute form with Host %s: %s", host, got)
		}
	}
	after(t, c, 4, calls, 4)
}

// A page made for http, with links and redirects to http, is not the one for
// https. The scheme is that of the connection; what a proxy says of it is in the
// key beside it, as handlers read it.
func TestSecurity_K6_SchemeInKey(t *testing.T) {
	h, calls := page(func(r *http.Request) string {
		return fmt.Sprint(r.TLS != nil, r.Header.Get("X-Forwarded-Proto"))
	})
	c := newCache(t, h)
	ask := func(secure bool, header ...string) *http.Response {
		r := newRequest("/", header...)
		r.TLS = nil
		if secure {
			r.TLS = &tls.ConnectionState{}
		}
		return do(c, r)
	}
	for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
		for _, secure := range []bool{false, true} {
			for _, said := range []string{"", "https", "http", "HTTPS"} {
				var header []string
				if said != "" {
					header = []string{"X-Forwarded-Proto", said}
				}
				res := ask(secure, header...)
				equal(t, "body", body(t, res), fmt.Sprint(secure, said))
				expect(t, res, want)
			}
		}
	}
	after(t, c, 8, calls, 8)
}

// Over HTTP/2 a client may send what no library sends: a Host beside :authority,
// odd schemes and paths. Nobody else gets what comes of it.
func TestSecurity_K7_HTTP2PseudoHeaders(t *testing.T) {
	h, calls := page(func(r *http.Request) string {
		return fmt.Sprintf("host %q, field %q, URL %q", r.Host, r.Header["Host"], r.URL)
	})
	c := newCache(t, h)
	s := httptest.NewUnstartedServer(c)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	addr := s.Listener.Addr().String()

	const victim = `host "shop.example", field [], URL "/"`
	fields := func(extra ...string) []string {
		return append([]string{":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", "/"}, extra...)
	}
	for name, attack := range map[string][]string{
		"host beside authority": fields("host", "evil.example"),
		"two hosts":             fields("host", "shop.example", "host", "evil.example"),
		"two authorities":       fields(":authority", "evil.example"),
		"other scheme":          {":method", "GET", ":scheme", "javascript", ":authority", "shop.example", ":path", "/"},
		"https":                 {":method", "GET", ":scheme", "https", ":authority", "shop.example", ":path", "/"},
		"absolute path":         {":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", "http://evil.example/"},
		"path of an authority":  {":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", "//evil.example/"},
		"path without slash":    {":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", "evil"},
		"star":                  {":method", "GET", ":scheme", "http", ":authority", "shop.example", ":path", "*"},
		"no path":               {":method", "GET", ":scheme", "http", ":authority", "shop.example"},
		"user in authority":     {":method", "GET", ":scheme", "http", ":authority", "evil@shop.example", ":path", "/"},
		"host alone":            {":method", "GET", ":scheme", "http", "host", "shop.example", ":path", "/"},
		"capitals":              fields("Host", "evil.example"),
		"line break":            fields("x-forwarded-host", "a\r\nhost: evil.example"),
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.InvalidateAll(t.Context()); err != nil {
				t.Fatal(err)
			}
			n := calls.Load()
			sendHTTP2(t, addr, attack)
			sendHTTP2(t, addr, attack)
			if n := calls.Load() - n; n > 2 {
				t.Errorf("%d handler calls for two requests", n)
			}
			equal(t, "body", sendHTTP2(t, addr, fields()), victim)
			n, entries := calls.Load(), c.Stats().Store.Entries
			equal(t, "body", sendHTTP2(t, addr, fields()), victim) // a hit
			after(t, c, entries, calls, n)
		})
	}
}

// sendHTTP2 sends one request of exactly these fields, over a connection of its
// own and without encryption. It returns the body, or "" if the server does not
// answer the stream.
func sendHTTP2(t testing.TB, addr string, fields []string) string {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))

	// RFC 9113, section 4.1: length, type, flags, stream. RFC 7541, section
	// 6.2.2: fields that are in no table, without Huffman's code.
	const typeData, typeHeaders, typeReset, typeSettings, typeGoAway = 0, 1, 3, 4, 7
	const endStream, endHeaders = 1, 4
	frame := func(kind, flags byte, stream uint32, payload []byte) []byte {
		b := []byte{0, byte(len(payload) >> 8), byte(len(payload)), kind, flags}
		return append(binary.BigEndian.AppendUint32(b, stream), payload...)
	}
	var block []byte
	for i := 0; i < len(fields); i += 2 {
		block = append(block, 0, byte(len(fields[i])))
		block = append(block, fields[i]...)
		block = append(block, byte(len(fields[i+1])))
		block = append(block, fields[i+1]...)
	}
	request := append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(typeSettings, 0, 0, nil)...)
	request = append(request, frame(typeHeaders, endStream|endHeaders, 1, block)...)
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}

	var answer strings.Builder
	for head := make([]byte, 9); ; {
		if _, err := io.ReadFull(conn, head); err != nil {
			return ""
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(conn, payload); err != nil {
			return ""
		}
		switch kind, flags := head[3], head[4]; {
		case kind == typeReset, kind == typeGoAway:
			return ""
		case kind == typeData:
			answer.Write(payload)
			fallthrough
		case kind == typeHeaders:
			if flags&endStream != 0 {
				return answer.String()
			}
		}
	}
}

// Two targets that differ by a byte are two, whatever some server takes for the
// same: nothing is decoded, cleaned, sorted or cut off. (The delimiters that
// PortSwigger lists in "Gotta cache 'em all".)
func TestSecurity_K8_PathsAreNotNormalised(t *testing.T) {
	pairs := [][2]string{
		{"/a%2fb", "/a/b"}, {"/a%2Fb", "/a%2fb"}, {"/a%252fb", "/a%2fb"}, {"/a%5cb", `/a\b`}, {`/a\b`, "/a/b"},
		{"/a/../b", "/b"}, {"/a/%2e%2e/b", "/b"}, {"/a/%2e%2e/b", "/a/../b"}, {"/a/..%2fb", "/b"}, {"/a/..;/b", "/a/../b"},
		{"/a/./b", "/a/b"}, {"/a/.", "/a/"}, {"/a.", "/a"}, {"/a%2e", "/a."}, {"//a", "/a"}, {"/a//b", "/a/b"}, {"//evil/x", "/x"},
		{"/a/", "/a"}, {"/A", "/a"}, {"/%61", "/a"}, {"/a;x", "/a"}, {"/a;x.css", "/a;x"}, {"/a%3bx", "/a;x"}, {"/a;", "/a"},
		{"/a%00", "/a"}, {"/a%00.css", "/a"}, {"/a%0a", "/a"}, {"/a%0d%0aX:y", "/a"}, {"/a%09", "/a"}, {"/a%20", "/a"}, {"/a+b", "/a%20b"},
		{"/a%23x", "/a#x"}, {"/a#x", "/a"}, {"/a%3fb", "/a?b"}, {"/a?", "/a"}, {"/a??", "/a?"}, {"/a?b", "/a?b="}, {"/a?b#c", "/a?b"},
		{"/a?b=1&c=2", "/a?c=2&b=1"}, {"/a?b=%31", "/a?b=1"}, {"/a?b=1;c=2", "/a?b=1&c=2"}, {"/a?b=1&b=2", "/a?b=2"}, {"/a?b=+", "/a?b=%20"},
		{"/a.css", "/a"}, {"/a/x.css", "/a"}, {"/a%2fx.css", "/a/x.css"}, {"/a!b", "/a%21b"}, {"/a~", "/a%7e"}, {"/a:b", "/a%3ab"},
		{"/a,b", "/a%2cb"}, {"/a@b", "/a%40b"}, {"/a$", "/a%24"}, {"/%c3%a9", "/%C3%A9"}, {"/é", "/%c3%a9"}, {"/%e9", "/%c3%a9"}, {"/[a]", "/%5ba%5d"},
	}
	refused := 0
	for _, pair := range pairs {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.WriteString(w, "page of "+r.RequestURI)
		})
		c := newCache(t, h)
		n := int64(0)
		for _, target := range pair {
			if _, err := parsed(target); err != nil {
				refused++ // net/http has answered 400
				continue
			}
			n++
			for range 2 {
				r, _ := parsed(target)
				equal(t, "body", body(t, do(c, r)), "page of "+target)
			}
		}
		after(t, c, n, calls, n)
	}
	if refused > 5 {
		t.Errorf("%d targets were refused by net/http; the table is to be read again", refused)
	}
}

// Web cache deception: nothing is stored for looking static. Only the response
// says what it is, and a private page that says nothing is not stored.
func TestSecurity_K9_LooksAreNothing(t *testing.T) {
	for name, opts := range map[string][]accel.Option{
		"OptIn":              nil,
		"RFC9111":            {accel.WithPolicy(accel.RFC9111)},
		"RFC9111, heuristic": {accel.WithPolicy(accel.RFC9111), accel.WithHeuristicFreshness(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/css")
				w.Header().Set("ETag", `"v1"`)
				w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
				_, _ = io.WriteString(w, "account of "+r.Header.Get("Cookie"))
			})
			c := newCache(t, h, opts...)
			for i, target := range []string{"/account/x.css", "/account;x.js", "/account%2fx.png", "/account?x.jpg", "/static/../account", "/robots.txt"} {
				get(c, target, "Cookie", "u=victim")
				after(t, c, 0, calls, int64(2*i+1))
				equal(t, "body", body(t, get(c, target, "Cookie", "u=attacker")), "account of u=attacker")
				after(t, c, 0, calls, int64(2*i+2))
			}
		})
	}
}

// Parameter cloaking: no parameter is ever taken off, so there is nothing to
// disagree about.
func TestSecurity_K10_NoParameterIsCutOff(t *testing.T) {
	h, calls := page(func(r *http.Request) string { return "id " + r.URL.RawQuery })
	c := newCache(t, h)
	queries := []string{
		"utm=1;id=2", "id=2", "utm=1&id=2", "id=2;utm=1", "utm_content=1;id=2", "%75tm=1&id=2", "utm%3d1&id=2", "utm=1%26id=2",
		"id=1&utm=1;id=2", "id=1&utm=1", "id=1", "?id=1", "&id=1", "id[]=1",
	}
	for range 2 {
		for _, query := range queries {
			equal(t, "body", body(t, get(c, "/x?"+query)), "id "+query)
		}
	}
	after(t, c, int64(len(queries)), calls, int64(len(queries)))
}

// A fat GET: its body changes the answer and is in no key.
func TestSecurity_K11_BodyOfGET(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			b, _ := io.ReadAll(r.Body)
			_, _ = io.WriteString(w, "results for "+string(b)+".")
		})
		c := newCache(t, h, g.opts...)
		addr := newServer(t, c).Listener.Addr().String()
		for i, request := range []string{
			asking("GET", "/x", "h", "Content-Length: 6") + "q=evil",
			asking("GET", "/x", "h", "Transfer-Encoding: chunked") + "6\r\nq=evil\r\n0\r\n\r\n",
		} {
			got := sendRaw(t, addr, request)
			if !strings.HasSuffix(got, "results for q=evil.") && !strings.Contains(got, "results for q=evil.") || strings.Contains(got, "Cache-Status") {
				t.Errorf("the fat GET: %s", got)
			}
			after(t, c, 0, calls, int64(i+1))
		}
		for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
			got := sendRaw(t, addr, asking("GET", "/x", "h"))
			if !strings.HasSuffix(got, "results for .") || !strings.Contains(got, want) {
				t.Errorf("the next GET: %s", got)
			}
		}
		// With an entry there it is not answered from it either.
		if got := sendRaw(t, addr, asking("GET", "/x", "h", "Content-Length: 6")+"q=evil"); !strings.HasSuffix(got, "results for q=evil.") {
			t.Errorf("a fat GET was answered from the store: %s", got)
		}
		after(t, c, 1, calls, 4)
	})
}

// A GET that says it is a DELETE is nobody's page, and "get" is another method.
func TestSecurity_K12_MethodOverride(t *testing.T) {
	for _, name := range []string{
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "x-http-method-override", "X_HTTP_Method_Override", "X_Method_Override",
	} {
		for _, value := range []string{"DELETE", "POST", "GET"} {
			h, calls := page(func(r *http.Request) string { return "overridden: " + fmt.Sprint(len(r.Header) > 0) })
			c := newCache(t, h)
			for i := range 2 {
				r, err := parsed("/", name+": "+value)
				if err != nil {
					t.Fatal(err)
				}
				equal(t, "body", body(t, do(c, r)), "overridden: true")
				after(t, c, 0, calls, int64(i+1))
			}
			equal(t, "body", body(t, get(c, "/")), "overridden: false")
			after(t, c, 1, calls, 3)
		}
	}
	h, calls := page(func(r *http.Request) string { return r.Method })
	c := newCache(t, h)
	for i, method := range []string{"get", "Get", "GET ", "head", "G3T"} {
		r := newRequest("/")
		r.Method = method
		equal(t, "body", body(t, do(c, r)), method)
		after(t, c, 0, calls, int64(i+1))
	}
	equal(t, "body", body(t, get(c, "/")), "GET")
}

// The answer to HEAD has no body to give to a GET.
func TestSecurity_K13_HEADIsNotStored(t *testing.T) {
	inBoth(t, func(t *testing.T, g regime) {
		h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
			g.allow(w, r)
			if r.Method != http.MethodHead {
				_, _ = io.WriteString(w, text)
			}
		})
		c := newCache(t, h, g.opts...)
		head := func() *http.Response {
			r := newRequest("/")
			r.Method = http.MethodHead
			return do(c, r)
		}
		expect(t, head(), "fwd=uri-miss; detail=method")
		after(t, c, 0, calls, 1)
		res := get(c, "/")
		expect(t, res, "fwd=uri-miss; stored")
		equal(t, "body", body(t, res), text)
		after(t, c, 1, calls, 2)

		res = head()
		expect(t, res, "hit")
		equal(t, "body of HEAD", body(t, res), "")
		equal(t, "Content-Length of HEAD", res.Header.Get("Content-Length"), fmt.Sprint(len(text)))
		equal(t, "body", body(t, get(c, "/")), text)
		after(t, c, 1, calls, 2)
	})
}

// RFC 9111, section 4.4: what an unsafe method was successfully done to is
// dropped, and what it names of the same origin; nobody can have another's pages
// dropped. By OptIn it is the application that purges.
func TestSecurity_K14_UnsafeMethods(t *testing.T) {
	const base = "http://example.com"
	for _, test := range []struct {
		method, field, value string
		status               int
		drops                string
	}{
		{"POST", "", "", 200, base + "/x"},
		{"PUT", "", "", 204, base + "/x"},
		{"PATCH", "", "", 303, base + "/x"},
		{"DELETE", "", "", 200, base + "/x"},
		{"FROBNICATE", "", "", 200, base + "/x"},
		{"POST", "", "", 403, ""},
		{"DELETE", "", "", 500, ""},
		{"OPTIONS", "", "", 200, ""},
		{"POST", "Location", "/y", 201, base + "/x " + base + "/y"},
		{"POST", "Content-Location", base + "/y", 200, base + "/x " + base + "/y"},
		{"POST", "Location", "//other.example/y", 201, base + "/x"},
		{"POST", "Content-Location", "https://example.com/y", 200, base + "/x"},
		{"POST", "Location", "http://example.com:8080/y", 201, base + "/x"},
		{"POST", "Location", `http://example.com\@other.example/y`, 201, base + "/x"},
		{"POST", "Location", "/y", 404, ""},
	} {
		for name, g := range regimes {
			t.Run(fmt.Sprint(name, " ", test.method, " ", test.status, " ", test.value), func(t *testing.T) {
				h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
					g.allow(w, r)
					if r.Method != http.MethodGet {
						if test.field != "" {
							w.Header().Set(test.field, test.value)
						}
						w.WriteHeader(test.status)
					}
					if test.status != http.StatusNoContent || r.Method == http.MethodGet {
						_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
					}
				})
				c := newCache(t, h, g.opts...)
				pages := []string{base + "/x", base + "/y", "http://other.example/y", "http://example.com:8080/y"}
				for _, u := range pages {
					get(c, u)
				}
				r := newRequest(base + "/x")
				r.Method = test.method
				res := do(c, r)
				equal(t, "status", res.StatusCode, test.status)
				if test.status != http.StatusNoContent {
					equal(t, "body", body(t, res), test.method+" /x") // its own, never the stored one
				}
				drops := test.drops
				if name == "OptIn" {
					drops = ""
				}
				n := int64(0)
				for _, u := range pages {
					want := "hit"
					if strings.Contains(" "+drops+" ", " "+u+" ") {
						want = "fwd=uri-miss; stored"
						n++
					}
					res := get(c, u)
					expect(t, res, want)
					equal(t, "body", body(t, res), "GET "+u[strings.LastIndex(u, "/"):])
				}
				after(t, c, 4, calls, 5+n)
			})
		}
	}
}
