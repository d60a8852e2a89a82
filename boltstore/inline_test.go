package boltstore_test

import (
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

// A hook is called when something was read in line, once.
type hook struct{ fn atomic.Pointer[func()] }

func (h *hook) call() {
	if fn := h.fn.Swap(nil); fn != nil {
		(*fn)()
	}
}

// inLine returns a store without a memory tier, that has /a on disk and nothing read yet.
func inLine(t *testing.T) (s *boltstore.Store, h *hook, path string) {
	if !boltstore.MapAhead {
		t.Skip("nothing is read in line here")
	}
	h, path = &hook{}, dbPath(t)
	s = open(t, path, boltstore.WithMemory(0), boltstore.WithReadInLine(h.call))
	put(t, s, "/a", storetest.Tags("x"))
	flushed(t, s)
	return s, h, path
}

// What nobody has read is read by a reader, because it may have to be waited for; what
// was read a moment ago in line.
func TestReadInLine(t *testing.T) {
	s, h, _ := inLine(t)
	var in atomic.Bool
	fn := func() { in.Store(true) }
	h.fn.Store(&fn)
	first, err := s.Get(bg, storetest.Key("/a", ""), nil)
	require.NoError(t, err)
	require.False(t, in.Load(), "who asks first")
	for !in.Load() { // a moment may be over before this goroutine goes on
		again, err := s.Get(bg, storetest.Key("/a", ""), nil)
		require.NoError(t, err)
		require.Empty(t, storetest.Diff(first.Entry, again.Entry))
	}
	in.Store(false)
	h.fn.Store(&fn)
	for !in.Load() {
		require.False(t, has(s, "/b"))
	}
}

// bbolt writes over the pages of a state that is not the last: what is read of them while
// it does is not believed.
func TestAReadInLineThatIsOvertaken(t *testing.T) {
	s, h, _ := inLine(t)
	var overtaken bool
	fn := func() {
		overtaken = true
		for range 2 {
			put(t, s, "/a", storetest.Tags("y"))
			flushed(t, s)
		}
	}
	h.fn.Store(&fn)
	for !overtaken {
		found, err := s.Get(bg, storetest.Key("/a", ""), nil)
		require.NoError(t, err)
		if overtaken {
			require.Equal(t, []string{"y"}, found.Entry.Tags)
		}
	}
}

// An older state that is written over the file has what was invalidated, swept and
// forgotten since.
func TestAnOlderStateIsNotReadInLine(t *testing.T) {
	s, _, path := inLine(t)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	forget(t, s)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	require.False(t, has(s, "/a"))
	require.False(t, has(s, "/a"))
	_, err = f.WriteAt(b, 0)
	require.NoError(t, err)
	require.False(t, has(s, "/a"))
	eventually(t, func() bool { return len(aside(path)) == 1 && s.Err() == nil }, "set aside")
}

// The mapping stays for as long as somebody reads it in line.
func TestCloseWaitsForWhoReadsInLine(t *testing.T) {
	s, h, _ := inLine(t)
	closed := make(chan error, 1)
	var read bool
	fn := func() {
		read = true
		go func() { closed <- s.Close() }()
		select {
		case <-closed:
			require.Fail(t, "closed under a reader")
		case <-time.After(100 * time.Millisecond):
		}
	}
	h.fn.Store(&fn)
	for !read {
		has(s, "/a")
	}
	require.NoError(t, <-closed)
}
