package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) keys() *cobra.Command {
	var f inspect.KeyFilter
	var wide bool
	cmd := a.command(&cobra.Command{
		Use:   "keys [DB]",
		Short: "List the stored responses",
		Long: `List the stored responses, by URL. Where a URL has several, what a request must
bear to get each stands in brackets.

SIZE is what all the codings occupy together. EXPIRES is when freshness ends:
if that was some time ago, the response is stale, and kept for the uses that are
left. TAGS counts the tags; --wide lists them, behind the URL.`,
		Example: `  accel-inspect keys cache.db
  accel-inspect keys --tag user:42 --wide
  accel-inspect keys --prefix /users/ --json
  accel-inspect keys --prefix https://example.com/ --all`,
	}, 0, func(ctx context.Context, _ []string, path string) error {
		var keys *inspect.Keys
		err := a.look(path, func(d *inspect.Database) (err error) {
			keys, err = d.Keys(ctx, f)
			return err
		})
		if err != nil {
			return err
		}
		if a.json {
			err = printJSON(a.out, keys, "  ")
		} else {
			err = a.printKeys(keys, f, wide)
		}
		if err == nil && f.Tag+f.Prefix != "" && keys.Total == 0 {
			err = nothing("%s: nothing matches%s", path, hidden(keys.Hidden))
		}
		return err
	})
	cmd.Flags().StringVar(&f.Tag, "tag", "", "only those that bear this `tag`")
	cmd.Flags().StringVar(&f.Prefix, "prefix", "", "only those whose path, or whole URL, begins with this `text`")
	cmd.Flags().IntVar(&f.Limit, "limit", 0, "at most `n` of them (0: all)")
	cmd.Flags().BoolVar(&f.All, "all", false, "also those that are dead")
	cmd.Flags().BoolVarP(&wide, "wide", "w", false, "list the tags, however long the lines become")
	return cmd
}

func (a *app) printKeys(keys *inspect.Keys, f inspect.KeyFilter, wide bool) error {
	a.warn(keys.Database, keys.BeginsEmpty, keys.Damaged)
	if len(keys.Keys) == 0 {
		if f.Tag+f.Prefix == "" {
			a.note("%s: no entries%s", keys.Database, hidden(keys.Hidden))
		}
		return nil
	}
	columns := []column{
		{head: "STATUS"}, {head: "SIZE", right: true}, {head: "AGE", right: true}, {head: "EXPIRES"}, {head: "CODINGS"},
	}
	if f.All {
		columns = append(columns, column{head: "STATE"})
	}
	// What may be of any length stands last, so that nothing is pushed aside.
	if wide {
		columns = append(columns, column{head: "URL"}, column{head: "TAGS"})
	} else {
		columns = append(columns, column{head: "TAGS", right: true}, column{head: "URL"})
	}
	t := &table{columns: columns}
	now := a.now()
	for _, k := range keys.Keys {
		var codings []string
		for _, c := range k.Codings {
			codings = append(codings, safe(c.Coding))
		}
		row := []string{
			fmt.Sprint(k.Status), size(k.Bytes), span(time.Duration(k.Age * float64(time.Second))),
			expires(k, now), strings.Join(codings, " "),
		}
		if f.All {
			row = append(row, string(k.State))
		}
		url := strings.Join(append([]string{urlOf(k)}, selecting(k)...), " ")
		if wide {
			t.add(append(row, url, strings.Join(safeAll(k.Tags), " "))...)
		} else {
			t.add(append(row, fmt.Sprint(len(k.Tags)), url)...)
		}
	}
	return t.write(a.out)
}

func expires(k inspect.Key, now time.Time) string {
	t := k.FreshUntil
	if !k.StaleSince.IsZero() && k.StaleSince.Before(t) {
		t = k.StaleSince
	}
	return relative(t, now)
}

func urlOf(k inspect.Key) string {
	if k.URL == "" {
		return "(no URL)"
	}
	return safe(k.URL)
}

// selecting says what distinguishes a response from others of its URL, each in
// brackets.
func selecting(k inspect.Key) (list []string) {
	for _, f := range k.Request {
		list = append(list, "["+requestField(f)+"]")
	}
	if k.AppKey != "" {
		list = append(list, "[key: "+safe(k.AppKey)+"]")
	}
	if k.Rewritten != "" {
		list = append(list, "[handled as "+safe(k.Rewritten)+"]")
	}
	return list
}

func requestField(f inspect.RequestField) string {
	if len(f.Values) == 0 {
		return "no " + safe(f.Name)
	}
	return safe(f.Name) + ": " + strings.Join(safeAll(f.Values), ", ")
}
