package memory_test

import (
	"testing"

	"github.com/accelhttp/accelerator/internal/memory"
)

// A hit touches no lock.
func TestAHitTouchesNoLock(t *testing.T) {
	c := memory.New(1 << 20)
	plain := entry("/a", "", nil, 1, 100)
	varied := entry("/b", "x", []string{"Accept-Language"}, 1, 100)
	put(t, c, plain)
	put(t, c, varied)
	c.Locked(func() {
		holds(t, c, plain)
		holds(t, c, varied)
	})
}
