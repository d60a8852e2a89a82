//go:build unix && !solaris && !aix

package format

import (
	"errors"
	"os"
	"syscall"
)

// Inode identifies a file within its file system, as long as it is not copied; it
// is what m.inode records. It is 0 where there is none to be had.
func Inode(info os.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Ino)
	}
	return 0
}

func syncDirectory(dir *os.File) error { return dir.Sync() }

// TryLock takes the lock that bbolt takes, exclusive or shared, so that nobody
// writes while the file is examined. It returns ErrLocked at once if another has
// it. Where bbolt's lock is of another kind it does nothing: bbolt finds out.
func TryLock(f *os.File, exclusive bool) error {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return ErrLocked
	}
	return err
}
