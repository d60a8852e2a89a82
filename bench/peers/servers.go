//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"
)

// A server is one row: something that answers for the same pages.
type server struct {
	name  string // as in -servers
	title string // in the tables
	// pages is how many the load of hits asks for.
	pages int
	start func(setting) (*instance, error)
	// noCache: it is measured for comparison and keeps nothing.
	noCache bool
	// What it has of tags, and by which name; empty if nothing.
	tags string
}

// A setting is what a server is started with. The same directory a second time
// is a restart.
type setting struct {
	content *content
	dir     string
	tag     string
}

// An instance is a running server.
type instance struct {
	process *process
	addr    string
	// runs is how often the handler behind it ran since the start.
	runs       func() (int64, error)
	settle     func() error
	stats      func() string // what it says of itself
	invalidate func(tag string) (time.Duration, error)
	end        func() // in order
	kill       func() // as by kill -9
}

func servers() []server {
	return []server{
		{name: "bare", title: "bare net/http handler", pages: 1, start: inGo("bare"), noCache: true},
		{name: "status", title: "bare, and a Cache-Status", pages: 1, start: inGo("status"), noCache: true},
		{name: "files", title: "http.FileServer", pages: 1, start: inGo("files"), noCache: true},
		{name: "memory", title: "Accelerator, memstore", pages: 1, start: inGo("memory"), tags: "InvalidateTag"},
		{name: "bolt", title: "Accelerator, boltstore", pages: 1, start: inGo("bolt"), tags: "InvalidateTag"},
		{name: "disk", title: "Accelerator, boltstore, WithMemory(0)", pages: 1, start: inGo("disk"), tags: "InvalidateTag"},
		{name: "beyond", title: fmt.Sprintf("Accelerator, boltstore, %d pages, 1 MiB of memory", beyondPages), pages: beyondPages, start: inGo("beyond"), tags: "InvalidateTag"},
		{name: "fiber", title: "Fiber cache, memory", pages: 1, start: inGo("fiber")},
		{name: "fiber-bolt", title: "Fiber cache, bbolt (adapter of ours)", pages: 1, start: inGo("fiber-bolt")},
		{name: "souin", title: "Souin, built-in storage", pages: 1, start: inGo("souin")},
		{name: "http-cache", title: "victorspringer/http-cache", pages: 1, start: inGo("http-cache")},
		{name: "nginx", title: "nginx proxy_cache", pages: 1, start: startNginx},
		{name: "varnish", title: "Varnish", pages: 1, start: startVarnish, tags: "xkey.purge"},
	}
}

// inGo starts a site of this program in a process of its own.
func inGo(site string) func(setting) (*instance, error) {
	return func(s setting) (*instance, error) {
		p, err := startLineServer(serverCore, s.serve(site)...)
		if err != nil {
			return nil, err
		}
		return &instance{
			process: p.process,
			addr:    p.addr,
			runs:    func() (int64, error) { return p.number("runs") },
			settle:  func() error { _, err := p.ask("settle"); return err },
			stats:   func() string { text, _ := p.ask("stats"); return text },
			invalidate: func(tag string) (time.Duration, error) {
				n, err := p.number("invalidate " + tag)
				return time.Duration(n), err
			},
			end:  p.end,
			kill: p.kill,
		}, nil
	}
}

func (s setting) serve(site string) []string {
	return []string{"serve", "-site", site, "-content", s.content.name, "-dir", s.dir, "-tag", s.tag}
}

// plainClient decodes nothing, so that it sees the coding.
var plainClient = &http.Client{
	Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 1},
	Timeout:   patience,
}

// fetch gets one page with the client of the standard library, which knows HTTP
// better than the one for load, and compares all of it.
func (in *instance) fetch(c *content, n int) error {
	req, err := http.NewRequest("GET", "http://"+in.addr+pathPrefix+strconv.Itoa(n), nil)
	if err != nil {
		return err
	}
	req.Host = "peers.test"
	req.Header.Set("Accept-Encoding", c.accept)
	resp, err := plainClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch {
	case resp.StatusCode != 200:
		return fmt.Errorf("status %d", resp.StatusCode)
	case resp.Header.Get("Content-Encoding") != c.coding():
		return fmt.Errorf("Content-Encoding %q, not %q", resp.Header.Get("Content-Encoding"), c.coding())
	case resp.ContentLength != int64(len(c.sent)):
		return fmt.Errorf("Content-Length %d, not %d", resp.ContentLength, len(c.sent))
	case resp.Header.Get("Content-Type") != c.fields.Get("Content-Type"):
		return fmt.Errorf("Content-Type %q", resp.Header.Get("Content-Type"))
	case !bytes.Equal(body, c.sent):
		return errors.New("another body")
	}
	if os.Getenv("PEERS_SHOW") != "" {
		fmt.Fprintln(os.Stderr, resp.Header)
	}
	return nil
}

// check fills a server with its pages and proves that it answers rightly, and by
// itself: the handler behind it does not run any more.
func (s server) check(in *instance, c *content) error {
	// Some store only what is asked for again, and a store on disk that is filled
	// faster than it writes keeps the rest in memory, which is not for long.
	for range 10 {
		before, err := in.runs()
		if err != nil {
			return err
		}
		if s.pages > 1 {
			if _, err := load(in.fill(c, 0, s.pages, patience)); err != nil {
				return err
			}
		}
		for range 3 {
			if err := in.fetch(c, s.pages-1); err != nil {
				return err
			}
		}
		if err := in.settle(); err != nil {
			return err
		}
		after, err := in.runs()
		if err != nil {
			return err
		}
		if s.noCache || after == before {
			return nil
		}
	}
	return errors.New("it does not answer by itself")
}

// fill is the job that asks for each page once.
func (in *instance) fill(c *content, first, pages int, limit time.Duration) job {
	return job{
		Addr: in.addr, Accept: c.accept, First: first, URLs: pages, Conns: 16,
		Length: len(c.sent), Once: true, Duration: limit,
	}
}
