package inspect

import (
	"time"

	"github.com/accelhttp/accelerator/internal/format"
)

// A State says what the library would do with an entry.
type State string

// The states. The first two are alive, the others dead: waiting to be swept.
const (
	Live    State = "live"    // served
	Stale   State = "stale"   // past its freshness, or expired by ExpireTag; kept for the uses that are left
	Expired State = "expired" // past every use
	Purged  State = "purged"  // struck by an invalidation
)

// Dead reports whether an entry of that state is never served again.
func (s State) Dead() bool { return s == Expired || s == Purged }

// state judges an entry by the library's rule. since is when it was first
// expired by ExpireTag, the zero time if it was not.
func (d *Database) state(row format.Row) (s State, since time.Time) {
	v := d.marks.Check(row.At.N, row.At.N, row.Marks)
	since = row.StaleSince
	if since.IsZero() || !v.StaleSince.IsZero() && v.StaleSince.Before(since) {
		since = v.StaleSince
	}
	switch {
	case !v.Valid:
		return Purged, since
	case !row.KeepUntil.After(d.now):
		return Expired, since
	case !since.IsZero(), !row.FreshUntil.After(d.now):
		return Stale, since
	}
	return Live, since
}
