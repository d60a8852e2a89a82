package marks_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
)

// The tests are named after the rules of docs/design.md, section 4. Rules that
// this package has no part in are tested where they are kept:
//
//	 7  the newest version decides    boltstore/rules_test.go, TestRule07_...; here only that a refusal leaves nothing behind
//	10  errors of the disk            boltstore/rules_test.go, TestRule10_...; here only what is owed, and Reset
//	11  the file is still the file    boltstore/rules_test.go, TestRule11_...
//	12  marks are guarded             boltstore/rules_test.go, TestRule12_...; here only positions above the store's own
//	13  nesting                       accel, TestRule13_NestedCaches

var (
	tagA   = accel.TagMark("a")
	tagB   = accel.TagMark("b")
	target = accel.TargetMark("/p")
	url    = accel.URLMark("http", "h", "/p")
	start  = time.Unix(1e9, 0)
)

// collide returns the mark of a URL that has a tag's hash.
func collide(tag accel.Mark) accel.Mark {
	u := url
	u.Hash = tag.Hash
	return u
}

func at(n uint64) accel.Position { return accel.Position{Epoch: 1, N: n} }

func entry(at accel.Position, carries ...accel.Mark) *accel.Entry {
	return &accel.Entry{At: at, Marks: hashes(carries...)}
}

func hashes(carries ...accel.Mark) (list []accel.Hash) {
	for _, mk := range carries {
		list = append(list, mk.Hash)
	}
	return list
}

func stored() error { return nil }

// valid judges an entry as a look-up that begins now does.
func valid(m *marks.Marks, n uint64, carries ...accel.Mark) bool {
	return m.CheckRead(m.Gen(), n, hashes(carries...)).Valid
}

// staleSince returns since when an entry is stale that is valid.
func staleSince(t *testing.T, m *marks.Marks, n uint64, carries ...accel.Mark) time.Time {
	t.Helper()
	v := m.CheckRead(m.Gen(), n, hashes(carries...))
	require.True(t, v.Valid)
	return v.StaleSince
}

// write does what the writer does: it pays the debt.
func write(m *marks.Marks) { m.Paid(m.Owed()) }

// clean does what the sweeper does on a disk without entries.
func clean(m *marks.Marks) { m.Cleaned(m.Pending(1 << 20)...) }

// forget takes every mark as far through its life as it goes, with nothing in
// memory, and returns how many rows are left.
func forget(m *marks.Marks, now time.Time) int {
	write(m)
	clean(m)
	m.Drop(m.Prunable(now))
	rows, _ := m.Len()
	return rows
}

func TestRule01_PositionsAreNeverReused(t *testing.T) {
	m := marks.New(1, 0, 0)
	assert.EqualValues(t, 1, m.Invalidate(tagA))
	assert.EqualValues(t, 2, m.Expire(start, tagA), "an expiry is a number of its own")
	assert.EqualValues(t, 3, m.Invalidate(accel.MarkAll))
	assert.EqualValues(t, 3, m.Owed().Seq, "the disk learns of every number that was given out")
	assert.Equal(t, at(3), m.Begin(start))

	m.Reset(2)
	assert.EqualValues(t, 4, m.N(), "a new file does not start anew")
	m.Adopt(3, 2, 0, nil)
	assert.GreaterOrEqual(t, m.N(), uint64(4), "a file of less does not lower the number")
	m.Adopt(4, 20, 0, nil)
	assert.GreaterOrEqual(t, m.N(), uint64(20))
	assert.Equal(t, accel.Position{Epoch: 4, N: m.N()}, m.Begin(start))

	t.Run("a position above the store's own was never given out", func(t *testing.T) {
		m := marks.New(1, 5, 0)
		assert.True(t, valid(m, 5, tagA))
		assert.False(t, valid(m, 6, tagA))
		assert.ErrorIs(t, m.Admit(entry(at(6), tagA), nil, false, stored), accel.ErrInvalidated)
		assert.False(t, m.Promote(m.Gen(), entry(at(6), tagA), func(time.Time) {}))
	})

	// What a file holds may be above its seq if it is damaged. Numbers from
	// there on would be given out twice, and a later mark would be lower than
	// the one it replaces.
	t.Run("bug: Adopt of marks or a floor above seq", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Adopt(1, 3, 9, nil)
		assert.EqualValues(t, 9, m.N())
		assert.True(t, valid(m, m.Begin(start).N, tagA))
		m = marks.New(1, 0, 0)
		m.Adopt(1, 3, 0, []marks.Row{{Mark: tagA, Hard: 7}, {Mark: tagB, Soft: 8}})
		assert.EqualValues(t, 8, m.N())
		assert.Greater(t, m.Invalidate(tagA), uint64(8))
	})
}

func TestRule02_APositionOfAnotherEpochIsNeverStored(t *testing.T) {
	// A rolling restart: the new process begins at 0, the old one invalidates,
	// sweeps and prunes, the new one opens and stores what it rendered before.
	m := marks.New(1, 0, 0)
	before := m.Begin(start)
	m.Adopt(2, 0, 0, nil)
	after := m.Begin(start)
	require.Equal(t, before.N, after.N, "only the epoch tells them apart")

	assert.ErrorIs(t, m.Admit(entry(before, tagA), nil, true, stored), accel.ErrInvalidated)
	assert.False(t, m.Valid(before, hashes(tagA)))
	assert.NoError(t, m.Admit(entry(after, tagA), nil, true, stored))
	assert.True(t, m.Valid(after, hashes(tagA)))

	t.Run("and lets nothing go that is held in this one", func(t *testing.T) {
		m.Invalidate(tagA)
		m.End(before)
		_, held := m.Len()
		assert.Equal(t, 1, held)
		m.End(after)
		_, held = m.Len()
		assert.Equal(t, 0, held)
		m.Release(before)
		assert.Equal(t, 1, forget(m, start), "the queued entry still needs the mark")
		m.Release(after)
		assert.Equal(t, 0, forget(m, start))
	})

	t.Run("after Reset neither", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.Reset(2)
		assert.False(t, m.Valid(p, hashes(tagA)))
		assert.False(t, m.Valid(accel.Position{Epoch: 1, N: m.N()}, hashes(tagA)))
		_, held := m.Len()
		assert.Zero(t, held)
	})
}

func TestRule03_MarksOnlyGrow(t *testing.T) {
	m := marks.New(1, 0, 0)
	m.Invalidate(tagA)
	old := m.Pending(1)
	require.Len(t, old, 1)
	debt := m.Owed()
	m.Invalidate(tagA)

	t.Run("what was swept is forgotten only if it is still so", func(t *testing.T) {
		m.Cleaned(old...)
		assert.Len(t, m.Pending(10), 1, "the disk may hold an entry at 1")
		assert.Len(t, m.Owed().Rows, 1)
		m.Paid(debt)
		assert.Len(t, m.Owed().Rows, 1, "the second mark is not on disk")

		write(m)
		clean(m)
		pruning := m.Prunable(start)
		require.Len(t, pruning, 1)
		m.Invalidate(tagA)
		m.Drop(pruning)
		assert.False(t, valid(m, 2, tagA), "a mark made while memory was scanned")
	})

	t.Run("an entry begun at a mark is not older than it", func(t *testing.T) {
		assert.True(t, valid(m, m.N(), tagA))
		m.Invalidate(tagB)
		assert.True(t, valid(m, m.N()-1, tagA))
		assert.False(t, valid(m, m.N()-1, tagB))
		r := marks.Row{Hard: 5, Soft: 7}
		assert.True(t, r.Strikes(4))
		assert.False(t, r.Strikes(5))
		assert.True(t, r.Stales(6))
		assert.False(t, r.Stales(7))
	})

	t.Run("a file's marks and memory's", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		m.Adopt(2, 10, 0, []marks.Row{{Mark: tagA, Hard: 4, Soft: 6, Since: start}, {Mark: tagB, Hard: 9}})
		rows := m.Pending(10)
		slices.SortFunc(rows, func(a, b marks.Row) int { return int(b.Hard) - int(a.Hard) })
		assert.Equal(t, []marks.Row{{Mark: tagA, Hard: 11, Soft: 6, Since: start}, {Mark: tagB, Hard: 9}}, rows)
		assert.False(t, valid(m, 8, tagB))
		assert.True(t, valid(m, 9, tagB))
	})

	t.Run("the floor does not sink", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(accel.MarkAll)
		write(m)
		m.Adopt(2, 10, 0, nil)
		assert.EqualValues(t, 1, m.Floor())
		m.Adopt(3, 10, 5, nil)
		assert.EqualValues(t, 5, m.Floor())
		assert.False(t, valid(m, 4))
	})
}

func TestRule04_AMarkLeavesMemoryLast(t *testing.T) {
	t.Run("not before the disk is clean", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		assert.Empty(t, m.Prunable(start))
		write(m)
		assert.Empty(t, m.Prunable(start), "written down is not cleaned")
		clean(m)
		assert.Empty(t, m.Pending(10))
		assert.False(t, valid(m, 0, tagA), "the disk is clean, but memory is not")
		pruning := m.Prunable(start)
		assert.Len(t, pruning, 1)
		assert.False(t, valid(m, 0, tagA), "memory is being scanned")
		m.Drop(pruning)
		rows, _ := m.Len()
		assert.Zero(t, rows)
	})

	t.Run("not before older flights have ended", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		q := m.Begin(start)
		m.Invalidate(tagA)
		assert.Equal(t, 1, forget(m, start))
		m.End(p)
		assert.Equal(t, 1, forget(m, start))
		assert.False(t, m.Valid(q, hashes(tagA)))
		assert.True(t, m.Valid(q, hashes(tagB)))
		m.End(q)
		assert.Equal(t, 0, forget(m, start))
	})

	t.Run("not before older entries have left the queue", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		require.NoError(t, m.Admit(entry(p, tagA), nil, true, stored))
		require.NoError(t, m.Admit(entry(p, tagB), nil, true, stored))
		require.NoError(t, m.Admit(entry(p, tagB), nil, false, stored), "memory alone needs no hold")
		m.End(p)
		m.Invalidate(tagA)
		m.Release(p)
		assert.Equal(t, 1, forget(m, start))
		assert.False(t, m.Check(p.N, p.N, hashes(tagA)).Valid, "the writer's check before the flush")
		m.Release(p)
		assert.Equal(t, 0, forget(m, start))
	})

	t.Run("a flight at the mark needs it not", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		p := m.Begin(start)
		assert.Equal(t, 0, forget(m, start))
		assert.True(t, m.Valid(p, hashes(tagA)))
	})

	t.Run("who let its position go is refused from then on", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.End(p)
		assert.NoError(t, m.Admit(entry(p, tagA), nil, false, stored), "nothing was forgotten yet")
		m.Invalidate(tagA)
		require.Equal(t, 0, forget(m, start))
		assert.ErrorIs(t, m.Admit(entry(p, tagB), nil, false, stored), accel.ErrInvalidated)
		assert.False(t, m.Valid(p, hashes(tagB)))
	})

	t.Run("a read that began before is refused", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		gen := m.Gen()
		e := entry(at(0), tagA) // copied from the disk
		m.Invalidate(tagA)
		assert.False(t, m.CheckRead(gen, e.At.N, e.Marks).Valid)
		assert.False(t, m.Promote(gen, e, func(time.Time) { t.Error("promoted") }))
		assert.True(t, m.CheckRead(gen, e.At.N, hashes(tagB)).Valid)
		require.Equal(t, 0, forget(m, start))
		assert.False(t, m.CheckRead(gen, e.At.N, e.Marks).Valid)
		assert.False(t, m.Promote(gen, e, func(time.Time) { t.Error("promoted") }))
	})

	t.Run("nor may a read outlive its file", func(t *testing.T) {
		m := marks.New(1, 3, 0)
		gen := m.Gen()
		m.Adopt(2, 3, 0, nil)
		assert.False(t, m.CheckRead(gen, 3, hashes(tagA)).Valid)
		assert.False(t, m.Promote(gen, entry(at(3), tagA), func(time.Time) { t.Error("promoted") }))
	})

	// The generation used to change when pruning began, before memory was
	// scanned. A reader of memory that took it after that, found the copy, and
	// was overtaken by scan and Drop, saw an unchanged generation and no mark.
	t.Run("bug: a reader of memory between Prunable and Drop", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA) // a copy at 0 is in memory and stays there
		write(m)
		clean(m)
		pruning := m.Prunable(start)
		gen := m.Gen() // the reader begins, and finds the copy
		m.Drop(pruning)
		assert.False(t, m.CheckRead(gen, 0, hashes(tagA)).Valid)
	})

	t.Run("a pruning that drops nothing disturbs no reader", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		gen := m.Gen()
		m.Drop(m.Prunable(start))
		assert.Equal(t, gen, m.Gen())
	})
}

func TestRule05_HardAndSoftAreTwoMarks(t *testing.T) {
	first, second := start.Add(time.Second), start.Add(2*time.Second)

	t.Run("a soft mark refuses nothing", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.Expire(first, tagA)
		assert.NoError(t, m.Admit(entry(p, tagA), entry(p, tagA), true, stored))
		assert.True(t, m.Valid(p, hashes(tagA)))
		assert.True(t, m.Promote(m.Gen(), entry(p, tagA), func(since time.Time) {
			assert.True(t, first.Equal(since), "but goes with the copy")
		}))
		assert.Equal(t, 1, forget(m, start), "and is remembered as long as a hard one")
	})

	t.Run("it makes stale what was begun before it, since the first", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Expire(first, tagA)
		m.Expire(second, tagA)
		m.Expire(second, tagB)
		assert.True(t, first.Equal(staleSince(t, m, 0, tagA)))
		assert.True(t, second.Equal(staleSince(t, m, 0, tagB)))
		assert.True(t, first.Equal(staleSince(t, m, 0, tagB, tagA)), "the earliest of all")
		assert.True(t, first.Equal(staleSince(t, m, 0, tagA, tagB)))
		assert.True(t, staleSince(t, m, 2, tagA).IsZero())
		assert.True(t, staleSince(t, m, 0, target).IsZero())
	})

	t.Run("it hides no hard mark, nor the other way round", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		m.Expire(first, tagA)
		assert.False(t, valid(m, 0, tagA))
		assert.True(t, first.Equal(staleSince(t, m, 1, tagA)))
		m.Expire(first, tagB)
		m.Invalidate(tagB)
		assert.False(t, valid(m, 3, tagB))
		assert.True(t, staleSince(t, m, 4, tagB).IsZero())
	})

	t.Run("of everything", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Expire(first, accel.MarkAll)
		assert.True(t, first.Equal(staleSince(t, m, 0)))
		assert.True(t, staleSince(t, m, 1).IsZero())
		assert.Zero(t, m.Floor())
		assert.Empty(t, m.Pending(10), "no index leads to its entries")
		assert.Equal(t, 1, forget(m, start))
		r := m.Owed().Rows
		assert.Empty(t, r, "it was written")

		next := marks.New(2, 0, 0)
		next.Adopt(2, 1, 0, []marks.Row{{Mark: accel.MarkAll, Soft: 1, Since: first}})
		assert.True(t, first.Equal(staleSince(t, next, 0)), "and read")
		next.Invalidate(accel.MarkAll)
		rows, _ := next.Len()
		assert.Zero(t, rows, "the floor has passed it")
	})

	// The writer found no index row of MarkAll on disk, took its mark for
	// needless, and reported it cleaned: a crash undid the expiry.
	t.Run("bug: an expiry of everything is never needless", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Expire(first, accel.MarkAll)
		m.Cleaned(m.Owed().Rows...)
		assert.Len(t, m.Owed().Rows, 1)
		assert.Empty(t, m.Prunable(start))
	})

	// The horizon used to rise when the mark was dropped. An entry that came
	// between the scan and that, at a position that nobody held, was stored
	// without its staleness, which then was forgotten.
	t.Run("bug: a Put during the scan at a position let go", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.End(p)
		m.Expire(first, tagA)
		write(m)
		clean(m)
		pruning := m.Prunable(start)
		require.Len(t, pruning, 1)
		assert.ErrorIs(t, m.Admit(entry(p, tagA), nil, false, stored), accel.ErrInvalidated)
		m.Drop(pruning)
	})

	t.Run("a row compares with itself after its time was kept", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Expire(time.Now(), tagA) // with a monotonic reading
		r := m.Owed().Rows[0]
		assert.Equal(t, r.Since, r.Since.Round(0))
	})
}

func TestRule06_ARenewalNeedsBothValid(t *testing.T) {
	m := marks.New(1, 0, 0)
	require.NoError(t, m.Admit(entry(at(0), tagA), nil, false, stored))
	old := entry(at(0), tagA)
	m.Expire(start, tagA)
	p := m.Begin(start)
	assert.NoError(t, m.Admit(entry(p, tagA, tagB), old, false, stored), "stale is what a renewal is for")

	m.Invalidate(tagB)
	assert.ErrorIs(t, m.Admit(entry(p, tagA, tagB), old, false, stored), accel.ErrInvalidated, "the new tags")

	q := m.Begin(start)
	m.Invalidate(tagA)
	assert.ErrorIs(t, m.Admit(entry(q, tagA, tagB), old, false, stored), accel.ErrInvalidated, "the old tags at the new position")

	r := m.Begin(start)
	assert.True(t, m.Valid(r, hashes(tagA, tagB)))
	assert.ErrorIs(t, m.Admit(entry(r, tagA, tagB), old, false, stored), accel.ErrInvalidated, "the old entry itself")
}

func TestRule07_ARefusalLeavesNothingBehind(t *testing.T) {
	m := marks.New(1, 0, 0)
	p := m.Begin(start)
	full := errors.New("full")
	assert.ErrorIs(t, m.Admit(entry(p, tagA), nil, true, func() error { return full }), full)
	m.Invalidate(tagA)
	assert.ErrorIs(t, m.Admit(entry(p, tagA), nil, true, func() error { t.Error("stored"); return nil }), accel.ErrInvalidated)
	m.End(p)
	assert.Equal(t, 0, forget(m, start), "no position is held for what is not in the queue")
}

func TestRule08_AURLIsTwoMarks(t *testing.T) {
	other := accel.URLMark("http", "other", "/p")
	m := marks.New(1, 0, 0)
	m.Invalidate(url)
	assert.False(t, valid(m, 0, url, target, tagA))
	assert.True(t, valid(m, 0, other, target, tagA), "another host")
	m.Invalidate(target)
	assert.False(t, valid(m, 1, url, target))
	assert.False(t, valid(m, 1, other, target))
	var got []accel.Mark
	for _, r := range m.Pending(10) {
		got = append(got, r.Mark)
	}
	assert.ElementsMatch(t, []accel.Mark{url, target}, got, "the sweeper is told where their entries stand")
}

func TestRule09_TheFloor(t *testing.T) {
	t.Run("InvalidateAll is the floor", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.Invalidate(tagA)
		n := m.Invalidate(accel.MarkAll)
		assert.Equal(t, n, m.Floor())
		assert.False(t, valid(m, 1))
		assert.True(t, valid(m, 2))
		assert.False(t, m.Valid(p, nil))
		rows, _ := m.Len()
		assert.Zero(t, rows, "it stands for the marks below it")
	})

	t.Run("it is owed until it is paid", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		assert.True(t, m.Owed().Empty())
		m.Invalidate(accel.MarkAll)
		first := m.Owed()
		assert.False(t, first.Empty())
		assert.Equal(t, marks.Debt{Floor: 1, NewFloor: true, Seq: 1}, first)
		m.Invalidate(accel.MarkAll)
		m.Paid(first)
		assert.Equal(t, marks.Debt{Floor: 2, NewFloor: true, Seq: 2}, m.Owed(), "not by the payment of a lower one")
		write(m)
		assert.True(t, m.Owed().Empty())
	})

	t.Run("too many marks raise it", func(t *testing.T) {
		m := marks.New(1, 0, 3)
		m.Invalidate(tagA, tagB)
		m.Invalidate(target)
		assert.Zero(t, m.Floor())
		n := m.Invalidate(url)
		assert.Equal(t, n, m.Floor())
		assert.False(t, valid(m, n-1))
		assert.True(t, valid(m, n, tagA))
		d := m.Owed()
		assert.Empty(t, d.Rows)
		assert.True(t, d.NewFloor)
	})

	t.Run("a mark that the disk needs not is not owed, but remembered", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		m.Cleaned(m.Owed().Rows...)
		assert.True(t, m.Owed().Empty())
		assert.False(t, valid(m, 0, tagA))
	})

	t.Run("the map shrinks", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		for i := range 5000 {
			m.Invalidate(accel.TagMark(fmt.Sprint(i)))
		}
		assert.Equal(t, 5000, m.Peak())
		assert.Equal(t, 0, forget(m, start))
		assert.Zero(t, m.Peak())
	})

	t.Run("a handler that hangs loses its right to store", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		hung := m.Begin(start)
		m.Invalidate(tagA)
		p := m.Begin(start.Add(time.Minute))
		m.Invalidate(tagB)
		assert.Equal(t, 2, forget(m, start.Add(marks.Lapse)))
		assert.True(t, m.Valid(hung, hashes(target)))

		now := start.Add(marks.Lapse + time.Second)
		assert.Equal(t, 1, forget(m, now), "the mark that it held up is dropped")
		assert.False(t, m.Valid(hung, hashes(target)))
		assert.ErrorIs(t, m.Admit(entry(hung, target), nil, false, stored), accel.ErrInvalidated)
		assert.True(t, m.Valid(p, hashes(target)), "and nobody else pays")
		m.End(hung)
		m.End(p)
		_, held := m.Len()
		assert.Zero(t, held)
	})

	t.Run("it loses it before memory is scanned, even if no mark is dropped", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		hung := m.Begin(start)
		m.Invalidate(tagA)
		m.Prunable(start.Add(time.Hour))
		assert.False(t, m.Valid(hung, hashes(target)))
	})

	t.Run("at the present number nothing is held up", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.Prunable(start.Add(time.Hour))
		assert.True(t, m.Valid(p, nil))
		assert.True(t, m.Valid(m.Begin(start.Add(time.Hour)), nil))
	})

	// The row is kept by hash. A tag and a URL of one hash took turns in it:
	// the URL's entries were swept, and the tag's mark was dropped with it.
	t.Run("bug: two marks of one hash", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA) // an entry at 0 is on disk
		m.Invalidate(collide(tagA))
		forget(m, start)
		assert.False(t, valid(m, 0, tagA))
		assert.True(t, valid(m, m.N(), tagA))
		assert.Equal(t, m.N(), m.Floor())

		m = marks.New(1, 0, 0)
		m.Invalidate(collide(tagA))
		m.Adopt(2, 5, 0, []marks.Row{{Mark: tagA, Hard: 5}})
		write(m)
		forget(m, start)
		assert.False(t, valid(m, 4, tagA), "one of them in a file")
	})

	t.Run("marks made after it are marks", func(t *testing.T) {
		m := marks.New(1, 0, 3)
		m.Invalidate(accel.MarkAll)
		m.Invalidate(tagA)
		assert.False(t, valid(m, 1, tagA))
		assert.True(t, valid(m, 1, tagB))
		assert.Len(t, m.Owed().Rows, 1)
	})
}

func TestRule10_WhatIsNotDurableIsOwed(t *testing.T) {
	m := marks.New(1, 0, 0)
	m.Invalidate(tagA)
	m.Expire(start, tagB)
	failed := m.Owed()
	assert.Len(t, failed.Rows, 2)
	assert.Len(t, m.Owed().Rows, 2, "a transaction that failed pays nothing")

	m.Reset(2) // the file is set aside
	n := m.N()
	assert.False(t, valid(m, n-1))
	assert.True(t, valid(m, n))
	assert.Equal(t, marks.Debt{Floor: n, NewFloor: true, Seq: n}, m.Owed(), "the new file owes it the floor")
	m.Paid(failed)
	assert.True(t, m.Owed().NewFloor, "and the old file pays nothing any more")
	assert.Equal(t, accel.Position{Epoch: 2, N: n}, m.Begin(start))
}

func TestRule12_APositionAboveTheFilesIsInvalid(t *testing.T) {
	m := marks.New(1, 0, 0)
	m.Adopt(2, 4, 0, nil)
	assert.True(t, valid(m, 4))
	assert.False(t, valid(m, 5), "its transaction was rolled back with the number")
}

func TestRule14_MarksMadeBeforeTheFileWasThere(t *testing.T) {
	t.Run("strike everything that it holds", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		m.Expire(start, tagB)
		m.Adopt(2, 100, 0, nil)
		assert.False(t, valid(m, 100, tagA))
		assert.True(t, start.Equal(staleSince(t, m, 100, tagB)))
		assert.True(t, valid(m, 100, target))
		d := m.Owed()
		assert.Len(t, d.Rows, 2)
		assert.Equal(t, m.N(), d.Seq)
		p := m.Begin(start)
		assert.True(t, m.Valid(p, hashes(tagA)), "what is begun now is newer")
		assert.Len(t, m.Pending(10), 2)
	})

	t.Run("everything is everything", func(t *testing.T) {
		for _, seq := range []uint64{0, 100} {
			m := marks.New(1, 0, 0)
			m.Invalidate(accel.MarkAll)
			m.Adopt(2, seq, 0, []marks.Row{{Mark: tagA, Hard: seq}})
			assert.False(t, valid(m, seq))
			assert.Equal(t, m.N(), m.Floor())
			assert.True(t, m.Owed().NewFloor)
			assert.True(t, m.Valid(m.Begin(start), nil))
		}
	})

	t.Run("a file that was cleaned of them before needs cleaning again", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Invalidate(tagA)
		clean(m)
		m.Adopt(2, 5, 0, []marks.Row{{Mark: tagA, Hard: 1}})
		assert.Len(t, m.Pending(10), 1)
		assert.Empty(t, m.Prunable(start))
	})

	t.Run("without any the number stays", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		m.Adopt(2, 7, 0, nil)
		assert.EqualValues(t, 7, m.N())
		assert.True(t, valid(m, 7))
		assert.True(t, m.Owed().Empty())
	})

	t.Run("and what was begun before may not be stored", func(t *testing.T) {
		m := marks.New(1, 0, 0)
		p := m.Begin(start)
		m.Adopt(2, 0, 0, nil)
		assert.ErrorIs(t, m.Admit(entry(p, tagA), nil, false, stored), accel.ErrInvalidated)
		assert.NoError(t, m.Admit(entry(accel.Position{Epoch: 2, N: 0}, tagA), nil, false, stored))
		m.Adopt(3, 7, 0, nil)
		assert.False(t, m.Valid(accel.Position{Epoch: 3, N: 6}, nil), "nothing is known of the marks up to 7")
	})
}

// TestCheckRemembersHowFarItLooked shows the fast path: an entry that was valid
// up to the present number is not looked at again, one that is stale is.
func TestCheckRemembersHowFarItLooked(t *testing.T) {
	m := marks.New(1, 0, 0)
	m.Invalidate(tagA)
	v := m.Check(0, 0, hashes(tagB))
	assert.Equal(t, marks.Verdict{Valid: true, UpTo: 1}, v)
	assert.Equal(t, marks.Verdict{Valid: true, UpTo: 1}, m.Check(0, v.UpTo, hashes(tagB)))
	m.Invalidate(tagB)
	assert.Equal(t, marks.Verdict{}, m.Check(0, v.UpTo, hashes(tagB)))
	m.Expire(start, target)
	v = m.Check(0, 0, hashes(target))
	assert.True(t, v.Valid)
	assert.True(t, start.Equal(v.StaleSince))
	assert.EqualValues(t, 3, v.UpTo)
}

// TestInterleavings goes through the races of tag invalidation that are known
// from other caches and from model checking, one by one. C is the commit in the
// application, I its invalidation, R what the handler reads, S the store, L a
// look-up.
func TestInterleavings(t *testing.T) {
	type testCase struct {
		name  string
		run   func(t *testing.T, m *marks.Marks)
		where string // the test is, if it cannot be here
	}
	// fill is R C I: a response that was begun before an invalidation.
	fill := func(m *marks.Marks) *accel.Entry {
		e := entry(m.Begin(start), tagA)
		m.Invalidate(tagA)
		return e
	}
	refused := func(t *testing.T, m *marks.Marks, e *accel.Entry) {
		t.Helper()
		assert.ErrorIs(t, m.Admit(e, nil, true, func() error { t.Error("stored"); return nil }), accel.ErrInvalidated)
	}
	for i, tc := range []testCase{
		{name: "R C I S", run: func(t *testing.T, m *marks.Marks) {
			refused(t, m, fill(m))
		}},
		{name: "R C I S of a key that no index knows", run: func(t *testing.T, m *marks.Marks) {
			e := entry(m.Begin(start)) // its tags are known only after the handler ran
			m.Invalidate(tagA)
			e.Marks = hashes(tagA)
			refused(t, m, e)
		}},
		{name: "stamped at S instead of before R", run: func(t *testing.T, m *marks.Marks) {
			e := fill(m)
			other := m.Begin(start) // somebody else's begin moves nothing
			assert.NotEqual(t, other, e.At)
			refused(t, m, e)
		}},
		{name: "delete, S, mark", run: func(t *testing.T, m *marks.Marks) {
			// There is no gap: a mark is all that an invalidation is.
			e := entry(m.Begin(start), tagA)
			require.NoError(t, m.Admit(e, nil, true, stored))
			m.Invalidate(tagA)
			assert.False(t, valid(m, e.At.N, tagA))
		}},
		{name: "check, I, S", run: func(t *testing.T, m *marks.Marks) {
			e := entry(m.Begin(start), tagA)
			begun, done := make(chan struct{}), make(chan uint64)
			go func() { <-begun; done <- m.Invalidate(tagA) }()
			require.NoError(t, m.Admit(e, nil, true, func() error {
				close(begun)
				assert.Equal(t, e.At.N, m.N(), "no invalidation comes between check and store")
				return nil
			}))
			<-done
			assert.False(t, valid(m, e.At.N, tagA))
		}},
		{name: "R C I, then a follower", run: func(t *testing.T, m *marks.Marks) {
			e := fill(m)
			follower := m.Begin(start)
			assert.NotEqual(t, e.At, follower, "an invalidation lay between")
			assert.False(t, m.Valid(e.At, e.Marks))
		}},
		{name: "R C I, a follower, another I", run: func(t *testing.T, m *marks.Marks) {
			e := fill(m)
			follower := m.Begin(start)
			m.Invalidate(tagA)
			assert.NotEqual(t, e.At, follower)
			assert.False(t, m.Valid(e.At, e.Marks))
		}},
		{name: "the mark forgotten before S", run: func(t *testing.T, m *marks.Marks) {
			e := fill(m)
			forget(m, start)
			refused(t, m, e)
			m.End(e.At)
			forget(m, start)
			refused(t, m, e)
		}},
		{name: "written behind after I", run: func(t *testing.T, m *marks.Marks) {
			e := entry(m.Begin(start), tagA)
			require.NoError(t, m.Admit(e, nil, true, stored))
			m.Invalidate(tagA)
			assert.False(t, m.Check(e.At.N, e.At.N, e.Marks).Valid)
		}},
		{name: "the mark forgotten while S is queued", run: func(t *testing.T, m *marks.Marks) {
			e := entry(m.Begin(start), tagA)
			require.NoError(t, m.Admit(e, nil, true, stored))
			m.End(e.At)
			m.Invalidate(tagA)
			forget(m, start)
			assert.False(t, m.Check(e.At.N, e.At.N, e.Marks).Valid)
		}},
		{name: "I, kill -9", run: func(t *testing.T, m *marks.Marks) {
			n := m.Invalidate(tagA)
			d := m.Owed() // is durable before I returns
			next := marks.New(2, 0, 0)
			next.Adopt(2, d.Seq, d.Floor, d.Rows)
			assert.False(t, valid(next, n-1, tagA))
		}},
		{name: "a refresh that began before C", run: func(t *testing.T, m *marks.Marks) {
			old := entry(m.Begin(start), tagA)
			require.NoError(t, m.Admit(old, nil, false, stored))
			refused(t, m, fill(m))
		}},
		{name: "the purged entry served stale", run: func(t *testing.T, m *marks.Marks) {
			m.Expire(start, tagA)
			assert.True(t, valid(m, 0, tagA))
			m.Invalidate(tagA)
			assert.False(t, valid(m, 0, tagA))
		}},
		{name: "a promotion while I runs", run: func(t *testing.T, m *marks.Marks) {
			gen := m.Gen()
			e := entry(at(m.N()), tagA)
			m.Invalidate(tagA)
			assert.False(t, m.Promote(gen, e, func(time.Time) { t.Error("promoted") }))
		}},
		{name: "two processes, marks of their own", where: "redisstore, when there is one"},
		{name: "two processes, memory of their own", where: "redisstore, when there is one"},
		{name: "I before C", where: "nowhere: the application commits first"},
		{name: "R from a lagging replica", where: "nowhere: data read outside the handler is outside the promise"},
		{name: "a 304 renews what was purged meanwhile", run: func(t *testing.T, m *marks.Marks) {
			old := entry(m.Begin(start), tagA)
			m.Invalidate(tagA)
			renewed := entry(m.Begin(start), tagA)
			assert.ErrorIs(t, m.Admit(renewed, old, false, stored), accel.ErrInvalidated)
		}},
		{name: "a purge while the application is down", run: func(t *testing.T, m *marks.Marks) {
			m.Adopt(2, 8, 0, []marks.Row{{Mark: tagA, Hard: 8}}) // as the CLI wrote it
			assert.False(t, valid(m, 7, tagA))
			assert.True(t, valid(m, 7, tagB))
		}},
		{name: "I fails to be written", run: func(t *testing.T, m *marks.Marks) {
			write(m)
			m.Invalidate(tagA)
			m.Owed() // the transaction fails
			assert.False(t, valid(m, m.N()-1, tagA))
			assert.Len(t, m.Owed().Rows, 1)
		}},
		{name: "purge of everything", run: func(t *testing.T, m *marks.Marks) {
			e := entry(m.Begin(start), tagA)
			m.Invalidate(accel.MarkAll)
			refused(t, m, e)
			assert.False(t, valid(m, e.At.N))
		}},
	} {
		t.Run(fmt.Sprintf("%02d %s", i+1, tc.name), func(t *testing.T) {
			if tc.run == nil {
				t.Skip("tested ", tc.where)
			}
			m := marks.New(1, 0, 0)
			m.Invalidate(target) // not everything is at 0
			tc.run(t, m)
		})
	}
}
