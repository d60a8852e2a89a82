package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/examples/godoc/page"
	"github.com/accelhttp/accelerator/memstore"
)

// sink is a ResponseWriter that keeps its header map, as net/http does for a
// connection, and counts.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(c int)   { s.status = c }
func (s *sink) Write(p []byte) (int, error) {
	s.bytes += len(p)
	return len(p), nil
}

func (s *sink) reset() {
	clear(s.header)
	s.status, s.bytes = 0, 0
}

// contents are what the benchmarks serve: real pages.
func contents(tb testing.TB) map[string][]byte {
	lib, err := page.Open("")
	require.NoError(tb, err)
	defer lib.Close()
	html, err := lib.Package(context.Background(), "unicode/utf8")
	require.NoError(tb, err)
	var json bytes.Buffer
	json.WriteString(`{"users":[`)
	for i := 0; json.Len() < 1000; i++ {
		fmt.Fprintf(&json, `{"id":%d,"name":"user %d","since":%d},`, i, i*i, 2000+i)
	}
	json.WriteString(`null]}`)
	return map[string][]byte{"json": json.Bytes(), "html": html.HTML}
}

func handler(content map[string][]byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[1:5]
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "content:"+name, "all", "page:"+r.URL.Path)
		w.Header().Set("Content-Type", map[string]string{"json": "application/json", "html": "text/html; charset=utf-8"}[name])
		_, _ = w.Write(content[name])
	})
}

func request(path string, header ...string) *http.Request {
	r := httptest.NewRequest("GET", path, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func stores(b *testing.B) map[string]func() accel.Store {
	quiet := boltstore.WithLogger(slog.New(slog.DiscardHandler))
	open := func(opts ...boltstore.Option) accel.Store {
		s := boltstore.Open(filepath.Join(b.TempDir(), "cache.db"), append(opts, quiet)...)
		require.NoError(b, s.Ping(context.Background()))
		return s
	}
	return map[string]func() accel.Store{
		"memstore":  func() accel.Store { return memstore.New() },
		"boltstore": func() accel.Store { return open() },
		"disk":      func() accel.Store { return open(boltstore.WithMemory(0)) },
	}
}

// BenchmarkHit is one request for a page that is there.
func BenchmarkHit(b *testing.B) {
	content := contents(b)
	for _, name := range []string{"json", "html"} {
		b.Run("content="+name, func(b *testing.B) {
			r := request("/"+name, "Accept-Encoding", "gzip, deflate, br")
			b.Run("by=floor", func(b *testing.B) {
				fields := map[string][]string{
					"Content-Type": {"text/html"}, "Content-Encoding": {"gzip"}, "Vary": {"Accept-Encoding"},
					"Etag": {`"abc-gzip"`}, "Content-Length": {"1000"}, "Cache-Status": {"Accelerator; hit"},
				}
				w := &sink{header: http.Header{}}
				body := content[name][:len(content[name])/4]
				b.ReportAllocs()
				for b.Loop() {
					w.reset()
					for k, v := range fields {
						w.header[k] = v
					}
					_, _ = w.Write(body)
				}
			})
			for by, open := range stores(b) {
				b.Run("by="+by, func(b *testing.B) {
					c := accel.New(handler(content), open())
					defer c.Close()
					w := &sink{header: http.Header{}}
					require.Eventually(b, func() bool {
						w.reset()
						c.ServeHTTP(w, r)
						return bytes.Contains([]byte(w.header.Get("Cache-Status")), []byte("; hit")) && c.Stats().Store.QueueBytes == 0
					}, 10*time.Second, time.Millisecond)
					b.ReportAllocs()
					b.SetBytes(int64(w.bytes))
					for b.Loop() {
						w.reset()
						c.ServeHTTP(w, r)
					}
				})
			}
		})
	}
}

// BenchmarkMiss is a request that renders, compresses and stores.
func BenchmarkMiss(b *testing.B) {
	content := contents(b)
	for _, name := range []string{"json", "html"} {
		for by, open := range stores(b) {
			b.Run("content="+name+"/by="+by, func(b *testing.B) {
				c := accel.New(handler(content), open())
				defer c.Close()
				w := &sink{header: http.Header{}}
				b.ReportAllocs()
				b.SetBytes(int64(len(content[name])))
				n := 0
				for b.Loop() {
					w.reset()
					n++
					c.ServeHTTP(w, request("/"+name+"?n="+strconv.Itoa(n), "Accept-Encoding", "gzip"))
				}
			})
		}
	}
}

// BenchmarkInvalidate is a tag of so many entries, made invalid and durable.
func BenchmarkInvalidate(b *testing.B) {
	content := contents(b)
	for _, entries := range []int{1, 1000} {
		b.Run("entries="+strconv.Itoa(entries), func(b *testing.B) {
			c := accel.New(handler(content), stores(b)["boltstore"]())
			defer c.Close()
			w := &sink{header: http.Header{}}
			fill := func() {
				for i := range entries {
					w.reset()
					c.ServeHTTP(w, request("/json?n="+strconv.Itoa(i)))
				}
				for c.Stats().Store.QueueBytes > 0 {
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				fill()
				b.StartTimer()
				if err := c.InvalidateTag(context.Background(), "all"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
