package accel

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"
)

// keyedHeaders are request headers that handlers read without saying so in
// Vary: what a proxy says the client's URL was. Each is part of the key when it
// is present. Whoever sends poison in one of them is the only one who is served
// it, and a site behind a proxy that always sends them still hits.
//
// Client addresses (X-Forwarded-For, the for and by of Forwarded) are not among
// them: no two clients would share a response. A handler whose response depends
// on the address must not have it stored.
//
// The list is what frameworks are known to read, in every language, because the
// handler may be a reverse proxy. Its order is that of the key's material.
var keyedHeaders = [...]string{
	"Forwarded",
	"Front-End-Https",
	"X-Forwarded-Base",
	"X-Forwarded-Host",
	"X-Forwarded-Path",
	"X-Forwarded-Port",
	"X-Forwarded-Prefix",
	"X-Forwarded-Proto",
	"X-Forwarded-Protocol",
	"X-Forwarded-Scheme",
	"X-Forwarded-Server",
	"X-Forwarded-Ssl",
	"X-Forwarded-Uri",
	"X-Forwarded-Url",
	"X-Host",
	"X-Http-Host-Override",
	"X-Original-Host",
	"X-Original-Uri",
	"X-Original-Url",
	"X-Rewrite-Url",
	"X-Scheme",
	"X-Script-Name",
	"X-Server-Name",
	"X-Url-Scheme",
}

// keyedIndex returns where a canonical name stands in keyedHeaders, or -1. It is
// asked for every X- header of every request.
func keyedIndex(name string) int {
	// Binary search by hand: slices.BinarySearch with strings costs twice.
	i, j := 0, len(keyedHeaders)
	for i < j {
		m := int(uint(i+j) >> 1)
		if keyedHeaders[m] < name {
			i = m + 1
		} else {
			j = m
		}
	}
	if i < len(keyedHeaders) && keyedHeaders[i] == name {
		return i
	}
	return -1
}

// appendKeyed appends the keyed headers that g found in h.
func appendKeyed(b []byte, h http.Header, g glance) []byte {
	for i := 0; g.keyed>>i != 0; i++ {
		if g.keyed&(1<<i) == 0 {
			continue
		}
		name := keyedHeaders[i]
		values := h[name]
		b = appendField(b, name)
		b = appendUvarint(b, uint64(len(values)))
		for _, v := range values {
			if name == "Forwarded" {
				b = appendForwarded(b, v)
			} else {
				b = appendField(b, v)
			}
		}
	}
	if g.underscored {
		b = appendUnderscored(b, h)
	}
	return b
}

// appendUnderscored appends keyed headers that are spelt X_Forwarded_Host. To a
// handler that hands its request on to CGI or FastCGI they are the same as with
// dashes.
func appendUnderscored(b []byte, h http.Header) []byte {
	var names []string
	for name := range h {
		if strings.IndexByte(name, '_') > 0 && keyedIndex(dashed(name)) >= 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		b = appendField(b, name)
		b = appendUvarint(b, uint64(len(h[name])))
		for _, v := range h[name] {
			b = appendField(b, v)
		}
	}
	return b
}

func dashed(name string) string {
	return textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// appendForwarded appends one line of Forwarded (RFC 7239) without its for and
// by parameters.
//
// A handler may read the line with a parser of its own, and then a parameter
// that is a client address to us is a host to it. So one is left out only if
// every reader must see it alike: it is a token, or quoted as a whole with
// nothing in it that separates or escapes. Any other line is taken whole.
func appendForwarded(b []byte, line string) []byte {
	const end, piece, whole = 0, 1, 2
	start := len(b)
	takeWhole := func() []byte { return appendField(append(b[:start], whole), line) }
	if strings.IndexByte(line, '\\') >= 0 {
		return takeWhole()
	}
	for rest, more := line, true; more; {
		i := strings.IndexAny(rest, ",;")
		p := rest
		if more = i >= 0; more {
			p, rest = rest[:i], rest[i+1:]
		}
		name, value, _ := strings.Cut(p, "=")
		value = strings.TrimSpace(value)
		quotes := strings.Count(p, `"`)
		if quotes != 0 && !(quotes == 2 && len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"') {
			return takeWhole()
		}
		name = strings.TrimSpace(name)
		if !strings.EqualFold(name, "for") && !strings.EqualFold(name, "by") {
			b = appendField(append(b, piece), p)
		}
	}
	return append(b, end)
}
