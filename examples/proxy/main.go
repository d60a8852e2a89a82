// Proxy is a caching reverse proxy: [httputil.ReverseProxy] behind a cache with
// policy RFC9111. It stores what the origin's headers let a shared cache store,
// and asks the origin to confirm what is past its time.
//
//	go run ./examples/proxy -origin http://127.0.0.1:8000
//
// What an answer came from stands in its Cache-Status, and in the log.
//
// Its tests are the project's conformance suite: each sentence of
// docs/conformance.md is tried through this proxy over real connections.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/examples/internal/serve"
	"github.com/accelhttp/accelerator/memstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

// run is the program: it serves until ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(out)
	to := flags.String("origin", "", "`URL` of the server that the answers come from (required)")
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on")
	store := flags.String("store", "cache.db", "`file` that keeps the cache, or \"memory\"")
	hold := flags.Int64("hold", 1<<20, "`bytes` of an answer that are held, so that all who wait for it get it")
	largest := flags.Int64("max-body", 8<<20, "`bytes` of the largest answer that is kept")
	patience := flags.Duration("timeout", time.Minute, "how long the origin may take to begin an answer")
	heuristic := flags.Duration("heuristic", 0, "how long at most an answer counts as fresh if nothing but its Last-Modified says so")
	debug := flags.Bool("debug", false, "show the key of each answer in Cache-Status, and log why one was not stored")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	origin, err := parseOrigin(*to)
	if err != nil {
		return err
	}

	level, visibility := slog.LevelWarn, accel.ShowStatus
	if *debug {
		level, visibility = slog.LevelDebug, accel.ShowKey
	}
	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	cache := newCache(origin, *patience, open(*store, logger), logger,
		accel.WithHoldLimit(*hold), accel.WithMaxBody(*largest),
		accel.WithHeuristicFreshness(*heuristic), accel.WithCacheStatus(visibility))

	err = serve.Run(ctx, *addr, serve.Log(out, cache), func(at string) {
		fmt.Fprintf(out, welcome, at, origin, *store)
	})
	// Close writes what is still queued, so that the next start has it.
	return cmp.Or(err, cache.Close())
}

const welcome = `
  %[1]s answers for %[2]s; what it keeps is in %[3]s.

  Ask twice, and look at Cache-Status:

    curl -i %[1]s/

  If the second says "fwd=stale; fwd-status=304", the origin sends no lifetime,
  and was asked whether that is still it. With -heuristic 1h we guess.

  What a request other than GET and HEAD succeeds in changing is asked for
  anew:

    curl -i -X POST %[1]s/

  Ctrl-C ends it.

`

// parseOrigin reads the flag -origin.
func parseOrigin(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("which server? (-origin http://127.0.0.1:8000)")
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("-origin %q is not a URL like http://127.0.0.1:8000", s)
	}
	return u, nil
}

// open returns the store that the flag -store asks for.
func open(name string, logger *slog.Logger) accel.Store {
	if name == "memory" {
		return memstore.New()
	}
	return boltstore.Open(name, boltstore.WithLogger(logger))
}

// newCache returns a cache of what origin answers.
func newCache(origin *url.URL, patience time.Duration, store accel.Store, logger *slog.Logger, opts ...accel.Option) *accel.Cache {
	opts = append([]accel.Option{accel.WithPolicy(accel.RFC9111), accel.WithLogger(logger)}, opts...)
	return accel.New(newProxy(origin, patience, logger), store, opts...)
}

// newProxy returns a handler that asks origin.
func newProxy(origin *url.URL, patience time.Duration, logger *slog.Logger) *httputil.ReverseProxy {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	// The transport would ask for gzip on its own account, and hand us the text
	// with the entity tag of the compressed form. The cache asks for what it can
	// read, and compresses the rest itself.
	transport.DisableCompression = true
	// An origin that takes a request and then says nothing is down, too. The
	// cache has an answer to that only if it hears of it.
	transport.ResponseHeaderTimeout = patience
	// All connections go to one host; two spare ones, the default, are few.
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns

	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(pr *httputil.ProxyRequest) {
			// ReverseProxy takes parameters off that it cannot read. They are
			// part of the URL that the cache knows the answer by, and not ours.
			pr.Out.URL.RawQuery = pr.In.URL.RawQuery
			pr.SetURL(origin)
			// What the client wrote into these three is gone by now: it could
			// claim to be anybody.
			pr.SetXForwarded()
			pr.Out.Header.Add("Via", fmt.Sprintf("%d.%d accelerator", pr.In.ProtoMajor, pr.In.ProtoMinor)) // RFC 9110, section 7.6.3
		},
		ModifyResponse: func(res *http.Response) error {
			// Between the origin and us, as Proxy-Authenticate is, but unlike
			// that one left in by ReverseProxy (RFC 9110, section 11.7.3).
			res.Header.Del("Proxy-Authentication-Info")
			// The origin knows itself by another name than its clients do. They
			// must stay here, and the cache must see which of its URLs is meant.
			for _, name := range []string{"Location", "Content-Location"} {
				u, err := url.Parse(res.Header.Get(name))
				if err == nil && u.Scheme == origin.Scheme && u.Host == origin.Host && len(origin.Path) <= 1 {
					u.Scheme, u.Host, u.Path = "", "", cmp.Or(u.Path, "/")
					res.Header.Set(name, u.String())
				}
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			status := http.StatusBadGateway
			var netErr net.Error
			switch {
			case r.Context().Err() != nil: // the client has left, and nobody reads this
			case errors.As(err, &netErr) && netErr.Timeout():
				status = http.StatusGatewayTimeout
				fallthrough
			default:
				logger.Warn("origin", "method", r.Method, "url", r.URL.Redacted(), "err", err)
			}
			// The cache sends something older in place of this, if it has any
			// that the origin allowed for such days (stale-if-error).
			http.Error(w, http.StatusText(status), status)
		},
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
}
