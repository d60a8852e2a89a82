// Package format is the layout of a cache database: every byte of it that is
// ours, inside the pages that are bbolt's. docs/format.md describes the same
// bytes in prose, and golden files in testdata hold both to their word.
//
// There are these buckets, and a signature:
//
//	m   facts about the file        by name
//	k   where an entry is           target ‖ resource ‖ variant
//	b   the entry: head and bodies  id ‖ part
//	x   when it goes                keepUntil ‖ id
//	t   which entries bear a tag    tag hash ‖ id
//	g   marks                       kind ‖ hash
//	j   the journal                 number; there if it was ever needed
//	a   the signature               written once and never moved
//
// Values that could do harm when silently damaged carry a CRC-32C that is bound
// to their key: bbolt does not notice damage inside a value. The rows of an
// entry are written and deleted together, by the functions of this package and
// nobody else, so that what one transaction leaves is whole: the buckets k and t
// together with the journal, which has what they are still to become.
//
// Nothing here holds a transaction, starts a goroutine or knows a clock. What is
// returned never points into a page.
package format

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
)

// Version is the format this package writes, and the only one it reads. Another
// one is a file of another release: it is not touched.
const Version = 1

// Signature begins the value in bucket a. It lies in the first pages of the file
// and never moves, so that a file whose root is damaged is still known as ours.
const Signature = "ACCELERATOR CACHE DATABASE\n"

// Errors of this package.
var (
	// ErrForeign means that a file is not a cache database.
	ErrForeign = errors.New("not a cache database")
	// ErrVersion means a cache database of another format version.
	ErrVersion = errors.New("cache database of another format version")
	// ErrDamaged means a cache database, or a part of one, that is not what was
	// written.
	ErrDamaged = errors.New("damaged")
	// ErrNotFound means that a key has no entry.
	ErrNotFound = errors.New("not found")
	// ErrInterrupted means that a transaction was told to stop; see [Tx.Interrupt].
	ErrInterrupted = errors.New("interrupted")
	// ErrLocked means that another process, or another opening in this one, holds
	// the file.
	ErrLocked = errors.New("in use by another process")
)

// Bucket names.
var (
	bucketM = []byte("m")
	bucketK = []byte("k")
	bucketB = []byte("b")
	bucketX = []byte("x")
	bucketT = []byte("t")
	bucketG = []byte("g")
	bucketJ = []byte("j")
	bucketA = []byte("a")
)

// Keys in bucket m, and the value in bucket a.
var (
	keyMagic  = []byte("magic")   // "ACCELDB\0", u16 version, 16 bytes uuid
	keyInode  = []byte("inode")   // u64
	keySeq    = []byte("seq")     // u64
	keyFloor  = []byte("floor")   // u64
	keySwept  = []byte("swept")   // u64: no entry below is on disk
	keyMarks  = []byte("marks")   // u64 count, u64 sum
	keyTotal  = []byte("total")   // u64 entries, u64 bytes
	keyBudget = []byte("budget")  // u64
	keyClean  = []byte("clean")   // u8
	keyJourn  = []byte("journal") // u64 the first row of j, u64 the number behind the last; not there if there never was one
	keySum    = []byte("sum")     // u32: CRC-32C of all that a transaction writes into m
	keyAbout  = []byte("about")
)

var magic = []byte("ACCELDB\x00")

// castagnoli is the polynomial with an instruction on amd64 and arm64: 16 KiB
// take half a microsecond.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// KeyLen is the length of a key in bucket k.
const KeyLen = 8 + 32 + 32

// resourceLen is the length of the prefix of a key that names the resource. A
// row under the prefix alone lists the resource's variants.
const resourceLen = 8 + 32

// AppendKey appends the key of bucket k.
func AppendKey(b []byte, k accel.Key) []byte {
	b = binary.BigEndian.AppendUint64(b, uint64(k.Target))
	b = append(b, k.Resource[:]...)
	return append(b, k.Variant[:]...)
}

// ParseKey reads a key of bucket k.
func ParseKey(b []byte) (k accel.Key, err error) {
	if len(b) != KeyLen {
		return k, fmt.Errorf("%w: key of %d bytes", ErrDamaged, len(b))
	}
	k.Target = accel.Hash(binary.BigEndian.Uint64(b))
	copy(k.Resource[:], b[8:])
	copy(k.Variant[:], b[resourceLen:])
	return k, nil
}

func u64(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func u64pair(a, b uint64) []byte {
	return binary.BigEndian.AppendUint64(u64(a), b)
}

// Create lays out an empty database: buckets, signature, and m with the number
// from which positions go on.
func Create(btx *bolt.Tx, inode, seq, floor uint64) error {
	// The signature first, so that it lies in front.
	a, err := btx.CreateBucket(bucketA)
	if err != nil {
		return err
	}
	// Too large to be kept inside the root page, which moves: bbolt does that with
	// buckets of up to a quarter of a page.
	about := make([]byte, max(4096, btx.DB().Info().PageSize/4))
	copy(about, Signature+"This file is a cache of HTTP responses, kept by github.com/accelhttp/accelerator.\n"+
		"It may be deleted while no program uses it; nothing but time is lost.\n")
	if err := a.Put(keyAbout, about); err != nil {
		return err
	}
	for _, name := range [][]byte{bucketK, bucketB, bucketX, bucketT, bucketG} {
		if _, err := btx.CreateBucket(name); err != nil {
			return err
		}
	}
	m, err := btx.CreateBucket(bucketM)
	if err != nil {
		return err
	}
	if err := m.Put(keyMagic, newMagic()); err != nil {
		return err
	}
	return Meta{Inode: inode, Seq: seq, Floor: floor, Swept: floor, Clean: true}.write(m.Put)
}

// newMagic is m.magic of a file that did not exist before.
func newMagic() []byte {
	head := binary.BigEndian.AppendUint16(append([]byte(nil), magic...), Version)
	uuid := make([]byte, 16)
	rand.Read(uuid)
	return append(head, uuid...)
}

// Meta is what bucket m says.
type Meta struct {
	Version int    `json:"format_version"`
	UUID    string `json:"uuid"`
	Inode   uint64 `json:"inode"`
	Seq     uint64 `json:"seq"`
	Floor   uint64 `json:"floor"`
	Swept   uint64 `json:"swept"`
	Marks   uint64 `json:"marks"` // rows in g
	Entries uint64 `json:"entries"`
	Bytes   uint64 `json:"bytes"`
	Budget  uint64 `json:"budget"`
	Clean   bool   `json:"clean"`

	marksSum            uint64
	journal, journalEnd uint64
}

func parseMagic(v []byte) (version int, uuid []byte, err error) {
	if len(v) < len(magic)+2 || string(v[:len(magic)]) != string(magic) {
		return 0, nil, ErrForeign
	}
	version = int(binary.BigEndian.Uint16(v[len(magic):]))
	if version != Version {
		return version, nil, fmt.Errorf("%w: %d, this release reads %d", ErrVersion, version, Version)
	}
	if len(v) != len(magic)+2+16 {
		return version, nil, fmt.Errorf("%w: m.magic has %d bytes", ErrDamaged, len(v))
	}
	return version, v[len(magic)+2:], nil
}

// Tx is a transaction on a cache database. It is as short-lived, and as little
// safe for concurrent use, as the bbolt transaction inside.
type Tx struct {
	m, k, b, x, t, g tree
	j                tree // its bucket is nil if there is none
	file             *mapping
	ledger           *ledger // nil if changes of rows are written at once

	meta    Meta
	changed bool         // rows were written or deleted
	settles bool         // nothing is to be left pending
	stop    func() bool  // see Interrupt; nil: never
	key     [KeyLen]byte // scratch

	absent accel.Key               // what was looked for last,
	lacks  bool                    // if it was not there
	named  map[accel.Hash]struct{} // tags that have their names
}

// Begin looks the buckets up. For a writable transaction, Finish must be called
// before it is committed. What is pending is read from the journal; a transaction that
// writes writes it where it belongs, so that the journal is empty after it.
func Begin(btx *bolt.Tx) (*Tx, error) {
	tx, err := begin(btx)
	if err != nil {
		return nil, err
	}
	p, err := tx.loadPending()
	if err != nil {
		return nil, err
	}
	if p.Bytes() > 0 || len(p.live) > 0 {
		tx.have(p)
		tx.settles = btx.Writable()
	}
	return tx, nil
}

// BeginWith is Begin for somebody who knows what is pending: what the last transaction
// has left. What the transaction changes is pending after it, but for what Settle writes.
func BeginWith(btx *bolt.Tx, p *Pending) (*Tx, error) {
	tx, err := begin(btx)
	if err != nil {
		return nil, err
	}
	first, end := p.extent()
	if tx.meta.journal != first || tx.meta.journalEnd != end {
		return nil, fmt.Errorf("%w: the journal is another than was written", ErrDamaged)
	}
	tx.have(p)
	return tx, nil
}

// have makes the transaction know what is pending.
func (tx *Tx) have(p *Pending) {
	if tx.m.b.Writable() {
		tx.ledger = newLedger(p)
		p = &tx.ledger.Pending
		tx.k.ledger, tx.t.ledger = tx.ledger, tx.ledger
		tx.k.pending, tx.t.pending = p.rows[inK], p.rows[inT]
	} else {
		tx.k.pending, tx.t.pending = p.of(inK), p.of(inT)
	}
	tx.k.in, tx.t.in = inK, inT
}

// Pending returns what the transaction, which was finished, has left to be written where
// it belongs.
func (tx *Tx) Pending() *Pending { return &tx.ledger.Pending }

// appendFill is how full a page is left of a bucket that is only appended to. The other
// buckets are written everywhere, where full pages would split at once.
const appendFill = 0.95

func begin(btx *bolt.Tx) (*Tx, error) {
	tx := &Tx{file: mappingOf(btx)}
	root := stemOf(btx, tx.file)
	if btx.Writable() {
		if err := tx.file.freelist(uint64(btx.ID()) - 1); err != nil {
			return nil, err
		}
	}
	for _, b := range []struct {
		name []byte
		tree *tree
	}{
		{bucketM, &tx.m}, {bucketK, &tx.k}, {bucketB, &tx.b},
		{bucketX, &tx.x}, {bucketT, &tx.t}, {bucketG, &tx.g},
	} {
		var err error
		if *b.tree, err = root.open(btx, b.name); err != nil {
			return nil, err
		}
	}
	tx.b.b.FillPercent = appendFill
	var err error
	if tx.meta, err = tx.readMeta(); err != nil {
		return nil, err
	}
	switch tx.j, err = root.open(btx, bucketJ); {
	case err == nil:
		tx.j.b.FillPercent = appendFill
	case !errors.Is(err, errNoBucket) || tx.meta.journal != tx.meta.journalEnd:
		return nil, err
	}
	return tx, nil
}

func (tx *Tx) readMeta() (Meta, error) {
	var meta Meta
	version, uuid, err := parseMagic(tx.m.Get(keyMagic))
	if err != nil {
		return meta, err
	}
	meta.Version, meta.UUID = version, fmt.Sprintf("%x", uuid)
	for _, f := range []struct {
		key   []byte
		words []*uint64
	}{
		{keyInode, []*uint64{&meta.Inode}},
		{keySeq, []*uint64{&meta.Seq}},
		{keyFloor, []*uint64{&meta.Floor}},
		{keySwept, []*uint64{&meta.Swept}},
		{keyMarks, []*uint64{&meta.Marks, &meta.marksSum}},
		{keyTotal, []*uint64{&meta.Entries, &meta.Bytes}},
		{keyBudget, []*uint64{&meta.Budget}},
	} {
		v := tx.m.Get(f.key)
		if len(v) != 8*len(f.words) {
			return meta, fmt.Errorf("%w: m.%s has %d bytes", ErrDamaged, f.key, len(v))
		}
		for i, w := range f.words {
			*w = binary.BigEndian.Uint64(v[8*i:])
		}
	}
	if v := tx.m.Get(keyJourn); v != nil {
		if len(v) != 16 {
			return meta, fmt.Errorf("%w: m.%s has %d bytes", ErrDamaged, keyJourn, len(v))
		}
		meta.journal, meta.journalEnd = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])
	}
	clean := tx.m.Get(keyClean)
	meta.Clean = len(clean) == 1 && clean[0] == 1
	// A seq or a floor that fell would make valid what was invalidated.
	if _, sum := meta.rows(); !bytes.Equal(tx.m.Get(keySum), sum) {
		return meta, fmt.Errorf("%w: the checksum of m", ErrDamaged)
	}
	return meta, nil
}

// rows returns what a transaction writes into m, and its sum.
func (m Meta) rows() (rows [][2][]byte, sum []byte) {
	clean := []byte{0}
	if m.Clean {
		clean[0] = 1
	}
	rows = [][2][]byte{
		{keyInode, u64(m.Inode)},
		{keySeq, u64(m.Seq)},
		{keyFloor, u64(m.Floor)},
		{keySwept, u64(m.Swept)},
		{keyMarks, u64pair(m.Marks, m.marksSum)},
		{keyTotal, u64pair(m.Entries, m.Bytes)},
		{keyBudget, u64(m.Budget)},
		{keyClean, clean},
	}
	if m.journalEnd != 0 {
		rows = append(rows, [2][]byte{keyJourn, u64pair(m.journal, m.journalEnd)})
	}
	var crc uint32
	for _, kv := range rows {
		crc = crc32.Update(crc32.Update(crc, castagnoli, kv[0]), castagnoli, kv[1])
	}
	return rows, binary.BigEndian.AppendUint32(nil, crc)
}

func (m Meta) write(put func(k, v []byte) error) error {
	rows, sum := m.rows()
	for _, kv := range append(rows, [2][]byte{keySum, sum}) {
		if err := put(kv[0], kv[1]); err != nil {
			return err
		}
	}
	return nil
}

// Meta returns the facts about the file as the transaction has them.
func (tx *Tx) Meta() Meta { return tx.meta }

// SetInode records the file's inode.
func (tx *Tx) SetInode(inode uint64) { tx.meta.Inode = inode }

// SetSeq raises seq: no position above it may be in the file.
func (tx *Tx) SetSeq(seq uint64) { tx.meta.Seq = max(tx.meta.Seq, seq) }

// SetFloor raises the floor.
func (tx *Tx) SetFloor(floor uint64) {
	tx.meta.Floor = max(tx.meta.Floor, floor)
	tx.SetSeq(floor)
}

// SetSwept says that no entry below n is in the file.
func (tx *Tx) SetSwept(n uint64) { tx.meta.Swept = max(tx.meta.Swept, n) }

// SetBudget records how much of the file's bound the entries may have together, in
// thousandths.
func (tx *Tx) SetBudget(share uint64) { tx.meta.Budget = share }

// SetClean says whether the file was left in order by its last user.
func (tx *Tx) SetClean(clean bool) { tx.meta.Clean = clean }

// Finish writes the journal and bucket m, and looks whether bbolt can commit. It is the
// last call of a writable transaction.
func (tx *Tx) Finish() error {
	if tx.ledger != nil {
		if tx.settles {
			if err := tx.SettleAll(); err != nil {
				return err
			}
		}
		if err := tx.writeJournal(); err != nil {
			return err
		}
		tx.meta.journal, tx.meta.journalEnd = tx.ledger.extent()
	}
	if err := tx.meta.write(tx.m.Put); err != nil {
		return err
	}
	return tx.file.mergeable()
}
