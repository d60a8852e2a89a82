package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// VaryNames returns the request headers that a response names in Vary, on all
// its lines: canonical, sorted, each once. star reports that the response fits
// no other request (RFC 9111, section 4.1): "*" stands anywhere among them, or
// something that is no field name and that nobody could compare. There are no
// names then.
//
// Accept-Encoding is left out: content codings are negotiated by the cache
// itself, out of one entry.
func VaryNames(h http.Header) (names []string, star bool) {
	for _, line := range values(h, "Vary") {
		for member := range strings.SplitSeq(line, ",") {
			member = trimOWS(member)
			if member == "" {
				continue
			}
			if member == "*" || !isToken(member) {
				return nil, true
			}
			if name := http.CanonicalHeaderKey(member); name != "Accept-Encoding" {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), false
}

// SelectingValue returns the value of a request header as it is compared for
// Vary (RFC 9111, section 4.1): its lines joined with ", ", whitespace around
// each of them and around the whole removed. A field that is absent matches
// only one that is absent, not an empty one, so present tells these apart. The
// name is canonical, as from [VaryNames].
//
// For a single line it allocates nothing. Host is never there: net/http keeps
// it in Request.Host, and it is part of every cache key anyway.
func SelectingValue(h http.Header, name string) (value string, present bool) {
	lines := h[name]
	switch len(lines) {
	case 0:
		return "", false
	case 1:
		return trimOWS(lines[0]), true
	}
	var b strings.Builder
	for i, line := range lines {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(trimOWS(line))
	}
	return trimOWS(b.String()), true
}
