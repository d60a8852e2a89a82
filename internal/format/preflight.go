package format

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// bbolt trusts its file: handed a damaged one, it panics, or follows a page that
// points to itself until the stack is full, which nothing can recover. And
// opening a file for writing already changes it. So the file is first looked at
// with plain reads that need nothing from it but to be readable.

// A Look is what plain reads of a file tell.
type Look struct {
	// Empty: no bytes, or a bbolt file without a bucket. It may be laid out.
	Empty bool
	// OneMeta: one of the two meta pages is bad, so that bbolt takes the other
	// and with it the state of one transaction earlier.
	OneMeta bool
	UUID    string
}

// Examine looks at a file of a length and tells whether it is ours and whether
// bbolt may open it. It writes nothing, needs no lock, and does not rely on one;
// of a file in use by another process it may say that it is damaged.
//
// Errors: ErrForeign, ErrVersion, ErrDamaged (ours, and not to be opened), or
// that of a read.
func Examine(f io.ReaderAt, size int64) (Look, error) {
	if size == 0 {
		return Look{Empty: true}, nil
	}
	p := &pages{f: f, size: size, seen: map[uint64]bool{}}
	look, err := p.examine()
	if err == nil || p.ours {
		return look, err
	}
	switch {
	case errors.Is(err, ErrForeign), errors.Is(err, ErrDamaged):
	default:
		return look, err
	}
	// It could not be read so far as to say whose it is. Ours has the signature
	// in its first pages, unless it was cut off before that.
	signed, serr := p.signed()
	switch {
	case serr != nil:
		return look, serr
	case signed && (p.others == nil || p.others[string(bucketA)] != nil):
		return look, fmt.Errorf("%w: %v", ErrDamaged, err)
	case errors.Is(err, ErrDamaged) && size < signaturePages*int64(p.meta.pageSize):
		return look, err
	}
	if errors.Is(err, ErrForeign) {
		return look, err
	}
	return look, fmt.Errorf("%w: %v", ErrForeign, err)
}

// The signature lies in the page that comes after the four of an empty bbolt
// file. signatureReach is where that ends at most, in pages of 64 KiB.
const (
	signaturePages = 5
	signatureReach = signaturePages << 16
)

var (
	errNotBolt = fmt.Errorf("%w: not a bbolt file", ErrForeign)
	errOthers  = fmt.Errorf("%w: a bbolt file of another program", ErrForeign)
)

type pages struct {
	f    io.ReaderAt
	size int64
	meta boltMeta
	seen map[uint64]bool // by walk, which is for small trees
	used pageSet         // by descend, which is for large ones

	free []byte // ids of the free list

	more func() bool // by ExamineLeaves: whether to go on
	buf  []byte      // by leafPage

	levels []page // by branchPage

	ours   bool              // the magic was read
	others map[string][]byte // the root's buckets, of a file without it
}

func (p *pages) examine() (look Look, err error) {
	if err := p.readMeta(&look); err != nil {
		return look, err
	}
	// The root first: a file of somebody else, or of another version, is none of
	// our business, damaged or not.
	root := map[string][]byte{}
	if err := p.walk(p.meta.root, func(flags uint32, k, v []byte) {
		if flags&bucketElem != 0 {
			root[string(k)] = bytes.Clone(v)
		}
	}); err != nil {
		return look, err
	}
	if len(root) == 0 {
		signed, err := p.signed()
		if err == nil && signed {
			p.ours = true
			err = fmt.Errorf("%w: its buckets are gone", ErrDamaged)
		}
		if err != nil {
			return look, err
		}
		if err := p.whole(); err != nil {
			return look, err
		}
		look.Empty = true
		return look, p.freelist()
	}
	m, ok := root[string(bucketM)]
	if !ok {
		p.others = root
		return look, errOthers
	}
	var mark []byte
	if err := p.bucket(m, func(_ uint32, k, v []byte) {
		if bytes.Equal(k, keyMagic) {
			mark = bytes.Clone(v)
		}
	}); err != nil {
		return look, err
	}
	_, uuid, err := parseMagic(mark)
	if errors.Is(err, ErrForeign) {
		p.others = root
		return look, errOthers
	}
	p.ours = true
	if err != nil {
		return look, err
	}
	look.UUID = fmt.Sprintf("%x", uuid)
	if err := p.whole(); err != nil {
		return look, err
	}
	if err := p.freelist(); err != nil {
		return look, err
	}
	// What is free, or part of something else, is no part of a bucket either.
	p.used = pageSet{}
	p.used.add(0) // the metas
	p.used.add(1)
	for id := range p.seen {
		p.used.add(id)
	}
	for b := p.free; len(b) > 0; b = b[8:] {
		if id := native.Uint64(b); !p.used.add(id) {
			return look, fmt.Errorf("%w: page %d is in use, and free", ErrDamaged, id)
		}
	}
	for _, name := range [][]byte{bucketK, bucketB, bucketX, bucketT, bucketG, bucketJ} {
		v, ok := root[string(name)]
		if !ok && bytes.Equal(name, bucketJ) {
			continue // it was never needed
		}
		if !ok {
			return look, fmt.Errorf("%w: bucket %s is missing", ErrDamaged, name)
		}
		if err := p.branches(v); err != nil {
			return look, err
		}
	}
	return look, nil
}

func (p *pages) readMeta(look *Look) error {
	var best boltMeta
	good := 0
	head := make([]byte, pageHeader+metaLen)
	// Meta page 1 is where the page size says, which meta page 0 says; where that
	// is bad, bbolt tries all powers of two, and so do we.
	try := func(off int64) (boltMeta, bool) {
		if n, _ := p.f.ReadAt(head, off); n < len(head) {
			return boltMeta{}, false
		}
		b := head[pageHeader:]
		return metaOf(b), metaSound(b)
	}
	consider := func(m boltMeta, ok bool) {
		if ok && m.pageSize >= 512 && m.pageSize <= 1<<16 && m.pages < 1<<40 {
			good++
			if good == 1 || m.txid > best.txid {
				best = m
			}
		}
	}
	m0, ok := try(0)
	consider(m0, ok)
	if ok {
		consider(try(int64(m0.pageSize)))
	} else {
		for size := int64(512); size <= 1<<16 && good == 0; size <<= 1 {
			if m1, ok := try(size); ok && int64(m1.pageSize) == size {
				consider(m1, true)
			}
		}
	}
	if good == 0 {
		return errNotBolt
	}
	look.OneMeta = good == 1
	p.meta = best
	return nil
}

// whole looks whether the file is as long as its pages.
func (p *pages) whole() error {
	if need := int64(p.meta.pages) * int64(p.meta.pageSize); p.size < need {
		return fmt.Errorf("%w: truncated to %d of %d bytes", ErrDamaged, p.size, need)
	}
	return nil
}

// page reads a page with its overflow.
func (p *pages) page(id uint64) (page, error) {
	ps := int64(p.meta.pageSize)
	if id >= p.meta.pages {
		return nil, fmt.Errorf("%w: page %d is beyond the end", ErrDamaged, id)
	}
	data := make([]byte, ps)
	if err := p.read(data, int64(id)*ps); err != nil {
		return nil, err
	}
	if native.Uint64(data) != id {
		return nil, fmt.Errorf("%w: page %d says it is %d", ErrDamaged, id, native.Uint64(data))
	}
	overflow := int64(native.Uint32(data[12:]))
	if overflow > 0 {
		if id+uint64(overflow) >= p.meta.pages {
			return nil, fmt.Errorf("%w: page %d overflows the file", ErrDamaged, id)
		}
		// Only roots and free lists are read whole; they are small.
		rest := make([]byte, min(overflow*ps, 64<<20))
		if err := p.read(rest, int64(id+1)*ps); err != nil {
			return nil, err
		}
		data = append(data, rest...)
	}
	return data, nil
}

func (p *pages) read(b []byte, off int64) error {
	n, err := p.f.ReadAt(b, off)
	if n == len(b) {
		return nil
	}
	if err == io.EOF || err == nil {
		return fmt.Errorf("%w: ends at %d", ErrDamaged, off+int64(n))
	}
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return fmt.Errorf("%w: read: %w", ErrDamaged, err)
}

// visit notes a page and refuses one that was reached before.
func (p *pages) visit(id uint64) error {
	if p.seen[id] {
		return fmt.Errorf("%w: page %d is reached twice", ErrDamaged, id)
	}
	p.seen[id] = true
	return nil
}

// A pageSet is a set of page numbers, a bit for each: a map of a million takes
// longer than all the rest of the look.
type pageSet map[uint64]*[512]uint64

// add adds a page and reports whether it is new.
func (s pageSet) add(id uint64) bool {
	part := s[id>>15]
	if part == nil {
		part = new([512]uint64)
		s[id>>15] = part
	}
	word, bit := &part[id>>6&511], uint64(1)<<(id&63)
	if *word&bit != 0 {
		return false
	}
	*word |= bit
	return true
}

// walk calls f with every element of a tree, for trees that are small.
func (p *pages) walk(id uint64, f func(flags uint32, k, v []byte)) error {
	if err := p.visit(id); err != nil {
		return err
	}
	page, err := p.page(id)
	if err != nil {
		return err
	}
	switch page.flags() {
	case flagLeaf:
		return page.elements(f)
	case flagBranch:
		children, err := page.children()
		for i := 0; err == nil && i < len(children); i++ {
			err = p.walk(children[i].id, f)
		}
		return err
	}
	return fmt.Errorf("%w: page %d has flags %#x", ErrDamaged, id, page.flags())
}

// bucket walks a bucket by the value it has in the root: u64 root page, u64
// sequence, and, where the root is 0, the one page it consists of.
func (p *pages) bucket(v []byte, f func(flags uint32, k, v []byte)) error {
	if len(v) < 16 {
		return fmt.Errorf("%w: bucket of %d bytes", ErrDamaged, len(v))
	}
	if root := native.Uint64(v); root != 0 {
		return p.walk(root, f)
	}
	if v = v[16:]; len(v) < pageHeader || native.Uint16(v[8:]) != flagLeaf {
		return fmt.Errorf("%w: inline bucket", ErrDamaged)
	}
	return page(v).elements(f)
}

// leavesUpTo is the number of pages up to which Examine looks at the leaves, too: 64
// MiB of pages of 4 KiB, and some 20 ms.
const leavesUpTo = 16384

// ExamineLeaves looks at the header of each leaf, as Examine does if the file is
// small, and at nothing if it is. A leaf that says to be a branch may lead bbolt
// round in circles, and one that says to go on for a million pages has it note each
// of them when it is freed. It reads a page for each that the file has: the file
// must not change meanwhile. It ends early, without an error, when more returns
// false.
//
// Errors: ErrDamaged, or that of a read.
func ExamineLeaves(f io.ReaderAt, size int64, more func() bool) error {
	p := &pages{f: f, size: size, seen: map[uint64]bool{}}
	if err := p.readMeta(&Look{}); err != nil || p.meta.pages <= leavesUpTo {
		return err
	}
	p.more = more
	_, err := p.examine()
	if err == errEnough {
		err = nil
	}
	return err
}

var errEnough = errors.New("enough")

// branches walks the branch pages of a bucket. Its trees are balanced, so the way
// down along the first children tells on which level the leaves are.
//
// What bbolt relies on when it writes is looked at as well: that keys ascend, and
// that a child begins with the very key that its parent has for it. Where one does
// not, bbolt adds an element to the parent in place of changing that one, frees the
// page that the old one leads to, and uses it for something else: from then on the
// tree may lead in circles.
func (p *pages) branches(v []byte) error {
	if len(v) < 16 {
		return fmt.Errorf("%w: bucket of %d bytes", ErrDamaged, len(v))
	}
	root := native.Uint64(v)
	if root == 0 {
		nested := false
		if err := p.bucket(v, func(flags uint32, _, _ []byte) { nested = nested || flags != 0 }); err != nil || !nested {
			return err
		}
		return fmt.Errorf("%w: a bucket in a bucket", ErrDamaged)
	}
	depth := 0
	for id := root; ; depth++ {
		if depth > 32 {
			return fmt.Errorf("%w: a tree of more than 32 levels", ErrDamaged)
		}
		flags, children, err := p.children(id)
		if err != nil {
			return err
		}
		if flags == flagLeaf {
			break
		}
		id = children[0].id
	}
	return p.descend(root, depth, nil, nil)
}

// descend looks at a page and those that it leads to. Its first key is to be first,
// and all are below next; nil is any.
func (p *pages) descend(id uint64, depth int, first, next []byte) error {
	if id >= p.meta.pages {
		return fmt.Errorf("%w: page %d is beyond the end", ErrDamaged, id)
	}
	if !p.used.add(id) {
		return fmt.Errorf("%w: page %d is reached twice, or free", ErrDamaged, id)
	}
	if depth == 0 {
		return p.leafPage(id, first, next)
	}
	page, err := p.branchPage(id, depth)
	if err != nil {
		return err
	}
	if err := page.inOrder(id, first, next); err != nil {
		return err
	}
	for i := range page.count() {
		c, end := child{}, next
		if c, err = page.child(i); err == nil && i+1 < page.count() {
			end, err = page.key(i + 1)
		}
		if err == nil {
			err = p.descend(c.id, depth-1, c.key, end)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// branchPage reads a branch page. It is good until another of the same level is read:
// a file of a million entries has ten thousand.
func (p *pages) branchPage(id uint64, level int) (page, error) {
	for len(p.levels) <= level {
		p.levels = append(p.levels, nil)
	}
	if p.levels[level] == nil {
		p.levels[level] = make(page, p.meta.pageSize)
	}
	branch := p.levels[level]
	if err := p.read(branch, int64(id)*int64(p.meta.pageSize)); err != nil {
		return nil, err
	}
	switch {
	case native.Uint64(branch) == id && branch.flags() == flagLeaf:
		return nil, fmt.Errorf("%w: page %d is a leaf among branches", ErrDamaged, id)
	case native.Uint64(branch) != id || branch.flags() != flagBranch:
		return nil, fmt.Errorf("%w: page %d says it is %d, with flags %#x", ErrDamaged, id, native.Uint64(branch), branch.flags())
	case branch.count() == 0:
		return nil, fmt.Errorf("%w: branch page of no elements", ErrDamaged)
	case native.Uint32(branch[12:]) != 0: // of long keys
		return p.page(id)
	}
	return branch, nil
}

// leafPage looks at the elements of a leaf, and notes the pages that it goes on for.
func (p *pages) leafPage(id uint64, first, next []byte) error {
	switch {
	case p.more != nil && !p.more():
		return errEnough
	case p.more == nil && p.meta.pages > leavesUpTo:
		return nil
	}
	ps := int(p.meta.pageSize)
	if p.buf == nil {
		p.buf = make([]byte, ps)
	}
	if err := p.read(p.buf, int64(id)*int64(ps)); err != nil {
		return err
	}
	head, count := p.buf, int(native.Uint16(p.buf[10:]))
	overflow := uint64(native.Uint32(head[12:]))
	if native.Uint64(head) != id || native.Uint16(head[8:]) != flagLeaf || id+overflow >= p.meta.pages {
		return fmt.Errorf("%w: page %d is no leaf, or too large", ErrDamaged, id)
	}
	for page := id + 1; page <= id+overflow; page++ {
		if !p.used.add(page) {
			return fmt.Errorf("%w: page %d goes on in page %d, which is something else", ErrDamaged, id, page)
		}
	}
	// Values may go on in other pages, and keys stand there; where they are stands in
	// the first.
	end := (1 + overflow) * uint64(ps)
	for i := range count {
		off := pageHeader + i*leafElem
		if off+leafElem > ps {
			return fmt.Errorf("%w: leaf page %d of %d elements", ErrDamaged, id, count)
		}
		e := head[off:]
		from := uint64(off) + uint64(native.Uint32(e[4:]))
		to := from + uint64(native.Uint32(e[8:]))
		if to+uint64(native.Uint32(e[12:])) > end || to-from > maxKey {
			return fmt.Errorf("%w: leaf element out of page %d", ErrDamaged, id)
		}
		if native.Uint32(e) != 0 {
			return fmt.Errorf("%w: a bucket on page %d", ErrDamaged, id)
		}
		var key []byte
		if to <= uint64(ps) {
			key = head[from:to]
		} else {
			key = make([]byte, to-from)
			if err := p.read(key, int64(id)*int64(ps)+int64(from)); err != nil {
				return err
			}
		}
		if err := inOrder(id, i, key, first, next); err != nil {
			return err
		}
		first = key
	}
	return nil
}

// children reads a page without its overflow if it is a leaf.
func (p *pages) children(id uint64) (flags uint16, children []child, err error) {
	if id >= p.meta.pages {
		return 0, nil, fmt.Errorf("%w: page %d is beyond the end", ErrDamaged, id)
	}
	var head [pageHeader]byte
	if err := p.read(head[:], int64(id)*int64(p.meta.pageSize)); err != nil {
		return 0, nil, err
	}
	if native.Uint64(head[:]) == id && native.Uint16(head[8:]) == flagLeaf {
		return flagLeaf, nil, nil
	}
	page, err := p.page(id)
	if err != nil {
		return 0, nil, err
	}
	if page.flags() != flagBranch {
		return 0, nil, fmt.Errorf("%w: page %d has flags %#x", ErrDamaged, id, page.flags())
	}
	children, err = page.children()
	return flagBranch, children, err
}

func (p *pages) freelist() error {
	if p.meta.freelist == noFreelist {
		// bbolt would walk all pages on a goroutine of its own, where a panic
		// cannot be recovered. We never write such a file.
		return fmt.Errorf("%w: no free list", ErrDamaged)
	}
	if err := p.visit(p.meta.freelist); err != nil {
		return err
	}
	page, err := p.page(p.meta.freelist)
	if err != nil {
		return err
	}
	ids, err := page.freeIDs()
	if err != nil {
		return err
	}
	last := uint64(1)
	for b := ids; len(b) > 0; b = b[8:] {
		id := native.Uint64(b)
		if id <= last || id >= p.meta.pages {
			return fmt.Errorf("%w: free list names page %d", ErrDamaged, id)
		}
		last = id
	}
	p.free = ids
	return nil
}

// signed looks for the signature in the first pages.
func (p *pages) signed() (bool, error) {
	b := make([]byte, min(p.size, signatureReach))
	if _, err := p.f.ReadAt(b, 0); err != nil && err != io.EOF {
		return false, err
	}
	return bytes.Contains(b, []byte(Signature)), nil
}
