package reference

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// What a response must be by itself, it must be with many visitors at once, who
// share the runs of handlers, while others change things, purge them, and give
// pages new rules. What was purged before a visitor came he never sees.
func TestConcurrently(t *testing.T) {
	visits := fromEnv(t, "ACCEL_PROPERTY_STEPS", 4000)
	if testing.Short() {
		visits = min(visits, 2000)
	}
	forEachStore(t, func(t *testing.T, open func(*testing.T) opener) {
		for name, policy := range policies {
			t.Run(name, func(t *testing.T) {
				const visitors = 8
				w := newWorld(t, rand.Uint64(), policy, open(t))
				w.site.dawdles = true
				var wg sync.WaitGroup
				for range visitors {
					wg.Go(func() {
						r := rand.New(rand.NewPCG(rand.Uint64(), 0))
						for range visits / visitors {
							if t.Failed() {
								return
							}
							w.disturb(r)
							v := randomVisit(r, w.forms.known, w.site.dates)
							if r.IntN(3) > 0 {
								v.place = place{"http", hosts[0], targets[0]} // for company
								v.spelling = v.host
							}
							a := w.site.arrive()
							res := send(w.cache, v)
							if err := w.site.examine(v, res, a, w.forms); err != nil {
								t.Errorf("%v\nto %v\n%s", err, v, dump(res))
							}
						}
					})
				}
				wg.Wait()
				s := w.cache.Stats()
				t.Logf("%d hits, %d misses, %d waited, %d invalidated on their way", s.Hits, s.Misses, s.Collapsed, s.NotStored["invalidated"])
				if s.Hits == 0 || s.Collapsed == 0 || visits >= 4000 && s.NotStored["invalidated"] == 0 {
					t.Error("something was not tried")
				}
				w.close()
			})
		}
	})
}

// disturb does something beside the visits, now and then.
func (w *world) disturb(r *rand.Rand) {
	ctx := w.t.Context()
	var names []string
	var purge func() error
	switch r.IntN(40) {
	case 0:
		w.clock.Advance(time.Duration(r.Int64N(int64(3 * time.Second))))
		return
	case 1:
		w.site.replace(randomPlace(r))
		return
	case 2:
		if err := w.cache.ExpireTag(ctx, pick(r, siteTags)); err != nil {
			w.t.Error(err)
		}
		return
	case 3, 4, 5:
		names = []string{pick(r, siteTags)}
		purge = func() error { return w.cache.InvalidateTag(ctx, names...) }
	case 6:
		names = []string{randomPlace(r).String(), targets[0]}
		purge = func() error { return w.cache.InvalidateURL(ctx, names...) }
	case 7:
		names = []string{"*"}
		purge = func() error { return w.cache.InvalidateAll(ctx) }
	default:
		return
	}
	version := w.site.change(names...)
	if err := purge(); err != nil {
		w.t.Error(err)
		return
	}
	w.site.purge(version, names...)
}

// dawdle lets others run.
func dawdle(page string) {
	for range digest(page) % 50 {
		runtime.Gosched()
	}
}
