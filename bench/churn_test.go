package bench

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
)

// BenchmarkChurn is an hour of a site that stores a hundred pages a second, each good
// for five minutes, and makes one section of 64 pages invalid each second: 360 000
// pages, as fast as they are written. file-MiB is the size of the file after each
// quarter; file/live what it is for each byte of what is stored in it at the end.
//
// An iteration is an hour.
func BenchmarkChurn(b *testing.B) {
	const perSecond, quarter, life = 100, 90_000, 30_000
	ps := newPairs(b)
	for b.Loop() {
		f := &feeder{pairs: ps, begin: time.Now(), life: life, step: time.Second / perSecond}
		f.store = openBolt(b, filepath.Join(directory(b), "cache.db"), boltstore.WithMaxSize(vast), boltstore.WithClock(f.now))
		start := time.Now()
		for q := range 4 {
			for range quarter / perSecond {
				f.feed(b, perSecond)
				// One that is there for a while, and not those alone that came last.
				n := max(0, int(f.next.Load())-life/2) / 64
				require.NoError(b, f.store.Invalidate(background, accel.TagMark(fmt.Sprint("section:", n))))
			}
			b.ReportMetric(float64(f.store.Stats().FileBytes)/mib, fmt.Sprintf("file-MiB-%d/4", q+1))
		}
		f.flush(b)
		st := f.store.Stats()
		b.ReportMetric(float64(f.next.Load())/time.Since(start).Seconds(), "stores/s")
		b.ReportMetric(float64(st.FileBytes)/float64(st.Bytes), "file/live")
		b.ReportMetric(float64(st.Entries), "entries")
		require.NoError(b, f.store.Close())
	}
}
