package boltstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/format"

	bolt "go.etcd.io/bbolt"
)

// The tests of this file bear the numbers of the rules in docs/design.md, section
// "The promise".

var errDisk = errors.New("input/output error")

// A faultSwitch makes the disk fail once after it was set to a moment.
type faultSwitch struct {
	moment atomic.Value // string; "" is never
	err    error
}

func newFault(err error) *faultSwitch {
	f := &faultSwitch{err: err}
	f.moment.Store("")
	return f
}

func (f *faultSwitch) set(moment string) { f.moment.Store(moment) }

func (f *faultSwitch) option() boltstore.Option {
	return boltstore.WithFault(func(moment string) error {
		if f.moment.CompareAndSwap(moment, "") {
			return f.err
		}
		return nil
	})
}

// Rule 1: not even when a damaged file is replaced does a number fall.
func TestRule01_PositionsNeverFallWithinAProcess(t *testing.T) {
	path := dbPath(t)
	fault := newFault(errDisk)
	s := open(t, path, fault.option())
	for range 10 {
		require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	}
	before := s.Begin()
	s.End(before)
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	fault.set("commit")
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	eventually(t, func() bool { return s.Err() == nil }, "a new file")
	after := s.Begin()
	s.End(after)
	require.Greater(t, after.N, before.N)
	require.NotEqual(t, after.Epoch, before.Epoch)
}

// Rule 1: a seq or a floor that fell makes valid what was invalidated. Bucket m
// has no room for silent damage.
func TestRule01_DamagedSeqIsNotBelieved(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"seq", "floor"} {
		path := dbPath(t)
		s := open(t, path)
		for range 300 { // seq has two bytes then
			require.NoError(t, s.Invalidate(bg, accel.MarkAll))
		}
		put(t, s, "/a", storetest.Tags("x"))
		require.NoError(t, s.Close())
		require.NoError(t, editDB(path, func(btx *bolt.Tx) error {
			m := btx.Bucket([]byte("m"))
			v := append([]byte(nil), m.Get([]byte(name))...)
			require.NotZero(t, v[6])
			v[6] = 0
			return m.Put([]byte(name), v)
		}))
		s = open(t, path)
		require.Len(t, aside(path), 1)
		require.False(t, has(s, "/a"))
	}
}

// Rule 2: what was begun under an earlier opening is never stored.
func TestRule02_AnotherEpochIsNeverStored(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	at := s.Begin()
	require.NoError(t, s.Close())
	s = open(t, path)
	require.ErrorIs(t, s.Put(storetest.Entry("/a", storetest.At(at)), nil), accel.ErrInvalidated)
	require.False(t, s.Valid(at, nil))
}

// Rule 5: when the mark of an expiry is forgotten, every entry it struck knows
// since when it is stale, however many they are. (A sweep in several steps once
// lost what the first of them had written.)
func TestRule05_ExpiryOutlivesItsMark(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	clock := storetest.NewClock()
	s := open(t, path, boltstore.WithMemory(0), boltstore.WithClock(clock.Now))
	const n = 700
	for i := range n {
		put(t, s, damageURL(i), storetest.Tags("x"))
	}
	flushed(t, s)
	require.NoError(t, s.Expire(bg, accel.TagMark("x")))
	since := clock.Now()
	clock.Advance(time.Minute)
	eventually(t, func() bool { return s.Stats().Marks == 0 }, "the mark is forgotten")
	for i := range n {
		found, err := s.Get(bg, storetest.Key(damageURL(i), ""), nil)
		require.NoError(t, err)
		require.True(t, since.Equal(found.StaleSince), damageURL(i))
	}
}

// Rule 7: what was dropped leaves no older version to answer for it.
func TestRule07_ADroppedStoreLeavesNoOlderVersion(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	const keys = 120
	s := open(t, path, boltstore.WithMemory(0), boltstore.WithQueue(64<<10))
	for i := range keys {
		for s.Put(storetest.Entry(damageURL(i), storetest.At(s.Begin()), storetest.Text(body(damageURL(i), 1, 1000))), nil) != nil {
			flushed(t, s)
		}
		flushedBelow(t, s, 32<<10)
	}
	flushed(t, s)
	dropped := 0
	for i := range keys {
		err := s.Put(storetest.Entry(damageURL(i), storetest.At(s.Begin()), storetest.Text(body(damageURL(i), 2, 1000))), nil)
		if err != nil {
			require.ErrorIs(t, err, accel.ErrBusy)
			dropped++
		}
	}
	require.NotZero(t, dropped, "the queue was to overflow")
	none := func() {
		for i := range keys {
			if found, err := s.Get(bg, storetest.Key(damageURL(i), ""), nil); err == nil {
				version, err := checkBody(damageURL(i), found.Entry)
				require.NoError(t, err)
				require.Equal(t, 2, version, damageURL(i))
			}
		}
	}
	none()
	flushed(t, s)
	none()
	require.NoError(t, s.Close())
	s = open(t, path)
	none()
	require.NotZero(t, s.Stats().Entries)
}

func flushedBelow(t testing.TB, s accel.Store, bytes int64) {
	eventually(t, func() bool { return s.Stats().QueueBytes < bytes }, "the queue shrinks")
}

// Rule 7: a dropped store also drops what it would have displaced: the resource's
// entries under other Vary names.
func TestRule07_ADroppedStoreDisplacesOtherNames(t *testing.T) {
	s := open(t, dbPath(t), boltstore.WithMemory(0), boltstore.WithQueue(20<<10))
	put(t, s, "/a", storetest.Vary("Accept-Language"), storetest.Variant("de"))
	flushed(t, s)
	fill(t, s)
	at := s.Begin()
	defer s.End(at)
	e := storetest.Entry("/a", storetest.At(at), storetest.Vary("User-Agent"), storetest.Variant("x"), storetest.Size(5000))
	require.ErrorIs(t, s.Put(e, nil), accel.ErrBusy)
	_, err := s.Get(bg, storetest.Key("/a", "de"), []string{"Accept-Language"})
	require.ErrorIs(t, err, accel.ErrNotFound)
	flushed(t, s)
	_, err = s.Get(bg, storetest.Key("/a", "de"), []string{"Accept-Language"})
	require.ErrorIs(t, err, accel.ErrNotFound)
}

// fill puts until the queue takes no more.
func fill(t testing.TB, s *boltstore.Store) {
	at := s.Begin()
	defer s.End(at)
	for i := range 1000 {
		if s.Put(storetest.Entry(fmt.Sprint("/fill/", i), storetest.At(at), storetest.Size(3000)), nil) != nil {
			return
		}
	}
	require.Fail(t, "the queue is never full")
}

// Rule 9: everything is purged in a time that does not depend on how much it is,
// and the floor outlives a restart.
func TestRule09_TheFloorIsDurable(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	for i := range 300 {
		put(t, s, damageURL(i), storetest.Tags("x"))
	}
	flushed(t, s)
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x"), accel.MarkAll))
	require.False(t, has(s, damageURL(1)))
	put(t, s, "/new")
	require.NoError(t, s.Close())
	s = open(t, path)
	require.False(t, has(s, damageURL(1)))
	require.True(t, has(s, "/new"))
	eventually(t, func() bool { return s.Stats().Entries == 1 }, "swept")
	require.Zero(t, s.Stats().Marks)
}

// Rule 10: after a failed write, or a failed fsync, the handle is not used again,
// and setting the file aside makes the invalidation that could not be written
// durable.
func TestRule10_AWriteErrorSetsTheFileAside(t *testing.T) {
	for _, moment := range []string{"commit", "committed"} {
		t.Run(moment, func(t *testing.T) {
			path := dbPath(t)
			fault := newFault(errDisk)
			s := open(t, path, fault.option())
			put(t, s, "/a", storetest.Tags("x"))
			put(t, s, "/b")
			flushed(t, s)
			fault.set(moment)
			require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
			require.Len(t, aside(path), 1)
			eventually(t, func() bool { return s.Err() == nil }, "a new file")
			require.False(t, has(s, "/a"))
			require.False(t, has(s, "/b"), "nothing of that file is used again")
			require.EqualValues(t, 1, s.Stats().WriteErrors)
			put(t, s, "/c")
			require.NoError(t, s.Close())
			s = open(t, path)
			require.False(t, has(s, "/a"))
			require.True(t, has(s, "/c"))
		})
	}
}

// Rule 10: an entry that cannot be written costs the file, but not the promise.
func TestRule10_AFailedFlush(t *testing.T) {
	path := dbPath(t)
	fault := newFault(errDisk)
	s := open(t, path, fault.option())
	fault.set("commit")
	at := s.Begin()
	require.NoError(t, s.Put(storetest.Entry("/a", storetest.At(at), storetest.Tags("x")), nil))
	eventually(t, func() bool { return len(aside(path)) == 1 }, "set aside")
	eventually(t, func() bool { return s.Err() == nil }, "a new file")
	require.ErrorIs(t, s.Put(storetest.Entry("/a", storetest.At(at)), nil), accel.ErrInvalidated)
	s.End(at)
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
}

// Rule 10: a disk that is full costs what was to be stored. The file is as good
// as before, and stays.
func TestRule10_AFullDiskCostsStoresOnly(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	fault := newFault(fmt.Errorf("write: no space left on device"))
	s := open(t, path, boltstore.WithMemory(0), fault.option())
	put(t, s, "/a", storetest.Text(body("/a", 1, 100)))
	put(t, s, "/b", storetest.Text(body("/b", 1, 100)))
	flushed(t, s)
	fault.set("commit")
	put(t, s, "/b", storetest.Text(body("/b", 2, 100)))
	eventually(t, func() bool { return s.Stats().WriteErrors > 0 }, "the disk is full")
	// The newest version is dropped when the file is left; the older does not answer.
	eventually(t, func() bool { return s.Err() == nil && !has(s, "/b") }, "open again")
	require.Empty(t, aside(path))
	require.True(t, has(s, "/a"))
	require.False(t, has(s, "/b"))
	flushed(t, s)
	require.False(t, has(s, "/b"))
	put(t, s, "/b")
	flushed(t, s)
	require.True(t, has(s, "/b"))
}

// Rule 10: but an invalidation that the full disk has no room for is made durable
// by removing the file, which takes none and makes some. However often that
// happens, the store goes on.
func TestRule10_AFullDiskCostsTheFileWhenAMarkIsOwed(t *testing.T) {
	path := dbPath(t)
	fault := newFault(fmt.Errorf("write: no space left on device"))
	s := open(t, path, fault.option())
	for range 5 {
		put(t, s, "/a", storetest.Tags("x"))
		flushed(t, s)
		fault.set("commit")
		require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
		require.Empty(t, aside(path))
		eventually(t, func() bool { return s.Err() == nil }, "a new file")
		require.False(t, has(s, "/a"))
	}
}

// Rule 10: neither written nor set aside.
func TestRule10_NotDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := dir + "/sub/cache.db"
	require.NoError(t, os.Mkdir(dir+"/sub", 0o700))
	fault := newFault(errDisk)
	s := open(t, path, fault.option())
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	fault.set("commit")
	require.NoError(t, os.Rename(dir+"/sub", dir+"/moved"))
	// Not a directory: what stands at the path cannot be known, not even by root.
	require.NoError(t, os.WriteFile(dir+"/sub", nil, 0o600))
	require.ErrorIs(t, s.Invalidate(bg, accel.TagMark("x")), accel.ErrNotDurable)
	require.ErrorIs(t, s.Err(), accel.ErrUnavailable)
	require.False(t, has(s, "/a"))
	// Back in its place, and healthy: the mark is owed still.
	require.NoError(t, os.Remove(dir+"/sub"))
	require.NoError(t, os.Rename(dir+"/moved", dir+"/sub"))
	eventually(t, func() bool { return s.Err() == nil }, "open again")
	require.False(t, has(s, "/a"))
	require.NoError(t, s.Close())
	require.False(t, has(open(t, path), "/a"))
}

// Rule 11: nil is only returned for the file that the path leads to.
func TestRule11_ARemovedFileIsNoPlaceForAMark(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	saved := path + ".saved"
	require.NoError(t, os.Rename(path, saved))
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	require.FileExists(t, path, "durable in a new one")
	require.NoError(t, s.Close())
	require.False(t, has(open(t, path), "/a"))
}

// Rule 11: a copy may lack an invalidation that was made since. It begins empty.
func TestRule11_ACopyBeginsEmpty(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	put(t, s, "/a", storetest.Tags("x"))
	require.NoError(t, s.Close())
	backup, err := os.ReadFile(path)
	require.NoError(t, err)
	s = open(t, path)
	require.True(t, has(s, "/a"))
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	require.NoError(t, s.Close())

	// Restored as most programs restore: under another name, then moved.
	require.NoError(t, os.WriteFile(path+".restored", backup, 0o600))
	require.NoError(t, os.Rename(path+".restored", path))
	s = open(t, path)
	require.False(t, has(s, "/a"))
	put(t, s, "/b")
	require.NoError(t, s.Close())
	// Durably: it is an original from here on.
	s = open(t, path)
	require.False(t, has(s, "/a"))
	require.True(t, has(s, "/b"))
	require.Empty(t, aside(path))
}

// Rule 12: marks that are not whole purge everything, durably, before anything is
// looked up.
func TestRule12_MarksAreGuarded(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	put(t, s, "/a", storetest.Tags("x"))
	require.NoError(t, s.Close())
	require.NoError(t, editDB(path, func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		if err != nil {
			return err
		}
		if err := tx.WriteMarks(templateMarks()); err != nil {
			return err
		}
		return tx.Finish()
	}))
	require.NoError(t, editDB(path, func(btx *bolt.Tx) error {
		g := btx.Bucket([]byte("g"))
		k, _ := g.Cursor().First()
		return g.Delete(k)
	}))
	for range 2 {
		s = open(t, path)
		require.False(t, has(s, "/a"))
		require.NoError(t, s.Close())
	}
	require.Empty(t, aside(path))
}

// Rule 14: while the store is opening, an invalidation waits. ctx ends the wait,
// not the purge.
func TestRule14_InvalidateWhileOpening(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	put(t, s, "/a", storetest.Tags("x"))
	put(t, s, "/b", storetest.Tags("y"))
	put(t, s, "/c", storetest.Tags("z"))
	require.NoError(t, s.Close())

	// Whatever the opening has come to when they are called, or none.
	s = boltstore.Open(path, quiet, patient)
	defer s.Close()
	left, cancel := context.WithCancel(bg)
	cancel()
	if err := s.Invalidate(left, accel.TagMark("x")); err != nil {
		require.ErrorIs(t, err, context.Canceled)
	}
	require.NoError(t, s.Invalidate(bg, accel.TagMark("y")))
	require.NoError(t, s.Err(), "it has waited")
	require.False(t, has(s, "/a"))
	require.False(t, has(s, "/b"))
	require.True(t, has(s, "/c"))
	require.NoError(t, s.Close())
	s = open(t, path)
	require.False(t, has(s, "/a"), "carried out all the same")
	require.False(t, has(s, "/b"))
}

// Rule 14: between one file and the next, too, and everybody who waits is told
// exactly once.
func TestRule14_NobodyWaitsForEver(t *testing.T) {
	path := dbPath(t)
	fault := newFault(errDisk)
	s := open(t, path, fault.option())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				at := s.Begin()
				s.Put(storetest.Entry(damageURL(i%50), storetest.At(at), storetest.Tags(fmt.Sprint("t", g))), nil)
				s.End(at)
				ctx, cancel := context.WithTimeout(bg, 10*time.Second)
				err := s.Invalidate(ctx, accel.TagMark(fmt.Sprint("t", g)))
				cancel()
				if errors.Is(err, context.DeadlineExceeded) {
					t.Error("nobody answered")
					return
				}
			}
		})
	}
	for n := range 3 {
		fault.set([]string{"commit", "committed"}[n%2])
		eventually(t, func() bool { return len(aside(path)) == n+1 }, "set aside")
		eventually(t, func() bool { return s.Err() == nil }, "open again")
		if n == 1 {
			require.NoError(t, os.Remove(path))
			eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, "a new file")
		}
	}
	close(stop)
	wg.Wait()
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
}

// Who comes after the writer's last look is not told that all is well. (He once
// was.)
func TestExpireAfterTheLastTransaction(t *testing.T) {
	path := dbPath(t)
	var s *boltstore.Store
	var closing atomic.Bool
	entered, resume := make(chan struct{}), make(chan struct{})
	s = open(t, path,
		// Expire has found the store open when it asks for the time.
		boltstore.WithClock(func() time.Time {
			if bytes.Contains(debug.Stack(), []byte("(*Store).Expire")) {
				close(entered)
				<-resume
			}
			return storetest.Start
		}),
		boltstore.WithFault(func(moment string) error {
			if closing.Load() && moment == "committed" {
				// The last transaction. Now let Expire go on, and wait for it.
				close(resume)
				for s.Stats().Invalidated == 0 {
					runtime.Gosched()
				}
				for range 1000 {
					runtime.Gosched()
				}
			}
			return nil
		}))
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	told := make(chan error)
	go func() { told <- s.Expire(bg, accel.TagMark("x")) }()
	<-entered
	closing.Store(true)
	require.NoError(t, s.Close())
	require.ErrorIs(t, <-told, accel.ErrClosed)
	found, err := open(t, path).Get(bg, storetest.Key("/a", ""), nil)
	require.NoError(t, err)
	require.Zero(t, found.StaleSince)
}

// An invalidation that comes while the store is being closed is on disk, or its
// caller learns that it is not.
func TestInvalidateDuringClose(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	for round := range rounds(10, 500) {
		s := open(t, path)
		put(t, s, "/a", storetest.Tags("x"))
		flushed(t, s)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				err := s.Invalidate(bg, accel.TagMark("x"))
				if err == nil {
					return
				}
				if !errors.Is(err, accel.ErrClosed) {
					t.Error(err)
				}
			})
		}
		told := make(chan error, 1)
		wg.Go(func() { told <- s.Invalidate(bg, accel.TagMark("x")) })
		require.NoError(t, s.Close())
		wg.Wait()
		if err := <-told; err == nil {
			require.False(t, has(open(t, path), "/a"), "round %d", round)
		}
		require.NoError(t, os.Remove(path))
	}
}
