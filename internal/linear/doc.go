// Package linear has no code of its own. Its tests record what the clients of a
// site see, over HTTP, while others change it, and what the store under it is asked
// and answers; and have each of these histories judged by porcupine
// (https://github.com/anishathalye/porcupine), which knows nothing of caches: is
// there an order of all that was done, each thing at one moment between its
// beginning and its end, in which a sequential model would have done the same?
//
// # The promise
//
// A register stands for what one kind of invalidation is about: the data behind a
// tag, behind a URL, behind everything. A commit gives it the next version. An
// invalidation, by who has committed a version, raises to it the lowest version
// that may be read. A GET reads the versions that its answer was made of; each must
// lie between the lowest and the one committed last. So an answer may be as old as
// the last invalidation that has returned, and not a version older.
//
// A register of which one reads only what was written last would be more than the
// promise: between a commit and its invalidation, two pages of one tag may well be
// of different versions, whoever reads them in whatever order.
//
// # What a key holds
//
// The store has a model, too: a Get of a key returns what was put there last, or
// nothing. So no older version comes back from a lower tier.
//
// # Points
//
// Histories are made in a program that is built with the tag accelpoints: it waits
// at the places that package point names, sweeps and forgets within milliseconds
// what otherwise takes seconds, and can switch off single lines of the protocol.
// That the model finds fault with each of these is shown by TestEveryLineIsNeeded.
package linear
