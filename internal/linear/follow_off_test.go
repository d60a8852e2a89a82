//go:build !accelpoints

package linear

import (
	"time"

	"github.com/accelhttp/accelerator/internal/point"
)

// follow does nothing where points do nothing.
func follow(uint64, []string, map[point.Place]time.Duration, map[point.Place]point.Place, map[point.Interval]time.Duration) {
}

func unvisited() []point.Place { return nil }
