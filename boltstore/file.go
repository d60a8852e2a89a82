package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/internal/format"
)

// A file is one opening of the database: a handle of bbolt's, the goroutines that
// may call it, and nobody else. When the handle fails it is abandoned whole,
// because after a fault inside bbolt its locks stay held: the next call would
// hang.
type file struct {
	s     *Store
	db    *bolt.DB
	path  string      // the store's, with symbolic links followed
	os    *os.File    // the one inside db
	info  os.FileInfo // its identity
	epoch uint64
	uuid  string

	// As of the last transaction.
	size    atomic.Int64 // of the file
	entries atomic.Int64
	bytes   atomic.Int64 // of the entries

	// swept is the highest number of a mark of a tag that may have been forgotten
	// because the index showed nothing for it to strike. Readers do not take the
	// index's word alone; see format.Get.
	swept atomic.Uint64

	// mapped is the mapping as it is read without bbolt, nil if it may be moved. Who
	// reads it holds unmap; warm has what may be read that way.
	mapped *format.Mapped
	unmap  sync.RWMutex
	warm   warm
	opened time.Time

	jobs    chan *read
	quit    chan struct{} // closed to end the goroutines
	started bool          // there are goroutines
	readers sync.WaitGroup

	// states has what is pending in the last state of the file and in the one before, or in
	// the next while that is being committed.
	states atomic.Pointer[[2]state]

	// paying has those who wait for the writer's present transaction. It is
	// guarded by the store's mu.
	paying []chan error
	wrote  atomic.Bool // something was committed
	// txid is that of the last transaction, or of the one that was found; 0 before
	// the first look.
	txid atomic.Uint64

	failOnce sync.Once
	failed   chan error // receives why the handle is no longer to be used
	done     chan struct{}

	sweeper
}

// A state is what a transaction has left pending: in the journal, and not where it belongs.
type state struct {
	txid    uint64
	pending *format.Pending
}

// pending returns what the transaction txid has left pending, if that is one of the last.
func (f *file) pending(txid uint64) (p *format.Pending, ok bool) {
	if states := f.states.Load(); states != nil {
		for _, s := range states {
			if s.txid == txid {
				return s.pending, true
			}
		}
	}
	return nil, false
}

// last returns what the last transaction has left pending.
func (f *file) last() *format.Pending {
	p, _ := f.pending(f.txid.Load())
	return p
}

// Errors for which a file is left, beside those of the disk.
var (
	errFault = errors.New("fault in the database")
	errLost  = errors.New("the file was removed or replaced")
	errBack  = errors.New("an older state of the file was written over it")
)

// guard runs fn, which calls bbolt, and turns what would end the process into an
// error: a panic, and the fault that reading a truncated mapping is.
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case error:
			err = fmt.Errorf("%w: %w", errFault, r)
		default:
			err = fmt.Errorf("%w: %v", errFault, r)
		}
	}()
	return fn()
}

// fail says that the handle is not to be used any more.
func (f *file) fail(err error) {
	f.failOnce.Do(func() { f.failed <- err })
}

// isFull reports whether an error means that the disk has no room: the one kind of
// failed write after which the file is as good as before. A sync that fails for
// that reason is none of them: nobody knows what it has lost.
func isFull(err error) bool {
	var errno syscall.Errno
	var path *fs.PathError
	switch {
	case err == nil, strings.Contains(err.Error(), "file sync error"): // of a growth
		return false
	case errors.As(err, &path):
		if path.Op == "sync" {
			return false
		}
	case errors.As(err, &errno):
		return false // bbolt's fdatasync, where it is a bare system call
	}
	return format.NoRoom(err) != nil
}

// update runs fn in a write transaction and commits it if fn says that it changed
// something. It is called by the writer alone.
func (f *file) update(fn func(*format.Tx) (changed bool, err error)) error {
	count, err := f.commit(fn)
	count()
	return err
}

// commit is update, but for the numbers of entries and bytes, which are what they were
// until count is called: what leaves the queue then is not to be counted twice.
func (f *file) commit(fn func(*format.Tx) (changed bool, err error)) (count func(), err error) {
	count = func() {}
	err = guard(func() error {
		btx, err := f.db.Begin(true)
		if err != nil {
			return err
		}
		var tx *format.Tx
		id := uint64(btx.ID())
		if err = forward(btx, f.txid.Load()+1); err == nil {
			tx, err = f.begin(btx, id-1)
		}
		if err != nil {
			btx.Rollback()
			return err
		}
		tx.SetClean(false)
		f.settles = false
		changed, err := fn(tx)
		if err == nil && changed {
			err = f.settleSome(tx)
		}
		if err == nil && changed {
			err = tx.Finish()
		}
		if err != nil || !changed {
			btx.Rollback()
			return err
		}
		meta := tx.Meta()
		if err := f.s.opt.fault("commit"); err != nil {
			btx.Rollback()
			return err
		}
		// A reader that sees what is being committed has to know what is pending then.
		f.states.Store(&[2]state{{id - 1, f.last()}, {id, tx.Pending()}})
		if err := btx.Commit(); err != nil {
			return err
		}
		if err := f.s.opt.fault("committed"); err != nil {
			return err
		}
		f.wrote.Store(true)
		f.txid.Store(id)
		f.measure()
		count = func() { f.count(meta) }
		return nil
	})
	f.s.beat.Add(1)
	if err != nil {
		f.s.count.writeErrors.Add(1)
	}
	return count, err
}

// begin looks into a transaction that sees what the transaction txid has left.
func (f *file) begin(btx *bolt.Tx, txid uint64) (*format.Tx, error) {
	p, ok := f.pending(txid)
	if !ok {
		return nil, fmt.Errorf("%w: a transaction of somebody else", format.ErrDamaged)
	}
	return format.BeginWith(btx, p)
}

// settleSome writes a part of what is pending where it belongs: as much as the transaction
// adds, if as much is pending as is to be gathered, and of less or more in proportion. So
// all that is pending has had its turn whenever as much has been added: no row of the
// journal stays for longer.
func (f *file) settleSome(tx *format.Tx) error {
	if tx.Added() == 0 {
		return nil
	}
	f.gathered = time.Now()
	added := max(int64(tx.Added()), leastAdded)
	pending, gather := f.last().Bytes(), f.gather()
	f.unsettled += float64(added) * float64(pending) / float64(gather)
	switch {
	case gather < minGather && pending == 0:
		return tx.SettleAll()
	case f.tight > 0:
		return nil // there is no room
	}
	if f.crowded > 0 {
		f.crowded--
		return nil
	}
	most := max(2*added, settleStep)
	if f.s.waiting.Load() > 0 {
		most = max(added, settleStep/4)
	}
	n := min(int64(f.unsettled), most)
	if n == 0 {
		return nil
	}
	f.settles = true
	f.unsettled -= float64(n)
	return tx.Settle(int(n))
}

// count and measure keep what the statistics and the sweeper want to know of the file.
func (f *file) count(meta format.Meta) {
	f.entries.Store(int64(meta.Entries))
	f.bytes.Store(int64(meta.Bytes))
}

func (f *file) measure() {
	if info, err := f.os.Stat(); err == nil {
		f.size.Store(info.Size())
	}
}

// forward returns an error if the file is in a state before the transaction that it
// is known to have had: who writes an older copy over it brings back what was
// invalidated, swept and forgotten since.
func forward(btx *bolt.Tx, had uint64) error {
	if uint64(btx.ID()) < had {
		return errBack
	}
	return nil
}

// view runs fn in a read transaction.
func (f *file) view(fn func(*format.Tx) error) error {
	had := f.txid.Load()
	return guard(func() error {
		return f.db.View(func(btx *bolt.Tx) error {
			if err := forward(btx, had); err != nil {
				return err
			}
			id := uint64(btx.ID())
			if had == 0 { // the first look
				p, err := format.LoadPending(btx)
				if err != nil {
					return err
				}
				f.states.Store(&[2]state{{id, p}})
				f.txid.Store(id)
			}
			tx, err := f.begin(btx, id)
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

// claim makes the writer answerable to those who wait, unless its file has been
// left.
func (f *file) claim() (some bool) {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	if f.s.file.Load() == f {
		f.paying = append(f.paying, f.s.waiters...)
		f.s.waiters = nil
	}
	return len(f.paying) > 0
}

// pay tells those who were claimed that they are on disk.
func (f *file) pay() {
	f.s.mu.Lock()
	list := f.paying
	f.paying = nil
	f.s.mu.Unlock()
	for _, w := range list {
		w <- nil
	}
	if len(list) > 0 {
		// They are to run next where the writer runs, and would wait there while it is
		// in its next system call: 6 ms were seen.
		runtime.Gosched()
	}
}

// stop ends the goroutines and closes the handle, unless it has failed in a way
// that makes closing hang: then it is leaked, with its mapping. A goroutine that
// is stuck inside bbolt is not waited for for ever.
func (f *file) stop(abandon bool) {
	close(f.quit)
	ended := make(chan error, 1)
	go func() {
		if f.started {
			f.readers.Wait()
			<-f.done
		}
		if abandon {
			ended <- nil
			return
		}
		f.unmap.Lock() // for good
		ended <- guard(f.db.Close)
	}()
	left, wait := abandon, closeWait
	if abandon {
		wait = abandonWait
	}
	select {
	case err := <-ended:
		if err != nil {
			f.s.log.Warn("boltstore: close "+f.s.path, "err", err)
		}
	case <-time.After(wait):
		left = true
		f.s.log.Warn("boltstore: close " + f.s.path + " does not end; left to itself")
	}
	if left {
		disarm(f.os)
	}
}

const (
	// closeWait is how long a healthy handle is given to close. It has nothing
	// left to write then; a reader's transaction lasts microseconds.
	closeWait = 5 * time.Second
	// hang is how long Close waits for a disk from which nothing comes. It is longer
	// than closeWait, which is a part of it.
	hang = 10 * time.Second
	// abandonWait is how long the goroutines of a faulty one are given to notice.
	// Those that hang in it never do.
	abandonWait = 500 * time.Millisecond
)
