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
