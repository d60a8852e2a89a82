package codec

import (
	"errors"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow is what a decoder in HTTP must be ready for, and all it need be
	// ready for (RFC 9659 section 3).
	maxWindow = 8 << 20

	// encoderWindow is below that, because an encoder that has met one body of
	// more than a block keeps a history of twice the window: 2 MiB, not 16,
	// for every processor. Bodies up to 1 MiB lose nothing.
	encoderWindow = 1 << 20

	// maxBlock is the most that one block decodes to (RFC 8878 section
	// 3.1.1.2.4), if the window is not smaller still.
	maxBlock = 128 << 10

	// room is what is left free behind a decoded body: the decoder copies in
	// steps of 16 bytes where it may write past the end.
	room = 16
)

// An encoder with a concurrency of one has no goroutine, nor has a decoder, so
// nothing has to be closed when the pool drops it.
var zstdEncoders = sync.Pool{New: func() any {
	w, err := zstd.NewWriter(nil,
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithWindowSize(encoderWindow),
		zstd.WithEncoderCRC(true),
		zstd.WithZeroFrames(true))
	if err != nil {
		panic("codec: zstd encoder: " + err.Error())
	}
	return &zstdEncoder{w: w}
}}

type zstdEncoder struct {
	w   *zstd.Encoder
	out []byte
}

// encodeZstd goes through a buffer of the pool, because EncodeAll gives its
// result a capacity of the whole src.
func encodeZstd(dst, src []byte) []byte {
	e := zstdEncoders.Get().(*zstdEncoder)
	e.out = e.w.EncodeAll(src, e.out[:0])
	dst = append(dst, e.out...)
	zstdEncoders.Put(e)
	return dst
}

var zstdDecoders = sync.Pool{New: func() any {
	r, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(maxWindow),
		// The capacity we give is the limit. Its own WithDecoderMaxMemory would
		// be one too, but it refuses a small page in a frame whose window is
		// larger than the limit, which is what every streaming encoder sends.
		zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("codec: zstd decoder: " + err.Error())
	}
	return r
}}

// decodeZstd appends at most limit bytes.
func decodeZstd(dst, src []byte, limit int) ([]byte, error) {
	size, err := measureZstd(src, uint64(limit))
	if err != nil {
		return dst, err
	}
	// If the bound is above the limit, the content may still be below. There is
	// space for a block beyond the limit then, because a decoder that runs out of
	// it reports that in the same words as it does damage: by then it is past the
	// limit, and that can be seen.
	need := limit + maxBlock + room
	if size <= uint64(limit) {
		need = int(size) + room
	}
	n := len(dst)
	dst = slices.Grow(dst, need)
	d := zstdDecoders.Get().(*zstd.Decoder)
	out, err := d.DecodeAll(src, dst[:n:n+need])
	switch {
	case len(out)-n > limit, errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return dst, ErrTooLarge
	case err != nil:
		return dst, corrupt(Zstd, err) // d is not put back, see decodeGzip
	}
	zstdDecoders.Put(d)
	return out, nil
}

// measureZstd walks over the frames and blocks of src without decoding them
// (RFC 8878 section 3.1.1) and returns an upper bound of what they decode to:
// exact where a frame says its size, raised to whole blocks where it does not.
// What cannot be true, or is certainly above limit, is refused here, before
// anything is allocated for it.
func measureZstd(src []byte, limit uint64) (size uint64, err error) {
	if len(src) == 0 {
		return 0, corrupt(Zstd, "no frame")
	}
	var least uint64 // what comes out at the least
	for len(src) > 0 {
		var h zstd.Header
		rest, err := h.DecodeAndStrip(src)
		if err != nil {
			return 0, corrupt(Zstd, err)
		}
		if h.Skippable {
			if uint64(h.SkippableSize) > uint64(len(rest)) {
				return 0, corrupt(Zstd, "skippable frame cut off")
			}
			src = rest[h.SkippableSize:]
			continue
		}
		if h.HasFCS && h.FrameContentSize > limit {
			return 0, ErrTooLarge
		}
		window := h.WindowSize
		if h.SingleSegment {
			window = max(h.FrameContentSize, zstd.MinWindowSize)
		}
		if window > maxWindow {
			return 0, corrupt(Zstd, "window larger than 8 MiB")
		}
		sure, most, rest, err := measureBlocks(rest, min(window, maxBlock))
		if err != nil {
			return 0, err
		}
		if h.HasCheckSum {
			if len(rest) < 4 {
				return 0, corrupt(Zstd, "checksum cut off")
			}
			rest = rest[4:]
		}
		if h.HasFCS {
			if h.FrameContentSize < sure || h.FrameContentSize > most {
				return 0, corrupt(Zstd, "frame content size is not that of its blocks")
			}
			sure, most = h.FrameContentSize, h.FrameContentSize
		}
		least += sure
		size += most
		if least > limit {
			return 0, ErrTooLarge
		}
		src = rest
	}
	return size, nil
}

// measureBlocks walks over the blocks of one frame. Raw and RLE blocks say how
// long they are; of a compressed one only the maximum is known.
func measureBlocks(src []byte, block uint64) (sure, most uint64, rest []byte, err error) {
	const header = 3
	for {
		if len(src) < header {
			return 0, 0, nil, corrupt(Zstd, "block header cut off")
		}
		head := uint32(src[0]) | uint32(src[1])<<8 | uint32(src[2])<<16
		src = src[header:]
		size := uint64(head >> 3)
		if size > block {
			return 0, 0, nil, corrupt(Zstd, "block too large")
		}
		stored := size
		switch head >> 1 & 3 {
		case 0: // raw
			sure += size
			most += size
		case 1: // one byte, repeated
			sure += size
			most += size
			stored = 1
		case 2: // compressed
			most += block
		default:
			return 0, 0, nil, corrupt(Zstd, "reserved block type")
		}
		if stored > uint64(len(src)) {
			return 0, 0, nil, corrupt(Zstd, "block cut off")
		}
		src = src[stored:]
		if head&1 != 0 { // the last one
			return sure, most, src, nil
		}
	}
}
