package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
	"github.com/accelhttp/accelerator/internal/point"
)

const (
	// retryLocked is how often a file that another process holds is tried: a
	// rolling restart should not serve uncached for longer than a second.
	retryLocked = 250 * time.Millisecond
	// retryOther is how often anything else is tried that keeps the file from
	// being opened; somebody may mend it.
	retryOther = 2 * time.Second
	// maxAside is how many files are set aside in a store's life. Each may leak
	// its mapping, and a disk that damages three files damages the fourth.
	maxAside = 3
)

// run owns the file: it opens it, waits for it to fail or for Close, and decides
// what comes then. It never calls into an open database itself, because a call
// after a fault may hang.
func (s *Store) run() {
	defer close(s.stopped)
	for first := true; ; first = false {
		f, err := s.open()
		s.beat.Add(1)
		if err == nil {
			s.adopted(f)
		} else {
			s.refuse(err)
		}
		if first {
			close(s.opened)
		}
		if err == nil {
			why := s.watch(f)
			if why == nil {
				return
			}
			err = s.leave(f, why)
		}
		if err != nil && !s.pause(err) {
			s.tell(errClosing)
			return
		}
	}
}

var errClosing = fmt.Errorf("%w: %w", accel.ErrNotDurable, accel.ErrClosed)

// watch returns why a file's handle failed, or nil when the store was closed.
func (s *Store) watch(f *file) error {
	select {
	case err := <-f.failed:
		return err
	case <-f.done:
	}
	select {
	case err := <-f.failed: // the writer ended for that
		return err
	default:
	}
	f.stop(false)
	s.file.Store(nil)
	// Who came after the writer's last look has not been written down.
	s.tell(errClosing)
	return nil
}

// pause waits until a file that could not be opened is worth another try. It
// returns false when the store was closed.
func (s *Store) pause(err error) bool {
	var again <-chan time.Time // nil: never
	switch {
	case errors.Is(err, ErrLocked), errors.Is(err, errLost):
		again = time.After(retryLocked)
	case s.off == nil:
		again = time.After(retryOther)
	}
	select {
	case <-again:
		return true
	case <-s.closing:
		return false
	}
}

// refuse notes why there is no file. Whoever waits for an invalidation to be
// written learns that it is not.
func (s *Store) refuse(err error) {
	s.mu.Lock()
	news := s.err == nil || s.err.Error() != err.Error()
	s.err = err
	s.mu.Unlock()
	// Who was seen to have the file, or may have taken it since we let it go, has it
	// until it is ours.
	s.others = s.others || errors.Is(err, ErrLocked) || errors.Is(err, errLost)
	s.blind.Store(s.others && s.off == nil)
	if news {
		s.log.Warn("boltstore: serving uncached", "file", s.path, "err", err)
	}
	s.tell(fmt.Errorf("%w: %w", accel.ErrNotDurable, s.wrap(err)))
}

// leave gives a file up whose handle failed. After that the path is to be opened
// anew; if it returns an error, not at once.
func (s *Store) leave(f *file, why error) error {
	s.mu.Lock()
	s.file.Store(nil)
	s.err = errOpening // who waits, waits for what comes next
	s.mu.Unlock()
	s.blind.Store(true)
	s.others = true
	s.log.Error("boltstore: leaving the file", "file", s.path, "err", why)
	// Only a fault leaves locks behind. After anything else the handle is closed,
	// because its lock would keep us out if the file cannot be set aside either.
	f.stop(errors.Is(why, errFault))
	s.last = found{f.uuid, f.txid.Load()}
	s.mu.Lock()
	s.waiters = append(f.paying, s.waiters...)
	f.paying = nil
	s.mu.Unlock()

	// Until the file is open again another process may have it, and invalidate
	// what memory would then still serve.
	s.mem.Clear()
	if errors.Is(why, errLost) || isFull(why) && s.marks.Owed().Empty() {
		// The file is as it was before the failed transaction, or is no longer
		// ours to touch. What was queued for it is lost, and must not leave the
		// word to what stands there.
		s.letGo(s.queue.shed(nil)...)
		if isFull(why) && !f.wrote.Load() {
			s.refuse(why) // nothing at all could be written
			return why
		}
		return nil
	}
	// Whatever the file holds may be wrong, or lack a mark that could not be
	// written. Nothing made so far is used again.
	s.marks.Reset(newEpoch())
	s.queue.clear()
	gone, err := s.setAside(f.path, f.info, why)
	if err != nil {
		s.refuse(err)
		return err
	}
	if gone {
		// It is gone from its path, durably. That is as good as any mark.
		s.tell(nil)
	}
	if isFull(why) && !f.wrote.Load() {
		s.refuse(why) // the next one could not be written either
		return why
	}
	return nil
}

// setAside renames a file to a name under which nobody looks for it. It reports
// whether there is, durably, nothing at the path.
//
// From a full disk the file is removed: it is whole, nobody will want to look into
// it, and its room is what is wanting.
func (s *Store) setAside(path string, info os.FileInfo, why error) (gone bool, err error) {
	full := isFull(why)
	if s.aside >= maxAside && !full {
		s.off = fmt.Errorf("%w, after %d files that were set aside: %w", ErrDamaged, s.aside, why)
		return false, s.off
	}
	now, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Somebody else has removed it.
		return true, format.SyncDir(path)
	case err != nil:
		return false, pathError(err)
	case !os.SameFile(now, info):
		return false, nil // what stands there now is another one
	}
	// Our lock went with the handle. Nobody may begin to use the file between here
	// and the moment when it has durably left the path: he would serve what is
	// acknowledged as purged because it has left.
	held, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil && renamesOpen {
		defer held.Close()
		if errors.Is(format.TryLock(held, true), format.ErrLocked) {
			return false, fmt.Errorf("cannot be set aside: %w", ErrLocked)
		}
		if now, err := held.Stat(); err != nil || !os.SameFile(now, info) {
			return false, nil
		}
	} else if err == nil {
		held.Close()
	}
	if full {
		if err := os.Remove(path); err != nil {
			return false, fmt.Errorf("lacks an invalidation, and cannot be removed: %w", pathError(err))
		}
		s.log.Error("boltstore: removed the file from a full disk, for want of room to write an invalidation", "file", s.path, "err", why)
		return s.nameless(path)
	}
	stamp := path + ".corrupt-" + s.opt.now().UTC().Format("20060102T150405Z")
	name := stamp
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = stamp + "-" + strconv.Itoa(i)
	}
	if err := os.Rename(path, name); err != nil {
		return false, fmt.Errorf("damaged, and cannot be set aside: %w", err)
	}
	s.aside++
	s.count.setAside.Add(1)
	s.log.Error("boltstore: set a damaged file aside", "file", s.path, "as", name, "err", why)
	return s.nameless(path)
}

// nameless makes it durable that a path leads to nothing.
func (s *Store) nameless(path string) (bool, error) {
	if err := format.SyncDir(path); err != nil {
		return false, fmt.Errorf("cannot be set aside for good: %w", err)
	}
	return true, nil
}

// open returns the file at the path, opened and read so far as to know its marks.
func (s *Store) open() (*file, error) {
	if s.off != nil {
		return nil, s.off
	}
	path := format.Resolve(s.path)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := s.create(path); err != nil {
			return nil, pathError(err)
		}
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
		return nil, pathError(err)
	case info.IsDir():
		return nil, fmt.Errorf("%w: a directory", ErrForeign)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s", ErrForeign, info.Mode().Type())
	}
	f, err := s.openOurs(path)
	if errors.Is(err, format.ErrDamaged) || errors.Is(err, errFault) {
		s.marks.Reset(newEpoch())
		gone, aerr := s.setAside(path, info, err)
		switch {
		case aerr != nil:
			return nil, aerr
		case !gone:
			return nil, errLost
		}
		return s.open()
	}
	return f, err
}

func (s *Store) openOurs(path string) (*file, error) {
	osf, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, pathError(err)
	}
	look, err := examine(osf)
	if err != nil {
		osf.Close() // lets the lock go
		return nil, err
	}
	// bbolt gets the file that is locked already. Letting the lock go for it
	// would let another process in; and a child that was forked meanwhile holds
	// it until it executes its program, so that it could not be had again.
	f, err := s.openBolt(path, func() (*os.File, error) { return osf, nil })
	if err != nil {
		return nil, err
	}
	// Before anything is written to it.
	if err = format.SyncName(s.path, f.os); err != nil {
		err = pathError(err)
	} else if !f.here() {
		err = errLost
	} else {
		err = s.adopt(f, look)
	}
	if err != nil {
		f.stop(errors.Is(err, errFault))
		return nil, err
	}
	format.RemoveLeft(path, time.Now())
	return f, nil
}

// examine locks the file and looks at it before bbolt does: a look at a file that
// is being written sees damage that is none.
func examine(osf *os.File) (format.Look, error) {
	switch err := format.TryLock(osf, true); {
	case errors.Is(err, format.ErrLocked):
		return format.Look{}, ErrLocked
	case err != nil:
		return format.Look{}, err
	}
	info, err := osf.Stat()
	if err != nil {
		return format.Look{}, err
	}
	look, err := format.Examine(osf, info.Size())
	switch {
	case errors.Is(err, format.ErrForeign):
		err = &as{ErrForeign, err}
	case errors.Is(err, format.ErrVersion):
		err = &as{ErrVersion, err}
	}
	return look, err
}

// as is an error of another package under a name of this one.
type as struct{ name, err error }

func (e *as) Error() string   { return e.err.Error() }
func (e *as) Unwrap() []error { return []error{e.name, e.err} }

// pathError drops the path, which every error of the store begins with.
func pathError(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// openBolt opens a database in the file that open returns, and owns that.
func (s *Store) openBolt(path string, open func() (*os.File, error)) (*file, error) {
	f := &file{
		s:      s,
		path:   path,
		jobs:   make(chan *read),
		quit:   make(chan struct{}),
		failed: make(chan error, 1),
		done:   make(chan struct{}),
		opened: time.Now(),
	}
	opts := &bolt.Options{
		Timeout:      time.Millisecond, // one try; zero would wait for ever
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
		MaxSize:      int(min(s.opt.maxSize, math.MaxInt)),
		OpenFile: func(string, int, os.FileMode) (osf *os.File, err error) {
			f.os, err = open()
			return f.os, err
		},
	}
	if mapAhead {
		// The whole file at once: growing a mapping waits for every reader and
		// keeps new ones out meanwhile. It costs address space only.
		opts.InitialMmapSize = opts.MaxSize
	}
	err := guard(func() (err error) {
		f.db, err = bolt.Open(path, 0o600, opts)
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, ErrLocked
	case errors.Is(err, errFault):
		if f.os != nil {
			disarm(f.os)
		}
		return nil, err
	case err != nil:
		return nil, pathError(err)
	}
	// Growing by 16 MiB, as bbolt does, is too coarse for a small bound.
	f.db.AllocSize = int(min(16<<20, max(s.opt.maxSize/64, 64<<10)))
	if f.info, err = f.os.Stat(); err != nil {
		f.stop(false)
		return nil, err
	}
	f.size.Store(f.info.Size())
	return f, nil
}

// create makes a new file under a name of its own and links it to the path when
// it is whole: a crash leaves all of it or nothing, and of two processes that do
// so at once one finds the path taken, which is as good.
func (s *Store) create(path string) error {
	temp := path + format.NewSuffix + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(newEpoch(), 36)
	f, err := s.openBolt(temp, func() (*os.File, error) {
		return os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	})
	if err != nil {
		if !errors.Is(err, fs.ErrExist) {
			os.Remove(temp)
		}
		return err
	}
	defer os.Remove(temp)
	err = f.os.Chmod(0o600) // whatever the umask
	if err == nil {
		err = s.layOut(f)
	}
	f.stop(errors.Is(err, errFault))
	if err != nil {
		return err
	}
	if err := os.Link(temp, path); errors.Is(err, fs.ErrExist) {
		return nil
	} else if err != nil {
		// A file system without links.
		if err := os.Rename(temp, path); err != nil {
			return err
		}
	}
	return format.SyncDir(path)
}

// layOut writes an empty database. Positions go on where they stand, and the floor
// is there: whatever was stored before is not in this file.
func (s *Store) layOut(f *file) error {
	n := s.marks.N()
	return guard(func() error {
		return f.db.Update(func(btx *bolt.Tx) error {
			return format.Create(btx, format.Inode(f.info), n, n)
		})
	})
}

// adopt reads the marks of a file that was just opened and makes them the store's.
func (s *Store) adopt(f *file, look format.Look) error {
	if look.Empty {
		if err := s.layOut(f); err != nil {
			return err
		}
	}
	var meta format.Meta
	var rows []marks.Row
	var whole bool
	err := f.view(func(tx *format.Tx) (err error) {
		meta = tx.Meta()
		rows, whole, err = tx.Marks()
		return err
	})
	if err != nil {
		return err
	}
	why := ""
	switch {
	case !whole:
		why = "its marks are not whole"
	case look.OneMeta:
		why = "its last transaction is damaged"
	case meta.Inode != format.Inode(f.info):
		why = "it is a copy or was restored"
	case meta.Entries > 0 && !s.last.leadsTo(f, meta):
		why = "it is another than was used before"
	}
	if why != "" {
		// A purge may be missing from what the file says. So everything in it is
		// purged, before anything of it is used, and durably before the reason
		// to do so is gone.
		s.log.Warn("boltstore: beginning empty", "file", s.path, "reason", why)
		meta.Floor, rows = max(s.marks.N(), meta.Seq)+1, nil
		err := f.update(func(tx *format.Tx) (bool, error) {
			tx.SetFloor(meta.Floor)
			tx.SetInode(format.Inode(f.info))
			return true, tx.ResetMarks()
		})
		if err != nil {
			return err
		}
		meta.Seq = meta.Floor
	}
	f.epoch = newEpoch()
	point.At(point.FileOpened)
	s.marks.Adopt(f.epoch, meta.Seq, meta.Floor, rows)
	// Nothing of an earlier epoch enters memory from here on. What a Put still
	// brought in after the last file was left goes now.
	s.letGo(s.queue.shed(nil)...)
	s.mem.Clear()
	// What was forgotten before is not known, nor, after a crash, up to where
	// numbers went.
	n := s.marks.N()
	if meta.Entries > 0 && !meta.Clean {
		n++
	}
	f.swept.Store(n)
	f.uuid = meta.UUID
	f.count(meta)
	f.measure()
	f.sweeper = newSweeper(f, meta)
	return nil
}

// found is a file in the state in which this process has left it.
type found struct {
	uuid string
	txid uint64
}

// leadsTo reports whether what a file holds knows of all that was invalidated
// while the last one was in use. Another file that was moved to its path does not,
// nor does an older state of it. A process that has had no file has invalidated
// nothing that it does not still owe.
func (l found) leadsTo(f *file, meta format.Meta) bool {
	return l.uuid == "" || l.uuid == meta.UUID && l.txid <= f.txid.Load()
}

// adopted puts an open file to use.
func (s *Store) adopted(f *file) {
	f.started = true
	f.startReaders()
	s.mu.Lock()
	s.err = nil
	s.file.Store(f)
	s.mu.Unlock()
	s.others = false
	s.blind.Store(false)
	go f.write()
	s.log.Info("boltstore: opened", "file", s.path, "entries", f.entries.Load(), "bytes", f.size.Load())
}
