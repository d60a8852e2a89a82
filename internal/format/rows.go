package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
)

// Get reads the entry of a key in a transaction of its own, touching only what it
// needs: it is the disk's part of a hit. names has the resource's Vary names
// when they are others than vary; the error is then ErrNotFound.
//
// swept is the highest number of a mark that was forgotten because the index of
// tags led to no older entry. An entry older than that counts only if the index
// does lead to it: it is silent damage that hides it there, and the mark may have
// struck it.
//
// With a loan that is not nil, the entry is as the loan says. p is what is pending after
// the transaction that btx sees.
func Get(btx *bolt.Tx, p *Pending, key accel.Key, vary []string, swept uint64, loan *Loan) (e *accel.Entry, row Row, names []string, err error) {
	r, err := rowsOf(stemOf(btx, mappingOf(btx)))
	if err != nil {
		return nil, row, nil, err
	}
	return r.entry(p, key, vary, swept, loan)
}

// What the checksum of a part of a record covers beside its value: the entry's key, and
// the key of the part in its bucket.
type covered [KeyLen + 9]byte

// Get reads as the function of that name does, what the transaction txid has left. If
// that is the last one no longer when Get returns, what it returns means nothing. Nor
// does any other error than ErrNotFound: then the file is to be read in a transaction.
func (f *Mapped) Get(txid uint64, p *Pending, key accel.Key, vary []string, swept uint64, loan *Loan) (e *accel.Entry, row Row, names []string, err error) {
	r, err := f.rows(txid)
	if err != nil {
		return nil, row, nil, err
	}
	return r.entry(p, key, vary, swept, loan)
}

// rows are the buckets in which an entry is looked up.
type rows struct{ root, k, b stem }

func rowsOf(root stem) (r rows, err error) {
	r.root = root
	if r.k, err = root.bucket(bucketK); err == nil {
		r.b, err = root.bucket(bucketB)
	}
	return r, err
}

func (r *rows) entry(p *Pending, key accel.Key, vary []string, swept uint64, loan *Loan) (e *accel.Entry, row Row, names []string, err error) {
	look := loan.covered()
	kb := AppendKey(look[:0], key)
	v, err := r.k.latest(p.of(inK), kb)
	if err != nil {
		return nil, row, nil, err
	}
	if v == nil {
		v, err := r.k.latest(p.of(inK), kb[:resourceLen])
		if err != nil {
			return nil, row, nil, err
		}
		if v != nil {
			all, err := decodeVariants(kb[:resourceLen], v)
			if err != nil {
				return nil, row, nil, err
			}
			if !slices.Equal(all.names, vary) {
				return nil, row, all.names, ErrNotFound
			}
		}
		return nil, row, nil, ErrNotFound
	}
	if row, err = decodeRow(kb, v); err != nil {
		return nil, row, nil, err
	}
	if e, err = readRecord(r.b, look, row, loan); err != nil {
		return nil, row, nil, err
	}
	if !slices.Equal(e.Vary, vary) {
		return nil, row, e.Vary, ErrNotFound
	}
	if row.At.N < swept {
		if err := indexed(r.root, p.of(inT), row); err != nil {
			return nil, row, nil, err
		}
	}
	return e, row, nil, nil
}

// indexed returns an error if not each of an entry's tags leads to it.
func indexed(root stem, pending *changes, row Row) error {
	t, err := root.bucket(bucketT)
	if err != nil {
		return err
	}
	var tk [16]byte
	binary.BigEndian.PutUint64(tk[8:], row.ID)
	for _, h := range tagMarks(row.Marks) {
		binary.BigEndian.PutUint64(tk[:], uint64(h))
		if v, err := t.latest(pending, tk[:]); err != nil {
			return err
		} else if v == nil {
			return fmt.Errorf("%w: the index of tags does not lead to record %d", ErrDamaged, row.ID)
		}
	}
	return nil
}

// A Loan is how an entry is read that is sent once, and that nobody keeps.
type Loan struct {
	// Memory is what the bodies are read into. It grows if need be.
	Memory []byte
	// Pick tells which of an entry's bodies is wanted, before they are read; -1 means
	// all, and so does a nil Pick.
	Pick func(*accel.Entry) int

	look covered
}

func (l *Loan) covered() *covered {
	if l == nil {
		return new(covered)
	}
	return &l.look
}

func (l *Loan) pick(e *accel.Entry) int {
	if l == nil || l.Pick == nil {
		return -1
	}
	return l.Pick(e)
}

// join returns the bodies in one piece of memory.
func (l *Loan) join(bodies [][]byte) []byte {
	if l == nil {
		return bytes.Join(bodies, nil) // it is not cleared before
	}
	l.Memory = l.Memory[:0]
	for _, b := range bodies {
		l.Memory = append(l.Memory, b...)
	}
	return l.Memory
}

// readRecord reads the entry that a row leads to.
func readRecord(b stem, look *covered, row Row, loan *Loan) (*accel.Entry, error) {
	if row.Parts == 0 {
		return nil, fmt.Errorf("%w: record %d has no parts", ErrDamaged, row.ID)
	}
	parts := parts{b: b, id: row.ID, sealed: append(binary.BigEndian.AppendUint64(AppendKey(look[:0], row.Key), row.ID), 0)}
	head, err := parts.read(0)
	if err != nil {
		return nil, err
	}
	var lengthsRoom [4]uint64
	e, lengths, err := decodeHead(head, lengthsRoom[:0])
	if err != nil {
		return nil, err
	}
	if len(lengths) != int(row.Parts)-1 {
		return nil, fmt.Errorf("%w: record %d has %d bodies", ErrDamaged, row.ID, len(lengths))
	}
	e.At, e.FreshUntil, e.KeepUntil, e.Marks = row.At, row.FreshUntil, row.KeepUntil, row.Marks

	var bodiesRoom [4][]byte
	bodies := bodiesRoom[:0]
	picked := loan.pick(e)
	for i, n := range lengths {
		var body []byte
		if picked < 0 || picked == i {
			if body, err = parts.read(i + 1); err != nil {
				return nil, err
			}
			if uint64(len(body)) != n {
				return nil, fmt.Errorf("%w: record %d, part %d has %d bytes", ErrDamaged, row.ID, i+1, len(body))
			}
		}
		bodies = append(bodies, body)
	}
	data := loan.join(bodies)
	for i, body := range bodies {
		if n := len(body); body != nil {
			e.Bodies[i].Data, data = data[:n:n], data[n:]
		}
	}
	return e, nil
}

// parts are those of a record, which stand one after the other.
type parts struct {
	b      stem
	id     uint64
	sealed []byte // what the checksum of a part covers beside it
	next   place  // behind the one that was read last
}

// read returns a part. It points into the file.
func (p *parts) read(i int) (v []byte, err error) {
	id := p.sealed[KeyLen:]
	id[8] = byte(i)
	if p.next.leaf != nil {
		v, _, err = p.next.get(id)
	}
	if v == nil && err == nil { // another page
		if p.next, err = p.b.seek(id); err == nil {
			v, _, err = p.next.get(id)
		}
	}
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, fmt.Errorf("%w: record %d lacks part %d", ErrDamaged, p.id, i)
	}
	p.next.i++
	return unseal(p.sealed, v)
}

func bodyID(id uint64, part byte) []byte {
	return append(u64(id), part)
}

func tagKey(h accel.Hash, id uint64) []byte { return u64pair(uint64(h), id) }

// tagRow is a row of bucket t: enough to sweep by, and to show.
type tagRow struct {
	n         uint64 // of the entry's position
	size      uint64
	keepUntil uint64
	key       []byte
}

func (r tagRow) encode(key []byte) []byte {
	b := make([]byte, 0, 24+KeyLen)
	b = binary.BigEndian.AppendUint64(b, r.n)
	b = binary.BigEndian.AppendUint64(b, r.size)
	b = binary.BigEndian.AppendUint64(b, r.keepUntil)
	return seal(key, append(b, r.key...))
}

func decodeTagRow(key, v []byte) (tagRow, error) {
	b, err := unseal(key, v)
	if err != nil {
		return tagRow{}, err
	}
	if len(b) != 24+KeyLen {
		return tagRow{}, fmt.Errorf("%w: tag row of %d bytes", ErrDamaged, len(b))
	}
	return tagRow{
		n:         binary.BigEndian.Uint64(b),
		size:      binary.BigEndian.Uint64(b[8:]),
		keepUntil: binary.BigEndian.Uint64(b[16:]),
		key:       bytes.Clone(b[24:]),
	}, nil
}

// Row returns the row of a key in bucket k, or ErrNotFound.
func (tx *Tx) Row(key accel.Key) (Row, error) {
	if tx.lacks && key == tx.absent {
		return Row{}, ErrNotFound
	}
	kb := AppendKey(tx.key[:0], key)
	v := tx.k.Get(kb)
	if v == nil {
		tx.absent, tx.lacks = key, true
		return Row{}, ErrNotFound
	}
	return decodeRow(kb, v)
}

// Record reads the whole entry of a row, in a transaction that writes nothing.
func (tx *Tx) Record(row Row) (*accel.Entry, error) {
	return readRecord(tx.b.stem, new(covered), row, nil)
}

// fits reports whether an entry can be written down: the number of a part is a
// byte, that of the marks two.
func fits(e *accel.Entry) bool {
	return len(e.Bodies) < math.MaxUint8 && len(e.Marks) <= math.MaxUint16
}

// Put stores an entry and all its rows. What the key held before goes, and with
// it what the resource's variants no longer allow. An entry of more than 254
// bodies or 65 535 marks is not stored.
func (tx *Tx) Put(e *accel.Entry, staleSince time.Time) error {
	_, all, err := tx.displace(e.Key, e.Vary)
	if err != nil || !fits(e) {
		return err
	}
	if err := tx.addVariant(e, all); err != nil {
		return err
	}
	id, err := tx.b.b.NextSequence()
	if err != nil {
		return err
	}
	key := AppendKey(make([]byte, 0, KeyLen), e.Key)
	row := Row{ID: id, Parts: uint8(1 + len(e.Bodies))}
	head := seal(bodyKey(key, id, 0), encodeHead(e))
	if err := tx.b.Put(bodyID(id, 0), head); err != nil {
		return err
	}
	row.Size = uint64(len(head))
	for i, body := range e.Bodies {
		part := byte(i + 1)
		v := seal(bodyKey(key, id, part), body.Data)
		if err := tx.b.Put(bodyID(id, part), v); err != nil {
			return err
		}
		row.Size += uint64(len(v))
	}
	return tx.link(row, key, e, staleSince)
}

// Renew gives an entry that is stored, and whose row this is, the header, times,
// tags and position of e. Its bodies stay where they are; if they turn out to be
// others than those of e, e is stored whole.
func (tx *Tx) Renew(row Row, e *accel.Entry, staleSince time.Time) error {
	same := fits(e) && int(row.Parts) == 1+len(e.Bodies)
	for i := 0; same && i < len(e.Bodies); i++ {
		v := tx.b.Get(bodyID(row.ID, byte(i+1)))
		same = len(v) >= sealLen && bytes.Equal(v[sealLen:], e.Bodies[i].Data)
	}
	if !same {
		return tx.Put(e, staleSince)
	}
	key := AppendKey(make([]byte, 0, KeyLen), e.Key)
	old := len(tx.b.Get(bodyID(row.ID, 0)))
	if err := tx.unlink(row, key); err != nil {
		return err
	}
	if err := tx.dropNames(row); err != nil {
		return err
	}
	head := seal(bodyKey(key, row.ID, 0), encodeHead(e))
	if err := tx.b.Put(bodyID(row.ID, 0), head); err != nil {
		return err
	}
	row.Size = row.Size - uint64(old) + uint64(len(head)) - rowsSize(len(row.Marks))
	return tx.link(row, key, e, staleSince)
}

// rowsSize is what the rows beside the record take, with bbolt's sixteen bytes
// for each element, two of the record among them.
func rowsSize(marks int) uint64 {
	k := KeyLen + 64 + 8*marks
	x := 16 + KeyLen
	t := (marks - 2) * (16 + 29 + KeyLen)
	return uint64(k + x + max(t, 0) + 16*(marks+2))
}

// link writes the rows that lead to a record.
func (tx *Tx) link(row Row, key []byte, e *accel.Entry, staleSince time.Time) error {
	tx.changed = true
	row.Key, row.At = e.Key, e.At
	row.FreshUntil, row.KeepUntil, row.StaleSince = e.FreshUntil, e.KeepUntil, staleSince
	row.Marks = e.Marks
	row.Size += rowsSize(len(e.Marks))
	tx.lacks = false
	if err := tx.k.Put(key, row.encode(key)); err != nil {
		return err
	}
	keep := putTime(e.KeepUntil)
	if err := tx.x.Put(u64pair(keep, row.ID), key); err != nil {
		return err
	}
	for i, h := range tagMarks(e.Marks) {
		if err := tx.name(h, e.Tags, i); err != nil {
			return err
		}
		tk := tagKey(h, row.ID)
		if err := tx.t.Put(tk, tagRow{n: e.At.N, size: row.Size, keepUntil: keep, key: key}.encode(tk)); err != nil {
			return err
		}
	}
	tx.SetSeq(e.At.N)
	tx.meta.Entries++
	tx.meta.Bytes += row.Size
	return nil
}

// name sees to it that a tag has its name, once in a transaction. Where changes are
// gathered it does not look whether it has: that takes longer than to write it again.
func (tx *Tx) name(h accel.Hash, tags []string, i int) error {
	if _, known := tx.named[h]; known || i >= len(tags) {
		return nil
	}
	if tx.named == nil {
		tx.named = make(map[accel.Hash]struct{})
	}
	tx.named[h] = struct{}{}
	key := tagKey(h, 0)
	if tx.ledger == nil && tx.t.Get(key) != nil {
		return nil
	}
	return tx.t.Put(key, []byte(tags[i]))
}

// tagMarks leaves out the marks of URL and target, which need no rows of their
// own: the key begins with the target's.
func tagMarks(marks []accel.Hash) []accel.Hash {
	return marks[min(2, len(marks)):]
}

// unlink deletes the rows that lead to a record. dropNames is to follow.
func (tx *Tx) unlink(row Row, key []byte) error {
	tx.changed = true
	if err := tx.k.Delete(key); err != nil {
		return err
	}
	if err := tx.x.Delete(u64pair(putTime(row.KeepUntil), row.ID)); err != nil {
		return err
	}
	for _, h := range tagMarks(row.Marks) {
		if err := tx.t.Delete(tagKey(h, row.ID)); err != nil {
			return err
		}
	}
	tx.meta.Entries -= min(tx.meta.Entries, 1)
	tx.meta.Bytes -= min(tx.meta.Bytes, row.Size)
	return nil
}

// dropNames deletes the names of tags that went with the last of their entries, which
// these were. Each tag is looked for once, however many bore it: the look goes over all
// pages that the transaction has emptied.
func (tx *Tx) dropNames(gone ...Row) error {
	last := map[accel.Hash]uint64{} // the highest id of those that bore a tag
	for _, row := range gone {
		for _, h := range tagMarks(row.Marks) {
			last[h] = max(last[h], row.ID)
		}
	}
	for _, h := range slices.Sorted(maps.Keys(last)) {
		if tx.borne(h, last[h]) {
			continue
		}
		delete(tx.named, h)
		if err := tx.t.Delete(tagKey(h, 0)); err != nil {
			return err
		}
	}
	return nil
}

// borne reports whether an entry bears a tag, one of whose was deleted just now. A tag may
// have thousands of rows that are deleted and not settled; so it looks first where there
// is likely to be one that is not: at the newest, and behind the one that was deleted, which
// a sweep has come by in the order of ids.
func (tx *Tx) borne(h accel.Hash, deleted uint64) (borne bool) {
	under := u64(uint64(h))
	if tx.t.pending != nil {
		tx.t.pending.Descend(text(tagKey(h, math.MaxUint64)), func(key string, c *change) bool {
			borne = strings.HasPrefix(key, text(under)) && key != text(tagKey(h, 0)) && c.value != nil
			return false
		})
		if borne {
			return true
		}
	}
	m := tx.t.Rows()
	k, v := m.seek(tagKey(h, deleted))
	for range look(1) {
		if !bytes.HasPrefix(k, under) {
			break
		}
		if v != nil {
			return true
		}
		k, v = m.step()
	}
	k, _ = m.Seek(tagKey(h, 1))
	return bytes.HasPrefix(k, under)
}

// Delete removes the entry of a key with all its rows, if its id is id or id is
// 0. It returns ErrNotFound if there is none.
func (tx *Tx) Delete(key accel.Key, id uint64) error {
	row, err := tx.removeID(key, id)
	if err != nil {
		return err
	}
	return tx.dropNames(row)
}

// delete removes entries with all their rows.
func (tx *Tx) delete(rows ...Row) error {
	for _, row := range rows {
		if err := tx.remove(row); err != nil {
			return err
		}
	}
	return tx.dropNames(rows...)
}

// removeID is Delete without the names of the entry's tags; dropNames is to follow.
func (tx *Tx) removeID(key accel.Key, id uint64) (Row, error) {
	row, err := tx.Row(key)
	if err == nil && id != 0 && row.ID != id {
		err = ErrNotFound
	}
	if err == nil {
		err = tx.remove(row)
	}
	return row, err
}

// Interrupt has stop asked before each entry that is deleted. Once it says yes the
// deletion returns ErrInterrupted, and the transaction is to be rolled back.
func (tx *Tx) Interrupt(stop func() bool) { tx.stop = stop }

// remove deletes all rows of an entry but the names of its tags.
func (tx *Tx) remove(row Row) error {
	if tx.stop != nil && tx.stop() {
		return ErrInterrupted
	}
	key := AppendKey(make([]byte, 0, KeyLen), row.Key)
	if err := tx.unlink(row, key); err != nil {
		return err
	}
	for part := range row.Parts {
		if err := tx.b.Delete(bodyID(row.ID, part)); err != nil {
			return err
		}
	}
	return tx.dropVariant(row.Key)
}

// deleteRecord deletes a record that no row of bucket k tells the parts of.
func (tx *Tx) deleteRecord(id uint64) error {
	c := tx.b.Cursor()
	var parts [][]byte
	for k, _ := c.Seek(bodyID(id, 0)); bytes.HasPrefix(k, u64(id)); k, _ = c.Next() {
		parts = append(parts, bytes.Clone(k))
	}
	for _, k := range parts {
		if err := tx.b.Delete(k); err != nil {
			return err
		}
	}
	return nil
}

func resourceKey(key accel.Key) []byte {
	return AppendKey(make([]byte, 0, KeyLen), key)[:resourceLen]
}

func (tx *Tx) readVariants(rk []byte) (variants, bool, error) {
	v := tx.k.Get(rk)
	if v == nil {
		return variants{}, false, nil
	}
	all, err := decodeVariants(rk, v)
	return all, err == nil, err
}

// Displace deletes what a Put at a key, with these Vary names, would replace: the
// entry there, and all of the resource's if their names are others. It reports
// whether there was anything.
func (tx *Tx) Displace(key accel.Key, vary []string) (changed bool, err error) {
	changed, _, err = tx.displace(key, vary)
	return changed, err
}

// displace also returns the resource's list of variants, as far as it stays.
func (tx *Tx) displace(key accel.Key, vary []string) (changed bool, all variants, err error) {
	switch err := tx.Delete(key, 0); err {
	case nil:
		changed = true
	case ErrNotFound:
	default:
		return false, all, err
	}
	rk := resourceKey(key)
	all, known, err := tx.readVariants(rk)
	if err != nil || slices.Equal(all.names, vary) {
		return changed, all, err
	}
	n, err := tx.deleteVariants(rk)
	return changed || known || n > 0, variants{}, err
}

// addVariant adds e, which has been displaced, to its resource's list of variants, and
// makes room for it.
func (tx *Tx) addVariant(e *accel.Entry, all variants) error {
	rk := resourceKey(e.Key)
	if len(all.digests) == 0 {
		if e.Vary == nil && e.Key.Variant == (accel.Digest{}) {
			return nil // the common case: one entry, no row
		}
		all.names = e.Vary
		// An entry that depends on nothing may stand there without a row.
		if tx.k.Get(AppendKey(nil, accel.Key{Target: e.Key.Target, Resource: e.Key.Resource})) != nil {
			all.digests = append(all.digests, accel.Digest{})
		}
	}
	for len(all.digests) >= accel.MaxVariants {
		oldest := e.Key
		oldest.Variant = all.digests[0]
		all.digests = all.digests[1:]
		row, err := tx.Row(oldest)
		if err == nil {
			err = tx.delete(row)
		}
		if err != nil && err != ErrNotFound {
			return err
		}
	}
	all.digests = append(all.digests, e.Key.Variant)
	return tx.k.Put(rk, all.encode(rk))
}

// deleteVariants deletes all entries of a resource, and the list of them.
func (tx *Tx) deleteVariants(rk []byte) (deleted int, err error) {
	rows, _, err := tx.rows(rk, nil, nil, 1<<20) // there are 16 at most
	if err != nil {
		return 0, err
	}
	if err := tx.delete(rows...); err != nil {
		return 0, err
	}
	return len(rows), tx.k.Delete(rk)
}

// dropVariant takes a deleted entry off its resource's list.
func (tx *Tx) dropVariant(key accel.Key) error {
	rk := resourceKey(key)
	all, known, err := tx.readVariants(rk)
	if err != nil || !known {
		return err
	}
	all.digests = slices.DeleteFunc(all.digests, func(d accel.Digest) bool { return d == key.Variant })
	if len(all.digests) == 0 {
		return tx.k.Delete(rk)
	}
	return tx.k.Put(rk, all.encode(rk))
}

// rows collects up to limit rows of bucket k under a prefix, beginning at from,
// that match says yes to (nil: all), and where to go on; nil at the end. It looks
// at no more than scan rows.
func (tx *Tx) rows(prefix, from []byte, match func(Row) bool, limit int) (rows []Row, next []byte, err error) {
	if from == nil {
		from = prefix
	}
	c := tx.k.Rows()
	seen := 0
	for k, v := c.seek(from); k != nil && bytes.HasPrefix(k, prefix); k, v = c.step() {
		if len(k) != KeyLen {
			continue
		}
		if seen++; seen > look(limit) || len(rows) == limit {
			return rows, bytes.Clone(k), nil
		}
		if v == nil {
			continue // deleted
		}
		row, err := decodeRow(k, v)
		if err != nil {
			return nil, nil, err
		}
		if match == nil || match(row) {
			rows = append(rows, row)
		}
	}
	return rows, nil, nil
}

// Standing is what a Put would find in its way.
type Standing struct {
	Row    Row      // what the key holds; zero if nothing
	Vary   []string // the names under which the resource's entries are kept
	Others []Row    // the resource's other entries, if they would have to go because of their names
}

// Stands tells what a Put at a key, with these Vary names, would replace.
// p is what is pending after the transaction that btx sees.
func Stands(btx *bolt.Tx, p *Pending, key accel.Key, vary []string) (Standing, error) {
	var st Standing
	k, err := stemOf(btx, mappingOf(btx)).open(btx, bucketK)
	if err != nil {
		return st, err
	}
	k.pending = p.of(inK)
	rk := resourceKey(key)
	others := len(vary) > 0 // without a row of variants, what stands has no names
	c := k.Rows()
	for at, v := c.Seek(rk); bytes.HasPrefix(at, rk); at, v = c.Next() {
		if len(at) == resourceLen {
			all, err := decodeVariants(at, v)
			if err != nil {
				return st, err
			}
			st.Vary, others = all.names, !slices.Equal(all.names, vary)
			continue
		}
		row, err := decodeRow(at, v)
		if err != nil {
			return st, err
		}
		if row.Key == key {
			st.Row = row
		} else if others {
			st.Others = append(st.Others, row)
		}
	}
	return st, nil
}
