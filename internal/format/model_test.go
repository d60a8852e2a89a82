package format_test

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// kept is an entry as the model knows it.
type kept struct {
	e     *accel.Entry
	stale time.Time
	id    uint64
}

// model is what a database should hold.
type model struct {
	entries map[accel.Key]kept
	order   map[accel.Digest][]accel.Key // of a resource's entries, the oldest first
	marks   map[accel.Mark]marks.Row
	seq     uint64
	floor   uint64
	budget  uint64
}

func (m *model) clone() *model {
	c := *m
	c.entries, c.marks, c.order = maps.Clone(m.entries), maps.Clone(m.marks), maps.Clone(m.order)
	return &c
}

func (m *model) remove(key accel.Key) bool {
	if _, ok := m.entries[key]; !ok {
		return false
	}
	delete(m.entries, key)
	left := slices.DeleteFunc(slices.Clone(m.order[key.Resource]), func(k accel.Key) bool { return k == key })
	m.order[key.Resource] = left
	return true
}

func (m *model) displace(key accel.Key, vary []string) (changed bool) {
	changed = m.remove(key)
	for _, k := range m.order[key.Resource] {
		if !slices.Equal(m.entries[k].e.Vary, vary) {
			changed = m.remove(k) || changed
		}
	}
	return changed
}

func (m *model) put(e *accel.Entry, stale time.Time) {
	m.displace(e.Key, e.Vary)
	if list := m.order[e.Key.Resource]; len(list) == accel.MaxVariants {
		m.remove(list[0])
	}
	m.order[e.Key.Resource] = append(slices.Clone(m.order[e.Key.Resource]), e.Key)
	m.entries[e.Key] = kept{e: e, stale: stale}
	m.seq = max(m.seq, e.At.N)
}

// touched reports whether a row strikes an entry or makes it stale.
func touched(r marks.Row, e *accel.Entry) bool {
	return slices.Contains(e.Marks, r.Mark.Hash) && (r.Strikes(e.At.N) || r.Stales(e.At.N))
}

// byID returns the entries in the order of their ids.
func (m *model) byID() []kept {
	return slices.SortedFunc(maps.Values(m.entries), func(a, b kept) int { return cmp.Compare(a.id, b.id) })
}

// machine runs random transactions against a database and the model.
type machine struct {
	db *bolt.DB
	*model
	now  time.Time
	urls []string
	tags []string
	// gathers: changes of the indexes are gathered, and these are pending.
	gathers bool
	pending *format.Pending
}

func (mc *machine) entry(t *rapid.T) *accel.Entry {
	url := rapid.SampledFrom(mc.urls).Draw(t, "url")
	vary := rapid.SampledFrom([][]string{nil, nil, {"A"}, {"A", "B"}}).Draw(t, "vary")
	n := rapid.IntRange(0, 19).Draw(t, "variant")
	variant := ""
	if vary != nil || n > 0 {
		variant = fmt.Sprint(vary, n)
	}
	tags := rapid.SliceOfNDistinct(rapid.SampledFrom(mc.tags), 0, 3, rapid.ID).Draw(t, "tags")
	fresh := mc.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "fresh")) * time.Second)
	opts := []storetest.EntryOption{
		storetest.Variant(variant), storetest.Vary(vary...), storetest.Tags(tags...),
		storetest.Times(mc.now, fresh, fresh.Add(time.Minute)),
		storetest.At(accel.Position{Epoch: 3, N: mc.position(t)}),
		storetest.Size(rapid.SampledFrom([]int{0, 10, 2000, 9000}).Draw(t, "size")),
	}
	if rapid.Bool().Draw(t, "codings") {
		opts = append(opts, storetest.Codings("zstd", "gzip"))
	}
	return storetest.Entry(url, opts...)
}

func (mc *machine) position(t *rapid.T) uint64 {
	return rapid.Uint64Range(mc.floor, mc.seq+2).Draw(t, "position")
}

// held draws the entry of some key, or none.
func (mc *machine) held(t *rapid.T) (kept, bool) {
	all := mc.byID()
	if len(all) == 0 {
		return kept{}, false
	}
	return rapid.SampledFrom(all).Draw(t, "held"), true
}

func (mc *machine) mark(t *rapid.T) accel.Mark {
	url := rapid.SampledFrom(mc.urls).Draw(t, "url")
	return rapid.SampledFrom([]accel.Mark{
		accel.TagMark(rapid.SampledFrom(mc.tags).Draw(t, "tag")),
		storetest.URLMark(url), storetest.TargetMark(url), accel.MarkAll,
	}).Draw(t, "mark")
}

// ops are what a transaction consists of. Each does the same to both.
var ops = map[string]func(*machine, *rapid.T, *format.Tx){
	"put": func(mc *machine, t *rapid.T, tx *format.Tx) {
		e := mc.entry(t)
		stale := rapid.SampledFrom([]time.Time{{}, mc.now}).Draw(t, "stale")
		require.NoError(t, tx.Put(e, stale))
		mc.put(e, stale)
	},
	"crowd": func(mc *machine, t *rapid.T, tx *format.Tx) {
		url := rapid.SampledFrom(mc.urls).Draw(t, "url")
		for n := range 18 {
			e := storetest.Entry(url, storetest.Vary("A"), storetest.Variant(fmt.Sprint([]string{"A"}, n)),
				storetest.Times(mc.now, mc.now, mc.now.Add(time.Minute)),
				storetest.At(accel.Position{Epoch: 3, N: mc.seq}))
			require.NoError(t, tx.Put(e, time.Time{}))
			mc.put(e, time.Time{})
		}
	},
	"put again": func(mc *machine, t *rapid.T, tx *format.Tx) {
		if h, ok := mc.held(t); ok {
			e := mc.entry(t)
			e.Key, e.Resource, e.Variant, e.Vary = h.e.Key, h.e.Resource, h.e.Variant, h.e.Vary
			e.Marks = slices.Concat(h.e.Marks[:2], e.Marks[2:])
			require.NoError(t, tx.Put(e, time.Time{}))
			mc.put(e, time.Time{})
		}
	},
	"renew": func(mc *machine, t *rapid.T, tx *format.Tx) {
		h, ok := mc.held(t)
		if !ok {
			return
		}
		e := mc.entry(t)
		e.Key, e.Resource, e.Variant, e.Vary = h.e.Key, h.e.Resource, h.e.Variant, h.e.Vary
		e.Header = append(e.Header, accel.Field{Name: "X-Renewed", Values: []string{strings.Repeat("x", 300)}})
		for _, tag := range h.e.Tags {
			if !slices.Contains(e.Tags, tag) {
				e.Tags = append(e.Tags, tag)
			}
		}
		e.Marks = h.e.Marks[:2:2]
		for _, tag := range e.Tags {
			e.Marks = append(e.Marks, accel.TagMark(tag).Hash)
		}
		// A caller should see to it that these are the same; if not, no harm.
		if !slices.EqualFunc(e.Bodies, h.e.Bodies, func(a, b accel.Body) bool { return string(a.Data) == string(b.Data) }) &&
			rapid.IntRange(0, 5).Draw(t, "others") == 0 {
			row, err := tx.Row(e.Key)
			require.NoError(t, err)
			require.NoError(t, tx.Renew(row, e, mc.now))
			mc.put(e, mc.now)
			return
		}
		e.Bodies, e.Length = h.e.Bodies, h.e.Length
		row, err := tx.Row(e.Key)
		require.NoError(t, err)
		require.NoError(t, tx.Renew(row, e, mc.now))
		mc.entries[e.Key] = kept{e: e, stale: mc.now, id: h.id}
		mc.seq = max(mc.seq, e.At.N)
	},
	"delete": func(mc *machine, t *rapid.T, tx *format.Tx) {
		if h, ok := mc.held(t); ok {
			row, err := tx.Row(h.e.Key)
			require.NoError(t, err)
			require.Equal(t, format.ErrNotFound, tx.Delete(h.e.Key, row.ID+1))
			require.NoError(t, tx.Delete(h.e.Key, rapid.SampledFrom([]uint64{0, row.ID}).Draw(t, "id")))
			require.Equal(t, format.ErrNotFound, tx.Delete(h.e.Key, 0))
			mc.remove(h.e.Key)
		}
	},
	"displace": func(mc *machine, t *rapid.T, tx *format.Tx) {
		e := mc.entry(t)
		changed, err := tx.Displace(e.Key, e.Vary)
		require.NoError(t, err)
		require.Equal(t, mc.displace(e.Key, e.Vary), changed)
	},
	"expire": func(mc *machine, t *rapid.T, tx *format.Tx) {
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		mc.learn(tx)
		due := mc.byID()
		slices.SortStableFunc(due, func(a, b kept) int { return a.e.KeepUntil.Compare(b.e.KeepUntil) })
		due = slices.DeleteFunc(due, func(h kept) bool { return h.e.KeepUntil.After(mc.now) })
		require.Equal(t, len(due) > 0, tx.Due(mc.now))
		n, more, err := tx.SweepExpired(mc.now, limit)
		require.NoError(t, err)
		require.Equal(t, min(len(due), limit), n)
		require.Equal(t, len(due) >= limit, more)
		for _, h := range due[:n] {
			mc.remove(h.e.Key)
		}
	},
	"evict": func(mc *machine, t *rapid.T, tx *format.Tx) {
		mc.learn(tx)
		limit := rapid.IntRange(4, 8).Draw(t, "limit")
		hand := rapid.Uint64Range(0, 30).Draw(t, "hand")
		spare := func(k accel.Key) bool { return k.Variant[0]&1 == 0 }
		var victims []kept
		next := uint64(0)
		for i, h := range slices.DeleteFunc(mc.byID(), func(h kept) bool { return h.id < hand }) {
			if len(victims) == limit || i == 16*limit {
				next = h.id
				break
			}
			if !spare(h.e.Key) {
				victims = append(victims, h)
			}
		}
		n, stand, err := tx.Evict(hand, limit, spare)
		require.NoError(t, err)
		require.Equal(t, len(victims), n)
		require.Equal(t, next, stand)
		for _, h := range victims {
			mc.remove(h.e.Key)
		}
	},
	"mark": func(mc *machine, t *rapid.T, tx *format.Tx) {
		mk := mc.mark(t)
		r := mc.marks[mk]
		r.Mark = mk
		n := mc.seq + 1
		if rapid.Bool().Draw(t, "soft") {
			if r.Soft = n; r.Since.IsZero() {
				r.Since = mc.now.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "since")) * time.Second)
			}
		} else {
			r.Hard = n
		}
		require.NoError(t, tx.WriteMarks([]marks.Row{r}))
		mc.marks[mk], mc.seq = r, n
	},
	"sweep": func(mc *machine, t *rapid.T, tx *format.Tx) {
		rows := slices.SortedFunc(maps.Values(mc.marks), func(a, b marks.Row) int {
			return cmp.Compare(max(a.Hard, a.Soft), max(b.Hard, b.Soft))
		})
		rows = slices.DeleteFunc(rows, func(r marks.Row) bool { return r.Mark.Kind == accel.KindAll })
		if len(rows) == 0 {
			return
		}
		r := rapid.SampledFrom(rows).Draw(t, "row")
		older, err := tx.Older(r)
		require.NoError(t, err)
		want, deleted := false, 0
		for key, h := range mc.entries {
			if !touched(r, h.e) {
				continue
			}
			want = true
			if r.Strikes(h.e.At.N) {
				mc.remove(key)
				deleted++
			} else if h.stale.IsZero() || r.Since.Before(h.stale) {
				h.stale = r.Since
				mc.entries[key] = h
			}
		}
		require.True(t, older || !want, "an older entry is not seen")
		limit := rapid.IntRange(1, 4).Draw(t, "limit")
		var from []byte
		for {
			n, next, err := tx.SweepMark(r, from, limit)
			require.NoError(t, err)
			require.LessOrEqual(t, n, limit)
			deleted -= n
			if from = next; from == nil {
				break
			}
		}
		require.Zero(t, deleted)
		later := r
		later.Hard++
		gone, err := tx.DeleteMark(later)
		require.NoError(t, err)
		require.False(t, gone, "a mark that has grown was deleted")
		gone, err = tx.DeleteMark(r)
		require.NoError(t, err)
		require.True(t, gone)
		delete(mc.marks, r.Mark)
	},
	"floor": func(mc *machine, t *rapid.T, tx *format.Tx) {
		mc.seq++
		mc.floor = mc.seq
		tx.SetFloor(mc.floor)
		require.NoError(t, tx.DeleteMarksBelow(mc.floor))
		clear(mc.marks)
		limit := rapid.IntRange(1, 5).Draw(t, "limit")
		var from []byte
		for {
			_, next, err := tx.SweepFloor(mc.floor, from, limit)
			require.NoError(t, err)
			if from = next; from == nil {
				break
			}
		}
		tx.SetSwept(mc.floor)
		for key := range mc.entries {
			mc.remove(key)
		}
	},
	"reset marks": func(mc *machine, t *rapid.T, tx *format.Tx) {
		require.NoError(t, tx.ResetMarks())
		clear(mc.marks)
	},
	"budget": func(mc *machine, t *rapid.T, tx *format.Tx) {
		mc.budget = rapid.Uint64().Draw(t, "budget")
		tx.SetBudget(mc.budget)
	},
}

// common are drawn more often than the others, which empty the database.
var common = slices.Concat(slices.Sorted(maps.Keys(ops)), slices.Repeat([]string{"put", "put again", "renew", "mark"}, 6))

// learn reads the ids that the database has given out.
func (mc *machine) learn(tx *format.Tx) {
	for key, h := range mc.entries {
		row, err := tx.Row(key)
		if err == nil {
			h.id = row.ID
			mc.entries[key] = h
		}
	}
}

// begin begins a transaction of format's.
func (mc *machine) begin(t *rapid.T, btx *bolt.Tx) (tx *format.Tx) {
	var err error
	if mc.gathers {
		tx, err = format.BeginWith(btx, mc.pending)
	} else {
		tx, err = format.Begin(btx)
	}
	require.NoError(t, err)
	return tx
}

// settle writes some of what is pending where it belongs.
func (mc *machine) settle(t *rapid.T, tx *format.Tx) {
	if !mc.gathers {
		return
	}
	switch rapid.IntRange(0, 9).Draw(t, "settle") {
	case 0:
		require.NoError(t, tx.SettleAll())
		require.Zero(t, tx.Added())
	case 1, 2, 3:
	default:
		require.NoError(t, tx.Settle(rapid.IntRange(1, 2000).Draw(t, "bytes")))
	}
}

// committed notes what a transaction has left pending. Whoever has to read that from the
// journal finds the same.
func (mc *machine) committed(t *rapid.T, tx *format.Tx) {
	if !mc.gathers {
		return
	}
	mc.pending = tx.Pending()
	require.NoError(t, mc.db.View(func(btx *bolt.Tx) error {
		read, err := format.LoadPending(btx)
		require.NoError(t, err)
		require.GreaterOrEqual(t, read.Bytes(), mc.pending.Bytes(), "what is settled may be in the journal still")
		if rapid.Bool().Draw(t, "crash") {
			mc.pending = read
		}
		return nil
	}))
}

// check compares all that can be seen of the database with the model.
func (mc *machine) check(t *rapid.T) {
	require.NoError(t, mc.db.View(func(btx *bolt.Tx) error {
		mc.compare(t, btx, mc.begin(t, btx))
		return nil
	}))
	if mc.gathers { // as accel-inspect sees it
		view(t, mc.db, func(_ *bolt.Tx, tx *format.Tx) { verify(t, tx) })
	}
}

func (mc *machine) compare(t *rapid.T, btx *bolt.Tx, tx *format.Tx) {
	{
		verify(t, tx)
		mc.learn(tx)
		meta := tx.Meta()
		require.EqualValues(t, len(mc.entries), meta.Entries)
		require.EqualValues(t, len(mc.marks), meta.Marks)
		require.Equal(t, []uint64{mc.seq, mc.floor, mc.floor, mc.budget, 7},
			[]uint64{meta.Seq, meta.Floor, meta.Swept, meta.Budget, meta.Inode})
		rows, whole, err := tx.Marks()
		require.NoError(t, err)
		require.True(t, whole)
		for _, r := range rows {
			want := mc.marks[r.Mark]
			require.Equal(t, want, r)
			require.True(t, tx.HasMark(r.Mark))
		}
		for key, h := range mc.entries {
			e, row, names, err := format.Get(btx, mc.pending, key, h.e.Vary, 0, nil)
			require.NoError(t, err)
			require.Nil(t, names)
			require.Empty(t, storetest.Diff(h.e, e))
			require.Equal(t, h.e.At, e.At)
			require.True(t, row.StaleSince.Equal(h.stale))
		}
	}
}

// ask looks a key up that need not be there.
func (mc *machine) ask(t *rapid.T) {
	asked := mc.entry(t)
	view(t, mc.db, func(btx *bolt.Tx, _ *format.Tx) {
		h, ok := mc.entries[asked.Key]
		var names []string // of the resource
		higher := uint64(0)
		for _, k := range mc.order[asked.Key.Resource] {
			e := mc.entries[k].e
			names = e.Vary
			if k == asked.Key || !slices.Equal(e.Vary, asked.Vary) {
				higher = max(higher, e.At.N)
			}
		}
		e, _, other, err := format.Get(btx, mc.pending, asked.Key, asked.Vary, 0, nil)
		if ok {
			require.NoError(t, err)
			require.Empty(t, storetest.Diff(h.e, e))
		} else {
			require.True(t, errors.Is(err, format.ErrNotFound), "%v", err)
			if !slices.Equal(names, asked.Vary) {
				require.Equal(t, names, other)
			} else {
				require.Nil(t, other)
			}
		}
		st, err := format.Stands(btx, mc.pending, asked.Key, asked.Vary)
		require.NoError(t, err)
		highest := st.Row.At.N
		for _, row := range st.Others {
			highest = max(highest, row.At.N)
		}
		require.Equal(t, higher, highest)
		require.Equal(t, h.id, st.Row.ID)
	})
}

// TestModel runs random transactions. After each, every row leads where it should
// and the database holds what the model holds.
func TestModel(t *testing.T) {
	dir := t.TempDir()
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		mc := &machine{
			db:    create(t, filepath.Join(dir, fmt.Sprint(runs)), 0, 5),
			model: &model{entries: map[accel.Key]kept{}, order: map[accel.Digest][]accel.Key{}, marks: map[accel.Mark]marks.Row{}, seq: 5, floor: 5},
			now:   storetest.Start,
			urls:  []string{"/a", "https://example.com/a", "/b"},
			tags:  []string{"x", "y", "user:1", "é"},
		}
		mc.gathers = rapid.Bool().Draw(t, "gathers")
		var btx, past *bolt.Tx
		defer func() {
			for _, btx := range []*bolt.Tx{btx, past} {
				if btx != nil {
					_ = btx.Rollback() // else Close waits for it
				}
			}
			_ = mc.db.Close()
		}()
		for range rapid.IntRange(1, 25).Draw(t, "transactions") {
			mc.now = mc.now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "seconds")) * time.Second)
			before := mc.model.clone()
			pending := mc.pending
			var err error
			past, err = mc.db.Begin(false)
			require.NoError(t, err)
			btx, err = mc.db.Begin(true)
			require.NoError(t, err)
			tx := mc.begin(t, btx)
			for range rapid.IntRange(1, 6).Draw(t, "ops") {
				op := rapid.SampledFrom(common).Draw(t, "op")
				ops[op](mc, t, tx)
			}
			if rapid.IntRange(0, 9).Draw(t, "rollback") == 0 {
				require.NoError(t, btx.Rollback())
				mc.model = before
			} else {
				mc.settle(t, tx)
				require.NoError(t, tx.Finish())
				require.NoError(t, btx.Commit())
				mc.committed(t, tx)
			}
			// Who reads meanwhile sees what was there, and what was pending then.
			was := *mc
			was.model, was.pending = before, pending
			was.compare(t, past, was.begin(t, past))
			require.NoError(t, past.Rollback())
			mc.check(t)
			mc.ask(t)
		}
	})
}
