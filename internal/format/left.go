package format

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// What is going to stand at a path is made beside it, under a name that nobody
// opens: the path with one of these and something unique behind it.
const (
	NewSuffix     = ".new-"         // a file that is created
	CompactSuffix = ".new-compact-" // a copy that is to take the file's place
)

// leftAfter is how old a file is that nobody is creating any more: that takes
// milliseconds.
const leftAfter = time.Minute

// left is what stands behind the path in such a name. Others that begin alike are
// somebody else's.
var left = regexp.MustCompile(`^\.new-(compact-[0-9]+-[0-9a-z]{1,26}|[0-9]+-[0-9a-z]{1,13})$`)

// RemoveLeft removes what was being made beside the file at path when its maker
// was killed. It is called by who has that file locked: then nobody else compacts
// it. What somebody holds stays, and so does what was created just now.
func RemoveLeft(path string, now time.Time) {
	list, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		return
	}
	whole, err := os.Stat(path)
	if err != nil {
		return
	}
	base := filepath.Base(path)
	for _, entry := range list {
		rest, ours := strings.CutPrefix(entry.Name(), base)
		if !ours || !left.MatchString(rest) || !entry.Type().IsRegular() {
			continue
		}
		name := filepath.Join(filepath.Dir(path), entry.Name())
		info, err := os.Lstat(name)
		if err != nil {
			continue
		}
		if os.SameFile(info, whole) {
			// The file itself: it has got its name, and kept its first one.
			os.Remove(name)
			continue
		}
		if !strings.HasPrefix(entry.Name(), base+CompactSuffix) && now.Sub(info.ModTime()) < leftAfter {
			continue
		}
		removeUnheld(name)
	}
}

func removeUnheld(name string) {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return
	}
	defer f.Close()
	held, err := f.Stat()
	if err != nil || TryLock(f, true) != nil {
		return
	}
	if info, err := os.Lstat(name); err == nil && os.SameFile(info, held) {
		os.Remove(name)
	}
}
