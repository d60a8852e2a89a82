// Profile is a small site of profile pages, each made from six sources:
// profile, photo, status, friends, guestbook and badges. Every source is a tag
// that is set where the data is read, so that a page stays until one of the
// rows it was made from changes, and then exactly the pages that show that row
// are rendered again.
//
//	go run ./examples/profile
//
// A strip at the foot of each page says when that copy was rendered, and
// /renders lists what was rendered and what was changed.
//
// There are no accounts: everybody may change anything. Forms are protected
// against other sites by [http.CrossOriginProtection], which relies on headers
// that browsers send by themselves, so pages carry no token and one copy of
// them serves everybody. A token per visitor would have ended that.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/examples/internal/serve"
	"github.com/accelhttp/accelerator/memstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "profile:", err)
		os.Exit(1)
	}
}

// run is the program: it serves until ctx is done.
func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("profile", flag.ContinueOnError)
	flags.SetOutput(out)
	addr := flags.String("addr", "localhost:8081", "`address` to listen on")
	db := flags.String("db", "", "`file` that keeps the cache (default: memory)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}

	logger := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelWarn}))
	data := Sample(slowly, time.Now)
	cache := accel.New(site(data, time.Now, logger), open(*db, logger), accel.WithLogger(logger))
	// The people of this example live in memory and are as they were at every
	// start. What a file has from the last time may show something else. A
	// program whose data survives does not do this.
	if err := cache.InvalidateAll(ctx); err != nil {
		logger.Warn("begin with an empty cache", "err", err)
	}

	err := serve.Run(ctx, *addr, serve.Log(out, cache), func(url string) {
		fmt.Fprintf(out, welcome, url)
	})
	return cmp.Or(err, cache.Close())
}

const welcome = `
  Five people are at home at %[1]s/

  Open Mira's page twice; the second time it is there at once:

    %[1]s/people/42

  Change her status. Her page, the front page and those of her friends Jonas
  and Aiko are rendered again; Tomás and Nell do not know her, and theirs stay:

    curl -d 'status=Gone fishing' %[1]s/people/42/status

  What was rendered when: %[1]s/renders

  Ctrl-C ends it.

`

// open returns the store that the flag -db asks for.
func open(db string, logger *slog.Logger) accel.Store {
	if db == "" {
		return memstore.New()
	}
	return boltstore.Open(db, boltstore.WithLogger(logger))
}

// slowly takes as long as a query to a database in the next room.
func slowly(ctx context.Context) {
	timer := time.NewTimer(15 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
