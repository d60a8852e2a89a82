package boltstore_test

import (
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

// A Put that falls asleep after it has looked at the file does not replace what was
// begun later, though that was written meanwhile, and is in memory no more.
func TestAPutThatWasAsleepReplacesNothingNewer(t *testing.T) {
	const url = "/a"
	newer := func(t *testing.T, s accel.Store) *accel.Entry {
		require.NoError(t, s.Invalidate(bg, accel.TagMark("other")))
		return put(t, s, url)
	}
	stays := func(t *testing.T, s accel.Store, e *accel.Entry) {
		flushed(t, s)
		found, err := s.Get(bg, e.Key, nil)
		require.NoError(t, err)
		require.Equal(t, e.At, found.Entry.At)
	}
	forgetful := boltstore.WithMemory(1) // as if all were evicted at once

	t.Run("it need not look", func(t *testing.T) {
		t.Parallel()
		s := open(t, dbPath(t), forgetful)
		at := s.Begin()
		defer s.End(at)
		wakes := s.Sleepy(storetest.Entry(url, storetest.At(at)), nil)
		e := newer(t, s)
		flushed(t, s)
		require.ErrorIs(t, wakes(), accel.ErrInvalidated)
		stays(t, s, e)
	})
	t.Run("the newer one is queued when it looks", func(t *testing.T) {
		t.Parallel()
		var held atomic.Bool
		gate := make(chan struct{})
		s := open(t, dbPath(t), forgetful, boltstore.WithFault(func(moment string) error {
			if moment == "commit" && held.Load() {
				<-gate
			}
			return nil
		}))
		at := s.Begin()
		defer s.End(at)
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		held.Store(true)
		e := put(t, s, url)
		wakes := s.Sleepy(storetest.Entry(url, storetest.At(at)), nil)
		close(gate)
		flushed(t, s)
		require.ErrorIs(t, wakes(), accel.ErrInvalidated)
		stays(t, s, e)
	})
	t.Run("it renews what the newer one replaces", func(t *testing.T) {
		t.Parallel()
		var held atomic.Bool
		gate := make(chan struct{})
		s := open(t, dbPath(t), forgetful, boltstore.WithFault(func(moment string) error {
			if moment == "commit" && held.Load() {
				<-gate
			}
			return nil
		}))
		old := put(t, s, url)
		flushed(t, s)
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		held.Store(true)
		e := put(t, s, url)
		wakes := s.Sleepy(storetest.Entry(url, storetest.At(e.At)), old)
		close(gate)
		flushed(t, s)
		require.ErrorIs(t, wakes(), accel.ErrInvalidated)
		stays(t, s, e)
	})
}
