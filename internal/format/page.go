package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"sort"
)

// bbolt's own layout, of its version 2 files. Integers are in the byte order of
// the machine.
const (
	boltMagic   = 0xED0CDAED
	boltVersion = 2

	pageHeader = 16 // id u64, flags u16, count u16, overflow u32
	leafElem   = 16 // flags u32, pos u32, ksize u32, vsize u32
	branchElem = 16 // pos u32, ksize u32, page u64
	metaLen    = 64

	flagBranch = 0x01
	flagLeaf   = 0x02
	flagFree   = 0x10

	bucketElem = 0x01

	noFreelist = 1<<64 - 1

	maxKey = 32768 // bytes; bbolt takes no longer ones
)

var native = binary.NativeEndian

type boltMeta struct {
	pageSize       uint32
	root, freelist uint64
	pages          uint64 // high-water mark: pages in use are below it
	txid           uint64
}

// metaOf reads the meta that a page has behind its header.
func metaOf(b []byte) boltMeta {
	return boltMeta{
		pageSize: native.Uint32(b[8:]),
		root:     native.Uint64(b[16:]), // then u64 sequence
		freelist: native.Uint64(b[32:]),
		pages:    native.Uint64(b[40:]),
		txid:     native.Uint64(b[48:]),
	}
}

// metaSound reports whether a meta is bbolt's, and as it wrote it.
func metaSound(b []byte) bool {
	sum := uint64(14695981039346656037) // FNV-1a
	for _, c := range b[:metaLen-8] {
		sum = (sum ^ uint64(c)) * 1099511628211
	}
	return native.Uint32(b) == boltMagic && native.Uint32(b[4:]) == boltVersion && native.Uint64(b[metaLen-8:]) == sum
}

// A page is one of the file's, with its overflow, or that of an inline bucket. It has a
// whole header; what that says of the rest is not believed.
type page []byte

func (p page) flags() uint16 { return native.Uint16(p[8:]) }
func (p page) count() int    { return int(native.Uint16(p[10:])) }

// key returns the key of the i-th element of a branch or a leaf.
func (p page) key(i int) ([]byte, error) {
	at := pageHeader + i*branchElem // as long as leafElem
	if i >= p.count() || at+branchElem > len(p) {
		return nil, fmt.Errorf("%w: a page of %d elements", ErrDamaged, p.count())
	}
	where := p[at:]
	if p.flags() == flagLeaf {
		where = where[4:] // behind its flags
	}
	from := uint64(at) + uint64(native.Uint32(where))
	to := from + uint64(native.Uint32(where[4:]))
	if to > uint64(len(p)) {
		return nil, fmt.Errorf("%w: an element out of its page", ErrDamaged)
	}
	return p[from:to], nil
}

// value returns the value of the i-th element of a leaf, and its flags.
func (p page) value(i int) (v []byte, flags uint32, err error) {
	k, err := p.key(i)
	if err != nil {
		return nil, 0, err
	}
	e := p[pageHeader+i*leafElem:]
	from := uint64(pageHeader+i*leafElem) + uint64(native.Uint32(e[4:])) + uint64(len(k))
	to := from + uint64(native.Uint32(e[12:]))
	if to > uint64(len(p)) {
		return nil, 0, fmt.Errorf("%w: an element out of its page", ErrDamaged)
	}
	return p[from:to], native.Uint32(e), nil
}

// leadsTo returns the page that the i-th element of a branch leads to, if there is such
// an element.
func (p page) leadsTo(i int) uint64 { return native.Uint64(p[pageHeader+i*branchElem+8:]) }

// search returns the first element that is not below key, as bbolt finds it, also
// where the keys are not in order.
func (p page) search(key []byte) (i int, exact bool, err error) {
	i = sort.Search(p.count(), func(i int) bool {
		k, e := p.key(i)
		if e != nil {
			err = e
			return true
		}
		c := bytes.Compare(k, key)
		exact = exact || c == 0
		return c >= 0
	})
	return i, exact, err
}

// toward returns the element of a branch that leads to a key, as bbolt goes.
func (p page) toward(key []byte) (int, error) {
	i, exact, err := p.search(key)
	if !exact && i > 0 {
		i--
	}
	return i, err
}

// fits reports whether a page is as large as its elements need: bbolt makes it no larger.
func (p page) fits(pageSize int64) bool {
	end := uint64(pageHeader)
	if n := p.count(); n > 0 {
		k, err := p.key(n - 1)
		if err != nil {
			return false
		}
		e := p[pageHeader+(n-1)*leafElem:]
		if end += uint64(n-1) * leafElem; p.flags() == flagLeaf {
			end += uint64(native.Uint32(e[4:])) + uint64(native.Uint32(e[12:]))
		} else {
			end += uint64(native.Uint32(e))
		}
		end += uint64(len(k))
	}
	ps := uint64(pageSize)
	return (end+ps-1)/ps*ps == uint64(len(p))
}

// whole looks at every element of a page that bbolt reads all of, to write it anew.
func (p page) whole(id uint64) error {
	for i := range p.count() {
		var err error
		if p.flags() == flagLeaf {
			_, _, err = p.value(i)
		} else {
			_, err = p.key(i)
		}
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
	}
	return nil
}

// inOrder looks whether the keys ascend from first, and stay below next; nil is any.
func (p page) inOrder(id uint64, first, next []byte) error {
	for i := range p.count() {
		k, err := p.key(i)
		if err == nil {
			err = inOrder(id, i, k, first, next)
		}
		if err != nil {
			return err
		}
		first = k
	}
	return nil
}

// inOrder reports that the i-th key of a page is not where it belongs: the first is
// to be before, another to be above that, and each below next.
func inOrder(id uint64, i int, key, before, next []byte) error {
	switch c := bytes.Compare(key, before); {
	case before != nil && i == 0 && c != 0,
		i > 0 && c <= 0,
		next != nil && bytes.Compare(key, next) >= 0:
		return fmt.Errorf("%w: the keys of page %d are not in order", ErrDamaged, id)
	}
	return nil
}

// plain looks whether a leaf has rows only, and no buckets.
func (p page) plain(id uint64) error {
	for i := range p.count() {
		switch _, flags, err := p.value(i); {
		case err != nil:
			return err
		case flags != 0:
			return fmt.Errorf("%w: a bucket on page %d", ErrDamaged, id)
		}
	}
	return nil
}

// A child is an element of a branch page.
type child struct {
	id  uint64
	key []byte
}

func (p page) child(i int) (c child, err error) {
	if c.key, err = p.key(i); err == nil {
		c.id = p.leadsTo(i)
	}
	return c, err
}

// children returns the elements of a branch, of which there is one at least.
func (p page) children() (list []child, err error) {
	if p.count() == 0 {
		return nil, fmt.Errorf("%w: branch page of no elements", ErrDamaged)
	}
	list = make([]child, 0, min(p.count(), len(p)/branchElem))
	for i := range p.count() {
		c, err := p.child(i)
		if err != nil {
			return nil, err
		}
		list = append(list, c)
	}
	return list, nil
}

// elements calls f with the elements of a leaf.
func (p page) elements(f func(flags uint32, k, v []byte)) error {
	if pageHeader+p.count()*leafElem > len(p) {
		return fmt.Errorf("%w: leaf page of %d elements", ErrDamaged, p.count())
	}
	for i := range p.count() {
		k, err := p.key(i)
		if err != nil {
			return err
		}
		v, flags, err := p.value(i)
		if err != nil {
			return err
		}
		f(flags, k, v)
	}
	return nil
}

// freeIDs returns the numbers of the pages that a free list names, of eight bytes each.
func (p page) freeIDs() ([]byte, error) {
	if p.flags() != flagFree {
		return nil, fmt.Errorf("%w: free list has flags %#x", ErrDamaged, p.flags())
	}
	ids, n := p[pageHeader:], uint64(p.count())
	if p.count() == 0xFFFF { // then the number stands in the first word
		if len(ids) < 8 {
			return nil, fmt.Errorf("%w: free list", ErrDamaged)
		}
		n, ids = native.Uint64(ids), ids[8:]
	}
	if n > uint64(len(ids))/8 || p.count() == 0xFFFF && n < 0xFFFF {
		return nil, fmt.Errorf("%w: free list of %d pages", ErrDamaged, n)
	}
	return ids[:8*n], nil
}
