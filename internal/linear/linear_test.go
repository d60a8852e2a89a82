package linear

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/point"
)

// binary is this test with points that do something.
var binary struct {
	once      sync.Once
	dir, path string
	out       []byte
	err       error
}

// start runs a job in a process in which points do something.
func start(t *testing.T, j job) (rep report) {
	t.Helper()
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("it takes the go command to build a program with points:", err)
	}
	b := &binary
	b.once.Do(func() {
		if b.dir, b.err = os.MkdirTemp("", "accel-linear-"); b.err != nil {
			return
		}
		b.path = filepath.Join(b.dir, "linear.test")
		if runtime.GOOS == "windows" {
			b.path += ".exe"
		}
		args := []string{"test", "-c", "-tags", "accelpoints", "-o", b.path}
		if racing {
			args = append(args, "-race")
		}
		b.out, b.err = exec.Command(tool, append(args, ".")...).CombinedOutput()
	})
	require.NoError(t, b.err, "%s", b.out)

	text, err := json.Marshal(j)
	require.NoError(t, err)
	limit := 30 * time.Minute // a history cannot take for ever, but many can take long
	if j.For > 0 {
		limit = j.For + 2*time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.path)
	cmd.Env = append(os.Environ(), jobEnv+"="+string(text))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	require.NoError(t, err, "%s", stderr.String())
	require.NoError(t, json.Unmarshal(out, &rep), "%s", out)
	return rep
}

// seed is another one each time, unless ACCEL_SEED says which.
func seed(t *testing.T) uint64 {
	if text := os.Getenv("ACCEL_SEED"); text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
		return n
	}
	return rand.Uint64N(1 << 32)
}

// artifacts is where what is drawn of a wrong history is left: the directory that
// was asked for with -artifacts, or one that outlives the test.
func artifacts(t *testing.T) string {
	type keeper interface{ ArtifactDir() string } // since Go 1.26
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		if k, ok := any(t).(keeper); ok {
			return k.ArtifactDir()
		}
	}
	return filepath.Join(os.TempDir(), "accel-wrong-histories") // made when there is one
}

func (rep report) check(t *testing.T) {
	t.Helper()
	require.Empty(t, rep.Wrong, "ACCEL_SETTING and ACCEL_SEED make the same batch of histories again")
	require.Empty(t, rep.Errors)
	require.NotZero(t, rep.Hits)
}

func settingNames() (names []string) {
	if one := os.Getenv("ACCEL_SETTING"); one != "" {
		return []string{one}
	}
	for _, s := range settings {
		names = append(names, s.name)
	}
	return names
}

// What clients see, while others change the site under them and every goroutine
// stops where it hurts, is what the promise allows.
func TestHistoriesAreLinearizable(t *testing.T) {
	j := job{
		Settings: settingNames(), Seed: seed(t), Dir: artifacts(t),
		Histories: faults.Rounds(100, 400, 2400),
	}
	rep := start(t, j)
	rep.check(t)
	if len(j.Settings) > 1 {
		require.Equal(t, []point.Place{point.LetIn}, rep.Unvisited, "places that no history has come by")
		require.NotZero(t, rep.Renewed)
	}
	t.Logf("%d histories in %d settings, %d operations, %d hits, %d renewals, 0 violations, in %.0f s; in %d the disk was slow, and keys were not judged",
		rep.Histories, len(j.Settings), rep.Operations, rep.Hits, rep.Renewed, rep.Seconds, rep.Slow)
}

// So it is in a program as it is delivered.
func TestHistoriesOfAnOrdinaryBuild(t *testing.T) {
	j := job{
		Settings: settingNames(), Seed: seed(t), Dir: artifacts(t),
		Histories: faults.Rounds(32, 2*atOnce*len(settings), 10*atOnce*len(settings)),
	}
	rep := j.do()
	rep.check(t)
	t.Logf("%d histories, %d operations, %d hits, 0 violations, in %.0f s", rep.Histories, rep.Operations, rep.Hits, rep.Seconds)
}

// The model notices what it is there to notice.
func TestModel(t *testing.T) {
	for _, c := range []struct {
		name  string
		ops   [][3]int64 // version, call, return
		right bool
	}{
		{"what was purged is not read after the purge", [][3]int64{{0, 40, 50}}, false},
		{"it may be while the purge is under way", [][3]int64{{0, 25, 35}}, true},
		{"and even if it is answered later", [][3]int64{{0, 25, 50}}, true},
		{"the new version is read as soon as it is committed", [][3]int64{{1, 12, 13}}, true},
		{"not before", [][3]int64{{1, 1, 2}}, false},
		{"before the purge, the old one may be read after the new one", [][3]int64{{1, 12, 13}, {0, 14, 15}}, true},
		{"after it, not", [][3]int64{{1, 41, 42}, {0, 43, 44}}, false},
	} {
		h := newHistory(settings[0], 1)
		reg := name{name: tagName(0)}
		h.recordUntil(reg, 0, input{do: commit, version: 1}, 10, 20)
		h.recordUntil(reg, 0, input{do: purge, version: 1}, 20, 30)
		for _, op := range c.ops {
			h.recordUntil(reg, 1, input{do: read, version: uint64(op[0])}, op[1], op[2])
		}
		require.Equal(t, c.right, len(h.judge(t.TempDir(), false)) == 0, c.name)
	}
	key := func(ordered bool, ops ...input) bool {
		h := newHistory(settings[0], 1)
		for i, in := range ops {
			if in.ordered = ordered; in.until == 0 {
				in.until = 1000
			}
			in.done = int64(10*i + 5)
			h.recordUntil(name{name: "key", key: true}, 0, in, int64(10*i), int64(10*i+5))
		}
		return len(h.judge(t.TempDir(), false)) == 0
	}
	one, two := input{do: put, version: 1, at: 5}, input{do: put, version: 2, at: 7}
	getOne, getTwo := input{do: get, version: 1, at: 5}, input{do: get, version: 2, at: 7}
	require.True(t, key(true, one, getOne, two, getTwo))
	require.False(t, key(true, one, two, getOne), "an older version came back")
	require.False(t, key(true, getOne), "from nowhere")
	require.True(t, key(false, two, one, getOne))
	require.False(t, key(true, two, one, getOne), "it went back in its position")
	two.until = 8
	require.True(t, key(true, two, one, getOne), "from one that was over")
}
