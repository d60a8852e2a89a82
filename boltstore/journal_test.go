package boltstore_test

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/format"
)

func init() { faults.Role("gather", gatherChild) }

const gathered = 500

func gatherURL(i int) string { return fmt.Sprint("/gathered/", i) }

// gatherChild stores pages, deletes every fifth and stores every seventh again, and waits
// to be killed.
func gatherChild() {
	s := boltstore.Open(os.Getenv("DB"), quiet, patient, boltstore.WithMemory(0))
	must(s.Ping(bg))
	store := func(i int, extra ...string) {
		at := s.Begin()
		must(s.Put(storetest.Entry(gatherURL(i), storetest.At(at), storetest.Text(body(gatherURL(i), len(extra), 900)),
			storetest.Tags(append(extra, "all", fmt.Sprint("own:", i), fmt.Sprint("of10:", i%10))...)), nil))
		s.End(at)
	}
	written := func() {
		for s.Stats().QueueBytes != 0 {
		}
	}
	for i := range gathered {
		store(i)
	}
	written()
	for i := 0; i < gathered; i += 5 {
		found, err := s.Get(bg, storetest.Key(gatherURL(i), ""), nil)
		must(err)
		must(s.Delete(found.Entry))
	}
	for i := 0; i < gathered; i += 7 {
		store(i, "again")
	}
	written()
	fmt.Println("written")
	select {}
}

// killedWithAJournal leaves a file at a path as a kill does, before anything was settled.
func killedWithAJournal(t *testing.T, path string) {
	c := faults.Start(t, "gather", []string{"DB=" + path})
	c.Expect("written")
	require.NoError(t, c.Cmd.Process.Kill())
	c.Wait()
	require.NotZero(t, journalRows(t, path))
}

func stored(i int) bool { return i%5 != 0 || i%7 == 0 }

// journalRows returns how many rows the journal of a file has that is not in use.
func journalRows(t testing.TB, path string) (n int) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		if j := btx.Bucket([]byte("j")); j != nil {
			n = len(keysOf(j))
		}
		_, err := format.Begin(btx)
		return err
	}))
	return n
}

// sound wants a file in which each row leads where it should.
func sound(t testing.TB, path string) (c format.Counts) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		require.NoError(t, err)
		c = tx.Verify(func() bool { return true }, func(f format.Fault) {
			t.Errorf("bucket %s, row %x: %v", f.Bucket, f.Key, f.Err)
		})
		return nil
	}))
	return c
}

// A kill leaves the indexes where they are, and what they lack in the journal: nothing
// that was written is missing, nor is it for an invalidation.
func TestKilledWithAJournal(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	killedWithAJournal(t, path)
	sound(t, path)

	s := open(t, path, boltstore.WithMemory(0))
	for i := range gathered {
		found, err := s.Get(bg, storetest.Key(gatherURL(i), ""), nil)
		if !stored(i) {
			require.ErrorIs(t, err, accel.ErrNotFound, "%d was deleted", i)
			continue
		}
		require.NoError(t, err, "%d was stored", i)
		version, err := checkBody(gatherURL(i), found.Entry)
		require.NoError(t, err)
		require.Equal(t, i%7 == 0, version == 1, "%d", i)
	}
	require.NoError(t, s.Invalidate(bg, accel.TagMark("of10:3")))
	require.NoError(t, s.Invalidate(bg, accel.TagMark("own:8")))
	there := func(i int) bool { return stored(i) && i%10 != 3 && i != 8 }
	left := 0
	for i := range gathered {
		require.Equal(t, there(i), has(s, gatherURL(i)), "%d", i)
		if there(i) {
			left++
		}
	}
	eventually(t, func() bool { return s.Stats().Marks == 0 && s.Stats().Entries == int64(left) }, "swept")
	require.NoError(t, s.Close())
	require.Zero(t, journalRows(t, path))
	require.Equal(t, left, sound(t, path).Entries)
}

// Killed again and again before anything is settled, with a purge in between: what the
// journal says last is what counts.
func TestKilledAgainWithAJournal(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	for range rounds(3, 50) {
		killedWithAJournal(t, path)
		sound(t, path)
	}
	s := open(t, path, boltstore.WithMemory(0))
	for i := range gathered {
		require.Equal(t, stored(i), has(s, gatherURL(i)), "%d", i)
	}
}

// What a closed store leaves has no journal; nor, after a while, has one at rest, which
// is what a copy of the file would be made of.
func TestTheJournalIsEmptyAtRest(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	s := boltstore.Open(path, quiet, patient, boltstore.WithMemory(0))
	require.NoError(t, s.Ping(bg))
	for i := range gathered {
		put(t, s, gatherURL(i), storetest.Tags("all", fmt.Sprint("own:", i)))
	}
	flushed(t, s)
	require.NotZero(t, s.Pending(), "nothing is gathered")
	eventually(t, func() bool { return s.Pending() == 0 }, "settled")
	for i := range gathered {
		require.True(t, has(s, gatherURL(i)), "%d", i)
	}
	put(t, s, "/last", storetest.Tags("all"))
	require.NoError(t, s.Close())
	require.Zero(t, journalRows(t, path))
	require.Equal(t, gathered+1, sound(t, path).Entries)
}

// A damaged journal is a damaged file: nobody knows what the indexes lack.
func TestADamagedJournalIsSetAside(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	killedWithAJournal(t, path)
	require.NoError(t, editDB(path, func(btx *bolt.Tx) error {
		j := btx.Bucket([]byte("j"))
		k, v := j.Cursor().Last()
		v = append([]byte(nil), v...)
		v[len(v)-1] ^= 1
		return j.Put(append([]byte(nil), k...), v)
	}))
	s := open(t, path, boltstore.WithMemory(0))
	require.Len(t, aside(path), 1)
	require.False(t, has(s, gatherURL(1)))
	put(t, s, gatherURL(1))
	flushed(t, s)
	require.True(t, has(s, gatherURL(1)))
}

// A few pages that are stored again and again leave little pending and much in the
// journal, whose oldest row has what is never stored again. (It once grew for as long as
// no second was quiet.)
func TestTheJournalDoesNotGrow(t *testing.T) {
	t.Parallel()
	s := open(t, dbPath(t), boltstore.WithMemory(0), boltstore.WithMaxSize(64<<20))
	put(t, s, "/once", storetest.Tags("all"))
	var tags []string
	for i := range 40 {
		tags = append(tags, fmt.Sprint("tag:", i))
	}
	most := 0
	for range 50 {
		for i := range 10 {
			put(t, s, gatherURL(i), storetest.Tags(tags...))
		}
		flushed(t, s)
		most = max(most, s.JournalRows())
	}
	// 500 stores add 6 MB; 512 KiB may be pending, and twice as much in the journal.
	require.Less(t, most, 1000)
	require.NotZero(t, most)
	for i := range 10 {
		require.True(t, has(s, gatherURL(i)))
	}
}

// A journal that is large for the bound of the file is settled as there is room. (Each
// transaction once tried to settle all of it, found none, and the file was set aside.)
func TestALargeJournalInASmallFile(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	killedWithAJournal(t, path)
	s := open(t, path, boltstore.WithMemory(0), boltstore.WithMaxSize(1<<20))
	require.NoError(t, s.Invalidate(bg, accel.TagMark("of10:3")))
	for i := range 300 {
		put(t, s, fmt.Sprint("/more/", i), storetest.Size(900))
		flushedBelow(t, s, 64<<10)
	}
	flushed(t, s)
	require.Zero(t, s.Stats().SetAside)
	require.NotZero(t, s.Stats().Entries)
	for i := range gathered {
		require.False(t, i%10 == 3 && has(s, gatherURL(i)), "%d was invalidated", i)
	}
	require.NoError(t, s.Close())
	sound(t, path)
}
