//go:build !race

package accel_test

const racing = false
