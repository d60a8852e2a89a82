package storetest

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// Bench measures a store: hits, misses, stores, and invalidations of tags that
// one entry or many carry. Sizes are those of a page of 16 KiB in zstd and gzip.
func Bench(b *testing.B, open Opener) {
	ctx := context.Background()
	const pages = 1024
	fill := func(b *testing.B) (accel.Store, []*accel.Entry) {
		s := open(b, Options{Now: time.Now})
		b.Cleanup(func() { _ = s.Close() })
		es := make([]*accel.Entry, pages)
		at := s.Begin()
		defer s.End(at)
		for i := range es {
			n := strconv.Itoa(i)
			es[i] = Entry("/"+n, At(at), Tags("page:"+n, "section:"+strconv.Itoa(i/64), "all"), Size(7500))
			if err := s.Put(es[i], nil); err != nil {
				b.Fatal(err)
			}
		}
		return s, es
	}
	b.Run("Hit", func(b *testing.B) {
		s, es := fill(b)
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := s.Get(ctx, es[i%pages].Key, nil); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("HitParallel", func(b *testing.B) {
		s, es := fill(b)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := 0; pb.Next(); i++ {
				_, _ = s.Get(ctx, es[i%8].Key, nil)
			}
		})
	})
	b.Run("Miss", func(b *testing.B) {
		s, _ := fill(b)
		key := Key("/absent", "")
		b.ReportAllocs()
		for b.Loop() {
			_, _ = s.Get(ctx, key, nil)
		}
	})
	b.Run("Put", func(b *testing.B) {
		s, es := fill(b)
		b.ReportAllocs()
		refused := 0
		for i := 0; b.Loop(); i++ {
			at := s.Begin()
			e := Entry(es[i%pages].Resource[len("http\nexample.org\n"):], At(at), Tags(es[i%pages].Tags...), Size(7500))
			if s.Put(e, nil) != nil {
				refused++
			}
			s.End(at)
		}
		b.ReportMetric(float64(refused)/float64(b.N), "refused/op")
	})
	for name, tag := range map[string]func(i int) string{
		"Invalidate1":    func(i int) string { return "page:" + strconv.Itoa(i%pages) },
		"InvalidateMany": func(int) string { return "all" },
		"InvalidateNone": func(i int) string { return "none:" + strconv.Itoa(i) },
	} {
		b.Run(name, func(b *testing.B) {
			s, _ := fill(b)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := s.Invalidate(ctx, accel.TagMark(tag(i))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
