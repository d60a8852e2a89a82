//go:build unix

package boltstore_test

import (
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
)

// A faulty handle gives its lock up before its file is set aside. Another process
// that takes the file in between must not serve what is then acknowledged as purged.
func TestNobodyTakesAFileThatIsBeingSetAside(t *testing.T) {
	path := dbPath(t)
	var fault, once atomic.Bool
	renaming, rename := make(chan struct{}), make(chan struct{})
	first := boltstore.Open(path, quiet, patient,
		boltstore.WithFault(func(moment string) error {
			if fault.Load() && moment == "commit" {
				panic("a fault inside bbolt")
			}
			return nil
		}),
		boltstore.WithClock(func() time.Time {
			// Asked for the name under which the file is set aside.
			if fault.Load() && once.CompareAndSwap(false, true) {
				close(renaming)
				<-rename
			}
			return time.Now()
		}))
	require.NoError(t, first.Ping(bg))
	put(t, first, "/a", storetest.Tags("x"))
	flushed(t, first)
	second := boltstore.Open(path, quiet, patient)
	require.ErrorIs(t, second.Ping(bg), boltstore.ErrLocked)

	fault.Store(true)
	purged := make(chan error)
	go func() { purged <- first.Invalidate(bg, accel.TagMark("x")) }()
	<-renaming
	for range 3 {
		// What a second program finds who comes now.
		s := boltstore.Open(path, quiet, patient)
		require.ErrorIs(t, s.Ping(bg), boltstore.ErrLocked)
		require.NoError(t, s.Close())
	}
	require.False(t, has(second, "/a"))
	fault.Store(false)
	close(rename)
	require.NoError(t, <-purged)
	require.False(t, has(second, "/a"))
	require.NoError(t, first.Close())
	eventually(t, func() bool { return second.Err() == nil }, "the second has a file")
	require.False(t, has(second, "/a"))
	require.NoError(t, second.Close())
}

// A disk on which a new file can be made, but nothing written to it, is not tried
// without end, and Close ends.
func TestFullDiskIsLeftAloneForAWhile(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	var full atomic.Bool
	var tries atomic.Int64
	s := boltstore.Open(path, quiet, patient, boltstore.WithFault(func(moment string) error {
		if full.Load() && moment == "commit" {
			tries.Add(1)
			return &fs.PathError{Op: "write", Path: path, Err: syscall.ENOSPC}
		}
		return nil
	}))
	require.NoError(t, s.Ping(bg))
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	full.Store(true)
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")), "the file is gone, and durably")
	eventually(t, func() bool { return tries.Load() >= 3 }, "tried again")
	require.Less(t, tries.Load(), int64(6))
	full.Store(false)
	eventually(t, func() bool { return s.Err() == nil }, "there is room again")
	put(t, s, "/a")
	full.Store(true)
	require.NoError(t, s.Close())
}

// Who was seen to have the file has it until it is ours, whatever else goes wrong
// with opening it meanwhile.
func TestAnotherErrorDoesNotEndTheBlindness(t *testing.T) {
	path := dbPath(t)
	first := boltstore.Open(path, quiet, patient)
	require.NoError(t, first.Ping(bg))
	second := boltstore.Open(path, quiet, patient)
	require.ErrorIs(t, second.Ping(bg), boltstore.ErrLocked)
	require.Zero(t, second.Begin())
	// For a while something that cannot be opened stands at the path.
	require.NoError(t, os.Rename(path, path+".kept"))
	require.NoError(t, os.Mkdir(path, 0o700))
	eventually(t, func() bool { return second.Err() != nil && !isLocked(second) }, "another error")
	require.Zero(t, second.Begin())
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.Rename(path+".kept", path))
	require.NoError(t, first.Close())
	eventually(t, func() bool { return second.Err() == nil }, "takes over")
	at := second.Begin()
	require.NotZero(t, at)
	second.End(at)
	require.NoError(t, second.Close())
}

// Files beside the database whose names only begin like ours are somebody else's.
func TestOthersFilesAreLeft(t *testing.T) {
	path := dbPath(t)
	old := time.Now().Add(-time.Hour)
	names := []string{".new-design.md", ".new-compact-notes", ".new-backup", ".new-12-backup.db", ".new-1-a.bak"}
	for _, n := range append(names, ".new-123-abc12", ".new-compact-77-abcdefgh") {
		require.NoError(t, os.WriteFile(path+n, []byte("mine"), 0o600))
		require.NoError(t, os.Chtimes(path+n, old, old))
	}
	open(t, path)
	for _, n := range names {
		require.FileExists(t, path+n)
	}
	require.NoFileExists(t, path+".new-123-abc12")
	require.NoFileExists(t, path+".new-compact-77-abcdefgh")
}
