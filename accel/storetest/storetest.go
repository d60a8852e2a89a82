package storetest

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// Run tests whether the stores that open returns obey the law.
func Run(t *testing.T, open Opener, caps ...Capability) {
	b := &backend{open: open}
	for _, c := range caps {
		c(b)
	}
	for _, r := range []struct {
		name string
		test func(*testing.T, *backend)
	}{
		{"Rule01_RoundTrip", roundTrip},
		{"Rule02_NotFound", notFound},
		{"Rule03_Replacement", replacement},
		{"Rule04_Variants", variants},
		{"Rule05_Invalidate", invalidate},
		{"Rule06_LateStores", lateStores},
		{"Rule07_Strangers", strangers},
		{"Rule08_URLs", urls},
		{"Rule09_Everything", everything},
		{"Rule10_Expire", expire},
		{"Rule11_HigherPosition", higherPosition},
		{"Rule12_Renewal", renewal},
		{"Rule13_Delete", deletion},
		{"Rule14_KeepUntil", keepUntil},
		{"Rule15_Valid", valid},
		{"Rule16_Bounds", bounds},
		{"Rule17_NewestDecides", newestDecides},
		{"Rule18_Close", closing},
		{"Rule19_Context", contexts},
		{"Durability", durability},
		{"Concurrency", concurrency},
		{"Model", model},
	} {
		t.Run(r.name, func(t *testing.T) { r.test(t, b) })
	}
}

// A fixture is a store under test, with the words the rules are written in.
type fixture struct {
	*testing.T
	accel.Store
	clock *Clock
	b     *backend
	ctx   context.Context
	held  []accel.Position
}

func (b *backend) start(t *testing.T, maxSize int64) *fixture {
	t.Helper()
	f := &fixture{T: t, clock: NewClock(), b: b, ctx: context.Background()}
	f.Store = b.open(t, Options{Now: f.clock.Now, MaxSize: maxSize})
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return f
}

// reopen is false if the store cannot.
func (f *fixture) reopen() bool {
	f.Helper()
	if f.b.reopen == nil {
		return false
	}
	f.Store = f.b.reopen(f.T, f.Store)
	return true
}

// begin holds a position until release.
func (f *fixture) begin() accel.Position {
	at := f.Begin()
	f.held = append(f.held, at)
	return at
}

// release lets go what begin holds.
func (f *fixture) release() {
	for _, at := range f.held {
		f.End(at)
	}
	f.held = nil
}

// n returns the number of the last invalidation.
func (f *fixture) n() uint64 {
	at := f.Begin()
	f.End(at)
	return at.N
}

func (f *fixture) put(es ...*accel.Entry) {
	f.Helper()
	for _, e := range es {
		require.NoError(f, f.Put(e, nil), "Put of %q", e.Resource)
	}
}

func (f *fixture) refuses(err error, e, old *accel.Entry) {
	f.Helper()
	require.ErrorIs(f, f.Put(e, old), err, "Put of %q", e.Resource)
}

func (f *fixture) finds(e *accel.Entry) accel.Found {
	f.Helper()
	found, err := f.Get(f.ctx, e.Key, e.Vary)
	require.NoError(f, err, "Get of %q", e.Resource)
	require.Empty(f, Diff(e, found.Entry))
	require.Nil(f, found.Vary)
	require.Zero(f, found.Now, "by the suite's clock")
	return found
}

func (f *fixture) fresh(es ...*accel.Entry) {
	f.Helper()
	for _, e := range es {
		require.True(f, f.finds(e).StaleSince.IsZero(), "%q is stale", e.Resource)
	}
}

func (f *fixture) misses(es ...*accel.Entry) {
	f.Helper()
	for _, e := range es {
		found, err := f.Get(f.ctx, e.Key, e.Vary)
		require.ErrorIs(f, err, accel.ErrNotFound, "Get of %q", e.Resource)
		require.Nil(f, found.Entry)
		require.True(f, found.StaleSince.IsZero())
	}
}

func (f *fixture) invalidate(marks ...accel.Mark) {
	f.Helper()
	require.NoError(f, f.Invalidate(f.ctx, marks...))
}

func (f *fixture) expire(marks ...accel.Mark) {
	f.Helper()
	require.NoError(f, f.Expire(f.ctx, marks...))
}

// sweep waits until the sweeper has gone round, if it can.
func (f *fixture) sweep() {
	if f.b.sweep != nil {
		f.b.sweep(f.Store)
	}
}

// eventually waits for what happens in the background.
func (f *fixture) eventually(what string, cond func() bool) {
	f.Helper()
	f.sweep()
	if f.b.sweep != nil {
		require.True(f, cond(), what)
		return
	}
	require.Eventually(f, cond, 10*time.Second, 10*time.Millisecond, what)
}

// everyState runs check now, after a sweep, after one that may forget marks
// because no position is held any more, and after the store was opened again,
// as far as it can: what holds must go on holding.
func (f *fixture) everyState(check func()) {
	f.Helper()
	check()
	f.sweep()
	check()
	f.release()
	f.sweep()
	check()
	if f.reopen() {
		check()
		f.sweep()
		check()
	}
}

func roundTrip(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	full := Full(at)
	bare := Entry("/", At(at), Text(""), func(e *accel.Entry) { e.Header, e.Length = nil, -1 })
	zero := Entry("/zero-times", At(at), Times(time.Time{}, time.Time{}, Start.Add(time.Hour)))
	large := Entry("/large", At(at), Size(1<<20))
	f.put(full, bare, zero, large)
	f.everyState(func() { f.fresh(full, bare, zero, large) })

	t.Run("Immutable", func(t *testing.T) {
		f := b.start(t, 0)
		e := Full(f.begin())
		f.put(e)
		f.everyState(func() { f.finds(e) })
		require.Empty(t, Diff(Full(e.At), e), "the store has written to the entry")
	})
}

func notFound(t *testing.T, b *backend) {
	f := b.start(t, 0)
	check := func(key accel.Key, vary []string) {
		t.Helper()
		found, err := f.Get(f.ctx, key, vary)
		require.ErrorIs(t, err, accel.ErrNotFound)
		require.Equal(t, accel.Found{}, found)
	}
	check(Key("/a", ""), nil)
	check(accel.Key{}, nil)
	check(Key("/a", "en"), []string{"Accept-Language"})
	f.put(Entry("/b", At(f.begin())))
	check(Key("/a", ""), nil)
	check(Key("https://example.org/b", ""), nil)
	check(Key("http://example.com/b", ""), nil)
}

func replacement(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	one := Entry("/a", At(at), Tags("old", "both"), Text("one"))
	two := Entry("/a", At(at), Tags("new", "both"), Text("two, and longer"))
	f.put(one)
	f.fresh(one)
	f.put(two)
	f.fresh(two)
	f.invalidate(accel.TagMark("old"))
	f.everyState(func() { f.fresh(two) })

	f.invalidate(accel.TagMark("new"))
	f.everyState(func() { f.misses(two) })
	three := Entry("/a", At(f.begin()), Text("three"))
	f.put(three)
	f.everyState(func() { f.fresh(three) })
}

func variants(t *testing.T, b *backend) {
	lang, agent := Vary("Accept-Language"), Vary("Accept-Language", "User-Agent")

	t.Run("Names", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		en, de := Entry("/a", At(at), Variant("en"), lang), Entry("/a", At(at), Variant("de"), lang)
		f.put(en, de)
		f.everyState(func() {
			f.fresh(en, de)
			for _, vary := range [][]string{nil, {"User-Agent"}, {"Accept-Language", "User-Agent"}} {
				for _, key := range []accel.Key{Key("/a", ""), Key("/a", "fr"), en.Key} {
					found, err := f.Get(f.ctx, key, vary)
					require.ErrorIs(t, err, accel.ErrNotFound)
					require.Equal(t, accel.Found{Vary: en.Vary}, found, "asked with %q", vary)
				}
			}
			f.misses(Entry("/a", Variant("fr"), lang))
			found, _ := f.Get(f.ctx, Key("/a", "fr"), en.Vary)
			require.Nil(t, found.Vary, "the names are the right ones")
		})
	})

	t.Run("OtherNames", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		en, de := Entry("/a", At(at), Variant("en"), lang), Entry("/a", At(at), Variant("de"), lang)
		curl := Entry("/a", At(at), Variant("de\ncurl"), agent)
		f.put(en, de, curl)
		f.everyState(func() {
			f.fresh(curl)
			f.misses(en, de)
			found, _ := f.Get(f.ctx, Key("/a", ""), nil)
			require.Equal(t, curl.Vary, found.Vary)
		})
		plain := Entry("/a", At(f.begin()))
		f.put(plain)
		f.everyState(func() {
			f.fresh(plain)
			f.misses(en, de, curl)
		})
		// The variant is the same, but the names are not.
		same := Entry("/a", At(f.begin()), lang)
		f.put(same)
		f.everyState(func() {
			f.fresh(same)
			_, err := f.Get(f.ctx, plain.Key, nil)
			require.ErrorIs(t, err, accel.ErrNotFound)
		})
	})

	t.Run("ThereAndBack", func(t *testing.T) {
		// Who was dropped with the old names does not return with them.
		f := b.start(t, 0)
		at := f.begin()
		en, curl := Entry("/a", At(at), Variant("en"), lang), Entry("/a", At(at), Variant("de\ncurl"), agent)
		de := Entry("/a", At(at), Variant("de"), lang)
		f.put(en, curl, de)
		f.everyState(func() {
			f.fresh(de)
			f.misses(en, curl)
		})
		curl = Entry("/a", At(f.begin()), Variant("de\ncurl"), agent)
		f.put(curl)
		f.everyState(func() { f.fresh(curl) })
		en = Entry("/a", At(f.begin()), Variant("en"), lang)
		f.put(en)
		f.everyState(func() {
			f.fresh(en)
			f.misses(curl, de)
		})
	})

	t.Run("Unknown", func(t *testing.T) {
		// Names that are nobody's any more need not be known, but nothing is
		// returned under them, and new ones can come.
		f := b.start(t, 0)
		en := Entry("/a", At(f.begin()), Variant("en"), lang)
		f.put(en)
		require.NoError(t, f.Delete(en))
		f.misses(en)
		plain := Entry("/a", At(f.begin()))
		f.put(plain)
		f.everyState(func() { f.fresh(plain) })
	})

	t.Run("Bound", func(t *testing.T) {
		f := b.start(t, 0)
		var es []*accel.Entry
		for i := range accel.MaxVariants + 3 {
			// Whatever a store takes for age, the later one is younger.
			f.clock.Advance(time.Second)
			now := f.clock.Now()
			es = append(es, Entry("/a", At(f.begin()), Variant(strconv.Itoa(i)), Vary("User-Agent"),
				Tags("t", "agent:"+strconv.Itoa(i)), Times(now, now.Add(time.Hour), now.Add(time.Hour))))
			f.put(es[i])
			f.expire(accel.TagMark("unrelated"))
		}
		// A store that writes behind knows how many there are when it writes.
		f.eventually("the oldest are gone", func() bool {
			for _, e := range es[:3] {
				if _, err := f.Get(f.ctx, e.Key, e.Vary); err == nil {
					return false
				}
			}
			return true
		})
		f.everyState(func() {
			f.misses(es[:3]...)
			f.fresh(es[3:]...)
		})
		f.put(Entry("/a", At(f.begin()), Variant("5"), Vary("User-Agent"), Text("again")))
		f.fresh(es[3], es[4], es[6]) // a replacement is no one more
		f.invalidate(accel.TagMark("t"))
		f.everyState(func() { f.misses(es[3], es[4], es[6]) })
	})
}

func invalidate(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	x := Entry("/x", At(at), Tags("x"))
	xy := Entry("/xy", At(at), Tags("y", "x"))
	y := Entry("/y", At(at), Tags("y"))
	none := Entry("/none", At(at))
	variant := Entry("/v", At(at), Variant("en"), Vary("Accept-Language"), Tags("x"))
	f.put(x, xy, y, none, variant)
	f.invalidate(accel.TagMark("x"))
	f.everyState(func() {
		f.misses(x, xy, variant)
		f.fresh(y, none)
	})

	at = f.begin()
	later := Entry("/x", At(at), Tags("x"), Text("later"))
	f.put(later)
	f.everyState(func() { f.fresh(later, y, none) })

	f.invalidate(accel.TagMark("z"), accel.TagMark("y"))
	f.everyState(func() {
		f.misses(y)
		f.fresh(later, none)
	})
	f.invalidate(accel.TagMark("x")) // a second time
	f.everyState(func() {
		f.misses(later)
		f.fresh(none)
	})

	// A tag is neither a URL nor a target of that name.
	f.invalidate(accel.TagMark("/none"), accel.TagMark(none.Resource))
	f.fresh(none)
}

func lateStores(t *testing.T, b *backend) {
	for name, mark := range map[string]accel.Mark{
		"Tag": accel.TagMark("x"), "URL": URLMark("/a"), "Target": TargetMark("/a"), "All": accel.MarkAll,
	} {
		t.Run(name, func(t *testing.T) {
			f := b.start(t, 0)
			at := f.begin()
			late := Entry("/a", At(at), Tags("x"), Text("late"))
			f.invalidate(mark)
			f.refuses(accel.ErrInvalidated, late, nil)
			f.everyState(func() { f.misses(late) })

			now := Entry("/a", At(f.begin()), Tags("x"), Text("in time"))
			f.put(now)
			f.everyState(func() { f.fresh(now) })
		})
	}

	t.Run("Others", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		f.invalidate(accel.TagMark("x"), URLMark("/x"), TargetMark("/x"))
		e := Entry("/a", At(at), Tags("y"))
		f.put(e)
		f.everyState(func() { f.fresh(e) })
	})

	t.Run("LeavesTheOlderOne", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		old := Entry("/a", At(at), Text("old"))
		f.put(old)
		f.invalidate(accel.TagMark("x"))
		f.refuses(accel.ErrInvalidated, Entry("/a", At(at), Tags("x")), nil)
		f.everyState(func() { f.fresh(old) })
	})

	t.Run("HeldWhileMarksAreDropped", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		for i := range 10 {
			f.invalidate(accel.TagMark("x"), accel.TagMark(strconv.Itoa(i)))
			f.sweep()
		}
		f.refuses(accel.ErrInvalidated, Entry("/a", At(at), Tags("x")), nil)
		f.refuses(accel.ErrInvalidated, Entry("/a", At(at), Tags("3")), nil)
		e := Entry("/a", At(at), Tags("y"))
		f.put(e)
		f.fresh(e)
	})

	t.Run("NotHeld", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.Begin()
		f.End(at)
		f.invalidate(accel.TagMark("x"))
		f.sweep()
		f.sweep()
		f.refuses(accel.ErrInvalidated, Entry("/a", At(at), Tags("x")), nil)
		f.misses(Entry("/a"))
		f.End(at) // once too often: no harm
		f.End(accel.Position{})
		f.End(accel.Position{Epoch: at.Epoch, N: 1 << 60})
		e := Entry("/a", At(f.begin()), Tags("x"))
		f.put(e)
		f.fresh(e)
	})

	t.Run("HeldTwice", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.Begin()
		require.Equal(t, at, f.begin())
		f.End(at)
		f.invalidate(accel.TagMark("x"))
		f.sweep()
		e := Entry("/a", At(at), Tags("y"))
		f.put(e) // held by the other one still
		f.fresh(e)
	})
}

func strangers(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	f.invalidate(accel.TagMark("x"))
	now := f.begin()
	require.NotZero(t, now.Epoch)
	require.Equal(t, at.Epoch, now.Epoch)
	require.Equal(t, at.N+1, now.N)
	for _, p := range []accel.Position{
		{},
		{N: now.N},
		{Epoch: now.Epoch + 1, N: now.N},
		{Epoch: now.Epoch - 1, N: now.N},
		{Epoch: now.Epoch, N: now.N + 1},
		{Epoch: now.Epoch, N: 1<<64 - 1},
	} {
		e := Entry("/a", At(p))
		f.refuses(accel.ErrInvalidated, e, nil)
		f.misses(e)
		require.False(t, f.Valid(p, e.Marks), "%+v", p)
	}
	other := b.start(t, 0)
	require.NotEqual(t, now.Epoch, other.begin().Epoch)
	other.refuses(accel.ErrInvalidated, Entry("/a", At(at)), nil)

	if f.reopen() {
		f.refuses(accel.ErrInvalidated, Entry("/a", At(now)), nil)
		again := f.begin()
		require.NotEqual(t, now.Epoch, again.Epoch)
		require.GreaterOrEqual(t, again.N, now.N, "a number fell")
	}
}

func urls(t *testing.T, b *backend) {
	lang := Vary("Accept-Language")
	build := func(t *testing.T) (f *fixture, here, elsewhere, others []*accel.Entry) {
		f = b.start(t, 0)
		at := At(f.begin())
		here = []*accel.Entry{
			Entry("/a?b=1", at, lang, Variant("en")), Entry("/a?b=1", at, lang, Variant("de")),
		}
		elsewhere = []*accel.Entry{Entry("https://example.org/a?b=1", at), Entry("http://example.com/a?b=1", at)}
		others = []*accel.Entry{Entry("/a?b=2", at), Entry("/a", at), Entry("/ab=1", at), Entry("/a?b=1&c", at)}
		for _, es := range [][]*accel.Entry{here, elsewhere, others} {
			f.put(es...)
		}
		return f, here, elsewhere, others
	}
	t.Run("URL", func(t *testing.T) {
		f, here, elsewhere, others := build(t)
		f.invalidate(URLMark("/a?b=1"))
		f.everyState(func() {
			f.misses(here...)
			f.fresh(elsewhere...)
			f.fresh(others...)
		})
	})
	t.Run("Target", func(t *testing.T) {
		f, here, elsewhere, others := build(t)
		f.invalidate(TargetMark("/a?b=1"))
		f.everyState(func() {
			f.misses(here...)
			f.misses(elsewhere...)
			f.fresh(others...)
		})
	})
	t.Run("Expire", func(t *testing.T) {
		f, here, elsewhere, others := build(t)
		f.expire(URLMark("/a?b=1"))
		f.everyState(func() {
			for _, e := range here {
				require.True(t, f.finds(e).StaleSince.Equal(Start))
			}
			f.fresh(elsewhere...)
			f.fresh(others...)
		})
	})
}

func everything(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	var es []*accel.Entry
	for i := range 20 {
		es = append(es, Entry("/"+strconv.Itoa(i), At(at), Tags(strconv.Itoa(i))))
	}
	f.put(es...)
	f.invalidate(accel.TagMark("3"), accel.MarkAll)
	f.everyState(func() { f.misses(es...) })
	e := Entry("/1", At(f.begin()))
	f.put(e)
	f.everyState(func() { f.fresh(e) })
	f.invalidate(accel.MarkAll)
	f.everyState(func() { f.misses(e) })
	f.eventually("the space is reclaimed", func() bool { return f.Stats().Entries == 0 })
}

func expire(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	x, y := Entry("/x", At(at), Tags("x")), Entry("/y", At(at), Tags("y"))
	f.put(x, y)
	first := f.clock.Now()
	f.expire(accel.TagMark("x"))
	f.clock.Advance(time.Minute)
	late := Entry("/late", At(at), Tags("x"))
	f.put(late) // it refuses no Put
	stale := func(e *accel.Entry, since time.Time) {
		t.Helper()
		got := f.finds(e).StaleSince
		require.True(t, got.Equal(since), "stale since %v, want %v", got, since)
	}
	f.everyState(func() {
		stale(x, first)
		stale(late, first) // begun before
		f.fresh(y)
	})
	f.expire(accel.TagMark("x"))
	f.everyState(func() { stale(x, first) })

	// It does not touch what was begun after it.
	x2 := Entry("/x", At(f.begin()), Tags("x"), Text("after"))
	f.put(x2)
	f.everyState(func() { f.fresh(x2, y) })

	f.clock.Advance(time.Minute)
	f.expire(accel.MarkAll)
	since := f.clock.Now()
	f.everyState(func() { stale(y, since) })

	// Gone is more than stale.
	f.invalidate(accel.TagMark("x"))
	f.everyState(func() { f.misses(x2) })
	stale(y, since)
}

func higherPosition(t *testing.T, b *backend) {
	f := b.start(t, 0)
	early := f.begin()
	f.invalidate(accel.TagMark("unrelated"))
	now := f.begin()
	newer := Entry("/a", At(now), Text("newer"))
	older := Entry("/a", At(early), Text("older"))
	f.put(newer)
	f.refuses(accel.ErrInvalidated, older, nil)
	f.everyState(func() { f.fresh(newer) })

	now = f.begin()
	one, two := Entry("/b", At(now), Text("one")), Entry("/b", At(now), Text("two"))
	f.put(one, two)
	f.everyState(func() { f.fresh(two) })
}

func renewal(t *testing.T, b *backend) {
	renew := func(old *accel.Entry, at accel.Position, opts ...EntryOption) *accel.Entry {
		later := old.Date.Add(time.Minute)
		opts = append([]EntryOption{
			At(at), Tags(old.Tags...), Times(later, later.Add(time.Hour), later.Add(2*time.Hour)),
			func(e *accel.Entry) {
				e.Bodies, e.Length = old.Bodies, old.Length
				e.Header = []accel.Field{{Name: "Content-Type", Values: []string{"text/renewed"}}}
			},
		}, opts...)
		return Entry("/a", opts...)
	}
	t.Run("Stores", func(t *testing.T) {
		f := b.start(t, 0)
		old := Entry("/a", At(f.begin()), Tags("x"))
		f.put(old)
		f.invalidate(accel.TagMark("unrelated"))
		f.expire(accel.TagMark("x"))
		e := renew(old, f.begin(), Tags("x", "y"))
		require.NoError(t, f.Put(e, f.finds(old).Entry))
		f.everyState(func() { f.fresh(e) })
		f.invalidate(accel.TagMark("y"))
		f.everyState(func() { f.misses(e) })
	})
	t.Run("AfterReopening", func(t *testing.T) {
		f := b.start(t, 0)
		old := Entry("/a", At(f.begin()), Tags("x"))
		f.put(old)
		if !f.reopen() {
			t.Skip("not durable")
		}
		e := renew(old, f.begin())
		require.NoError(t, f.Put(e, f.finds(old).Entry))
		f.everyState(func() { f.fresh(e) })
	})
	t.Run("OldInvalid", func(t *testing.T) {
		f := b.start(t, 0)
		old := Entry("/a", At(f.begin()), Tags("x", "y"))
		f.put(old)
		f.invalidate(accel.TagMark("y"))
		e := renew(old, f.begin())
		f.refuses(accel.ErrInvalidated, e, old)
		f.everyState(func() { f.misses(e) })
	})
	t.Run("NewLate", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		old := Entry("/a", At(at), Tags("x"))
		f.put(old)
		f.invalidate(accel.TagMark("y"))
		f.refuses(accel.ErrInvalidated, renew(old, at, Tags("x", "y")), old)
		f.everyState(func() { f.fresh(old) })
	})
	t.Run("MarksMissing", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		old := Entry("/a", At(at), Tags("x", "y"))
		f.put(old)
		f.refuses(accel.ErrInvalidated, renew(old, at, Tags("x")), old)
		f.everyState(func() { f.fresh(old) })
	})
	t.Run("Replaced", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		old := Entry("/a", At(at))
		other := Entry("/a", At(at), Text("another"))
		f.put(old, other)
		f.refuses(accel.ErrInvalidated, renew(old, at), old)
		f.everyState(func() { f.fresh(other) })
	})
	t.Run("Gone", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		old := Entry("/a", At(at))
		f.put(old)
		require.NoError(t, f.Delete(old))
		e := renew(old, at)
		f.refuses(accel.ErrInvalidated, e, old)
		f.everyState(func() { f.misses(e) })
	})
	t.Run("OtherKey", func(t *testing.T) {
		f := b.start(t, 0)
		at := f.begin()
		old := Entry("/b", At(at))
		f.put(old)
		e := renew(old, at)
		f.refuses(accel.ErrInvalidated, e, old)
		f.misses(e)
		f.fresh(old)
	})
}

func deletion(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	en := Entry("/a", At(at), Variant("en"), Vary("Accept-Language"), Tags("x"))
	de := Entry("/a", At(at), Variant("de"), Vary("Accept-Language"), Tags("x"))
	f.put(en, de)
	require.NoError(t, f.Delete(f.finds(en).Entry))
	f.everyState(func() {
		f.misses(en)
		f.fresh(de)
	})
	require.NoError(t, f.Delete(en), "nothing there")

	// The version that was deleted is not the one that is there.
	at = f.begin()
	one, two := Entry("/b", At(at), Text("one")), Entry("/b", At(at), Text("two"))
	f.put(one)
	had := f.finds(one).Entry
	f.put(two)
	require.NoError(t, f.Delete(had))
	require.NoError(t, f.Delete(one))
	f.everyState(func() { f.fresh(two) })
	require.NoError(t, f.Delete(f.finds(two).Entry))
	f.everyState(func() { f.misses(two) })
}

func keepUntil(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	short := Entry("/short", At(at), Tags("x"), KeepUntil(Start.Add(time.Minute)))
	long := Entry("/long", At(at), Tags("x"))
	f.put(short, long)
	f.clock.Advance(time.Minute - 1)
	f.everyState(func() { f.fresh(short, long) })
	f.clock.Advance(2)
	f.everyState(func() {
		f.misses(short)
		f.fresh(long)
	})
	f.clock.Advance(2 * time.Hour)
	f.misses(short, long)
	at = f.begin()
	for i := range 200 {
		f.put(Entry("/"+strconv.Itoa(i), At(at), KeepUntil(f.clock.Now().Add(time.Minute))))
	}
	f.clock.Advance(time.Hour)
	f.eventually("the space is reclaimed", func() bool { return f.Stats().Entries == 0 })
}

func valid(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	marks := Entry("/a", Tags("x", "y")).Marks
	require.True(t, f.Valid(at, marks))
	require.True(t, f.Valid(at, nil))
	f.invalidate(accel.TagMark("z"))
	f.expire(accel.TagMark("x"))
	f.sweep()
	require.True(t, f.Valid(at, marks))
	f.invalidate(accel.TagMark("y"))
	f.sweep()
	require.False(t, f.Valid(at, marks))
	require.True(t, f.Valid(at, Entry("/a", Tags("x")).Marks))
	require.True(t, f.Valid(f.begin(), marks))
	f.invalidate(URLMark("/a"))
	require.False(t, f.Valid(at, Entry("/a", Tags("x")).Marks))
	require.True(t, f.Valid(at, Entry("/b", Tags("x")).Marks))
	f.invalidate(accel.MarkAll)
	require.False(t, f.Valid(at, nil))
	at = f.begin()
	require.True(t, f.Valid(at, marks))
	if f.reopen() {
		require.False(t, f.Valid(at, marks))
	}
}

func bounds(t *testing.T, b *backend) {
	const bound = 4 << 20
	f := b.start(t, bound)
	at := f.begin()
	for i := range 800 {
		e := Entry("/"+strconv.Itoa(i), At(at), Tags("x"), Size(20_000))
		if err := f.Put(e, nil); err != nil {
			require.ErrorIs(t, err, accel.ErrBusy)
			continue
		}
		f.finds(e)
	}
	f.eventually("within the bound", func() bool { return f.Stats().Bytes <= bound*11/10 })
	st := f.Stats()
	require.Positive(t, st.Entries, "%+v", st)
	require.Positive(t, st.Evicted, "%+v", st)

	small := Entry("/a", At(at), Text("small"))
	f.put(small)
	huge := Entry("/a", At(at), Size(2*bound))
	f.refuses(accel.ErrTooLarge, huge, nil)
	f.everyState(func() { f.misses(small) })
}

func newestDecides(t *testing.T, b *backend) {
	f := b.start(t, 2<<20)
	at := f.begin()
	const keys = 20
	url := func(i int) string { return "/k" + strconv.Itoa(i) }
	latest := map[string]*accel.Entry{}
	check := func() {
		t.Helper()
		for i := range keys {
			found, err := f.Get(f.ctx, Key(url(i), ""), nil)
			if err != nil {
				require.ErrorIs(t, err, accel.ErrNotFound)
				continue
			}
			require.Empty(t, Diff(latest[url(i)], found.Entry), "an older version")
		}
	}
	for v := range 6 {
		for i := range keys {
			e := Entry(url(i), At(at), Text(fmt.Sprintf("version %d of %d", v, i)))
			latest[url(i)] = e
			if err := f.Put(e, nil); err != nil {
				require.ErrorIs(t, err, accel.ErrBusy)
				latest[url(i)] = nil // the newest was dropped: nothing may answer
			}
		}
		check()
		for i := range 60 { // what displaces some of them, perhaps from one tier only
			_ = f.Put(Entry(fmt.Sprintf("/room/%d/%d", v, i), At(at), Size(40_000)), nil)
		}
		check()
		if v%2 == 1 {
			f.sweep()
			check()
		}
		if v == 3 && f.reopen() {
			check()
			at = f.begin()
		}
	}
}

func closing(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.Begin()
	e := Entry("/a", At(at), Tags("x"))
	f.put(e)
	require.NoError(t, f.Close())
	require.NoError(t, f.Close(), "a second time")
	_, err := f.Get(f.ctx, e.Key, nil)
	require.ErrorIs(t, err, accel.ErrClosed)
	require.ErrorIs(t, f.Put(e, nil), accel.ErrClosed)
	require.ErrorIs(t, f.Put(Entry("/a", At(at)), e), accel.ErrClosed)
	require.ErrorIs(t, f.Delete(e), accel.ErrClosed)
	require.ErrorIs(t, f.Invalidate(f.ctx, accel.TagMark("x")), accel.ErrClosed)
	require.ErrorIs(t, f.Expire(f.ctx, accel.TagMark("x")), accel.ErrClosed)
	require.False(t, f.Valid(at, e.Marks))
	require.Equal(t, accel.Position{}, f.Begin())
	f.End(at)
	f.Stats()
	if f.reopen() {
		f.fresh(e)
	}
}

func contexts(t *testing.T, b *backend) {
	f := b.start(t, 0)
	at := f.begin()
	x, y, z := Entry("/x", At(at), Tags("x")), Entry("/y", At(at), Tags("y")), Entry("/z", At(at))
	f.put(x, y, z)
	gone, cancel := context.WithCancel(f.ctx)
	cancel()
	for _, err := range []error{f.Invalidate(gone, accel.TagMark("x")), f.Expire(gone, accel.TagMark("y"))} {
		if err != nil {
			require.ErrorIs(t, err, context.Canceled)
		}
	}
	f.everyState(func() {
		f.misses(x)
		require.False(t, f.finds(y).StaleSince.IsZero())
		f.fresh(z)
	})
}

// durability is rules 5 to 10 over an opening: what was acknowledged holds in
// the next one, however long ago it was and whatever was swept.
func durability(t *testing.T, b *backend) {
	if b.reopen == nil {
		t.Skip("not durable")
	}
	f := b.start(t, 0)
	at := f.begin()
	x, y, z := Entry("/x", At(at), Tags("x")), Entry("/y", At(at), Tags("y")), Entry("/z", At(at))
	f.put(x, y, z)
	last := uint64(0)
	for i := range 4 {
		f.reopen()
		require.GreaterOrEqual(t, f.n(), last, "a number fell")
		f.fresh(z)
		switch i {
		case 0:
			f.invalidate(accel.TagMark("x"))
		case 1:
			f.expire(accel.TagMark("y"))
		case 2:
			f.sweep()
		case 3:
			f.invalidate(accel.TagMark("unrelated"))
		}
		last = f.n()
		f.misses(x)
		if i > 0 {
			require.True(t, f.finds(y).StaleSince.Equal(Start))
		}
	}
	f.invalidate(accel.MarkAll)
	f.reopen()
	f.misses(x, y, z)
}
