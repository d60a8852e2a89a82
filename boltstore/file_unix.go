//go:build unix && !solaris && !aix

package boltstore

import "os"

// mapAhead: a mapping may be larger than its file.
const mapAhead = ^uint(0)>>32 != 0 // on machines with address space to spare

func syncDirectory(dir *os.File) error { return dir.Sync() }
