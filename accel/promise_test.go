package accel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/memstore"
)

// promiseTime is for how long the promise is tried to be broken, for each store.
const promiseTime = 1000 * time.Millisecond

// The promise, over real connections: pages show the versions of the things they
// are made from, writers commit and invalidate, and a request that begins after
// an invalidation has returned sees no older version. Beside them there are
// refreshes, expirations, failing handlers, variants, clients that leave.
func TestPromise(t *testing.T) {
	stores := map[string]func(t *testing.T) accel.Store{
		"memstore":           func(*testing.T) accel.Store { return memstore.New() },
		"memstore, tiny":     func(*testing.T) accel.Store { return memstore.New(memstore.WithMaxSize(64 << 10)) },
		"boltstore":          func(t *testing.T) accel.Store { return openBolt(t) },
		"boltstore, no tier": func(t *testing.T) accel.Store { return openBolt(t, boltstore.WithMemory(0)) },
	}
	for name, open := range stores {
		t.Run(name, func(t *testing.T) { tryPromise(t, open(t)) })
	}
}

func openBolt(t testing.TB, opts ...boltstore.Option) accel.Store {
	s := boltstore.Open(filepath.Join(t.TempDir(), "cache.db"), append(opts, boltstore.WithLogger(quiet))...)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

func tryPromise(t *testing.T, s accel.Store) {
	const things, pages = 6, 12
	var (
		committed [things]atomic.Int64 // the versions in the "database"
		seen      [things]atomic.Int64 // those whose invalidation has returned
	)
	tag := func(i int) string { return "thing:" + strconv.Itoa(i) }
	// Page p is made from one to three things.
	madeFrom := func(p int) (list []int) {
		for i := range 1 + p%3 {
			list = append(list, (p+i*(1+p/6))%things)
		}
		return list
	}
	c := newCacheOver(t, s, func(w http.ResponseWriter, r *http.Request) {
		p, _ := strconv.Atoi(r.URL.Path[1:])
		ctx := r.Context()
		accel.CacheFor(ctx, time.Duration(p%4)*20*time.Millisecond,
			accel.StaleWhileRevalidate(time.Minute), accel.StaleIfError(time.Minute))
		if p%5 == 0 {
			w.Header().Set("Vary", "X-Variant")
		}
		for n, i := range madeFrom(p) {
			if n%2 == 0 {
				accel.Tag(ctx, tag(i))
			}
			fmt.Fprintf(w, "%d=%d ", i, committed[i].Load())
			for range rand.IntN(20) {
				runtime.Gosched()
			}
			accel.Tag(ctx, tag(i))
		}
		switch rand.IntN(40) {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			accel.NoStore(ctx)
		}
	})
	server := newServer(t, c)
	client := server.Client()
	client.Transport.(*http.Transport).MaxIdleConnsPerHost = 16
	wire := func(r *http.Request) *http.Response {
		r.RequestURI, r.URL.Scheme, r.URL.Host = "", "http", server.Listener.Addr().String()
		res, err := client.Do(r)
		if err != nil {
			return nil
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			return nil
		}
		res.Body = io.NopCloser(bytes.NewReader(b))
		return res
	}
	direct := func(r *http.Request) (res *http.Response) {
		defer func() { _ = recover() }() // the handler's
		return do(c, r)
	}

	ctx, cancel := context.WithTimeout(t.Context(), promiseTime)
	defer cancel()
	var hits atomic.Int64
	turns := make(chan struct{}, 4) // of the writers: one for some requests
	var wg sync.WaitGroup
	for reader := range 8 {
		send := direct
		if reader%2 == 0 {
			send = wire
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				if rand.IntN(4) == 0 {
					select {
					case turns <- struct{}{}:
					default:
					}
				}
				p := rand.IntN(pages)
				var atLeast [things]int64
				for i := range atLeast {
					atLeast[i] = seen[i].Load()
				}
				r := newRequest("/"+strconv.Itoa(p), "X-Variant", strconv.Itoa(rand.IntN(3)))
				leave := context.CancelFunc(func() {})
				if rand.IntN(10) == 0 {
					var ctx context.Context
					ctx, leave = context.WithTimeout(r.Context(), time.Duration(rand.IntN(1000))*time.Microsecond)
					r = r.WithContext(ctx)
				}
				res := send(r)
				leave()
				if res == nil || res.StatusCode != http.StatusOK {
					continue // it has left, or the handler has aborted
				}
				if status(res) == "hit" {
					hits.Add(1)
				}
				b := body(t, res)
				shown := strings.Fields(b)
				for n, i := range madeFrom(p) {
					if n == len(shown) {
						break // the handler has aborted here; a recorder does not tell
					}
					name, number, _ := strings.Cut(shown[n], "=")
					version, err := strconv.ParseInt(number, 10, 64)
					if err != nil || name != strconv.Itoa(i) {
						t.Errorf("page %d shows %q", p, b)
					}
					if version < atLeast[i] {
						t.Errorf("page %d shows %s after %d was invalidated: %s",
							p, shown[n], atLeast[i]-1, res.Header.Get("Cache-Status"))
					}
				}
			}
		})
	}
	for writer := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-turns:
				}
				i := rand.IntN(things)
				if writer == 0 {
					if err := c.ExpireTag(context.Background(), tag(i)); err != nil {
						t.Error(err)
					}
					continue
				}
				version := committed[i].Add(1)
				var err error
				switch rand.IntN(8) {
				case 0:
					err = c.InvalidateAll(context.Background())
				case 1:
					for p := range pages {
						err = errors.Join(err, c.InvalidateURL(context.Background(), "/"+strconv.Itoa(p)))
					}
				default:
					err = c.InvalidateTag(context.Background(), tag(i))
				}
				if err != nil {
					t.Error(err)
				}
				for old := seen[i].Load(); old < version && !seen[i].CompareAndSwap(old, version); {
					old = seen[i].Load()
				}
			}
		})
	}
	wg.Wait()
	server.Close()
	client.CloseIdleConnections()
	if err := c.Close(); err != nil { // refreshes end with it
		t.Error(err)
	}
	stats := c.Stats()
	t.Logf("%+v", stats)
	if hits.Load() == 0 || stats.Refreshes == 0 || stats.Collapsed == 0 || stats.NotStored["invalidated"] == 0 {
		t.Error("something was not tried")
	}
}
