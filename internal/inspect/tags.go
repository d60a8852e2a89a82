package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
)

// A TagFilter says which tags are wanted.
type TagFilter struct {
	Prefix string // of the tag
	All    bool   // also those that only dead entries bear
	Sort   string // "name", "entries" or "bytes"; the zero value is "name"
	Limit  int    // after sorting; 0 for no limit
}

// Tags is what a database has of tags.
type Tags struct {
	Database    string `json:"database"`
	BeginsEmpty string `json:"begins_empty,omitempty"`
	Tags        []Tag  `json:"tags"`
	// Total is how many there were before the limit.
	Total int `json:"total"`
	// Hidden is how many were left out because only dead entries bear them.
	Hidden int `json:"hidden"`
	// Damaged is how many rows could not be read.
	Damaged int `json:"damaged"`
}

// A Tag is what entries bear it. An entry counts with all its bytes under each of
// its tags.
type Tag struct {
	Tag  string `json:"tag"` // "" if the name is lost
	Hash string `json:"hash"`
	// Entries and Bytes are those of the entries that are alive.
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
	// FirstGone and LastGone are when the first and the last of them have no use
	// any more.
	FirstGone time.Time `json:"first_gone,omitzero"`
	LastGone  time.Time `json:"last_gone,omitzero"`

	DeadEntries int   `json:"dead_entries"`
	DeadBytes   int64 `json:"dead_bytes"`
}

// Tags lists the tags. It reads no entry's record.
func (d *Database) Tags(ctx context.Context, f TagFilter) (*Tags, error) {
	out := &Tags{Database: d.path, BeginsEmpty: d.beginsEmpty, Tags: []Tag{}}
	if !slices.Contains([]string{"", "name", "entries", "bytes"}, f.Sort) {
		return nil, fmt.Errorf("tags cannot be sorted by %q", f.Sort)
	}
	err := d.view(func(tx *format.Tx) error {
		var tag Tag
		flush := func() {
			switch {
			case tag.Hash == "" || !strings.HasPrefix(tag.Tag, f.Prefix):
			case tag.Entries == 0 && !f.All:
				out.Hidden++
			default:
				out.Tags = append(out.Tags, tag)
			}
		}
		for row, err := range tx.TagRows() {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err != nil {
				out.Damaged++
				continue
			}
			if h := fmt.Sprintf("%016x", uint64(row.Hash)); h != tag.Hash {
				flush()
				tag = Tag{Hash: h}
				if row.ID == 0 && accel.TagMark(row.Name).Hash == row.Hash {
					tag.Tag = row.Name
				} else if row.ID == 0 {
					out.Damaged++
				}
			}
			if row.ID == 0 {
				continue
			}
			if dead, err := d.tagRowDead(tx, row); err != nil {
				out.Damaged++
			} else if dead {
				tag.DeadEntries++
				tag.DeadBytes += int64(row.Size)
			} else {
				tag.Entries++
				tag.Bytes += int64(row.Size)
				if tag.FirstGone.IsZero() || row.KeepUntil.Before(tag.FirstGone) {
					tag.FirstGone = row.KeepUntil
				}
				if row.KeepUntil.After(tag.LastGone) {
					tag.LastGone = row.KeepUntil
				}
			}
		}
		flush()
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out.Tags, func(a, b Tag) int {
		c := 0
		switch f.Sort {
		case "entries":
			c = cmp.Compare(b.Entries, a.Entries)
		case "bytes":
			c = cmp.Compare(b.Bytes, a.Bytes)
		}
		return cmp.Or(c, cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Hash, b.Hash))
	})
	out.Total = len(out.Tags)
	if f.Limit > 0 {
		out.Tags = out.Tags[:min(f.Limit, len(out.Tags))]
	}
	return out, nil
}

// tagRowDead judges an entry by its tag row, as long as there is no mark that may
// strike another of its hashes.
func (d *Database) tagRowDead(tx *format.Tx, t format.TagRow) (bool, error) {
	if d.rows == 0 {
		v := d.marks.Check(t.N, t.N, []accel.Hash{t.Hash})
		return !v.Valid || !t.KeepUntil.After(d.now), nil
	}
	row, err := tx.Row(t.Key)
	if err != nil {
		return false, err
	}
	s, _ := d.state(row)
	return s.Dead(), nil
}
