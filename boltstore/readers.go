package boltstore

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/memory"
	"github.com/accelhttp/accelerator/internal/point"
)

const (
	// readBudget is how long a look-up waits for the disk. Rendering a page takes
	// about as long.
	readBudget = 50 * time.Millisecond
	// slowReads in a row that took longer mean that the disk has a bad time; it is
	// then left alone for skipReads.
	slowReads = 3
	skipReads = time.Second
)

// readerCount is how many goroutines read the file. A page fault holds a P: with
// 64 cold reads at once on two cores, an unrelated goroutine was seen to wait for
// 660 ms; with one, for 4.
func readerCount() int { return max(1, runtime.GOMAXPROCS(0)-1) }

// A read is one look at the file on its way to a reader and back.
type read struct {
	query
	result chan readResult // holds one
}

// A query says what is looked for.
type query struct {
	key  accel.Key
	vary []string
	why  purpose
	pick func(*accel.Entry) int // of accel.Lender; for toSend
}

// A purpose is what the file is read for.
type purpose uint8

const (
	toKeep    purpose = iota // an entry, whoever gets it
	toSend                   // an entry that is lent
	toReplace                // only what a Put would replace
)

type readResult struct {
	entry  *accel.Entry
	loan   *loan // nil if entry is not lent
	row    format.Row
	names  []string
	stands format.Standing
	err    error

	// What the read saw is judged by the state of things when it began.
	gen uint64
}

// reads are kept for reuse; one whose caller has left is not.
var reads = sync.Pool{New: func() any { return &read{result: make(chan readResult, 1)} }}

var timers = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}}

var errSlow = errors.New("the disk takes too long")

// startReaders starts the goroutines that read the file.
func (f *file) startReaders() {
	if mapAhead && f.s.opt.readInLine != nil {
		// bbolt would map it anew when it is full; but it keeps AllocSize free.
		f.mapped = format.MappedTo(f.db, f.s.opt.maxSize)
	}
	n := readerCount()
	f.readers.Add(n)
	for range n {
		go func() {
			defer f.readers.Done()
			for {
				select {
				case r := <-f.jobs:
					if !f.serve(r) {
						return
					}
				case <-f.quit:
					return
				}
			}
		}()
	}
}

// lately is for how long after a key was read the pages on the way to it are taken to be
// in memory still. A system takes away first what was not used for longest: it would have
// to read all that it has room for anew in that time, and a disk that is so fast does not
// keep anybody waiting.
const lately = time.Second

// warm has keys that were read a moment ago: each in its slot, the beginning of a digest
// and the time in milliseconds, modulo warmWrap.
type warm [1 << 15]atomic.Uint64

const warmWrap = 1 << 24

func (w *warm) slot(key *accel.Key) (slot *atomic.Uint64, digest uint64) {
	d := binary.LittleEndian.Uint64(key.Resource[:]) ^ binary.LittleEndian.Uint64(key.Variant[:])
	return &w[d%uint64(len(w))], d - d%warmWrap
}

func (w *warm) set(key *accel.Key, now time.Duration) {
	slot, digest := w.slot(key)
	if v := digest + uint64(now.Milliseconds())%warmWrap; slot.Load() != v { // others read it as well
		slot.Store(v)
	}
}

func (w *warm) has(key *accel.Key, now time.Duration) bool {
	slot, digest := w.slot(key)
	v := slot.Load()
	return v-v%warmWrap == digest && (uint64(now.Milliseconds())-v)%warmWrap < uint64(lately.Milliseconds())
}

var errOvertaken = errors.New("the file was written while it was read")

// readInLine reads, on the goroutine that wants it, what a reader has read a moment ago:
// that spares two changes of goroutine, and a transaction. It calls nothing of bbolt's,
// whose locks are held by whoever waits for the disk, and for ever after a fault. It
// answers only what is beyond doubt. All else, ok false, is for the readers.
func (f *file) readInLine(ask *query) (res readResult, ok bool) {
	if f.mapped == nil {
		return res, false
	}
	now := time.Since(f.opened)
	if !f.warm.has(&ask.key, now) || !f.unmap.TryRLock() {
		return res, false
	}
	defer f.unmap.RUnlock()
	// What the writer does because something is on disk, it does when txid says so: what
	// has left the queue is in this transaction.
	txid := f.txid.Load()
	pending, ok := f.pending(txid)
	if !ok {
		return res, false
	}
	point.At(point.Reading)
	if ask.why == toSend {
		res.loan = f.s.loans.begin()
		res.loan.Pick = ask.pick
	}
	err := guard(func() error {
		res.entry, res.row, res.names, res.err = f.mapped.Get(txid, pending, ask.key, ask.vary, f.swept.Load(), res.loan.how())
		f.s.opt.readInLine()
		// An exchange, because on some machines a load would be done before what was
		// read.
		if !f.txid.CompareAndSwap(txid, txid) || !f.mapped.Last(txid) {
			return errOvertaken
		}
		return nil
	})
	if ok = err == nil && (res.err == nil || res.err == format.ErrNotFound); ok {
		f.warm.set(&ask.key, now)
	}
	return res, ok
}

// serve answers one read. What it returns points into no page: the transaction is
// over before anybody sees it.
func (f *file) serve(r *read) bool {
	var res readResult
	f.s.opt.beforeRead()
	point.At(point.Reading)
	had := f.txid.Load()
	if r.why == toSend {
		res.loan = f.s.loans.begin() // whose caller may have left: nobody picks
	}
	look := func() error {
		return f.db.View(func(btx *bolt.Tx) error {
			if err := forward(btx, had); err != nil {
				return err
			}
			pending, ok := f.pending(uint64(btx.ID()))
			if !ok {
				return errOvertaken // since the transaction began
			}
			if r.why == toReplace {
				res.stands, res.err = format.Stands(btx, pending, r.key, r.vary)
			} else {
				res.entry, res.row, res.names, res.err = format.Get(btx, pending, r.key, r.vary, f.swept.Load(), res.loan.how())
			}
			return nil
		})
	}
	err := guard(look)
	for try := 0; errors.Is(err, errOvertaken) && try < maxLooks; try++ {
		err = guard(look)
	}
	if err != nil {
		res.err = err
	}
	key := r.key
	if r.why != toReplace && (res.err == nil || res.err == format.ErrNotFound) {
		f.warm.set(&key, time.Since(f.opened))
	}
	r.result <- res // r is its caller's from here on
	switch {
	case errors.Is(err, errFault), errors.Is(err, errBack):
		f.fail(err)
		return false
	case errors.Is(res.err, format.ErrDamaged):
		// One record, as far as we know. The writer deletes it, or finds that
		// more is damaged than that.
		replaced, _ := f.s.queue.add(&op{key: key, id: res.row.ID})
		f.s.letGo(replaced...)
		f.s.wake()
	}
	return true
}

// getDisk looks a key up in the file. It does not find what goes as soon as the
// queue, in which the caller found q, is written. What it finds is promoted if memory
// wants it, unless the key has changed since the ticket was taken, which was before
// that look; what is promoted is not lent.
func (s *Store) getDisk(ctx context.Context, ask *query, q queued, ticket memory.Ticket, found *accel.Found) error {
	wanted := s.mem.Wants(ask.key)
	if wanted {
		ask.why = toKeep
	}
	res := s.read(ctx, ask)
	if res.err != nil {
		if res.loan != nil {
			res.loan.end()
		}
		if errors.Is(res.err, format.ErrNotFound) {
			found.Vary = res.names
			return accel.ErrNotFound
		}
		return res.err
	}
	if (q.dropped(ask.vary) || q.op.deletes(res.row)) && !point.Off(point.QueueHides) {
		return accel.ErrNotFound
	}
	e := res.entry
	point.At(point.DiskFound)
	v := s.marks.CheckRead(res.gen, e.At.N, e.Marks)
	v.Valid = v.Valid || point.Off(point.DiskChecks)
	if err := s.judge(e, v, res.row.StaleSince, found); err != nil {
		return err
	}
	s.used.set(ask.key)
	point.At(point.DiskJudged)
	if res.loan != nil {
		found.Release = res.loan.end
	}
	if !wanted {
		return nil
	}
	s.marks.Promote(res.gen, e, func(since time.Time) {
		if q := s.queue.get(ask.key); q.op == nil && q.drops == nil {
			s.mem.PromoteSince(ticket, e, earlier(since, res.row.StaleSince))
		}
	})
	return nil
}

// standing tells what the file has that a Put of e would replace. When the file
// does not tell in time, it has nothing: the writer looks again.
func (s *Store) standing(e *accel.Entry) format.Standing {
	return s.read(context.Background(), &query{key: e.Key, vary: e.Vary, why: toReplace}).stands
}

// read has the file read, and waits for readBudget at most.
func (s *Store) read(ctx context.Context, ask *query) (res readResult) {
	f := s.file.Load()
	if f != nil && ask.why != toReplace {
		gen := s.marks.Gen()
		if res, ok := f.readInLine(ask); ok {
			res.gen = gen
			return res
		}
	}
	timer := timers.Get().(*time.Timer)
	timer.Reset(s.opt.readBudget)
	defer func() { timer.Stop(); timers.Put(timer) }()

	if f == nil {
		// Right after the start the file is on its way.
		select {
		case <-s.opened:
		case <-timer.C:
		case <-ctx.Done():
			return readResult{err: ctx.Err()}
		}
		if f = s.file.Load(); f == nil {
			return readResult{err: s.unavailable()}
		}
	}
	if skip := s.readSkip.Load(); skip != 0 && time.Now().UnixNano() < skip {
		return readResult{err: errSlow}
	}
	gen := s.marks.Gen()
	r := reads.Get().(*read)
	r.query = *ask
	select {
	case f.jobs <- r:
	case <-timer.C:
		return s.slow()
	case <-f.quit:
		return readResult{err: s.unavailable()}
	case <-ctx.Done():
		return readResult{err: ctx.Err()}
	}
	select {
	case res = <-r.result:
		res.gen = gen
		r.query = query{}
		reads.Put(r)
	case <-timer.C:
		return s.slow()
	case <-ctx.Done():
		return readResult{err: ctx.Err()}
	}
	if s.readSlow.Load() != 0 {
		s.readSlow.Store(0)
	}
	if res.err != nil && !errors.Is(res.err, format.ErrNotFound) {
		s.count.readErrors.Add(1)
	}
	return res
}

func (s *Store) slow() readResult {
	s.count.readErrors.Add(1)
	if s.readSlow.Add(1) >= slowReads {
		s.readSlow.Store(0)
		s.readSkip.Store(time.Now().Add(skipReads).UnixNano())
	}
	return readResult{err: errSlow}
}
