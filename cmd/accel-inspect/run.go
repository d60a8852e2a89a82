package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/inspect"
)

// Exit codes; docs/cli.md promises them.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitNothing = 3 // nothing matched
	exitLocked  = 4 // another process has the database open
)

// A world is what a run has to do with, beside its arguments.
type world struct {
	stdout, stderr io.Writer
	getenv         func(string) string
	now            func() time.Time
	terminal       bool // whether stdout is one
}

// errUsage is what the caller did wrong; errNothing, that there was nothing to
// do.
var (
	errUsage   = errors.New("")
	errNothing = errors.New("")
)

func usage(format string, args ...any) error {
	return fmt.Errorf(format+"%w", append(args, errUsage)...)
}

func nothing(format string, args ...any) error {
	return fmt.Errorf(format+"%w", append(args, errNothing)...)
}

// app is one run.
type app struct {
	world
	out    *bufio.Writer // to stdout
	db     string        // --db
	json   bool          // --json
	called bool          // a command of ours has begun
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, w world) int {
	a := &app{world: w, out: bufio.NewWriter(w.stdout)}
	root := a.root()
	root.SetArgs(args)
	root.SetOut(a.out)
	root.SetErr(w.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if ferr := a.out.Flush(); err == nil && ferr != nil {
		err = fmt.Errorf("write: %w", ferr)
	}
	if err == nil {
		return exitOK
	}
	// What cobra refuses before a command begins is how it was called.
	if !a.called {
		err = usage("%w; see %s --help", err, cmd.CommandPath())
	}
	if errors.Is(err, accel.ErrInvalidURL) {
		err = usage("%w", err)
	}
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	a.complain(strings.TrimPrefix(err.Error(), "accel: "))
	switch {
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errNothing):
		return exitNothing
	case errors.Is(err, inspect.ErrLocked):
		return exitLocked
	}
	return exitError
}

// complain writes one line to stderr, whatever is in the text.
func (a *app) complain(text string) {
	fmt.Fprintf(a.stderr, "accel-inspect: %s\n", safe(strings.Join(strings.Fields(text), " ")))
}

func (a *app) note(format string, args ...any) {
	a.complain("note: " + fmt.Sprintf(format, args...))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "accel-inspect",
		Short: "Look into a cache database, and purge from it",
		Long: `Accel-inspect looks into the database that a program keeps with
github.com/accelhttp/accelerator/boltstore, and purges from it.

The database is the last argument, or --db, or $ACCEL_DB, else cache.db in the
working directory. No program may have it open meanwhile.

Commands that read leave every byte of it as it was. What they leave out unless
--all is given is dead: past every use, or purged, and waiting to be swept.

Exit codes: 0 ok, 1 error, 2 wrong usage, 3 nothing matched, 4 locked by another
process.`,
		Example: `  accel-inspect tags cache.db
  accel-inspect keys --tag user:42
  accel-inspect show /users/42
  accel-inspect purge --tag user:42`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return errors.New("no command")
		},
		Version:       version().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&a.db, "db", "", "the database's `file`")
	root.PersistentFlags().BoolVar(&a.json, "json", false, "print JSON, for programs")
	root.AddCommand(a.tags(), a.keys(), a.show(), a.dump(), a.stats(), a.purge(), a.compact(), a.verify(), a.version())
	return root
}

// command makes a command with args arguments in front of the database. do is
// called with them and the database's path.
func (a *app) command(c *cobra.Command, args int, do func(ctx context.Context, args []string, path string) error) *cobra.Command {
	c.Args = func(cmd *cobra.Command, list []string) error {
		switch {
		case len(list) < args:
			return fmt.Errorf("an argument is missing: %s", cmd.Use)
		case len(list) > args+1:
			return fmt.Errorf("too many arguments: %s", cmd.Use)
		}
		return nil
	}
	c.RunE = func(cmd *cobra.Command, list []string) error {
		path, err := a.path(cmd, list[args:])
		if err != nil {
			return err
		}
		a.called = true
		return do(cmd.Context(), list[:args], path)
	}
	return c
}

// path finds out which database is meant.
func (a *app) path(cmd *cobra.Command, arg []string) (string, error) {
	flag := cmd.Flags().Changed("db")
	switch {
	case flag && a.db == "", len(arg) > 0 && arg[0] == "":
		return "", errors.New("the database's name is empty")
	case flag && len(arg) > 0 && filepath.Clean(arg[0]) != filepath.Clean(a.db):
		return "", fmt.Errorf("two databases, %q and %q", arg[0], a.db)
	case len(arg) > 0:
		return arg[0], nil
	case flag:
		return a.db, nil
	}
	if env := a.getenv("ACCEL_DB"); env != "" {
		return env, nil
	}
	return "cache.db", nil
}

// look opens a database, lets f collect what it wants, and lets the database go
// before anything is printed: a slow terminal should not keep a program from its
// cache.
func (a *app) look(path string, f func(*inspect.Database) error) error {
	d, err := inspect.Open(path, a.now())
	if err != nil {
		return err
	}
	err = f(d)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// warn says what is odd about a database, beside the matter.
func (a *app) warn(path, beginsEmpty string, damaged int) {
	if beginsEmpty != "" {
		a.note("%s: the program will begin empty with this file: %s", path, beginsEmpty)
	}
	if damaged > 0 {
		a.note("%s: %s damaged and left out; accel-inspect verify lists them", path, count(damaged, "row is", "rows are"))
	}
}

// writeBody writes a body to stdout: as it is, but on a terminal without what would
// steer it.
func (a *app) writeBody(body []byte) error {
	if !a.terminal {
		_, err := a.out.Write(body)
		return err
	}
	_, err := a.out.WriteString(safeText(string(body)))
	return err
}
