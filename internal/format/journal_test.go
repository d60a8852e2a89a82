package format_test

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
)

// gather runs fn in a transaction that knows what is pending, and returns what it leaves.
func gather(t tester, db *bolt.DB, p *format.Pending, fn func(*format.Tx)) *format.Pending {
	t.Helper()
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		tx, err := format.BeginWith(btx, p)
		require.NoError(t, err)
		fn(tx)
		require.NoError(t, tx.Finish())
		p = tx.Pending()
		return nil
	}))
	return p
}

// editBucket changes rows behind format's back.
func editBucket(t tester, db *bolt.DB, bucket string, fn func(*bolt.Bucket) error) {
	t.Helper()
	require.NoError(t, db.Update(func(btx *bolt.Tx) error { return fn(btx.Bucket([]byte(bucket))) }))
}

// gathered is a database with two transactions in its journal.
func gathered(t testing.TB) (*bolt.DB, *format.Pending, []*accel.Entry) {
	db := create(t, filepath.Join(t.TempDir(), "cache.db"), 0, 5)
	t.Cleanup(func() { db.Close() })
	var all []*accel.Entry
	var p *format.Pending
	for i := range 40 {
		all = append(all, storetest.Entry(fmt.Sprint("/", i), storetest.Tags("x", fmt.Sprint("y:", i)), storetest.At(accel.Position{Epoch: 3, N: 6})))
	}
	for _, part := range [][]*accel.Entry{all[:20], all[20:]} {
		p = gather(t, db, p, func(tx *format.Tx) {
			for _, e := range part {
				require.NoError(t, tx.Put(e, storetest.Start))
			}
		})
	}
	require.NotZero(t, p.Bytes())
	return db, p, all
}

func rowsIn(t tester, db *bolt.DB, bucket string) (n int) {
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		if b := btx.Bucket([]byte(bucket)); b != nil {
			return b.ForEach(func(_, _ []byte) error { n++; return nil })
		}
		return nil
	}))
	return n
}

// The journal, byte by byte: docs/format.md has the same.
func TestJournalRow(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "cache.db"), 0, 5)
	defer db.Close()
	e := full()
	p := gather(t, db, nil, func(tx *format.Tx) { require.NoError(t, tx.Put(e, e.Date)) })
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		require.Equal(t, "00000000000000000000000000000001", hex.EncodeToString(btx.Bucket([]byte("m")).Get([]byte("journal"))))
		v := btx.Bucket([]byte("j")).Get(make([]byte, 8))
		key := hex.EncodeToString(format.AppendKey(nil, e.Key))
		got := hex.EncodeToString(v)
		// The list of variants first, as it was written first, and then the entry's row.
		require.Regexp(t, "^01[0-9a-f]{8}00"+"28"+key[:80]+"2e"+"01[0-9a-f]{8}0106"+hex.EncodeToString([]byte("Accept"))+"01"+key[80:]+
			"00"+"48"+key+"60"+"01", got)
		require.Contains(t, got, "02"+"10"+"5a08b7bd6e8e8d28"+"0000000000000000"+"06"+hex.EncodeToString([]byte("user:1")), "a name in t")
		return nil
	}))
	p = gather(t, db, p, func(tx *format.Tx) { require.NoError(t, tx.Delete(e.Key, 0)) })
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		require.Equal(t, "00000000000000010000000000000002", hex.EncodeToString(btx.Bucket([]byte("m")).Get([]byte("journal"))),
			"of the first row nothing is pending any more")
		v := btx.Bucket([]byte("j")).Get(binary.BigEndian.AppendUint64(nil, 1))
		require.Contains(t, hex.EncodeToString(v), "01"+"48"+hex.EncodeToString(format.AppendKey(nil, e.Key))+"00", "deleted")
		return nil
	}))
	p = gather(t, db, p, func(tx *format.Tx) { require.NoError(t, tx.SettleAll()) })
	require.Zero(t, p.Bytes())
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		require.Equal(t, "00000000000000020000000000000002", hex.EncodeToString(btx.Bucket([]byte("m")).Get([]byte("journal"))),
			"no number comes twice")
		return nil
	}))
	for bucket, rows := range map[string]int{"j": 0, "k": 0, "t": 0, "b": 0, "x": 0} {
		require.Equal(t, rows, rowsIn(t, db, bucket), bucket)
	}
}

// What is pending is in the file as soon as it is settled, and by then in the journal no
// more, however small the steps are.
func TestSettle(t *testing.T) {
	db, p, all := gathered(t)
	require.Zero(t, rowsIn(t, db, "k"))
	last, steps := p.Bytes(), 0
	for ; p.Bytes() > 0; steps++ {
		p = gather(t, db, p, func(tx *format.Tx) { require.NoError(t, tx.Settle(500)) })
		require.Less(t, p.Bytes(), last)
		last = p.Bytes()
		view(t, db, func(_ *bolt.Tx, tx *format.Tx) { verify(t, tx) })
	}
	require.Greater(t, steps, 20)
	require.Equal(t, len(all), rowsIn(t, db, "k"))
	require.Zero(t, rowsIn(t, db, "j"))
}

// Who writes without knowing what is pending leaves nothing pending.
func TestBeginSettles(t *testing.T) {
	db, _, all := gathered(t)
	update(t, db, func(tx *format.Tx) error { return tx.Delete(all[3].Key, 0) })
	require.Zero(t, rowsIn(t, db, "j"))
	require.Equal(t, len(all)-1, rowsIn(t, db, "k"))
	view(t, db, func(_ *bolt.Tx, tx *format.Tx) { verify(t, tx) })
}

// A journal that is not what was written is damage, whatever is wrong with it: nobody
// knows what the indexes lack.
func TestADamagedJournal(t *testing.T) {
	row := binary.BigEndian.AppendUint64
	for name, damage := range map[string]func(t testing.TB, db *bolt.DB){
		"a bit": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "j", func(b *bolt.Bucket) error {
				v := append([]byte(nil), b.Get(row(nil, 1))...)
				v[len(v)/2] ^= 4
				return b.Put(row(nil, 1), v)
			})
		},
		"a row is missing": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "j", func(b *bolt.Bucket) error { return b.Delete(row(nil, 1)) })
		},
		"the last row is missing": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "j", func(b *bolt.Bucket) error { k, _ := b.Cursor().Last(); return b.Delete(k) })
		},
		"a row too many": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "j", func(b *bolt.Bucket) error { return b.Put(row(nil, 1000), []byte("more")) })
		},
		"a row in the place of another": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "j", func(b *bolt.Bucket) error { return b.Put(row(nil, 1), append([]byte(nil), b.Get(row(nil, 2))...)) })
		},
		"the bucket is gone": func(t testing.TB, db *bolt.DB) {
			require.NoError(t, db.Update(func(btx *bolt.Tx) error { return btx.DeleteBucket([]byte("j")) }))
		},
		"m does not know of it": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "m", func(b *bolt.Bucket) error { return b.Delete([]byte("journal")) })
		},
		"m knows of more": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "m", func(b *bolt.Bucket) error { return b.Put([]byte("journal"), row(row(nil, 0), 1<<40)) })
		},
		"m is cut off": func(t testing.TB, db *bolt.DB) {
			editBucket(t, db, "m", func(b *bolt.Bucket) error { return b.Put([]byte("journal"), row(nil, 0)) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, p, _ := gathered(t)
			damage(t, db)
			require.NoError(t, db.View(func(btx *bolt.Tx) error {
				_, err := format.LoadPending(btx)
				require.ErrorIs(t, err, format.ErrDamaged)
				_, err = format.Begin(btx)
				require.ErrorIs(t, err, format.ErrDamaged)
				return nil
			}))
			_ = p
		})
	}
}

// What somebody remembers to be pending has to be what the file says.
func TestBeginWithAnotherJournal(t *testing.T) {
	db, p, _ := gathered(t)
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		_, err := format.BeginWith(btx, nil)
		require.ErrorIs(t, err, format.ErrDamaged)
		return nil
	}))
	gather(t, db, p, func(tx *format.Tx) { require.NoError(t, tx.SettleAll()) })
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		_, err := format.BeginWith(btx, p)
		require.ErrorIs(t, err, format.ErrDamaged)
		return nil
	}))
}

// A disk loses what was written to a page of the journal, and there is what it had before
// the journal was empty. (Numbers began anew then, so that the old rows were taken for the
// new ones, and an entry was served that had a purged tag by then.)
func TestALostWriteOfTheJournal(t *testing.T) {
	db, p, all := gathered(t)
	old := map[string][]byte{}
	editBucket(t, db, "j", func(b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error { old[string(k)] = append([]byte(nil), v...); return nil })
	})
	p = gather(t, db, p, func(tx *format.Tx) { require.NoError(t, tx.SettleAll()) })
	gather(t, db, p, func(tx *format.Tx) {
		for _, e := range all {
			e.Tags = []string{"new"}
			e.Marks = append(e.Marks[:2:2], accel.TagMark("new").Hash)
			row, err := tx.Row(e.Key)
			require.NoError(t, err)
			require.NoError(t, tx.Renew(row, e, storetest.Start))
		}
	})
	editBucket(t, db, "j", func(b *bolt.Bucket) error {
		for k, _ := b.Cursor().First(); k != nil; k, _ = b.Cursor().First() {
			if err := b.Delete(k); err != nil {
				return err
			}
		}
		for k, v := range old {
			if err := b.Put([]byte(k), v); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		_, err := format.LoadPending(btx)
		require.ErrorIs(t, err, format.ErrDamaged)
		return nil
	}))
}
