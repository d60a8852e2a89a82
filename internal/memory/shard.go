package memory

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// A table finds rows by the high bits of their hash, so that rows stand in the
// same order in a table of any length: a scan can go on in another one.
type table struct {
	buckets []atomic.Pointer[row] // a power of two
	shift   uint
}

const minBuckets = 8

// A row is a resource: its Vary names, and its variants, newest first. There is
// no row without an item.
type row struct {
	resource accel.Digest
	hash     uint64
	names    []string
	first    atomic.Pointer[Item]
	next     atomic.Pointer[row] // in the bucket; written under the shard's lock
	n        int                 // items; guarded by the shard's lock
}

func word(d *accel.Digest, i int) uint64 { return binary.LittleEndian.Uint64(d[i : i+8]) }

func (r *row) variant(v *accel.Digest) *Item {
	for it := r.first.Load(); it != nil; it = it.next.Load() {
		if it.Entry.Key.Variant == *v {
			return it
		}
	}
	return nil
}

// items ranges over a row; the item at hand may be removed.
func (r *row) items(yield func(*Item) bool) {
	for it := r.first.Load(); it != nil; it = it.next.Load() {
		if !yield(it) {
			return
		}
	}
}

func newTable(n int) *table {
	t := &table{buckets: make([]atomic.Pointer[row], n), shift: 64}
	for ; n > 1; n /= 2 {
		t.shift--
	}
	return t
}

func (t *table) bucket(h uint64) *atomic.Pointer[row] { return &t.buckets[h>>t.shift] }

// tableSize is what a table of n buckets and its ghosts occupy.
func tableSize(n int) int64 { return allocated(8*n) + allocated(8*n) }

func (s *shard) init(max int64) {
	s.max = max
	s.small.init()
	s.main.init()
	s.table.Store(newTable(minBuckets))
	s.ghosts.resize(minBuckets, s.max)
	s.bytes.Store(0)
	if max > 0 {
		s.bytes.Store(tableSize(minBuckets))
	}
}

// row needs no lock to be right about what it finds.
func (s *shard) row(h uint64, resource *accel.Digest) *row {
	for r := s.table.Load().bucket(h).Load(); r != nil; r = r.next.Load() {
		if r.hash == h && r.resource == *resource {
			return r
		}
	}
	return nil
}

func (s *shard) get(h uint64, key *accel.Key, vary []string) (it *Item, names []string, known bool) {
	r := s.row(h, &key.Resource)
	if r == nil {
		return nil, nil, false
	}
	if !slices.Equal(r.names, vary) {
		return nil, r.names, true
	}
	return r.variant(&key.Variant), nil, false
}

func (s *shard) peek(h uint64, key *accel.Key) *Item {
	if r := s.row(h, &key.Resource); r != nil {
		return r.variant(&key.Variant)
	}
	return nil
}

// insert adds an item for a key that holds none, whose row, if there is one,
// has the entry's names. Room is made first, so that the bound holds at every
// moment and the new item is not the one to leave.
func (s *shard) insert(h uint64, e *accel.Entry, size int64, staleSince time.Time, rank standing) bool {
	need := size + rowSize(e.Vary)
	if need > s.max-tableSize(minBuckets) {
		return false
	}
	id := h ^ word(&e.Key.Variant, 0)
	if s.ghosts.take(id) {
		rank.main = true
	}
	if r := s.row(h, &e.Key.Resource); r != nil && r.n >= accel.MaxVariants {
		var oldest *Item
		for it := range r.items {
			oldest = it
		}
		s.remove(oldest)
		s.evicted.Add(1)
	}
	s.makeRoom(need)
	r := s.row(h, &e.Key.Resource)
	if r == nil {
		s.grow(need)
		r = &row{resource: e.Key.Resource, hash: h, names: e.Vary}
		b := s.table.Load().bucket(h)
		r.next.Store(b.Load())
		b.Store(r)
		s.rows++
		s.bytes.Add(rowSize(r.names))
	}
	it := &Item{Entry: e, row: r, size: size, main: rank.main}
	it.stale.Store(nanos(staleSince))
	it.uses.Store(rank.uses)
	it.next.Store(r.first.Load())
	r.first.Store(it)
	r.n++
	s.queue(it).push(it)
	s.items.Add(1)
	s.bytes.Add(size)
	return true
}

// remove takes an item out of everything.
func (s *shard) remove(it *Item) {
	r := it.row
	link := &r.first
	for link.Load() != it {
		link = &link.Load().next
	}
	link.Store(it.next.Load())
	it.row = nil
	it.gone.Store(true)
	r.n--
	s.queue(it).remove(it)
	s.items.Add(-1)
	s.bytes.Add(-it.size)
	if r.n > 0 {
		return
	}
	rlink := s.table.Load().bucket(r.hash)
	for rlink.Load() != r {
		rlink = &rlink.Load().next
	}
	rlink.Store(r.next.Load())
	s.rows--
	s.bytes.Add(-rowSize(r.names))
	s.shrink()
}

func (s *shard) removeAll(items []*Item) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, it := range items {
		if it.row != nil {
			s.change(it.row.hash)
			s.remove(it)
			n++
		}
	}
	return n
}

func (s *shard) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.changes {
		s.changes[i].Add(1)
	}
	for _, q := range []*queue{&s.small, &s.main} {
		for it := q.last(); it != nil; it = q.last() {
			s.remove(it)
		}
	}
}

// batch appends the items of some rows, the first with a hash of at least from,
// and returns where to go on.
func (s *shard) batch(items []*Item, from uint64) (_ []*Item, next uint64, more bool) {
	const enough = 64
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.table.Load()
	for i := from >> t.shift; i < uint64(len(t.buckets)); i++ {
		if len(items) >= enough {
			return items, i << t.shift, true
		}
		for r := t.buckets[i].Load(); r != nil; r = r.next.Load() {
			for it := range r.items {
				items = append(items, it)
			}
		}
	}
	return items, 0, false
}

// grow doubles the table when it is full, if a row more is to come and the
// bytes allow it beside the need.
func (s *shard) grow(need int64) {
	n := len(s.table.Load().buckets)
	if s.rows < n {
		return
	}
	more := tableSize(2*n) - tableSize(n)
	if tableSize(2*n) > s.max/8 {
		return // longer chains, then: the bound comes first
	}
	s.makeRoom(need + more)
	if s.rows >= n {
		s.rebuild(2 * n)
	}
}

func (s *shard) shrink() {
	have := len(s.table.Load().buckets)
	n := have
	for n > minBuckets && s.rows < n/8 {
		n /= 2
	}
	if n < have {
		s.rebuild(n)
	}
}

// rebuild moves the rows into a table of another length. A reader under way may
// be led from one chain into another and miss what it looks for; it looks again
// under the lock.
func (s *shard) rebuild(n int) {
	old, t := s.table.Load(), newTable(n)
	for i := range old.buckets {
		for r := old.buckets[i].Load(); r != nil; {
			next := r.next.Load()
			b := t.bucket(r.hash)
			r.next.Store(b.Load())
			b.Store(r)
			r = next
		}
	}
	s.table.Store(t)
	s.ghosts.resize(n, s.max)
	s.bytes.Add(tableSize(n) - tableSize(len(old.buckets)))
}

// makeRoom evicts until need bytes more are within the bound.
func (s *shard) makeRoom(need int64) {
	for s.bytes.Load()+need > s.max {
		it := s.victim()
		if it == nil {
			return
		}
		s.remove(it)
		s.evicted.Add(1)
	}
}

// victim chooses by S3-FIFO. It ends, because each item it passes over has lost
// a use or moved to the main queue.
func (s *shard) victim() *Item {
	for {
		if it := s.small.last(); it != nil && (s.small.bytes > s.max/10 || s.main.last() == nil) {
			if it.uses.Load() < 2 {
				s.ghosts.add(it.row.hash^word(&it.Entry.Key.Variant, 0), it.size)
				return it
			}
			s.small.remove(it)
			it.main = true
			it.uses.Store(0)
			s.main.push(it)
			continue
		}
		it := s.main.last()
		if it == nil {
			return nil
		}
		u := it.uses.Load()
		if u == 0 {
			return it
		}
		it.uses.Store(u - 1)
		s.main.remove(it)
		s.main.push(it)
	}
}

func (s *shard) queue(it *Item) *queue {
	if it.main {
		return &s.main
	}
	return &s.small
}

// A queue is a ring of items through before and after, around a root that is
// none.
type queue struct {
	root  Item
	bytes int64 // of the items in it
}

func (q *queue) init() { q.root.before, q.root.after = &q.root, &q.root }

func (q *queue) push(it *Item) {
	it.before, it.after = &q.root, q.root.after
	it.before.after, it.after.before = it, it
	q.bytes += it.size
}

func (q *queue) remove(it *Item) {
	it.before.after, it.after.before = it.after, it.before
	it.before, it.after = nil, nil
	q.bytes -= it.size
}

// last returns the item that has been in the queue longest, nil if it is empty.
func (q *queue) last() *Item {
	if it := q.root.before; it != &q.root {
		return it
	}
	return nil
}

// ghosts remembers the fingerprints of what left the small queue unused, until
// as many bytes have left after it as the main queue holds. Each fingerprint
// has two slots to stand in, and the older of two occupants gives way: now and
// then one is forgotten too early, which costs a detour through the small
// queue.
type ghosts struct {
	slots []ghost // a power of two
	now   uint32  // bytes that have left, in units; wraps
	life  uint32  // in units
}

type ghost struct{ print, born uint32 }

const ghostUnit = 64 // bytes

func (g *ghosts) resize(n int, max int64) {
	g.life = uint32(min(max/10*9/ghostUnit, 1<<31))
	if n == len(g.slots) {
		return
	}
	// What is remembered is lost with the old slots, which is once in a
	// doubling and costs a detour, too.
	g.slots = make([]ghost, n)
}

func (g *ghosts) pair(id uint64) (a, b *ghost, print uint32) {
	i := id >> 4 & uint64(len(g.slots)-1)                 // the lowest bits have chosen the shard
	return &g.slots[i], &g.slots[i^1], uint32(id>>32) | 1 // zero is an empty slot
}

func (g *ghosts) add(id uint64, size int64) {
	g.now += uint32(size/ghostUnit) + 1
	a, b, print := g.pair(id)
	if a.print != 0 && (b.print == 0 || g.now-b.born > g.now-a.born) {
		a = b
	}
	*a = ghost{print: print, born: g.now}
}

// take reports whether id is remembered, and forgets it.
func (g *ghosts) take(id uint64) bool {
	a, b, print := g.pair(id)
	for _, s := range []*ghost{a, b} {
		if s.print == print {
			alive := g.now-s.born <= g.life
			*s = ghost{}
			return alive
		}
	}
	return false
}
