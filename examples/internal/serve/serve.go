// Package serve is what the examples share around their handlers: a line in
// the log for every request, and an end that lets requests finish.
package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"time"
)

// grace is how long requests that are running may take at the end.
const grace = 10 * time.Second

// Run listens on addr and serves h until ctx is done; then it lets the
// requests that are running finish, for ten seconds at most. It calls ready
// with the server's URL as soon as connections are accepted.
//
// It returns nil after an end that ctx asked for, and no request comes in any
// more when it has returned, so that what is behind the handler can be closed.
func Run(ctx context.Context, addr string, h http.Handler, ready func(url string)) error {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w (choose another address with -addr)", err)
	}
	var server http.Server
	server.Handler = h
	server.ReadHeaderTimeout = 10 * time.Second
	server.IdleTimeout = 2 * time.Minute

	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	ready("http://" + reachable(addr, listener.Addr()))

	select {
	case err := <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	waited, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	err = server.Shutdown(waited)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-ended
	if err != nil {
		return fmt.Errorf("shut down: %w", err)
	}
	return nil
}

// reachable is the address as one would type it: the host that was asked for,
// not what it resolves to, and the port that was given.
func reachable(asked string, got net.Addr) string {
	host, _, _ := net.SplitHostPort(asked)
	_, port, err := net.SplitHostPort(got.String())
	if err != nil {
		return got.String()
	}
	return net.JoinHostPort(cmp.Or(host, "localhost"), port)
}

// Log writes a line about each request to out when it has been answered:
// status, bytes, time, method and path, and what the cache says about it,
// which is "pass" if it did not take part.
func Log(out io.Writer, next http.Handler) http.Handler {
	logger := log.New(out, "", log.Ltime)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		seen := &recorder{ResponseWriter: w}
		target := r.URL.EscapedPath() // escaped, so that nobody writes into our terminal
		if r.URL.RawQuery != "" {
			target += "?" + visible(r.URL.RawQuery) // not sorted: to the cache, order matters
		}
		defer func() { // also of a handler that panics, whose client gets no status
			cache := "pass"
			if lines := w.Header()["Cache-Status"]; len(lines) != 0 {
				cache = lines[len(lines)-1] // ours; those before are of caches further in
			}
			logger.Printf("%3d %9s %8v  %-4s %s  [%s]", seen.status, size(seen.bytes), round(time.Since(start)), r.Method, target, cache)
		}()
		next.ServeHTTP(seen, r)
		if seen.status == 0 {
			seen.status = http.StatusOK // what the server sends for a handler that wrote nothing
		}
	})
}

// visible escapes what a terminal might take for a command.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}

// A recorder passes everything on and remembers what it was. Flushing,
// deadlines and hijacking are reached through Unwrap, by
// [http.ResponseController], as far as the server's own writer has them.
type recorder struct {
	http.ResponseWriter
	status int // of the final answer, 0 until there is one
	bytes  int64
}

// Unwrap returns the writer underneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(status int) {
	// 1xx announce the answer, except 101, which is one.
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	n, err := r.ResponseWriter.Write(p)
	r.bytes += int64(n)
	return n, err
}

// round leaves the digits that say something.
func round(d time.Duration) time.Duration {
	switch {
	case d < time.Millisecond:
		return d.Round(time.Microsecond)
	case d < time.Second:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Millisecond)
}

func size(n int64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f kB", float64(n)/1000)
}
