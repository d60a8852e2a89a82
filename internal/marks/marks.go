// Package marks is the promise of the library as a data structure without I/O:
// positions, marks, the floor under them, and who is in flight.
//
// An invalidation is a number and a few marks. An entry is valid if and only if
// the number of its position is at least the hard mark of each of its hashes,
// and at least the floor. Everything else in this package is about forgetting:
// when a mark may leave the disk, and when it may leave memory, without an
// entry that it strikes ever being taken for valid again.
//
// # The life of a mark
//
//	Invalidate   in memory, and owed to the disk            Owed
//	             written and synced, or found needless      Paid
//	             no older entry on disk carries it          Cleaned
//	             no older copy in memory, none in flight    Prunable, scan, Drop
//
// A store in memory has no disk: it calls Paid and Cleaned at once.
//
// # Rules
//
// The tests are named after the fourteen rules of docs/design.md that this
// package keeps, or has its part in. Three of them deserve a word here, because
// the code that keeps them looks accidental:
//
// Positions held by Begin, and those of entries waiting in a write queue, keep
// every mark above them in memory. When a mark is going to be dropped, the
// horizon rises to it, before memory is scanned, and whatever comes with a
// position below the horizon is refused: so a handler that hangs, or a caller
// that forgot to Begin, costs its own entry and nothing else.
//
// Whoever looks an entry up, in memory, in the queue or on disk, holds a copy
// that nobody else sees: it may be deleted, and the mark that struck it dropped,
// before its marks are looked at. Gen is taken before the look-up and compared
// after the marks were looked at: it changes when marks are dropped.
//
// A soft mark never refuses anything. Its number decides which entries are
// stale, its time since when.
//
// # Order of locks
//
// Admit and Promote run the store's code inside the lock of Marks, which
// therefore comes first: nothing here may be called inside a lock that this code
// takes. Gen and N take no lock.
package marks

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/point"
)

// DefaultLimit is how many marks are remembered in memory before the floor is
// raised instead, which empties the cache. 65 536 marks are about 6 MiB.
const DefaultLimit = 65536

// Lapse is how long a position may be held by Begin. A handler that takes longer
// than this is taken for hung: it no longer holds up the dropping of marks, and
// what it returns is not stored.
const Lapse = 5 * time.Minute

// A Row is what is remembered under one hash, in memory and in bucket g.
type Row struct {
	Mark accel.Mark
	// Hard is the number of the last invalidation, 0 if there was none.
	Hard uint64
	// Soft is the number of the last expiry, 0 if there was none.
	Soft uint64
	// Since is the moment of the first expiry that the row remembers: the zero
	// time if Soft is 0. Keeping the first makes entries that a later one
	// struck a little staler than they are, never fresher.
	Since time.Time
}

// Strikes reports whether the row strikes an entry of that number out.
func (r Row) Strikes(n uint64) bool {
	return n < r.Hard && !(point.Off(point.StrictlyLess) && n == r.Hard-1)
}

// Stales reports whether the row makes an entry of that number stale.
func (r Row) Stales(n uint64) bool { return n < r.Soft && !point.Off(point.SoftMarks) }

func (r Row) top() uint64 { return max(r.Hard, r.Soft) }

// merge keeps the higher of each mark: marks only grow.
func (r Row) merge(o Row) Row {
	if r.Mark.Kind == 0 {
		return o
	}
	r.Hard = max(r.Hard, o.Hard)
	r.Soft = max(r.Soft, o.Soft)
	if r.Since.IsZero() || !o.Since.IsZero() && o.Since.Before(r.Since) {
		r.Since = o.Since
	}
	return r
}

type row struct {
	Row
	clean uint64 // disk holds no entry below this number that carries the hash
}

type hold struct {
	count int
	last  time.Time // of the last Begin at this number
}

// Marks is the state of one store. It is safe for concurrent use. The zero
// Marks is not ready for use; call New.
type Marks struct {
	// n is the number of the last invalidation, hard or soft. It is read without
	// the lock by every hit, and written with it, after the marks it stands for.
	n atomic.Uint64
	// gen counts the times that marks were dropped; it is written with the lock.
	gen atomic.Uint64

	limit int

	mu      sync.RWMutex // protects following
	epoch   uint64
	floor   uint64 // entries below are invalid
	horizon uint64 // no mark at or below it, or the floor, is certain to be remembered
	rows    map[accel.Hash]row
	peak    int // most rows since the map was built
	softAll bool
	owed    map[accel.Hash]struct{}
	// owedFloor says that the floor is not yet on disk.
	owedFloor bool
	flights   map[uint64]hold
	queued    map[uint64]int
}

// New returns marks that remember up to limit rows (0: DefaultLimit), at
// position (epoch, n).
func New(epoch, n uint64, limit int) *Marks {
	if limit <= 0 {
		limit = DefaultLimit
	}
	m := &Marks{
		limit:   limit,
		epoch:   epoch,
		horizon: n,
		rows:    make(map[accel.Hash]row),
		owed:    make(map[accel.Hash]struct{}),
		flights: make(map[uint64]hold),
		queued:  make(map[uint64]int),
	}
	m.n.Store(n)
	return m
}

// Begin returns the present position and holds it.
func (m *Marks) Begin(now time.Time) accel.Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := accel.Position{Epoch: m.epoch, N: m.n.Load()}
	h := m.flights[at.N]
	m.flights[at.N] = hold{count: h.count + 1, last: now}
	return at
}

// End lets a position go. One of an earlier epoch was let go when that ended.
func (m *Marks) End(at accel.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.Epoch != m.epoch {
		return
	}
	h, ok := m.flights[at.N]
	if !ok {
		return // lapsed
	}
	if h.count--; h.count > 0 {
		m.flights[at.N] = h
	} else {
		delete(m.flights, at.N)
	}
}

// Release lets the position of a queued entry go: it was written, or dropped,
// and is no longer found in the queue.
func (m *Marks) Release(at accel.Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at.Epoch != m.epoch {
		return
	}
	if c := m.queued[at.N] - 1; c > 0 {
		m.queued[at.N] = c
	} else {
		delete(m.queued, at.N)
	}
}

// Admit runs store if e may be stored, in one step with the check: no
// invalidation comes between. If store returns nil and queue is set, e's
// position is held until Release. If old is not nil, e must be fit to renew it
// (the same key, and all of its marks) and old be valid still; that it is what its
// key holds is for store to find out.
//
// Store must not call back into m, Gen excepted.
func (m *Marks) Admit(e, old *accel.Entry, queue bool, store func() error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.mayUse(e.At, e.Marks) && !point.Off(point.AdmitChecks) {
		return accel.ErrInvalidated
	}
	if old != nil && !(renews(e, old) && (m.valid(old.At.N, old.Marks) || point.Off(point.RenewalOldValid))) {
		return accel.ErrInvalidated
	}
	point.Gap(point.AdmitOneStep, &m.mu)
	if err := store(); err != nil {
		return err
	}
	if queue {
		m.queued[e.At.N]++
	}
	return nil
}

// renews reports whether e is fit to renew old at all: it is under the same key,
// and whatever strikes old strikes it.
func renews(e, old *accel.Entry) bool {
	return e.Key == old.Key && !slices.ContainsFunc(old.Marks, func(h accel.Hash) bool {
		return !slices.Contains(e.Marks, h) && !point.Off(point.RenewalUnion)
	})
}

// Promote runs store if an entry that a read of a lower tier returned is valid
// and the read began in the generation gen, in one step with the check. Several
// promotions may run at once.
//
// Store must not call back into m.
func (m *Marks) Promote(gen uint64, e *accel.Entry, store func(staleSince time.Time)) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.gen.Load() != gen && !point.Off(point.PromoteGeneration) {
		return false
	}
	if !m.valid(e.At.N, e.Marks) && !point.Off(point.PromoteChecks) {
		return false
	}
	store(m.staleSince(e.At.N, e.Marks))
	return true
}

// Valid reports whether a response made at the position and never stored may be
// used now. The position must be held, or it may be refused.
func (m *Marks) Valid(at accel.Position, hashes []accel.Hash) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mayUse(at, hashes)
}

func (m *Marks) mayUse(at accel.Position, hashes []accel.Hash) bool {
	return at.Epoch == m.epoch && (at.N >= m.horizon || point.Off(point.Horizon)) && m.valid(at.N, hashes)
}

// A Verdict is what the marks say of a stored entry.
type Verdict struct {
	Valid      bool
	StaleSince time.Time // when it was first expired; zero if it was not
	// UpTo is the number up to which all marks were looked at. An entry that
	// was valid up to the present number need not be checked again.
	UpTo uint64
}

// Check judges a stored entry by the number of its position. checked is the
// UpTo of an earlier verdict on the same entry that was Valid and not stale, or
// the number itself.
//
// It takes no lock when nothing was invalidated since then. If something was,
// Check is for who keeps marks from being dropped, as the writer does while the
// entry it judges is queued. Who looked the entry up calls CheckRead.
func (m *Marks) Check(n, checked uint64, hashes []accel.Hash) Verdict {
	if now := m.n.Load(); checked == now {
		return Verdict{Valid: true, UpTo: now}
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	if !m.valid(n, hashes) {
		return Verdict{}
	}
	since := m.staleSince(n, hashes)
	point.Gap(point.UpToLooked, m.mu.RLocker())
	return Verdict{Valid: true, StaleSince: since, UpTo: m.n.Load()}
}

// CheckRead is Check for an entry whose look-up, in whatever tier, began in the
// generation gen: when marks were dropped since, nothing is certain, and the
// entry is not valid. If Gen has changed then, it is worth looking again. What
// the copy itself knows of being stale is read after CheckRead or is part of
// the look-up.
func (m *Marks) CheckRead(gen, n uint64, hashes []accel.Hash) Verdict {
	v := m.Check(n, n, hashes)
	// After the marks were looked at, not before: gen is raised inside the lock
	// that marks are dropped in, so those that were looked at in an unchanged
	// generation were all there.
	if m.gen.Load() != gen && !point.Off(point.Generation) {
		return Verdict{}
	}
	return v
}

// Gen returns the generation of the marks. Take it before a look-up.
func (m *Marks) Gen() uint64 { return m.gen.Load() }

// valid is the rule of the promise, in one line. A number above the store's own
// was never given out: its record survived a crash that its seq did not.
func (m *Marks) valid(n uint64, hashes []accel.Hash) bool {
	if n < m.floor && !point.Off(point.Floor) || n > m.n.Load() {
		return false
	}
	if len(m.rows) > 0 {
		for _, h := range hashes {
			if r, ok := m.rows[h]; ok && r.Strikes(n) {
				return false
			}
		}
	}
	return true
}

func (m *Marks) staleSince(n uint64, hashes []accel.Hash) (since time.Time) {
	if len(m.rows) == 0 {
		return
	}
	look := func(h accel.Hash) {
		if r, ok := m.rows[h]; ok && r.Stales(n) && (since.IsZero() || r.Since.Before(since)) {
			since = r.Since
		}
	}
	for _, h := range hashes {
		look(h)
	}
	if m.softAll {
		look(accel.MarkAll.Hash)
	}
	return since
}

// Invalidate makes hard marks and returns their number. From here on no Check
// lets an older entry pass that carries one of them.
func (m *Marks) Invalidate(marks ...accel.Mark) uint64 {
	return m.mark(marks, func(r *Row, n uint64) { r.Hard = n })
}

// Expire makes soft marks and returns their number.
func (m *Marks) Expire(now time.Time, marks ...accel.Mark) uint64 {
	return m.mark(marks, func(r *Row, n uint64) {
		r.Soft = n
		if r.Since.IsZero() {
			r.Since = now.Round(0)
		}
	})
}

func (m *Marks) mark(marks []accel.Mark, set func(*Row, uint64)) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.n.Load() + 1
	raise := false
	if point.Off(point.NumberLast) {
		m.n.Store(n)
		point.Gap(point.NumberLast, &m.mu)
	}
	for _, mk := range marks {
		r, known := m.rows[mk.Hash]
		// Two marks collide: the sweeper finds the entries of one of them only,
		// and would take the disk for clean of the other's.
		raise = raise || known && r.Mark != mk
		r.Mark = mk
		set(&r.Row, n)
		if mk.Kind == accel.KindAll {
			raise = raise || r.Hard == n
			m.softAll = true
		}
		m.put(mk.Hash, r)
	}
	// That there are too many is the last resort: the cache is empty then.
	if raise || len(m.rows) > m.limit {
		m.raise(n)
	}
	// Last: a hit reads n without the lock, and takes an unchanged n to mean
	// that there is no new mark.
	if !point.Off(point.NumberLast) {
		m.n.Store(n)
	}
	return n
}

func (m *Marks) put(h accel.Hash, r row) {
	m.rows[h] = r
	m.owed[h] = struct{}{}
	m.peak = max(m.peak, len(m.rows))
}

// raise lifts the floor to n, which is above every number given out. It stands
// for every mark: in memory from now on, on disk from the transaction that writes
// it, which deletes the rows it replaces.
func (m *Marks) raise(n uint64) {
	m.floor, m.owedFloor = n, true
	m.rows = make(map[accel.Hash]row)
	m.owed = make(map[accel.Hash]struct{})
	m.peak, m.softAll = 0, false
}

// A Debt is what memory knows and the disk does not.
type Debt struct {
	Rows []Row
	// Floor is to be written if NewFloor is set; every row on disk whose marks
	// are at or below it may then go, in the same transaction.
	Floor    uint64
	NewFloor bool
	// Seq is to be written as m.seq: no position above it may be on disk. Hence
	// Owed is called when the entries of the transaction are already chosen.
	Seq uint64
}

// Empty reports whether nothing is owed.
func (d Debt) Empty() bool { return len(d.Rows) == 0 && !d.NewFloor }

// Owed returns what is to be written in the next transaction, before anything
// else in it: each entry is checked after the call, by Check, and written with
// the StaleSince of the verdict.
func (m *Marks) Owed() Debt {
	m.mu.RLock()
	defer m.mu.RUnlock()
	d := Debt{Floor: m.floor, NewFloor: m.owedFloor, Seq: m.n.Load()}
	for h := range m.owed {
		d.Rows = append(d.Rows, m.rows[h].Row)
	}
	return d
}

// Paid says that the debt is durable. What has grown since is still owed.
func (m *Marks) Paid(d Debt) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range d.Rows {
		if m.rows[r.Mark.Hash].Row == r {
			delete(m.owed, r.Mark.Hash)
		}
	}
	if d.NewFloor && m.floor == d.Floor {
		m.owedFloor = false
	}
}

// Cleaned says that the disk holds no entry that the row strikes or makes stale,
// and no longer the row itself. Those that it makes stale may stay if StaleSince
// was written into them. Only who writes entries can know this: none may be
// written between the look and the call. Of the row of everything it cannot be
// known, since no index leads to its entries: that row is not cleaned but paid.
func (m *Marks) Cleaned(rows ...Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range rows {
		if have := m.rows[r.Mark.Hash]; have.Row == r && r.Mark.Kind != accel.KindAll {
			have.clean = r.top()
			m.rows[r.Mark.Hash] = have
			delete(m.owed, r.Mark.Hash)
		}
	}
}

// Prunable begins a pruning and returns the rows that may be dropped once no
// older copy is in memory. The caller then scans its memory, deletes the copies
// that the rows strike, marks those that they make stale, and calls Drop.
// Prunings do not overlap: one goroutine of a store does them.
//
// What a scan overlooks because it comes meanwhile need not be looked at: Admit
// refuses it by the horizon, Promote by the marks, which are still there.
func (m *Marks) Prunable(now time.Time) map[accel.Hash]Row {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n, h := range m.flights {
		if now.Sub(h.last) > point.Span(point.Lapse, Lapse) && n != m.n.Load() {
			delete(m.flights, n)
			m.horizon = max(m.horizon, n+1)
		}
	}
	oldest := m.oldest()
	var rows map[accel.Hash]Row
	for h, r := range m.rows {
		if r.clean == r.top() && r.top() <= oldest {
			if rows == nil {
				rows = make(map[accel.Hash]Row)
			}
			rows[h] = r.Row
			m.horizon = max(m.horizon, r.top())
		}
	}
	return rows
}

// Drop forgets the rows that still are what was pruned.
func (m *Marks) Drop(rows map[accel.Hash]Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(rows) > 0 {
		m.gen.Add(1)
	}
	for h, r := range rows {
		if m.rows[h].Row == r || point.Off(point.DropUnchanged) {
			delete(m.rows, h)
		}
	}
	// A Go map never gives memory back; after a purge of a million tags it would
	// keep the room for them.
	if m.peak > 1024 && len(m.rows) < m.peak/4 {
		fresh := make(map[accel.Hash]row, len(m.rows))
		maps.Copy(fresh, m.rows)
		m.rows, m.peak = fresh, len(fresh)
	}
}

// oldest returns the lowest number that is held.
func (m *Marks) oldest() uint64 {
	low := m.n.Load()
	for n := range m.flights {
		if !point.Off(point.FlightsHold) {
			low = min(low, n)
		}
	}
	for n := range m.queued {
		if !point.Off(point.QueueHolds) {
			low = min(low, n)
		}
	}
	return low
}

// Adopt takes over what a file holds that was just opened. Marks made before the
// file was there are made anew, above every position in the file: what it holds
// was stored by somebody who did not know of them. Every position held is let go,
// because nothing begun before the opening may be stored (the process that held
// the file until now may have invalidated it, swept, and forgotten). For the same
// reason the caller has nothing in memory and nothing in its queue.
func (m *Marks) Adopt(epoch, seq, floor uint64, rows []Row) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := max(m.n.Load(), seq, floor)
	for _, o := range rows {
		n = max(n, o.top())
	}
	if len(m.owed) > 0 || m.owedFloor {
		n++
		for h := range m.owed {
			r := m.rows[h]
			if r.Hard > 0 {
				r.Hard = n
			}
			if r.Soft > 0 {
				r.Soft = n
			}
			m.rows[h] = r
		}
		if m.owedFloor {
			m.floor = n
		}
	}
	m.floor = max(m.floor, floor)
	collide := false
	for _, o := range rows {
		r, known := m.rows[o.Mark.Hash]
		collide = collide || known && r.Mark != o.Mark
		r.Row, r.clean = r.merge(o), 0
		m.rows[o.Mark.Hash] = r
		if o.Mark.Kind == accel.KindAll {
			m.softAll = true
		}
	}
	m.peak = max(m.peak, len(m.rows))
	if collide {
		n++
		m.raise(n)
	}
	m.enter(epoch, n)
}

// Reset makes everything invalid that was ever stored and begins a new epoch:
// the file was set aside and a new one takes its place. Nothing is owed to the
// new file but the floor.
func (m *Marks) Reset(epoch uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.n.Load() + 1
	m.raise(n)
	m.enter(epoch, n)
}

func (m *Marks) enter(epoch, n uint64) {
	m.epoch = epoch
	m.horizon = n
	m.flights = make(map[uint64]hold)
	m.queued = make(map[uint64]int)
	m.gen.Add(1)
	m.n.Store(n)
}

// N returns the present number.
func (m *Marks) N() uint64 { return m.n.Load() }

// Floor returns the number below which every entry is invalid.
func (m *Marks) Floor() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.floor
}

// Pending returns up to limit rows that the disk may hold struck or stale entries
// for, for the sweeper to clean. The row of everything is not among them: it
// stays until the floor passes it.
func (m *Marks) Pending(limit int) []Row {
	m.mu.RLock()
	defer m.mu.RUnlock()
	var rows []Row
	for _, r := range m.rows {
		if r.clean != r.top() && r.Mark.Kind != accel.KindAll {
			if rows = append(rows, r.Row); len(rows) == limit {
				break
			}
		}
	}
	return rows
}

// Len returns how many rows are remembered and how many positions are held.
func (m *Marks) Len() (rows, held int) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, h := range m.flights {
		held += h.count
	}
	return len(m.rows), held
}
