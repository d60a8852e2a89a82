package faults_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

// An ending is a server at its end, with requests that its end finds on their way.
type ending struct {
	t      testing.TB
	path   string
	site   *faults.Site
	server *http.Server
	base   string
	client *http.Client
	served chan error

	inside atomic.Int64  // handlers that wait for release
	gate   chan struct{} // closed to let them go on
}

const (
	endingPages = 20
	endingTags  = 5
)

func startEnding(t testing.TB) *ending {
	e := &ending{t: t, path: filepath.Join(t.TempDir(), "cache.db"), gate: make(chan struct{}), served: make(chan error, 1)}
	store := boltstore.Open(e.path, boltstore.WithLogger(quiet))
	require.NoError(t, store.Ping(context.Background()))
	e.site = faults.Open(store, endingPages, endingTags, 5000)
	wait := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("wait") {
				e.inside.Add(1)
				<-e.gate
			}
			next.ServeHTTP(w, r)
		})
	}
	// A POST is what changes the site: it purges as README shows, from inside.
	e.site.Cache = accel.New(wait(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			var tag int
			fmt.Sscanf(r.URL.Path, "/purge/%d", &tag)
			e.site.Commit(tag)
			if err := e.site.Purge(r.Context(), tag); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
			return
		}
		e.site.Handler.ServeHTTP(w, r)
	})), store, accel.WithLogger(quiet))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e.base = "http://" + l.Addr().String()
	e.server = &http.Server{Handler: e.site.Cache}
	go func() { e.served <- e.server.Serve(l) }()
	e.client = &http.Client{Transport: &http.Transport{}}
	t.Cleanup(func() {
		e.client.CloseIdleConnections()
		e.server.Close()
		e.site.Cache.Close()
	})
	return e
}

func (e *ending) get(url string, page int) error {
	req, err := http.NewRequest(http.MethodGet, e.base+url, nil)
	if err != nil {
		return err
	}
	req.Host = "site.test" // which is part of the key, whatever the port
	res, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.80s", url, res.Status, body)
	}
	_, err = faults.Check(page, body)
	return err
}

// crowd sends requests that are inside the handler when it returns: pages that
// are not stored yet, and two purges. What wait returns is what became of them.
func (e *ending) crowd() (wait func() (pages, purges []error)) {
	var wg sync.WaitGroup
	pages, purges := make([]error, endingPages), make([]error, 2)
	for i := range pages {
		wg.Go(func() { pages[i] = e.get(faults.URL(i)+"?wait", i) })
	}
	for i := range purges {
		wg.Go(func() {
			res, err := e.client.Post(fmt.Sprintf("%s/purge/%d?wait", e.base, i), "text/plain", strings.NewReader("x"))
			if err == nil {
				if res.StatusCode != http.StatusOK {
					b, _ := io.ReadAll(res.Body)
					err = fmt.Errorf("%s: %s", res.Status, b)
				}
				res.Body.Close()
			}
			purges[i] = err
		})
	}
	require.Eventually(e.t, func() bool { return e.inside.Load() == endingPages+2 }, hang, tick)
	return func() ([]error, []error) {
		within(e.t, "requests on their way", wg.Wait)
		return pages, purges
	}
}

// Shutdown, which waits for the requests on their way, and then Close: they are
// answered, what they made is stored, and what they purged is purged.
func TestShutdownThenCloseLosesNothing(t *testing.T) {
	t.Parallel()
	for range faults.Rounds(2, 10, 50) {
		e := startEnding(t)
		wait := e.crowd()
		down := make(chan error, 1)
		go func() { down <- e.server.Shutdown(context.Background()) }()
		require.ErrorIs(t, <-e.served, http.ErrServerClosed)
		close(e.gate)
		pages, purges := wait()
		require.NoError(t, errors.Join(pages...))
		require.NoError(t, errors.Join(purges...), "the store is open as long as requests are on their way")
		require.NoError(t, <-down)
		within(t, "Close", func() { require.NoError(t, e.site.Cache.Close()) })
		left(t, e.path)

		// Everything is there, but for what a purge may have struck.
		s := boltstore.Open(e.path, boltstore.WithLogger(quiet))
		require.NoError(t, s.Ping(context.Background()))
		after := accel.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "not in the cache", http.StatusNotFound)
		}), s)
		next := &ending{base: e.serve(after), client: e.client}
		for page := range endingPages {
			if e.site.TagOf(page) < 2 {
				continue
			}
			// More than once, because a busy machine may be too slow to read it.
			var err error
			require.Eventually(t, func() bool {
				err = next.get(faults.URL(page)+"?wait", page)
				return err == nil
			}, hang, tick, "page %d: %v", page, err)
		}
		require.NoError(t, after.Close())
	}
}

// serve serves a handler until the end of the test.
func (e *ending) serve(h http.Handler) (base string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(e.t, err)
	server := &http.Server{Handler: h}
	go server.Serve(l)
	e.t.Cleanup(func() { server.Close() })
	return "http://" + l.Addr().String()
}

// Close as soon as Serve has returned, which it does at the beginning of Shutdown:
// requests on their way are answered as if there were no cache, and an
// invalidation says that it is none.
func TestCloseWhenServeReturns(t *testing.T) {
	t.Parallel()
	for range faults.Rounds(2, 10, 50) {
		e := startEnding(t)
		wait := e.crowd()
		down := make(chan error, 1)
		go func() { down <- e.server.Shutdown(context.Background()) }()
		require.ErrorIs(t, <-e.served, http.ErrServerClosed)
		within(t, "Close, with requests on their way", func() { require.NoError(t, e.site.Cache.Close()) })
		close(e.gate)
		pages, purges := wait()
		require.NoError(t, errors.Join(pages...))
		for _, err := range purges {
			require.ErrorContains(t, err, accel.ErrClosed.Error())
		}
		require.NoError(t, <-down)
		left(t, e.path)
	}
}
