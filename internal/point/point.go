// Package point names the places in the code that the promise rests on, so that
// tests can do something about them.
//
// There are three kinds. At a [Place] another goroutine may do its worst: a test
// build waits there at random, so that it does. A [Line] is a rule of the protocol
// that a test build may switch off, to show that the tests notice. An [Interval] is
// one that a test build may shorten, so that what happens once a second happens
// within a test.
//
// In an ordinary build the functions are empty, or return a constant or what they
// were given, and the compiler removes them: a program that uses the library has
// none of this. The build tag accelpoints makes them work. Tests that need them
// build a program of their own with it (see internal/linear).
package point

// A Place is one at which other goroutines may come between.
type Place uint8

// The places, in the order that a request comes by them.
const (
	LookUp         Place = iota // before the first look-up
	Begun                       // a position was taken, and nothing looked up for it
	NothingFound                // the look-up under it found nothing
	HandlerBegins               // a handler is going to run
	HandlerDone                 // its response is going to be judged
	Putting                     // it is complete, and going to be stored
	Sharing                     // it was stored, or not, and its followers do not know
	Landed                      // a follower knows, and has not looked whether it suits
	RefreshBegins               // a refresh has its position, and nothing looked up
	Renewing                    // a 304 came, and the renewal is not stored
	MemoryFound                 // in memory, and its marks not looked at
	QueueFound                  // in the queue, likewise
	DiskFound                   // on disk, likewise
	DiskJudged                  // on disk, valid, and not promoted
	Reading                     // a reader has its order, and no transaction
	MemoryPut                   // an entry is going to enter memory
	MemoryPromotes              // likewise, from a lower tier
	MarkSet                     // an invalidation is in memory, and not on disk
	Claimed                     // the writer knows who waits, and not what they wait for
	Settled                     // marks are on disk, and who waits does not know
	Flushing                    // an entry was found valid, and is not written
	Flushed                     // a batch is on disk, and still in the queue
	Striking                    // the sweeper is going to delete what a mark strikes
	Struck                      // it has, and the mark does not know
	Pruning                     // marks are going to be dropped, memory is not scanned
	Scanned                     // memory is, and they are not dropped
	FileOpened                  // a file is open, and its marks are not known
	LetIn                       // where a line that is off lets others in, see Gap
	places
)

// A Line is a rule that can be switched off. Each is named for what holds as long
// as it is on.
type Line uint8

// The lines.
const (
	// What a request does.

	PositionBeforeHandler Line = iota // an entry has the position from before its handler ran
	PositionBeforeLookUp              // and from before the look-up that found what it renews
	FollowerValid                     // a follower takes only what is valid, or as new as itself
	FollowerArrival                   // as itself: as the position at which it came
	RenewalUnion                      // a renewed entry has all marks of the old one

	// What the marks do.

	AdmitChecks       // an entry that was struck is not stored
	AdmitOneStep      // and nothing comes between check and store
	RenewalOldValid   // what was struck is not renewed
	PromoteChecks     // nor promoted
	PromoteGeneration // nor is it if marks were dropped since it was read
	Generation        // what was read before marks were dropped is not certain
	Horizon           // nor what was begun before marks that are forgotten
	NumberLast        // the number of an invalidation is seen after its marks
	UpToLooked        // a verdict reaches no further than the marks that were looked at
	StrictlyLess      // what was begun one number before a mark is struck by it
	Floor             // what is below the floor is struck
	SoftMarks         // an expired entry is stale
	FlightsHold       // marks above a position that is held are not dropped
	QueueHolds        // nor those above the position of a queued entry
	DiskClean         // nor those that may strike something on disk
	DropUnchanged     // nor those that have grown since memory was scanned

	// What the stores do.

	MemoryChecks    // what is found in memory is looked at
	QueueChecks     // in the queue, likewise
	DiskChecks      // on disk, likewise
	MemoryGone      // what is found in memory and was scanned away meanwhile is not served
	ScanBeforeDrop  // memory is rid of what a mark strikes before the mark is dropped
	SoftWritten     // and knows since when it is stale, as the disk does
	FlushChecks     // what was struck in the queue is not written
	DisplaceOlder   // and what is on disk under its key goes, too
	QueueHides      // and is not found until it has gone
	HigherStays     // an entry of a higher position is not replaced
	PromoteTicket   // nor does an older one enter memory when it has left
	RenewalOldThere // only what its key still holds is renewed

	// What matters after a crash only.

	AckAfterDurable // an invalidation returns when its marks are on disk
	SeqWritten      // with a number that is at least theirs
	MarksWritten    // and they are

	lines
)

// An Interval is a time that something takes, or that lies between two rounds of
// it.
type Interval uint8

// The intervals.
const (
	SweepEvery  Interval = iota // between two rounds of a sweeper
	PruneEvery                  // between two prunings
	FlushAfter                  // that an entry waits in the queue
	Lapse                       // that a position may be held
	SettleAfter                 // that what is gathered waits where nothing is added
	intervals
)
