package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// hopByHop are the fields that end at this hop whether or not Connection names
// them (RFC 9110, section 7.6.1), and those a cache must not store because they
// are about a proxy (RFC 9111, section 3.1).
var hopByHop = []string{
	"Connection",
	"Keep-Alive",
	"Proxy-Authenticate",
	"Proxy-Authentication-Info", // httputil.ReverseProxy leaves it in
	"Proxy-Authorization",
	"Proxy-Connection",
	"Te",
	"Trailer",
	"Transfer-Encoding",
	"Upgrade",
}

// RemoveHopByHop removes from h what is meant for one connection and may
// neither be stored nor sent on (RFC 9110, section 7.6.1; RFC 9111, section
// 3.1): Connection, every field that any of its lines names, the fields known
// to be of this kind, and the trailers that net/http keeps in the header map
// under [http.TrailerPrefix]. It deletes keys of h and changes nothing else.
//
// Ask [Storable] first: a response may name anything in Connection, fields that
// forbid storing it included.
func RemoveHopByHop(h http.Header) {
	var named []string
	for _, line := range values(h, "Connection") {
		for member := range strings.SplitSeq(line, ",") {
			if member = trimOWS(member); member != "" {
				named = append(named, http.CanonicalHeaderKey(member))
			}
		}
	}
	for key := range h {
		canonical := http.CanonicalHeaderKey(key)
		if slices.Contains(hopByHop, canonical) || slices.Contains(named, canonical) ||
			strings.HasPrefix(key, http.TrailerPrefix) {
			delete(h, key)
		}
	}
}

// RemoveNoCacheFields removes from h the fields that the qualified no-cache of a
// response names. They must not be sent again without validation, while the
// rest of the response may (RFC 9111, section 5.2.2.4). It is meant for the
// header that is stored, not for the one the first client gets.
func RemoveNoCacheFields(h http.Header, r Response) {
	d, _ := governing(r)
	names, _ := d.Fields("no-cache")
	for key := range h {
		if slices.Contains(names, http.CanonicalHeaderKey(key)) {
			delete(h, key)
		}
	}
}

// values returns all lines of a field, wherever they are: net/http sends what a
// handler wrote as h["set-cookie"], so it is as good as Set-Cookie. Lines under
// several spellings come in the order in which net/http sends them. The name is
// canonical. The result must not be changed.
func values(h http.Header, name string) []string {
	var odd []string
	for key := range h {
		if len(key) == len(name) && key != name && strings.EqualFold(key, name) {
			odd = append(odd, key)
		}
	}
	if len(odd) == 0 {
		return h[name]
	}
	spellings := append(odd, name)
	slices.Sort(spellings)
	var lines []string
	for _, key := range spellings {
		lines = append(lines, h[key]...)
	}
	return lines
}
