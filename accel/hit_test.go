package accel_test

import (
	"net/http"
	"testing"

	"github.com/accelhttp/accelerator/accel"
)

// A reused writer: what net/http allocates for a header is not ours.
type reused struct{ h http.Header }

func (w *reused) Header() http.Header         { return w.h }
func (w *reused) Write(p []byte) (int, error) { return len(p), nil }
func (w *reused) WriteHeader(int)             {}

var hitRequests = map[string][]string{
	"zstd":        {"Accept-Encoding", "gzip, deflate, br, zstd", "User-Agent", "test", "Accept", "text/html"},
	"gzip":        {"Accept-Encoding", "gzip"},
	"304":         {"Accept-Encoding", "gzip", "If-None-Match", "*"},
	"proxied":     {"Accept-Encoding", "gzip", "X-Forwarded-For", "1.2.3.4", "X-Forwarded-Proto", "https", "Forwarded", "for=1.2.3.4;proto=https"},
	"other lang":  {"Accept-Encoding", "gzip", "Accept-Language", "de-DE,de;q=0.9"},
	"with cookie": {"Accept-Encoding", "gzip", "Cookie", "a=b"},
}

func hitCache(t testing.TB) *accel.Cache {
	h, _ := page(func(r *http.Request) string { return text })
	return newCacheOver(t, newPlainStore(t), func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/vary" {
			w.Header().Set("Vary", "Accept-Language")
		}
		h(w, r)
	})
}

func TestHitAllocatesNothing(t *testing.T) {
	if racing {
		t.Skip("allocations cannot be counted")
	}
	c := hitCache(t)
	for _, target := range []string{"/a/page?with=query", "/vary"} {
		for name, header := range hitRequests {
			r := newRequest(target, header...)
			w := &reused{http.Header{}}
			c.ServeHTTP(w, r)
			if n := testing.AllocsPerRun(100, func() { c.ServeHTTP(w, r) }); n != 0 {
				t.Errorf("%s, %s: %v allocations", target, name, n)
			}
			if s := w.h.Get("Cache-Status"); len(s) < 16 || s[:16] != "Accelerator; hit" {
				t.Errorf("%s: %s", name, s)
			}
		}
	}
}

func BenchmarkHit(b *testing.B) {
	c := hitCache(b)
	for name, header := range hitRequests {
		b.Run(name, func(b *testing.B) {
			r := newRequest("/a/page?with=query", header...)
			w := &reused{http.Header{}}
			c.ServeHTTP(w, r)
			b.ReportAllocs()
			for b.Loop() {
				c.ServeHTTP(w, r)
			}
		})
	}
}
