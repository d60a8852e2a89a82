package boltstore

import (
	"log/slog"
	"time"
)

// Defaults of the options.
const (
	// DefaultMaxSize bounds the file, in bytes.
	DefaultMaxSize = 1 << 30
	// DefaultMemory bounds the memory tier, in bytes. Go collects garbage when there
	// is as much of it as there is in use: with the queue the process grows by up to
	// 128 MiB under a crawler, see docs/reliability.md.
	DefaultMemory = 24 << 20
	// DefaultQueue bounds the entries that wait to be written, in bytes.
	DefaultQueue = 8 << 20
)

// minMaxSize is the smallest file that works: bbolt needs room for a copy of what
// a transaction changes.
const minMaxSize = 1 << 20

type options struct {
	maxSize int64
	memory  int64
	queue   int64
	log     *slog.Logger
	now     func() time.Time
	machine bool // now is time.Now

	readBudget time.Duration // longer only in tests, on machines that are busy
	hang       time.Duration // shorter only in tests

	// For tests: called before each read of the file, and around each commit with
	// the name of the moment; an error is taken for one of the disk's.
	beforeRead func()
	// Called when something was read in line and is not yet believed; nil if nothing is
	// to be read so.
	readInLine func()
	fault      func(moment string) error
}

// An Option changes a default of [Open].
type Option func(*options)

// WithMaxSize bounds the whole store: the file's size in bytes. Entries are
// evicted before it is reached. Zero or less means DefaultMaxSize; what is less
// than 1 MiB means 1 MiB. A file that is larger already grows no further, but
// neither does it shrink.
func WithMaxSize(bytes int64) Option {
	return func(o *options) {
		if bytes <= 0 {
			bytes = DefaultMaxSize
		}
		o.maxSize = max(bytes, minMaxSize)
	}
}

// WithMemory bounds the memory tier in bytes, the copies of entries that are
// served without a look at the file. The default is DefaultMemory; zero or less
// means none.
func WithMemory(bytes int64) Option {
	return func(o *options) { o.memory = max(bytes, 0) }
}

// WithQueue bounds, in bytes, the entries that have been accepted and wait to be
// written. What comes when it is full is kept in memory only. Zero or less means
// DefaultQueue.
func WithQueue(bytes int64) Option {
	return func(o *options) {
		if bytes <= 0 {
			bytes = DefaultQueue
		}
		o.queue = bytes
	}
}

// WithLogger sets where the store says what happens to its file: opened, held by
// another process, set aside. The default, and what nil means, is
// slog.Default().
func WithLogger(log *slog.Logger) Option {
	return func(o *options) { o.log = log }
}

// WithClock sets the clock by which entries expire and are swept. The default,
// and what nil means, is time.Now. How long a read or a wait may take is measured
// by the machine's own clock all the same.
func WithClock(now func() time.Time) Option {
	return func(o *options) { o.now = now }
}

func makeOptions(opts []Option) options {
	o := options{
		maxSize: DefaultMaxSize, memory: DefaultMemory, queue: DefaultQueue, readBudget: readBudget, hang: hang,
		beforeRead: func() {},
		readInLine: func() {},
		fault:      func(string) error { return nil },
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.log == nil {
		o.log = slog.Default()
	}
	if o.now == nil {
		o.now, o.machine = time.Now, true
	}
	return o
}
