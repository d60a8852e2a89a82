package reference

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/memstore"
)

// What TestProperty has found, as short as it can be told.

// found is a cache of h whose clock is set by hand, and a way to ask it.
func found(t *testing.T, h http.HandlerFunc, opts ...accel.Option) (*storetest.Clock, func(header ...string) string) {
	clock := storetest.NewClock()
	c := accel.New(h, memstore.New(memstore.WithClock(clock.Now)),
		append(opts, accel.WithClock(clock.Now), accel.WithLogger(slog.New(slog.DiscardHandler)))...)
	t.Cleanup(func() { _ = c.Close() })
	return clock, func(header ...string) string {
		r := httptest.NewRequest("GET", "/", nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		return w.Header().Get("Cache-Status")
	}
}

// A Range on a page whose last variant has expired: the first look-up finds that
// there are variants, and removes this one; the second knows of none. The request
// must be passed with the handler's own writer, or the handler be asked for the
// whole. It was neither, and the 206 had the page remembered for an hour as one
// that is not for storing.
func TestRangeOnExpiredVariant(t *testing.T) {
	var saw []string
	clock, get := found(t, func(w http.ResponseWriter, r *http.Request) {
		saw = r.Header["Range"]
		accel.CacheFor(r.Context(), 2*time.Second)
		w.Header().Set("Vary", "X-Variant")
		http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader("0123456789"))
	})
	get()
	clock.Advance(2 * time.Hour) // what is remembered of the page has been forgotten, too
	if status := get("Range", "bytes=0-4"); saw != nil && status != "" {
		t.Errorf("the handler was asked for %q, and the answer is %q", saw, status)
	}
}

// A 412 answers a condition of one client, and says nothing of the page. Where it
// was not storable by itself, for want of a lifetime, it had the stored page
// dropped: anybody could do that, by a tag he made up.
func TestFailedConditionDropsNothing(t *testing.T) {
	_, get := found(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Etag", `"v1"`)
		w.Header().Set("Cache-Control", "no-cache")
		http.ServeContent(w, r, "page.html", time.Time{}, strings.NewReader("0123456789"))
	}, accel.WithPolicy(accel.RFC9111))
	get()
	get("If-Match", `"made-up"`)
	if status := get(); !strings.Contains(status, "fwd-status=304") {
		t.Errorf("the page is gone: %s", status)
	}
}
