// Package codec is about content codings (RFC 9110 section 8.4.1): it encodes
// and decodes a whole body, chooses a coding for a client, and says which
// bodies are worth the trouble.
//
// # Codings
//
// Three are known: [Gzip] and [Zstd], and [Identity], which is the absence of a
// coding. They are named as they stand in the Content-Encoding field, so
// Identity is the empty string. Functions that take a single coding accept it
// as a client or a handler may have written it ("GZIP", "x-gzip", "identity");
// see [Normalize]. A list ("gzip, zstd") is not a coding and is unknown.
//
// # Bodies, not streams
//
// A cache has the body in its hand, so [Encode] and [Decode] append to a slice.
// Their machinery is pooled: a gzip writer that is made anew for each body
// costs ten times the compression of a page.
//
// # Determinism
//
// The same body encodes to the same bytes, whatever the pools hold, as long as
// the version of the compressor is the same. An entity tag may be made from
// them, but must be made from what is stored: another version may find a
// shorter encoding.
//
// # Trust
//
// What [Decode] reads may come from anywhere. It is bounded by its caller and
// believes no length that the input claims, see there. What [Negotiate] reads
// comes from a client: its work is linear in the length of the field and it
// allocates nothing.
//
// All functions may be called by any number of goroutines at once. No goroutine
// is left behind, and there is nothing to close.
package codec

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// The codings, as they stand in the Content-Encoding field.
const (
	Identity = ""     // no coding: the field is absent
	Gzip     = "gzip" // RFC 9110 section 8.4.1.3, RFC 1952
	Zstd     = "zstd" // RFC 8878, its window bounded by RFC 9659
)

var (
	// ErrUnknown is returned for a coding that this package does not speak.
	ErrUnknown = errors.New("codec: unknown content coding")

	// ErrTooLarge is returned when more would come out of [Decode] than its
	// caller allows.
	ErrTooLarge = errors.New("codec: decoded content too large")

	// ErrCorrupt is returned for content that is not what its coding says:
	// damaged, cut off, followed by something else, or asking for more than
	// the coding permits in HTTP.
	ErrCorrupt = errors.New("codec: corrupt content")
)

// Encode appends the encoded src to dst and returns the extended slice. For
// [Identity] that is a copy. The only error is [ErrUnknown]; dst is then
// returned as it was.
//
// gzip is level 6 without a modification time, zstd is the default level with
// a window of 1 MiB (RFC 9659 allows 8 MiB) and a checksum.
//
// With a nil dst the result carries no slack beyond what the allocator rounds
// up to, so it may be kept for long as it is. src and dst must not overlap.
func Encode(dst []byte, coding string, src []byte) ([]byte, error) {
	switch Normalize(coding) {
	case Identity:
		return append(dst, src...), nil
	case Gzip:
		return encodeGzip(dst, src), nil
	case Zstd:
		return encodeZstd(dst, src), nil
	}
	return dst, unknown(coding)
}

// Decode appends the decoded src to dst and returns the extended slice. At
// most max bytes are appended: it stops with [ErrTooLarge] as soon as there
// would be more. A negative max is zero. Other errors are [ErrUnknown] and
// [ErrCorrupt], to be asked for with [errors.Is]. With any error dst is
// returned as it was, though what lay between its length and its capacity may
// have been overwritten.
//
// A src of several gzip members (RFC 1952 section 2.2) or zstd frames (RFC 8878
// section 3) is decoded to the end; the checksums of all are verified. An empty
// src has no member and no frame, so it is corrupt. Content cut off exactly
// between two of them cannot be told from whole content.
//
// The memory used is bounded by max, not by what src claims: not much more than
// twice max at any time, beyond a constant below 1 MiB. A zstd frame that asks
// for a window above the 8 MiB of RFC 9659 is corrupt, and so is one that needs
// a dictionary. Where src does not say how long its content is, the result may
// have a capacity far above its length: clone it before keeping it. src and dst
// must not overlap.
func Decode(dst []byte, coding string, src []byte, max int64) ([]byte, error) {
	limit := decodeLimit(len(dst), max)
	var out []byte
	var err error
	switch Normalize(coding) {
	case Identity:
		if len(src) > limit {
			return dst, ErrTooLarge
		}
		return append(dst, src...), nil
	case Gzip:
		out, err = decodeGzip(dst, src, limit)
	case Zstd:
		out, err = decodeZstd(dst, src, limit)
	default:
		return dst, unknown(coding)
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// Known reports whether [Decode] and [Encode] speak the coding, in any spelling
// that [Normalize] understands.
func Known(coding string) bool {
	switch Normalize(coding) {
	case Identity, Gzip, Zstd:
		return true
	}
	return false
}

// Normalize returns the one spelling of a content coding: in lower case
// (codings are case-insensitive, RFC 9110 section 8.4.1), without white space
// around it, "gzip" for its alias "x-gzip" (section 8.4.1.3), and [Identity]
// for "identity". Other names are not judged.
func Normalize(coding string) string {
	coding = strings.ToLower(strings.Trim(coding, " \t"))
	switch coding {
	case "x-gzip":
		return Gzip
	case "identity":
		return Identity
	}
	return coding
}

// decodeLimit turns the caller's max into a number of bytes that fits behind a
// prefix of n bytes in one slice with a block to spare, so that no sum further
// down can overflow.
func decodeLimit(n int, max int64) int {
	if max < 0 {
		return 0
	}
	return int(min(max, int64(math.MaxInt-maxBlock-room-n)))
}

func unknown(coding string) error { return fmt.Errorf("%w %q", ErrUnknown, coding) }

// corrupt hides the cause's identity on purpose: the causes are the
// compressor's, and one of them is io.EOF, which a caller would take for an end.
func corrupt(coding string, cause any) error {
	return fmt.Errorf("%w: %s: %v", ErrCorrupt, coding, cause)
}
