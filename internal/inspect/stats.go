package inspect

import (
	"context"
	"time"

	"github.com/accelhttp/accelerator/internal/format"
)

// Stats is a database as a whole.
type Stats struct {
	Database    string    `json:"database"`
	BeginsEmpty string    `json:"begins_empty,omitempty"`
	FileBytes   int64     `json:"file_bytes"`
	Modified    time.Time `json:"modified"`
	format.Meta
	format.Space

	Live    Amount `json:"live"`
	Stale   Amount `json:"stale"`
	Expired Amount `json:"expired"`
	Purged  Amount `json:"purged"`
	Tags    int    `json:"tags"`
	// FirstGone and LastGone are when the first and the last entry that is alive
	// has no use any more.
	FirstGone time.Time `json:"first_gone,omitzero"`
	LastGone  time.Time `json:"last_gone,omitzero"`
	// Damaged is how many rows could not be read.
	Damaged int `json:"damaged"`
}

// An Amount is a number of entries and what they occupy.
type Amount struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Stats counts. It reads no entry's record.
func (d *Database) Stats(ctx context.Context) (*Stats, error) {
	st := &Stats{
		Database: d.path, BeginsEmpty: d.beginsEmpty,
		FileBytes: d.info.Size(), Modified: d.info.ModTime(),
		Meta: d.meta, Space: d.space,
	}
	err := d.view(func(tx *format.Tx) error {
		for row, err := range tx.Rows() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err != nil {
				st.Damaged++
				continue
			}
			s, _ := d.state(row)
			a := map[State]*Amount{Live: &st.Live, Stale: &st.Stale, Expired: &st.Expired, Purged: &st.Purged}[s]
			a.Entries++
			a.Bytes += int64(row.Size)
			if s.Dead() {
				continue
			}
			if st.FirstGone.IsZero() || row.KeepUntil.Before(st.FirstGone) {
				st.FirstGone = row.KeepUntil
			}
			if row.KeepUntil.After(st.LastGone) {
				st.LastGone = row.KeepUntil
			}
		}
		st.Tags = tx.CountTags()
		return nil
	})
	if err != nil {
		return nil, err
	}
	return st, nil
}
