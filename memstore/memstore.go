// Package memstore is an [accel.Store] in memory, bounded by the bytes its
// entries occupy. It is what a test wants, and a program whose cache may be
// empty after a restart:
//
//	cache := accel.New(site, memstore.New(memstore.WithMaxSize(256<<20)))
//
// # Eviction
//
// When the bound is reached, entries that were not used again soon after they
// were stored leave first (S3-FIFO); a crawler does not displace what visitors
// read. An entry fits if it is no larger than the bound up to 16 MiB, and no
// larger than 16 MiB or a sixteenth of the bound, whichever is more, above
// that.
//
// # Invalidation
//
// Nothing outlives the process, so an invalidation is as durable as it will
// ever be once it is visible: Invalidate and Expire never wait, and fail only
// after Close.
//
// # Goroutines
//
// One goroutine sweeps: it removes what is past its time or was invalidated,
// and forgets marks that nothing can be struck by any more. Close stops it.
package memstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
	"github.com/accelhttp/accelerator/internal/memory"
	"github.com/accelhttp/accelerator/internal/point"
)

// DefaultMaxSize is the bound of a store that is given none.
const DefaultMaxSize = 64 << 20

const (
	// sweepEvery is the least time between two rounds of the sweeper: what
	// waits for one is not served any more, it only takes room.
	sweepEvery = 10 * time.Second
	// sweepShare bounds the sweeper's part of the time, to one in so many.
	sweepShare = 100
	// sweepAfter is how many marks bring the next round forward, so that a bulk
	// import does not reach marks.DefaultLimit, which would empty the store.
	sweepAfter = marks.DefaultLimit / 8
)

// A Store keeps entries in memory. Make one with [New], close it with Close.
// Its methods may be called by any number of goroutines at once, Close
// included.
type Store struct {
	maxSize int64
	now     func() time.Time
	machine bool // now is time.Now
	marks   *marks.Marks
	memory  *memory.Cache

	closed    atomic.Bool
	closeOnce sync.Once
	stop      chan struct{} // closed by Close
	stopped   chan struct{} // closed by the sweeper
	wake      chan struct{} // has one element if a round is wanted now

	sweeping sync.Mutex // held during a round: prunings do not overlap

	stored, refused, expired, swept, invalidated, unpruned atomic.Uint64
}

var _ accel.Store = (*Store)(nil)

// An Option changes what [New] makes.
type Option func(*Store)

// WithMaxSize bounds the bytes that all entries occupy, indexes included. Zero
// or less means [DefaultMaxSize], 64 MiB.
func WithMaxSize(bytes int64) Option {
	return func(s *Store) { s.maxSize = bytes }
}

// WithClock makes the store take the time from now, which must be safe for
// concurrent use. Nil means time.Now, the default. The clock decides what is
// past its time, and since when something is stale; the order of things it
// never decides.
func WithClock(now func() time.Time) Option {
	return func(s *Store) { s.now = now }
}

// New returns an empty store.
func New(opts ...Option) *Store {
	s := &Store{
		stop:    make(chan struct{}),
		stopped: make(chan struct{}),
		wake:    make(chan struct{}, 1),
	}
	for _, o := range opts {
		o(s)
	}
	if s.maxSize <= 0 {
		s.maxSize = DefaultMaxSize
	}
	if s.now == nil {
		s.now, s.machine = time.Now, true
	}
	epoch := rand.Uint64()
	for epoch == 0 { // the zero Position belongs to no store
		epoch = rand.Uint64()
	}
	s.marks = marks.New(epoch, 0, 0)
	s.memory = memory.New(s.maxSize)
	go s.sweeper()
	return s
}

// Begin implements [accel.Store]. It linearizes inside the lock of the marks.
func (s *Store) Begin() accel.Position {
	if s.closed.Load() {
		return accel.Position{}
	}
	return s.marks.Begin(s.now())
}

// End implements [accel.Store]. It linearizes inside the lock of the marks.
func (s *Store) End(at accel.Position) {
	if !s.closed.Load() {
		s.marks.End(at)
	}
}

// Get implements [accel.Store]. It does not look at ctx, for it never waits.
//
// It linearizes where the marks are looked at: the entry was in memory then, or
// it is looked up anew.
func (s *Store) Get(_ context.Context, key accel.Key, vary []string) (found accel.Found, err error) {
	if s.closed.Load() {
		return found, accel.ErrClosed
	}
	for {
		it, names, known := s.memory.Get(key, vary)
		if it == nil {
			if known && len(names) > 0 {
				found.Vary = names
			}
			return found, accel.ErrNotFound
		}
		e, now := it.Entry, s.now()
		// Check and not CheckRead, which knows no Checked, and would turn every
		// hit away that a forgotten mark has nothing to do with. Instead, what
		// the sweeper writes before it forgets a mark is read after the marks
		// were looked at: since the look-up it may have removed the item, or
		// noted on it that it is stale, and the marks know no longer.
		point.At(point.MemoryFound)
		v := s.marks.Check(e.At.N, max(e.At.N, it.Checked()), e.Marks)
		v.Valid = v.Valid || point.Off(point.MemoryChecks)
		if it.Gone() && !point.Off(point.MemoryGone) {
			continue
		}
		since := it.StaleSince()
		if !v.Valid || !now.Before(e.KeepUntil) {
			if s.memory.Delete(key, e) {
				s.count(v)
			}
			return found, accel.ErrNotFound
		}
		if !v.StaleSince.IsZero() && (since.IsZero() || v.StaleSince.Before(since)) {
			since = v.StaleSince
		}
		if v.StaleSince.IsZero() {
			it.SetChecked(v.UpTo)
		}
		found.Entry, found.StaleSince = e, since
		if s.machine {
			found.Now = now
		}
		return found, nil
	}
}

// count counts an entry that is removed, for the reason that a verdict gives.
func (s *Store) count(v marks.Verdict) {
	if v.Valid {
		s.expired.Add(1)
	} else {
		s.swept.Add(1)
	}
}

// Put implements [accel.Store]. It linearizes inside the lock of the marks,
// with which every Put is admitted and none overlaps an invalidation.
func (s *Store) Put(e, old *accel.Entry) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	err := s.put(e, old)
	if err != nil {
		s.refused.Add(1)
		return err
	}
	s.stored.Add(1)
	return nil
}

func (s *Store) put(e, old *accel.Entry) error {
	return s.marks.Admit(e, old, false, func() error {
		var ok, kept bool
		if old != nil {
			ok, kept = s.memory.Renew(e, old, time.Time{})
		} else {
			ok, kept = s.memory.Put(e, time.Time{})
		}
		switch {
		case !ok:
			return fmt.Errorf("%w: something newer is there", accel.ErrInvalidated)
		case !kept:
			return accel.ErrTooLarge
		}
		return nil
	})
}

// Delete implements [accel.Store]. It linearizes inside the lock of the memory's
// shard.
func (s *Store) Delete(e *accel.Entry) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	s.memory.Delete(e.Key, e)
	return nil
}

// Valid implements [accel.Store]. It linearizes inside the read lock of the
// marks.
func (s *Store) Valid(at accel.Position, hashes []accel.Hash) bool {
	return !s.closed.Load() && s.marks.Valid(at, hashes)
}

// Invalidate implements [accel.Store]. It does not look at ctx, for it never
// waits, and returns ErrClosed or nil. It linearizes inside the lock of the
// marks.
func (s *Store) Invalidate(_ context.Context, ms ...accel.Mark) error {
	return s.mark(ms, func() { s.marks.Invalidate(ms...) })
}

// Expire implements [accel.Store], and is like Invalidate in everything said
// there.
func (s *Store) Expire(_ context.Context, ms ...accel.Mark) error {
	return s.mark(ms, func() { s.marks.Expire(s.now(), ms...) })
}

func (s *Store) mark(ms []accel.Mark, make func()) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	if len(ms) == 0 {
		return nil
	}
	make()
	point.At(point.MarkSet)
	s.invalidated.Add(uint64(len(ms)))
	// There is no disk to owe anything to, or to be cleaned.
	owed := s.marks.Owed()
	s.marks.Paid(owed)
	s.marks.Cleaned(owed.Rows...)
	if s.unpruned.Add(uint64(len(ms))) >= sweepAfter {
		s.unpruned.Store(0)
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// Stats implements [accel.Store]. Its figures are of slightly different
// moments.
func (s *Store) Stats() accel.StoreStats {
	entries, bytes := int64(s.memory.Len()), s.memory.Bytes()
	rows, held := s.marks.Len()
	return accel.StoreStats{
		Entries: entries, Bytes: bytes,
		MemoryEntries: entries, MemoryBytes: bytes,
		Marks: int64(rows), InFlight: int64(held),
		Stored: s.stored.Load(), Refused: s.refused.Load(),
		Expired: s.expired.Load(), Evicted: s.memory.Evicted(), Swept: s.swept.Load(),
		Invalidated: s.invalidated.Load(),
	}
}

// Close implements [accel.Store]. It waits for the sweeper and gives the memory
// back. It never fails, and linearizes where the store is marked as closed.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.closed.Store(true)
		close(s.stop)
		<-s.stopped
		s.memory.Clear()
	})
	return nil
}

// sweeper goes its rounds until Close.
func (s *Store) sweeper() {
	defer close(s.stopped)
	timer := time.NewTimer(point.Span(point.SweepEvery, sweepEvery))
	defer timer.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-timer.C:
		case <-s.wake:
		}
		start := time.Now()
		s.sweep()
		timer.Reset(point.Span(point.SweepEvery, max(sweepEvery, sweepShare*time.Since(start))))
	}
}

// sweep goes one round: it removes what is past its time or struck by a mark,
// writes into the items what soft marks say, and then forgets the marks that
// could be looked up only by copies that were in memory when it began.
func (s *Store) sweep() {
	s.sweeping.Lock()
	defer s.sweeping.Unlock()
	now := s.now()
	rows := s.marks.Prunable(now)
	point.At(point.Pruning)
	s.memory.DeleteFunc(func(it *memory.Item) bool {
		e := it.Entry
		v := s.marks.Check(e.At.N, max(e.At.N, it.Checked()), e.Marks)
		if !v.Valid && !point.Off(point.ScanBeforeDrop) || !now.Before(e.KeepUntil) {
			s.count(v)
			return true
		}
		if !point.Off(point.SoftWritten) {
			it.MarkStale(v.StaleSince)
		}
		if v.StaleSince.IsZero() {
			it.SetChecked(v.UpTo)
		}
		return false
	})
	point.At(point.Scanned)
	if rows != nil {
		s.marks.Drop(rows)
	}
}
