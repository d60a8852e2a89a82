package boltstore_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

func TestMain(m *testing.M) {
	faults.Main(func() { goleak.VerifyTestMain(m) })
}

var quiet = boltstore.WithLogger(slog.New(slog.DiscardHandler))

// law runs the shared suite on stores opened with the options.
func law(t *testing.T, opts ...boltstore.Option) {
	type made struct {
		path string
		opts []boltstore.Option
	}
	all := map[accel.Store]made{}
	open := func(t testing.TB, m made) accel.Store {
		s := boltstore.Open(m.path, m.opts...)
		require.NoError(t, s.Ping(context.Background()))
		all[s] = m
		return s
	}
	storetest.Run(t, func(t testing.TB, o storetest.Options) accel.Store {
		return open(t, made{filepath.Join(t.TempDir(), "cache.db"),
			append([]boltstore.Option{quiet, boltstore.WithClock(o.Now), boltstore.WithMaxSize(o.MaxSize), boltstore.WithReadBudget(time.Minute)}, opts...)})
	}, storetest.WithReopen(func(t testing.TB, s accel.Store) accel.Store {
		require.NoError(t, s.Close())
		return open(t, all[s])
	}))
}

func TestLaw(t *testing.T) {
	t.Parallel()
	law(t)
}

// Without a memory tier every look-up goes to the queue or to the file.
func TestLawWithoutMemory(t *testing.T) {
	t.Parallel()
	law(t, boltstore.WithMemory(0))
}

// What a look-up says of the time is the machine's: the caller need not look again.
func TestTheTimeOfALookUp(t *testing.T) {
	t.Parallel()
	for _, memory := range []int64{0, 1 << 20} {
		s := open(t, dbPath(t), boltstore.WithMemory(memory))
		e := put(t, s, "/a")
		for range 2 { // queued, or in memory; on disk
			before := time.Now()
			found, err := s.Get(bg, e.Key, nil)
			require.NoError(t, err)
			require.False(t, found.Now.Before(before))
			require.False(t, found.Now.After(time.Now()))
			flushed(t, s)
		}
	}
}
