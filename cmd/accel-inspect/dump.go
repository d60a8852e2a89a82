package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) dump() *cobra.Command {
	var all, bodies bool
	cmd := a.command(&cobra.Command{
		Use:   "dump [DB]",
		Short: "Write every response as a line of JSON",
		Long: `Write every response as a line of JSON, in no order: what show --json has of it,
without its position. With --bodies the body is there too, without a coding and
in base64; in the coding that "body_coding" names, if it cannot be decoded.

The database stays locked until everything is written.`,
		Example: `  accel-inspect dump cache.db | jq -r 'select(.status == 404) | .url'
  accel-inspect dump --bodies > cache.jsonl`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		return a.look(path, func(d *inspect.Database) error {
			damaged, err := d.Dump(ctx, all, bodies, func(r inspect.Response) error {
				return printJSON(a.out, r, "")
			})
			a.warn(path, d.BeginsEmpty(), damaged)
			return err
		})
	})
	cmd.Flags().BoolVar(&all, "all", false, "also those that are dead")
	cmd.Flags().BoolVar(&bodies, "bodies", false, "with bodies")
	return cmd
}
