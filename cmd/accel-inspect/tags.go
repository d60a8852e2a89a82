package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) tags() *cobra.Command {
	var f inspect.TagFilter
	cmd := a.command(&cobra.Command{
		Use:   "tags [DB]",
		Short: "List the tags, with entries and bytes",
		Long: `List the tags, how many entries bear each, and what these occupy. An entry
counts in full under each of its tags.

KEPT FOR is how long until the first and the last of a tag's entries have no use
any more, not even a stale one.`,
		Example: `  accel-inspect tags cache.db
  accel-inspect tags --sort bytes --limit 10
  accel-inspect tags --prefix user: --json`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		switch f.Sort {
		case "name", "entries", "bytes":
		default:
			return usage("tags cannot be sorted by %q, but by name, entries or bytes", f.Sort)
		}
		var tags *inspect.Tags
		err := a.look(path, func(d *inspect.Database) (err error) {
			tags, err = d.Tags(ctx, f)
			return err
		})
		if err != nil {
			return err
		}
		if a.json {
			err = printJSON(a.out, tags, "  ")
		} else {
			err = a.printTags(tags, f)
		}
		if err == nil && f.Prefix != "" && tags.Total == 0 {
			err = nothing("%s: no tag begins with %q%s", path, f.Prefix, hidden(tags.Hidden))
		}
		return err
	})
	cmd.Flags().StringVar(&f.Prefix, "prefix", "", "only tags that begin with this `text`")
	cmd.Flags().StringVar(&f.Sort, "sort", "name", "in this `order`: name, entries or bytes")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "at most `n` of them (0: all)")
	cmd.Flags().BoolVar(&f.All, "all", false, "also tags that only dead entries bear")
	return cmd
}

func (a *app) printTags(tags *inspect.Tags, f inspect.TagFilter) error {
	a.warn(tags.Database, tags.BeginsEmpty, tags.Damaged)
	t := &table{columns: []column{
		{head: "TAG", most: 44}, {head: "ENTRIES", right: true}, {head: "SIZE", right: true}, {head: "KEPT FOR"},
	}}
	if f.All {
		t.columns = append(t.columns, column{head: "DEAD", right: true}, column{head: "SIZE", right: true})
	}
	now := a.now()
	for _, tag := range tags.Tags {
		name := safe(tag.Tag)
		if name == "" {
			name = "(name lost, hash " + tag.Hash + ")"
		}
		row := []string{name, fmt.Sprint(tag.Entries), size(tag.Bytes), kept(tag.FirstGone, tag.LastGone, now)}
		if f.All {
			row = append(row, fmt.Sprint(tag.DeadEntries), size(tag.DeadBytes))
		}
		t.add(row...)
	}
	if len(t.rows) == 0 {
		if f.Prefix == "" {
			a.note("%s: no tags%s", tags.Database, hidden(tags.Hidden))
		}
		return nil
	}
	return t.write(a.out)
}

// kept says how long until the first and the last of some entries are gone.
func kept(first, last, now time.Time) string {
	if last.IsZero() {
		return "-"
	}
	a, b := span(first.Sub(now)), span(last.Sub(now))
	if a == b {
		return a
	}
	return a + " - " + b
}

// hidden says that there is more than is shown.
func hidden(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf(" (--all shows %d more, expired or purged)", n)
}
