package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	bolt "go.etcd.io/bbolt"
	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write what the commands print into the scripts")

// leakless is a testing.M that fails if a test has left a goroutine.
type leakless struct{ *testing.M }

func (m leakless) Run() int {
	code := m.M.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){
		"accel-inspect": func() { os.Exit(inspectAsOf()) },
		"makedb":        func() { os.Exit(makedb()) },
	})
}

// inspectAsOf is main with the scripts' clock.
func inspectAsOf() int {
	return run(context.Background(), os.Args[1:], world{
		stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv, now: clock, terminal: os.Getenv("TERMINAL") != "",
	})
}

func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata/script",
		UpdateScripts: *update,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"unchanged": unchanged,
			"waitfor":   waitFor,
			"exits":     exits,
			"cut":       cut,
			"damage":    damage,
			"foreign":   foreign,
		},
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars, "EVIL=\x1b[31mred.db")
			return nil
		},
		RequireUniqueNames: true,
	})
}

// exits CODE COMMAND... runs a command and wants that exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	begin := time.Now()
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
	if took := time.Since(begin); took > 5*time.Second { // one, on a machine that is not busy
		ts.Fatalf("it took %s", took)
	}
}

// unchanged FILE CODE COMMAND... is exits for a command of which it wants that it
// leaves every byte of a file, its times, and the names in the directory as they
// were.
func unchanged(ts *testscript.TestScript, neg bool, args []string) {
	file := ts.MkAbs(args[0])
	before := snapshot(ts, file)
	exits(ts, neg, args[1:])
	if after := snapshot(ts, file); after != before {
		ts.Fatalf("the file was changed: %s, then %s", before, after)
	}
}

// cut FILE SIZE cuts a file off.
func cut(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
}

// damage FILE TEXT changes the first letter of a text wherever the file has it.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	data, err := os.ReadFile(ts.MkAbs(args[0]))
	ts.Check(err)
	if !bytes.Contains(data, []byte(args[1])) {
		ts.Fatalf("there is no %q in %s", args[1], args[0])
	}
	changed := string(args[1][0]^1) + args[1][1:]
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), bytes.ReplaceAll(data, []byte(args[1]), []byte(changed)), 0o600))
}

func snapshot(ts *testscript.TestScript, file string) string {
	data, err := os.ReadFile(file)
	ts.Check(err)
	info, err := os.Stat(file)
	ts.Check(err)
	list, err := os.ReadDir(filepath.Dir(file))
	ts.Check(err)
	return fmt.Sprintf("%x %s %v", sha256.Sum256(data), info.ModTime(), list)
}

// waitfor FILE waits until a file exists.
func waitFor(ts *testscript.TestScript, _ bool, args []string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for giveUp := time.After(10 * time.Second); ; {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-giveUp:
			ts.Fatalf("%s does not appear", args[0])
		}
	}
}

// foreign FILE makes a bbolt file of some other program.
func foreign(ts *testscript.TestScript, _ bool, args []string) {
	db, err := bolt.Open(ts.MkAbs(args[0]), 0o600, nil)
	ts.Check(err)
	ts.Check(db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket([]byte("m"))
		return err
	}))
	ts.Check(db.Close())
}
