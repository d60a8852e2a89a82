package boltstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

func init() { faults.Role("store", storeChild) }

const storeKeys = 40

func storeURL(key int) string { return fmt.Sprint("/stored/", key) }

// storeChild stores every key again and again, until it is killed. It says each
// version that has been written.
func storeChild() {
	s := boltstore.Open(os.Getenv("DB"), quiet, patient, boltstore.WithMaxSize(64<<20))
	must := func(err error) {
		if err != nil {
			panic(err)
		}
	}
	must(s.Ping(bg))
	first, err := strconv.Atoi(os.Getenv("FROM"))
	must(err)
	fmt.Println("ready")
	tick := time.NewTicker(time.Millisecond)
	for version := first; ; version++ {
		for k := range storeKeys {
			at := s.Begin()
			must(s.Put(storetest.Entry(storeURL(k), storetest.At(at),
				storetest.Text(body(storeURL(k), version, 100+rand.IntN(3000)))), nil))
			s.End(at)
		}
		for s.Stats().QueueBytes != 0 {
			<-tick.C
		}
		fmt.Println(version)
	}
}

// What was written before a kill is there after it. What a kill leaves of
// invalidations is tried in internal/faults, through the whole of the cache.
func TestKillLosesNothingThatWasWritten(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	written := 0
	for round := range rounds(5, 200) {
		c := faults.Start(t, "store", []string{"DB=" + path, fmt.Sprint("FROM=", written+1)})
		c.Expect("ready")
		timer := time.AfterFunc(rand.N(400*time.Millisecond), func() { c.Cmd.Process.Kill() })
		for {
			line, err := c.Line()
			if err != nil {
				break
			}
			written, err = strconv.Atoi(line)
			require.NoError(t, err)
		}
		timer.Stop()
		c.Wait()

		s := boltstore.Open(path, quiet, patient, boltstore.WithMaxSize(64<<20))
		eventually(t, func() bool { return s.Err() == nil }, "opened")
		require.Zero(t, s.Stats().SetAside)
		for k := range storeKeys {
			found, err := s.Get(bg, storetest.Key(storeURL(k), ""), nil)
			if written == 0 && err != nil {
				continue
			}
			require.NoError(t, err, "round %d: version %d was written", round, written)
			version, err := checkBody(storeURL(k), found.Entry)
			require.NoError(t, err)
			require.GreaterOrEqual(t, version, written, "round %d", round)
		}
		require.NoError(t, s.Close())
	}
	require.NotZero(t, written)
}

// A process is replaced while both run, as a rolling restart does, many times.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	old := open(t, path)
	for i := range 6 {
		gone, kept := fmt.Sprint("/gone/", i), fmt.Sprint("/kept/", i)
		put(t, old, gone, storetest.Tags("gone"))
		put(t, old, kept)
		flushed(t, old)
		next := boltstore.Open(path, quiet, patient)
		t.Cleanup(func() { next.Close() })
		require.ErrorIs(t, next.Ping(bg), boltstore.ErrLocked)

		// Rule 2: begun before the new process has the file, when the old one may
		// invalidate, sweep and forget.
		at := next.Begin()
		late := storetest.Entry("/late", storetest.At(at), storetest.Tags("gone"))
		require.NoError(t, old.Invalidate(bg, accel.TagMark("gone")))
		require.NoError(t, old.Close())

		eventually(t, func() bool { return next.Err() == nil }, "taken over")
		require.ErrorIs(t, next.Put(late, nil), accel.ErrInvalidated)
		next.End(at)
		for n := range i + 1 {
			require.False(t, has(next, fmt.Sprint("/gone/", n)))
			require.True(t, has(next, fmt.Sprint("/kept/", n)))
		}
		old = next
	}
}

// A process that is killed in the middle of creating leaves something that the
// next one does not mistake for a cache.
func TestLeftOversOfCreationAreIgnored(t *testing.T) {
	path := dbPath(t)
	young, old := path+".new-1-abc", path+".new-1-def"
	require.NoError(t, os.WriteFile(young, []byte("half of it"), 0o600))
	require.NoError(t, os.WriteFile(old, []byte("half of it"), 0o600))
	hour := time.Now().Add(-time.Hour)
	require.NoError(t, os.Chtimes(old, hour, hour))
	s := open(t, path)
	put(t, s, "/a")
	require.NoError(t, s.Close())
	require.True(t, has(open(t, path), "/a"))
	require.FileExists(t, young, "somebody may be at it")
	require.NoFileExists(t, old)
}
