package rfc9111_test

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestRFC9110_9_2_1_IsSafe(t *testing.T) {
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"} {
		assert.True(t, rfc9111.IsSafe(method), method)
		assert.False(t, rfc9111.IsSafe(strings.ToLower(method)), method)
		assert.False(t, rfc9111.IsSafe(method+" "), method)
	}
	for _, method := range []string{"", "POST", "PUT", "DELETE", "PATCH", "CONNECT", "MOVE", "COPY", "MKCOL", "PROPPATCH", "LOCK", "PURGE", "M-SEARCH", "X"} {
		assert.False(t, rfc9111.IsSafe(method), method)
	}
}

func TestRFC9111_4_4_Invalidates(t *testing.T) {
	for status := range 700 {
		want := status >= 200 && status < 400
		for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "FOO", "get", ""} {
			assert.Equal(t, want, rfc9111.Invalidates(method, status), "%s %d", method, status)
		}
		assert.False(t, rfc9111.Invalidates("GET", status))
		assert.False(t, rfc9111.Invalidates("HEAD", status))
	}
}

func TestRFC9110_4_3_1_SameOrigin(t *testing.T) {
	const none = "" // refused
	for _, c := range []struct{ target, reference, want string }{
		// RFC 3986, 5.4.1, with a base of http://a.example/b/c/d;p?q
		{"/b/c/d;p?q", "g", "/b/c/g"},
		{"/b/c/d;p?q", "./g", "/b/c/g"},
		{"/b/c/d;p?q", "g/", "/b/c/g/"},
		{"/b/c/d;p?q", "/g", "/g"},
		{"/b/c/d;p?q", "?y", "/b/c/d;p?y"},
		{"/b/c/d;p?q", "g?y", "/b/c/g?y"},
		{"/b/c/d;p?q", "#s", "/b/c/d;p?q"},
		{"/b/c/d;p?q", "g#s", "/b/c/g"},
		{"/b/c/d;p?q", "g?y#s", "/b/c/g?y"},
		{"/b/c/d;p?q", ";x", "/b/c/;x"},
		{"/b/c/d;p?q", "g;x?y#s", "/b/c/g;x?y"},
		{"/b/c/d;p?q", ".", "/b/c/"},
		{"/b/c/d;p?q", "./", "/b/c/"},
		{"/b/c/d;p?q", "..", "/b/"},
		{"/b/c/d;p?q", "../", "/b/"},
		{"/b/c/d;p?q", "../g", "/b/g"},
		{"/b/c/d;p?q", "../..", "/"},
		{"/b/c/d;p?q", "../../", "/"},
		{"/b/c/d;p?q", "../../g", "/g"},
		// 5.4.2
		{"/b/c/d;p?q", "../../../g", "/g"},
		{"/b/c/d;p?q", "../../../../g", "/g"},
		{"/b/c/d;p?q", "/./g", "/g"},
		{"/b/c/d;p?q", "/../g", "/g"},
		{"/b/c/d;p?q", "g.", "/b/c/g."},
		{"/b/c/d;p?q", ".g", "/b/c/.g"},
		{"/b/c/d;p?q", "g..", "/b/c/g.."},
		{"/b/c/d;p?q", "..g", "/b/c/..g"},
		{"/b/c/d;p?q", "./../g", "/b/g"},
		{"/b/c/d;p?q", "./g/.", "/b/c/g/"},
		{"/b/c/d;p?q", "g/./h", "/b/c/g/h"},
		{"/b/c/d;p?q", "g/../h", "/b/c/h"},
		{"/b/c/d;p?q", "g;x=1/../y", "/b/c/y"},
		{"/b/c/d;p?q", "g?y/../x", "/b/c/g?y/../x"},
		{"/b/c/d;p?q", "g#s/../x", "/b/c/g"},
		{"/b/c/d;p?q", "http:g", none},
		{"/b/c/d;p?q", "g:h", none},
		// absolute, and the same origin
		{"/x", "http://a.example/y", "/y"},
		{"/x", "HTTP://A.EXAMPLE:80/y?q#f", "/y?q"},
		{"/x", "http://a.example:/y", "/y"},
		{"/x", "http://a.example", "/"},
		{"/x", "http://a.example?q", "/?q"},
		{"/x", "http://a.example#f", "/"},
		{"/x", "//a.example/y", "/y"},
		{"/x", "//a.example:80", "/"},
		{"/x", "//a.example/b/../y", "/y"},
		{"/x", " /y\t", "/y"},
		{"/x?a=/b", "y", "/y"},
		{"//x/y", "z", "//x/z"},
		{"//x/y", "?z", "//x/y?z"},
		{"/x", "http://a.example//y", "//y"},
		{"/x", "/y?", "/y?"},
		// as it is written
		{"/x", "/a%2fb%2Fc", "/a%2fb%2Fc"},
		{"/x", "/%61", "/%61"},
		{"/x", "/a//b", "/a//b"},
		{"/x", "/a-._~;b=c,d'(e)!*$&+@:", "/a-._~;b=c,d'(e)!*$&+@:"},
		{"/x", "/y?a[b]=c&u=http://evil.example/?", "/y?a[b]=c&u=http://evil.example/?"},
		{"/x", "/http://evil.example/", "/http://evil.example/"},
		{"/x", "y?a:b", "/y?a:b"},
		{"/x", "./y:z", "/y:z"},
		// another origin
		{"/x", "http://evil.example/y", none},
		{"/x", "https://a.example/y", none},
		{"/x", "http://a.example:8080/y", none},
		{"/x", "http://a.example:443/y", none},
		{"/x", "http://a.example./y", none},
		{"/x", "http://b.a.example/y", none},
		{"/x", "http://a.example.evil.example/y", none},
		{"/x", "//evil.example/y", none},
		{"/x", "//evil", none},
		{"/x", "ftp://a.example/y", none},
		{"/x", "javascript:alert(1)", none},
		{"/x", "data:text/plain,a", none},
		{"/x", "mailto:a@a.example", none},
		// userinfo
		{"/x", "http://u@a.example/y", none},
		{"/x", "http://u:p@a.example/y", none},
		{"/x", "http://a.example@evil.example/y", none},
		{"/x", "http://a.example:80@evil.example/y", none},
		{"/x", "//@a.example/y", none},
		// what one client reads like this and the other like that
		{"/x", "", none},
		{"/x", "  ", none},
		{"/x", "http:y", none},
		{"/x", "http:/y", none},
		{"/x", "http:", none},
		{"/x", "http://", none},
		{"/x", "http:///y", none},
		{"/x", "http:?y", none},
		{"/x", "http:////a.example/y", none},
		{"/x", "//", none},
		{"/x", "///y", none},
		{"/x", "///a.example/y", none},
		{"/x", "//:80/y", none},
		{"/x", "://a.example/y", none},
		{"/x", ":", none},
		{"/x", "1:2", none},
		{"/x", `\\evil.example`, none},
		{"/x", `/\evil.example`, none},
		{"/x", `http:\\a.example\y`, none},
		{"/x", `http://a.example\@evil.example/y`, none},
		{"/x", "/a b", none},
		{"/x", "/a\tb", none},
		{"/x", "/a\r\nb", none},
		{"/x", "/a\x00b", none},
		{"/x", "/a\x7f", none},
		{"/x", "ht\ntp://a.example/y", none},
		{"/x", "/\u00e4", none},
		{"/x", "/%", none},
		{"/x", "/%2", none},
		{"/x", "/%zz", none},
		{"/x", `/"`, none},
		{"/x", "/<>", none},
		{"/x", "/{y}", none},
		{"/x", "/y|z", none},
		{"/x", "/%2g", none},
		{"/x", "/%g2", none},
		{"/x", "/a/%2e%2e/y", none},
		{"/x", "/a/.%2E/y", none},
		{"/x", "/a/%2e", none},
		{"/x", "/a/%2e%2e%2e/y", "/a/%2e%2e%2e/y"},
		{"/x", "/a/.../y", "/a/.../y"},
		{"/x", "/a?%2e%2e/y", "/a?%2e%2e/y"},
		// no origin form
		{"*", "/y", none},
		{"", "/y", none},
		{"http://a.example/x", "y", none},
	} {
		got, ok := rfc9111.SameOrigin("http", "a.example", c.target, c.reference)
		assert.Equal(t, c.want, got, "%q at %q", c.reference, c.target)
		assert.Equal(t, c.want != none, ok, "%q at %q", c.reference, c.target)
	}

	for _, c := range []struct {
		scheme, host, reference string
		ok                      bool
	}{
		{"https", "A.example:443", "https://a.EXAMPLE/y", true},
		{"https", "a.example", "https://a.example:443/y", true},
		{"https", "a.example", "https://a.example:80/y", false},
		{"https", "a.example", "http://a.example/y", false},
		{"https", "a.example", "//a.example/y", true},
		{"http", "a.example:8080", "http://a.example:8080/y", true},
		{"http", "a.example:8080", "http://a.example/y", false},
		{"http", "[::1]", "http://[::1]:80/y", true},
		{"http", "[::1]:80", "http://[::1]/y", true},
		{"http", "[::1]:8080", "http://[::1]:80/y", false},
		{"http", "[::1]", "http://[::2]/y", false},
		{"http", "", "/y", true},
		{"http", "", "http:///y", false},
		{"http", "", "http://:80/y", false},
	} {
		got, ok := rfc9111.SameOrigin(c.scheme, c.host, "/x", c.reference)
		assert.Equal(t, c.ok, ok, "%+v", c)
		if c.ok {
			assert.Equal(t, "/y", got, "%+v", c)
		}
	}
}

func FuzzSameOrigin(f *testing.F) {
	for _, s := range []string{
		"/y", "../y?q#f", "http://a.example/y", "//evil/x", `\\evil`, "http:foo", "http://u@a.example", "?", "#", "/%2e%2e/", "a:b", "//a.example:80", "///",
	} {
		f.Add("/b/c?d", s)
	}
	f.Fuzz(func(t *testing.T, target, reference string) {
		got, ok := rfc9111.SameOrigin("http", "a.example", target, reference)
		if !ok {
			if got != "" {
				t.Fatalf("%q at %q: %q, refused", reference, target, got)
			}
			return
		}
		if !strings.HasPrefix(got, "/") {
			t.Fatalf("%q at %q: %q", reference, target, got)
		}
		u, err := url.Parse(strings.Trim(reference, " \t"))
		if err != nil {
			t.Fatalf("%q: %v", reference, err)
		}
		if host := strings.ToLower(u.Host); u.User != nil || u.Opaque != "" || host != "" && host != "a.example" && host != "a.example:" && host != "a.example:80" {
			t.Fatalf("%q is of another origin: %q", reference, got)
		}
		if !plain.MatchString(target) {
			return // it is used as it is
		}
		again, ok := rfc9111.SameOrigin("HTTP", "A.example:80", "/", "http://a.example"+got)
		if !ok || again != got {
			t.Fatalf("%q at %q: %q, then %q", reference, target, got, again)
		}
		// net/url agrees about what it need not encode, except that it removes
		// one of two slashes at the beginning.
		base, err := url.Parse("http://a.example" + target)
		if err != nil || strings.Contains(reference, "%") || u.Path == "" {
			return
		}
		path, _, _ := strings.Cut(got, "?")
		if want := base.ResolveReference(u).EscapedPath(); want != path && "/"+want != path {
			t.Fatalf("%q at %q: %q, net/url says %q", reference, target, path, want)
		}
	})
}

// plain are targets without encodings and dot segments.
var plain = regexp.MustCompile(`^/[a-z0-9/:@;=]*(?:\?[a-z0-9/:@;=?]*)?$`)
