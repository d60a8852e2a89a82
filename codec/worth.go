package codec

import "strings"

// MinSize is the least length in bytes that is worth compressing. What a
// smaller body could save is less than a TCP segment: with its header it
// travels in one packet either way, and the client would decode it for nothing.
const MinSize = 512

// Worth reports whether a body of this content type and length in bytes is
// worth compressing: it has at least [MinSize] bytes, and its type is one that
// shrinks. Case and parameters of the type do not matter.
//
// The answer is no for a type that is compressed already (JPEG, WOFF2, video,
// archives), for one that is not known, and for text/event-stream: events are
// waited for one by one.
func Worth(contentType string, length int) bool {
	return length >= MinSize && compressible(contentType)
}

func compressible(contentType string) bool {
	mediaType, _, _ := strings.Cut(contentType, ";")
	mediaType = strings.ToLower(strings.Trim(mediaType, " \t"))
	if mediaType == "text/event-stream" {
		return false
	}
	if subtype, ok := strings.CutPrefix(mediaType, "text/"); ok {
		return subtype != ""
	}
	if i := strings.LastIndexByte(mediaType, '+'); i >= 0 && compressibleSuffixes[mediaType[i:]] {
		return true
	}
	return compressibleTypes[mediaType]
}

// compressibleSuffixes are the structured syntax suffixes (RFC 6839 and the
// IANA registry of that name) that stand for text.
var compressibleSuffixes = map[string]bool{
	"+json":     true,
	"+json-seq": true,
	"+xml":      true, // image/svg+xml, application/rss+xml ...
	"+yaml":     true,
}

// compressibleTypes are the types outside text/ that shrink. The list is one of
// those that do, because a type that is left out costs bandwidth, and one that
// is wrongly in it costs time for nothing on every store.
var compressibleTypes = map[string]bool{
	"application/ecmascript":            true,
	"application/graphql":               true,
	"application/javascript":            true,
	"application/json":                  true,
	"application/json-seq":              true,
	"application/jsonl":                 true,
	"application/ndjson":                true,
	"application/postscript":            true,
	"application/rtf":                   true,
	"application/sql":                   true,
	"application/toml":                  true,
	"application/wasm":                  true,
	"application/x-javascript":          true,
	"application/x-ndjson":              true,
	"application/x-sh":                  true,
	"application/x-www-form-urlencoded": true,
	"application/x-yaml":                true,
	"application/xml":                   true,
	"application/xml-dtd":               true,
	"application/yaml":                  true,

	// Fonts that are bare tables. WOFF and WOFF2 are compressed inside.
	"application/vnd.ms-fontobject": true,
	"application/x-font-opentype":   true,
	"application/x-font-otf":        true,
	"application/x-font-truetype":   true,
	"application/x-font-ttf":        true,
	"application/x-opentype":        true,
	"application/x-truetype":        true,
	"font/collection":               true,
	"font/eot":                      true,
	"font/opentype":                 true,
	"font/otf":                      true,
	"font/sfnt":                     true,
	"font/ttf":                      true,

	// Images that are bare pixels.
	"image/bmp":                true,
	"image/vnd.microsoft.icon": true,
	"image/x-icon":             true,
	"image/x-ms-bmp":           true,
}
