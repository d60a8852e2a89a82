package codec_test

import (
	"fmt"
	"net/http"

	"github.com/accelhttp/accelerator/codec"
)

// How does a server that has a page as zstd and as gzip answer its clients?
func Example() {
	offers := []string{codec.Zstd, codec.Gzip} // the best first

	for _, header := range []http.Header{
		{"Accept-Encoding": {"gzip, deflate, br, zstd"}},
		{"Accept-Encoding": {"gzip, deflate"}},
		{"Accept-Encoding": {"zstd;q=0.2, gzip;q=0.8"}},
		{},
	} {
		i, ok := codec.Negotiate(header["Accept-Encoding"], offers)
		if !ok {
			fmt.Println("neither: decode it")
			continue
		}
		fmt.Println(offers[i])
	}
	// Output:
	// zstd
	// gzip
	// gzip
	// neither: decode it
}
