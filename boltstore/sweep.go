package boltstore

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
	"github.com/accelhttp/accelerator/internal/memory"
	"github.com/accelhttp/accelerator/internal/point"

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

// maxStep is how many entries a step deletes at most. Each has rows in some five
// pages, and what a transaction changes is in memory until it is over.
const maxStep = 250

// minStep is how many entries a step deletes at least, where there is room for it. On
// a disk whose syncs alone take longer than a transaction should, smaller steps would
// make it no faster, and sweeping fall behind what expires.
const minStep = 64

// minHurried is the same while invalidations come in.
const minHurried = 10

// shareEvery is how often the sweeper does a step while one invalidation follows
// another. They are not to wait long, but what they leave behind must not pile up:
// a step takes little more than hurriedTx, a fifth of the time.
const shareEvery = 5 * hurriedTx

// pruneManyEvery is how often marks are forgotten while there are many.
const pruneManyEvery = 50 * time.Millisecond

// lookEvery is how often the sweeper looks whether the file is still at its path.
// Who writes to a removed one writes for nobody.
const lookEvery = time.Second

// sweeper is what the writer knows about cleaning up: where it stands, and how
// large its steps are. It belongs to the writer's goroutine.
type sweeper struct {
	nextSweep time.Time
	nextShare time.Time     // when it is the sweeper's turn even if somebody waits
	nextLook  time.Time     // at the path
	step      int           // whose turn it is while somebody waits
	perEntry  time.Duration // what writing an entry takes, commit included
	perGone   time.Duration // what deleting one takes in a step while invalidations come in; 0: not known
	perMark   time.Duration // what a transaction of marks alone takes
	shared    bool          // the last flush has deleted what had expired,
	behind    bool          // and there is more
	evicted   bool          // since the last flush something was, while somebody waited,
	turned    bool          // and the sweeper has had its turn
	limit     int           // entries to delete in one step

	marking marks.Row // being swept
	from    []byte    // where to go on with it

	floor     uint64 // being swept
	floorFrom []byte

	hand   uint64 // of the clock
	laps   int    // of the hand that struck nobody, in a row
	budget int64  // thousandths
	full   int64  // the file's size when it was opened, or the budget shrank last
	tight  int    // transactions that found no room since the last flush

	lastPrune time.Time

	gathered  time.Time // when something was added to what is pending
	unsettled float64   // bytes of that which are due to be settled
	settles   bool      // the last transaction did, or was to
	crowded   int       // so many transactions are to settle nothing
}

func newSweeper(f *file, meta format.Meta) sweeper {
	sw := sweeper{limit: 100, budget: startBudget, full: f.size.Load()}
	if meta.Budget > 0 && meta.Budget < startBudget {
		sw.budget = max(int64(meta.Budget), minBudget)
	}
	return sw
}

// sweepShare lets the sweeper do its part after a flush: evict until the budget
// is kept, and one step of what else there is. Whoever waits has waited for the flush,
// and is not to wait for this as well.
func (f *file) sweepShare() error {
	for more, n := true, 0; more && n < 8; n++ {
		if f.s.waiting.Load() > 0 {
			return nil
		}
		var err error
		if more, err = f.evict(); err != nil {
			return err
		}
	}
	if f.s.waiting.Load() > 0 || time.Now().Before(f.nextSweep) {
		return nil
	}
	return f.sweepTurn()
}

// sweepTurn does one step of cleaning up, and lets the sweeper rest if there is
// nothing more to do.
func (f *file) sweepTurn() error {
	more, err := f.sweep()
	if err == nil && !more {
		f.nextSweep = time.Now().Add(point.Span(point.SweepEvery, sweepEvery))
	}
	return err
}

// sweep does a step of each kind of cleaning up, and reports whether there may be
// more. While invalidations wait it does one step only.
func (f *file) sweep() (more bool, err error) {
	if now := time.Now(); now.After(f.nextLook) {
		f.nextLook = now.Add(lookEvery)
		if !f.here() {
			return false, errLost
		}
	}
	steps := [...]func() (bool, error){f.expire, f.strike, f.raze, f.evict}
	for range steps {
		m, err := steps[f.step]()
		f.step = (f.step + 1) % len(steps)
		if err != nil {
			return false, err
		}
		more = more || m
		if m && f.s.waiting.Load() > 0 {
			break
		}
	}
	f.nextShare = time.Now().Add(shareEvery)
	f.prune()
	return more, nil
}

// errGivenUp is that of a step which was not written.
var errGivenUp = errors.New("somebody waits")

// timed does a step, which deletes n entries, and lets the next one be as much
// larger or smaller as the time that this one took suggests.
//
// A large step that somebody has come upon is given up before it is written, which is
// what takes longest. The steps that follow are small, and are not.
func (f *file) timed(fn func(*format.Tx) (n int, changed bool, err error)) (n int, err error) {
	start, large, given := time.Now(), f.s.txTarget() == calmTx && f.tight == 0, false
	comes := func() bool { return f.s.waiting.Load() > 0 }
	err = f.update(func(tx *format.Tx) (changed bool, err error) {
		if large {
			tx.Interrupt(comes)
		}
		n, changed, err = fn(tx)
		given = errors.Is(err, format.ErrInterrupted) || err == nil && changed && large && comes()
		if given {
			return false, nil
		}
		return changed, err
	})
	if given && err == nil {
		err = errGivenUp
	}
	if err != nil {
		return 0, err
	}
	target, took := f.s.txTarget(), time.Since(start)
	if n > 0 && !large {
		gone := took / time.Duration(n)
		f.perGone = smoothed(cmp.Or(f.perGone, gone), gone)
	}
	switch {
	case n == 0:
	case took > target:
		f.limit = max(f.limit/2, min(f.limit, minStep))
	case took < target/2 && n >= f.limit:
		f.limit = min(f.limit*2, maxStep)
	}
	return n, nil
}

// smoothed returns what a time is taken to be that was so long until now.
func smoothed(was, now time.Duration) time.Duration { return (3*was + now) / 4 }

// most returns how many entries the next step deletes at most. While invalidations
// come in, that is what there is time for beside what any transaction takes: where the
// list of free pages is long, or a sync slow, that alone is more than hurriedTx.
func (f *file) most() int {
	target := f.s.txTarget()
	switch {
	case target == calmTx:
		return f.limit
	case f.perGone == 0: // in a large step it is much less
		return min(f.limit, minHurried)
	}
	return min(f.limit, max(int((target+f.perMark)/f.perGone), minHurried))
}

// expire deletes entries that nobody may use any more.
func (f *file) expire() (more bool, err error) {
	if f.shared {
		f.shared = false
		return f.behind, nil
	}
	var due bool
	now := f.s.opt.now()
	if err := f.view(func(tx *format.Tx) error { due = tx.Due(now); return nil }); err != nil || !due {
		return false, err
	}
	limit := f.most()
	n, err := f.timed(func(tx *format.Tx) (n int, _ bool, err error) {
		n, more, err = tx.SweepExpired(now, limit)
		return n, n > 0, err
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
	var next []byte
	limit := f.most()
	point.At(point.Striking)
	n, err := f.timed(func(tx *format.Tx) (n int, _ bool, err error) {
		n, next, err = tx.SweepMark(f.marking, f.from, limit)
		if err != nil {
			return n, false, err
		}
		if next == nil {
			clean, err = tx.DeleteMark(f.marking)
		}
		// A step that deletes nothing may have written since when entries are
		// stale.
		return n, true, err
	})
	if err != nil {
		return false, err // what this step deleted is there again
	}
	f.from = next
	point.At(point.Struck)
	if clean {
		f.cleaned(f.marking)
		f.marking = marks.Row{}
	}
	f.s.count.swept.Add(uint64(n))
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
	var next []byte
	limit := f.most()
	n, err := f.timed(func(tx *format.Tx) (n int, _ bool, err error) {
		n, next, err = tx.SweepFloor(f.floor, f.floorFrom, limit)
		if err != nil {
			return n, false, err
		}
		if next == nil {
			tx.SetSwept(f.floor)
		}
		return n, n > 0 || next == nil, nil
	})
	if err != nil {
		return false, err
	}
	f.floorFrom = next
	f.s.count.swept.Add(uint64(n))
	return true, nil
}

// over returns how many bytes too many the entries have.
func (f *file) over() int64 {
	return f.bytes.Load() - f.s.opt.maxSize/1000*f.budget
}

// evict makes room, if there is too little, by the clock's hand.
func (f *file) evict() (more bool, err error) {
	if f.over() <= 0 {
		return false, nil
	}
	var spared []accel.Key
	spare := func(key accel.Key) bool {
		if !f.s.used.take(key) {
			return false
		}
		spared = append(spared, key)
		return true
	}
	if f.tight > 0 || f.laps > 1 {
		// There is no time for a choice; or whatever is there is read all the
		// time, faster than the hand comes round.
		spare = func(accel.Key) bool { return false }
	}
	if f.laps > 3 {
		return false, fmt.Errorf("%w: %d bytes of entries that are not there", format.ErrDamaged, f.bytes.Load())
	}
	// No more than are too many: a small file is emptied by one large step.
	average := f.bytes.Load()/max(f.entries.Load(), 1) + 1
	limit := int(min(int64(f.most()), f.over()/average+1))
	hand := f.hand
	n, err := f.timed(func(tx *format.Tx) (int, bool, error) {
		tx.SetBudget(uint64(f.budget))
		n, next, err := tx.Evict(f.hand, limit, spare)
		hand = next
		return n, n > 0, err
	})
	if err != nil {
		for _, key := range spared { // the hand comes by again
			f.s.used.set(key)
		}
	}
	if errors.Is(err, berrors.ErrMaxSizeReached) && limit > 1 {
		// No room even to delete: bbolt writes before it frees. Smaller steps
		// change fewer pages.
		f.limit = limit / 2
		return true, nil
	}
	if err != nil {
		return false, err
	}
	f.hand = hand
	switch {
	case n > 0:
		f.laps = 0
	case hand == 0:
		f.laps++
	}
	f.s.count.evicted.Add(uint64(n))
	return f.over() > 0, nil
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
	f.shrink(95)
}

// shrink lowers the budget to so many hundredths of what the entries have now.
func (f *file) shrink(hundredths int64) {
	used := f.bytes.Load() * 1000 / f.s.opt.maxSize
	f.budget = max(minBudget, min(f.budget, used)*hundredths/100)
}

// overflow is what happens when a transaction finds the file full all the same: the
// budget falls, and entries are evicted before anything else is written. If that
// does not help, the file is given up.
func (f *file) overflow(full error) error {
	if f.tight%8 == 0 {
		f.shrink(80)
	}
	if f.tight++; f.tight >= 32 {
		return full
	}
	f.limit = min(f.limit, 8)
	return nil
}

// prune lets memory forget the marks that nothing older than they can meet any
// more.
func (f *file) prune() {
	s := f.s
	rows, _ := s.marks.Len()
	every := point.Span(point.PruneEvery, time.Second)
	switch {
	case rows >= marks.DefaultLimit/4:
		// Before there are too many. Not all the time: while a handler hangs, none
		// may go, and each look at them is a look at all.
		every = min(every, pruneManyEvery)
	case s.waiting.Load() > 0:
		every *= 4 // it looks at all of memory: who waits goes first, for a while
	}
	if rows == 0 || time.Since(f.lastPrune) < every {
		return
	}
	f.lastPrune = time.Now()
	drop := s.marks.Prunable(time.Now())
	if len(drop) == 0 {
		return
	}
	point.At(point.Pruning)
	s.mem.DeleteFunc(func(it *memory.Item) bool {
		return marks.Scan(drop, it.Entry, it.MarkStale) && !point.Off(point.ScanBeforeDrop)
	})
	point.At(point.Scanned)
	s.marks.Drop(drop)
}
