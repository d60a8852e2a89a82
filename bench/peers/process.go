//go:build linux

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Servers run on the one core, the client and the origin behind the proxies on
// the other. They are set once, by chooseCores.
var serverCore, clientCore int

// chooseCores takes the first two that this process may run on, or those in the
// text: "2,3".
func chooseCores(text string) error {
	if text != "" {
		if n, err := fmt.Sscanf(text, "%d,%d", &serverCore, &clientCore); n != 2 {
			return fmt.Errorf("cores %q: %w", text, err)
		}
		return nil
	}
	var ours unix.CPUSet
	if err := unix.SchedGetaffinity(0, &ours); err != nil {
		return err
	}
	var found []int
	for i := range len(ours) * 64 {
		if ours.IsSet(i) {
			found = append(found, i)
		}
	}
	if len(found) < 2 {
		return errors.New("two cores are needed, one for the server and one for the load")
	}
	serverCore, clientCore = found[0], found[1]
	return nil
}

// patience is how long a server may take to start, to settle or to end.
const patience = 60 * time.Second

// startPinned starts cmd on one core. The threads of a process inherit the
// affinity of the thread that forks it, so it is this thread's for a moment. A
// Go program takes its GOMAXPROCS from it: one, for each alike.
func startPinned(cmd *exec.Cmd, core int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	one.Set(core)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	err := cmd.Start()
	return errors.Join(err, unix.SchedSetaffinity(0, &before))
}

// A process is a server on its own, with what it has forked.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how, once it has
}

func spawn(cmd *exec.Cmd, core int) (*process, error) {
	if err := startPinned(cmd, core); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// stop asks the process to end with a signal and waits; what takes too long is
// killed.
func (p *process) stop(sig os.Signal) {
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.kill()
	}
}

// kill ends the process and its children at once, as kill -9 does. They are
// stopped first, or a parent that lives a moment longer would start a new child.
func (p *process) kill() {
	all := tree(p.pid())
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
	for _, pid := range all {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
	for _, pid := range all[1:] {
		for deadline := time.Now().Add(patience); alive(pid) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
	}
}

// alive reports whether a process runs. A zombie does not: its files are closed.
func alive(pid int) bool {
	s, err := readStat(pid)
	return err == nil && s.state != 'Z' && s.state != 'X'
}

// A line server is this program in the role of a server. It is spoken to in
// lines: one that asks, one that answers. When its input ends, it ends.
type lineServer struct {
	*process
	addr string
	in   io.WriteCloser
	out  *bufio.Reader
}

func startLineServer(core int, args ...string) (*lineServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// Not StdoutPipe, which Wait closes under its reader.
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = w
	p, err := spawn(cmd, core)
	w.Close()
	if err != nil {
		r.Close()
		return nil, err
	}
	s := &lineServer{process: p, in: in, out: bufio.NewReader(r)}
	go func() {
		<-p.done
		r.Close()
	}()
	line, err := s.line()
	if err != nil {
		p.kill()
		return nil, fmt.Errorf("%s did not start: %w", strings.Join(args, " "), err)
	}
	s.addr = line
	return s, nil
}

func (s *lineServer) line() (string, error) {
	line, err := s.out.ReadString('\n')
	return strings.TrimSpace(line), err
}

// ask sends a line and returns what is answered to it.
func (s *lineServer) ask(question string) (string, error) {
	if _, err := io.WriteString(s.in, question+"\n"); err != nil {
		return "", err
	}
	answer, err := s.line()
	if err != nil {
		return "", err
	}
	if text, failed := strings.CutPrefix(answer, "error: "); failed {
		return "", errors.New(text)
	}
	return answer, nil
}

func (s *lineServer) number(question string) (int64, error) {
	answer, err := s.ask(question)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(answer, 10, 64)
}

// end closes the input and waits, which lets a store write what it has queued.
func (s *lineServer) end() {
	s.in.Close()
	select {
	case <-s.done:
	case <-time.After(patience):
		s.kill()
	}
}

// A stat is what is read of /proc/<pid>/stat.
type stat struct {
	parent int
	state  byte
	cpu    time.Duration // user and system
}

// ticks is USER_HZ, in which the kernel tells times to programs. It is 100 on
// every architecture that Go runs on.
const ticks = 100

func parseStat(b []byte) (stat, error) {
	// The second field is the name in parentheses and may contain anything.
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, errors.New("no name in stat")
	}
	f := strings.Fields(string(b[i+1:]))
	if len(f) < 13 {
		return stat{}, errors.New("stat is too short")
	}
	parent, err1 := strconv.Atoi(f[1])
	user, err2 := strconv.ParseInt(f[11], 10, 64)
	system, err3 := strconv.ParseInt(f[12], 10, 64)
	return stat{
		parent: parent,
		state:  f[0][0],
		cpu:    time.Duration(user+system) * (time.Second / ticks),
	}, errors.Join(err1, err2, err3)
}

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, err
	}
	return parseStat(b)
}

// tree returns the process and all that descend from it, itself first.
func tree(root int) []int {
	children := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			children[s.parent] = append(children[s.parent], pid)
		}
	}
	all := []int{root}
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}

// cpuOf is the processor time that the processes have used.
func cpuOf(pids []int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range pids {
		s, err := readStat(pid)
		if err != nil {
			return 0, err
		}
		sum += s.cpu
	}
	return sum, nil
}

// A footprint is what processes occupy, in bytes.
type footprint struct {
	anon   int64 // RssAnon, of all processes
	shared int64 // RssShmem, of the one that has most: they share it
	mapped int64 // RssFile, likewise
}

func memoryOf(pids []int) (footprint, error) {
	var f footprint
	for _, pid := range pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return f, err
		}
		v := parseStatus(b)
		f.anon += v["RssAnon"]
		f.shared = max(f.shared, v["RssShmem"])
		f.mapped = max(f.mapped, v["RssFile"])
	}
	return f, nil
}

// parseStatus returns the fields of /proc/<pid>/status that are sizes, in bytes.
func parseStatus(b []byte) map[string]int64 {
	v := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		name, rest, _ := strings.Cut(line, ":")
		if kib, ok := strings.CutSuffix(strings.TrimSpace(rest), " kB"); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(kib), 10, 64); err == nil {
				v[name] = n << 10
			}
		}
	}
	return v
}

// diskOf is the space that the files below a directory occupy.
func diskOf(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil
		}
		var st unix.Stat_t
		if unix.Lstat(path, &st) == nil {
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum
}

// freePort returns an address on loopback that nobody listens on at the moment.
func freePort() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// awaitListening waits until p accepts connections.
func awaitListening(p *process, addr string) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		select {
		case <-p.done:
			return fmt.Errorf("it ended: %v", p.err)
		default:
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return c.Close()
		}
		time.Sleep(2 * time.Millisecond)
	}
	return errors.New("it does not listen")
}
