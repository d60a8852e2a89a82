package format

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
)

// goldenValues returns the keys and values of a bucket in testdata/v1.txt.
func goldenValues(f *testing.F, bucket string) (rows [][2][]byte) {
	text, err := os.ReadFile("testdata/v1.txt")
	require.NoError(f, err)
	lines := strings.Split(string(text), "\n")
	for i := 0; i+2 < len(lines); i += 3 {
		if !strings.HasPrefix(lines[i], bucket+".") {
			continue
		}
		k, err := hex.DecodeString(strings.TrimPrefix(lines[i+1], "\tkey   "))
		require.NoError(f, err)
		v, err := hex.DecodeString(strings.TrimPrefix(lines[i+2], "\tvalue "))
		require.NoError(f, err)
		rows = append(rows, [2][]byte{k, v})
	}
	require.NotEmpty(f, rows)
	return rows
}

// sealed makes what the fuzzer found a value whose checksum is right: without, all
// that is ever tested is the checksum.
func sealed(key, rest []byte) []byte {
	return seal(key, bytes.Clone(rest))
}

// What parses re-serialises to itself: there is one way to say a thing.

func FuzzDecodeHead(f *testing.F) {
	for _, row := range goldenValues(f, "b") {
		f.Add(row[1][sealLen:])
	}
	f.Add(encodeHead(&accel.Entry{}))
	f.Add(encodeHead(&accel.Entry{Header: []accel.Field{{}}, Vary: []string{""}, Bodies: []accel.Body{{}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, lengths, err := decodeHead(b, nil)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Len(t, lengths, len(e.Bodies))
		for i, n := range lengths {
			if n > 1<<16 {
				return // too long to be made here
			}
			e.Bodies[i].Data = make([]byte, n)
		}
		require.Equal(t, b, encodeHead(e))
	})
}

func FuzzDecodeRow(f *testing.F) {
	for _, row := range goldenValues(f, "k") {
		f.Add(row[0], row[1][sealLen:])
	}
	f.Fuzz(func(t *testing.T, key, rest []byte) {
		v := sealed(key, rest)
		row, err := decodeRow(key, v)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Equal(t, key, AppendKey(nil, row.Key))
		require.Equal(t, v, row.encode(key))
	})
}

func FuzzDecodeVariants(f *testing.F) {
	for _, row := range goldenValues(f, "k") {
		f.Add(row[0], row[1][sealLen:])
	}
	f.Fuzz(func(t *testing.T, key, rest []byte) {
		v := sealed(key, rest)
		all, err := decodeVariants(key, v)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Equal(t, v, all.encode(key))
	})
}

func FuzzDecodeTagRow(f *testing.F) {
	for _, row := range goldenValues(f, "t") {
		f.Add(row[0], row[1])
	}
	f.Fuzz(func(t *testing.T, key, rest []byte) {
		v := sealed(key, rest)
		row, err := decodeTagRow(key, v)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		require.Equal(t, v, row.encode(key))
	})
}

func FuzzDecodeMark(f *testing.F) {
	for _, row := range goldenValues(f, "g") {
		f.Add(row[0], row[1])
	}
	f.Fuzz(func(t *testing.T, key, v []byte) {
		r, ok := decodeMark(key, v)
		if !ok {
			return
		}
		require.Equal(t, key, markKey(r.Mark))
		require.Equal(t, v, encodeMark(r))
	})
}

// Any bit of a sealed value that is flipped is noticed, and so is a value under
// another key.
func TestSeal(t *testing.T) {
	key, rest := []byte("key"), []byte("the rest")
	v := seal(key, rest)
	got, err := unseal(key, v)
	require.NoError(t, err)
	require.Equal(t, rest, got)
	for bit := range 8 * len(v) {
		bad := bytes.Clone(v)
		bad[bit/8] ^= 1 << (bit % 8)
		_, err := unseal(key, bad)
		require.ErrorIs(t, err, ErrDamaged, "bit %d", bit)
	}
	for n := range v {
		_, err := unseal(key, v[:n])
		require.ErrorIs(t, err, ErrDamaged)
	}
	_, err = unseal([]byte("kez"), v)
	require.ErrorIs(t, err, ErrDamaged)
}

// A time goes into a number and comes back, in order and without a year that the
// index has no place for.
func TestTimes(t *testing.T) {
	zone := time.FixedZone("", 3600)
	for _, test := range []struct {
		in   time.Time
		want uint64
	}{
		{time.Time{}, 0},
		{time.Time{}.Add(1), 1},
		{time.Date(1969, 12, 31, 23, 59, 59, 999999999, time.UTC), 1},
		{time.Unix(0, 0), 1},
		{time.Unix(0, 1), 1},
		{time.Unix(0, 2).In(zone), 2},
		{time.Date(2262, 4, 11, 23, 47, 15, 0, time.UTC), 9223372035e9},
		{time.Date(2262, 4, 11, 23, 47, 16, 0, time.UTC), 9223372036e9},
		{time.Unix(0, 0x7fffffffff303030), 0x7fffffffff303030}, // found by FuzzDecodeMark: became the last time
		{time.Date(2262, 4, 11, 23, 47, 17, 0, time.UTC), 1<<63 - 1},
		{time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), 1<<63 - 1},
	} {
		require.Equal(t, test.want, putTime(test.in), test.in)
		require.Equal(t, test.want, putTime(getTime(test.want)))
	}
	last := uint64(0)
	for range 10_000 {
		in := time.Unix(rand.Int64N(1<<35)-1<<30, rand.Int64N(1e9))
		v := putTime(in)
		require.Equal(t, v, putTime(Time(in)))
		if v != 1 && v != 1<<63-1 {
			require.True(t, in.Equal(getTime(v)))
		}
		last = max(last, v)
	}
	require.LessOrEqual(t, last, uint64(1<<63-1))
}

// A number has one form.
func TestUvarint(t *testing.T) {
	for _, test := range []struct {
		in   []byte
		want uint64
		bad  bool
	}{
		{[]byte{0}, 0, false},
		{[]byte{0x7f}, 127, false},
		{[]byte{0x80, 1}, 128, false},
		{append(bytes.Repeat([]byte{0xff}, 9), 1), math.MaxUint64, false},
		{nil, 0, true},
		{[]byte{0x80}, 0, true},
		{[]byte{0x80, 0}, 0, true},
		{[]byte{0xff, 0x80, 0}, 0, true},
		{append(bytes.Repeat([]byte{0xff}, 9), 2), 0, true},
		{bytes.Repeat([]byte{0xff}, 11), 0, true},
	} {
		r := &reader{s: string(test.in)}
		require.Equal(t, test.want, r.uvarint(), "%x", test.in)
		require.Equal(t, test.bad, r.bad, "%x", test.in)
	}
}

// A length that lies is damage, and asks for no memory.
func TestHostileLengths(t *testing.T) {
	const lists = KeyLen + 43 // where the first length stands
	head := encodeHead(&accel.Entry{})
	for i := lists; i < len(head); i++ {
		for _, n := range []uint64{1 << 10, 1 << 31, 1 << 32, 1<<63 - 1, 1 << 63, math.MaxUint64} {
			b := binary.AppendUvarint(bytes.Clone(head[:i]), n)
			_, _, err := decodeHead(append(b, head[i+1:]...), nil)
			require.ErrorIs(t, err, ErrDamaged)
		}
	}
	for n := range head {
		_, _, err := decodeHead(head[:n], nil)
		require.ErrorIs(t, err, ErrDamaged)
	}
}

// What a row adds to the sum changes with each bit of it.
func TestMarkSum(t *testing.T) {
	r := marks.Row{Mark: accel.TagMark("a"), Hard: 3}
	k, v := markKey(r.Mark), encodeMark(r)
	sum := markSum(k, v)
	for bit := range 8 * len(v) {
		bad := bytes.Clone(v)
		bad[bit/8] ^= 1 << (bit % 8)
		require.NotEqual(t, sum, markSum(k, bad))
	}
}

// A row of the journal that can be read is written again as it was, but for changes that
// a later one in it has replaced.
func FuzzReadJournal(f *testing.F) {
	row := (&change{key: "a key", value: []byte("a value")}).append(nil, inK)
	row = (&change{key: "another"}).append(row, inT)
	f.Add(row)
	f.Add((&change{key: "k", value: []byte{}}).append(nil, inT))
	f.Fuzz(func(t *testing.T, row []byte) {
		l := newLedger(nil)
		l.live = []uint32{0}
		if err := l.read(0, bytes.Clone(row)); err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		n, size := 0, 0
		for in, rows := range l.rows {
			rows.Scan(func(key string, c *change) bool {
				require.True(t, bytes.Contains(row, c.append(nil, in)[1:]))
				n, size = n+1, size+c.bytes()
				return true
			})
		}
		require.EqualValues(t, n, l.live[0])
		require.Equal(t, size, l.bytes)
	})
}
