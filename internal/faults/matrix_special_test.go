package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// What is not the damage of one page: marks that are gone, a transaction that is, a
// file that may not be read, one that somebody else has, and a disk that damages
// each file anew.

func init() {
	faults.Role("matrix waiting", matrixServeWaiting)
	faults.Role("matrix again", matrixServeAgain)
}

// copyTo writes the template to a path as an original.
func (tp *matrixTemplate) copyTo(t testing.TB, path string) os.FileInfo {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	b := slices.Clone(tp.now)
	adoptInode(b, tp.inode, format.Inode(info))
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return info
}

// matrixWaysToLoseMarks are ways to lose what stands in bucket g while everything else is
// whole, and as bbolt wants it.
var matrixWaysToLoseMarks = []struct {
	name string
	db   func(g *bolt.Bucket) error
	file func(tp *matrixTemplate, b []byte)
}{
	{name: "all rows", db: func(g *bolt.Bucket) error {
		var keys [][]byte
		g.ForEach(func(k, _ []byte) error { keys = append(keys, slices.Clone(k)); return nil })
		for _, k := range keys {
			if err := g.Delete(k); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "the row of a tag", db: func(g *bolt.Bucket) error {
		h := accel.TagMark(faults.Tag(matrixMarkedTags[0])).Hash
		return g.Delete([]byte{byte(accel.KindTag), byte(h >> 56), byte(h >> 48), byte(h >> 40), byte(h >> 32), byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)})
	}},
	{name: "the bucket, made anew", db: func(g *bolt.Bucket) error {
		tx := g.Tx()
		if err := tx.DeleteBucket([]byte("g")); err != nil {
			return err
		}
		_, err := tx.CreateBucket([]byte("g"))
		return err
	}},
	{name: "the rows of its leaves", file: func(tp *matrixTemplate, b []byte) {
		for id, r := range tp.roles {
			if r.kind == "leaf" && r.bucket == "g" {
				ne.PutUint16(pageAt(b, id)[10:], 0)
			}
		}
	}},
	{name: "the last transaction, its meta page being bad", file: func(tp *matrixTemplate, b []byte) {
		pageAt(b, newestMeta(b))[pageHead+48] ^= 1
	}},
}

// A database that has lost marks may hold what was purged, and matrixNobody could tell
// which. So nothing in it is used any more.
func matrixLostMarks(t *testing.T, tp *matrixTemplate) {
	dir := matrixDir(t)
	counts := map[string]int{}
	for round := range faults.Rounds(1, 4, 40) {
		for i, lost := range matrixWaysToLoseMarks {
			path := filepath.Join(dir, fmt.Sprintf("%d-%d.db", round, i))
			info := tp.copyTo(t, path)
			if lost.file != nil {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				lost.file(tp, b)
				require.NoError(t, os.WriteFile(path, b, 0o600))
			} else {
				db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second})
				require.NoError(t, err)
				require.NoError(t, db.Update(func(tx *bolt.Tx) error { return lost.db(tx.Bucket([]byte("g"))) }))
				require.NoError(t, db.Close())
			}
			r := matrixRun{damage: matrixDamage{class: "marks lost: " + lost.name}}
			r.play(t, "matrix", matrixOrder{Path: path, Versions: tp.versions, Seed: rand.Uint64()})
			r.look(path, info)
			require.False(t, r.bad(), "%s", r)
			require.Contains(t, []string{"emptied", "set aside"}, r.outcome(), "%s", r)
			counts[lost.name+": "+r.outcome()]++
			require.NoError(t, os.Remove(path))
		}
	}
	t.Log(counts)
}

// A disk that never wrote the newest meta page, and said it had, leaves the file as
// a crash before that transaction would. Nobody can tell the two apart. What is lost
// is that transaction and nothing else.
func matrixLostMeta(t *testing.T, tp *matrixTemplate) {
	dir := matrixDir(t)
	d := matrixDamage{class: "stale", page: newestMeta(tp.now)}
	require.NotEmpty(t, tp.beyond(d))
	r := tp.try(t, filepath.Join(dir, "run"), "matrix", d)
	require.False(t, r.bad(), "%s", r)
	t.Logf("of %d responses %d had been purged by the transaction that was lost", r.Gets, r.Purged.N)

	// To who knows nothing of the last transaction, everything is as it should be.
	before := *tp
	before.versions = slices.Clone(tp.versions)
	for _, tag := range matrixMarkedTags {
		before.versions[tag][1]--
	}
	r = before.try(t, filepath.Join(dir, "run"), "matrix", d)
	require.False(t, r.bad(), "%s", r)
	require.Zero(t, r.Purged.N, "%s", r)
}

// matrixServeWaiting serves a site whose file cannot be had at first, and then can.
func matrixServeWaiting() {
	o := readMatrixOrder()
	if o.Nobody {
		if err := matrixGiveUpRoot(); err != nil {
			fmt.Println("cannot:", err)
			return
		}
	}
	res := &matrixResult{}
	store := boltstore.Open(o.Path, matrixQuiet, boltstore.WithMaxSize(matrixMaxSize))
	v := &matrixVisitor{store: store, site: matrixOpen(store, o.Versions), res: res}
	matrixBounded(res, "without the file", func() {
		store.Ping(context.Background())
		v.waitFor(func() bool { return store.Err() != nil })
		for page := range matrixPages {
			v.get(page, "without the file")
		}
		v.purge(matrixPurgeTags[0])
		v.get(matrixPurgeTags[0], "without the file")
	})
	err := store.Err()
	fmt.Printf("locked %v, permission %v, hits %d, not durable %d, failed %d\n",
		errors.Is(err, boltstore.ErrLocked), errors.Is(err, fs.ErrPermission), res.Hits, res.NotDurable, res.Wrong.N+res.Purged.N+res.Failed.N)
	fmt.Scanln()
	matrixBounded(res, "taking over", func() { v.waitFor(func() bool { return store.Err() == nil }) })
	matrixBounded(res, "with the file", func() {
		v.load(o)
		for page := range matrixPages {
			v.get(page, "with the file")
		}
	})
	matrixBounded(res, "close", func() {
		if err := v.site.Cache.Close(); err != nil {
			res.Failed.add(err, "close")
		}
	})
	res.SetAside = int(store.Stats().SetAside)
	res.say()
}

// waitFor waits for a condition; who runs it sees to it that it ends.
func (v *matrixVisitor) waitFor(cond func() bool) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !cond() {
		<-tick.C
	}
}

// A site whose file another process has is served without it, and has it when that
// process is done: without what either of them has purged.
func matrixLocked(t *testing.T, tp *matrixTemplate) {
	dir := matrixDir(t)
	for range faults.Rounds(1, 3, 20) {
		path := filepath.Join(dir, "cache.db")
		info := tp.copyTo(t, path)
		holder := boltstore.Open(path, matrixQuiet, boltstore.WithMaxSize(matrixMaxSize))
		require.NoError(t, holder.Ping(context.Background()))
		site := matrixOpen(holder, tp.versions)

		after := slices.Clone(tp.versions)
		after[9] = [2]uint64{after[9][0] + 1, after[9][1] + 1}
		o := matrixOrder{Path: path, Versions: after, Seed: rand.Uint64()}
		c := faults.Start(t, "matrix waiting", o.env())
		c.Expect("locked true, permission false, hits 0, not durable 1, failed 0")
		site.Commit(9)
		require.NoError(t, site.Purge(context.Background(), 9))
		require.NoError(t, site.Cache.Close())
		c.Say("go on")
		r := matrixRun{damage: matrixDamage{class: "locked"}}
		r.hear(c)
		r.look(path, info)
		require.False(t, r.bad(), "%s", r)
		require.Zero(t, r.SetAside+r.aside)
		require.Positive(t, r.Hits, "it has the file: %+v", r.matrixResult)
		require.NoError(t, os.Remove(path))
	}
}

// A site whose file or directory it has no permission for is served without it, and
// has it when the permission is there.
func matrixForbidden(t *testing.T, tp *matrixTemplate) {
	dir := matrixDir(t)
	if err := matrixGiveAway(dir); err != nil {
		t.Skip(err)
	}
	for _, kind := range []string{"file", "directory of a damaged file", "directory without a file"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for round := range faults.Rounds(1, 1, 10) {
				home := filepath.Join(dir, strings.ReplaceAll(kind, " ", "-")+fmt.Sprint(round))
				require.NoError(t, os.Mkdir(home, 0o700))
				require.NoError(t, matrixGiveAway(home))
				path := filepath.Join(home, "cache.db")
				forbidden, allowed := path, os.FileMode(0o600)
				var info os.FileInfo
				if kind != "directory without a file" {
					info = tp.copyTo(t, path)
					require.NoError(t, matrixGiveAway(path))
				}
				if kind != "file" {
					forbidden, allowed = home, 0o700
				}
				if kind == "directory of a damaged file" {
					f, err := os.OpenFile(path, os.O_WRONLY, 0)
					require.NoError(t, err)
					_, err = f.WriteAt(make([]byte, pageSize), int64(metaFreelist(pageAt(tp.now, newestMeta(tp.now))))*pageSize)
					require.NoError(t, err)
					require.NoError(t, f.Close())
				}
				mode := os.FileMode(0)
				if forbidden == home {
					mode = 0o500
				}
				require.NoError(t, os.Chmod(forbidden, mode))
				t.Cleanup(func() { os.Chmod(forbidden, allowed) })

				c := faults.Start(t, "matrix waiting", matrixOrder{Path: path, Versions: tp.versions, Seed: rand.Uint64(), Nobody: true}.env())
				line, err := c.Line()
				require.NoError(t, err, c.Stderr())
				if strings.HasPrefix(line, "cannot") {
					t.Skip("this process may do everything, and ", line)
				}
				require.Equal(t, "locked false, permission true, hits 0, not durable 1, failed 0", line)
				require.NoError(t, os.Chmod(forbidden, allowed))
				c.Say("go on")
				r := matrixRun{damage: matrixDamage{class: "forbidden: " + kind}}
				r.hear(c)
				require.Empty(t, r.died+r.Hung, "%s", r)
				require.Zero(t, r.Wrong.N+r.Purged.N+r.Failed.N, "%s", r)
				if info != nil {
					r.look(path, info)
					require.False(t, r.deleted)
				}
				if kind == "directory of a damaged file" {
					require.Equal(t, 1, r.SetAside)
				} else {
					require.Zero(t, r.SetAside)
				}
				require.Positive(t, r.Hits, "it has a file: %+v", r.matrixResult)
			}
		})
	}
}

// matrixServeAgain damages the file that it serves a site from, as often as there is one.
func matrixServeAgain() {
	o := readMatrixOrder()
	res := &matrixResult{}
	store := boltstore.Open(o.Path, matrixQuiet, boltstore.WithMemory(64<<10), boltstore.WithMaxSize(matrixMaxSize))
	v := &matrixVisitor{store: store, site: matrixOpen(store, o.Versions), res: res}
	r := rand.New(rand.NewPCG(o.Seed, 0))
	var last os.FileInfo
	for round := range 4 {
		matrixBounded(res, fmt.Sprint("round ", round), func() {
			v.waitFor(func() bool { return store.Err() == nil })
			for page := range 60 {
				v.get(page, "before the damage")
			}
			v.waitFor(func() bool { return store.Stats().QueueBytes == 0 || store.Err() != nil })
			info, err := os.Stat(o.Path)
			if err != nil {
				panic(err)
			}
			last = info
			f, err := os.OpenFile(o.Path, os.O_WRONLY, 0)
			if err != nil {
				panic(err)
			}
			switch r.IntN(3) {
			case 0:
				err = f.Truncate(0)
			case 1:
				b := make([]byte, info.Size())
				fillRandom(b, r)
				_, err = f.WriteAt(b, 0)
			case 2:
				_, err = f.WriteAt(make([]byte, info.Size()), 0)
			}
			if err := errors.Join(err, f.Close()); err != nil {
				panic(err)
			}
			v.waitFor(func() bool {
				v.get(r.IntN(matrixPages), "after the damage")
				if r.IntN(10) == 0 {
					v.purge(matrixPurgeTags[0])
				}
				if round < 3 {
					return int(store.Stats().SetAside) > round
				}
				return errors.Is(store.Err(), boltstore.ErrDamaged)
			})
		})
	}
	matrixBounded(res, "off", func() {
		for page := range matrixPages {
			v.get(page, "off")
		}
		v.purge(matrixPurgeTags[1])
	})
	if now, err := os.Stat(o.Path); err != nil || !os.SameFile(now, last) {
		res.Failed.add(errors.New("the fourth file is not where it was"), "off")
	}
	if err := store.Err(); !errors.Is(err, boltstore.ErrDamaged) {
		res.Failed.add(fmt.Errorf("the store says %v", err), "off")
	}
	matrixBounded(res, "close", func() {
		if err := v.site.Cache.Close(); err != nil {
			res.Failed.add(err, "close")
		}
	})
	res.SetAside = int(store.Stats().SetAside)
	res.say()
}

// A disk that damages every file costs three of them. The fourth stays where it is,
// and the site is served without.
func matrixAgain(t *testing.T, tp *matrixTemplate) {
	dir := matrixDir(t)
	for round := range faults.Rounds(1, 5, 100) {
		home := filepath.Join(dir, fmt.Sprint(round))
		require.NoError(t, os.Mkdir(home, 0o700))
		path := filepath.Join(home, "cache.db")
		info := tp.copyTo(t, path)
		r := matrixRun{damage: matrixDamage{class: "again and again", seed: rand.Uint64()}}
		r.play(t, "matrix again", matrixOrder{Path: path, Versions: tp.versions, Seed: r.damage.seed})
		r.look(path, info)
		require.False(t, r.bad(), "%s", r)
		require.Equal(t, 3, r.SetAside)
		require.Equal(t, 3, r.aside)
		require.NoError(t, os.RemoveAll(home))
	}
}

// A disk may lose the one page that the newest meta page leads to. Where the root of
// an earlier transaction stood there, it is whole and all its sums are right; but what
// it leads to is free by now, and the free list says so.
func matrixLostRoot(t *testing.T, tp *matrixTemplate) {
	path := filepath.Join(matrixDir(t), "cache.db")
	info := tp.copyTo(t, path)
	const tag = 9
	versions := slices.Clone(tp.versions)
	versions[tag] = [2]uint64{versions[tag][0] + 1, versions[tag][1] + 1}
	for range 200 {
		before, err := os.ReadFile(path)
		require.NoError(t, err)
		mark := marks.Row{Mark: accel.TagMark(faults.Tag(tag))}
		tp.edit(t, path, func(tx *format.Tx) error {
			mark.Hard = tx.Meta().Seq + 1
			return tx.WriteMarks([]marks.Row{mark})
		})
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		root := metaRoot(pageAt(b, newestMeta(b)))
		if old := pageAt(before, root); bytes.Contains(old, []byte("inode")) {
			copy(pageAt(b, root), old)
			require.NoError(t, os.WriteFile(path, b, 0o600))
			r := matrixRun{damage: matrixDamage{class: "root lost", page: root}}
			r.play(t, "matrix", matrixOrder{Path: path, Versions: versions, Seed: rand.Uint64()})
			r.look(path, info)
			require.False(t, r.bad(), "%s", r)
			require.Contains(t, []string{"set aside", "emptied"}, r.outcome(), "%s", r)
			return
		}
		tp.edit(t, path, func(tx *format.Tx) error {
			_, err := tx.DeleteMark(mark)
			return err
		})
	}
	t.Skip("bbolt never wrote a root where one had been")
}
