package format_test

import (
	"bytes"
	"fmt"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/internal/format"
)

// tester is what testing.TB and rapid.TB have in common.
type tester interface {
	require.TestingT
	Helper()
	Fatalf(string, ...any)
}

// open opens a bbolt file that need not survive a power cut.
func open(t tester, path string, pageSize int) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		NoSync: true, NoGrowSync: true, PageSize: pageSize, FreelistType: bolt.FreelistMapType,
		InitialMmapSize: 64 << 20, // to grow it, bbolt waits for all readers
	})
	require.NoError(t, err)
	db.AllocSize = 16 << 10
	return db
}

// create opens a new database at seq and floor n.
func create(t tester, path string, pageSize int, n uint64) *bolt.DB {
	t.Helper()
	db := open(t, path, pageSize)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error { return format.Create(btx, 7, n, n) }))
	return db
}

// update runs fn in a transaction of format's, and commits it.
func update(t tester, db *bolt.DB, fn func(*format.Tx) error) {
	t.Helper()
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		if err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.Finish()
	}))
}

// view runs fn in a read transaction.
func view(t tester, db *bolt.DB, fn func(*bolt.Tx, *format.Tx)) {
	t.Helper()
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		if err != nil {
			return err
		}
		fn(btx, tx)
		return nil
	}))
}

// verify wants a database in which every row leads where it should.
func verify(t tester, tx *format.Tx) {
	t.Helper()
	tx.Verify(func() bool { return true }, func(f format.Fault) {
		t.Helper()
		t.Fatalf("bucket %s, row %x: %v", f.Bucket, f.Key, f.Err)
	})
}

func examine(b []byte) (format.Look, error) {
	return format.Examine(bytes.NewReader(b), int64(len(b)))
}

// recovered runs fn, and returns what it panics with as an error.
func recovered(fn func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			var ok bool
			if err, ok = r.(error); !ok {
				err = fmt.Errorf("panic: %v", r)
			}
		}
	}()
	return fn()
}
