package reference

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
)

// A store that fails makes no failing site. The same visits are made over a store
// that fails its first operation, its second, and so on until none fails any
// more. Each of them is answered with what its handler wrote, or would have
// written, and with nothing that another one of these tests would not let pass;
// an invalidation that returns nil has been carried out.
func TestStoreFailsNth(t *testing.T) {
	const seed, steps = 1, 40
	every := 1
	if testing.Short() {
		every = 10
	}
	forEachStore(t, func(t *testing.T, open func(*testing.T) opener) {
		for name, policy := range policies {
			t.Run(name, func(t *testing.T) {
				n := 1
				for fired := true; fired; n += every {
					var faulty *storetest.FaultyStore
					inner := open(t)
					w := newWorld(t, seed, policy, func(now func() time.Time) accel.Store {
						faulty = storetest.Faulty(inner(now), n)
						return faulty
					})
					for range steps {
						w.stepFaulty(faulty)
					}
					fired = faulty.Fired()
					w.close()
				}
				t.Logf("%d steps, over and over until %d operations had failed", steps, n-every-1)
			})
		}
	})
}

// stepFaulty makes a visit or purges.
func (w *world) stepFaulty(s *storetest.FaultyStore) {
	before := s.Fired()
	fault := func() bool { return s.Fired() && !before }
	if w.r.IntN(10) == 0 {
		names := []string{pick(w.r, siteTags)}
		purge := w.cache.InvalidateTag
		if w.r.IntN(4) == 0 {
			purge = w.cache.ExpireTag
		}
		version := w.site.change(names...)
		err := purge(w.t.Context(), names...)
		w.logf("purge of %q for version %d: %v", names, version, err)
		if (err != nil) != fault() {
			w.fatalf("a purge returns %v", err)
		}
		if err == nil {
			w.site.purge(version, names...)
		}
		return
	}
	v := randomVisit(w.r, w.forms.known, w.site.dates)
	v.place.host, v.place.scheme, v.spelling = hosts[0], "http", hosts[0]
	w.subject = v.place.String()
	w.logf("%v", v)
	a := w.site.arrive()
	w.site.calls = []*rendering{}
	res := send(w.cache, v)
	w.rest()
	if err := w.site.examine(v, res, a, w.forms); err != nil {
		w.fatalf("%v\n%s", err, dump(res))
	}
	if err := w.plausible(v, res, w.site.calls, fault()); err != nil {
		w.fatalf("%v\n%s", err, dump(res))
	}
	if w.policy == accel.RFC9111 && v.method == "POST" && res.status < 400 && !fault() {
		w.site.purge(w.site.calls[0].version, v.place.String())
	}
}

// plausible reports how a response is neither what is kept, nor what the handler
// has just made, as it is or for storing.
func (w *world) plausible(v *visit, res *response, calls []*rendering, fault bool) error {
	if len(calls) == 0 {
		if status := res.Header.Get("Cache-Status"); len(status) < 16 || status[:16] != "Accelerator; hit" {
			return fmt.Errorf("nobody has made this: %s", status)
		}
		return nil
	}
	if len(calls) > 2 {
		return fmt.Errorf("the handler ran %d times", len(calls))
	}
	c := calls[len(calls)-1]
	switch {
	case res.panicked != c.panicked:
		return fmt.Errorf("panicked: %v", res.panicked)
	case res.status == c.status && string(res.body) == c.sent:
		return nil
	case res.Header.Get("X-Page") != c.page:
		return fmt.Errorf("another page than the handler's, %s", c.page)
	}
	if tag := res.Header.Get("Etag"); !slices.Contains([]int{
		v.outcome(c, tag, w.clock.Now()), v.outcome(c, c.etag, w.clock.Now()), http.StatusOK}, res.status) {
		return fmt.Errorf("status %d", res.status)
	}
	return nil
}
