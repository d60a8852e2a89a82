package bench

import (
	"bytes"
	"net/http"
	"runtime"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/bench/internal/turns"
)

// A hitCase is a request for something that is there, or for one of several.
type hitCase struct {
	name   string
	pages  int // how many different ones; 0: one
	path   string
	method string
	header []string
	valid  bool // the client has it already
	free   bool // from memory it must not allocate
}

var hitCases = []hitCase{
	{name: "json=1KiB", path: "/json/1024", header: []string{"Accept-Encoding", acceptsGzip}, free: true},
	{name: "html=16KiB-gzip", path: "/html/16384", header: []string{"Accept-Encoding", acceptsGzip}, free: true},
	{name: "html=16KiB-zstd", path: "/html/16384", header: []string{"Accept-Encoding", acceptsZstd}, free: true},
	{name: "html=16KiB-identity", path: "/html/16384"},
	{name: "html=10000x8KiB", path: "/html/8192", header: []string{"Accept-Encoding", acceptsGzip}, pages: 10_000},
	{name: "304", path: "/html/16384", header: []string{"Accept-Encoding", acceptsGzip}, valid: true, free: true},
	{name: "HEAD", path: "/html/16384", method: "HEAD", header: []string{"Accept-Encoding", acceptsGzip}, free: true},
	{name: "range=1KiB", path: "/html/16384", header: []string{"Accept-Encoding", acceptsGzip, "Range", "bytes=1024-2047"}},
}

func (hc hitCase) page(i int) string { return hc.path + "/" + strconv.Itoa(i) }

// A client asks for the pages of a case, again and again. It has one request, whose
// path it changes: what a server has just read is in the processor's cache, and ten
// thousand requests made beforehand are not.
type client struct {
	r     *http.Request
	paths []string
	next  int
	w     *sink
}

// newClient makes a client that begins at a page of its own.
func (hc hitCase) newClient(tb testing.TB, c *accel.Cache, number int) *client {
	n := max(hc.pages, 1)
	method := hc.method
	if method == "" {
		method = "GET"
	}
	cl := &client{r: request(method, hc.page(0), hc.header...), w: newSink(), next: number * n / 2}
	for i := range n {
		// By a stride that is prime to their number: neighbours in the file are not
		// asked for one after another.
		cl.paths = append(cl.paths, hc.page(i*7919%n))
	}
	for range n {
		expectHit(tb, c, cl.w, cl.request())
	}
	if hc.valid {
		cl.r.Header.Set("If-None-Match", cl.w.header.Get("Etag"))
	}
	return cl
}

// request returns the next request.
func (cl *client) request() *http.Request {
	path := cl.paths[cl.next%len(cl.paths)]
	cl.next++
	cl.r.URL.Path, cl.r.RequestURI = path, path
	return cl.r
}

func (cl *client) ask(h http.Handler, n int) {
	for range n {
		cl.w.reset()
		h.ServeHTTP(cl.w, cl.request())
	}
}

// A floor is a handler that has the same answers ready, fields and bytes, and
// gives them one after another without looking at the request.
type floor struct {
	answers []answer
	next    int
	w       *sink
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// recorder is a sink that keeps the body.
type recorder struct {
	sink
	body bytes.Buffer
}

func (w *recorder) Write(p []byte) (int, error) {
	w.body.Write(p)
	return w.sink.Write(p)
}

// newFloor records the answers that a client gets.
func newFloor(h http.Handler, cl *client) *floor {
	f := &floor{w: newSink()}
	for range cl.paths {
		w := &recorder{sink: *newSink()}
		h.ServeHTTP(w, cl.request())
		f.answers = append(f.answers, answer{w.status, w.header, bytes.Clone(w.body.Bytes())})
	}
	return f
}

func (f *floor) serve(n int) {
	for range n {
		f.w.reset()
		a := &f.answers[f.next%len(f.answers)]
		f.next++
		for name, values := range a.header {
			f.w.header[name] = values
		}
		f.w.WriteHeader(a.status)
		if len(a.body) > 0 {
			_, _ = f.w.Write(a.body)
		}
	}
}

// A hitSetting is a case with a cache that has its pages, so many clients, and the
// floor of each.
type hitSetting struct {
	cache   *accel.Cache
	clients []*client
	floors  []*floor
}

func (hc hitCase) setting(tb testing.TB, c *accel.Cache, clients int) *hitSetting {
	tb.Helper()
	s := &hitSetting{cache: c}
	for i := range clients {
		cl := hc.newClient(tb, c, i)
		s.clients = append(s.clients, cl)
		s.floors = append(s.floors, newFloor(c, cl))
	}
	return s
}

func (s *hitSetting) ours(worker, n int)  { s.clients[worker].ask(s.cache, n) }
func (s *hitSetting) floor(worker, n int) { s.floors[worker].serve(n) }

// serial returns the two sides for one client.
func (s *hitSetting) serial() (ours, floor func(n int)) {
	return func(n int) { s.ours(0, n) }, func(n int) { s.floor(0, n) }
}

// BenchmarkHit is a request for a page that is there, beside a handler that has the
// answer ready.
func BenchmarkHit(b *testing.B) {
	for _, hc := range hitCases {
		b.Run(hc.name, func(b *testing.B) {
			for _, be := range backends {
				b.Run("store="+be.name, func(b *testing.B) {
					c := newCache(b, newSite(b, corpus), be.open(b))
					fill(b, c, max(hc.pages, 1), hc.page)
					b.Run("serial", func(b *testing.B) {
						s := hc.setting(b, c, 1)
						ours, floor := s.serial()
						turns.Benchmark(b, ours, floor)
						s.report(b)
					})
					b.Run("parallel", func(b *testing.B) {
						s := hc.setting(b, c, runtime.GOMAXPROCS(0))
						turns.Benchmark(b, turns.Parallel(len(s.clients), s.ours), turns.Parallel(len(s.clients), s.floor))
						s.report(b)
					})
				})
			}
		})
	}
}

// report adds how long the body of an answer is, and fails if there was a miss.
func (s *hitSetting) report(b *testing.B) {
	require.True(b, s.clients[0].w.hit(), s.clients[0].w.header.Get("Cache-Status"))
	sum, answers := 0, s.floors[0].answers
	for _, a := range answers {
		sum += len(a.body)
	}
	b.ReportMetric(float64(sum)/float64(len(answers)), "sent-B/op")
}
