package format_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/internal/format"
)

// A key that is not where it belongs has bbolt add an element to a branch where it
// means to change one; the old one goes on leading to a page that is freed, and used
// for something else. Two in twelve thousand damaged files ended the process so, by a
// tree that led in circles.
func TestExamineFindsKeysOutOfOrder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := create(t, path, 0, 0)
	update(t, db, func(tx *format.Tx) error {
		for i := range 60 {
			e := storetest.Entry(fmt.Sprint("/", i), storetest.At(accel.Position{Epoch: 1}), storetest.Tags("x"),
				storetest.Text(string(bytes.Repeat([]byte{byte(i)}, i*300)))) // with and without overflow
			if err := tx.Put(e, storetest.Start.Add(-1)); err != nil {
				return err
			}
		}
		return nil
	})
	rows := map[string][][2][]byte{}
	for _, bucket := range []string{"k", "b", "x", "t"} {
		rows[bucket] = rowsOf(t, db, bucket)
	}
	require.NoError(t, db.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	_, err = format.Examine(bytes.NewReader(whole), int64(len(whole)))
	require.NoError(t, err)
	for bucket, list := range rows {
		for i, row := range list[:len(list)-1] {
			was := append(bytes.Clone(row[0]), row[1]...) // as bbolt has it
			require.Equal(t, 1, bytes.Count(whole, was), bucket)
			bad := bytes.Clone(was)
			copy(bad, bytes.Repeat([]byte{0xff}, len(row[0]))) // above all others
			b := bytes.ReplaceAll(whole, was, bad)
			_, err := format.Examine(bytes.NewReader(b), int64(len(b)))
			require.ErrorIs(t, err, format.ErrDamaged, "row %d of %s", i, bucket)
		}
	}
}
