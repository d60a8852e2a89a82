//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/memstore"
)

// lifetime is how long every cache may keep a page: longer than any run.
const lifetime = time.Hour

// A site is a server written in Go, as its own process runs it.
type site struct {
	serve      func(net.Listener) error
	invalidate func(ctx context.Context, tag string) error
	settled    func() bool  // nothing is queued any more
	stats      func() any   // what it says of itself
	close      func() error // in order
}

// A plan is what a site is made from.
type plan struct {
	content *content
	dir     string
	tag     string // that each page bears, if any
	runs    atomic.Int64
}

var sites = map[string]func(*plan) (*site, error){
	"bare": func(p *plan) (*site, error) { return plainSite(p.origin()), nil },
	"status": func(p *plan) (*site, error) {
		return plainSite(p.origin("Cache-Status", "Accelerator; hit; ttl=3600")), nil
	},
	// The site behind the proxies.
	"origin": func(p *plan) (*site, error) { return plainSite(p.origin()), nil },
	"files":  fileSite,
	"memory": func(p *plan) (*site, error) { return p.accelerated(memstore.New(memstore.WithMaxSize(1 << 30))), nil },
	"bolt":   func(p *plan) (*site, error) { return p.bolt() },
	"disk":   func(p *plan) (*site, error) { return p.bolt(boltstore.WithMemory(0)) },
	"beyond": func(p *plan) (*site, error) { return p.bolt(boltstore.WithMemory(beyondMemory)) },

	"fiber":      func(p *plan) (*site, error) { return fiberSite(p, nil) },
	"fiber-bolt": fiberBoltSite,
	"souin":      souinSite,
	"http-cache": httpCacheSite,
}

// The row beyond is of a working set larger than the memory tier, which is made
// small so that the set need not be made large.
const (
	beyondMemory = 1 << 20
	beyondPages  = 4096
)

// runServe is a process that serves: one line says where, then each line that
// comes in is a question, and has one for an answer.
func runServe(args []string, in io.Reader, out io.Writer) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	name := flags.String("site", "", "which")
	what := flags.String("content", "", "json or html")
	p := &plan{}
	flags.StringVar(&p.dir, "dir", "", "where files may be")
	flags.StringVar(&p.tag, "tag", "", "the tag of each page")
	if err := flags.Parse(args); err != nil {
		return err
	}
	build := sites[*name]
	if build == nil {
		return fmt.Errorf("no site %q", *name)
	}
	var err error
	if p.content, err = loadContent(*what); err != nil {
		return err
	}
	s, err := build(p)
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() { failed <- s.serve(ln) }()
	fmt.Fprintln(out, ln.Addr())

	asked := make(chan string)
	go func() {
		defer close(asked)
		for lines := bufio.NewScanner(in); lines.Scan(); {
			asked <- lines.Text()
		}
	}()
	for {
		select {
		case err := <-failed:
			return err
		case question, ok := <-asked:
			if !ok {
				if s.close != nil {
					return s.close()
				}
				return nil
			}
			fmt.Fprintln(out, p.answer(s, question))
		}
	}
}

func (p *plan) answer(s *site, question string) string {
	verb, rest, _ := strings.Cut(question, " ")
	switch verb {
	case "runs":
		return fmt.Sprint(p.runs.Load())
	case "settle":
		for deadline := time.Now().Add(patience / 2); s.settled != nil && !s.settled(); {
			if time.Now().After(deadline) {
				return "error: there is still something queued"
			}
			time.Sleep(time.Millisecond)
		}
		return "settled"
	case "stats":
		if s.stats == nil {
			return "none"
		}
		text, err := json.Marshal(s.stats())
		if err != nil {
			return "error: " + err.Error()
		}
		return string(text)
	case "invalidate":
		if s.invalidate == nil {
			return "error: there are no tags"
		}
		start := time.Now()
		if err := s.invalidate(context.Background(), rest); err != nil {
			return "error: " + err.Error()
		}
		return fmt.Sprint(time.Since(start).Nanoseconds())
	}
	return "error: no such question"
}

// origin is a handler that has its bytes and fields prepared, and counts.
func (p *plan) origin(more ...string) http.Handler {
	fields := p.content.fields.Clone()
	for i := 0; i < len(more); i += 2 {
		fields.Set(more[i], more[i+1])
	}
	if p.tag != "" {
		fields.Set("Xkey", p.tag) // as Varnish's vmod calls it
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.runs.Add(1)
		h := w.Header()
		for k, v := range fields {
			h[k] = v
		}
		_, _ = w.Write(p.content.sent)
	})
}

func plainSite(h http.Handler) *site {
	return &site{serve: func(ln net.Listener) error { return http.Serve(ln, h) }}
}

// accelerated is this project's cache. Its handler writes the page as a handler
// does that leaves compression and validators to it.
func (p *plan) accelerated(store accel.Store) *site {
	quiet := accel.WithLogger(slog.New(slog.DiscardHandler))
	c := accel.New(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.runs.Add(1)
		accel.CacheFor(r.Context(), lifetime)
		if p.tag != "" {
			accel.Tag(r.Context(), p.tag)
		}
		h := w.Header()
		for _, k := range []string{"Content-Type", "Cache-Control"} {
			if v := p.content.fields[k]; v != nil {
				h[k] = v
			}
		}
		_, _ = w.Write(p.content.plain)
	}), store, quiet)
	s := plainSite(c)
	s.invalidate = func(ctx context.Context, tag string) error { return c.InvalidateTag(ctx, tag) }
	s.settled = func() bool { return c.Stats().Store.QueueBytes == 0 }
	s.stats = func() any { return c.Stats() }
	s.close = c.Close
	return s
}

func (p *plan) bolt(opts ...boltstore.Option) (*site, error) {
	opts = append(opts, boltstore.WithLogger(slog.New(slog.DiscardHandler)))
	store := boltstore.Open(filepath.Join(p.dir, "cache.db"), opts...)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := store.Ping(ctx); err != nil {
		return nil, errors.Join(err, store.Close())
	}
	return p.accelerated(store), nil
}

// fileSite is http.FileServer on one file, under every URL. The sent form lies
// on disk, and what FileServer cannot know of it is said around it.
func fileSite(p *plan) (*site, error) {
	const name = "page"
	if err := os.WriteFile(filepath.Join(p.dir, name), p.content.sent, 0o600); err != nil {
		return nil, err
	}
	files := http.FileServer(http.Dir(p.dir))
	return plainSite(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		for k, v := range p.content.fields {
			h[k] = v
		}
		r.URL.Path = "/" + name
		files.ServeHTTP(w, r)
	})), nil
}
