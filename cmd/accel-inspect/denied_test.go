//go:build unix

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// A database that the user may not read. Root is never refused, so root asks in
// the name of nobody.
func TestDenied(t *testing.T) {
	dir, err := os.MkdirTemp("", "accel-inspect") // t.TempDir is root's alone
	require.NoError(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	require.NoError(t, os.Chmod(dir, 0o755))
	db := filepath.Join(dir, "cache.db")
	require.NoError(t, os.WriteFile(db, []byte("secret"), 0o600))
	require.NoError(t, os.Chmod(db, 0))

	self, err := os.Executable()
	require.NoError(t, err)
	program := filepath.Join(dir, "accel-inspect")
	data, err := os.ReadFile(self)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(program, data, 0o755))

	for _, args := range [][]string{{"tags", db}, {"purge", "--all", db}, {"verify", db}} {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		if os.Getuid() == 0 {
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		}
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		require.ErrorAs(t, err, &exit)
		require.Equal(t, exitError, exit.ExitCode())
		require.Empty(t, stdout.String())
		require.Equal(t, "accel-inspect: "+db+": permission denied; use the account that the program runs under\n", stderr.String())
	}
}
