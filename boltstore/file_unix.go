//go:build unix && !solaris && !aix

package boltstore

import (
	"errors"
	"os"
	"syscall"
)

// mapAhead: a mapping may be larger than its file.
const mapAhead = ^uint(0)>>32 != 0 // on machines with address space to spare

// inode identifies a file within its file system, as long as it is not copied.
func inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}

// tryLock takes the lock that bbolt takes, so that nobody writes while the file is
// examined.
func tryLock(f *os.File) error {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}

func unlock(f *os.File) { syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

func syncDirectory(dir *os.File) error { return dir.Sync() }
