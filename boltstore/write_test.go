package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/format"
)

// The file keeps its bound, whatever is stored, and the newest entries are there.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		max     int64
		size, n int
		memory  int64
	}{
		{1 << 20, 500, 4000, 0},
		{4 << 20, 900, 8000, 64 << 20}, // everything fits into memory
		{4 << 20, 100, 10000, 0},
		{16 << 20, 20000, 2500, 1 << 20},
		{16 << 20, 3000, 10000, 1 << 20},
	} {
		t.Run(fmt.Sprintf("%d MiB of %d bytes", c.max>>20, c.size), func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			s := open(t, path, boltstore.WithMaxSize(c.max), boltstore.WithMemory(c.memory))
			for i := range c.n {
				flushedBelow(t, s, 1<<20)
				put(t, s, damageURL(i), storetest.Tags(damageTag(i), fmt.Sprint("n", i%1000)),
					storetest.Text(body(damageURL(i), 1, c.size/2+i%c.size)))
			}
			flushed(t, s)
			st := s.Stats()
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.LessOrEqual(t, info.Size(), c.max)
			require.LessOrEqual(t, st.Bytes, c.max)
			require.NotZero(t, st.Evicted)
			require.LessOrEqual(t, st.WriteErrors, uint64(20), "a full file is an accident")
			require.Empty(t, aside(path))
			require.Greater(t, st.Bytes, c.max/10, "there is something left of it")
			for i := c.n - 20; i < c.n; i++ {
				require.True(t, has(s, damageURL(i)), "the newest are there: %d of %d", i, c.n)
			}
			require.NoError(t, s.Invalidate(bg, accel.TagMark(damageTag(c.n-1))))
			require.False(t, has(s, damageURL(c.n-1)))
			t.Logf("%d entries, %d bytes of them, file %d, %d write errors, %d dropped", st.Entries, st.Bytes, st.FileBytes, st.WriteErrors, st.Dropped)
		})
	}
}

// The budget that a file turned out to need is remembered, and opening it again
// does not lower it. (It once did: a file that is large was taken for one that
// grows.)
func TestBudgetPersists(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	max := boltstore.WithMaxSize(1 << 20)
	s := open(t, path, max, boltstore.WithMemory(0))
	more := func(s *boltstore.Store, from, n int) {
		for i := range n {
			put(t, s, damageURL(from+i), storetest.Tags(damageTag(i), fmt.Sprint("n", i%1000)), storetest.Size(100+i%500))
			flushedBelow(t, s, 512<<10)
		}
		flushed(t, s)
	}
	for from := 0; s.Stats().FileBytes < 900<<10; from += 1000 {
		require.Less(t, from, 20000)
		more(s, from, 1000)
	}
	require.NoError(t, s.Close())
	db, err := bolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	var budget int64
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		budget = int64(tx.Meta().Budget)
		return err
	}))
	require.NoError(t, db.Close())
	require.Less(t, budget, int64(600))
	for range 8 {
		s = open(t, path, max, boltstore.WithMemory(0))
		require.InDelta(t, budget, s.Budget(), 1)
		require.NoError(t, s.Close())
	}
	for range 8 {
		s = open(t, path, max, boltstore.WithMemory(0))
		more(s, 60000, 20)
		require.NoError(t, s.Close())
	}
	require.Greater(t, open(t, path, max).Budget(), budget*8/10)
}

// What is used survives eviction, be it read from the file or from memory.
func TestEvictionSparesWhatIsUsed(t *testing.T) {
	t.Parallel()
	for _, memory := range []int64{0, 8 << 20} {
		s := open(t, dbPath(t), boltstore.WithMaxSize(2<<20), boltstore.WithMemory(memory))
		const hot = 30
		for i := range hot {
			put(t, s, fmt.Sprint("/hot/", i), storetest.Size(1000))
		}
		flushed(t, s)
		for i := range 6000 {
			put(t, s, damageURL(i), storetest.Size(1000))
			flushedBelow(t, s, 512<<10)
			has(s, fmt.Sprint("/hot/", i%hot))
		}
		flushed(t, s)
		require.NotZero(t, s.Stats().Evicted)
		kept := 0
		for i := range hot {
			if has(s, fmt.Sprint("/hot/", i)) {
				kept++
			}
		}
		require.GreaterOrEqual(t, kept, hot*9/10, "memory %d", memory)
	}
}

// When everything is used all the time, somebody has to go all the same.
func TestEvictionEndsWhenEverythingIsUsed(t *testing.T) {
	t.Parallel()
	s := open(t, dbPath(t), boltstore.WithMaxSize(1<<20), boltstore.WithMemory(8<<20))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				has(s, damageURL(i%3000))
			}
		}
	})
	for i := range 3000 {
		put(t, s, damageURL(i), storetest.Size(1000))
		flushedBelow(t, s, 512<<10)
	}
	eventually(t, func() bool { return s.Stats().Evicted > 1000 }, "evicted")
	close(stop)
	wg.Wait()
	flushed(t, s)
	require.LessOrEqual(t, s.Stats().FileBytes, int64(1<<20))
}

// Space of what has expired comes back without being asked for.
func TestSweepExpired(t *testing.T) {
	t.Parallel()
	clock := storetest.NewClock()
	s := open(t, dbPath(t), boltstore.WithClock(clock.Now))
	for i := range 500 {
		put(t, s, damageURL(i), storetest.Tags("x"), storetest.KeepUntil(storetest.Start.Add(time.Duration(1+i%2)*time.Hour)))
	}
	flushed(t, s)
	require.EqualValues(t, 500, s.Stats().Entries)
	clock.Advance(time.Hour + time.Second)
	eventually(t, func() bool { return s.Stats().Entries == 250 }, "half of them")
	require.EqualValues(t, 250, s.Stats().Expired)
	clock.Advance(time.Hour)
	eventually(t, func() bool { return s.Stats().Entries == 0 }, "all of them")
	require.Zero(t, s.Stats().Bytes)
	file := s.Stats().FileBytes
	for i := range 500 {
		put(t, s, fmt.Sprint("/again/", i), storetest.KeepUntil(storetest.Start.Add(10*time.Hour)))
	}
	flushed(t, s)
	require.LessOrEqual(t, s.Stats().FileBytes, file, "the space is used again")
}

func TestSweepMarks(t *testing.T) {
	t.Parallel()
	s := open(t, dbPath(t))
	for i := range 1000 {
		put(t, s, damageURL(i), storetest.Tags(damageTag(i)))
	}
	flushed(t, s)
	require.NoError(t, s.Invalidate(bg, accel.TagMark("tag1"), accel.TagMark("tag2")))
	require.NoError(t, s.Invalidate(bg, storetest.URLMark(damageURL(0))))
	eventually(t, func() bool { return s.Stats().Entries == 799 && s.Stats().Marks == 0 }, "swept and forgotten")
	require.EqualValues(t, 201, s.Stats().Swept)
	require.NoError(t, s.Invalidate(bg, accel.MarkAll))
	eventually(t, func() bool { return s.Stats().Entries == 0 }, "swept")
}

// An invalidation in the wake of another does not keep the rest from being done:
// what is queued is written, and what is struck is swept.
func TestInvalidationsDoNotStarveTheWriter(t *testing.T) {
	t.Parallel()
	s := open(t, dbPath(t))
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				// Each has something to write.
				tag := fmt.Sprint("t", g)
				at := s.Begin()
				s.Put(storetest.Entry(fmt.Sprint("/", g), storetest.At(at), storetest.Tags(tag)), nil)
				s.End(at)
				if err := s.Invalidate(bg, accel.TagMark(tag)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 200 {
		put(t, s, damageURL(i), storetest.Tags("struck"))
	}
	eventually(t, func() bool { return s.Stats().Entries >= 200 }, "written")
	require.NoError(t, s.Invalidate(bg, accel.TagMark("struck")))
	eventually(t, func() bool { return s.Stats().Entries < 20 }, "swept")
	close(stop)
	wg.Wait()
}

// Where a commit takes longer than the sweeper waits for its turn, it is not the
// sweeper's all the time.
func TestInvalidationsOnASlowDiskDoNotStarveTheFlush(t *testing.T) {
	t.Parallel()
	var slow atomic.Bool
	s := open(t, dbPath(t), boltstore.WithFault(func(moment string) error {
		if moment == "commit" && slow.Load() {
			<-time.After(12 * time.Millisecond)
		}
		return nil
	}))
	const tags = 2000
	for i := range tags {
		put(t, s, fmt.Sprint("/old/", i), storetest.Tags(fmt.Sprint(i)))
	}
	flushed(t, s)
	slow.Store(true)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := next.Add(1); i <= tags; i = next.Add(1) {
				if err := s.Invalidate(bg, accel.TagMark(fmt.Sprint(i-1))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	eventually(t, func() bool { return next.Load() > 20 }, "invalidating")
	put(t, s, "/new")
	eventually(t, func() bool { return s.Stats().QueueBytes == 0 }, "flushed")
	require.Less(t, next.Load(), int64(tags), "while invalidations come")
	slow.Store(false)
	wg.Wait()
}

func TestCloseFlushes(t *testing.T) {
	path := dbPath(t)
	for round := range 5 {
		s := open(t, path)
		for i := range 700 {
			put(t, s, damageURL(i), storetest.Text(body(damageURL(i), round, 100)))
		}
		require.NoError(t, s.Close())
		s = open(t, path, boltstore.WithMemory(0))
		for i := range 700 {
			found, err := s.Get(bg, storetest.Key(damageURL(i), ""), nil)
			require.NoError(t, err)
			version, err := checkBody(damageURL(i), found.Entry)
			require.NoError(t, err)
			require.Equal(t, round, version)
		}
		require.NoError(t, s.Close())
	}
}

func TestAfterClose(t *testing.T) {
	s := open(t, dbPath(t))
	e := put(t, s, "/a")
	at := s.Begin()
	require.NoError(t, s.Close())
	_, err := s.Get(bg, e.Key, nil)
	require.ErrorIs(t, err, accel.ErrClosed)
	require.ErrorIs(t, s.Put(e, nil), accel.ErrClosed)
	require.ErrorIs(t, s.Delete(e), accel.ErrClosed)
	require.ErrorIs(t, s.Invalidate(bg, accel.MarkAll), accel.ErrClosed)
	require.ErrorIs(t, s.Expire(bg, accel.MarkAll), accel.ErrClosed)
	require.ErrorIs(t, s.Err(), accel.ErrClosed)
	require.ErrorIs(t, s.Ping(bg), accel.ErrClosed)
	require.False(t, s.Valid(at, nil))
	s.End(at)
	require.Equal(t, accel.Position{}, s.Begin())
	require.NoError(t, s.Close())
	s.Stats()
}

func TestCloseUnderLoad(t *testing.T) {
	path := dbPath(t)
	for range rounds(15, 300) {
		s := boltstore.Open(path, quiet)
		var wg sync.WaitGroup
		for g := range 6 {
			wg.Go(func() {
				for i := 0; ; i++ {
					at := s.Begin()
					err := s.Put(storetest.Entry(damageURL(i%100), storetest.At(at), storetest.Tags(damageTag(g))), nil)
					s.End(at)
					if errors.Is(err, accel.ErrClosed) {
						return
					}
					s.Get(bg, storetest.Key(damageURL(i%70), ""), nil)
					if g == 0 {
						s.Invalidate(bg, accel.TagMark(damageTag(i)))
					}
					s.Stats()
				}
			})
		}
		if s.Ping(bg) == nil {
			eventually(t, func() bool { return s.Stats().Stored > 50 }, "some load")
		}
		require.NoError(t, s.Close())
		wg.Wait()
		require.Empty(t, aside(path))
	}
}

// A disk that does not answer costs a look-up some tens of milliseconds; when that
// repeats, the disk is left alone for a while, and tried again.
func TestASlowDiskIsAMiss(t *testing.T) {
	t.Parallel()
	var block atomic.Pointer[chan struct{}]
	s := boltstore.Open(dbPath(t), quiet, boltstore.WithMemory(0), boltstore.WithReadHook(func() {
		if c := block.Load(); c != nil {
			<-*c
		}
	}))
	defer s.Close()
	require.NoError(t, s.Ping(bg))
	put(t, s, "/a")
	flushed(t, s)
	eventually(t, func() bool { return has(s, "/a") }, "read")

	c := make(chan struct{})
	block.Store(&c)
	look := func() time.Duration {
		start := time.Now()
		_, err := s.Get(bg, storetest.Key("/a", ""), nil)
		require.Error(t, err)
		require.NotErrorIs(t, err, accel.ErrNotFound)
		return time.Since(start)
	}
	errors := s.Stats().ReadErrors
	for range 3 {
		require.InDelta(t, 50, look().Milliseconds(), 45)
	}
	require.Equal(t, errors+3, s.Stats().ReadErrors)
	for range 10 {
		require.Less(t, look(), 20*time.Millisecond, "the disk is not asked")
	}
	// A client that leaves sooner waits no longer.
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err := s.Get(ctx, storetest.Key("/a", ""), nil)
	require.Error(t, err)
	// Stores and invalidations go on meanwhile.
	put(t, s, "/b", storetest.Tags("x"))
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x")))

	block.Store(nil)
	close(c)
	eventually(t, func() bool { return has(s, "/a") }, "read again")
}

func TestStats(t *testing.T) {
	clock := storetest.NewClock()
	s := open(t, dbPath(t), boltstore.WithClock(clock.Now))
	for i := range 10 {
		put(t, s, damageURL(i), storetest.Tags("x"))
	}
	put(t, s, damageURL(0), storetest.Tags("y"))
	flushed(t, s)
	require.NoError(t, s.Delete(put(t, s, "/deleted")))
	flushed(t, s)
	at := s.Begin()
	st := s.Stats()
	require.EqualValues(t, 10, st.Entries)
	require.EqualValues(t, 10, st.MemoryEntries)
	require.EqualValues(t, 12, st.Stored)
	require.EqualValues(t, 1, st.InFlight)
	require.NotZero(t, st.Bytes)
	require.NotZero(t, st.FileBytes)
	s.End(at)
	require.NoError(t, s.Invalidate(bg, accel.TagMark("x"), accel.TagMark("z")))
	require.EqualValues(t, 2, s.Stats().Invalidated)
	require.ErrorIs(t, s.Put(storetest.Entry("/late", storetest.At(at), storetest.Tags("x")), nil), accel.ErrInvalidated)
	require.EqualValues(t, 1, s.Stats().Refused)
	eventually(t, func() bool { return s.Stats().Entries == 1 }, "swept")
	st = s.Stats()
	require.EqualValues(t, 9, st.Swept)
	require.Zero(t, st.WriteErrors+st.ReadErrors+st.Dropped+st.SetAside)
}

// Rule 10 has no exception for evicting: a write error of the eviction that
// follows a flush was swallowed once, and the handle used on.
func TestEvictionErrorAbandonsTheFile(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	var armed atomic.Bool
	var commits atomic.Int64
	s := open(t, path, boltstore.WithMaxSize(1<<20), boltstore.WithFault(func(moment string) error {
		// The first commit is a flush that leaves too much in the file.
		if moment == "committed" && armed.Load() && commits.Add(1) == 2 {
			return errDisk
		}
		return nil
	}))
	for i := 0; s.Stats().Evicted == 0; i++ {
		put(t, s, fmt.Sprint("/", i), storetest.Size(4000))
		flushedBelow(t, s, 64<<10)
	}
	flushed(t, s)
	armed.Store(true)
	for i := range 30 { // less than a flush is due at, more than there is room for
		put(t, s, fmt.Sprint("/more/", i), storetest.Size(4000))
	}
	eventually(t, func() bool { return len(aside(path)) == 1 }, "set aside")
}

// What is on its way from the queue to the file is counted once: it was twice, for as long
// as it was in both.
func TestStatsCountEachEntryOnce(t *testing.T) {
	s := open(t, dbPath(t))
	var begun, done atomic.Int64
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for {
			least := done.Load()
			n := s.Stats().Entries
			if most := begun.Load(); n < least || n > most {
				t.Errorf("%d entries, of %d to %d", n, least, most)
				return
			}
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	for i := range 2_000 {
		begun.Add(1)
		put(t, s, fmt.Sprint("/", i))
		done.Add(1)
		if i%500 == 0 {
			flushed(t, s)
		}
	}
	flushed(t, s)
	close(stop)
	wg.Wait()
	require.EqualValues(t, 2_000, s.Stats().Entries)
}
