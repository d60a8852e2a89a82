package faults_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
)

// System calls are made to fail by the process itself: a seccomp filter hands those
// that change files over to a goroutine, which lets them be executed, or says what
// came of them. It needs no privilege and no other program, and unlike strace, which
// counts the calls of each thread for itself, it knows which one is the n-th of all.
// Goroutines move between threads as they please.

const (
	seccompModeFilter  = 1
	seccompTSync       = 1 << 0
	seccompNewListener = 1 << 3
	seccompTSyncESRCH  = 1 << 4
	seccompAllow       = 0x7fff0000
	seccompUserNotif   = 0x7fc00000
	seccompContinue    = 1
	prSetNoNewPrivs    = 38
	notifRecv          = 0xc0502100
	notifSend          = 0xc0182101
)

// seccompCall is the number of seccomp(2), which package syscall does not have
// everywhere.
var seccompCall = map[string]uintptr{"amd64": 317, "arm64": 277}[runtime.GOARCH]

// watchedCalls are those that the store's files are changed by.
var watchedCalls = map[int32]string{
	syscall.SYS_PWRITE64:  "pwrite64",
	syscall.SYS_FDATASYNC: "fdatasync",
	syscall.SYS_FSYNC:     "fsync",
	syscall.SYS_FTRUNCATE: "ftruncate",
	syscall.SYS_RENAMEAT:  "renameat",
	syscall.SYS_LINKAT:    "linkat",
	syscall.SYS_OPENAT:    "openat",
}

type notification struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

type notificationAnswer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// A plan says what happens to which calls. Its text is a list of name=value.
type plan struct {
	calls    string // their names, with + between; empty: none
	from, to int    // of those calls; to 0: until there is another plan
	err      syscall.Errno
	// how: "" fails and does nothing; "half" writes half of it and then fails;
	// "short" writes half of it and says so; "lost" does nothing and says that all is
	// well; "hang" is executed when there is another plan.
	how  string
	over chan struct{} // closed when there is another plan
}

var injector struct {
	dir string // the calls that are counted are those on files in it

	mu     sync.Mutex
	plan   plan
	counts map[string]int // calls since the last plan
	nth    int            // of the plan's calls
	hit    int
	path   [256]byte
}

var errnos = map[string]syscall.Errno{
	"EIO": syscall.EIO, "ENOSPC": syscall.ENOSPC, "EROFS": syscall.EROFS, "EDQUOT": syscall.EDQUOT,
}

// injectSet makes a plan the present one.
func injectSet(text string) {
	p := plan{over: make(chan struct{})}
	for _, f := range strings.Fields(text) {
		name, value, _ := strings.Cut(f, "=")
		switch name {
		case "calls":
			p.calls = value
		case "nth":
			fmt.Sscan(value, &p.from)
			p.to = p.from
		case "err":
			p.err = errnos[value]
		case "how":
			p.how = value
		}
	}
	injector.mu.Lock()
	defer injector.mu.Unlock()
	if injector.plan.over != nil {
		close(injector.plan.over)
	}
	injector.plan, injector.counts, injector.nth, injector.hit = p, map[string]int{}, 0, 0
}

// injected returns how many calls of each kind were made since the last plan, and
// how many of them it concerned.
func injected() (map[string]int, int) {
	injector.mu.Lock()
	defer injector.mu.Unlock()
	return maps.Clone(injector.counts), injector.hit
}

// inject begins to watch the process's calls on files in the directory of path.
func inject(path string) error {
	if seccompCall == 0 {
		return errors.New("no seccomp on " + runtime.GOARCH)
	}
	injector.dir = filepath.Dir(path)
	filter := []syscall.SockFilter{{Code: syscall.BPF_LD | syscall.BPF_W | syscall.BPF_ABS, K: 0}}
	i := 0
	for nr := range watchedCalls {
		// To the last instruction but one if it is this; else to the next.
		filter = append(filter, syscall.SockFilter{Code: syscall.BPF_JMP | syscall.BPF_JEQ | syscall.BPF_K,
			Jt: uint8(len(watchedCalls) - i), K: uint32(nr)})
		i++
	}
	filter = append(filter,
		syscall.SockFilter{Code: syscall.BPF_RET | syscall.BPF_K, K: seccompAllow},
		syscall.SockFilter{Code: syscall.BPF_RET | syscall.BPF_K, K: seccompUserNotif})
	prog := syscall.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}

	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, _, e := syscall.Syscall6(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0, 0, 0, 0); e != 0 {
		return e
	}
	fd, _, e := syscall.Syscall(seccompCall, seccompModeFilter, seccompTSync|seccompNewListener|seccompTSyncESRCH,
		uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return fmt.Errorf("seccomp: %w", e)
	}
	go func() {
		for {
			var n notification
			if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, notifRecv, uintptr(unsafe.Pointer(&n))); e != 0 {
				if e == syscall.EINTR || e == syscall.ENOENT {
					continue
				}
				return
			}
			go func() {
				a := decide(&n)
				a.id = n.id
				syscall.Syscall(syscall.SYS_IOCTL, fd, notifSend, uintptr(unsafe.Pointer(&a)))
			}()
		}
	}()
	return nil
}

// decide says what becomes of a call. It makes no call that is watched.
func decide(n *notification) notificationAnswer {
	execute := notificationAnswer{flags: seccompContinue}
	name := watchedCalls[n.nr]
	if !concerns(n, name) {
		return execute
	}
	injector.mu.Lock()
	p := injector.plan
	injector.counts[name]++
	hit := false
	if slices.Contains(strings.Split(p.calls, "+"), name) {
		injector.nth++
		hit = injector.nth >= p.from && (p.to == 0 || injector.nth <= p.to)
	}
	if hit {
		injector.hit++
	}
	injector.mu.Unlock()
	if !hit {
		return execute
	}
	failed := notificationAnswer{err: -int32(p.err)}
	write := name == "pwrite64"
	switch p.how {
	case "hang":
		<-p.over
		return execute
	case "lost":
		if write {
			return notificationAnswer{val: int64(n.args[2])}
		}
		return notificationAnswer{}
	case "half", "short":
		if !write {
			break
		}
		// The memory is ours, and stands still during the call.
		vec := struct{ base, len uint64 }{n.args[1], (n.args[2] + 1) / 2}
		done, _, e := syscall.Syscall6(syscall.SYS_PWRITEV, uintptr(n.args[0]), uintptr(unsafe.Pointer(&vec)), 1, uintptr(n.args[3]), 0, 0)
		if p.how == "short" && e == 0 {
			return notificationAnswer{val: int64(done)}
		}
	}
	return failed
}

// concerns reports whether a call has to do with the store's directory.
func concerns(n *notification, name string) bool {
	switch name {
	case "renameat", "linkat":
		return true // nobody else does
	case "openat":
		// Only those that may create or write.
		return n.args[2]&(syscall.O_RDWR|syscall.O_WRONLY) != 0 && strings.HasPrefix(text(uintptr(n.args[1])), injector.dir)
	}
	path, err := os.Readlink(fmt.Sprint("/proc/self/fd/", n.args[0]))
	return err == nil && strings.HasPrefix(path, injector.dir)
}

// text reads a path from memory that is not ours to have a pointer to.
func text(at uintptr) string {
	injector.mu.Lock()
	defer injector.mu.Unlock()
	b := &injector.path // a global, which does not move
	local := struct{ base, len uint64 }{uint64(uintptr(unsafe.Pointer(b))), uint64(len(b))}
	remote := struct{ base, len uint64 }{uint64(at), uint64(len(b))}
	n, _, e := syscall.Syscall6(processVMReadv, uintptr(os.Getpid()), uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if e != 0 {
		return ""
	}
	s, _, _ := strings.Cut(string(b[:n]), "\x00")
	return s
}

func init() {
	faults.Role("live-inject", func() {
		if err := inject("/nowhere/at-all"); err != nil {
			fmt.Println(err)
			return
		}
		injectSet("")
		// It goes through the filter, and is let through.
		_, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
		liveMust(err)
		fmt.Println("ok")
	})
}

var canInject struct {
	sync.Once
	said string
}

// needsInject skips a test where system calls cannot be made to fail.
func needsInject(t *testing.T) {
	canInject.Do(func() {
		c := faults.Start(t, "live-inject", nil)
		canInject.said, _ = c.Line()
		c.Kill()
	})
	if canInject.said != "ok" {
		t.Skip("system calls cannot be made to fail here: ", canInject.said)
	}
}

// On a disk that fails, lies or hangs for a while, and is well again.
func TestLiveSystemCalls(t *testing.T) {
	t.Parallel()
	needsInject(t)
	const changing = "pwrite64+ftruncate+renameat+linkat+openat+fsync+fdatasync"
	hit := func(l *live) bool { return l.state().Hit > 0 }
	var list []liveFault
	for _, f := range []struct {
		liveFault
		plan string
	}{
		{liveFault{name: "EIO on every write"}, "calls=pwrite64 err=EIO"},
		{liveFault{name: "EIO on every write, after half of it", form: inFull}, "calls=pwrite64 err=EIO how=half"},
		{liveFault{name: "EIO on every sync", form: inCI}, "calls=fdatasync+fsync err=EIO"},
		{liveFault{name: "ENOSPC on every write", form: inCI}, "calls=pwrite64+ftruncate err=ENOSPC"},
		{liveFault{name: "ENOSPC on every write, after half of it", form: inFull}, "calls=pwrite64+ftruncate err=ENOSPC how=half"},
		{liveFault{name: "ENOSPC on every sync", form: inFull}, "calls=fdatasync+fsync err=ENOSPC"},
		{liveFault{name: "EDQUOT on every write", form: inFull}, "calls=pwrite64+ftruncate err=EDQUOT"},
		{liveFault{name: "EROFS on everything that changes", form: inCI, untouched: true}, "calls=" + changing + " err=EROFS"},
		{liveFault{name: "EIO on everything that changes", form: inFull, untouched: true}, "calls=" + changing + " err=EIO"},
		{liveFault{name: "short writes", form: inFull, untouched: true}, "calls=pwrite64 how=short"},
		{liveFault{name: "writes that are lost", form: inCI, lied: true}, "calls=pwrite64 how=lost"},
		{liveFault{name: "syncs that do nothing", form: inFull, untouched: true}, "calls=fdatasync+fsync how=lost"},
		{liveFault{name: "writes that hang", untouched: true}, "calls=pwrite64 how=hang"},
		{liveFault{name: "syncs that hang", form: inCI, untouched: true}, "calls=fdatasync+fsync how=hang"},
	} {
		one := f.liveFault
		one.env = []string{"LIVE_INJECT=calls="}
		one.lasts = hit
		one.begin = func(l *live) { l.do("/inject", "plan", f.plan) }
		one.end = func(l *live) { l.do("/inject", "plan", "calls=") }
		list = append(list, one)
	}
	runLive(t, list)
}

// A disk that hangs does not hold Close up for ever. The site is served meanwhile,
// and afterwards; an invalidation waits as long as its caller does.
func TestLiveCloseWhileTheDiskHangs(t *testing.T) {
	if faults.Rounds(0, 1, 1) == 0 {
		t.Skip("not in the short form: Close waits ten seconds for the disk")
	}
	t.Parallel()
	needsInject(t)
	for _, calls := range []string{"fdatasync+fsync", "pwrite64"}[:faults.Rounds(0, 1, 2)] {
		t.Run(calls, func(t *testing.T) {
			t.Parallel()
			l := startLive(t, livePlace(t), "LIVE_INJECT=calls=")
			l.load()
			l.cached()
			l.do("/inject", "plan", "calls="+calls+" how=hang")
			l.until("hangs", func() bool { return l.state().Hit > 0 })
			requests := l.requests.Load()
			start := time.Now()
			took, said, _ := strings.Cut(l.do("/close", "stay", "1"), " ")
			waited := time.Since(start)
			require.Contains(t, said, "does not answer")
			// Twice what Close waits for the disk, since something may just have come
			// of it; the rest is the machine's.
			require.Less(t, waited, 30*time.Second)
			meanwhile := l.requests.Load() - requests
			requests = l.requests.Load()
			l.until("served after Close", func() bool { return l.requests.Load() > requests+100 })
			l.stop()
			t.Logf("%s hang: Close returned after %s ms (%s); %d requests meanwhile, longest %v; purges %v, longest %v", calls, took, said,
				meanwhile, time.Duration(l.longest.Load()).Round(time.Millisecond), l.purges, l.slowest.Round(time.Millisecond))
			// The disk answers: what was begun is brought to an end, and the next
			// process has the file.
			l.do("/inject", "plan", "calls=")
			l.http.CloseIdleConnections()
			l.child.Kill()
			l.start("LIVE_PING=1")
			l.pages()
			require.Empty(t, l.state().Err)
			require.Zero(t, l.failed.Load(), l.errs)
			require.Zero(t, l.wrong.Load(), l.errs)
		})
	}
}

// One call fails, for every call there is in a run of some hundred operations:
// every write, every sync, every growth, and whatever else changes a file.
func TestLiveEverySystemCall(t *testing.T) {
	needsInject(t)
	t.Parallel()
	kinds := []struct {
		calls, errs, how string
		form, stride     int
	}{
		{"pwrite64", "EIO", "", inShort, 1}, {"pwrite64", "ENOSPC", "", inCI, 1},
		{"pwrite64", "EIO ENOSPC", "half", inFull, 3}, {"pwrite64", "EIO", "lost", inCI, 3},
		{"fdatasync", "EIO", "", inShort, 1}, {"fdatasync", "ENOSPC", "", inCI, 1},
		{"fsync", "EIO", "", inCI, 1}, {"fsync", "ENOSPC", "", inFull, 1},
		{"ftruncate", "ENOSPC", "", inCI, 1}, {"ftruncate", "EIO", "", inFull, 1},
		{"linkat", "EIO", "", inCI, 1}, {"openat", "EIO", "", inCI, 1},
	}
	counts := map[string]int{"pwrite64": 800, "fdatasync": 120} // about
	if faults.Rounds(0, 1, 1) > 0 {
		counts = tryCall(t, "calls=").counts
		t.Logf("system calls in a run of 500 operations: %v", counts)
	}
	for _, kind := range kinds {
		if kind.form > faults.Rounds(inShort, inCI, inFull) {
			continue
		}
		for _, errno := range strings.Fields(kind.errs) {
			name := strings.TrimSpace(fmt.Sprint(kind.calls, " ", errno, " ", kind.how))
			n := counts[kind.calls]
			require.NotZero(t, n, name)
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var total tried
				tries := min(n, faults.Rounds(1, 1, (n+kind.stride-1)/kind.stride))
				all := faults.Rounds(0, 0, 1) == 1
				for i := range tries {
					nth := 1 + i*kind.stride
					if !all {
						nth = 1 + rand.IntN(n)
					}
					total.add(tryCall(t, fmt.Sprintf("calls=%s nth=%d err=%s how=%s", kind.calls, nth, errno, kind.how)))
					if t.Failed() {
						t.Fatalf("at the call %d of %d", nth, n)
					}
				}
				t.Logf("%s | %d calls | %d runs, %d of them reached it | %d requests | %d failed | %d wrong | %d purges: %d nil, %d not durable | set aside %d | longest request %v",
					name, n, total.runs, total.hit, total.requests, total.failed, total.wrong, total.purges, total.durable, total.undurable, total.aside, total.longest.Round(time.Millisecond))
			})
		}
	}
}

// A tried is what came of runs with one failing call each.
type tried struct {
	counts                     map[string]int
	runs, hit, aside           int
	requests, failed, wrong    int64
	purges, durable, undurable int
	longest                    time.Duration
}

func (a *tried) add(b tried) {
	a.runs, a.hit, a.aside = a.runs+b.runs, a.hit+b.hit, a.aside+b.aside
	a.requests, a.failed, a.wrong = a.requests+b.requests, a.failed+b.failed, a.wrong+b.wrong
	a.purges, a.durable, a.undurable = a.purges+b.purges, a.durable+b.durable, a.undurable+b.undurable
	a.longest = max(a.longest, b.longest)
}

// tryCall does five hundred operations in a new place with a plan, which counts
// from before the file is there, and then restarts the process.
func tryCall(t *testing.T, plan string) (res tried) {
	l := startLive(t, livePlace(t), "LIVE_INJECT="+plan, "LIVE_MAX=4194304")
	// At a pace that lets the store write in between, so that most invalidations
	// find something on disk that they strike.
	const clients = 4
	for c := range clients {
		l.wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(c), 1))
			tick := time.NewTicker(4 * time.Millisecond)
			defer tick.Stop()
			for range 500 / clients {
				<-tick.C
				switch k := r.IntN(20); {
				case k < 3:
					l.purge(r.IntN(liveTags/clients)*clients + c)
				case k < 10:
					l.get(liveHot + int(l.next.Add(1)))
				default:
					l.get(r.IntN(liveHot))
				}
			}
		})
	}
	l.wg.Wait()
	l.until("written", func() bool { s := l.state(); return s.Err == "" && s.Store.QueueBytes == 0 })
	s := l.state()
	res = tried{counts: s.Calls, runs: 1, aside: len(l.aside())}
	if s.Hit > 0 {
		res.hit = 1
	}
	require.EqualValues(t, res.aside, s.Store.SetAside)
	require.LessOrEqual(t, res.aside, 1)
	l.until("cached", func() bool { return l.get(0) })
	require.Equal(t, "nil", l.purge(0))
	if strings.Contains(plan, "how=lost") {
		l.durable = [liveTags]uint64{}
	}
	require.LessOrEqual(t, l.logged(), 20, l.child.Stderr())
	l.child.Kill()
	l.http.CloseIdleConnections()
	l.start("LIVE_PING=1", "LIVE_INJECT=")
	l.pages()
	require.Equal(t, "nil", l.purge(0))
	l.pages()
	l.child.Kill()
	l.http.CloseIdleConnections()
	res.requests, res.failed, res.wrong = l.requests.Load(), l.failed.Load(), l.wrong.Load()
	for outcome, n := range l.purges {
		res.purges += n
		switch outcome {
		case "nil":
			res.durable += n
		case "undurable":
			res.undurable += n
		default:
			require.Fail(t, "a purge", outcome)
		}
	}
	res.longest = time.Duration(l.longest.Load())
	require.Zero(t, res.failed, l.errs)
	require.Zero(t, res.wrong, l.errs)
	return res
}

var processVMReadv = map[string]uintptr{"amd64": 310, "arm64": 270}[runtime.GOARCH]
