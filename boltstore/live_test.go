package boltstore_test

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

func init() { children["live"] = liveChild }

// liveChild does something to the file of a store at work, in a process of its
// own: what bbolt leaves behind after a fault may hang for ever.
func liveChild() {
	path := os.Getenv("DB")
	s := boltstore.Open(path, quiet, patient, boltstore.WithMemory(1<<16), boltstore.WithMaxSize(8<<20))
	check(s.Ping(bg))
	for i := range damageEntries {
		check(s.Put(storetest.Entry(damageURL(i), storetest.At(s.Begin()), storetest.Tags(damageTag(i), "all"),
			storetest.Text(body(damageURL(i), 1, 1000))), nil))
	}
	check(within(func() bool { return s.Stats().QueueBytes == 0 }, "queue"))
	info, err := os.Stat(path)
	check(err)

	switch os.Getenv("FAULT") {
	case "removed":
		check(os.Remove(path))
	case "replaced by nothing":
		check(os.WriteFile(path+".other", nil, 0o600))
		check(os.Rename(path+".other", path))
	case "replaced by a copy":
		b, err := os.ReadFile(path)
		check(err)
		check(os.WriteFile(path+".other", b, 0o600))
		check(os.Rename(path+".other", path))
	case "replaced by another's":
		check(os.WriteFile(path+".other", []byte("Dear diary\n"), 0o600))
		check(os.Rename(path+".other", path))
	case "emptied":
		check(os.Truncate(path, 0))
	case "truncated":
		check(os.Truncate(path, info.Size()/3))
	case "overwritten":
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		check(err)
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
		check(err)
		check(f.Close())
	case "overwritten behind the meta pages":
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		check(err)
		_, err = f.WriteAt(make([]byte, info.Size()-2*damagePages), 2*damagePages)
		check(err)
		check(f.Close())
	}

	check(s.Invalidate(bg, accel.TagMark("tag3"))) // nil: durable, wherever
	gone := func(i, version int) error {
		if damageTag(i) == "tag3" && version == 1 {
			return fmt.Errorf("%s was invalidated, and is returned", damageURL(i))
		}
		return nil
	}
	check(lookAtAll(s, gone))
	// It finds a place to work again by itself.
	i := 0
	check(within(func() bool {
		i++
		at := s.Begin()
		defer s.End(at)
		url := damageURL(i % damageEntries)
		return s.Put(storetest.Entry(url, storetest.At(at), storetest.Text(body(url, 2, 1000))), nil) == nil && i > damageEntries
	}, "works again"))
	check(within(func() bool { return s.Stats().QueueBytes == 0 && s.Err() == nil }, "writes again"))
	check(lookAtAll(s, gone))
	check(s.Close())

	s = boltstore.Open(path, quiet, patient)
	check(s.Ping(bg))
	check(lookAtAll(s, gone))
	if s.Stats().Entries == 0 {
		panic("nothing was kept")
	}
	check(s.Close())
	fmt.Println("ok")
	os.Stdout.Close()
}

// The file is changed under a store that has it open.
func TestLiveFaults(t *testing.T) {
	for _, fault := range []string{
		"removed", "replaced by nothing", "replaced by a copy",
		"emptied", "truncated", "overwritten", "overwritten behind the meta pages",
	} {
		t.Run(fault, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			c := start(t, "live", nil, "DB="+path, "FAULT="+fault)
			require.Equal(t, "ok", c.line())
			c.end()
		})
	}
}

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
	path := dbPath(t)
	errBad := fmt.Errorf("input/output error")
	var bad atomic.Bool
	s := boltstore.Open(path, quiet, patient, boltstore.WithFault(func(moment string) error {
		if bad.Load() && moment == "commit" {
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
		bad.Store(false)
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
