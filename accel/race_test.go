//go:build race

package accel_test

// Under the race detector a sync.Pool forgets at random, so that allocations
// cannot be counted.
const racing = true
