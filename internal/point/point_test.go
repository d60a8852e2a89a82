package point_test

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/point"
)

// A program of an ordinary build has no trace of the points: nothing of the package
// is in it, though the packages that use it are.
func TestNothingIsLeftInAnOrdinaryBuild(t *testing.T) {
	tool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("it takes the go command to build a program:", err)
	}
	symbols := func(args ...string) string {
		program := filepath.Join(t.TempDir(), "program")
		out, err := exec.Command(tool, append(append([]string{"build", "-o", program}, args...), "../../cmd/accel-inspect")...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		out, err = exec.Command(tool, "tool", "nm", program).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	const points, user = "accelerator/internal/point.", "accelerator/internal/marks.(*Marks)"
	ordinary := symbols()
	require.Contains(t, ordinary, user)
	require.NotContains(t, ordinary, points)
	require.Contains(t, symbols("-tags", "accelpoints"), points, "so one would see it")
}

func TestAnOrdinaryBuildChangesNothing(t *testing.T) {
	if point.Built {
		t.Skip("this is none")
	}
	for _, l := range point.Lines() {
		require.False(t, point.Off(l), l)
		require.Equal(t, l, point.LineOf(l.String()))
	}
	require.Equal(t, time.Hour, point.Span(point.Lapse, time.Hour))
}
