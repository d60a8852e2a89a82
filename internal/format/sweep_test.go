package format_test

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
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
