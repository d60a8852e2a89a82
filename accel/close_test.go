package accel_test

import (
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// A refresh in the background whose handler does not listen to its context does not
// hold Close for ever.
func TestCloseDoesNotWaitForADeafHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		deaf := time.Duration(0)
		c := accel.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(deaf)
			accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour))
			fmt.Fprint(w, "page")
		}), memstore.New())
		get(c, "/")
		deaf = time.Hour
		time.Sleep(2 * time.Minute)
		get(c, "/") // stale; the refresh begins
		synctest.Wait()
		start := time.Now()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		equal(t, "time", time.Since(start), 10*time.Second)
		time.Sleep(2 * time.Hour) // the handler ends, and nothing is stored
		synctest.Wait()
		equal(t, "stored", c.Stats().Stored, 1)
	})
}
