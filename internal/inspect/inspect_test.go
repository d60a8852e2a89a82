//go:build unix

package inspect_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/inspect"
	"github.com/accelhttp/accelerator/internal/marks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	ctx = context.Background()
	now = storetest.Start.Add(30 * time.Minute)
)

// material is Entry.Resource as package accel makes it.
func material(scheme, host, target string) string {
	b := []byte{1}
	for _, f := range []string{scheme, host, target, "", ""} {
		b = append(binary.AppendUvarint(b, uint64(len(f))), f...)
	}
	return string(b)
}

// entry is what the middleware would store of a target at a position.
func entry(target string, n uint64, opts ...storetest.EntryOption) *accel.Entry {
	return storetest.Entry(target, append([]storetest.EntryOption{
		func(e *accel.Entry) { e.Resource = material(storetest.Scheme, storetest.Host, target) },
		storetest.At(accel.Position{Epoch: 1, N: n}),
	}, opts...)...)
}

// write makes a database at seq and floor, and lets fill write into it.
func write(t testing.TB, path string, seq, floor uint64, fill func(*format.Tx)) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoStatistics: true, NoSync: true, FreelistType: bolt.FreelistMapType})
	require.NoError(t, err)
	defer db.Close()
	db.AllocSize = 4096
	info, err := os.Stat(path)
	require.NoError(t, err)
	inode := uint64(info.Sys().(*syscall.Stat_t).Ino)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error { return format.Create(btx, inode, seq, floor) }))
	edit(t, db, fill)
}

func edit(t testing.TB, db *bolt.DB, f func(*format.Tx)) {
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		require.NoError(t, err)
		f(tx)
		return tx.Finish()
	}))
}

func look(t testing.TB, path string) *inspect.Database {
	d, err := inspect.Open(path, now)
	require.NoError(t, err)
	t.Cleanup(func() { d.Close() })
	return d
}

func sum(t testing.TB, path string) string {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	return fmt.Sprintf("%x %s", sha256.Sum256(data), info.ModTime())
}

// graveyard is a database with entries in every state.
func graveyard(t testing.TB) (path string, want map[string]inspect.State, entries []*accel.Entry) {
	path = filepath.Join(t.TempDir(), "cache.db")
	times := func(fresh, keep time.Duration) storetest.EntryOption {
		return storetest.Times(storetest.Start, now.Add(fresh), now.Add(keep))
	}
	want = map[string]inspect.State{}
	write(t, path, 10, 3, func(tx *format.Tx) {
		put := func(s inspect.State, since time.Time, e *accel.Entry) {
			require.NoError(t, tx.Put(e, since))
			want[e.URL()] = s
			entries = append(entries, e)
		}
		put(inspect.Live, time.Time{}, entry("/live", 10, storetest.Tags("a", "b")))
		put(inspect.Live, time.Time{}, entry("/at-the-floor", 3))
		put(inspect.Live, time.Time{}, entry("/at-the-mark", 6, storetest.Tags("struck")))
		put(inspect.Stale, time.Time{}, entry("/stale", 10, times(-time.Second, time.Hour), storetest.Tags("a")))
		put(inspect.Stale, time.Time{}, entry("/stale-now", 10, times(0, time.Hour)))
		put(inspect.Stale, now.Add(-time.Minute), entry("/swept-stale", 10))
		put(inspect.Stale, time.Time{}, entry("/soft", 7, storetest.Tags("soft")))
		put(inspect.Expired, time.Time{}, entry("/expired", 10, times(-time.Hour, -time.Second), storetest.Tags("a", "gone")))
		put(inspect.Expired, time.Time{}, entry("/expired-now", 10, times(-time.Hour, 0)))
		put(inspect.Purged, time.Time{}, entry("/below-the-floor", 2, storetest.Tags("a")))
		put(inspect.Purged, time.Time{}, entry("/struck", 5, storetest.Tags("struck", "b")))
		put(inspect.Purged, time.Time{}, entry("/struck-as-url", 6))
		put(inspect.Purged, time.Time{}, entry("/struck-as-target", 6))
		require.NoError(t, tx.WriteMarks([]marks.Row{
			{Mark: accel.TagMark("struck"), Hard: 6},
			{Mark: accel.TagMark("soft"), Soft: 8, Since: now.Add(-time.Minute)},
			{Mark: storetest.URLMark("/struck-as-url"), Hard: 7},
			{Mark: storetest.TargetMark("/struck-as-target"), Hard: 9},
		}))
	})
	return path, want, entries
}

func TestStates(t *testing.T) {
	path, want, entries := graveyard(t)
	before := sum(t, path)
	d := look(t, path)
	require.Empty(t, d.BeginsEmpty())
	keys, err := d.Keys(ctx, inspect.KeyFilter{All: true})
	require.NoError(t, err)
	got := map[string]inspect.State{}
	for _, k := range keys.Keys {
		got[k.URL] = k.State
	}
	require.Equal(t, want, got)
	require.Zero(t, keys.Damaged)

	keys, err = d.Keys(ctx, inspect.KeyFilter{})
	require.NoError(t, err)
	require.Len(t, keys.Keys, 7)
	require.Equal(t, 6, keys.Hidden)

	tags, err := d.Tags(ctx, inspect.TagFilter{})
	require.NoError(t, err)
	counts := map[string][2]int{}
	for _, tag := range tags.Tags {
		counts[tag.Tag] = [2]int{tag.Entries, tag.DeadEntries}
	}
	require.Equal(t, map[string][2]int{"a": {2, 2}, "b": {1, 1}, "soft": {1, 0}, "struck": {1, 1}}, counts)
	require.Equal(t, 1, tags.Hidden, "gone")

	st, err := d.Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, []int{3, 4, 2, 4}, []int{st.Live.Entries, st.Stale.Entries, st.Expired.Entries, st.Purged.Entries})
	require.Equal(t, 5, st.Tags)
	require.EqualValues(t, 4, st.Marks)

	v, err := d.Verify(ctx)
	require.NoError(t, err)
	require.True(t, v.OK, "%v", v.Problems)
	require.Equal(t, format.Counts{Pages: v.Checked.Pages, Entries: 13, Bodies: 13, ExpiryRows: 13, TagRows: 10, Tags: 5, Marks: 4}, v.Checked)

	require.NoError(t, d.Close())
	require.NoError(t, d.Close())
	_, err = d.Keys(ctx, inspect.KeyFilter{})
	require.ErrorIs(t, err, fs.ErrClosed)
	require.Equal(t, before, sum(t, path))

	// The library is of the same opinion.
	s := open(t, path)
	for _, e := range entries {
		found, err := s.Get(ctx, e.Key, e.Vary)
		if want[e.URL()].Dead() {
			require.ErrorIs(t, err, accel.ErrNotFound, e.URL())
		} else {
			require.NoError(t, err, e.URL())
			soft := strings.HasSuffix(e.URL(), "/soft") || strings.HasSuffix(e.URL(), "/swept-stale")
			require.Equal(t, soft, !found.StaleSince.IsZero(), e.URL())
		}
	}
}

func open(t testing.TB, path string) *boltstore.Store {
	s := boltstore.Open(path, boltstore.WithLogger(slog.New(slog.DiscardHandler)),
		boltstore.WithClock(func() time.Time { return now }), boltstore.WithMemory(0))
	t.Cleanup(func() { s.Close() })
	require.NoError(t, s.Ping(ctx))
	return s
}

// Without marks, tags are counted without a look at the entries.
func TestTagsWithoutMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.db")
	write(t, path, 10, 5, func(tx *format.Tx) {
		require.NoError(t, tx.Put(entry("/1", 4, storetest.Tags("a")), time.Time{}))
		require.NoError(t, tx.Put(entry("/2", 5, storetest.Tags("a")), time.Time{}))
		require.NoError(t, tx.Put(entry("/3", 10, storetest.Tags("a"), storetest.KeepUntil(now)), time.Time{}))
	})
	tags, err := look(t, path).Tags(ctx, inspect.TagFilter{})
	require.NoError(t, err)
	require.Len(t, tags.Tags, 1)
	require.Equal(t, 1, tags.Tags[0].Entries)
	require.Equal(t, 2, tags.Tags[0].DeadEntries)
}

// An error of what is called with the entries comes back, and so does the end of
// the context.
func TestDumpEnds(t *testing.T) {
	path, _, _ := graveyard(t)
	d := look(t, path)
	_, err := d.Dump(ctx, true, true, func(inspect.Response) error { return fs.ErrInvalid })
	require.ErrorIs(t, err, fs.ErrInvalid)
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err = d.Dump(done, true, true, nil)
	require.ErrorIs(t, err, context.Canceled)
	_, err = d.Tags(done, inspect.TagFilter{})
	require.ErrorIs(t, err, context.Canceled)
	_, err = d.Verify(done)
	require.ErrorIs(t, err, context.Canceled)
}

// Everything that Full makes awkward survives a dump.
func TestFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.db")
	e := storetest.Full(accel.Position{Epoch: 1, N: 1})
	write(t, path, 1, 0, func(tx *format.Tx) { require.NoError(t, tx.Put(e, time.Time{})) })
	d := look(t, path)
	n := 0
	_, err := d.Dump(ctx, true, true, func(r inspect.Response) error {
		n++
		require.Equal(t, e.Tags, r.Tags)
		require.Equal(t, "", r.URL)
		require.Equal(t, []inspect.RequestField{{Name: "?", Values: []string{e.Variant}}}, r.Request)
		require.Equal(t, []byte{}, r.Body)
		require.Empty(t, r.BodyCoding)
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 1, n)
	v, err := d.Verify(ctx)
	require.NoError(t, err)
	require.True(t, v.OK, "%v", v.Problems)
}

// A body in a coding that is not known comes as it is.
func TestUnknownCoding(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cache.db")
	write(t, path, 1, 0, func(tx *format.Tx) {
		require.NoError(t, tx.Put(entry("/", 1, storetest.Codings("br")), time.Time{}))
	})
	found, err := look(t, path).Show(ctx, "/", false, true)
	require.NoError(t, err)
	require.Len(t, found.Responses, 1)
	require.Equal(t, "br", found.Responses[0].BodyCoding)
	require.True(t, bytes.HasPrefix(found.Responses[0].Body, []byte("br of ")))
}

// crowd makes a database of n entries with a common tag.
func crowd(t testing.TB, n int) (path string, entries []*accel.Entry) {
	path = filepath.Join(t.TempDir(), "cache.db")
	write(t, path, 5, 0, func(tx *format.Tx) {
		for i := range n {
			e := entry(fmt.Sprintf("/%d", i), 5, storetest.Tags("all", fmt.Sprintf("mod:%d", i%7)))
			require.NoError(t, tx.Put(e, time.Time{}))
			entries = append(entries, e)
		}
	})
	return path, entries
}

func TestPurge(t *testing.T) {
	for name, c := range map[string]struct {
		sel  inspect.Selection
		gone func(*accel.Entry) bool
	}{
		"tag":  {inspect.Selection{Tags: []string{"mod:3"}}, func(e *accel.Entry) bool { return e.Tags[1] == "mod:3" }},
		"tags": {inspect.Selection{Tags: []string{"all", "mod:3", "none"}}, func(*accel.Entry) bool { return true }},
		"url":  {inspect.Selection{URLs: []string{"http://Example.org/12"}}, func(e *accel.Entry) bool { return e.URL() == "http://example.org/12" }},
		"path": {inspect.Selection{URLs: []string{"/12", "/12"}}, func(e *accel.Entry) bool { return e.URL() == "http://example.org/12" }},
		"all":  {inspect.Selection{All: true}, func(*accel.Entry) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			path, entries := crowd(t, 1200)
			before := sum(t, path)
			dry, err := inspect.Purge(ctx, path, c.sel, true, now)
			require.NoError(t, err)
			require.Equal(t, before, sum(t, path))
			res, err := inspect.Purge(ctx, path, c.sel, false, now)
			require.NoError(t, err)
			want := 0
			for _, e := range entries {
				if c.gone(e) {
					want++
				}
			}
			require.Equal(t, want, res.Entries)
			require.Equal(t, want, res.Deleted)
			require.Equal(t, []any{dry.Entries, dry.Bytes, dry.Selected}, []any{res.Entries, res.Bytes, res.Selected})

			d := look(t, path)
			st, err := d.Stats(ctx)
			require.NoError(t, err)
			require.EqualValues(t, 6, st.Seq, "one position, as for one invalidation")
			require.Zero(t, st.Meta.Marks)
			require.Equal(t, 1200-want, st.Live.Entries)
			v, err := d.Verify(ctx)
			require.NoError(t, err)
			require.True(t, v.OK, "%v", v.Problems)
			require.NoError(t, d.Close())

			s := open(t, path)
			for _, e := range entries {
				_, err := s.Get(ctx, e.Key, e.Vary)
				require.Equal(t, c.gone(e), err != nil, e.URL())
			}
		})
	}
}

// patience is a context that ends when it was asked n times.
type patience struct {
	context.Context
	n int
}

func (p *patience) Err() error {
	if p.n--; p.n < 0 {
		return context.Canceled
	}
	return nil
}

// A purge that is interrupted has either not begun, or holds: nothing of what was
// selected is served again, though some of it is still in the file.
func TestPurgeInterrupted(t *testing.T) {
	const n = 1200
	for _, asked := range []int{0, 1, n, n + 1, n + 2, n + 3, n + 4} {
		for _, sel := range []inspect.Selection{{Tags: []string{"all"}}, {All: true}} {
			path, entries := crowd(t, n)
			before := sum(t, path)
			res, err := inspect.Purge(&patience{ctx, asked}, path, sel, false, now)
			begun := before != sum(t, path)
			require.Equal(t, asked > n, begun, "%d", asked)
			if asked <= n+3 {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.NoError(t, err)
			}
			d := look(t, path)
			v, err := d.Verify(ctx)
			require.NoError(t, err)
			require.True(t, v.OK, "%v", v.Problems)
			st, err := d.Stats(ctx)
			require.NoError(t, err)
			require.NoError(t, d.Close())
			if begun {
				require.Zero(t, st.Live.Entries)
				require.Equal(t, n-res.Deleted, st.Purged.Entries)
			} else {
				require.Equal(t, n, st.Live.Entries)
			}
			if asked == n+2 {
				require.Equal(t, 500, res.Deleted)
			}
			if !begun {
				continue
			}
			s := open(t, path)
			for _, e := range entries[:50] {
				_, err := s.Get(ctx, e.Key, e.Vary)
				require.ErrorIs(t, err, accel.ErrNotFound)
			}
			require.NoError(t, s.Close())
		}
	}
}

// A purge keeps what else a mark has to say.
func TestPurgeKeepsMarks(t *testing.T) {
	path, _, _ := graveyard(t)
	_, err := inspect.Purge(ctx, path, inspect.Selection{Tags: []string{"a"}}, false, now)
	require.NoError(t, err)
	keys, err := look(t, path).Keys(ctx, inspect.KeyFilter{All: true})
	require.NoError(t, err)
	states := map[string]inspect.State{}
	for _, k := range keys.Keys {
		states[strings.TrimPrefix(k.URL, "http://example.org")] = k.State
	}
	require.Equal(t, map[string]inspect.State{
		"/at-the-floor": "live", "/at-the-mark": "live", "/stale-now": "stale", "/swept-stale": "stale", "/soft": "stale",
		"/expired-now": "expired", "/struck": "purged", "/struck-as-url": "purged", "/struck-as-target": "purged",
	}, states)
}

func TestPurgeExpired(t *testing.T) {
	path, _, _ := graveyard(t)
	res, err := inspect.Purge(ctx, path, inspect.Selection{Expired: true}, false, now)
	require.NoError(t, err)
	require.Equal(t, []int{2, 2}, []int{res.Entries, res.Deleted})
	st, err := look(t, path).Stats(ctx)
	require.NoError(t, err)
	require.Equal(t, []int{3, 4, 0, 4}, []int{st.Live.Entries, st.Stale.Entries, st.Expired.Entries, st.Purged.Entries})
	require.EqualValues(t, 10, st.Seq, "no invalidation")
}

// One bad meta page may have taken a mark with it, and is overwritten by the next
// transaction: a purge must not make the rest look trustworthy.
func TestOneMeta(t *testing.T) {
	for page := range int64(2) {
		path, entries := crowd(t, 10)
		ps := int64(os.Getpagesize())
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte{0xFF}, page*ps+16+56)
		require.NoError(t, err)
		require.NoError(t, f.Close())

		if page == 1 { // the older of the two transactions is left: an empty database
			d := look(t, path)
			require.Contains(t, d.BeginsEmpty(), "last transaction")
			v, err := d.Verify(ctx)
			require.NoError(t, err)
			require.False(t, v.OK)
			require.NoError(t, d.Close())
		}
		before := sum(t, path)
		_, err = inspect.Purge(ctx, path, inspect.Selection{Tags: []string{"all"}}, false, now)
		if err != nil {
			require.ErrorIs(t, err, inspect.ErrDamaged)
			require.Contains(t, err.Error(), "purge --all does the same")
		}
		require.Equal(t, before, sum(t, path))
		_, err = inspect.Purge(ctx, path, inspect.Selection{All: true}, false, now)
		require.NoError(t, err)
		s := open(t, path)
		for _, e := range entries {
			_, err := s.Get(ctx, e.Key, e.Vary)
			require.ErrorIs(t, err, accel.ErrNotFound)
		}
		require.NoError(t, s.Close())
	}
}

// A mark that is missing makes the library begin empty. So it does after a purge.
func TestMarksNotWhole(t *testing.T) {
	path, _, entries := graveyard(t)
	db, err := bolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		c := btx.Bucket([]byte("g")).Cursor()
		c.First()
		return c.Delete()
	}))
	require.NoError(t, db.Close())
	for range 2 {
		d := look(t, path)
		require.Contains(t, d.BeginsEmpty(), "marks are not whole")
		v, err := d.Verify(ctx)
		require.NoError(t, err)
		require.False(t, v.OK)
		require.NoError(t, d.Close())
		inspect.Purge(ctx, path, inspect.Selection{Tags: []string{"a"}}, false, now)
	}
	res, err := inspect.Purge(ctx, path, inspect.Selection{All: true}, false, now)
	require.NoError(t, err)
	require.Positive(t, res.Deleted)
	d := look(t, path)
	require.Empty(t, d.BeginsEmpty())
	require.NoError(t, d.Close())
	s := open(t, path)
	for _, e := range entries {
		_, err := s.Get(ctx, e.Key, e.Vary)
		require.ErrorIs(t, err, accel.ErrNotFound)
	}
}

// While somebody has it open for writing, nobody looks; two who look do not mind
// each other.
func TestLocked(t *testing.T) {
	path, _ := crowd(t, 1)
	a := look(t, path)
	b := look(t, path)
	_, err := inspect.Purge(ctx, path, inspect.Selection{All: true}, false, now)
	require.ErrorIs(t, err, inspect.ErrLocked)
	require.NoError(t, a.Close())
	require.NoError(t, b.Close())
	s := open(t, path)
	begin := time.Now()
	_, err = inspect.Open(path, now)
	require.ErrorIs(t, err, inspect.ErrLocked)
	require.Less(t, time.Since(begin), 5*time.Second) // half of one, on a machine that is not busy
	require.NoError(t, s.Close())
}

// contents is every row of a database as bbolt has it.
func contents(path string) (sum [32]byte, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
		}
	}()
	db, err := bolt.Open(path, 0, &bolt.Options{ReadOnly: true})
	if err != nil {
		return sum, err
	}
	defer db.Close()
	h := sha256.New()
	err = db.View(func(tx *bolt.Tx) error {
		for _, name := range []string{"m", "k", "b", "x", "t", "g"} {
			if err := tx.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
				fmt.Fprintf(h, "%s %x %x\n", name, k, v)
				return nil
			}); err != nil {
				return err
			}
		}
		return nil
	})
	return [32]byte(h.Sum(nil)), err
}

// all calls everything there is to a file, as hostile as it may be.
func all(t testing.TB, path string) (v *inspect.Verification) {
	d, err := inspect.Open(path, now)
	if err != nil {
		return nil
	}
	defer d.Close()
	d.Tags(ctx, inspect.TagFilter{All: true})
	d.Keys(ctx, inspect.KeyFilter{All: true})
	d.Keys(ctx, inspect.KeyFilter{Tag: "all"})
	d.Show(ctx, "/1", true, true)
	d.Dump(ctx, true, true, func(inspect.Response) error { return nil })
	d.Stats(ctx)
	v, err = d.Verify(ctx)
	if err != nil {
		return nil
	}
	return v
}

// damaged writes a database with some of its bytes changed: an offset in three
// bytes and a mask, again and again.
func damaged(t testing.TB, base []byte, mutations []byte) string {
	data := bytes.Clone(base)
	for m := mutations; len(m) >= 4; m = m[4:] {
		off := int(m[0])<<16 | int(m[1])<<8 | int(m[2])
		data[off%len(data)] ^= m[3]
	}
	path := filepath.Join(t.TempDir(), "cache.db")
	require.NoError(t, os.WriteFile(path, data, 0o600))
	return path
}

// base is a small database with something in every bucket, and trees of several
// pages.
func base(t testing.TB) []byte {
	path, _ := crowd(t, 60)
	db, err := bolt.Open(path, 0o600, &bolt.Options{NoSync: true})
	require.NoError(t, err)
	edit(t, db, func(tx *format.Tx) {
		for _, lang := range []string{"de", "en"} {
			require.NoError(t, tx.Put(entry("/vary", 5, storetest.Vary("Accept-Language"), storetest.Variant(lang)), time.Time{}))
		}
		require.NoError(t, tx.Put(entry("/large", 5, storetest.Size(20000)), time.Time{}))
		require.NoError(t, tx.WriteMarks([]marks.Row{{Mark: accel.TagMark("mod:2"), Hard: 6}}))
		_, _, err := tx.SweepMark(marks.Row{Mark: accel.TagMark("mod:1"), Hard: 6}, nil, 100)
		require.NoError(t, err)
	})
	require.NoError(t, db.Close())
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	return data
}

// Whatever byte of a file is changed: if Verify finds nothing, nothing has
// changed.
func TestVerifyFindsEverything(t *testing.T) {
	b := base(t)
	pristine := damaged(t, b, nil)
	want, err := contents(pristine)
	require.NoError(t, err)
	v := all(t, pristine)
	require.NotNil(t, v)
	require.True(t, v.OK, "%v", v.Problems)

	step, found, refused, harmless := 509, 0, 0, 0
	if testing.Short() {
		step = 5003
	}
	for off := 0; off < len(b); off += step {
		path := damaged(t, b, []byte{byte(off >> 16), byte(off >> 8), byte(off), 1 << (off % 8)})
		v := all(t, path)
		switch {
		case v == nil:
			refused++
		case !v.OK:
			found++
		default:
			got, err := contents(path)
			require.NoError(t, err, "offset %d", off)
			require.Equal(t, want, got, "offset %d", off)
			harmless++
		}
		require.NoError(t, os.Remove(path))
	}
	t.Logf("of %d changed bits %d were found, %d made the file be refused, %d changed nothing", found+refused+harmless, found, refused, harmless)
	require.Positive(t, found)
	require.Positive(t, refused)
}

// Hostile files neither crash nor hang what looks into them.
func FuzzHostile(f *testing.F) {
	b := base(f)
	f.Add([]byte{})
	for page := 0; page*4096 < len(b); page++ {
		off := page * 4096
		for _, at := range []int{8, 16} {
			f.Add([]byte{byte((off + at) >> 16), byte((off + at) >> 8), byte(off + at), 0x03})
		}
	}
	f.Fuzz(func(t *testing.T, mutations []byte) {
		if len(mutations) > 64 {
			return
		}
		path := damaged(t, b, mutations)
		begin := time.Now()
		all(t, path)
		inspect.Purge(ctx, path, inspect.Selection{Tags: []string{"all"}, URLs: []string{"/1"}}, false, now)
		all(t, path)
		require.Less(t, time.Since(begin), 20*time.Second)
	})
}
