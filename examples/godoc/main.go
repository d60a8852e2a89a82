// Godoc serves the documentation of the Go standard library on this machine,
// through a cache that survives a restart.
//
// Each page is rendered from source when it is asked for, which takes
// milliseconds, and kept until its time is up or until one of the packages it
// was made from changes. It was made from the package itself and from those
// that it imports, and each of them is a tag on it: POST /touch?pkg=io stands
// for a change in io, after which exactly the pages that depend on io are
// rendered again.
//
//	go run ./examples/godoc
//
// The cache is the file cache.db in the working directory, and accel-inspect
// shows what is in it. It knows nothing of an upgrade of Go: after one, pages
// are up to a day old, unless "accel-inspect purge --all" is called.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/examples/godoc/page"
	"github.com/accelhttp/accelerator/examples/internal/serve"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "godoc:", err)
		os.Exit(1)
	}
}

// run is the program: it serves until ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("godoc", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "localhost:8080", "`address` to listen on")
	db := flags.String("db", "cache.db", "`file` that keeps the cache")
	goroot := flags.String("goroot", "", "Go installation to document (default: that of the go command)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	library, err := page.Open(*goroot)
	if err != nil {
		return err
	}
	defer library.Close()

	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	store := boltstore.Open(*db, boltstore.WithLogger(logger))
	cache := accel.New(site(library, logger), store, accel.WithLogger(logger))

	// Give the file a moment to open, so that what is in it answers the first
	// request already. If it does not, the pages are served all the same, and
	// the store has logged why.
	opening, cancel := context.WithTimeout(ctx, 2*time.Second)
	_ = store.Ping(opening)
	cancel()

	err = serve.Run(ctx, *addr, serve.Log(out, cache), func(url string) {
		fmt.Fprintf(out, welcome, library.Version(), url, *db)
	})
	return cmp.Or(err, cache.Close())
}

const welcome = `
  The standard library of %[1]s is at %[2]s/

  Ask twice and compare the Cache-Status and the time:

    curl --compressed -s -o /dev/null -D - -w '%%{time_total} s\n' %[2]s/net/http

  Change io. What depends on it is rendered again, the rest is not:

    curl -X POST '%[2]s/touch?pkg=io'

  See what is in the cache, once this program has been stopped:

    go run ./cmd/accel-inspect tags %[3]s

  Ctrl-C ends it. Start it again: the pages are still there.

`

// site is the program without a cache, but for what each page says about
// itself. Outside a cache, saying so does nothing.
func site(library *page.Library, logger *slog.Logger) http.Handler {
	s := &server{library: library, log: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("GET /{path...}", s.pkg)
	mux.HandleFunc("POST /touch", s.touch)
	return mux
}

type server struct {
	library *page.Library
	log     *slog.Logger
}

// keep is how long a page may stay if nothing it was made from changes.
const keep = 24 * time.Hour

func (s *server) index(w http.ResponseWriter, r *http.Request) {
	index, err := s.library.Index()
	if err != nil {
		s.fail(w, r, err)
		return
	}
	accel.CacheFor(r.Context(), keep)
	accel.Tag(r.Context(), "index")
	s.answer(w, index)
}

func (s *server) pkg(w http.ResponseWriter, r *http.Request) {
	found, err := s.read(r.Context(), r.PathValue("path"))
	switch {
	case errors.Is(err, page.ErrNotFound):
		http.Error(w, "There is no such package in the standard library.", http.StatusNotFound)
		return
	case err != nil:
		s.fail(w, r, err)
		return
	}
	accel.CacheFor(r.Context(), keep)
	s.answer(w, found)
}

// read gets a page and says what it was made from. A response may carry 128
// tags, and would be served but not stored with more. The standard library
// stays far below: crypto/tls, which imports most, has some fifty.
func (s *server) read(ctx context.Context, importPath string) (page.Page, error) {
	found, err := s.library.Package(ctx, importPath)
	if err != nil {
		return page.Page{}, err
	}
	accel.Tag(ctx, tag(found.ImportPath))
	for _, imported := range found.Imports {
		accel.Tag(ctx, tag(imported))
	}
	return found, nil
}

// tag is the name under which a package is known to the cache.
func tag(importPath string) string { return "pkg:" + importPath }

func (s *server) answer(w http.ResponseWriter, p page.Page) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:")
	// Browsers ask each time, for the tag that ends a page's life does not
	// reach them. An answer of 304 is cheap.
	h.Set("Cache-Control", "no-cache")
	_, _ = w.Write(p.HTML) // the client may have left
}

// touch says that a package has changed. The cache drops what was made from
// it before the answer is written.
func (s *server) touch(w http.ResponseWriter, r *http.Request) {
	importPath := r.URL.Query().Get("pkg")
	if !plausible(importPath) {
		http.Error(w, "Say which package has changed, such as /touch?pkg=io", http.StatusBadRequest)
		return
	}
	err := accel.FromContext(r.Context()).InvalidateTag(r.Context(), tag(importPath))
	switch {
	case errors.Is(err, accel.ErrNotDurable):
		s.log.Warn("touch", "pkg", importPath, "err", err)
		http.Error(w, "Invalidated "+tag(importPath)+" in memory, but not on disk: it would not survive a restart. "+err.Error(), http.StatusInternalServerError)
	case err != nil:
		s.fail(w, r, err)
	default:
		fmt.Fprintf(w, "Invalidated %s: every page made from it is rendered again when it is next asked for.\n", tag(importPath))
	}
}

// plausible reports whether something can be an import path. Packages without
// a page, internal ones for example, are tags as well.
func plausible(importPath string) bool {
	return fs.ValidPath(importPath) && importPath != "." && len(importPath) <= 200 &&
		!strings.ContainsFunc(importPath, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) })
}

// fail answers with an error that is ours. Nothing of it is kept.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil { // else the client has left, which is no fault of ours
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
	}
	http.Error(w, "This page could not be rendered.", http.StatusInternalServerError)
}
