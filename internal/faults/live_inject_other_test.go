//go:build unix && !linux

package faults_test

import "errors"

func inject(string) error             { return errors.New("system calls cannot be made to fail here") }
func injectSet(string)                {}
func injected() (map[string]int, int) { return nil, 0 }
