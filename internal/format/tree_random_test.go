package format

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/marks"
)

var errUndo = errors.New("undo")

func random(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Log("seed", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// Whatever one page says while the file is open, transactions end: with an error, or as
// if nothing were wrong.
func TestOnePageOfAnOpenFileIsDamaged(t *testing.T) {
	r := random(t)
	d := newDamaged(t)
	d.entries(300)
	d.marks(200)
	require.NoError(t, d.update(func(tx *Tx) error { _, _, err := tx.SweepFloor(6, nil, 60); return err }))
	meta := d.look().meta
	require.NoError(t, d.db.Close())
	good, err := os.ReadFile(d.path)
	require.NoError(t, err)
	var live, branches []int
	for i := 2; i < int(meta.pages); i++ {
		if p := good[i*smallPage:]; native.Uint64(p) == uint64(i) {
			if live = append(live, i); native.Uint16(p[8:]) == flagBranch {
				branches = append(branches, i)
			}
		}
	}
	any := func(of []int) int { return of[r.IntN(len(of))] }
	refused := 0
	for range 300 {
		require.NoError(t, os.WriteFile(d.path, good, 0o600))
		d.db, err = bolt.Open(d.path, 0o600, &bolt.Options{NoSync: true, NoGrowSync: true, FreelistType: bolt.FreelistMapType, MaxSize: 4 << 20})
		require.NoError(t, err)
		d.db.AllocSize = 16 << 10
		at := any(live)
		switch r.IntN(30) {
		case 0:
			at = int(meta.freelist)
		default:
			if r.IntN(2) == 0 {
				at = any(branches)
			}
		}
		bad := bytes.Clone(good[at*smallPage : (at+1)*smallPage])
		elem := pageHeader + leafElem*r.IntN(max(1, min(30, int(native.Uint16(bad[10:])))))
		copyOf := func(from int) { copy(bad[8:], good[from*smallPage+8:(from+1)*smallPage]) }
		switch r.IntN(8) {
		case 0: // its flags, count or overflow
			bad[8+r.IntN(8)] = byte(r.Uint32())
		case 1:
			copy(bad[8+4*r.IntN(2):], word(r.Uint32()))
		case 2, 3: // where a branch leads to
			native.PutUint64(bad[elem+8:], uint64(any(live)))
		case 4:
			copyOf(any(branches))
		case 5:
			copyOf(any(live))
		case 6: // where a row lies, and how long it is
			copy(bad[elem+4*r.IntN(4):], word(r.Uint32()>>r.IntN(32)))
		case 7:
			for range 1 + r.IntN(4) {
				bad[r.IntN(smallPage)] ^= 1 << r.IntN(8)
			}
		}
		d.write(bad, int64(at)*smallPage)
		for range 10 {
			if err := d.update(func(tx *Tx) error { return d.something(tx, r) }); err != nil && err != errUndo {
				refused++
				break
			}
		}
		func() {
			defer func() { _ = recover() }()
			_ = d.db.Close()
		}()
	}
	require.NotZero(t, refused)
}

// something does what a store does in a transaction.
func (d *damaged) something(tx *Tx, r *rand.Rand) (err error) {
	all := func(accel.Key) bool { return false }
	for range 1 + r.IntN(4) {
		n := 1 + r.IntN(100)
		switch r.IntN(9) {
		case 0:
			_, _, err = tx.SweepFloor(6, nil, n)
		case 1:
			_, _, err = tx.Evict(uint64(r.IntN(300)), n, all)
		case 2:
			_, _, err = tx.SweepExpired(storetest.Start.Add(1000*time.Hour), n)
		case 3, 4:
			for range n / 5 {
				if err = tx.Delete(d.entry(r.IntN(300)).Key, 0); err != nil && err != ErrNotFound {
					return err
				}
			}
			err = nil
		case 5, 6:
			for range n / 10 {
				if err = tx.Put(d.entry(r.IntN(600)), time.Time{}); err != nil {
					return err
				}
			}
		case 7:
			var rows []marks.Row
			c := tx.g.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				if row, ok := decodeMark(k, v); ok {
					rows = append(rows, row)
				}
			}
			from := r.IntN(len(rows) + 1)
			for _, row := range rows[from:min(len(rows), from+n)] {
				if _, err = tx.DeleteMark(row); err != nil {
					return err
				}
			}
		case 8:
			if n < 20 {
				err = tx.ResetMarks()
			}
		}
		if err != nil {
			return err
		}
	}
	if r.IntN(8) == 0 {
		return errUndo
	}
	return nil
}

// What bbolt has written is sound, and is found as bbolt finds it: in pages of all sizes,
// in small buckets, after deletions and rollbacks, and in the midst of a transaction.
func TestFoundAsBboltFinds(t *testing.T) {
	r := random(t)
	for round := range 60 {
		ps := []int{512, 512, 1024, 4096, 16384, 65536}[r.IntN(6)]
		w := walker{T: t, r: r, ps: ps, keys: []int{10, 100, 1000}[r.IntN(3)], length: []int{8, 16, 72, 300}[r.IntN(4)]}
		path := filepath.Join(t.TempDir(), fmt.Sprint(round))
		db, err := bolt.Open(path, 0o600, &bolt.Options{
			NoSync: true, NoGrowSync: true, PageSize: ps, FreelistType: bolt.FreelistMapType, InitialMmapSize: mapped,
		})
		require.NoError(t, err)
		file := MappedTo(db, mapped)
		fill := []float64{0.1, 0.5, 0.5, 0.95, 1}[r.IntN(5)]
		longest := []int{0, 8, 100, ps, 4 * ps}[r.IntN(5)]
		for range 12 {
			var txid uint64
			require.NoError(t, db.View(func(btx *bolt.Tx) error { txid = uint64(btx.ID()); return nil }))
			m, root, err := file.state(txid)
			require.NoError(t, err)
			state := stem{m: &m, root: root}
			before := w.rows(state)
			err = db.Update(func(btx *bolt.Tx) error { return w.change(btx, fill, longest) })
			require.Equal(t, err != nil, file.Last(txid))
			if err != errUndo {
				require.NoError(t, err)
			}
			require.NoError(t, db.View(w.compare))
			require.Equal(t, before, w.rows(state), "until the next transaction it is all there")
		}
		require.NoError(t, db.Close())
		require.NoError(t, os.Remove(path))
	}
}

// mapped is more than any of these files has.
const mapped = 256 << 20

// rows returns what a state has, as it is read without a transaction.
func (w *walker) rows(root stem) (rows [][]byte) {
	b, err := root.bucket(walked)
	if errors.Is(err, errNoBucket) {
		return nil
	}
	require.NoError(w, err)
	for i := range w.keys {
		v, err := b.value(w.key(i))
		require.NoError(w, err)
		rows = append(rows, bytes.Clone(v))
	}
	return rows
}

type walker struct {
	*testing.T
	r            *rand.Rand
	ps           int
	keys, length int
	next         int
}

var walked = []byte("k")

func (w *walker) key(i int) []byte {
	k := make([]byte, w.length)
	binary.BigEndian.PutUint64(k, uint64(i)*0x9e3779b97f4a7c15)
	if w.length == 16 { // in sequence
		binary.BigEndian.PutUint64(k, uint64(i))
	}
	return k
}

func (w *walker) change(btx *bolt.Tx, fill float64, longest int) error {
	if _, err := btx.CreateBucketIfNotExists(walked); err != nil {
		return err
	}
	b, err := stemOf(btx, mappingOf(btx)).open(btx, walked)
	require.NoError(w, err)
	b.b.FillPercent = fill
	mode := w.r.IntN(6)
	for range []int{1, 10, 200, 600}[w.r.IntN(4)] {
		i, del := w.r.IntN(w.keys), w.r.IntN(2) == 0
		if mode < 4 {
			del = mode%2 == 0
		}
		if mode == 2 || mode == 3 { // a run
			i = w.next % w.keys
			w.next++
		}
		if del {
			err = b.Delete(w.key(i))
		} else {
			err = b.Put(w.key(i), bytes.Repeat([]byte{byte(w.r.Uint32())}, w.r.IntN(longest+1)))
		}
		require.NoError(w, err)
	}
	if w.r.IntN(20) == 0 {
		var all [][]byte
		require.NoError(w, b.b.ForEach(func(k, _ []byte) error { all = append(all, bytes.Clone(k)); return nil }))
		for _, k := range all {
			require.NoError(w, b.Delete(k))
		}
	}
	ours, its := b.Cursor(), b.b.Cursor()
	w.same(ours.First, its.First, ours.Next, its.Next)
	if w.r.IntN(10) == 0 {
		return errUndo
	}
	return nil
}

type step = func() (k, v []byte)

func (w *walker) same(first, itsFirst, next, itsNext step) {
	for k, v := first(); ; k, v = next() {
		ik, iv := itsFirst()
		if !bytes.Equal(k, ik) || !bytes.Equal(v, iv) {
			require.Fail(w, "another row", "%x, and not %x", k, ik)
		}
		if k == nil && ik == nil {
			return
		}
		itsFirst = itsNext
	}
}

func (w *walker) compare(btx *bolt.Tx) error {
	its := btx.Bucket(walked)
	if its == nil {
		return nil
	}
	b, err := stemOf(btx, mappingOf(btx)).open(btx, walked)
	require.NoError(w, err)
	require.NoError(w, b.whole())
	for i := range w.keys {
		want := its.Get(w.key(i))
		got, err := b.stem.value(w.key(i))
		if err != nil || !bytes.Equal(want, got) || (want == nil) != (got == nil) {
			require.Fail(w, "another value", "%d of %d: %v", i, w.keys, err)
		}
	}
	c, d := b.Cursor(), its.Cursor()
	w.same(c.First, d.First, c.Next, d.Next)
	w.same(c.Last, d.Last, c.Prev, d.Prev)
	for range 10 {
		from := w.key(w.r.IntN(w.keys))
		from[len(from)-1] += byte(w.r.IntN(3))
		k, _ := c.Seek(from)
		ik, _ := d.Seek(from)
		for range 20 {
			require.Equal(w, ik, k)
			if w.r.IntN(2) == 0 {
				k, _ = c.Next()
				ik, _ = d.Next()
			} else {
				k, _ = c.Prev()
				ik, _ = d.Prev()
			}
		}
	}
	return nil
}
