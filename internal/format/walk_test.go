package format_test

import (
	"fmt"
	"math/rand/v2"
	"os"
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

func always() bool { return true }

// tour is Tour with a report.
func tour(t *testing.T, path string) (faults []format.Fault, err error) {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	info, err := f.Stat()
	require.NoError(t, err)
	space, err := format.Tour(f, info.Size(), always, func(f format.Fault) { faults = append(faults, f) })
	if err == nil {
		quick, err := format.Tour(f, info.Size(), always, nil)
		require.NoError(t, err)
		require.Equal(t, quick, space)
	}
	return faults, err
}

// Whatever is done to a database, Verify and Tour find nothing, as bbolt's own
// check does.
func TestWalkOfWhatIsSound(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	path := filepath.Join(t.TempDir(), "cache.db")
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.Update(func(tx *bolt.Tx) error { return format.Create(tx, 1, 0, 0) }))
	n := uint64(0)
	for range 40 {
		require.NoError(t, db.Update(func(btx *bolt.Tx) error {
			tx, err := format.Begin(btx)
			require.NoError(t, err)
			for range 30 {
				url := fmt.Sprintf("/%d", rnd.IntN(200))
				switch rnd.IntN(8) {
				case 0:
					if err := tx.Delete(storetest.Key(url, ""), 0); err != format.ErrNotFound {
						require.NoError(t, err)
					}
				case 1:
					n++
					r := marks.Row{Mark: accel.TagMark(fmt.Sprint(rnd.IntN(9))), Hard: n}
					require.NoError(t, tx.WriteMarks([]marks.Row{r}))
					_, next, err := tx.SweepMark(r, nil, rnd.IntN(20)+1)
					require.NoError(t, err)
					if next == nil {
						_, err = tx.DeleteMark(r)
						require.NoError(t, err)
					}
				case 2:
					_, _, err := tx.SweepExpired(storetest.Start.Add(time.Duration(rnd.IntN(60))*time.Minute), 5)
					require.NoError(t, err)
				default:
					opts := []storetest.EntryOption{
						storetest.At(accel.Position{Epoch: 1, N: n}), storetest.Size(rnd.IntN(9000)),
						storetest.KeepUntil(storetest.Start.Add(time.Duration(rnd.IntN(90)) * time.Minute)),
					}
					for range rnd.IntN(4) {
						opts = append(opts, storetest.Tags(fmt.Sprint(rnd.IntN(9)), url))
					}
					if rnd.IntN(2) == 0 {
						opts = append(opts, storetest.Vary("Accept"), storetest.Variant(fmt.Sprint(rnd.IntN(20))))
					}
					require.NoError(t, tx.Put(storetest.Entry(url, opts...), time.Time{}))
				}
			}
			return tx.Finish()
		}))
		require.NoError(t, db.View(func(btx *bolt.Tx) error {
			for err := range btx.Check() {
				require.NoError(t, err)
			}
			tx, err := format.Begin(btx)
			require.NoError(t, err)
			counts := tx.Verify(always, func(f format.Fault) { require.Fail(t, "fault", "%s %x: %v", f.Bucket, f.Key, f.Err) })
			require.EqualValues(t, tx.Meta().Entries, counts.Entries)
			require.Equal(t, counts.Tags, tx.CountTags())
			return nil
		}))
		faults, err := tour(t, path)
		require.NoError(t, err)
		require.Empty(t, faults)
	}
}

// A leaf that says it is a branch could send bbolt round in circles. Examine does
// not read leaves; Tour does.
func TestTourReadsLeaves(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.db")
	db, err := bolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		require.NoError(t, format.Create(btx, 1, 0, 0))
		tx, err := format.Begin(btx)
		require.NoError(t, err)
		for i := range 200 {
			require.NoError(t, tx.Put(storetest.Entry(fmt.Sprintf("/%d", i)), time.Time{}))
		}
		return tx.Finish()
	}))
	require.NoError(t, db.Close())
	faults, err := tour(t, path)
	require.NoError(t, err)
	require.Empty(t, faults)

	data, err := os.ReadFile(path)
	require.NoError(t, err)
	leaves := 0
	for at := os.Getpagesize() * 2; at < len(data); at += os.Getpagesize() {
		if data[at+8] != 2 || data[at+10] == 0 { // not a leaf with something in it
			continue
		}
		data[at+8] = 1
		require.NoError(t, os.WriteFile(path, data, 0o600))
		data[at+8] = 2
		if _, err := tour(t, path); err != nil {
			require.ErrorIs(t, err, format.ErrDamaged)
			leaves++
		}
	}
	require.Greater(t, leaves, 10)
}
