package boltstore_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

// A step of the sweeper that finds no room has swept nothing: the next one begins
// where it began. Otherwise the mark would be forgotten while entries are left that
// it strikes.
func TestSweepStepThatFindsNoRoomIsDoneAgain(t *testing.T) {
	for name, invalidate := range map[string]func(s *boltstore.Store) error{
		"mark":  func(s *boltstore.Store) error { return s.Invalidate(bg, accel.TagMark("x")) },
		"floor": func(s *boltstore.Store) error { return s.Invalidate(bg, accel.MarkAll) },
	} {
		t.Run(name, func(t *testing.T) {
			const pages = 400 // several steps
			path := dbPath(t)
			var armed atomic.Bool
			var commits, failed atomic.Int32
			s := boltstore.Open(path, quiet, patient, boltstore.WithMemory(0), boltstore.WithFault(func(moment string) error {
				// The first commit writes the mark; every other one after it fails.
				if moment == "commit" && armed.Load() && commits.Add(1)%2 == 0 && failed.Load() < 10 {
					failed.Add(1)
					return fmt.Errorf("a test: %w", berrors.ErrMaxSizeReached)
				}
				return nil
			}))
			require.NoError(t, s.Ping(bg))
			for i := range pages {
				put(t, s, fmt.Sprint("/", i), storetest.Tags("x"))
			}
			flushed(t, s)
			armed.Store(true)
			require.NoError(t, invalidate(s))
			eventually(t, func() bool { return s.Stats().Swept == pages }, "everything is swept")
			require.Positive(t, failed.Load())
			require.NoError(t, s.Close())

			s = open(t, path)
			require.Zero(t, s.Stats().Entries)
			for i := range pages {
				require.False(t, has(s, fmt.Sprint("/", i)))
			}
		})
	}
}
