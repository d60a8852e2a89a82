package format_test

import (
	"fmt"
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

// Ten times as many entries are deleted in one step at less than ten times the cost.
// Whether the name of a tag may go was looked for with each of its entries, and each look
// went over all leaves that the step had emptied by then.
func TestALargeStepCostsNoMoreForEachEntry(t *testing.T) {
	const entries = 2000
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	update(t, db, func(tx *format.Tx) error {
		for i := range entries {
			e := storetest.Entry(fmt.Sprint("/", i), storetest.Tags("all"), storetest.KeepUntil(storetest.Start.Add(time.Duration(i))))
			e.At.N = 5
			require.NoError(t, tx.Put(e, time.Time{}))
		}
		return nil
	})
	cost := func(n int) float64 {
		const runs = 4
		allocs := testing.AllocsPerRun(runs-1, func() { // and once more before
			update(t, db, func(tx *format.Tx) error {
				deleted, _, err := tx.SweepExpired(storetest.Start.Add(time.Hour), n)
				require.Equal(t, n, deleted)
				return err
			})
		})
		return allocs / float64(n)
	}
	few, many := cost(40), cost(400)
	require.Less(t, many, few)
	require.Len(t, rowsOf(t, db, "t"), entries-4*440+1, "the tag's name stays with the rest")
	update(t, db, func(tx *format.Tx) error {
		_, _, err := tx.SweepExpired(storetest.Start.Add(time.Hour), entries)
		return err
	})
	require.Empty(t, rowsOf(t, db, "t"))
}

// Whoever waits for the writer is not to wait until a step has deleted all that it meant
// to: it stops in the middle, and nothing of it is written.
func TestAStepIsInterrupted(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	update(t, db, func(tx *format.Tx) error {
		for i := range 50 {
			e := storetest.Entry(fmt.Sprint("/", i), storetest.Tags("all"))
			e.At.N = 5
			require.NoError(t, tx.Put(e, time.Time{}))
		}
		return nil
	})
	before := rowsOf(t, db, "k")
	for name, step := range map[string]func(*format.Tx) error{
		"expired": func(tx *format.Tx) error {
			_, _, err := tx.SweepExpired(storetest.Start.Add(1000*time.Hour), 50)
			return err
		},
		"mark": func(tx *format.Tx) error {
			_, _, err := tx.SweepMark(marks.Row{Mark: accel.TagMark("all"), Hard: 9}, nil, 50)
			return err
		},
		"floor": func(tx *format.Tx) error { _, _, err := tx.SweepFloor(9, nil, 50); return err },
		"evict": func(tx *format.Tx) error {
			_, _, err := tx.Evict(0, 50, func(accel.Key) bool { return false })
			return err
		},
	} {
		asked := 0
		err := db.Update(func(btx *bolt.Tx) error {
			tx, err := format.Begin(btx)
			require.NoError(t, err)
			tx.Interrupt(func() bool { asked++; return asked > 20 })
			return step(tx)
		})
		require.ErrorIs(t, err, format.ErrInterrupted, name)
		require.Equal(t, 21, asked, name)
		require.Equal(t, before, rowsOf(t, db, "k"), name)
	}
}
