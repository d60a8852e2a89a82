// Package faults breaks things under a site that is served through the cache, and
// looks at what its clients get. The tests are the whole of it; what stands
// outside of them is the site, and the processes it runs in.
//
// How much is tried is said by the variable ACCEL_FAULTS: a short form of
// everything if it is unset, more with "ci", and what docs/reliability.md reports
// with "full".
package faults

import "os"

// Rounds chooses among the three forms.
func Rounds(short, ci, full int) int {
	switch os.Getenv("ACCEL_FAULTS") {
	case "full":
		return full
	case "ci":
		return ci
	}
	return short
}
