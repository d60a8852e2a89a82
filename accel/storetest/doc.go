// Package storetest is the law of [accel.Store] as a test suite. A store's own
// tests are then few:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t testing.TB, o storetest.Options) accel.Store {
//			return memstore.New(memstore.WithClock(o.Now), memstore.WithMaxSize(o.MaxSize))
//		})
//	}
//
// The subtests of [Run] bear the numbers of the rules in the comment of
// accel.Store. A bug that is found in one store becomes a case under a number,
// for all of them.
//
// Beside the suite there is what tests of and above stores need: [Entry] builds
// entries, [Clock] is a clock that is set by hand, [Faulty] makes a store fail,
// [Lending] makes one lend, [Bench] measures one.
//
// # The model
//
// The subtest Model performs random operations on a store and on a plain map
// and compares. Its seed is printed; the same run is had again with
// ACCEL_STORETEST_SEED, and a longer one with ACCEL_STORETEST_STEPS.
package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Options is what a test wants of the store it opens.
type Options struct {
	// Now is the clock for every decision of the store about an entry: whether
	// it is past KeepUntil, since when it is stale. Never nil in the suite.
	Now func() time.Time

	// MaxSize is the bound of the whole store in bytes, as WithMaxSize takes
	// it; zero is the store's default, of which the suite expects room for
	// 8 MiB.
	MaxSize int64
}

// An Opener opens a new, empty store for one test. The suite closes it; whatever
// else is to be cleaned up is the opener's, by t.Cleanup.
type Opener func(t testing.TB, o Options) accel.Store

// A Capability tells the suite of something that not every store can do.
type Capability func(*backend)

type backend struct {
	open   Opener
	reopen func(t testing.TB, s accel.Store) accel.Store
	sweep  func(s accel.Store)
}

// WithReopen says that the store is durable. reopen closes s and opens its data
// again, with the same options. To test crashes, it may leave s in the lurch
// instead of closing it, if everything put so far has been written.
func WithReopen(reopen func(t testing.TB, s accel.Store) accel.Store) Capability {
	return func(b *backend) { b.reopen = reopen }
}

// WithSweep lets the suite wait for the store's sweeper: sweep returns when one
// whole round that began after the call has reclaimed what it could, and
// forgotten the marks it could. Without it the suite waits up to ten seconds
// for what is swept in the background.
func WithSweep(sweep func(s accel.Store)) Capability {
	return func(b *backend) { b.sweep = sweep }
}

// Start is when a [Clock] starts, and when entries are made unless they say
// otherwise. It is so far away that they are fresh by the real clock, too.
var Start = time.Date(2099, 10, 11, 12, 13, 14, 151617, time.UTC)

// A Clock is set by hand. It is safe for concurrent use. The zero Clock is not
// ready for use; call [NewClock].
type Clock struct {
	mu  sync.Mutex // protects now
	now time.Time
}

// NewClock returns a clock that shows [Start].
func NewClock() *Clock { return &Clock{now: Start} }

// Now returns what the clock shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
