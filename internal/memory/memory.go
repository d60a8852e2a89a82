// Package memory is a cache of entries bounded by the bytes they occupy: all
// there is of package memstore, and what boltstore has in front of its file.
//
// It keeps three promises. What it keeps alive never occupies more than a tenth
// above the bound, at any moment. An entry that was just put is found, unless
// it is larger than the cache can hold at all. And a hit takes no lock and
// allocates nothing.
//
// It knows neither marks nor clocks: whether an entry is valid or expired is
// decided by the store around it.
//
// # Eviction
//
// The entries of a shard stand in two queues, by S3-FIFO (Yang et al., SOSP
// 2023). A new entry enters the small one, a tenth of the bytes. What was used
// again by the time it reaches the end moves to the main queue, anything else
// leaves and only its fingerprint is remembered for a while; who returns in
// that time enters the main queue directly. So a crawler that reads every page
// once displaces a tenth of the cache and no more. On Zipf traces the hit ratio
// is within about a point of W-TinyLFU's, and ahead of it while a scan runs,
// for a third of the code; and unlike W-TinyLFU it never refuses a new entry.
//
// # Look-ups without a lock
//
// The table of resources is a chained hash table of atomic pointers. Writers
// change it under the shard's lock, readers walk it without. What a reader
// finds was there during its call, because a node that was taken out keeps
// pointing into the chain. What it does not find may have been overlooked while
// the table was being rebuilt, hence a miss is confirmed under the lock: it is
// about to cost a disk read or a handler anyway.
package memory

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/point"
)

const (
	// minShard is the least a shard holds. Readers take no lock, so shards are
	// there for writers only, of which a cache has few; large shards admit
	// large entries and fill evenly.
	minShard  = 16 << 20
	maxShards = 16
)

// A Cache keeps entries in memory, and evicts some so as to stay within its
// bound. Make one with [New]. All methods may be called by any number of
// goroutines at once. There is nothing to close.
type Cache struct {
	seed   [4]uint64 // so that nobody can choose URLs that share a bucket
	shards []shard   // a power of two
}

// New returns an empty cache of at most maxBytes. With zero or less it keeps
// nothing.
//
// An entry fits if it is no larger than the bound up to 16 MiB, and no larger
// than 16 MiB or a sixteenth of the bound, whichever is more, above that.
func New(maxBytes int64) *Cache {
	n := int64(1)
	for n < maxShards && maxBytes/(n*2) >= minShard {
		n *= 2
	}
	c := &Cache{shards: make([]shard, n)}
	for i := range c.seed {
		c.seed[i] = rand.Uint64()
	}
	for i := range c.shards {
		c.shards[i].init(max(maxBytes, 0) / n)
	}
	return c
}

func (c *Cache) shard(key *accel.Key) (*shard, uint64) {
	h := hash(&c.seed, &key.Resource)
	return &c.shards[h&uint64(len(c.shards)-1)], h
}

// Get looks an entry up for use. vary has the Vary names with which key.Variant
// was computed. If the resource's entries are selected by others, Get returns
// these and known is true, without an item; the names are not to be written to.
//
// It linearizes where it reads the pointer to the item, or to the names, that
// it returns; a miss, inside the shard's read lock.
func (c *Cache) Get(key accel.Key, vary []string) (it *Item, names []string, known bool) {
	s, h := c.shard(&key)
	it, names, known = s.get(h, &key, vary)
	if it == nil && !known {
		s.mu.RLock()
		it, names, known = s.get(h, &key, vary)
		s.mu.RUnlock()
	}
	if it != nil {
		it.use()
	}
	return it, names, known
}

// Peek returns what key holds, whatever its Vary names, and does not count as a
// use.
func (c *Cache) Peek(key accel.Key) *Item {
	s, h := c.shard(&key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.peek(h, &key)
}

// Put stores e in place of what its key holds. If e's Vary names are others
// than those of its resource's entries, these are dropped; if the resource has
// [accel.MaxVariants] entries already, the one stored longest ago is.
//
// ok is false, and nothing changed, if an entry of a higher position would have
// to go: the one at the key, or one under other Vary names. kept is false if ok
// is, or if e is larger than the cache can hold; then what e should have
// replaced is gone all the same.
//
// It linearizes inside the shard's lock.
func (c *Cache) Put(e *accel.Entry, staleSince time.Time) (ok, kept bool) {
	return c.put(e, nil, staleSince)
}

// Renew is [Cache.Put] on condition that e's key holds old, as [Same] tells; ok
// is false if it does not.
func (c *Cache) Renew(e, old *accel.Entry, staleSince time.Time) (ok, kept bool) {
	return c.put(e, old, staleSince)
}

func (c *Cache) put(e, renewed *accel.Entry, staleSince time.Time) (ok, kept bool) {
	s, h := c.shard(&e.Key)
	size := Size(e)
	point.At(point.MemoryPut)
	s.mu.Lock()
	defer s.mu.Unlock()

	if renewed != nil && !point.Off(point.RenewalOldThere) {
		if it := s.peek(h, &e.Key); it == nil || !Same(it.Entry, renewed) {
			return false, false
		}
	}
	var rank standing
	if r := s.row(h, &e.Key.Resource); r != nil {
		if slices.Equal(r.names, e.Vary) {
			if old := r.variant(&e.Key.Variant); old != nil {
				if old.Entry.At.N > e.At.N && !point.Off(point.HigherStays) {
					return false, false
				}
				rank = old.standing()
				s.remove(old)
			}
		} else {
			for it := range r.items {
				if it.Entry.At.N > e.At.N && !point.Off(point.HigherStays) {
					return false, false
				}
			}
			for it := range r.items {
				s.remove(it)
			}
		}
	}
	s.change(h)
	return true, s.insert(h, e, size, staleSince, rank)
}

// A Ticket says which changes of a key have been seen. See [Cache.Ticket].
type Ticket uint64

// Ticket returns the present state of changes of a key, to be taken before the
// key is read from a lower tier, and handed to [Cache.PromoteSince].
func (c *Cache) Ticket(key accel.Key) Ticket {
	s, h := c.shard(&key)
	return Ticket(s.changes[changeOf(h)].Load())
}

// Wants reports whether an entry that a lower tier may have for the key is to be
// promoted: always while there is room, and then once in a while. What is used again and
// again gets in by and by; that each that is used once should throw out another, and
// cost the memory and the locks of that, helps nobody.
func (c *Cache) Wants(key accel.Key) bool {
	s, _ := c.shard(&key)
	return s.bytes.Load() < s.max-s.max/16 || s.max > 0 && rand.Uint32()%wantsOneOf == 0
}

// wantsOneOf is for how many hits in a lower tier one entry is promoted when there is no
// room.
const wantsOneOf = 8

// Promote stores an entry that was found in a lower tier, only where nothing
// is, so that it displaces nothing newer: the key holds nothing, and the
// resource is unknown here, or has the same Vary names and fewer than
// [accel.MaxVariants] entries. It reports whether it did.
//
// A version that was put and evicted again, or deleted, while the lower tier
// was being read is nothing that Promote can see; PromoteSince can.
func (c *Cache) Promote(e *accel.Entry, staleSince time.Time) bool {
	return c.promote(nil, e, staleSince)
}

// PromoteSince is [Cache.Promote] on condition that since the ticket nothing
// was put at e's key and nothing deleted from it. It may refuse for another
// key's changes.
func (c *Cache) PromoteSince(t Ticket, e *accel.Entry, staleSince time.Time) bool {
	return c.promote(&t, e, staleSince)
}

func (c *Cache) promote(t *Ticket, e *accel.Entry, staleSince time.Time) bool {
	s, h := c.shard(&e.Key)
	size := Size(e)
	point.At(point.MemoryPromotes)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t != nil && s.changes[changeOf(h)].Load() != uint64(*t) && !point.Off(point.PromoteTicket) {
		return false
	}
	if r := s.row(h, &e.Key.Resource); r != nil {
		if !slices.Equal(r.names, e.Vary) || r.n >= accel.MaxVariants || r.variant(&e.Key.Variant) != nil {
			return false
		}
	}
	return s.insert(h, e, size, staleSince, standing{})
}

// Delete removes what key holds if it is e, as [Same] tells; with a nil e,
// whatever it is. It reports whether there was something to remove. Tickets
// taken before are void even if there was not.
//
// It linearizes inside the shard's lock.
func (c *Cache) Delete(key accel.Key, e *accel.Entry) bool {
	s, h := c.shard(&key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(h)
	it := s.peek(h, &key)
	if it == nil || e != nil && !Same(it.Entry, e) {
		return false
	}
	s.remove(it)
	return true
}

// DeleteFunc removes every item for which drop returns true, and returns their
// number. It looks at each item that is there during the whole of the call, at
// one that comes or goes meanwhile or perhaps not. drop is called without any
// lock, and may be called twice for one item.
func (c *Cache) DeleteFunc(drop func(*Item) bool) int {
	n := 0
	var batch []*Item
	for i := range c.shards {
		s := &c.shards[i]
		for from, more := uint64(0), true; more; {
			batch, from, more = s.batch(batch[:0], from)
			victims := batch[:0]
			for _, it := range batch {
				if drop(it) {
					victims = append(victims, it)
				}
			}
			if len(victims) > 0 {
				n += s.removeAll(victims)
			}
			clear(batch) // or it would keep evicted entries alive
		}
	}
	return n
}

// Clear removes everything.
func (c *Cache) Clear() {
	for i := range c.shards {
		c.shards[i].clear()
	}
}

// Len returns the number of entries.
func (c *Cache) Len() int {
	n := int64(0)
	for i := range c.shards {
		n += c.shards[i].items.Load()
	}
	return int(n)
}

// Bytes returns what the entries, and the tables through which they are found,
// occupy.
func (c *Cache) Bytes() int64 {
	n := int64(0)
	for i := range c.shards {
		n += c.shards[i].bytes.Load()
	}
	return n
}

// Evicted returns how many entries had to leave for others: for their bytes, or
// as the oldest variant of a resource.
func (c *Cache) Evicted() uint64 {
	n := uint64(0)
	for i := range c.shards {
		n += c.shards[i].evicted.Load()
	}
	return n
}

// Same reports whether two entries of one key are the same version: one
// pointer, or of one position, with the same times, marks and bodies, as when
// both were read from a file. Bodies are compared by their ETags.
func Same(a, b *accel.Entry) bool {
	if a == b {
		return true
	}
	return a.At.N == b.At.N && a.Date.Equal(b.Date) &&
		a.FreshUntil.Equal(b.FreshUntil) && a.KeepUntil.Equal(b.KeepUntil) &&
		slices.Equal(a.Marks, b.Marks) &&
		slices.EqualFunc(a.Bodies, b.Bodies, func(x, y accel.Body) bool {
			return x.Coding == y.Coding && x.ETag == y.ETag && len(x.Data) == len(y.Data)
		})
}

// An Item is an entry in memory, with what is known about this copy of it. Its
// methods may be called by any number of goroutines, also after the cache has
// dropped it.
type Item struct {
	// Entry is never nil and never changes.
	Entry *accel.Entry

	stale   atomic.Int64  // Unix nanoseconds, 0 if not stale
	checked atomic.Uint64 // see Checked
	gone    atomic.Bool   // see Gone
	uses    atomic.Uint32 // since it last moved in its queue, at most maxUses

	next atomic.Pointer[Item] // the next older variant; written under the shard's lock

	// Guarded by the shard's lock.
	row           *row  // nil once it is removed
	before, after *Item // in its queue
	main          bool  // in the main queue
	size          int64
}

// StaleSince returns when the entry was first expired, the zero Time if it was
// not.
func (it *Item) StaleSince() time.Time {
	ns := it.stale.Load()
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// MarkStale records that the entry was expired; of several moments the earliest
// stays. The zero Time changes nothing.
func (it *Item) MarkStale(since time.Time) {
	ns := nanos(since)
	if ns == 0 {
		return
	}
	for {
		old := it.stale.Load()
		if old != 0 && old <= ns || it.stale.CompareAndSwap(old, ns) {
			return
		}
	}
}

func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	if ns := t.UnixNano(); ns != 0 {
		return ns
	}
	return 1 // the epoch itself
}

// Checked returns the highest position number at which the entry was found
// valid. While the store's is the same, no mark needs to be looked at.
func (it *Item) Checked() uint64 { return it.checked.Load() }

// SetChecked raises Checked to n; it never falls.
func (it *Item) SetChecked(n uint64) {
	for {
		old := it.checked.Load()
		if old >= n || it.checked.CompareAndSwap(old, n) {
			return
		}
	}
}

// Gone reports whether the cache no longer holds the item. It is set before the
// call that removes the item returns.
//
// Get takes no lock, so the item it returned may be removed by a scan for what a
// mark strikes, and the mark forgotten, before the caller looks at the marks.
// Whoever forgets marks therefore asks in this order: Get, the marks, Gone; and
// starts again if it is.
func (it *Item) Gone() bool { return it.gone.Load() }

// maxUses bounds the counting of uses: three is what S3-FIFO needs, and an item
// that has them is read without a write to memory that cores share.
const maxUses = 3

func (it *Item) use() {
	if u := it.uses.Load(); u < maxUses {
		it.uses.Store(u + 1) // a use lost to another core's is no matter
	}
}

// A standing is what a new version inherits from the one it replaces.
type standing struct {
	main bool
	uses uint32
}

func (it *Item) standing() standing {
	return standing{main: it.main, uses: min(it.uses.Load()+1, maxUses)}
}

// hash is keyed, and depends on every bit of d.
func hash(seed *[4]uint64, d *accel.Digest) uint64 {
	h1, l1 := bits.Mul64(word(d, 0)^seed[0], word(d, 8)^seed[1])
	h2, l2 := bits.Mul64(word(d, 16)^seed[2], word(d, 24)^seed[3])
	return h1 ^ l1 ^ bits.RotateLeft64(h2^l2, 32)
}

// A shard has all entries of the resources that fall to it.
type shard struct {
	mu sync.RWMutex

	// Read without the lock, written with it.
	table   atomic.Pointer[table]
	changes [64]atomic.Uint64 // of keys, by hash; see Ticket
	items   atomic.Int64
	bytes   atomic.Int64 // sum of: size of each item, of each row, of the tables
	evicted atomic.Uint64

	// Guarded by mu. Each item is in exactly one queue and in exactly one row
	// of the table.
	max         int64
	rows        int
	small, main queue
	ghosts      ghosts

	_ [64]byte // the next shard's lock stands in another cache line
}

func changeOf(h uint64) uint64 { return h >> 32 & 63 }

func (s *shard) change(h uint64) { s.changes[changeOf(h)].Add(1) }
