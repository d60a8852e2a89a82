package format

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	bolt "go.etcd.io/bbolt"
)

// bbolt follows the pages of a file wherever they lead: round in a circle until the
// stack is full, which ends the process, or until there is no memory. The file was
// examined when it was opened; but it may be damaged while it is open: a disk loses a
// write, somebody writes over it. So nothing asks bbolt for a key before the way to
// it was gone by the following, which knows how long a way can be, and what stands at
// its beginning and end.

// maxDepth is how many levels a tree has at most. With two elements on a page, these
// would be four billion pages.
const maxDepth = 32

// A mapping is the file as a transaction has it: what was committed when it began. Its
// pages stay as they are, and where they are, until the transaction is over, or is
// committed.
type mapping struct {
	data     []byte
	pageSize int64
	// parents has the parents of the pages that bbolt may have changed: those, and
	// those beside, whose elements were all looked at.
	parents  map[uint64]uint64
	branches []page // among them
	// ends has the first key of the last leaf of a tree, by its root, if it is one of them:
	// all that is appended goes there.
	ends    map[uint64][]byte
	deleted bool // keys were: bbolt may merge branches
}

func mappingOf(btx *bolt.Tx) *mapping {
	return mappingTo(btx.DB(), btx.Size())
}

func mappingTo(db *bolt.DB, size int64) *mapping {
	info := db.Info()
	// The address is that of no Go object, which a plain conversion would have it
	// checked for.
	data := *(*unsafe.Pointer)(unsafe.Pointer(&info.Data))
	return &mapping{data: unsafe.Slice((*byte)(data), size), pageSize: int64(info.PageSize)}
}

// Mapped is the mapping of an open file as it is read without a transaction, which takes
// locks and memory. The pages of a state are written over by the transaction after the
// next, at the earliest: what was read of a state is true if it is still the last.
//
// It is safe for concurrent use.
type Mapped struct {
	m    mapping
	last atomic.Pointer[mappedRows] // that was asked for
}

// mappedRows are those of one state.
type mappedRows struct {
	rows
	mapping
	txid uint64
}

// MappedTo returns the mapping of db up to a size. The caller knows that it is mapped as
// far as that, and stays where it is until db is closed.
func MappedTo(db *bolt.DB, size int64) *Mapped { return &Mapped{m: *mappingTo(db, size)} }

// meta returns one of the two metas.
func (m *mapping) meta(id int64) []byte { return m.data[id*m.pageSize+pageHeader:][:metaLen] }

// Last reports whether txid is the last transaction that was committed, as far as the
// file says.
func (f *Mapped) Last(txid uint64) bool {
	return txid == max(metaOf(f.m.meta(0)).txid, metaOf(f.m.meta(1)).txid)
}

// state returns what the transaction txid has left. There is none if it is not the last:
// another was committed, or an older state of the file was written over it.
func (f *Mapped) state(txid uint64) (m mapping, root uint64, err error) {
	b := f.m.meta(int64(txid % 2))
	meta := metaOf(b)
	if !f.Last(txid) || meta.txid != txid || !metaSound(b) || meta.pages > uint64(len(f.m.data))/uint64(f.m.pageSize) {
		return m, 0, fmt.Errorf("%w: no meta", ErrDamaged)
	}
	return mapping{data: f.m.data[:int64(meta.pages)*f.m.pageSize], pageSize: f.m.pageSize}, meta.root, nil
}

// rows returns the rows of a state. They are found once for all who read it.
func (f *Mapped) rows(txid uint64) (*rows, error) {
	if last := f.last.Load(); last != nil && last.txid == txid && f.Last(txid) {
		return &last.rows, nil
	}
	m, root, err := f.state(txid)
	if err != nil {
		return nil, err
	}
	r := &mappedRows{mapping: m, txid: txid}
	if r.rows, err = rowsOf(stem{m: &r.mapping, root: root}); err != nil {
		return nil, err
	}
	if f.Last(txid) { // otherwise they may be those of another
		f.last.Store(r)
	}
	return &r.rows, nil
}

// freelist looks at the free list of the transaction txid, the last that was committed.
// bbolt frees its pages when it commits the next, and reads it again if it cannot.
func (m *mapping) freelist(txid uint64) error {
	for id := range int64(2) {
		meta := metaOf(m.meta(id))
		if meta.txid != txid {
			continue
		}
		p, err := m.page(meta.freelist)
		if err == nil {
			_, err = p.freeIDs()
		}
		return err
	}
	return fmt.Errorf("%w: no meta", ErrDamaged)
}

// page returns a page whose header says what it should.
func (m *mapping) page(id uint64) (page, error) {
	if id >= uint64(len(m.data))/uint64(m.pageSize) {
		return nil, fmt.Errorf("%w: page %d is beyond the end", ErrDamaged, id)
	}
	rest := m.data[int64(id)*m.pageSize:]
	if got := native.Uint64(rest); got != id {
		return nil, fmt.Errorf("%w: page %d says it is %d", ErrDamaged, id, got)
	}
	n := (1 + int64(native.Uint32(rest[12:]))) * m.pageSize
	if n > int64(len(rest)) {
		return nil, fmt.Errorf("%w: page %d overflows the file", ErrDamaged, id)
	}
	return page(rest[:n]), nil
}

// below looks at every element of a page, once in a transaction, and that no other page
// leads to it: bbolt would go round in circles in what it has of them in memory.
func (m *mapping) below(parent, id uint64, p page) error {
	if m.parents == nil {
		m.parents = make(map[uint64]uint64)
	}
	switch was, seen := m.parents[id]; {
	case !seen:
		m.parents[id] = parent
		if p.flags() == flagBranch {
			m.branches = append(m.branches, p)
		}
		return p.whole(id)
	case was != parent:
		return fmt.Errorf("%w: pages %d and %d lead to page %d", ErrDamaged, was, parent, id)
	}
	return nil
}

// noParent is the parent of a root.
const noParent = 1<<64 - 1

// mergeable looks whether the branches that bbolt may merge when the transaction is
// committed lead to what is below them alone. bbolt makes the merged page the parent of
// all that it has in memory of what the two lead to: also of what is below another, or
// of a page above, and then it goes round in circles.
func (m *mapping) mergeable() error {
	if !m.deleted {
		return nil
	}
	for _, p := range m.branches {
		id := native.Uint64(p)
		for i := range p.count() {
			if parent, changed := m.parents[p.leadsTo(i)]; changed && parent != id {
				return fmt.Errorf("%w: page %d leads to %d, which is below page %d", ErrDamaged, id, p.leadsTo(i), parent)
			}
		}
	}
	return nil
}

// touch looks at what bbolt reads when it changes a key and, if it deletes it, merges the
// pages on the way to it with those beside them. These may have other parents, which are
// merged before.
func (m *mapping) touch(root uint64, key []byte, beside bool) error {
	if end := m.ends[root]; end != nil && !beside && bytes.Compare(key, end) >= 0 {
		return nil
	}
	last := true
	var before, after visit
	at := visit{child: child{id: root}, parent: noParent, there: true}
	m.deleted = m.deleted || beside
	for range maxDepth {
		for _, v := range [...]*visit{&at, &before, &after} {
			if !v.there {
				continue
			}
			var err error
			if v.page, err = m.enter(v.child); err == nil {
				err = m.below(v.parent, v.id, v.page)
			}
			if err == nil && v.page.flags() != at.page.flags() {
				err = fmt.Errorf("%w: pages %d and %d are on one level", ErrDamaged, v.id, at.id)
			}
			if err != nil {
				return err
			}
		}
		if at.page.flags() == flagLeaf {
			if last && at.key != nil {
				if m.ends == nil {
					m.ends = make(map[uint64][]byte)
				}
				m.ends[root] = at.key
			}
			return nil
		}
		i, err := at.page.toward(key)
		last = last && i == at.page.count()-1
		if err == nil && beside {
			if before, err = at.before(i, before); err == nil {
				after, err = at.after(i, after)
			}
		}
		if err == nil {
			at, err = at.to(i)
		}
		if err != nil {
			return err
		}
	}
	return errDepth
}

// A visit is to a page below another; the zero one is to none.
type visit struct {
	child
	parent uint64
	page   page
	there  bool
}

func (v visit) to(i int) (visit, error) {
	c, err := v.page.child(i)
	return visit{child: c, parent: v.id, there: true}, err
}

// before goes to the page before the i-th below v: below v as well, or the last below
// other, the page before v.
func (v visit) before(i int, other visit) (visit, error) {
	switch {
	case i > 0:
		return v.to(i - 1)
	case other.there:
		return other.to(other.page.count() - 1)
	}
	return visit{}, nil
}

// after goes to the page after the i-th below v; other is the page after v.
func (v visit) after(i int, other visit) (visit, error) {
	switch {
	case i+1 < v.page.count():
		return v.to(i + 1)
	case other.there:
		return other.to(0)
	}
	return visit{}, nil
}

// enter returns a page that begins with the key that its parent has for it.
func (m *mapping) enter(at child) (page, error) {
	p, err := m.page(at.id)
	if err != nil {
		return nil, err
	}
	// What bbolt keeps to: a page is as large as it must be, and none below a branch is
	// empty.
	switch f := p.flags(); {
	case f != flagLeaf && f != flagBranch, f == flagBranch && p.count() == 0:
		return nil, fmt.Errorf("%w: page %d has flags %#x and %d elements", ErrDamaged, at.id, f, p.count())
	case !p.fits(m.pageSize):
		return nil, fmt.Errorf("%w: page %d is of another size than its elements", ErrDamaged, at.id)
	case at.key == nil:
		return p, nil
	}
	switch k, err := p.key(0); {
	case err != nil:
		return nil, err
	case !bytes.Equal(k, at.key):
		return nil, fmt.Errorf("%w: page %d does not begin where it should", ErrDamaged, at.id)
	}
	return p, nil
}

// A way is where a look for a key came by: the leaf on which it is, or would be, and
// the pages beside the way, by which the leaves before and after that are reached; their
// keys are nil if there are none.
type way struct {
	leaf          page
	before, after child
}

// way goes the way to a key. If it is to be in order, so are the keys of each page that
// it comes by, and within what its parent has for it: who goes on from there comes to
// the pages beside the way, and to no others.
func (m *mapping) way(root uint64, key []byte, inOrder bool) (w way, err error) {
	at := child{id: root}
	for range maxDepth {
		p, err := m.enter(at)
		if err == nil && inOrder {
			err = p.inOrder(at.id, at.key, w.after.key)
		}
		if err != nil || p.flags() == flagLeaf {
			w.leaf = p
			return w, err
		}
		i, err := p.toward(key)
		if err == nil && i > 0 {
			w.before, err = p.child(i - 1)
		}
		if err == nil && i+1 < p.count() {
			w.after, err = p.child(i + 1)
		}
		if err == nil {
			at, err = p.child(i)
		}
		if err != nil {
			return w, err
		}
	}
	return w, errDepth
}

var errDepth = fmt.Errorf("%w: a tree of more than %d levels", ErrDamaged, maxDepth)

// edge goes the way to the first key below a page, or to the last.
func (m *mapping) edge(at child, last bool) error {
	for range maxDepth {
		p, err := m.enter(at)
		if err != nil || p.flags() == flagLeaf {
			return err
		}
		i := 0
		if last {
			i = p.count() - 1
		}
		if at, err = p.child(i); err != nil {
			return err
		}
	}
	return errDepth
}

// all goes every way.
func (m *mapping) all(root uint64) error {
	seen := pageSet{}
	var down func(at child, depth int) error
	down = func(at child, depth int) error {
		switch {
		case depth == maxDepth:
			return errDepth
		case !seen.add(at.id):
			return fmt.Errorf("%w: page %d is reached twice", ErrDamaged, at.id)
		}
		p, err := m.enter(at)
		if err == nil && p.flags() == flagLeaf {
			err = p.plain(at.id)
		}
		if err != nil || p.flags() == flagLeaf {
			return err
		}
		for i := range p.count() {
			next, err := p.child(i)
			if err == nil {
				err = down(next, depth+1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return down(child{id: root}, 0)
}

// A stem is a bucket as it is read without bbolt, which allocates nothing.
type stem struct {
	m      *mapping
	root   uint64
	inline page // of a small bucket, which lies in its parent; nil if it does not
}

// stemOf is the bucket of the buckets.
func stemOf(btx *bolt.Tx, m *mapping) stem {
	return stem{m: m, root: uint64(btx.Cursor().Bucket().Root())}
}

// get returns the value of a key, nil if there is none. It points into the file.
func (s stem) get(key []byte) (v []byte, flags uint32, err error) {
	at, err := s.seek(key)
	if err != nil {
		return nil, 0, err
	}
	return at.get(key)
}

// A place is an element of a leaf.
type place struct {
	leaf page
	i    int
}

// seek returns where the key stands, or would.
func (s stem) seek(key []byte) (at place, err error) {
	if at.leaf = s.inline; at.leaf == nil {
		w, err := s.m.way(s.root, key, false)
		if err != nil {
			return at, err
		}
		at.leaf = w.leaf
	}
	at.i, _, err = at.leaf.search(key)
	return at, err
}

// get returns the value at a place if it is that of the key, and nil if it is not.
func (at place) get(key []byte) (v []byte, flags uint32, err error) {
	if at.i >= at.leaf.count() {
		return nil, 0, nil
	}
	if k, err := at.leaf.key(at.i); err != nil || !bytes.Equal(k, key) {
		return nil, 0, err
	}
	return at.leaf.value(at.i)
}

func (s stem) value(key []byte) ([]byte, error) {
	v, _, err := s.get(key)
	return v, err
}

// latest is value, with what is pending.
func (s stem) latest(pending *changes, key []byte) ([]byte, error) {
	if v, known := changed(pending, key); known {
		return v, nil
	}
	return s.value(key)
}

// small reports whether the bucket has no pages of its own: it lies in its parent, or
// was made by this very transaction.
func (s stem) small() bool { return s.inline != nil || s.root == 0 }

// bucket returns a bucket in s.
func (s stem) bucket(name []byte) (stem, error) {
	v, flags, err := s.get(name)
	switch {
	case err != nil:
		return stem{}, err
	case v == nil || flags&bucketElem == 0:
		return stem{}, fmt.Errorf("%w: %s", errNoBucket, name)
	case len(v) < 16:
		return stem{}, fmt.Errorf("%w: bucket of %d bytes", ErrDamaged, len(v))
	}
	b := stem{m: s.m, root: native.Uint64(v)}
	if b.root == 0 {
		if b.inline = page(v[16:]); len(b.inline) < pageHeader || b.inline.flags() != flagLeaf {
			return stem{}, fmt.Errorf("%w: inline bucket", ErrDamaged)
		}
	}
	return b, nil
}

var errNoBucket = fmt.Errorf("%w: a bucket is missing", ErrDamaged)

// A tree is a bucket that bbolt is asked of only where the way is sound. Where it is
// not, the methods panic with an error that wraps ErrDamaged: everybody who calls
// bbolt has to recover from its panics in any case.
//
// Of k and t, Get, and what Rows returns, have what is pending as well; and where there is
// a ledger, Put and Delete note there what they are to do, and keep key and value. A Cursor
// has what is in the file.
type tree struct {
	b       *bolt.Bucket
	stem    stem
	pending *changes // nil if there are none
	ledger  *ledger  // nil: at once
	in      int      // inK or inT
}

// open returns a bucket in s.
func (s stem) open(btx *bolt.Tx, name []byte) (tree, error) {
	b, err := s.bucket(name)
	if err != nil && !errors.Is(err, errNoBucket) {
		return tree{}, err
	}
	t := tree{b: btx.Bucket(name), stem: b}
	if t.b == nil {
		return tree{}, fmt.Errorf("%w: %s", errNoBucket, name)
	}
	return t, nil // perhaps made by this very transaction
}

func (t tree) sound(key []byte) {
	if !t.stem.small() {
		if _, err := t.stem.m.way(t.stem.root, key, false); err != nil {
			panic(err)
		}
	}
}

// touch is sound for what is written: bbolt then reads whole pages, and those beside.
func (t tree) touch(key []byte, beside bool) {
	var err error
	if t.stem.inline != nil {
		err = t.stem.inline.whole(0)
	} else if t.stem.root != 0 {
		err = t.stem.m.touch(t.stem.root, key, beside)
	}
	if err != nil {
		panic(err)
	}
}

// whole looks at every way, which bbolt goes when it deletes the bucket.
func (t tree) whole() error {
	switch {
	case t.stem.inline != nil:
		return t.stem.inline.plain(0)
	case t.stem.root == 0:
		return nil
	}
	return t.stem.m.all(t.stem.root)
}

func (t tree) Get(key []byte) []byte {
	if v, known := changed(t.pending, key); known {
		return v
	}
	if t.ledger != nil && !t.stem.small() {
		// Nothing was changed in the file yet, and bbolt would go the same way again.
		v, err := t.stem.value(key)
		if err != nil {
			panic(err)
		}
		return v
	}
	t.sound(key)
	return t.b.Get(key)
}

func (t tree) Put(key, value []byte) error {
	if t.ledger != nil {
		t.ledger.change(t.in, key, value)
		return nil
	}
	t.touch(key, false)
	return t.b.Put(key, value)
}

func (t tree) Delete(key []byte) error {
	if t.ledger != nil {
		t.ledger.change(t.in, key, nil)
		return nil
	}
	t.touch(key, true)
	return t.b.Delete(key)
}

// Cursor returns one that looks ahead by a leaf, and by more where the transaction has
// emptied that.
func (t tree) Cursor() *cursor { return &cursor{t: t, c: t.b.Cursor()} }

// A cursor is to be moved by Seek, First or Last before it is moved on.
type cursor struct {
	t tree
	c *bolt.Cursor

	at  []byte // the key that it is at
	way way    // to a key on the leaf that it is at; zero in a small bucket
}

// look looks at the way to a key, and to the leaf after its own.
func (c *cursor) look(key []byte) {
	s := c.t.stem
	if s.small() {
		return
	}
	var err error
	c.way, err = s.m.way(s.root, key, true)
	for w := c.way; err == nil && w.after.key != nil; {
		// If the transaction has emptied that leaf, bbolt goes on to the next.
		if err = s.m.edge(w.after, false); err != nil || !c.t.b.Writable() || c.t.b.Get(w.after.key) != nil {
			break
		}
		w, err = s.m.way(s.root, w.after.key, true)
	}
	if err != nil {
		panic(err)
	}
}

// is notes that the cursor is at a key, and looks further if that is ahead of what was
// looked at.
func (c *cursor) is(k, v []byte) ([]byte, []byte) {
	if c.at = k; k != nil && c.way.after.key != nil && bytes.Compare(k, c.way.after.key) >= 0 {
		c.look(k)
	}
	return k, v
}

func (c *cursor) Seek(key []byte) (k, v []byte) {
	c.look(key)
	return c.is(c.c.Seek(key))
}

func (c *cursor) First() (k, v []byte) { return c.Seek(nil) }

func (c *cursor) Next() (k, v []byte) { return c.is(c.c.Next()) }

func (c *cursor) Last() (k, v []byte) {
	if !c.t.stem.small() {
		if err := c.t.stem.m.edge(child{id: c.t.stem.root}, true); err != nil {
			panic(err)
		}
	}
	if k, v = c.c.Last(); k != nil {
		c.look(k)
	}
	c.at = k
	return k, v
}

func (c *cursor) Prev() (k, v []byte) {
	// It leaves the leaf only from its first key.
	leaves := false
	if w := c.way; w.before.key != nil {
		first, err := w.leaf.key(0)
		if leaves = w.leaf.count() == 0 || err == nil && bytes.Compare(c.at, first) <= 0; leaves {
			err = c.t.stem.m.edge(w.before, true)
		}
		if err != nil {
			panic(err)
		}
	}
	if k, v = c.c.Prev(); k != nil && leaves {
		c.look(k)
	}
	c.at = k
	return k, v
}
