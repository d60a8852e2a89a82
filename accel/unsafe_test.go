package accel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/accelhttp/accelerator/accel"
)

// A form is a site whose GETs are fresh for an hour, and whose other methods are
// answered as it is told.
type form struct {
	gets   atomic.Int64
	status int
	header [][2]string
	answer func(http.ResponseWriter, *http.Request)
}

func (f *form) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet {
		w.Header().Set("Cache-Control", "max-age=3600")
		if g := r.URL.Query().Get("group"); g != "" {
			w.Header().Set("Cache-Groups", g)
		}
		fmt.Fprint(w, f.gets.Add(1))
		return
	}
	for _, h := range f.header {
		w.Header().Add(h[0], h[1])
	}
	if f.answer != nil {
		f.answer(w, r)
		return
	}
	w.WriteHeader(f.status)
}

func send(h http.Handler, method, target string, header ...string) *http.Response {
	r := httptest.NewRequest(method, target, strings.NewReader("a=b"))
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return do(h, r)
}

// RFC 9111, section 4.4: which requests drop what, of what is stored for /a, /b
// and another host's /a.
func TestUnsafeMethods(t *testing.T) {
	const a, b, other = "http://example.com/a", "http://example.com/b?c=d", "http://other.example/a"
	for _, test := range []struct {
		name, method string
		status       int
		header       [][2]string
		dropped      []string
	}{
		{"POST", "POST", 200, nil, []string{a}},
		{"PUT, 204", "PUT", 204, nil, []string{a}},
		{"DELETE, 303", "DELETE", 303, nil, []string{a}},
		{"unknown", "FROBNICATE", 200, nil, []string{a}},
		{"lower case", "post", 200, nil, []string{a}},
		{"refused", "POST", 403, nil, nil},
		{"failed", "POST", 500, nil, nil},
		{"OPTIONS", "OPTIONS", 200, nil, nil},
		{"PROPFIND", "PROPFIND", 207, nil, nil},
		{"Location", "POST", 201, [][2]string{{"Location", "/b?c=d"}}, []string{a, b}},
		{"absolute", "POST", 201, [][2]string{{"Location", "HTTP://Example.com:80/b?c=d#e"}}, []string{a, b}},
		{"Content-Location", "POST", 200, [][2]string{{"Content-Location", "b?c=d"}}, []string{a, b}},
		{"another origin's", "POST", 201, [][2]string{{"Location", "http://other.example/a"}}, []string{a}},
		{"another scheme's", "POST", 201, [][2]string{{"Location", "https://example.com/b?c=d"}}, []string{a}},
		{"two", "POST", 201, [][2]string{{"Location", "/b?c=d"}, {"Location", "/x"}}, []string{a}},
		{"failed with Location", "POST", 503, [][2]string{{"Location", "/b?c=d"}}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &form{status: test.status, header: test.header}
			c := newCache(t, f.ServeHTTP, accel.WithPolicy(accel.RFC9111))
			for _, u := range []string{a, b, other} {
				get(c, u)
			}
			res := send(c, test.method, a)
			equal(t, "status", res.StatusCode, test.status)
			for _, u := range []string{a, b, other} {
				want := "hit"
				for _, d := range test.dropped {
					if d == u {
						want = "fwd=uri-miss; stored"
					}
				}
				if got := status(get(c, u)); got != want {
					t.Errorf("%s: %s, want %s", u, got, want)
				}
			}
		})
	}
}

// All variants of a URL are dropped, and a handler that writes nothing has
// succeeded.
func TestUnsafeMethodDropsVariants(t *testing.T) {
	f := &form{answer: func(w http.ResponseWriter, r *http.Request) {}}
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept-Language")
		f.ServeHTTP(w, r)
	}, accel.WithPolicy(accel.RFC9111))
	for _, lang := range []string{"de", "en"} {
		get(c, "/", "Accept-Language", lang)
	}
	equal(t, "Cache-Status", send(c, "POST", "/").Header.Get("Cache-Status"), "Accelerator; fwd=method")
	for _, lang := range []string{"de", "en"} {
		if s := status(get(c, "/", "Accept-Language", lang)); s == "hit" {
			t.Errorf("%s: %s", lang, s)
		}
	}
}

// By OptIn a request with another method has its handler's own writer, and drops
// nothing: the application says what changed.
func TestUnsafeMethodByOptIn(t *testing.T) {
	var saw http.ResponseWriter
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), 1e12)
		saw = w
	})
	get(c, "/")
	w := httptest.NewRecorder()
	c.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/", nil))
	equal(t, "the client's writer", saw, http.ResponseWriter(w))
	get(c, "/")
	equal(t, "entries", c.Stats().Store.Entries, 0) // an empty answer is not stored
}

// The body arrives, the handler may stream, and the invalidation is there before
// the client can know that it succeeded.
func TestUnsafeMethodPassesThrough(t *testing.T) {
	f := &form{}
	c := newCache(t, f.ServeHTTP, accel.WithPolicy(accel.RFC9111))
	srv := httptest.NewServer(c)
	defer srv.Close()
	fetch := func() string {
		res, err := srv.Client().Get(srv.URL + "/a")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		_, _ = io.Copy(io.Discard, res.Body)
		return status(res)
	}
	goOn := make(chan struct{})
	f.answer = func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-After")
		fmt.Fprintf(w, "got %s", b)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
		<-goOn
		w.Header().Set("X-After", "1")
	}
	fetch()
	equal(t, "before", fetch(), "hit")
	res, err := srv.Client().Post(srv.URL+"/a", "text/plain", strings.NewReader("all of it"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	equal(t, "as soon as the header is there", fetch(), "fwd=uri-miss; stored")
	close(goOn)
	equal(t, "body", body(t, res), "got all of it")
	equal(t, "trailer", res.Trailer.Get("X-After"), "1")
}

// A store that fails at the invalidation is nothing that the client hears of.
func TestUnsafeMethodWhenTheStoreFails(t *testing.T) {
	f := &form{status: 200}
	c := newCacheOver(t, stubborn{newStore(t)}, f.ServeHTTP, accel.WithPolicy(accel.RFC9111))
	equal(t, "status", send(c, "POST", "/a").StatusCode, 200)
	equal(t, "store errors", c.Stats().StoreErrors, 1)
}

type stubborn struct{ accel.Store }

func (s stubborn) Invalidate(context.Context, ...accel.Mark) error { return errors.New("no") }

// RFC 9875: a group is one of its origin, and only the response to an unsafe
// method invalidates it.
func TestCacheGroups(t *testing.T) {
	const (
		scripts = `http://example.com/js?group="scripts"`
		both    = `http://example.com/all?group="styles",+"scripts"%3Bx`
		upper   = `http://example.com/up?group="Scripts"`
		other   = `http://other.example/js?group="scripts"`
	)
	all := []string{scripts, both, upper, other}
	f := &form{status: 500, header: [][2]string{{"Cache-Group-Invalidation", `"none", "scripts"`}}}
	c := newCache(t, f.ServeHTTP, accel.WithPolicy(accel.RFC9111))
	expectAll := func(want ...string) {
		t.Helper()
		for i, u := range all {
			if got := status(get(c, u)); got != want[i] {
				t.Errorf("%s: %s, want %s", u, got, want[i])
			}
		}
	}
	const miss, hit = "fwd=uri-miss; stored", "hit"
	for _, u := range all {
		res := get(c, u)
		expect(t, res, miss)
		if res.Header.Get("Cache-Groups") == "" {
			t.Error("Cache-Groups was not sent on")
		}
	}
	send(c, "OPTIONS", "http://example.com/x")
	expectAll(hit, hit, hit, hit)
	send(c, "POST", "http://example.com/x")
	expectAll(miss, miss, hit, hit)

	// To the application a group is a tag, whosever it is.
	if err := c.InvalidateTag(context.Background(), "scripts"); err != nil {
		t.Fatal(err)
	}
	expectAll(miss, miss, hit, miss)

	// A field that cannot be read invalidates nothing, and is nothing to be
	// found by.
	f.header = [][2]string{{"Cache-Group-Invalidation", `"scripts`}}
	send(c, "POST", "http://example.com/x")
	expectAll(hit, hit, hit, hit)
	expect(t, get(c, `http://example.com/?group=scripts`), "fwd=uri-miss; detail=invalid-tag")
}

// Tags in headers are tags, and are taken off unless the site sends them on.
func TestTagHeaders(t *testing.T) {
	for _, test := range []struct {
		name string
		opts []accel.Option
		sent string
	}{
		{"default", nil, "X-Internal"},
		{"all", []accel.Option{accel.WithStrippedHeaders()}, "Cache-Tag Surrogate-Control Surrogate-Key X-Internal"},
		{"others", []accel.Option{accel.WithStrippedHeaders("cache-tag", "x-internal")}, "Surrogate-Control Surrogate-Key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
				h := w.Header()
				h.Set("Surrogate-Control", "max-age=60")
				h.Set("X-Internal", "1")
				h["surrogate-key"] = []string{"a  b"}
				h.Add("Cache-Tag", "c, d")
				_, _ = io.WriteString(w, text)
			}, test.opts...)
			for _, tag := range []string{"a", "b", "c", "d"} {
				for _, want := range []string{"fwd=uri-miss; stored", "hit"} {
					res := get(c, "/", "Accept-Encoding", "gzip")
					expect(t, res, want)
					var sent []string
					for _, name := range []string{"Cache-Tag", "Surrogate-Control", "Surrogate-Key", "X-Internal"} {
						for key := range res.Header {
							if http.CanonicalHeaderKey(key) == name {
								sent = append(sent, name)
							}
						}
					}
					equal(t, "sent on", strings.Join(sent, " "), test.sent)
				}
				if err := c.InvalidateTag(context.Background(), tag); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// RFC 9110, section 9.3.3: the response to a POST that says it is what GET would
// bring.
func TestPostWithContentLocation(t *testing.T) {
	for _, test := range []struct {
		name   string
		header [][2]string
		during func(*accel.Cache)
		want   string
	}{
		{"its own", [][2]string{{"Content-Location", "/a"}, {"Cache-Control", "max-age=60"}}, nil, "hit"},
		{"another's", [][2]string{{"Content-Location", "/b"}, {"Cache-Control", "max-age=60"}}, nil, "fwd=uri-miss; stored"},
		{"no lifetime", [][2]string{{"Content-Location", "/a"}, {"Etag", `"a"`}}, nil, "fwd=uri-miss; stored"},
		{"private", [][2]string{{"Content-Location", "/a"}, {"Cache-Control", "max-age=60, private"}}, nil, "fwd=uri-miss; stored"},
		{"purged meanwhile", [][2]string{{"Content-Location", "/a"}, {"Cache-Control", "max-age=60"}, {"Cache-Tag", "t"}},
			func(c *accel.Cache) { _ = c.InvalidateTag(context.Background(), "t") }, "fwd=uri-miss; stored"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var c *accel.Cache
			f := &form{header: test.header}
			f.answer = func(w http.ResponseWriter, r *http.Request) {
				if test.during != nil {
					test.during(c)
				}
				_, _ = io.WriteString(w, "posted")
			}
			c = newCache(t, f.ServeHTTP, accel.WithPolicy(accel.RFC9111))
			get(c, "/a")
			res := send(c, "POST", "/a", "If-Match", `"x"`, "Range", "bytes=0-1")
			equal(t, "body", body(t, res), "posted")
			res = get(c, "/a")
			expect(t, res, test.want)
			want := "2"
			if test.want == "hit" {
				want = "posted"
			}
			equal(t, "body", body(t, res), want)
		})
	}
}
