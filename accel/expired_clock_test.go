package accel_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// What was expired is stale, also when the clock is set back to before the moment
// at which it was.
func TestExpiredStaysStaleWhenTheClockIsSetBack(t *testing.T) {
	k := newClock()
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), 24*time.Hour)
		accel.Tag(r.Context(), "t")
		fmt.Fprint(w, "page")
	})
	c := newCacheOver(t, memstore.New(memstore.WithClock(k.now)), h, accel.WithClock(k.now))
	get(c, "/")
	k.add(2 * time.Hour)
	expect(t, get(c, "/"), "hit")
	if err := c.ExpireTag(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	k.add(-time.Hour)
	expect(t, get(c, "/"), "fwd=stale; stored")
	equal(t, "handler calls", calls.Load(), 2)
	expect(t, get(c, "/"), "hit")
}
