//go:build unix && !solaris && !aix

package boltstore

import (
	"os"
	"syscall"
)

// mapAhead: a mapping may be larger than its file.
const mapAhead = ^uint(0)>>32 != 0 // on machines with address space to spare

// renamesOpen: a file that is open can be renamed and removed.
const renamesOpen = true

// disarm takes an abandoned file from whoever still hangs in it. Its lock is let go,
// which would else keep us out of what is at the path, and its descriptor leads
// nowhere from here on, so that nothing is written behind the back of who opens the
// file next. It is not closed: bbolt may be about to use its number.
func disarm(f *os.File) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return
	}
	defer null.Close()
	fd := int(f.Fd())
	same, err := syscall.Dup(fd)
	if err != nil {
		return
	}
	defer syscall.Close(same)
	if dup2(int(null.Fd()), fd) == nil {
		syscall.CloseOnExec(fd)
		syscall.Flock(same, syscall.LOCK_UN)
	}
}
