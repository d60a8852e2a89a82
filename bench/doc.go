// Package bench measures the cache from outside, as a site has it: through
// ServeHTTP, with pages that examples/godoc renders and with a small JSON answer.
//
// Measured are time, bytes and allocations of a request in process: without a
// network, whose cost is net/http's and larger than all of this. The floor, a
// handler that writes the same prepared bytes and fields, runs beside it; the
// machines this is run on are shared, so the ratio says more than the time.
//
// Not measured are clients, connections and other caches.
//
//	go test -run '^$' -bench . -count 6 ./bench | tee new.txt
//	go run golang.org/x/perf/cmd/benchstat@latest new.txt
package bench
