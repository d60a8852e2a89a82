package accel

import (
	"context"
	"errors"
	"time"
)

// A Store keeps entries and keeps the promise: after Invalidate has returned
// nil, no entry that carries one of its marks and whose position is older is
// returned again, by Get, by a crash, by a restart.
//
// A store knows no HTTP. Keys, hashes and header fields are opaque to it; what
// Vary means and whether an entry is fresh is decided above it.
//
// # Positions
//
// Time inside a store is a [Position]: an epoch, new with every opening, and a
// number that grows by one with every invalidation. It is never a clock.
// Whoever is going to make a response calls Begin before anything is read for
// it; the entry carries that position for ever. An invalidation gives its
// marks the next number. An entry is valid if and only if its number is at
// least the mark of each of its [Entry.Marks] and the mark of everything.
//
// # The law
//
// Every store obeys these rules; package storetest has a test under each
// number. Unless a rule says otherwise, methods may be called by any number of
// goroutines at once.
//
//  1. Round trip. Get returns what Put stored, every field of it. An entry is
//     immutable from the moment it is handed to Put or returned by Get: neither
//     side writes to it, its slices or its maps again.
//  2. Not found. Get of a key that holds nothing returns ErrNotFound, and a
//     Found whose Entry is nil.
//  3. Replacement. Put under a key that holds an entry replaces it whole: the
//     old entry's tags no longer lead to the key.
//  4. Variants. All entries of one resource have the same Vary names. A Get with
//     other names than these returns ErrNotFound with the right ones in
//     Found.Vary. A Put with other names drops the resource's entries under the
//     old ones. One resource keeps at most MaxVariants entries; one more
//     replaces the oldest.
//  5. Invalidate strikes exactly the entries that carry one of the marks and
//     whose position is older than the call; every other entry stays.
//  6. Late stores. Put of an entry whose position is older than the mark of one
//     of its Marks, or of everything, returns ErrInvalidated and stores nothing.
//     It says so too when the store can no longer tell: the position was not
//     held by Begin, or was let go by End, while marks were dropped.
//  7. Strangers. A position of another epoch, and one above the store's own, is
//     never stored: ErrInvalidated.
//  8. URLs. A mark made by URLMark or TargetMark strikes every variant: that of
//     one scheme and host, or of all.
//  9. Everything. MarkAll strikes every entry, and is as durable as any mark.
//  10. Expire makes stale, not gone: Get still returns the entry, with
//     Found.StaleSince set to the moment it was first expired. It refuses no
//     Put. An entry begun after it is not touched by it.
//  11. A Put never replaces an entry of a higher position: it returns
//     ErrInvalidated and changes nothing. (A store whose disk does not tell in
//     time what it holds may take the entry, and drop it when it learns.)
//  12. Renewal. Put(e, old) stores e only if old is, at that moment, still what
//     the key holds and still valid for its own marks, and e is valid for its
//     own; e.Marks contains all of old.Marks. Otherwise ErrInvalidated.
//  13. Delete removes the entry if the key still holds that very version, and
//     nothing otherwise.
//  14. KeepUntil. An entry past it is not returned, and its space is reclaimed
//     without being asked.
//  15. Valid answers for a response that was never stored: whether a Put of it
//     would be accepted now, apart from rule 11. It is what lets a request use
//     the response of another. The position must still be held.
//  16. Bounds. The bytes kept stay within the store's configured maximum, by
//     evicting; an entry too large to be kept at all is refused with
//     ErrTooLarge, and the key's older entry is gone.
//  17. The newest decides. When the newest version of a key was dropped, by a
//     full queue or by eviction, no older version of it is returned.
//  18. Close waits for what was accepted to be written. Afterwards Get, Put,
//     Delete, Invalidate and Expire return ErrClosed, Valid is false, Begin and
//     End do nothing; a second Close returns nil.
//  19. A context bounds a wait and cancels nothing: an invalidation whose caller
//     has left is carried out all the same.
//
// A failing store must not become a failing site: methods return errors, never
// panic, and never block for longer than their contract says. The cache takes
// any error of Get as a miss and any error of Put as "not stored".
type Store interface {
	// Begin returns the present position and holds it: while it is held, the
	// store remembers every mark made since. It must be called before the
	// look-up whose miss leads to a handler, hence before the handler reads
	// anything. Each Begin is paired with one End.
	//
	// It returns the zero Position when somebody else may be invalidating what this
	// store does not hear of: another process has the file. A response made then is
	// neither stored nor shared among requests. So it does after Close.
	//
	// A position held for longer than a few minutes may be let go by the store;
	// entries made at it are then refused by rule 6.
	Begin() Position

	// End lets a position go that Begin returned.
	End(at Position)

	// Get looks an entry up. vary has the Vary names with which key.Variant was
	// computed: nil at first. It returns ErrNotFound if there is no entry that
	// is valid; with Found.Vary set if the resource's entries are selected by
	// other names, so that the caller can compute the right variant and ask
	// again. It waits for a bounded time only (boltstore: some tens of
	// milliseconds); ctx may shorten the wait.
	//
	// A hit in memory on an entry begun after the last invalidation takes no
	// lock that all requests share, and allocates nothing.
	Get(ctx context.Context, key Key, vary []string) (Found, error)

	// Put stores e at e.Key with the position e.At, and returns as soon as Get
	// can see it; a store on disk writes it later. If old is not nil, e renews
	// it (rule 12): same key, same bodies, new header and times.
	//
	// Errors: ErrInvalidated, ErrTooLarge, ErrBusy, ErrUnavailable, ErrClosed.
	Put(e, old *Entry) error

	// Delete removes e if it is what its key still holds.
	Delete(e *Entry) error

	// Valid reports whether a response made at the position, carrying these
	// marks, may still be used.
	Valid(at Position, marks []Hash) bool

	// Invalidate makes invalid whatever carries one of the marks and was begun
	// before the call. The effect on Get is immediate; nil is returned when it
	// is also durable. It takes a time that does not depend on how many entries
	// are struck.
	//
	// Errors: ErrNotDurable if it holds in memory and could not be written;
	// ctx.Err() if the caller's patience ended first, the invalidation being
	// carried out regardless; ErrClosed.
	Invalidate(ctx context.Context, marks ...Mark) error

	// Expire is Invalidate with the milder effect of rule 10.
	Expire(ctx context.Context, marks ...Mark) error

	// Stats returns counters and sizes; it is cheap enough to be called every
	// second.
	Stats() StoreStats

	// Close writes what is queued and releases everything. [Cache.Close] calls
	// it; nobody else needs to.
	Close() error
}

// A Lender is a Store that finds entries for less than Get where they are sent to one
// client, and then forgotten. A [Cache] asks it so first, where no other cache wants to
// hear of the entry, and asks Get again if what it finds is not to be sent as it is.
type Lender interface {
	Store

	// Lend is Get, except for the entry where Found.Release is not nil. That entry is
	// lent:
	//
	//   - It may lack the Data of its Bodies, but for the one that pick chose. pick is
	//     called before these are read, with the entry as it is so far, and returns an
	//     index, or -1 if all are wanted. It is called before Lend returns, by the
	//     goroutine of Lend's caller, and perhaps not at all.
	//   - The Data it has lies in memory that Release gives back: the store reads the
	//     bodies of other entries into it. Release is called once, by who called Lend,
	//     when nobody has the bodies any more, nor will have. Who is not certain of
	//     that does not call it: then the garbage collector takes them.
	//   - It is not given to Put or Delete.
	//
	// Who wraps a store with a Get of its own, wraps Lend, too, or hides it.
	Lend(ctx context.Context, key Key, vary []string, pick func(*Entry) int) (Found, error)
}

// MaxVariants is the number of variants kept of one resource. It is the bound
// on what a client that sends a new User-Agent with each request can fill.
const MaxVariants = 16

// Errors of a Store. Compare with errors.Is: stores wrap them.
var (
	// ErrNotFound is returned by Get when the key holds nothing that is valid.
	ErrNotFound = errors.New("accel: not found")

	// ErrInvalidated is returned by Put for an entry that an invalidation has
	// overtaken, or whose position the store cannot vouch for.
	ErrInvalidated = errors.New("accel: invalidated while it was made")

	// ErrTooLarge is returned by Put for an entry that the store can never keep.
	ErrTooLarge = errors.New("accel: entry too large for the store")

	// ErrBusy is returned by Put when the store cannot take more at the moment.
	ErrBusy = errors.New("accel: store is busy")

	// ErrNotDurable is returned by an invalidation that holds in this process
	// but could not be written down: it may be undone by a restart.
	ErrNotDurable = errors.New("accel: invalidation is not durable")

	// ErrUnavailable is returned while a store has nothing to work on: its file
	// is held by another process, is not a cache database, or is not permitted.
	ErrUnavailable = errors.New("accel: store is unavailable")

	// ErrClosed is returned after Close.
	ErrClosed = errors.New("accel: store is closed")
)

// A Position is a point in a store's history. The zero Position belongs to no
// store. Positions are values; they may be copied and compared with ==.
type Position struct {
	// Epoch is drawn anew with every opening of a store.
	Epoch uint64
	// N is the number of the last invalidation before this point. It never
	// falls within an epoch, nor from one epoch to the next in one process; after
	// a crash it is at least the highest that was written down.
	N uint64
}

// Found is the answer of [Store.Get].
type Found struct {
	// Entry is nil when nothing was found.
	Entry *Entry

	// StaleSince is when an Expire first struck the entry; zero if none did.
	StaleSince time.Time

	// Now is the moment at which the store looked at the entry, by [time.Now]: it
	// spares the caller of a hit to ask for the time again. It is zero if the store
	// has another clock, or did not look at it.
	Now time.Time

	// Release is nil, but for what a [Lender] has lent.
	Release func()

	// Vary, where Entry is nil, has the canonical, sorted names of the request
	// headers that select among the resource's entries, if these are others
	// than the ones asked with; nil if the same, or if the store knows nothing
	// of the resource. Not to be written to.
	Vary []string
}

// StoreStats describes a store at one moment. Sizes are in bytes. Counters
// count from the opening and only grow; a field that a store has no use for
// stays zero.
type StoreStats struct {
	Entries int64 // entries kept, the expired ones that are not yet swept included
	Bytes   int64 // what these occupy, indexes included

	MemoryEntries int64 // entries in the memory tier
	MemoryBytes   int64 // their bytes
	FileBytes     int64 // size of the file
	QueueBytes    int64 // entries accepted and not yet written
	Marks         int64 // marks remembered in memory
	InFlight      int64 // positions held

	Stored      uint64 // entries accepted by Put
	Refused     uint64 // entries refused: invalidated, too large, busy
	Dropped     uint64 // entries accepted and lost before they were written
	Expired     uint64 // entries swept past KeepUntil
	Evicted     uint64 // entries evicted for room
	Swept       uint64 // entries swept because a mark struck them
	Invalidated uint64 // marks made
	ReadErrors  uint64 // look-ups that failed, time-outs and bad checksums included
	WriteErrors uint64 // transactions that failed
	SetAside    uint64 // files set aside as damaged
}
