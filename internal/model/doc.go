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
//	queue            the newest op of a key; a full queue; what is shed
//	writer           claim and debt, transaction, Paid and Cleaned and nil;
//	                 judging an op, transaction, taking it from the queue;
//	                 sweeping a key at a time, the mark, Cleaned; what is needless
//	disk             seq, floor, marks, entries with whether they are stale; it
//	                 changes by whole transactions, and is what a crash leaves
//	look-up          generation and memory; the marks; gone?; queue; disk;
//	                 the marks and the generation; promotion
//	flights          join, land, decide; a position is held until the last has
//	deletions        queue, then memory; of what a look-up found
//	renewals         look-up under a held position, 304, Put of the renewal;
//	                 or an answer that is not stored, because it says nothing new
//	opening          adopting, in a new process and in one that waited; a file
//	                 that is new, full, without room, failed, set aside, removed, restored from
//	                 a copy, or damaged where marks and transactions are concerned
//
// # What is left out
//
// More than two tags, two keys, two processes, four requests and three changes.
// Vary, but for two variants of one URL, which is a tag that both have. Bytes:
// damage to records, checksums, sizes. Time, but for accidents that it brings: a
// lapse, the end of an entry. A limit on waiting. Expiring everything. What reads
// without the lock inside Check: the number is stored after its marks, and a hit
// that reads the old one comes before the invalidation. An older state that is
// written over an open file. Nesting. Two marks with one hash.
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
// Tests name what the protocol does not keep, and fail when that changes; see gaps
// in model_test.go:
//
//   - A process that waits for its file lets requests follow flights, of which it
//     cannot know whether the process that has the file has purged them.
//   - A follower is given a response from before an expiry as fresh.
//   - What a Put, or the Put of a renewal, has seen on disk may be out of date when
//     it is admitted: if a newer version was put, written, and evicted from memory
//     in between, the older one takes its place; of a Put until it is flushed, of a
//     renewal for good. Both are valid, so the promise is kept, and the order is not.
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
// states.
package model
