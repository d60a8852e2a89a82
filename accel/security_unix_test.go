//go:build unix

package accel_test

import (
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/boltstore"
)

// URLs may hold secrets, pages do: what is on disk is the owner's alone, whatever
// the umask, and so is a file that was set aside. No directory is made.
func TestSecurity_S9_FilesAreTheOwnersAlone(t *testing.T) {
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := t.TempDir()
	path := filepath.Join(dir, "cache.db")
	h, calls := page(func(r *http.Request) string { return "reset by " + r.URL.RawQuery })
	s := boltstore.Open(path, boltstore.WithMemory(0), boltstore.WithLogger(quiet))
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := newCacheOver(t, s, h)
	written := func() {
		t.Helper()
		require.Eventually(t, func() bool { return c.Stats().Store.QueueBytes == 0 && s.Err() == nil }, 5*time.Second, time.Millisecond)
	}
	for range 2 {
		equal(t, "body", body(t, get(c, "/?token=s3cret")), "reset by token=s3cret")
	}
	written()
	after(t, c, 1, calls, 1)

	// Somebody writes into the file; it is set aside, and there is a new one.
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, info.Size()-2*int64(os.Getpagesize())), 2*int64(os.Getpagesize())); err != nil {
		t.Error(err)
	}
	f.Close()
	if err := c.InvalidateTag(t.Context(), "x"); err != nil {
		t.Error(err)
	}
	written()
	equal(t, "body", body(t, get(c, "/?token=s3cret")), "reset by token=s3cret")
	written()
	after(t, c, 1, calls, 2)

	aside := 0
	err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if strings.Contains(name, ".corrupt-") {
			aside++
		}
		if info.IsDir() || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", filepath.Base(name), info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	equal(t, "files set aside", aside, 1)

	missing := filepath.Join(dir, "no", "such", "cache.db")
	none := boltstore.Open(missing, boltstore.WithLogger(quiet))
	defer none.Close()
	if none.Ping(t.Context()) == nil {
		t.Error("there is a file where no directory was")
	}
	if _, err := os.Stat(filepath.Dir(missing)); !os.IsNotExist(err) {
		t.Errorf("a directory was made: %v", err)
	}
}
