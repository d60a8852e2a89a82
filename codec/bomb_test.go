package codec_test

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/codec"
)

// allocated is how many bytes f takes from the heap, garbage included, so it is
// never less than what f holds at a time.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestDecodeBombs(t *testing.T) {
	const window1M, window8M = 10 << 3, 13 << 3

	many := func(n int, b []byte) [][]byte {
		blocks := make([][]byte, n)
		for i := range blocks {
			blocks[i] = b
		}
		return blocks
	}
	zeros := make([]byte, 10<<20)
	compressed := encode(t, codec.Zstd, zeros[:128<<10])
	// The frame's own compressed block: behind a header of 4+1+4 bytes, before
	// a checksum of 4.
	compressedBlock := bytes.Clone(compressed[9 : len(compressed)-4])
	compressedBlock[0] &^= 1

	liar := encode(t, codec.Gzip, []byte("small"))
	binary.LittleEndian.PutUint32(liar[len(liar)-4:], 0xffffffff)

	for name, tc := range map[string]struct {
		coding string
		src    []byte
		want   error
	}{
		"gzip, 10 MiB of zeros":             {codec.Gzip, encode(t, codec.Gzip, zeros), codec.ErrTooLarge},
		"gzip, streamed":                    {codec.Gzip, streamed(t, codec.Gzip, zeros, 1<<20), codec.ErrTooLarge},
		"gzip, a thousand members":          {codec.Gzip, bytes.Repeat(encode(t, codec.Gzip, zeros[:10<<10]), 1000), codec.ErrTooLarge},
		"gzip, trailer claims 4 GiB":        {codec.Gzip, liar, codec.ErrCorrupt},
		"zstd, 10 MiB of zeros":             {codec.Zstd, encode(t, codec.Zstd, zeros), codec.ErrTooLarge},
		"zstd, streamed":                    {codec.Zstd, streamed(t, codec.Zstd, zeros, 1<<20), codec.ErrTooLarge},
		"zstd, a thousand frames":           {codec.Zstd, bytes.Repeat(encode(t, codec.Zstd, zeros[:10<<10]), 1000), codec.ErrTooLarge},
		"zstd, RLE blocks":                  {codec.Zstd, zstdFrame(window8M, many(80, zstdBlock(1, 128<<10, 0))...), codec.ErrTooLarge},
		"zstd, compressed blocks":           {codec.Zstd, zstdFrame(window8M, many(80, compressedBlock)...), codec.ErrTooLarge},
		"zstd, window of 2 GiB":             {codec.Zstd, zstdFrame(21<<3, zstdBlock(0, 1, 'a')), codec.ErrCorrupt},
		"zstd, window of 3.75 TiB":          {codec.Zstd, zstdFrame(0xff, zstdBlock(0, 1, 'a')), codec.ErrCorrupt},
		"zstd, window just above 8 MiB":     {codec.Zstd, zstdFrame(window8M|1, zstdBlock(0, 1, 'a')), codec.ErrCorrupt},
		"zstd, window of 8 MiB for a byte":  {codec.Zstd, zstdFrame(window8M, zstdBlock(0, 1, 'a')), nil},
		"zstd, size claimed 2 GiB":          {codec.Zstd, zstdSizedFrame(1<<31, zstdBlock(0, 1, 'a')), codec.ErrTooLarge},
		"zstd, size claimed 16 EiB":         {codec.Zstd, zstdFrameOf([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 255, 255, 255, 255, 255, 255, 255, 255}, zstdBlock(0, 1, 'a')), codec.ErrTooLarge},
		"zstd, size claimed 1 MiB":          {codec.Zstd, zstdSizedFrame(1<<20, zstdBlock(0, 1, 'a')), codec.ErrCorrupt},
		"zstd, more than the size claimed":  {codec.Zstd, zstdSizedFrame(10, zstdBlock(1, 11, 'a')), codec.ErrCorrupt},
		"zstd, the size claimed":            {codec.Zstd, zstdSizedFrame(11, zstdBlock(1, 11, 'a')), nil},
		"zstd, block larger than allowed":   {codec.Zstd, zstdFrame(window1M, zstdBlock(1, 1<<20, 0)), codec.ErrCorrupt},
		"zstd, reserved block type":         {codec.Zstd, zstdFrame(window1M, zstdBlock(3, 1, 0)), codec.ErrCorrupt},
		"zstd, skippable frame of 4 GiB":    {codec.Zstd, []byte{0x50, 0x2a, 0x4d, 0x18, 255, 255, 255, 255, 0}, codec.ErrCorrupt},
		"zstd, a quarter million of frames": {codec.Zstd, bytes.Repeat(encode(t, codec.Zstd, nil), 250_000), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var out []byte
			var err error
			grown := allocated(func() { out, err = codec.Decode(nil, tc.coding, tc.src, 1<<20) })
			if tc.want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, tc.want)
				require.Empty(t, out)
			}
			require.Less(t, grown, uint64(4<<20), "bytes of heap for 1 MiB allowed")
		})
	}
}

// A claim that cannot be true costs nothing, however much the caller allows.
func TestDecodeRefusesClaimsBeforeAllocating(t *testing.T) {
	gzipLiar := encode(t, codec.Gzip, []byte("small"))
	binary.LittleEndian.PutUint32(gzipLiar[len(gzipLiar)-4:], 0x7fffffff)
	zstdLiar := zstdSizedFrame(8<<20, zstdBlock(1, 1, 'a'))
	var rle [][]byte
	for range 200 { // 25 MiB
		rle = append(rle, zstdBlock(1, 128<<10, 0))
	}
	for name, tc := range map[string]struct {
		coding string
		src    []byte
		want   error
	}{
		"gzip trailer": {codec.Gzip, gzipLiar, codec.ErrCorrupt},
		"zstd size":    {codec.Zstd, zstdLiar, codec.ErrCorrupt},
		"zstd blocks":  {codec.Zstd, zstdFrame(13<<3, rle...), codec.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			grown := allocated(func() { _, err = codec.Decode(nil, tc.coding, tc.src, 20<<20) })
			require.ErrorIs(t, err, tc.want)
			require.Less(t, grown, uint64(512<<10))
		})
	}
}
