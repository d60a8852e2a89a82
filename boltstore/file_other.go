//go:build !unix || solaris || aix

package boltstore

import "os"

// mapAhead: here a file is made as large as its mapping.
const mapAhead = false

// renamesOpen: a file that is open can be neither renamed nor removed.
const renamesOpen = false

// disarm does nothing: the lock of an abandoned file stays with the process.
func disarm(*os.File) {}
