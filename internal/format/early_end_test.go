package format_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// A key that damage has changed ends the walk over the rows of a mark before its
// time, and what stands behind it is not struck. That is noticed, or what was not
// struck is not returned either.
func TestWalkThatDamageEndsEarlyForgetsNothing(t *testing.T) {
	const entries = 150
	at := storetest.At(accel.Position{Epoch: 1, N: 5})
	path := filepath.Join(t.TempDir(), "db")
	db := create(t, path, 0, 5)
	var all []*accel.Entry
	update(t, db, func(tx *format.Tx) error {
		for i := range entries {
			// One target on many hosts, one tag, and neighbours on both sides.
			e := storetest.Entry(fmt.Sprintf("https://host%d.example/a", i), at, storetest.Tags("x"))
			all = append(all, e)
			for _, e := range []*accel.Entry{e, storetest.Entry(fmt.Sprint("/", i), at, storetest.Tags(fmt.Sprint("y", i)))} {
				if err := tx.Put(e, storetest.Start.Add(-1)); err != nil {
					return err
				}
			}
		}
		return nil
	})
	marksOf := map[string]accel.Mark{"t": accel.TagMark("x"), "k": storetest.TargetMark("/a")}
	rows := map[string][][2][]byte{"t": rowsOf(t, db, "t"), "k": rowsOf(t, db, "k")}
	require.NoError(t, db.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	noticed, hidden := 0, 0
	for bucket, mark := range marksOf {
		prefix := binary.BigEndian.AppendUint64(nil, uint64(mark.Hash))
		n := 0
		for _, row := range rows[bucket] {
			key := row[0]
			if !bytes.HasPrefix(key, prefix) {
				continue
			}
			if n++; n%9 != 0 {
				continue
			}
			for bit := 0; bit < 64; bit += 13 {
				row := append(bytes.Clone(key), row[1]...) // as bbolt has it
				bad := bytes.Clone(row)
				bad[bit/8] ^= 1 << (bit % 8)
				path := filepath.Join(t.TempDir(), "bad")
				require.NoError(t, os.WriteFile(path, bytes.ReplaceAll(whole, row, bad), 0o600))
				db := open(t, path, 0)
				r := marks.Row{Mark: mark, Hard: 6}
				// A transaction for each step, as a writer does it.
				err := error(nil)
				for from, more := []byte(nil), true; more && err == nil; more = from != nil {
					err = recovered(func() error {
						return db.Update(func(btx *bolt.Tx) error {
							tx, err := format.Begin(btx)
							if err == nil {
								_, from, err = tx.SweepMark(r, from, 10)
							}
							if err != nil {
								return err
							}
							return tx.Finish()
						})
					})
				}
				if err != nil {
					require.ErrorIs(t, err, format.ErrDamaged)
					noticed++
				} else {
					hidden++
					view(t, db, func(btx *bolt.Tx, _ *format.Tx) {
						for _, e := range all {
							_, _, _, err := format.Get(btx, nil, e.Key, nil, r.Hard, nil)
							require.Error(t, err, "bucket %s, bit %d of row %d: an entry that was not struck", bucket, bit, n)
						}
					})
				}
				require.NoError(t, db.Close())
			}
		}
	}
	require.Positive(t, noticed)
	t.Logf("noticed %d, nothing left %d", noticed, hidden)
}
