package memstore_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(_ testing.TB, o storetest.Options) accel.Store {
	return memstore.New(memstore.WithClock(o.Now), memstore.WithMaxSize(o.MaxSize))
}

func sweep(s accel.Store) { s.(*memstore.Store).Sweep() }

func TestStore(t *testing.T) { storetest.Run(t, open, storetest.WithSweep(sweep)) }

func BenchmarkStore(b *testing.B) { storetest.Bench(b, open) }

func TestHitAllocatesNothing(t *testing.T) {
	s := memstore.New()
	defer s.Close()
	ctx := context.Background()
	require.NoError(t, s.Invalidate(ctx, accel.TagMark("x")))
	at := s.Begin()
	defer s.End(at)
	e := storetest.Entry("/a", storetest.At(at), storetest.Tags("x"))
	require.NoError(t, s.Put(e, nil))
	get := func() {
		if _, err := s.Get(ctx, e.Key, nil); err != nil {
			t.Fatal(err)
		}
	}
	require.Zero(t, testing.AllocsPerRun(100, get))
	require.NoError(t, s.Invalidate(ctx, accel.TagMark("y")))
	require.Zero(t, testing.AllocsPerRun(100, get), "after an invalidation")
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = s.Get(ctx, accel.Key{}, nil) }), "a miss")
}

// What a look-up says of the time is the machine's: the caller need not look again.
func TestTheTimeOfALookUp(t *testing.T) {
	s := memstore.New()
	defer s.Close()
	at := s.Begin()
	defer s.End(at)
	e := storetest.Entry("/a", storetest.At(at))
	require.NoError(t, s.Put(e, nil))
	before := time.Now()
	found, err := s.Get(context.Background(), e.Key, nil)
	require.NoError(t, err)
	require.False(t, found.Now.Before(before))
	require.False(t, found.Now.After(time.Now()))
}

// The sweeper needs nobody to wake it.
func TestSweeperRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		defer s.Close()
		ctx := context.Background()
		at := s.Begin()
		soon, tagged, later := time.Now().Add(time.Second), time.Now().Add(time.Hour), time.Now().Add(time.Hour)
		require.NoError(t, s.Put(storetest.Entry("/soon", storetest.At(at), storetest.KeepUntil(soon)), nil))
		require.NoError(t, s.Put(storetest.Entry("/tagged", storetest.At(at), storetest.Tags("x"), storetest.KeepUntil(tagged)), nil))
		stay := storetest.Entry("/later", storetest.At(at), storetest.Tags("y"), storetest.KeepUntil(later))
		require.NoError(t, s.Put(stay, nil))
		require.NoError(t, s.Invalidate(ctx, accel.TagMark("x")))
		expired := time.Now()
		require.NoError(t, s.Expire(ctx, accel.TagMark("y")))
		s.End(at)
		require.EqualValues(t, 3, s.Stats().Entries)
		require.EqualValues(t, 2, s.Stats().Marks)

		time.Sleep(time.Minute) // in the bubble's time
		synctest.Wait()
		st := s.Stats()
		require.EqualValues(t, 1, st.Entries)
		require.EqualValues(t, 1, st.Expired)
		require.EqualValues(t, 1, st.Swept)
		require.Zero(t, st.Marks, "forgotten")

		found, err := s.Get(ctx, stay.Key, nil)
		require.NoError(t, err)
		require.True(t, found.StaleSince.Equal(expired), "the copy remembers what the mark said")
	})
}

// A bulk import invalidates more tags than there is room for. The store must
// not empty itself for that as long as the sweeper can keep up.
func TestManyInvalidationsEmptyNothing(t *testing.T) {
	s := memstore.New()
	defer s.Close()
	ctx := context.Background()
	at := s.Begin()
	e := storetest.Entry("/a", storetest.At(at), storetest.Tags("mine"))
	require.NoError(t, s.Put(e, nil))
	s.End(at)
	for i := range 100_000 {
		require.NoError(t, s.Invalidate(ctx, accel.TagMark(strconv.Itoa(i))))
		if i%10_000 == 0 {
			s.Sweep() // it would come by itself, but not while two cores are busy with tests
		}
	}
	_, err := s.Get(ctx, e.Key, nil)
	require.NoError(t, err)
	require.Less(t, s.Stats().Marks, int64(70_000))
}

func TestMaxSize(t *testing.T) {
	for _, size := range []int64{-1, 0} {
		s := memstore.New(memstore.WithMaxSize(size), memstore.WithClock(nil))
		at := s.Begin()
		require.NoError(t, s.Put(storetest.Entry("/a", storetest.At(at), storetest.Size(10<<20)), nil))
		require.ErrorIs(t, s.Put(storetest.Entry("/b", storetest.At(at), storetest.Size(memstore.DefaultMaxSize)), nil), accel.ErrTooLarge)
		s.End(at)
		require.NoError(t, s.Close())
	}
}

func TestNoMarksAreNoInvalidation(t *testing.T) {
	s := memstore.New()
	defer s.Close()
	before := s.Begin()
	require.NoError(t, s.Invalidate(context.Background()))
	require.NoError(t, s.Expire(context.Background()))
	require.Equal(t, before, s.Begin())
}

// Between memory and marks a look-up reads the clock. While it does, the sweeper
// removes the entry that was found, or notes on it that it is stale, and forgets
// the mark that says so.
func TestSweepBetweenMemoryAndMarks(t *testing.T) {
	ctx := context.Background()
	for name, mark := range map[string]func(*memstore.Store) error{
		"Invalidate": func(s *memstore.Store) error { return s.Invalidate(ctx, accel.TagMark("x")) },
		"Expire":     func(s *memstore.Store) error { return s.Expire(ctx, accel.TagMark("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			var meanwhile func()
			s := memstore.New(memstore.WithClock(func() time.Time {
				if f := meanwhile; f != nil {
					meanwhile = nil
					f()
				}
				return storetest.Start
			}))
			defer s.Close()
			at := s.Begin()
			e := storetest.Entry("/a", storetest.At(at), storetest.Tags("x"))
			require.NoError(t, s.Put(e, nil))
			s.End(at)
			meanwhile = func() {
				require.NoError(t, mark(s))
				s.Sweep()
				require.Zero(t, s.Stats().Marks)
			}
			found, err := s.Get(ctx, e.Key, nil)
			if name == "Expire" {
				require.NoError(t, err)
				require.True(t, found.StaleSince.Equal(storetest.Start))
			} else {
				require.ErrorIs(t, err, accel.ErrNotFound)
			}
		})
	}
}

// The sweeper goes its rounds as fast as it can while entries are looked up. A
// look-up reads the clock between memory and marks, and lets others go first there:
// it is the moment at which the sweeper would do harm.
func TestGetWhileMarksAreForgotten(t *testing.T) {
	s := memstore.New(memstore.WithClock(func() time.Time {
		runtime.Gosched()
		return time.Now()
	}))
	defer s.Close()
	ctx := context.Background()
	key := storetest.Key("/a", "")
	var acked atomic.Int64
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 8 {
		readers.Go(func() {
			for {
				least := acked.Load()
				if found, err := s.Get(ctx, key, nil); err == nil && found.Entry.Length < least {
					t.Errorf("version %d after %d was acknowledged", found.Entry.Length, least)
					return
				}
				select {
				case <-done:
					return
				default:
					runtime.Gosched() // nor do they keep the processors to themselves
				}
			}
		})
	}
	for v := range int64(5000) {
		at := s.Begin()
		e := storetest.Entry("/a", storetest.At(at), storetest.Tags("x"))
		e.Length = v
		require.NoError(t, s.Put(e, nil))
		s.End(at)
		require.NoError(t, s.Invalidate(ctx, accel.TagMark("x")))
		acked.Store(v + 1)
		s.Sweep()
	}
	close(done)
	readers.Wait()
}
