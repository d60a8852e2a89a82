package codec

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// gzipLevel is where the curve bends: level 9 takes three to five times as long
// for one or two percent.
const gzipLevel = 6

var gzipEncoders = sync.Pool{New: func() any {
	w, err := gzip.NewWriterLevel(nil, gzipLevel)
	if err != nil {
		panic("codec: gzip level: " + err.Error())
	}
	return &gzipEncoder{w: w}
}}

type gzipEncoder struct {
	w   *gzip.Writer
	out bytes.Buffer
}

// encodeGzip goes through a buffer of the pool, because a slice that grows
// under the compressor ends up with a capacity its keeper did not order.
func encodeGzip(dst, src []byte) []byte {
	e := gzipEncoders.Get().(*gzipEncoder)
	e.out.Reset()
	e.w.Reset(&e.out)

	// Reset leaves the zero time.Time, which the writer would write as the low
	// half of a negative number. Zero in the field means: no time stamp
	// (RFC 1952 section 2.3.1).
	e.w.ModTime = time.Unix(0, 0)

	// Neither can fail: a bytes.Buffer takes everything.
	_, _ = e.w.Write(src)
	_ = e.w.Close()
	dst = append(dst, e.out.Bytes()...)
	gzipEncoders.Put(e)
	return dst
}

var gzipDecoders = sync.Pool{New: func() any { return new(gzipDecoder) }}

type gzipDecoder struct {
	r     gzip.Reader
	src   bytes.Reader // inflate has a path of its own for this very type
	spare [512]byte
}

// decodeGzip appends at most limit bytes.
func decodeGzip(dst, src []byte, limit int) ([]byte, error) {
	d := gzipDecoders.Get().(*gzipDecoder)
	dst, err := d.decode(slices.Grow(dst, gzipGuess(src, limit)), src, limit)
	if err != nil {
		// Not put back: a new decoder is cheaper than the proof that nothing
		// of a damaged stream is left in the old one.
		return dst, err
	}
	d.src.Reset(nil)
	gzipDecoders.Put(d)
	return dst, nil
}

// decode reads member after member. It does not leave that to the reader, which
// takes a member cut off inside its file name for the end of the content.
func (d *gzipDecoder) decode(dst, src []byte, limit int) ([]byte, error) {
	d.src.Reset(src)
	for {
		if err := d.r.Reset(&d.src); err != nil {
			return dst, corrupt(Gzip, err)
		}
		d.r.Multistream(false)
		n := len(dst)
		var err error
		if dst, err = d.member(dst, limit); err != nil {
			return dst, err
		}
		limit -= len(dst) - n
		if d.src.Len() == 0 {
			return dst, nil
		}
	}
}

func (d *gzipDecoder) member(dst []byte, limit int) ([]byte, error) {
	for end := len(dst) + limit; ; {
		// When dst is full, the next bytes go to the spare: more often than
		// not there are none, and dst was of the right size.
		into := dst[len(dst):min(cap(dst), end)]
		full := len(into) == 0
		if full {
			into = d.spare[:]
		}
		n, err := d.r.Read(into)
		switch {
		case !full:
			dst = dst[:len(dst)+n]
		case n > end-len(dst):
			return dst, ErrTooLarge
		case n > 0:
			more := min(max(len(dst), len(d.spare)), end-len(dst))
			dst = append(slices.Grow(dst, more), into[:n]...)
		}
		if err != nil {
			if err == io.EOF {
				return dst, nil
			}
			return dst, corrupt(Gzip, err)
		}
	}
}

// gzipGuess says how much space to begin with. The trailer has the length of
// the last member, modulo 4 GiB, and it may lie: it is believed as far as the
// format can expand at all (1032 to 1, 258 bytes from a quarter of a byte).
func gzipGuess(src []byte, limit int) int {
	const trailer, expansion = 8, 1032
	if len(src) < trailer {
		return 0
	}
	size := uint64(binary.LittleEndian.Uint32(src[len(src)-4:]))
	return int(min(size, uint64(len(src))*expansion, uint64(limit)))
}
