//go:build unix

package inspect_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/inspect"
	"github.com/accelhttp/accelerator/internal/marks"
)

var quiet = boltstore.WithLogger(slog.New(slog.DiscardHandler))

// attic is a database of which half was deleted, with everything in it that there
// can be.
func attic(t testing.TB) (path string) {
	path = filepath.Join(t.TempDir(), "cache.db")
	write(t, path, 10, 3, func(tx *format.Tx) {
		for i := range 400 {
			e := entry(fmt.Sprint("/", i), 10, storetest.Tags("all", fmt.Sprint("t", i%7), fmt.Sprint("half", i%2)),
				storetest.Text(string(bytes.Repeat([]byte{byte(i)}, 3000))))
			require.NoError(t, tx.Put(e, time.Time{}))
		}
	})
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoStatistics: true, FreelistType: bolt.FreelistMapType})
	require.NoError(t, err)
	defer db.Close()
	edit(t, db, func(tx *format.Tx) {
		r := marks.Row{Mark: accel.TagMark("half1"), Hard: 11}
		tx.SetSeq(12)
		tx.SetBudget(432)
		for from := []byte(nil); ; {
			_, next, err := tx.SweepMark(r, from, 100)
			require.NoError(t, err)
			if from = next; next == nil {
				break
			}
		}
		require.NoError(t, tx.WriteMarks([]marks.Row{
			{Mark: accel.TagMark("t3"), Hard: 12},
			{Mark: accel.TagMark("t4"), Soft: 12, Since: now},
		}))
	})
	return path
}

// view looks into a file that nobody has open.
func view(t testing.TB, path string, f func(*bolt.Tx, *format.Tx)) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, NoStatistics: true})
	require.NoError(t, err)
	defer db.Close()
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		require.NoError(t, err)
		f(btx, tx)
		return nil
	}))
}

// names lists what is in the directory of a file.
func names(t testing.TB, path string) (list []string) {
	entries, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func inode(t testing.TB, path string) uint64 {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return format.Inode(info)
}

func TestCompactKeepsEverything(t *testing.T) {
	path := attic(t)
	require.NoError(t, os.Chmod(path, 0o640))
	if os.Getuid() == 0 {
		require.NoError(t, os.Chown(path, 12, 34))
	}
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	old := filepath.Join(t.TempDir(), "old.db")
	require.NoError(t, os.WriteFile(old, data, 0o600))

	dry, err := inspect.Compact(ctx, path, true, now)
	require.NoError(t, err)
	require.False(t, dry.Compacted)
	res, err := inspect.Compact(ctx, path, false, now)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, &inspect.Compaction{
		Database: path, Before: int64(len(data)), After: info.Size(), Compacted: true, Entries: 200,
	}, res)
	require.Less(t, res.After, res.Before*6/10)
	require.LessOrEqual(t, res.After, dry.After)
	require.Equal(t, []string{"cache.db"}, names(t, path))
	require.EqualValues(t, 0o640, info.Mode())
	if os.Getuid() == 0 {
		st := info.Sys().(*syscall.Stat_t)
		require.Equal(t, []uint32{12, 34}, []uint32{st.Uid, st.Gid})
	}

	view(t, old, func(was *bolt.Tx, wastx *format.Tx) {
		view(t, path, func(is *bolt.Tx, istx *format.Tx) {
			require.NoError(t, format.Same(was, is, func() bool { return true }))
			a, b := wastx.Meta(), istx.Meta()
			require.NotEqual(t, a.UUID, b.UUID)
			require.Equal(t, format.Inode(info), b.Inode)
			a.UUID, a.Inode = b.UUID, b.Inode
			require.Equal(t, a, b)
			require.EqualValues(t, []uint64{12, 3, 3, 432}, []uint64{b.Seq, b.Floor, b.Swept, b.Budget})
		})
	})
	// The signature is where a damaged file is known by it.
	head := make([]byte, 5*os.Getpagesize())
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.ReadAt(head, 0)
	require.NoError(t, err)
	require.Contains(t, string(head), format.Signature)
	d := look(t, path)
	require.Empty(t, d.BeginsEmpty())
	v, err := d.Verify(ctx)
	require.NoError(t, err)
	require.True(t, v.OK, "%v", v.Problems)
	require.NoError(t, d.Close())

	// The library takes it for what it is, goes on where it stood, and serves what
	// was not struck.
	s := boltstore.Open(path, quiet, boltstore.WithClock(func() time.Time { return now }))
	defer s.Close()
	require.NoError(t, s.Ping(ctx))
	for i := range 400 {
		_, err := s.Get(ctx, entry(fmt.Sprint("/", i), 10).Key, nil)
		if i%2 == 0 && i%7 != 3 {
			require.NoError(t, err, i)
		} else {
			require.ErrorIs(t, err, accel.ErrNotFound, i)
		}
	}
	at := s.Begin()
	require.EqualValues(t, 12, at.N)
	require.NoError(t, s.Put(entry("/new", 0, storetest.At(at)), nil))
	s.End(at)
	require.NoError(t, s.Invalidate(ctx, accel.TagMark("t5")))
	require.NoError(t, s.Close())
	d = look(t, path)
	v, err = d.Verify(ctx)
	require.NoError(t, err)
	require.True(t, v.OK, "%v", v.Problems)
}

// Where nothing is to be gained, the file stays.
func TestCompactOfACompactedFile(t *testing.T) {
	path := attic(t)
	_, err := inspect.Compact(ctx, path, false, now)
	require.NoError(t, err)
	before := sum(t, path)
	res, err := inspect.Compact(ctx, path, false, now)
	require.NoError(t, err)
	require.False(t, res.Compacted)
	require.Equal(t, res.Before, res.After)
	require.Equal(t, before, sum(t, path))
	require.Equal(t, []string{"cache.db"}, names(t, path))
}

// Whatever fails before the new file has its name: the old one is as it was, and
// nothing is left of the new.
func TestCompactFails(t *testing.T) {
	path := attic(t)
	before := sum(t, path)
	untouched := func() {
		require.Equal(t, before, sum(t, path))
		require.Equal(t, []string{"cache.db"}, names(t, path))
	}
	for _, at := range []string{"copied", "checked"} {
		restore := inspect.CompactAt(func(moment string) error {
			if moment == at {
				return syscall.ENOSPC
			}
			return nil
		})
		_, err := inspect.Compact(ctx, path, false, now)
		restore()
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, "no space left for a copy")
		untouched()

		cancelled, cancel := context.WithCancel(ctx)
		restore = inspect.CompactAt(func(moment string) error {
			if moment == at {
				cancel()
			}
			return nil
		})
		_, err = inspect.Compact(cancelled, path, false, now)
		restore()
		require.ErrorIs(t, err, context.Canceled)
		untouched()
	}

	// Another file came to the path meanwhile. That is not replaced.
	moved := filepath.Join(t.TempDir(), "moved.db")
	restore := inspect.CompactAt(func(moment string) error {
		if moment == "checked" {
			require.NoError(t, os.Rename(path, moved))
			require.NoError(t, os.WriteFile(path, []byte("another"), 0o600))
		}
		return nil
	})
	_, err := inspect.Compact(ctx, path, false, now)
	restore()
	require.ErrorContains(t, err, "was replaced meanwhile")
	require.Equal(t, before, sum(t, moved))
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "another", string(data))
	require.Equal(t, []string{"cache.db"}, names(t, path))
}

// There is no room for the copy.
func TestCompactWithoutRoom(t *testing.T) {
	path := attic(t)
	before := sum(t, path)
	var limit syscall.Rlimit
	require.NoError(t, syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit))
	small := limit
	small.Cur = 100 << 10
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small))
	_, err := inspect.Compact(ctx, path, false, now)
	require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit))
	require.ErrorContains(t, err, "not compacted, and not touched: no space left for a copy; free some")
	require.Equal(t, before, sum(t, path))
	require.Equal(t, []string{"cache.db"}, names(t, path))
}

// The rename may not be durable: then the old file, which a power cut may bring
// back, has nothing in it that is served.
func TestCompactThatIsNotDurable(t *testing.T) {
	path := attic(t)
	old := filepath.Join(filepath.Dir(path), "old.db")
	require.NoError(t, os.Link(path, old))
	defer inspect.CompactAt(func(moment string) error {
		if moment == "renamed" {
			return syscall.EIO
		}
		return nil
	})()
	res, err := inspect.Compact(ctx, path, false, now)
	require.NoError(t, err)
	require.True(t, res.Compacted)
	for path, live := range map[string]int{path: 143, old: 0} {
		st, err := look(t, path).Stats(ctx)
		require.NoError(t, err)
		require.Empty(t, st.BeginsEmpty)
		require.EqualValues(t, 200, st.Entries)
		require.Equal(t, live, st.Live.Entries, path)
	}
}

// A program that is started while the file is replaced does not get in before the
// new one is at the path for good, and then has that.
func TestOpenWhileCompacting(t *testing.T) {
	path := attic(t)
	before := inode(t, path)
	var stores []*boltstore.Store
	defer inspect.CompactAt(func(moment string) error {
		require.Equal(t, moment == "renamed", inode(t, path) != before)
		s := boltstore.Open(path, quiet, boltstore.WithClock(func() time.Time { return now }))
		t.Cleanup(func() { s.Close() })
		require.ErrorIs(t, s.Ping(ctx), boltstore.ErrLocked, moment)
		stores = append(stores, s)
		_, err := inspect.Open(path, now)
		require.ErrorIs(t, err, inspect.ErrLocked)
		return nil
	})()
	_, err := inspect.Compact(ctx, path, false, now)
	require.NoError(t, err)
	require.Len(t, stores, 3)
	for len(stores) > 0 {
		// One of them has it; the others wait for that one.
		var has *boltstore.Store
		require.Eventually(t, func() bool {
			for i, s := range stores {
				if s.Err() == nil {
					has, stores = s, append(stores[:i:i], stores[i+1:]...)
					return true
				}
			}
			return false
		}, 20*time.Second, 5*time.Millisecond)
		_, err := has.Get(ctx, entry("/0", 0).Key, nil)
		require.NoError(t, err)
		require.NoError(t, has.Close())
	}
}

// Programs open the file while it is compacted again and again. What they
// invalidate stays so: none of them has written to a file that is gone.
func TestCompactAmongPrograms(t *testing.T) {
	path := attic(t)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond): // a program finds it free, too
			}
			_, err := inspect.Compact(ctx, path, false, now)
			if err != nil && !errors.Is(err, inspect.ErrLocked) {
				require.ErrorContains(t, err, "replaced meanwhile")
			}
		}
	})
	defer wg.Wait()
	defer close(stop)
	open := func() *boltstore.Store {
		s := boltstore.Open(path, quiet, boltstore.WithClock(func() time.Time { return now }))
		t.Cleanup(func() { s.Close() })
		require.Eventually(t, func() bool { return s.Err() == nil }, 20*time.Second, time.Millisecond)
		return s
	}
	purged := map[string]bool{}
	for round := range 2 {
		s := open()
		target := fmt.Sprint("/", round)
		for _, p := range []string{"/a", "/b"} {
			at := s.Begin()
			require.NoError(t, s.Put(entry(target+p, 0, storetest.At(at), storetest.Tags(target+p)), nil))
			s.End(at)
		}
		require.Eventually(t, func() bool { return s.Stats().QueueBytes == 0 }, 20*time.Second, time.Millisecond)
		require.NoError(t, s.Close())

		s = open()
		require.NoError(t, s.Invalidate(ctx, accel.TagMark(target+"/a")))
		purged[target+"/a"], purged[target+"/b"] = true, false
		require.NoError(t, s.Close())

		s = open()
		for target, gone := range purged {
			_, err := s.Get(ctx, entry(target, 0).Key, nil)
			require.Equal(t, gone, errors.Is(err, accel.ErrNotFound), "%s: %v", target, err)
		}
		require.NoError(t, s.Close())
	}
}

// A directory that is not the database's, a file that cannot be written, and what
// else is no use.
func TestCompactRefuses(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		make func(path string)
		want error
	}{
		"missing": {func(string) {}, inspect.ErrMissing},
		"empty":   {func(p string) { require.NoError(t, os.WriteFile(p, nil, 0o600)) }, inspect.ErrEmpty},
		"text":    {func(p string) { require.NoError(t, os.WriteFile(p, []byte("text"), 0o600)) }, inspect.ErrForeign},
		"dir":     {func(p string) { require.NoError(t, os.Mkdir(p, 0o700)) }, inspect.ErrForeign},
		"link":    {func(p string) { require.NoError(t, os.Symlink("nowhere", p)) }, inspect.ErrMissing},
		"copy": {func(p string) {
			data, err := os.ReadFile(attic(t))
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(p, data, 0o600))
		}, inspect.ErrDamaged},
	} {
		path := filepath.Join(dir, name)
		c.make(path)
		list := names(t, path)
		for _, dry := range []bool{true, false} {
			_, err := inspect.Compact(ctx, path, dry, now)
			require.ErrorIs(t, err, c.want, name)
			require.ErrorContains(t, err, path+": ")
			require.Equal(t, list, names(t, path))
		}
	}
}
