package boltstore

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
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
	first, fullTwice := true, false
	for {
		f, err := s.open()
		if err == nil {
			s.adopted(f)
		} else {
			s.refuse(err)
		}
		if first {
			close(s.opened)
			first = false
		}
		if err != nil {
			wait := retryOther
			if errors.Is(err, ErrLocked) || errors.Is(err, errLost) {
				wait = retryLocked
			}
			if errors.Is(err, ErrDamaged) {
				wait = math.MaxInt64
			}
			select {
			case <-time.After(wait):
				continue
			case <-s.closing:
				tell(s.takeWaiters(), fmt.Errorf("%w: %w", accel.ErrNotDurable, accel.ErrClosed))
				return
			}
		}
		select {
		case err = <-f.failed:
		case <-f.done:
			select {
			case err = <-f.failed:
			default:
				f.stop(false)
				s.file.Store(nil)
				tell(s.takeWaiters(), nil) // the last transaction has paid them
				return
			}
		}
		s.leave(f, err, fullTwice)
		fullTwice = isFull(err)
	}
}

// refuse notes why there is no file. Whoever waits for an invalidation to be
// written learns that it is not.
func (s *Store) refuse(err error) {
	s.mu.Lock()
	news := s.err == nil || s.err.Error() != err.Error()
	s.err = err
	waiters := s.waiters
	s.waiters = nil
	s.mu.Unlock()
	if news {
		s.log.Warn("boltstore: serving uncached", "file", s.path, "err", err)
	}
	tell(waiters, fmt.Errorf("%w: %w", accel.ErrNotDurable, s.wrap(err)))
}

// leave gives a file up whose handle failed. After that the path is free for a new
// one, or the store says why not.
func (s *Store) leave(f *file, why error, again bool) {
	s.mu.Lock()
	s.file.Store(nil)
	s.err = errOpening // who waits, waits for what comes next
	s.mu.Unlock()
	healthy := errors.Is(why, errLost) || isFull(why)
	s.log.Error("boltstore: leaving the file", "file", s.path, "err", why)
	f.stop(!healthy)
	if healthy && !(again && isFull(why)) {
		// The file is as it was before the failed transaction, or is no longer
		// ours to touch. What was queued for it is lost; what memory holds is not.
		s.queue.clear()
		return
	}
	// Whatever the file holds may be wrong. Nothing made so far is used again,
	// not even from memory: a mark may be among what was lost.
	s.marks.Reset(newEpoch())
	s.queue.clear()
	s.mem.Clear()
	if err := s.setAside(f.info); err != nil {
		s.refuse(err)
		return
	}
	// The file is gone from its path, durably. That is as good as any mark.
	tell(s.takeWaiters(), nil)
}

// setAside renames the file to a name under which nobody looks for it.
func (s *Store) setAside(info os.FileInfo) error {
	s.mu.Lock()
	n := s.aside
	s.mu.Unlock()
	if n >= maxAside {
		s.off = fmt.Errorf("%w: %d files set aside already", ErrDamaged, n)
		return s.off
	}
	now, err := os.Stat(s.path)
	if err != nil || !os.SameFile(now, info) {
		return nil // somebody else has moved it
	}
	name := s.path + ".corrupt-" + s.opt.now().UTC().Format("20060102T150405Z")
	for i := 2; ; i++ {
		if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
			break
		}
		name = s.path + ".corrupt-" + s.opt.now().UTC().Format("20060102T150405Z") + "-" + strconv.Itoa(i)
	}
	if err := os.Rename(s.path, name); err != nil {
		return fmt.Errorf("damaged, and cannot be set aside: %w", err)
	}
	if err := syncDir(s.path); err != nil {
		return fmt.Errorf("damaged, and cannot be set aside for good: %w", err)
	}
	s.mu.Lock()
	s.aside++
	s.mu.Unlock()
	s.count.setAside.Add(1)
	s.log.Error("boltstore: set a damaged file aside", "file", s.path, "as", name)
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return syncDirectory(dir)
}

// open returns the file at the path, opened and read so far as to know its marks.
func (s *Store) open() (*file, error) {
	if s.off != nil {
		return nil, s.off
	}
	info, err := os.Stat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s.create()
	case err != nil:
		return nil, pathError(err)
	case info.IsDir():
		return nil, fmt.Errorf("%w: a directory", ErrForeign)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s", ErrForeign, info.Mode().Type())
	}
	look, err := s.examine()
	if errors.Is(err, format.ErrDamaged) {
		s.marks.Reset(newEpoch())
		s.log.Error("boltstore: "+s.path, "err", err)
		if err := s.setAside(info); err != nil {
			return nil, err
		}
		return s.create()
	}
	if err != nil {
		return nil, err
	}
	f, err := s.openBolt(s.path, os.O_RDWR)
	if errors.Is(err, errFault) {
		// The look was not close enough.
		s.marks.Reset(newEpoch())
		if err := s.setAside(info); err != nil {
			return nil, err
		}
		return s.create()
	}
	if err != nil {
		return nil, err
	}
	if !f.here() {
		f.stop(false)
		return nil, errLost
	}
	err = s.adopt(f, look)
	if err != nil {
		f.stop(errors.Is(err, errFault))
		if errors.Is(err, format.ErrDamaged) || errors.Is(err, errFault) {
			s.marks.Reset(newEpoch())
			if err := s.setAside(info); err != nil {
				return nil, err
			}
			return s.create()
		}
		return nil, err
	}
	return f, nil
}

// examine looks at the file under a lock of our own, before bbolt does: a look at
// a file that is being written sees damage that is none.
func (s *Store) examine() (format.Look, error) {
	osf, err := os.OpenFile(s.path, os.O_RDWR, 0)
	if err != nil {
		return format.Look{}, pathError(err)
	}
	defer osf.Close()
	if err := tryLock(osf); err != nil {
		return format.Look{}, err
	}
	defer unlock(osf)
	info, err := osf.Stat()
	if err != nil {
		return format.Look{}, err
	}
	look, err := format.Examine(osf, info.Size())
	switch {
	case errors.Is(err, format.ErrForeign):
		err = fmt.Errorf("%w", &as{ErrForeign, err})
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

func (s *Store) openBolt(path string, flag int) (*file, error) {
	f := &file{
		s:      s,
		jobs:   make(chan *read),
		quit:   make(chan struct{}),
		failed: make(chan error, 1),
		done:   make(chan struct{}),
	}
	opts := &bolt.Options{
		Timeout:      time.Millisecond, // one try; zero would wait for ever
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
		MaxSize:      int(min(s.opt.maxSize, math.MaxInt)),
		OpenFile: func(name string, _ int, mode os.FileMode) (*os.File, error) {
			osf, err := os.OpenFile(name, flag, mode)
			f.os = osf
			return osf, err
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
// so at once one finds the path taken.
func (s *Store) create() (*file, error) {
	temp := s.path + ".new-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(newEpoch(), 36)
	f, err := s.openBolt(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		if f != nil && f.os != nil || !errors.Is(err, fs.ErrNotExist) {
			os.Remove(temp)
		}
		return nil, err
	}
	defer os.Remove(temp)
	err = func() error {
		if err := f.os.Chmod(0o600); err != nil { // whatever the umask
			return err
		}
		if err := s.layOut(f); err != nil {
			return err
		}
		if err := os.Link(temp, s.path); errors.Is(err, fs.ErrExist) {
			return errLost
		} else if err != nil {
			// A file system without links.
			if err := os.Rename(temp, s.path); err != nil {
				return err
			}
		}
		return syncDir(s.path)
	}()
	if err == nil {
		err = s.adopt(f, format.Look{})
	}
	if err != nil {
		f.stop(false)
		return nil, err
	}
	return f, nil
}

// layOut writes an empty database. Positions go on where they stand, and the floor
// is there: whatever was stored before is not in this file.
func (s *Store) layOut(f *file) error {
	n := s.marks.N()
	return guard(func() error {
		return f.db.Update(func(btx *bolt.Tx) error {
			return format.Create(btx, inode(f.info), n, n)
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
	case meta.Inode != inode(f.info):
		why = "it is a copy or was restored"
	}
	if why != "" {
		// A purge may be missing from what the file says. So everything in it is
		// purged, before anything of it is used, and durably before the reason
		// to do so is gone.
		s.log.Warn("boltstore: beginning empty", "file", s.path, "reason", why)
		meta.Floor, rows = max(s.marks.N(), meta.Seq)+1, nil
		err := f.update(func(tx *format.Tx) (bool, error) {
			tx.SetFloor(meta.Floor)
			tx.SetInode(inode(f.info))
			return true, tx.ResetMarks()
		})
		if err != nil {
			return err
		}
		meta.Seq = meta.Floor
	}
	f.epoch = newEpoch()
	f.sweeper = newSweeper(s, meta)
	s.marks.Adopt(f.epoch, meta.Seq, meta.Floor, rows)
	f.note(meta)
	return nil
}

// adopted puts an open file to use.
func (s *Store) adopted(f *file) {
	s.mu.Lock()
	s.err = nil
	s.file.Store(f)
	s.mu.Unlock()
	f.startReaders()
	go f.write()
	s.log.Info("boltstore: opened", "file", s.path, "entries", s.lastTotal.Load(), "bytes", f.size.Load())
}
