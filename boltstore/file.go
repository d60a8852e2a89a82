package boltstore

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/accelhttp/accelerator/internal/format"
)

// A file is one opening of the database: a handle of bbolt's, the goroutines that
// may call it, and nobody else. When the handle fails it is abandoned whole,
// because after a fault inside bbolt its locks stay held: the next call would
// hang.
type file struct {
	s     *Store
	db    *bolt.DB
	os    *os.File    // the one inside db, for Stat only
	info  os.FileInfo // its identity
	epoch uint64
	size  atomic.Int64

	jobs    chan *read
	quit    chan struct{} // closed to end the readers
	readers sync.WaitGroup

	failOnce sync.Once
	failed   chan error // receives why the handle is no longer to be used
	done     chan struct{}

	sweeper
}

// Errors for which a file is left, beside those of the disk.
var (
	errFault = errors.New("fault in the database")
	errLost  = errors.New("the file was removed or replaced")
)

// guard runs fn, which calls bbolt, and turns what would end the process into an
// error: a panic, and the fault that reading a truncated mapping is.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: %v", errFault, r)
		}
	}()
	return fn()
}

// fail says that the handle is not to be used any more.
func (f *file) fail(err error) {
	f.failOnce.Do(func() { f.failed <- err })
}

// isFull reports whether an error means that there is no room: the one kind of
// failed write after which the file is as good as before.
func isFull(err error) bool {
	return errors.Is(err, berrors.ErrMaxSizeReached) ||
		errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) ||
		// bbolt reports a failed growth as text.
		err != nil && (strings.Contains(err.Error(), syscall.ENOSPC.Error()) || strings.Contains(err.Error(), syscall.EFBIG.Error()))
}

// update runs fn in a write transaction and commits it if fn says that it changed
// something. It is called by the writer alone.
func (f *file) update(fn func(*format.Tx) (changed bool, err error)) error {
	err := guard(func() error {
		btx, err := f.db.Begin(true)
		if err != nil {
			return err
		}
		tx, err := format.Begin(btx)
		if err != nil {
			btx.Rollback()
			return err
		}
		tx.SetClean(false)
		changed, err := fn(tx)
		if err == nil && changed {
			err = tx.Finish()
		}
		if err != nil || !changed {
			btx.Rollback()
			return err
		}
		meta := tx.Meta()
		if err := btx.Commit(); err != nil {
			return err
		}
		f.note(meta)
		return nil
	})
	if err != nil {
		f.s.count.writeErrors.Add(1)
	}
	return err
}

// note keeps what the statistics and the sweeper want to know of the file.
func (f *file) note(meta format.Meta) {
	f.s.lastTotal.Store(int64(meta.Entries))
	f.s.lastBytes.Store(int64(meta.Bytes))
	if info, err := f.os.Stat(); err == nil {
		f.size.Store(info.Size())
	}
}

// view runs fn in a read transaction.
func (f *file) view(fn func(*format.Tx) error) error {
	return guard(func() error {
		return f.db.View(func(btx *bolt.Tx) error {
			tx, err := format.Begin(btx)
			if err != nil {
				return err
			}
			return fn(tx)
		})
	})
}

// here reports whether the path still leads to this file.
func (f *file) here() bool {
	info, err := os.Stat(f.s.path)
	return err == nil && os.SameFile(info, f.info)
}

// stop ends the readers and closes the handle, unless it has failed in a way that
// makes closing hang: then it is leaked, with its mapping.
func (f *file) stop(abandon bool) {
	close(f.quit)
	if abandon {
		return
	}
	f.readers.Wait()
	closed := make(chan error, 1)
	go func() { closed <- guard(f.db.Close) }()
	select {
	case err := <-closed:
		if err != nil {
			f.s.log.Warn("boltstore: close "+f.s.path, "err", err)
		}
	case <-time.After(closeWait):
		f.s.log.Warn("boltstore: close " + f.s.path + " does not end; left to itself")
	}
}

// closeWait is how long a healthy handle is given to close. It has nothing left
// to write then; a reader's transaction lasts microseconds.
const closeWait = 5 * time.Second
