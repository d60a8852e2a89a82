package codec_test

import (
	"fmt"
	"testing"

	"github.com/accelhttp/accelerator/codec"
)

var benchSizes = []int{1 << 10, 16 << 10, 64 << 10, 512 << 10}

func BenchmarkEncode(b *testing.B) {
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/%dKiB", coding, n>>10), func(b *testing.B) {
				body := page(n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := codec.Encode(nil, coding, body); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		for _, n := range benchSizes {
			b.Run(fmt.Sprintf("%s/%dKiB", coding, n>>10), func(b *testing.B) {
				enc := encode(b, coding, page(n))
				dst := make([]byte, 0, n+1024)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := codec.Decode(dst, coding, enc, int64(n)); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkNegotiate(b *testing.B) {
	for name, accept := range map[string][]string{
		"absent":  nil,
		"go":      {"gzip"},
		"browser": {"gzip, deflate, br, zstd"},
		"weights": {"br;q=1.0, gzip;q=0.8, *;q=0.1"},
	} {
		b.Run(name, func(b *testing.B) {
			offers := []string{"zstd", "gzip", ""}
			b.ReportAllocs()
			for b.Loop() {
				codec.Negotiate(accept, offers)
			}
		})
	}
}
