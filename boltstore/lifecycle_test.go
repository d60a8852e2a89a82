package boltstore_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

// closes closes a store and fails the test if that does not come to an end.
func closes(t testing.TB, s *boltstore.Store) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- s.Close() }()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		stacks := make([]byte, 1<<20)
		t.Fatalf("Close hangs\n%s", stacks[:runtime.Stack(stacks, true)])
		return nil
	}
}

// A path whose directory appears, or whose obstacle goes, is opened then, without
// being asked again; until then the store says what is wrong.
func TestOpenedWhenThePathIsMended(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil, mend func(dir string) error
		is          error
	}{
		"the directory appears": {
			func(dir string) error { return os.Remove(dir) },
			func(dir string) error { return os.Mkdir(dir, 0o700) }, os.ErrNotExist,
		},
		"a directory stood at the path": {
			func(dir string) error { return os.Mkdir(filepath.Join(dir, "cache.db"), 0o700) },
			func(dir string) error { return os.Remove(filepath.Join(dir, "cache.db")) }, boltstore.ErrForeign,
		},
		"another's file stood at the path": {
			func(dir string) error {
				return os.WriteFile(filepath.Join(dir, "cache.db"), []byte("Dear diary\n"), 0o600)
			},
			func(dir string) error { return os.Remove(filepath.Join(dir, "cache.db")) }, boltstore.ErrForeign,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			require.NoError(t, os.Mkdir(dir, 0o700))
			require.NoError(t, c.spoil(dir))
			s := boltstore.Open(filepath.Join(dir, "cache.db"), quiet, patient)
			defer s.Close()
			unavailable(t, s, c.is)
			if errors.Is(c.is, os.ErrNotExist) {
				require.NoDirExists(t, dir, "a directory is not for the store to make")
			}
			require.NoError(t, c.mend(dir))
			eventually(t, func() bool { return s.Err() == nil }, "opened after all")
			put(t, s, "/a", storetest.Tags("a"))
			require.NoError(t, s.Invalidate(bg, accel.TagMark("a")))
			require.False(t, has(s, "/a"))
			require.NoError(t, closes(t, s))
		})
	}
}

// Close at any moment of opening and of the first work: it comes to an end, and
// what it leaves is nothing, or a whole file that knows each purge it has confirmed.
func TestCloseAtAnyMomentOfOpening(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "cache.db")
	var opened, early int
	for round := range rounds(40, 1000) {
		s := boltstore.Open(path, quiet, patient)
		var work sync.WaitGroup
		work.Go(func() {
			if err := s.Ping(bg); err != nil && !errors.Is(err, accel.ErrClosed) && !errors.Is(err, accel.ErrUnavailable) {
				t.Errorf("Ping: %v", err)
			}
		})
		purged := make(chan bool, 1)
		work.Go(func() {
			at := s.Begin()
			err := s.Put(storetest.Entry("/a", storetest.At(at), storetest.Tags("a")), nil)
			s.End(at)
			if err != nil && !errors.Is(err, accel.ErrUnavailable) && !errors.Is(err, accel.ErrClosed) && !errors.Is(err, accel.ErrInvalidated) {
				t.Errorf("Put: %v", err)
			}
			err = s.Invalidate(bg, accel.TagMark("a"))
			if err != nil && !errors.Is(err, accel.ErrClosed) {
				t.Errorf("Invalidate: %v", err)
			}
			purged <- err == nil
		})
		// Any moment: from at once to when it is open and at work.
		for range rand.IntN(2000) {
			runtime.Gosched()
		}
		if s.Err() == nil {
			opened++
		} else {
			early++
		}
		require.NoError(t, closes(t, s))
		work.Wait()
		for _, name := range names(t, dir) {
			require.Equal(t, "cache.db", name, "round %d", round)
		}
		if <-purged {
			next := open(t, path)
			require.False(t, has(next, "/a"), "round %d", round)
			require.Zero(t, next.Stats().SetAside)
			require.NoError(t, next.Close())
		}
		if round%4 == 0 {
			os.Remove(path)
		}
	}
	t.Logf("closed before it was open %d times, after it %d times", early, opened)
}

func names(t testing.TB, dir string) (list []string) {
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// Close while another has the file, and callers wait or come: each has its answer.
func TestCloseWhileHeldUnderLoad(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	first := open(t, path)
	put(t, first, "/a", storetest.Tags("a"))
	for range rounds(5, 100) {
		s := boltstore.Open(path, quiet)
		quit := make(chan struct{})
		var work sync.WaitGroup
		asked := make(chan struct{}, 1)
		for range 3 {
			work.Go(func() {
				for {
					if _, err := s.Get(bg, storetest.Key("/a", ""), nil); !errors.Is(err, accel.ErrUnavailable) && !errors.Is(err, accel.ErrClosed) {
						t.Errorf("Get: %v", err)
					}
					if err := s.Invalidate(bg, accel.TagMark("a")); !errors.Is(err, accel.ErrNotDurable) && !errors.Is(err, accel.ErrClosed) {
						t.Errorf("Invalidate: %v", err)
					}
					select {
					case asked <- struct{}{}:
					default:
					}
					select {
					case <-quit:
						return
					default:
					}
				}
			})
		}
		<-asked
		require.NoError(t, closes(t, s))
		close(quit)
		work.Wait()
		require.ErrorIs(t, s.Err(), accel.ErrClosed)
	}
	require.NoError(t, first.Err())
	require.True(t, has(first, "/a"), "what was refused here has purged nothing there")
	put(t, first, "/b")
	require.Equal(t, []string{"cache.db"}, names(t, filepath.Dir(path)))
}

// A disk that does not answer any more: Close gives up after a while and says so,
// everybody who waits has an answer, and nobody else gets the file as long as the
// writer may come back.
func TestCloseWhileAWriterHangs(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	armed, hung, answers := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var once, free sync.Once
	answer := func() { free.Do(func() { close(answers) }) }
	s := boltstore.Open(path, quiet, patient, boltstore.WithHang(300*time.Millisecond), boltstore.WithFault(func(moment string) error {
		select {
		case <-armed:
			if moment == "commit" {
				once.Do(func() { close(hung) })
				<-answers
			}
		default:
		}
		return nil
	}))
	t.Cleanup(answer)
	require.NoError(t, s.Ping(bg))
	put(t, s, "/written", storetest.Tags("a"))
	flushed(t, s)
	close(armed)
	purged := make(chan error, 2)
	go func() { purged <- s.Invalidate(bg, accel.TagMark("a")) }()
	<-hung
	// One that the writer is at, and one that waits for it.
	eventually(t, func() bool { return !has(s, "/written") }, "it holds in memory, and nothing waits")
	go func() { purged <- s.Invalidate(bg, accel.TagMark("b")) }()
	put(t, s, "/queued")
	require.True(t, has(s, "/queued"))
	eventually(t, func() bool { return s.Stats().Invalidated == 2 }, "the second is made")

	require.ErrorContains(t, closes(t, s), "does not answer")
	require.ErrorIs(t, <-purged, accel.ErrClosed)
	require.ErrorIs(t, <-purged, accel.ErrClosed)
	require.NoError(t, closes(t, s), "a second Close")
	require.ErrorIs(t, s.Invalidate(bg, accel.TagMark("a")), accel.ErrClosed)
	require.ErrorIs(t, s.Err(), accel.ErrClosed)

	next := boltstore.Open(path, quiet, patient)
	defer next.Close()
	require.ErrorIs(t, next.Ping(bg), boltstore.ErrLocked)
	answer()
	eventually(t, func() bool { return next.Err() == nil }, "the file is let go")
	require.False(t, has(next, "/written"), "its purge was on its way, and was carried out")
	require.True(t, has(next, "/queued"), "what was accepted was written when the disk answered")
	require.NoError(t, closes(t, next))
	require.Empty(t, aside(path))
}

// What is slow is not taken for hung: Close waits for a queue that is written bit
// by bit, however long that takes.
func TestCloseWaitsForASlowDisk(t *testing.T) {
	t.Parallel()
	const hang, each, entries = time.Second, 200 * time.Millisecond, 8
	path := dbPath(t)
	var slow atomic.Bool
	var last time.Time // of the writer alone, until it has ended
	var longest time.Duration
	commits := 0
	opts := []boltstore.Option{quiet, patient, boltstore.WithMaxSize(4 << 20)}
	s := boltstore.Open(path, append(opts, boltstore.WithHang(hang), boltstore.WithFault(func(moment string) error {
		if slow.Load() && moment == "commit" {
			if commits++; commits > 1 {
				longest = max(longest, time.Since(last))
			}
			<-time.After(each) // this is the disk
			last = time.Now()
		}
		return nil
	}))...)
	require.NoError(t, s.Ping(bg))
	slow.Store(true)
	for i := range entries {
		// One fills a transaction.
		put(t, s, fmt.Sprint("/", i), storetest.Text(body("x", i, 250_000)))
	}
	start := time.Now()
	err := closes(t, s)
	if longest > hang/2 {
		t.Skip("this machine takes longer for one transaction than the test for all: ", longest)
	}
	require.NoError(t, err)
	require.GreaterOrEqual(t, commits, entries)
	require.Greater(t, time.Since(start), hang)
	next := open(t, path, opts...)
	for i := range entries {
		require.True(t, has(next, fmt.Sprint("/", i)))
	}
}
