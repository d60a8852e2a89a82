package format

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// SyncName makes it durable that a path leads to the file f. Whoever gave it that
// name may not have done so, and a power cut would bring back what was there
// before: another file, without the invalidations that are written to this one.
func SyncName(path string, f *os.File) error {
	// On common file systems this is enough, also where the directory may not be
	// read.
	if err := f.Sync(); err != nil {
		return err
	}
	for range maxLinks {
		if err := SyncDir(path); err != nil && !cannotSync(err) {
			return err
		}
		to, ok := readLink(path)
		if !ok {
			break
		}
		path = to
	}
	return nil
}

// maxLinks is how many symbolic links are followed: as many as Linux does.
const maxLinks = 40

// Resolve follows a symbolic link to the file it leads to, be it there or not, so
// that renaming and linking act on the file and not on the link.
func Resolve(path string) string {
	for range maxLinks {
		to, ok := readLink(path)
		if !ok {
			break
		}
		path = to
	}
	return path
}

// readLink returns what a symbolic link leads to; ok is false if it is none.
func readLink(path string) (to string, ok bool) {
	to, err := os.Readlink(path)
	if err != nil {
		return "", false
	}
	if !filepath.IsAbs(to) {
		to = filepath.Dir(path) + string(filepath.Separator) + to
	}
	return to, true
}

// SyncDir makes durable what was renamed to a path, linked to it, or removed from
// it, by syncing its directory. Where renames are durable by themselves it does
// nothing.
func SyncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncDirectory(dir)
}

// cannotSync reports whether a directory is not for us, or for nobody, to sync.
func cannotSync(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}

// NoRoom returns which of the errors that mean that a disk has no room err is, and
// nil if it is none.
func NoRoom(err error) error {
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EFBIG} {
		// bbolt reports some of them as text.
		if errors.Is(err, full) || err != nil && strings.Contains(err.Error(), full.Error()) {
			return full
		}
	}
	return nil
}
