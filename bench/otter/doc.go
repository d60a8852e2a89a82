// Package otter measures the memory tier of our stores, internal/memory, beside
// otter v2, the strongest cache of that kind in Go: hits a second, what share of a
// trace is a hit, and how many live bytes the same bound lets grow. It is a module of
// its own, so that nobody downloads a rival for nothing.
//
// Both hold the same entries under the same keys, bounded by the bytes that
// memory.Size counts. They are not the same thing: otter knows no variants of a
// resource, and ours neither loads nor expires.
//
// An iteration of BenchmarkHit is a turn of about a millisecond, see package turns;
// one of the others is a trace.
//
//	cd bench/otter
//	go test -run '^$' -bench Hit -benchtime 300x .     # 10 s
//	go test -run '^$' -bench 'Ratio|Live' -benchtime 1x .   # 20 s
package otter
