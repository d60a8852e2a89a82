package format

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
	"unsafe"

	"github.com/tidwall/btree"
	bolt "go.etcd.io/bbolt"
)

// Keys in k and t are hashes, so that each row of an entry there is on a page somewhere
// else, and such a page costs a sync more than the entry itself, which lies in b beside
// those that were written with it. So what a transaction changes in k and t is written to
// the journal, where it lies side by side, and remembered. Where it belongs it is written
// later, in the order of keys, when there is enough of it that many changes fall on a
// page.

// Pending is what is in the journal: the changes of rows in k and t that these buckets do
// not have yet. It is what one transaction has left, and never changes; so it is safe for
// concurrent use. A nil Pending has nothing.
type Pending struct {
	rows  [2]*changes // of k, and of t
	bytes int         // what they take
	hand  hand
	// live tells how many changes of each row of the journal are pending; the first is
	// that of the row with the number first.
	live []uint32
	// first only grows: a row that a disk has lost must not be replaced by one that was
	// there long ago.
	first uint64
}

// The buckets whose changes are gathered, as places in an array.
const (
	inK = iota
	inT
)

// changes are those of one bucket by key. To copy them takes no time; from then on each
// copy has what the other does to itself no part in.
type changes = btree.Map[string, *change]

// A change is what became of a row. Once it was committed it never changes.
type change struct {
	key   string
	value []byte // nil if the row was deleted
	at    uint64 // the row of the journal that has it; or one of the following
}

const (
	fresh = math.MaxUint64 - iota // the change is by this very transaction, and in no row yet
	moot                          // the change was fresh, and needs no row
)

// changeCost is what a change takes in memory beside its key and value, in bytes: itself,
// its place in the tree, and what allocating three pieces loses.
const changeCost = 64

func (c *change) bytes() int { return len(c.key) + len(c.value) + changeCost }

// A hand is how far writing changes where they belong has come: to a key in a bucket. It
// goes round.
type hand struct {
	in  int
	key string
}

// journalRow is how long a row of the journal is, in bytes, unless it has one change
// alone: two of them fill a page.
const journalRow = 1960

// Bytes returns how many bytes what is pending takes, roughly.
func (p *Pending) Bytes() int {
	if p == nil {
		return 0
	}
	return p.bytes
}

// Rows returns how many rows the journal has: some of them for a single change, because only
// the oldest may go.
func (p *Pending) Rows() int {
	if p == nil {
		return 0
	}
	return len(p.live)
}

// extent returns the numbers of the first row of the journal and behind the last.
func (p *Pending) extent() (first, end uint64) {
	if p == nil {
		return 0, 0
	}
	return p.first, p.first + uint64(len(p.live))
}

// of returns what is pending of a bucket, nil if nothing is.
func (p *Pending) of(in int) *changes {
	if p == nil || p.rows[in].Len() == 0 {
		return nil
	}
	return p.rows[in]
}

// A ledger is what a transaction makes of what was pending before it.
type ledger struct {
	Pending
	wrote [2][]*change // of them, those that are fresh or moot
	added int          // bytes of those that are fresh
}

// degree is that of the trees, half of their own: a transaction copies a node for nearly
// each key that it changes.
const degree = 16

func newLedger(p *Pending) *ledger {
	if p == nil {
		return &ledger{Pending: Pending{rows: [2]*changes{btree.NewMap[string, *change](degree), btree.NewMap[string, *change](degree)}}}
	}
	l := &ledger{Pending: *p}
	l.rows[inK], l.rows[inT], l.live = p.rows[inK].Copy(), p.rows[inT].Copy(), slices.Clone(p.live)
	return l
}

// text is b as a string, for as long as nobody changes b.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// changed tells what became of a row; known is false if nothing of it is pending.
func changed(c *changes, key []byte) (v []byte, known bool) {
	if c == nil {
		return nil, false
	}
	if is, known := c.Get(text(key)); known {
		return is.value, true
	}
	return nil, false
}

// change notes what becomes of a row: deleted if value is nil. It keeps key and value.
func (l *ledger) change(in int, key, value []byte) {
	c := &change{text(key), value, fresh}
	if was, known := l.rows[in].Set(c.key, c); known {
		l.gone(was)
	}
	l.added += c.bytes()
	l.wrote[in] = append(l.wrote[in], c)
}

// gone takes a change off the account: there is a newer one, or it is where it belongs.
func (l *ledger) gone(c *change) {
	if c.at == fresh {
		l.added -= c.bytes()
		c.at = moot
		return
	}
	l.bytes -= c.bytes()
	l.live[c.at-l.first]--
}

// Added returns how many bytes the transaction, begun by BeginWith, has added to what is
// pending.
func (tx *Tx) Added() int { return tx.ledger.added }

// Settle writes about so many bytes of what was pending before the transaction where they
// belong, beginning behind the last that were, one change at least. No entry may be read
// or changed after it.
func (tx *Tx) Settle(bytes int) error { return tx.settle(bytes, false) }

// SettleAll writes everything that is pending where it belongs, and leaves the journal
// empty. No entry may be read or changed after it.
func (tx *Tx) SettleAll() error { return tx.settle(math.MaxInt, true) }

func (tx *Tx) settle(bytes int, all bool) (err error) {
	// From the hand to the end of its bucket, through the other, and to the hand again.
	for range 3 {
		if bytes, err = tx.settleOn(bytes, all); err != nil || bytes <= 0 {
			return err
		}
		tx.ledger.hand = hand{in: inT - tx.ledger.hand.in}
	}
	return nil
}

// settleOn settles up to the end of the hand's bucket, and returns how many bytes of
// those that it might are left.
//
// What is fresh is left, unless all goes: a row of the journal may have an older change of
// the same key, which a crash would bring back.
func (tx *Tx) settleOn(bytes int, all bool) (left int, err error) {
	l := tx.ledger
	var list []*change
	l.rows[l.hand.in].Ascend(l.hand.key, func(_ string, c *change) bool {
		if all || c.at != fresh {
			list = append(list, c)
			bytes -= c.bytes()
		}
		return bytes > 0
	})
	t := [...]tree{tx.k, tx.t}[l.hand.in]
	t.ledger = nil
	for _, c := range list {
		key := unsafe.Slice(unsafe.StringData(c.key), len(c.key))
		if c.value == nil {
			err = t.Delete(key)
		} else {
			err = t.Put(key, c.value)
		}
		if err != nil {
			return 0, err
		}
		l.rows[l.hand.in].Delete(c.key)
		l.gone(c)
		l.hand.key = c.key
	}
	return bytes, nil
}

// A row of the journal is a list of changes, after the seal. Each is a byte, which tells
// the bucket and whether the row was deleted, and two strings, key and value.
const (
	deletes    = 1
	kinds      = 4
	bucketBits = 1 // inK or inT
)

// writeJournal writes what is fresh into the journal, and deletes from it the rows of
// which nothing is pending.
func (tx *Tx) writeJournal() error {
	l := tx.ledger
	var row []byte
	n := l.first + uint64(len(l.live))
	count := uint32(0)
	write := func() error {
		if count == 0 {
			return nil
		}
		if err := tx.openJournal(); err != nil {
			return err
		}
		k := u64(n)
		if err := tx.j.Put(k, seal(k, row)); err != nil {
			return err
		}
		l.live = append(l.live, count)
		n, row, count = n+1, row[:0], 0
		return nil
	}
	for in, list := range l.wrote {
		for _, c := range list {
			if c.at == moot {
				continue
			}
			if size := 1 + 2*binary.MaxVarintLen16 + len(c.key) + len(c.value); len(row)+size > journalRow {
				if err := write(); err != nil {
					return err
				}
			}
			row = c.append(row, in)
			c.at = n
			l.bytes += c.bytes()
			count++
		}
	}
	if err := write(); err != nil {
		return err
	}
	// Only the oldest rows go: a change that is where it belongs by now may have replaced
	// one in a row before it.
	for len(l.live) > 0 && l.live[0] == 0 {
		if err := tx.j.Delete(u64(l.first)); err != nil {
			return err
		}
		l.live, l.first = l.live[1:], l.first+1
	}
	l.wrote, l.added = [2][]*change{}, 0
	return nil
}

func (tx *Tx) openJournal() error {
	if tx.j.b != nil {
		return nil
	}
	b, err := tx.m.b.Tx().CreateBucketIfNotExists(bucketJ)
	if err != nil {
		return err
	}
	tx.j = tree{b: b}
	tx.j.b.FillPercent = appendFill
	return nil
}

func (c *change) append(row []byte, in int) []byte {
	kind := byte(in << bucketBits)
	if c.value == nil {
		kind |= deletes
	}
	row = appendString(append(row, kind), c.key)
	return appendString(row, text(c.value))
}

// LoadPending reads the journal. It returns ErrDamaged if that is not what was written:
// then nobody knows what is missing in the indexes.
func LoadPending(btx *bolt.Tx) (*Pending, error) {
	tx, err := begin(btx)
	if err != nil {
		return nil, err
	}
	return tx.loadPending()
}

func (tx *Tx) loadPending() (*Pending, error) {
	m := tx.meta
	l := newLedger(nil)
	l.first = m.journal
	if m.journalEnd == m.journal {
		return &l.Pending, nil
	}
	c := tx.j.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		at := l.first + uint64(len(l.live))
		if at == m.journalEnd || !bytes.Equal(k, u64(at)) {
			return nil, fmt.Errorf("%w: the journal has other rows than were written", ErrDamaged)
		}
		row, err := unseal(k, v)
		if err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
		l.live = append(l.live, 0)
		if err := l.read(at, row); err != nil {
			return nil, fmt.Errorf("journal: %w", err)
		}
	}
	if l.first+uint64(len(l.live)) != m.journalEnd {
		return nil, fmt.Errorf("%w: the journal has fewer rows than were written", ErrDamaged)
	}
	return &l.Pending, nil
}

// read takes the changes of a row of the journal over.
func (l *ledger) read(at uint64, row []byte) error {
	r := &reader{s: string(row)}
	for len(r.s) > 0 {
		kind := r.u8()
		c := &change{key: r.string(), at: at}
		value := r.string()
		if r.bad || kind >= kinds || !isKey(int(kind>>bucketBits), c.key) || kind&deletes != 0 && value != "" {
			return fmt.Errorf("%w: a change", ErrDamaged)
		}
		if kind&deletes == 0 {
			c.value = []byte(value)
		}
		if was, known := l.rows[kind>>bucketBits].Set(c.key, c); known {
			l.gone(was)
		}
		l.live[at-l.first]++
		l.bytes += c.bytes()
	}
	return nil
}

// isKey reports whether a key is one of the bucket, as far as its length tells.
func isKey(in int, key string) bool {
	if in == inT {
		return len(key) == 16
	}
	return len(key) == KeyLen || len(key) == resourceLen
}

// A merge goes over the rows of a bucket as they are with what is pending, in the order of
// their keys.
type merge struct {
	file    *cursor
	pending btree.MapIter[string, *change]

	k, v  []byte // where file is; nil at its end
	more  bool   // pending is somewhere
	back  bool   // the file's keys are not in order
	last  []byte // the last key of the file's that was passed
	which whose  // whose row was returned last
}

type whose uint8

const (
	files whose = 1 << iota
	pendings
)

// Rows returns a merge, to be moved by Seek first.
func (t tree) Rows() *merge {
	m := &merge{file: t.Cursor()}
	if t.pending != nil {
		m.pending = t.pending.Iter()
	}
	return m
}

// Seek goes to the first row at a key or behind it.
func (m *merge) Seek(key []byte) (k, v []byte) { return m.living(m.seek(key)) }

// seek is Seek, also to a row that is deleted: v is nil then.
func (m *merge) seek(key []byte) (k, v []byte) {
	k, v = m.file.Seek(key)
	return m.begin(key, k, v)
}

// begin is seek if the file's cursor is where it leads.
func (m *merge) begin(key, k, v []byte) (_, _ []byte) {
	m.k, m.v, m.last, m.back = k, v, nil, false
	m.more = m.pending.Seek(text(key))
	return m.row()
}

// Next goes on.
func (m *merge) Next() (k, v []byte) { return m.living(m.step()) }

// living goes on to a row that is there.
func (m *merge) living(k, v []byte) (_, _ []byte) {
	for k != nil && v == nil {
		k, v = m.step()
	}
	return k, v
}

// step goes on by a row, also to one that is deleted: v is nil then.
func (m *merge) step() (k, v []byte) {
	if m.which&files != 0 {
		m.last = m.k
		m.k, m.v = m.file.Next()
		m.back = m.back || m.k != nil && bytes.Compare(m.k, m.last) <= 0
	}
	if m.which&pendings != 0 {
		m.more = m.pending.Next()
	}
	return m.row()
}

// row returns the row at which the merge is.
func (m *merge) row() (k, v []byte) {
	m.which = 0
	order := 0
	switch {
	case m.k == nil && !m.more:
		return nil, nil
	case m.k == nil:
		order = 1
	case !m.more:
		order = -1
	default:
		order = strings.Compare(text(m.k), m.pending.Key())
	}
	if order <= 0 {
		m.which |= files
		if k, v = m.k, m.v; v == nil {
			v = []byte{} // a bucket, which is damage
		}
	}
	if order >= 0 {
		m.which |= pendings
		key := m.pending.Key()
		k, v = unsafe.Slice(unsafe.StringData(key), len(key)), m.pending.Value().value
	}
	return k, v
}
