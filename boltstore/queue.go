package boltstore

import (
	"slices"
	"sync"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/memory"
	"github.com/accelhttp/accelerator/internal/point"
)

// deleteCost is what a queued deletion counts for, in bytes. Deletions are
// accepted beyond the queue's bound, up to as much again: they are what keeps an
// older version on disk from answering when its successor was dropped.
const deleteCost = 200

// An op is what is to be done to a key on disk. The newest op of a key replaces
// those before it, but for one thing: a store drops the resource's entries under
// other Vary names, whatever becomes of it. So it leaves a displacement in its
// place when what replaces it does not do the same.
type op struct {
	key   accel.Key
	entry *accel.Entry // nil: delete

	// displace: delete only what a store with the names vary would replace. Such
	// an op is in the order, and not in the map.
	displace bool
	vary     []string

	old *accel.Entry // what the entry renews, if not nil
	// after is the deletion that the entry took the place of, if any: what that was
	// to delete stands in nobody's way, whatever its position.
	after *op
	// only, of a deletion, are the only entries to be deleted; nil: whatever the
	// key holds.
	only []*accel.Entry
	// id, of the deletion of a damaged record, is that record's.
	id   uint64
	cost int64
	done bool // guarded by the queue's lock
}

// deletes reports whether the op is a deletion that concerns a row.
func (o *op) deletes(row format.Row) bool {
	switch {
	case o == nil || o.entry != nil:
		return false
	case o.id != 0:
		return row.ID == o.id
	}
	return o.only == nil || slices.ContainsFunc(o.only, func(e *accel.Entry) bool { return isRow(row, e) })
}

// queue is what has been accepted and is not yet written: it is looked at between
// memory and disk. It is safe for concurrent use.
type queue struct {
	max int64

	mu        sync.Mutex // protects following; may be taken with the marks' lock held
	ops       map[accel.Key]*op
	order     []*op // ops in the order they came; those replaced meanwhile are skipped
	resources map[accel.Digest]*resource
	bytes     int64
	stores    int       // ops that store an entry
	first     time.Time // when the oldest op came; by the machine's clock
}

// A resource has the Vary names of the newest store in the queue, and all stores
// and displacements that are there.
type resource struct {
	vary []string
	ops  []*op
}

func newQueue(max int64) *queue {
	q := &queue{max: max}
	q.clear()
	return q
}

// add queues an op and returns those it replaces. It refuses, and changes nothing,
// when there is no room.
func (q *queue) add(o *op) (replaced []*op, ok bool) {
	o.cost = deleteCost
	if o.entry != nil {
		o.cost = memory.Size(o.entry)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.addLocked(o)
}

// addDelete queues the deletion of an entry, unless the queue has something else
// for its key.
func (q *queue) addDelete(e *accel.Entry) (replaced []*op, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	was := q.ops[e.Key]
	switch {
	case was == nil, was.entry != nil && memory.Same(was.entry, e):
		return q.addLocked(&op{key: e.Key, only: []*accel.Entry{e}, cost: deleteCost})
	case was.entry == nil && was.only != nil:
		// Of several versions the disk has one at most. The op is not changed,
		// because the writer may be at it.
		return q.addLocked(&op{key: e.Key, only: append(slices.Clone(was.only), e), cost: deleteCost})
	}
	return nil, true
}

func (q *queue) addLocked(o *op) (replaced []*op, ok bool) {
	was := q.ops[o.key]
	if was != nil && o.id != 0 {
		return nil, true // the record is about to go in any case
	}
	room := q.max - q.bytes
	if o.entry == nil {
		room += q.max
	}
	if was != nil {
		room += was.cost
	}
	if o.cost > room {
		return nil, false
	}
	if q.bytes == 0 {
		q.first = time.Now()
	}
	if was != nil {
		if was.entry != nil && (o.entry == nil || !slices.Equal(o.entry.Vary, was.entry.Vary)) {
			q.leave(was)
		} else {
			q.forget(was)
		}
		replaced = append(replaced, was)
		// What o renews, or is meant to delete, was on its way to the disk, which
		// therefore has something else: o is a plain store, or a plain deletion.
		o.old = nil
		switch {
		case was.entry == nil && o.entry != nil:
			o.after = was
		case was.entry != nil && o.entry != nil:
			o.after = was.after
		case was.entry != nil:
			o.only = nil
		}
	}
	if o.entry != nil {
		r := q.resource(o)
		for _, other := range slices.Clone(r.ops) {
			if other.entry != nil && !slices.Equal(other.entry.Vary, o.entry.Vary) {
				q.leave(other)
				replaced = append(replaced, other)
			}
		}
		r = q.resource(o)
		r.vary = o.entry.Vary
		r.ops = append(r.ops, o)
	}
	q.enter(o)
	return replaced, true
}

// enter makes o the op of its key, which has none.
func (q *queue) enter(o *op) {
	q.ops[o.key] = o
	q.order = append(q.order, o)
	q.bytes += o.cost
	if o.entry != nil {
		q.stores++
	}
}

// addDropped queues, for an entry that there is no room for, what its store would
// have removed from the disk: the key's older version, and the resource's entries
// under other Vary names.
func (q *queue) addDropped(e *accel.Entry) (replaced []*op, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	replaced, ok = q.addLocked(&op{key: e.Key, cost: deleteCost})
	if ok {
		q.displace(&op{key: e.Key, displace: true, vary: e.Vary, cost: deleteCost}, len(q.order))
	}
	return replaced, ok
}

// shed turns the stores in the list, as far as nothing has taken their place, into
// deletions, and returns them: they are dropped, and what they should have
// replaced must not answer for them. With a nil list it sheds every store.
func (q *queue) shed(list []*op) (dropped []*op) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if list == nil {
		list = slices.Clone(q.order)
	}
	for _, o := range list {
		if o.entry != nil && q.ops[o.key] == o {
			q.leave(o)
			q.enter(&op{key: o.key, cost: deleteCost})
			dropped = append(dropped, o)
		}
	}
	return dropped
}

func (q *queue) resource(o *op) *resource {
	r := q.resources[o.key.Resource]
	if r == nil {
		r = &resource{}
		q.resources[o.key.Resource] = r
	}
	return r
}

// leave puts a displacement where a store was.
func (q *queue) leave(was *op) {
	i := slices.Index(q.order, was)
	q.order = slices.Delete(q.order, i, i+1)
	q.displace(&op{key: was.key, displace: true, vary: was.entry.Vary, cost: deleteCost}, i)
	q.forget(was)
}

// displace puts a displacement at a place in the order.
func (q *queue) displace(d *op, at int) {
	q.order = slices.Insert(q.order, at, d)
	q.bytes += d.cost
	r := q.resource(d)
	r.ops = append(r.ops, d)
}

// forget takes an op out of everything but order.
func (q *queue) forget(o *op) {
	q.bytes -= o.cost
	if !o.displace {
		delete(q.ops, o.key)
	}
	if o.entry != nil {
		q.stores--
	}
	if o.entry == nil && !o.displace {
		return
	}
	r := q.resources[o.key.Resource]
	if i := slices.Index(r.ops, o); i >= 0 {
		r.ops = slices.Delete(r.ops, i, i+1)
	}
	if len(r.ops) == 0 {
		delete(q.resources, o.key.Resource)
	}
}

// A queued is what the queue knows of a key.
type queued struct {
	op *op // nil if there is none
	// stored: a store of the resource is in the queue, and vary has the newest's
	// names.
	stored bool
	vary   []string
	// drops has the names of all stores of the resource that are to be written,
	// displaced ones included: each drops what the disk has under others.
	drops [][]string
}

// otherNames reports whether the resource's newest store has other names.
func (k queued) otherNames(vary []string) bool {
	return k.stored && !slices.Equal(k.vary, vary)
}

// dropped reports whether what the disk has under these names goes as soon as the
// queue is written.
func (k queued) dropped(vary []string) bool {
	return slices.ContainsFunc(k.drops, func(d []string) bool { return !slices.Equal(d, vary) })
}

// leaves returns the highest position among the entries on disk that a store would have
// to remove, after what is queued before it has been written. k is what the queue knows
// of the store's key.
func (q *queue) leaves(k queued, stands format.Standing) (highest uint64) {
	if k.dropped(stands.Vary) {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, row := range append(stands.Others, stands.Row) {
		if o := q.ops[row.Key]; o == nil || o.entry == nil && !o.deletes(row) {
			highest = max(highest, row.At.N)
		}
	}
	return highest
}

// higher reports whether the queue has a store of a higher position that e's would
// take the place of.
func (q *queue) higher(e *accel.Entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	r := q.resources[e.Key.Resource]
	return r != nil && slices.ContainsFunc(r.ops, func(o *op) bool {
		return o.entry != nil && o.entry.At.N > e.At.N && (o.key == e.Key || !slices.Equal(o.entry.Vary, e.Vary))
	})
}

// get returns what the queue knows of a key.
func (q *queue) get(key accel.Key) (k queued) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k.op = q.ops[key]
	if r := q.resources[key.Resource]; r != nil {
		k.vary = r.vary
		for _, o := range r.ops {
			k.stored = k.stored || !o.displace
			if o.displace {
				k.drops = append(k.drops, o.vary)
			} else {
				k.drops = append(k.drops, o.entry.Vary)
			}
		}
	}
	return k
}

// batch returns up to limit ops of up to max bytes, oldest first. They stay in the
// queue until done.
func (q *queue) batch(limit int, max int64) []*op {
	q.mu.Lock()
	defer q.mu.Unlock()
	var list []*op
	live := q.order[:0:0]
	for i, o := range q.order {
		if q.ops[o.key] != o && (!o.displace || o.done) {
			continue
		}
		if len(list) == limit || len(list) > 0 && max < o.cost {
			live = append(live, q.order[i:]...)
			break
		}
		list = append(list, o)
		max -= o.cost
		live = append(live, o)
	}
	q.order = live
	return list
}

// done takes ops out that have been written, unless something newer has taken
// their place, and returns them. count counts them where they are now, in the same step.
func (q *queue) done(list []*op, count func()) (out []*op) {
	q.mu.Lock()
	defer q.mu.Unlock()
	count()
	for _, o := range list {
		if q.ops[o.key] == o || o.displace && !o.done {
			q.forget(o)
			o.done = true
			out = append(out, o)
		}
	}
	q.first = time.Now()
	return out
}

// clear empties the queue. A writer that is still at a batch finds it done.
func (q *queue) clear() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, o := range q.order {
		o.done = true
	}
	q.ops = make(map[accel.Key]*op)
	q.resources = make(map[accel.Digest]*resource)
	q.order, q.bytes, q.stores = nil, 0, 0
}

// due tells how long until a flush is due: 0 if it is, negative if there is
// nothing to flush.
func (q *queue) due() time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.bytes == 0:
		return -1
	case len(q.ops) >= flushEntries || q.bytes >= flushBytes:
		return 0
	}
	return max(0, point.Span(point.FlushAfter, flushAfter)-time.Since(q.first))
}

// size returns how many stores are queued, and the bytes of all ops, and calls written,
// which looks at what has been written, in the same step.
func (q *queue) size(written func()) (stores int, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	written()
	return q.stores, q.bytes
}
