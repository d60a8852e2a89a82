package accel_test

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// A site behind a cache: the second request does not reach the handler.
func Example() {
	site := http.NewServeMux()
	site.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("the handler runs")
		accel.CacheFor(r.Context(), time.Hour)
		_, _ = io.WriteString(w, "Hello!")
	})
	cache := accel.New(site, memstore.New())
	defer cache.Close()

	for range 2 {
		w := httptest.NewRecorder()
		cache.ServeHTTP(w, httptest.NewRequest("GET", "/hello", nil))
		fmt.Println(w.Body)
	}
	// Output:
	// the handler runs
	// Hello!
	// Hello!
}

// A router that takes middleware gets it from Wrap.
func ExampleCache_Wrap() {
	noon := func() time.Time { return time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC) }
	cache := accel.New(nil, memstore.New(memstore.WithClock(noon)), accel.WithClock(noon))
	defer cache.Close()

	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Minute)
		_, _ = io.WriteString(w, "a page")
	})
	site := http.NewServeMux()
	site.Handle("GET /page", cache.Wrap(page))

	for range 2 {
		w := httptest.NewRecorder()
		site.ServeHTTP(w, httptest.NewRequest("GET", "/page", nil))
		fmt.Println(w.Header().Get("Cache-Status"))
	}
	// Output:
	// Accelerator; fwd=uri-miss; stored
	// Accelerator; hit; ttl=60
}

// What a response depends on besides its URL and Vary is added to its key.
func ExampleWithKey() {
	tenants := map[string]string{"a.example": "red", "b.example": "blue", "www.b.example": "blue"}
	theme := func(r *http.Request) string { return tenants[r.Host] }

	cache := accel.New(http.NotFoundHandler(), memstore.New(), accel.WithKey(theme))
	defer cache.Close()
}

func ExampleWithLogger() {
	logger := slog.New(slog.DiscardHandler)
	cache := accel.New(http.NotFoundHandler(), memstore.New(), accel.WithLogger(logger))
	defer cache.Close()
}

// A page may be served for a while after its time is up: while it is rendered
// anew, and when that fails.
func ExampleCacheFor_stale() {
	page := func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Minute,
			accel.StaleWhileRevalidate(10*time.Second),
			accel.StaleIfError(time.Hour))
		_, _ = io.WriteString(w, "a page")
	}
	cache := accel.New(http.HandlerFunc(page), memstore.New())
	defer cache.Close()
}

func ExampleCache_Stats() {
	page := func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Minute)
		_, _ = io.WriteString(w, "a page")
	}
	cache := accel.New(http.HandlerFunc(page), memstore.New())
	defer cache.Close()

	for range 10 {
		cache.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	}
	stats := cache.Stats()
	fmt.Println(stats.Hits, "hits,", stats.Misses, "miss")
	// Output: 9 hits, 1 miss
}
