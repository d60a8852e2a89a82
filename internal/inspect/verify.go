package inspect

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/accelhttp/accelerator/internal/format"
)

// Verification is what Verify has found.
type Verification struct {
	Database    string        `json:"database"`
	BeginsEmpty string        `json:"begins_empty,omitempty"`
	OK          bool          `json:"ok"`
	Checked     format.Counts `json:"checked"`
	Problems    []Problem     `json:"problems"`
	// More is how many problems there are beside those.
	More int `json:"more"`
}

// A Problem is something that is not as it was written.
type Problem struct {
	Bucket  string `json:"bucket"` // "" for the pages that are bbolt's
	Key     string `json:"key"`    // in hexadecimal digits
	URL     string `json:"url,omitempty"`
	Problem string `json:"problem"`
}

// maxProblems is how many are listed: of a file that is damaged all over, more
// would tell nothing more.
const maxProblems = 1000

// Verify reads everything: how the pages hang together, each row's checksum,
// whether each row leads where it should, and whether the marks are all there.
// That something is wrong is no error.
func (d *Database) Verify(ctx context.Context) (*Verification, error) {
	out := &Verification{Database: d.path, BeginsEmpty: d.beginsEmpty, Problems: []Problem{}}
	report := func(f format.Fault) {
		if len(out.Problems) == maxProblems {
			out.More++
			return
		}
		out.Problems = append(out.Problems, Problem{f.Bucket, hex.EncodeToString(f.Key), f.URL, f.Err.Error()})
	}
	alive := func() bool { return ctx.Err() == nil }

	// bbolt's own check is not used: it is not to be stopped, and on a damaged
	// file it may crash on a goroutine where nobody can catch it.
	space, err := format.Tour(d.os, d.info.Size(), alive, report)
	if err != nil {
		report(format.Fault{Err: err})
	} else {
		err := d.view(func(tx *format.Tx) error {
			out.Checked = tx.Verify(alive, report)
			return nil
		})
		if errors.Is(err, ErrDamaged) {
			report(format.Fault{Err: err})
		} else if err != nil {
			return nil, err
		}
	}
	if d.oneMeta {
		report(format.Fault{Err: errors.New("damaged: one of the two meta pages; the last transaction is lost")})
	}
	out.Checked.Pages = space.Pages
	out.OK = len(out.Problems) == 0
	return out, ctx.Err()
}
