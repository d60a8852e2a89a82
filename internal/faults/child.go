package faults

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// What may end a process, or leave it in a state that no test after it should
// see, is done in a process of its own: the test binary, started with a role.

const roleEnv = "ACCEL_FAULTS_ROLE"

var roles = map[string]func(){}

// Role names what a child does. It is called by init functions of tests. A role
// that returns ends the child well; one that panics does not.
func Role(name string, do func()) { roles[name] = do }

// Main runs the tests, or a role if this process is a child. TestMain calls it
// with what runs the tests.
func Main(run func()) {
	if name := os.Getenv(roleEnv); name != "" {
		do, ok := roles[name]
		if !ok {
			panic("faults: no role " + name)
		}
		do()
		os.Exit(0)
	}
	run()
}

// A Child is a process that plays a role. Its standard output is read line by
// line with Line; what it writes to standard error is kept for the test's report.
type Child struct {
	Cmd *exec.Cmd
	In  io.WriteCloser

	t    testing.TB
	out  *bufio.Reader
	errs *lockedBuilder
	once sync.Once
	err  error
}

type lockedBuilder struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuilder) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuilder) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// Command returns a command that plays a role, for who starts it in a way of its
// own. Variables are as for Start.
func Command(role string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), roleEnv+"="+role), env...)
	return cmd
}

// Start starts a child in a role, with variables ("NAME=value") beside those of
// this process. With a prefix, the child is run by that command: {"strace", "-f"}.
// It is killed at the end of the test if it is still there.
func Start(t testing.TB, role string, env []string, prefix ...string) *Child {
	t.Helper()
	args := append(prefix, os.Args[0])
	c := &Child{t: t, Cmd: exec.Command(args[0], args[1:]...), errs: &lockedBuilder{}}
	c.Cmd.Env = append(append(os.Environ(), roleEnv+"="+role), env...)
	c.Cmd.Stderr = c.errs
	var err error
	if c.In, err = c.Cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c
}

// Line returns the next line that the child says, without its end; io.EOF when it
// has said all.
func (c *Child) Line() (string, error) {
	s, err := c.out.ReadString('\n')
	return strings.TrimSuffix(s, "\n"), err
}

// Expect fails the test unless the next line is this one.
func (c *Child) Expect(line string) {
	c.t.Helper()
	if got, err := c.Line(); got != line {
		c.Kill()
		c.t.Fatalf("the child says %q (%v), not %q\n%s", got, err, line, c.errs)
	}
}

// Say writes a line to the child's standard input.
func (c *Child) Say(line string) { fmt.Fprintln(c.In, line) }

// Kill ends the child at once, as kill -9 does, and waits for it.
func (c *Child) Kill() {
	c.Cmd.Process.Kill()
	c.Wait()
}

// Wait waits until the child has ended, and returns how.
func (c *Child) Wait() error {
	c.once.Do(func() { c.err = c.Cmd.Wait() })
	return c.err
}

// Stderr returns what the child has written to its standard error so far.
func (c *Child) Stderr() string { return c.errs.String() }
