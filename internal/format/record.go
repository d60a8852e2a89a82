package format

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// recordVersion is the first byte of every row in k and b.
const recordVersion = 1

// sealLen is the length of version and checksum; see seal.
const sealLen = 1 + 4

// Row is a row of bucket k: what can be known of an entry without its record.
type Row struct {
	Key        accel.Key
	ID         uint64
	At         accel.Position
	FreshUntil time.Time
	KeepUntil  time.Time
	StaleSince time.Time
	Size       uint64 // bytes of all rows of the entry
	Parts      uint8  // of the record: one head and the bodies
	Marks      []accel.Hash
}

// seal puts version and checksum in front of a value. The checksum covers the
// key, so that a row that strayed to another key is known as damaged.
//
//	u8 version, u32 CRC-32C(key ‖ rest), rest
func seal(key []byte, rest []byte) []byte {
	v := make([]byte, sealLen, sealLen+len(rest))
	v[0] = recordVersion
	binary.BigEndian.PutUint32(v[1:], sum(key, rest))
	return append(v, rest...)
}

func sum(key, rest []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, rest)
}

// unseal checks a value and returns the rest, which still lies in v.
func unseal(key, v []byte) ([]byte, error) {
	if len(v) < sealLen || v[0] != recordVersion {
		return nil, fmt.Errorf("%w: record version", ErrDamaged)
	}
	if binary.BigEndian.Uint32(v[1:]) != sum(key, v[sealLen:]) {
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	return v[sealLen:], nil
}

// A time is stored in nanoseconds since 1970; 0 is the zero time. What lies
// outside of 1970 to 2262 is moved to that range's end: an expiry index in byte
// order has no place for it.
func putTime(t time.Time) uint64 {
	switch {
	case t.IsZero():
		return 0
	case t.Unix() < 0:
		return 1
	case t.After(lastTime):
		return math.MaxInt64
	}
	return max(1, uint64(t.UnixNano()))
}

// lastTime is the end of that range, to the nanosecond: what is read is written
// back as it was.
var lastTime = time.Unix(0, math.MaxInt64)

func getTime(v uint64) time.Time {
	if v == 0 || v > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, int64(v)).UTC()
}

func (r Row) encode(key []byte) []byte {
	b := make([]byte, 0, 96+8*len(r.Marks))
	for _, v := range []uint64{
		r.ID, r.At.Epoch, r.At.N,
		putTime(r.FreshUntil), putTime(r.KeepUntil), putTime(r.StaleSince),
		r.Size,
	} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = append(b, r.Parts)
	b = binary.BigEndian.AppendUint16(b, uint16(len(r.Marks)))
	for _, h := range r.Marks {
		b = binary.BigEndian.AppendUint64(b, uint64(h))
	}
	return seal(key, b)
}

func decodeRow(key, v []byte) (Row, error) {
	var r Row
	k, err := ParseKey(key)
	if err != nil {
		return r, err
	}
	b, err := unseal(key, v)
	if err != nil {
		return r, err
	}
	if len(b) < 59 || len(b) != 59+8*int(binary.BigEndian.Uint16(b[57:])) {
		return r, fmt.Errorf("%w: row of %d bytes", ErrDamaged, len(b))
	}
	word := func(i int) uint64 { return binary.BigEndian.Uint64(b[8*i:]) }
	if max(word(3), word(4), word(5)) > math.MaxInt64 {
		return r, fmt.Errorf("%w: a time out of range", ErrDamaged)
	}
	r = Row{
		Key: k, ID: word(0), At: accel.Position{Epoch: word(1), N: word(2)},
		FreshUntil: getTime(word(3)), KeepUntil: getTime(word(4)), StaleSince: getTime(word(5)),
		Size: word(6), Parts: b[56],
	}
	r.Marks = make([]accel.Hash, 0, (len(b)-59)/8)
	for b = b[59:]; len(b) > 0; b = b[8:] {
		r.Marks = append(r.Marks, accel.Hash(binary.BigEndian.Uint64(b)))
	}
	return r, nil
}

// bodyKey is what the checksum of a part in bucket b covers beside its value: the
// entry's key, the id and the number of the part.
func bodyKey(key []byte, id uint64, part byte) []byte {
	return appendBodyKey(make([]byte, 0, KeyLen+9), key, id, part)
}

func appendBodyKey(b, key []byte, id uint64, part byte) []byte {
	b = append(b, key...)
	b = binary.BigEndian.AppendUint64(b, id)
	return append(b, part)
}

const (
	flagByHandler = 1 << iota
	flagPublic
	flagMustRevalidate
)

// encodeHead is part 0 of a record: everything of the entry but its bodies, its
// position and its times of use, which a renewal changes.
func encodeHead(e *accel.Entry) []byte {
	b := make([]byte, 0, 1024)
	b = AppendKey(b, e.Key)
	var flags byte
	if e.ByHandler {
		flags |= flagByHandler
	}
	if e.Public {
		flags |= flagPublic
	}
	if e.MustRevalidate {
		flags |= flagMustRevalidate
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint16(b, uint16(e.Status))
	for _, v := range []uint64{
		uint64(e.Length), putTime(e.Date), uint64(e.InitialAge),
		uint64(e.StaleWhileRevalidate), uint64(e.StaleIfError),
	} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	b = appendString(b, e.Resource)
	b = appendString(b, e.Variant)
	b = appendStrings(b, e.Vary)
	b = appendStrings(b, e.Tags)
	b = appendString(b, e.ETag)
	b = appendFields(b, e.Control)
	b = appendFields(b, e.Header)
	b = binary.AppendUvarint(b, uint64(len(e.Bodies)))
	for _, body := range e.Bodies {
		b = appendString(b, body.Coding)
		b = appendString(b, body.ETag)
		b = binary.AppendUvarint(b, uint64(len(body.Data)))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStrings(b []byte, list []string) []byte {
	b = binary.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = appendString(b, s)
	}
	return b
}

func appendFields(b []byte, fields []accel.Field) []byte {
	b = binary.AppendUvarint(b, uint64(len(fields)))
	for _, f := range fields {
		b = appendString(b, f.Name)
		b = appendStrings(b, f.Values)
	}
	return b
}

// reader reads a head out of one string: all strings of an entry share its
// memory, which costs one allocation instead of fifty.
type reader struct {
	s    string
	bad  bool
	room []string // for lists of strings, most of which have one

	fieldRoom []accel.Field // for lists of fields
}

// A record is an entry with room for the usual number of what it is made of, in one
// allocation.
type record struct {
	entry   accel.Entry
	bodies  [2]accel.Body
	fields  [5]accel.Field
	strings [10]string
}

func (r *reader) bytes(n uint64) string {
	if r.bad || n > uint64(len(r.s)) {
		r.bad = true
		return ""
	}
	v := r.s[:n]
	r.s = r.s[n:]
	return v
}

func (r *reader) uvarint() uint64 {
	var v uint64
	for i := 0; !r.bad && i < len(r.s) && i < binary.MaxVarintLen64; i++ {
		c := r.s[i]
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			// One number, one form: otherwise two records would say the same.
			if i > 0 && c == 0 || i == 9 && c > 1 {
				break
			}
			r.s = r.s[i+1:]
			return v
		}
	}
	r.bad = true
	return 0
}

func (r *reader) u64() uint64 {
	b := r.bytes(8)
	if r.bad {
		return 0
	}
	var v uint64
	for i := range 8 {
		v = v<<8 | uint64(b[i])
	}
	return v
}

func (r *reader) u8() byte {
	b := r.bytes(1)
	if r.bad {
		return 0
	}
	return b[0]
}

func (r *reader) string() string { return r.bytes(r.uvarint()) }

// count reads the length of a list whose members take at least one byte each, so
// that a damaged length cannot ask for more memory than the record has bytes.
func (r *reader) count() int {
	n := r.uvarint()
	if n > uint64(len(r.s)) {
		r.bad = true
		return 0
	}
	return int(n)
}

func (r *reader) strings() []string {
	n := r.count()
	if n == 0 {
		return nil
	}
	if len(r.room) < n {
		// A string takes a byte at least: a damaged length does not get more.
		r.room = make([]string, max(n, min(len(r.s), 24)))
	}
	list := r.room[:n:n]
	r.room = r.room[n:]
	for i := range list {
		list[i] = r.string()
	}
	return list
}

func (r *reader) fields() []accel.Field {
	n := r.count()
	if n == 0 {
		return nil
	}
	if len(r.fieldRoom) < n {
		r.fieldRoom = make([]accel.Field, n)
	}
	fields := r.fieldRoom[:n:n]
	r.fieldRoom = r.fieldRoom[n:]
	for i := range fields {
		fields[i] = accel.Field{Name: r.string(), Values: r.strings()}
	}
	return fields
}

// decodeHead reads part 0. Bodies come without their data; how long each is, is
// appended to lengths.
func decodeHead(b []byte, lengths []uint64) (*accel.Entry, []uint64, error) {
	rec := &record{}
	r := &reader{s: string(b), room: rec.strings[:], fieldRoom: rec.fields[:]}
	e := &rec.entry
	key := r.bytes(KeyLen)
	if !r.bad {
		e.Key, _ = ParseKey([]byte(key))
	}
	flags := r.u8()
	e.ByHandler = flags&flagByHandler != 0
	e.Public = flags&flagPublic != 0
	e.MustRevalidate = flags&flagMustRevalidate != 0
	if flags >= flagMustRevalidate<<1 {
		r.bad = true
	}
	e.Status = int(r.u8())<<8 | int(r.u8())
	e.Length = int64(r.u64())
	date := r.u64()
	e.Date = getTime(date)
	if date > math.MaxInt64 {
		r.bad = true
	}
	e.InitialAge = time.Duration(r.u64())
	e.StaleWhileRevalidate = time.Duration(r.u64())
	e.StaleIfError = time.Duration(r.u64())
	e.Resource = r.string()
	e.Variant = r.string()
	e.Vary = r.strings()
	e.Tags = r.strings()
	e.ETag = r.string()
	e.Control = r.fields()
	e.Header = r.fields()
	if n := r.count(); n > 0 {
		if e.Bodies = slices.Clip(rec.bodies[:min(n, len(rec.bodies))]); len(e.Bodies) < n {
			e.Bodies = make([]accel.Body, n)
		}
		for i := range e.Bodies {
			e.Bodies[i] = accel.Body{Coding: r.string(), ETag: r.string()}
			lengths = append(lengths, r.uvarint())
		}
	}
	if r.bad || len(r.s) > 0 {
		return nil, nil, fmt.Errorf("%w: head", ErrDamaged)
	}
	return e, lengths, nil
}

// variants is the row of a resource whose entries are selected by something of
// the request: the Vary names, and the variants in the order they came.
type variants struct {
	names   []string
	digests []accel.Digest
}

func (v variants) encode(key []byte) []byte {
	b := appendStrings(nil, v.names)
	b = binary.AppendUvarint(b, uint64(len(v.digests)))
	for _, d := range v.digests {
		b = append(b, d[:]...)
	}
	return seal(key, b)
}

func decodeVariants(key, v []byte) (variants, error) {
	var out variants
	b, err := unseal(key, v)
	if err != nil {
		return out, err
	}
	r := &reader{s: string(b)}
	out.names = r.strings()
	for n := r.count(); n > 0 && !r.bad; n-- {
		var d accel.Digest
		copy(d[:], r.bytes(uint64(len(d))))
		out.digests = append(out.digests, d)
	}
	if r.bad || len(r.s) > 0 {
		return variants{}, fmt.Errorf("%w: variants", ErrDamaged)
	}
	return out, nil
}

// Time is the time that a stored one is read back as.
func Time(t time.Time) time.Time { return getTime(putTime(t)) }
