package faults_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/memstore"
)

// What a process uses is measured in one that does nothing but serve: a child. It
// says what it uses when it is asked on its standard input, and is attacked over
// the network by the test, whose own memory does not count.

func init() { faults.Role("bounds", boundsChild) }

const boundsEnv = "ACCEL_FAULTS_BOUNDS"

// A boundsSetup says what the child serves, and from where.
type boundsSetup struct {
	Store   string // "boltstore" or "memstore"
	Dir     string
	MaxSize int64
	Memory  int64 // of boltstore; 0: its default
	RFC9111 bool
	Hot     int // pages of the site, which are asked for beside the attack
}

// Usage is what a process uses at a moment, or the most of each in a while.
type boundsUsage struct {
	Disk       int64         // all files in the directory
	File       int64         // the database alone
	RssAnon    int64         // anonymous memory
	Goroutines int           //
	FDs        int           // file descriptors
	Conns      int           // open connections
	CPU        time.Duration // since the process began
}

func (u *boundsUsage) raise(v boundsUsage) {
	u.Disk, u.File, u.RssAnon = max(u.Disk, v.Disk), max(u.File, v.File), max(u.RssAnon, v.RssAnon)
	u.Goroutines, u.FDs, u.Conns, u.CPU = max(u.Goroutines, v.Goroutines), max(u.FDs, v.FDs), max(u.Conns, v.Conns), v.CPU
}

// A boundsReport is the child's answer.
type boundsReport struct {
	Now, Peak boundsUsage
	Stats     accel.Stats
	Made      int64 // runs of handlers other than the site's
	Marks     int64 // the most there were
	Herd      *boundsHerd
	Purges    boundsTimes
	Err       string
}

type boundsServer struct {
	setup boundsSetup
	site  *faults.Site
	front http.Handler
	conns atomic.Int64
	made  atomic.Int64
	shift atomic.Int64 // of the clock
	last  atomic.Int64 // number of the last page with a tag of its own

	mu    sync.Mutex
	gate  chan struct{} // what some handlers wait for
	peak  boundsUsage
	marks int64
}

func (s *boundsServer) now() time.Time { return time.Now().Add(time.Duration(s.shift.Load())) }

func boundsChild() {
	var s boundsServer
	if err := json.Unmarshal([]byte(os.Getenv(boundsEnv)), &s.setup); err != nil {
		panic(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	var store accel.Store
	switch s.setup.Store {
	case "memstore":
		store = memstore.New(memstore.WithMaxSize(s.setup.MaxSize), memstore.WithClock(s.now))
	default:
		b := boltstore.Open(filepath.Join(s.setup.Dir, "cache.db"), boltstore.WithMaxSize(s.setup.MaxSize),
			boltstore.WithMemory(cmp.Or(s.setup.Memory, boltstore.DefaultMemory)), boltstore.WithLogger(quiet), boltstore.WithClock(s.now))
		if err := b.Ping(context.Background()); err != nil {
			panic(err)
		}
		store = b
	}
	opts := []accel.Option{accel.WithLogger(quiet), accel.WithClock(s.now)}
	if s.setup.RFC9111 {
		opts = append(opts, accel.WithPolicy(accel.RFC9111))
	}
	s.site = faults.Open(store, max(s.setup.Hot, 1), 10, 4<<10, opts...)
	s.shut()
	s.front = s.site.Cache.Wrap(s.handlers())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := &http.Server{Handler: s.front, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0), ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			s.conns.Add(1)
		case http.StateClosed, http.StateHijacked:
			s.conns.Add(-1)
		}
	}}
	go server.Serve(narrow{l})
	go func() {
		for range time.Tick(20 * time.Millisecond) {
			s.sample()
		}
	}()
	fmt.Println(l.Addr())
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var r boundsReport
		words := strings.Fields(in.Text())
		switch words[0] {
		case "base": // from here on
			boundsCollect()
			s.mu.Lock()
			s.peak, s.marks = boundsUsage{}, 0
			s.mu.Unlock()
			s.sample()
		case "purge": // a tag of the site
			tag, _ := strconv.Atoi(words[1])
			s.site.Commit(tag)
			start := time.Now()
			if err := s.site.Purge(context.Background(), tag); err != nil {
				r.Err = err.Error()
			}
			r.Purges = boundsTimesOf([]time.Duration{time.Since(start)})
		case "settle": // until what the attack has left is gone
			goroutines, _ := strconv.Atoi(words[1])
			fds, _ := strconv.Atoi(words[2])
			boundsUntil(15*time.Second, func() bool {
				now := s.usage()
				return now.Goroutines <= goroutines+2 && now.FDs <= fds+2 && s.site.Cache.Stats().Store.QueueBytes == 0
			})
			boundsCollect()
		case "clock":
			d, err := time.ParseDuration(words[1])
			if err != nil {
				panic(err)
			}
			s.shift.Add(int64(d))
		case "herd":
			n, _ := strconv.Atoi(words[1])
			r.Herd = s.herd(n, words[2])
		case "storm":
			rate, _ := strconv.Atoi(words[1])
			d, _ := time.ParseDuration(words[2])
			r.Purges, err = s.storm(rate, d)
			if err != nil {
				r.Err = err.Error()
			}
		case "warm": // has a page stored, without a connection
			boundsUntil(10*time.Second, func() bool {
				w, req := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, words[1], nil)
				req.Host = "example.org"
				req.Header.Set("Accept-Encoding", "zstd, gzip")
				s.front.ServeHTTP(w, req)
				return strings.Contains(w.Header().Get("Cache-Status"), "; hit")
			})
		case "open":
			s.open()
		case "expire": // everything that lives a minute
			if err := s.site.Cache.ExpireTag(context.Background(), "minute"); err != nil {
				r.Err = err.Error()
			}
		case "close":
			if err := s.site.Cache.Close(); err != nil {
				r.Err = err.Error()
			}
		}
		r.Now, r.Stats, r.Made = s.usage(), s.site.Cache.Stats(), s.made.Load()
		s.mu.Lock()
		r.Peak, r.Marks = s.peak, s.marks
		s.mu.Unlock()
		b, err := json.Marshal(r)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(b))
	}
}

// A narrow listener lets the kernel take no more of an answer than it does on a
// network: over the loopback it would take megabytes for a client that reads none.
type narrow struct{ net.Listener }

func (l narrow) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		err = conn.(*net.TCPConn).SetWriteBuffer(32 << 10)
	}
	return conn, err
}

// boundsCollect gives back what is not in use, pools included.
func boundsCollect() {
	for range 3 {
		runtime.GC()
	}
	debug.FreeOSMemory()
}

func boundsUntil(limit time.Duration, cond func() bool) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); time.Now().Before(end); <-tick.C {
		if cond() {
			return true
		}
	}
	return cond()
}

func (s *boundsServer) sample() {
	now, marks := s.usage(), s.site.Cache.Stats().Store.Marks
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peak.raise(now)
	s.marks = max(s.marks, marks)
}

func (s *boundsServer) usage() (u boundsUsage) {
	u.Goroutines, u.Conns = runtime.NumGoroutine(), int(s.conns.Load())
	u.RssAnon, u.FDs, u.CPU = boundsProcess("self")
	names, _ := os.ReadDir(s.setup.Dir)
	for _, name := range names {
		if info, err := name.Info(); err == nil {
			u.Disk += info.Size()
			if name.Name() == "cache.db" {
				u.File = info.Size()
			}
		}
	}
	return u
}

// boundsProcess reads what Linux knows of a process.
func boundsProcess(pid string) (rss int64, fds int, cpu time.Duration) {
	status, _ := os.ReadFile("/proc/" + pid + "/status")
	if _, rest, ok := strings.Cut(string(status), "RssAnon:"); ok {
		fmt.Sscan(rest, &rss)
	}
	if dir, err := os.ReadDir("/proc/" + pid + "/fd"); err == nil {
		fds = len(dir)
	}
	stat, _ := os.ReadFile("/proc/" + pid + "/stat")
	// Behind the name, which may have blanks in it: fields 14 and 15, in ticks of
	// a hundredth of a second.
	if _, rest, ok := strings.Cut(string(stat), ") "); ok {
		if f := strings.Fields(rest); len(f) > 12 {
			user, _ := strconv.Atoi(f[11])
			system, _ := strconv.Atoi(f[12])
			cpu = time.Duration(user+system) * 10 * time.Millisecond
		}
	}
	return rss << 10, fds, cpu
}

// boundsNoise is what no coding makes smaller.
var boundsNoise = sync.OnceValue(func() []byte {
	b := make([]byte, 2<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
})

const (
	boundsBig   = 900 << 10 // is stored: less than 1 MiB
	boundsChunk = 16 << 10
)

// handlers are what the attacks ask for, beside the site.
func (s *boundsServer) handlers() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, h http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			s.made.Add(1)
			h(w, r)
		})
	}
	mux.Handle("/p/", s.site.Handler)
	// A text of 1 KiB, and an image of 1 KiB.
	handle("/text/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "text")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, boundsText(r.RequestURI, 1<<10))
	})
	handle("/image", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		n := rand.IntN(1 << 20)
		w.Write(boundsNoise()[n : n+1<<10])
	})
	handle("/agent", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Vary", "User-Agent")
		io.WriteString(w, boundsText(r.UserAgent(), 1<<10))
	})
	// Large ones that are stored: one that compresses, one that does not; and
	// one too large for it.
	handle("/bigtext/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, boundsText(r.RequestURI, boundsBig))
	})
	handle("/bigimage/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		w.Write(boundsNoise()[:boundsBig])
	})
	// The same in pieces, as io.Copy sends it.
	handle("/pieces/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		for at := 0; at < boundsBig; at += boundsChunk {
			if _, err := w.Write(boundsNoise()[at:][:boundsChunk]); err != nil {
				return
			}
		}
	})
	handle("/huge/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		for range 8 {
			if _, err := w.Write(boundsNoise()[:1<<20]); err != nil {
				return
			}
		}
	})
	// Without an end, until the client leaves: one that goes on, and one that
	// stops where it is still small enough to be kept.
	handle("/endless/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			if _, err := w.Write(boundsNoise()[:boundsChunk]); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
		}
	})
	handle("/stalled/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		for at := 0; at < boundsBig; at += boundsChunk {
			if _, err := w.Write(boundsNoise()[at:][:boundsChunk]); err != nil {
				return
			}
		}
		<-r.Context().Done()
	})
	// For the herd: it takes until the gate is opened.
	herd := func(opts ...accel.Freshness) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Minute, opts...)
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			s.wait(r.Context())
			fmt.Fprintln(w, "herd", s.made.Load())
		}
	}
	handle("/herd/plain", herd())
	handle("/herd/swr", herd(accel.StaleWhileRevalidate(time.Hour)))
	// A slow page, of which clients leave in the middle.
	handle("/slow/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := range 10 {
			io.WriteString(w, boundsText(strconv.Itoa(i), boundsChunk))
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
		}
	})
	handle("/post/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		accel.CacheFor(r.Context(), time.Hour)
		s.wait(r.Context())
	})
	// Pages that live a minute: by the handler's word, and by HTTP's.
	handle("/minute/", func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/minute/http/") {
			w.Header().Set("Cache-Control", "public, max-age=60")
			w.Header().Set("Date", s.now().UTC().Format(http.TimeFormat))
		} else {
			accel.CacheFor(r.Context(), time.Minute)
		}
		accel.Tag(r.Context(), "minute")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "made %d\n", s.made.Load())
	})
	// One that lives a day.
	handle("/day/", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), 24*time.Hour)
		accel.Tag(r.Context(), "minute")
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "made %d\n", s.made.Load())
	})
	// A page with a tag of its own, and one that a tenth of them have.
	handle("/tagged/", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/tagged/"))
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), boundsTag(n), "same:"+strconv.Itoa(n%10))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		io.WriteString(w, boundsText(r.RequestURI, 1<<10))
		s.last.Store(max(s.last.Load(), int64(n)))
	})
	return mux
}

// boundsText is a text of n bytes that is made of a name.
func boundsText(name string, n int) string {
	line := "this is a line of " + name + ", and it is like the one before it\n"
	return strings.Repeat(line, n/len(line)+1)[:n]
}

// A boundsHerd is what many requests for one key got that came at once.
type boundsHerd struct {
	Made      int64 // runs of the handler
	Stale     int   // answers that were the one from before
	New       int   // answers that were the new one
	Wrong     int
	Highest   int // goroutines
	Took      time.Duration
	Collapsed int
}

// herd has n requests made for one key whose time is up, at once and without
// connections, of which there cannot be so many.
func (s *boundsServer) herd(n int, kind string) *boundsHerd {
	var h boundsHerd
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.front.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/herd/"+kind, nil))
		return w
	}
	s.open()
	old := ask().Body.String()
	s.shut()
	s.shift.Add(int64(61 * time.Second))
	made := s.made.Load()
	start := time.Now()
	answers := make([]*httptest.ResponseRecorder, n)
	var asked atomic.Int64
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			asked.Add(1)
			answers[i] = ask()
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	// Those who wait for the handler wait until all have come; those who do not
	// have to are done before it is.
	boundsUntil(10*time.Second, func() bool {
		s.sample()
		h.Highest = max(h.Highest, runtime.NumGoroutine())
		if kind == "swr" {
			select {
			case <-done:
				return true
			default:
				return false
			}
		}
		return asked.Load() == int64(n) && s.made.Load() > made
	})
	s.open()
	<-done
	h.Took = time.Since(start)
	// The refresh in the background comes to its end as well.
	var fresh string
	boundsUntil(10*time.Second, func() bool { fresh = ask().Body.String(); return fresh != old })
	h.Made = s.made.Load() - made
	for _, w := range answers {
		switch w.Body.String() {
		case old:
			h.Stale++
		case fresh:
			h.New++
		default:
			h.Wrong++
		}
		if strings.Contains(w.Header().Get("Cache-Status"), "collapsed") {
			h.Collapsed++
		}
	}
	s.shut()
	return &h
}

func (s *boundsServer) shut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
}

func (s *boundsServer) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
}

func (s *boundsServer) wait(ctx context.Context) {
	s.mu.Lock()
	gate := s.gate
	s.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
	}
}

func boundsTag(n int) string { return "page:" + strconv.Itoa(n) }

// storm invalidates so many tags a second, for so long: tags of pages that were
// stored a moment ago, and every tenth time one that many pages have.
func (s *boundsServer) storm(rate int, d time.Duration) (boundsTimes, error) {
	var mu sync.Mutex
	var took []time.Duration
	var first error
	var wg sync.WaitGroup
	const workers = 16 // an invalidation takes longer than the time between two
	var next atomic.Int64
	start := time.Now()
	for range workers {
		wg.Go(func() {
			tick := time.NewTicker(time.Duration(workers) * time.Second / time.Duration(rate))
			defer tick.Stop()
			for time.Since(start) < d {
				n := int(next.Add(1))
				tag := boundsTag(n)
				if n%10 == 0 {
					tag = "same:" + strconv.Itoa(n/10%10)
				}
				from := time.Now()
				err := s.site.Cache.InvalidateTag(context.Background(), tag)
				t := time.Since(from)
				mu.Lock()
				took, first = append(took, t), cmp.Or(first, err)
				mu.Unlock()
				<-tick.C
			}
		})
	}
	wg.Wait()
	return boundsTimesOf(took), first
}

// A boundsTimes says how long something took.
type boundsTimes struct {
	N                   int
	P50, P99, P999, Max time.Duration
}

func boundsTimesOf(took []time.Duration) (t boundsTimes) {
	if t.N = len(took); t.N == 0 {
		return t
	}
	slices.Sort(took)
	at := func(q float64) time.Duration { return took[min(int(float64(len(took))*q), len(took)-1)] }
	t.P50, t.P99, t.P999, t.Max = at(0.5), at(0.99), at(0.999), took[len(took)-1]
	return t
}

func (t boundsTimes) String() string {
	return fmt.Sprintf("n %d, p50 %v, p99 %v, p99.9 %v, max %v", t.N, boundsRound(t.P50), boundsRound(t.P99), boundsRound(t.P999), boundsRound(t.Max))
}

func boundsRound(d time.Duration) time.Duration {
	if d < 10*time.Microsecond {
		return d.Round(10 * time.Nanosecond)
	}
	return d.Round(10 * time.Microsecond)
}

// A boundsTarget is the child as the test sees it.
type boundsTarget struct {
	*faults.Child
	t     *testing.T
	addr  string
	setup boundsSetup
}

// boundsStart starts a child.
func boundsStart(t *testing.T, setup boundsSetup, env ...string) *boundsTarget {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("what a process uses is read from /proc, which only Linux has")
	}
	if setup.Dir == "" {
		setup.Dir = t.TempDir()
	}
	b, err := json.Marshal(setup)
	require.NoError(t, err)
	c := &boundsTarget{Child: faults.Start(t, "bounds", append(env, boundsEnv+"="+string(b))), t: t, setup: setup}
	c.addr = c.hear()
	return c
}

// hear returns the child's next line; a child that says nothing hangs.
func (c *boundsTarget) hear() string {
	c.t.Helper()
	hung := time.AfterFunc(3*time.Minute, c.Kill)
	defer hung.Stop()
	line, err := c.Line()
	require.NoError(c.t, err, "the child: %s", c.Stderr())
	return line
}

func (c *boundsTarget) ask(command string, args ...any) (r boundsReport) {
	c.t.Helper()
	c.Say(strings.TrimSpace(fmt.Sprintln(append([]any{command}, args...)...)))
	require.NoError(c.t, json.Unmarshal([]byte(c.hear()), &r))
	require.Empty(c.t, r.Err)
	return r
}

// A boundsConn is a client that costs little: it says what it is told, and looks at
// status, Cache-Status and length of the answer.
type boundsConn struct {
	net.Conn
	in *bufio.Reader
}

func (c *boundsTarget) dial() (*boundsConn, error) {
	conn, err := net.Dial("tcp", c.addr)
	if err != nil {
		return nil, err
	}
	return &boundsConn{conn, bufio.NewReader(conn)}, nil
}

// boundsGet is the text of a request.
func boundsGet(target string, lines ...string) string {
	extra := ""
	for _, line := range lines {
		extra += line + "\r\n"
	}
	return "GET " + target + " HTTP/1.1\r\nHost: example.org\r\n" + extra + "\r\n"
}

// answer reads one answer. With body it returns the body, else it skips it.
func (c *boundsConn) answer(body bool) (status int, cache string, b []byte, err error) {
	length, chunked := -1, false
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, "", nil, err
		}
		s := strings.TrimRight(string(line), "\r\n")
		if first {
			if len(s) < 12 {
				return 0, "", nil, fmt.Errorf("no HTTP: %q", s)
			}
			status, _ = strconv.Atoi(s[9:12])
			continue
		}
		if s == "" {
			break
		}
		if v, ok := strings.CutPrefix(s, "Content-Length: "); ok {
			length, _ = strconv.Atoi(v)
		} else if v, ok := strings.CutPrefix(s, "Cache-Status: "); ok {
			cache = v
		}
		chunked = chunked || s == "Transfer-Encoding: chunked"
	}
	switch {
	case chunked:
		if b, err = io.ReadAll(httputil.NewChunkedReader(c.in)); err == nil {
			_, err = c.in.ReadSlice('\n') // there are no trailers
		}
	case status == http.StatusNoContent:
	case length < 0:
		return status, cache, nil, errors.New("no length")
	case body:
		b = make([]byte, length)
		_, err = io.ReadFull(c.in, b)
	default:
		_, err = c.in.Discard(length)
	}
	return status, cache, b, err
}
