package boltstore

import (
	"os"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
)

// WithReadBudget lets a look-up wait longer for the disk than a site should.
func WithReadBudget(d time.Duration) Option {
	return func(o *options) { o.readBudget = d }
}

// WithHang has Close wait less for a disk that does not answer.
func WithHang(d time.Duration) Option {
	return func(o *options) { o.hang = d }
}

// WithReadHook calls fn before each read of the file, on the goroutine that reads, which
// is never that of the caller.
func WithReadHook(fn func()) Option {
	return func(o *options) { o.beforeRead, o.readInLine = fn, nil }
}

// WithReadInLine calls fn when something was read on the goroutine of the caller, and is
// not believed yet.
func WithReadInLine(fn func()) Option {
	return func(o *options) { o.readInLine = fn }
}

// WithFault calls fn around each commit: at "commit", where an error means that
// nothing was written, and at "committed", where an error means what a failed
// fsync does: the pages are visible, and nobody knows whether they are durable.
func WithFault(fn func(moment string) error) Option {
	return func(o *options) { o.fault = fn }
}

// Budget returns what share of the bound entries may have, in thousandths. The
// store must be at rest.
func (s *Store) Budget() int64 { return s.file.Load().budget }

// Pending returns how many bytes are in the journal and not where they belong.
func (s *Store) Pending() int { return s.file.Load().last().Bytes() }

// JournalRows returns how many rows the journal has.
func (s *Store) JournalRows() int { return s.file.Load().last().Rows() }

// Inode is what a file is known by.
func Inode(info os.FileInfo) uint64 { return format.Inode(info) }

// Sleepy does what Put does before it is admitted, and returns the rest, without a
// second look.
func (s *Store) Sleepy(e, old *accel.Entry) (wakes func() error) {
	seen := s.look(e, old)
	return func() error { return s.admit(e, old, seen) }
}

// MapAhead says whether the mapping stays where it is, so that it may be read in line.
const MapAhead = mapAhead
