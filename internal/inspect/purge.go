package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/marks"
)

// A Selection says what is to be purged: tags and URLs, or what is expired, or
// everything.
type Selection struct {
	Tags    []string
	URLs    []string // absolute, or path and query alone: then on every host
	Expired bool
	All     bool
}

// PurgeResult is what a purge has done, or would do.
type PurgeResult struct {
	Database    string `json:"database"`
	BeginsEmpty string `json:"begins_empty,omitempty"`
	DryRun      bool   `json:"dry_run"`
	// Entries and Bytes are those of the entries that were selected, dead or
	// alive. None of them is served again.
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
	// Deleted is how many of them are gone from the file. It is less than Entries
	// if the purge was interrupted; the program's own sweeper does the rest.
	Deleted int `json:"deleted"`
	// Selected is what each tag or URL has selected. An entry may be under
	// several.
	Selected []Selected `json:"selected"`
	// Damaged is how many of the rows that were selected could not be read.
	Damaged int `json:"damaged"`
}

// Selected is what one tag or URL selects, or the kind alone.
type Selected struct {
	Kind    string `json:"kind"` // "tag", "url", "expired", "all"
	Name    string `json:"name,omitempty"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
}

// step is how many entries one transaction deletes: enough to share an fsync,
// few enough to be over in some tens of milliseconds.
const step = 500

type target struct {
	mark accel.Mark
	Selected
	found int // rows, be they damaged
}

// Purge deletes entries from a database that no program has open. Like an
// invalidation of the library it first writes marks, and syncs them: from there
// on nothing of it comes back, whatever happens. Then it deletes the entries, in
// small transactions. If ctx ends before the marks are written, nothing was done;
// if it ends later, the program's own sweeper goes on. In both cases the error is
// that of ctx.
//
// Where nothing is selected, and for a dry run, nothing is written. A file that
// is damaged is not written to either. One that is a copy, or was restored, stays
// one: the library will not trust it for having been purged.
func Purge(ctx context.Context, path string, sel Selection, dryRun bool, now time.Time) (*PurgeResult, error) {
	targets, err := sel.targets()
	if err != nil {
		return nil, err
	}
	d, err := open(path, now, !dryRun)
	if err != nil {
		return nil, err
	}
	p := &purge{Database: d, ctx: ctx, targets: targets, out: &PurgeResult{
		Database: path, BeginsEmpty: d.beginsEmpty, DryRun: dryRun, Selected: []Selected{},
	}}
	err = p.run()
	if cerr := d.Close(); err == nil && cerr != nil && !dryRun {
		err = d.explain(cerr)
	}
	return p.out, err
}

func (s Selection) targets() ([]*target, error) {
	var list []*target
	add := func(m accel.Mark, kind, name string) {
		for _, t := range list {
			if t.mark == m && t.Kind == kind {
				return
			}
		}
		list = append(list, &target{mark: m, Selected: Selected{Kind: kind, Name: name}})
	}
	for _, t := range s.Tags {
		add(accel.TagMark(t), "tag", t)
	}
	for _, u := range s.URLs {
		m, err := accel.ParseURLMark(u)
		if err != nil {
			return nil, err
		}
		add(m, "url", u)
	}
	if s.Expired {
		add(accel.Mark{}, "expired", "")
	}
	if s.All {
		add(accel.MarkAll, "all", "")
	}
	return list, nil
}

type purge struct {
	*Database
	ctx     context.Context
	targets []*target
	out     *PurgeResult
	marked  bool // what was selected is never served again
}

func (p *purge) run() error {
	if err := p.plan(); err != nil {
		return err
	}
	found := false
	for _, t := range p.targets {
		p.out.Selected = append(p.out.Selected, t.Selected)
		found = found || t.found > 0
	}
	if !found || p.out.DryRun {
		return nil
	}
	// A bad meta page tells the library that a mark may be missing. The next
	// transaction overwrites it, and with it that knowledge.
	all := p.targets[0].Kind == "all"
	if p.oneMeta && !all {
		return &Error{p.path, ErrDamaged, "damaged: its last transaction is lost",
			"the program will begin empty with it; purge --all does the same"}
	}
	if err := p.ctx.Err(); err != nil {
		return err
	}
	if err := p.delete(all); err != nil {
		return err
	}
	// The purge is done. If there is time, the program finds no journal to read.
	for p.pending.Bytes() > 0 && p.ctx.Err() == nil {
		if err := p.update(func(tx *format.Tx) error { return tx.Settle(settleStep) }); err != nil {
			return err
		}
	}
	return nil
}

// settleStep is how many bytes of rows a transaction writes where they belong. Each may be
// on a page of its own.
const settleStep = 256 << 10

func (p *purge) delete(all bool) error {
	if p.targets[0].Kind == "expired" {
		return p.deleteExpired()
	}
	debt, err := p.mark(all)
	if err != nil {
		return err
	}
	if debt.NewFloor {
		if err := p.sweepFloor(debt.Floor); err != nil {
			return err
		}
	}
	for _, r := range debt.Rows {
		if err := p.sweep(r); err != nil {
			return err
		}
	}
	return nil
}

// plan finds out what is selected.
func (p *purge) plan() error {
	seen := map[uint64]bool{}
	return p.view(func(tx *format.Tx) error {
		for _, t := range p.targets {
			rows := tx.Bearing(t.mark)
			if t.Kind == "expired" {
				rows = tx.Expired(p.now)
			}
			for row, err := range rows {
				if err := p.ctx.Err(); err != nil {
					return err
				}
				t.found++
				if err != nil {
					if !errors.Is(err, format.ErrDamaged) {
						return err
					}
					p.out.Damaged++
					continue
				}
				t.Entries++
				t.Bytes += int64(row.Size)
				if len(p.targets) > 1 {
					if seen[row.ID] {
						continue
					}
					seen[row.ID] = true
				}
				p.out.Entries++
				p.out.Bytes += int64(row.Size)
			}
		}
		return nil
	})
}

// mark does what Invalidate of the library does.
func (p *purge) mark(all bool) (marks.Debt, error) {
	var ms []accel.Mark
	for _, t := range p.targets {
		if t.found > 0 {
			ms = append(ms, t.mark)
		}
	}
	p.marks.Invalidate(ms...)
	debt := p.marks.Owed()
	err := p.update(func(tx *format.Tx) error {
		tx.SetSeq(debt.Seq)
		if debt.NewFloor {
			tx.SetFloor(debt.Floor)
			if all {
				// Whole or not, there is nothing left that they could strike.
				if err := tx.ResetMarks(); err != nil {
					return err
				}
			} else if err := tx.DeleteMarksBelow(debt.Floor); err != nil {
				return err
			}
		}
		return tx.WriteMarks(debt.Rows)
	})
	if err == nil {
		err = p.explain(format.SyncName(p.path, p.os))
	}
	if err == nil && !p.here() {
		err = &Error{p.path, ErrMissing, "was replaced meanwhile", "purge again"}
	}
	p.marked = err == nil
	return debt, err
}

// sweep deletes what a mark strikes, and then the mark, as the library's sweeper
// does. Here it goes at once: there is no memory with copies of it.
func (p *purge) sweep(r marks.Row) error {
	return p.steps(func(tx *format.Tx, from []byte) (n int, next []byte, err error) {
		n, next, err = tx.SweepMark(r, from, step)
		if err == nil && next == nil {
			_, err = tx.DeleteMark(r)
		}
		return n, next, err
	})
}

func (p *purge) sweepFloor(floor uint64) error {
	return p.steps(func(tx *format.Tx, from []byte) (n int, next []byte, err error) {
		n, next, err = tx.SweepFloor(floor, from, step)
		if err == nil && next == nil {
			tx.SetSwept(floor)
		}
		return n, next, err
	})
}

func (p *purge) steps(fn func(tx *format.Tx, from []byte) (n int, next []byte, err error)) error {
	var from []byte
	for more := true; more; {
		err := p.sweepStep(func(tx *format.Tx) (int, error) {
			n, next, err := fn(tx, from)
			if err == nil && next != nil && bytes.Compare(next, from) <= 0 {
				err = errOrder
			}
			from, more = next, next != nil
			return n, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// errOrder means that the keys of a file are out of order, so that sweeping it
// would not come to an end.
var errOrder = fmt.Errorf("%w: keys are in a wrong order", format.ErrDamaged)

func (p *purge) deleteExpired() error {
	most := p.targets[0].found
	for more := true; more; {
		err := p.sweepStep(func(tx *format.Tx) (n int, err error) {
			n, more, err = tx.SweepExpired(p.now, step)
			if err == nil && p.out.Deleted+n > most {
				err = errOrder
			}
			return n, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *purge) sweepStep(fn func(*format.Tx) (int, error)) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	n := 0
	err := p.update(func(tx *format.Tx) (err error) {
		n, err = fn(tx)
		return err
	})
	var e *Error
	if p.marked && errors.As(err, &e) {
		return &Error{e.Path, e.Kind, "the purge holds, but deleting came to an end: " + e.What, e.Advice}
	}
	p.out.Deleted += n
	return err
}

// update runs fn in a write transaction and commits it, which syncs it.
func (d *Database) update(fn func(*format.Tx) error) error {
	if d.faulted {
		return d.explain(errGone)
	}
	return d.explain(d.guard(func() error {
		btx, err := d.bolt.Begin(true)
		if err != nil {
			return err
		}
		tx, err := d.begin(btx)
		if err == nil {
			err = fn(tx)
		}
		if err == nil {
			// More than it adds, so that no more is pending for it; but a mark alone is
			// written wherever it can be.
			err = tx.Settle(2 * tx.Added())
		}
		if err == nil {
			err = tx.Finish()
		}
		if err != nil {
			btx.Rollback()
			return err
		}
		if err := btx.Commit(); err != nil {
			return err
		}
		d.pending = tx.Pending()
		return nil
	}))
}
