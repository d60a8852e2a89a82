package bench

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/bench/internal/content"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/memstore"
)

// Sizes by which benchmarks are told apart.
const (
	kib = 1 << 10
	mib = 1 << 20
)

// corpus is loaded once: a little of it for the tests, all for the benchmarks that
// have thousands of pages.
var (
	corpus     = sync.OnceValues(func() (*content.Corpus, error) { return content.Load(3 * mib / 2) })
	fewPages   = sync.OnceValues(func() (*content.Corpus, error) { return content.Load(40 * kib) })
	quiet      = slog.New(slog.DiscardHandler)
	background = context.Background()
)

// A site serves what its paths say: /html/8192/17 is page 17 of 8 KiB. What stands
// behind the number says what else it is made from: each further element of the
// path is a tag.
//
//	/html/   to be compressed
//	/bytes/  the same, as something that is not worth compressing
//	/packed/ compressed by the handler beforehand, so that filling a store with a
//	         million entries measures the store
//	/json/   JSON
type site struct {
	corpus *content.Corpus
	packed [256][]byte
	json   []byte
	work   func(context.Context) // done before a page is written; nil: nothing
}

func newSite(tb testing.TB, load func() (*content.Corpus, error)) *site {
	tb.Helper()
	c, err := load()
	require.NoError(tb, err)
	return &site{corpus: c, json: c.JSON(kib)}
}

// pack prepares the packed pages. 4 KiB of HTML are 1.5 KiB in gzip.
func (s *site) pack() error {
	for i := range s.packed {
		z, err := codec.Encode(nil, codec.Gzip, s.corpus.Page(i, 4*kib))
		if err != nil {
			return err
		}
		s.packed[i] = z
	}
	return nil
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.work != nil {
		s.work(r.Context())
	}
	kind, body := s.page(r.URL.Path)
	h := w.Header()
	switch kind {
	case "html":
		h["Content-Type"] = contentHTML
	case "packed":
		h["Content-Type"] = contentHTML
		h["Content-Encoding"] = codingGzip
	case "json":
		h["Content-Type"] = contentJSON
	default:
		h["Content-Type"] = contentBytes
	}
	accel.CacheFor(r.Context(), time.Hour)
	accel.Tag(r.Context(), kind, "page:"+r.URL.Path)
	if kind == "packed" {
		accel.Tag(r.Context(), strings.Split(r.URL.Path, "/")[3:]...)
	} else {
		accel.Tag(r.Context(), "all")
	}
	_, _ = w.Write(body)
}

var (
	contentHTML  = []string{"text/html; charset=utf-8"}
	contentJSON  = []string{"application/json"}
	contentBytes = []string{"application/octet-stream"}
	codingGzip   = []string{"gzip"}
)

func (s *site) page(path string) (kind string, body []byte) {
	kind, rest, _ := strings.Cut(path[1:], "/")
	first, rest, _ := strings.Cut(rest, "/")
	a, _ := strconv.Atoi(first)
	second, _, _ := strings.Cut(rest, "/")
	i, _ := strconv.Atoi(second)
	switch kind {
	case "json":
		return kind, s.json
	case "packed":
		return kind, s.packed[a%len(s.packed)]
	}
	return kind, s.corpus.Page(i, a)
}

// A backend is a store to be measured.
type backend struct {
	name string
	open func(tb testing.TB) accel.Store
}

// roomy is a memory tier that has room for 10 000 pages of 8 KiB in two codings.
const roomy = 256 * mib

var (
	memoryStore = backend{"memstore", func(testing.TB) accel.Store {
		return memstore.New(memstore.WithMaxSize(roomy))
	}}
	memoryTier = backend{"boltstore", func(tb testing.TB) accel.Store {
		return openBolt(tb, filepath.Join(directory(tb), "cache.db"), boltstore.WithMemory(roomy))
	}}
	disk = backend{"disk", func(tb testing.TB) accel.Store {
		return openBolt(tb, filepath.Join(directory(tb), "cache.db"), boltstore.WithMemory(0))
	}}
	backends = []backend{memoryStore, memoryTier, disk}
)

func openBolt(tb testing.TB, path string, opts ...boltstore.Option) *boltstore.Store {
	tb.Helper()
	s := boltstore.Open(path, append([]boltstore.Option{boltstore.WithLogger(quiet)}, opts...)...)
	tb.Cleanup(func() { _ = s.Close() })
	require.NoError(tb, s.Ping(background))
	return s
}

// directory is where the file of a store is put: on the disk that the variable
// names, else where temporary files are.
func directory(tb testing.TB) string {
	tb.Helper()
	dir := os.Getenv("ACCEL_BENCH_DIR")
	if dir == "" {
		return tb.TempDir()
	}
	dir, err := os.MkdirTemp(dir, "accel-bench-")
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// newCache puts a cache in front of a handler. It closes with the benchmark.
func newCache(tb testing.TB, h http.Handler, s accel.Store) *accel.Cache {
	c := accel.New(h, s, accel.WithLogger(quiet))
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// entries is how many entries there are where their number is what is measured.
func entries(tb testing.TB) int {
	tb.Helper()
	v := os.Getenv("ACCEL_BENCH_ENTRIES")
	if v == "" {
		return 10_000
	}
	n, err := strconv.Atoi(v)
	require.NoError(tb, err, "ACCEL_BENCH_ENTRIES")
	require.GreaterOrEqual(tb, n, 10_000, "ACCEL_BENCH_ENTRIES")
	return n
}

// sink is a ResponseWriter that keeps its header map, as net/http does for a
// connection, and counts.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func newSink() *sink { return &sink{header: http.Header{}} }

func (s *sink) Header() http.Header { return s.header }
func (s *sink) WriteHeader(c int)   { s.status = c }
func (s *sink) Write(p []byte) (int, error) {
	s.bytes += len(p)
	return len(p), nil
}

// Hijack is there because net/http's own writer of HTTP/1 has it.
func (s *sink) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, http.ErrNotSupported }

func (s *sink) reset() {
	clear(s.header)
	s.status, s.bytes = 0, 0
}

func (s *sink) hit() bool {
	return strings.HasPrefix(s.header.Get("Cache-Status"), "Accelerator; hit")
}

// What two browsers send.
const (
	acceptsGzip = "gzip, deflate, br"
	acceptsZstd = "gzip, deflate, br, zstd"
)

func request(method, path string, header ...string) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	r.Header.Set("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
	r.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	r.Header.Set("Accept-Language", "en-US,en;q=0.5")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// fresh returns requests for so many pages, one after another, each with a query of
// its own, so that none is there. Each client needs another number.
func fresh(client int, prefix string, pages int) func() *http.Request {
	model := request("GET", prefix+"/0", "Accept-Encoding", acceptsGzip)
	n := client << 32
	return func() *http.Request {
		n++
		r, u := *model, *model.URL
		u.Path = prefix + "/" + strconv.Itoa(n%pages)
		u.RawQuery = strconv.Itoa(n)
		r.URL, r.RequestURI = &u, u.Path+"?"+u.RawQuery
		return &r
	}
}

// fill asks for n pages, and waits until they are where they are to be. It does not
// ask faster than they are written: what a full queue drops would be missed.
func fill(tb testing.TB, c *accel.Cache, n int, path func(i int) string) {
	tb.Helper()
	w := newSink()
	r := request("GET", "/", "Accept-Encoding", acceptsZstd)
	for i := range n {
		if i%64 == 0 {
			drained(tb, c, boltstore.DefaultQueue/2)
		}
		u := *r.URL
		u.Path = path(i)
		r.URL, r.RequestURI = &u, u.Path
		w.reset()
		c.ServeHTTP(w, r)
	}
	drained(tb, c, 0)
	if st := c.Stats(); st.Store.Dropped+st.Store.Refused > 0 {
		tb.Fatalf("of %d pages %d were dropped and %d refused: %v", n, st.Store.Dropped, st.Store.Refused, st.NotStored)
	}
}

// drained waits until no more than so many bytes wait to be written.
func drained(tb testing.TB, c *accel.Cache, bytes int64) {
	tb.Helper()
	until(tb, "the queue is written", func() bool { return c.Stats().Store.QueueBytes <= bytes })
}

// until looks every millisecond whether something has come true.
func until(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	if cond() {
		return
	}
	const patience = 3 * time.Minute // a million entries are swept in that time
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if cond() {
			return
		}
	}
	tb.Fatal("not in time: " + what)
}

// expectHit asks once, and fails unless the answer is stored.
func expectHit(tb testing.TB, c http.Handler, w *sink, r *http.Request) {
	tb.Helper()
	w.reset()
	c.ServeHTTP(w, r)
	if !w.hit() {
		tb.Fatalf("%s: not a hit: %s", r.URL, w.header.Get("Cache-Status"))
	}
}
