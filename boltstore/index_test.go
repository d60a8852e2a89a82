package boltstore_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

// Silent damage hides an entry in the index of tags. The invalidation finds
// nothing to strike, its mark is forgotten, and the entry is still not returned;
// others of its age, which the index leads to, are.
func TestHiddenInTheIndexIsNotReturned(t *testing.T) {
	for name, restart := range map[string]bool{"in the same process": false, "after a restart": true} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			noMemory := boltstore.WithMemory(0)
			s := boltstore.Open(path, quiet, patient, noMemory)
			require.NoError(t, s.Ping(bg))
			put(t, s, "/hidden", storetest.Tags("x"))
			put(t, s, "/seen", storetest.Tags("y"))
			require.NoError(t, s.Close())
			hash := binary.BigEndian.AppendUint64(nil, uint64(accel.TagMark("x").Hash))
			require.NoError(t, editDB(path, func(btx *bolt.Tx) error {
				b := btx.Bucket([]byte("t"))
				n := 0
				for _, k := range keysOf(b) {
					if bytes.HasPrefix(k, hash) && !bytes.HasSuffix(k, make([]byte, 8)) {
						n++
						require.NoError(t, b.Delete(k))
					}
				}
				require.Equal(t, 1, n)
				return nil
			}))

			s = boltstore.Open(path, quiet, patient, noMemory)
			require.NoError(t, s.Ping(bg))
			require.True(t, has(s, "/hidden"), "nothing was invalidated since the file was left in order")
			require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
			require.False(t, has(s, "/hidden"))
			if restart {
				require.NoError(t, s.Close())
				s = boltstore.Open(path, quiet, patient, noMemory)
				require.NoError(t, s.Ping(bg))
			} else {
				eventually(t, func() bool { return s.Stats().Marks == 0 }, "the mark is forgotten")
			}
			require.False(t, has(s, "/hidden"))
			require.True(t, has(s, "/seen"))
			require.NoError(t, s.Close())
		})
	}
}

func keysOf(b *bolt.Bucket) (keys [][]byte) {
	b.ForEach(func(k, _ []byte) error { keys = append(keys, bytes.Clone(k)); return nil })
	return keys
}
