package boltstore

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
	"github.com/accelhttp/accelerator/internal/memory"
	"github.com/accelhttp/accelerator/internal/point"
)

// A Store keeps entries in a bbolt file. Make one with [Open]. It is safe for
// concurrent use; the zero Store is not ready. [accel.Cache.Close] closes it.
type Store struct {
	path string // absolute, so that a later chdir changes nothing
	opt  options
	log  *slog.Logger

	marks *marks.Marks
	mem   *memory.Cache
	queue *queue
	used  sketch
	loans loans

	// file is the open file, nil while there is none.
	file atomic.Pointer[file]
	// blind is set while another process may have the file, and invalidate what is
	// made from the same data here.
	blind atomic.Bool
	// opened is closed when the first attempt to open has come to an end.
	opened chan struct{}
	// closing is closed by Close.
	closing chan struct{}
	stopped chan struct{} // closed when everything has stopped
	closed  atomic.Bool
	kick    chan struct{} // wakes the writer; holds one

	mu  sync.Mutex // protects following, and paying of the open file
	err error      // why there is no file
	// waiters want to know that their invalidation is on disk. Each is told
	// exactly once: by the writer that claimed it, or, when its file is left, by
	// whoever comes next.
	waiters []chan error

	// What belongs to run.
	aside int   // files set aside
	last  found // the file that was left last
	off   error // why no file is opened any more
	// others is set while another process may have the file.
	others bool

	// beat grows whenever something has come of the disk.
	beat atomic.Int64
	// waiting counts invalidations that wait for the disk. While it is not 0,
	// transactions are kept short.
	waiting atomic.Int64
	// hurried is when last somebody waited, in Unix nanoseconds of the machine.
	hurried atomic.Int64

	readSkip atomic.Int64 // until when the disk is not read, Unix nanoseconds
	readSlow atomic.Int64 // reads in a row that took too long
	count    counters
}

type counters struct {
	stored, refused, dropped, expired, evicted, swept, invalidated atomic.Uint64
	readErrors, writeErrors, setAside                              atomic.Uint64
}

var _ accel.Lender = (*Store)(nil)

// Open returns a store that keeps its entries in the file at path, which it
// creates if need be. Like sql.Open it neither blocks nor fails: the file is
// opened in the background, and as long as it is not, the store has nothing and
// takes nothing, so that the site is served uncached. [Store.Ping] waits for the
// outcome and tells it; [Store.Err] tells it as it is now.
//
// A file that another process holds is taken over as soon as it is released. A
// file that is not a cache database is never touched. A cache database that is
// damaged is renamed to path.corrupt-<time>, and a new one begun. If path is a
// symbolic link, the file is what it leads to.
func Open(path string, opts ...Option) *Store {
	o := makeOptions(opts)
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	s := &Store{
		path:    path,
		opt:     o,
		log:     o.log,
		marks:   marks.New(newEpoch(), 0, 0),
		mem:     memory.New(o.memory),
		queue:   newQueue(o.queue),
		opened:  make(chan struct{}),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
		kick:    make(chan struct{}, 1),
		err:     errOpening,
	}
	s.blind.Store(true)
	go s.run()
	return s
}

// newEpoch draws an epoch. Two that are equal would let a store keep what was
// begun before another process had the file; of 64 random bits none are.
func newEpoch() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:]) | 1
}

// Errors that say why a store has no file. Each also matches
// [accel.ErrUnavailable]. One that has to do with permissions or the path
// matches what package io/fs has for it: fs.ErrPermission, fs.ErrNotExist.
var (
	// ErrLocked means that another process, or another Store of this one, holds
	// the file. The store takes it over when it is released.
	ErrLocked = errors.New("in use by another process")
	// ErrForeign means that what stands at the path is not a cache database. It
	// is not touched.
	ErrForeign = errors.New("not a cache database")
	// ErrVersion means a cache database of another release. It is not touched.
	ErrVersion = errors.New("cache database of another release")
	// ErrDamaged means that three files were set aside in this store's life. It
	// stays off.
	ErrDamaged = errors.New("damaged")

	errOpening = errors.New("is being opened")
	errHung    = errors.New("the disk does not answer")
)

// Err returns nil if the store has its file, and otherwise why not. While the
// file is being opened for the first time it returns an error that matches
// accel.ErrUnavailable alone.
func (s *Store) Err() error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		return nil
	}
	return s.wrap(s.err)
}

func (s *Store) wrap(err error) error {
	return fmt.Errorf("boltstore: open %s: %w (%w)", s.path, err, accel.ErrUnavailable)
}

// Ping waits until the first attempt to open the file has ended, and returns Err,
// or ctx.Err().
func (s *Store) Ping(ctx context.Context) error {
	select {
	case <-s.opened:
		return s.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Begin implements [accel.Store]. It linearizes inside the lock of the marks.
func (s *Store) Begin() accel.Position {
	if s.closed.Load() || s.blind.Load() {
		return accel.Position{}
	}
	return s.marks.Begin(time.Now())
}

// End implements [accel.Store].
func (s *Store) End(at accel.Position) { s.marks.End(at) }

// Valid implements [accel.Store]. It linearizes inside the lock of the marks.
func (s *Store) Valid(at accel.Position, hashes []accel.Hash) bool {
	return !s.closed.Load() && s.marks.Valid(at, hashes)
}

// Get implements [accel.Store]: memory, then what is queued, then the file. It
// linearizes where it reads the tier that answers.
func (s *Store) Get(ctx context.Context, key accel.Key, vary []string) (found accel.Found, err error) {
	err = s.find(ctx, &query{key: key, vary: vary, why: toKeep}, &found)
	return found, err
}

// Lend implements [accel.Lender]. It lends what it finds on disk, if it does not
// promote it.
func (s *Store) Lend(ctx context.Context, key accel.Key, vary []string, pick func(*accel.Entry) int) (found accel.Found, err error) {
	err = s.find(ctx, &query{key: key, vary: vary, why: toSend, pick: pick}, &found)
	return found, err
}

// find is Get and Lend. It and what it calls write what they find to found, which is
// empty: it is large, and most look-ups are over in half a microsecond.
func (s *Store) find(ctx context.Context, ask *query, found *accel.Found) (err error) {
	// A look-up that marks were dropped behind is not certain of what it found.
	// Marks are dropped once a second; a second look-up is as good as ever.
	for try := range 3 {
		if try > 0 {
			*found = accel.Found{}
		}
		gen := s.marks.Gen()
		err = s.get(ctx, ask, gen, found)
		if err == nil || s.marks.Gen() == gen {
			break
		}
	}
	return err
}

func (s *Store) get(ctx context.Context, ask *query, gen uint64, found *accel.Found) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	if s.file.Load() == nil {
		// Whoever has the file may be invalidating what is in memory here.
		return s.getDisk(ctx, ask, queued{}, s.mem.Ticket(ask.key), found)
	}
	it, names, known := s.mem.Get(ask.key, ask.vary)
	if it != nil {
		// The newest version: if it is not valid, no older one answers.
		return s.judgeItem(it, found)
	}
	if known {
		found.Vary = names
		return accel.ErrNotFound
	}
	// The ticket before the look at the queue: what is put after that look leaves the
	// queue, and perhaps memory, before the disk is read or what it said is promoted.
	ticket := s.mem.Ticket(ask.key)
	q := s.queue.get(ask.key)
	point.At(point.QueueFound)
	if q.otherNames(ask.vary) {
		found.Vary = q.vary
		return accel.ErrNotFound
	}
	if q.op != nil && q.op.entry != nil {
		v := s.marks.CheckRead(gen, q.op.entry.At.N, q.op.entry.Marks)
		v.Valid = v.Valid || point.Off(point.QueueChecks)
		return s.judge(q.op.entry, v, time.Time{}, found)
	}
	err := s.getDisk(ctx, ask, q, ticket, found)
	if q.dropped(found.Vary) {
		found.Vary = nil
	}
	return err
}

func (s *Store) judgeItem(it *memory.Item, found *accel.Found) error {
	e := it.Entry
	point.At(point.MemoryFound)
	v := s.marks.Check(e.At.N, max(e.At.N, it.Checked()), e.Marks)
	v.Valid = v.Valid || point.Off(point.MemoryChecks)
	switch {
	case !v.Valid:
		s.mem.Delete(e.Key, e)
		return accel.ErrNotFound
	case it.Gone() && !point.Off(point.MemoryGone):
		// Scanned out of memory, perhaps because of a mark that is dropped by now.
		return accel.ErrNotFound
	case v.StaleSince.IsZero():
		it.SetChecked(v.UpTo)
	default:
		it.MarkStale(v.StaleSince)
	}
	s.used.set(e.Key)
	return s.judge(e, v, it.StaleSince(), found)
}

// judge turns a verdict on an entry into an answer. since is when the entry was
// first expired, as far as its own row or copy knows.
func (s *Store) judge(e *accel.Entry, v marks.Verdict, since time.Time, found *accel.Found) error {
	now := s.opt.now()
	if !v.Valid || !e.KeepUntil.After(now) {
		return accel.ErrNotFound
	}
	found.Entry, found.StaleSince = e, earlier(v.StaleSince, since)
	if s.opt.machine {
		found.Now = now
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Put implements [accel.Store]. It linearizes inside the lock of the marks, where
// the entry enters memory and the queue.
func (s *Store) Put(e, old *accel.Entry) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	if s.file.Load() == nil {
		return s.unavailable()
	}
	if size := memory.Size(e); size > s.maxEntry() {
		s.count.refused.Add(1)
		s.drop(e.Key)
		return fmt.Errorf("boltstore: entry of %d bytes: %w", size, accel.ErrTooLarge)
	}
	err := errMoved
	for tries := 0; errors.Is(err, errMoved) && tries < maxLooks; tries++ {
		err = s.admit(e, old, s.look(e, old))
	}
	if err != nil {
		s.count.refused.Add(1)
		return err
	}
	s.wake()
	s.count.stored.Add(1)
	return nil
}

// maxLooks is how often a Put looks before it gives up: a crowd that renews one key
// has each other in the way.
const maxLooks = 16

// A sight is what a Put has seen before it is admitted.
type sight struct {
	gen    uint64
	ticket memory.Ticket
	looked bool // at the queue, and then at the file
	queued queued
	stands format.Standing

	written uint64 // the file's last transaction, before that
}

// look takes the ticket first, and looks at the queue before the file: what is on its
// way from one to the other is seen in the queue, or else on disk.
func (s *Store) look(e, old *accel.Entry) sight {
	l := sight{gen: s.marks.Gen(), ticket: s.mem.Ticket(e.Key)}
	// Only what was begun before the last invalidation can find something newer on
	// disk.
	if l.looked = old != nil || e.At.N != s.marks.N(); l.looked {
		l.written = s.written()
		l.queued = s.queue.get(e.Key)
		l.stands = s.standing(e)
	}
	return l
}

// written returns the number of the file's last transaction, 0 if there is no file.
func (s *Store) written() uint64 {
	if f := s.file.Load(); f != nil {
		return f.txid.Load()
	}
	return 0
}

// errMoved means that what was seen may be out of date: something was invalidated
// where nothing was looked at, was put or deleted since, or was in the queue then
// and is on disk by now.
var errMoved = fmt.Errorf("%w: others are quicker", accel.ErrInvalidated)

// moved reports whether what was seen may be out of date. q is what the queue has now.
func (s *Store) moved(e *accel.Entry, l *sight, q *queued) bool {
	if !l.looked {
		return e.At.N != s.marks.N()
	}
	return s.mem.Ticket(e.Key) != l.ticket || l.queued.op != nil && q.op != l.queued.op || len(q.drops) != len(l.queued.drops)
}

func (s *Store) admit(e, old *accel.Entry, l sight) error {
	var replaced []*op
	queued := false
	err := s.marks.Admit(e, old, true, func() error {
		if old != nil && (s.marks.Gen() != l.gen || !s.holds(old, l.stands)) && !point.Off(point.RenewalOldThere) {
			// With a changed generation: what was seen on disk may have been
			// struck, and the mark dropped since.
			return accel.ErrInvalidated
		}
		q := s.queue.get(e.Key)
		if s.moved(e, &l, &q) {
			return errMoved
		}
		if !point.Off(point.HigherStays) {
			if s.queue.higher(e) {
				return accel.ErrInvalidated
			}
			if s.queue.leaves(q, l.stands) > e.At.N {
				if s.written() != l.written {
					return errMoved // what is to delete it may have left the queue
				}
				return accel.ErrInvalidated
			}
		}
		ok, kept := s.mem.Put(e, time.Time{})
		if !ok {
			return accel.ErrInvalidated
		}
		if replaced, queued = s.queue.add(&op{key: e.Key, entry: e, old: old}); queued {
			return nil
		}
		// No room: the store on disk is dropped, and with it whatever older
		// version stands there. Memory keeps the new one if it can. Where there
		// is no room even for that, the Put has not happened.
		s.count.dropped.Add(1)
		var room bool
		if replaced, room = s.queue.addDropped(e); !room || !kept {
			s.mem.Delete(e.Key, e)
			return accel.ErrBusy
		}
		return nil
	})
	s.letGo(replaced...)
	if err == nil && !queued {
		s.marks.Release(e.At)
	}
	return err
}

// holds reports whether e is what its key holds, in memory, in the queue, or on
// disk as far as was seen there.
func (s *Store) holds(e *accel.Entry, stands format.Standing) bool {
	if it := s.mem.Peek(e.Key); it != nil {
		return memory.Same(it.Entry, e)
	}
	if _, _, known := s.mem.Get(e.Key, e.Vary); known {
		return false // dropped with the Vary names it had
	}
	q := s.queue.get(e.Key)
	if q.op != nil && q.op.entry != nil {
		return memory.Same(q.op.entry, e)
	}
	if q.dropped(e.Vary) || q.op.deletes(stands.Row) {
		return false
	}
	return isRow(stands.Row, e)
}

// isRow reports whether a row is that of an entry.
func isRow(row format.Row, e *accel.Entry) bool {
	return row.At == e.At && row.FreshUntil.Equal(format.Time(e.FreshUntil)) && row.KeepUntil.Equal(format.Time(e.KeepUntil))
}

// letGo releases the positions of stores that are no longer in the queue.
func (s *Store) letGo(ops ...*op) {
	for _, o := range ops {
		if o.entry != nil {
			s.marks.Release(o.entry.At)
		}
	}
}

// maxEntry is the size above which an entry would push too much out: of the file,
// or of the queue.
func (s *Store) maxEntry() int64 {
	return min(s.opt.maxSize/8, max(s.opt.queue/2, 1))
}

// drop makes a key hold nothing, whatever it holds.
func (s *Store) drop(key accel.Key) {
	replaced, _ := s.queue.add(&op{key: key})
	s.mem.Delete(key, nil)
	s.letGo(replaced...)
	s.wake()
}

// Delete implements [accel.Store]. It linearizes inside the lock of the queue; the
// copy in memory goes right after.
func (s *Store) Delete(e *accel.Entry) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	if s.file.Load() == nil {
		return s.unavailable()
	}
	replaced, ok := s.queue.addDelete(e)
	if !ok {
		return accel.ErrBusy
	}
	s.mem.Delete(e.Key, e)
	s.letGo(replaced...)
	s.wake()
	return nil
}

func (s *Store) unavailable() error {
	if err := s.Err(); err != nil {
		return err
	}
	return accel.ErrUnavailable
}

// Invalidate implements [accel.Store]. It linearizes where the marks enter memory;
// it returns when they are on disk.
func (s *Store) Invalidate(ctx context.Context, ms ...accel.Mark) error {
	return s.mark(ctx, len(ms), func() { s.marks.Invalidate(ms...) })
}

// Expire implements [accel.Store]. It linearizes where the marks enter memory; it
// returns when they are on disk.
func (s *Store) Expire(ctx context.Context, ms ...accel.Mark) error {
	return s.mark(ctx, len(ms), func() { s.marks.Expire(s.opt.now(), ms...) })
}

func (s *Store) mark(ctx context.Context, n int, set func()) error {
	if s.closed.Load() {
		return accel.ErrClosed
	}
	if n == 0 {
		return nil
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	s.hurried.Store(time.Now().UnixNano())
	set()
	point.At(point.MarkSet)
	s.count.invalidated.Add(uint64(n))
	done := make(chan error, 1)
	s.mu.Lock()
	if s.file.Load() == nil && s.err != nil && !errors.Is(s.err, errOpening) {
		err := s.err
		s.mu.Unlock()
		return fmt.Errorf("%w: %w", accel.ErrNotDurable, s.wrap(err))
	}
	s.waiters = append(s.waiters, done)
	s.mu.Unlock()
	s.wake()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		// Closed while it waited.
		select {
		case err := <-done:
			return err
		default:
			return accel.ErrClosed
		}
	}
}

// tell answers everybody who waits and is not claimed by a writer.
func (s *Store) tell(err error) {
	s.mu.Lock()
	list := s.waiters
	s.waiters = nil
	s.mu.Unlock()
	for _, w := range list {
		w <- err
	}
}

// wake makes the writer look for work.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Stats implements [accel.Store].
func (s *Store) Stats() accel.StoreStats {
	var entries, bytes, fileBytes int64
	queued, queueBytes := s.queue.size(func() {
		if f := s.file.Load(); f != nil {
			entries, bytes, fileBytes = f.entries.Load(), f.bytes.Load(), f.size.Load()
		}
	})
	rows, held := s.marks.Len()
	return accel.StoreStats{
		Entries:       entries + int64(queued),
		Bytes:         bytes + queueBytes,
		FileBytes:     fileBytes,
		MemoryEntries: int64(s.mem.Len()),
		MemoryBytes:   s.mem.Bytes(),
		QueueBytes:    queueBytes,
		Marks:         int64(rows),
		InFlight:      int64(held),
		Stored:        s.count.stored.Load(),
		Refused:       s.count.refused.Load(),
		Dropped:       s.count.dropped.Load(),
		Expired:       s.count.expired.Load(),
		Evicted:       s.count.evicted.Load(),
		Swept:         s.count.swept.Load(),
		Invalidated:   s.count.invalidated.Load(),
		ReadErrors:    s.count.readErrors.Load(),
		WriteErrors:   s.count.writeErrors.Load(),
		SetAside:      s.count.setAside.Load(),
	}
}

// Close writes what is queued, marks the file as left in order, and releases it.
// A disk from which nothing has come for ten seconds is not waited for any longer:
// then Close returns an error, and what there is to do is done when the disk
// answers, if it does. A second Close returns nil.
func (s *Store) Close() error {
	first := !s.closed.Swap(true)
	if first {
		close(s.closing)
	}
	seen := s.beat.Load()
	tick := time.NewTicker(s.opt.hang)
	defer tick.Stop()
	for {
		select {
		case <-s.stopped:
			return nil
		case <-tick.C:
		}
		now := s.beat.Load()
		if now != seen {
			seen = now
			continue
		}
		s.forsake()
		if !first {
			return nil
		}
		return fmt.Errorf("boltstore: close %s: %w", s.path, errHung)
	}
}

// forsake answers everybody who waits for a disk that does not answer.
func (s *Store) forsake() {
	s.mu.Lock()
	if f := s.file.Load(); f != nil {
		s.waiters = append(s.waiters, f.paying...)
		f.paying = nil
	}
	s.mu.Unlock()
	s.tell(errClosing)
}
