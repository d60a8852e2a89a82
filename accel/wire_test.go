package accel_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// The tests of wire_*_test.go speak to a cache over real connections, and to the
// same handler without a cache. Nothing in them takes as long as this, unless it
// hangs.
const wireDeadline = 10 * time.Second

var (
	wirePolicies = map[string]accel.Policy{"OptIn": accel.OptIn, "RFC9111": accel.RFC9111}
	wireVersions = map[string]bool{"HTTP1": false, "HTTP2": true}
)

// everyWire runs a test for each policy and each version of HTTP.
func everyWire(t *testing.T, f func(t *testing.T, policy accel.Policy, http2 bool)) {
	for policyName, policy := range wirePolicies {
		for version, http2 := range wireVersions {
			t.Run(policyName+"/"+version, func(t *testing.T) {
				t.Parallel()
				f(t, policy, http2)
			})
		}
	}
}

// A wire is a server over HTTP/1.1 without TLS, or over HTTP/2 with it.
type wire struct {
	*httptest.Server
	http2   bool
	addr    string
	client  *http.Client
	opened  atomic.Int64 // connections that were accepted
	begun   atomic.Int64 // requests that reached the handler
	serving atomic.Int64 // of these, those that it is serving
}

// newWire starts a server, which ends with the test.
func newWire(t testing.TB, http2 bool, h http.Handler, setUp ...func(*httptest.Server)) *wire {
	w := &wire{http2: http2}
	w.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.begun.Add(1)
		w.serving.Add(1)
		defer w.serving.Add(-1)
		h.ServeHTTP(rw, r)
	}))
	w.Config.ErrorLog = log.New(io.Discard, "", 0) // panics are meant
	w.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			w.opened.Add(1)
		}
	}
	for _, f := range setUp {
		f(w.Server)
	}
	if http2 {
		w.EnableHTTP2 = true
		w.StartTLS()
	} else {
		w.Start()
	}
	w.addr = w.Listener.Addr().String()
	w.client = w.newClient()
	t.Cleanup(func() {
		w.client.CloseIdleConnections()
		w.Close()
	})
	return w
}

// newCacheWire starts a server whose handler is h behind a cache.
func newCacheWire(t testing.TB, http2 bool, policy accel.Policy, h http.HandlerFunc, opts ...accel.Option) (*wire, *accel.Cache) {
	t.Helper()
	c := newCache(t, h, append([]accel.Option{accel.WithPolicy(policy)}, opts...)...)
	return newWire(t, http2, c), c
}

// newClient returns a client with connections of its own, which takes answers as
// they come.
func (w *wire) newClient() *http.Client {
	tr := w.Client().Transport.(*http.Transport).Clone()
	tr.DisableCompression = true
	tr.ExpectContinueTimeout = wireDeadline
	tr.ForceAttemptHTTP2 = w.http2
	return &http.Client{
		Transport:     tr,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial opens a connection that fails when nothing comes, and does not hang.
func (w *wire) dial(t testing.TB) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", w.addr)
	require.NoError(t, err)
	require.NoError(t, conn.SetDeadline(time.Now().Add(wireDeadline)))
	t.Cleanup(func() { conn.Close() })
	if !w.http2 {
		return conn
	}
	config := w.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos, config.ServerName = []string{"h2"}, "example.com"
	return tls.Client(conn, config)
}

// request makes a request that is over when it takes too long.
func (w *wire) request(t testing.TB, method, path string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), wireDeadline)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, method, w.URL+path, body)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// get sends a GET and reads the whole answer.
func (w *wire) get(t testing.TB, path string, header ...string) *http.Response {
	t.Helper()
	return w.do(t, http.MethodGet, path, header...)
}

// do sends a request without a body and reads the whole answer.
func (w *wire) do(t testing.TB, method, path string, header ...string) *http.Response {
	t.Helper()
	res, err := w.client.Do(w.request(t, method, path, nil, header...))
	require.NoError(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	res.Body = io.NopCloser(strings.NewReader(string(b)))
	return res
}

// settles waits until no handler runs, and no position is held any more.
func (w *wire) settles(t testing.TB, c *accel.Cache) {
	t.Helper()
	eventually(t, "all handlers have returned", func() bool { return w.serving.Load() == 0 })
	eventually(t, "no position is held", func() bool { return c.Stats().Store.InFlight == 0 })
}

// eventually waits for what can only be found out by looking again and again.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(wireDeadline); !f(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// receive receives from a channel, or fails when nothing comes. It may be called
// by handlers.
func receive[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	timer := time.NewTimer(wireDeadline)
	defer timer.Stop()
	select {
	case v = <-c:
	case <-timer.C:
		t.Errorf("never: %s", what)
	}
	return v
}

func say(w io.Writer, s string) { _, _ = io.WriteString(w, s) }

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }

// counted returns n bytes in which each place can be told from the others.
func counted(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%07d\n", i)
	}
	return b.String()[:n]
}

var (
	aboveBuffer = counted(9000)      // above the buffers of net/http
	aboveHold   = counted(100_000)   // above what is held
	aboveLimit  = counted(1_300_000) // above what is stored

	modified2020 = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
)

// A wireCall is a request to be sent in the same way over both versions.
type wireCall struct {
	method string // by default GET
	header []string
	body   string
}

// A sight is all that a client sees of an answer.
type sight struct {
	interim  []string // what came before: 100, 103
	status   int      // 0: there was no answer
	header   http.Header
	length   int64
	transfer []string
	closes   bool
	body     string
	broken   bool // the body broke off
	trailer  http.Header
	kept     bool // the connection served another request afterwards
}

// goodbye is the path of the request that see sends after the one it looks at.
const goodbye = "/goodbye"

// see sends a request, and another one over the same connection, and returns what
// there was to be seen.
func (w *wire) see(t testing.TB, path string, c wireCall) sight {
	t.Helper()
	if c.method == "" {
		c.method = http.MethodGet
	}
	if w.http2 {
		return w.see2(t, path, c)
	}
	return w.see1(t, path, c)
}

func (w *wire) see1(t testing.TB, path string, c wireCall) (s sight) {
	t.Helper()
	conn := w.dial(t)
	defer conn.Close()
	r := bufio.NewReader(conn)
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: site.example\r\n", c.method, path)
	expects := false
	for i := 0; i < len(c.header); i += 2 {
		head += c.header[i] + ": " + c.header[i+1] + "\r\n"
		expects = expects || c.header[i] == "Expect"
	}
	if c.body != "" {
		head += "Content-Length: " + strconv.Itoa(len(c.body)) + "\r\n"
	}
	say(conn, head+"\r\n")
	if !expects {
		say(conn, c.body) // a server need not take all of it
	}
	var res *http.Response
	for {
		var err error
		if res, err = http.ReadResponse(r, &http.Request{Method: c.method}); err != nil {
			return s
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			break
		}
		s.interim = append(s.interim, fmt.Sprint(res.StatusCode, res.Header))
		if res.StatusCode == http.StatusContinue && expects {
			expects = false
			say(conn, c.body)
		}
	}
	s.take(res)
	say(conn, "GET "+goodbye+" HTTP/1.1\r\nHost: site.example\r\n\r\n")
	next, err := http.ReadResponse(r, nil)
	s.kept = err == nil && next.StatusCode == http.StatusResetContent
	return s
}

func (w *wire) see2(t testing.TB, path string, c wireCall) (s sight) {
	t.Helper()
	var body io.Reader
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	req := w.request(t, c.method, path, body, c.header...)
	req.Host = "site.example"
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
			s.interim = append(s.interim, fmt.Sprint(code, h))
			return nil
		},
	}))
	if res, err := w.client.Transport.RoundTrip(req); err == nil {
		s.take(res)
		res.Body.Close()
	}
	before := w.opened.Load()
	w.get(t, goodbye)
	s.kept = w.opened.Load() == before
	return s
}

func (s *sight) take(res *http.Response) {
	s.status, s.header, s.length = res.StatusCode, res.Header, res.ContentLength
	s.transfer, s.closes = res.TransferEncoding, res.Close
	b, err := io.ReadAll(res.Body)
	s.body, s.broken = string(b), err != nil
	s.trailer = maps.Clone(res.Trailer)
}

func (s *sight) hit() bool { return strings.Contains(s.header.Get("Cache-Status"), "; hit") }

// stored reports whether the answer came out of the store or went into it.
func (s *sight) stored() bool {
	status := s.header.Get("Cache-Status")
	return s.hit() || strings.Contains(status, "; stored") || strings.Contains(status, "; fwd-status=304")
}

func (s sight) String() string {
	body := s.body
	if len(body) > 80 {
		body = fmt.Sprintf("%s... %d bytes, %x", body[:20], len(body), sha256.Sum256([]byte(body)))
	}
	return fmt.Sprintf("interim %q, status %d, header %q, length %d, transfer %q, closes %t, body %q, broken %t, trailer %q, kept %t",
		s.interim, s.status, s.header, s.length, s.transfer, s.closes, body, s.broken, s.trailer, s.kept)
}

// sameSight compares what was seen through a cache with what was seen without.
// What is stored may have gained what a cache adds to it; any other answer is the
// same, but for Cache-Status.
func sameSight(t testing.TB, what string, with, without sight) {
	t.Helper()
	stored, hit := with.stored(), with.hit()
	for _, s := range []*sight{&with, &without} {
		s.header = s.header.Clone()
		s.header.Del("Date")
		s.header.Del("Cache-Status")
	}
	if stored {
		with.header.Del("Age")
		if without.header["Etag"] == nil {
			with.header.Del("Etag")
		}
		vary := slices.DeleteFunc(slices.Clone(with.header["Vary"]), func(v string) bool { return v == "Accept-Encoding" })
		if with.header["Vary"] = vary; len(vary) == 0 {
			with.header.Del("Vary")
		}
		if with.status == http.StatusNotModified || with.status == http.StatusPreconditionFailed {
			// A hit answers with all that is stored.
			for _, name := range []string{"Accept-Ranges", "Content-Type", "Last-Modified", "Cache-Control"} {
				with.header.Del(name)
				without.header.Del(name)
			}
		}
	}
	if hit {
		with.interim, without.interim = nil, nil // no handler ran
	}
	if with.status != 0 && with.length >= 0 && without.length < 0 && with.length == int64(len(with.body)) {
		// The length of what was held is known before it is sent.
		with.header.Del("Content-Length")
		with.length, with.transfer = without.length, without.transfer
	}
	for _, s := range []*sight{&with, &without} {
		if _, boundary, ok := strings.Cut(s.header.Get("Content-Type"), "multipart/byteranges; boundary="); ok {
			s.header.Set("Content-Type", "multipart/byteranges")
			s.body = strings.ReplaceAll(s.body, boundary, "boundary")
		}
	}
	if with.broken && without.broken && (strings.HasPrefix(with.body, without.body) || strings.HasPrefix(without.body, with.body)) {
		with.body = without.body // it broke off where the size of some buffer made it
	}
	if x, y := fmt.Sprint(with), fmt.Sprint(without); x != y {
		t.Errorf("%s:\n%s\nwithout us:\n%s", what, x, y)
	}
}
