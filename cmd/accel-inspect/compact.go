package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) compact() *cobra.Command {
	var dry bool
	cmd := a.command(&cobra.Command{
		Use:   "compact [DB]",
		Short: "Make the file smaller",
		Long: `Put a smaller file in the place of the database, with the same in it: every
response, and every invalidation that still has something to strike. A file
shrinks in no other way.

The new file is made beside the old one, as FILE.new-compact-..., and takes its
place when it is whole, checked and synced. Whatever happens meanwhile, a whole
database is at the path. The program must not run; one that is started waits for
the new file. The disk needs room for both.

A database that is damaged is not touched, nor one that is a copy or was
restored. Where there is nothing to gain, the file stays as it is.`,
		Example: `  accel-inspect compact cache.db
  accel-inspect compact --dry-run`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		res, err := inspect.Compact(ctx, path, dry, a.now())
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.out, res, "  ")
		}
		switch {
		case dry && res.After < res.Before:
			fmt.Fprintf(a.out, "would compact %s from %s to about %s\n", safe(path), size(res.Before), size(res.After))
		case !res.Compacted:
			fmt.Fprintf(a.out, "%s stays as it is, %s: there is nothing to gain\n", safe(path), size(res.Before))
		default:
			fmt.Fprintf(a.out, "compacted %s from %s to %s\n", safe(path), size(res.Before), size(res.After))
		}
		return nil
	})
	cmd.Flags().BoolVarP(&dry, "dry-run", "n", false, "only tell what would be gained")
	return cmd
}
