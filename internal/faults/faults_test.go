package faults_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/memstore"
)

func TestMain(m *testing.M) {
	faults.Main(func() { goleak.VerifyTestMain(m) })
}

// The site notices what it is there to notice.
func TestSite(t *testing.T) {
	s := faults.Open(memstore.New(), 10, 2, 1000)
	defer s.Cache.Close()
	v, hit, err := s.Get(3)
	require.NoError(t, err)
	require.False(t, hit)
	require.Zero(t, v)
	_, hit, err = s.Get(3)
	require.NoError(t, err)
	require.True(t, hit)

	require.EqualValues(t, 1, s.Commit(1))
	v, hit, err = s.Get(3)
	require.NoError(t, err, "it may be served until it is purged")
	require.True(t, hit)
	require.Zero(t, v)
	require.NoError(t, s.Purge(context.Background(), 1))
	v, hit, err = s.Get(3)
	require.NoError(t, err)
	require.False(t, hit)
	require.EqualValues(t, 1, v)

	s.SetVersion(1, 2, 2)
	_, _, err = s.Get(3)
	require.ErrorIs(t, err, faults.ErrWrong, "an old version")

	good := faults.Body(3, 1, 7, 500)
	got, err := faults.Check(3, good)
	require.NoError(t, err)
	require.EqualValues(t, 7, got)
	_, err = faults.Check(4, good)
	require.ErrorIs(t, err, faults.ErrWrong, "another page")
	for i := range good {
		bad := append([]byte(nil), good...)
		bad[i] ^= 1
		_, err := faults.Check(3, bad)
		require.ErrorIs(t, err, faults.ErrWrong, fmt.Sprint("byte ", i))
	}
}
