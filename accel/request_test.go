package accel_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// What must not meet the cache: the handler has the client's own writer, its
// answer bears no Cache-Status, nothing is stored, and FromContext works.
func TestPass(t *testing.T) {
	for name, change := range map[string]func(*http.Request){
		"POST":              func(r *http.Request) { r.Method = "POST" },
		"lower case":        func(r *http.Request) { r.Method = "get" },
		"body":              func(r *http.Request) { r.ContentLength = 3; r.Body = io.NopCloser(strings.NewReader("a=b")) },
		"unknown length":    func(r *http.Request) { r.ContentLength = -1 },
		"chunked":           func(r *http.Request) { r.TransferEncoding = []string{"chunked"} },
		"upgrade":           func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
		"upgrade only said": func(r *http.Request) { r.Header.Set("Connection", "keep-alive, Upgrade") },
		"override 1":        func(r *http.Request) { r.Header.Set("X-HTTP-Method-Override", "DELETE") },
		"override 2":        func(r *http.Request) { r.Header.Set("X-HTTP-Method", "DELETE") },
		"override 3":        func(r *http.Request) { r.Header.Set("X-Method-Override", "DELETE") },
		"override for CGI":  func(r *http.Request) { r.Header.Set("X_HTTP_Method_Override", "DELETE") },
		"no host":           func(r *http.Request) { r.Host = "" },
		"opaque target":     func(r *http.Request) { r.RequestURI = "foo:bar" },
		"expect":            func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
		"range":             func(r *http.Request) { r.Header.Set("Range", "bytes=0-1") },
	} {
		t.Run(name, func(t *testing.T) {
			var c *accel.Cache
			var got http.ResponseWriter
			c = newCache(t, func(w http.ResponseWriter, r *http.Request) {
				got = w
				accel.CacheFor(r.Context(), time.Hour)
				accel.Tag(r.Context(), "x")
				accel.NoStore(r.Context())
				if accel.FromContext(r.Context()) != c {
					t.Error("FromContext does not return the cache")
				}
				_, _ = io.WriteString(w, "x")
			})
			for range 2 {
				r := newRequest("/")
				change(r)
				w := httptest.NewRecorder()
				c.ServeHTTP(w, r)
				if got != http.ResponseWriter(w) {
					t.Errorf("the handler got a %T", got)
				}
				if s := w.Header().Get("Cache-Status"); s != "" {
					t.Errorf("Cache-Status: %s", s)
				}
			}
			s := c.Stats()
			if s.Passes != 2 || s.Stored != 0 || s.Hits+s.Misses != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// net/http removes the temporary files of MultipartForm, and middleware reports
// the Pattern, of the request that it made.
func TestPassCopiesBack(t *testing.T) {
	form := new(multipart.Form)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /a/{x}", func(w http.ResponseWriter, r *http.Request) { r.MultipartForm = form })
	mux.HandleFunc("GET /a/{x}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.PathValue("x")) })
	c := newCache(t, mux.ServeHTTP)
	r := httptest.NewRequest("POST", "/a/b", nil)
	do(c, r)
	if r.MultipartForm != form || r.Pattern != "POST /a/{x}" {
		t.Errorf("MultipartForm %v, Pattern %q", r.MultipartForm, r.Pattern)
	}
	r = newRequest("/a/b")
	do(c, r)
	equal(t, "Pattern", r.Pattern, "GET /a/{x}")
}

// Who has a tag that we made of the handler's, and makes a change depend on it,
// is understood by the handler.
func TestPassUndoesETag(t *testing.T) {
	var got []string
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header["If-Match"] })
	for sent, want := range map[string]string{
		`"v1-gzip"`:             `["\"v1-gzip\"" "\"v1\""]`,
		`"a", "v,1-zstd" , "b"`: `["\"a\", \"v,1-zstd\" , \"b\""]`,
		`"v1-zstd","v2-gzip"`:   `["\"v1-zstd\",\"v2-gzip\"" "\"v1\", \"v2\""]`,
		`"v1"`:                  `["\"v1\""]`,
		`W/"v1-gzip"`:           `["W/\"v1-gzip\""]`,
		`*`:                     `["*"]`,
	} {
		r := newRequest("/", "If-Match", sent)
		r.Method = http.MethodPut
		do(c, r)
		equal(t, "If-Match", fmt.Sprintf("%q", got), want)
		equal(t, "client's If-Match", r.Header.Get("If-Match"), sent)
	}
}

// Outside a request, and in one without a cache, nothing happens.
func TestVerbsWithoutCache(t *testing.T) {
	ctx := t.Context()
	accel.CacheFor(ctx, time.Hour)
	accel.Tag(ctx, "x")
	accel.NoStore(ctx)
	c := accel.FromContext(ctx)
	if c != nil {
		t.Errorf("FromContext: %v", c)
	}
	for _, err := range []error{
		c.InvalidateTag(ctx, "x"), c.ExpireTag(ctx, "x"), c.InvalidateURL(ctx, "/"), c.InvalidateAll(ctx), c.Close(),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	_ = c.Stats()
}

// Two requests are one to the cache only if they are one to every handler.
func TestKeysAreApart(t *testing.T) {
	base := func() *http.Request { return newRequest("/a/b?c=d") }
	withTarget := func(target string) func(*http.Request) {
		return func(r *http.Request) {
			r.RequestURI = target
			u, err := url.ParseRequestURI(target)
			if err != nil {
				t.Fatal(err)
			}
			r.URL = u
		}
	}
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header[http.CanonicalHeaderKey(name)] = append(r.Header[http.CanonicalHeaderKey(name)], value)
		}
	}
	both := func(f, g func(*http.Request)) func(*http.Request) { return func(r *http.Request) { f(r); g(r) } }
	apart := map[string]func(*http.Request){
		"plain":                func(*http.Request) {},
		"https":                func(r *http.Request) { r.TLS = new(tls.ConnectionState) },
		"host":                 func(r *http.Request) { r.Host = "evil.example" },
		"port":                 func(r *http.Request) { r.Host = "example.com:80" },
		"escaped slash":        withTarget("/a%2fb?c=d"),
		"escaped Slash":        withTarget("/a%2Fb?c=d"),
		"no query":             withTarget("/a/b"),
		"empty query":          withTarget("/a/b?"),
		"shifted":              withTarget("/a/bc?=d"),
		"other order":          withTarget("/a/b?c=d&"),
		"trailing slash":       withTarget("/a/b/?c=d"),
		"double slash":         withTarget("//a/b?c=d"),
		"dots":                 withTarget("/a/./b?c=d"),
		"case":                 withTarget("/A/b?c=d"),
		"semicolon":            withTarget("/a/b;x?c=d"),
		"escaped hash":         withTarget("/a/b%23x?c=d"),
		"nul":                  withTarget("/a/b%00?c=d"),
		"rewritten path":       func(r *http.Request) { r.URL.Path = "/b" },
		"rewritten raw":        func(r *http.Request) { r.URL.RawPath = "/a%2fb" },
		"rewritten query":      func(r *http.Request) { r.URL.RawQuery = "c=e" },
		"force query":          func(r *http.Request) { r.URL.ForceQuery = true },
		"url host":             func(r *http.Request) { r.URL.Host = "backend" },
		"for CGI":              header("X_Forwarded_Host", "evil"),
		"forwarded host":       header("Forwarded", "for=1.2.3.4;host=evil"),
		"forwarded other host": header("Forwarded", "for=1.2.3.4;host=evil2"),
		"forwarded two":        header("Forwarded", "host=evil, host=evil2"),
		"forwarded quotes":     header("Forwarded", `for="1;host=evil`),
		"forwarded quotes 2":   header("Forwarded", `for="2;host=evil`),
		"forwarded escape":     header("Forwarded", `for="\";host=evil"`),
		"forwarded inner":      header("Forwarded", `host="a;for=b"`),
		"forwarded inner 2":    header("Forwarded", `host="a;for=c"`),
		"forwarded proto":      header("Forwarded", "proto=https"),
		"forwarded lines":      both(header("Forwarded", "proto=https"), header("Forwarded", "proto=http")),
		"two hosts":            both(header("X-Forwarded-Host", "a"), header("X-Forwarded-Host", "b")),
		"two hosts, one line":  header("X-Forwarded-Host", "a, b"),
	}
	for _, name := range accel.KeyedHeaders() {
		if name != "Forwarded" {
			apart[name] = header(name, "evil.example")
			apart[name+" empty"] = header(name, "")
		}
	}
	n := 0
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		accel.CacheFor(r.Context(), time.Hour)
		fmt.Fprint(w, n)
	})
	seen := map[string]string{}
	for name, change := range apart {
		for range 2 {
			r := base()
			change(r)
			b := body(t, do(c, r))
			if other, ok := seen[b]; ok && other != name {
				t.Errorf("%q and %q share a response", name, other)
			}
			seen[b] = name
		}
	}
	equal(t, "handler calls", n, len(apart))

	for name, change := range map[string]func(*http.Request){
		"host in capitals": func(r *http.Request) { r.Host = "EXAMPLE.com" },
		"absolute form": func(r *http.Request) {
			r.RequestURI = "http://example.com/a/b?c=d"
			r.URL.Host = "example.com"
			r.URL.Scheme = "http"
		},
		"client address":    header("X-Forwarded-For", "1.2.3.4"),
		"forwarded for":     header("Forwarded", `for="[2001:db8::1]:4711"; by=_x`),
		"accept-encoding":   header("Accept-Encoding", "gzip"),
		"unknown X- header": header("X-Requested-With", "XMLHttpRequest"),
	} {
		do(c, base()) // a resource keeps sixteen variants only
		r := base()
		change(r)
		res := do(c, r)
		if name == "forwarded for" {
			// Its presence is part of the key; the addresses are not.
			r = base()
			r.Header.Set("Forwarded", "for=9.9.9.9;by=_y")
			expect(t, do(c, r), "hit")
			continue
		}
		if status(res) != "hit" {
			t.Errorf("%s: %s", name, status(res))
		}
	}
}

func TestWithKey(t *testing.T) {
	h, calls := page(func(r *http.Request) string { return r.Header.Get("X-Tenant") })
	c := newCache(t, h, accel.WithKey(func(r *http.Request) string { return r.Header.Get("X-Tenant") }))
	for range 2 {
		for _, tenant := range []string{"", "a", "b"} {
			equal(t, "body", body(t, get(c, "/", "X-Tenant", tenant)), tenant)
		}
	}
	equal(t, "handler calls", calls.Load(), 3)
	// A URL is invalidated whatever was added to its key.
	if err := c.InvalidateURL(t.Context(), "http://example.com/"); err != nil {
		t.Error(err)
	}
	expect(t, get(c, "/", "X-Tenant", "a"), "fwd=uri-miss; stored")
}

// RFC 9111, section 4.1.
func TestVary(t *testing.T) {
	n := 0
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		n++
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Add("vary", "accept-language")
		w.Header().Add("Vary", "X-Device, Accept-Encoding")
		// A handler may do what it likes with its request; the variant is that of
		// the client's.
		r.Header.Set("X-Device", "changed")
		fmt.Fprint(w, n)
	})
	requests := [][]string{
		{},
		{"Accept-Language", "de"},
		{"Accept-Language", "en"},
		{"Accept-Language", "en", "X-Device", "phone"},
		{"X-Device", "phone"},
		{"X-Device", ""},
	}
	for round := range 2 {
		for i, header := range requests {
			res := get(c, "/", header...)
			equal(t, "body", body(t, res), fmt.Sprint(i+1))
			if round == 1 {
				expect(t, res, "hit")
			}
		}
	}
	expect(t, get(c, "/", "Accept-Language", " de "), "hit")
	expect(t, get(c, "/", "Accept-Language", "it"), "fwd=vary-miss; stored")
}

// A handler that never asked sees what its client sent; one that did is asked
// for the whole.
func TestConditionsOnMiss(t *testing.T) {
	modified := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	file := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.txt", modified, strings.NewReader("content"))
	})
	get(file, "/")
	equal(t, "status", get(file, "/", "If-Modified-Since", modified.Format(http.TimeFormat)).StatusCode, 304)
	equal(t, "status", get(file, "/", "Range", "bytes=1-2").StatusCode, 206)

	cached := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "t")
		http.ServeContent(w, r, "a.txt", modified, strings.NewReader("content"))
	})
	get(cached, "/")
	if err := cached.InvalidateTag(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	res := get(cached, "/", "Range", "bytes=1-2")
	equal(t, "status", res.StatusCode, 206)
	equal(t, "body", body(t, res), "on")
	expect(t, res, "fwd=uri-miss; stored")
	expect(t, get(cached, "/"), "hit")

	// The first request ever is conditional: the handler's 304 goes through, and
	// the next is asked for the whole.
	fresh := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		http.ServeContent(w, r, "a.txt", modified, strings.NewReader("content"))
	})
	for _, want := range []string{"fwd=uri-miss; detail=status", "fwd=uri-miss; stored", "hit"} {
		res := get(fresh, "/", "If-Modified-Since", modified.Format(http.TimeFormat))
		equal(t, "status", res.StatusCode, 304)
		expect(t, res, want)
	}
}

// Design, section 4, rule 13.
func TestRule13_NestedCaches(t *testing.T) {
	h, calls := page(func(r *http.Request) string {
		accel.Tag(r.Context(), "t")
		return brief
	})
	// A Wrap inside New.
	mux := http.NewServeMux()
	one := newCache(t, mux.ServeHTTP)
	mux.Handle("/", one.Wrap(h))
	for range 2 {
		equal(t, "body", body(t, get(one, "/")), brief)
	}
	equal(t, "handler calls", calls.Load(), 1)
	if err := one.InvalidateTag(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	expect(t, get(one, "/"), "fwd=uri-miss; stored")

	// Two caches: what is said inside counts outside, also when the inner one
	// answers and its handler does not run.
	inner := newCache(t, h)
	outer := newCache(t, inner.ServeHTTP)
	for _, prepare := range []func(){
		func() {},
		func() { get(inner, "/2") },
	} {
		prepare()
		get(outer, "/2")
		res := get(outer, "/2")
		if got := res.Header["Cache-Status"]; len(got) != 2 || !strings.HasPrefix(got[1], "Accelerator; hit") {
			t.Errorf("Cache-Status: %q", got)
		}
		equal(t, "body", body(t, res), brief)
		if err := outer.InvalidateTag(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if got := get(outer, "/2").Header["Cache-Status"]; strings.Contains(got[len(got)-1], "; hit") {
			t.Errorf("Cache-Status after the purge: %q", got)
		}
		for _, c := range []*accel.Cache{inner, outer} {
			if err := c.InvalidateAll(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}
