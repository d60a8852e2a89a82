package accel_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// users is a data layer. Whoever reads through it depends on what it reads, and
// need not know about caching.
type users map[string]string

func (u users) name(ctx context.Context, id string) string {
	accel.Tag(ctx, "user:"+id)
	return u[id]
}

func (u users) rename(ctx context.Context, id, name string) error {
	u[id] = name // commit first, then invalidate
	return accel.FromContext(ctx).InvalidateTag(ctx, "user:"+id)
}

// Tags are set where data is read, and invalidated where it is written: exactly
// the pages made from it are rendered again.
func ExampleTag() {
	db := users{"1": "Ada", "2": "Grace"}
	site := http.NewServeMux()
	site.HandleFunc("GET /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("rendering", r.URL.Path)
		accel.CacheFor(r.Context(), time.Hour)
		fmt.Fprint(w, "Hello, ", db.name(r.Context(), r.PathValue("id")))
	})
	site.HandleFunc("POST /users/{id}", func(w http.ResponseWriter, r *http.Request) {
		if err := db.rename(r.Context(), r.PathValue("id"), r.URL.Query().Get("name")); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	cache := accel.New(site, memstore.New())
	defer cache.Close()

	ask := func(method, target string) {
		w := httptest.NewRecorder()
		cache.ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if method == "GET" {
			fmt.Println(w.Body)
		}
	}
	ask("GET", "/users/1")
	ask("GET", "/users/2")
	ask("POST", "/users/1?name=Ada+Lovelace")
	ask("GET", "/users/1")
	ask("GET", "/users/2")
	// Output:
	// rendering /users/1
	// Hello, Ada
	// rendering /users/2
	// Hello, Grace
	// rendering /users/1
	// Hello, Ada Lovelace
	// Hello, Grace
}

// A URL is invalidated on one host, or on all of them.
func ExampleCache_InvalidateURL() {
	cache := accel.New(http.NotFoundHandler(), memstore.New())
	defer cache.Close()

	ctx := context.Background()
	fmt.Println(cache.InvalidateURL(ctx, "https://example.com/news?page=2"))
	fmt.Println(cache.InvalidateURL(ctx, "/news?page=2"))
	fmt.Println(cache.InvalidateURL(ctx, "/news#top"))
	// Output:
	// <nil>
	// <nil>
	// accel: invalid URL: it has a fragment, which no client sends: "/news#top"
}
