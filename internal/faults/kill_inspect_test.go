package faults_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/inspect"
)

// A tool is the accel-inspect of this source. In the short form, which has no time
// to build it, it is this binary, which does the same.
type tool struct {
	path string
	err  error
	once sync.Once
}

// command returns a run of it. It is built for the first who asks.
func (i *tool) command(t testing.TB, args ...string) *exec.Cmd {
	if faults.Rounds(0, 1, 1) == 0 {
		return faults.Command("inspect", inspectEnv+strings.Join(args, " "))
	}
	i.once.Do(func() {
		i.path = filepath.Join(t.TempDir(), "accel-inspect")
		if runtime.GOOS == "windows" {
			i.path += ".exe"
		}
		out, err := exec.Command("go", "build", "-o", i.path, "github.com/accelhttp/accelerator/cmd/accel-inspect").CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			i.err = err
		} else {
			require.NoError(t, err, "%s", out)
		}
	})
	if i.err != nil {
		t.Skipf("accel-inspect cannot be built here: %v", i.err)
	}
	return exec.Command(i.path, args...)
}

const inspectEnv = "INSPECT="

func init() {
	faults.Role("inspect", func() {
		// strace counts the calls of each thread, so all are made by one.
		runtime.LockOSThread()
		args := strings.Fields(os.Getenv("INSPECT"))
		path := args[len(args)-1]
		var sel inspect.Selection
		for i, arg := range args {
			switch arg {
			case "--tag":
				sel.Tags = append(sel.Tags, args[i+1])
			case "--url":
				sel.URLs = append(sel.URLs, args[i+1])
			case "--all":
				sel.All = true
			}
		}
		var err error
		if args[0] == "purge" {
			_, err = inspect.Purge(context.Background(), path, sel, false, time.Now())
		} else {
			_, err = inspect.Compact(context.Background(), path, false, time.Now())
		}
		if err != nil {
			panic(err)
		}
	})
}

// killed runs a command and kills it after a while. It reports whether that came
// before the end of the command, which must be a good one.
func killed(t testing.TB, cmd *exec.Cmd, after time.Duration) bool {
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, cmd.Start())
	timer := time.AfterFunc(after, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	timer.Stop()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, -1, exit.ExitCode(), "it ended by itself: %s", out.String())
	return true
}

// A pace is how long a command takes that nobody kills, on a machine that has
// nothing else to do.
type pace time.Duration

// draw returns a moment at which to kill it. The first one is not killed.
func (p pace) draw() time.Duration {
	if p == 0 {
		return time.Minute
	}
	return time.Duration(p)/4 + rand.N(time.Duration(p)*3/2)
}

func (p *pace) took(d time.Duration) {
	if *p = *p * 21 / 20; *p == 0 || pace(d) < *p {
		*p = pace(d)
	}
}

// A purge by accel-inspect is killed at any moment. One that had said that it is
// done holds; any other leaves a whole file, in which what was purged before still
// is.
func TestKillInspectPurge(t *testing.T) {
	t.Parallel()
	var accelInspect tool
	l := newAccount(killLoad{
		DB: filepath.Join(t.TempDir(), "cache.db"), Tags: 8, Pages: 1200, Size: 100, MaxSize: 64 << 20, Memory: 64 << 10,
	})
	rounds, done, cut, cached := 0, 0, 0, 0
	var taken pace
	for rounds < faults.Rounds(4, 40, 1000) {
		f, err := l.check(nil)
		require.NoError(t, err, "round %d", rounds)
		require.Empty(t, f.lost, "round %d", rounds)
		cached += f.cached
		rounds++

		// As the application does it: first the change, then the purge.
		args, after := []string{"purge"}, []func(){}
		for tag := range l.Tags {
			if rand.IntN(3) == 0 {
				l.committed[tag]++
				args = append(args, "--tag", faults.Tag(tag))
				after = append(after, func() { l.purged[tag] = l.committed[tag] })
			}
		}
		switch page := rand.IntN(l.Pages); {
		case rand.IntN(8) == 0:
			args, after = []string{"purge", "--all"}, []func(){func() { copy(l.purged, l.committed) }}
		case len(after) == 0 || rand.IntN(2) == 0:
			args = append(args, "--url", faults.URL(page))
			after = append(after, func() { l.pages[page] = l.committed[page%l.Tags] })
		}
		cmd := accelInspect.command(t, append(args, l.DB)...)
		begin := time.Now()
		if killed(t, cmd, taken.draw()) {
			cut++
		} else {
			taken.took(time.Since(begin))
			done++
			for _, f := range after {
				f()
			}
		}
		require.Equal(t, []string(nil), beside(t, l.DB), "round %d", rounds)
	}
	_, err := l.check(nil)
	require.NoError(t, err)
	t.Logf("accel-inspect purge: %d rounds, %d killed, %d done and holding, 0 undone, 0 wrong; %d%% of the pages still cached; one takes %s",
		rounds, cut, done, 100*cached/(rounds*l.Pages), time.Duration(taken).Round(time.Millisecond))
}

// A compaction is killed at any moment. The file at the path is whole, nothing is
// missing in it, and what was purged stays so. At most one file is left beside it,
// which goes with the next compaction.
func TestKillInspectCompact(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("files are not compacted on Windows")
	}
	t.Parallel()
	var accelInspect tool
	l := newAccount(killLoad{
		DB: filepath.Join(t.TempDir(), "cache.db"), Tags: 8, Pages: 400, Size: 3000, MaxSize: 64 << 20, Memory: 1 << 20,
	})
	_, err := l.check(nil)
	require.NoError(t, err)
	rounds, done, cut, replaced, left := 0, 0, 0, 0, 0
	var taken pace
	for rounds < faults.Rounds(4, 40, 1000) {
		rounds++
		// Something to gain: the pages of a tag, or two, come anew.
		f, err := l.check(func(site *faults.Site) error { return l.renew(site, 2) })
		require.NoError(t, err, "round %d", rounds)
		require.Empty(t, f.lost, "round %d", rounds)
		entries := stored(t, l.DB)
		before, err := os.Stat(l.DB)
		require.NoError(t, err)
		begin := time.Now()
		was := killed(t, accelInspect.command(t, "compact", l.DB), taken.draw())
		now, err := os.Stat(l.DB)
		require.NoError(t, err)
		if was {
			cut++
			if !os.SameFile(before, now) {
				replaced++
			}
		} else {
			require.False(t, os.SameFile(before, now))
			require.Empty(t, beside(t, l.DB), "round %d", rounds)
			taken.took(time.Since(begin))
			done++
		}
		require.Equal(t, entries, stored(t, l.DB), "round %d", rounds)
		litter := beside(t, l.DB)
		require.LessOrEqual(t, len(litter), 1, "round %d: %v", rounds, litter)
		left += len(litter)
	}
	out, err := accelInspect.command(t, "compact", l.DB).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, beside(t, l.DB))
	f, err := l.check(nil)
	require.NoError(t, err)
	require.Empty(t, f.lost)
	t.Logf("accel-inspect compact: %d rounds, %d killed (%d of them when the new file was in place, %d left their copy), %d done; 0 pages lost, 0 undone, 0 wrong; one takes %s",
		rounds, cut, replaced, left, done, time.Duration(taken).Round(time.Millisecond))
}

// stored returns how many entries a file has, of which nothing is damaged.
func stored(t testing.TB, path string) int {
	d, err := inspect.Open(path, time.Now())
	require.NoError(t, err)
	defer d.Close()
	v, err := d.Verify(context.Background())
	require.NoError(t, err)
	require.True(t, v.OK, "%v", v.Problems)
	require.Empty(t, d.BeginsEmpty())
	return v.Checked.Entries
}

// renew commits and purges some tags and asks for their pages, which are then on
// disk twice as far as bbolt has not yet used the room of the old ones again.
func (l *account) renew(site *faults.Site, tags int) error {
	for range tags {
		tag := rand.IntN(l.Tags)
		l.committed[tag] = site.Commit(tag)
		if err := site.Purge(context.Background(), tag); err != nil {
			return err
		}
		l.purged[tag] = l.committed[tag]
		for page := tag; page < l.Pages; page += l.Tags {
			if v, _, err := site.Get(page); err != nil || v < l.purged[tag] {
				return fmt.Errorf("page %d: version %d, purged up to %d: %w", page, v, l.purged[tag], err)
			}
		}
	}
	return nil
}
