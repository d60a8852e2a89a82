//go:build !unix

package boltstore_test

import "testing"

func mkfifo(t testing.TB, path string) { t.Skip("no named pipes in the file system") }

func becomeNobody() {}
