package faults_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
)

// A disk is a file system of its own that the file of a store is on. It needs
// root.
type disk struct {
	t    testing.TB
	dir  string // where it is mounted
	loop string // the device, if it is ext4
}

func needsRoot(t testing.TB) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
}

// command runs a program; where it cannot do its work, the test is skipped, since
// nothing of ours has begun.
func (d *disk) command(args ...string) string {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		d.t.Skipf("%s: %v %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// newDisk mounts a tmpfs of so many MiB, or an ext4 on a loop device, and returns
// it with the path of the store's file.
func newDisk(t testing.TB, kind string, size int) (*disk, string) {
	needsRoot(t)
	path := livePlace(t)
	d := &disk{t: t, dir: filepath.Dir(path)}
	require.NoError(t, os.Chown(d.dir, 0, 0)) // what is under the mount is not to be written
	t.Cleanup(func() {
		d.unmount()
		if d.loop != "" {
			exec.Command("losetup", "-d", d.loop).Run()
		}
	})
	if kind == "ext4" {
		image := filepath.Dir(d.dir) + "/image"
		require.NoError(t, os.WriteFile(image, nil, 0o600))
		require.NoError(t, os.Truncate(image, int64(size)<<20))
		d.command("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0", image)
		d.loop = d.command("losetup", "-f", "--show", image)
		d.mount()
	} else {
		d.command("mount", "-t", "tmpfs", "-o", fmt.Sprintf("size=%dm,mode=0700", size), "tmpfs", d.dir)
	}
	liveGive(t, d.dir)
	return d, path
}

// mount mounts the ext4.
func (d *disk) mount(options ...string) {
	d.command("mount", "-t", "ext4", "-o", strings.Join(append([]string{"errors=remount-ro"}, options...), ","), d.loop, d.dir)
}

// unmount unmounts whatever is mounted, however often.
func (d *disk) unmount() {
	for syscall.Unmount(d.dir, syscall.MNT_DETACH) == nil {
	}
}

// drop unmounts for real: nobody has a file there afterwards.
func (d *disk) drop(l *live) {
	l.until("unmounted", func() bool {
		err := syscall.Unmount(d.dir, 0)
		return err == nil || errors.Is(err, syscall.EINVAL)
	})
}

// fill writes a file until there is no room for more, and returns its name.
func (d *disk) fill() string {
	name := d.dir + "/filler"
	f, err := os.Create(name)
	require.NoError(d.t, err)
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for b := make([]byte, size); err == nil; {
			_, err = f.Write(b)
		}
		require.ErrorIs(d.t, err, syscall.ENOSPC)
		err = nil
	}
	return name
}

// The file system under the file fails, and is there again.
func TestLiveFileSystems(t *testing.T) {
	if faults.Rounds(0, 1, 1) == 0 {
		t.Skip("not in the short form")
	}
	t.Parallel()
	needsRoot(t)
	var list []liveFault
	on := func(kind string, size int, f liveFault, begin, end func(d *disk, l *live)) {
		var d *disk
		f.place = func(t testing.TB) (path string) {
			d, path = newDisk(t, kind, size)
			return path
		}
		f.begin = func(l *live) { begin(d, l) }
		f.end = func(l *live) { end(d, l) }
		f.form = max(f.form, inCI)
		list = append(list, f)
	}
	full := func(d *disk, l *live) { d.fill() }
	empty := func(d *disk, l *live) { require.NoError(l.t, os.Remove(d.dir+"/filler")) }
	on("tmpfs", 16, liveFault{name: "tmpfs full, later emptied", lasts: offline}, full, empty)
	on("ext4", 32, liveFault{name: "ext4 full, later emptied", form: inFull, lasts: offline}, full, empty)
	on("ext4", 32, liveFault{name: "ext4 gone read-only, later mounted anew", untouched: true, lasts: offline},
		func(d *disk, l *live) { d.command("mount", "-o", "remount,abort", d.dir) },
		func(d *disk, l *live) {
			d.drop(l)
			d.mount()
		})
	on("ext4", 32, liveFault{name: "mounted read-only while it had no file, later read-write", form: inFull, untouched: true, lasts: offline},
		func(d *disk, l *live) {
			// A file that is open for writing keeps the kernel from doing it. So the
			// store loses its file for a moment.
			l.until("read-only", func() bool {
				require.NoError(l.t, os.Link(l.path, l.path+".saved"))
				l.replace([]byte("Dear diary\n"))
				l.until("without a file", func() bool { return offline(l) })
				require.NoError(l.t, os.Rename(l.path+".saved", l.path))
				return exec.Command("mount", "-o", "remount,ro", d.dir).Run() == nil
			})
			l.until("refused", func() bool { return strings.Contains(l.state().Err, "read-only") })
		},
		func(d *disk, l *live) { d.command("mount", "-o", "remount,rw", d.dir) })
	on("ext4", 32, liveFault{name: "unmounted lazily, later mounted again", form: inFull, untouched: true, lasts: offline},
		func(d *disk, l *live) { require.NoError(l.t, syscall.Unmount(d.dir, syscall.MNT_DETACH)) },
		func(d *disk, l *live) { d.mount() })
	on("ext4", 32, liveFault{name: "unmounted lazily over a directory that may be written, later mounted again", untouched: true},
		func(d *disk, l *live) {
			require.NoError(l.t, syscall.Unmount(d.dir, syscall.MNT_DETACH))
			liveGive(l.t, d.dir)
			l.cached()
			l.older()
		},
		func(d *disk, l *live) { d.mount() })
	on("tmpfs", 16, liveFault{name: "unmounted lazily, for good", form: inFull, untouched: true},
		func(d *disk, l *live) {
			require.NoError(l.t, syscall.Unmount(d.dir, syscall.MNT_DETACH))
			liveGive(l.t, d.dir)
		},
		func(d *disk, l *live) {})
	runLive(t, list)
}

const fadviseDontNeed = 4

// A disk whose reads take seconds: the reader sits in a page fault, which neither
// Go nor the store can interrupt, and holds one of Go's processors meanwhile.
func TestLiveSlowReads(t *testing.T) {
	if faults.Rounds(0, 0, 1) == 0 {
		t.Skip("only in the full form")
	}
	// What a page of 4 KiB takes.
	for _, page := range []time.Duration{10 * time.Millisecond, 100 * time.Millisecond, time.Second} {
		t.Run(page.String(), func(t *testing.T) { slowReads(t, page) })
	}
}

func slowReads(t *testing.T, page time.Duration) {
	rate := int(4096 * time.Second / page)
	d, path := newDisk(t, "ext4", 32)
	group := fmt.Sprintf("/sys/fs/cgroup/blkio/accel-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("no cgroup to slow reads down with: ", err)
	}
	t.Cleanup(func() { os.Remove(group) })
	var st syscall.Stat_t
	require.NoError(t, syscall.Stat(d.loop, &st))
	device := fmt.Sprintf("%d:%d", st.Rdev>>8&0xfff, st.Rdev&0xff)
	throttle := func(kind string, bytes int) error {
		return os.WriteFile(group+"/blkio.throttle."+kind+"_bps_device", fmt.Appendf(nil, "%s %d", device, bytes), 0o644)
	}

	l := startLive(t, path)
	for page := range 1000 {
		l.get(page)
	}
	l.until("written", func() bool { return l.state().Store.QueueBytes == 0 })
	l.do("/close")
	require.NoError(t, l.child.Wait(), l.child.Stderr())
	l.http.CloseIdleConnections()
	d.drop(l)
	d.mount()
	d.command("blockdev", "--setra", "0", d.loop)

	l.start("LIVE_PING=1")
	t.Cleanup(l.child.Kill) // before the group goes
	require.Empty(t, l.state().Err)
	require.NoError(t, os.WriteFile(group+"/cgroup.procs", fmt.Append(nil, l.child.Cmd.Process.Pid), 0o644))
	if err := throttle("read", rate); err != nil {
		t.Skip("reads cannot be slowed down: ", err)
	}
	// Nothing of it stays in memory but what is mapped.
	f, err := os.Open(path)
	require.NoError(t, err)
	_, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, fadviseDontNeed, 0, 0)
	require.Zero(t, errno)
	require.NoError(t, f.Close())
	requests, hits := l.requests.Load(), l.hits.Load()
	l.longest.Store(0)
	l.load()
	began := time.Now()
	l.until("slow for long enough", func() bool { return time.Since(began) > 10*time.Second })
	s := l.state()
	t.Logf("%v for each page read, for %v: %d requests, %d from the cache, %d read errors, longest request %v, purges %v, longest purge %v",
		page, time.Since(began).Round(time.Millisecond), l.requests.Load()-requests, l.hits.Load()-hits, s.Store.ReadErrors,
		time.Duration(l.longest.Load()).Round(time.Millisecond), l.purges, l.slowest.Round(time.Millisecond))
	require.NoError(t, throttle("read", 0))
	ended := time.Now()
	l.cached()
	t.Logf("cached again after %v", time.Since(ended).Round(time.Millisecond))
	l.stop()
	require.Zero(t, l.failed.Load(), l.errs)
	require.Zero(t, l.wrong.Load(), l.errs)
	require.LessOrEqual(t, l.logged(), 40, l.child.Stderr())
	l.child.Kill()
}
