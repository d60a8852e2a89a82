//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "peers:", err)
		}
		os.Exit(1)
	}
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) != 0 {
		switch args[0] {
		case "serve":
			return runServe(args[1:], stdin, stdout)
		case "load":
			return runLoad(stdin, stdout)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return conduct(ctx, args, stdout, stderr)
}

// A session is one call of this program, with what its flags say.
type session struct {
	ctx      context.Context
	out, log io.Writer
	dir      string
	servers  []server
	contents []string
	rounds   int
	duration time.Duration
	conns    int
	entries  int
	purges   int
	limit    time.Duration
	notes    []string // said below the tables
}

func conduct(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	s := &session{ctx: ctx, out: stdout, log: stderr}
	flags := flag.NewFlagSet("peers", flag.ContinueOnError)
	flags.SetOutput(stderr)
	tables := flags.String("tables", "hits,tags", "which tables")
	names := flags.String("servers", "", "which servers, all without it: "+strings.Join(serverNames(), ","))
	contents := flags.String("contents", "json,html", "what the hits are of: 1 KiB of JSON, a page of 16 KiB as gzip")
	flags.IntVar(&s.rounds, "rounds", 5, "rounds of hits, in each of which every server has its turn")
	flags.DurationVar(&s.duration, "duration", 2*time.Second, "how long a turn is")
	flags.IntVar(&s.conns, "conns", 16, "connections, each with one request at a time")
	flags.IntVar(&s.entries, "entries", 100_000, "entries of one tag")
	flags.IntVar(&s.purges, "purges", 3, "how often they are purged")
	flags.DurationVar(&s.limit, "fill", patience, "how long it may take to fill a server with them")
	cores := flags.String("cores", "", "the server's core and the client's; the default is the first two")
	dir := flags.String("dir", "", "where files go; the default is a temporary directory")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 0 {
		return fmt.Errorf("unexpected %q", flags.Arg(0))
	}
	if s.rounds < 1 || s.duration <= 0 || s.conns < 1 || s.purges < 1 || s.entries < samples {
		return fmt.Errorf("there is at least one round, connection and purge, a duration, and %d entries", samples)
	}
	if err := chooseCores(*cores); err != nil {
		return err
	}
	s.contents = strings.Split(*contents, ",")
	if err := s.choose(*names); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(*dir, "peers")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	s.dir = tmp

	for i, table := range strings.Split(*tables, ",") {
		if i > 0 {
			fmt.Fprintln(s.out)
		}
		switch table {
		case "hits":
			err = s.hits()
		case "tags":
			err = s.tags()
		default:
			err = fmt.Errorf("no table %q", table)
		}
		if err != nil {
			return err
		}
	}
	for i, n := range s.notes {
		if i == 0 {
			fmt.Fprintln(s.out)
		}
		fmt.Fprintln(s.out, n)
	}
	return nil
}

func serverNames() []string {
	var names []string
	for _, s := range servers() {
		names = append(names, s.name)
	}
	return names
}

// choose selects servers. The bare handler is always there, because all others
// are compared with it.
func (s *session) choose(names string) error {
	if names == "" {
		s.servers = servers()
		return nil
	}
	wanted := append(strings.Split(names, ","), "bare")
	for _, v := range servers() {
		if slices.Contains(wanted, v.name) {
			s.servers = append(s.servers, v)
		}
	}
	for _, n := range wanted {
		if !slices.Contains(serverNames(), n) {
			return fmt.Errorf("no server %q", n)
		}
	}
	return nil
}

func (s *session) note(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if !slices.Contains(s.notes, line) {
		s.notes = append(s.notes, line)
	}
}

func (s *session) progress(format string, args ...any) { fmt.Fprintf(s.log, format+"\n", args...) }

// start starts a server in a directory of its own. One that is not installed is
// nil, and a note.
func (s *session) start(v server, set setting) (*instance, error) {
	if err := s.ctx.Err(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(set.dir, 0o700); err != nil {
		return nil, err
	}
	in, err := v.start(set)
	if errors.Is(err, errMissing) {
		s.note("%s is left out: %v.", v.title, err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.name, err)
	}
	return in, nil
}

func (s *session) place(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}
