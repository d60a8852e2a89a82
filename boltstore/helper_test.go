package boltstore_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

// rounds is how often a fault is tried: short in every run, full where asked for.
func rounds(short, full int) int { return faults.Rounds(short, short, full) }

var bg = context.Background()

// patient lets look-ups wait for a machine that is busy with other tests.
var patient = boltstore.WithReadBudget(30 * time.Second)

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "cache.db") }

// open returns a store that has its file, and closes it at the end.
func open(t testing.TB, path string, opts ...boltstore.Option) *boltstore.Store {
	s := boltstore.Open(path, append([]boltstore.Option{quiet, patient}, opts...)...)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Ping(bg))
	return s
}

// put stores an entry begun now.
func put(t testing.TB, s accel.Store, url string, opts ...storetest.EntryOption) *accel.Entry {
	at := s.Begin()
	defer s.End(at)
	e := storetest.Entry(url, append([]storetest.EntryOption{storetest.At(at)}, opts...)...)
	require.NoError(t, s.Put(e, nil))
	return e
}

func has(s accel.Store, url string) bool {
	_, err := s.Get(bg, storetest.Key(url, ""), nil)
	return err == nil
}

// flushed waits until nothing is queued.
func flushed(t testing.TB, s accel.Store) {
	eventually(t, func() bool { return s.Stats().QueueBytes == 0 }, "the queue is written")
}

func eventually(t testing.TB, cond func() bool, what string) {
	require.Eventually(t, cond, 20*time.Second, 2*time.Millisecond, what)
}

// body is a text of about n bytes that says whose it is, so that a wrong byte or
// somebody else's text is known without remembering any.
func body(url string, version, n int) string {
	line := fmt.Sprintf("%s version %d\n", url, version)
	return strings.Repeat(line, max(1, n/len(line)))
}

// checkBody panics if e is not what body made for the url.
func checkBody(url string, e *accel.Entry) (version int, err error) {
	text := string(e.Bodies[0].Data)
	line, _, _ := strings.Cut(text, "\n")
	if _, err := fmt.Sscanf(line, url+" version %d", &version); err != nil {
		return 0, fmt.Errorf("%s: another text: %.80q", url, text)
	}
	if strings.Repeat(line+"\n", len(text)/(len(line)+1)) != text {
		return 0, fmt.Errorf("%s: wrong bytes", url)
	}
	return version, nil
}

// must ends a child, with what it says on standard error.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// end lets a child end in good order.
func end(t testing.TB, c *faults.Child) {
	c.In.Close()
	require.NoError(t, c.Wait(), c.Stderr())
}

// aside lists the files that were set aside.
func aside(path string) []string {
	list, _ := filepath.Glob(path + ".corrupt-*")
	return list
}

func isLocked(s *boltstore.Store) bool { return errors.Is(s.Err(), boltstore.ErrLocked) }
