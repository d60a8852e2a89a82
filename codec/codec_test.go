package codec_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/codec"
)

var codings = []string{codec.Identity, codec.Gzip, codec.Zstd}

// page is n bytes that look like something a handler would render.
func page(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "<li class=\"user\"><a href=\"/users/%d\">%x</a></li>\n", i, r.Uint32())
	}
	return b.Bytes()[:n]
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(2, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func encode(t testing.TB, coding string, src []byte) []byte {
	t.Helper()
	out, err := codec.Encode(nil, coding, src)
	require.NoError(t, err)
	return out
}

func TestRoundTrip(t *testing.T) {
	bodies := map[string][]byte{
		"empty":            nil,
		"one byte":         []byte("a"),
		"small page":       page(300),
		"page":             page(16 << 10),
		"several blocks":   page(400 << 10),
		"above the window": page(3 << 20),
		"zeros":            make([]byte, 1<<20),
		"noise":            noise(200 << 10),
	}
	for _, coding := range codings {
		for name, body := range bodies {
			t.Run(coding+"/"+name, func(t *testing.T) {
				prefix := []byte("before ")
				enc, err := codec.Encode(prefix, coding, body)
				require.NoError(t, err)
				require.Equal(t, "before ", string(enc[:len(prefix)]), "Encode appends")

				dec, err := codec.Decode(prefix, coding, enc[len(prefix):], int64(len(body)))
				require.NoError(t, err)
				require.Equal(t, "before ", string(dec[:len(prefix)]), "Decode appends")
				require.True(t, bytes.Equal(body, dec[len(prefix):]))
			})
		}
	}
}

func TestRoundTripProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		coding := rapid.SampledFrom(codings).Draw(t, "coding")
		// Repetition makes bodies that compress, and some above a block.
		piece := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "piece")
		body := bytes.Repeat(piece, rapid.IntRange(0, 1000).Draw(t, "times"))
		spare := rapid.IntRange(0, 2000).Draw(t, "spare")

		enc, err := codec.Encode(make([]byte, 0, spare), coding, body)
		if err != nil {
			t.Fatal(err)
		}
		dec, err := codec.Decode(make([]byte, 3, 3+spare), coding, enc, int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(dec[3:], body) {
			t.Fatal("not what was encoded")
		}
		if len(body) > 0 {
			_, err = codec.Decode(nil, coding, enc, int64(len(body))-1)
			if !errors.Is(err, codec.ErrTooLarge) {
				t.Fatalf("one byte less: %v", err)
			}
		}
	})
}

// What we write must be readable by the implementation that clients have.
func TestEncodeIsReadByOthers(t *testing.T) {
	body := page(400 << 10)
	r, err := gzip.NewReader(bytes.NewReader(encode(t, codec.Gzip, body)))
	require.NoError(t, err)
	got, err := io.ReadAll(r)
	require.NoError(t, err)
	require.True(t, bytes.Equal(body, got))
}

func TestEncodeIsDeterministic(t *testing.T) {
	small, large := page(20<<10), page(300<<10)
	for _, coding := range codings {
		first, firstLarge := encode(t, coding, small), encode(t, coding, large)
		for i := range 6 { // the pools now hold what other bodies left behind
			encode(t, coding, page(3000*i))
			encode(t, coding, noise(30000*i))
			require.Equal(t, first, encode(t, coding, small), coding)
			require.Equal(t, firstLarge, encode(t, coding, large), coding)
		}
	}
}

// A nil dst must not come back with the compressor's working space behind it:
// the result is kept in memory as long as its entry.
func TestEncodeLeavesNoSlack(t *testing.T) {
	for _, coding := range codings {
		for _, n := range []int{600, 16 << 10, 500 << 10} {
			out := encode(t, coding, page(n))
			require.LessOrEqual(t, cap(out), len(out)+len(out)/4+64, "%q %d", coding, n)
		}
	}
}

func TestRFC1952_2_3_1_NoModificationTime(t *testing.T) {
	for range 3 { // with a writer from the pool, too
		require.Equal(t, []byte{0, 0, 0, 0}, encode(t, codec.Gzip, page(1000))[4:8])
	}
}

func TestRFC9659_3_EncoderWindow(t *testing.T) {
	for _, n := range []int{0, 1, 1000, 1 << 20, 1<<20 + 1, 20 << 20} {
		var h zstd.Header
		require.NoError(t, h.Decode(encode(t, codec.Zstd, make([]byte, n))))
		window := h.WindowSize
		if h.SingleSegment {
			window = h.FrameContentSize
		}
		require.LessOrEqual(t, window, uint64(8<<20), n)
	}
}

func TestUnknownCoding(t *testing.T) {
	dst := []byte("as it was")
	for _, coding := range []string{"br", "deflate", "compress", "*", "gzip, zstd", "gzip,gzip", "gzip;q=1", "x"} {
		require.False(t, codec.Known(coding), coding)
		out, err := codec.Encode(dst, coding, page(100))
		require.ErrorIs(t, err, codec.ErrUnknown)
		require.Equal(t, dst, out)
		out, err = codec.Decode(dst, coding, page(100), 1000)
		require.ErrorIs(t, err, codec.ErrUnknown)
		require.Equal(t, dst, out)
	}
	for _, err := range []error{codec.ErrUnknown, codec.ErrTooLarge, codec.ErrCorrupt} {
		require.True(t, strings.HasPrefix(err.Error(), "codec: "), err)
	}
}

func TestRFC9110_8_4_1_Normalize(t *testing.T) {
	for in, want := range map[string]string{
		"":            codec.Identity,
		"identity":    codec.Identity,
		" Identity\t": codec.Identity,
		"gzip":        codec.Gzip,
		"GZip":        codec.Gzip,
		"x-gzip":      codec.Gzip,
		" X-GZIP ":    codec.Gzip,
		"zstd":        codec.Zstd,
		"ZSTD":        codec.Zstd,
		"Br":          "br",
		"x-compress":  "x-compress",
		"gzip, br":    "gzip, br",
	} {
		require.Equal(t, want, codec.Normalize(in), "%q", in)
		if want == codec.Identity || want == codec.Gzip || want == codec.Zstd {
			require.True(t, codec.Known(in), "%q", in)
			enc, err := codec.Encode(nil, in, []byte("body"))
			require.NoError(t, err, "%q", in)
			dec, err := codec.Decode(nil, in, enc, 4)
			require.NoError(t, err, "%q", in)
			require.Equal(t, "body", string(dec), "%q", in)
		}
	}
}

func TestDecodeStopsAtMax(t *testing.T) {
	dst := []byte("as it was")
	for _, coding := range codings {
		for _, n := range []int{1, 100, 5000, 300 << 10} {
			enc := encode(t, coding, page(n))
			for _, max := range []int64{-1, math.MinInt64, 0, int64(n) / 2, int64(n) - 1} {
				out, err := codec.Decode(dst, coding, enc, max)
				require.ErrorIs(t, err, codec.ErrTooLarge, "%q %d of %d", coding, max, n)
				require.Equal(t, dst, out)
				// A large dst is no permission.
				_, err = codec.Decode(make([]byte, 0, 2*n+100), coding, enc, max)
				require.ErrorIs(t, err, codec.ErrTooLarge)
			}
			for _, max := range []int64{int64(n), int64(n) + 1, math.MaxInt64} {
				out, err := codec.Decode(nil, coding, enc, max)
				require.NoError(t, err)
				require.Len(t, out, n)
			}
		}
		out, err := codec.Decode(nil, coding, encode(t, coding, nil), 0)
		require.NoError(t, err)
		require.Empty(t, out)
	}
}

// RFC 1952 section 2.2 and RFC 8878 section 3: content may be a series.
func TestDecodeConcatenated(t *testing.T) {
	one, two := page(5000), noise(3000)
	whole := append(bytes.Clone(one), two...)
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		enc := encode(t, coding, one)
		enc = append(enc, encode(t, coding, nil)...)
		enc = append(enc, encode(t, coding, two)...)
		got, err := codec.Decode(nil, coding, enc, 8000)
		require.NoError(t, err)
		require.True(t, bytes.Equal(whole, got))

		_, err = codec.Decode(nil, coding, enc, 7999)
		require.ErrorIs(t, err, codec.ErrTooLarge)
	}
}

func TestRFC8878_3_1_2_SkippableFrames(t *testing.T) {
	skip := append([]byte{0x53, 0x2a, 0x4d, 0x18, 5, 0, 0, 0}, "skip!"...)
	enc := bytes.Join([][]byte{skip, encode(t, codec.Zstd, []byte("a")), skip, encode(t, codec.Zstd, []byte("b")), skip}, nil)
	got, err := codec.Decode(nil, codec.Zstd, enc, 2)
	require.NoError(t, err)
	require.Equal(t, "ab", string(got))

	for i := 1; i < len(skip); i++ {
		_, err := codec.Decode(nil, codec.Zstd, skip[:i], 2)
		require.ErrorIs(t, err, codec.ErrCorrupt, i)
	}
}

// streamed is src as a handler's own streaming encoder would send it: flushed
// now and then, so that no size is in front, and with a large window.
func streamed(t testing.TB, coding string, src []byte, flush int) []byte {
	t.Helper()
	var b bytes.Buffer
	var w interface {
		io.WriteCloser
		Flush() error
	}
	switch coding {
	case codec.Gzip:
		w = gzip.NewWriter(&b)
	case codec.Zstd:
		z, err := zstd.NewWriter(&b, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
		require.NoError(t, err)
		w = z
	}
	for len(src) > 0 {
		n := min(flush, len(src))
		_, err := w.Write(src[:n])
		require.NoError(t, err)
		require.NoError(t, w.Flush())
		src = src[n:]
	}
	require.NoError(t, w.Close())
	return b.Bytes()
}

func TestDecodeStreamed(t *testing.T) {
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		for _, n := range []int{100, 20000, 500 << 10} {
			body := page(n)
			enc := streamed(t, coding, body, 4000)
			for _, max := range []int64{int64(n), int64(n) + 1, 16 << 20} {
				got, err := codec.Decode(nil, coding, enc, max)
				require.NoError(t, err, "%q %d max %d", coding, n, max)
				require.True(t, bytes.Equal(body, got))
			}
			for _, max := range []int64{0, 50, int64(n) - 1} {
				_, err := codec.Decode(nil, coding, enc, max)
				require.ErrorIs(t, err, codec.ErrTooLarge, "%q %d max %d", coding, n, max)
			}
		}
	}
}

func TestDecodeTruncated(t *testing.T) {
	body := page(700)
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		for name, enc := range map[string][]byte{
			"whole":    encode(t, coding, body),
			"empty":    encode(t, coding, nil),
			"streamed": streamed(t, coding, body, 100),
		} {
			for i := range enc {
				out, err := codec.Decode(nil, coding, enc[:i], 1000)
				require.ErrorIs(t, err, codec.ErrCorrupt, "%s %s %d", coding, name, i)
				require.NotErrorIs(t, err, io.EOF, "an end that a reader could believe")
				require.Empty(t, out)
			}
			for i := 1; i < len(enc); i++ { // cut off in the second of two
				_, err := codec.Decode(nil, coding, append(bytes.Clone(enc), enc[:i]...), 2000)
				require.ErrorIs(t, err, codec.ErrCorrupt, "%s %s second %d", coding, name, i)
			}
			for _, tail := range []string{"\x00", "junk that belongs to nothing"} {
				_, err := codec.Decode(nil, coding, append(bytes.Clone(enc), tail...), 1000)
				require.ErrorIs(t, err, codec.ErrCorrupt)
			}
		}
	}
}

// A member that has optional header fields (RFC 1952 section 2.3.1) and is cut
// off inside them looks like a clean end to the gzip readers of Go.
func TestDecodeTruncatedInMemberName(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Name, w.Comment, w.Extra = "index.html", "a comment", []byte("extra")
	_, err := w.Write([]byte("body"))
	require.NoError(t, err)
	require.NoError(t, w.Close())
	whole := b.Bytes()

	got, err := codec.Decode(nil, codec.Gzip, append(bytes.Clone(whole), whole...), 8)
	require.NoError(t, err)
	require.Equal(t, "bodybody", string(got))
	for i := 1; i < len(whole); i++ {
		_, err := codec.Decode(nil, codec.Gzip, append(bytes.Clone(whole), whole[:i]...), 8)
		require.ErrorIs(t, err, codec.ErrCorrupt, i)
	}
}

// Whatever one flipped bit does, it never gives other content without an error,
// and never breaks the decoder for the next one.
func TestDecodeDamagedDoesNotPoisonThePool(t *testing.T) {
	body := page(700)
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		enc := encode(t, coding, body)
		for i := range enc {
			for bit := range 8 {
				bad := bytes.Clone(enc)
				bad[i] ^= 1 << bit
				got, err := codec.Decode(nil, coding, bad, 1000)
				switch {
				case err == nil:
					require.Equal(t, body, got, "%s byte %d bit %d", coding, i, bit)
				case !errors.Is(err, codec.ErrCorrupt):
					require.ErrorIs(t, err, codec.ErrTooLarge)
				}
			}
			got, err := codec.Decode(nil, coding, enc, 700)
			require.NoError(t, err)
			require.Equal(t, body, got)
		}
	}
}

func TestDecodeEmptySource(t *testing.T) {
	for _, coding := range []string{codec.Gzip, codec.Zstd} {
		_, err := codec.Decode(nil, coding, nil, 10)
		require.ErrorIs(t, err, codec.ErrCorrupt, coding)
	}
	out, err := codec.Decode(nil, codec.Identity, nil, 0)
	require.NoError(t, err)
	require.Empty(t, out)
}

func TestDecodeNeedsDictionary(t *testing.T) {
	// Frame with dictionary 7 and one empty raw block.
	frame := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x01, 0x00, 0x07, 0x01, 0x00, 0x00}
	_, err := codec.Decode(nil, codec.Zstd, frame, 10)
	require.ErrorIs(t, err, codec.ErrCorrupt)
}

func TestConcurrentUse(t *testing.T) {
	body := page(30 << 10)
	encoded := map[string][]byte{}
	for _, coding := range codings {
		encoded[coding] = encode(t, coding, body)
	}
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				coding := codings[(g+i)%len(codings)]
				enc, err := codec.Encode(nil, coding, body)
				if err != nil || !bytes.Equal(enc, encoded[coding]) {
					t.Errorf("encode %q: %v", coding, err)
				}
				bad := bytes.Clone(enc)
				bad[len(bad)/2] ^= 0x10
				_, _ = codec.Decode(nil, coding, bad, 40<<10)
				dec, err := codec.Decode(nil, coding, enc, 40<<10)
				if err != nil || !bytes.Equal(dec, body) {
					t.Errorf("decode %q: %v", coding, err)
				}
				_, _ = codec.Decode(nil, coding, enc, 1<<10)
				codec.Negotiate([]string{"gzip, zstd"}, codings)
				codec.Worth("text/html", 1000)
			}
		})
	}
	wg.Wait()
}

// zstdFrame is a frame without a checksum and without a size in front.
func zstdFrame(window byte, blocks ...[]byte) []byte {
	return zstdFrameOf([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, window}, blocks...)
}

// zstdSizedFrame is a frame of a single segment that says its size in four bytes.
func zstdSizedFrame(size uint32, blocks ...[]byte) []byte {
	head := binary.LittleEndian.AppendUint32([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xa0}, size)
	return zstdFrameOf(head, blocks...)
}

func zstdFrameOf(head []byte, blocks ...[]byte) []byte {
	frame := bytes.Clone(head)
	for i, b := range blocks {
		last := len(frame)
		frame = append(frame, b...)
		if i == len(blocks)-1 {
			frame[last] |= 1
		}
	}
	return frame
}

// Kinds of blocks: 0 is raw, 1 a byte repeated, 2 compressed, 3 reserved.
func zstdBlock(kind, size int, content ...byte) []byte {
	head := binary.LittleEndian.AppendUint32(nil, uint32(kind<<1|size<<3))
	return append(head[:3], content...)
}
