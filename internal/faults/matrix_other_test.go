//go:build !unix

package faults_test

import "errors"

var errMatrixModes = errors.New("this system has no permissions in the mode of a file")

func matrixGiveUpRoot() error          { return errMatrixModes }
func matrixGiveAway(path string) error { return errMatrixModes }
