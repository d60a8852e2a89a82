package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
)

// coldPage is the i-th page of a file that is opened again.
func coldPage(i int) string { return fmt.Sprintf("/packed/%d/n%d", i%256, i) }

// coldFile fills a file with so many entries of about 2 KiB, and closes it.
func coldFile(tb testing.TB, n int) (path string) {
	path = filepath.Join(directory(tb), "cache.db")
	s := newSite(tb, corpus)
	require.NoError(tb, s.pack())
	c := accel.New(s, boltstore.Open(path, boltstore.WithMaxSize(vast), boltstore.WithLogger(quiet)), accel.WithLogger(quiet))
	until(tb, "the file is open", func() bool { at := c.Stats().Store.FileBytes; return at > 0 })
	fill(tb, c, n, coldPage)
	require.NoError(tb, c.Close())
	return path
}

// BenchmarkRestart is how long it takes from opening a file of so many entries, or
// from the start of a process that does so, to the first hit from it. The file is in
// the page cache, since it has just been written.
func BenchmarkRestart(b *testing.B) {
	for _, n := range sizes(entries(b)) {
		b.Run(fmt.Sprint("entries=", n), func(b *testing.B) {
			path := coldFile(b, n)
			page := coldPage(n / 2)
			b.Run("from=open", func(b *testing.B) {
				b.ReportAllocs()
				var took latencies
				for b.Loop() {
					start := time.Now()
					c, err := firstHit(path, page)
					took = append(took, time.Since(start))
					b.StopTimer()
					require.NoError(b, err)
					require.NoError(b, c.Close())
					b.StartTimer()
				}
				took.report(b)
			})
			b.Run("from=exec", func(b *testing.B) {
				var took latencies
				for b.Loop() {
					start := time.Now()
					ch := startChild(b, childSetup{Path: path, Page: page})
					ch.report(b)
					took = append(took, time.Since(start))
					b.StopTimer()
					ch.stop(b)
					b.StartTimer()
				}
				took.report(b)
			})
		})
	}
}

// firstHit opens a file and asks for a page that is in it.
func firstHit(path, page string) (*accel.Cache, error) {
	store := boltstore.Open(path, boltstore.WithMaxSize(vast), boltstore.WithLogger(quiet))
	c := accel.New(&site{}, store, accel.WithLogger(quiet)) // its handler has no page
	if err := store.Ping(background); err != nil {
		_ = c.Close()
		return nil, err
	}
	w := newSink()
	c.ServeHTTP(w, request("GET", page, "Accept-Encoding", acceptsGzip))
	if !w.hit() {
		_ = c.Close()
		return nil, fmt.Errorf("not a hit: %s", w.header.Get("Cache-Status"))
	}
	return c, nil
}

// BenchmarkResident is the memory that a process needs which serves from a file of so
// many entries: after its first hit, after 20 000 hits on pages anywhere in it, and the
// most there was while 20 000 more were stored. The memory tier is a part of it. An
// iteration is a process.
func BenchmarkResident(b *testing.B) {
	if _, ok := rssAnon(); !ok {
		b.Skip("RssAnon is a figure of Linux")
	}
	for _, n := range sizes(entries(b)) {
		b.Run(fmt.Sprint("entries=", n), func(b *testing.B) {
			path := coldFile(b, n)
			var last childReport
			for b.Loop() {
				ch := startChild(b, childSetup{Path: path, Page: coldPage(n / 2), Entries: n})
				ch.report(b)
				last = ch.report(b)
				ch.stop(b)
			}
			b.ReportMetric(float64(last.First)/mib, "first-MiB")
			b.ReportMetric(float64(last.Hits)/mib, "hits-MiB")
			b.ReportMetric(float64(last.Stores)/mib, "stores-MiB")
			b.ReportMetric(float64(last.Tier)/mib, "tier-MiB")
			b.ReportMetric(float64(last.File)/mib, "file-MiB")
		})
	}
}

// What is measured of a process is measured in one of its own: this test again, with
// a setup in its environment. It writes a line when it has had its first hit, another
// with what it used if it was to serve, and ends when its standard input does.
const childEnv = "ACCEL_BENCH_CHILD"

type childSetup struct {
	Path, Page string
	Entries    int           // 0: the first hit is all
	Waits      time.Duration // not 0: it is a database that takes so long for an answer
}

type childReport struct {
	Err                 string
	First, Hits, Stores int64 // anonymous memory, in bytes
	Tier, File          int64 // bytes of the memory tier and of the file
	Addr                string
}

func child() int {
	var setup childSetup
	if err := json.Unmarshal([]byte(os.Getenv(childEnv)), &setup); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	out := json.NewEncoder(os.Stdout)
	if setup.Waits > 0 {
		return beDatabase(out, setup.Waits)
	}
	c, err := firstHit(setup.Path, setup.Page)
	if err != nil {
		_ = out.Encode(childReport{Err: err.Error()})
		return 1
	}
	defer c.Close()
	_ = out.Encode(childReport{})
	if setup.Entries > 0 {
		r, err := serveForMemory(c, setup.Entries)
		if err != nil {
			r.Err = err.Error()
		}
		_ = out.Encode(r)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func serveForMemory(c *accel.Cache, n int) (r childReport, err error) {
	const some = 20_000
	r.First, _ = rssAnon()
	w, rnd := newSink(), rand.New(rand.NewPCG(1, 2))
	q := request("GET", "/", "Accept-Encoding", acceptsGzip)
	ask := func(path string) {
		u := *q.URL
		u.Path = path
		q.URL, q.RequestURI = &u, path
		w.reset()
		c.ServeHTTP(w, q)
	}
	for range some {
		if ask(coldPage(rnd.IntN(n))); !w.hit() {
			return r, fmt.Errorf("not a hit: %s", w.header.Get("Cache-Status"))
		}
	}
	r.Hits, _ = rssAnon()
	// Other pages than those that are there, from a handler that has but one body.
	for i := range some {
		ask(fmt.Sprintf("/json/0/new%d", i))
		if i%64 != 0 {
			continue
		}
		used, _ := rssAnon()
		r.Stores = max(r.Stores, used)
		for c.Stats().Store.QueueBytes > boltstore.DefaultQueue/2 {
			runtime.Gosched()
		}
	}
	st := c.Stats()
	r.Tier, r.File = st.Store.MemoryBytes, st.Store.FileBytes
	debug.FreeOSMemory()
	return r, nil
}

// A process is a child that was started.
type process struct {
	cmd *exec.Cmd
	in  io.Closer
	out *bufio.Reader
}

func startChild(tb testing.TB, setup childSetup) *process {
	tb.Helper()
	text, err := json.Marshal(setup)
	require.NoError(tb, err)
	self, err := os.Executable()
	require.NoError(tb, err)
	p := &process{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	p.cmd.Stderr = os.Stderr
	in, err := p.cmd.StdinPipe()
	require.NoError(tb, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(tb, err)
	p.in, p.out = in, bufio.NewReader(out)
	require.NoError(tb, p.cmd.Start())
	return p
}

func (p *process) report(tb testing.TB) (r childReport) {
	tb.Helper()
	line, err := p.out.ReadBytes('\n')
	require.NoError(tb, err)
	require.NoError(tb, json.Unmarshal(line, &r))
	require.Empty(tb, r.Err)
	return r
}

func (p *process) stop(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, p.in.Close())
	require.NoError(tb, p.cmd.Wait())
}
