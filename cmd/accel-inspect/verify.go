package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) verify() *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "verify [DB]",
		Short: "Check that everything is as it was written",
		Long: `Read the whole database and check it: how its pages hang together, the checksum
of every row, whether every row leads where it should and is led to, and whether
the marks of invalidations are all there.

If something is wrong it is listed, and the exit code is 1. Nothing is mended:
the program never serves a response whose checksum is wrong, and sets a file
aside that it cannot work with.`,
		Example: `  accel-inspect verify cache.db
  accel-inspect verify --json | jq .problems`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		var v *inspect.Verification
		err := a.look(path, func(d *inspect.Database) (err error) {
			v, err = d.Verify(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if a.json {
			err = printJSON(a.out, v, "  ")
		} else {
			a.printVerification(v)
		}
		if err == nil && !v.OK {
			err = fmt.Errorf("%s: %s", path, count(len(v.Problems)+v.More, "problem", "problems"))
		}
		return err
	})
}

func (a *app) printVerification(v *inspect.Verification) {
	a.warn(v.Database, v.BeginsEmpty, 0)
	for _, p := range v.Problems {
		where := "pages"
		if p.Bucket != "" {
			where = "bucket " + safe(p.Bucket)
		}
		if p.URL != "" {
			where += ", " + safe(p.URL)
		} else if p.Key != "" {
			where += ", key " + p.Key[:min(len(p.Key), 32)]
		}
		fmt.Fprintf(a.out, "%s: %s\n", where, safe(p.Problem))
	}
	if v.More > 0 {
		fmt.Fprintf(a.out, "and %d more\n", v.More)
	}
	if v.OK {
		fmt.Fprintln(a.out, "ok")
	}
	c := v.Checked
	fmt.Fprintf(a.out, "checked %s, %s with %s,\n%s, %s of %s, %s\n",
		count(c.Pages, "page", "pages"),
		count(c.Entries, "entry", "entries"), count(c.Bodies, "body", "bodies"),
		count(c.ExpiryRows, "expiry row", "expiry rows"),
		count(c.TagRows, "row", "rows"), count(c.Tags, "tag", "tags"),
		count(c.Marks, "mark", "marks"))
}
