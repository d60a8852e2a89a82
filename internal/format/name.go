package format

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
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
	for range 40 { // as many symbolic links as Linux follows
		if err := syncDir(filepath.Dir(path)); err != nil && !cannotSync(err) {
			return err
		}
		to, err := os.Readlink(path)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Dir(path) + string(filepath.Separator) + to
		}
		path = to
	}
	return nil
}

func syncDir(name string) error {
	dir, err := os.Open(name)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// cannotSync reports whether a directory is not for us, or for nobody, to sync.
func cannotSync(err error) bool {
	return errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported)
}
