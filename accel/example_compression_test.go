package accel_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// A handler writes plain bytes. Each client gets the coding it likes best.
func Example_compression() {
	page := func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("ETag", `"v1"`)
		_, _ = io.WriteString(w, strings.Repeat("<p>Hello!</p>", 100))
	}
	cache := accel.New(http.HandlerFunc(page), memstore.New())
	defer cache.Close()

	for _, accept := range []string{"gzip, br, zstd", "gzip", "identity"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		cache.ServeHTTP(w, r)
		fmt.Printf("%q %s\n", w.Header().Get("Content-Encoding"), w.Header().Get("ETag"))
	}
	// Output:
	// "zstd" "v1-zstd"
	// "gzip" "v1-gzip"
	// "" "v1"
}
