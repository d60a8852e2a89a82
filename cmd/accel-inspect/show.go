package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/internal/inspect"
)

func (a *app) show() *cobra.Command {
	var all, body bool
	var variant int
	cmd := a.command(&cobra.Command{
		Use:   "show URL [DB]",
		Short: "Show what is stored of a URL",
		Long: `Show every response that is stored of a URL: what a request must bear to get it,
its header, tags, codings and times.

The URL is absolute, or path and query alone, which means every host. It is
taken as clients send it: /%7Ea is not /~a.

--body writes the body, without a coding, and nothing else. To a terminal it is
written without what would steer it.`,
		Example: `  accel-inspect show /users/42
  accel-inspect show 'https://example.com/search?q=go' cache.db
  accel-inspect show --body --variant 2 /users/42 > page.html`,
	}, 1, func(ctx context.Context, args []string, path string) error {
		if variant != 0 && !body || body && a.json {
			return usage("--variant goes with --body, and --body without --json (dump --bodies has both)")
		}
		var found *inspect.Responses
		err := a.look(path, func(d *inspect.Database) (err error) {
			found, err = d.Show(ctx, args[0], all, body)
			return err
		})
		if err != nil {
			return err
		}
		n := len(found.Responses)
		switch {
		case a.json:
			err = printJSON(a.out, found, "  ")
		case !body:
			err = a.printResponses(found)
		case n > 1 && variant == 0:
			return fmt.Errorf("%s: %s has %d responses; choose one by --variant 1 to %d, in the order that show has them", path, args[0], n, n)
		case n > 0 && (variant < 0 || variant > n):
			return usage("%s: there is no variant %d of %d", path, variant, n)
		case n > 0:
			r := found.Responses[max(variant, 1)-1]
			if r.BodyCoding != "" {
				return fmt.Errorf("%s: the body is stored as %q alone, which cannot be decoded", path, r.BodyCoding)
			}
			a.warn(found.Database, found.BeginsEmpty, found.Damaged)
			err = a.writeBody(r.Body)
		}
		if err == nil && n == 0 {
			err = nothing("%s: nothing is stored of %s%s", path, args[0], hidden(found.Hidden))
		}
		return err
	})
	cmd.Flags().BoolVar(&all, "all", false, "also those that are dead")
	cmd.Flags().BoolVar(&body, "body", false, "write the body, and nothing else")
	cmd.Flags().IntVar(&variant, "variant", 0, "with --body: the `n`th, if there are several")
	return cmd
}

func (a *app) printResponses(found *inspect.Responses) error {
	a.warn(found.Database, found.BeginsEmpty, found.Damaged)
	for i, r := range found.Responses {
		if i > 0 {
			fmt.Fprintln(a.out)
		}
		a.printResponse(r)
	}
	return nil // writing is checked at the end
}

func (a *app) printResponse(r inspect.Response) {
	now := a.now()
	fmt.Fprintln(a.out, urlOf(r.Key))
	line := func(name string, values ...string) {
		for _, v := range values {
			fmt.Fprintf(a.out, "  %-9s  %s\n", name, v)
			name = ""
		}
	}
	for _, f := range r.Request {
		line("request", requestField(f))
	}
	if r.AppKey != "" {
		line("key", safe(r.AppKey))
	}
	if r.Rewritten != "" {
		line("rewritten", "handled as "+safe(r.Rewritten))
	}
	line("status", fmt.Sprint(r.Status))
	state := string(r.State)
	if !r.StaleSince.IsZero() {
		state += ", marked stale " + relative(r.StaleSince, now)
	}
	line("state", state)
	line("made", moment(r.Date, now))
	line("fresh", "until "+moment(r.FreshUntil, now))
	kept := "until " + moment(r.KeepUntil, now)
	if r.StaleWhileRevalidate > 0 {
		kept += ", stale while revalidated " + seconds(r.StaleWhileRevalidate)
	}
	if r.StaleIfError > 0 {
		kept += ", stale if error " + seconds(r.StaleIfError)
	}
	line("kept", kept)
	by := "stored by HTTP's rules"
	if r.ByHandler {
		by = "stored by CacheFor"
	}
	if r.Public {
		by += ", public"
	}
	if r.MustRevalidate {
		by += ", must be revalidated"
	}
	line("why", by)
	if r.Position != nil {
		line("position", fmt.Sprint(*r.Position))
	}
	line("tags", safeAll(r.Tags)...)
	var codings []string
	for _, c := range r.Codings {
		codings = append(codings, fmt.Sprintf("%-8s  %8s  etag %s", safe(c.Coding), size(c.Bytes), safe(c.ETag)))
	}
	length := "of unknown length"
	if r.Length >= 0 {
		length = size(r.Length)
	}
	line("body", length+" before coding; everything together "+size(r.Bytes))
	line("", codings...)
	if len(r.Vary) > 0 {
		line("vary", strings.Join(safeAll(r.Vary), ", "))
	}
	if r.ETag != "" {
		line("validator", safe(r.ETag)+", of the handler")
	}
	line("control", fieldLines(r.Control)...)
	line("header", fieldLines(r.Header)...)
}

func fieldLines(fields []inspect.Field) (lines []string) {
	for _, f := range fields {
		for _, v := range f.Values {
			lines = append(lines, safe(f.Name)+": "+safe(v))
		}
	}
	return lines
}

func seconds(s float64) string { return span(time.Duration(s * float64(time.Second))) }
