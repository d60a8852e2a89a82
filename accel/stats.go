package accel

import (
	"sync"
	"sync/atomic"
)

// Stats describes what a cache has done since New. Each request counts once,
// among Hits, Misses, Collapsed or Passes. A Stats is a copy; the caller may do
// with it what it likes.
type Stats struct {
	Hits      uint64 // answered by an entry, the stale ones included
	Misses    uint64 // answered by their own run of the handler
	Collapsed uint64 // answered by the response to another request, awaited
	Passes    uint64 // left to the handler as they are, unsafe methods among them; see the package comment

	StaleHits    uint64 // of Hits: answered by an entry past its time
	StaleIfError uint64 // of Misses: the handler failed, and a stale entry answered

	Stored    uint64            // responses stored, background refreshes included
	Renewed   uint64            // stored responses that the handler confirmed with a 304
	NotStored map[string]uint64 // responses not stored, by reason as in Cache-Status

	Refreshes     uint64 // background refreshes begun
	StoreErrors   uint64 // look-ups, stores and deletions that the store failed at
	KeyMismatches uint64 // entries refused because they were another key's; never above 0 with a sound store

	Store StoreStats // what the store says of itself
}

// Stats returns the counters of c and of its store. It is cheap enough to be
// called every second. On a nil Cache it returns the zero Stats.
func (c *Cache) Stats() Stats {
	if c == nil {
		return Stats{}
	}
	s := c.counters.sum()
	s.Store = c.store.Stats()
	return s
}

// counters count. Those of every request are striped: questions come from a
// pool that each processor has a part of, so that a question's stripe is
// seldom in another processor's cache.
type counters struct {
	striped [64]stripe

	staleIfError, stored, renewed, refreshes, storeErrors, mismatches atomic.Uint64

	mu        sync.Mutex // guards notStored
	notStored map[string]uint64
}

// A stripe has what counts requests.
type stripe struct {
	hits, stale, collapsed, misses, passes atomic.Uint64
	_                                      [24]byte // to a cache line of 64 bytes
}

func (n *counters) at(q *question) *stripe {
	return &n.striped[q.stripe%uint32(len(n.striped))]
}

func (n *counters) notStoredFor(reason string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.notStored == nil {
		n.notStored = make(map[string]uint64)
	}
	n.notStored[reason]++
}

func (n *counters) sum() Stats {
	s := Stats{
		StaleIfError:  n.staleIfError.Load(),
		Stored:        n.stored.Load(),
		Renewed:       n.renewed.Load(),
		Refreshes:     n.refreshes.Load(),
		StoreErrors:   n.storeErrors.Load(),
		KeyMismatches: n.mismatches.Load(),
	}
	for i := range n.striped {
		t := &n.striped[i]
		s.Hits += t.hits.Load()
		s.StaleHits += t.stale.Load()
		s.Collapsed += t.collapsed.Load()
		s.Misses += t.misses.Load()
		s.Passes += t.passes.Load()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	s.NotStored = make(map[string]uint64, len(n.notStored))
	for r, i := range n.notStored {
		s.NotStored[r] = i
	}
	return s
}
