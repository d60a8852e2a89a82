//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// A job is what a load process is told to do.
type job struct {
	Addr   string
	Accept string // Accept-Encoding
	First  int    // number of the first URL
	URLs   int    // how many there are
	Conns  int
	Length int // the Content-Length that each answer must have, with status 200

	// By default the URLs are asked for at random, for Duration, after as much
	// of the same for Warm.
	Warm, Duration time.Duration
	Root           int // the server: the processor time that it and its children use is read

	// Once asks for each URL once, for Duration at most.
	Once bool
}

// A result is what came of it.
type result struct {
	Requests int
	Elapsed  time.Duration
	CPU      time.Duration // of the server
	Own      time.Duration // processor time of the load process
	P50, P99 time.Duration
}

// load runs a job in a process of its own, on the client's core.
func load(j job) (result, error) {
	var r result
	in, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	var out bytes.Buffer
	cmd := exec.Command(self, "load")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, os.Stderr
	if err := startPinned(cmd, clientCore); err != nil {
		return r, err
	}
	if err := cmd.Wait(); err != nil {
		return r, fmt.Errorf("load: %w", err)
	}
	return r, json.Unmarshal(out.Bytes(), &r)
}

// runLoad is the load process.
func runLoad(in io.Reader, out io.Writer) error {
	var j job
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return err
	}
	r, err := j.run()
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

func (j job) run() (result, error) {
	clients := make([]*client, j.Conns)
	for i := range clients {
		c, err := dial(j)
		if err != nil {
			return result{}, err
		}
		defer c.conn.Close()
		c.random = uint64(i+1) * 0x9e3779b97f4a7c15
		clients[i] = c
	}
	if !j.Once && j.Warm > 0 {
		if err := j.all(clients, j.Warm); err != nil {
			return result{}, err
		}
	}
	for _, c := range clients {
		c.times = c.times[:0]
	}

	// No request is on its way at either reading, so that what the server used
	// between them is what these requests took.
	var pids []int
	var before, after time.Duration
	var err error
	if j.Root != 0 {
		pids = tree(j.Root)
		if before, err = cpuOf(pids); err != nil {
			return result{}, err
		}
	}
	own := ownCPU()
	start := time.Now()
	if err := j.all(clients, j.Duration); err != nil {
		return result{}, err
	}
	elapsed := time.Since(start)
	own = ownCPU() - own
	if j.Root != 0 {
		if after, err = cpuOf(pids); err != nil {
			return result{}, err
		}
	}

	var times []uint32
	for _, c := range clients {
		times = append(times, c.times...)
	}
	slices.Sort(times)
	return result{
		Requests: len(times),
		Elapsed:  elapsed,
		CPU:      after - before,
		Own:      own,
		P50:      percentile(times, 50),
		P99:      percentile(times, 99),
	}, nil
}

func ownCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// all has every client send requests one after another until the time is up or
// nothing is left.
func (j job) all(clients []*client, d time.Duration) error {
	var wg sync.WaitGroup
	var next, stop atomic.Int64
	timer := time.AfterFunc(d, func() { stop.Store(1) })
	defer timer.Stop()
	errs := make([]error, len(clients))
	for i, c := range clients {
		wg.Go(func() {
			for stop.Load() == 0 && errs[i] == nil {
				n := 0
				if j.Once {
					if n = int(next.Add(1)) - 1; n >= j.URLs {
						return
					}
				} else if j.URLs > 1 {
					n = int(c.draw() % uint64(j.URLs))
				}
				errs[i] = c.get(j.First + n)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// percentile takes sorted times in nanoseconds.
func percentile(times []uint32, p int) time.Duration {
	if len(times) == 0 {
		return 0
	}
	return time.Duration(times[(len(times)-1)*p/100])
}

// A client is one connection that is kept alive.
type client struct {
	conn   net.Conn
	r      *bufio.Reader
	length int
	random uint64

	head, tail, request []byte
	times               []uint32 // of the answers, in nanoseconds
}

func dial(j job) (*client, error) {
	conn, err := net.Dial("tcp", j.Addr)
	if err != nil {
		return nil, err
	}
	return &client{
		conn:   conn,
		r:      bufio.NewReaderSize(conn, 64<<10),
		length: j.Length,
		head:   []byte("GET " + pathPrefix),
		tail:   []byte(" HTTP/1.1\r\nHost: peers.test\r\nAccept-Encoding: " + j.Accept + "\r\n\r\n"),
		times:  make([]uint32, 0, 1<<16),
	}, nil
}

// pathPrefix is followed by a number.
const pathPrefix = "/page/"

// draw is xorshift: the order must not be one that a cache could know.
func (c *client) draw() uint64 {
	c.random ^= c.random << 13
	c.random ^= c.random >> 7
	c.random ^= c.random << 17
	return c.random
}

// get asks for a page and waits for the whole of the answer.
func (c *client) get(n int) error {
	c.request = append(c.request[:0], c.head...)
	c.request = strconv.AppendInt(c.request, int64(n), 10)
	c.request = append(c.request, c.tail...)
	start := time.Now()
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	a, err := readAnswer(c.r)
	if err != nil {
		return fmt.Errorf("page %d: %w", n, err)
	}
	if a.status != 200 || a.length != c.length || a.last {
		return fmt.Errorf("page %d: status %d and length %d, not 200 and %d; last: %v", n, a.status, a.length, c.length, a.last)
	}
	if _, err := c.r.Discard(a.length); err != nil {
		return fmt.Errorf("page %d: %w", n, err)
	}
	c.times = append(c.times, uint32(min(time.Since(start), 1<<32-1)))
	return nil
}

// An answer is what is read of a response's head.
type answer struct {
	status int
	length int  // -1 without a Content-Length
	last   bool // the server closes the connection
}

// readAnswer reads a head up to the first byte of the body. It allocates nothing,
// and knows as much of HTTP as a server's ordinary answers need.
func readAnswer(r *bufio.Reader) (answer, error) {
	a := answer{length: -1}
	line, err := r.ReadSlice('\n')
	if err != nil {
		return a, fmt.Errorf("read the status line: %w", err)
	}
	if len(line) < len("HTTP/1.1 200") || !bytes.HasPrefix(line, []byte("HTTP/1.")) {
		return a, fmt.Errorf("no status line: %q", line)
	}
	if a.status = decimal(line[9:12]); a.status < 0 {
		return a, fmt.Errorf("no status: %q", line)
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return a, fmt.Errorf("read the header: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return a, nil
		}
		if v, ok := field(line, "content-length"); ok {
			if a.length = decimal(v); a.length < 0 {
				return a, fmt.Errorf("no length: %q", line)
			}
		} else if v, ok := field(line, "connection"); ok && bytes.EqualFold(v, []byte("close")) {
			a.last = true
		}
	}
}

// field returns the value of a header line if it is of that name, which is in
// lower case.
func field(line []byte, name string) ([]byte, bool) {
	if len(line) <= len(name) || line[len(name)] != ':' {
		return nil, false
	}
	for i := range len(name) {
		c := line[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != name[i] {
			return nil, false
		}
	}
	return bytes.TrimSpace(line[len(name)+1:]), true
}

// decimal returns the number, -1 if it is none.
func decimal(b []byte) int {
	if len(b) == 0 || len(b) > 9 {
		return -1
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return -1
		}
		n = n*10 + int(c-'0')
	}
	return n
}
