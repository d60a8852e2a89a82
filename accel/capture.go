package accel

import (
	"bufio"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A capture is the ResponseWriter of a handler whose response is looked at: it may
// be stored, or tell what is stored that it is outdated. It stands in front of the
// client's writer and is in one of these states:
//
//	open      no header yet
//	holding   header and body are kept; the client has seen nothing
//	tapping   the response goes to the client as it comes, and is kept as well
//	passing   it goes to the client, and is not kept: it will not be stored
//	dropping  it goes nowhere: a stored response will be sent, because this one is
//	          a failure or confirms that one
//	hijacked  the connection is the handler's
//
// Whenever something is unusual about a response, the capture passes: it sends
// what it has held and hands on everything that follows, and the writer beneath
// does what it would have done without us, its errors included.
//
// The header map is that of the client's writer, so that the handler sees, and
// may change, what middleware around the cache has put there. By policy RFC9111
// it is a copy, because what is held may have to be sent while the handler goes
// on, and a handler may write to its map at any time.
//
// A capture may be used by several goroutines, although no handler should; what
// comes after the handler has returned gets errHandlerDone.
type capture struct {
	under http.ResponseWriter
	fill  *fill
	own   http.Header // the handler's, if it is not that of under
	limit int64       // of the body that is kept
	hold  int64       // of the body that is held

	mu     sync.Mutex // guards the following, and writing to under
	state  captureState
	done   bool // the handler has returned
	status int
	header http.Header // as it was when it was written
	fields http.Header // the same with canonical names
	length int64       // declared, or -1
	body   []byte
	kept   int64       // of body: what counts among what all captures keep
	lent   bool        // body may be read for longer than this is in use
	unsent bool        // the client's writer has panicked over a piece, which is not in body
	timer  *time.Timer // ends the holding of what was flushed; nil before
}

type captureState uint8

const (
	open captureState = iota
	holding
	tapping
	passing
	dropping
	hijacked
)

var errHandlerDone = errors.New("accel: response written to after its handler returned")

// bodies has the buffers in which captures keep what handlers write.
var bodies = sync.Pool{New: func() any {
	b := make([]byte, 0, 16<<10)
	return &b
}}

// maxPooledBody is the capacity up to which a buffer goes back to the pool.
const maxPooledBody = 256 << 10

func (c *capture) Header() http.Header {
	if c.own != nil {
		return c.own
	}
	return c.under.Header()
}

// Unwrap is for http.ResponseController: deadlines are the business of the
// writer beneath. Hijack is ours as well, see beneath.
func (c *capture) Unwrap() http.ResponseWriter { return beneath{c} }

func (c *capture) WriteHeader(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.done:
	case c.state == open && 100 <= status && status <= 199 && status != http.StatusSwitchingProtocols:
		// Not yet the response (RFC 9110, section 15.2): nothing to keep.
		h := c.under.Header()
		before := maps.Clone(h)
		c.publish()
		c.under.WriteHeader(status)
		clear(h)
		maps.Copy(h, before)
	case c.state == open:
		c.begin(status)
	case c.state == passing:
		c.under.WriteHeader(status) // superfluous; net/http says so in its log
	}
}

func (c *capture) Write(p []byte) (int, error) { return write(c, p) }

func (c *capture) WriteString(s string) (int, error) { return write(c, s) }

func write[T []byte | string](c *capture, p T) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return 0, errHandlerDone
	}
	if c.state == open {
		c.begin(http.StatusOK)
	}
	if c.state == holding || c.state == tapping {
		switch n := int64(len(c.body) + len(p)); {
		case len(p) != 0 && !bodyAllowed(c.status), c.length >= 0 && n > c.length:
			c.pass(reasonLength)
		case n > c.limit:
			c.pass(reasonTooLarge)
		case n > c.hold && c.state == holding:
			c.tap()
			if c.timer != nil {
				_ = http.NewResponseController(c.under).Flush() // of what is before p
			}
		}
	}
	switch c.state {
	case dropping:
		return len(p), nil
	case holding:
		c.body = append(c.body, p...)
		return len(p), nil
	case tapping:
		// Sent first: while a slow client takes it, it is not kept as well.
		unsent := c.unsent
		c.unsent = true // until send returns
		n, err := send(c.under, p)
		c.unsent = unsent
		switch {
		case err != nil:
			// The handler will hear of it, and may stop in the middle.
			c.pass(reasonCancelled)
		case !c.keep(len(p)):
			c.pass(reasonStoreBusy)
		default:
			c.body = append(c.body, p...)
		}
		return n, err
	}
	return send(c.under, p)
}

func send[T []byte | string](w io.Writer, p T) (int, error) {
	if s, ok := any(p).(string); ok {
		return io.WriteString(w, s)
	}
	return w.Write([]byte(p))
}

// ReadFrom lets io.Copy use what the writer beneath has (net/http: sendfile), as
// soon as nothing is to be kept.
func (c *capture) ReadFrom(src io.Reader) (n int64, err error) {
	buf := make([]byte, 32<<10)
	for {
		if c.passes() {
			m, err := io.Copy(c.under, src)
			return n + m, err
		}
		nr, rerr := src.Read(buf)
		if nr > 0 {
			nw, werr := c.Write(buf[:nr])
			n += int64(nw)
			if werr != nil {
				return n, werr
			}
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

func (c *capture) passes() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state == passing && !c.done
}

// FlushError sends what there is. By OptIn, a response that is sent in parts is
// one that somebody waits for in parts, so it is not kept.
func (c *capture) FlushError() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return errHandlerDone
	}
	if c.state == open {
		c.begin(http.StatusOK)
	}
	streams := c.fill.cache.opts.policy != OptIn
	switch {
	case c.state == dropping:
		return nil
	case c.state == holding && streams:
		if !c.fill.unattended() && c.timer == nil {
			c.timer = time.AfterFunc(flushGrace, c.flushHeld)
		}
		return nil
	case c.state == holding, c.state == tapping && !streams:
		c.pass(reasonFlushed)
	}
	return http.NewResponseController(c.under).Flush()
}

// flushGrace is how long a response is held that its handler wants to be sent at
// once. A reverse proxy flushes after every piece of a response whose length it
// does not know, most of which are complete in a moment; those who wait for the
// same response get it only if it is held until then.
const flushGrace = 20 * time.Millisecond

// flushHeld sends what has been held after all.
func (c *capture) flushHeld() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done || c.state != holding {
		return
	}
	// Where a writer beneath panics, it will do so for the handler as well, which
	// is where somebody may recover.
	defer func() { _ = recover() }()
	c.tap()
	_ = http.NewResponseController(c.under).Flush()
}

// EnableFullDuplex: a handler that reads its request while it writes is no page.
func (c *capture) EnableFullDuplex() error {
	if !c.forgo(reasonFullDuplex) {
		return errHandlerDone
	}
	return http.NewResponseController(c.under).EnableFullDuplex()
}

func (c *capture) hijack() (net.Conn, *bufio.ReadWriter, error) {
	if !c.forgo(reasonHijacked) {
		return nil, nil, errHandlerDone
	}
	conn, rw, err := http.NewResponseController(c.under).Hijack()
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state = hijacked
	}
	return conn, rw, err
}

func (c *capture) push(target string, opts *http.PushOptions) error {
	return c.under.(http.Pusher).Push(target, opts)
}

// forgo says that the response will not be stored, whatever comes. It returns
// false if the handler has returned.
func (c *capture) forgo(reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return false
	}
	switch c.state {
	case open:
		c.fill.never = reason
		c.fill.refuse(reason)
	case holding, tapping:
		c.pass(reason)
	}
	return true
}

// begin takes the header: it is what it is now (net/http, too, ignores later
// changes).
func (c *capture) begin(status int) {
	c.status = status
	c.header = c.Header().Clone()
	c.fields = canonical(c.header)
	c.length = contentLength(c.header)
	c.state = holding
	switch reason := c.fill.judge(status, c.fields, c.length); {
	case reason == reasonFailed, reason == reasonConfirmed:
		c.state = dropping
	case reason != storable:
		c.pass(reason)
	case c.length > c.hold:
		c.tap()
	}
}

// canonical returns h with canonical names. A handler may have written
// h["etag"], past the methods of http.Header, and net/http sends that.
func canonical(h http.Header) http.Header {
	all := true
	for name := range h {
		all = all && name == http.CanonicalHeaderKey(name)
	}
	if all {
		return h
	}
	c := make(http.Header, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		key := http.CanonicalHeaderKey(name)
		c[key] = append(c[key], h[name]...)
	}
	return c
}

// tap begins to send. Nobody else can be given the response from here on.
func (c *capture) tap() {
	if !c.keep(len(c.body)) {
		c.pass(reasonStoreBusy)
		return
	}
	c.fill.release(private)
	c.state = tapping // first: the writer beneath may panic, see crash
	c.sendHeld("")
}

// pass stops keeping the response, for a reason.
func (c *capture) pass(reason string) {
	c.fill.refuse(reason) // first: those who wait should not wait for this client
	held := c.state == holding
	c.state = passing // first: the writer beneath may panic, see crash
	if held {
		c.sendHeld(reason)
	}
	c.drop()
	if held && c.timer != nil {
		_ = http.NewResponseController(c.under).Flush() // the handler has asked for it
	}
}

// sendHeld sends the header and what has been held of the body.
func (c *capture) sendHeld(detail string) {
	h := c.under.Header()
	c.restore(h)
	c.fill.putStatus(h, c.fill.why, detail)
	c.fill.strip(h)
	c.under.WriteHeader(c.status)
	if len(c.body) != 0 {
		c.lent = !returnsWhatItWrites(c.under, c.fill.r) // also if it panics
		_, _ = c.under.Write(c.body)                     // the error comes again with the next write
	}
}

// publish puts what the handler has put into its header into that of the writer
// beneath, without what is for this cache alone.
func (c *capture) publish() {
	h := c.under.Header()
	if c.own != nil {
		clear(h)
		maps.Copy(h, c.own)
	}
	c.fill.strip(h)
}

// restore makes h what it was when the header was written, but for trailers,
// which are put there later.
func (c *capture) restore(h http.Header) {
	for name := range h {
		if !strings.HasPrefix(name, http.TrailerPrefix) {
			delete(h, name)
		}
	}
	maps.Copy(h, c.header)
}

// maxKept bounds what all captures together keep of responses that are on their
// way to their clients: many slow ones would fill the memory. What comes beyond it
// is sent, and not stored.
const maxKept = 16 << 20

// keep reports whether n bytes more may be kept while they are sent.
func (c *capture) keep(n int) bool {
	all := &c.fill.cache.kept
	if all.Add(int64(n)) > max(maxKept, 4*c.limit) {
		all.Add(-int64(n))
		return false
	}
	c.kept += int64(n)
	return true
}

// drop gives the buffer back.
func (c *capture) drop() {
	c.fill.cache.kept.Add(-c.kept)
	c.kept = 0
	if !c.lent {
		recycle(c.body)
	}
	c.body = nil
}

// recycle puts a buffer back that nobody uses any more.
func recycle(b []byte) {
	if cap(b) > 0 && cap(b) <= maxPooledBody {
		b = b[:0]
		bodies.Put(&b)
	}
}

// finish ends the capture: the handler has returned. It returns the state it
// ended in; nothing changes it any more.
func (c *capture) finish() captureState {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done = true
	if c.timer != nil {
		c.timer.Stop()
	}
	return c.state
}
