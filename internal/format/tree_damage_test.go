package format

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/marks"
)

// Each of these ended the process once, for want of stack or of memory: what bbolt reads
// when it writes is more than the way to a key.

const smallPage = 512

// A damaged is a database that is open, and whose file is written to from outside.
type damaged struct {
	*testing.T
	db   *bolt.DB
	path string
}

func newDamaged(t *testing.T) *damaged {
	d := &damaged{T: t, path: filepath.Join(t.TempDir(), "db")}
	var err error
	d.db, err = bolt.Open(d.path, 0o600, &bolt.Options{NoSync: true, PageSize: smallPage, FreelistType: bolt.FreelistMapType})
	require.NoError(t, err)
	d.db.AllocSize = 16 << 10
	require.NoError(t, d.db.Update(func(btx *bolt.Tx) error { return Create(btx, 7, 1, 1) }))
	return d
}

func (d *damaged) update(fn func(*Tx) error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer debug.SetMaxStack(debug.SetMaxStack(64 << 20))
	defer func() {
		switch r := recover().(type) {
		case nil:
		case error:
			err = r
		default:
			err = fmt.Errorf("panic: %v", r) // bbolt has noticed something
		}
	}()
	return d.db.Update(func(btx *bolt.Tx) error {
		tx, err := Begin(btx)
		if err == nil {
			err = fn(tx)
		}
		if err != nil {
			return err
		}
		return tx.Finish()
	})
}

func (d *damaged) entry(i int) *accel.Entry {
	e := storetest.Entry(fmt.Sprint("http://example.org/", i), storetest.Tags("all"))
	e.At.N = 5
	return e
}

func (d *damaged) entries(n int) {
	for i := 0; i < n; i += 20 {
		require.NoError(d, d.update(func(tx *Tx) (err error) {
			for j := i; j < i+20; j++ {
				err = errors.Join(err, tx.Put(d.entry(j), time.Time{}))
			}
			return err
		}))
	}
}

func (d *damaged) marks(n int) {
	require.NoError(d, d.update(func(tx *Tx) error {
		var rows []marks.Row
		for i := range n {
			rows = append(rows, marks.Row{Mark: accel.TagMark(fmt.Sprint(i)), Soft: 9})
		}
		return tx.WriteMarks(rows)
	}))
}

// tree returns the pages of a bucket, and its leaves in order.
func (d *damaged) tree(name []byte) (root uint64, leaves []uint64, pages map[uint64]page) {
	pages = map[uint64]page{}
	require.NoError(d, d.db.View(func(btx *bolt.Tx) error {
		m := mappingOf(btx)
		s, err := stemOf(btx, m).bucket(name)
		require.NoError(d, err)
		root = s.root
		var down func(id uint64)
		down = func(id uint64) {
			p, err := m.page(id)
			require.NoError(d, err)
			pages[id] = page(bytes.Clone(p))
			if p.flags() == flagLeaf {
				leaves = append(leaves, id)
				return
			}
			for i := range p.count() {
				down(p.leadsTo(i))
			}
		}
		down(root)
		return nil
	}))
	return root, leaves, pages
}

func (d *damaged) write(b []byte, at int64) {
	f, err := os.OpenFile(d.path, os.O_WRONLY, 0)
	require.NoError(d, err)
	defer f.Close()
	_, err = f.WriteAt(b, at)
	require.NoError(d, err)
}

func word(v uint32) []byte { return native.AppendUint32(nil, v) }

func (d *damaged) look() *pages {
	b, err := os.ReadFile(d.path)
	require.NoError(d, err)
	p := &pages{f: bytes.NewReader(b), size: int64(len(b)), seen: map[uint64]bool{}}
	require.NoError(d, p.readMeta(&Look{}))
	require.NoError(d, p.freelist())
	return p
}

func (p page) keys(t require.TestingT, from int) (list [][]byte) {
	for i := from; i < p.count(); i++ {
		k, err := p.key(i)
		require.NoError(t, err)
		list = append(list, k)
	}
	return list
}

// A commit frees the free list of the one before, for as many pages as that says.
func TestFreeListWithoutEnd(t *testing.T) {
	d := newDamaged(t)
	d.entries(100)
	d.write(word(1<<32-1), int64(d.look().meta.freelist)*smallPage+12)
	require.ErrorIs(t, d.update(func(tx *Tx) error { return tx.Put(d.entry(1000), time.Time{}) }), ErrDamaged)
}

// A page that has become small is merged with the one beside it, which is freed.
func TestMergeWithAPageWithoutEnd(t *testing.T) {
	d := newDamaged(t)
	d.marks(200)
	_, _, pages := d.tree(bucketG)
	free := d.look().free
	highest := native.Uint64(free[len(free)-8:])
	var small, bad uint64 // bad is none that is freed after one that is free already
	for _, p := range pages {
		if p.flags() == flagBranch && pages[p.leadsTo(0)].flags() == flagLeaf && p.leadsTo(1) > highest {
			small, bad = p.leadsTo(0), p.leadsTo(1)
		}
	}
	require.NotZero(t, bad)
	d.write(word(1<<32-1), int64(bad)*smallPage+12)
	require.ErrorIs(t, d.update(func(tx *Tx) (err error) {
		for _, k := range pages[small].keys(t, 1) {
			err = errors.Join(err, tx.g.Delete(k))
		}
		return err
	}), ErrDamaged)
}

// A branch that leads to the one beside its parent is merged with the one beside itself,
// and then their parent with the one that they lead to: each was the other's parent.
func TestMergeWithABranchThatLeadsAside(t *testing.T) {
	d := newDamaged(t)
	d.entries(200)
	_, _, pages := d.tree(bucketK)
	branch := func(id uint64, children int) bool {
		return pages[id].flags() == flagBranch && pages[id].count() >= children
	}
	var aside, parent uint64 // next to each other, two levels above the leaves
	for id, p := range pages {
		if branch(id, 2) && branch(p.leadsTo(0), 2) && branch(p.leadsTo(1), 2) &&
			branch(pages[p.leadsTo(1)].leadsTo(0), 2) && branch(pages[p.leadsTo(1)].leadsTo(1), 2) {
			aside, parent = p.leadsTo(0), p.leadsTo(1)
		}
	}
	require.NotZero(t, parent)
	bad := pages[parent].leadsTo(1)
	d.write(native.AppendUint64(nil, aside), int64(bad)*smallPage+pageHeader+8)
	require.ErrorIs(t, d.update(func(tx *Tx) error {
		var err error
		var empty func(id uint64, from int)
		empty = func(id uint64, from int) {
			for i, k := range pages[id].keys(t, 0) {
				switch {
				case id == parent && i == 1 || i < from:
				case branch(id, 1):
					empty(pages[id].leadsTo(i), 0)
				default:
					err = errors.Join(err, tx.k.Delete(k))
				}
			}
		}
		empty(pages[parent].leadsTo(0), 1)
		for i := 2; i < pages[parent].count(); i++ {
			empty(pages[parent].leadsTo(i), 0)
		}
		leaf := aside
		for branch(leaf, 1) {
			leaf = pages[leaf].leadsTo(0)
		}
		empty(leaf, 1)
		return err
	}), ErrDamaged)
}

// The page that is damaged is a leaf of the branch beside: it is beside none that anything
// is deleted from, until bbolt has merged the two branches.
func TestMergeWithACousin(t *testing.T) {
	d := newDamaged(t)
	empty := func(ids ...uint64) {
		require.NoError(t, d.update(func(tx *Tx) (err error) {
			_, _, pages := d.tree(bucketG)
			for _, id := range ids {
				for _, k := range pages[id].keys(t, 0) {
					err = errors.Join(err, tx.g.Delete(bytes.Clone(k)))
				}
			}
			return err
		}))
	}
	d.marks(300)
	for { // until the root has three branches
		root, leaves, pages := d.tree(bucketG)
		if pages[root].count() <= 3 {
			break
		}
		empty(leaves[len(leaves)-1])
	}
	root, _, pages := d.tree(bucketG)
	for _, i := range []int{0, 2} { // of which the first and the last have five leaves
		b := pages[pages[root].leadsTo(i)]
		for j := 5; j < b.count(); j++ {
			empty(b.leadsTo(j))
		}
	}
	root, _, pages = d.tree(bucketG)
	first, next, last := pages[root].leadsTo(0), pages[root].leadsTo(1), pages[root].leadsTo(2)
	require.Equal(t, 5, pages[first].count())
	require.Equal(t, 5, pages[last].count())

	bad := pages[next].leadsTo(0) // becomes a branch, which leads up
	k := pages[bad].keys(t, 0)[0]
	p := native.AppendUint64(nil, bad)
	p = native.AppendUint16(p, flagBranch)
	p = native.AppendUint16(p, 1)
	p = native.AppendUint32(p, 0)
	p = append(append(p, word(branchElem)...), word(uint32(len(k)))...)
	d.write(append(native.AppendUint64(p, first), k...), int64(bad)*smallPage)
	require.ErrorIs(t, d.update(func(tx *Tx) (err error) {
		for i := range 5 {
			for _, k := range pages[pages[first].leadsTo(i)].keys(t, max(0, 1-i)) {
				err = errors.Join(err, tx.g.Delete(bytes.Clone(k)))
			}
		}
		for _, k := range pages[pages[last].leadsTo(2)].keys(t, 0) {
			err = errors.Join(err, tx.g.Delete(bytes.Clone(k)))
		}
		return err
	}), ErrDamaged)
}

// Page 0 is a meta: nothing leads there, neither the way to a key nor the one beside it.
func TestAWayToPage0(t *testing.T) {
	for i, name := range []string{"the way", "beside it"} {
		d := newDamaged(t)
		d.marks(200)
		_, leaves, pages := d.tree(bucketG)
		at := pages[leaves[0]].keys(t, 0)[0]
		var parent uint64
		for id, p := range pages {
			if p.flags() == flagBranch && p.leadsTo(0) == leaves[0] {
				parent = id
			}
		}
		require.NotZero(t, parent)
		d.write(make([]byte, 8), int64(parent)*smallPage+pageHeader+branchElem*int64(i)+8)
		require.ErrorIs(t, d.update(func(tx *Tx) error { return tx.g.Delete(at) }), ErrDamaged, name)
	}
}

// A root with one page below it is replaced by that.
func TestRootBelowItself(t *testing.T) {
	d := newDamaged(t)
	d.marks(9)
	root, leaves, pages := d.tree(bucketG)
	require.Len(t, leaves, 2)
	first := pages[leaves[1]].keys(t, 0)[0]
	bad := make([]byte, smallPage) // a branch, where the leaf was: it leads to the root
	native.PutUint64(bad, leaves[1])
	native.PutUint16(bad[8:], flagBranch)
	native.PutUint16(bad[10:], 1)
	native.PutUint32(bad[16:], branchElem)
	native.PutUint32(bad[20:], uint32(len(first)))
	native.PutUint64(bad[24:], root)
	copy(bad[32:], first)
	d.write(bad, int64(leaves[1])*smallPage)
	require.ErrorIs(t, d.update(func(tx *Tx) (err error) {
		for _, k := range pages[leaves[0]].keys(t, 0) {
			err = errors.Join(err, tx.g.Delete(k))
		}
		return err
	}), ErrDamaged)
}

// A search that ends on a leaf which the transaction has emptied goes on to the next.
func TestSearchOverEmptiedLeaves(t *testing.T) {
	d := newDamaged(t)
	d.entries(100)
	_, leaves, pages := d.tree(bucketT)
	bad := bytes.Clone(pages[leaves[4]][:smallPage]) // says that it is a branch, to itself
	native.PutUint16(bad[8:], flagBranch)
	for i := range int(native.Uint16(bad[10:])) {
		native.PutUint64(bad[pageHeader+branchElem*i+8:], leaves[4])
	}
	d.write(bad, int64(leaves[4])*smallPage)
	require.ErrorIs(t, d.update(func(tx *Tx) error {
		for _, l := range []int{3, 2, 1, 0} {
			p := pages[leaves[l]]
			for i, k := range p.keys(t, 0) {
				v, _, err := p.value(i)
				require.NoError(t, err)
				row, err := decodeTagRow(k, v)
				if err != nil {
					continue // the name
				}
				key, err := ParseKey(row.key)
				require.NoError(t, err)
				if err := tx.Delete(key, 0); err != nil {
					return err
				}
			}
		}
		return nil
	}), ErrDamaged)
}

// A page that a key is written to is written anew, with all that it says it holds.
func TestRowsOfGigabytesBesideOneThatIsWritten(t *testing.T) {
	d := newDamaged(t)
	d.marks(200)
	_, leaves, pages := d.tree(bucketG)
	p := pages[leaves[3]]
	for i := 1; i < p.count(); i++ {
		d.write(word(0x7ff00000), int64(leaves[3])*smallPage+pageHeader+leafElem*int64(i)+12)
	}
	require.ErrorIs(t, d.update(func(tx *Tx) error { return tx.g.Put(p.keys(t, 0)[0], []byte("x")) }), ErrDamaged)
}

// One bit makes a mark a bucket, in which bbolt finds page 0, on which it finds a bucket.
// It passed for sound at each start.
func TestAMarkThatIsABucket(t *testing.T) {
	for _, n := range []int{1, 3, 30} {
		d := newDamaged(t)
		d.marks(n)
		var at int64
		require.NoError(t, d.db.View(func(btx *bolt.Tx) error {
			m := mappingOf(btx)
			s, err := stemOf(btx, m).bucket(bucketG)
			require.NoError(t, err)
			p := s.inline
			if p == nil {
				w, err := m.way(s.root, bytes.Repeat([]byte{0xff}, 9), false)
				require.NoError(t, err)
				p = w.leaf
			}
			at = int64(bytes.LastIndex(m.data, p)) + pageHeader + leafElem*int64(p.count()-1)
			return nil
		}))
		b, err := os.ReadFile(d.path)
		require.NoError(t, err)
		d.write([]byte{b[at] | 1}, at)
		require.ErrorIs(t, d.update(func(tx *Tx) error { return tx.ResetMarks() }), ErrDamaged, "%d marks", n)
		b, err = os.ReadFile(d.path)
		require.NoError(t, err)
		_, err = Examine(bytes.NewReader(b), int64(len(b)))
		require.ErrorIs(t, err, ErrDamaged, "%d marks", n)
	}
}
