//go:build unix

package faults_test

import (
	"os"
	"syscall"
)

// matrixNobody is the user that has no permissions of its own.
const matrixNobody = 65534

// matrixGiveUpRoot makes the process one that permissions apply to.
func matrixGiveUpRoot() error {
	if os.Geteuid() != 0 {
		return nil
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(matrixNobody); err != nil {
		return err
	}
	return syscall.Setuid(matrixNobody)
}

// matrixGiveAway makes a file or directory that of the user which a child becomes.
func matrixGiveAway(path string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	return os.Chown(path, matrixNobody, matrixNobody)
}
