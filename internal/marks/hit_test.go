package marks_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/marks"
)

// A hit on an entry that was looked at since the last invalidation touches no
// lock: it is judged while somebody holds the only one there is.
func TestAHitTouchesNoLock(t *testing.T) {
	m := marks.New(1, 0, 0)
	now := time.Unix(1e9, 0)
	mark := accel.TagMark("a")
	early := entry(m.Begin(now), accel.TagMark("b"))
	m.Invalidate(mark)
	late := entry(m.Begin(now), mark)
	seen := m.Check(early.At.N, early.At.N, early.Marks)
	require.True(t, seen.Valid)

	held := false
	require.NoError(t, m.Admit(late, nil, false, func() error {
		held = true
		gen := m.Gen()
		require.True(t, m.Check(late.At.N, late.At.N, late.Marks).Valid)
		require.True(t, m.CheckRead(gen, late.At.N, late.Marks).Valid)
		require.True(t, m.Check(early.At.N, seen.UpTo, early.Marks).Valid)
		return nil
	}))
	require.True(t, held)
}
