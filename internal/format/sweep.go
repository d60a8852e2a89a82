package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
)

// A step of sweeping deletes a bounded number of entries and says where the next
// one goes on: nil when there is nothing left to do.

// SweepExpired deletes up to limit entries whose KeepUntil has passed.
func (tx *Tx) SweepExpired(now time.Time, limit int) (deleted int, more bool, err error) {
	type due struct{ x, key []byte }
	var list []due
	c := tx.x.Cursor()
	for k, v := c.First(); k != nil && len(list) < limit; k, v = c.Next() {
		if len(k) != 16 || binary.BigEndian.Uint64(k) > putTime(now) {
			break
		}
		list = append(list, due{bytes.Clone(k), bytes.Clone(v)})
	}
	var gone []Row
	for _, d := range list {
		id := binary.BigEndian.Uint64(d.x[8:])
		key, err := ParseKey(d.key)
		var row Row
		if err == nil {
			row, err = tx.removeID(key, id)
		}
		if err == nil {
			gone = append(gone, row)
		}
		if err == ErrNotFound {
			// The row leads nowhere: only damage leaves such a one.
			if err = tx.x.Delete(d.x); err == nil {
				err = tx.deleteRecord(id)
			}
		}
		if err != nil {
			return deleted, false, err
		}
		deleted++
	}
	return deleted, len(list) == limit, tx.dropNames(gone...)
}

// SweepMark deletes up to limit entries that the row strikes, and writes
// StaleSince into those that it makes stale. When next is nil, no entry is left
// that it strikes or makes stale, and DeleteMark may follow.
func (tx *Tx) SweepMark(r marks.Row, from []byte, limit int) (deleted int, next []byte, err error) {
	rows, next, err := tx.older(r, from, limit)
	if err != nil {
		return 0, nil, err
	}
	var struck []Row
	for _, row := range rows {
		if r.Strikes(row.At.N) {
			struck = append(struck, row)
			continue
		}
		if row.StaleSince.IsZero() || r.Since.Before(row.StaleSince) {
			row.StaleSince = r.Since
			key := AppendKey(nil, row.Key)
			if err := tx.k.Put(key, row.encode(key)); err != nil {
				return 0, nil, err
			}
		}
	}
	return len(struck), next, tx.delete(struck...)
}

func targetOf(m accel.Mark) accel.Hash {
	if m.Kind == accel.KindURL {
		return m.Target
	}
	return m.Hash
}

// older collects the rows of entries that bear a mark and are older than it.
func (tx *Tx) older(r marks.Row, from []byte, limit int) (rows []Row, next []byte, err error) {
	b, prefix := tx.k, u64(uint64(targetOf(r.Mark)))
	read := func(k, v []byte) (row Row, older bool, err error) {
		if len(k) != KeyLen {
			return row, false, nil
		}
		row, err = decodeRow(k, v)
		return row, slices.Contains(row.Marks, r.Mark.Hash), err
	}
	if from == nil {
		from = prefix
	}
	if r.Mark.Kind == accel.KindTag {
		b, prefix = tx.t, u64(uint64(r.Mark.Hash))
		read = func(k, v []byte) (Row, bool, error) { return tx.tagged(r, k, v) }
		if len(from) == len(prefix) {
			from = tagKey(r.Mark.Hash, 1) // behind the name
		}
	}
	c := b.Rows()
	k, v, err := tx.seek(c, from)
	for seen := 0; err == nil && bytes.HasPrefix(k, prefix); k, v = c.step() {
		if seen++; seen > look(limit) || len(rows) == limit {
			return rows, bytes.Clone(k), nil
		}
		if c.back {
			return nil, nil, errOrder
		}
		if v == nil {
			continue // deleted
		}
		row, bears, err := read(k, v)
		if err != nil {
			return nil, nil, err
		}
		if bears && (r.Strikes(row.At.N) || r.Stales(row.At.N)) {
			rows = append(rows, row)
		}
	}
	if err == nil {
		err = tx.ended(c, prefix, from)
	}
	return rows, nil, err
}

// tagged reads a row of bucket t, and if the mark matters to it, that of its entry.
func (tx *Tx) tagged(r marks.Row, k, v []byte) (row Row, bears bool, err error) {
	t, err := decodeTagRow(k, v)
	if err != nil || !r.Strikes(t.n) && !r.Stales(t.n) {
		return row, false, err
	}
	key, err := ParseKey(t.key)
	if err != nil {
		return row, false, err
	}
	row, err = tx.Row(key)
	if err == ErrNotFound || err == nil && !bytes.Equal(k, tagKey(r.Mark.Hash, row.ID)) {
		err = fmt.Errorf("%w: a tag row leads nowhere", ErrDamaged)
	}
	return row, true, err
}

// look is how many rows a walk that looks for so many comes by at most, before it says where
// to go on: of some that are there, or were until a moment ago, it has no use.
func look(limit int) int { return 64 * limit }

// around is how many rows before and behind those of a mark are looked at: as many
// as a page has of them, and more.
const around = 64

var errOrder = fmt.Errorf("%w: rows are out of order", ErrDamaged)

// seek begins a walk over rows at a key. A key that damage has changed misleads the
// search, so that rows are overlooked which are found again when their page has
// changed: by then nothing would strike their entries any more. What stands before
// the key shows it.
//
// In pages that this transaction has emptied bbolt's cursor does not end when it
// goes back. Then the look is left out: it is for walks in transactions of their own.
func (tx *Tx) seek(m *merge, from []byte) (k, v []byte, err error) {
	c := m.file
	if k, v = c.Seek(from); tx.changed {
		k, v = m.begin(from, k, v)
		return k, v, nil
	}
	above := from
	for range around {
		if k == nil && bytes.Equal(above, from) {
			k, _ = c.Last() // the search came to the end
		} else {
			k, _ = c.Prev()
		}
		if k == nil {
			break
		}
		if bytes.Compare(k, above) >= 0 {
			return nil, nil, errOrder
		}
		above = k
	}
	k, v = m.seek(from)
	return k, v, nil
}

// ended looks whether a walk over the rows under a prefix has come to their end in the
// file. A key that damage has changed ends it early, and so does a page that belongs
// elsewhere. The walk began at from.
func (tx *Tx) ended(m *merge, prefix, from []byte) error {
	if tx.changed {
		return nil // see seek
	}
	c, k, last := m.file, m.k, m.last
	if last == nil {
		last = from
	}
	for i, below := 0, last; i < around && k != nil; i++ {
		if bytes.Compare(k, below) < 0 {
			return errOrder
		}
		below = k
		k, _ = c.Next()
	}
	end, _ := c.Seek(append(bytes.Clone(prefix), bytes.Repeat([]byte{0xff}, KeyLen)...))
	if end == nil {
		end, _ = c.Last()
	} else {
		end, _ = c.Prev()
	}
	if bytes.HasPrefix(end, prefix) && bytes.Compare(end, last) > 0 {
		return errOrder
	}
	return nil
}

// Older reports whether the file may hold an entry that the row strikes or makes
// stale. It looks at a bounded number of rows; when that is not enough, it may.
func (tx *Tx) Older(r marks.Row) (bool, error) {
	if r.Mark.Kind == accel.KindAll {
		return true, nil
	}
	rows, next, err := tx.older(r, nil, 1)
	return len(rows) > 0 || next != nil, err
}

// SweepFloor deletes up to limit entries below n.
func (tx *Tx) SweepFloor(n uint64, from []byte, limit int) (deleted int, next []byte, err error) {
	rows, next, err := tx.rows(nil, from, func(row Row) bool { return row.At.N < n }, limit)
	if err != nil {
		return 0, nil, err
	}
	return len(rows), next, tx.delete(rows...)
}

// Evict deletes up to limit entries in the order of their ids, beginning at the
// hand, leaving those that spare says yes to. It returns where the hand stands
// now: 0 when it has come to the end. Going by id, deletions lie side by side;
// in random order they would write fifteen times as much.
func (tx *Tx) Evict(hand uint64, limit int, spare func(accel.Key) bool) (deleted int, next uint64, err error) {
	type victim struct {
		id  uint64
		key []byte
	}
	var list []victim
	c := tx.b.Cursor()
	seen := 0
	for k, v := c.Seek(bodyID(hand, 0)); k != nil; {
		if len(k) != 9 {
			return 0, 0, ErrDamaged
		}
		id := binary.BigEndian.Uint64(k)
		if seen++; len(list) == limit || seen > 16*limit {
			next = id
			break
		}
		// The head begins with the entry's key.
		if k[8] == 0 && len(v) >= sealLen+KeyLen {
			kb := bytes.Clone(v[sealLen : sealLen+KeyLen])
			if key, err := ParseKey(kb); err == nil && !spare(key) {
				list = append(list, victim{id, kb})
			}
		} else {
			list = append(list, victim{id: id})
		}
		k, v = c.Seek(bodyID(id+1, 0))
	}
	var gone []Row
	for _, vic := range list {
		err := ErrNotFound
		if key, perr := ParseKey(vic.key); perr == nil {
			var row Row
			if row, err = tx.removeID(key, vic.id); err == nil {
				gone = append(gone, row)
			}
		}
		if err == ErrNotFound {
			err = tx.deleteRecord(vic.id)
		}
		if err != nil {
			return deleted, 0, err
		}
		deleted++
	}
	return deleted, next, tx.dropNames(gone...)
}

func markKey(m accel.Mark) []byte {
	return binary.BigEndian.AppendUint64([]byte{byte(m.Kind)}, uint64(m.Hash))
}

// u64 hard, u64 soft, u64 since, u64 target
func encodeMark(r marks.Row) []byte {
	b := u64pair(r.Hard, r.Soft)
	b = binary.BigEndian.AppendUint64(b, putTime(r.Since))
	return binary.BigEndian.AppendUint64(b, uint64(r.Mark.Target))
}

func decodeMark(k, v []byte) (r marks.Row, ok bool) {
	if len(k) != 9 || len(v) != 32 || binary.BigEndian.Uint64(v[16:]) > math.MaxInt64 {
		return r, false
	}
	return marks.Row{
		Mark: accel.Mark{
			Kind:   accel.MarkKind(k[0]),
			Hash:   accel.Hash(binary.BigEndian.Uint64(k[1:])),
			Target: accel.Hash(binary.BigEndian.Uint64(v[24:])),
		},
		Hard:  binary.BigEndian.Uint64(v),
		Soft:  binary.BigEndian.Uint64(v[8:]),
		Since: getTime(binary.BigEndian.Uint64(v[16:])),
	}, true
}

// markSum is what a row adds to the sum in m.marks. Sums add up, so that one row
// can be changed without reading the others.
func markSum(k, v []byte) uint64 {
	h := fnv.New64a()
	h.Write(k)
	h.Write(v)
	return h.Sum64()
}

// Marks reads bucket g. whole is false if it is not what m.marks says it was:
// then an invalidation may be missing, and nothing in the file may be trusted.
func (tx *Tx) Marks() (rows []marks.Row, whole bool, err error) {
	var count, sum uint64
	c := tx.g.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		r, ok := decodeMark(k, v)
		if !ok {
			return nil, false, nil
		}
		rows = append(rows, r)
		count++
		sum += markSum(k, v)
	}
	return rows, count == tx.meta.Marks && sum == tx.meta.marksSum, nil
}

// WriteMarks writes rows into bucket g. A row that is there is replaced: the
// caller's is at least as high, because marks only grow.
func (tx *Tx) WriteMarks(rows []marks.Row) error {
	for _, r := range rows {
		k, v := markKey(r.Mark), encodeMark(r)
		if old := tx.g.Get(k); old != nil {
			tx.meta.Marks--
			tx.meta.marksSum -= markSum(k, old)
		}
		if err := tx.g.Put(k, v); err != nil {
			return err
		}
		tx.meta.Marks++
		tx.meta.marksSum += markSum(k, v)
		tx.SetSeq(max(r.Hard, r.Soft))
	}
	return nil
}

// DeleteMark deletes a row from bucket g if it still is what was swept.
func (tx *Tx) DeleteMark(r marks.Row) (bool, error) {
	k := markKey(r.Mark)
	old := tx.g.Get(k)
	if old == nil {
		return true, nil
	}
	if have, ok := decodeMark(k, old); !ok || have.Hard != r.Hard || have.Soft != r.Soft {
		return false, nil
	}
	tx.meta.Marks--
	tx.meta.marksSum -= markSum(k, old)
	return true, tx.g.Delete(k)
}

// DeleteMarksBelow deletes the rows that the floor stands for. It is called in
// the transaction that writes the floor, or a later one, never an earlier.
func (tx *Tx) DeleteMarksBelow(floor uint64) error {
	rows, _, err := tx.Marks()
	if err != nil {
		return err
	}
	for _, r := range rows {
		if max(r.Hard, r.Soft) <= floor {
			if _, err := tx.DeleteMark(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// HasMark reports whether bucket g has a row for a mark.
func (tx *Tx) HasMark(m accel.Mark) bool { return tx.g.Get(markKey(m)) != nil }

// ResetMarks empties bucket g, whole or not: the floor stands for everything that
// was in it.
func (tx *Tx) ResetMarks() error {
	btx := tx.g.b.Tx()
	if err := tx.g.whole(); err != nil {
		return err
	}
	if err := btx.DeleteBucket(bucketG); err != nil {
		return err
	}
	tx.meta.Marks, tx.meta.marksSum = 0, 0
	b, err := btx.CreateBucket(bucketG)
	tx.g = tree{b: b}
	return err
}

// Due reports whether SweepExpired has something to do.
func (tx *Tx) Due(now time.Time) bool {
	k, _ := tx.x.Cursor().First()
	return len(k) >= 8 && binary.BigEndian.Uint64(k) <= putTime(now)
}
