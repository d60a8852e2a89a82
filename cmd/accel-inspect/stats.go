package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) stats() *cobra.Command {
	return a.command(&cobra.Command{
		Use:   "stats [DB]",
		Short: "Describe the database as a whole",
		Long: `Describe the database as a whole: the file, what is in it and in which state,
and where its invalidations stand.`,
		Example: `  accel-inspect stats cache.db
  accel-inspect stats --json | jq .live.entries`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		var st *inspect.Stats
		err := a.look(path, func(d *inspect.Database) (err error) {
			st, err = d.Stats(ctx)
			return err
		})
		if err != nil {
			return err
		}
		if a.json {
			return printJSON(a.out, st, "  ")
		}
		a.printStats(st)
		return nil
	})
}

func (a *app) printStats(st *inspect.Stats) {
	a.warn(st.Database, st.BeginsEmpty, st.Damaged)
	now := a.now()
	line := func(name, format string, args ...any) {
		fmt.Fprintf(a.out, "%-10s  %s\n", name, fmt.Sprintf(format, args...))
	}
	line("file", "%s", safe(st.Database))
	used := int64(st.Pages-st.FreePages) * int64(st.PageSize)
	line("", "%s, %s of it in use; written %s", size(st.FileBytes), size(used), relative(st.Modified, now))
	order := "left in order"
	if !st.Clean {
		order = "not closed by its last user"
	}
	line("", "format %d, %s", st.Version, order)
	line("", "uuid %s", st.UUID)
	line("entries", "%d, %s", st.Entries, size(int64(st.Bytes)))
	for _, s := range []struct {
		name string
		inspect.Amount
	}{{"live", st.Live}, {"stale", st.Stale}, {"expired", st.Expired}, {"purged", st.Purged}} {
		if s.Entries > 0 {
			line("  "+s.name, "%d, %s", s.Entries, size(s.Bytes))
		}
	}
	if !st.LastGone.IsZero() {
		line("", "kept for %s", kept(st.FirstGone, st.LastGone, now))
	}
	line("tags", "%d", st.Tags)
	line("position", "%d", st.Seq)
	if st.Floor > 0 {
		line("floor", "%d", st.Floor)
	}
	if n := int(st.Marks); n > 0 {
		line("marks", "%s to be swept", count(n, "waits", "wait"))
	}
}
