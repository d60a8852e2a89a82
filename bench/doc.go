// Package bench measures the cache from outside, as a site has it: through
// ServeHTTP, and where the question is one of storing, through accel.Store.
//
// # What is measured
//
// Hits (BenchmarkHit): 1 KiB of JSON; 16 KiB of HTML sent as gzip, as zstd, and
// decoded for who takes neither; 10 000 pages of 8 KiB, one after another; 304,
// HEAD, a range. Serial and parallel; from memstore, from boltstore's memory tier,
// and from its file without one (disk), which is in the page cache.
//
// The same for 64 goroutines at once (BenchmarkCrowd), among them misses and beside
// them invalidations, with how long they wait for locks.
//
// Misses: with and without compression, 1, 8 and 64 KiB (BenchmarkMiss); a crowd for
// one page (BenchmarkCoalesced); what storing takes from a handler of a millisecond
// (BenchmarkMissOverhead).
//
// Invalidations: of tags that 1, 1 000 and N entries bear, N as below
// (BenchmarkInvalidate), the same beside 1 000 stores a second
// (BenchmarkInvalidateBesideStores), hits beside 1 000 invalidations a second
// (BenchmarkHitBesideInvalidations), hits while many marks are remembered
// (BenchmarkMarks), and how soon what was struck is gone (BenchmarkSweep).
//
// The file: stores a second, bytes written for each byte stored (BenchmarkStoreRate,
// BenchmarkStoreSlowly), from opening and from exec to the first hit
// (BenchmarkRestart), anonymous memory (BenchmarkResident), and an hour of entries that
// come, expire and are made invalid (BenchmarkChurn).
//
// Eviction (BenchmarkEviction): the share of hits on traces by Zipf's law, beside a
// perfect LRU of the same bytes. The memory tier beside another cache of its kind is
// in bench/otter, the whole beside other caches in bench/peers: modules of their own,
// for what they need.
//
// # With what
//
// Pages are pieces of what examples/godoc renders (internal/content), because the
// size of a page in gzip, and so nearly everything, depends on what it says. Requests
// have the fields of a browser.
//
// # How
//
// The machines this is run on are shared. So what is measured runs by turns with a
// floor, a millisecond each (internal/turns): x/floor is the median of the ratios of
// all pairs of turns, and says more than ns/op, the median of our turns. mean-ns/op
// has in it the collection of garbage, and whatever else went on. Of a hit the floor
// is a handler that has the same fields and bytes ready and writes them without a look
// at the request; of a miss it is the handler, and the compression. Both write to a
// ResponseWriter that keeps its header map, as net/http does for a connection, and
// counts. B/op and allocs/op are those of our turns alone, and of all goroutines.
//
// An iteration, which -benchtime counts, is a turn where there is a floor, and
// otherwise what the benchmark says; ns/op, B/op and allocs/op are always those of one
// operation. The time is that of whoever asks: a parallel one is what the machine
// gets done.
//
// TestNoRegressions runs with the tests. It looks at allocations and ratios, and at no
// time.
//
// # What is not measured
//
// The network, clients and connections, whose cost is net/http's and larger than all
// of this; a file that is not in the page cache, which is the disk's time; and several
// processes. Figures of two runs of one table may be compared, those of two machines
// may not.
//
// # Running it
//
//	go test -run '^$' -bench 'Hit$/' -benchtime 100x ./bench                   # 50 s
//	go test -run '^$' -bench Crowd -benchtime 100x ./bench                     # 20 s
//	go test -run '^$' -bench 'Miss$|Coalesced' -benchtime 100x ./bench         # 60 s
//	go test -run '^$' -bench MissOverhead -benchtime 60x ./bench               # 60 s
//	go test -run '^$' -bench 'Invalidate$' -benchtime 10x ./bench              # 60 s
//	go test -run '^$' -bench 'InvalidateBesideStores' -benchtime 20x ./bench   # 20 s
//	go test -run '^$' -bench 'BesideInvalidations' -benchtime 1s ./bench       # 15 s
//	go test -run '^$' -bench Marks -benchtime 30x ./bench                      # 15 s
//	go test -run '^$' -bench Sweep -benchtime 3x ./bench                       # 15 s
//	go test -run '^$' -bench StoreRate -benchtime 300x ./bench                 # 25 s
//	go test -run '^$' -bench StoreSlowly -benchtime 10x ./bench                # 20 s
//	go test -run '^$' -bench 'Restart|Resident' -benchtime 10x ./bench         # 30 s
//	go test -run '^$' -bench Churn -benchtime 1x ./bench                       # 90 s
//	go test -run '^$' -bench Eviction -benchtime 1x ./bench                    # 60 s
//
// Two variables say more. ACCEL_BENCH_ENTRIES is N, how many entries there are where
// that matters: 10 000 unless it is set, which takes seconds to store; 100 000 take a
// minute, 1 000 000 a quarter of an hour for each benchmark (add -timeout 2h) and up
// to 20 GB. ACCEL_BENCH_DIR is where the files lie; by default that is where temporary
// files are, which had better be a disk: in memory a sync costs nothing.
//
// With -count 10, benchstat compares two versions:
//
//	go run golang.org/x/perf/cmd/benchstat@latest old.txt new.txt
package bench
