package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) purge() *cobra.Command {
	var sel inspect.Selection
	var dry bool
	cmd := a.command(&cobra.Command{
		Use:   "purge (--tag TAG | --url URL | --expired | --all) [DB]",
		Short: "Remove stored responses",
		Long: `Remove the responses that bear a tag, or are of a URL, in all its variants; or
all that are past every use; or everything. --tag and --url may be given several
times, and together.

It is the same as an invalidation by the program: when it is done, or has been
interrupted after it began, no response that was selected is ever served again.
The program must not run meanwhile; a running one is purged from inside, by
cache.InvalidateTag and the like.

If nothing is selected, nothing is written, and the exit code is 3. A database
that is a copy, or was restored from a backup, stays one: the program will begin
empty with it, purged or not.`,
		Example: `  accel-inspect purge --tag user:42
  accel-inspect purge --tag user:42 --tag friends:42 cache.db
  accel-inspect purge --url https://example.com/a?b=c --url /everywhere
  accel-inspect purge --all --dry-run`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		kinds := 0
		for _, given := range []bool{len(sel.Tags)+len(sel.URLs) > 0, sel.Expired, sel.All} {
			if given {
				kinds++
			}
		}
		switch {
		case kinds == 0:
			return usage("purge what? --tag, --url, --expired or --all; see accel-inspect purge --help")
		case kinds > 1:
			return usage("--expired and --all stand alone")
		}
		for _, t := range sel.Tags {
			if t == "" {
				return usage("the tag is empty")
			}
		}
		res, err := inspect.Purge(ctx, path, sel, dry, a.now())
		if res == nil {
			return err
		}
		if errors.Is(err, context.Canceled) && res.Deleted > 0 {
			err = fmt.Errorf("%s: interrupted: %s deleted; of what was purged by tag, URL or --all, nothing is served again, and the program deletes the rest",
				path, count(res.Deleted, "entry is", "entries are"))
		}
		if err != nil {
			return err
		}
		if a.json {
			err = printJSON(a.out, res, "  ")
		} else {
			a.printPurge(res)
		}
		if err == nil && res.Entries+res.Damaged == 0 {
			err = nothing("%s: nothing matches, and nothing was written", path)
		}
		return err
	})
	// StringArray, not StringSlice: a tag may have commas.
	cmd.Flags().StringArrayVar(&sel.Tags, "tag", nil, "what bears this `tag`")
	cmd.Flags().StringArrayVar(&sel.URLs, "url", nil, "what is of this `URL`, absolute, or path and query alone")
	cmd.Flags().BoolVar(&sel.Expired, "expired", false, "what is past every use")
	cmd.Flags().BoolVar(&sel.All, "all", false, "everything")
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only tell what would be removed")
	return cmd
}

func (a *app) printPurge(res *inspect.PurgeResult) {
	a.warn(res.Database, res.BeginsEmpty, res.Damaged)
	if res.Entries+res.Damaged == 0 {
		return
	}
	verb := "purged"
	if res.DryRun {
		verb = "would purge"
	}
	fmt.Fprintf(a.out, "%s %s, %s\n", verb, count(res.Entries, "entry", "entries"), size(res.Bytes))
	if len(res.Selected) < 2 {
		return
	}
	t := &table{columns: []column{{head: "  SELECTED"}, {most: 50}, {head: "ENTRIES", right: true}, {head: "SIZE", right: true}}}
	for _, s := range res.Selected {
		t.add("  "+s.Kind, safe(s.Name), fmt.Sprint(s.Entries), size(s.Bytes))
	}
	t.write(a.out)
}
