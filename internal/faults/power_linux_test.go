package faults_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

// A power cut, as far as a file system sees one: ext4 is told to stop writing at
// once, without what is left in its journal's buffers. What was not synced is lost
// then, and the next mount replays the journal. What a disk does with what was
// synced is not tried.

// From linux/loop.h and fs/ext4/ext4.h.
const (
	loopCtlGetFree = 0x4C82
	loopConfigure  = 0x4C0A
	loopAutoclear  = 4
	ext4Shutdown   = 0x8004587D // _IOR('X', 125, __u32)
	ext4NoLogFlush = 2
)

type loopConfig struct {
	fd, blockSize uint32
	info          struct {
		device, inode, rdevice, offset, sizelimit uint64
		number, encryptType, encryptKey, flags    uint32
		file, crypt                               [64]byte
		key                                       [32]byte
		init                                      [2]uint64
	}
	reserved [8]uint64
}

const (
	powerNamespace = "ACCEL_FAULTS_POWER"
	powerDiskSize  = 64 << 20
	// powerPatience is how long something is waited for that another process holds.
	powerPatience = 10 * time.Second
)

func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) (int, error) {
	n, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg))
	runtime.KeepAlive(f)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// powered runs a test in a namespace of mounts of its own. The mounts end with the
// last process in it, and the loop device with the mount: whatever happens to the
// test, nothing is left. It returns false in the process outside, where the test
// is over then.
func powered(t *testing.T) bool {
	if os.Getenv(powerNamespace) != "" {
		return true
	}
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("a file system can be mounted by root alone")
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("there is no mkfs.ext4 here")
	}
	if f, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err != nil {
		t.Skipf("there are no loop devices here: %v", err)
	} else {
		f.Close()
	}
	faults.Rounds(0, 0, 0) // so that go test knows that the outcome depends on it
	args := []string{"-test.run", "^" + t.Name() + "$", "-test.v"}
	if d, ok := t.Deadline(); ok {
		args = append(args, "-test.timeout", time.Until(d).String())
	}
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), powerNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	// The signal comes when the thread ends that has started the process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	text := string(out)
	switch {
	case errors.Is(err, syscall.EPERM):
		t.Skipf("no namespace of mounts is to be had: %v", err)
	case err != nil:
		t.Fatalf("%v\n%s", err, text)
	case strings.Contains(text, "--- SKIP"):
		t.Skip(text)
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "    ") {
			if _, text, ok := strings.Cut(line, ".go:"); ok {
				_, line, _ = strings.Cut(text, ": ")
			}
			t.Log(strings.TrimSpace(line))
		}
	}
	return false
}

// A powerDisk is a disk with an ext4 file system, whose power can be cut.
type powerDisk struct {
	t     testing.TB
	image *os.File
	mnt   string
	on    bool
	turns int
}

// newPowerDisk makes one, in memory where that is to be had: there a round takes
// some milliseconds. It is mounted.
func newPowerDisk(t testing.TB) *powerDisk {
	d := &powerDisk{t: t, mnt: t.TempDir()}
	dir := "/dev/shm"
	if _, err := os.Stat(dir); err != nil {
		dir = d.mnt
	}
	var err error
	d.image, err = os.CreateTemp(dir, "accel-power-")
	require.NoError(t, err)
	// Nameless, it goes with the last who has it open.
	defer os.Remove(d.image.Name())
	t.Cleanup(func() {
		if d.on {
			syscall.Unmount(d.mnt, syscall.MNT_DETACH)
		}
		d.image.Close()
	})
	require.NoError(t, d.image.Truncate(powerDiskSize))
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", d.image.Name()).CombinedOutput()
	require.NoError(t, err, "%s", out)
	d.mount()
	return d
}

func (d *powerDisk) mount() {
	dev := d.attach()
	defer dev.Close() // the mount keeps it
	options := ""
	if d.turns++; d.turns%2 == 0 {
		options = "data=writeback" // in which less is ordered than by default
	}
	err := syscall.Mount(dev.Name(), d.mnt, "ext4", 0, options)
	if errors.Is(err, syscall.EPERM) {
		d.t.Skipf("mounting is not permitted here: %v", err)
	}
	require.NoError(d.t, err)
	d.on = true
}

// attach makes a loop device of the image, which is released when it is closed
// and not mounted.
func (d *powerDisk) attach() *os.File {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	require.NoError(d.t, err)
	defer control.Close()
	for deadline := time.Now().Add(powerPatience); ; {
		n, err := ioctl(control, loopCtlGetFree, nil)
		if err != nil {
			d.t.Skipf("no loop device is to be had: %v", err)
		}
		dev, err := os.OpenFile(fmt.Sprint("/dev/loop", n), os.O_RDWR, 0)
		if err != nil {
			d.t.Skipf("no loop device is to be had: %v", err)
		}
		config := loopConfig{fd: uint32(d.image.Fd())}
		config.info.flags = loopAutoclear
		if _, err = ioctl(dev, loopConfigure, unsafe.Pointer(&config)); err == nil {
			return dev
		}
		dev.Close()
		// Somebody else has taken it meanwhile.
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(deadline) {
			d.t.Skipf("no loop device is to be had: %v", err)
		}
	}
}

// cut cuts the power. From here on nothing reaches the disk.
func (d *powerDisk) cut() {
	dir, err := os.Open(d.mnt)
	require.NoError(d.t, err)
	defer dir.Close()
	how := uint32(ext4NoLogFlush)
	_, err = ioctl(dir, ext4Shutdown, unsafe.Pointer(&how))
	require.NoError(d.t, err)
}

// restart mounts the disk again, when those who had files on it are dead.
func (d *powerDisk) restart() {
	for deadline := time.Now().Add(powerPatience); ; {
		err := syscall.Unmount(d.mnt, 0)
		if err == nil {
			break
		}
		// A process that another test has just forked may have it open.
		require.True(d.t, errors.Is(err, syscall.EBUSY) && time.Now().Before(deadline), "unmount: %v", err)
		<-time.After(time.Millisecond)
	}
	d.on = false
	d.mount()
}

// cutUnder runs a child on the disk for a while, or until so much was acknowledged if
// that takes longer, cuts the power, and has the disk ready again. With none to be
// waited for, the child may be at opening the file.
func (d *powerDisk) cutUnder(l *account, acks int, prefix ...string) (stderr string) {
	c := l.start(d.t, prefix...)
	ready, ended := l.hear(c)
	pid := 0
	if acks == 0 {
		select {
		case pid = <-ready:
		case <-time.After(rand.N(40 * time.Millisecond)):
		}
	} else {
		if pid = <-ready; pid == 0 {
			<-ended
			require.Fail(d.t, "it never was ready", "%v %s", l.errors, c.Stderr())
		}
		<-time.After(rand.N(120 * time.Millisecond))
		l.await(acks, ended)
	}
	d.cut()
	if pid > 0 {
		syscall.Kill(pid, syscall.SIGKILL) // it may be a child of strace's
	}
	if len(prefix) == 0 {
		c.Cmd.Process.Kill()
	}
	<-ended
	c.Kill()
	d.restart()
	return c.Stderr()
}

// name returns a path that no file has had.
func (d *powerDisk) name() string {
	return filepath.Join(d.mnt, fmt.Sprintf("%016x.db", rand.Uint64()))
}

func powerLoad(d *powerDisk) killLoad {
	l := aKillLoad(d.name())
	l.MaxSize = min(l.MaxSize, 16<<20)
	return l
}

// The power is cut again and again while a site is under load, at any moment.
// Whatever was acknowledged as invalidated before is not served afterwards; the file
// is whole, and most of what was in it is there.
func TestPowerCutUnderLoad(t *testing.T) {
	if !powered(t) {
		return
	}
	var sum killSum
	var d *powerDisk
	var l *account
	for round := range faults.Rounds(3, 20, 1000) {
		if d == nil || rand.IntN(50) == 0 {
			d, l = newPowerDisk(t), nil
		}
		if l == nil || rand.IntN(8) == 0 {
			if l != nil {
				os.Remove(l.DB)
			}
			l = newAccount(powerLoad(d))
		}
		// Sometimes while it opens, or creates.
		acks := min(rand.IntN(6), 1)
		stderr := d.cutUnder(l, acks)
		sum.early += 1 - acks
		require.Empty(t, l.wrong, "round %d, %+v\n%s", round, l.killLoad, stderr)
		f, err := l.check(nil)
		require.NoError(t, err, "round %d, %+v", round, l.killLoad)
		require.Empty(t, f.lost, "round %d, %+v", round, l.killLoad)
		sum.rounds++
		sum.add(l, f)
	}
	sum.log(t, "power cuts")
}

// The file is made for the first time when the power fails, within milliseconds.
func TestPowerCutAtCreation(t *testing.T) {
	if !powered(t) {
		return
	}
	d := newPowerDisk(t)
	var taken pace
	rounds, there, left := 0, 0, 0
	for range faults.Rounds(3, 20, 1000) {
		path := d.name() // a file that is only removed may be back after the cut
		l := newAccount(killLoad{DB: path, Tags: 8, Pages: 8, Size: 300, MaxSize: 16 << 20})
		c := faults.Start(t, "create", l.env())
		c.Expect("begin")
		begin := time.Now()
		c.Say("go")
		if taken == 0 {
			c.Expect("made")
			taken.took(time.Since(begin))
		} else {
			<-time.After(rand.N(time.Duration(taken) * 3 / 2))
		}
		d.cut()
		c.Kill()
		d.restart()
		rounds++
		if _, err := os.Stat(path); err == nil {
			there++
		}
		left += len(beside(t, path))
		f, err := l.check(nil)
		require.NoError(t, err)
		require.Zero(t, f.cached)
		for _, name := range append(beside(t, path), path) {
			os.Remove(name)
		}
		taken.took(time.Duration(taken))
	}
	t.Logf("power cuts at creation: %d rounds, %d with a file, %d with something beside it, 0 wrong; it takes %s",
		rounds, there, left, time.Duration(taken).Round(10*time.Microsecond))
}

func init() {
	faults.Role("create", func() {
		var l killLoad
		l.decode()
		fmt.Println("begin")
		fmt.Scanln()
		store := boltstore.Open(l.DB, boltstore.WithLogger(slog.New(slog.DiscardHandler)), boltstore.WithMaxSize(l.MaxSize))
		store.Ping(context.Background())
		fmt.Println("made")
		var forever [1]byte
		os.Stdin.Read(forever[:])
	})
}

// cutTool runs a command on the disk and cuts the power when it has ended, or after
// a while. It reports whether the command had said that it is done.
func (d *powerDisk) cutTool(cmd *exec.Cmd, after time.Duration) (done bool) {
	require.NoError(d.t, cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		d.cut()
		return err == nil
	case <-time.After(after):
		d.cut()
		cmd.Process.Kill()
		return <-ended == nil
	}
}

// An inspected is a database that accel-inspect works on when the power fails.
type inspected struct {
	d *powerDisk
	*account
	accelInspect tool

	// Rounds, those that had said that they are done, and those that had not and
	// whose file is in place.
	purges, purgesDone                      int
	compactions, compactionsDone, completed int
}

func newInspected(t testing.TB) *inspected {
	d := newPowerDisk(t)
	i := &inspected{d: d, account: newAccount(killLoad{
		DB: d.name(), Tags: 8, Pages: 240, Size: 1000, MaxSize: 16 << 20, Memory: 1 << 20,
	})}
	_, err := i.check(nil)
	require.NoError(t, err)
	return i
}

// ready checks the database as it is, and leaves every page stored, and something
// to be gained by a compaction.
func (i *inspected) ready(t testing.TB) {
	f, err := i.check(func(site *faults.Site) error { return i.renew(site, 2) })
	require.NoError(t, err)
	require.Empty(t, f.lost)
}

// purge purges a tag, as the application does: first the change, then the purge.
// Run has accel-inspect do it until the power is cut.
func (i *inspected) purge(t testing.TB, run func(args ...string) (done bool)) (done bool) {
	i.ready(t)
	i.purges++
	tag := rand.IntN(i.Tags)
	i.committed[tag]++
	done = run("purge", "--tag", faults.Tag(tag), i.DB)
	i.d.restart()
	if done {
		i.purgesDone++
		i.purged[tag] = i.committed[tag]
	}
	return done
}

// compact compacts the file. Nothing is ever missing in it.
func (i *inspected) compact(t testing.TB, run func(args ...string) (done bool)) (done bool) {
	i.ready(t)
	i.compactions++
	entries := stored(t, i.DB)
	before := inodeOf(t, i.DB)
	done = run("compact", i.DB)
	i.d.restart()
	replaced := inodeOf(t, i.DB) != before
	switch {
	case done:
		require.True(t, replaced, "it had said that it is done")
		i.compactionsDone++
	case replaced:
		i.completed++
	}
	require.Equal(t, entries, stored(t, i.DB))
	require.LessOrEqual(t, len(beside(t, i.DB)), 1)
	return done
}

func (i *inspected) log(t testing.TB, what string) {
	t.Logf("%s: %d of purge (%d had said that they are done), %d of compact (%d done, %d not and in place); 0 pages lost, 0 undone, 0 wrong",
		what, i.purges, i.purgesDone, i.compactions, i.compactionsDone, i.completed)
}

func inodeOf(t testing.TB, path string) uint64 {
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

// A purge, and a compaction, by accel-inspect are under way when the power fails.
func TestPowerCutUnderInspect(t *testing.T) {
	if !powered(t) {
		return
	}
	i := newInspected(t)
	var purge, compact pace
	for range faults.Rounds(2, 15, 1000) {
		run := func(p *pace) func(args ...string) bool {
			return func(args ...string) bool {
				begin := time.Now()
				done := i.d.cutTool(i.accelInspect.command(t, args...), p.draw())
				if done {
					p.took(time.Since(begin))
				}
				return done
			}
		}
		i.purge(t, run(&purge))
		i.compact(t, run(&compact))
	}
	i.ready(t)
	i.log(t, "power cuts under accel-inspect")
}

// The power fails at each call of the system that writes, syncs or names something,
// one after the other.
func TestPowerCutAtEachCall(t *testing.T) {
	if !powered(t) {
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace here")
	}
	i := newInspected(t)
	more := faults.Rounds(0, 1, 1)
	for call, step := range map[string]int{
		"fsync": 1, "fdatasync": more, "renameat": 1, "unlinkat": more, "flock": more, "ftruncate": more,
		"pwrite64": faults.Rounds(0, 12, 1),
	} {
		for _, do := range []func(testing.TB, func(args ...string) bool) bool{i.purge, i.compact} {
			for n, done := 1, step == 0; !done; n += step {
				done = do(t, func(args ...string) bool {
					c := faults.Start(t, "inspect", []string{inspectEnv + strings.Join(args, " ")},
						// With --seccomp-bpf, signals would be forgotten.
						strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
						"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n))
					done := c.Wait() == nil
					i.d.cut()
					return done
				})
			}
		}
	}
	i.ready(t)
	i.log(t, "power cuts at each call")
}

// A file has just got its name, from a hand or by a compaction that was killed
// before it could sync the directory, when the program opens it. What that
// invalidates is not undone by a power cut after which the path leads to what stood
// there before.
func TestPowerCutAfterARename(t *testing.T) {
	if !powered(t) {
		return
	}
	d := newPowerDisk(t)
	rounds := faults.Rounds(3, 20, 500)
	back := 0
	for round := range rounds {
		l := newAccount(killLoad{DB: d.name(), Tags: 8, Pages: 64, Size: 300, MaxSize: 16 << 20, Memory: 64 << 10})
		first := l.DB
		_, err := l.check(nil)
		require.NoError(t, err)
		l.DB = d.name()
		_, err = l.check(nil)
		require.NoError(t, err)
		was, err := os.Stat(first)
		require.NoError(t, err)
		require.NoError(t, os.Rename(l.DB, first))
		l.DB = first
		d.cutUnder(l, 1)
		now, err := os.Stat(first)
		require.NoError(t, err)
		if was.Sys().(*syscall.Stat_t).Ino == now.Sys().(*syscall.Stat_t).Ino {
			back++
		}
		f, err := l.check(nil)
		require.NoError(t, err)
		require.Empty(t, f.lost, "round %d", round)
		os.Remove(first)
	}
	t.Logf("power cuts after a rename: %d rounds, the old file was back in %d, 0 undone", rounds, back)
}

// What is not synced is lost here, and what is synced is not.
func TestPowerCutLosesWhatIsNotSynced(t *testing.T) {
	if !powered(t) {
		return
	}
	d := newPowerDisk(t)
	plain := func(sync string) (lost, cuts, acked int) {
		cuts = faults.Rounds(3, 10, 50)
		for range cuts {
			path := d.name()
			c := faults.Start(t, "plain", []string{"DB=" + path, "SYNC=" + sync})
			c.Expect("ready")
			last := uint64(0)
			listen := func(until uint64) {
				for last < until {
					line, err := c.Line()
					if err != nil {
						return
					}
					fmt.Sscan(line, &last)
				}
			}
			listen(50)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				listen(math.MaxUint64)
			}()
			<-time.After(rand.N(60 * time.Millisecond))
			d.cut()
			c.Cmd.Process.Kill()
			<-ended
			c.Kill()
			d.restart()
			if plainRead(path) < last {
				lost++
			}
			os.Remove(path)
			acked += int(last)
		}
		return lost, cuts, acked
	}
	lost, cuts, acked := plain("no")
	t.Logf("control, bbolt without fsync: acknowledged commits lost in %d of %d power cuts (%d commits)", lost, cuts, acked)
	require.Greater(t, lost, cuts/2)
	lost, cuts, acked = plain("yes")
	t.Logf("control, bbolt with fsync: acknowledged commits lost in %d of %d power cuts (%d commits)", lost, cuts, acked)
	require.Zero(t, lost)
}

func init() {
	faults.Role("plain", func() {
		go func() {
			var forever [1]byte
			os.Stdin.Read(forever[:])
			os.Exit(0)
		}()
		db, err := bolt.Open(os.Getenv("DB"), 0o600, nil)
		if err != nil {
			panic(err)
		}
		put := func(n uint64) error {
			return db.Update(func(tx *bolt.Tx) error {
				b, err := tx.CreateBucketIfNotExists([]byte("b"))
				if err != nil {
					return err
				}
				return b.Put([]byte("n"), binary.BigEndian.AppendUint64(nil, n))
			})
		}
		err = put(0)
		dir, _ := os.Open(filepath.Dir(os.Getenv("DB")))
		dir.Sync()
		dir.Close()
		fmt.Println("ready")
		db.NoSync = os.Getenv("SYNC") == "no"
		for n := uint64(1); err == nil; n++ {
			if err = put(n); err == nil {
				os.Stdout.WriteString(fmt.Sprintln(n))
			}
		}
		select {}
	})
}

// plainRead returns the number in a file of role plain, 0 if there is none to be
// read.
func plainRead(path string) (n uint64) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { recover() }()
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, ReadOnly: true})
	if err != nil {
		return 0
	}
	defer db.Close()
	db.View(func(tx *bolt.Tx) error {
		n = binary.BigEndian.Uint64(tx.Bucket([]byte("b")).Get([]byte("n")))
		return nil
	})
	return n
}

// The same load on the same store, but its calls of fsync do nothing: what was
// acknowledged is lost.
func TestPowerCutShowsMissingSyncs(t *testing.T) {
	if !powered(t) {
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("there is no strace here")
	}
	d := newPowerDisk(t)
	lost, cuts := 0, faults.Rounds(3, 10, 50)
	for range cuts {
		l := newAccount(killLoad{DB: d.name(), Tags: 8, Pages: 64, Size: 300, MaxSize: 16 << 20, Memory: 64 << 10})
		_, err := l.check(nil) // every page is stored, and synced
		require.NoError(t, err)
		d.cutUnder(l, 20, strace, "-f", "-qq", "--seccomp-bpf", "-o", "/dev/null",
			"-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0")
		f, err := l.check(nil)
		if err != nil || len(f.lost) > 0 {
			lost++
		}
		for _, name := range append(beside(t, l.DB), l.DB) {
			os.Remove(name)
		}
	}
	t.Logf("control, the store without fsync: acknowledged invalidations undone, or the file damaged, in %d of %d power cuts", lost, cuts)
	require.Greater(t, lost, cuts/2)
}
