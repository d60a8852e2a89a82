package codec_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/accelhttp/accelerator/codec"
)

func FuzzNegotiate(f *testing.F) {
	for _, accept := range []string{
		"", "*", "gzip", "gzip, deflate, br, zstd", "compress;q=0.5, gzip;q=1.0", "gzip;q=1.0, identity; q=0.5, *;q=0",
		"gzip;q=0.001\nzstd;q=1.000", "identity;q=0,*;q=0", ",;q=1,\t,", "x-gzip;q=0.1234", "gzip;q=1;q=0", "\x00", "gz\u212Ap",
	} {
		f.Add(accept)
	}
	offers := []string{"zstd", "gzip", ""}
	f.Fuzz(func(t *testing.T, field string) {
		accept := strings.Split(field, "\n") // a line feed separates lines
		i, ok := codec.Negotiate(accept, offers)
		if want := reference(accept, offers); i != want || ok != (want >= 0) {
			t.Fatalf("Negotiate(%q) = %d, %t; reference: %d", accept, i, ok, want)
		}
		if ok && !codec.Acceptable(accept, offers[i]) {
			t.Fatalf("%q: %q chosen, but not acceptable", accept, offers[i])
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, body := range [][]byte{nil, []byte("a"), page(600), make([]byte, 5000), noise(300)} {
		for _, coding := range codings {
			enc := encode(f, coding, body)
			f.Add(coding, enc, int64(4096))
			f.Add(coding, append(bytes.Clone(enc), enc...), int64(1<<16))
			f.Add(coding, enc[:len(enc)/2], int64(len(body)))
		}
		f.Add(codec.Gzip, streamed(f, codec.Gzip, body, 100), int64(1<<16))
		f.Add(codec.Zstd, streamed(f, codec.Zstd, body, 100), int64(1<<16))
	}
	f.Add(codec.Zstd, zstdFrame(0xff, zstdBlock(0, 1, 'a')), int64(100))
	f.Add(codec.Zstd, zstdFrame(13<<3, zstdBlock(1, 128<<10, 'a'), zstdBlock(1, 5, 'b')), int64(1<<20))
	f.Add("br", []byte("body"), int64(100))

	f.Fuzz(func(t *testing.T, coding string, src []byte, max int64) {
		max = min(max, 4<<20) // a fuzzer would allow itself all the memory there is
		prefix := []byte("before")
		out, err := codec.Decode(prefix, coding, src, max)
		if err != nil {
			if !errors.Is(err, codec.ErrUnknown) && !errors.Is(err, codec.ErrTooLarge) && !errors.Is(err, codec.ErrCorrupt) {
				t.Fatalf("an error of somebody else: %v", err)
			}
			if string(out) != "before" {
				t.Fatal("dst changed")
			}
			return
		}
		if !bytes.HasPrefix(out, prefix) {
			t.Fatal("dst lost")
		}
		body := out[len(prefix):]
		if len(body) > 0 && int64(len(body)) > max {
			t.Fatalf("%d bytes, %d allowed", len(body), max)
		}
		// The bound does not change the content, and is sharp.
		again, err := codec.Decode(nil, coding, src, int64(len(body)))
		if err != nil || !bytes.Equal(again, body) {
			t.Fatalf("with the exact bound: %v", err)
		}
		if _, err := codec.Decode(nil, coding, src, int64(len(body))-1); len(body) > 0 && !errors.Is(err, codec.ErrTooLarge) {
			t.Fatalf("with one byte less: %v", err)
		}
		// What was decoded encodes to something that decodes to the same.
		enc, err := codec.Encode(nil, coding, body)
		if err != nil {
			t.Fatal(err)
		}
		again, err = codec.Decode(nil, coding, enc, int64(len(body)))
		if err != nil || !bytes.Equal(again, body) {
			t.Fatalf("after encoding: %v", err)
		}
	})
}
