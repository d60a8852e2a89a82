package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// governing returns the directives that govern what a shared cache does with a
// response. It is the one place that knows which field they come from: the
// first of the Targets that is there, can be read and says something, else
// Cache-Control. If targeted is true, Cache-Control and Expires mean nothing
// (RFC 9213, section 2.2).
func governing(r Response) (d Directives, targeted bool) {
	for _, name := range r.Targets {
		name = http.CanonicalHeaderKey(name)
		read := targetedDirectives
		if name == "Surrogate-Control" {
			read = surrogateDirectives
		}
		if d, ok := read(values(r.Header, name)); ok {
			return d, true
		}
	}
	return ParseCacheControl(values(r.Header, "Cache-Control")), false
}

// targetedDirectives reads a targeted field: a Dictionary of directives (RFC
// 9213, section 2.1). It is valid or it is not: one syntax error, and it is as
// if the field were absent, as it is if it is empty.
//
// A directive whose value is of another type than its definition implies, such
// as max-age=60.0 or max-age="60", should not be consumed, says the section. The
// field is valid nevertheless and governs, so the directive is present and
// unreadable, as in Cache-Control: a lifetime is stale, what forbids forbids,
// and what permits does not. Boolean false means that the directive is not
// there.
func targetedDirectives(lines []string) (d Directives, ok bool) {
	members := 0
	ok = parseDictionary(fieldValue(lines), func(key string, value item) {
		members++
		if !known[key] {
			return
		}
		d.list = slices.DeleteFunc(d.list, func(x directive) bool { return x.name == key })
		if value != (item{boolean, "0"}) {
			d.list = append(d.list, targetedDirective(key, value))
		}
	})
	if !ok || members == 0 {
		return Directives{}, false
	}
	return d, true
}

func targetedDirective(name string, value item) directive {
	var takes itemKind
	switch name {
	case "max-age", "s-maxage", "stale-while-revalidate", "stale-if-error":
		takes = integer
	case "no-cache", "private":
		takes = sfString
	}
	switch value.kind {
	case boolean:
		return directive{name: name, bare: true}
	case takes:
		return directive{name: name, args: []string{value.text}}
	}
	return directive{name: name, malformed: true}
}

// surrogateDirectives reads Surrogate-Control, which is older than RFC 9213 and
// has a syntax of its own (W3C Note "Edge Architecture Specification", 2001,
// section 2.2). It knows three words about storing:
//
//   - max-age=60+30: fresh for 60 seconds, and for another 30 it may be served
//     stale while it is validated.
//   - no-store.
//   - no-store-remote, which is for surrogates that are far from the origin.
//     This one is part of it.
//
// A word may be followed by parameters; one without a value, as in
// "no-store;abc", is the name of the surrogate that the word is meant for, and
// none is called like this cache. Everything else, content="ESI/1.0" above all,
// is not about storing. If there is nothing else the field does not govern.
//
// Many people write Cache-Control into this field. Of that, what forbids is
// heeded: no-cache and private are taken for no-store, must-revalidate and
// proxy-revalidate keep their meaning of never stale.
func surrogateDirectives(lines []string) (d Directives, ok bool) {
	for _, line := range lines {
		r := memberReader{rest: line}
		for m, more := r.next(); more; m, more = r.next() {
			readable, ours := m.addressee()
			if !ours {
				continue
			}
			switch strings.ToLower(m.name) {
			case "max-age":
				lifetime, extension, extended := strings.Cut(m.arg, "+")
				if extended {
					_, first := deltaSeconds(lifetime)
					_, second := deltaSeconds(extension)
					readable = readable && first && second
					d.add("stale-while-revalidate", extension, true, readable)
				}
				d.add("max-age", lifetime, m.hasArg, readable)
			case "no-store", "no-cache", "private":
				d.add("no-store", "", false, true)
			case "must-revalidate", "proxy-revalidate":
				// Not must-revalidate, which would permit what section 3.5 of
				// RFC 9111 forbids.
				d.add("proxy-revalidate", "", false, true)
			}
		}
	}
	if !d.Has("max-age") && !d.Has("no-store") {
		return Directives{}, false
	}
	return d, true
}

// addressee reads the parameters of a member of Surrogate-Control: ours reports
// that it names no other surrogate. What cannot be read may be meant for
// anybody.
func (m member) addressee() (readable, ours bool) {
	if !m.ok || m.junk != "" && m.junk[0] != ';' {
		return false, true
	}
	ours = true
	for parameter := range strings.SplitSeq(m.junk, ";") {
		name, _, valued := strings.Cut(trimOWS(parameter), "=")
		switch {
		case name == "" && !valued:
		case !isToken(name):
			return false, true
		case !valued:
			ours = false
		}
	}
	return true, ours
}
