package boltstore_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
)

func all(*accel.Entry) int { return -1 }

// What is read in line for who sends it has the body that was picked, and no other; and
// what Get finds, read in line or not, is whole and its own for good.
func TestLend(t *testing.T) {
	s, h, _ := inLine(t)
	want := put(t, s, "/coded", storetest.Codings("zstd", "gzip", "br"), storetest.Tags("x"))
	flushed(t, s)
	var in bool
	fn := func() { in = true }
	lend := func(pick func(*accel.Entry) int) accel.Found {
		for in = false; ; {
			h.fn.Store(&fn)
			found, err := s.Lend(bg, want.Key, nil, pick)
			require.NoError(t, err)
			require.NotNil(t, found.Release)
			if in {
				return found
			}
			require.Empty(t, storetest.Diff(want, found.Entry), "who may have left picks nothing")
		}
	}
	got, err := s.Get(bg, want.Key, nil)
	require.NoError(t, err)
	require.Nil(t, got.Release)
	for range 3 {
		for picked := -1; picked < 3; picked++ {
			found := lend(func(e *accel.Entry) int {
				require.Equal(t, want.Tags, e.Tags)
				require.Equal(t, "gzip", e.Bodies[1].Coding)
				require.Equal(t, want.Bodies[2].ETag, e.Bodies[2].ETag)
				return picked
			})
			for i, b := range found.Entry.Bodies {
				if picked < 0 || picked == i {
					require.Equal(t, string(want.Bodies[i].Data), string(b.Data))
				} else {
					require.Nil(t, b.Data)
				}
			}
			found.Release()
		}
	}
	require.Empty(t, storetest.Diff(want, got.Entry))
	_, err = s.Lend(bg, storetest.Key("/b", ""), nil, all)
	require.ErrorIs(t, err, accel.ErrNotFound)
}

// What enters memory is nobody's to give back.
func TestWhatIsPromotedIsNotLent(t *testing.T) {
	path := dbPath(t)
	s := open(t, path)
	want := put(t, s, "/a")
	flushed(t, s)
	found, err := s.Lend(bg, want.Key, nil, all)
	require.NoError(t, err)
	require.Nil(t, found.Release, "in memory")
	require.NoError(t, s.Close())
	s = open(t, path)
	for range 2 {
		found, err := s.Lend(bg, want.Key, nil, all)
		require.NoError(t, err)
		require.Nil(t, found.Release)
		require.Empty(t, storetest.Diff(want, found.Entry))
		require.EqualValues(t, 1, s.Stats().MemoryEntries)
	}
}

// Many read and give back at once, what is stored anew meanwhile: nobody sees bytes of
// another page, or of two versions.
func TestLentToMany(t *testing.T) {
	s := open(t, dbPath(t), boltstore.WithMemory(0))
	const pages = 30
	sizes := []int{1, 100, 5_000, 40_000}
	url := func(i int) string { return fmt.Sprint("/", i) }
	write := func(version, i int) {
		put(t, s, url(i), storetest.Text(body(url(i), version, sizes[i%len(sizes)])))
	}
	for i := range pages {
		write(0, i)
	}
	flushed(t, s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range rounds(1_500, 50_000) {
				u := url(rand.IntN(pages))
				found, err := s.Lend(bg, storetest.Key(u, ""), nil, all)
				if err != nil {
					continue // it is on its way to the file
				}
				if _, err := checkBody(u, found.Entry); err != nil {
					t.Error(err)
				}
				if found.Release != nil {
					found.Release()
				}
			}
		})
	}
	for version := range rounds(10, 1_000) {
		for i := range pages / 4 {
			write(version+1, i)
		}
		flushed(t, s)
	}
	wg.Wait()
}
