//go:build !unix || solaris || aix

package boltstore

import "os"

// mapAhead: here a file is made as large as its mapping.
const mapAhead = false

// inode is not to be had; a copied file is not known as one.
func inode(os.FileInfo) uint64 { return 0 }

// tryLock leaves it to bbolt to find out that the file is held.
func tryLock(*os.File) error { return nil }

func unlock(*os.File) {}

// syncDirectory does nothing: renames are durable by themselves.
func syncDirectory(*os.File) error { return nil }
