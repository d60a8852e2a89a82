//go:build !accelpoints

package point

import (
	"sync"
	"time"
)

// Built reports whether the points do something in this build.
const Built = false

// At is a place.
func At(Place) {}

// Off reports whether a line is switched off.
func Off(Line) bool { return false }

// Gap lets others in where l is held, if the line is switched off that keeps them
// out.
func Gap(Line, sync.Locker) {}

// Span returns how long an interval is: as long as it is given.
func Span(_ Interval, d time.Duration) time.Duration { return d }
