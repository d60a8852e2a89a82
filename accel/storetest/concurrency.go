package storetest

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// concurrency tests the promise itself while everything happens at once. There
// are rows of data with a version each, and pages made from two of them.
// Whoever changes a row invalidates its tag, and writes down which version is
// acknowledged. No page that is looked up after that shows an older one.
func concurrency(t *testing.T, b *backend) {
	const rows, pages, rounds = 4, 6, 400
	f := b.start(t, 0)
	var data, acked [rows]atomic.Uint64
	tag := func(row int) string { return "row:" + strconv.Itoa(row) }
	rowsOf := func(page int) (int, int) { return page % rows, (page + 1 + page/rows) % rows }
	url := func(page int) string { return "/page/" + strconv.Itoa(page) }

	// render is a handler: it reads its rows some time after Begin.
	render := func(page int, at accel.Position) *accel.Entry {
		i, j := rowsOf(page)
		x, y := data[i].Load(), data[j].Load()
		runtime.Gosched()
		return Entry(url(page), At(at), Tags(tag(i), tag(j)), func(e *accel.Entry) {
			e.InitialAge = time.Duration(x)           // the version of one row
			e.StaleWhileRevalidate = time.Duration(y) // and of the other
		})
	}
	judge := func(what string, e *accel.Entry, least [2]uint64) {
		if x, y := uint64(e.InitialAge), uint64(e.StaleWhileRevalidate); x < least[0] || y < least[1] {
			t.Errorf("%s shows %d and %d after %d and %d were acknowledged: %s", what, x, y, least[0], least[1], e.Resource)
		}
	}

	var work, sweeper sync.WaitGroup
	done := make(chan struct{})
	for w := range 3 {
		work.Go(func() { // requests
			for i := range 4 * rounds {
				page := (i*7 + w) % pages
				a, b := rowsOf(page)
				least := [2]uint64{acked[a].Load(), acked[b].Load()}
				at := f.Begin()
				found, err := f.Get(f.ctx, Key(url(page), ""), nil)
				switch {
				case err == nil:
					judge("Get", found.Entry, least)
					if i%50 == 0 {
						if err := f.Delete(found.Entry); err != nil {
							t.Errorf("Delete: %v", err)
						}
					}
				case errors.Is(err, accel.ErrNotFound):
					e := render(page, at)
					if err := f.Put(e, nil); err != nil && !errors.Is(err, accel.ErrInvalidated) && !errors.Is(err, accel.ErrBusy) {
						t.Errorf("Put: %v", err)
					}
					// Somebody else who arrives now wants to use this response.
					least := [2]uint64{acked[a].Load(), acked[b].Load()}
					if f.Valid(at, e.Marks) {
						judge("Valid", e, least)
					}
				default:
					t.Errorf("Get: %v", err)
				}
				f.End(at)
			}
		})
	}
	for w := range 2 {
		work.Go(func() { // changes: each row has one writer
			for i := range rounds / 2 {
				row := (i%(rows/2))*2 + w
				v := data[row].Add(1)
				var err error
				if i%20 == 19 {
					err = f.Invalidate(f.ctx, accel.MarkAll)
				} else {
					err = f.Invalidate(f.ctx, accel.TagMark(tag(row)))
				}
				if err != nil {
					t.Errorf("Invalidate: %v", err)
				}
				acked[row].Store(v)
				if i%10 == 0 {
					if err := f.Expire(f.ctx, accel.TagMark(tag(row))); err != nil {
						t.Errorf("Expire: %v", err)
					}
				}
				f.Stats()
				runtime.Gosched()
			}
		})
	}
	sweeper.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				f.sweep()
				runtime.Gosched()
			}
		}
	})
	work.Wait()
	close(done)
	sweeper.Wait()

	// And it still works.
	e := render(0, f.begin())
	require.NoError(t, f.Put(e, nil))
	f.finds(e)
}
