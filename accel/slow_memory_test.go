package accel_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Many slow clients of large responses that are being stored do not fill the
// memory: what is kept beside being sent is bounded, for all together, and what is
// beyond that is sent all the same. Afterwards everything is stored as before.
func TestKeptWhileSentIsBounded(t *testing.T) {
	const clients, size, piece = 100, 896 << 10, 16 << 10
	var kept sync.WaitGroup
	kept.Add(clients)
	gate := make(chan struct{})
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "image/png")
		for at := 0; at < size; at += piece {
			if at == size-piece {
				kept.Done()
				<-gate // all but the last piece was taken
			}
			_, _ = w.Write(make([]byte, piece))
		}
	})
	c := newCache(t, h)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			w := &counter{header: http.Header{}}
			c.ServeHTTP(w, newRequest(fmt.Sprint("/", i)))
			equal(t, "bytes", w.n, size)
		})
	}
	kept.Wait()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 80<<20 {
		t.Errorf("the heap has %d MiB", m.HeapAlloc>>20)
	}
	close(gate)
	wg.Wait()
	s := c.Stats()
	if s.Stored == 0 || s.Stored > 16<<20/(size-piece) || s.Stored+s.NotStored["store-busy"] != clients {
		t.Errorf("stored: %d; not: %v", s.Stored, s.NotStored)
	}

	// Each way a response may end gives its share back.
	kept.Add(2*clients + 1)
	for i := range clients {
		func() {
			defer func() { _ = recover() }()
			c.ServeHTTP(&counter{header: http.Header{}}, newRequest(fmt.Sprint("/again/", i)))
		}()
		func() {
			defer func() { _ = recover() }()
			c.Wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				accel.CacheFor(r.Context(), time.Hour)
				_, _ = w.Write(make([]byte, size))
				kept.Done()
				panic("boo")
			})).ServeHTTP(&counter{header: http.Header{}}, newRequest(fmt.Sprint("/crash/", i)))
		}()
	}
	equal(t, "not stored", c.Stats().NotStored["store-busy"], s.NotStored["store-busy"])
	expect(t, get(c, "/last"), "fwd=uri-miss")
	expect(t, get(c, "/last"), "hit")
	equal(t, "handler calls", calls.Load(), 2*clients+1)
}

// Clients that take no coding share what is decoded for them of a large page.
func TestDecodedIsShared(t *testing.T) {
	const clients, size = 200, 900 << 10
	page := strings.Repeat("a line that is like the next one\n", size/33+1)[:size]
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write([]byte(page))
	})
	c := newCacheOver(t, newPlainStore(t), h, accel.WithHoldLimit(1<<20))
	get(c, "/")
	before := heap()
	gate := make(chan struct{})
	var writing, wg sync.WaitGroup
	writing.Add(clients)
	for range clients {
		wg.Go(func() {
			w := &heldWriter{ResponseRecorder: httptest.NewRecorder(), writing: &writing, gate: gate}
			c.ServeHTTP(w, newRequest("/"))
			equal(t, "bytes", w.n, size)
			equal(t, "same", w.same(page), true)
		})
	}
	writing.Wait()
	if grown := heap() - before; grown > 40<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	close(gate)
	wg.Wait()
	equal(t, "handler calls", calls.Load(), 1)
}

// A heldWriter waits in Write, and keeps what it was given no longer.
type heldWriter struct {
	*httptest.ResponseRecorder
	writing *sync.WaitGroup
	gate    chan struct{}
	n       int
	sum     func(string) bool
}

func (w *heldWriter) Write(p []byte) (int, error) {
	w.writing.Done()
	<-w.gate
	w.n += len(p)
	got := string(p)
	w.sum = func(want string) bool { return got == want }
	return len(p), nil
}

func (w *heldWriter) same(want string) bool { return w.sum(want) }

// heap returns the bytes in use. What pools keep goes with the second collection.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A piece over which the client's writer panics is missing from what is kept, so
// that nothing of it is stored, even if the handler carries on.
func TestPieceThatWasNotSentIsNotStored(t *testing.T) {
	h, calls := counting(func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/plain")
		for range 10 {
			func() {
				defer func() { _ = recover() }()
				_, _ = w.Write(make([]byte, 40<<10))
			}()
		}
	})
	c := newCache(t, h)
	c.ServeHTTP(&panicky{ResponseWriter: httptest.NewRecorder()}, newRequest("/"))
	equal(t, "bytes", len(body(t, get(c, "/"))), 400<<10)
	equal(t, "handler calls", calls.Load(), 2)
}

// panicky panics at the fourth piece that is written to it.
type panicky struct {
	http.ResponseWriter
	n int
}

func (w *panicky) Write(p []byte) (int, error) {
	if w.n++; w.n == 4 {
		panic("the connection is gone")
	}
	return w.ResponseWriter.Write(p)
}
