package model

// Bounds of the arrays. What a scenario does not use stays zero and costs nothing
// but bytes. Every field is a byte, so that a state is hashed as one piece.
const (
	maxTags     = 2
	maxKeys     = 2
	maxRequests = 4
	maxChanges  = 3
	maxProcs    = 2
)

// versions has, for each tag, which version of the application's data. Data and
// tag are one: a change of the data of tag t is followed by an invalidation of t.
type versions [maxTags]uint8

// A response is what a handler made, wherever a copy of it is.
type response struct {
	is        uint8 // 1; 0 is no response
	epoch, at uint8 // its position
	val       versions
	conf      versions // what the handler has seen last: val, but for renewals
	dep       uint8    // the tags that it was made from, as bits
	tags      uint8    // those that it carries: dep, but for mutants
	life      uint8    // how often it was renewed; or which Put it was
}

// A row is what memory remembers of a tag.
type row struct{ hard, soft, clean, owed uint8 }

func (r row) top() uint8  { return max(r.hard, r.soft) }
func (r row) known() bool { return r.top() != 0 }

// An item is a copy in the memory tier.
type item struct {
	e              response
	stale, checked uint8
}

// An op waits in the write queue.
type op struct {
	kind uint8
	e    response
}

const (
	opNone uint8 = iota
	opStore
	opDelete     // whatever the key has
	opDeleteOnly // if it is e
)

// A mark is what the file remembers of a tag.
type mark struct{ hard, soft uint8 }

// A disk is a file as of its last transaction.
type disk struct {
	gone    uint8 // renamed; and synced
	uuid    uint8
	suspect uint8 // why it is not to be believed
	seq     uint8
	floor   uint8
	marks   [maxTags]mark
	rec     [maxKeys]record
}

type record struct {
	e     response
	stale uint8
}

// Why a file is not what its last user left.
const (
	asLeft     uint8 = iota
	copied           // another inode: a copy, or restored
	marksTorn        // count and sum of the marks do not agree
	rolledBack       // one meta page is bad, so that bbolt takes the one before
)

// How a file is set aside.
const (
	there   uint8 = iota
	renamed       // but a power cut may undo it
	gone
)

// A process has a store open. What is only in here dies with it.
type process struct {
	up        uint8
	fails     uint8 // why there is no file; if that is known, nobody waits for it
	left      uint8 // the uuid of the file that it has left, plus one
	epoch, n  uint8
	floor     uint8
	owesFloor uint8
	horizon   uint8
	rows      [maxTags]row
	mem       [maxKeys]item
	queue     [maxKeys]op
	worker    worker
	sweep     sweep
	leaked    uint8          // a position that is never let go, plus one; of a mutant
	told      versions       // which invalidations the application was told to be not durable
	put       [maxKeys]uint8 // how many were accepted
	gone      [maxKeys]uint8 // which Put's was deleted last, plus one
	lost      uint8          // its file is at its path no more
}

// Why a process that waits has no file.
const (
	opening   uint8 = iota
	locked          // another process has it
	forbidden       // anything else: nobody is known to have it
)

const (
	down    uint8 = iota
	waiting       // it has no file
	open
	leaving // the file failed, and is to be set aside
	moved   // it is renamed
)

// A worker is the goroutine that writes, sweeps and prunes.
type worker struct {
	ph         uint8
	key        uint8
	op         op
	does       uint8
	stale      uint8
	tag        uint8
	rows       [maxTags]mark // the debt, or what is pruned
	needed     uint8         // tags, as bits
	needless   uint8
	newFloor   uint8
	floor, seq uint8
	first      uint8 // what was deleted before the floor was written; of a mutant
}

// What the worker is about to do.
const (
	atRest   uint8 = iota
	settling       // the debt was read and looked up; commit
	settled        // committed, or nothing to commit; is the file still there? Paid, Cleaned, and tell
	telling        // where that is a step of its own
	flushing       // an op was judged inside the transaction; commit
	flushed        // take it from the queue
	swept          // a mark is off the disk; Cleaned
	pruning        // scan memory
	scanned        // Drop
)

// What a flush does to the row of its key.
const (
	nothing uint8 = iota
	clears
	writes
)

// A sweep goes on where it stopped.
type sweep struct {
	on  uint8 // tag, plus one
	row mark
	key uint8
}

// A request is one of a client. Which kind it is says the scenario.
type request struct {
	ph        uint8
	holds     uint8 // the position
	epoch, at uint8
	hard      versions // which invalidations were acknowledged when it came
	soft      versions // and expiries, too
	e         response // what it has at hand
	stale     uint8
	checked   uint8
	flight    uint8 // which request's, plus one
	dropped   uint8 // marks were dropped since the look-up began
	changed   uint8 // the key was changed in memory since the read began
	removed   uint8 // the item was
	deletes   uint8 // the queue had a deletion
	seen      uint8 // which Put was the last of the key when it came
	sawGone   uint8 // what of the key had been deleted when it came, as process.gone
	stood     uint8 // what the disk held when it was asked
	higher    uint8
	queued    uint8 // the queue had something of the key when Put looked
	passed    uint8 // the marks were looked at too early; of a mutant
}

const (
	notYet     uint8 = iota
	begun            // the handler is about to read
	made             // the handler has read
	asked            // Put has taken its ticket and looked at what stands on disk
	unasked          // Put has found that nothing on disk can be newer
	unticketed       // of a mutant: Put has looked, and is about to take its ticket
	checked          // of a mutant: Put has looked at the marks
	stored           // Put has returned
	landed           // followers decide
	follows
	inMemory // an item was found in memory
	judged   // its marks were looked at
	atQueue  // memory had nothing
	inQueue  // a store was found in the queue
	atDisk   // the queue had nothing
	onDisk   // an entry was read from disk
	promotes // it was answered with; promote
	found    // a renewal has found what it asks about
	drops    // a deletion is queued
	confirms // the handler has confirmed it
	over
	hung
)

// A change is one of the application's data, with its invalidation.
type change struct {
	ph  uint8
	ver versions
	// num is the number that the marks were given.
	num uint8
}

const (
	ahead   uint8 = iota
	cut           // of a mutant: what was found is deleted, the marks are not set
	waits         // the marks are in memory
	claimed       // of the writer
	late          // of an application that invalidates before it commits
	done
)

// A world is a state.
type world struct {
	ver      versions // of the application's data
	hard     versions // which changes are invalidated, and the caller was told
	soft     versions // or expired
	epochs   uint8
	uuids    uint8
	changes  [maxChanges]change
	requests [maxRequests]request
	procs    [maxProcs]process
	disk     disk
	removed  disk // the file of a process whose path leads elsewhere now
	before   disk // the last transaction
	backup   disk
	used     [budgets]uint8
}

// What happens a bounded number of times.
const (
	crash uint8 = iota
	evict
	overflow // the write queue is full
	fault    // a transaction fails
	fullDisk // there is no room for a transaction
	noAside  // the file cannot be set aside
	lapse
	letGo  // a caller lets go of a position, and goes on
	damage // to a file while nobody has it
	backUp
	hang   // a handler never returns
	remove // the file is removed from its path
	evictDisk
	noRoom // a transaction finds no room; the writer goes on with the file
	noOpen // the file cannot be opened, and that is not because another process has it
	budgets
)
