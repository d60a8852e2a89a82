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
// A handler may read the line with a parser of its own, or with a regular
// expression, and then a parameter that is a client address to us is a host to
// it. So one is left out only if every reader must see it alike: it is made of
// what addresses are made of. What is left keeps the commas in front of it,
// because many read the first element alone, or the last.
func appendForwarded(b []byte, line string) []byte {
	const end, piece, whole = 0, 1, 2
	const quoting = `"\`
	start := len(b)
	commas := 0 // since the last piece
	for rest, more := line, true; more; {
		p, separator := rest, byte(';')
		i := strings.IndexAny(rest, ",;")
		if more = i >= 0; more {
			p, separator, rest = rest[:i], rest[i], rest[i+1:]
		}
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		switch {
		case strings.ContainsAny(name, quoting), strings.ContainsAny(value, quoting) && !isAddress(value):
			// The next separator may be within quotes.
			return appendField(append(b[:start], whole), line)
		case isAddress(value) && (strings.EqualFold(name, "for") || strings.EqualFold(name, "by")):
		default:
			b = appendField(append(b, piece), strings.Repeat(",", commas)+p)
			commas = 0
		}
		if separator == ',' {
			commas++
		}
	}
	return append(b, end)
}

// isAddress reports whether s looks like a node of RFC 7239, section 6, in
// quotes or not: an address, with a port or without, or a name that stands for
// one.
func isAddress(s string) bool {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	for _, c := range []byte(s) {
		switch {
		case '0' <= c && c <= '9', 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', strings.IndexByte("._-:[]", c) >= 0:
		default:
			return false
		}
	}
	return true
}
