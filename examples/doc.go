// Package examples has programs that show the cache at work: godoc, the main job
// on real input, profile, one page made from six sources, and proxy, a caching
// reverse proxy. Its own test builds the first two and does what a person would:
// ask, stop, start again, kill, purge.
package examples
