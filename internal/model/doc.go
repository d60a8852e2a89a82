// Package model is a model checker for the promise: it goes through every order in
// which the steps of requests, invalidations, the writer, the sweeper and accidents
// can happen, within small bounds, and looks at every answer. go test runs it.
//
// It does not run the code of the stores. It runs a model of it, in which a step is
// what the code does inside one lock, in one transaction, or between two of them.
// The random walk of internal/marks runs the code itself, but only some of the
// orders; what is said here about all orders is said of the model.
//
// # What is checked
//
// In every answer: the promise. A request that comes after an invalidation was
// acknowledged is not answered with a value that was read before it, by a look-up,
// as a follower, by a renewal, after a crash, or after a take-over. An invalidation
// that was told to be not durable counts for its own process, as long as that
// lives. And freshness: an answer that is older than an expiry that was
// acknowledged is marked as stale.
//
// In some scenarios, order: the newest version that a key was given decides (rules
// 11, 12 and 17 of a store). In some, that nothing is refused or swept that no mark
// strikes. And in every state in which nothing is left to be done, rest: no mark is
// left, neither in memory nor on disk.
//
// # What is in the model
//
// The application's data has a version for each tag; a change raises it, and then
// invalidates. A handler reads the versions at some moment after Begin, so that
// what an answer is made from is known, whatever its position says. The rest
// follows the code:
//
//	package marks    Begin, End, Admit, Promote, Check and CheckRead, Owed, Paid,
//	                 Cleaned, Prunable, Drop, Adopt, Reset, the horizon, the
//	                 floor, the limit, lapses; each one step
//	memory           Put, Renew, promotion, eviction, the scan; an item that a
//	                 reader has at hand may be removed, or become stale, under him
//	Put              ticket, queue and disk; then the rest as one step, which looks
//	                 again if what was seen may be out of date
//	queue            the newest op of a key; a full queue; what is shed
//	writer           claim and debt, transaction, Paid and Cleaned and nil;
//	                 judging an op, transaction, taking it from the queue;
//	                 sweeping a key at a time, the mark, Cleaned; what is needless
//	disk             seq, floor, marks, entries with whether they are stale; it
//	                 changes by whole transactions, and is what a crash leaves
//	look-up          generation and memory; the marks; gone?; ticket and queue;
//	                 disk; the marks and the generation; promotion
//	flights          join, land, decide; a position is held until the last has; the
//	                 zero position, which is not shared
//	deletions        queue, then memory; of what a look-up found
//	renewals         look-up under a held position, 304, Put of the renewal;
//	                 or an answer that is not stored, because it says nothing new
//	opening          adopting, in a new process and in one that waited; a file
//	                 that is new, full, without room, failed, set aside, removed,
//	                 replaced by another, restored from a copy, or damaged where
//	                 marks and transactions are concerned
//
// # What is left out
//
// More than two tags, two keys, two processes, four requests and three changes.
// Vary, but for two variants of one URL, which is a tag that both have. Bytes:
// damage to records, checksums, sizes. Time, but for accidents that it brings: a
// lapse, the end of an entry. A limit on waiting. Expiring everything. What reads
// without the lock inside Check: the number is stored after its marks, and a hit
// that reads the old one comes before the invalidation. An older state that is
// written over an open file. What a process answers whose file is not at its path any
// more, until it finds out. Nesting. Two marks with one hash.
//
// That a Put looks so many times at most, and then is refused. That a follower whom a
// response does not suit looks again: what it may be given then is less than what
// is looked for in a reader who comes later.
//
// That a look-up comes before a flight is led: a leader may lead at any time, which
// is more than the code does. That the writer settles before it flushes: in the
// model it takes up its work in any order, and the promise does not hang on that.
//
// A commit and its invalidation in memory are one step. A handler that reads between
// them gets new data at an old position, which does no harm; every other order of
// the two is there.
//
// # What it found
//
// These it found in the code, which was mended; now there are scenarios that keep
// them, and mutants that are the code as it was:
//
//   - A process that waited for its file let requests follow flights, of which it
//     could not know whether the process that had the file had purged them.
//   - A follower was given a response from before an expiry as fresh.
//   - What a Put, or the Put of a renewal, had seen on disk could be out of date when
//     it was admitted: if a newer version was put, written, and evicted from memory
//     in between; or was in the queue when it looked; or was begun when there was
//     nothing to look for yet. The older one took its place; of a Put until it was
//     flushed, of a renewal for good. Both were valid, so the promise was kept, and
//     the order was not.
//   - Promotion took its ticket after the look at the queue, and so could promote
//     what another Put had replaced in between.
//
// One is left, which a test names and fails when it changes; see gaps in
// model_test.go:
//
//   - A process whose file cannot be opened, for another reason than that somebody
//     has it, lets requests follow flights. Until it tries again, two seconds at
//     most, or for ever if it has given up, another process may open the file, and
//     what that invalidates is not heard of. It concerns sites of two processes
//     only, and there only who waits for a flight that began before.
//
// And one is a matter of patience: a Put that the disk does not tell in time what
// it has replaces a newer version in memory, until the writer finds out. The
// scenario in which the disk is slow looks at what is on disk only.
//
// # Reading a counter-example
//
// A violation is printed as the shortest list of steps that leads to it. Requests,
// changes and processes have the numbers of their scenario, tags are printed as
// bits: 1 is tag 0, 2 is tag 1, 3 is both. A position is the number alone.
//
//  1. request 0 comes, and leads a flight for key 0 from position 0
//  2. request 0: its handler reads version 0 of tag 0 ...
//  3. change 0 is committed and its tags (1) invalidated in memory, with number 1
//  4. request 0: Put stores what was made at position 1
//     ...
//
// Here the fourth line shows what is wrong: the entry was stamped when it was
// stored. The steps by which a mutant is caught are shown by
//
//	go test -v -run 'TestMutantsAreCaught/mutants/stamped' ./internal/model
//
// # Forms
//
// ACCEL_FAULTS=ci and ACCEL_FAULTS=full give most scenarios another request, change
// or accident; each still ends. The short form goes through some two million
// states, that of ci through sixteen million.
package model
