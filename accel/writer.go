package accel

import (
	"bufio"
	"net"
	"net/http"
)

// A handler finds out by type assertions what its ResponseWriter can do. It must
// find what it would find without us: a capture that had Hijack over a writer
// that has not would send WebSocket libraries down the wrong way.

type (
	flusher  struct{ c *capture }
	hijacker struct{ c *capture }
	pusher   struct{ c *capture }
)

func (f flusher) Flush() { _ = f.c.FlushError() }

func (h hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.c.hijack() }

func (p pusher) Push(target string, opts *http.PushOptions) error { return p.c.push(target, opts) }

// writer returns c with the optional interfaces that the writer beneath has.
// (CloseNotifier is left out: it is deprecated, and contexts do its work.)
func (c *capture) writer() http.ResponseWriter {
	_, f := c.under.(http.Flusher)
	_, h := c.under.(http.Hijacker)
	_, p := c.under.(http.Pusher)
	switch {
	case f && h && p:
		return struct {
			*capture
			flusher
			hijacker
			pusher
		}{c, flusher{c}, hijacker{c}, pusher{c}}
	case f && h: // HTTP/1
		return struct {
			*capture
			flusher
			hijacker
		}{c, flusher{c}, hijacker{c}}
	case f && p: // HTTP/2
		return struct {
			*capture
			flusher
			pusher
		}{c, flusher{c}, pusher{c}}
	case h && p:
		return struct {
			*capture
			hijacker
			pusher
		}{c, hijacker{c}, pusher{c}}
	case f:
		return struct {
			*capture
			flusher
		}{c, flusher{c}}
	case h:
		return struct {
			*capture
			hijacker
		}{c, hijacker{c}}
	case p:
		return struct {
			*capture
			pusher
		}{c, pusher{c}}
	}
	return c
}

// beneath is what a capture unwraps to: the writer beneath it, but for Hijack.
// http.ResponseController may find that further down, in a writer that shows it
// to nobody else, and the capture has to know.
type beneath struct{ c *capture }

func (b beneath) Header() http.Header         { return b.c.Header() }
func (b beneath) Write(p []byte) (int, error) { return b.c.Write(p) }
func (b beneath) WriteHeader(status int)      { b.c.WriteHeader(status) }
func (b beneath) Unwrap() http.ResponseWriter { return b.c.under }

func (b beneath) Hijack() (net.Conn, *bufio.ReadWriter, error) { return b.c.hijack() }
