//go:build unix

package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/memstore"
)

// A site is served over HTTP by a process of its own while something happens to
// the file under its cache. The clients are here, and so is what the application
// and they know: which version each tag has, and what was purged.

const (
	liveTags = 20
	liveHot  = 100  // pages that are asked for all the time
	livePage = 4000 // the rest is asked for once, one after the other
	liveSize = 1500
	// liveNobody is who the children are if root runs the tests: root is never
	// refused, and may fill what others may not.
	liveNobody = 65534
)

func init() { faults.Role("live", liveRole) }

func liveMust(err error) {
	if err != nil {
		panic(err)
	}
}

// A liveState is what a child says of itself.
type liveState struct {
	Store accel.StoreStats
	Err   string // why the store has no file
	Calls map[string]int
	Hit   int // system calls that were made to fail
}

// liveRole serves the site until it is told to close it, or is killed.
func liveRole() {
	if uid := os.Getenv("LIVE_UID"); uid != "" {
		id, err := strconv.Atoi(uid)
		liveMust(err)
		liveMust(syscall.Setgroups(nil))
		liveMust(syscall.Setgid(id))
		liveMust(syscall.Setuid(id))
	}
	path := os.Getenv("DB")
	if plan, ok := os.LookupEnv("LIVE_INJECT"); ok {
		liveMust(inject(path))
		injectSet(plan)
	}
	memory, err := strconv.ParseInt(os.Getenv("LIVE_MEMORY"), 10, 64)
	liveMust(err)
	size, err := strconv.ParseInt(os.Getenv("LIVE_MAX"), 10, 64)
	liveMust(err)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store := boltstore.Open(path, boltstore.WithLogger(log), boltstore.WithMemory(memory), boltstore.WithMaxSize(size))
	site := faults.Open(store, livePage, liveTags, liveSize, accel.WithLogger(log))
	for tag, version := range strings.Split(os.Getenv("LIVE_VERSIONS"), ",") {
		if v, err := strconv.ParseUint(version, 10, 64); err == nil {
			site.SetVersion(tag, v, 0)
		}
	}
	closed := make(chan struct{})
	var taken []*os.File
	mux := http.NewServeMux()
	mux.Handle("/p/", site.Cache)
	mux.HandleFunc("/purge", func(w http.ResponseWriter, r *http.Request) {
		tag, err := strconv.Atoi(r.FormValue("tag"))
		liveMust(err)
		version := site.Commit(tag)
		ctx, cancel := context.WithTimeout(context.Background(), livePatience)
		defer cancel()
		err = site.Purge(ctx, tag)
		switch {
		case err == nil:
			fmt.Fprint(w, version, " nil")
		case errors.Is(err, accel.ErrNotDurable):
			fmt.Fprint(w, version, " undurable")
		case errors.Is(err, context.DeadlineExceeded):
			fmt.Fprint(w, version, " late")
		default:
			fmt.Fprint(w, version, " ", err)
		}
	})
	mux.HandleFunc("/state", func(w http.ResponseWriter, r *http.Request) {
		s := liveState{Store: store.Stats()}
		if err := store.Err(); err != nil {
			s.Err = err.Error()
		}
		s.Calls, s.Hit = injected()
		json.NewEncoder(w).Encode(s)
	})
	mux.HandleFunc("/inject", func(w http.ResponseWriter, r *http.Request) { injectSet(r.FormValue("plan")) })
	mux.HandleFunc("/limit", func(w http.ResponseWriter, r *http.Request) {
		which, err := strconv.Atoi(r.FormValue("which"))
		liveMust(err)
		var l syscall.Rlimit
		liveMust(syscall.Getrlimit(which, &l))
		l.Cur = l.Max
		for _, f := range taken {
			f.Close()
		}
		taken = nil
		if to := r.FormValue("to"); to == "none" {
			// No descriptor beyond those there are, and those are taken.
			dir, err := os.ReadDir("/dev/fd")
			liveMust(err)
			last := 0
			for _, e := range dir {
				if n, err := strconv.Atoi(e.Name()); err == nil {
					last = max(last, n)
				}
			}
			setLimit(&l.Cur, last+1)
			defer func() {
				for {
					f, err := os.Open(os.DevNull)
					if err != nil {
						return
					}
					taken = append(taken, f)
				}
			}()
		} else if to != "" {
			n, err := strconv.Atoi(to)
			liveMust(err)
			setLimit(&l.Cur, n)
		}
		liveMust(syscall.Setrlimit(which, &l))
	})
	mux.HandleFunc("/close", func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		err := site.Cache.Close()
		fmt.Fprintf(w, "%d %v", time.Since(start).Milliseconds(), err)
		if r.FormValue("stay") == "" {
			close(closed)
		}
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	liveMust(err)
	server := &http.Server{Handler: mux, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError)}
	go server.Serve(l)
	if os.Getenv("LIVE_PING") != "" {
		store.Ping(context.Background())
	}
	fmt.Println("http://" + l.Addr().String())
	<-closed
	server.Shutdown(context.Background())
}

// setLimit is there because the systems do not agree on the type.
func setLimit[T int64 | uint64](limit *T, to int) { *limit = T(to) }

// livePatience is how long an invalidation waits for the disk.
const livePatience = 10 * time.Second

// A live is a child that serves the site, and all that its clients know.
type live struct {
	t     testing.TB
	path  string // of the file
	env   []string
	child *faults.Child
	base  string
	http  *http.Client

	// know has the versions: of a tag, what was committed, and what was purged in
	// the process that runs now. Its own cache is not used.
	know      *faults.Site
	committed [liveTags]uint64
	durable   [liveTags]uint64 // purged, and nil was returned

	wg   sync.WaitGroup
	quit chan struct{}

	requests, hits, failed, wrong atomic.Int64
	hot, hotHits                  atomic.Int64 // the same, of the pages asked for all the time
	longest                       atomic.Int64
	next                          atomic.Int64 // page that nobody has asked for
	mu                            sync.Mutex
	purges                        map[string]int // outcome -> how often
	slowest                       time.Duration  // purge
	errs                          []string
}

// livePlace makes a directory that the children may write to, and returns the
// path of a file in it.
func livePlace(t testing.TB) string {
	// Not t.TempDir: its parent is closed to others.
	dir, err := os.MkdirTemp("", "accel-live")
	require.NoError(t, err)
	t.Cleanup(func() {
		os.Chmod(dir+"/db", 0o700)
		require.NoError(t, os.RemoveAll(dir))
	})
	require.NoError(t, os.Chmod(dir, 0o755))
	require.NoError(t, os.Mkdir(dir+"/db", 0o700))
	liveGive(t, dir+"/db")
	return dir + "/db/cache.db"
}

// liveGive makes a file one of the children's.
func liveGive(t testing.TB, path string) {
	if os.Getuid() == 0 {
		require.NoError(t, os.Lchown(path, liveNobody, liveNobody))
	}
}

func startLive(t testing.TB, path string, env ...string) *live {
	l := &live{
		t: t, path: path, env: append([]string{"DB=" + path}, env...),
		know:   faults.Open(memstore.New(), livePage, liveTags, liveSize),
		quit:   make(chan struct{}),
		purges: map[string]int{},
	}
	l.next.Store(liveHot)
	if os.Getuid() == 0 {
		l.env = append(l.env, fmt.Sprint("LIVE_UID=", liveNobody))
	}
	t.Cleanup(func() { l.know.Cache.Close() })
	l.start("LIVE_PING=1")
	t.Cleanup(func() {
		l.stop()
		l.http.CloseIdleConnections()
		if t.Failed() {
			t.Logf("what the child said:\n%s", tail(l.child.Stderr(), 12000))
		}
	})
	return l
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// start starts a process on what is at the path. It knows what the application has
// committed; of purges it knows what the store does.
func (l *live) start(env ...string) {
	var versions []string
	for tag := range liveTags {
		versions = append(versions, fmt.Sprint(l.committed[tag]))
		l.know.SetVersion(tag, l.committed[tag], l.durable[tag])
	}
	env = append(append([]string{"LIVE_MEMORY=65536", "LIVE_MAX=67108864"}, l.env...), env...)
	l.child = faults.Start(l.t, "live", append(env, "LIVE_VERSIONS="+strings.Join(versions, ",")))
	base, err := l.child.Line()
	if err != nil {
		l.child.Kill()
	}
	require.NoError(l.t, err, l.child.Stderr())
	l.base = base
	l.http = &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: 8},
		Timeout:   30 * time.Second, // longer is a hang
	}
}

// ask asks the child for something that is not a page.
func (l *live) ask(path string, query ...string) (string, error) {
	v := url.Values{}
	for i := 0; i < len(query); i += 2 {
		v.Set(query[i], query[i+1])
	}
	res, err := l.http.Get(l.base + path + "?" + v.Encode())
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: status %d: %s", path, res.StatusCode, b)
	}
	return string(b), err
}

func (l *live) do(path string, query ...string) string {
	s, err := l.ask(path, query...)
	require.NoError(l.t, err, l.child.Stderr())
	return s
}

func (l *live) state() (s liveState) {
	require.NoError(l.t, json.Unmarshal([]byte(l.do("/state")), &s))
	return s
}

// get asks for a page and counts what comes.
func (l *live) get(page int) (hit bool) {
	start := time.Now()
	_, hit, err := l.know.Fetch(l.http, l.base, page)
	took := int64(time.Since(start))
	for {
		old := l.longest.Load()
		if old >= took || l.longest.CompareAndSwap(old, took) {
			break
		}
	}
	switch {
	case errors.Is(err, faults.ErrWrong):
		l.wrong.Add(1)
	case err != nil:
		l.failed.Add(1)
	}
	if err != nil {
		l.note(err)
	}
	l.requests.Add(1)
	if hit {
		l.hits.Add(1)
	}
	if page < liveHot {
		l.hot.Add(1)
		if hit {
			l.hotHits.Add(1)
		}
	}
	return hit
}

func (l *live) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) < 10 {
		l.errs = append(l.errs, fmt.Sprintf("%s: %v", time.Now().Format("05.000"), err))
	}
}

// purge changes a tag and invalidates it. From when it returns, this process
// serves nothing older, whatever the outcome; and after nil, none that follows.
func (l *live) purge(tag int) (outcome string) {
	start := time.Now()
	said, err := l.ask("/purge", "tag", strconv.Itoa(tag))
	if err != nil {
		l.failed.Add(1)
		l.note(err)
		return "failed"
	}
	number, outcome, _ := strings.Cut(said, " ")
	version, err := strconv.ParseUint(number, 10, 64)
	require.NoError(l.t, err)
	l.know.SetVersion(tag, version, version)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed[tag] = version
	if outcome == "nil" {
		l.durable[tag] = version
	}
	l.purges[outcome]++
	l.slowest = max(l.slowest, time.Since(start))
	return outcome
}

// load begins the load: two clients go over the pages that are asked for all the
// time, one asks for what nobody has asked for, and one purges.
func (l *live) load() {
	l.every(2*time.Millisecond, func(r *rand.Rand) { l.get(r.IntN(liveHot)) })
	l.every(2*time.Millisecond, func(r *rand.Rand) { l.get(r.IntN(liveHot)) })
	l.every(5*time.Millisecond, func(r *rand.Rand) {
		page := int(l.next.Add(1))
		l.get(liveHot + page%(livePage-liveHot))
	})
	l.every(20*time.Millisecond, func(r *rand.Rand) { l.purge(r.IntN(liveTags)) })
}

func (l *live) every(d time.Duration, do func(*rand.Rand)) {
	quit := l.quit
	l.wg.Go(func() {
		r := rand.New(rand.NewPCG(rand.Uint64(), 0))
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do(r)
			case <-quit:
				return
			}
		}
	})
}

// stop ends the load.
func (l *live) stop() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.wg.Wait()
}

// until waits until a condition holds, for long enough on a busy machine.
func (l *live) until(what string, cond func() bool) {
	l.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			l.t.Fatalf("not %s: %+v\n%s", what, l.state(), strings.Join(l.errs, "\n"))
		}
		<-tick.C
	}
}

// cached waits until the store has its file, has written to it, and answers most
// of what is asked for all the time.
func (l *live) cached() {
	l.t.Helper()
	l.until("cached", func() bool {
		hot, hits := l.hot.Load(), l.hotHits.Load()
		l.until("asked", func() bool { return l.hot.Load() >= hot+40 || l.failed.Load() > 1000 })
		s := l.state()
		return s.Err == "" && s.Store.Entries > 0 && s.Store.FileBytes > 0 && 2*(l.hotHits.Load()-hits) >= l.hot.Load()-hot
	})
}

// aside lists the files that were set aside.
func (l *live) aside() []string {
	list, _ := filepath.Glob(l.path + ".corrupt-*")
	return list
}

// logged counts the lines that the child has logged.
func (l *live) logged() int { return strings.Count(l.child.Stderr(), "\n") }

// A liveRow is what came of a fault.
type liveRow struct {
	name                    string
	requests, failed, wrong int64
	during, uncached        int64 // requests in the fault, and those of them not from the cache
	purges                  map[string]int
	slowest, longest        time.Duration
	back                    time.Duration // until cached again after the fault
	lines, aside            int
}

const liveHead = "fault | requests | failed | wrong | uncached in the fault | purges nil/not durable/other | cached again after | longest request | longest purge | set aside | log lines"

func (r liveRow) String() string {
	other := 0
	for outcome, n := range r.purges {
		if outcome != "nil" && outcome != "undurable" {
			other += n
		}
	}
	return fmt.Sprintf("%s | %d | %d | %d | %d of %d | %d/%d/%d | %v | %v | %v | %d | %d", r.name, r.requests, r.failed, r.wrong,
		r.uncached, r.during, r.purges["nil"], r.purges["undurable"], other,
		r.back.Round(time.Millisecond), time.Duration(r.longest).Round(time.Millisecond), r.slowest.Round(time.Millisecond), r.aside, r.lines)
}

// A liveFault is something that happens to the file, or to what it stands on.
type liveFault struct {
	name string
	// form is the first of the forms short, ci, full in which it is tried.
	form int
	// place prepares where the file is, and returns its path; nil: livePlace.
	place func(t testing.TB) string
	env   []string
	begin func(l *live)
	// end ends the fault; nil: there is nothing to end.
	end func(l *live)
	// lasts until this is true; nil: for a while.
	lasts func(l *live) bool
	// check looks at the child when the fault has lasted, before it ends.
	check func(l *live)
	// untouched says that no file is set aside.
	untouched bool
	// lied says that a purge that returned nil was not told the truth by the disk:
	// nothing is expected of it after the restart.
	lied bool
}

// suffer runs a fault, and requires what holds for every one of them.
func (f liveFault) suffer(t *testing.T, table *liveTable) {
	place := livePlace
	if f.place != nil {
		place = f.place
	}
	path := place(t)
	l := startLive(t, path, f.env...)
	l.load()
	l.cached()

	// What happens is decided by the fault, not by the moment: the file has had
	// its share of everything.
	before, beforeHits, lines := l.requests.Load(), l.hits.Load(), l.logged()
	l.longest.Store(0)
	f.begin(l)
	least := time.Now().Add(time.Duration(faults.Rounds(250, 500, 4000)) * time.Millisecond)
	requests := l.requests.Load()
	l.until("over", func() bool {
		return time.Now().After(least) && l.requests.Load() > requests+50 && (f.lasts == nil || f.lasts(l))
	})
	if f.check != nil {
		f.check(l)
	}
	during, duringHits := l.requests.Load()-before, l.hits.Load()-beforeHits
	ended := time.Now()
	if f.end != nil {
		f.end(l)
	}
	l.cached()
	back := time.Since(ended)
	l.until("purged for good", func() bool { return l.purge(0) == "nil" })
	l.stop()
	row := liveRow{
		name: f.name, during: during, uncached: during - duringHits, back: back,
		purges: l.purges, slowest: l.slowest, longest: time.Duration(l.longest.Load()),
		lines: l.logged() - lines, aside: len(l.aside()),
	}
	s := l.state()
	require.EqualValues(t, row.aside, s.Store.SetAside, "what was set aside stays where it is")
	require.LessOrEqual(t, row.aside, 3)
	if f.untouched {
		require.Zero(t, row.aside)
	}
	// A few for each thing that happens; the store tries every other second.
	require.LessOrEqual(t, row.lines, 20+10*int(during/1000), l.child.Stderr())
	require.NotContains(t, l.child.Stderr(), "goroutine ", "a panic was reported")

	// What is at the path now is good enough for the process that comes after.
	if f.lied {
		l.durable = [liveTags]uint64{}
	}
	if rand.IntN(2) == 0 {
		l.child.Kill()
	} else {
		l.do("/close")
		require.NoError(t, l.child.Wait(), l.child.Stderr())
	}
	l.http.CloseIdleConnections()
	l.start("LIVE_PING=1")
	l.pages()
	require.Equal(t, "nil", l.purge(0))
	l.pages()
	require.Empty(t, l.state().Err)
	row.requests, row.failed, row.wrong = l.requests.Load(), l.failed.Load(), l.wrong.Load()
	table.add(row)
	require.Zero(t, row.failed, l.errs)
	require.Zero(t, row.wrong, l.errs)
}

// pages asks for every page that may be kept.
func (l *live) pages() {
	for page := range min(liveHot+int(l.next.Load()), livePage) {
		l.get(page)
	}
}

// A liveTable collects what came of all faults.
type liveTable struct {
	mu   sync.Mutex
	rows []liveRow
}

func (b *liveTable) add(r liveRow) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows = append(b.rows, r)
}

func (b *liveTable) report(t *testing.T) {
	var s strings.Builder
	var requests, failed, wrong int64
	for _, r := range b.rows {
		fmt.Fprintln(&s, r)
		requests += r.requests
		failed += r.failed
		wrong += r.wrong
	}
	t.Logf("%d faults under an open store: %d requests, %d failed, %d wrong\n%s\n%s", len(b.rows), requests, failed, wrong, liveHead, s.String())
}

// The forms of the tests.
const (
	inShort = iota
	inCI
	inFull
)

func runLive(t *testing.T, list []liveFault) {
	table := &liveTable{}
	t.Cleanup(func() { table.report(t) })
	for _, f := range list {
		if f.form > faults.Rounds(inShort, inCI, inFull) {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			for range faults.Rounds(1, 1, 5) {
				f.suffer(t, table)
			}
		})
	}
}

// saved copies the file as it is, for later.
func (l *live) saved() []byte {
	b, err := os.ReadFile(l.path)
	require.NoError(l.t, err)
	return b
}

// replace puts a new file in place of the store's.
func (l *live) replace(b []byte) {
	other := l.path + ".other"
	require.NoError(l.t, os.WriteFile(other, b, 0o600))
	liveGive(l.t, other)
	require.NoError(l.t, os.Rename(other, l.path))
}

// overwrite writes into the file that is there, beginning at an offset.
func (l *live) overwrite(b []byte, at int64) {
	f, err := os.OpenFile(l.path, os.O_WRONLY, 0)
	require.NoError(l.t, err)
	_, err = f.WriteAt(b, at)
	require.NoError(l.t, err)
	require.NoError(l.t, f.Close())
}

func (l *live) size() int64 {
	info, err := os.Stat(l.path)
	require.NoError(l.t, err)
	return info.Size()
}

func noise(n int64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

// older returns a copy of the file as it is now, when purges have been made since.
func (l *live) older() []byte {
	b := l.saved()
	l.mu.Lock()
	n := l.purges["nil"]
	l.mu.Unlock()
	l.until("purged since", func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.purges["nil"] >= n+3*liveTags
	})
	// The marks of these have been swept, and are forgotten in memory.
	return b
}

// offline waits until the store has no file.
func offline(l *live) bool {
	err := l.state().Err
	return err != "" && !strings.Contains(err, "is being opened")
}

// Whatever is done to the file of a store at work, the site is served.
func TestLiveFaults(t *testing.T) {
	t.Parallel()
	page := int64(os.Getpagesize())
	var list []liveFault
	add := func(f liveFault) { list = append(list, f) }
	add(liveFault{name: "truncated to nothing",
		begin: func(l *live) { require.NoError(l.t, os.Truncate(l.path, 0)) }})
	add(liveFault{name: "truncated in the middle", form: inCI, begin: func(l *live) { require.NoError(l.t, os.Truncate(l.path, l.size()/8)) }})
	add(liveFault{name: "truncated by one page", form: inFull, begin: func(l *live) { require.NoError(l.t, os.Truncate(l.path, l.size()-page)) }})
	add(liveFault{name: "removed", untouched: true,
		begin: func(l *live) { require.NoError(l.t, os.Remove(l.path)) }})
	add(liveFault{name: "replaced by an empty file", form: inFull, untouched: true, begin: func(l *live) { l.replace(nil) }})
	add(liveFault{name: "replaced by a copy", form: inCI, untouched: true, begin: func(l *live) { l.replace(l.saved()) }})
	add(liveFault{name: "replaced by an older copy", form: inCI, untouched: true, begin: func(l *live) { l.replace(l.older()) }})
	add(liveFault{name: "replaced by another's file, later put back", form: inCI, untouched: true, lasts: offline,
		begin: func(l *live) {
			require.NoError(l.t, os.Rename(l.path, l.path+".saved"))
			l.replace([]byte("Dear diary\n"))
		},
		end: func(l *live) {
			b, err := os.ReadFile(l.path)
			require.NoError(l.t, err)
			require.Equal(l.t, "Dear diary\n", string(b), "it is not touched")
			require.NoError(l.t, os.Rename(l.path+".saved", l.path))
		}})
	add(liveFault{name: "moved away, later put back over its successor", form: inCI, untouched: true,
		begin: func(l *live) {
			require.NoError(l.t, os.Rename(l.path, l.path+".saved"))
			l.cached()
		},
		end: func(l *live) {
			l.older()
			require.NoError(l.t, os.Rename(l.path+".saved", l.path))
		}})
	add(liveFault{name: "overwritten with zeros", form: inFull, begin: func(l *live) { l.overwrite(make([]byte, l.size()), 0) }})
	add(liveFault{name: "overwritten with noise", form: inFull, begin: func(l *live) { l.overwrite(noise(l.size()), 0) }})
	add(liveFault{name: "overwritten with noise behind the meta pages",
		begin: func(l *live) { l.overwrite(noise(l.size()-2*page), 2*page) }})
	add(liveFault{name: "overwritten with an older copy", form: inCI, begin: func(l *live) { l.overwrite(l.older(), 0) }})
	add(liveFault{name: "no permission for the file", form: inFull, untouched: true,
		begin: func(l *live) { require.NoError(l.t, os.Chmod(l.path, 0)) },
		end:   func(l *live) { require.NoError(l.t, os.Chmod(l.path, 0o600)) }})
	add(liveFault{name: "no permission for the directory", form: inFull, untouched: true, lasts: offline,
		begin: func(l *live) { require.NoError(l.t, os.Chmod(filepath.Dir(l.path), 0)) },
		end:   func(l *live) { require.NoError(l.t, os.Chmod(filepath.Dir(l.path), 0o700)) }})
	// It cannot be set aside; but an empty file is begun where it is, after a while.
	add(liveFault{name: "truncated in a read-only directory", form: inCI,
		begin: func(l *live) {
			require.NoError(l.t, os.Chmod(filepath.Dir(l.path), 0o500))
			require.NoError(l.t, os.Truncate(l.path, 0))
		},
		end: func(l *live) { require.NoError(l.t, os.Chmod(filepath.Dir(l.path), 0o700)) }})
	add(liveFault{name: "directory removed, later made anew", form: inCI, untouched: true, lasts: offline,
		begin: func(l *live) { require.NoError(l.t, os.RemoveAll(filepath.Dir(l.path))) },
		end: func(l *live) {
			require.NoError(l.t, os.Mkdir(filepath.Dir(l.path), 0o700))
			liveGive(l.t, filepath.Dir(l.path))
		}})
	add(liveFault{name: "directory moved away, later put back", form: inFull, untouched: true, lasts: offline,
		begin: func(l *live) { require.NoError(l.t, os.Rename(filepath.Dir(l.path), filepath.Dir(l.path)+".saved")) },
		end:   func(l *live) { require.NoError(l.t, os.Rename(filepath.Dir(l.path)+".saved", filepath.Dir(l.path))) }})
	add(liveFault{name: "file size limit", form: inCI,
		begin: func(l *live) {
			l.do("/limit", "which", strconv.Itoa(syscall.RLIMIT_FSIZE), "to", strconv.Itoa(int(l.size()/8)))
		},
		end: func(l *live) { l.do("/limit", "which", strconv.Itoa(syscall.RLIMIT_FSIZE)) }})
	add(liveFault{name: "no descriptors, and truncated", form: inCI, lasts: offline,
		begin: func(l *live) {
			l.do("/limit", "which", strconv.Itoa(syscall.RLIMIT_NOFILE), "to", "none")
			require.NoError(l.t, os.Truncate(l.path, 0))
		},
		end: func(l *live) { l.do("/limit", "which", strconv.Itoa(syscall.RLIMIT_NOFILE)) }})
	runLive(t, list)
}
