package accel_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// A fetched is what a client got over a real connection.
type fetched struct {
	status int
	header http.Header
	body   string
	err    error // of the request or of reading the body
}

func fetch(t testing.TB, url string, header ...string) fetched {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	tr := &http.Transport{DisableCompression: true, DisableKeepAlives: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		return fetched{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	for name, values := range res.Trailer {
		res.Header["Trailer:"+name] = values
	}
	return fetched{res.StatusCode, res.Header, string(b), err}
}

// same reports how two answers differ, apart from what a cache may add.
func same(a, b fetched) error {
	if (a.err == nil) != (b.err == nil) {
		return fmt.Errorf("error %v, without us %v", a.err, b.err)
	}
	if a.err != nil && a.status == b.status && (strings.HasPrefix(a.body, b.body) || strings.HasPrefix(b.body, a.body)) {
		return nil // broken off at a place that depends on the sizes of buffers
	}
	if a.status != b.status || a.body != b.body {
		return fmt.Errorf("%d with %d bytes, without us %d with %d", a.status, len(a.body), b.status, len(b.body))
	}
	for _, h := range []http.Header{a.header, b.header} {
		h.Del("Date")
		h.Del("Cache-Status")
	}
	if x, y := fmt.Sprint(a.header), fmt.Sprint(b.header); x != y {
		return fmt.Errorf("header %s, without us %s", x, y)
	}
	return nil
}

func newServer(t testing.TB, h http.Handler) *httptest.Server {
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // panics and superfluous headers are meant
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// What a handler does badly, or in a way that cannot be stored, its client gets
// as it would without us. Nothing of it is stored, and the next request runs
// the handler again.
func TestBadHandlersAreAsWithoutUs(t *testing.T) {
	big := strings.Repeat("0123456789abcdef", 8<<10) // 128 KiB: above the hold limit
	huge := strings.Repeat(big, 10)                  // above what is stored
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		reason  string
	}{
		"panic before anything": {func(w http.ResponseWriter, r *http.Request) {
			panic("boo")
		}, "crashed"},
		"panic after the header": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			panic("boo")
		}, "crashed"},
		"panic after little": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "0123456789")
			panic("boo")
		}, "crashed"},
		"panic after some": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, big[:30000])
			panic("boo")
		}, "crashed"},
		"panic after much": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, big)
			panic(http.ErrAbortHandler)
		}, "crashed"},
		"Goexit": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "0123456789")
			runtime.Goexit()
		}, "crashed"},
		"short": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, "0123456789")
		}, "bad-length"},
		"long": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			_, err := io.WriteString(w, "0123456789")
			if _, err2 := io.WriteString(w, "abcdef"); err != nil || !errors.Is(err2, http.ErrContentLength) {
				t.Errorf("errors of Write: %v, %v", err, err2)
			}
		}, "bad-length"},
		"long at once": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "10")
			if _, err := io.WriteString(w, "0123456789abc"); !errors.Is(err, http.ErrContentLength) {
				t.Errorf("error of Write: %v", err)
			}
		}, "bad-length"},
		"body of a 204": {func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if _, err := io.WriteString(w, "x"); !errors.Is(err, http.ErrBodyNotAllowed) {
				t.Errorf("error of Write: %v", err)
			}
		}, "bad-length"},
		"flush": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "a")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "b")
		}, "flushed"},
		"flush first": {func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "b")
		}, "flushed"},
		"hijack": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
		}, "hijacked"},
		"hijack by controller": {func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		}, "hijacked"},
		"too large": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, huge)
		}, "too-large"},
		"too large, declared": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(huge)))
			_, _ = io.Copy(w, strings.NewReader(huge))
		}, "too-large"},
		"trailer": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "x")
			w.Header().Set("X-Sum", "1")
		}, "trailer"},
		"undeclared trailer": {func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, big[:5000])
			w.Header().Set(http.TrailerPrefix+"X-Sum", "1")
		}, "trailer"},
		"header after the header": {func(w http.ResponseWriter, r *http.Request) {
			accel.NoStore(r.Context())
			w.WriteHeader(http.StatusOK)
			w.Header().Set("X-Late", "1")
			_, _ = io.WriteString(w, "x")
		}, "vetoed"},
		"cookie": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Set-Cookie", "a=b")
			_, _ = io.WriteString(w, "x")
		}, "set-cookie"},
		"nothing": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Set", "1")
		}, "no-response"},
		"early hints": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a.css>; rel=preload")
			w.WriteHeader(http.StatusEarlyHints)
			w.Header().Del("Link")
			accel.NoStore(r.Context())
			_, _ = io.WriteString(w, "x")
		}, "vetoed"},
		"full duplex": {func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "x")
		}, "full-duplex"},
		"deadlines": {func(w http.ResponseWriter, r *http.Request) {
			if err := http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			accel.NoStore(r.Context())
			_, _ = io.WriteString(w, "x")
		}, "vetoed"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			h := func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				accel.CacheFor(r.Context(), time.Hour)
				test.handler(w, r)
			}
			c := newCache(t, h)
			served := make(chan struct{}, 2) // a hijacked connection is at its end before its handler is
			with := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { served <- struct{}{} }()
				c.ServeHTTP(w, r)
			}))
			without := newServer(t, http.HandlerFunc(h))
			want := fetch(t, without.URL)
			for range 2 {
				if err := same(fetch(t, with.URL), want); err != nil {
					t.Error(err)
				}
				<-served
			}
			equal(t, "handler calls", calls.Load(), 3)
			stats := c.Stats()
			equal(t, "stored", stats.Stored, 0)
			equal(t, test.reason, stats.NotStored[test.reason], 2)
		})
	}
}

// A stream reaches its client as it is made, and ends when the client leaves.
func TestEndlessStream(t *testing.T) {
	left := make(chan struct{})
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; r.Context().Err() == nil; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
		}
	})
	s := newServer(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(res.Body).ReadString('\n')
	equal(t, "first line", line, "data: 0\n")
	if err != nil {
		t.Error(err)
	}
	cancel()
	res.Body.Close()
	<-left
	equal(t, "stored", c.Stats().Stored, 0)
}

// An unflushed stream without end is cut loose at the limit.
func TestEndlessWithoutFlush(t *testing.T) {
	left := make(chan struct{})
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		defer close(left)
		accel.CacheFor(r.Context(), time.Hour)
		for {
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
		}
	})
	s := newServer(t, c)
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := io.CopyN(io.Discard, conn, 4<<20); err != nil {
		t.Error(err)
	}
	conn.Close()
	<-left
	equal(t, "too-large", c.Stats().NotStored["too-large"], 1)
}

// Above the hold limit a response is sent while it is made, and stored.
func TestStreamedAndStored(t *testing.T) {
	sent := make(chan struct{})
	big := strings.Repeat(text, 100)
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		_, _ = io.WriteString(w, big)
		<-sent // the client has a part before we are done
		_, _ = io.WriteString(w, "end")
	})
	s := newServer(t, c)
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
	tr := &http.Transport{DisableCompression: true}
	defer tr.CloseIdleConnections()
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	expect(t, res, "fwd=uri-miss")
	first := make([]byte, 1000)
	if _, err := io.ReadFull(res.Body, first); err != nil {
		t.Fatal(err)
	}
	close(sent)
	rest, _ := io.ReadAll(res.Body)
	equal(t, "body", string(first)+string(rest), big+"end")
	got := get(c, s.URL+"/")
	expect(t, got, "hit")
	equal(t, "body", body(t, got), big+"end")
}

// The goroutine of a handler that writes on after its handler has returned gets
// an error, and harms nobody.
func TestWriteAfterReturn(t *testing.T) {
	var late http.ResponseWriter
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		_, _ = io.WriteString(w, "x")
		late = w
	})
	get(c, "/")
	if _, err := io.WriteString(late, "y"); err == nil {
		t.Error("a late Write succeeded")
	}
	if err := http.NewResponseController(late).Flush(); err == nil {
		t.Error("a late Flush succeeded")
	}
	late.WriteHeader(500)
	equal(t, "body", body(t, get(c, "/")), "x")
}

// A panic keeps its value, and whoever recovers it outside finds what it would
// have found without us.
func TestPanicPassesUnchanged(t *testing.T) {
	boo := errors.New("boo")
	for name, h := range map[string]http.HandlerFunc{
		"before": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Set", "1")
			panic(boo)
		},
		"after": func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "01234")
			panic(boo)
		},
	} {
		t.Run(name, func(t *testing.T) {
			recovering := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					defer func() {
						if v := recover(); v != boo {
							t.Errorf("recovered %v", v)
						}
						w.WriteHeader(http.StatusInternalServerError)
					}()
					next.ServeHTTP(w, r)
				})
			}
			with, without := newServer(t, recovering(newCache(t, h))), newServer(t, recovering(h))
			if err := same(fetch(t, with.URL), fetch(t, without.URL)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A capture has the optional interfaces of the writer beneath and no others.
func TestWriterInterfaces(t *testing.T) {
	type w = http.ResponseWriter
	for name, under := range map[string]w{
		"none": struct{ w }{httptest.NewRecorder()},
		"flusher": struct {
			w
			http.Flusher
		}{},
		"hijacker": struct {
			w
			http.Hijacker
		}{},
		"pusher": struct {
			w
			http.Pusher
		}{},
		"http1": struct {
			w
			http.Flusher
			http.Hijacker
		}{},
		"http2": struct {
			w
			http.Flusher
			http.Pusher
		}{},
		"odd": struct {
			w
			http.Hijacker
			http.Pusher
		}{},
		"all": struct {
			w
			http.Flusher
			http.Hijacker
			http.Pusher
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			got := accel.CaptureOf(under)
			interfaces := func(x any) [3]bool {
				_, f := x.(http.Flusher)
				_, h := x.(http.Hijacker)
				_, p := x.(http.Pusher)
				return [3]bool{f, h, p}
			}
			equal(t, "Flusher, Hijacker, Pusher", interfaces(got), interfaces(under))
		})
	}
}

// A middleware around the cache that shows nothing but Unwrap.
type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// http.ResponseController finds Hijack under such a wrapper; the cache has to
// know of it all the same.
func TestHijackBeneathWrapper(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		if _, ok := w.(http.Hijacker); ok {
			t.Error("a Hijacker over a writer that is none")
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 299 Mine\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
	})
	done := make(chan struct{}, 2)
	s := newServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { done <- struct{}{} }()
		c.ServeHTTP(wrapped{w}, r)
	}))
	for range 2 {
		got := fetch(t, s.URL)
		equal(t, "status", got.status, 299)
		<-done
	}
	equal(t, "hijacked", c.Stats().NotStored["hijacked"], 2)
}

// Over HTTP/2 as over HTTP/1, and https is another scheme than http.
func TestHTTP2(t *testing.T) {
	h, calls := page(func(r *http.Request) string { return text })
	c := newCache(t, h)
	s := httptest.NewUnstartedServer(c)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	ask := func(header ...string) *http.Response {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		res, err := s.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		equal(t, "protocol", res.ProtoMajor, 2)
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		res.Body = io.NopCloser(strings.NewReader(string(b)))
		return res
	}
	res := ask("Accept-Encoding", "zstd")
	expect(t, res, "fwd=uri-miss; stored")
	equal(t, "body", decoded(t, res), text)
	res = ask("Accept-Encoding", "gzip")
	expect(t, res, "hit")
	equal(t, "body", decoded(t, res), text)
	equal(t, "status", ask("Accept-Encoding", "gzip", "If-None-Match", res.Header.Get("Etag")).StatusCode, 304)
	equal(t, "handler calls", calls.Load(), 1)
	expect(t, get(c, "http://"+s.Listener.Addr().String()+"/"), "fwd=uri-miss; stored")
}

// A file server that never asked keeps what net/http gives it.
func TestCopyOfUncacheable(t *testing.T) {
	big := strings.Repeat(text, 1000)
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "a.html", time.Time{}, strings.NewReader(big))
	})
	from := &readerFrom{ResponseRecorder: httptest.NewRecorder()}
	c.ServeHTTP(from, newRequest("/"))
	equal(t, "body", from.Body.String(), big)
	equal(t, "ReadFrom was called", from.called, true)
}

type readerFrom struct {
	*httptest.ResponseRecorder
	called bool
}

func (w *readerFrom) ReadFrom(src io.Reader) (int64, error) {
	w.called = true
	return io.Copy(w.ResponseRecorder.Body, src)
}
