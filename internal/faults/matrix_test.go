package faults_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/format"
)

// Variables beside ACCEL_FAULTS: how many runs, by what seed they are drawn, how
// many of them to leave out at the beginning, which class only, on pages of which
// role only ("leaf of t"), and where what fails is kept.
const (
	matrixClassEnv = "ACCEL_FAULTS_CLASS"
	matrixPagesEnv = "ACCEL_FAULTS_PAGES"
	matrixRunsEnv  = "ACCEL_FAULTS_RUNS"
	matrixSeedEnv  = "ACCEL_FAULTS_SEED"
	matrixSkipEnv  = "ACCEL_FAULTS_SKIP"
	matrixKeepEnv  = "ACCEL_FAULTS_KEEP"
)

func matrixNumber(name string, otherwise uint64) uint64 {
	if n, err := strconv.ParseUint(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// draw returns n damages: of every class on every page that it can strike, in an
// order that depends on the seed, and again with other random bytes until there are
// enough. Where there are fewer than all, each class has its share.
func (tp *matrixTemplate) draw(n int, seed uint64) (list []matrixDamage) {
	for round := uint64(0); len(list) < n; round++ {
		byClass := make([][]matrixDamage, len(matrixClasses))
		for i, class := range matrixClasses {
			r := rand.New(rand.NewPCG(seed+round, uint64(i)))
			for page := range tp.roles {
				if !tp.applies(class, page) {
					continue
				}
				if only := os.Getenv(matrixClassEnv); only != "" && only != class {
					continue
				}
				if only := os.Getenv(matrixPagesEnv); only != "" && only != tp.roles[page].String() {
					continue
				}
				times := 1
				if class == "circle" && tp.roles[page].kind == "branch" {
					times = 24 // each has many children, and four places to lead to
				}
				for range times {
					byClass[i] = append(byClass[i], matrixDamage{class: class, page: page, seed: r.Uint64() >> 32})
				}
			}
			r.Shuffle(len(byClass[i]), func(a, b int) { byClass[i][a], byClass[i][b] = byClass[i][b], byClass[i][a] })
		}
		if !slices.ContainsFunc(byClass, func(l []matrixDamage) bool { return len(l) > 0 }) {
			panic("no such class, or no such page")
		}
		for left := true; left; {
			left = false
			for i := range byClass {
				if len(byClass[i]) > 0 {
					list = append(list, byClass[i][0])
					byClass[i] = byClass[i][1:]
					left = true
				}
			}
		}
	}
	return list[:n]
}

// A run is a damage and what became of it.
type matrixRun struct {
	damage matrixDamage
	note   string
	beyond string
	matrixResult
	died    string
	deleted bool
	aside   int
	text    string // of its standard error
}

// try plays a role on a damaged copy of the template.
func (tp *matrixTemplate) try(t testing.TB, dir, child string, d matrixDamage) (out matrixRun) {
	out = matrixRun{damage: d, beyond: tp.beyond(d)}
	require.NoError(t, os.Mkdir(dir, 0o700))
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "cache.db")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	info, err := f.Stat()
	require.NoError(t, err)
	var b []byte
	b, out.note = slices.Clone(tp.now), ""
	if d.class != "" {
		b, out.note = tp.do(b, d)
	}
	adoptInode(b, tp.inode, format.Inode(info))
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	out.play(t, child, matrixOrder{Path: path, Template: tp.path, Versions: tp.versions, Seed: d.seed, Whole: d.class == ""})
	out.look(path, info)
	if keep := os.Getenv(matrixKeepEnv); keep != "" && child == "matrix" && out.bad() {
		name := fmt.Sprintf("%s-%d-%d", strings.ReplaceAll(d.class, " ", "-"), d.page, d.seed)
		os.WriteFile(filepath.Join(keep, name+".db"), b, 0o600)
		os.WriteFile(filepath.Join(keep, name+".txt"), []byte(out.String()), 0o600)
	}
	return out
}

// play starts a child and listens to what it says.
func (r *matrixRun) play(t testing.TB, child string, o matrixOrder) {
	r.hear(faults.Start(t, child, append(o.env(), "GOTRACEBACK=single")))
}

// hear waits for a child's last word.
func (r *matrixRun) hear(c *faults.Child) {
	limit := time.AfterFunc(30*matrixHangs, func() { c.Cmd.Process.Kill() })
	line, rerr := c.Line()
	if rerr == nil {
		rerr = json.Unmarshal([]byte(line), &r.matrixResult)
	}
	err := c.Wait()
	if !limit.Stop() && r.Hung == "" {
		r.Hung = "killed"
	}
	r.text = c.Stderr()
	if r.Hung == "" && (err != nil || rerr != nil && rerr != io.EOF) {
		r.died = fmt.Sprint(err, ": ", matrixLastWords(r.text))
	}
}

func matrixLastWords(s string) string {
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "fatal error:") ||
			strings.HasPrefix(line, "unexpected fault") || strings.HasPrefix(line, "runtime: goroutine stack exceeds") {
			return line
		}
	}
	return s[:min(len(s), 200)]
}

// look finds out what has become of the file.
func (r *matrixRun) look(path string, info os.FileInfo) {
	list, _ := filepath.Glob(path + ".corrupt-*")
	r.aside = len(list)
	r.deleted = !slices.ContainsFunc(append(list, path), func(name string) bool {
		now, err := os.Stat(name)
		return err == nil && os.SameFile(now, info)
	})
}

func (r matrixRun) bad() bool {
	return r.died != "" || r.Hung != "" || r.Wrong.N > 0 || r.Purged.N > 0 && r.beyond == "" || r.Failed.N > 0 || r.deleted || r.aside > 3
}

func (r matrixRun) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s)", r.damage, r.note)
	say := func(what string, f matrixFaulty) {
		if f.N > 0 {
			fmt.Fprintf(&b, "\n\t%s: %d times, first %s", what, f.N, f.First)
		}
	}
	say("wrong", r.Wrong)
	say("purged", r.Purged)
	say("failed", r.Failed)
	if r.died != "" {
		fmt.Fprintf(&b, "\n\tdied: %s", r.died)
	}
	if r.Hung != "" {
		fmt.Fprintf(&b, "\n\thung: %s\n%s", r.Hung, r.text)
	}
	if r.deleted {
		b.WriteString("\n\tthe file is gone")
	}
	if r.text != "" && r.died == "" && r.Hung == "" {
		fmt.Fprintf(&b, "\n%s", r.text)
	}
	return b.String()
}

// outcome is what the store made of the damage.
func (r matrixRun) outcome() string {
	switch {
	case r.died != "" || r.Hung != "":
		return ""
	case r.SetAside > 0:
		return "set aside"
	case r.Refused != "":
		return "refused"
	case r.Empty:
		return "emptied"
	}
	return "served on"
}

// runAll runs the damages, a few at a time, and returns the runs in their order.
func (tp *matrixTemplate) runAll(t testing.TB, child string, list []matrixDamage) []matrixRun {
	dir := matrixDir(t)
	runs := make([]matrixRun, len(list))
	next := make(chan int)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				runs[i] = tp.try(t, filepath.Join(dir, strconv.Itoa(i)), child, list[i])
			}
		})
	}
	for i := range list {
		next <- i
	}
	close(next)
	wg.Wait()
	return runs
}

// A table counts runs by class.
type matrixTable struct {
	columns []string
	rows    map[string]map[string]int
	order   []string
}

func (tb *matrixTable) count(class, column string) {
	if tb.rows == nil {
		tb.rows = map[string]map[string]int{}
	}
	if tb.rows[class] == nil {
		tb.rows[class] = map[string]int{}
		tb.order = append(tb.order, class)
	}
	tb.rows[class][column]++
	if !slices.Contains(tb.columns, column) {
		panic(column)
	}
}

func (tb *matrixTable) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "class\t"+strings.Join(tb.columns, "\t")+"\t")
	sum := map[string]int{}
	line := func(name string, row map[string]int) {
		fmt.Fprint(w, name, "\t")
		for _, c := range tb.columns {
			fmt.Fprint(w, row[c], "\t")
			sum[c] += row[c]
		}
		fmt.Fprintln(w)
	}
	slices.SortFunc(tb.order, func(a, b string) int {
		return cmp.Compare(slices.Index(matrixClasses, a), slices.Index(matrixClasses, b))
	})
	for _, class := range tb.order {
		line(class, tb.rows[class])
	}
	line("all", sum)
	w.Flush()
	return b.String()
}

// tally makes a table of the store's runs.
func tallyMatrix(runs []matrixRun) *matrixTable {
	tb := &matrixTable{columns: []string{"runs", "died", "hung", "wrong", "purged", "deleted", ">3 aside", "failed", "beyond", "set aside", "refused", "emptied", "served on"}}
	for _, r := range runs {
		count := func(column string, is bool) {
			if is {
				tb.count(r.damage.class, column)
			}
		}
		count("runs", true)
		count("died", r.died != "")
		count("hung", r.Hung != "")
		count("wrong", r.Wrong.N > 0)
		count("purged", r.Purged.N > 0 && r.beyond == "")
		count("beyond", r.Purged.N > 0 && r.beyond != "")
		count("deleted", r.deleted)
		count(">3 aside", r.aside > 3)
		count("failed", r.Failed.N > 0)
		count(r.outcome(), r.outcome() != "")
	}
	return tb
}

// tallyNaive makes a table of bbolt's own runs. What died is not counted as
// anything else.
func tallyNaive(runs []matrixRun) *matrixTable {
	tb := &matrixTable{columns: []string{"runs", "died", "hung", "wrong", "missing", "error", "unharmed"}}
	for _, r := range runs {
		tb.count(r.damage.class, "runs")
		column := "unharmed"
		switch {
		case r.died != "":
			column = "died"
		case r.Hung != "":
			column = "hung"
		case r.Wrong.N > 0:
			column = "wrong"
		case r.Missing > 0:
			column = "missing"
		case r.Err != "":
			column = "error"
		}
		tb.count(r.damage.class, column)
	}
	return tb
}

// slowest returns the slowest answers of the runs: of half of them, of 99 in a
// hundred, of all.
func matrixSlowest(runs []matrixRun) (p50, p99, all time.Duration) {
	var list []time.Duration
	for _, r := range runs {
		list = append(list, r.Slowest)
	}
	slices.Sort(list)
	n := len(list)
	return list[n/2], list[n*99/100], list[n-1]
}

// Whatever becomes of the database, the process lives, nothing hangs, every response
// is right in each byte and not older than what was purged, nobody gets an error,
// and no file is deleted.
func TestDamagedDatabase(t *testing.T) {
	t.Parallel()
	tp := newMatrixTemplate(t, matrixDir(t))
	t.Log(tp.describe())
	for _, part := range []struct {
		name string
		do   func(*testing.T, *matrixTemplate)
	}{
		{"NeverHarmsTheSite", matrixPagesDamaged},
		{"HarmsPlainBbolt", matrixNaive},
		{"IsEmptiedWhereMarksAreLost", matrixLostMarks},
		{"LosesOnlyTheTransactionWhoseMetaPageIsLost", matrixLostMeta},
		{"IsNotUsedWhereItsRootIsOld", matrixLostRoot},
		{"IsTakenOverWhenReleased", matrixLocked},
		{"IsTakenOverWhenPermitted", matrixForbidden},
		{"StaysWhereItIsTheFourthTime", matrixAgain},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.do(t, tp)
		})
	}
}

// matrixRounds is faults.Rounds, with less of it for the race detector, under which
// a run takes many times as long.
func matrixRounds(short, ci, full int) int {
	n := faults.Rounds(short, ci, full)
	if matrixRace {
		return max(n/8, 6)
	}
	return n
}

// matrixPagesDamaged tries each class on each page, as far as there is time.
func matrixPagesDamaged(t *testing.T, tp *matrixTemplate) {
	seed := matrixNumber(matrixSeedEnv, rand.Uint64()>>32)
	skip := int(matrixNumber(matrixSkipEnv, 0))
	n := int(matrixNumber(matrixRunsEnv, uint64(matrixRounds(48, 300, 12_000))))
	t.Logf("%s=%d %s=%d %s=%d", matrixSeedEnv, seed, matrixRunsEnv, n, matrixSkipEnv, skip)

	whole := tp.try(t, filepath.Join(matrixDir(t), "whole"), "matrix", matrixDamage{})
	require.False(t, whole.bad(), "%s", whole)
	require.Equal(t, "served on", whole.outcome(), "%s", whole)
	require.Positive(t, whole.Hits, "nothing was read from the file: %+v", whole.matrixResult)
	require.Positive(t, whole.Swept)

	start := time.Now()
	runs := tp.runAll(t, "matrix", tp.draw(skip+n, seed)[skip:])
	p50, p99, all := matrixSlowest(runs)
	t.Logf("%d runs in %v; slowest response of a run: p50 %v, p99 %v, max %v\n%v",
		len(runs), time.Since(start).Round(time.Second), p50, p99, all, tallyMatrix(runs))
	for _, r := range runs {
		if r.bad() {
			t.Errorf("%s: %s", tp.roles[r.damage.page], r)
		}
	}
}

// matrixNaive does the same damage to a program that trusts bbolt. That it is harmed
// is not this test's business, but what a matrix is worth that harms matrixNobody.
func matrixNaive(t *testing.T, tp *matrixTemplate) {
	if matrixRace {
		t.Skip("nothing of ours runs in it that the race detector could look at")
	}
	seed := matrixNumber(matrixSeedEnv, rand.Uint64()>>32)
	n := int(matrixNumber(matrixRunsEnv, uint64(matrixRounds(24, 120, 12_000))))
	t.Logf("%s=%d", matrixSeedEnv, seed)
	whole := tp.try(t, filepath.Join(matrixDir(t), "whole"), "matrix naive", matrixDamage{})
	require.Empty(t, whole.died+whole.Hung+whole.Err)
	require.Zero(t, whole.Wrong.N+whole.Missing)
	runs := tp.runAll(t, "matrix naive", tp.draw(n, seed))
	t.Logf("plain bbolt\n%v", tallyNaive(runs))
	require.True(t, slices.ContainsFunc(runs, func(r matrixRun) bool { return r.died != "" }))
}
