package bench

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/bench/internal/turns"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/examples/godoc/page"
)

// BenchmarkMiss is a request that renders, compresses and stores. Its floor is what
// nobody can do without: the handler, and the body in the two codings that are kept,
// if it is worth compressing.
func BenchmarkMiss(b *testing.B) {
	for _, kind := range []string{"html", "bytes"} {
		for _, size := range []int{1, 8, 64} {
			for _, be := range backends {
				b.Run(fmt.Sprintf("%s=%dKiB/store=%s", kind, size, be.name), func(b *testing.B) {
					s := newSite(b, corpus)
					c := newCache(b, s, be.open(b))
					w := newSink()
					prefix := fmt.Sprintf("/%s/%d", kind, size*kib)
					next, bare := fresh(0, prefix, 1000), fresh(0, prefix, 1000)
					var zstd, gzip []byte
					turns.Benchmark(b, func(n int) {
						for range n {
							w.reset()
							c.ServeHTTP(w, next())
						}
					}, func(n int) {
						for range n {
							w.reset()
							r := bare()
							s.ServeHTTP(w, r)
							if kind == "html" {
								_, body := s.page(r.URL.Path)
								zstd, _ = codec.Encode(zstd[:0], codec.Zstd, body)
								gzip, _ = codec.Encode(gzip[:0], codec.Gzip, body)
							}
						}
					})
					reportStored(b, c)
				})
			}
		}
	}
}

// reportStored tells how many of the misses were stored: a full queue drops some.
func reportStored(b *testing.B, c *accel.Cache) {
	st := c.Stats()
	require.NotZero(b, st.Misses)
	b.ReportMetric(float64(st.Stored-min(st.Stored, st.Store.Dropped))/float64(st.Misses), "stored/op")
}

// BenchmarkCoalesced is a crowd that asks for one page at once, which is not there:
// each turn another page, rendered from source. Its floor is the crowd without a
// cache. One operation is the whole crowd.
func BenchmarkCoalesced(b *testing.B) {
	const crowd = 64
	lib, err := page.Open("")
	require.NoError(b, err)
	b.Cleanup(func() { _ = lib.Close() })
	var runs atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		runs.Add(1)
		accel.CacheFor(r.Context(), time.Hour)
		p, err := lib.Package(r.Context(), "unicode/utf8")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header()["Content-Type"] = contentHTML
		_, _ = w.Write(p.HTML)
	})
	together := func(h http.Handler) func(n int) {
		next := fresh(0, "/crowd", 1000)
		ws := make([]*sink, crowd)
		for i := range ws {
			ws[i] = newSink()
		}
		return func(n int) {
			for range n {
				r := next()
				var wg sync.WaitGroup
				for _, w := range ws {
					w.reset()
					wg.Go(func() { h.ServeHTTP(w, r.WithContext(background)) })
				}
				wg.Wait()
			}
		}
	}
	for _, be := range backends {
		b.Run("store="+be.name, func(b *testing.B) {
			c := newCache(b, h, be.open(b))
			ours, bare := together(c), together(h)
			before := runs.Load()
			var rendered, crowds int64
			turns.Benchmark(b, func(n int) {
				from := runs.Load()
				ours(n)
				rendered += runs.Load() - from
				crowds += int64(n)
			}, bare)
			require.Greater(b, runs.Load(), before)
			b.ReportMetric(float64(rendered)/float64(crowds), "renders/op")
		})
	}
}

// BenchmarkMissOverhead is the throughput of a handler that takes a millisecond for
// 16 KiB, with a cache that never has what is asked for and stores it all, beside the
// handler alone. Where the work is the processor's, storing competes with it; where it is
// waiting, for another process, there is time; and with fewer clients than processors
// there is a processor for what is done behind the answer.
//
// The floor with gzip is a site that compresses what it sends, as nearly all do.
func BenchmarkMissOverhead(b *testing.B) {
	work := map[string]func(context.Context){
		"cpu":  computing(time.Millisecond),
		"wait": waiting(b, time.Millisecond),
	}
	for _, of := range []struct{ kind, floor string }{{"html", "gzip"}, {"html", "plain"}, {"bytes", "plain"}} {
		for _, how := range []string{"cpu", "wait"} {
			for _, clients := range []int{1, runtime.GOMAXPROCS(0)} {
				for _, be := range backends {
					b.Run(fmt.Sprintf("%s=16KiB/floor=%s/work=%s/clients=%d/store=%s", of.kind, of.floor, how, clients, be.name), func(b *testing.B) {
						s := newSite(b, corpus)
						s.work = work[how]
						var bare http.Handler = s
						if of.floor == "gzip" {
							bare = compressing(s)
						}
						c := newCache(b, s, be.open(b))
						side := func(h http.Handler) func(n int) {
							next := make([]func() *http.Request, clients)
							ws := make([]*sink, clients)
							for i := range next {
								next[i], ws[i] = fresh(i, "/"+of.kind+"/16384", 1000), newSink()
							}
							// Each turn has a few requests of each client: at its end
							// they wait for the last.
							return func(n int) {
								turns.Parallel(clients, func(worker, n int) {
									for range n {
										ws[worker].reset()
										h.ServeHTTP(ws[worker], next[worker]())
									}
								})(8 * clients * n)
							}
						}
						r := turns.Benchmark(b, side(c), side(bare))
						requests := float64(8 * clients)
						b.ReportMetric(requests*1e9/r.Ours.Median(), "requests/s")
						b.ReportMetric(requests*1e9/r.Floor.Median(), "floor-requests/s")
						b.ReportMetric(1/r.Ratio, "throughput/floor")
						reportStored(b, c)
					})
				}
			}
		}
	}
}

// compressing is a site with a middleware that compresses, as sparing as ours.
func compressing(s *site) http.Handler {
	pool := sync.Pool{New: func() any { return new([]byte) }}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var rec recorder
		rec.header = w.Header()
		s.ServeHTTP(&rec, r)
		buf := pool.Get().(*[]byte)
		defer pool.Put(buf)
		*buf, _ = codec.Encode((*buf)[:0], codec.Gzip, rec.body.Bytes())
		_, _ = w.Write(*buf)
	})
}

// waiting takes a time as a handler does that asks its database, by waiting for another
// process. A timer would not do: where something is done behind the answer, the runtime
// comes to sleep later, and rounds up what is left to a millisecond.
func waiting(tb testing.TB, d time.Duration) func(context.Context) {
	p := startChild(tb, childSetup{Waits: d})
	tb.Cleanup(func() { p.stop(tb) })
	addr := p.report(tb).Addr
	idle := make(chan net.Conn, runtime.GOMAXPROCS(0))
	for range cap(idle) {
		conn, err := net.Dial("tcp", addr)
		require.NoError(tb, err)
		tb.Cleanup(func() { _ = conn.Close() })
		idle <- conn
	}
	return func(context.Context) {
		conn := <-idle
		defer func() { idle <- conn }()
		b := []byte{1}
		_, err := conn.Write(b)
		if err == nil {
			_, err = conn.Read(b)
		}
		if err != nil {
			tb.Error(err)
		}
	}
}

// beDatabase answers each byte with another, after a time, until its input ends.
func beDatabase(out *json.Encoder, waits time.Duration) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = out.Encode(childReport{Err: err.Error()})
		return 1
	}
	_ = out.Encode(childReport{Addr: l.Addr().String()})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for b := []byte{0}; ; {
					if _, err := conn.Read(b); err != nil {
						return
					}
					time.Sleep(waits)
					if _, err := conn.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// computing takes a time by hashing for as long as that takes when nothing else is
// going on: what it takes in the end depends on the machine, and so it should.
func computing(d time.Duration) func(context.Context) {
	block := make([]byte, 4*kib)
	hash := func(n int) {
		for range n {
			sha256.Sum256(block)
		}
	}
	const many = 500
	least := time.Hour
	for range 20 {
		start := time.Now()
		hash(many)
		least = min(least, time.Since(start))
	}
	n := int(many * d / least)
	return func(context.Context) { hash(n) }
}
