package memory

import (
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// Allocated is for the test of the size classes.
var Allocated = allocated

// Check fails the test unless the invariants hold that shard and row state:
// queues and table contain exactly the same items, once each, and every count
// of bytes is the sum it says it is. Nothing may be going on meanwhile.
func Check(t interface {
	require.TestingT
	Helper()
}, c *Cache) {
	t.Helper()
	for i := range c.shards {
		s := &c.shards[i]
		if s.max == 0 {
			continue
		}
		tab := s.table.Load()
		bytes, rows := tableSize(len(tab.buckets)), 0
		inTable := map[*Item]bool{}
		for b := range tab.buckets {
			for r := tab.buckets[b].Load(); r != nil; r = r.next.Load() {
				require.EqualValues(t, b, r.hash>>tab.shift, "bucket of a row")
				require.Equal(t, hash(&c.seed, &r.resource), r.hash)
				rows++
				bytes += rowSize(r.names)
				n := 0
				for it := range r.items {
					n++
					require.False(t, inTable[it], "an item twice")
					inTable[it] = true
					require.Same(t, r, it.row)
					require.Equal(t, r.resource, it.Entry.Key.Resource)
					require.Equal(t, len(r.names), len(it.Entry.Vary))
					require.Equal(t, Size(it.Entry), it.size)
				}
				require.Equal(t, n, r.n)
				require.Positive(t, n, "a row without items")
				require.LessOrEqual(t, n, accel.MaxVariants)
			}
		}
		inQueues := 0
		for q, main := range map[*queue]bool{&s.small: false, &s.main: true} {
			sum := int64(0)
			for it := q.root.after; it != &q.root; it = it.after {
				require.True(t, inTable[it], "an item in a queue and not in the table")
				require.Equal(t, main, it.main)
				require.Same(t, it, it.after.before)
				sum += it.size
				inQueues++
			}
			require.Equal(t, sum, q.bytes)
			bytes += sum
		}
		require.Len(t, inTable, inQueues)
		require.Equal(t, rows, s.rows)
		require.EqualValues(t, inQueues, s.items.Load())
		require.Equal(t, bytes, s.bytes.Load())
		require.LessOrEqual(t, bytes, s.max)
		require.Len(t, s.ghosts.slots, len(tab.buckets))
	}
}

// Locked runs fn while every lock of the cache is held.
func (c *Cache) Locked(fn func()) {
	for i := range c.shards {
		c.shards[i].mu.Lock()
		defer c.shards[i].mu.Unlock()
	}
	fn()
}
