package boltstore_test

import (
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

// What happens to a site whose file is changed under it is tested in
// internal/faults. Here is what a store has to say about it.

// A file that is removed is noticed without an invalidation: what is put goes to a
// new one.
func TestRemovedFileIsNoticed(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	s := open(t, path)
	put(t, s, "/a")
	flushed(t, s)
	require.NoError(t, os.Remove(path))
	eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, "a new file")
	eventually(t, func() bool { return s.Err() == nil }, "open")
	require.False(t, has(s, "/a"), "memory does not outlive the file: somebody else may have had it")
	put(t, s, "/b")
	require.NoError(t, s.Close())
	require.True(t, has(open(t, path), "/b"))
}

// What stands at the path now is another's: the store goes off, and touches
// nothing.
func TestReplacedByAnothersFile(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	put(t, s, "/a")
	flushed(t, s)
	require.NoError(t, os.WriteFile(path+".other", []byte("Dear diary\n"), 0o600))
	require.NoError(t, os.Rename(path+".other", path))
	before := fingerprint(t, path)
	require.ErrorIs(t, s.Invalidate(bg, accel.TagMark("x")), accel.ErrNotDurable)
	unavailable(t, s, boltstore.ErrForeign)
	require.Equal(t, before, fingerprint(t, path))
	require.NoError(t, s.Close())
}

// Three files are set aside in a store's life; the fourth stays where it is, and
// the store off.
func TestThreeFilesAreSetAside(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	errBad := fmt.Errorf("input/output error")
	var bad atomic.Bool
	s := boltstore.Open(path, quiet, patient, boltstore.WithFault(func(moment string) error {
		if moment == "commit" && bad.CompareAndSwap(true, false) { // one commit, of whatever file
			return errBad
		}
		return nil
	}))
	defer s.Close()
	require.NoError(t, s.Ping(bg))
	for n := 1; n <= 3; n++ {
		put(t, s, "/a", storetest.Tags("x"))
		flushed(t, s)
		bad.Store(true)
		// Setting the file aside is what makes the purge durable.
		require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
		eventually(t, func() bool { return s.Err() == nil }, "a new file")
		require.Len(t, aside(path), n)
		require.EqualValues(t, n, s.Stats().SetAside)
	}
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	bad.Store(true)
	require.ErrorIs(t, s.Invalidate(bg, accel.TagMark("x")), accel.ErrNotDurable)
	unavailable(t, s, boltstore.ErrDamaged)
	require.ErrorIs(t, s.Err(), errBad)
	require.Len(t, aside(path), 3)
	require.FileExists(t, path)
}

// What was invalidated, swept and forgotten is not brought back by an older state of
// the file: not by writing it over the file, nor by moving an earlier file back.
func TestAnOlderStateIsNotUsed(t *testing.T) {
	for name, bring := range map[string]func(t *testing.T, s *boltstore.Store, path string){
		"written over the file": func(t *testing.T, s *boltstore.Store, path string) {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			forget(t, s)
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			require.NoError(t, err)
			_, err = f.WriteAt(b, 0)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			require.False(t, has(s, "/a"))
			eventually(t, func() bool { return len(aside(path)) == 1 && s.Err() == nil }, "set aside")
		},
		"moved back": func(t *testing.T, s *boltstore.Store, path string) {
			require.NoError(t, os.Rename(path, path+".saved"))
			eventually(t, func() bool { _, err := os.Stat(path); return err == nil }, "a new file")
			eventually(t, func() bool { return s.Err() == nil }, "open")
			forget(t, s)
			require.NoError(t, os.Rename(path+".saved", path))
			before, err := os.Stat(path)
			require.NoError(t, err)
			eventually(t, func() bool {
				info, err := os.Stat(path)
				return err == nil && info.ModTime() != before.ModTime() && s.Err() == nil
			}, "opened")
			require.Empty(t, aside(path))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			s := boltstore.Open(path, quiet, patient, boltstore.WithMemory(0))
			require.NoError(t, s.Ping(bg))
			put(t, s, "/a", storetest.Tags("x"))
			flushed(t, s)
			bring(t, s, path)
			require.False(t, has(s, "/a"))
			put(t, s, "/b")
			require.NoError(t, s.Close())
			s = open(t, path)
			require.False(t, has(s, "/a"))
			require.True(t, has(s, "/b"))
		})
	}
}

// forget invalidates x, and waits until it is swept and the mark dropped.
func forget(t *testing.T, s *boltstore.Store) {
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	eventually(t, func() bool { return s.Stats().Marks == 0 }, "forgotten")
}

// A faulty file that cannot be set aside is tried again: the handle that was
// abandoned does not keep the store out of it for ever.
func TestAFaultyFileIsLetGo(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() + "/sub"
	path := dir + "/cache.db"
	require.NoError(t, os.Mkdir(dir, 0o700))
	var bad atomic.Bool
	s := open(t, path, boltstore.WithFault(func(moment string) error {
		if moment == "commit" && bad.CompareAndSwap(true, false) {
			panic("as bbolt does, with its locks held")
		}
		return nil
	}))
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	require.NoError(t, os.Rename(dir, dir+".moved"))
	require.NoError(t, os.WriteFile(dir, nil, 0o600)) // not even root gets past it
	bad.Store(true)
	require.ErrorIs(t, s.Invalidate(bg, accel.TagMark("x")), accel.ErrNotDurable)
	require.NoError(t, os.Remove(dir))
	require.NoError(t, os.Rename(dir+".moved", dir))
	eventually(t, func() bool { return s.Err() == nil }, "open again")
	require.False(t, has(s, "/a"))
	put(t, s, "/b")
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	require.Empty(t, aside(path))
}

// A disk may have no room even for what it has taken already, and say so when it is
// synced: then nobody knows what was lost, and the file is not used again.
func TestAFullDiskAtASync(t *testing.T) {
	for _, err := range []error{
		syscall.ENOSPC, // fdatasync as bbolt calls it on Linux
		&fs.PathError{Op: "sync", Path: "cache.db", Err: syscall.ENOSPC},
		fmt.Errorf("file sync error: sync cache.db: %s", syscall.ENOSPC),
	} {
		path := dbPath(t)
		fault := newFault(err)
		s := open(t, path, fault.option())
		fault.set("committed")
		put(t, s, "/a")
		eventually(t, func() bool { return len(aside(path)) == 1 && s.Err() == nil }, "set aside")
		require.False(t, has(s, "/a"))
	}
}

// Readers hang in a disk: the site is served, and its pages are made anew.
func TestASiteOnADiskThatDoesNotRead(t *testing.T) {
	var block atomic.Pointer[chan struct{}]
	s := boltstore.Open(dbPath(t), quiet, boltstore.WithMemory(0), boltstore.WithReadHook(func() {
		if c := block.Load(); c != nil {
			<-*c
		}
	}))
	site := faults.Open(s, 50, 5, 500)
	defer site.Cache.Close()
	require.NoError(t, s.Ping(bg))
	all := func() (hits int, longest time.Duration) {
		for page := range site.Pages() {
			start := time.Now()
			_, hit, err := site.Get(page)
			require.NoError(t, err)
			longest = max(longest, time.Since(start))
			if hit {
				hits++
			}
		}
		return hits, longest
	}
	eventually(t, func() bool { flushed(t, s); hits, _ := all(); return hits == site.Pages() }, "cached")
	c := make(chan struct{})
	block.Store(&c)
	readErrors, made := s.Stats().ReadErrors, site.Made.Load()
	site.Commit(1)
	require.NoError(t, site.Purge(bg, 1), "the disk still writes")
	hits, longest := all()
	t.Logf("%d of %d from the cache, longest request %v", hits, site.Pages(), longest)
	require.Greater(t, s.Stats().ReadErrors, readErrors)
	require.Greater(t, site.Made.Load(), made)
	block.Store(nil)
	close(c)
	eventually(t, func() bool { hits, _ := all(); return hits == site.Pages() }, "cached again")
}
