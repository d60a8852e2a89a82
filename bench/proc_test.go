package bench

import (
	"os"
	"strconv"
	"strings"
)

// These figures are Linux's. Elsewhere ok is false, and what needs them is left out.

// writtenBytes returns what this process has caused to be sent to the disk, and what
// it has handed to write calls. On a file system in memory the first stays zero.
func writtenBytes() (disk, calls int64, ok bool) {
	disk, ok = procField("/proc/self/io", "write_bytes:")
	calls, _ = procField("/proc/self/io", "wchar:")
	return disk, calls, ok
}

// rssAnon returns the anonymous memory of this process: what it has to itself, without
// the mapping of the file, whose pages the system takes back when it needs them.
func rssAnon() (bytes int64, ok bool) {
	n, ok := procField("/proc/self/status", "RssAnon:")
	return n * kib, ok
}

func procField(file, name string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
