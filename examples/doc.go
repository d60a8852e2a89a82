// Package examples has programs that show the cache at work: godoc, the main job
// on real input, and profile, one page made from six sources. Its own test builds
// them and does what a person would: ask, stop, start again, kill, purge.
package examples
