package faults_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/inspect"
	"github.com/accelhttp/accelerator/memstore"
)

const (
	// hang is how long nothing may take, on a machine however busy. What takes
	// longer is taken for hung.
	hang = 30 * time.Second

	// tick is how often a condition is looked at that is waited for.
	tick = 2 * time.Millisecond

	closingPages  = 48
	closingTags   = 12
	closingPurged = 4 // the tags below it are purged, the others stay
)

var quiet = slog.New(slog.DiscardHandler)

// within fails the test, with the stacks of all goroutines, if do does not return.
func within(t testing.TB, what string, do func()) time.Duration {
	t.Helper()
	start := time.Now()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(hang):
		var stacks bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&stacks, 2)
		t.Fatalf("%s hangs\n%s", what, &stacks)
	}
	return time.Since(start)
}

// A ledger is a store that writes down what it was asked for and what became of
// it, so that one can say afterwards what must be on disk.
type ledger struct {
	accel.Store

	closing atomic.Bool // Close has been called
	closed  atomic.Bool // Close has returned
	ended   chan struct{}
	calls   atomic.Int64
	late    atomic.Int64 // calls that a closed store has granted

	mu      sync.Mutex
	stored  map[accel.Key][]*accel.Entry // accepted before Close was called
	maybe   map[accel.Key][]*accel.Entry // accepted while it was being closed
	struck  map[accel.Hash]uint64        // what is below may have been invalidated
	deleted map[accel.Key]bool
}

func newLedger(s accel.Store) *ledger {
	return &ledger{
		Store: s, ended: make(chan struct{}),
		stored: map[accel.Key][]*accel.Entry{}, maybe: map[accel.Key][]*accel.Entry{},
		struck: map[accel.Hash]uint64{}, deleted: map[accel.Key]bool{},
	}
}

// granted counts what was granted after the end.
func (l *ledger) granted(closed, yes bool) {
	if closed && yes {
		l.late.Add(1)
	}
}

func (l *ledger) Begin() accel.Position {
	l.calls.Add(1)
	closed := l.closed.Load()
	at := l.Store.Begin()
	l.granted(closed, at != accel.Position{})
	return at
}

func (l *ledger) End(at accel.Position) { l.calls.Add(1); l.Store.End(at) }

func (l *ledger) Get(ctx context.Context, key accel.Key, vary []string) (accel.Found, error) {
	l.calls.Add(1)
	closed := l.closed.Load()
	found, err := l.Store.Get(ctx, key, vary)
	l.granted(closed, err == nil)
	return found, err
}

func (l *ledger) Valid(at accel.Position, hashes []accel.Hash) bool {
	l.calls.Add(1)
	closed := l.closed.Load()
	ok := l.Store.Valid(at, hashes)
	l.granted(closed, ok)
	return ok
}

func (l *ledger) Put(e, old *accel.Entry) error {
	l.calls.Add(1)
	closed := l.closed.Load()
	err := l.Store.Put(e, old)
	l.granted(closed, err == nil)
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closing.Load() {
			l.maybe[e.Key] = append(l.maybe[e.Key], e)
		} else {
			l.stored[e.Key] = append(l.stored[e.Key], e)
		}
	}
	return err
}

func (l *ledger) Delete(e *accel.Entry) error {
	l.calls.Add(1)
	closed := l.closed.Load()
	l.mu.Lock()
	l.deleted[e.Key] = true
	l.mu.Unlock()
	err := l.Store.Delete(e)
	l.granted(closed, err == nil)
	return err
}

func (l *ledger) Invalidate(ctx context.Context, marks ...accel.Mark) error {
	closed := l.closed.Load()
	err := l.Store.Invalidate(ctx, marks...)
	l.granted(closed, err == nil)
	if closed {
		return err // nothing was struck
	}
	// It has a number no higher than the present one. A store that is being closed
	// does not tell.
	at := l.Store.Begin()
	l.Store.End(at)
	if l.closing.Load() {
		at.N = math.MaxUint64
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range marks {
		l.struck[m.Hash] = max(l.struck[m.Hash], at.N)
	}
	return err
}

func (l *ledger) Expire(ctx context.Context, marks ...accel.Mark) error {
	closed := l.closed.Load()
	err := l.Store.Expire(ctx, marks...)
	l.granted(closed, err == nil)
	return err
}

func (l *ledger) Close() error {
	l.closing.Store(true)
	err := l.Store.Close()
	if !l.closed.Swap(true) {
		close(l.ended)
	}
	return err
}

// check looks into a store of the same file and returns how many entries it must
// have and has. Call it when nothing is on its way any more.
func (l *ledger) check(t testing.TB, s accel.Store) (kept int) {
	if st := l.Stats(); st.Dropped > 0 || st.Evicted > 0 {
		return 0 // then nobody promises
	}
	mayGo := func(e *accel.Entry) bool {
		return l.deleted[e.Key] || e.At.N < l.struck[accel.MarkAll.Hash] ||
			slices.ContainsFunc(e.Marks, func(h accel.Hash) bool { return e.At.N < l.struck[h] })
	}
	for key, entries := range l.stored {
		last := slices.MaxFunc(entries, func(a, b *accel.Entry) int { return cmp.Compare(a.At.N, b.At.N) })
		if mayGo(last) {
			continue
		}
		found, err := s.Get(context.Background(), key, last.Vary)
		for start := time.Now(); err != nil && !errors.Is(err, accel.ErrNotFound) && time.Since(start) < hang; <-time.After(tick) {
			found, err = s.Get(context.Background(), key, last.Vary) // the machine is busy
		}
		require.NoError(t, err, "%s was accepted before Close and is lost", last.URL())
		require.GreaterOrEqual(t, found.Entry.At.N, last.At.N, last.URL())
		require.True(t, slices.ContainsFunc(slices.Concat(entries, l.maybe[key]), func(e *accel.Entry) bool {
			return e.At.N == found.Entry.At.N && bytes.Equal(e.Bodies[0].Data, found.Entry.Bodies[0].Data)
		}), "%s: something that was never put", last.URL())
		kept++
	}
	return kept
}

// A load is everything at once that requests do to a cache.
type load struct {
	t     testing.TB
	site  *faults.Site
	store *ledger

	pace chan struct{} // a receive waits for a request

	// The moment of Close comes with this request, or this invalidation.
	toRequests, toPurges atomic.Int64
	moment               chan struct{}

	requests, hits, left, late, streams atomic.Int64
	purges, refused                     atomic.Int64
	collapsed, refreshes                uint64
}

// newLoad returns the site, with a handler in front that is sometimes slow, and
// that streams.
func newLoad(t testing.TB) *load {
	l := &load{t: t, site: faults.Open(memstore.New(), closingPages, closingTags, 700), pace: make(chan struct{})}
	require.NoError(t, l.site.Cache.Close()) // use puts another in its place
	l.site.Freshness = []accel.Freshness{accel.StaleWhileRevalidate(time.Hour)}
	return l
}

// use makes the site one that is kept in store.
func (l *load) use(store accel.Store) {
	l.store = newLedger(store)
	l.site.Cache = accel.New(http.HandlerFunc(l.serve), l.store, accel.WithLogger(quiet))
}

func (l *load) serve(w http.ResponseWriter, r *http.Request) {
	var page int
	if _, err := fmt.Sscanf(r.URL.Path, "/stream/%d", &page); err == nil {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "all", "stream")
		for piece := range slices.Chunk(faults.Body(page, 0, 0, 70_000), 10_000) {
			w.Write(piece)
			http.NewResponseController(w).Flush()
		}
		return
	}
	fmt.Sscanf(r.URL.Path, "/p/%d", &page)
	if page%4 == 0 {
		// Long enough for others to join.
		select {
		case <-time.After(time.Duration(rand.IntN(1500)) * time.Microsecond):
		case <-r.Context().Done():
			http.Error(w, "nobody waits", http.StatusServiceUnavailable)
			return
		}
	}
	l.site.Handler.ServeHTTP(w, r)
}

// event counts down to the moment of Close.
func (l *load) event(to *atomic.Int64) {
	if to.Add(-1) == 0 {
		close(l.moment)
	}
}

// get asks for a page and checks what it gets. A client whose context ends may get
// nothing.
func (l *load) get(ctx context.Context, url string, page int) {
	late := l.store.closed.Load()
	purged := l.site.Purged(l.site.TagOf(page))
	if strings.HasPrefix(url, "/stream") {
		purged = 0
		l.streams.Add(1)
	}
	w := httptest.NewRecorder()
	l.site.Cache.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil).WithContext(ctx))
	l.requests.Add(1)
	l.event(&l.toRequests)
	select {
	case l.pace <- struct{}{}:
	default:
	}
	if ctx.Err() != nil {
		l.left.Add(1)
		return
	}
	if w.Code != http.StatusOK {
		l.t.Errorf("%s: %d %s", url, w.Code, w.Body)
		return
	}
	version, err := faults.Check(page, w.Body.Bytes())
	status := w.Header().Get("Cache-Status")
	hit := strings.Contains(status, "; hit")
	switch {
	case err != nil:
		l.t.Errorf("%s: %v (%s)", url, err, status)
	case version < purged:
		l.t.Errorf("%s: version %d, purged up to %d (%s)", url, version, purged, status)
	case late && status != "":
		l.t.Errorf("%s: asked for after Close, and answered with %s", url, status)
	}
	if hit {
		l.hits.Add(1)
	}
	if late {
		l.late.Add(1)
	}
}

// run begins the load. What it returns waits for its end, which comes a few
// requests after the cache was closed.
func (l *load) run() (wait func()) {
	var wg sync.WaitGroup
	// each runs fn again and again, and three times more when Close has returned.
	each := func(n int, fn func(r *rand.Rand)) {
		for range n {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(rand.Uint64(), 0))
				for more := 3; more > 0; {
					if l.store.closed.Load() {
						more--
					}
					fn(r)
				}
			})
		}
	}
	bg := context.Background()
	each(3, func(r *rand.Rand) {
		page := r.IntN(closingPages)
		l.get(bg, faults.URL(page), page)
	})
	// A crowd: those that follow one another.
	each(1, func(r *rand.Rand) {
		page := r.IntN(closingPages/4) * 4
		var crowd sync.WaitGroup
		for range 4 {
			crowd.Go(func() { l.get(bg, faults.URL(page), page) })
		}
		crowd.Wait()
	})
	// Clients that leave.
	each(1, func(r *rand.Rand) {
		page := r.IntN(closingPages)
		ctx, cancel := context.WithTimeout(bg, time.Duration(r.IntN(800))*time.Microsecond)
		defer cancel()
		l.get(ctx, faults.URL(page), page)
	})
	// Now and then: a site whose pages are purged all the time has no hits.
	paced := func(r *rand.Rand) {
		for range r.IntN(12) {
			select {
			case <-l.pace:
			case <-l.store.ended:
			}
		}
	}
	each(1, func(r *rand.Rand) {
		paced(r)
		page := r.IntN(3)
		l.get(bg, fmt.Sprint("/stream/", page), page)
	})
	each(1, func(r *rand.Rand) {
		paced(r)
		tag := r.IntN(closingPurged)
		l.site.Commit(tag)
		if r.IntN(4) == 0 {
			l.invalidated(l.site.Cache.InvalidateURL(bg, faults.URL(tag)))
			return
		}
		l.invalidated(l.site.Purge(bg, tag))
		if r.IntN(40) == 0 {
			l.invalidated(l.site.Cache.InvalidateAll(bg))
		}
	})
	each(1, func(r *rand.Rand) {
		paced(r)
		l.invalidated(l.site.Cache.ExpireTag(bg, faults.Tag(r.IntN(closingTags))))
	})
	return wg.Wait
}

func (l *load) invalidated(err error) {
	l.purges.Add(1)
	l.event(&l.toPurges)
	switch {
	case err == nil:
	case l.store.closing.Load():
		l.refused.Add(1)
		if !isClosed(err) {
			l.t.Errorf("an invalidation during or after Close: %v", err)
		}
	default:
		l.t.Errorf("an invalidation: %v", err)
	}
}

// TestCloseUnderLoad closes a cache at any moment. Nothing panics, nothing hangs,
// every client gets a right page, and what was acknowledged is on disk.
func TestCloseUnderLoad(t *testing.T) {
	// Not parallel: it looks at the goroutines of the whole process.
	for _, kind := range []string{"memstore", "boltstore"} {
		t.Run(kind, func(t *testing.T) {
			base := goleak.IgnoreCurrent()
			l := newLoad(t)
			path := filepath.Join(t.TempDir(), "cache.db")
			var took []time.Duration
			kept := 0
			rounds := faults.Rounds(15, 75, 500)
			for round := range rounds {
				if round%50 == 49 {
					path = filepath.Join(t.TempDir(), "cache.db") // a new file, and a file that is being made
				}
				var store accel.Store
				if kind == "memstore" {
					store = memstore.New()
				} else {
					b := boltstore.Open(path, boltstore.WithLogger(quiet))
					if round%3 > 0 {
						require.NoError(t, b.Ping(context.Background()))
					} // else it is closed while it opens, perhaps
					store = b
				}
				l.use(store)
				took = append(took, l.closeAtAnyMoment()...)
				if kind == "boltstore" {
					before := digest(t, path)
					l.closedForGood()
					require.Equal(t, before, digest(t, path), "the file was touched after Close")
				} else {
					l.closedForGood()
				}
				require.NoError(t, goleak.Find(base))
				if kind == "boltstore" && exists(path) {
					kept += l.reopened(path)
				}
				if t.Failed() {
					t.FailNow()
				}
			}
			if kind == "boltstore" {
				require.Positive(t, kept, "entries that had to be there")
			}
			require.Positive(t, l.hits.Load())
			require.Positive(t, l.late.Load())
			require.Positive(t, l.refused.Load())
			slices.Sort(took)
			t.Logf("%s: %d rounds, %d requests (%d hits, %d collapsed, %d streams, %d clients left, %d after Close), %d refreshes, %d invalidations (%d refused by the end), %d entries looked for in the file and found; Close took p50 %v, p99 %v, longest %v",
				kind, rounds, l.requests.Load(), l.hits.Load(), l.collapsed, l.streams.Load(), l.left.Load(), l.late.Load(), l.refreshes, l.purges.Load(), l.refused.Load(), kept,
				percentile(took, 50), percentile(took, 99), took[len(took)-1])
		})
	}
}

// exists reports whether there is a file: a store that was closed at once may have
// made none.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// closeAtAnyMoment puts the cache under load, closes it twice at once and a third
// time, and returns how long that took, when nothing is on its way any more.
func (l *load) closeAtAnyMoment() (took []time.Duration) {
	l.moment = make(chan struct{})
	l.toRequests.Store(math.MaxInt64)
	l.toPurges.Store(math.MaxInt64)
	switch rand.IntN(8) {
	case 0:
		close(l.moment)
	case 1, 2, 3:
		l.toRequests.Store(1 + rand.Int64N(250))
	default:
		l.toPurges.Store(1 + rand.Int64N(12))
	}
	wait := l.run()
	within(l.t, "the load", func() { <-l.moment })
	var mu sync.Mutex
	var closers sync.WaitGroup
	for range 2 {
		closers.Go(func() {
			d := within(l.t, "Close", func() {
				if err := l.site.Cache.Close(); err != nil {
					l.t.Errorf("Close: %v", err)
				}
				// Also for who came second, it is closed now.
				if err := l.site.Cache.InvalidateAll(context.Background()); !isClosed(err) {
					l.t.Errorf("InvalidateAll after Close: %v", err)
				}
			})
			mu.Lock()
			defer mu.Unlock()
			took = append(took, d)
		})
	}
	closers.Wait()
	within(l.t, "a request on its way during Close", wait)
	require.NoError(l.t, l.site.Cache.Close())
	st := l.site.Cache.Stats()
	l.collapsed += st.Collapsed
	l.refreshes += st.Refreshes
	return took
}

// closedForGood requires that nothing asks the closed store for anything.
func (l *load) closedForGood() {
	require.Zero(l.t, l.store.late.Load(), "a closed store has granted something")
	calls := l.store.calls.Load()
	for page := range 8 {
		l.get(context.Background(), faults.URL(page), page)
		l.get(context.Background(), fmt.Sprint("/stream/", page), page)
	}
	require.Equal(l.t, calls, l.store.calls.Load(), "requests after Close have asked the store")
	for _, err := range []error{
		l.site.Cache.InvalidateTag(context.Background(), "all"),
		l.site.Cache.InvalidateURL(context.Background(), "/p/1"),
		l.site.Cache.InvalidateAll(context.Background()),
		l.site.Cache.ExpireTag(context.Background(), "all"),
	} {
		require.ErrorIs(l.t, err, accel.ErrClosed)
	}
}

// reopened looks at what a closed store has left behind, and returns how many
// entries had to be there.
func (l *load) reopened(path string) (kept int) {
	left(l.t, path)
	s := boltstore.Open(path, boltstore.WithLogger(quiet))
	require.NoError(l.t, s.Ping(context.Background()))
	kept = l.store.check(l.t, s)
	require.Zero(l.t, s.Stats().SetAside)
	// What was acknowledged holds.
	old := l.site.Cache
	l.site.Cache = accel.New(http.HandlerFunc(l.serve), s, accel.WithLogger(quiet))
	for page := range closingPages {
		_, _, err := l.site.Get(page)
		require.NoError(l.t, err)
	}
	require.NoError(l.t, l.site.Cache.Close())
	l.site.Cache = old
	return kept
}

// left requires that a file was left in order: everything in it hangs together,
// and nothing was left beside it.
func left(t testing.TB, path string) {
	t.Helper()
	d, err := inspect.Open(path, time.Now())
	require.NoError(t, err)
	defer d.Close()
	require.Empty(t, d.BeginsEmpty())
	st, err := d.Stats(context.Background())
	require.NoError(t, err)
	require.True(t, st.Clean, "it was not left as one that was closed")
	v, err := d.Verify(context.Background())
	require.NoError(t, err)
	require.True(t, v.OK, "%+v", v.Problems)
	require.Equal(t, []string{filepath.Base(path)}, directory(t, filepath.Dir(path)))
}

// directory lists the names in a directory.
func directory(t testing.TB, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// digest is all of a file that somebody might change.
func digest(t testing.TB, path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "none"
	}
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	require.NoError(t, err)
	return fmt.Sprintf("%d %v %x", info.Size(), info.ModTime().UnixNano(), h.Sum(nil))
}

func isClosed(err error) bool { return errors.Is(err, accel.ErrClosed) }

func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)*p/100, len(sorted)-1)].Round(10 * time.Microsecond)
}
