package boltstore

import "syscall"

// dup2 is there under this name on some architectures only.
func dup2(from, to int) error { return syscall.Dup3(from, to, 0) }
