package faults_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

// How long a purge takes must not depend on how much it strikes, and what it
// leaves to the sweeper must not be felt by who reads other pages.

func init() { faults.Role("bounds-tags", boundsTagsChild) }

// A boundsTags is what a child found out about a tag of so many entries.
type boundsTags struct {
	Entries int
	Rounds  int
	Build   time.Duration // of all entries, the last time
	File    int64

	Invalidate boundsTimes // the call, beside a thousand stores a second
	Again      boundsTimes // the same call right after, while all is still to be swept
	Returned   int         // entries of the tag that were returned after it
	Looked     int

	// The rest is of the last round.
	Sweep    time.Duration  // until nothing of the tag is left
	Lost     int            // of the other pages: look-ups that found nothing
	Memory   [2]boundsTimes // before, and while the sweeper works
	Disk     [2]boundsTimes
	Put      [2]boundsTimes
	Other    boundsTimes // invalidations of another tag meanwhile: they wait for the longest transaction
	RssAnon  [2]int64    // before the purge, and the most during the sweep
	ReadErrs uint64
	Fsync    boundsTimes
	Err      string
}

type boundsTagsSetup struct {
	Dir     string
	Entries int
	Rounds  int
}

func boundsTagsChild() {
	var setup boundsTagsSetup
	if err := json.Unmarshal([]byte(os.Getenv(boundsEnv)), &setup); err != nil {
		panic(err)
	}
	go func() { // the pipe is the test's: it outlives the child
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	r := boundsTags{Entries: setup.Entries, Rounds: setup.Rounds}
	if err := r.measure(setup); err != nil {
		r.Err = err.Error()
	}
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
	select {} // until the test has read it
}

// boundsInTier of the other pages are read so often that they stay in memory.
const boundsInTier = 200

func (r *boundsTags) measure(setup boundsTagsSetup) error {
	ctx := context.Background()
	r.Fsync = boundsFsync(setup.Dir)
	// Room for all of them, and a memory tier that holds a few.
	store := boltstore.Open(filepath.Join(setup.Dir, "cache.db"), boltstore.WithMaxSize(8<<30), boltstore.WithMemory(300<<10),
		boltstore.WithQueue(16<<20), // so that none is dropped while half of it is full
		boltstore.WithLogger(slog.New(slog.DiscardHandler)))
	defer store.Close()
	if err := store.Ping(ctx); err != nil {
		return err
	}
	var others []accel.Key
	for i := range max(2*boundsInTier, min(setup.Entries, 2000)) {
		key, err := boundsPut(store, fmt.Sprint("/other/", i), "other")
		if err != nil {
			return err
		}
		others = append(others, key)
	}
	spares := min(max(setup.Entries/200, 20), 5000)
	for i := range spares {
		if _, err := boundsPut(store, fmt.Sprint("/spare/", i), fmt.Sprint("spare:", i)); err != nil {
			return err
		}
	}

	var took []time.Duration
	var keys []accel.Key
	start := time.Now()
	var pause sync.Mutex // held while entries are stored that are then to be on disk
	fill := func() (err error) {
		pause.Lock()
		defer pause.Unlock()
		keys = keys[:0]
		for i := range setup.Entries {
			key, err := boundsPut(store, fmt.Sprint("/many/", i), "many")
			if err != nil {
				return err
			}
			if i%max(setup.Entries/50, 1) == 0 {
				keys = append(keys, key)
			}
			if i%500 == 0 {
				err = boundsDrain(store, 8<<20)
			}
			if err != nil {
				return err
			}
		}
		return boundsDrain(store, 0)
	}
	if err := fill(); err != nil {
		return err
	}
	r.Build = time.Since(start)
	r.File = store.Stats().FileBytes

	// A thousand stores a second beside all that follows.
	var stores sync.WaitGroup
	var phase atomic.Int32
	end := make(chan struct{})
	var puts [2][]time.Duration
	stores.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			pause.Lock()
			for j := range 10 {
				from := time.Now()
				boundsPut(store, fmt.Sprint("/new/", i*10+j), "new")
				p := phase.Load()
				puts[p] = append(puts[p], time.Since(from))
			}
			pause.Unlock()
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	})
	finish := sync.OnceFunc(func() { close(end); stores.Wait() })
	defer finish()

	purge := func() error {
		from := time.Now()
		if err := store.Invalidate(ctx, accel.TagMark("many")); err != nil {
			return err
		}
		took = append(took, time.Since(from))
		// The first, the last, and some between.
		for _, key := range keys {
			r.Looked++
			if f, _ := store.Get(ctx, key, nil); f.Entry != nil {
				r.Returned++
			}
		}
		return nil
	}
	swept := store.Stats().Swept
	struck := func() int { return int(store.Stats().Swept - swept) }
	for round := range setup.Rounds - 1 {
		boundsRead(ctx, store, others, time.Duration(faults.Rounds(20, 50, 300))*time.Millisecond, nil)
		if err := purge(); err != nil {
			return err
		}
		// Nothing else is measured meanwhile, and it takes a minute for a million.
		pause.Lock()
		ok := boundsUntil(5*time.Minute, func() bool { return struck() == (round+1)*setup.Entries })
		pause.Unlock()
		if !ok {
			return fmt.Errorf("%d of %d entries were swept", struck(), (round+1)*setup.Entries)
		}
		// The next finds nothing that happens to be urgent from the last.
		if err := fill(); err != nil {
			return err
		}
	}

	mem, disk, _ := boundsRead(ctx, store, others, time.Duration(faults.Rounds(300, 500, 2000))*time.Millisecond, nil)
	r.Memory[0], r.Disk[0] = boundsTimesOf(mem), boundsTimesOf(disk)
	r.RssAnon[0], _, _ = boundsProcess("self")
	if err := purge(); err != nil {
		return err
	}
	phase.Store(1)
	var again []time.Duration
	for range 20 {
		from := time.Now()
		if err := store.Invalidate(ctx, accel.TagMark("many")); err != nil {
			return err
		}
		again = append(again, time.Since(from))
	}
	r.Again = boundsTimesOf(again)

	// The sweeper works; tags of one entry are purged now and then, which wait for
	// whatever transaction is going on.
	start = time.Now()
	all := setup.Entries * setup.Rounds
	var other []time.Duration
	var purges sync.WaitGroup
	done := make(chan struct{})
	purges.Go(func() {
		// For a second after each the sweeper takes smaller steps.
		tick := time.NewTicker(time.Duration(faults.Rounds(50, 200, 2500)) * time.Millisecond)
		defer tick.Stop()
		for i := range spares {
			from := time.Now()
			if store.Invalidate(ctx, accel.TagMark(fmt.Sprint("spare:", i))) == nil {
				other = append(other, time.Since(from))
			}
			rss, _, _ := boundsProcess("self")
			r.RssAnon[1] = max(r.RssAnon[1], rss)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	mem, disk, r.Lost = boundsRead(ctx, store, others, 0, func() bool { return struck() < all })
	close(done)
	purges.Wait()
	if !boundsUntil(time.Minute, func() bool { return struck() == all+len(other) }) {
		return fmt.Errorf("%d of %d entries were swept", struck(), all+len(other))
	}
	r.Sweep = time.Since(start)
	finish()
	r.Invalidate = boundsTimesOf(took)
	r.Memory[1], r.Disk[1], r.Other = boundsTimesOf(mem), boundsTimesOf(disk), boundsTimesOf(other)
	r.Put[0], r.Put[1] = boundsTimesOf(puts[0]), boundsTimesOf(puts[1])
	r.ReadErrs = store.Stats().ReadErrors
	return nil
}

// boundsFsync is what a small write costs that is synced, on this disk and at this
// moment: no purge is faster.
func boundsFsync(dir string) boundsTimes {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return boundsTimes{}
	}
	defer f.Close()
	var took []time.Duration
	for i := range faults.Rounds(20, 50, 200) {
		from := time.Now()
		f.WriteAt(make([]byte, 4096), int64(i%10*4096))
		f.Sync()
		took = append(took, time.Since(from))
	}
	return boundsTimesOf(took)
}

// boundsRead looks other pages up, half of them few and often, half of them the
// rest in turn: for a while, or as long as there is reason to.
func boundsRead(ctx context.Context, store accel.Store, others []accel.Key, while time.Duration, more func() bool) (mem, disk []time.Duration, lost int) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	at := boundsInTier
	for start, i := time.Now(), 0; ; i++ {
		if more == nil && time.Since(start) >= while || more != nil && (!more() || time.Since(start) > 7*time.Minute) {
			return mem, disk, lost
		}
		if at++; at == len(others) {
			at = boundsInTier
		}
		for k, key := range []accel.Key{others[i%boundsInTier], others[at]} {
			from := time.Now()
			f, _ := store.Get(ctx, key, nil)
			t := time.Since(from)
			if f.Entry == nil {
				lost++
			}
			if k == 0 {
				mem = append(mem, t)
			} else {
				disk = append(disk, t)
			}
		}
		<-tick.C
	}
}

func boundsPut(store accel.Store, url, tag string) (accel.Key, error) {
	now := time.Now()
	at := store.Begin()
	defer store.End(at)
	e := storetest.Entry(url, storetest.At(at), storetest.Tags(tag), storetest.Size(200),
		storetest.Times(now, now.Add(time.Hour), now.Add(2*time.Hour)))
	return e.Key, store.Put(e, nil)
}

// boundsDrain waits until no more than so many bytes wait to be written.
func boundsDrain(store accel.Store, bytes int64) error {
	if !boundsUntil(time.Minute, func() bool { return store.Stats().QueueBytes <= bytes }) {
		return fmt.Errorf("%d bytes are not written after a minute", store.Stats().QueueBytes)
	}
	return nil
}

// TestBoundsTags purges tags of one entry, of a thousand, and of a million.
func TestBoundsTags(t *testing.T) {
	if faults.Rounds(1, 1, 0) == 1 { // the figures are to be those of one alone
		t.Parallel()
	}
	if runtime.GOOS != "linux" {
		t.Skip("what a process uses is read from /proc, which only Linux has")
	}
	sizes := []int{1, 1000, faults.Rounds(10_000, 50_000, 1_000_000)}
	rounds := []int{faults.Rounds(3, 20, 100), faults.Rounds(1, 5, 30), faults.Rounds(1, 1, 5)}
	var report []string
	medians := make([]time.Duration, len(sizes))
	for i, n := range sizes {
		r := boundsTagsRun(t, boundsTagsSetup{Entries: n, Rounds: rounds[i]})
		medians[i] = r.Invalidate.P50
		report = append(report, r.String())
		require.Zero(t, r.Returned, "entries that were returned after their tag was purged")
		if !boundsRace {
			// A look-up of the disk is given up after 50 ms, for which a busy
			// machine is reason enough, now and then.
			require.LessOrEqual(t, r.Lost, max(r.Disk[1].N/20, 5), "look-ups of other pages that found nothing")
		}
	}
	report = append(report, fmt.Sprintf("medians: %v, most by least %.2f", medians,
		float64(max(medians[0], medians[1], medians[2]))/float64(min(medians[0], medians[1], medians[2]))))
	t.Log("\n" + strings.Join(report, "\n"))
}

func boundsTagsRun(t *testing.T, setup boundsTagsSetup) (r boundsTags) {
	setup.Dir = t.TempDir()
	b, err := json.Marshal(setup)
	require.NoError(t, err)
	c := faults.Start(t, "bounds-tags", []string{boundsEnv + "=" + string(b)})
	hung := time.AfterFunc(30*time.Minute, c.Kill)
	defer hung.Stop()
	line, err := c.Line()
	require.NoError(t, err, "the child: %s", c.Stderr())
	require.NoError(t, json.Unmarshal([]byte(line), &r))
	require.Empty(t, r.Err)
	c.Kill()
	return r
}

func (r boundsTags) String() string {
	return fmt.Sprintf(`tag of %d entries, %d rounds (stored in %v, file %.1f MiB): InvalidateTag %v; again at once %v
	returned afterwards: %d of %d looked up; swept in %v; %d of %d look-ups of other pages lost, %d read errors
	hits in memory: before %v
	             sweeping %v
	hits on disk:   before %v
	             sweeping %v
	stores:         before %v
	             sweeping %v
	other invalidations: %v
	RssAnon before %d MiB, sweeping %d MiB; a synced write of 4 KiB: %v`,
		r.Entries, r.Rounds, r.Build.Round(time.Millisecond), float64(r.File)/mib, r.Invalidate, r.Again, r.Returned, r.Looked, r.Sweep.Round(time.Millisecond),
		r.Lost, r.Memory[1].N+r.Disk[1].N, r.ReadErrs, r.Memory[0], r.Memory[1], r.Disk[0], r.Disk[1], r.Put[0], r.Put[1], r.Other,
		r.RssAnon[0]/mib, cmp.Or(r.RssAnon[1], r.RssAnon[0])/mib, r.Fsync)
}
