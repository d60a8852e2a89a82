package faults_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
)

// A boundsClock is a site whose wall clock is set while it runs.
type boundsClock struct {
	*boundsTarget
	t      *testing.T
	client *http.Client
	shift  time.Duration
	pages  int
	purges int
}

// jump sets the clock, and looks at what the process does with it: nothing.
func (k *boundsClock) jump(d time.Duration) {
	k.t.Helper()
	k.shift += d
	from, start := k.ask("clock", d).Now.CPU, time.Now()
	time.Sleep(time.Duration(faults.Rounds(200, 500, 2000)) * time.Millisecond) // this is what is measured
	used, took := k.ask("peak").Now.CPU-from, time.Since(start)
	require.LessOrEqual(k.t, used, took/2+50*time.Millisecond, "processor time in %v of doing nothing after the clock was set by %v", took, d)
}

// get asks for a page of a kind and returns which run of the handler made it.
func (k *boundsClock) get(kind string, page int) (made int, hit bool) {
	k.t.Helper()
	start := time.Now()
	res, err := k.client.Get(fmt.Sprint("http://", k.addr, kind, page))
	require.NoError(k.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(k.t, err)
	require.Equal(k.t, 200, res.StatusCode)
	_, err = fmt.Sscanf(string(body), "made %d\n", &made)
	require.NoError(k.t, err)
	require.Less(k.t, time.Since(start), 10*time.Second, "a request that hangs")

	if age := res.Header.Get("Age"); age != "" {
		seconds, err := strconv.Atoi(age)
		require.NoError(k.t, err)
		require.GreaterOrEqual(k.t, seconds, 0, "Age")
		require.LessOrEqual(k.t, seconds, 70, "Age of what lives a minute")
	}
	date, err := http.ParseTime(res.Header.Get("Date"))
	require.NoError(k.t, err)
	if age := res.Header.Get("Age"); age != "" || strings.Contains(kind, "http") {
		// By the site's clock. (What the handler's word stored has net/http's own.)
		off := date.Sub(time.Now().Add(k.shift))
		require.LessOrEqual(k.t, off, 6*time.Second, "Date lies ahead")
		require.GreaterOrEqual(k.t, off, -70*time.Second, "Date is of long ago")
	}
	return made, strings.Contains(res.Header.Get("Cache-Status"), "; hit")
}

// fill asks for all pages of a kind; each is made now or was made at or after a run
// of the handlers.
func (k *boundsClock) fill(kind string, since int64) {
	k.t.Helper()
	for p := range k.pages {
		made, _ := k.get(kind, p)
		require.Greater(k.t, int64(made), since, "page %s%d", kind, p)
		again, hit := k.get(kind, p)
		require.True(k.t, hit, "page %s%d is stored", kind, p)
		require.Equal(k.t, made, again)
	}
}

// made is how often handlers have run.
func (k *boundsClock) made() int64 { return k.ask("peak").Made }

// purge changes a page of the site, invalidates it, and looks at what is served.
func (k *boundsClock) purge() {
	k.t.Helper()
	k.purges++
	k.ask("purge", 3)
	for _, page := range []int{3, 13, 4} {
		res, err := k.client.Get(fmt.Sprint("http://", k.addr, faults.URL(page)))
		require.NoError(k.t, err)
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		require.NoError(k.t, err)
		version, err := faults.Check(page, body)
		require.NoError(k.t, err)
		if page%10 == 3 {
			require.EqualValues(k.t, k.purges, version, "older than a purge")
		}
	}
}

func (k *boundsClock) entries() int64 { return k.ask("peak").Stats.Store.Entries }

// emptied waits until nothing is left of what was stored.
func (k *boundsClock) emptied(limit time.Duration) time.Duration {
	k.t.Helper()
	start := time.Now()
	left := int64(0)
	require.True(k.t, boundsUntil(limit, func() bool {
		left = k.entries()
		return left == 0
	}), "%d entries are still there", left)
	return time.Since(start)
}

// TestBoundsClock sets the wall clock an hour back, ten years on, and right again.
func TestBoundsClock(t *testing.T) {
	for _, store := range []string{"boltstore", "memstore"} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			k := &boundsClock{
				boundsTarget: boundsStart(t, boundsSetup{Store: store, MaxSize: 64 * mib, Hot: 100}),
				t:            t, client: &http.Client{Transport: &http.Transport{}}, pages: faults.Rounds(10, 50, 500),
			}
			defer k.client.CloseIdleConnections()
			kinds := []string{"/minute/", "/minute/http/"}
			// The sweeper of what is on disk looks four times a second, that of what
			// is in memory every ten.
			limit := 10 * time.Second
			if store == "memstore" {
				limit = 30 * time.Second
			}
			sweeps := store == "boltstore" || faults.Rounds(0, 1, 1) == 1

			base := k.ask("base")
			for _, kind := range kinds {
				k.fill(kind, 0)
			}
			k.fill("/day/", 0)
			k.purge()

			// An hour back. What was stored is of the future: it is not served, and
			// what is made in its place lives a minute, not an hour and one.
			m := k.made()
			k.jump(-time.Hour)
			k.purge()
			for _, kind := range kinds {
				k.fill(kind, m)
			}
			m = k.made()
			k.jump(61 * time.Second)
			for _, kind := range kinds {
				k.fill(kind, m)
			}
			k.purge()

			// What was expired before the clock was set back is not fresh again.
			k.fill("/day/", 0)
			k.jump(2 * time.Hour)
			k.fill("/day/", 0)
			m = k.made()
			k.ask("expire")
			k.jump(-time.Hour)
			for p := range k.pages {
				made, _ := k.get("/day/", p)
				require.Greater(t, int64(made), m, "expired, and served as if it were not")
			}
			k.jump(-59 * time.Minute) // it is the right time now

			// What nobody asks for again stays for as long as it would have by the
			// clock that stored it: the hour.
			for _, kind := range kinds {
				for p := range k.pages {
					k.get(kind, p)
				}
			}
			require.GreaterOrEqual(t, k.entries(), int64(2*k.pages))
			k.jump(48 * time.Hour)
			if sweeps {
				t.Logf("swept in %v", k.emptied(limit))
			}

			// Ten years on. Everything is over; and so it is when they are taken back.
			for _, kind := range kinds {
				k.fill(kind, 0)
			}
			k.fill("/day/", 0)
			k.purge()
			m = k.made()
			require.GreaterOrEqual(t, k.entries(), int64(3*k.pages))
			k.jump(10 * 365 * 24 * time.Hour)
			if sweeps {
				t.Logf("swept in %v after ten years", k.emptied(limit))
			}
			k.purge()
			for _, kind := range kinds {
				k.fill(kind, m)
			}
			k.fill("/minute/future/", m)
			m = k.made()
			k.jump(-10 * 365 * 24 * time.Hour)
			k.purge()
			for _, kind := range kinds {
				k.fill(kind, m)
			}
			m = k.made()
			k.jump(61 * time.Second)
			for _, kind := range kinds {
				k.fill(kind, m)
			}
			// What was stored ten years ahead and is not asked for is as good as
			// forgotten: it takes room until that is needed. Asked for, it is made
			// anew, and ends as everything does.
			k.jump(48 * time.Hour)
			if sweeps {
				require.True(t, boundsUntil(limit, func() bool { return k.entries() <= int64(k.pages) }))
			}
			t.Logf("%d entries stored ten years ahead are left", k.entries())
			k.fill("/minute/future/", m)
			k.jump(48 * time.Hour)
			if sweeps {
				t.Logf("swept in %v, though once stored ten years ahead", k.emptied(limit))
			}
			k.purge()
			k.client.CloseIdleConnections()
			after := k.ask("settle", base.Now.Goroutines, base.Now.FDs)
			require.LessOrEqual(t, after.Now.Goroutines, base.Now.Goroutines+2)
			require.LessOrEqual(t, after.Now.FDs, base.Now.FDs+2)
			require.Zero(t, after.Stats.Store.InFlight)
			require.Zero(t, after.Stats.Store.SetAside)
			k.ask("close")
		})
	}
}
