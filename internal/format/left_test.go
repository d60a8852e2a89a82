//go:build unix && !solaris && !aix

package format_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/format"
)

func TestRemoveLeft(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cache.db")
	now := time.Now()
	put := func(name string, age time.Duration) string {
		name = filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(name, nil, 0o600))
		require.NoError(t, os.Chtimes(name, now.Add(-age), now.Add(-age)))
		return name
	}
	put("cache.db", 0)
	stay := []string{
		put("cache.db.new-1-young", 0),
		put("cache.db.new-1-held", time.Hour),
		put("cache.db.new-compact-1-held", time.Hour),
		put("cache.db.corrupt-2026", time.Hour),
		put("cache.db.newer", time.Hour),
		put("other.db.new-1-a", time.Hour),
		put("other.db.new-compact-1-a", time.Hour),
		filepath.Join(dir, "cache.db.new-1-dir"),
		filepath.Join(dir, "cache.db.new-1-link"),
	}
	require.NoError(t, os.Mkdir(stay[7], 0o700))
	require.NoError(t, os.Symlink(stay[0], stay[8]))
	for _, name := range stay[1:3] {
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		require.NoError(t, syscall.Flock(int(f.Fd()), syscall.LOCK_SH))
	}
	gone := []string{
		put("cache.db.new-1-old", 2*time.Minute),
		put("cache.db.new-compact-1-old", 2*time.Minute),
		put("cache.db.new-compact-1-young", 0),
		filepath.Join(dir, "cache.db.new-1-itself"),
	}
	require.NoError(t, os.Link(path, gone[3]))

	format.RemoveLeft(path, now)
	for _, name := range append(stay, path) {
		_, err := os.Lstat(name)
		require.NoError(t, err, name)
	}
	for _, name := range gone {
		_, err := os.Lstat(name)
		require.ErrorIs(t, err, os.ErrNotExist, name)
	}

	// Without a file at the path nobody may know what belongs to it.
	require.NoError(t, os.Remove(path))
	put("cache.db.new-compact-2-a", 0)
	format.RemoveLeft(path, now)
	require.FileExists(t, filepath.Join(dir, "cache.db.new-compact-2-a"))
}

func TestSyncName(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "cache.db")
	f, err := os.Create(path)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, format.SyncName(path, f))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "links"), 0o700))
	require.NoError(t, os.Symlink("../cache.db", filepath.Join(dir, "links", "a")))
	require.NoError(t, os.Symlink(filepath.Join(dir, "links", "a"), filepath.Join(dir, "b")))
	require.NoError(t, format.SyncName(filepath.Join(dir, "b"), f))
	require.ErrorIs(t, format.SyncName(filepath.Join(dir, "none", "cache.db"), f), os.ErrNotExist)
}
