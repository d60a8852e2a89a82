package format_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

var (
	updateRows = flag.Bool("update", false, "write testdata/v1.txt anew")
	// A release that changes the format writes v2.db beside v1.db.
	updateDB = flag.Bool("update-db", false, "write testdata/v1.db anew: never after a release")
)

const (
	goldenRows = "testdata/v1.txt"
	goldenDB   = "testdata/v1.db"
)

// noon is a moment with all digits.
var noon = time.Date(2031, 2, 3, 12, 0, 0, 123456789, time.UTC)

// full is an entry in which each field has a value of its own.
func full() *accel.Entry {
	e := page("https", "example.org", "/a?b=c", "\x76\x06Accept\x01\x01*", []string{"Accept"}, "user:1", "grüße")
	e.At = accel.Position{Epoch: 0xe0e1e2e3e4e5e6e7, N: 41}
	e.Status = 203
	e.Control = []accel.Field{{Name: "Surrogate-Control", Values: []string{"max-age=1"}}}
	e.Header = []accel.Field{
		{Name: "Cache-Control", Values: []string{"max-age=1", "public"}},
		{Name: "Content-Type", Values: []string{"text/plain"}},
		{Name: "X-Empty", Values: []string{""}},
	}
	e.Bodies = []accel.Body{
		{Coding: "zstd", ETag: `"z"`, Data: []byte{0x28, 0xb5, 0x2f, 0xfd, 0x04}},
		{Coding: "gzip", ETag: `"g"`, Data: []byte{0x1f, 0x8b, 0x08}},
	}
	e.Length = 300
	e.Date = noon
	e.InitialAge = 3 * time.Second
	e.FreshUntil = noon.Add(time.Hour)
	e.StaleWhileRevalidate = time.Minute
	e.StaleIfError = 2 * time.Minute
	e.KeepUntil = noon.Add(time.Hour + 2*time.Minute)
	e.ByHandler, e.Public, e.MustRevalidate = true, false, true
	return e
}

// page is the least that an entry can be.
func page(scheme, host, target, variant string, vary []string, tags ...string) *accel.Entry {
	resource := []byte{1}
	for _, f := range []string{scheme, host, target, "", ""} {
		resource = append(binary.AppendUvarint(resource, uint64(len(f))), f...)
	}
	url := accel.URLMark(scheme, host, target)
	e := &accel.Entry{
		Key:      accel.Key{Target: url.Target, Resource: sha256.Sum256(resource)},
		At:       accel.Position{Epoch: 1, N: 40},
		Resource: string(resource), Variant: variant, Vary: vary,
		Status: 200,
		Tags:   tags,
		ETag:   `"v"`,
		Marks:  []accel.Hash{url.Hash, url.Target},
		Bodies: []accel.Body{{Data: []byte("text")}},
		Length: 4,
		Date:   noon, FreshUntil: noon.Add(time.Second), KeepUntil: noon.Add(time.Minute),
	}
	if variant != "" {
		e.Key.Variant = sha256.Sum256([]byte(variant))
	}
	for _, tag := range tags {
		e.Marks = append(e.Marks, accel.TagMark(tag).Hash)
	}
	return e
}

// goldenMarks are one of each kind.
func goldenMarks() []marks.Row {
	return []marks.Row{
		{Mark: accel.TagMark("user:1"), Hard: 39},
		{Mark: accel.URLMark("https", "example.org", "/a?b=c"), Hard: 38, Soft: 40, Since: noon},
		{Mark: accel.TargetMark("/a?b=c"), Hard: 37},
		{Mark: accel.MarkAll, Soft: 36, Since: noon.Add(-time.Second)},
	}
}

// fixUUID replaces what is random in a new database.
func fixUUID(btx *bolt.Tx) error {
	m := btx.Bucket([]byte("m"))
	v := append(bytes.Clone(m.Get([]byte("magic")))[:10], "0123456789abcdef"...)
	return m.Put([]byte("magic"), v)
}

// writeFull writes the fixed entry, and what it takes to have a row of each kind.
func writeFull(t testing.TB, db *bolt.DB) {
	require.NoError(t, db.Update(fixUUID))
	update(t, db, func(tx *format.Tx) error {
		tx.SetFloor(30)
		tx.SetBudget(600)
		if err := tx.WriteMarks(goldenMarks()); err != nil {
			return err
		}
		return tx.Put(full(), noon.Add(time.Minute))
	})
}

var buckets = []string{"a", "m", "k", "b", "x", "t", "g"}

// rowName says what a row is.
func rowName(bucket string, k []byte) string {
	switch {
	case bucket == "m" || bucket == "a":
		return bucket + "." + string(k)
	case bucket == "k" && len(k) == 40:
		return "k.variants"
	case bucket == "k":
		return "k.entry"
	case bucket == "b" && k[8] == 0:
		return "b.head"
	case bucket == "b":
		return fmt.Sprintf("b.body%d", k[8])
	case bucket == "t" && binary.BigEndian.Uint64(k[8:]) == 0:
		return "t.name"
	case bucket == "g":
		return fmt.Sprintf("g.kind%d", k[0])
	}
	return bucket + ".row"
}

// dump writes the rows of a database as text: name, key, value.
func dump(t testing.TB, db *bolt.DB) string {
	var out strings.Builder
	require.NoError(t, db.View(func(btx *bolt.Tx) error {
		for _, name := range buckets {
			err := btx.Bucket([]byte(name)).ForEach(func(k, v []byte) error {
				if name == "a" {
					v = bytes.TrimRight(v, "\x00")
				}
				fmt.Fprintf(&out, "%s\n\tkey   %x\n\tvalue %x\n", rowName(name, k), k, v)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	}))
	return out.String()
}

// load is the reverse of dump, into an empty database.
func load(t testing.TB, db *bolt.DB, text string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	require.Zero(t, len(lines)%3)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		for rows := range slices.Chunk(lines, 3) {
			b, err := btx.CreateBucketIfNotExists([]byte(rows[0][:1]))
			if err != nil {
				return err
			}
			k, err := hex.DecodeString(strings.TrimPrefix(rows[1], "\tkey   "))
			if err != nil {
				return err
			}
			v, err := hex.DecodeString(strings.TrimPrefix(rows[2], "\tvalue "))
			if err != nil {
				return err
			}
			if err := b.Put(k, v); err != nil {
				return err
			}
		}
		return btx.Bucket([]byte("b")).SetSequence(1)
	}))
}

// TestGoldenRows holds the encoders to the bytes that docs/format.md describes.
func TestGoldenRows(t *testing.T) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 0, 5)
	defer db.Close()
	writeFull(t, db)
	got := dump(t, db)
	if *updateRows {
		require.NoError(t, os.WriteFile(goldenRows, []byte(got), 0o644))
	}
	want, err := os.ReadFile(goldenRows)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// TestGoldenRowsRead holds the decoders to them.
func TestGoldenRowsRead(t *testing.T) {
	text, err := os.ReadFile(goldenRows)
	require.NoError(t, err)
	db := open(t, filepath.Join(t.TempDir(), "db"), 0)
	defer db.Close()
	load(t, db, string(text))
	view(t, db, func(btx *bolt.Tx, tx *format.Tx) { isFull(t, btx, tx) })
}

func isFull(t testing.TB, btx *bolt.Tx, tx *format.Tx) {
	verify(t, tx)
	want := full()
	e, row, _, err := format.Get(btx, nil, want.Key, want.Vary, 0, nil)
	require.NoError(t, err)
	require.Empty(t, storetest.Diff(want, e))
	require.Equal(t, want.At, e.At)
	require.True(t, row.StaleSince.Equal(noon.Add(time.Minute)))
	_, _, names, err := format.Get(btx, nil, accel.Key{Target: want.Key.Target, Resource: want.Key.Resource}, nil, 0, nil)
	require.ErrorIs(t, err, format.ErrNotFound)
	require.Equal(t, want.Vary, names)
	rows, whole, err := tx.Marks()
	require.NoError(t, err)
	require.True(t, whole)
	require.ElementsMatch(t, goldenMarks(), rows)
	meta := tx.Meta()
	require.Equal(t, "30313233343536373839616263646566", meta.UUID)
	require.Equal(t, []uint64{7, 41, 30, 5, 600}, []uint64{meta.Inode, meta.Seq, meta.Floor, meta.Swept, meta.Budget})
}

// TestOtherVersions: a row of another version is not read, and a file of another
// version is not touched.
func TestOtherVersions(t *testing.T) {
	text, err := os.ReadFile(goldenRows)
	require.NoError(t, err)
	for name, bucket := range map[string]string{"entry": "k", "variants": "k", "head": "b", "body": "b", "tag": "t"} {
		t.Run(name, func(t *testing.T) {
			db := open(t, filepath.Join(t.TempDir(), "db"), 0)
			defer db.Close()
			load(t, db, string(text))
			require.NoError(t, db.Update(func(btx *bolt.Tx) error {
				b := btx.Bucket([]byte(bucket))
				return b.ForEach(func(k, v []byte) error {
					if row := rowName(bucket, k); !strings.HasPrefix(row, bucket+"."+name) && row != "t.row" {
						return nil
					}
					v = bytes.Clone(v)
					v[0] = 2
					return b.Put(bytes.Clone(k), v)
				})
			}))
			view(t, db, func(btx *bolt.Tx, tx *format.Tx) {
				faults := 0
				tx.Verify(func() bool { return true }, func(format.Fault) { faults++ })
				require.NotZero(t, faults)
				e := full()
				switch name {
				case "variants":
					e.Key.Variant = accel.Digest{}
					_, _, _, err := format.Get(btx, nil, e.Key, nil, 0, nil)
					require.ErrorIs(t, err, format.ErrDamaged)
				case "tag":
					_, _, err := tx.SweepMark(marks.Row{Mark: accel.TagMark("user:1"), Hard: 100}, nil, 1)
					require.ErrorIs(t, err, format.ErrDamaged)
				default:
					_, _, _, err := format.Get(btx, nil, e.Key, e.Vary, 0, nil)
					require.ErrorIs(t, err, format.ErrDamaged)
				}
			})
		})
	}
	t.Run("file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "db")
		db := open(t, path, 0)
		defer db.Close()
		load(t, db, string(text))
		require.NoError(t, db.Update(func(btx *bolt.Tx) error {
			// All that is promised of other versions is how the value begins.
			return btx.Bucket([]byte("m")).Put([]byte("magic"), []byte("ACCELDB\x00\x00\x02 and so on"))
		}))
		err := db.View(func(btx *bolt.Tx) error {
			_, err := format.Begin(btx)
			return err
		})
		require.ErrorIs(t, err, format.ErrVersion)
		require.NoError(t, db.Close())
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		_, err = examine(b)
		require.ErrorIs(t, err, format.ErrVersion)
		// Nor is it ours to judge when it is damaged.
		_, err = examine(b[:len(b)-4096])
		require.ErrorIs(t, err, format.ErrVersion)
	})
}

// goldenEntries are the entries of v1.db, in the order of their ids.
func goldenEntries() []*accel.Entry {
	entries := []*accel.Entry{full()}
	for i := range 3 {
		value := fmt.Sprint("v", i)
		e := page("http", "example.org", "/varies", "\x76\x06Accept\x01\x02"+value, []string{"Accept"}, "varies")
		e.Bodies[0].Data = []byte(value)
		e.Length = 2
		entries = append(entries, e)
	}
	plain := page("http", "example.org", "/", "", nil)
	renewed := page("http", "example.com", "/", "", nil, "new", "old")
	renewed.At.N = 42
	renewed.Header = []accel.Field{{Name: "X-Renewed", Values: []string{"yes"}}}
	large := page("http", "example.org", "/large", "", nil, "user:1")
	large.Bodies[0].Data = bytes.Repeat([]byte("0123456789abcdef"), 600)
	large.Length = 9600
	early := page("http", "example.org", "/early", "", nil)
	early.Date, early.FreshUntil, early.KeepUntil = time.Time{}, time.Unix(0, 1).UTC(), time.Unix(0, 1).UTC()
	early.Length, early.InitialAge, early.Public = -1, -1, true
	return append(entries, plain, renewed, large, early)
}

func writeGoldenDB(t testing.TB) {
	db := create(t, filepath.Join(t.TempDir(), "db"), 4096, 5)
	writeFull(t, db)
	update(t, db, func(tx *format.Tx) error {
		for _, e := range goldenEntries()[1:] {
			if e.At.N != 42 {
				if err := tx.Put(e, time.Time{}); err != nil {
					return err
				}
				continue
			}
			before := page("http", "example.com", "/", "", nil, "old")
			if err := tx.Put(before, time.Time{}); err != nil {
				return err
			}
			row, err := tx.Row(e.Key)
			if err != nil {
				return err
			}
			if err := tx.Renew(row, e, time.Time{}); err != nil {
				return err
			}
		}
		tx.SetClean(true)
		return nil
	})
	path := db.Path()
	require.NoError(t, db.Close())
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(goldenDB, b, 0o644))
}

// TestGoldenDB: a database that the first release has written is read by this one.
func TestGoldenDB(t *testing.T) {
	if *updateDB {
		writeGoldenDB(t)
	}
	b, err := os.ReadFile(goldenDB)
	require.NoError(t, err)
	require.LessOrEqual(t, len(b), 64<<10)
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("bbolt's pages are in the byte order of the machine that wrote them")
	}
	look, err := examine(b)
	require.NoError(t, err)
	require.Equal(t, format.Look{UUID: "30313233343536373839616263646566"}, look)
	path := filepath.Join(t.TempDir(), "db")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	db := open(t, path, 0)
	defer db.Close()
	view(t, db, func(btx *bolt.Tx, tx *format.Tx) {
		verify(t, tx)
		meta := tx.Meta()
		require.True(t, meta.Clean)
		require.Equal(t, []uint64{7, 42, 30, 5, 600, 4}, []uint64{meta.Inode, meta.Seq, meta.Floor, meta.Swept, meta.Budget, meta.Marks})
		var ids []uint64
		for _, want := range goldenEntries() {
			e, row, _, err := format.Get(btx, nil, want.Key, want.Vary, 0, nil)
			require.NoError(t, err)
			require.Empty(t, storetest.Diff(want, e))
			require.Equal(t, want.At, e.At)
			ids = append(ids, row.ID)
		}
		require.Equal(t, []uint64{1, 2, 3, 4, 5, 6, 7, 8}, ids)
		require.EqualValues(t, 8, meta.Entries)
		rows, whole, err := tx.Marks()
		require.NoError(t, err)
		require.True(t, whole)
		require.ElementsMatch(t, goldenMarks(), rows)
	})
	// It is not only read: it goes on.
	update(t, db, func(tx *format.Tx) error {
		for _, e := range goldenEntries() {
			if err := tx.Delete(e.Key, 0); err != nil {
				return err
			}
		}
		return tx.Put(full(), time.Time{})
	})
	view(t, db, func(_ *bolt.Tx, tx *format.Tx) {
		verify(t, tx)
		require.EqualValues(t, 1, tx.Meta().Entries)
	})
}
