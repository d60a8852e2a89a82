package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/examples/godoc/page"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quiet is a logger that says nothing.
var quiet = slog.New(slog.DiscardHandler)

func library(t *testing.T) *page.Library {
	t.Helper()
	l, err := page.Open("")
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, l.Close()) })
	return l
}

func ask(h http.Handler, method, target string) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

func isHit(res *http.Response) bool {
	return strings.Contains(res.Header.Get("Cache-Status"), "; hit")
}

// The handlers work without a cache, too.
func TestSiteAlone(t *testing.T) {
	h := site(library(t), quiet)
	for _, test := range []struct {
		method, target string
		status         int
		text           string
	}{
		{"GET", "/", 200, "Standard library"},
		{"GET", "/unicode/utf8", 200, "RuneError"},
		{"GET", "/no/such/package", 404, "no such package"},
		{"GET", "/internal/abi", 404, "no such package"},
		{"GET", "/cmd/go", 404, "no such package"},
		{"GET", "/..%2f..%2fetc", 404, "no such package"},
		{"GET", "/unicode%2futf8%00", 404, "no such package"},
		{"POST", "/touch?pkg=io", 200, "Invalidated pkg:io"},
		{"POST", "/touch", 400, "which package"},
		{"POST", "/touch?pkg=", 400, "which package"},
		{"POST", "/touch?pkg=../io", 400, "which package"},
		{"POST", "/touch?pkg=a%0ab", 400, "which package"},
		{"POST", "/touch?pkg=" + strings.Repeat("a", 300), 400, "which package"},
	} {
		res := ask(h, test.method, test.target)
		assert.Equal(t, test.status, res.StatusCode, test.target)
		assert.True(t, strings.Contains(body(t, res), test.text), "%s lacks %q", test.target, test.text)
	}
}

// The point of the example: a page stays until something it was made from
// changes, and then it is exactly the pages made from that which go.
func TestTouchStrikesTheDependants(t *testing.T) {
	l := library(t)
	store := boltstore.Open(filepath.Join(t.TempDir(), "cache.db"), boltstore.WithLogger(quiet))
	require.NoError(t, store.Ping(t.Context()))
	cache := accel.New(site(l, quiet), store)
	defer func() { assert.NoError(t, cache.Close()) }()

	pages := []string{"", "io", "bufio", "net/http", "unicode/utf8", "errors", "strings", "sort", "io/fs", "encoding/csv", "math/bits"}
	dependsOnIO := make(map[string]bool)
	first := make(map[string]string)
	for _, importPath := range pages {
		res := ask(cache, http.MethodGet, "/"+importPath)
		require.Equal(t, http.StatusOK, res.StatusCode, importPath)
		assert.Contains(t, res.Header.Get("Cache-Status"), "Accelerator; fwd=", importPath)
		first[importPath] = body(t, res)
		if importPath != "" {
			p, err := l.Package(t.Context(), importPath)
			require.NoError(t, err)
			dependsOnIO[importPath] = importPath == "io" || slices.Contains(p.Imports, "io")
		}
	}
	assert.True(t, dependsOnIO["net/http"] && dependsOnIO["bufio"])
	assert.False(t, dependsOnIO["unicode/utf8"])

	for _, importPath := range pages {
		res := ask(cache, http.MethodGet, "/"+importPath)
		assert.True(t, isHit(res), "%q: %s", importPath, res.Header.Get("Cache-Status"))
		assert.True(t, first[importPath] == body(t, res), "%q from the cache differs", importPath)
	}

	res := ask(cache, http.MethodPost, "/touch?pkg=io")
	require.Equal(t, http.StatusOK, res.StatusCode, body(t, res))

	for _, importPath := range pages {
		res := ask(cache, http.MethodGet, "/"+importPath)
		assert.Equal(t, !dependsOnIO[importPath], isHit(res), "%q: %s", importPath, res.Header.Get("Cache-Status"))
		assert.True(t, isHit(ask(cache, http.MethodGet, "/"+importPath)), "%q is not kept again", importPath)
	}
}

func TestUnknownPackagesAreNotKept(t *testing.T) {
	store := boltstore.Open(filepath.Join(t.TempDir(), "cache.db"), boltstore.WithLogger(quiet))
	require.NoError(t, store.Ping(t.Context()))
	cache := accel.New(site(library(t), quiet), store)
	defer func() { assert.NoError(t, cache.Close()) }()
	for range 2 {
		res := ask(cache, http.MethodGet, "/no/such/package")
		assert.Equal(t, http.StatusNotFound, res.StatusCode)
		assert.False(t, isHit(res))
	}
}

// A page is still there after the program has been stopped and started again.
func TestRestart(t *testing.T) {
	db := filepath.Join(t.TempDir(), "cache.db")
	for round := range 2 {
		serving(t, db, func(url string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/unicode/utf8", nil)
			require.NoError(t, err)
			r.Host = "docs.example" // the port is another each time, and part of the key
			res, err := http.DefaultClient.Do(r)
			require.NoError(t, err)
			defer res.Body.Close()
			assert.True(t, strings.Contains(body(t, res), "RuneError"))
			assert.Equal(t, round > 0, isHit(res), res.Header.Get("Cache-Status"))
		})
	}
}

// serving runs the program as it is run from a terminal.
func serving(t *testing.T, db string, do func(url string)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, screen := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, []string{"-addr", "localhost:0", "-db", db}, screen)
		screen.CloseWithError(err)
		ended <- err
	}()

	var seen []byte
	address := regexp.MustCompile(`is at (http://\S+)/\n`)
	for !address.Match(seen) {
		piece := make([]byte, 4096)
		n, err := out.Read(piece)
		require.NoError(t, err, "%s", seen)
		seen = append(seen, piece[:n]...)
	}
	rest := make(chan string, 1)
	go func() { text, _ := io.ReadAll(out); rest <- string(text) }()

	do(string(address.FindSubmatch(seen)[1]))
	http.DefaultClient.CloseIdleConnections()
	stop()
	assert.NoError(t, <-ended)
	assert.Contains(t, <-rest, "GET  /unicode/utf8  [Accelerator; ")
}

func TestRunRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "localhost:0")
	require.NoError(t, err)
	defer taken.Close()
	db := filepath.Join(t.TempDir(), "cache.db")

	run := func(args ...string) error { return run(t.Context(), append(args, "-db", db), io.Discard) }
	assert.ErrorContains(t, run("-addr", taken.Addr().String()), "choose another address with -addr")
	assert.ErrorContains(t, run("-goroot", t.TempDir()), "has no Go source")
	assert.Error(t, run("-addr", "nonsense:port:9"))
	assert.Error(t, run("-unknown"))
	assert.True(t, errors.Is(run("-h"), flag.ErrHelp))
}
