package marks_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
)

// TestModel drives a toy store, in which every goroutine of a real one is cut
// into its steps, through random interleavings of them. An oracle that knows
// when each entry was begun and when each mark was made looks at every verdict:
// no copy, wherever it is, may be taken for valid once it is struck, nor for
// fresh once it is expired, not by a reader who picked it up long ago either,
// nor after a crash, nor after a take-over by another process.
//
// Run it with -rapid.checks=20000 after a change.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		for range 150 {
			w.tick++
			switch rapid.SampledFrom(acts).Draw(t, "act") {
			case "begin":
				w.begin(w, t)
			case "put":
				w.land(t, nil)
			case "renew":
				w.renew(t)
			case "end early":
				w.end(t)
			case "follow":
				w.follow(t)
			case "settle":
				w.settle(t)
			case "invalidate":
				w.mark(w, t, false)
			case "expire":
				w.mark(w, t, true)
			case "evict":
				delete(w.memory, w.key(t))
			case "write":
				w.write(t)
			case "sweep":
				w.sweep(t)
			case "prune":
				w.prune()
			case "look up":
				w.lookUp(t)
			case "look at marks":
				w.finish(t)
			case "wait":
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 200).Draw(t, "seconds")) * time.Second)
			case "rare":
				w.rare(t)
			}
			w.examine(t)
		}
	})
}

// acts has each act as often as it is likely.
var acts = slices.Concat(
	slices.Repeat([]string{"write"}, 6),
	slices.Repeat([]string{"prune"}, 5),
	slices.Repeat([]string{"look up"}, 5),
	slices.Repeat([]string{"begin", "put", "look at marks"}, 3),
	slices.Repeat([]string{"invalidate", "sweep"}, 2),
	[]string{"expire", "renew", "end early", "follow", "settle", "evict", "wait", "rare"},
)

// An item is a copy in memory.
type item struct {
	e       *accel.Entry
	stale   time.Time
	checked uint64
}

// A record is a copy on disk.
type record struct {
	e     *accel.Entry
	stale time.Time
}

// A disk is a file: what it holds between two transactions.
type disk struct {
	seq, floor uint64
	rows       map[accel.Mark]marks.Row
	records    map[accel.Key]record
}

func newDisk() disk {
	return disk{rows: map[accel.Mark]marks.Row{}, records: map[accel.Key]record{}}
}

func (d disk) clone() disk {
	d.rows, d.records = maps.Clone(d.rows), maps.Clone(d.records)
	return d
}

// A tx is a transaction of the writer, half done.
type tx struct {
	disk
	debt    marks.Debt
	cleaned []marks.Row
	batch   []*accel.Entry
	done    int // entries of the batch
	owedAt  int
	commit  bool
}

// A flight is a response in the making, by a leader whose handler runs.
type flight struct {
	e     *accel.Entry
	ended bool
	// joined has the positions at which followers came, and when.
	joined []joined
}

type joined struct {
	at   accel.Position
	tick int
}

// A read is a look-up that found something and has not looked at the marks yet.
type read struct {
	gen  uint64
	e    *accel.Entry
	it   *item // of memory
	disk bool
	rec  record
}

// An event is an invalidation or an expiry, as the oracle knows it.
type event struct {
	mark  accel.Mark
	soft  bool
	tick  int
	time  time.Time
	acked bool
}

// A process is who has marks of its own.
type process struct {
	m       *marks.Marks
	flights []*flight
	log     []*event
}

type world struct {
	process
	next *process // waits for the file

	limit int
	epoch uint64 // of the file
	last  uint64 // epoch given out
	names []accel.Mark

	tick   int
	now    time.Time
	begun  map[*accel.Entry]int          // when the position was taken
	marked map[*accel.Entry][]accel.Mark // what Entry.Marks are the hashes of

	memory map[accel.Key]*item
	queue  []*accel.Entry
	disk   disk
	tx     *tx
	reads  []*read

	pruning map[accel.Hash]marks.Row
	toScan  []*item
}

func newWorld(t *rapid.T) *world {
	w := &world{
		now:    time.Unix(1e9, 0),
		begun:  map[*accel.Entry]int{},
		marked: map[*accel.Entry][]accel.Mark{},
		names:  []accel.Mark{accel.TagMark("a"), accel.TagMark("b"), accel.TargetMark("/"), accel.URLMark("http", "h", "/")},
		limit:  rapid.SampledFrom([]int{3, 100, 100}).Draw(t, "limit"),
		disk:   newDisk(),
	}
	if rapid.IntRange(0, 4).Draw(t, "collide") == 0 {
		w.names[3].Hash = w.names[0].Hash
	}
	w.spawn()
	w.takeOver()
	return w
}

// struck reports whether an entry was invalidated after it was begun.
func (w *world) struck(e *accel.Entry) bool {
	return slices.ContainsFunc(w.log, func(ev *event) bool { return !ev.soft && w.hits(ev, e) })
}

// expired returns when an entry was first expired after it was begun.
func (w *world) expired(e *accel.Entry) (first time.Time) {
	for _, ev := range w.log {
		if ev.soft && w.hits(ev, e) {
			first = earliest(first, ev.time)
		}
	}
	return first
}

func (w *world) hits(ev *event, e *accel.Entry) bool {
	return ev.tick > w.begun[e] && (ev.mark.Kind == accel.KindAll || slices.Contains(w.marked[e], ev.mark))
}

// used is called with what was taken for valid.
func (w *world) used(t *rapid.T, how string, e *accel.Entry, since time.Time) {
	if w.struck(e) {
		t.Fatalf("%s: took an invalidated entry %v for valid", how, e.At)
	}
	if first := w.expired(e); !first.IsZero() && (since.IsZero() || since.After(first)) {
		t.Fatalf("%s: entry %v was expired at %v, is stale since %v", how, e.At, first, since)
	}
}

// examine looks each copy up and says what a request that comes now would get.
func (w *world) examine(t *rapid.T) {
	for _, it := range w.memory {
		w.lookAt(t, "memory", &read{gen: w.m.Gen(), e: it.e, it: it})
	}
	for _, e := range w.queue {
		w.lookAt(t, "queue", &read{gen: w.m.Gen(), e: e})
	}
	for _, r := range w.disk.records {
		w.lookAt(t, "disk", &read{gen: w.m.Gen(), e: r.e, rec: r})
	}
	rows, _ := w.m.Len()
	if rows > w.limit+len(w.names)+1 {
		t.Fatalf("%d rows", rows)
	}
}

func (w *world) lookAt(t *rapid.T, how string, r *read) bool {
	var v marks.Verdict
	if r.it != nil && r.it.checked == w.m.N() {
		v = w.m.Check(r.e.At.N, r.it.checked, r.e.Marks)
	} else {
		v = w.m.CheckRead(r.gen, r.e.At.N, r.e.Marks)
	}
	if !v.Valid {
		return false
	}
	since := earliest(v.StaleSince, r.rec.stale)
	if r.it != nil {
		since = earliest(since, r.it.stale)
		if v.StaleSince.IsZero() {
			r.it.checked = max(r.it.checked, v.UpTo)
		}
	}
	w.used(t, how, r.e, since)
	return true
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Requests.

func (p *process) begin(w *world, t *rapid.T) {
	e := &accel.Entry{Key: w.key(t), At: p.m.Begin(w.now)}
	w.begun[e] = w.tick
	for i, mk := range w.names {
		if rapid.IntRange(0, 1).Draw(t, "carries") == 1 || i == len(w.names)-1 && len(e.Marks) == 0 {
			w.marked[e] = append(w.marked[e], mk)
			e.Marks = append(e.Marks, mk.Hash)
		}
	}
	p.flights = append(p.flights, &flight{e: e})
}

func (w *world) key(t *rapid.T) accel.Key {
	return accel.Key{Target: accel.Hash(rapid.IntRange(1, 3).Draw(t, "key"))}
}

func pick[T any](t *rapid.T, from []T) (one T, i int) {
	if len(from) == 0 {
		return one, -1
	}
	i = rapid.IntRange(0, len(from)-1).Draw(t, "which")
	return from[i], i
}

// end lets a position go too early: the response may still come.
func (w *world) end(t *rapid.T) {
	if f, _ := pick(t, w.flights); f != nil && !f.ended {
		f.ended = true
		w.m.End(f.e.At)
	}
}

func (w *world) land(t *rapid.T, old *item) {
	f, i := pick(t, w.flights)
	if f == nil {
		return
	}
	e := f.e
	var oldEntry *accel.Entry
	if old != nil {
		e.Key, oldEntry = old.e.Key, old.e
		w.marked[e] = append(w.marked[e], w.marked[oldEntry]...)
		e.Marks = append(e.Marks, oldEntry.Marks...)
	}
	queue := rapid.Bool().Draw(t, "queue")
	err := w.m.Admit(e, oldEntry, queue, func() error {
		have := w.memory[e.Key]
		if old != nil && have != old || have != nil && have.e.At.N > e.At.N {
			return accel.ErrInvalidated
		}
		w.memory[e.Key] = &item{e: e}
		if queue {
			w.queue = append(w.queue, e)
		}
		return nil
	})
	if err == nil {
		if e.At.Epoch != w.epoch {
			t.Fatalf("stored an entry of epoch %d in epoch %d", e.At.Epoch, w.epoch)
		}
		w.used(t, "admit", e, w.expired(e)) // a soft mark refuses nothing
		if old != nil && w.struck(oldEntry) {
			t.Fatal("renewed an invalidated entry")
		}
	}
	if !f.ended {
		w.m.End(e.At)
	}
	w.flights = slices.Delete(w.flights, i, i+1)
}

func (w *world) renew(t *rapid.T) {
	if it := w.memory[w.key(t)]; it != nil {
		w.land(t, it)
	}
}

func (w *world) follow(t *rapid.T) {
	if f, _ := pick(t, w.flights); f != nil {
		at := w.m.Begin(w.now)
		w.m.End(at)
		f.joined = append(f.joined, joined{at, w.tick})
	}
}

// settle lets the followers of a flight decide whether its response is theirs.
func (w *world) settle(t *rapid.T) {
	f, _ := pick(t, w.flights)
	if f == nil {
		return
	}
	if w.m.Valid(f.e.At, f.e.Marks) {
		w.used(t, "follower", f.e, w.expired(f.e))
	}
	for _, j := range f.joined {
		for _, ev := range w.log {
			if j.at == f.e.At && !ev.soft && w.hits(ev, f.e) && ev.tick < j.tick {
				t.Fatal("a follower joined a flight that was begun before an invalidation")
			}
		}
	}
	f.joined = nil
}

// Marks.

func (p *process) mark(w *world, t *rapid.T, soft bool) {
	var list []accel.Mark
	for range rapid.IntRange(1, 2).Draw(t, "marks") {
		list = append(list, rapid.SampledFrom(w.names).Draw(t, "mark"))
	}
	if rapid.IntRange(0, 9).Draw(t, "all") == 0 {
		list[0] = accel.MarkAll
	}
	for _, mk := range list {
		p.log = append(p.log, &event{mark: mk, soft: soft, tick: w.tick, time: w.now})
	}
	if soft {
		p.m.Expire(w.now, list...)
	} else {
		p.m.Invalidate(list...)
	}
}

// Memory.

// prune is a step of pruning. What comes to memory after the first is overlooked
// by the scan.
func (w *world) prune() {
	switch {
	case w.pruning == nil:
		if w.pruning = w.m.Prunable(w.now); w.pruning != nil {
			w.toScan = slices.SortedFunc(maps.Values(w.memory), func(a, b *item) int {
				return int(a.e.Key.Target) - int(b.e.Key.Target)
			})
		}
	case len(w.toScan) > 0:
		it := w.toScan[0]
		w.toScan = w.toScan[1:]
		for _, h := range it.e.Marks {
			r, ok := w.pruning[h]
			if ok && r.Strikes(it.e.At.N) && w.memory[it.e.Key] == it {
				delete(w.memory, it.e.Key)
			}
			if ok && r.Stales(it.e.At.N) {
				it.stale = earliest(it.stale, r.Since)
			}
		}
	default:
		w.m.Drop(w.pruning)
		w.pruning = nil
	}
}

// Look-ups in two steps.

func (w *world) lookUp(t *rapid.T) {
	r := &read{gen: w.m.Gen()}
	switch rapid.SampledFrom([]string{"memory", "queue", "disk"}).Draw(t, "tier") {
	case "memory":
		if r.it = w.memory[w.key(t)]; r.it != nil {
			r.e = r.it.e
		}
	case "queue":
		r.e, _ = pick(t, w.queue)
	case "disk":
		r.rec, r.disk = w.disk.records[w.key(t)]
		r.e = r.rec.e
	}
	if r.e != nil {
		w.reads = append(w.reads, r)
	}
}

func (w *world) finish(t *rapid.T) {
	r, i := pick(t, w.reads)
	if r == nil {
		return
	}
	w.reads = slices.Delete(w.reads, i, i+1)
	if r.disk && rapid.Bool().Draw(t, "promote") {
		w.m.Promote(r.gen, r.e, func(since time.Time) {
			since = earliest(since, r.rec.stale)
			w.used(t, "promote", r.e, since)
			if w.memory[r.e.Key] == nil {
				w.memory[r.e.Key] = &item{e: r.e, stale: since}
			}
		})
	}
	w.lookAt(t, "late reader", r)
}

// The writer.

// older returns the keys of the records that a row strikes or makes stale, as
// the index of its mark has them.
func (w *world) older(d disk, r marks.Row) (keys []accel.Key) {
	for k, rec := range d.records {
		if n := rec.e.At.N; (r.Strikes(n) || r.Stales(n)) && slices.Contains(w.marked[rec.e], r.Mark) {
			keys = append(keys, k)
		}
	}
	return keys
}

// write is a step of the writer: it begins a transaction, writes an entry,
// commits, or says what was done.
func (w *world) write(t *rapid.T) {
	x := w.tx
	switch {
	case x == nil:
		n := rapid.IntRange(0, len(w.queue)).Draw(t, "batch")
		x = &tx{disk: w.disk.clone(), batch: slices.Clone(w.queue[:n]), owedAt: w.tick, debt: w.m.Owed()}
		x.seq = x.debt.Seq
		if x.debt.NewFloor {
			x.floor = x.debt.Floor
			maps.DeleteFunc(x.rows, func(_ accel.Mark, r marks.Row) bool { return max(r.Hard, r.Soft) <= x.floor })
		}
		paid := x.debt.Rows[:0:0]
		for _, r := range x.debt.Rows {
			if r.Mark != accel.MarkAll && len(w.older(x.disk, r)) == 0 {
				delete(x.rows, r.Mark)
				x.cleaned = append(x.cleaned, r)
			} else {
				x.rows[r.Mark] = r
				paid = append(paid, r)
			}
		}
		x.debt.Rows = paid
		w.tx = x
	case x.done < len(x.batch):
		e := x.batch[x.done]
		x.done++
		v := w.m.Check(e.At.N, e.At.N, e.Marks)
		if !v.Valid {
			delete(x.records, e.Key)
		} else {
			w.used(t, "flush", e, v.StaleSince)
			x.records[e.Key] = record{e, v.StaleSince}
		}
	case !x.commit:
		for _, r := range x.records {
			if r.e.At.N > x.seq {
				t.Fatalf("position %d on a disk at %d", r.e.At.N, x.seq)
			}
		}
		w.disk, x.commit = x.disk, true
	default:
		w.m.Paid(x.debt)
		w.m.Cleaned(x.cleaned...)
		for _, ev := range w.log {
			ev.acked = ev.acked || ev.tick < x.owedAt
		}
		w.queue = slices.DeleteFunc(w.queue, func(e *accel.Entry) bool { return slices.Contains(x.batch, e) })
		for _, e := range x.batch {
			w.m.Release(e.At)
		}
		w.tx = nil
	}
}

// sweep begins a transaction that deletes what one row strikes.
func (w *world) sweep(t *rapid.T) {
	if w.tx != nil {
		return
	}
	rows := w.m.Pending(100)
	slices.SortFunc(rows, func(a, b marks.Row) int { return int(a.Mark.Kind) - int(b.Mark.Kind) })
	if len(rows) == 0 {
		return
	}
	r, _ := pick(t, rows)
	x := &tx{disk: w.disk.clone()}
	for _, k := range w.older(x.disk, r) {
		rec := x.records[k]
		if r.Strikes(rec.e.At.N) {
			delete(x.records, k)
			continue
		}
		rec.stale = earliest(rec.stale, r.Since)
		x.records[k] = rec
	}
	delete(x.rows, r.Mark)
	x.cleaned = []marks.Row{r}
	w.tx = x
}

// What ends a process.

func (w *world) rare(t *rapid.T) {
	switch rapid.IntRange(0, 5).Draw(t, "rare") {
	case 0: // kill -9, and a new process
		w.spawn()
		w.takeOver()
	case 1: // a second process comes and waits
		w.spawn()
	case 2:
		if w.next != nil {
			w.next.begin(w, t)
		}
	case 3:
		if w.next != nil {
			w.next.mark(w, t, rapid.Bool().Draw(t, "soft"))
		}
	case 4: // the file is damaged and set aside
		w.epoch = w.newEpoch()
		w.m.Reset(w.epoch)
		w.log = append(w.log, &event{mark: accel.MarkAll, tick: w.tick, acked: true})
		w.disk, w.tx = newDisk(), nil
	case 5:
		w.next = nil
	}
}

func (w *world) newEpoch() uint64 {
	w.last++
	return w.last
}

func (w *world) spawn() {
	if w.next == nil {
		w.next = &process{m: marks.New(w.newEpoch(), 0, w.limit)}
	}
}

func (w *world) takeOver() {
	durable := slices.DeleteFunc(w.log, func(ev *event) bool { return !ev.acked })
	w.process, w.next = *w.next, nil
	w.log = append(durable, w.log...)
	w.memory, w.queue, w.tx, w.reads, w.pruning = map[accel.Key]*item{}, nil, nil, nil, nil
	w.epoch = w.newEpoch()
	var rows []marks.Row
	for _, mk := range append(slices.Clone(w.names), accel.MarkAll) {
		if r, ok := w.disk.rows[mk]; ok {
			rows = append(rows, r)
		}
	}
	w.m.Adopt(w.epoch, w.disk.seq, w.disk.floor, rows)
}
