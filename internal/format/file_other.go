//go:build !unix || solaris || aix

package format

import "os"

// Inode is not to be had; a copied file is not known as one.
func Inode(os.FileInfo) uint64 { return 0 }

// syncDirectory does nothing: renames are durable by themselves.
func syncDirectory(*os.File) error { return nil }

// TryLock leaves it to bbolt to find out that the file is held.
func TryLock(*os.File, bool) error { return nil }
