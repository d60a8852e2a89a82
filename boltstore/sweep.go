package boltstore

import (
	"errors"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
	"github.com/accelhttp/accelerator/internal/memory"

	berrors "go.etcd.io/bbolt/errors"
)

// Budgets are in thousandths of the file's bound.
const (
	// startBudget is what entries may have together at first. bbolt leaves a good
	// part of its pages empty: records of 1 KiB take 1.7 times their size.
	startBudget = 600
	// fullAt is the file's size at which the budget turns out to be too large.
	// The rest is what deletions need: bbolt writes before it frees.
	fullAt = 850
	// minBudget keeps a cache that is all fragments from shrinking to nothing.
	minBudget = 50
)

// sweeper is what the writer knows about cleaning up: where it stands, and how
// large its steps are. It belongs to the writer's goroutine.
type sweeper struct {
	nextSweep time.Time
	perEntry  time.Duration // what writing an entry takes, commit included
	limit     int           // entries to delete in one step

	marking marks.Row // being swept
	from    []byte    // where to go on with it

	floor     uint64 // being swept
	floorFrom []byte

	hand   uint64 // of the clock
	budget int64  // thousandths
	full   int64  // the file's size when the budget shrank last
	tight  int    // transactions in a row that found no room

	nextPrune time.Time
}

func newSweeper(s *Store, meta format.Meta) sweeper {
	sw := sweeper{limit: 100, budget: startBudget}
	if meta.Budget > 0 && meta.Budget < startBudget {
		sw.budget = max(int64(meta.Budget), minBudget)
	}
	return sw
}

// sweepShare lets the sweeper do its part after a flush: evict until the budget
// is kept, and one step of what else there is.
func (f *file) sweepShare() error {
	for range 8 {
		more, err := f.evict()
		if err != nil || !more {
			break
		}
		if f.s.waiting.Load() > 0 {
			return err
		}
	}
	if time.Now().Before(f.nextSweep) {
		return nil
	}
	more, err := f.sweep()
	if err == nil && !more {
		f.nextSweep = time.Now().Add(sweepEvery)
	}
	return err
}

// sweep does one step of cleaning up, and reports whether there may be more.
func (f *file) sweep() (more bool, err error) {
	for _, step := range []func() (bool, error){f.expire, f.strike, f.raze, f.evict} {
		if f.s.waiting.Load() > 0 {
			return true, nil
		}
		m, err := step()
		if err != nil {
			return false, err
		}
		more = more || m
	}
	f.prune()
	return more, nil
}

// timed does a step and lets the next one be as much larger or smaller as the
// time that this one took suggests.
func (f *file) timed(fn func(*format.Tx) (int, error)) (n int, err error) {
	start := time.Now()
	err = f.update(func(tx *format.Tx) (bool, error) {
		n, err = fn(tx)
		return n > 0, err
	})
	if err != nil {
		return n, err
	}
	target := f.s.txTarget()
	switch took := time.Since(start); {
	case n == 0:
	case took > target:
		f.limit = max(f.limit/2, 8)
	case took < target/2 && n >= f.limit:
		f.limit = min(f.limit*2, 1000)
	}
	return n, nil
}

// expire deletes entries that nobody may use any more.
func (f *file) expire() (more bool, err error) {
	var due bool
	now := f.s.opt.now()
	if err := f.view(func(tx *format.Tx) error { due = tx.Due(now); return nil }); err != nil || !due {
		return false, err
	}
	n, err := f.timed(func(tx *format.Tx) (n int, err error) {
		n, more, err = tx.SweepExpired(now, f.limit)
		return n, err
	})
	f.s.count.expired.Add(uint64(n))
	return more, err
}

// strike deletes the entries that a mark strikes, and when there are none left,
// the mark.
func (f *file) strike() (more bool, err error) {
	pending := f.s.marks.Pending(1)
	if f.from != nil {
		if again := f.s.marks.Row(f.marking.Mark); again == f.marking {
			pending = []marks.Row{again}
		}
	}
	if len(pending) == 0 {
		return false, nil
	}
	if r := pending[0]; r != f.marking {
		f.marking, f.from = r, nil
	}
	clean := false
	n, err := f.timed(func(tx *format.Tx) (int, error) {
		n, next, err := tx.SweepMark(f.marking, f.from, f.limit)
		if err != nil {
			return n, err
		}
		if f.from = next; next != nil {
			// A step that deletes nothing may still have looked at many rows.
			return n, nil
		}
		clean, err = tx.DeleteMark(f.marking)
		return n + 1, err
	})
	if err != nil {
		return false, err
	}
	if clean {
		f.s.marks.Cleaned(f.marking)
		f.marking, n = marks.Row{}, n-1
	}
	f.s.count.swept.Add(uint64(max(n, 0)))
	return true, nil
}

// raze deletes the entries below the floor.
func (f *file) raze() (more bool, err error) {
	var meta format.Meta
	if err := f.view(func(tx *format.Tx) error { meta = tx.Meta(); return nil }); err != nil {
		return false, err
	}
	if meta.Floor <= meta.Swept {
		return false, nil
	}
	if f.floor != meta.Floor {
		f.floor, f.floorFrom = meta.Floor, nil
	}
	n, err := f.timed(func(tx *format.Tx) (int, error) {
		n, next, err := tx.SweepFloor(f.floor, f.floorFrom, f.limit)
		if err != nil {
			return n, err
		}
		if f.floorFrom = next; next == nil {
			tx.SetSwept(f.floor)
			return n + 1, nil
		}
		return n, nil
	})
	f.s.count.swept.Add(uint64(n))
	return err == nil, err
}

// over returns how many bytes too many the entries have.
func (f *file) over() int64 {
	return f.s.lastBytes.Load() - f.s.opt.maxSize/1000*f.budget
}

// evict makes room, if there is too little, by the clock's hand.
func (f *file) evict() (more bool, err error) {
	if f.over() <= 0 {
		return false, nil
	}
	n, err := f.timed(func(tx *format.Tx) (int, error) {
		tx.SetBudget(uint64(f.budget))
		n, next, err := tx.Evict(f.hand, f.limit, f.inUse)
		f.hand = next
		return n, err
	})
	f.s.count.evicted.Add(uint64(n))
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		// No room even to delete. Smaller steps change fewer pages.
		f.limit = max(f.limit/2, 1)
		if f.tight++; f.tight < 32 {
			return true, nil
		}
	}
	return f.over() > 0, err
}

// inUse spares an entry once for having been read since the hand came by, from
// the file or from memory.
func (f *file) inUse(key accel.Key) bool {
	if f.tight > 0 {
		return false
	}
	return f.s.used.take(key) || f.s.mem.Peek(key) != nil && f.hand%4 != 0
}

// fits looks at the file's size after it was written, and lowers the budget when
// it has grown too near to the bound. A bbolt file never shrinks: that it is
// large says nothing, that it grew does.
func (f *file) fits() {
	f.tight = 0
	size := f.size.Load()
	if size <= max(f.full, f.s.opt.maxSize/1000*fullAt) {
		return
	}
	f.full = size
	used := f.s.lastBytes.Load() * 1000 / f.s.opt.maxSize
	f.budget = max(minBudget, min(f.budget, used)*9/10)
}

// overflow is what happens when the file is full all the same: the batch is
// dropped, and the budget falls until there is room again.
func (f *file) overflow(batch []*op, err error) error {
	f.s.count.dropped.Add(uint64(len(batch)))
	f.budget = max(minBudget, f.budget*8/10)
	if f.tight++; f.tight >= 32 {
		return err
	}
	// What was to be replaced must not answer in its place; memory does not know
	// better for long.
	for _, o := range batch {
		if o.entry != nil {
			f.s.mem.Delete(o.key, o.entry)
		}
	}
	f.s.finished(batch)
	f.limit = 8
	_, err = f.evict()
	return err
}

// prune lets memory forget the marks that nothing older than they can meet any
// more.
func (f *file) prune() {
	s := f.s
	rows, _ := s.marks.Len()
	if rows == 0 || rows < marks.DefaultLimit/4 && time.Now().Before(f.nextPrune) {
		return
	}
	f.nextPrune = time.Now().Add(time.Second)
	drop := s.marks.Prunable(time.Now())
	if len(drop) == 0 {
		return
	}
	s.mem.DeleteFunc(func(it *memory.Item) bool { return marks.Scan(drop, it.Entry, it.MarkStale) })
	s.marks.Drop(drop)
}
