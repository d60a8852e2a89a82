//go:build unix

package inspect

import (
	"os"
	"syscall"
)

// canCompact: a file that is open can be replaced.
const canCompact = true

// inherit gives a new file the owner, the group and the mode of another: the
// program must be able to open it, and nobody else.
func inherit(f *os.File, from os.FileInfo) error {
	now, err := f.Stat()
	if err != nil {
		return err
	}
	want, ok := from.Sys().(*syscall.Stat_t)
	have, ok2 := now.Sys().(*syscall.Stat_t)
	if ok && ok2 && (want.Uid != have.Uid || want.Gid != have.Gid) {
		if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(from.Mode().Perm())
}
