package linear

import (
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/point"
	"github.com/accelhttp/accelerator/memstore"
)

// A setting is what histories are made in.
type setting struct {
	name   string
	policy accel.Policy
	open   func(dir string, log *slog.Logger) (accel.Store, error)

	pages       int
	ttl, window time.Duration // of pages
	lasting     bool          // every second one is fresh for an hour
	patience    time.Duration // of followers; 0: the usual
	slow        time.Duration // how long a handler takes at most
	calm        time.Duration // how long a writer rests at most; readers half of it
	loose       bool          // a page does not always carry the same tags
	ordered     bool          // what a key holds never goes back in its position

	spans map[point.Interval]time.Duration
	// hot are the places at which it pays to wait for up to long; of each batch of
	// histories some are chosen.
	hot  []point.Place
	long time.Duration
}

var inMiddleware = []point.Place{
	point.LookUp, point.Begun, point.NothingFound, point.HandlerBegins, point.HandlerDone,
	point.Putting, point.Sharing, point.Landed, point.RefreshBegins, point.Renewing, point.MarkSet,
}

var inMemory = append([]point.Place{point.MemoryFound, point.Pruning, point.Scanned}, inMiddleware...)

var onDisk = append([]point.Place{
	point.MemoryFound, point.QueueFound, point.DiskFound, point.DiskJudged, point.Reading,
	point.Flushing, point.Flushed, point.Settled, point.Striking, point.Struck, point.Pruning, point.Scanned,
}, inMiddleware...)

func inMem(string, *slog.Logger) (accel.Store, error) { return memstore.New(), nil }

func onFile(opts ...boltstore.Option) func(string, *slog.Logger) (accel.Store, error) {
	return func(dir string, log *slog.Logger) (accel.Store, error) {
		s := boltstore.Open(filepath.Join(dir, "cache.db"), append([]boltstore.Option{
			boltstore.WithLogger(log), boltstore.WithMaxSize(64 << 20),
		}, opts...)...)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return s, s.Ping(ctx)
	}
}

const ms = time.Millisecond

// quick lets happen all the time what otherwise happens now and then.
var quick = map[point.Interval]time.Duration{
	point.SweepEvery: ms, point.PruneEvery: ms, point.FlushAfter: 2 * ms,
	point.SettleAfter: 2 * ms,
}

func and(spans map[point.Interval]time.Duration, more map[point.Interval]time.Duration) map[point.Interval]time.Duration {
	all := make(map[point.Interval]time.Duration)
	for _, m := range []map[point.Interval]time.Duration{spans, more} {
		for i, d := range m {
			all[i] = d
		}
	}
	return all
}

var settings = []*setting{
	{
		name: "memory", pages: few, open: inMem, ordered: true, lasting: true,
		ttl: 15 * ms, window: 10 * ms, slow: 3 * ms, calm: 6 * ms,
		spans: quick, hot: inMemory, long: 8 * ms,
	},
	{
		// Handlers lose their right to store, all the time.
		name: "lapsing", pages: few, open: inMem, ordered: true, lasting: true,
		ttl: 15 * ms, window: 10 * ms, slow: 10 * ms, calm: 8 * ms,
		spans: and(quick, map[point.Interval]time.Duration{point.Lapse: ms}), hot: inMemory, long: 12 * ms,
	},
	{
		// No memory tier: all that is found is in the queue or on disk.
		name: "disk", pages: few, open: onFile(boltstore.WithMemory(0)), ordered: true, lasting: true,
		ttl: 20 * ms, window: 10 * ms, slow: 3 * ms, calm: 10 * ms,
		spans: quick, hot: onDisk, long: 20 * ms,
	},
	{
		// Entries wait in the queue for long.
		name: "queue", pages: few, open: onFile(boltstore.WithMemory(0)), ordered: true, lasting: true,
		ttl: 20 * ms, window: 10 * ms, slow: 3 * ms, calm: 10 * ms,
		spans: and(quick, map[point.Interval]time.Duration{point.FlushAfter: 40 * ms}), hot: onDisk, long: 20 * ms,
	},
	{
		// A memory tier in which two entries have room: they come and go.
		name: "tiers", pages: few, open: onFile(boltstore.WithMemory(4 << 10)), ordered: true, lasting: true,
		ttl: 20 * ms, window: 10 * ms, slow: 3 * ms, calm: 10 * ms,
		spans: quick, hot: onDisk, long: 20 * ms,
	},
	{
		// The same with so little to do that marks are soon forgotten, and so many pages
		// that one is not asked for again at once.
		name: "calm", pages: 24, open: onFile(boltstore.WithMemory(8 << 10)), ordered: true, lasting: true,
		ttl: 100 * ms, window: 50 * ms, calm: 160 * ms,
		spans: quick, hot: onDisk, long: 60 * ms,
	},
	{
		// Pages do not always carry the same tags.
		name: "loose", pages: few, open: onFile(boltstore.WithMemory(0)), loose: true,
		ttl: 10 * ms, window: 10 * ms, slow: 3 * ms, calm: 10 * ms,
		spans: quick, hot: onDisk, long: 15 * ms,
	},
	{
		// Nor do they here, and the queue is too small.
		name: "overflow", pages: few, open: onFile(boltstore.WithMemory(4<<10), boltstore.WithQueue(4<<10)), loose: true, lasting: true,
		ttl: 15 * ms, window: 10 * ms, slow: 3 * ms, calm: 10 * ms,
		spans: and(quick, map[point.Interval]time.Duration{point.FlushAfter: 15 * ms}), hot: onDisk, long: 15 * ms,
	},
	{
		// Followers do not wait for long, so that several handlers run for one key.
		name: "impatient", pages: few, open: inMem, ordered: true, patience: ms,
		ttl: 10 * ms, window: 5 * ms, slow: 8 * ms, calm: 4 * ms,
		spans: quick, hot: inMemory, long: 8 * ms,
	},
	{
		name: "impatient-on-disk", pages: few, open: onFile(boltstore.WithMemory(0)), ordered: true, patience: ms,
		ttl: 10 * ms, window: 5 * ms, slow: 8 * ms, calm: 6 * ms,
		spans: quick, hot: onDisk, long: 15 * ms,
	},
	{
		name: "renewals", pages: few, open: inMem, policy: accel.RFC9111, ordered: true,
		ttl: 5 * ms, window: 3 * ms, slow: 4 * ms, calm: 6 * ms,
		spans: quick, hot: inMemory, long: 8 * ms,
	},
	{
		name: "renewals-on-disk", pages: few, open: onFile(boltstore.WithMemory(4 << 10)), policy: accel.RFC9111, ordered: true,
		ttl: 5 * ms, window: 3 * ms, slow: 4 * ms, calm: 10 * ms,
		spans: quick, hot: onDisk, long: 15 * ms,
	},
}

func settingOf(name string) *setting {
	for _, s := range settings {
		if s.name == name {
			return s
		}
	}
	panic("no setting " + name)
}
