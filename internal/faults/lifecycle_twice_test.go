package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/inspect"
)

// A store tries four times a second for a file that it cannot have. There is
// nothing to wait for: what is tested is that nothing happens meanwhile.
const (
	twoTries  = 550 * time.Millisecond
	manyTries = 1300 * time.Millisecond
)

func init() {
	faults.Role("lifecycle-hold", func() {
		s := boltstore.Open(os.Getenv("DB"), boltstore.WithLogger(quiet))
		check(s.Ping(context.Background()))
		fmt.Println("open")
		var word string
		fmt.Scan(&word)
		check(s.Close())
	})
}

// lines is a log that is looked at while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// about returns the lines that contain a text, or all.
func (l *lines) about(text string) (list []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			list = append(list, line)
		}
	}
	return list
}

// second opens a store at a path that another has, and requires of it what the
// user of a second program should see: an error, one line in the log, a site that
// is served, and nothing in the directory.
func second(t testing.TB, path string, tries time.Duration) (s *boltstore.Store, log *lines) {
	before := directory(t, filepath.Dir(path))
	log = &lines{}
	start := time.Now()
	logger := slog.New(slog.NewTextHandler(log, nil))
	s = boltstore.Open(path, boltstore.WithLogger(logger))
	t.Cleanup(func() { s.Close() })
	within(t, "Ping", func() {
		err := s.Ping(context.Background())
		require.ErrorIs(t, err, boltstore.ErrLocked)
		require.ErrorIs(t, err, accel.ErrUnavailable)
	})
	require.ErrorIs(t, s.Err(), boltstore.ErrLocked)
	site := faults.Open(s, 10, 2, 500, accel.WithLogger(logger)) // it is closed as its store
	made, rounds := uint64(0), 0
	within(t, "the second site", func() {
		for ; rounds < 2 || time.Since(start) < tries; rounds++ {
			for page := range site.Pages() {
				_, hit, err := site.Get(page)
				if err != nil || hit {
					t.Errorf("page %d: hit %v, %v", page, hit, err)
				}
				made++
			}
			if err := site.Purge(context.Background(), 0); !errors.Is(err, accel.ErrNotDurable) {
				t.Errorf("a purge without the file: %v", err)
			}
			<-time.After(10 * time.Millisecond)
		}
	})
	require.Equal(t, made, site.Made.Load(), "served uncached")
	require.ErrorIs(t, s.Err(), boltstore.ErrLocked)
	all := log.about("boltstore: serving uncached")
	require.Len(t, all, 1, "one line, not one for each try")
	require.Contains(t, all[0], "level=WARN")
	require.Contains(t, all[0], filepath.Base(path))
	require.Contains(t, all[0], boltstore.ErrLocked.Error())
	// The cache says once, for each thing that it wanted, that it has no store.
	require.LessOrEqual(t, len(log.about("")), 1+2, log.about(""))
	require.Equal(t, before, directory(t, filepath.Dir(path)), "no second file")
	return s, log
}

// Two programs are started with one file by mistake.
func TestTwoProgramsAtOneFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cache.db")
	first := faults.Start(t, "lifecycle-hold", []string{"DB=" + path})
	first.Expect("open")
	before := digest(t, path)

	s, log := second(t, path, manyTries)
	require.Equal(t, before, digest(t, path), "the second has touched the file")

	// Whoever wants to look into the file is told, and does not wait.
	start := time.Now()
	_, err := inspect.Open(path, time.Now())
	require.ErrorIs(t, err, inspect.ErrLocked)
	require.Less(t, time.Since(start), 10*time.Second) // it gives up after 250 ms

	first.Say("close")
	require.NoError(t, first.Wait(), first.Stderr())
	require.Eventually(t, func() bool { return s.Err() == nil }, hang, tick)
	// Also the good news is one line.
	require.Eventually(t, func() bool { return len(log.about("opened")) == 1 }, hang, tick)
	require.NoError(t, s.Close())
	require.Len(t, log.about(`msg="boltstore:`), 2)
	left(t, path)
}

// accel-inspect says within a second that a program has the file, and that is its
// fourth exit code. It is built for this, which takes its time.
func TestInspectProgramAtAHeldFile(t *testing.T) {
	t.Parallel()
	if faults.Rounds(0, 1, 1) == 0 {
		t.Skip("builds a program: not in the short form (cmd/accel-inspect has the exit code in its own tests)")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "accel-inspect.exe")
	out, err := exec.Command("go", "build", "-o", program, "github.com/accelhttp/accelerator/cmd/accel-inspect").CombinedOutput()
	require.NoError(t, err, "%s", out)
	path := filepath.Join(t.TempDir(), "cache.db")
	first := faults.Start(t, "lifecycle-hold", []string{"DB=" + path})
	first.Expect("open")
	before := digest(t, path)
	fastest := hang
	for _, args := range [][]string{{"stats", path}, {"tags", path}, {"verify", path}, {"purge", "--db", path, "--tag", "a"}} {
		start := time.Now()
		cmd := exec.Command(program, args...)
		out, err := cmd.CombinedOutput()
		took := time.Since(start)
		require.Error(t, err)
		require.Equal(t, 4, cmd.ProcessState.ExitCode(), "%s", out)
		require.Contains(t, string(out), "in use by another process")
		require.Less(t, took, 10*time.Second)
		fastest = min(fastest, took)
	}
	// Of four, one at least was not held up by a busy machine.
	require.Less(t, fastest, time.Second)
	require.Equal(t, before, digest(t, path))
	t.Logf("accel-inspect says that the file is in use after %v", fastest.Round(time.Millisecond))
}

// One program opens its file twice, under whatever names.
func TestOneFileUnderTwoNames(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(t *testing.T, path string) string{
		"the same path": func(t *testing.T, path string) string { return path },
		"a symbolic link": func(t *testing.T, path string) string {
			link := filepath.Join(filepath.Dir(path), "link.db")
			if err := os.Symlink(filepath.Base(path), link); err != nil {
				t.Skip("no symbolic links: ", err)
			}
			return link
		},
		"a symbolic link to the directory": func(t *testing.T, path string) string {
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(filepath.Dir(path), link); err != nil {
				t.Skip("no symbolic links: ", err)
			}
			return filepath.Join(link, filepath.Base(path))
		},
		"a relative path": func(t *testing.T, path string) string {
			wd, err := os.Getwd()
			require.NoError(t, err)
			rel, err := filepath.Rel(wd, path)
			if err != nil {
				t.Skip("another volume: ", err)
			}
			return rel
		},
		"a hard link": func(t *testing.T, path string) string {
			link := filepath.Join(filepath.Dir(path), "link.db")
			if err := os.Link(path, link); err != nil {
				t.Skip("no hard links: ", err)
			}
			return link
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "cache.db")
			first := boltstore.Open(path, boltstore.WithLogger(quiet))
			defer first.Close()
			require.NoError(t, first.Ping(context.Background()))
			site := faults.Open(first, 10, 2, 500)
			for page := range site.Pages() {
				_, _, err := site.Get(page)
				require.NoError(t, err)
			}
			name := other(t, path)
			before := directory(t, filepath.Dir(path))
			abs, err := filepath.Abs(name)
			require.NoError(t, err)
			s, _ := second(t, abs, twoTries)
			if name != abs {
				require.NoError(t, s.Close())
				s = boltstore.Open(name, boltstore.WithLogger(quiet))
				defer s.Close()
				require.ErrorIs(t, s.Ping(context.Background()), boltstore.ErrLocked)
			}
			// The first does not notice.
			require.NoError(t, first.Err())
			for page := range site.Pages() {
				_, hit, err := site.Get(page)
				require.NoError(t, err)
				require.True(t, hit)
			}
			site.Commit(0)
			require.NoError(t, site.Purge(context.Background(), 0))

			require.NoError(t, site.Cache.Close())
			require.Eventually(t, func() bool { return s.Err() == nil }, hang, tick)
			heir := faults.Open(s, 10, 2, 500)
			for tag := range heir.Tags() {
				heir.SetVersion(tag, 1, site.Purged(tag))
			}
			for page := range heir.Pages() {
				version, hit, err := heir.Get(page)
				require.NoError(t, err)
				if heir.TagOf(page) == 1 && hit {
					require.Zero(t, version, "the first's")
				}
			}
			require.NoError(t, s.Close())
			require.Equal(t, before, directory(t, filepath.Dir(path)))
		})
	}
}
