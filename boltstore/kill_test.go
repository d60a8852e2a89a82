package boltstore_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

func init() { children["load"] = loadChild }

const loadKeys = 40

// loadChild puts and invalidates until it is killed. It says what it is about to
// do, and what has been done:
//
//	put KEY VERSION       accepted
//	ask KEY               an invalidation is called for
//	ack KEY               and has returned nil
//	flushed               what was put before was written
//
// Every line is in the pipe before the next thing happens.
func loadChild() {
	s := boltstore.Open(os.Getenv("DB"), quiet, patient, boltstore.WithMaxSize(64<<20))
	check(s.Ping(bg))
	var mu sync.Mutex // a key's lines are in the order of what they say
	version := 0
	say := func(format string, args ...any) { fmt.Fprintf(os.Stdout, format+"\n", args...) }
	say("ready")
	for g := range 3 {
		go func() {
			r := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), uint64(g)))
			for {
				k := r.IntN(loadKeys)
				if r.IntN(4) > 0 {
					mu.Lock()
					version++
					at := s.Begin()
					err := s.Put(storetest.Entry(damageURL(k), storetest.At(at), storetest.Tags(fmt.Sprint("t", k)),
						storetest.Text(body(damageURL(k), version, 100+r.IntN(3000)))), nil)
					s.End(at)
					if err == nil {
						say("put %d %d", k, version)
					}
					mu.Unlock()
					continue
				}
				mu.Lock()
				say("ask %d", k)
				mu.Unlock()
				// Not under the lock: invalidations share transactions.
				if s.Invalidate(bg, accel.TagMark(fmt.Sprint("t", k))) == nil {
					mu.Lock()
					say("ack %d", k)
					mu.Unlock()
				}
			}
		}()
	}
	for {
		mu.Lock()
		say("wait")
		mu.Unlock()
		// What was put before this line is written when the queue has been seen
		// empty, or a second has passed.
		deadline := time.Now().Add(time.Second)
		within(func() bool { return s.Stats().QueueBytes == 0 || time.Now().After(deadline) }, "")
		mu.Lock()
		say("flushed")
		mu.Unlock()
	}
}

// told is what a parent knows of one key.
type told struct {
	versions map[int]bool // put, in whatever state
	last     int          // the last that was put
	durable  int          // the last that was put before a flush
	struck   int          // everything up to this version was invalidated, durably
	pending  []int        // last, at each ask
	touched  bool         // asked since durable was put
}

// Whatever the moment: no invalidation that was acknowledged is undone, and what
// was written is there.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	keys := make([]told, loadKeys)
	for i := range keys {
		keys[i].versions = map[int]bool{}
	}
	for round := range rounds(12, 500) {
		c := start(t, "load", nil, "DB="+path)
		require.Equal(t, "ready", c.line())
		for i := range keys {
			keys[i] = told{versions: map[int]bool{}}
		}
		wait := time.Duration(10+rand.IntN(250)) * time.Millisecond
		if round%5 == 0 {
			wait += time.Second
		}
		timer := time.AfterFunc(wait, func() { c.cmd.Process.Kill() })
		waits := make([]int, loadKeys)
		for {
			line, err := c.out.ReadString('\n')
			if err != nil {
				break
			}
			var k, v int
			f := strings.Fields(line)
			if len(f) > 1 {
				fmt.Sscan(f[1], &k)
			}
			if len(f) > 2 {
				fmt.Sscan(f[2], &v)
			}
			key := &keys[k]
			switch f[0] {
			case "put":
				key.versions[v], key.last = true, v
			case "ask":
				key.pending = append(key.pending, key.last)
				key.touched = true
			case "ack":
				// The oldest of those that wait, at least: what was put before it
				// was asked for is struck.
				key.struck = max(key.struck, key.pending[0])
				key.pending = key.pending[1:]
			case "wait":
				for i := range keys {
					waits[i], keys[i].touched = keys[i].last, len(keys[i].pending) > 0
				}
			case "flushed":
				for i := range keys {
					if !keys[i].touched {
						keys[i].durable = waits[i]
					} else {
						keys[i].durable = 0
					}
				}
			}
		}
		timer.Stop()
		c.cmd.Wait()

		s := boltstore.Open(path, quiet, patient, boltstore.WithMaxSize(64<<20))
		require.NoError(t, s.Ping(bg))
		require.Zero(t, s.Stats().SetAside)
		for i, key := range keys {
			found, err := s.Get(bg, storetest.Key(damageURL(i), ""), nil)
			if err != nil {
				require.False(t, key.durable > 0 && !key.touched && key.durable > key.struck,
					"round %d: %s version %d was written and is lost: %v", round, damageURL(i), key.durable, err)
				continue
			}
			version, err := checkBody(damageURL(i), found.Entry)
			require.NoError(t, err)
			if len(key.versions) == 0 {
				continue // of an earlier round, and nothing happened to it
			}
			require.Greater(t, version, key.struck, "round %d: %s was invalidated", round, damageURL(i))
		}
		require.NoError(t, s.Invalidate(bg, accel.MarkAll))
		require.NoError(t, s.Close())
	}
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
	require.NoError(t, os.WriteFile(path+".new-1-abc", []byte("half of it"), 0o600))
	s := open(t, path)
	put(t, s, "/a")
	require.NoError(t, s.Close())
	require.True(t, has(open(t, path), "/a"))
}
