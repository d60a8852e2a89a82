package faults_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/faults"
)

// What the library may use, whoever attacks it: the file its bound and a tenth,
// memory 128 MiB beside what the process had (with the default memory tier),
// goroutines and file descriptors nothing once the attack is over.
const (
	boundsAnon  = 128 << 20
	boundsSpare = 10 // hundredths of the bound
	boundsHits  = 0.95
)

const mib = 1 << 20

// A boundsRow is a line of the table.
type boundsRow struct {
	attack            string
	limit             int64
	base, peak, after boundsReport
	hot               boundsHot
	note              string
}

func (r boundsRow) String() string {
	hot := "–"
	if r.hot.asked > 0 {
		hot = fmt.Sprintf("%.4f of %d", r.hot.ratio(), r.hot.asked)
	}
	b, p, a := r.base.Now, r.peak.Peak, r.after.Now
	return fmt.Sprintf("| %s | %d MiB | %.1f MiB | %.0f / %.0f (after %.0f) MiB | %d / %d / %d | %d / %d / %d | %s | %s |",
		r.attack, r.limit/mib, float64(p.Disk)/mib, float64(b.RssAnon)/mib, float64(p.RssAnon)/mib, float64(a.RssAnon)/mib,
		b.Goroutines, p.Goroutines, a.Goroutines, b.FDs, p.FDs, a.FDs, hot, r.note)
}

// A boundsHot counts how the site's pages fared beside an attack.
type boundsHot struct{ asked, hits int64 }

func (h boundsHot) ratio() float64 { return float64(h.hits) / float64(max(h.asked, 1)) }

// A boundsAttack is one attack on a child of its own.
type boundsAttack struct {
	name  string
	setup boundsSetup
	// run does the attack. It reports how the site's pages fared, and what else is
	// to be told.
	run func(t *testing.T, c *boundsTarget) (boundsHot, string)
	// check looks at what the child says afterwards.
	check func(t *testing.T, r boundsRow)
	// exceeds is why more memory is used than there should be, if it is.
	exceeds string
}

// TestBounds attacks a site in every way that could fill something.
func TestBounds(t *testing.T) {
	attacks := boundsAttacks()
	table := make([]string, len(attacks))
	t.Cleanup(func() {
		t.Logf("attack | bound | disk | RssAnon base/peak | goroutines base/peak/after | fds base/peak/after | hot hit ratio | note\n%s", strings.Join(table, "\n"))
	})
	for i, a := range attacks {
		t.Run(strings.ReplaceAll(a.name, " ", "_"), func(t *testing.T) {
			if faults.Rounds(1, 1, 0) == 1 { // the figures are to be those of one alone
				t.Parallel()
			}
			a.setup.Hot = 100
			c := boundsStart(t, a.setup)
			r := boundsRow{attack: a.name, limit: a.setup.MaxSize, base: c.ask("base")}
			start := time.Now()
			r.hot, r.note = a.run(t, c)
			r.peak = c.ask("peak")
			r.note += fmt.Sprintf("; %v, cpu %v", time.Since(start).Round(100*time.Millisecond), r.peak.Now.CPU-r.base.Now.CPU)
			r.after = c.ask("settle", r.base.Now.Goroutines, r.base.Now.FDs)
			table[i] = r.String()

			if a.setup.Store == "boltstore" {
				assert.LessOrEqual(t, r.peak.Peak.Disk, a.setup.MaxSize*(100+boundsSpare)/100, "bytes on disk")
			}
			if !boundsRace && a.exceeds == "" {
				assert.LessOrEqual(t, r.peak.Peak.RssAnon-r.base.Now.RssAnon, int64(boundsAnon), "bytes in memory beyond the base")
			}
			assert.LessOrEqual(t, r.after.Now.Goroutines, r.base.Now.Goroutines+2, "goroutines afterwards")
			assert.LessOrEqual(t, r.after.Now.FDs, r.base.Now.FDs+2, "file descriptors afterwards")
			assert.Zero(t, r.after.Stats.Store.InFlight, "positions held afterwards")
			if a.check != nil {
				a.check(t, r)
			}
		})
	}
}

func boundsAttacks() (list []boundsAttack) {
	add := func(name string, run func(*testing.T, *boundsTarget) (boundsHot, string), check func(*testing.T, boundsRow), change ...func(*boundsAttack)) {
		a := boundsAttack{name: name, run: run, check: check, setup: boundsSetup{
			Store: "boltstore", MaxSize: int64(faults.Rounds(16, 32, 256)) * mib, Memory: int64(faults.Rounds(4, 8, 0)) * mib,
		}}
		for _, c := range change {
			c(&a)
		}
		list = append(list, a)
	}
	inMemory := func(a *boundsAttack) {
		a.setup.Store, a.setup.MaxSize = "memstore", int64(faults.Rounds(4, 8, 64))*mib
	}
	million := faults.Rounds(20_000, 60_000, 1_000_000)
	fewer := faults.Rounds(3000, 20_000, 1_000_000)
	if boundsRace {
		million, fewer = million/10, fewer/3
	}
	hits := func(t *testing.T, r boundsRow) {
		assert.GreaterOrEqual(t, r.hot.ratio(), boundsHits, "hit ratio of the pages that are asked for")
	}

	urls := func(n int) func(*testing.T, *boundsTarget) (boundsHot, string) {
		return boundsFlood(n, func(int) string { return boundsGet(fmt.Sprintf("/text/%016x", rand.Uint64())) })
	}
	add("random URLs", urls(million), hits)
	add("random URLs, memstore", urls(min(fewer, 200_000)), hits, inMemory)
	add("random queries", boundsFlood(fewer, func(int) string {
		return boundsGet(fmt.Sprintf("/image?utm_source=%x&page=%d", rand.Uint64(), rand.IntN(100)))
	}), hits)
	agents := func(n int) func(*testing.T, *boundsTarget) (boundsHot, string) {
		return boundsFlood(n, func(i int) string {
			return boundsGet("/agent", fmt.Sprintf("User-Agent: Mozilla/5.0 (evil; rv:%d) Gecko/%x", i, rand.Uint64()))
		})
	}
	variants := func(t *testing.T, r boundsRow) {
		hits(t, r)
		s := r.after.Stats.Store
		assert.LessOrEqual(t, s.Entries, int64(100+accel.MaxVariants), "entries of the site and of one URL")
		t.Logf("%d entries in %d bytes", s.Entries, s.Bytes)
	}
	add("User-Agents, Vary", agents(fewer), variants)
	add("User-Agents, Vary, memstore", agents(min(fewer, 200_000)), variants, inMemory)

	readers := faults.Rounds(60, 200, 500)
	slowly := time.Duration(faults.Rounds(300, 1500, 8000)) * time.Millisecond
	slow := func(target func(i int) string, lines ...string) func(*testing.T, *boundsTarget) (boundsHot, string) {
		return boundsSlow(readers, slowly, target, lines...)
	}
	one := func(target string) func(int) string { return func(int) string { return target } }
	own := func(target string) func(int) string { return func(i int) string { return fmt.Sprint(target, i) } }
	add("slow readers, a hit", slow(one("/bigimage/1")), hits)
	add("slow readers, a hit to decode", slow(one("/bigtext/1")), hits)
	// More pages than the memory tier holds: each reader has a copy from the disk.
	add("slow readers, hits on disk", slow(func(i int) string { return fmt.Sprint("/bigimage/", i%faults.Rounds(8, 16, 150)) }), nil, func(a *boundsAttack) {
		a.exceeds = "a client of a hit holds what it is sent"
	})
	add("slow readers, misses too large", slow(own("/huge/")), hits)
	add("slow readers, misses being kept", slow(own("/pieces/")), hits)
	streams := faults.Rounds(30, 100, 100)
	add("endless streams", boundsStreams(streams, slowly, "/endless/"), hits)
	add("streams that stall", boundsStreams(streams, slowly, "/stalled/"), hits)
	add("clients that leave", boundsLeave(faults.Rounds(100, 500, 5000)), hits)

	seconds := time.Duration(faults.Rounds(500, 3000, 10_000)) * time.Millisecond
	storm := func(t *testing.T, r boundsRow) {
		hits(t, r)
		assert.LessOrEqual(t, r.peak.Marks, int64(65_536), "marks")
		assert.LessOrEqual(t, r.after.Stats.Store.Marks, int64(10), "marks afterwards")
	}
	add("purge storm", boundsStorm(1000, seconds), storm)
	add("purge storm, memstore", boundsStorm(1000, seconds), nil, inMemory)

	posts := faults.Rounds(2000, 10_000, 100_000)
	policy := func(a *boundsAttack) { a.setup.RFC9111 = true }
	add("POSTs, RFC9111", boundsPosts(posts, false), nil, policy)
	add("POSTs, RFC9111, a handler that hangs", boundsPosts(posts, true), nil, policy)
	return list
}

// hot asks for the site's pages and looks at them.
func (h *boundsHot) ask(t *testing.T, c *boundsConn, count bool, pages ...int) {
	for _, p := range pages {
		_, err := io.WriteString(c, boundsGet(faults.URL(p)))
		require.NoError(t, err)
	}
	for _, p := range pages {
		status, cache, body, err := c.answer(true)
		require.NoError(t, err)
		require.Equal(t, 200, status)
		_, err = faults.Check(p, body)
		require.NoError(t, err)
		if count {
			atomic.AddInt64(&h.asked, 1)
			if strings.Contains(cache, "; hit") {
				atomic.AddInt64(&h.hits, 1)
			}
		}
	}
}

// warm has the site's pages stored.
func (h *boundsHot) warm(t *testing.T, c *boundsTarget) {
	conn, err := c.dial()
	require.NoError(t, err)
	defer conn.Close()
	for p := range 100 {
		h.ask(t, conn, false, p, p)
	}
}

// beside asks for the site's pages, some hundred a second, until it is told to
// stop.
func (h *boundsHot) beside(t *testing.T, c *boundsTarget) (stop func()) {
	conn, err := c.dial()
	require.NoError(t, err)
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		defer conn.Close()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for p := 0; ; p += 2 {
			h.ask(t, conn, true, p%100, (p+1)%100)
			select {
			case <-end:
				return
			case <-tick.C:
			}
		}
	}()
	return func() { close(end); <-ended }
}

// boundsFlood sends n requests, many at a time on a few connections, and asks for
// a page of the site with every tenth.
func boundsFlood(n int, request func(i int) string) func(*testing.T, *boundsTarget) (boundsHot, string) {
	return func(t *testing.T, c *boundsTarget) (hot boundsHot, note string) {
		hot.warm(t, c)
		const batch = 20
		var next atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for w := range 2 {
			wg.Go(func() {
				conn, err := c.dial()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				var b strings.Builder
				for p := w; ; p += 2 {
					i := int(next.Add(batch)) - batch
					if i >= n {
						return
					}
					b.Reset()
					for j := range batch {
						b.WriteString(request(i + j))
					}
					if _, err := io.WriteString(conn, b.String()); !assert.NoError(t, err) {
						return
					}
					for range batch {
						status, _, _, err := conn.answer(false)
						if !assert.NoError(t, err) || !assert.Equal(t, 200, status) {
							return
						}
					}
					hot.ask(t, conn, true, p%100, (p+50)%100)
				}
			})
		}
		wg.Wait()
		return hot, fmt.Sprintf("%d requests, %.0f/s", n, float64(n)/time.Since(start).Seconds())
	}
}

// boundsSlow is n clients that read a byte now and then of a large response.
func boundsSlow(n int, d time.Duration, target func(i int) string, lines ...string) func(*testing.T, *boundsTarget) (boundsHot, string) {
	return func(t *testing.T, c *boundsTarget) (hot boundsHot, note string) {
		hot.warm(t, c)
		// What can be stored is.
		seen := map[string]bool{}
		for i := 0; i < n && strings.HasPrefix(target(i), "/big"); i++ {
			if !seen[target(i)] {
				c.ask("warm", target(i))
				seen[target(i)] = true
			}
		}
		stop := hot.beside(t, c)
		defer stop()
		var read atomic.Int64
		hold(t, c, n, d, func(conn net.Conn, i int) {
			io.WriteString(conn, boundsGet(target(i), lines...))
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for b := make([]byte, 1); ; <-tick.C {
				if _, err := conn.Read(b); err != nil {
					return
				}
				read.Add(1)
			}
		})
		return hot, fmt.Sprintf("%d readers, %d bytes read", n, read.Load())
	}
}

// boundsStreams is n clients that read responses without end.
func boundsStreams(n int, d time.Duration, target string) func(*testing.T, *boundsTarget) (boundsHot, string) {
	return func(t *testing.T, c *boundsTarget) (hot boundsHot, note string) {
		hot.warm(t, c)
		stop := hot.beside(t, c)
		defer stop()
		var read atomic.Int64
		hold(t, c, n, d, func(conn net.Conn, i int) {
			io.WriteString(conn, boundsGet(fmt.Sprint(target, i)))
			m, _ := io.Copy(io.Discard, conn)
			read.Add(m)
		})
		return hot, fmt.Sprintf("%d streams, %d MiB read", n, read.Load()/mib)
	}
}

// hold has n connections used for so long, and then cuts them.
func hold(t *testing.T, c *boundsTarget, n int, d time.Duration, use func(conn net.Conn, i int)) {
	var wg sync.WaitGroup
	conns := make([]net.Conn, n)
	for i := range n {
		conn, err := net.Dial("tcp", c.addr)
		require.NoError(t, err)
		// The kernel is not to take what the client does not.
		require.NoError(t, conn.(*net.TCPConn).SetReadBuffer(4<<10))
		conns[i] = conn
		wg.Go(func() { use(conn, i) })
	}
	time.AfterFunc(d, func() {
		for _, conn := range conns {
			conn.Close()
		}
	})
	wg.Wait()
}

// boundsLeave is n clients that ask, a hundred at a time, and leave in the middle:
// some while they wait for another's response, some while they get their own.
func boundsLeave(n int) func(*testing.T, *boundsTarget) (boundsHot, string) {
	return func(t *testing.T, c *boundsTarget) (hot boundsHot, note string) {
		hot.warm(t, c)
		stop := hot.beside(t, c)
		defer stop()
		for from := 0; from < n; from += 100 {
			var wg sync.WaitGroup
			for i := range 100 {
				wg.Go(func() {
					conn, err := net.Dial("tcp", c.addr)
					if !assert.NoError(t, err) {
						return
					}
					defer conn.Close()
					// Four for each page, so that three of them wait.
					io.WriteString(conn, boundsGet(fmt.Sprint("/slow/", from+i/4)))
					conn.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(150)) * time.Millisecond))
					io.CopyN(io.Discard, conn, 1<<14)
				})
			}
			wg.Wait()
		}
		return hot, fmt.Sprintf("%d clients", n)
	}
}

// boundsStorm is so many invalidations a second, of tags of pages that are stored
// meanwhile.
func boundsStorm(rate int, d time.Duration) func(*testing.T, *boundsTarget) (boundsHot, string) {
	return func(t *testing.T, c *boundsTarget) (hot boundsHot, note string) {
		hot.warm(t, c)
		stop := hot.beside(t, c)
		end, ended := make(chan struct{}), make(chan struct{})
		stored := 0
		go func() {
			defer close(ended)
			conn, err := c.dial()
			if !assert.NoError(t, err) {
				return
			}
			defer conn.Close()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				var b strings.Builder
				for range 10 {
					stored++
					b.WriteString(boundsGet(fmt.Sprint("/tagged/", stored)))
				}
				io.WriteString(conn, b.String())
				for range 10 {
					status, _, _, err := conn.answer(false)
					if !assert.NoError(t, err) || !assert.Equal(t, 200, status) {
						return
					}
				}
				select {
				case <-end:
					return
				case <-tick.C:
				}
			}
		}()
		r := c.ask("storm", rate, d)
		close(end)
		<-ended
		stop()
		file := c.ask("peak").Now.File
		start := time.Now()
		limit := 10 * time.Second
		if c.setup.Store == "memstore" {
			limit = time.Duration(faults.Rounds(0, 0, 15)) * time.Second // it sweeps every ten seconds
		}
		swept := boundsUntil(limit, func() bool { return c.ask("peak").Stats.Store.Marks == 0 })
		return hot, fmt.Sprintf("%.0f purges/s (%v); %d pages stored; marks at most %d, all gone %v after %v; file %.1f MiB",
			float64(r.Purges.N)/d.Seconds(), r.Purges, stored, r.Marks, swept, time.Since(start).Round(time.Millisecond), float64(file)/mib)
	}
}

// boundsPosts is n successful POSTs to different URLs, perhaps while a handler
// hangs.
func boundsPosts(n int, hangs bool) func(*testing.T, *boundsTarget) (boundsHot, string) {
	return func(t *testing.T, c *boundsTarget) (hot boundsHot, note string) {
		hot.warm(t, c)
		stop := hot.beside(t, c)
		defer stop()
		if hangs {
			conn, err := c.dial()
			require.NoError(t, err)
			defer conn.Close()
			io.WriteString(conn, boundsGet("/post/hangs"))
			require.True(t, boundsUntil(5*time.Second, func() bool { return c.ask("peak").Stats.Store.InFlight > 0 }))
		}
		var next atomic.Int64
		var wg sync.WaitGroup
		start := time.Now()
		for range 16 {
			wg.Go(func() {
				conn, err := c.dial()
				if !assert.NoError(t, err) {
					return
				}
				defer conn.Close()
				for {
					i := next.Add(1)
					if i > int64(n) {
						return
					}
					fmt.Fprintf(conn, "POST /post/%d HTTP/1.1\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n", i)
					status, _, _, err := conn.answer(false)
					if !assert.NoError(t, err) || !assert.Equal(t, 204, status) {
						return
					}
				}
			})
		}
		wg.Wait()
		took := time.Since(start)
		r := c.ask("peak")
		return hot, fmt.Sprintf("%d POSTs, %.0f/s; marks at most %d", n, float64(n)/took.Seconds(), r.Marks)
	}
}

// Ten thousand requests come at once for a page whose time is up: its handler runs
// once.
func TestBoundsHerd(t *testing.T) {
	n := faults.Rounds(2000, 10_000, 10_000)
	for _, store := range []string{"boltstore", "memstore"} {
		for _, kind := range []string{"swr", "plain"} {
			t.Run(store+"/"+kind, func(t *testing.T) {
				t.Parallel()
				c := boundsStart(t, boundsSetup{Store: store, MaxSize: 16 * mib})
				base := c.ask("base")
				for range faults.Rounds(1, 3, 10) {
					r := c.ask("herd", n, kind)
					t.Logf("%d requests in %v: %d runs of the handler, %d stale answers, %d new ones (%d collapsed), %d wrong; %d goroutines at most, RssAnon %d MiB",
						n, r.Herd.Took.Round(time.Millisecond), r.Herd.Made, r.Herd.Stale, r.Herd.New, r.Herd.Collapsed, r.Herd.Wrong, r.Herd.Highest, r.Peak.RssAnon/mib)
					require.EqualValues(t, 1, r.Herd.Made, "runs of the handler")
					require.Zero(t, r.Herd.Wrong)
					if kind == "swr" {
						require.Equal(t, n, r.Herd.Stale)
					} else {
						require.Equal(t, n, r.Herd.New)
					}
				}
				after := c.ask("settle", base.Now.Goroutines, base.Now.FDs)
				require.LessOrEqual(t, after.Now.Goroutines, base.Now.Goroutines+2)
				require.LessOrEqual(t, after.Now.FDs, base.Now.FDs+2)
				require.Zero(t, after.Stats.Store.InFlight)
			})
		}
	}
}
