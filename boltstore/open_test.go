package boltstore_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

func init() {
	// hold has a store until its input ends.
	faults.Role("hold", func() {
		s := boltstore.Open(os.Getenv("DB"), quiet)
		if err := s.Ping(context.Background()); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("open")
		io.Copy(io.Discard, os.Stdin)
		s.Close()
	})
	// refused opens a store, as a user who may not, and says what kind of error it has.
	faults.Role("refused", func() {
		becomeNobody()
		s := boltstore.Open(os.Getenv("DB"), quiet)
		defer s.Close()
		err := s.Ping(context.Background())
		fmt.Println(errors.Is(err, fs.ErrPermission), err)
	})
}

// fingerprint is all of a file that somebody might change.
func fingerprint(t testing.TB, path string) string {
	info, err := os.Lstat(path)
	require.NoError(t, err)
	var sum [32]byte
	if info.Mode().IsRegular() {
		if info.Mode()&0o400 == 0 { // we may not read it either, unless we are root
			require.NoError(t, os.Chmod(path, 0o400))
			defer os.Chmod(path, info.Mode())
		}
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		sum = sha256.Sum256(b)
	}
	return fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano(), sum)
}

// unavailable requires that a store does nothing, and says so at once.
func unavailable(t testing.TB, s *boltstore.Store, is error) {
	err := s.Ping(bg)
	require.ErrorIs(t, err, is)
	require.ErrorIs(t, err, accel.ErrUnavailable)
	require.ErrorIs(t, s.Err(), is)

	at := s.Begin()
	defer s.End(at)
	_, err = s.Get(bg, storetest.Key("/a", ""), nil)
	require.ErrorIs(t, err, accel.ErrUnavailable)
	require.ErrorIs(t, s.Put(storetest.Entry("/a", storetest.At(at)), nil), accel.ErrUnavailable)
	require.ErrorIs(t, s.Delete(storetest.Entry("/a")), accel.ErrUnavailable)
	err = s.Invalidate(bg, accel.TagMark("a"))
	require.ErrorIs(t, err, accel.ErrNotDurable)
	require.ErrorIs(t, err, is)
	require.ErrorIs(t, s.Expire(bg, accel.TagMark("a")), accel.ErrNotDurable)
	require.False(t, s.Valid(at, []accel.Hash{accel.TagMark("a").Hash}))
}

func foreignBolt(t testing.TB, path string, buckets ...string) {
	db, err := bolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bolt.Tx) error {
		for _, name := range buckets {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			if err := b.Put([]byte("magic"), []byte("of somebody else")); err != nil {
				return err
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
}

func TestOpenRefusesWhatIsNotOurs(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t testing.TB, path string)
		is   error
	}{
		"directory": {func(t testing.TB, path string) { require.NoError(t, os.Mkdir(path, 0o700)) }, boltstore.ErrForeign},
		"text":      {func(t testing.TB, path string) { require.NoError(t, os.WriteFile(path, []byte("Dear diary\n"), 0o600)) }, boltstore.ErrForeign},
		"long text": {func(t testing.TB, path string) {
			require.NoError(t, os.WriteFile(path, []byte(body("x", 1, 200_000)), 0o600))
		}, boltstore.ErrForeign},
		"zeroes":        {func(t testing.TB, path string) { require.NoError(t, os.WriteFile(path, make([]byte, 1<<16), 0o600)) }, boltstore.ErrForeign},
		"another bbolt": {func(t testing.TB, path string) { foreignBolt(t, path, "users", "x") }, boltstore.ErrForeign},
		"a bucket m":    {func(t testing.TB, path string) { foreignBolt(t, path, "m") }, boltstore.ErrForeign},
		"all our names": {func(t testing.TB, path string) { foreignBolt(t, path, "m", "k", "b", "x", "t", "g", "a") }, boltstore.ErrForeign},
		"another release": {func(t testing.TB, path string) {
			open(t, path).Close()
			db, err := bolt.Open(path, 0o600, nil)
			require.NoError(t, err)
			require.NoError(t, db.Update(func(tx *bolt.Tx) error {
				m := tx.Bucket([]byte("m"))
				v := append([]byte(nil), m.Get([]byte("magic"))...)
				v[9]++ // the format version's low byte
				return m.Put([]byte("magic"), v)
			}))
			require.NoError(t, db.Close())
		}, boltstore.ErrVersion},
		"socket": {func(t testing.TB, path string) {
			l, err := net.Listen("unix", path)
			require.NoError(t, err)
			t.Cleanup(func() { l.Close() })
		}, boltstore.ErrForeign},
		"fifo": {mkfifo, boltstore.ErrForeign},
	} {
		t.Run(name, func(t *testing.T) {
			path := dbPath(t)
			c.make(t, path)
			before := fingerprint(t, path)
			s := boltstore.Open(path, quiet)
			unavailable(t, s, c.is)
			require.NoError(t, s.Close())
			require.Equal(t, before, fingerprint(t, path))
			list, err := os.ReadDir(filepath.Dir(path))
			require.NoError(t, err)
			require.Len(t, list, 1, "nothing was left beside it")
		})
	}
}

func TestOpenEmptyFile(t *testing.T) {
	path := dbPath(t)
	require.NoError(t, os.WriteFile(path, nil, 0o640))
	s := open(t, path)
	put(t, s, "/a")
	require.NoError(t, s.Close())
	require.True(t, has(open(t, path), "/a"))
	require.Empty(t, aside(path))
}

// A link is followed: to a file that is there, and to one that is not yet.
func TestOpenThroughSymlink(t *testing.T) {
	for _, there := range []bool{true, false} {
		dir := t.TempDir()
		require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
		file, link := filepath.Join(dir, "data", "real.db"), filepath.Join(dir, "cache.db")
		if there {
			s := open(t, file)
			put(t, s, "/a")
			require.NoError(t, s.Close())
		}
		require.NoError(t, os.Symlink(filepath.Join("data", "real.db"), link))
		s := open(t, link)
		require.Equal(t, there, has(s, "/a"))
		put(t, s, "/b")
		require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
		require.NoError(t, s.Close())
		info, err := os.Lstat(link)
		require.NoError(t, err)
		require.NotZero(t, info.Mode()&fs.ModeSymlink)
		require.True(t, has(open(t, file), "/b"))
	}
}

// Damage behind a link sets the file aside, not the link.
func TestSymlinkToDamagedFile(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "data"), 0o700))
	file, link := filepath.Join(dir, "data", "real.db"), filepath.Join(dir, "cache.db")
	require.NoError(t, os.Symlink(file, link))
	open(t, link).Close()
	require.NoError(t, os.Truncate(file, 5000))
	s := open(t, link)
	require.Len(t, aside(file), 1)
	require.NoError(t, s.Close())
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&fs.ModeSymlink)
}

func TestOpenRelativePathAndChdir(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := open(t, "cache.db")
	t.Chdir(t.TempDir())
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))
	require.NoError(t, s.Close())
	require.FileExists(t, filepath.Join(dir, "cache.db"))
}

func TestOpenHeldByAnotherProcess(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	first := open(t, path)
	put(t, first, "/gone", storetest.Tags("gone"))
	put(t, first, "/kept", storetest.Tags("kept"))
	require.NoError(t, first.Close())

	holder := faults.Start(t, "hold", []string{"DB=" + path})
	holder.Expect("open")
	before := fingerprint(t, path)
	s := boltstore.Open(path, quiet, patient)
	defer s.Close()
	unavailable(t, s, boltstore.ErrLocked)
	// Rule 14: marked in memory, and applied before the first look-up.
	require.ErrorIs(t, s.Invalidate(bg, accel.TagMark("gone")), accel.ErrNotDurable)
	require.Equal(t, before, fingerprint(t, path))

	began := make(chan error)
	go func() {
		// The first look-up that finds the file must not find the entry.
		for {
			if _, err := s.Get(bg, storetest.Key("/gone", ""), nil); !errors.Is(err, accel.ErrUnavailable) {
				began <- err
				return
			}
		}
	}()
	end(t, holder)
	released := time.Now()
	require.ErrorIs(t, <-began, accel.ErrNotFound)
	// How long it takes as a rule is measured in internal/faults.
	require.Less(t, time.Since(released), 10*time.Second)
	require.NoError(t, s.Err())
	require.True(t, has(s, "/kept"))
	// It becomes durable without being asked again.
	eventually(t, func() bool { return s.Stats().Swept == 1 }, "swept")
	require.NoError(t, s.Close())
	require.False(t, has(open(t, path), "/gone"))
}

func TestOpenHeldByAnotherStore(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	first := open(t, path)
	put(t, first, "/a")
	s := boltstore.Open(path, quiet, patient)
	defer s.Close()
	unavailable(t, s, boltstore.ErrLocked)
	require.NoError(t, first.Close())
	eventually(t, func() bool { return s.Err() == nil }, "taken over")
	require.True(t, has(s, "/a"))
}

// Two processes that create the file at once: one has it, the other waits for it.
func TestCreateAtOnce(t *testing.T) {
	path := dbPath(t)
	var stores []*boltstore.Store
	for range 6 {
		stores = append(stores, boltstore.Open(path, quiet))
	}
	has := 0
	for _, s := range stores {
		if err := s.Ping(bg); err == nil {
			has++
		} else {
			require.ErrorIs(t, err, boltstore.ErrLocked)
		}
	}
	require.Equal(t, 1, has)
	for _, s := range stores {
		require.NoError(t, s.Close())
	}
	list, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, list, 1)
}
