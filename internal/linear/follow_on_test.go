//go:build accelpoints

package linear

import (
	"time"

	"github.com/accelhttp/accelerator/internal/point"
)

func follow(seed uint64, off []string, waits map[point.Place]time.Duration, until map[point.Place]point.Place, spans map[point.Interval]time.Duration) {
	p := point.Plan{Seed: seed, Waits: waits, Until: until, Spans: spans}
	for _, name := range off {
		p.Off = append(p.Off, point.LineOf(name))
	}
	point.Follow(p)
}

func unvisited() []point.Place { return point.Unvisited() }
