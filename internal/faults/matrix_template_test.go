package faults_test

import (
	"context"
	"fmt"
	"log/slog"
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

// The site of the matrix. Its pages are of all sizes, a few of them are variants of
// one another, and some are not yet stored in the template.
const (
	matrixTags   = 12
	matrixVaried = 48
	matrixStored = 660 // pages that the template has, or had
	matrixPages  = 710
)

// What has become of the tags in the template, beside those of which nothing was
// ever purged.
const (
	matrixSweptTags = 3 // 0, 1, 2: purged and swept, their pages made anew
	matrixHalfTag   = 3 // purged, and a part of it swept
)

// Tags purged by the last transaction of all.
var matrixMarkedTags = []int{4, 5}

// Tags that are purged while the site is served.
var matrixPurgeTags = []int{1, 6, 7, 8}

func matrixForm(page int) (size int, contentType string) {
	switch page % 11 { // 11 and the number of tags have no common divisor
	case 8:
		return 5000 + page*13, "image/png" // not compressed; has pages of its own
	case 9:
		return 14000 + page*7, "image/png"
	case 6, 7:
		return 2500 + page*5, "text/plain; charset=utf-8"
	}
	return 300 + page*3, "text/plain; charset=utf-8"
}

func matrixOpen(store accel.Store, versions [][2]uint64) *faults.Site {
	s := faults.Open(store, matrixPages, matrixTags, 1000, accel.WithLogger(slog.New(slog.DiscardHandler)))
	s.Shape(matrixVaried, matrixForm)
	for tag, v := range versions {
		s.SetVersion(tag, v[0], v[1])
	}
	return s
}

// matrixMaxSize bounds the file.
const matrixMaxSize = 16 << 20

// A template is a database that a site has left, and what it was before.
type matrixTemplate struct {
	path     string // of the database, which is never damaged itself
	inode    uint64
	now      []byte
	earlier  [][]byte // states of the same file, the latest last
	roles    []pageRole
	versions [][2]uint64 // of each tag: committed, and purged
}

var matrixQuiet = boltstore.WithLogger(slog.New(slog.DiscardHandler))

// scratch is a directory for many small files: in memory, if the system has one.
func matrixDir(t testing.TB) string {
	if dir, err := os.MkdirTemp("/dev/shm", "accel-matrix"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		os.Chmod(dir, 0o711) // for a child that is not root
		return dir
	}
	return t.TempDir()
}

func newMatrixTemplate(t testing.TB, dir string) *matrixTemplate {
	tp := &matrixTemplate{path: filepath.Join(dir, "template.db"), versions: make([][2]uint64, matrixTags)}
	session := func(do func(site *faults.Site, store *boltstore.Store)) {
		store := boltstore.Open(tp.path, matrixQuiet, boltstore.WithMaxSize(matrixMaxSize))
		require.NoError(t, store.Ping(context.Background()))
		site := matrixOpen(store, tp.versions)
		do(site, store)
		require.NoError(t, site.Cache.Close())
	}
	read := func(site *faults.Site, from, to int) {
		for i := from; i < to; i++ {
			_, _, err := site.Get(i)
			require.NoError(t, err)
		}
	}
	purged := func(tag int) { tp.versions[tag] = [2]uint64{tp.versions[tag][0] + 1, tp.versions[tag][1] + 1} }
	snapshot := func() {
		b, err := os.ReadFile(tp.path)
		require.NoError(t, err)
		tp.earlier = append(tp.earlier, b)
	}

	session(func(site *faults.Site, _ *boltstore.Store) { read(site, 0, matrixStored*2/3) })
	snapshot()
	session(func(site *faults.Site, store *boltstore.Store) {
		for tag := range matrixSweptTags {
			for range 1 + tag {
				site.Commit(tag)
				require.NoError(t, site.Purge(context.Background(), tag))
				purged(tag)
			}
		}
		struck := uint64(0)
		for i := range matrixStored * 2 / 3 {
			if site.TagOf(i) < matrixSweptTags {
				struck++
			}
		}
		require.Eventually(t, func() bool { return store.Stats().Swept == struck }, 30*time.Second, time.Millisecond)
	})
	snapshot()
	session(func(site *faults.Site, _ *boltstore.Store) { read(site, 0, matrixStored) })
	snapshot()

	// From here on as the writer does it, a transaction at a time: the file is that
	// of a process which was killed right after it had purged.
	mark := func(tags ...int) func(tx *format.Tx) error {
		return func(tx *format.Tx) error {
			n := tx.Meta().Seq + 1
			var rows []marks.Row
			for _, tag := range tags {
				name := faults.Tag(tag)
				if tag >= matrixTags {
					// Tags that nothing bears, so that there are pages of marks.
					name = fmt.Sprint("gone", tag)
				} else {
					purged(tag)
				}
				rows = append(rows, marks.Row{Mark: accel.TagMark(name), Hard: n})
			}
			return tx.WriteMarks(rows)
		}
	}
	many := []int{matrixHalfTag}
	for i := range 150 {
		many = append(many, matrixTags+i)
	}
	tp.edit(t, tp.path, mark(many...))
	tp.edit(t, tp.path, func(tx *format.Tx) error {
		r := marks.Row{Mark: accel.TagMark(faults.Tag(matrixHalfTag)), Hard: tx.Meta().Seq}
		n, next, err := tx.SweepMark(r, nil, 10)
		require.Equal(t, 10, n)
		require.NotNil(t, next)
		return err
	})
	snapshot()
	tp.edit(t, tp.path, mark(matrixMarkedTags...))

	var err error
	tp.now, err = os.ReadFile(tp.path)
	require.NoError(t, err)
	tp.roles = rolesOf(tp.now)
	info, err := os.Stat(tp.path)
	require.NoError(t, err)
	tp.inode = format.Inode(info)
	return tp
}

// edit changes a closed file in one transaction.
func (tp *matrixTemplate) edit(t testing.TB, path string, do func(*format.Tx) error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: time.Second, FreelistType: bolt.FreelistMapType})
	require.NoError(t, err)
	require.NoError(t, db.Update(func(btx *bolt.Tx) error {
		tx, err := format.Begin(btx)
		if err != nil {
			return err
		}
		if err := do(tx); err != nil {
			return err
		}
		return tx.Finish()
	}))
	require.NoError(t, db.Close())
}

// describe says what the template is made of.
func (tp *matrixTemplate) describe() string {
	count := map[string]int{}
	for _, r := range tp.roles {
		count[r.String()]++
	}
	var names []string
	for name, n := range count {
		names = append(names, fmt.Sprint(n, " ", name))
	}
	return fmt.Sprintf("%d pages in use of %d: %s", len(tp.roles), len(tp.now)/pageSize, strings.Join(slices.Sorted(slices.Values(names)), ", "))
}
