package faults_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
)

// bbolt's pages, as far as damage has to know them. docs/format.md says more.
const (
	pageSize   = 4096
	pageHead   = 16 // u64 id, u16 type, u16 count, u32 overflow
	elemSize   = 16 // leaf: u32 flags, pos, ksize, vsize; branch: u32 pos, ksize, u64 page
	typeBranch = 0x01
	typeLeaf   = 0x02
	typeMeta   = 0x04
	typeFree   = 0x10
)

var ne = binary.NativeEndian

func pageAt(b []byte, id int) []byte { return b[id*pageSize:][:pageSize] }

func pageType(p []byte) uint16 { return ne.Uint16(p[8:]) }
func pageCount(p []byte) int   { return int(ne.Uint16(p[10:])) }

// Fields of a meta page.
func metaRoot(p []byte) int     { return int(ne.Uint64(p[pageHead+16:])) }
func metaFreelist(p []byte) int { return int(ne.Uint64(p[pageHead+32:])) }
func metaPages(p []byte) int    { return int(ne.Uint64(p[pageHead+40:])) }
func metaTx(p []byte) uint64    { return ne.Uint64(p[pageHead+48:]) }

// A role is what a page of the template is there for.
type pageRole struct {
	kind     string // meta, free list, root, branch, leaf, overflow, free
	bucket   string
	parent   int
	children []int
}

func (r pageRole) String() string {
	if r.bucket != "" {
		return r.kind + " of " + r.bucket
	}
	return r.kind
}

// newestMeta returns the number of the meta page that counts.
func newestMeta(b []byte) int {
	if metaTx(pageAt(b, 1)) > metaTx(pageAt(b, 0)) {
		return 1
	}
	return 0
}

// rolesOf reads a whole and undamaged file.
func rolesOf(b []byte) []pageRole {
	meta := pageAt(b, newestMeta(b))
	list := make([]pageRole, metaPages(meta))
	for i := range list {
		list[i].kind = "free"
	}
	list[0].kind, list[1].kind = "meta", "meta"
	note := func(id int, r pageRole) {
		list[id] = r
		for i := range int(ne.Uint32(pageAt(b, id)[12:])) {
			list[id+1+i] = pageRole{kind: "overflow", bucket: r.bucket, parent: id}
		}
	}
	note(metaFreelist(meta), pageRole{kind: "free list"})
	var walk func(id, parent int, bucket string)
	walk = func(id, parent int, bucket string) {
		p := pageAt(b, id)
		if pageType(p) == typeLeaf {
			note(id, pageRole{kind: "leaf", bucket: bucket, parent: parent})
			return
		}
		r := pageRole{kind: "branch", bucket: bucket, parent: parent}
		for i := range pageCount(p) {
			r.children = append(r.children, int(ne.Uint64(p[pageHead+i*elemSize+8:])))
		}
		note(id, r)
		for _, c := range r.children {
			walk(c, id, bucket)
		}
	}
	root := metaRoot(meta)
	note(root, pageRole{kind: "root", parent: root})
	p := pageAt(b, root)
	for i := range pageCount(p) {
		e := p[pageHead+i*elemSize:]
		pos, ksize := int(ne.Uint32(e[4:])), int(ne.Uint32(e[8:]))
		if id := int(ne.Uint64(e[pos+ksize:])); id != 0 {
			walk(id, root, string(e[pos:pos+ksize]))
		}
	}
	return list
}

// used returns how many bytes of a page mean something.
func usedBytes(p []byte) int {
	end := pageHead
	switch pageType(p) {
	case typeMeta:
		end += 64
	case typeFree:
		end += 8 * pageCount(p)
	case typeBranch, typeLeaf:
		for i := range pageCount(p) {
			off := pageHead + i*elemSize
			if off+elemSize > pageSize {
				break
			}
			e := p[off:]
			if pageType(p) == typeLeaf {
				end = max(end, off+int(ne.Uint32(e[4:]))+int(ne.Uint32(e[8:]))+int(ne.Uint32(e[12:])))
			} else {
				end = max(end, off+int(ne.Uint32(e))+int(ne.Uint32(e[4:])))
			}
		}
	}
	return min(end, pageSize)
}

// A damage is one case of the matrix. It is the same for the same template, since
// what is drawn at random is drawn by its seed.
type matrixDamage struct {
	class string
	page  int
	seed  uint64
}

func (d matrixDamage) String() string {
	return fmt.Sprintf("%s, page %d, seed %d", d.class, d.page, d.seed)
}

// The matrixClasses that strike one page. Each is tried on every page that it can strike.
var matrixClasses = []string{
	"zeroed", "random", "bit of the header", "bit anywhere", "bit in use", "swapped", "stale",
	"cut at the page", "cut in the page", "torn", "another type", "circle",
}

// applies reports whether a class can do anything to a page.
func (tp *matrixTemplate) applies(class string, page int) bool {
	r := tp.roles[page]
	switch class {
	case "bit in use":
		return r.kind != "free" && r.kind != "overflow"
	case "stale":
		return len(tp.olderThan(page)) > 0
	case "circle":
		return r.kind == "branch" || r.kind == "leaf" || r.kind == "root"
	}
	return true
}

// olderThan returns what a page was in earlier states of the file, where that is
// not what it is now, the latest last.
func (tp *matrixTemplate) olderThan(page int) (list [][]byte) {
	for _, b := range tp.earlier {
		if (page+1)*pageSize <= len(b) && !bytes.Equal(pageAt(b, page), pageAt(tp.now, page)) {
			list = append(list, pageAt(b, page))
		}
	}
	return list
}

// beyond returns why a damage is one that no reader of the file can notice, or "".
func (tp *matrixTemplate) beyond(d matrixDamage) string {
	if d.class == "stale" && d.page == newestMeta(tp.now) {
		return "the newest meta page was never written: the file is that of a crash before the last transaction"
	}
	return ""
}

// do damages b, a copy of the template, and returns what is left of it, and a word
// on what was done.
func (tp *matrixTemplate) do(b []byte, d matrixDamage) ([]byte, string) {
	r := rand.New(rand.NewPCG(d.seed, uint64(d.page)))
	p := pageAt(b, d.page)
	flip := func(n int) string {
		at, bit := r.IntN(n), r.IntN(8)
		p[at] ^= 1 << bit
		return fmt.Sprintf("byte %d, bit %d", at, bit)
	}
	pick := func(kinds ...string) int {
		var list []int
		for id, is := range tp.roles {
			if id != d.page && slices.Contains(kinds, is.kind) {
				list = append(list, id)
			}
		}
		return list[r.IntN(len(list))]
	}
	take := func(id int) {
		copy(p, pageAt(tp.now, id))
		ne.PutUint64(p, uint64(d.page))
	}
	switch d.class {
	case "zeroed":
		clear(p)
	case "random":
		fillRandom(p, r)
	case "bit of the header":
		return b, flip(pageHead)
	case "bit anywhere":
		return b, flip(pageSize)
	case "bit in use":
		return b, flip(usedBytes(p))
	case "swapped":
		other := r.IntN(len(tp.roles) - 1)
		if other >= d.page {
			other++
		}
		q := pageAt(b, other)
		was := bytes.Clone(p)
		copy(p, q)
		copy(q, was)
		return b, fmt.Sprint("with ", other, ", ", tp.roles[other])
	case "stale":
		list := tp.olderThan(d.page)
		i := len(list) - 1
		if r.IntN(2) == 0 {
			i = r.IntN(len(list))
		}
		copy(p, list[i])
		return b, fmt.Sprint("state ", i, " of ", len(list))
	case "cut at the page":
		return b[:d.page*pageSize], ""
	case "cut in the page":
		n := 1 + r.IntN(pageSize-1)
		return b[:d.page*pageSize+n], fmt.Sprint(n, " bytes of it are left")
	case "torn":
		n := 512 << r.IntN(3)
		old, from := make([]byte, pageSize), "zeros"
		if list := tp.olderThan(d.page); len(list) > 0 && r.IntN(3) > 0 {
			old, from = list[len(list)-1], "old bytes"
		}
		copy(p[n:], old[n:])
		return b, fmt.Sprint(n, " bytes, then ", from)
	case "another type":
		switch r.IntN(4) {
		case 0:
			take(newestMeta(tp.now))
			return b, "a meta page"
		case 1:
			take(metaFreelist(pageAt(tp.now, newestMeta(tp.now))))
			return b, "a free list"
		case 2:
			id := pick("branch")
			take(id)
			return b, fmt.Sprint("page ", id, ", ", tp.roles[id])
		}
		for {
			if id := pick("leaf"); tp.roles[id].bucket != tp.roles[d.page].bucket {
				take(id)
				return b, fmt.Sprint("page ", id, ", ", tp.roles[id])
			}
		}
	case "circle":
		return b, tp.circle(b, d.page, r)
	default:
		panic(d.class)
	}
	return b, ""
}

// circle makes pages lead back to themselves. A leaf becomes a branch, all of whose
// keys lead to one page.
func (tp *matrixTemplate) circle(b []byte, page int, r *rand.Rand) string {
	p, is := pageAt(b, page), tp.roles[page]
	if is.kind != "branch" {
		to, word := page, "a leaf that leads to itself"
		if r.IntN(2) == 0 {
			to, word = is.parent, "a leaf that leads to its parent"
		}
		ne.PutUint16(p[8:], typeBranch)
		n := 0
		for ; n < pageCount(p); n++ {
			off := pageHead + n*elemSize
			e := p[off:]
			pos, ksize := ne.Uint32(e[4:]), ne.Uint32(e[8:])
			if off+int(pos)+int(ksize) > pageSize {
				break
			}
			ne.PutUint32(e, pos)
			ne.PutUint32(e[4:], ksize)
			ne.PutUint64(e[8:], uint64(to))
		}
		ne.PutUint16(p[10:], uint16(n))
		ne.PutUint32(p[12:], 0)
		return word
	}
	child := r.IntN(len(is.children))
	lead := func(id, child, to int) { ne.PutUint64(pageAt(b, id)[pageHead+child*elemSize+8:], uint64(to)) }
	kind := r.IntN(4)
	if siblings := tp.roles[is.parent].children; kind >= 2 && len(siblings) > 1 {
		other := siblings[r.IntN(len(siblings))]
		for other == page {
			other = siblings[r.IntN(len(siblings))]
		}
		lead(page, child, other)
		if kind == 3 && len(tp.roles[other].children) > 0 {
			lead(other, r.IntN(len(tp.roles[other].children)), page)
			return fmt.Sprintf("child %d and page %d lead to each other", child, other)
		}
		return fmt.Sprintf("child %d is its sibling %d", child, other)
	}
	if kind == 1 {
		lead(page, child, is.parent)
		return fmt.Sprintf("child %d is its parent", child)
	}
	if kind >= 2 {
		// No sibling: a cousin, any other branch of the file.
		for id, other := range tp.roles {
			if id != page && other.kind == "branch" && (kind == 2 || len(other.children) > 0) {
				lead(page, child, id)
				if kind == 3 {
					lead(id, r.IntN(len(other.children)), page)
				}
				return fmt.Sprintf("child %d is page %d, %s, kind %d", child, id, other, kind)
			}
		}
	}
	lead(page, child, page)
	return fmt.Sprintf("child %d is itself", child)
}

func fillRandom(p []byte, r *rand.Rand) {
	for i := 0; i+8 <= len(p); i += 8 {
		ne.PutUint64(p[i:], r.Uint64())
	}
}

var matrixCRC = crc32.MakeTable(crc32.Castagnoli)

// adopt makes a file say that it is the one with another inode, wherever it says so:
// in the newest m, and in those that are left of earlier transactions. A file with
// another inode than it says is taken for a copy, and nothing in it is used.
//
// m.sum is a CRC over rows of which the inode is the first, all of fixed length: what
// another inode does to it does not depend on the other rows.
func adoptInode(b []byte, was, is uint64) {
	sum := func(ino uint64) uint32 {
		m := binary.BigEndian.AppendUint64([]byte("inode"), ino)
		for _, row := range []struct {
			key string
			n   int
		}{{"seq", 8}, {"floor", 8}, {"swept", 8}, {"marks", 16}, {"total", 16}, {"budget", 8}, {"clean", 1}} {
			m = append(append(m, row.key...), make([]byte, row.n)...)
		}
		return crc32.Checksum(m, matrixCRC)
	}
	delta := sum(was) ^ sum(is)
	pattern := binary.BigEndian.AppendUint64([]byte("inode"), was)
	for off := 0; ; {
		i := bytes.Index(b[off:], pattern)
		if i < 0 {
			return
		}
		off += i + len(pattern)
		rest := b[off:min((off/pageSize+1)*pageSize, len(b))]
		// The rows lie in the order of their keys: sum comes right after seq.
		if j := bytes.Index(rest, []byte("seq")); j >= 0 && j+18 <= len(rest) && string(rest[j+11:j+14]) == "sum" {
			binary.BigEndian.PutUint64(b[off-8:], is)
			old := binary.BigEndian.Uint32(rest[j+14:])
			binary.BigEndian.PutUint32(rest[j+14:], old^delta)
		}
	}
}
