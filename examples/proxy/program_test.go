package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A screen is where a program writes.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var listensAt = regexp.MustCompile(`(http://127\.0\.0\.1:\d+) answers for`)

// program runs the program until the test is over or end is called. It returns
// its URL.
func program(t *testing.T, args ...string) (at string, out *screen, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out = &screen{}
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), out) }()
	require.Eventually(t, func() bool { return listensAt.MatchString(out.String()) }, 20*time.Second, time.Millisecond)
	var once sync.Once
	end = func() {
		once.Do(func() {
			cancel()
			assert.NoError(t, <-ended)
		})
	}
	t.Cleanup(end)
	return listensAt.FindStringSubmatch(out.String())[1], out, end
}

// ask asks a program as a browser would that knows it as site.test.
func ask(t *testing.T, method, target string) *answer {
	t.Helper()
	req, err := http.NewRequest(method, target, nil)
	require.NoError(t, err)
	req.Host, req.Close = host, true
	res, err := http.DefaultTransport.RoundTrip(req)
	require.NoError(t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return &answer{res, string(body)}
}

func TestProgram(t *testing.T) {
	var got *http.Request
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.Clone(r.Context())
		w.Header().Set("Cache-Control", "max-age=3600")
		_, _ = io.WriteString(w, "Hello.")
	}))
	defer origin.Close()
	db := filepath.Join(t.TempDir(), "cache.db")

	at, _, end := program(t, "-origin", origin.URL+"/base", "-store", db, "-debug")
	first := ask(t, http.MethodGet, at+"/a?b=c;d")
	assert.Equal(t, `fwd=uri-miss; stored; key="http://site.test/a?b=c;d"`, first.about())
	assert.Equal(t, "/base/a?b=c;d", got.RequestURI)
	assert.Equal(t, host, got.Header.Get("X-Forwarded-Host"))
	assert.Equal(t, "127.0.0.1", got.Header.Get("X-Forwarded-For"))
	assert.Equal(t, "http", got.Header.Get("X-Forwarded-Proto"))
	assert.Equal(t, "1.1 accelerator", got.Header.Get("Via"))
	end()

	// What is stored survives the end.
	at, out, end := program(t, "-origin", origin.URL+"/base", "-store", db)
	require.Eventually(t, func() bool { return ask(t, http.MethodGet, at+"/a?b=c;d").hit() }, 20*time.Second, time.Millisecond)
	assert.Contains(t, out.String(), "[Accelerator; hit; ttl=")
	assert.Equal(t, http.StatusOK, ask(t, http.MethodPost, at+"/a?b=c;d").StatusCode)
	assert.False(t, ask(t, http.MethodGet, at+"/a?b=c;d").hit(), "after a POST")
	end()

	// What is in memory does not.
	for range 2 {
		at, _, end := program(t, "-origin", origin.URL, "-store", "memory")
		assert.False(t, ask(t, http.MethodGet, at+"/").hit())
		assert.True(t, ask(t, http.MethodGet, at+"/").hit())
		end()
	}
}

func TestProgramGuesses(t *testing.T) {
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Last-Modified", time.Now().Add(-240*time.Hour).UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, "Hello.")
	}))
	defer origin.Close()
	for guess, hit := range map[string]bool{"0": false, "1h": true} {
		at, _, end := program(t, "-origin", origin.URL, "-store", "memory", "-heuristic", guess)
		ask(t, http.MethodGet, at+"/")
		assert.Equal(t, hit, ask(t, http.MethodGet, at+"/").hit(), guess)
		end()
	}
}

func TestProgramWithoutOrigin(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, taken.Close()) // now nobody listens there
	at, out, _ := program(t, "-origin", "http://"+taken.Addr().String(), "-store", "memory")
	a := ask(t, http.MethodGet, at+"/")
	assert.Equal(t, http.StatusBadGateway, a.StatusCode)
	assert.False(t, a.stored())
	assert.Contains(t, out.String(), "connection refused")
}

func TestProgramRefuses(t *testing.T) {
	for _, test := range []struct {
		args []string
		text string
	}{
		{nil, "which server? (-origin http://127.0.0.1:8000)"},
		{[]string{"-origin", "localhost:8000"}, `"localhost:8000" is not a URL`},
		{[]string{"-origin", "ftp://localhost"}, "is not a URL"},
		{[]string{"-origin", "http://"}, "is not a URL"},
		{[]string{"-origin", "http://localhost", "more"}, `unexpected argument "more"`},
		{[]string{"-unknown"}, "not defined"},
	} {
		assert.ErrorContains(t, run(t.Context(), test.args, io.Discard), test.text)
	}
	assert.ErrorIs(t, run(t.Context(), []string{"-h"}, io.Discard), flag.ErrHelp)

	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	err = run(t.Context(), []string{"-origin", "http://localhost", "-store", "memory", "-addr", taken.Addr().String()}, io.Discard)
	assert.ErrorContains(t, err, taken.Addr().String())
	assert.ErrorContains(t, err, "-addr")
}

// Who the client says it is, and was sent by, is not passed on.
func TestForwardedHeaders(t *testing.T) {
	everywhere(t, func(s *site) {
		s.get("/", "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: evil.test", "X-Forwarded-Proto: https", "Forwarded: for=192.0.2.1")
		h := s.origin.last().Header
		assert.Equal(s.t, []string{"127.0.0.1"}, h["X-Forwarded-For"])
		assert.Equal(s.t, []string{host}, h["X-Forwarded-Host"])
		assert.Equal(s.t, []string{"http"}, h["X-Forwarded-Proto"])
		assert.NotContains(s.t, h, "Forwarded")
	})
}

// The transport asks for no coding of its own: the tag of a compressed form is
// not that of what comes out of it.
func TestNothingIsDecodedOnTheWay(t *testing.T) {
	everywhere(t, func(s *site) {
		s.get("/plain")
		assert.NotContains(s.t, s.origin.last().Header, "Accept-Encoding")
		s.get("/any", "Accept-Encoding: br, gzip")
		assert.NotContains(s.t, s.origin.last().Header.Get("Accept-Encoding"), "br")
	})
}

func TestParseOrigin(t *testing.T) {
	u, err := parseOrigin("https://example.com/base")
	require.NoError(t, err)
	assert.Equal(t, &url.URL{Scheme: "https", Host: "example.com", Path: "/base"}, u)
}

// A stream has no end, and what it says is said at once.
func TestStreamsPass(t *testing.T) {
	everywhere(t, func(s *site) {
		goOn := make(chan struct{})
		s.origin.does(func(w http.ResponseWriter, _ *http.Request, _ int) {
			s.origin.write(w, http.StatusOK, "data: 1\n\n", "Content-Type: text/event-stream")
			_ = http.NewResponseController(w).Flush()
			<-goOn
		})
		res, err := s.client.Get(s.at + "/events")
		require.NoError(s.t, err)
		defer res.Body.Close()
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		assert.NoError(s.t, err)
		assert.Equal(s.t, "data: 1\n", line)
		close(goOn)
	})
}

// A connection that stops being HTTP goes through to the origin.
func TestUpgradesPass(t *testing.T) {
	everywhere(t, func(s *site) {
		s.origin.does(func(w http.ResponseWriter, r *http.Request, _ int) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if !assert.NoError(s.t, err) {
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
			line, _ := rw.ReadString('\n')
			_, _ = io.WriteString(conn, "you said "+line)
		})
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.at, "http://"))
		require.NoError(s.t, err)
		defer conn.Close()
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: site.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
		r := bufio.NewReader(conn)
		res, err := http.ReadResponse(r, nil)
		require.NoError(s.t, err)
		assert.Equal(s.t, http.StatusSwitchingProtocols, res.StatusCode)
		_, _ = io.WriteString(conn, "hello\n")
		line, err := r.ReadString('\n')
		assert.NoError(s.t, err)
		assert.Equal(s.t, "you said hello\n", line)
	})
}
