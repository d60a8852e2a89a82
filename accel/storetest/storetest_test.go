package storetest_test

import (
	"context"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = accel.Position{Epoch: 7, N: 8}

// A field that is added to Entry has to be added to Full, or no store is asked
// whether it keeps it.
func TestFullLeavesNothingOut(t *testing.T) {
	v := reflect.ValueOf(storetest.Full(at)).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.IsExported() {
			require.False(t, v.Field(i).IsZero(), f.Name)
		}
	}
}

func TestDiff(t *testing.T) {
	full := storetest.Full(at)
	require.Empty(t, storetest.Diff(full, full))
	require.Empty(t, storetest.Diff(full, storetest.Full(at)))
	require.Empty(t, storetest.Diff(full, storetest.Full(accel.Position{Epoch: 9, N: 8})))
	require.NotEmpty(t, storetest.Diff(full, nil))
	v := reflect.ValueOf(full).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		other := storetest.Full(at)
		reflect.ValueOf(other).Elem().Field(i).SetZero()
		require.Contains(t, storetest.Diff(full, other), f.Name)
	}
}

func TestEntry(t *testing.T) {
	e := storetest.Entry("/a?b", storetest.Tags("x"))
	require.Equal(t, []accel.Hash{
		accel.URLMark("http", "example.org", "/a?b").Hash, accel.TargetMark("/a?b").Hash, accel.TagMark("x").Hash,
	}, e.Marks)
	require.Equal(t, e.Key, storetest.Key("http://example.org/a?b", ""))
	require.Equal(t, e.Marks[0], storetest.URLMark("/a?b").Hash)
	require.Equal(t, e.Marks[1], storetest.TargetMark("https://example.com/a?b").Hash)
	require.Equal(t, e.Key.Target, accel.TargetMark("/a?b").Hash)
	require.Len(t, storetest.Entry("/", storetest.Codings("zstd", "gzip")).Bodies, 2)
}

func TestFaulty(t *testing.T) {
	ctx := context.Background()
	run := func(n int) (fired bool, errs []error) {
		s := storetest.Faulty(memstore.New(), n)
		defer s.Close()
		at := s.Begin()
		defer s.End(at)
		e := storetest.Entry("/a", storetest.At(at))
		errs = append(errs, s.Put(e, nil))
		_, err := s.Get(ctx, e.Key, nil)
		errs = append(errs, err, s.Delete(e), s.Invalidate(ctx, accel.MarkAll), s.Expire(ctx, accel.MarkAll))
		return s.Fired(), errs
	}
	for n := 1; ; n++ {
		fired, errs := run(n)
		if !fired {
			require.Equal(t, 6, n, "five operations can fail")
			break
		}
		for i, err := range errs {
			if i == n-1 {
				require.ErrorIs(t, err, storetest.ErrFault)
			} else if i != 1 || n != 1 { // nothing was put, so nothing is found
				require.NoError(t, err)
			}
		}
	}
	fired, _ := run(0)
	require.False(t, fired)
}

func TestLending(t *testing.T) {
	s := storetest.Lending(memstore.New())
	defer s.Close()
	at := s.Begin()
	defer s.End(at)
	e := storetest.Full(at)
	require.NoError(t, s.Put(e, nil))
	for picked := -1; picked < len(e.Bodies); picked++ {
		found, err := s.Lend(context.Background(), e.Key, e.Vary, func(*accel.Entry) int { return picked })
		require.NoError(t, err)
		if picked < 0 {
			require.Empty(t, storetest.Diff(e, found.Entry))
		}
		for i, b := range found.Entry.Bodies {
			if picked < 0 || picked == i {
				require.Equal(t, string(e.Bodies[i].Data), string(b.Data))
			} else {
				require.Empty(t, b.Data)
			}
		}
		gzip := found.Entry.Bodies[1].Data
		found.Release()
		require.Panics(t, found.Release)
		if picked == 1 {
			require.Equal(t, []byte{0xDB, 0xDB}, gzip)
		}
	}
}
