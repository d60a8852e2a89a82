package accel

import (
	"crypto/sha256"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func newDigestTable() *digestTable { return &digestTable{seed: maphash.MakeSeed()} }

// sharing returns n keys' materials that fall on one place.
func (t *digestTable) sharing(n int) (list [][]byte) {
	for i := 0; len(list) < n; i++ {
		b := fmt.Appendf(nil, "/page/%d", i)
		if len(list) == 0 || t.slot(b) == t.slot(list[0]) {
			list = append(list, b)
		}
	}
	return list
}

func (t *digestTable) add(b []byte) { t.put(b, sha256.Sum256(b), Hash(len(b))) }

func (t *digestTable) has(b []byte) bool {
	_, _, ok := t.get(b)
	return ok
}

func TestDigestsAreRemembered(t *testing.T) {
	table := newDigestTable()
	b := []byte("/a")
	require.False(t, table.has(b))
	table.add(b)
	digest, target, ok := table.get(b)
	require.True(t, ok)
	require.Equal(t, Digest(sha256.Sum256(b)), digest)
	require.Equal(t, Hash(2), target)

	long := []byte(strings.Repeat("/long", maxDigested))
	table.add(long)
	require.False(t, table.has(long), "it would take too much memory")
}

// Of two pages that share a place the one that is asked for keeps it, be there ever
// so many of the other kind: they are told apart by all of their material.
func TestDigestsOfOnePlace(t *testing.T) {
	table := newDigestTable()
	keys := table.sharing(2)
	table.add(keys[0])
	for range 10 * idleAfter {
		require.False(t, table.has(keys[1]))
		table.add(keys[1])
		require.True(t, table.has(keys[0]))
	}
	for range idleAfter {
		require.False(t, table.has(keys[1]))
		table.add(keys[1])
	}
	require.True(t, table.has(keys[1]), "the other is not asked for any more")
	require.False(t, table.has(keys[0]))
}

func TestDigestsAtOnce(t *testing.T) {
	table := newDigestTable()
	keys := table.sharing(3)
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			for j := range 3000 {
				b := keys[(i+j/7)%3]
				if digest, _, ok := table.get(b); !ok {
					table.add(b)
				} else if digest != Digest(sha256.Sum256(b)) {
					t.Errorf("%s: another key's digest", b)
				}
			}
		})
	}
	all.Wait()
}
