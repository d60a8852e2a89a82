package format_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// exercise does all that a store does with an open file, each in a transaction of its
// own, until a writing one panics: bbolt may then hang, and a store uses that file no
// more. What fails is no failure here: the process goes on.
func exercise(db *bolt.DB, r *rand.Rand) (panicked bool) {
	now := storetest.Start.Add(time.Minute)
	key := func() accel.Key { return storetest.Key(fmt.Sprint("http://example.org/", r.IntN(90)), "") }
	tag := func() marks.Row {
		return marks.Row{Mark: accel.TagMark([]string{"all", "tag:" + fmt.Sprint(r.IntN(80))}[r.IntN(2)]), Hard: 9}
	}
	all := func(accel.Key) bool { return false }
	steps := []func(*format.Tx) error{
		func(tx *format.Tx) error { _, err := tx.Row(key()); return err },
		func(tx *format.Tx) error { _, err := tx.Older(tag()); return err },
		func(tx *format.Tx) error {
			return tx.Put(page("http", "example.org", fmt.Sprint("/", r.IntN(90)), "", nil, "all"), time.Time{})
		},
		func(tx *format.Tx) error { return tx.Delete(key(), 0) },
		func(tx *format.Tx) error { return tx.WriteMarks([]marks.Row{tag()}) },
		func(tx *format.Tx) error { _, _, err := tx.SweepMark(tag(), nil, 20); return err },
		func(tx *format.Tx) error { _, _, err := tx.SweepExpired(now, 20); return err },
		func(tx *format.Tx) error { _, _, err := tx.Evict(uint64(r.IntN(80)), 10, all); return err },
		func(tx *format.Tx) error { _, _, err := tx.SweepFloor(9, nil, 10); return err },
		func(tx *format.Tx) error { tx.Due(now); return nil },
		func(tx *format.Tx) error { return tx.ResetMarks() },
		func(tx *format.Tx) error {
			for range tx.TagRows() {
			}
			return nil
		},
	}
	for _, i := range r.Perm(len(steps)) {
		panicked = true
		_ = recovered(func() error {
			err := db.Update(func(btx *bolt.Tx) error {
				tx, err := format.Begin(btx)
				if err == nil {
					err = steps[i](tx)
				}
				if err != nil {
					return err
				}
				return tx.Finish()
			})
			panicked = false
			return err
		})
		if panicked {
			return true
		}
		_ = recovered(func() error {
			return db.View(func(btx *bolt.Tx) error {
				_, err := format.Stands(btx, nil, key(), nil)
				_, _, _, _ = format.Get(btx, nil, key(), nil, uint64(r.IntN(2)*9), nil)
				return err
			})
		})
	}
	return false
}

// A page that is lost or changed while the file is open, so that the way leads round in
// circles, is an error: in bbolt it would be a stack without end, which ends the
// process, or a slice without end. (A disk that lost one write once did that.)
func TestCirclesInAnOpenFileAreNoEnd(t *testing.T) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer debug.SetMaxStack(debug.SetMaxStack(64 << 20))
	const ps = 512
	good := library(t, ps)
	seed := rand.Uint64()
	t.Log("seed", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	n := highWater(good, ps) / ps
	var branches []int
	for i := 2; i < n; i++ {
		if native.Uint64(good[i*ps:]) == uint64(i) && native.Uint16(good[i*ps+8:]) == 1 {
			branches = append(branches, i)
		}
	}
	require.Greater(t, len(branches), 5)
	dir := t.TempDir()
	for round := range 400 {
		path := filepath.Join(dir, fmt.Sprint(round))
		require.NoError(t, os.WriteFile(path, good, 0o600))
		db := open(t, path, 0)
		// A page says what another says, most often a branch, and that it is itself;
		// or an element of a branch leads to a page that it should not.
		at := 2 + r.IntN(n-2)
		from := branches[r.IntN(len(branches))]
		bad := bytes.Clone(good[from*ps : (from+1)*ps])
		if round%2 == 0 {
			at = from
			elem := 16 + 16*r.IntN(int(native.Uint16(bad[10:])))
			to := at
			if r.IntN(3) > 0 {
				to = branches[r.IntN(len(branches))]
			}
			native.PutUint64(bad[elem+8:], uint64(to))
		}
		native.PutUint64(bad, uint64(at))
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt(bad, int64(at*ps))
		require.NoError(t, err)
		require.NoError(t, f.Close())
		panicked := false
		for range 2 {
			panicked = panicked || exercise(db, r)
		}
		if !panicked {
			_ = recovered(db.Close)
		}
	}
}

// What is read without bbolt is what bbolt reads.
func TestReadAsBboltReads(t *testing.T) {
	for _, ps := range []int{512, 4096} {
		path := filepath.Join(t.TempDir(), fmt.Sprint(ps))
		require.NoError(t, os.WriteFile(path, library(t, ps), 0o600))
		db := open(t, path, 0)
		require.NoError(t, db.View(func(btx *bolt.Tx) error {
			tx, err := format.Begin(btx)
			require.NoError(t, err)
			mapped := format.MappedTo(db, btx.Size())
			txid := uint64(btx.ID())
			found := 0
			for i := range 90 {
				key := page("http", "example.org", fmt.Sprint("/", i), "", nil).Key
				row, err := tx.Row(key)
				e, got, _, gerr := format.Get(btx, nil, key, nil, 100, nil)
				me, mgot, _, merr := mapped.Get(txid, nil, key, nil, 100, nil)
				require.Equal(t, got, mgot)
				require.Equal(t, gerr, merr)
				_, _, _, merr = mapped.Get(txid+1, nil, key, nil, 100, nil)
				require.ErrorIs(t, merr, format.ErrDamaged, "a transaction that is not there")
				if err != nil {
					require.ErrorIs(t, gerr, format.ErrNotFound)
					continue
				}
				require.Empty(t, storetest.Diff(e, me))
				require.NoError(t, gerr)
				require.Equal(t, row, got)
				want, err := tx.Record(row)
				require.NoError(t, err)
				require.Empty(t, storetest.Diff(want, e))
				found++
			}
			require.Equal(t, 60, found)
			return nil
		}))
		require.NoError(t, db.Close())
	}
}
