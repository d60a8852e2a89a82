package format_test

import (
	"bytes"
	"fmt"
	"math"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// raw changes a bucket behind format's back.
func raw(t tester, db *bolt.DB, bucket string, fn func(*bolt.Bucket) error) {
	t.Helper()
	require.NoError(t, db.Update(func(btx *bolt.Tx) error { return fn(btx.Bucket([]byte(bucket))) }))
}

// rowsOf returns the rows of a bucket.
func rowsOf(t tester, db *bolt.DB, bucket string) (rows [][2][]byte) {
	t.Helper()
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		return btx.Bucket([]byte(bucket)).ForEach(func(k, v []byte) error {
			rows = append(rows, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
			return nil
		})
	}))
	return rows
}

// TestDamagedRows flips a bit in each byte of each row that a look-up reads: it
// returns the entry that was stored, or none. Names of a resource's Vary are the
// right ones, or an error. What is lent is an error if the damage is in what was read.
func TestDamagedRows(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	writeFull(t, db)
	want := full()
	lent := func(btx *bolt.Tx, damagedPart int) {
		loan := &format.Loan{}
		for picked := -1; picked < len(want.Bodies); picked++ {
			loan.Pick = func(*accel.Entry) int { return picked }
			e, _, _, err := format.Get(btx, nil, want.Key, want.Vary, 0, loan)
			if damagedPart == 0 || picked < 0 || picked+1 == damagedPart {
				require.ErrorIs(t, err, format.ErrDamaged)
				continue
			}
			require.NoError(t, err)
			for i, b := range e.Bodies {
				if i == picked {
					require.Equal(t, string(want.Bodies[i].Data), string(b.Data))
				} else {
					require.Nil(t, b.Data)
				}
			}
		}
	}
	for _, bucket := range []string{"k", "b"} {
		for _, row := range rowsOf(t, db, bucket) {
			k, v := row[0], row[1]
			for i := range v {
				bad := bytes.Clone(v)
				bad[i] ^= 1 << (i % 8)
				raw(t, db, bucket, func(b *bolt.Bucket) error { return b.Put(k, bad) })
				view(t, db, func(btx *bolt.Tx, _ *format.Tx) {
					_, _, _, err := format.Get(btx, nil, want.Key, want.Vary, 0, nil)
					other := want.Key
					other.Variant = accel.Digest{}
					_, _, names, err2 := format.Get(btx, nil, other, nil, 0, nil)
					if err == nil { // the list of variants, which this look-up does not read
						require.ErrorIs(t, err2, format.ErrDamaged)
						return
					}
					require.ErrorIs(t, err, format.ErrDamaged)
					require.ErrorIs(t, err2, format.ErrNotFound)
					require.Equal(t, want.Vary, names)
					if bucket == "b" {
						lent(btx, int(k[8]))
					} else {
						lent(btx, 0)
					}
				})
			}
			raw(t, db, bucket, func(b *bolt.Bucket) error { return b.Put(k, v) })
		}
	}
	view(t, db, func(_ *bolt.Tx, tx *format.Tx) { verify(t, tx) })
}

// TestLostRows: of a record that lacks a part nothing is returned; eviction and
// expiry get rid of what leads nowhere.
func TestLostRows(t *testing.T) {
	lose := func(bucket string, i int) *bolt.DB {
		db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
		t.Cleanup(func() { db.Close() })
		writeFull(t, db)
		k := rowsOf(t, db, bucket)[i][0]
		raw(t, db, bucket, func(b *bolt.Bucket) error { return b.Delete(k) })
		return db
	}
	want := full()
	for part := range 3 {
		t.Run(fmt.Sprint("part ", part), func(t *testing.T) {
			db := lose("b", part)
			view(t, db, func(btx *bolt.Tx, _ *format.Tx) {
				_, _, _, err := format.Get(btx, nil, want.Key, want.Vary, 0, nil)
				require.ErrorIs(t, err, format.ErrDamaged)
			})
			update(t, db, func(tx *format.Tx) error { return tx.Put(want, time.Time{}) })
			view(t, db, func(_ *bolt.Tx, tx *format.Tx) { verify(t, tx) })
		})
	}
	t.Run("the row", func(t *testing.T) {
		for name, clean := range map[string]func(*format.Tx) (int, error){
			"evict": func(tx *format.Tx) (int, error) {
				n, _, err := tx.Evict(0, 10, func(accel.Key) bool { return false })
				return n, err
			},
			"expire": func(tx *format.Tx) (int, error) {
				n, _, err := tx.SweepExpired(want.KeepUntil, 10)
				return n, err
			},
		} {
			db := lose("k", 1)
			update(t, db, func(tx *format.Tx) error {
				n, err := clean(tx)
				require.Equal(t, 1, n, name)
				return err
			})
			require.Empty(t, rowsOf(t, db, "b"))
		}
	})
	t.Run("a damaged head", func(t *testing.T) {
		db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
		defer db.Close()
		writeFull(t, db)
		row := rowsOf(t, db, "b")[0]
		row[1][20] ^= 1 // in the key
		raw(t, db, "b", func(b *bolt.Bucket) error { return b.Put(row[0], row[1]) })
		update(t, db, func(tx *format.Tx) error {
			n, next, err := tx.Evict(0, 10, func(accel.Key) bool { return false })
			require.Equal(t, 1, n)
			require.Zero(t, next)
			return err
		})
		require.Empty(t, rowsOf(t, db, "b"))
	})
	t.Run("a tag row too many", func(t *testing.T) {
		db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
		defer db.Close()
		writeFull(t, db)
		rows := rowsOf(t, db, "t")
		update(t, db, func(tx *format.Tx) error { return tx.Put(want, time.Time{}) }) // another id
		raw(t, db, "t", func(b *bolt.Bucket) error {
			for _, row := range rows {
				if err := b.Put(row[0], row[1]); err != nil {
					return err
				}
			}
			return nil
		})
		r := marks.Row{Mark: accel.TagMark("user:1"), Soft: 100, Since: noon}
		view(t, db, func(_ *bolt.Tx, tx *format.Tx) {
			_, err := tx.Older(r)
			require.ErrorIs(t, err, format.ErrDamaged)
		})
	})
}

// TestLostMarks: when a mark is missing, or a bit of one is not what it was,
// nothing in the file is to be trusted.
func TestLostMarks(t *testing.T) {
	whole := func(db *bolt.DB) (whole bool) {
		view(t, db, func(_ *bolt.Tx, tx *format.Tx) {
			var err error
			_, whole, err = tx.Marks()
			require.NoError(t, err)
		})
		return whole
	}
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	writeFull(t, db)
	for _, row := range rowsOf(t, db, "g") {
		raw(t, db, "g", func(b *bolt.Bucket) error { return b.Delete(row[0]) })
		require.False(t, whole(db))
		for i := range row[1] {
			bad := bytes.Clone(row[1])
			bad[i] ^= 1 << (i % 8)
			raw(t, db, "g", func(b *bolt.Bucket) error { return b.Put(row[0], bad) })
			require.False(t, whole(db))
		}
		raw(t, db, "g", func(b *bolt.Bucket) error { return b.Put(row[0], row[1]) })
		require.True(t, whole(db))
	}
	raw(t, db, "g", func(b *bolt.Bucket) error { return b.Put([]byte("more"), nil) })
	require.False(t, whole(db))
	update(t, db, func(tx *format.Tx) error { return tx.ResetMarks() })
	require.True(t, whole(db))
	require.Empty(t, rowsOf(t, db, "g"))
	update(t, db, func(tx *format.Tx) error {
		if err := tx.ResetMarks(); err != nil {
			return err
		}
		return tx.WriteMarks(goldenMarks()) // in the same transaction
	})
	require.True(t, whole(db))
}

// TestDamagedFacts: a seq or a floor that fell would bring invalidated entries
// back.
func TestDamagedFacts(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	writeFull(t, db)
	begin := func() error {
		return db.View(func(btx *bolt.Tx) error {
			_, err := format.Begin(btx)
			return err
		})
	}
	for _, row := range rowsOf(t, db, "m") {
		if string(row[0]) == "magic" {
			continue
		}
		for i := range row[1] {
			bad := bytes.Clone(row[1])
			bad[i] ^= 1 << (i % 8)
			raw(t, db, "m", func(b *bolt.Bucket) error { return b.Put(row[0], bad) })
			require.ErrorIs(t, begin(), format.ErrDamaged, "m.%s", row[0])
		}
		raw(t, db, "m", func(b *bolt.Bucket) error { return b.Delete(row[0]) })
		require.ErrorIs(t, begin(), format.ErrDamaged)
		raw(t, db, "m", func(b *bolt.Bucket) error { return b.Put(row[0], row[1]) })
		require.NoError(t, begin())
	}
	for name, want := range map[string]error{"": format.ErrForeign, "ACCELDB\x00\x00\x01 short": format.ErrDamaged} {
		raw(t, db, "m", func(b *bolt.Bucket) error { return b.Put([]byte("magic"), []byte(name)) })
		require.ErrorIs(t, begin(), want)
	}
}

// TestTooMany: an entry whose numbers do not fit is not stored, and what it would
// have replaced is gone.
func TestTooMany(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	small := page("http", "example.org", "/", "", nil, "a")
	marked := page("http", "example.org", "/", "", nil, "a")
	for i := range math.MaxUint16 {
		marked.Marks = append(marked.Marks, accel.Hash(i))
	}
	bodied := page("http", "example.org", "/", "", nil, "a")
	for i := range math.MaxUint8 - 1 {
		bodied.Bodies = append(bodied.Bodies, accel.Body{Coding: fmt.Sprint(i)})
	}
	for _, e := range []*accel.Entry{marked, bodied} {
		for _, renew := range []bool{false, true} {
			update(t, db, func(tx *format.Tx) error {
				if err := tx.Put(small, time.Time{}); err != nil || !renew {
					require.NoError(t, err)
					return tx.Put(e, time.Time{})
				}
				row, err := tx.Row(e.Key)
				require.NoError(t, err)
				return tx.Renew(row, e, time.Time{})
			})
			view(t, db, func(_ *bolt.Tx, tx *format.Tx) {
				verify(t, tx)
				require.Zero(t, tx.Meta().Entries)
				require.Zero(t, tx.Meta().Bytes)
			})
		}
	}
	bodied.Bodies = bodied.Bodies[:math.MaxUint8-1]
	update(t, db, func(tx *format.Tx) error { return tx.Put(bodied, time.Time{}) })
	view(t, db, func(btx *bolt.Tx, tx *format.Tx) {
		verify(t, tx)
		e, _, _, err := format.Get(btx, nil, bodied.Key, nil, 0, nil)
		require.NoError(t, err)
		require.Empty(t, storetest.Diff(bodied, e))
	})
}

// TestDisplaceNothing: where nothing stands, nothing has changed, and nothing
// needs to be written.
func TestDisplaceNothing(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	update(t, db, func(tx *format.Tx) error {
		e := page("http", "example.org", "/", "v", []string{"Accept"})
		changed, err := tx.Displace(e.Key, e.Vary)
		require.False(t, changed)
		return err
	})
}

// TestKey is what a key looks like, and back.
func TestKey(t *testing.T) {
	k := full().Key
	b := format.AppendKey(nil, k)
	require.Len(t, b, format.KeyLen)
	got, err := format.ParseKey(b)
	require.NoError(t, err)
	require.Equal(t, k, got)
	for _, n := range []int{0, format.KeyLen - 1, format.KeyLen + 1} {
		_, err := format.ParseKey(make([]byte, n))
		require.ErrorIs(t, err, format.ErrDamaged)
	}
}
