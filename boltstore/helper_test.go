package boltstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

const (
	childEnv = "ACCEL_BOLTSTORE_CHILD"
	// faultsEnv asks for the long form of the fault tests.
	faultsEnv = "ACCEL_FAULTS"
)

// rounds is how often a fault is tried: short in every run, full where asked for.
func rounds(short, full int) int {
	if os.Getenv(faultsEnv) == "full" {
		return full
	}
	return short
}

var bg = context.Background()

// patient lets look-ups wait for a machine that is busy with other tests.
var patient = boltstore.WithReadBudget(30 * time.Second)

func dbPath(t testing.TB) string { return filepath.Join(t.TempDir(), "cache.db") }

// open returns a store that has its file, and closes it at the end.
func open(t testing.TB, path string, opts ...boltstore.Option) *boltstore.Store {
	s := boltstore.Open(path, append([]boltstore.Option{quiet, patient}, opts...)...)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	require.NoError(t, s.Ping(bg))
	return s
}

// put stores an entry begun now.
func put(t testing.TB, s accel.Store, url string, opts ...storetest.EntryOption) *accel.Entry {
	at := s.Begin()
	defer s.End(at)
	e := storetest.Entry(url, append([]storetest.EntryOption{storetest.At(at)}, opts...)...)
	require.NoError(t, s.Put(e, nil))
	return e
}

func has(s accel.Store, url string) bool {
	_, err := s.Get(bg, storetest.Key(url, ""), nil)
	return err == nil
}

// flushed waits until nothing is queued.
func flushed(t testing.TB, s accel.Store) {
	eventually(t, func() bool { return s.Stats().QueueBytes == 0 }, "the queue is written")
}

func eventually(t testing.TB, cond func() bool, what string) {
	require.Eventually(t, cond, 20*time.Second, 2*time.Millisecond, what)
}

// body is a text of about n bytes that says whose it is, so that a wrong byte or
// somebody else's text is known without remembering any.
func body(url string, version, n int) string {
	line := fmt.Sprintf("%s version %d\n", url, version)
	return strings.Repeat(line, max(1, n/len(line)))
}

// checkBody panics if e is not what body made for the url.
func checkBody(url string, e *accel.Entry) (version int, err error) {
	text := string(e.Bodies[0].Data)
	line, _, _ := strings.Cut(text, "\n")
	if _, err := fmt.Sscanf(line, url+" version %d", &version); err != nil {
		return 0, fmt.Errorf("%s: another text: %.80q", url, text)
	}
	if strings.Repeat(line+"\n", len(text)/(len(line)+1)) != text {
		return 0, fmt.Errorf("%s: wrong bytes", url)
	}
	return version, nil
}

// A child is this test binary as a process of its own.
type child struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *strings.Builder
}

// start starts a child with variables for it.
func start(t testing.TB, role string, setup func(*exec.Cmd), env ...string) *child {
	c := &child{t: t, cmd: exec.Command(os.Args[0]), err: &strings.Builder{}}
	c.cmd.Env = append(append(os.Environ(), childEnv+"="+role), env...)
	var err error
	c.in, err = c.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := c.cmd.StdoutPipe()
	require.NoError(t, err)
	c.out = bufio.NewReader(out)
	c.cmd.Stderr = c.err
	if setup != nil {
		setup(c.cmd)
	}
	require.NoError(t, c.cmd.Start())
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		c.cmd.Wait()
	})
	return c
}

// line returns the next line that the child says.
func (c *child) line() string {
	s, err := c.out.ReadString('\n')
	if err != nil {
		c.cmd.Wait()
		require.NoError(c.t, err, c.err.String())
	}
	return strings.TrimSuffix(s, "\n")
}

// end lets the child end in good order.
func (c *child) end() {
	c.in.Close()
	require.NoError(c.t, c.cmd.Wait(), c.err)
}

// aside lists the files that were set aside.
func aside(path string) []string {
	list, _ := filepath.Glob(path + ".corrupt-*")
	return list
}
