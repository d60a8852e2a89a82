package boltstore_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

var forgetful = boltstore.WithMemory(1) // as if all were evicted at once

// openHeld returns a store whose writer can be held before it commits.
func openHeld(t *testing.T) (s *boltstore.Store, hold func() (letGo func())) {
	var gate atomic.Pointer[chan struct{}]
	s = open(t, dbPath(t), forgetful, boltstore.WithFault(func(moment string) error {
		if g := gate.Load(); g != nil && moment == "commit" {
			<-*g
		}
		return nil
	}))
	return s, func() func() {
		g := make(chan struct{})
		gate.Store(&g)
		letGo := sync.OnceFunc(func() { gate.Store(nil); close(g) })
		t.Cleanup(letGo) // before the store is closed
		return letGo
	}
}

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
		s, hold := openHeld(t)
		at := s.Begin()
		defer s.End(at)
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		letGo := hold()
		e := put(t, s, url)
		wakes := s.Sleepy(storetest.Entry(url, storetest.At(at)), nil)
		letGo()
		flushed(t, s)
		require.ErrorIs(t, wakes(), accel.ErrInvalidated)
		stays(t, s, e)
	})
	t.Run("it renews what the newer one replaces", func(t *testing.T) {
		t.Parallel()
		s, hold := openHeld(t)
		old := put(t, s, url)
		flushed(t, s)
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		letGo := hold()
		e := put(t, s, url)
		wakes := s.Sleepy(storetest.Entry(url, storetest.At(e.At)), old)
		letGo()
		flushed(t, s)
		require.ErrorIs(t, wakes(), accel.ErrInvalidated)
		stays(t, s, e)
	})
}

// What is on its way to the disk hides what it replaces there, and nothing else: a
// higher position stays. (Another variant of the page that was on its way once hid it.)
func TestAHigherPositionStaysBesideWhatIsQueued(t *testing.T) {
	const url = "/a"
	lang := func(value string, vary ...string) []storetest.EntryOption {
		return []storetest.EntryOption{storetest.Vary(vary...), storetest.Variant(value)}
	}
	stays := func(t *testing.T, s accel.Store, e *accel.Entry) {
		found, err := s.Get(bg, e.Key, e.Vary)
		require.NoError(t, err)
		require.Equal(t, e.At, found.Entry.At)
	}
	old := func(t *testing.T, s accel.Store, value string, vary ...string) func() error {
		at := s.Begin()
		t.Cleanup(func() { s.End(at) })
		e := storetest.Entry(url, append(lang(value, vary...), storetest.At(at))...)
		return func() error { return s.Put(e, nil) }
	}
	t.Run("of another variant", func(t *testing.T) {
		t.Parallel()
		s, hold := openHeld(t)
		late := old(t, s, "en", "Accept-Language")
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		e := put(t, s, url, lang("en", "Accept-Language")...)
		flushed(t, s)
		letGo := hold()
		put(t, s, url, lang("de", "Accept-Language")...)
		require.ErrorIs(t, late(), accel.ErrInvalidated)
		stays(t, s, e)
		letGo()
		flushed(t, s)
		stays(t, s, e)
	})
	t.Run("under other names, on disk", func(t *testing.T) {
		t.Parallel()
		s, hold := openHeld(t)
		late := old(t, s, "x", "User-Agent")
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		e := put(t, s, url, lang("en", "Accept-Language")...)
		flushed(t, s)
		letGo := hold()
		put(t, s, url, lang("de", "Accept-Language")...)
		require.ErrorIs(t, late(), accel.ErrInvalidated)
		letGo()
		flushed(t, s)
		stays(t, s, e)
	})
	t.Run("under other names, on its way too", func(t *testing.T) {
		t.Parallel()
		s, hold := openHeld(t)
		late := old(t, s, "x", "User-Agent")
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		letGo := hold()
		e := put(t, s, url, lang("en", "Accept-Language")...)
		require.ErrorIs(t, late(), accel.ErrInvalidated)
		letGo()
		flushed(t, s)
		stays(t, s, e)
	})
	t.Run("but not what goes in any case", func(t *testing.T) {
		t.Parallel()
		s, hold := openHeld(t)
		late := old(t, s, "en", "Accept-Language")
		require.NoError(t, s.Invalidate(bg, accel.TagMark("another")))
		e := put(t, s, url, lang("en", "Accept-Language")...)
		flushed(t, s)
		letGo := hold()
		require.NoError(t, s.Delete(e))
		require.NoError(t, late())
		letGo()
		flushed(t, s)
		found, err := s.Get(bg, e.Key, e.Vary)
		require.NoError(t, err)
		require.Less(t, found.Entry.At.N, e.At.N)
	})
}
