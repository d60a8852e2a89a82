// Package boltstore keeps the entries of a cache in a bbolt file: they survive a
// restart, and so does every invalidation.
//
//	cache := accel.New(site, boltstore.Open("cache.db"))
//	defer cache.Close()
//
// # What is where
//
// A look-up goes through three tiers: entries in memory (24 MiB by default),
// entries that have been accepted and wait to be written, and the file. The first
// that has the key answers, also if the answer is that its entry is not valid: no
// older version further down takes its place.
//
//	Get ──► memory ──► queue ──► readers ──► file
//	Put ──► memory, queue           ▲
//	Invalidate ──► marks        writer: marks, entries, sweeping
//
// The file has seven buckets, which docs/format.md describes to the byte:
//
//	m  facts        k  where an entry is    b  entries
//	x  expiry       t  tags                 g  marks
//	j  the journal: changes of k and t that are not written there yet
//
// # Who does what
//
// One goroutine writes. It makes invalidations durable before anything else, as
// many as wait in one transaction; then it writes what is queued, as soon as there
// are 256 entries, or after 100 ms; and with each batch it sweeps a little: what has
// expired, what a mark struck, and, when the file has grown too near to its bound,
// what was not used for longest. What is to change in k and t, whose keys are hashes, is
// gathered in the journal, and in memory, until many changes fall on a page; after a second
// without any, and by [Store.Close], everything is written where it belongs. A few
// goroutines read; what they have read a moment
// ago is read again by whoever asks. One more opens the file, and decides what
// happens when it fails; it never calls bbolt on an open file.
//
// # When the disk fails
//
// A look-up that fails, or takes longer than 50 ms, is a miss. A page that cannot
// be written is dropped. The site is served as if there were no cache, which is
// always right.
//
// A file that turns out to be damaged is renamed to cache.db.corrupt-<time>, and a
// new one is begun; after three the store stays off. A file that is not a cache
// database is never touched. [Store.Err] says what is the matter.
//
// A full disk costs what was to be stored, and no more, as long as there is no
// invalidation to be written down. One that there is no room for is made durable
// by removing the file, which needs no room and makes some.
//
// A disk whose writes hang holds up neither a look-up nor a Put. An invalidation
// waits for it as long as its context allows. [Store.Close] gives it up when nothing
// has come from it for ten seconds. Reads are another matter: the file is mapped, and
// who waits for a page in it holds one of Go's processors. On a disk that takes a
// second for each page the program stands still for seconds.
//
// # When the process dies
//
// Pages stored in the last tenth of a second are lost. Invalidations that have
// returned nil are not: they were synced.
//
// # Limits
//
// The file must be on a local disk: locks and mappings of network file systems do
// not hold what they promise. One process uses it at a time; a second one serves
// uncached and takes over when the first is done, which is what a rolling restart
// wants. A file that was copied, or restored from a backup, begins empty, because
// it may lack an invalidation made since. It is known by its inode: a backup that is
// written into the very file that was there, as cp does, is noticed only while a
// process has that open. Remove the file before you restore one.
//
// What is returned was stored: every record has a checksum. The pages of bbolt have
// none, and a bit that flips in one may hide a row of an index. Where an
// invalidation went by the index, an entry older than that is returned only if the
// index leads to it. Two kinds of damage are beyond this: a disk that loses the very
// last transaction, though it said it had it, takes the file back to before it; and
// in a file of more than 16 384 pages, a leaf that became a branch which leads back
// to itself, page number and all, ends the process if it is come upon in the first
// seconds, before all leaves were looked at, or after them.
package boltstore
