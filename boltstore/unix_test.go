//go:build unix

package boltstore_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func mkfifo(t testing.TB, path string) { require.NoError(t, syscall.Mkfifo(path, 0o600)) }

// As a user who may not: root is never refused, so the test is another process
// then.
func TestOpenWithoutPermission(t *testing.T) {
	// Not t.TempDir: its parent is closed to others.
	dir, err := os.MkdirTemp("", "boltstore")
	require.NoError(t, err)
	t.Cleanup(func() { os.Chmod(dir, 0o700); os.RemoveAll(dir) })
	path := filepath.Join(dir, "cache.db")
	open(t, path).Close()

	become := func(cmd *exec.Cmd) {
		if os.Getuid() == 0 {
			// The test binary lies where only root can reach it.
			b, err := os.ReadFile(os.Args[0])
			require.NoError(t, err)
			cmd.Path = filepath.Join(dir, "test")
			if _, err := os.Stat(cmd.Path); err != nil {
				require.NoError(t, os.WriteFile(cmd.Path, b, 0o755))
			}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
			cmd.Dir = "/"
		}
	}
	refused := func(path string) {
		before := fingerprint(t, path)
		c := start(t, "refused", become, "DB="+path)
		said := c.line()
		c.end()
		require.True(t, strings.HasPrefix(said, "true "), said)
		require.Equal(t, before, fingerprint(t, path))
	}
	t.Run("to read", func(t *testing.T) {
		require.NoError(t, os.Chmod(dir, 0o755))
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
		c := start(t, "refused", become, "DB="+filepath.Join(sub, "new.db"))
		said := c.line()
		c.end()
		require.True(t, strings.HasPrefix(said, "true "), said)
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
		c := start(t, "refused", become, "DB="+filepath.Join(sub, "cache.db"))
		said := c.line()
		c.end()
		require.True(t, strings.HasPrefix(said, "true "), said)
	})
}
