package main

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// host is what clients of a site call it.
const host = "site.test"

// A site is the proxy, asked over a real connection, in front of an origin that
// says what the test wants. Proxy, store and origin have the same clock.
type site struct {
	t      *testing.T
	clock  *clock
	origin *origin
	cache  *accel.Cache
	client *http.Client
	at     string // the URL of the proxy

	arrived *atomic.Int64 // requests at the proxy
	paths   *int          // that path has returned
}

// everywhere runs a test on a site over each kind of store.
func everywhere(t *testing.T, test func(s *site), opts ...accel.Option) {
	t.Helper()
	c := newClock()
	t.Run("memstore", func(t *testing.T) {
		test(newSite(t, c, memstore.New(memstore.WithClock(c.now)), opts...))
	})
	t.Run("boltstore", func(t *testing.T) {
		c := newClock()
		test(newSite(t, c, openBolt(t, c, filepath.Join(t.TempDir(), "cache.db")), opts...))
	})
}

// openBolt returns a store that has opened its file.
func openBolt(t *testing.T, c *clock, path string) accel.Store {
	t.Helper()
	s := boltstore.Open(path, boltstore.WithClock(c.now), boltstore.WithLogger(quiet))
	require.NoError(t, s.Ping(t.Context()))
	return s
}

func newSite(t *testing.T, c *clock, store accel.Store, opts ...accel.Option) *site {
	t.Helper()
	o := &origin{clock: c}
	o.says(http.StatusOK)
	server := httptest.NewServer(o)
	t.Cleanup(server.Close)
	o.close, o.at = server.Close, server.URL
	s := newSiteAt(t, c, store, server.URL, opts...)
	s.origin = o
	return s
}

// newSiteAt is newSite for an origin that the test has made itself.
func newSiteAt(t *testing.T, c *clock, store accel.Store, at string, opts ...accel.Option) *site {
	t.Helper()
	u, err := url.Parse(at)
	require.NoError(t, err)
	opts = append([]accel.Option{accel.WithClock(c.now)}, opts...)
	return serveSite(t, c, newCache(u, time.Minute, store, quiet, opts...))
}

// serveSite makes a site of a cache.
func serveSite(t *testing.T, c *clock, cache *accel.Cache) *site {
	t.Helper()
	arrived := new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		cache.ServeHTTP(w, r)
	}))
	transport := &http.Transport{DisableCompression: true}
	s := &site{
		t: t, clock: c, cache: cache, at: server.URL, arrived: arrived, paths: new(int),
		client: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       time.Minute,
		},
	}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		server.Close()
		assert.NoError(t, cache.Close())
	})
	return s
}

// run runs a part of the test under a name.
func (s *site) run(name string, f func(s *site)) {
	s.t.Helper()
	s.t.Run(name, func(t *testing.T) {
		part := *s
		part.t = t
		f(&part)
	})
}

// path returns a path that nobody has asked for.
func (s *site) path() string {
	*s.paths++
	return "/" + strconv.Itoa(*s.paths)
}

// An answer is a response that has been read.
type answer struct {
	*http.Response
	body string
}

// about is what the cache says about an answer: "hit; ttl=60".
func (a *answer) about() string {
	return strings.TrimPrefix(a.Header.Get("Cache-Status"), "Accelerator; ")
}

func (a *answer) hit() bool    { return strings.HasPrefix(a.about(), "hit") }
func (a *answer) stored() bool { return strings.Contains(a.about(), "; stored") }

// fields adds lines like "Name: value" to h. The name is sent as it is written.
func fields(h http.Header, lines []string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		h[name] = append(h[name], strings.TrimPrefix(value, " "))
	}
}

// do sends a request and reads the answer.
func (s *site) do(method, path string, lines ...string) *answer {
	s.t.Helper()
	a, err := s.try(method, path, lines...)
	require.NoError(s.t, err)
	return a
}

// try is do for a request that may fail, and for any goroutine.
func (s *site) try(method, path string, lines ...string) (*answer, error) {
	req, err := http.NewRequest(method, s.at+path, nil)
	if err != nil {
		return nil, err
	}
	req.Host = host
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ":")
		if value = strings.TrimPrefix(value, " "); name == "Host" {
			req.Host = value
		} else {
			req.Header.Add(name, value)
		}
	}
	res, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return &answer{res, string(body)}, err
}

func (s *site) get(path string, lines ...string) *answer {
	s.t.Helper()
	return s.do(http.MethodGet, path, lines...)
}

// forwards sends a GET that has to be answered by the origin, asked once.
func (s *site) forwards(path string, lines ...string) *answer {
	s.t.Helper()
	before := s.origin.count()
	a := s.get(path, lines...)
	require.False(s.t, a.hit(), "%s: %s", path, a.about())
	require.Equal(s.t, 1, s.origin.count()-before, "requests to the origin for %s: %s", path, a.about())
	return a
}

// reuses sends a GET that has to be answered without the origin, by a response
// that is fresh.
func (s *site) reuses(path string, lines ...string) *answer {
	s.t.Helper()
	before := s.origin.count()
	a := s.get(path, lines...)
	require.Equal(s.t, 0, s.origin.count()-before, "requests to the origin for %s: %s", path, a.about())
	require.True(s.t, a.hit(), "%s: %s", path, a.about())
	require.NotContains(s.t, a.about(), "ttl=-", path)
	return a
}

// stores sends a GET whose answer has to be stored, and that alone.
func (s *site) stores(path string, lines ...string) *answer {
	s.t.Helper()
	a := s.forwards(path, lines...)
	require.True(s.t, a.stored(), "%s: %s", path, a.about())
	return a
}

// storesNothing sends a GET whose answer must not be stored, and sees that the
// next one goes to the origin as a new question.
func (s *site) storesNothing(path string, lines ...string) *answer {
	s.t.Helper()
	a := s.forwards(path, lines...)
	assert.False(s.t, a.stored(), "%s: %s", path, a.about())
	again := s.forwards(path, lines...)
	assert.False(s.t, again.stored(), "%s: %s", path, again.about())
	last := s.origin.last()
	assert.Empty(s.t, last.Header.Get("If-None-Match"), "it was validated, so it was stored")
	assert.Empty(s.t, last.Header.Get("If-Modified-Since"), "it was validated, so it was stored")
	return a
}

// freshFor sees that what the origin says now is fresh for so many seconds, and
// no longer. 0 means that it is stale at once, stored or not.
func (s *site) freshFor(seconds int64) {
	s.t.Helper()
	path := s.path()
	first := s.forwards(path)
	if seconds > 0 {
		s.clock.add(time.Duration(seconds-1) * time.Second)
		again := s.reuses(path)
		assert.Equal(s.t, first.body, again.body)
		s.clock.add(time.Second)
	}
	s.forwards(path)
}

// A lifetime is a header of the origin's, and for how many seconds the response
// is fresh by it.
type lifetime struct {
	header  []string
	seconds int64
}

// lifetimes tries the rows of a table.
func (s *site) lifetimes(table []lifetime) {
	s.t.Helper()
	for _, row := range table {
		s.run(strings.Join(row.header, " · "), func(s *site) {
			s.origin.says(http.StatusOK, row.header...)
			s.freshFor(row.seconds)
		})
	}
}

// eventually waits for something that happens in the background.
func (s *site) eventually(what string, cond func() bool) {
	s.t.Helper()
	require.Eventually(s.t, cond, 20*time.Second, time.Millisecond, what)
}

// An origin is a server that answers as it was told last, and remembers what it
// was asked.
type origin struct {
	clock *clock
	close func()
	at    string // its URL

	mu     sync.Mutex // guards the following
	answer func(w http.ResponseWriter, r *http.Request, n int)
	seen   []*http.Request
}

func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	o.seen = append(o.seen, r.Clone(r.Context()))
	answer, n := o.answer, len(o.seen)
	o.mu.Unlock()
	answer(w, r, n)
}

// does sets what happens from now on; n is the number of the request.
func (o *origin) does(answer func(w http.ResponseWriter, r *http.Request, n int)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.answer = answer
}

// says sets what is answered from now on: a status, header lines, and a body
// "answer N", where N is the number of the request.
//
// A line "Date:" without a value means that there is no Date; otherwise there is
// one, that of the clock if no line says another. {60} in a line stands for the
// HTTP-date a minute later than the clock's.
func (o *origin) says(status int, lines ...string) {
	o.does(func(w http.ResponseWriter, _ *http.Request, n int) {
		o.write(w, status, "answer "+strconv.Itoa(n), lines...)
	})
}

// saysBody is says with a body of the test's own.
func (o *origin) saysBody(body string, lines ...string) {
	o.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
		o.write(w, http.StatusOK, body, lines...)
	})
}

var relative = regexp.MustCompile(`\{(-?\d+)\}`)

func (o *origin) write(w http.ResponseWriter, status int, body string, lines ...string) {
	now := o.clock.now()
	h := w.Header()
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, "Date:") }) {
		lines = append([]string{"Date: {0}"}, lines...)
	}
	for _, line := range lines {
		if line == "Date:" {
			h["Date"] = nil
			continue
		}
		line = relative.ReplaceAllStringFunc(line, func(match string) string {
			n, _ := strconv.Atoi(strings.Trim(match, "{}"))
			return httpDate(now, n)
		})
		fields(h, []string{line})
	}
	w.WriteHeader(status)
	if status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified {
		_, _ = io.WriteString(w, body)
	}
}

// count returns how many requests there were.
func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.seen)
}

// last returns the last request.
func (o *origin) last() *http.Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[len(o.seen)-1]
}

func httpDate(t time.Time, seconds int) string {
	return t.Add(time.Duration(seconds) * time.Second).UTC().Format(http.TimeFormat)
}

// rawOrigin is an origin that answers each request with these bytes and closes
// the connection, for what net/http would not send.
func rawOrigin(t *testing.T, response string) (at string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			request := make([]byte, 64<<10) // none of these tests sends more
			_, _ = conn.Read(request)
			_, _ = io.WriteString(conn, response)
			_ = conn.Close()
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-done
	})
	return "http://" + listener.Addr().String()
}

// A clock is set by hand. It begins on Wednesday, 2 January 2030, 03:04:05 GMT.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// pass lets seconds go by.
func (s *site) pass(seconds int64) { s.clock.add(time.Duration(seconds) * time.Second) }
