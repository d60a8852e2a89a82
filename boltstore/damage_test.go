package boltstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// A damage is done to a whole, closed database of ours. It may return what it
// leaves of the bytes, or work on the closed file.
type damage struct {
	name string
	do   func(b []byte) []byte
	tx   func(btx *bolt.Tx) error // instead of do: through bbolt, which then signs it
	// purged: nothing that was stored may be returned.
	purged bool
}

const damagePages = 4096

func page(b []byte, i int) []byte { return b[i*damagePages:][:damagePages] }

// inUse returns how many pages the database has in use.
func inUse(b []byte) int {
	return int(max(binary.NativeEndian.Uint64(page(b, 0)[16+40:]), binary.NativeEndian.Uint64(page(b, 1)[16+40:])))
}

func pagesOf(b []byte, flag uint16) (list []int) {
	for i := 2; i < inUse(b); i++ {
		p := page(b, i)
		if binary.NativeEndian.Uint64(p) == uint64(i) && binary.NativeEndian.Uint16(p[8:]) == flag {
			list = append(list, i)
		}
	}
	return list
}

// damages returns the cases of a seed; those that are drawn at random differ from
// seed to seed.
func damages(seed uint64) (list []damage) {
	add := func(name string, do func(b []byte) []byte) { list = append(list, damage{name: name, do: do}) }
	rnd := func(i int) *rand.Rand { return rand.New(rand.NewPCG(seed, uint64(i))) }

	for _, n := range []int{1, 100, 4095, 4096, 4097, 8191, 8192, 12288, 16384, 16484, 20480, 40960, 65536, 100_000} {
		add(fmt.Sprintf("truncated to %d", n), func(b []byte) []byte { return b[:min(n, len(b))] })
	}
	for i := range 8 {
		add(fmt.Sprintf("truncated by chance %d", i), func(b []byte) []byte { return b[:rnd(i).IntN(len(b))] })
		add(fmt.Sprintf("truncated in use %d", i), func(b []byte) []byte { return b[:rnd(i).IntN(inUse(b)*damagePages)] })
	}
	for i := range 32 {
		add(fmt.Sprintf("page %d zeroed", i), func(b []byte) []byte {
			if i < inUse(b) {
				clear(page(b, i))
			}
			return b
		})
	}
	for i := range 24 {
		add(fmt.Sprintf("bit flipped %d", i), func(b []byte) []byte {
			at := rnd(100 + i).IntN(inUse(b) * damagePages)
			b[at] ^= 1 << rnd(i).IntN(8)
			return b
		})
		add(fmt.Sprintf("bit of a head flipped %d", i), func(b []byte) []byte {
			r := rnd(200 + i)
			page(b, r.IntN(inUse(b)))[r.IntN(80)] ^= 1 << r.IntN(8)
			return b
		})
	}
	for i := range 10 {
		add(fmt.Sprintf("page random %d", i), func(b []byte) []byte {
			r := rnd(300 + i)
			p := page(b, 2+r.IntN(inUse(b)-2))
			for j := range p {
				p[j] = byte(r.Uint32())
			}
			return b
		})
		add(fmt.Sprintf("page in the wrong place %d", i), func(b []byte) []byte {
			r := rnd(400 + i)
			copy(page(b, 2+r.IntN(inUse(b)-2)), page(b, 2+r.IntN(inUse(b)-2)))
			return b
		})
		add(fmt.Sprintf("branch to itself %d", i), func(b []byte) []byte {
			if list := pagesOf(b, 1); len(list) > 0 {
				id := list[i%len(list)]
				p, count := page(b, id), int(binary.NativeEndian.Uint16(page(b, id)[10:]))
				binary.NativeEndian.PutUint64(p[16+16*rnd(i).IntN(count)+8:], uint64(id))
			}
			return b
		})
	}
	for _, i := range []int{0, 1} {
		list = append(list, damage{name: fmt.Sprintf("meta page %d zeroed", i), purged: true, do: func(b []byte) []byte {
			clear(page(b, i))
			return b
		}})
	}
	add("both meta pages zeroed", func(b []byte) []byte { clear(b[:2*damagePages]); return b })
	for i := range 6 {
		add(fmt.Sprintf("free list garbage %d", i), func(b []byte) []byte {
			for _, id := range pagesOf(b, 0x10) {
				r, p := rnd(500+i), page(b, id)
				if i < 3 {
					p[16+r.IntN(64)] ^= byte(1 + r.IntN(255))
					continue
				}
				for j := range p[16:] {
					p[16+j] = byte(r.Uint32())
				}
			}
			return b
		})
	}

	// Through bbolt, so that its own checks find nothing.
	g := func(name string, f func(b *bolt.Bucket, k, v []byte) error) {
		list = append(list, damage{name: "marks: " + name, purged: true, tx: func(btx *bolt.Tx) error {
			b := btx.Bucket([]byte("g"))
			k, v := b.Cursor().First()
			if k == nil {
				return errors.New("the template has no mark")
			}
			return f(b, bytes.Clone(k), bytes.Clone(v))
		}})
	}
	g("one missing", func(b *bolt.Bucket, k, _ []byte) error { return b.Delete(k) })
	g("one lowered", func(b *bolt.Bucket, k, v []byte) error { v[7]--; return b.Put(k, v) })
	g("one too many", func(b *bolt.Bucket, k, v []byte) error { k[8]++; return b.Put(k, v) })
	g("one cut off", func(b *bolt.Bucket, k, v []byte) error { return b.Put(k, v[:8]) })
	for _, bucket := range []string{"m", "k", "b", "x", "t", "g", "j"} {
		for i := range 8 {
			r := rnd(600 + i)
			list = append(list, damage{name: fmt.Sprintf("row of %s, bit %d", bucket, i), purged: bucket == "g", tx: func(btx *bolt.Tx) error {
				b := btx.Bucket([]byte(bucket))
				var keys [][]byte
				b.ForEach(func(k, _ []byte) error { keys = append(keys, bytes.Clone(k)); return nil })
				k := keys[r.IntN(len(keys))]
				v := bytes.Clone(b.Get(k))
				v[r.IntN(len(v))] ^= 1 << r.IntN(8)
				return b.Put(k, v)
			}})
		}
	}
	j := func(name string, do func(j *bolt.Bucket, first, last []byte) error) {
		list = append(list, damage{name: "journal: " + name, tx: func(btx *bolt.Tx) error {
			b := btx.Bucket([]byte("j"))
			first, _ := b.Cursor().First()
			last, _ := b.Cursor().Last()
			return do(b, bytes.Clone(first), bytes.Clone(last))
		}})
	}
	j("without the first", func(b *bolt.Bucket, first, _ []byte) error { return b.Delete(first) })
	j("without the last", func(b *bolt.Bucket, _, last []byte) error { return b.Delete(last) })
	j("one more", func(b *bolt.Bucket, _, last []byte) error {
		v := bytes.Clone(b.Get(last))
		last[7]++
		return b.Put(last, v)
	})
	j("one twice", func(b *bolt.Bucket, first, last []byte) error { return b.Put(first, bytes.Clone(b.Get(last))) })
	j("gone", func(b *bolt.Bucket, _, _ []byte) error { return b.Tx().DeleteBucket([]byte("j")) })
	return list
}

const damageEntries = 300

func damageURL(i int) string { return "/page/" + strconv.Itoa(i) }

// damageTag: entries of a template bear one of ten tags.
func damageTag(i int) string { return fmt.Sprint("tag", i%10) }

func init() { faults.Role("damage", damageChild) }

// damageChild makes a template, and for each case on its input a damaged copy of
// it, on which it lets a store work for a while.
func damageChild() {
	defer func() {
		if r := recover(); r != nil {
			buf := make([]byte, 1<<16)
			fmt.Printf("FAIL panic: %v\n%s\n", r, buf[:runtime.Stack(buf, false)])
			os.Exit(1)
		}
	}()
	dir := os.Getenv("DIR")
	template := dir + "/template.db"
	check(makeTemplate(template))
	seed, _ := strconv.ParseUint(os.Getenv("SEED"), 10, 64)
	list := damages(seed)
	from, _ := strconv.Atoi(os.Getenv("FROM"))
	step, _ := strconv.Atoi(os.Getenv("STEP"))
	for i := from; i < len(list); i += step {
		hung := time.AfterFunc(30*time.Second, func() {
			buf := make([]byte, 1<<18)
			fmt.Printf("FAIL %s: hangs\n%s\n", list[i].name, buf[:runtime.Stack(buf, true)])
			os.Exit(1)
		})
		if err := tryDamage(fmt.Sprintf("%s/%d.db", dir, i), template, list[i]); err != nil {
			fmt.Printf("FAIL %s: %v\n", list[i].name, err)
			os.Exit(1)
		}
		hung.Stop()
	}
	fmt.Println("ok")
	os.Stdout.Close()
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// makeTemplate makes a database that has branch pages in most buckets, a free
// list, marks whose entries are not swept, and a journal.
func makeTemplate(path string) error {
	s := boltstore.Open(path, quiet, patient)
	if err := s.Ping(bg); err != nil {
		return err
	}
	for i := range damageEntries {
		at := s.Begin()
		err := s.Put(storetest.Entry(damageURL(i), storetest.At(at), storetest.Tags(damageTag(i), "all"),
			storetest.Text(body(damageURL(i), 1, 200+i%7*300))), nil)
		if s.End(at); err != nil {
			return err
		}
	}
	if err := s.Close(); err != nil {
		return err
	}
	// Two marks by hand: a store would have swept and forgotten them by now.
	// And every third entry put once more, half of it where it belongs.
	return editFormat(path, func(tx *format.Tx) error {
		for i := 0; i < damageEntries; i += 3 {
			key := storetest.Key(damageURL(i), "")
			row, err := tx.Row(key)
			if err != nil {
				return err
			}
			if err := tx.Put(storetest.Entry(damageURL(i), storetest.At(row.At), storetest.Tags(damageTag(i), "all"),
				storetest.Text(body(damageURL(i), 1, 200+i%7*300))), time.Time{}); err != nil {
				return err
			}
		}
		return tx.WriteMarks(templateMarks())
	}, func(tx *format.Tx) error { return tx.Settle(15000) })
}

// editFormat runs transactions that leave their changes of the indexes pending.
func editFormat(path string, fns ...func(*format.Tx) error) error {
	for _, fn := range fns {
		err := editDB(path, func(btx *bolt.Tx) error {
			pending, err := format.LoadPending(btx)
			if err != nil {
				return err
			}
			tx, err := format.BeginWith(btx, pending)
			if err == nil {
				err = fn(tx)
			}
			if err != nil {
				return err
			}
			return tx.Finish()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func editDB(path string, fn func(*bolt.Tx) error) error {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		return err
	}
	if err := db.Update(fn); err != nil {
		return err
	}
	return db.Close()
}

func tryDamage(path, template string, d damage) error {
	b, err := os.ReadFile(template)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := editFormat(path, func(tx *format.Tx) error {
		// It is a copy; to be damaged it has to be taken for an original.
		tx.SetInode(boltstore.Inode(info))
		return nil
	}); err != nil {
		return err
	}
	if d.tx != nil {
		err = editDB(path, d.tx)
	} else if b, err = os.ReadFile(path); err == nil {
		err = os.WriteFile(path, d.do(b), 0o600)
	}
	if err != nil {
		return err
	}

	s := boltstore.Open(path, quiet, patient, boltstore.WithMemory(1<<16), boltstore.WithMaxSize(8<<20))
	if err := s.Ping(bg); errors.Is(err, boltstore.ErrForeign) || errors.Is(err, boltstore.ErrVersion) {
		// What is left of it is not known as ours, and not touched.
		return errors.Join(untouched(path, info), s.Close())
	}
	settled := func() bool { return s.Err() == nil || errors.Is(s.Err(), boltstore.ErrDamaged) }
	if err := within(settled, "the file is neither opened nor given up"); err != nil {
		return err
	}
	gone := "tag3" // invalidated by nobody yet
	if err := lookAtAll(s, func(i int, version int) error {
		if d.purged || templateStruck(i) {
			return fmt.Errorf("%s was invalidated, and is returned", damageURL(i))
		}
		return nil
	}); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(bg, 10*time.Second)
	defer cancel()
	if err := s.Invalidate(ctx, accel.TagMark(gone)); err != nil && !errors.Is(err, accel.ErrNotDurable) {
		return err
	}
	stored := map[int]bool{}
	for i := 0; i < damageEntries; i += 5 {
		at := s.Begin()
		err := s.Put(storetest.Entry(damageURL(i), storetest.At(at), storetest.Tags(damageTag(i), "all"),
			storetest.Text(body(damageURL(i), 2, 500))), nil)
		if s.End(at); err == nil {
			stored[i] = true
		}
	}
	for round := range 2 {
		if err := lookAtAll(s, func(i int, version int) error {
			switch {
			case version == 2:
			case d.purged || damageTag(i) == gone || templateStruck(i):
				return fmt.Errorf("%s was invalidated, and is returned in round %d", damageURL(i), round)
			case stored[i]:
				return fmt.Errorf("%s: an older version is returned", damageURL(i))
			}
			return nil
		}); err != nil {
			return err
		}
		if round == 0 { // once from the queue, once from the file
			if err := within(func() bool { return settled() && s.Stats().QueueBytes == 0 }, "the queue is never written"); err != nil {
				return err
			}
			// What was queued for a file that was then left is gone.
			stored = map[int]bool{}
		}
	}
	if err := s.Invalidate(ctx, accel.MarkAll); err != nil && !errors.Is(err, accel.ErrNotDurable) {
		return err
	}
	if err := lookAtAll(s, func(i, _ int) error {
		return fmt.Errorf("%s is returned after everything was invalidated", damageURL(i))
	}); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	if err := untouched(path, info); err != nil {
		return err
	}
	for _, f := range aside(path) {
		os.Remove(f)
	}
	return os.Remove(path)
}

// within waits for a condition.
func within(cond func() bool, otherwise string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !cond(); <-tick.C {
		if time.Now().After(deadline) {
			return errors.New(otherwise)
		}
	}
	return nil
}

func templateMarks() []marks.Row {
	return []marks.Row{{Mark: accel.TagMark("tag7"), Hard: 1}, {Mark: accel.TagMark("tag8"), Hard: 1}}
}

func templateStruck(i int) bool { return damageTag(i) == "tag7" || damageTag(i) == "tag8" }

// untouched requires that the file is there, at its path or set aside.
func untouched(path string, info os.FileInfo) error {
	for _, name := range append(aside(path), path) {
		if now, err := os.Stat(name); err == nil && os.SameFile(now, info) {
			return nil
		}
	}
	return errors.New("the file is gone")
}

// lookAtAll requires that whatever a store returns is what was stored.
func lookAtAll(s *boltstore.Store, ok func(i, version int) error) error {
	for i := range damageEntries {
		url := damageURL(i)
		found, err := s.Get(bg, storetest.Key(url, ""), nil)
		if err != nil {
			continue
		}
		version, err := checkBody(url, found.Entry)
		if err != nil {
			return err
		}
		if err := ok(i, version); err != nil {
			return err
		}
	}
	return nil
}

// Whatever was done to the file: the process lives, no byte that is returned is
// wrong, nothing is deleted, and what was invalidated stays so.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	for round := range rounds(1, 30) {
		seed := uint64(1 + round)
		var wg sync.WaitGroup
		const step = 6
		for from := range step {
			c := faults.Start(t, "damage", []string{"DIR=" + t.TempDir(), fmt.Sprint("SEED=", seed), fmt.Sprint("FROM=", from), fmt.Sprint("STEP=", step)})
			wg.Go(func() {
				var out []string
				for {
					line, err := c.Line()
					if err != nil {
						break
					}
					out = append(out, line)
				}
				if err := c.Wait(); err != nil || !slices.Equal(out, []string{"ok"}) {
					t.Errorf("seed %d: %v\n%s\n%s", seed, err, strings.Join(out, "\n"), c.Stderr())
				}
			})
		}
		wg.Wait()
	}
}
