// Package inspect finds out facts about a cache database, for programs that show
// them: accel-inspect does so on a terminal. It prints nothing.
//
// # Reading
//
// A file is first looked at with plain reads, by which whatever is no sound cache
// database is refused: bbolt, handed one, may crash or never return. Only then is
// it opened, for reading. Every byte of it, and its times, stay as they were, and
// no file is created.
//
// A file is locked while it is open, as bbolt does, so that no program can write
// it meanwhile, nor begin to use it. Keep it open no longer than needed.
//
// # What is alive
//
// What is in a file is not always what a program would serve from it: an entry
// may be past its time, or struck by an invalidation and not yet swept. A [State]
// tells, and is found by the rules, and the code, of the library itself. Unless
// they are asked for, entries that are dead are left out.
//
// # JSON
//
// The types with JSON tags are a promise: fields are added, none is changed.
// Times are RFC 3339, sizes are bytes, durations seconds.
package inspect

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// Why a file cannot be looked into. Compare with errors.Is; the error itself is
// an [*Error].
var (
	// ErrMissing means that there is no file.
	ErrMissing = errors.New("no such file")
	// ErrEmpty means a file in which no cache was ever stored.
	ErrEmpty = errors.New("empty")
	// ErrForeign means that it is something else than a cache database.
	ErrForeign = errors.New("not a cache database")
	// ErrVersion means a cache database of another release.
	ErrVersion = errors.New("cache database of another format version")
	// ErrDamaged means a cache database that is not what was written.
	ErrDamaged = errors.New("damaged")
	// ErrLocked means that another process has it open.
	ErrLocked = errors.New("in use by another process")
	// ErrPermission means that this user may not open it.
	ErrPermission = errors.New("permission denied")
)

// An Error says in one line what is the matter with a file, and what to do.
type Error struct {
	Path   string
	Kind   error // one of the above, or that of the system
	What   string
	Advice string // "" if there is none
}

// Error returns the line.
func (e *Error) Error() string {
	s := e.Path + ": " + e.What
	if e.Advice != "" {
		s += "; " + e.Advice
	}
	return s
}

// Unwrap returns Kind.
func (e *Error) Unwrap() error { return e.Kind }

// lockWait is how long a file is waited for that somebody else has open: long
// enough for another look at it to come to its end, too short to be noticed.
const lockWait = 250 * time.Millisecond

// A Database is a cache database that is open for reading. It is not safe for
// concurrent use. Close it soon.
type Database struct {
	path    string
	now     time.Time
	info    os.FileInfo
	os      *os.File // the one inside bolt
	bolt    *bolt.DB
	space   format.Space
	meta    format.Meta
	marks   *marks.Marks
	pending *format.Pending // nil: not known yet
	rows    int             // in bucket g
	faulted bool            // bbolt is not to be called any more
	closed  bool

	beginsEmpty string
	oneMeta     bool
	whole       bool
}

// Open opens a database to look into it. What is alive there is judged as of now.
// The error, if any, is an [*Error].
func Open(path string, now time.Time) (*Database, error) {
	return open(path, now, false)
}

func open(path string, now time.Time, write bool) (*Database, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	if !info.Mode().IsRegular() {
		what := "neither a file nor a directory"
		if info.IsDir() {
			what = "a directory"
		}
		return nil, &Error{path, ErrForeign, "not a cache database but " + what, ""}
	}
	flag := os.O_RDONLY
	if write {
		flag = os.O_RDWR
	}
	osf, err := os.OpenFile(path, flag, 0)
	if err != nil {
		return nil, pathError(path, err)
	}
	d := &Database{path: path, now: now, os: osf}
	if err := d.enter(write); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// enter locks the file, looks at it, and lets bbolt in. bbolt gets the file that
// is locked already, so that nobody can come between.
func (d *Database) enter(write bool) error {
	for start := time.Now(); ; time.Sleep(lockWait / 10) {
		err := format.TryLock(d.os, write)
		if err == nil {
			break
		}
		if !errors.Is(err, format.ErrLocked) {
			return &Error{d.path, err, "lock: " + err.Error(), ""}
		}
		if time.Since(start) > lockWait {
			return d.locked()
		}
	}
	var err error
	if d.info, err = d.os.Stat(); err != nil {
		return pathError(d.path, err)
	}
	look, err := format.Examine(d.os, d.info.Size())
	if err != nil {
		return d.explain(err)
	}
	if look.Empty {
		return &Error{d.path, ErrEmpty, "is empty: no cache was ever stored in it", ""}
	}
	if d.space, err = format.Tour(d.os, d.info.Size(), func() bool { return true }, nil); err != nil {
		return d.explain(err)
	}
	if err := d.openBolt(write); err != nil {
		return err
	}
	return d.adopt(look)
}

func (d *Database) openBolt(write bool) error {
	err := d.guard(func() (err error) {
		d.bolt, err = bolt.Open(d.path, 0, &bolt.Options{
			ReadOnly:     !write,
			Timeout:      lockWait,
			FreelistType: bolt.FreelistMapType,
			NoStatistics: true,
			OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return d.os, nil },
		})
		return err
	})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return d.locked()
	case err != nil:
		return d.explain(err)
	}
	if write {
		d.bolt.AllocSize = 64 << 10 // it should not grow by 16 MiB for a mark
	}
	return nil
}

// adopt reads the marks, as the library does when it opens a file.
func (d *Database) adopt(look format.Look) error {
	var rows []marks.Row
	err := d.view(func(tx *format.Tx) (err error) {
		d.meta = tx.Meta()
		rows, d.whole, err = tx.Marks()
		return err
	})
	if err != nil {
		return err
	}
	d.oneMeta, d.rows = look.OneMeta, len(rows)
	switch {
	case !d.whole:
		d.beginsEmpty = "its marks are not whole, so that an invalidation may be missing"
	case look.OneMeta:
		d.beginsEmpty = "its last transaction is damaged"
	case d.meta.Inode != format.Inode(d.info):
		d.beginsEmpty = "it is a copy or was restored"
	}
	// No limit: what is here was written, and is only to be judged by.
	d.marks = marks.New(1, 0, math.MaxInt)
	d.marks.Adopt(1, d.meta.Seq, d.meta.Floor, rows)
	return nil
}

// Close lets the file go. A second Close does nothing.
func (d *Database) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	if d.bolt == nil || d.faulted {
		// After a fault inside bbolt its locks may stay held: a call would hang.
		return d.os.Close()
	}
	return d.guard(d.bolt.Close)
}

// BeginsEmpty says why the library would not serve anything of the file, but
// begin anew with it; "" if it would serve it.
func (d *Database) BeginsEmpty() string { return d.beginsEmpty }

var (
	errFault = errors.New("fault")
	errGone  = fmt.Errorf("%w: %w", format.ErrDamaged, errFault)
)

// guard runs fn, which calls bbolt, and turns what would end the process into an
// error: a panic, and the fault that reading a truncated mapping is.
func (d *Database) guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			d.faulted = true
			err = fmt.Errorf("%w: %w: %v", format.ErrDamaged, errFault, r)
		}
	}()
	return fn()
}

// view runs fn in a read transaction.
func (d *Database) view(fn func(*format.Tx) error) error {
	if d.closed {
		return &Error{d.path, fs.ErrClosed, "closed", ""}
	}
	if d.faulted {
		return d.explain(errGone)
	}
	err := d.guard(func() error {
		return d.bolt.View(func(btx *bolt.Tx) error {
			tx, err := d.begin(btx)
			if err != nil {
				return err
			}
			return fn(tx)
		})
	})
	return d.explain(err)
}

// begin looks into a transaction.
func (d *Database) begin(btx *bolt.Tx) (tx *format.Tx, err error) {
	if d.pending == nil {
		if d.pending, err = format.LoadPending(btx); err != nil {
			return nil, err
		}
	}
	return format.BeginWith(btx, d.pending)
}

// here reports whether the path still leads to the file.
func (d *Database) here() bool {
	info, err := os.Stat(d.path)
	return err == nil && os.SameFile(info, d.info)
}

func (d *Database) locked() error {
	return &Error{d.path, ErrLocked, "in use by another process",
		"stop the program first, or purge from inside it with cache.InvalidateTag"}
}

// explain turns an error of package format into one for people.
func (d *Database) explain(err error) error {
	switch {
	case errors.Is(err, errFault):
		return d.damaged("damaged: bbolt cannot read it")
	case errors.Is(err, format.ErrDamaged):
		return d.damaged(err.Error())
	case errors.Is(err, format.ErrForeign):
		return &Error{d.path, ErrForeign, err.Error(), ""}
	case errors.Is(err, format.ErrVersion):
		return &Error{d.path, ErrVersion, err.Error(), "use the accel-inspect of the release that wrote it"}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EFBIG):
		return &Error{d.path, err, "no space left, and even a purge needs some", "free some, or delete the file"}
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pathError(d.path, err)
	}
	return err
}

func (d *Database) damaged(what string) error {
	for strings.HasPrefix(what, "damaged: damaged") {
		what = what[len("damaged: "):]
	}
	return &Error{d.path, ErrDamaged, what,
		"run the program, which sets it aside and begins anew, or delete it"}
}

// pathError is explain for what the system says.
func pathError(path string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &Error{path, ErrMissing, "no such file", "name a database as the last argument, with --db, or in $ACCEL_DB"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{path, ErrPermission, "permission denied", "use the account that the program runs under"}
	}
	return &Error{path, err, err.Error(), ""}
}
