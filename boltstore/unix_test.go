//go:build unix

package boltstore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

func mkfifo(t testing.TB, path string) { require.NoError(t, syscall.Mkfifo(path, 0o600)) }

// becomeNobody gives up the rights of root, who is never refused.
func becomeNobody() {
	if os.Getuid() != 0 {
		return
	}
	must(syscall.Setgroups(nil))
	must(syscall.Setgid(65534))
	must(syscall.Setuid(65534))
}

// openDir is a directory that every user may enter; those of t.TempDir are closed to
// others.
func openDir(t testing.TB) string {
	dir, err := os.MkdirTemp("", "boltstore")
	require.NoError(t, err)
	t.Cleanup(func() { os.Chmod(dir, 0o700); os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}

// As a user who may not: root is never refused, so the test is another process
// then.
func TestOpenWithoutPermission(t *testing.T) {
	dir := openDir(t)
	path := filepath.Join(dir, "cache.db")
	open(t, path).Close()

	// said is what a store says that is opened at the path.
	said := func(path string) string {
		c := faults.Start(t, "refused", []string{"DB=" + path})
		line, err := c.Line()
		require.NoError(t, err, c.Stderr())
		end(t, c)
		return line
	}
	refused := func(path string) {
		before := fingerprint(t, path)
		require.Regexp(t, "^true ", said(path))
		require.Equal(t, before, fingerprint(t, path))
	}
	t.Run("to read", func(t *testing.T) {
		require.NoError(t, os.Chmod(path, 0))
		refused(path)
	})
	t.Run("to write", func(t *testing.T) {
		require.NoError(t, os.Chmod(path, 0o444))
		refused(path)
	})
	t.Run("to create", func(t *testing.T) {
		sub := filepath.Join(dir, "sub")
		require.NoError(t, os.Mkdir(sub, 0o555))
		require.Regexp(t, "^true ", said(filepath.Join(sub, "new.db")))
		list, err := os.ReadDir(sub)
		require.NoError(t, err)
		require.Empty(t, list)
	})
	t.Run("to enter", func(t *testing.T) {
		sub := filepath.Join(dir, "closed")
		require.NoError(t, os.Mkdir(sub, 0o700))
		if os.Getuid() != 0 {
			require.NoError(t, os.Chmod(sub, 0))
			t.Cleanup(func() { os.Chmod(sub, 0o700) })
		}
		require.Regexp(t, "^true ", said(filepath.Join(sub, "cache.db")))
	})
}

// A file that may not be read, until somebody sees it, is opened then.
func TestOpenedWhenItIsPermitted(t *testing.T) {
	t.Parallel()
	dir := openDir(t)
	path := filepath.Join(dir, "cache.db")
	s := open(t, path)
	put(t, s, "/a")
	require.NoError(t, s.Close())
	require.NoError(t, os.Chmod(path, 0))
	c := faults.Start(t, "patient", []string{"DB=" + path})
	c.Expect("true") // that it is for want of permission
	require.NoError(t, os.Chmod(path, 0o666))
	c.Expect("open")
	c.Expect("/a: true")
	end(t, c)
	require.Equal(t, []string{"cache.db"}, names(t, dir))
}

func init() {
	// patient opens a store that it may not open yet, and says when it may.
	faults.Role("patient", func() {
		becomeNobody()
		s := boltstore.Open(os.Getenv("DB"), quiet, patient)
		fmt.Println(errors.Is(s.Ping(bg), fs.ErrPermission))
		for t := time.NewTicker(time.Millisecond); s.Err() != nil; {
			<-t.C
		}
		fmt.Println("open")
		fmt.Println("/a:", has(s, "/a"))
		must(s.Close())
	})
}
