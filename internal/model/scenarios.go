package model

import "slices"

// A scenario bounds what happens: who asks, what changes, and what goes wrong how
// often. Within its bounds every order of steps is gone through.
type scenario struct {
	name string

	procs, keys, tags int
	requests          []role
	writes            []write
	// tagsets are the sets of tags, as bits, among which a handler has the choice.
	tagsets   []uint8
	accidents [budgets]uint8
	limit     uint8 // of marks in memory; 0 is none

	inMemory  bool // memstore; else boltstore
	promotion bool // what was read from disk is promoted
	twoSteps  bool // Put looks at the file first
	restarts  bool // a process that died is started again
	closes    bool // process 0 closes the file when it has nothing to do
	restores  bool // an old copy of the file may take its place
	tears     bool // a mark may be lost from the file
	rollsBack bool // the last transaction may be lost from it
	order     bool // the newest decides
	restless  bool // what is left at rest is not looked at
	slow      bool // the disk may not tell in time what it has; what is on disk is looked at
	removes   bool // the file may be removed from its path
	displaced bool // another may be moved to it
	deletes   bool // an invalidation deletes what it finds in memory
	replica   bool // handlers may read from a replica that lags

	// onlyMarksRefuse has refusals looked at, too: nothing valid is to be refused.
	onlyMarksRefuse bool
	// followersMayBeStale leaves the answers of followers out where an expiry is
	// concerned: they are the store's only if they are stored.
	followersMayBeStale bool

	first func(*world) // what is there at first, beside an open store

	flawed []flaw // of another design

	// The longer forms have more.
	ci, full more

	hasFollowers bool
}

// more is what a scenario has beside what it has in the short form.
type more struct {
	requests  []role
	writes    []write
	accidents [budgets]uint8
}

func (c scenario) with(m more) scenario {
	c.requests = append(slices.Clip(c.requests), m.requests...)
	c.writes = append(slices.Clip(c.writes), m.writes...)
	for i, n := range m.accidents {
		c.accidents[i] += n
	}
	return c
}

// A role is what a request does.
type role struct{ kind, proc, key uint8 }

const (
	leader uint8 = iota
	follower
	reader
	renewer
	dropper // its handler's answer is not for storing, so it deletes what it found
)

// A write is a change of the application.
type write struct {
	kind, tags, proc uint8
	early            bool // it is invalidated before it is committed
}

const (
	hardMark uint8 = iota
	expiry
	everything
)

// initial is the state that a scenario begins with: process 0 has the file, which
// is empty; another waits for it.
func (c *scenario) initial() world {
	var w world
	w.epochs = 1
	w.procs[0] = process{up: open, epoch: 1}
	if c.procs > 1 {
		w.epochs = 2
		w.procs[1] = process{up: waiting, fails: locked, epoch: 2}
	}
	if c.first != nil {
		c.first(&w)
	}
	return w
}

// onDiskAlready puts an entry of key into the file, made from the tags at
// position 0 by an earlier process.
func onDiskAlready(keys ...uint8) func(*world) {
	return func(w *world) {
		for i, tags := range keys {
			if tags != 0 {
				w.disk.rec[i].e = response{is: 1, dep: tags, tags: tags}
			}
		}
	}
}

// storedLater puts an entry into the file that was made after two invalidations.
func storedLater(w *world) {
	w.disk.rec[0].e = response{is: 1, at: 2, dep: 1, tags: 1}
	w.disk.seq, w.procs[0].n, w.procs[0].horizon = 2, 2, 2
}

// queuedAlready puts an entry into memory and the queue.
func queuedAlready(w *world) {
	e := response{is: 1, epoch: 1, dep: 1, tags: 1}
	w.procs[0].mem[0].e, w.procs[0].queue[0] = e, op{opStore, e}
}

// forbiddenSecond lets the second process be one that could not open the file
// before the first had it.
func forbiddenSecond(w *world) { w.procs[1].fails = forbidden }

func accidents(pairs ...uint8) (a [budgets]uint8) {
	for i := 0; i < len(pairs); i += 2 {
		a[pairs[i]] = pairs[i+1]
	}
	return a
}

var (
	leads0   = role{kind: leader}
	reads0   = role{kind: reader}
	follows0 = role{kind: follower}
	renews0  = role{kind: renewer}
	purge0   = write{kind: hardMark, tags: 1}
	purge1   = write{kind: hardMark, tags: 2}
	expire0  = write{kind: expiry, tags: 1}
	purgeAll = write{kind: everything, tags: 3}
)

// scenarios are the configurations of our protocol that are gone through whole.
var scenarios = []scenario{
	{
		name: "memory", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, onlyMarksRefuse: true,
		requests: []role{leads0, leads0, reads0, reads0}, writes: []write{purge0, purge0},
		accidents: accidents(evict, 1),
		ci:        more{writes: []write{purge0}}, full: more{accidents: accidents(lapse, 1)},
	},
	{
		name: "held positions", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, leads0, reads0}, writes: []write{purge0, purge0},
		accidents: accidents(lapse, 1, letGo, 1, evict, 1),
		ci:        more{accidents: accidents(letGo, 1)}, full: more{requests: []role{reads0}},
	},
	{
		name: "followers", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, leads0, follows0}, writes: []write{purge0, purge0},
		ci: more{requests: []role{follows0}, accidents: accidents(lapse, 1)}, full: more{writes: []write{purge0}},
	},
	{
		name: "expiry, followed", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, leads0, follows0}, writes: []write{expire0, purge0},
		ci: more{requests: []role{follows0}}, full: more{accidents: accidents(lapse, 1)},
	},
	{
		name: "disk", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, promotion: true,
		requests: []role{leads0, reads0}, writes: []write{purge0, purge0},
		accidents: accidents(evict, 1),
		ci:        more{accidents: accidents(evictDisk, 1)}, full: more{requests: []role{reads0}},
	},
	{
		name: "two leaders on disk", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, onlyMarksRefuse: true,
		requests: []role{leads0, leads0, reads0}, writes: []write{purge0},
		accidents: accidents(evict, 1),
		ci:        more{writes: []write{purge0}}, full: more{requests: []role{reads0}},
	},
	{
		name: "crash", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1}, restarts: true,
		requests: []role{leads0, reads0}, writes: []write{purge1, purge0},
		accidents: accidents(crash, 1),
		ci:        more{accidents: accidents(crash, 1)}, full: more{requests: []role{reads0}},
	},
	{
		name: "crash, two purges", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true,
		requests: []role{leads0, reads0}, writes: []write{purge0, purge0},
		accidents: accidents(crash, 1), first: onDiskAlready(1),
		ci: more{accidents: accidents(crash, 1)}, full: more{writes: []write{purge0}},
	},
	{
		name: "expiry in memory", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, onlyMarksRefuse: true,
		requests: []role{leads0, leads0, reads0}, writes: []write{expire0, purge0},
		accidents: accidents(evict, 1),
		ci:        more{requests: []role{reads0}, accidents: accidents(lapse, 1)}, full: more{accidents: accidents(letGo, 1)},
	},
	{
		name: "expiry on disk", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, promotion: true, restarts: true,
		requests: []role{leads0, reads0, reads0}, writes: []write{expire0},
		accidents: accidents(evict, 1),
		ci:        more{writes: []write{purge0}, accidents: accidents(crash, 1)}, full: more{accidents: accidents(evictDisk, 1)},
	},
	{
		name: "renewal in memory", inMemory: true, procs: 1, keys: 1, tags: 2, tagsets: []uint8{1, 2},
		requests: []role{leads0, renews0, reads0}, writes: []write{purge0, purge1},
		ci: more{requests: []role{reads0}}, full: more{accidents: accidents(lapse, 1)},
	},
	{
		name: "renewal on disk", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{renews0, renews0, reads0}, writes: []write{purge0},
		accidents: accidents(letGo, 1), first: onDiskAlready(1),
		ci: more{writes: []write{purge0}}, full: more{accidents: accidents(evictDisk, 1)},
	},
	{
		name: "renewal, followed", followersMayBeStale: true, inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, renews0, follows0}, writes: []write{purge0, purge0},
		ci: more{requests: []role{follows0}}, full: more{accidents: accidents(lapse, 1)},
	},
	{
		name: "promotion", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, promotion: true,
		requests: []role{reads0, reads0}, writes: []write{purge0, purge0},
		accidents: accidents(evict, 1), first: onDiskAlready(1),
		ci: more{accidents: accidents(crash, 0), requests: []role{reads0}}, full: more{accidents: accidents(evict, 1)},
	},
	{
		name: "order", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1, 2}, order: true,
		requests: []role{leads0, leads0, reads0}, writes: []write{purge1},
		accidents: accidents(evict, 1, overflow, 1),
		ci:        more{accidents: accidents(evictDisk, 1)}, full: more{requests: []role{reads0}},
	},
	{
		name: "order on disk", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1, 2}, order: true, twoSteps: true,
		requests: []role{leads0, leads0}, writes: []write{purge1},
		accidents: accidents(evict, 1),
		ci:        more{requests: []role{reads0}, accidents: accidents(overflow, 1)}, full: more{accidents: accidents(evict, 1, evictDisk, 1)},
	},
	{
		name: "order, and the disk is slow", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1}, order: true, twoSteps: true, slow: true,
		requests: []role{leads0, leads0, reads0}, writes: []write{purge1},
		accidents: accidents(evict, 1), ci: more{accidents: accidents(overflow, 1)}, full: more{requests: []role{leads0}},
	},
	{
		// A Put falls asleep after its look, and another is put, written and evicted.
		name: "a Put that was asleep", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1}, order: true, twoSteps: true,
		requests: []role{leads0, leads0, reads0}, writes: []write{purge1}, accidents: accidents(evict, 1),
	},
	{
		name: "a renewal that was asleep", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, order: true, twoSteps: true,
		requests: []role{leads0, renews0, reads0}, accidents: accidents(evict, 1), first: onDiskAlready(1),
	},
	{
		name: "order of renewals", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, order: true, twoSteps: true,
		requests: []role{leads0, renews0, reads0}, writes: []write{purge0},
		accidents: accidents(evict, 1), first: onDiskAlready(1),
		ci: more{accidents: accidents(evictDisk, 1)}, full: more{requests: []role{reads0}},
	},
	{
		name: "deletion", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, order: true, promotion: true,
		requests:  []role{leads0, {kind: dropper}, reads0},
		accidents: accidents(evict, 1), first: onDiskAlready(1),
		ci: more{requests: []role{reads0}, writes: []write{purge0}}, full: more{accidents: accidents(evictDisk, 1)},
	},
	{
		name: "order of promotion", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, order: true, promotion: true,
		requests: []role{leads0, leads0, reads0, reads0}, accidents: accidents(evict, 1),
		ci: more{accidents: accidents(evict, 1, overflow, 1)}, full: more{writes: []write{purge0}},
	},
	{
		name: "floor", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1}, restarts: true,
		requests: []role{leads0, reads0}, writes: []write{purge0, purgeAll},
		accidents: accidents(crash, 1), first: onDiskAlready(1),
		ci: more{accidents: accidents(crash, 1)}, full: more{writes: []write{purge0}},
	},
	{
		name: "too many marks", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1}, limit: 1, restarts: true,
		requests: []role{leads0, reads0}, writes: []write{purge0, purge1},
		accidents: accidents(crash, 1), first: onDiskAlready(1),
		ci: more{accidents: accidents(crash, 1)}, full: more{writes: []write{purge0}},
	},
	{
		name: "failures", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true, twoSteps: true,
		requests: []role{leads0, reads0}, writes: []write{purge0},
		accidents: accidents(fault, 1, noAside, 1, crash, 1), first: onDiskAlready(1),
		ci: more{writes: []write{purge0}}, full: more{accidents: accidents(evict, 1)},
	},
	{
		name: "full disk", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true, twoSteps: true,
		requests: []role{leads0, reads0}, writes: []write{purge0},
		accidents: accidents(fullDisk, 1, noRoom, 1, crash, 1), first: onDiskAlready(1),
		ci: more{requests: []role{leads0}}, full: more{accidents: accidents(evict, 1)},
	},
	{
		name: "take-over", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1}, closes: true,
		requests: []role{{leader, 1, 0}, {reader, 1, 0}}, writes: []write{{hardMark, 1, 0, false}, {hardMark, 1, 1, false}},
		accidents: accidents(crash, 1), first: storedLater,
		ci: more{requests: []role{{reader, 1, 0}}}, full: more{accidents: accidents(letGo, 1)},
	},
	{
		name: "take-over of a file like new", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1}, closes: true,
		requests: []role{{leader, 1, 0}, {reader, 1, 0}}, writes: []write{{hardMark, 1, 0, false}, {hardMark, 1, 1, false}},
		accidents: accidents(crash, 1), first: onDiskAlready(1),
		ci: more{requests: []role{{reader, 1, 0}}}, full: more{accidents: accidents(letGo, 1)},
	},
	{
		name: "take-over, followed", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1}, closes: true,
		requests: []role{{leader, 1, 0}, {follower, 1, 0}}, writes: []write{{hardMark, 1, 0, false}, {hardMark, 1, 1, false}},
		accidents: accidents(crash, 1),
		ci:        more{requests: []role{{follower, 1, 0}}}, full: more{requests: []role{{leader, 1, 0}}},
	},
	{
		// In a rolling restart the one that waits does not hear of what the other
		// invalidates.
		name: "rolling restart, followed", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{{leader, 1, 0}, {leader, 1, 0}, {follower, 1, 0}}, writes: []write{purge0},
		accidents: accidents(crash, 1),
		ci:        more{requests: []role{{follower, 1, 0}}}, full: more{writes: []write{{hardMark, 1, 1, false}}},
	},
	{
		name: "there and back, followed", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, follows0}, writes: []write{{hardMark, 1, 1, false}, purge0},
		accidents: accidents(fullDisk, 1, crash, 1),
		ci:        more{requests: []role{follows0}}, full: more{requests: []role{leads0}},
	},
	{
		name: "there and back", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1}, closes: false, twoSteps: true,
		requests: []role{leads0, reads0}, writes: []write{{hardMark, 1, 1, false}},
		accidents: accidents(fullDisk, 1, crash, 1), first: queuedAlready,
		ci: more{requests: []role{reads0}}, full: more{requests: []role{leads0}},
	},
	{
		name: "the file is removed", procs: 2, keys: 1, tags: 1, tagsets: []uint8{1}, removes: true,
		requests: []role{{leader, 1, 0}, {reader, 1, 0}}, writes: []write{purge0, purge0},
		accidents: accidents(remove, 1), first: onDiskAlready(1),
		ci: more{requests: []role{{reader, 1, 0}}}, full: more{accidents: accidents(crash, 1), requests: []role{{leader, 1, 0}}},
	},
	{
		name: "another file is moved to the path", procs: 1, keys: 1, tags: 2, tagsets: []uint8{1}, displaced: true,
		requests: []role{reads0}, writes: []write{purge0, purge1},
		accidents: accidents(remove, 1), first: onDiskAlready(1),
		ci: more{requests: []role{leads0}}, full: more{accidents: accidents(evictDisk, 1)},
	},
	{
		name: "a copy is restored", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true, restores: true,
		requests: []role{reads0}, writes: []write{purge0},
		accidents: accidents(crash, 1, backUp, 1, damage, 1), first: onDiskAlready(1),
		ci: more{requests: []role{leads0}}, full: more{writes: []write{purge0}},
	},
	{
		name: "a mark is lost", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true, tears: true,
		requests: []role{reads0}, writes: []write{purge0},
		accidents: accidents(crash, 1, damage, 1), first: onDiskAlready(1),
		ci: more{requests: []role{leads0}}, full: more{writes: []write{purge0}},
	},
	{
		name: "a transaction is lost", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true, rollsBack: true,
		requests: []role{leads0, reads0}, writes: []write{purge0},
		accidents: accidents(crash, 1, damage, 1), first: onDiskAlready(1),
		ci: more{accidents: accidents(crash, 1, damage, 1)}, full: more{writes: []write{purge0}},
	},
	{
		name: "sweeping two keys", procs: 1, keys: 2, tags: 1, tagsets: []uint8{1}, restarts: true, onlyMarksRefuse: true,
		requests: []role{leads0, reads0}, writes: []write{purge0, purge0},
		accidents: accidents(crash, 1), first: onDiskAlready(1, 1),
		ci: more{requests: []role{{reader, 0, 1}}}, full: more{},
	},
	{
		name: "sweeping two keys, the second is read", procs: 1, keys: 2, tags: 1, tagsets: []uint8{1}, restarts: true,
		requests: []role{{reader, 0, 1}}, writes: []write{purge0, purge0},
		accidents: accidents(crash, 1), first: onDiskAlready(1, 1),
	},
	{
		name: "sweeping in two steps", procs: 1, keys: 2, tags: 1, tagsets: []uint8{1}, restarts: true,
		requests: []role{{reader, 0, 0}}, writes: []write{purge0, purge0},
		accidents: accidents(crash, 1, noRoom, 1), first: onDiskAlready(1, 1),
		ci: more{requests: []role{{reader, 0, 1}}}, full: more{requests: []role{leads0}},
	},
	{
		name: "a URL and its variants", inMemory: true, procs: 1, keys: 2, tags: 2, tagsets: []uint8{3},
		requests: []role{leads0, {leader, 0, 1}, reads0, {reader, 0, 1}}, writes: []write{purge1},
		ci: more{writes: []write{purge0}}, full: more{accidents: accidents(evict, 1, lapse, 1)},
	},
	{
		name: "a handler hangs", inMemory: true, procs: 1, keys: 1, tags: 1, tagsets: []uint8{1},
		requests: []role{leads0, leads0, reads0}, writes: []write{purge0, expire0},
		accidents: accidents(hang, 1),
		ci:        more{requests: []role{reads0}}, full: more{writes: []write{purge0}},
	},
	{
		name: "while it is opened", procs: 1, keys: 1, tags: 1, tagsets: []uint8{1}, restarts: true,
		requests: []role{reads0}, writes: []write{purge0},
		accidents: accidents(crash, 2, noOpen, 1), first: onDiskAlready(1),
		ci: more{requests: []role{leads0}}, full: more{writes: []write{purge0}},
	},
}
