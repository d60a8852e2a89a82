package inspect

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/internal/format"
)

// A Compaction is what Compact has done, or would do.
type Compaction struct {
	Database string `json:"database"`
	DryRun   bool   `json:"dry_run"`
	// Before and After are the file's sizes. For a dry run, After is what is in
	// use: the new file is seldom larger.
	Before int64 `json:"before"`
	After  int64 `json:"after"`
	// Compacted says that there is a new file. It is false for a dry run, and
	// where a new one would be no smaller.
	Compacted bool `json:"compacted"`
	Entries   int  `json:"entries"`
}

// Compact puts a smaller file in the place of one that no program has open, with
// the same in it: every entry, every mark, and where positions and the budget
// stand. At each moment, whatever happens, a whole file is at the path, and the
// old one is locked all the time.
//
// The new file is made beside the old one, locked, synced, compared with it row by
// row, and renamed over it. Nobody can open it before the rename is durable: an
// invalidation that is written to it must not be undone by a power cut that brings
// the old file back.
//
// A file that is damaged in any way, that is a copy or was restored, is refused
// and not touched.
func Compact(ctx context.Context, path string, dryRun bool, now time.Time) (*Compaction, error) {
	// Renaming is to act on the file and not on a link to it.
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	if !canCompact && !dryRun {
		return nil, &Error{path, errors.ErrUnsupported, "cannot be compacted on this system", ""}
	}
	d, err := open(real, now, !dryRun)
	if err != nil {
		return nil, renamed(err, path)
	}
	c := &compaction{Database: d, ctx: ctx, out: &Compaction{
		Database: path, DryRun: dryRun, Before: d.info.Size(), Entries: int(d.meta.Entries),
	}}
	err = c.run()
	if cerr := d.Close(); err == nil && cerr != nil && !dryRun {
		err = d.explain(cerr)
	}
	return c.out, renamed(err, path)
}

// compactAt is told how far a compaction is. Tests put in what happens then; an error
// counts as one of the system's.
var compactAt = func(moment string) error { return nil }

// renamed names the file in an error as the caller does.
func renamed(err error, path string) error {
	var e *Error
	if errors.As(err, &e) {
		return &Error{path, e.Kind, e.What, e.Advice}
	}
	return err
}

type compaction struct {
	*Database
	ctx context.Context
	out *Compaction

	temp string
	new  *bolt.DB
	file *os.File // the one inside new
}

func (c *compaction) alive() bool { return c.ctx.Err() == nil }

func (c *compaction) run() error {
	if c.beginsEmpty != "" {
		return &Error{c.path, ErrDamaged, "not compacted: the program will begin empty with it: " + c.beginsEmpty,
			"run the program, or delete it"}
	}
	if c.out.DryRun {
		used := int64(c.space.Pages-c.space.FreePages) * int64(c.space.PageSize)
		c.out.After = min(used, c.out.Before)
		return nil
	}
	format.RemoveLeft(c.path, c.now)
	// A copy would have the same faults, in a file that looks like new.
	v, err := c.Verify(c.ctx)
	if err != nil {
		return err
	}
	if !v.OK {
		return &Error{c.path, ErrDamaged, fmt.Sprintf("not compacted: damaged (%s)", v.Problems[0].Problem),
			"accel-inspect verify lists what is wrong"}
	}
	defer c.drop()
	err = c.make()
	if err == nil {
		err = compactAt("copied")
	}
	if err == nil {
		err = c.check()
	}
	if err == nil {
		err = compactAt("checked")
	}
	if cerr := c.ctx.Err(); cerr != nil {
		return cerr
	}
	if err != nil {
		return c.failed(err)
	}
	info, err := c.file.Stat()
	if err != nil {
		return c.failed(err)
	}
	if info.Size() >= c.out.Before {
		c.out.After = c.out.Before
		return nil
	}
	c.out.After = info.Size()
	return c.replace()
}

// make makes the copy.
func (c *compaction) make() (err error) {
	c.temp = c.path + format.CompactSuffix + strconv.Itoa(os.Getpid()) + "-" + strings.ToLower(rand.Text()[:8])
	c.file, err = os.OpenFile(c.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	// Before there is anything in it.
	if err := inherit(c.file, c.info); err != nil {
		return &Error{c.path, ErrPermission, "not compacted: the new file would belong to somebody else: " + plain(err).Error(),
			"use the account that the program runs under"}
	}
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	if err := c.guard(func() (err error) {
		c.new, err = bolt.Open(c.temp, 0, &bolt.Options{
			Timeout:      lockWait,
			FreelistType: bolt.FreelistMapType,
			NoStatistics: true,
			PageSize:     c.space.PageSize,
			NoSync:       true, // it is synced once, when it is whole
			NoGrowSync:   true, // and has no pages that are not written
			OpenFile:     func(string, int, os.FileMode) (*os.File, error) { return c.file, nil },
		})
		return err
	}); err != nil {
		return err
	}
	if err := c.both(nil, func(old, _ *bolt.Tx) error {
		return format.Copy(c.new, old, format.Inode(info), c.alive)
	}); err != nil {
		return err
	}
	return c.file.Sync()
}

// both runs f in a reading transaction of the old database and, if that is not
// nil, one of the new.
func (c *compaction) both(new *bolt.DB, f func(old, new *bolt.Tx) error) error {
	return c.guard(func() error {
		return c.bolt.View(func(old *bolt.Tx) error {
			if new == nil {
				return f(old, nil)
			}
			return new.View(func(tx *bolt.Tx) error { return f(old, tx) })
		})
	})
}

// check looks at the copy as the library does when it opens a file, and compares
// it with the original.
func (c *compaction) check() error {
	info, err := c.file.Stat()
	if err != nil {
		return err
	}
	look, err := format.Examine(c.file, info.Size())
	if err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	if look.Empty || look.OneMeta {
		return errors.New("the copy is not whole")
	}
	if _, err := format.Tour(c.file, info.Size(), c.alive, nil); err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	return c.both(c.new, func(old, new *bolt.Tx) error {
		tx, err := format.Begin(new)
		if err != nil {
			return err
		}
		if _, whole, err := tx.Marks(); err != nil || !whole || tx.Meta().Inode != format.Inode(info) {
			return fmt.Errorf("the marks of the copy are not whole: %v", err)
		}
		return format.Same(old, new, c.alive)
	})
}

// replace puts the copy in the place of the original.
func (c *compaction) replace() error {
	if !c.here() {
		return &Error{c.path, ErrMissing, "was replaced meanwhile", "compact again"}
	}
	if err := os.Rename(c.temp, c.path); err != nil {
		return c.failed(err)
	}
	c.temp = ""
	c.out.Compacted = true
	err := compactAt("renamed")
	if err == nil {
		err = format.SyncDir(c.path)
	}
	if err == nil {
		return nil
	}
	// A power cut may bring the old file back, in which what the program is going
	// to invalidate in the new one is not. So nothing in the old one is valid.
	if perr := c.update(func(tx *format.Tx) error {
		tx.SetFloor(c.meta.Seq + 1)
		return nil
	}); perr != nil {
		return &Error{c.path, err, "compacted, but neither is the directory synced (" + plain(err).Error() + ") nor the old file marked: " + perr.Error(),
			"sync the file system before the program is started"}
	}
	return nil
}

// drop lets the copy go, and removes it if it has not become the file.
func (c *compaction) drop() {
	// Removed before its lock is let go: it was never anybody's.
	if c.temp != "" {
		os.Remove(c.temp)
	}
	switch {
	case c.new != nil && !c.faulted:
		c.guard(c.new.Close)
	case c.file != nil:
		c.file.Close()
	}
}

// failed explains what went wrong with the copy. The original is as it was.
func (c *compaction) failed(err error) error {
	var e *Error
	if errors.As(err, &e) {
		return err
	}
	what, advice := plain(err).Error(), ""
	if full := format.NoRoom(err); full != nil {
		err, what = full, "no space left for a copy"
		advice = "free some on the same file system, or delete the file if the cache may begin empty"
	}
	return &Error{c.path, err, "not compacted, and not touched: " + what, advice}
}

// plain drops the path from an error of the system's.
func plain(err error) error {
	var pe *fs.PathError
	var le *os.LinkError
	switch {
	case errors.As(err, &pe):
		return pe.Err
	case errors.As(err, &le):
		return le.Err
	}
	return err
}
