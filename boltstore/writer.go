package boltstore

import (
	"errors"
	"fmt"
	"time"

	berrors "go.etcd.io/bbolt/errors"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
	"github.com/accelhttp/accelerator/internal/point"
)

// A flush is due at flushEntries or flushBytes, or flushAfter the first entry:
// what a kill -9 loses is a tenth of a second of stores. A batch has up to
// batchEntries: while more comes than can be written, pages that many entries share
// are written once for more of them.
const (
	flushEntries = 256
	batchEntries = 2 * flushEntries
	flushBytes   = 4 << 20
	flushAfter   = 100 * time.Millisecond
)

// A transaction aims to be over in calmTx, and in hurriedTx while invalidations
// come in, because they wait for it. An invalidation counts for hurryFor.
const (
	calmTx    = 6 * time.Millisecond
	hurriedTx = 2 * time.Millisecond
	hurryFor  = time.Second
)

// sweepEvery is how long an idle sweeper rests.
const sweepEvery = 250 * time.Millisecond

// What is pending of the indexes is gathered up to a share of the file's bound, or maxGather
// bytes: an entry of three tags has 970, and 100 000 entries have 7 000 pages in k and 6 000
// in t, so that each page that is written gets three or four changes. Twice as much would
// make it a few hundredths faster.
const (
	gatherShare = 128
	maxGather   = 12 << 20
	// minGather is the least that is worth the room in the file: where it would be less,
	// nothing is gathered.
	minGather = 512 << 10
	// leastAdded is what a transaction counts for that adds anything, because it adds a
	// row to the journal.
	leastAdded = 1 << 10
)

// After settleAfter without a change, what is pending goes where it belongs, in steps of
// settleStep bytes, which take some milliseconds. Where there is no room for one, the next
// is after settleLater.
const (
	settleAfter = time.Second
	settleStep  = 64 << 10
	settleLater = time.Minute
)

// crowdedFor is in how many transactions nothing is settled after there was no room for
// one that did: until something was evicted.
const crowdedFor = 16

// gather returns how many bytes are to be pending.
func (f *file) gather() int64 { return max(min(f.s.opt.maxSize/gatherShare, maxGather), 1) }

func (s *Store) txTarget() time.Duration {
	if s.waiting.Load() > 0 || time.Now().UnixNano()-s.hurried.Load() < int64(hurryFor) {
		return hurriedTx
	}
	return calmTx
}

// write is the goroutine that writes to the file: invalidations first, then what
// is queued, then sweeping, which gets its turn after every flush.
func (f *file) write() {
	defer close(f.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	if err := f.examineLeaves(); err != nil {
		f.fail(err)
		return
	}
	for {
		select {
		case <-f.quit:
			return // a reader found the file to be faulty
		default:
		}
		rest, err := f.turn()
		if errors.Is(err, berrors.ErrMaxSizeReached) && f.settles {
			f.crowded = crowdedFor // there may be room for the rest of it
			continue
		}
		if errors.Is(err, berrors.ErrMaxSizeReached) {
			if err = f.overflow(err); err == nil {
				// Pages that were freed are free when the last reader that may
				// see them is done; on a busy machine that takes its time.
				timer.Reset(time.Duration(f.tight) * 2 * time.Millisecond)
				select {
				case <-timer.C:
				case <-f.quit:
				}
				continue
			}
		}
		if errors.Is(err, errGivenUp) {
			continue
		}
		if errors.Is(err, errFinished) {
			return
		}
		if err != nil {
			f.fail(err)
			return
		}
		if rest <= 0 {
			continue
		}
		timer.Reset(rest)
		select {
		case <-f.s.kick:
		case <-timer.C:
		case <-f.s.closing:
		case <-f.quit:
		}
	}
}

// leavesFor is how long a large file is looked at before anything is written to it;
// whoever invalidates meanwhile waits. Of a million entries in the page cache the
// look takes about a second.
const leavesFor = 2 * time.Second

// examineLeaves looks at what Examine had no time for.
func (f *file) examineLeaves() error {
	began := time.Now()
	all := true
	err := format.ExamineLeaves(f.os, f.size.Load(), func() bool {
		select {
		case <-f.quit:
			all = false
		case <-f.s.closing:
			all = false
		default:
			all = time.Since(began) < leavesFor
		}
		return all
	})
	if err == nil && !all {
		f.s.log.Info("boltstore: not all pages were looked at", "file", f.s.path, "after", time.Since(began))
	}
	return err
}

// errFinished ends the writer in good order.
var errFinished = errors.New("finished")

// turn does what is most urgent, and says how long the writer may rest after it.
func (f *file) turn() (rest time.Duration, err error) {
	s := f.s
	closing := false
	select {
	case <-s.closing:
		closing = true
	default:
	}
	if f.tight > 0 && f.over() > 0 {
		// Nothing can be written before there is room.
		_, err := f.evict()
		return 0, err
	}
	// Who waits first, then the debt: a debt read later contains what they wait
	// for.
	waited := f.claim()
	point.At(point.Claimed)
	if debt := s.marks.Owed(); waited || !debt.Empty() {
		waited = true
		if point.Off(point.AckAfterDurable) {
			f.pay()
		}
		if err := f.settle(debt); err != nil {
			return 0, err
		}
		point.At(point.Settled)
		f.pay()
	}
	due := s.queue.due()
	switch {
	case waited && !closing && !f.evicted && f.over() > 0:
		// As much room as the last flush has taken, before there is another.
		f.evicted = true
		_, err = f.evict()
		return 0, err
	case waited && !closing && (due != 0 || !f.turned) && time.Now().After(f.nextShare):
		// Before the next flush, and not after it: who comes meanwhile waits for one
		// transaction, not for two. The flush is next, however long this takes.
		f.turned = true
		return 0, f.sweepTurn()
	case due == 0 || due > 0 && closing:
		// Also while one invalidation follows another: a flush is short then,
		// but it has its turn.
		f.evicted, f.turned = false, false
		if err = f.flush(); err == nil && !closing {
			err = f.sweepShare()
		}
		return 0, err
	case waited:
		return 0, nil // more may have come
	case closing:
		err := f.settleAll()
		if errors.Is(err, berrors.ErrMaxSizeReached) {
			err = nil // it is as good where it is
		}
		if err == nil {
			err = f.finish()
		}
		if err != nil {
			s.log.Warn("boltstore: closing "+s.path, "err", err)
		}
		return 0, errFinished
	case !time.Now().Before(f.nextSweep):
		return 0, f.sweepTurn()
	}
	rest = time.Until(f.nextSweep)
	if f.last().Bytes() > 0 {
		quiet := time.Until(f.gathered.Add(point.Span(point.SettleAfter, settleAfter)))
		if quiet <= 0 {
			return 0, f.settleStep()
		}
		rest = min(rest, quiet)
	}
	if due > 0 {
		rest = min(rest, due)
	}
	return max(rest, 1), nil
}

// settle makes a debt durable. A mark that strikes nothing on disk needs no
// writing: what is queued is checked against memory before it is written, and a
// crash loses the queue.
func (f *file) settle(debt marks.Debt) error {
	var needed, needless []marks.Row
	err := f.view(func(tx *format.Tx) error {
		for _, r := range debt.Rows {
			older, err := tx.Older(r)
			if err != nil {
				return err
			}
			if (older || tx.HasMark(r.Mark)) && !point.Off(point.MarksWritten) {
				needed = append(needed, r)
			} else {
				needless = append(needless, r)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(needed) > 0 || debt.NewFloor {
		start := time.Now()
		err := f.update(func(tx *format.Tx) (bool, error) {
			if !point.Off(point.SeqWritten) {
				tx.SetSeq(debt.Seq)
			}
			if debt.NewFloor {
				// The floor before the marks that it replaces.
				tx.SetFloor(debt.Floor)
				if err := tx.DeleteMarksBelow(debt.Floor); err != nil {
					return false, err
				}
			}
			return true, tx.WriteMarks(needed)
		})
		if err != nil {
			return fmt.Errorf("write marks: %w", err)
		}
		f.perMark = smoothed(f.perMark, time.Since(start))
	}
	// A file that nobody will find is no place for a mark.
	if !f.here() {
		return errLost
	}
	f.s.marks.Paid(debt)
	if point.Off(point.DiskClean) {
		needless = debt.Rows
	}
	f.cleaned(needless...)
	f.tight = 0
	if len(needed) > 0 || debt.NewFloor {
		f.nextSweep = time.Time{} // there is something to sweep
	}
	return nil
}

// cleaned says that the file holds nothing that the rows strike, as far as its
// indexes tell.
func (f *file) cleaned(rows ...marks.Row) {
	for _, r := range rows {
		if r.Mark.Kind == accel.KindTag { // by the writer alone
			f.swept.Store(max(f.swept.Load(), r.Hard, r.Soft))
		}
	}
	f.s.marks.Cleaned(rows...)
}

// flush writes what has been queued for longest.
func (f *file) flush() error {
	s := f.s
	target := s.txTarget()
	limit := batchEntries
	if target == hurriedTx && f.perEntry > 0 {
		limit = min(max(int(target/f.perEntry), 8), batchEntries)
	}
	if f.tight > 0 {
		limit = min(limit, f.limit) // a small transaction needs little room
	}
	batch := s.queue.batch(limit, min(flushBytes, s.opt.maxSize/16))
	if len(batch) == 0 {
		return nil
	}
	start := time.Now()
	written := batch
	// The sweeper's share of what has expired goes in the same transaction: that writes
	// much of what leads to the pages in any case.
	sweeps := f.tight == 0 && !start.Before(f.nextSweep)
	expired, more := 0, false
	count, err := f.commit(func(tx *format.Tx) (bool, error) {
		changed := false
		for i, o := range batch {
			// Somebody waits: what is written so far is enough for now.
			if i > 0 && s.waiting.Load() > 0 && time.Since(start) > hurriedTx/2 {
				written = batch[:i]
				break
			}
			c, err := f.apply(tx, o)
			if err != nil {
				return false, fmt.Errorf("write entry: %w", err)
			}
			changed = changed || c
		}
		if sweeps = sweeps && s.waiting.Load() == 0; !sweeps {
			return changed, nil
		}
		var err error
		expired, more, err = tx.SweepExpired(s.opt.now(), (len(written)+3)/4)
		return changed || expired > 0, err
	})
	if err != nil {
		if errors.Is(err, berrors.ErrMaxSizeReached) && !f.settles {
			dropped := s.queue.shed(batch)
			s.count.dropped.Add(uint64(len(dropped)))
			for _, o := range dropped {
				s.mem.Delete(o.key, o.entry)
			}
			s.letGo(dropped...)
		}
		return err
	}
	if n := time.Duration(len(written)); n > 0 {
		f.perEntry = smoothed(f.perEntry, time.Since(start)/n)
	}
	if sweeps {
		f.shared, f.behind = true, more
		s.count.expired.Add(uint64(expired))
	}
	point.At(point.Flushed)
	s.letGo(s.queue.done(written, count)...)
	f.fits()
	return nil
}

// apply does one op. The entry is judged again here, inside the transaction: an
// invalidation that came since it was accepted has marked memory before it waits
// for this writer.
func (f *file) apply(tx *format.Tx, o *op) (changed bool, err error) {
	s := f.s
	if o.displace {
		return tx.Displace(o.key, o.vary)
	}
	row, err := tx.Row(o.key)
	exists := err == nil
	if err != nil && !errors.Is(err, format.ErrNotFound) {
		return false, err
	}
	e := o.entry
	if e == nil {
		if !exists || !o.deletes(row) {
			return false, nil
		}
		return true, tx.Delete(o.key, 0)
	}
	if e.At.Epoch != f.epoch {
		s.count.dropped.Add(1)
		return false, nil
	}
	if exists && row.At.N > e.At.N && !o.after.deletes(row) {
		s.mem.Delete(e.Key, e)
		return false, nil
	}
	v := s.marks.Check(e.At.N, e.At.N, e.Marks)
	v.Valid = v.Valid || point.Off(point.FlushChecks)
	point.At(point.Flushing)
	if !v.Valid || !e.KeepUntil.After(s.opt.now()) {
		// The newest version is not to be kept; no older one may answer for it.
		if point.Off(point.DisplaceOlder) {
			return false, nil
		}
		return tx.Displace(o.key, e.Vary)
	}
	if o.old != nil && exists && isRow(row, o.old) {
		return true, tx.Renew(row, e, v.StaleSince)
	}
	return true, tx.Put(e, v.StaleSince)
}

// settleStep writes a step of what is pending where it belongs.
func (f *file) settleStep() error {
	err := f.update(func(tx *format.Tx) (bool, error) { return true, tx.Settle(settleStep) })
	if errors.Is(err, berrors.ErrMaxSizeReached) {
		// Nothing has to be evicted for it: it is as good where it is.
		f.gathered = time.Now().Add(settleLater)
		return nil
	}
	return err
}

// settleAll leaves nothing pending, so that the next opening has no journal to read.
func (f *file) settleAll() error {
	for f.last().Bytes() > 0 {
		err := f.update(func(tx *format.Tx) (bool, error) { return true, tx.Settle(4 * settleStep) })
		if err != nil {
			return err
		}
	}
	return nil
}

// finish says that the file was left in order.
func (f *file) finish() error {
	return f.update(func(tx *format.Tx) (bool, error) {
		tx.SetSeq(f.s.marks.N())
		tx.SetClean(true)
		return true, nil
	})
}
