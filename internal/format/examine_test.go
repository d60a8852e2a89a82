package format_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
)

var native = binary.NativeEndian

// library returns the bytes of a database with branch pages in its larger buckets.
func library(t testing.TB, pageSize int) []byte {
	var entries []*accel.Entry
	path := filepath.Join(t.TempDir(), "db")
	for i := range 80 {
		entries = append(entries, page("http", "example.org", fmt.Sprint("/", i), "", nil, "all", fmt.Sprint("tag:", i)))
	}
	db := create(t, path, pageSize, 1)
	update(t, db, func(tx *format.Tx) error {
		for _, e := range entries {
			if err := tx.Put(e, time.Time{}); err != nil {
				return err
			}
		}
		return tx.WriteMarks(goldenMarks())
	})
	// A second transaction, so that there are free pages and both metas count.
	update(t, db, func(tx *format.Tx) error {
		for _, e := range entries[:20] {
			if err := tx.Delete(e.Key, 0); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, db.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// foreign returns the bytes of another program's bbolt file.
func foreign(t testing.TB, buckets ...string) []byte {
	path := filepath.Join(t.TempDir(), "foreign")
	db := open(t, path, 4096)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		for _, name := range buckets {
			b, err := btx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			for i := range 200 {
				if err := b.Put([]byte(fmt.Sprint("key", i)), make([]byte, 100)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	require.NoError(t, db.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return b
}

// metas returns the offsets of the two metas of a file, that which counts first.
func metas(b []byte, pageSize int) (newest, other int) {
	if native.Uint64(b[16+48:]) > native.Uint64(b[pageSize+16+48:]) {
		return 16, pageSize + 16
	}
	return pageSize + 16, 16
}

// edit returns b with the meta that counts changed, its checksum right.
func edit(b []byte, pageSize int, fn func(meta []byte)) []byte {
	b = bytes.Clone(b)
	m, _ := metas(b, pageSize)
	fn(b[m : m+64])
	h := fnv.New64a()
	h.Write(b[m : m+56])
	native.PutUint64(b[m+56:], h.Sum64())
	return b
}

func highWater(b []byte, pageSize int) int {
	m, _ := metas(b, pageSize)
	return int(native.Uint64(b[m+40:])) * pageSize
}

func TestExamine(t *testing.T) {
	const ps = 4096
	good := library(t, ps)
	random := make([]byte, 50_000)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range random {
		random[i] = byte(r.Uint32())
	}
	other := foreign(t, "users", "m")
	zeroed := func(b []byte, from, to int) []byte {
		b = bytes.Clone(b)
		clear(b[from:to])
		return b
	}
	freelist := func(b []byte) int {
		m, _ := metas(b, ps)
		return int(native.Uint64(b[m+32:])) * ps
	}
	poke16 := func(b []byte, at int, v uint16) []byte {
		b = bytes.Clone(b)
		native.PutUint16(b[at:], v)
		return b
	}
	swap := func(b []byte, i, j, n int) []byte {
		b = bytes.Clone(b)
		copy(b[i:i+n], b[j:j+n])
		copy(b[j:j+n], good[i:i+n])
		return b
	}
	newest, older := metas(good, ps)
	swapped := bytes.Clone(good)
	for _, m := range []int{newest, older} {
		slices.Reverse(swapped[m : m+4])
	}
	long := strings.Repeat("All that is text is no database. ", 3000)
	for _, test := range []struct {
		name string
		data []byte
		look format.Look
		err  error
	}{
		{"empty", nil, format.Look{Empty: true}, nil},
		{"one byte", []byte{0}, format.Look{}, format.ErrForeign},
		{"text", []byte("hello"), format.Look{}, format.ErrForeign},
		{"long text", []byte(long), format.Look{}, format.ErrForeign},
		{"SQLite", append([]byte("SQLite format 3\x00"), make([]byte, 8176)...), format.Look{}, format.ErrForeign},
		{"zeros", make([]byte, 40_000), format.Look{}, format.ErrForeign},
		{"random", random, format.Look{}, format.ErrForeign},
		{"no buckets", foreign(t), format.Look{Empty: true}, nil},
		{"other buckets", foreign(t, "users"), format.Look{}, format.ErrForeign},
		{"a bucket m without magic", other, format.Look{}, format.ErrForeign},
		{"our names without magic", foreign(t, "a", "m", "k", "b", "x", "t", "g"), format.Look{}, format.ErrForeign},
		{"a stranger's, cut", other[:len(other)/2], format.Look{}, format.ErrForeign},
		{"a stranger's, no metas", zeroed(other, 0, 2*ps), format.Look{}, format.ErrForeign},
		{"a stranger's, no root", zeroed(other, 2*ps, len(other)), format.Look{}, format.ErrForeign},
		{"no metas", zeroed(good, 0, 2*ps), format.Look{}, format.ErrDamaged},
		{"no metas, other byte order", swapped, format.Look{}, format.ErrDamaged},
		{"no free list kept", edit(good, ps, func(m []byte) { native.PutUint64(m[32:], 1<<64-1) }), format.Look{}, format.ErrDamaged},
		{"free list in a meta", edit(good, ps, func(m []byte) { native.PutUint64(m[32:], 1) }), format.Look{}, format.ErrDamaged},
		{"free list beyond the end", edit(good, ps, func(m []byte) { native.PutUint64(m[32:], 1<<50) }), format.Look{}, format.ErrDamaged},
		{"root in a meta", edit(good, ps, func(m []byte) { native.PutUint64(m[16:], 0) }), format.Look{}, format.ErrDamaged},
		{"root beyond the end", edit(good, ps, func(m []byte) { native.PutUint64(m[16:], 1<<63) }), format.Look{}, format.ErrDamaged},
		{"root in the free list", edit(good, ps, func(m []byte) { native.PutUint64(m[16:], native.Uint64(m[32:])) }), format.Look{}, format.ErrDamaged},
		{"more pages than bytes", edit(good, ps, func(m []byte) { native.PutUint64(m[40:], 1<<39) }), format.Look{}, format.ErrDamaged},
		{"more pages than there can be", edit(good, ps, func(m []byte) { native.PutUint64(m[40:], 1<<60) }), format.Look{OneMeta: true}, nil},
		{"page size 0", edit(good, ps, func(m []byte) { native.PutUint32(m[8:], 0) }), format.Look{}, format.ErrDamaged},
		{"a free list of 65535", poke16(good, freelist(good)+10, 0xFFFF), format.Look{}, format.ErrDamaged},
		{"a free list too long", poke16(good, freelist(good)+10, 0xFFFE), format.Look{}, format.ErrDamaged},
		{"a free list out of order", swap(good, freelist(good)+16, freelist(good)+24, 8), format.Look{}, format.ErrDamaged},
		{"a free list with a meta in it", zeroed(good, freelist(good)+16, freelist(good)+24), format.Look{}, format.ErrDamaged},
		{"an empty root", poke16(good, int(native.Uint64(good[newest+16:]))*ps+10, 0), format.Look{}, format.ErrDamaged},
		{"a root too full", poke16(good, int(native.Uint64(good[newest+16:]))*ps+10, 0xFFFF), format.Look{}, format.ErrDamaged},
	} {
		t.Run(test.name, func(t *testing.T) {
			look, err := examine(test.data)
			require.ErrorIs(t, err, test.err)
			if err == nil {
				look.UUID = ""
				require.Equal(t, test.look, look)
			}
		})
	}
}

// TestExaminePageSizes: the signature is where it is looked for, and one meta page
// is enough, whatever size the system's pages have.
func TestExaminePageSizes(t *testing.T) {
	for _, ps := range []int{1024, 4096, 16 << 10, 64 << 10} {
		good := library(t, ps)
		look, err := examine(good)
		require.NoError(t, err)
		require.False(t, look.OneMeta)
		require.Len(t, look.UUID, 32)
		for _, bad := range [][]int{{0}, {1}} {
			b := bytes.Clone(good)
			for _, page := range bad {
				clear(b[page*ps : page*ps+80])
			}
			look, err := examine(b)
			// The meta that is left may be one whose pages are used again.
			if err != nil {
				require.ErrorIs(t, err, format.ErrDamaged)
			} else {
				require.True(t, look.OneMeta)
			}
			_, other := metas(good, ps)
			if other/ps == bad[0] {
				require.NoError(t, err, "the newest meta is enough")
			}
		}
		b := bytes.Clone(good)
		clear(b[:2*ps])
		_, err = examine(b)
		require.ErrorIs(t, err, format.ErrDamaged)
		clear(b[:4*ps])
		_, err = examine(b)
		require.ErrorIs(t, err, format.ErrDamaged)
	}
}

// TestExamineTruncated: what is cut off below the high-water mark is refused, and
// known as ours.
func TestExamineTruncated(t *testing.T) {
	const ps = 4096
	good := library(t, ps)
	for size := len(good); size > 0; size -= 512 {
		_, err := examine(good[:size])
		switch {
		case size >= highWater(good, ps):
			require.NoError(t, err)
		default:
			require.ErrorIs(t, err, format.ErrDamaged, "%d bytes", size)
		}
	}
}

// use opens a database that Examine has let pass, and reads all of it. A panic
// and a fault are no failure here, since who uses a database guards against both;
// what this is about cannot be recovered.
func use(path string) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() { _ = recover() }()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, PreLoadFreelist: true})
	if err != nil {
		return
	}
	defer db.Close()
	for _, step := range []func(*format.Tx){
		func(tx *format.Tx) {
			for row, err := range tx.Rows() {
				if err == nil {
					_, _ = tx.Record(row)
				}
			}
		},
		func(tx *format.Tx) {
			for range tx.TagRows() {
			}
		},
		func(tx *format.Tx) { _, _, _ = tx.Marks() },
		func(tx *format.Tx) { _, _, _ = tx.SweepFloor(0, nil, 1000) },
	} {
		func() {
			defer func() { _ = recover() }()
			_ = db.View(func(btx *bolt.Tx) error {
				tx, err := format.Begin(btx)
				if err == nil {
					step(tx)
				}
				return nil
			})
		}()
	}
}

// TestExamineDamagedPages damages each page in turn.
func TestExamineDamagedPages(t *testing.T) {
	const ps = 4096
	good := library(t, ps)
	newest, older := metas(good, ps)
	path := filepath.Join(t.TempDir(), "damaged")
	require.NoError(t, os.WriteFile(path, good, 0o600))
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer file.Close()
	check := func(name string, page int, damaged []byte) {
		at := page * ps
		b := slices.Concat(good[:at], damaged, good[at+ps:])
		look, err := examine(b)
		switch {
		case err != nil:
			require.ErrorIs(t, err, format.ErrDamaged, "page %d: %s", page, name)
			require.False(t, errors.Is(err, format.ErrForeign))
		case page == older/ps && !look.OneMeta && name != "header":
			t.Fatalf("page %d: %s: not noticed", page, name)
		default:
			_, err := file.WriteAt(damaged, int64(at))
			require.NoError(t, err)
			use(path)
			_, err = file.WriteAt(good[at:at+ps], int64(at))
			require.NoError(t, err)
		}
	}
	for page := range highWater(good, ps) / ps {
		check("zeroed", page, make([]byte, ps))
		for bit := range 16 * 8 {
			if bit >= 8 && bit < 60 || bit >= 104 && bit < 124 {
				continue // more of the same
			}
			b := bytes.Clone(good[page*ps : (page+1)*ps])
			b[bit/8] ^= 1 << (bit % 8)
			check("header", page, b)
		}
	}
	b := bytes.Clone(good)
	b[older] ^= 1
	look, err := examine(b)
	require.NoError(t, err)
	require.True(t, look.OneMeta)
	b[newest] ^= 1
	_, err = examine(b)
	require.ErrorIs(t, err, format.ErrDamaged)
}

// TestExamineCycles points the children of each branch page to pages where they
// have no business: no way round in circles is let pass, because it would end the
// process.
func TestExamineCycles(t *testing.T) {
	const ps = 4096
	good := library(t, ps)
	m, _ := metas(good, ps)
	freelist := native.Uint64(good[m+32:])
	free := native.Uint64(good[freelist*ps+16:])
	branches := 0
	for page := range highWater(good, ps) / ps {
		at := page * ps
		inUse := func() bool {
			ids := good[freelist*ps+16:]
			for i := range int(native.Uint16(good[freelist*ps+10:])) {
				if native.Uint64(ids[8*i:]) == uint64(page) {
					return false
				}
			}
			return native.Uint64(good[at:]) == uint64(page)
		}
		if page < 2 || native.Uint16(good[at+8:]) != 1 || !inUse() {
			continue
		}
		branches++
		for i := range int(native.Uint16(good[at+10:])) {
			elem := at + 16 + 16*i
			for _, to := range []uint64{
				uint64(page), 0, 1, freelist, free,
				native.Uint64(good[at+16+16*((i+1)%int(native.Uint16(good[at+10:])))+8:]), // its sibling
				uint64(highWater(good, ps) / ps), 1 << 40, 1<<64 - 1,
			} {
				b := bytes.Clone(good)
				native.PutUint64(b[elem+8:], to)
				_, err := examine(b)
				require.ErrorIs(t, err, format.ErrDamaged, "page %d, child %d to %d", page, i, to)
			}
		}
	}
	require.GreaterOrEqual(t, branches, 3, "k, b and t have branch pages")
}

// TestExamineReadError hands on what is not the file's fault.
func TestExamineReadError(t *testing.T) {
	broken := errors.New("broken disk")
	_, err := format.Examine(failing{broken}, 100_000)
	require.ErrorIs(t, err, broken)
	require.False(t, errors.Is(err, format.ErrForeign))
}

type failing struct{ err error }

func (f failing) ReadAt([]byte, int64) (int, error) { return 0, f.err }

// metered counts what is read.
type metered struct {
	*bytes.Reader
	read int
}

func (m *metered) ReadAt(b []byte, off int64) (int, error) {
	m.read += len(b)
	return m.Reader.ReadAt(b, off)
}

// FuzzExamine changes a database by patches of the form offset, length, bytes;
// where that is in a meta, its checksum is made right again.
func FuzzExamine(f *testing.F) {
	const ps = 1024
	good := library(f, ps)
	f.Add([]byte{}, 0)
	f.Add([]byte{0, 0, 8, 1, 1}, 0)
	for page := 0; page < highWater(good, ps)/ps; page += 8 {
		at := page*ps + 8 // flags
		f.Add([]byte{byte(at >> 16), byte(at >> 8), byte(at), 4, 1, 0, 1, 0}, page)
		at = page*ps + 16 // the first element
		f.Add([]byte{byte(at >> 16), byte(at >> 8), byte(at), 12, 0, 0, 0, 0, 0, 0, 0, 0, byte(page), 0, 0, 0}, 0)
	}
	f.Fuzz(func(t *testing.T, patches []byte, cut int) {
		b := bytes.Clone(good)
		for len(patches) > 4 {
			at := int(patches[0])<<16 | int(patches[1])<<8 | int(patches[2])
			n := min(int(patches[3]), len(patches)-4)
			if at < len(b) {
				copy(b[at:], patches[4:4+n])
			}
			patches = patches[4+n:]
		}
		for _, m := range []int{16, ps + 16} {
			h := fnv.New64a()
			h.Write(b[m : m+56])
			native.PutUint64(b[m+56:], h.Sum64())
		}
		if cut > 0 && cut < len(b) {
			b = b[:len(b)-cut]
		}
		r := &metered{Reader: bytes.NewReader(b)}
		_, err := format.Examine(r, int64(len(b)))
		require.LessOrEqual(t, r.read, 4<<20+100*len(b))
		for _, known := range []error{nil, format.ErrForeign, format.ErrDamaged, format.ErrVersion} {
			if errors.Is(err, known) {
				return
			}
		}
		t.Fatalf("an error of no kind: %v", err)
	})
}
