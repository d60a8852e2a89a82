package format

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// What follows is for those who look at a database rather than use it. None of
// it writes. The iterators hand damaged rows on as errors, and go on: somebody
// who looks wants to see what is left. Whoever wants to stop, stops.

// Rows iterates over the rows of bucket k in the order of their keys, which is
// that of nothing else.
func (tx *Tx) Rows() iter.Seq2[Row, error] { return tx.rowsOf(nil) }

func (tx *Tx) rowsOf(prefix []byte) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		c := tx.k.Rows()
		for k, v := c.Seek(prefix); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if len(k) == resourceLen {
				continue // a list of variants
			}
			if !yield(decodeRow(k, v)) {
				return
			}
		}
	}
}

// Bearing iterates over the rows of the entries that a mark names: those an
// invalidation of it strikes if they are old enough.
func (tx *Tx) Bearing(m accel.Mark) iter.Seq2[Row, error] {
	switch m.Kind {
	case accel.KindAll:
		return tx.Rows()
	case accel.KindTag:
		return tx.bearingTag(m.Hash)
	}
	return func(yield func(Row, error) bool) {
		for row, err := range tx.rowsOf(u64(uint64(targetOf(m)))) {
			if err == nil && !slices.Contains(row.Marks, m.Hash) {
				continue
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

func (tx *Tx) bearingTag(h accel.Hash) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		for t, err := range tx.tagRows(tagKey(h, 1), u64(uint64(h))) {
			var row Row
			if err == nil {
				row, err = tx.Row(t.Key)
			}
			if errors.Is(err, ErrNotFound) || err == nil && row.ID != t.ID {
				err = fmt.Errorf("%w: a tag row leads nowhere", ErrDamaged)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// Expired iterates over the rows of the entries whose KeepUntil has passed.
func (tx *Tx) Expired(now time.Time) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		c := tx.x.Cursor()
		for k, v := c.First(); len(k) == 16 && binary.BigEndian.Uint64(k) <= putTime(now); k, v = c.Next() {
			key, err := ParseKey(v)
			var row Row
			if err == nil {
				row, err = tx.Row(key)
			}
			if errors.Is(err, ErrNotFound) {
				err = fmt.Errorf("%w: an expiry row leads nowhere", ErrDamaged)
			}
			if !yield(row, err) {
				return
			}
		}
	}
}

// A TagRow is a row of bucket t. That with ID 0 has the tag's name and nothing
// else; it comes before the others of its Hash.
type TagRow struct {
	Hash      accel.Hash
	ID        uint64
	Name      string
	N         uint64 // of the entry's position
	Size      uint64
	KeepUntil time.Time
	Key       accel.Key
}

// TagRows iterates over bucket t.
func (tx *Tx) TagRows() iter.Seq2[TagRow, error] { return tx.tagRows(nil, nil) }

func (tx *Tx) tagRows(from, prefix []byte) iter.Seq2[TagRow, error] {
	return func(yield func(TagRow, error) bool) {
		c := tx.t.Rows()
		for k, v := c.Seek(from); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			if !yield(readTagRow(k, v)) {
				return
			}
		}
	}
}

func readTagRow(k, v []byte) (TagRow, error) {
	if len(k) != 16 {
		return TagRow{}, fmt.Errorf("%w: tag key of %d bytes", ErrDamaged, len(k))
	}
	t := TagRow{Hash: accel.Hash(binary.BigEndian.Uint64(k)), ID: binary.BigEndian.Uint64(k[8:])}
	if t.ID == 0 {
		t.Name = string(v)
		return t, nil
	}
	r, err := decodeTagRow(k, v)
	if err != nil {
		return t, err
	}
	if t.Key, err = ParseKey(r.key); err != nil {
		return t, err
	}
	t.N, t.Size, t.KeepUntil = r.n, r.size, getTime(r.keepUntil)
	return t, nil
}

// CountTags returns how many tags there are. It looks at one row of each.
func (tx *Tx) CountTags() int {
	n := 0
	c := tx.t.Rows()
	for k, _ := c.Seek(nil); len(k) == 16; n++ {
		h := binary.BigEndian.Uint64(k)
		if h == math.MaxUint64 {
			return n + 1
		}
		// In a file whose keys are out of order, a search may end before where it
		// began, again and again.
		if k, _ = c.Seek(u64(h + 1)); len(k) == 16 && binary.BigEndian.Uint64(k) <= h {
			return n + 1
		}
	}
	return n
}

// Head reads an entry without the data of its bodies; lengths has how long each
// is.
func (tx *Tx) Head(row Row) (e *accel.Entry, lengths []int64, err error) {
	key := AppendKey(nil, row.Key)
	v := tx.b.Get(bodyID(row.ID, 0))
	if v == nil {
		return nil, nil, fmt.Errorf("%w: no record %d", ErrDamaged, row.ID)
	}
	head, err := unseal(bodyKey(key, row.ID, 0), v)
	if err != nil {
		return nil, nil, err
	}
	e, ns, err := decodeHead(head, nil)
	if err != nil {
		return nil, nil, err
	}
	for _, n := range ns {
		if n > math.MaxInt64 {
			return nil, nil, fmt.Errorf("%w: record %d has a body of %d bytes", ErrDamaged, row.ID, n)
		}
		lengths = append(lengths, int64(n))
	}
	e.At, e.FreshUntil, e.KeepUntil, e.Marks = row.At, row.FreshUntil, row.KeepUntil, row.Marks
	return e, lengths, nil
}

// A Fault is something in a database that is not as it was written.
type Fault struct {
	// Bucket is the bucket's name, "" if the fault is in the pages that are
	// bbolt's.
	Bucket string
	// Key is the row's key, nil if the fault is not in one row.
	Key []byte
	// URL is what the row's entry was stored for, if that can be read.
	URL string
	Err error
}

// Counts is how much a verification has looked at.
type Counts struct {
	Pages        int `json:"pages"`
	Entries      int `json:"entries"`
	Bodies       int `json:"bodies"`
	VariantLists int `json:"variant_lists"`
	ExpiryRows   int `json:"expiry_rows"`
	TagRows      int `json:"tag_rows"`
	Tags         int `json:"tags"`
	Marks        int `json:"marks"`
}

// Verify reads everything in the buckets: each checksum, and whether each row
// leads where it should and is led to from where it should be. It calls report
// for each fault, and stops when alive returns false.
func (tx *Tx) Verify(alive func() bool, report func(Fault)) Counts {
	v := &verifier{tx: tx, alive: alive, report: report}
	v.entries()
	v.records()
	v.expiries()
	v.tags()
	v.marks()
	return v.Counts
}

type verifier struct {
	Counts
	tx     *Tx
	alive  func() bool
	report func(Fault)
	url    string // of the row that is looked at
}

func (v *verifier) fault(bucket, key []byte, format string, args ...any) {
	v.report(Fault{Bucket: string(bucket), Key: bytes.Clone(key), URL: v.url, Err: fmt.Errorf(format, args...)})
}

// entries looks at bucket k, and follows each row.
func (v *verifier) entries() {
	var bytes uint64
	c := v.tx.k.Rows()
	for k, val := c.Seek(nil); k != nil && v.alive(); k, val = c.Next() {
		v.url = ""
		if len(k) == resourceLen {
			v.variants(k, val)
			continue
		}
		v.Entries++
		row, err := decodeRow(k, val)
		if err != nil {
			v.fault(bucketK, k, "%w", err)
			continue
		}
		bytes += row.Size
		v.entry(k, row)
	}
	v.url = ""
	if meta := v.tx.meta; v.alive() && (uint64(v.Entries) != meta.Entries || bytes != meta.Bytes) {
		v.fault(bucketM, keyTotal, "%w: says %d entries of %d bytes, and there are %d of %d",
			ErrDamaged, meta.Entries, meta.Bytes, v.Entries, bytes)
	}
	if meta := v.tx.meta; meta.Floor > meta.Seq || meta.Swept > meta.Floor {
		v.fault(bucketM, keySeq, "%w: seq %d, floor %d, swept %d", ErrDamaged, meta.Seq, meta.Floor, meta.Swept)
	}
}

func (v *verifier) entry(k []byte, row Row) {
	tx := v.tx
	head, _, err := tx.Head(row)
	if err == nil {
		v.url = head.URL()
	}
	e, err := tx.Record(row)
	if err != nil {
		v.fault(bucketB, bodyID(row.ID, 0), "%w", err)
	} else {
		v.Bodies += len(e.Bodies)
		v.material(k, row, e)
	}
	if row.At.N > tx.meta.Seq {
		v.fault(bucketK, k, "%w: position %d is above the last one given out, %d", ErrDamaged, row.At.N, tx.meta.Seq)
	}
	if got := tx.x.Get(u64pair(putTime(row.KeepUntil), row.ID)); !bytes.Equal(got, k) {
		v.fault(bucketK, k, "%w: no expiry row leads here", ErrDamaged)
	}
	for _, h := range tagMarks(row.Marks) {
		tk := tagKey(h, row.ID)
		val := tx.t.Get(tk)
		if val == nil {
			v.fault(bucketK, k, "%w: no tag row under %016x leads here", ErrDamaged, uint64(h))
			continue
		}
		t, err := decodeTagRow(tk, val)
		if err != nil {
			continue // reported with bucket t
		}
		if !bytes.Equal(t.key, k) || t.n != row.At.N || t.size != row.Size || t.keepUntil != putTime(row.KeepUntil) {
			v.fault(bucketT, tk, "%w: does not say what the entry's row says", ErrDamaged)
		}
	}
}

// material compares a row with the record that it leads to.
func (v *verifier) material(k []byte, row Row, e *accel.Entry) {
	variant := accel.Digest{}
	if e.Variant != "" {
		variant = sha256.Sum256([]byte(e.Variant))
	}
	if e.Key != row.Key || sha256.Sum256([]byte(e.Resource)) != e.Key.Resource || variant != e.Key.Variant {
		v.fault(bucketB, bodyID(row.ID, 0), "%w: the record is not that of its key", ErrDamaged)
	}
	size := rowsSize(len(row.Marks)) + uint64(len(v.tx.b.Get(bodyID(row.ID, 0))))
	for _, body := range e.Bodies {
		size += sealLen + uint64(len(body.Data))
	}
	if size != row.Size {
		v.fault(bucketK, k, "%w: says %d bytes, and there are %d", ErrDamaged, row.Size, size)
	}
	marks := len(row.Marks) == 2+len(e.Tags) && row.Marks[1] == e.Key.Target
	for i := 0; marks && i < len(e.Tags); i++ {
		marks = row.Marks[2+i] == accel.TagMark(e.Tags[i]).Hash
	}
	if !marks {
		v.fault(bucketK, k, "%w: its hashes are not those of its tags", ErrDamaged)
	}
	all, known, err := v.tx.readVariants(k[:resourceLen])
	switch {
	case err != nil: // reported with the list
	case !known && (e.Vary != nil || e.Key.Variant != accel.Digest{}):
		v.fault(bucketK, k, "%w: its resource has no list of variants", ErrDamaged)
	case known && (!slices.Contains(all.digests, e.Key.Variant) || !slices.Equal(all.names, e.Vary)):
		v.fault(bucketK, k, "%w: its resource's list of variants does not have it", ErrDamaged)
	}
}

func (v *verifier) variants(k, val []byte) {
	v.VariantLists++
	all, err := decodeVariants(k, val)
	if err != nil {
		v.fault(bucketK, k, "%w", err)
		return
	}
	for _, d := range all.digests {
		if v.tx.k.Get(slices.Concat(k, d[:])) == nil {
			v.fault(bucketK, k, "%w: lists a variant that is not there", ErrDamaged)
		}
	}
	if len(all.digests) == 0 || len(all.digests) > accel.MaxVariants {
		v.fault(bucketK, k, "%w: lists %d variants", ErrDamaged, len(all.digests))
	}
}

// leads reports whether bucket k has the entry of a key under an id. Of a row
// that cannot be read it says yes: that was reported.
func (v *verifier) leads(key []byte, id uint64) (Row, bool) {
	k, err := ParseKey(key)
	if err != nil {
		return Row{}, false
	}
	row, err := v.tx.Row(k)
	if errors.Is(err, ErrNotFound) {
		return row, false
	}
	if err != nil {
		return Row{}, true
	}
	return row, row.ID == id
}

// records looks for parts in bucket b that no entry leads to.
func (v *verifier) records() {
	c := v.tx.b.Cursor()
	last, parts, owned := uint64(0), 0, false
	for k, val := c.First(); k != nil && v.alive(); k, val = c.Next() {
		if len(k) != 9 {
			v.fault(bucketB, k, "%w: key of %d bytes", ErrDamaged, len(k))
			continue
		}
		id, part := binary.BigEndian.Uint64(k), int(k[8])
		if part == 0 || id != last {
			last, parts, owned = id, 0, false
			if id > v.tx.b.b.Sequence() {
				v.fault(bucketB, k, "%w: id above the last one given out, %d", ErrDamaged, v.tx.b.b.Sequence())
			}
			if part == 0 && len(val) >= sealLen+KeyLen {
				row, ok := v.leads(val[sealLen:sealLen+KeyLen], id)
				owned, parts = ok, int(row.Parts)
			}
		}
		if !owned || parts > 0 && part >= parts {
			v.fault(bucketB, k, "%w: a record that no entry leads to", ErrDamaged)
		}
	}
}

// expiries looks for rows in bucket x that lead nowhere.
func (v *verifier) expiries() {
	c := v.tx.x.Cursor()
	for k, val := c.First(); k != nil && v.alive(); k, val = c.Next() {
		v.ExpiryRows++
		if len(k) != 16 {
			v.fault(bucketX, k, "%w: key of %d bytes", ErrDamaged, len(k))
			continue
		}
		row, ok := v.leads(val, binary.BigEndian.Uint64(k[8:]))
		if !ok || row.ID != 0 && putTime(row.KeepUntil) != binary.BigEndian.Uint64(k) {
			v.fault(bucketX, k, "%w: leads nowhere", ErrDamaged)
		}
	}
}

// tags looks for rows in bucket t that lead nowhere or cannot be read.
func (v *verifier) tags() {
	c := v.tx.t.Rows()
	named, used := accel.Hash(0), true
	end := func(next accel.Hash) {
		if !used && next != named {
			v.fault(bucketT, tagKey(named, 0), "%w: a tag that no entry bears", ErrDamaged)
		}
	}
	any := false // whether named is that of a row seen
	for k, val := c.Seek(nil); k != nil && v.alive(); k, val = c.Next() {
		if len(k) != 16 {
			v.fault(bucketT, k, "%w: key of %d bytes", ErrDamaged, len(k))
			continue
		}
		h, id := accel.Hash(binary.BigEndian.Uint64(k)), binary.BigEndian.Uint64(k[8:])
		if any {
			end(h)
		}
		if id == 0 {
			v.Tags++
			any, named, used = true, h, false
			if accel.TagMark(string(val)).Hash != h {
				v.fault(bucketT, k, "%w: the name of another tag", ErrDamaged)
			}
			continue
		}
		v.TagRows++
		if !any || h != named {
			v.fault(bucketT, k, "%w: the tag's name is missing", ErrDamaged)
			any, named = true, h
		}
		used = true
		t, err := decodeTagRow(k, val)
		if err != nil {
			v.fault(bucketT, k, "%w", err)
			continue
		}
		if row, ok := v.leads(t.key, id); !ok || row.ID != 0 && !slices.Contains(row.Marks, h) {
			v.fault(bucketT, k, "%w: leads nowhere", ErrDamaged)
		}
	}
	if any && v.alive() {
		end(^named)
	}
}

// marks looks at bucket g.
func (v *verifier) marks() {
	c := v.tx.g.Cursor()
	for k, val := c.First(); k != nil && v.alive(); k, val = c.Next() {
		v.Marks++
		r, ok := decodeMark(k, val)
		switch {
		case !ok:
			v.fault(bucketG, k, "%w: a mark of %d and %d bytes", ErrDamaged, len(k), len(val))
		case r.Mark.Kind < accel.KindTag || r.Mark.Kind > accel.KindAll:
			v.fault(bucketG, k, "%w: a mark of kind %d", ErrDamaged, r.Mark.Kind)
		case max(r.Hard, r.Soft) > v.tx.meta.Seq:
			v.fault(bucketG, k, "%w: a mark above the last position given out, %d", ErrDamaged, v.tx.meta.Seq)
		}
	}
	if _, whole, _ := v.tx.Marks(); !whole && v.alive() {
		v.fault(bucketM, keyMarks, "%w: the marks are not those that were written; an invalidation may be missing", ErrDamaged)
	}
}

// Space is how a file is used.
type Space struct {
	PageSize  int `json:"page_size"`
	Pages     int `json:"pages"`
	FreePages int `json:"free_pages"`
}

// Tour walks, with plain reads, all the pages of a file that Examine has let
// pass, down to the leaves that Examine leaves out. If it returns no error, no
// bucket has a page where bbolt would go round in circles.
//
// With a report, it reads what is on each page too, and reports what it finds
// wrong with the order of keys and the use of pages. That is what bbolt's own
// check does, which must not be let loose on a file that was not checked.
func Tour(f io.ReaderAt, size int64, alive func() bool, report func(Fault)) (Space, error) {
	p := &pages{f: f, size: size, seen: map[uint64]bool{}}
	var look Look
	if err := p.readMeta(&look); err != nil {
		return Space{}, err
	}
	if err := p.whole(); err != nil {
		return Space{}, err
	}
	t := &tour{pages: p, alive: alive, report: report, reached: pageSet{}}
	space := Space{PageSize: int(p.meta.pageSize), Pages: int(p.meta.pages)}
	free, err := t.freePages()
	if err != nil {
		return space, err
	}
	space.FreePages = len(free)
	root := map[string][]byte{}
	first := &pages{f: f, size: size, meta: p.meta, seen: map[uint64]bool{}}
	if err := first.walk(p.meta.root, func(flags uint32, k, v []byte) {
		if flags&bucketElem != 0 {
			root[string(k)] = bytes.Clone(v)
		}
	}); err != nil {
		return space, err
	}
	if err := t.tree(p.meta.root, 0, nil, nil); err != nil {
		return space, err
	}
	for _, name := range [][]byte{bucketA, bucketM, bucketK, bucketB, bucketX, bucketT, bucketG, bucketJ} {
		if v := root[string(name)]; len(v) >= 16 && native.Uint64(v) != 0 {
			t.bucket = string(name)
			if err := t.tree(native.Uint64(v), 0, nil, nil); err != nil {
				return space, fmt.Errorf("bucket %s: %w", name, err)
			}
		}
	}
	if report == nil || !alive() {
		return space, nil
	}
	t.bucket = ""
	for _, id := range free {
		if !t.reached.add(id) {
			t.fault("page %d is in use, and free", id)
		}
	}
	// Both metas; everything else was walked, or is free.
	if lost := int(p.meta.pages) - 2 - t.count - len(free); lost > 0 {
		t.fault("%d pages are neither in use nor free", lost)
	}
	return space, nil
}

type tour struct {
	*pages
	alive   func() bool
	report  func(Fault)
	bucket  string
	reached pageSet
	count   int // of those
}

func (t *tour) fault(format string, args ...any) {
	t.report(Fault{Bucket: t.bucket, Err: fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)})
}

// visit notes a page and refuses one that was reached before.
func (t *tour) visit(id uint64) error {
	if !t.reached.add(id) {
		return fmt.Errorf("%w: page %d is reached twice", ErrDamaged, id)
	}
	t.count++
	return nil
}

// freePages returns the pages of the free list, and visits those it lies in.
func (t *tour) freePages() ([]uint64, error) {
	if err := t.freelist(); err != nil { // checks everything
		return nil, err
	}
	page, err := t.page(t.meta.freelist)
	if err != nil {
		return nil, err
	}
	if err := t.visit(t.meta.freelist); err != nil {
		return nil, err
	}
	if err := t.overflow(t.meta.freelist, page); err != nil {
		return nil, err
	}
	var list []uint64
	for b := t.free; len(b) >= 8; b = b[8:] {
		list = append(list, native.Uint64(b))
	}
	return list, nil
}

// overflow visits the pages after the first one.
func (t *tour) overflow(id uint64, head []byte) error {
	n := uint64(native.Uint32(head[12:]))
	if id+n >= t.meta.pages {
		return fmt.Errorf("%w: page %d overflows the file", ErrDamaged, id)
	}
	for i := uint64(1); i <= n; i++ {
		if err := t.visit(id + i); err != nil {
			return err
		}
	}
	return nil
}

// tree walks the pages under id, whose keys are from lo, and below hi if that is
// not nil.
func (t *tour) tree(id uint64, depth int, lo, hi []byte) error {
	if depth > 32 {
		return fmt.Errorf("%w: a tree of more than 32 levels", ErrDamaged)
	}
	if !t.alive() {
		return nil
	}
	if err := t.visit(id); err != nil {
		return err
	}
	if id >= t.meta.pages {
		return fmt.Errorf("%w: page %d is beyond the end", ErrDamaged, id)
	}
	if t.report == nil {
		flags, children, err := t.children(id)
		if err != nil || flags == flagLeaf {
			return err
		}
		for _, child := range children {
			if err := t.tree(child.id, depth+1, nil, nil); err != nil {
				return err
			}
		}
		return nil
	}
	page, err := t.page(id)
	if err != nil {
		return err
	}
	if err := t.overflow(id, page); err != nil {
		return err
	}
	if page.flags() == flagLeaf {
		if int64(native.Uint32(page[12:]))*int64(t.meta.pageSize) > readWhole {
			return nil // of values that large it was not read to the end
		}
		return page.elements(func(_ uint32, k, _ []byte) {
			t.order(id, lo, k, hi)
			lo = append(bytes.Clone(k), 0) // the least key above k
		})
	}
	if page.flags() != flagBranch {
		return fmt.Errorf("%w: page %d has flags %#x", ErrDamaged, id, page.flags())
	}
	children, err := page.children()
	if err != nil {
		return err
	}
	for _, child := range children {
		t.order(id, lo, child.key, hi)
		lo = append(bytes.Clone(child.key), 0)
	}
	for i, child := range children {
		end := hi
		if i+1 < len(children) {
			end = children[i+1].key
		}
		if err := t.tree(child.id, depth+1, child.key, end); err != nil {
			return err
		}
	}
	return nil
}

// readWhole is how much of a page's overflow pages.page reads.
const readWhole = 64 << 20

// order wants a key to be lo or above, and below hi if that is not nil.
func (t *tour) order(id uint64, lo, k, hi []byte) {
	if bytes.Compare(k, lo) < 0 || hi != nil && bytes.Compare(k, hi) >= 0 {
		t.fault("page %d has its keys in a wrong order", id)
	}
}
