package rfc9111

import (
	"net/http"
	"slices"
	"strings"
)

// AppendSelectingValue appends to b the value of a request header as it is
// compared for Vary. Two values of a field that come out alike select the same
// response (RFC 9111, section 4.1). A field that is absent matches only one that
// is absent, not an empty one, so present tells these apart. The name is
// canonical, as from [VaryNames].
//
// Lines are joined with ", ", and whitespace around each of them is removed.
// Where the syntax is known, which is in Accept, Accept-Charset and
// Accept-Language (RFC 9110, section 12.5), what has no meaning is made the same
// too: the case of names, whitespace, how a weight is written, and the order of
// members of different weight. Members of equal weight keep their order: many
// handlers take the first they know. What is not by the grammar, such as a
// weight of ".5", is compared as it is written.
//
// It allocates nothing but what b needs, for up to 16 members on one line. Host
// is never there: net/http keeps it in Request.Host, and it is part of every
// cache key anyway.
func AppendSelectingValue(b []byte, h http.Header, name string) (out []byte, present bool) {
	lines := h[name]
	if len(lines) == 0 {
		return b, false
	}
	start := len(b)
	switch name {
	case "Accept", "Accept-Charset", "Accept-Language":
		var room [16]preference
		if list, ok := readPreferences(room[:0], lines, name); ok {
			return appendPreferences(b, list), true
		}
	}
	for i, line := range lines {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = append(b, trimOWS(line)...)
	}
	for len(b) > start && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b, true
}

// A preference is one member of Accept, Accept-Charset or Accept-Language.
type preference struct {
	name       string // a media range, a charset or a language range
	parameters string // of a media range, as written, from the first semicolon
	weight     int    // in thousandths
}

// readPreferences appends the members of all lines to list. ok is false if
// anything is not by the grammar of the field with this name.
func readPreferences(list []preference, lines []string, field string) (_ []preference, ok bool) {
	for _, line := range lines {
		for {
			line = strings.TrimLeft(line, " \t,")
			if line == "" {
				break
			}
			var p preference
			if p, line, ok = cutPreference(line, field); !ok {
				return nil, false
			}
			list = append(list, p)
		}
	}
	return list, true
}

// cutPreference reads the member that s begins with, and returns what follows
// it: nothing, or a comma. The weight must come last, though Accept once allowed
// other things after it.
func cutPreference(s, field string) (p preference, rest string, ok bool) {
	n := rangeLen(s, field)
	if n == 0 {
		return preference{}, s, false
	}
	p = preference{name: s[:n], weight: 1000}
	after := strings.TrimLeft(s[n:], " \t")
	rest = after
	for weighted := false; rest != "" && rest[0] != ','; {
		name, value, more, ok := cutParameter(rest)
		switch {
		case !ok || weighted:
			return preference{}, s, false
		case strings.EqualFold(name, "q"):
			if p.weight, weighted = parseWeight(value); !weighted {
				return preference{}, s, false
			}
		case field != "Accept":
			return preference{}, s, false
		default:
			p.parameters = after[:len(after)-len(more)]
		}
		rest = strings.TrimLeft(more, " \t")
	}
	return p, rest, true
}

// rangeLen returns the length of what is weighted in a field, at the beginning
// of s: a media range, a charset, or a language range (RFC 9110, section 12.5;
// RFC 4647, section 2.1).
func rangeLen(s, field string) int {
	n := tokenLen(s)
	switch {
	case n == 0:
	case field == "Accept":
		if n == len(s) || s[n] != '/' {
			return 0
		}
		subtype := tokenLen(s[n+1:])
		if subtype == 0 || s[:n] == "*" && s[n+1:n+1+subtype] != "*" {
			return 0
		}
		n += 1 + subtype
	case field == "Accept-Language" && s[:n] != "*":
		length, first := 0, true
		for i := range n {
			switch c := s[i]; {
			case c == '-' && length > 0:
				length, first = 0, false
				continue
			case !isAlpha(c) && (first || !isDigit(c)):
				return 0
			}
			if length++; length > 8 {
				return 0
			}
		}
		if length == 0 {
			return 0
		}
	}
	return n
}

// cutParameter reads the parameter (RFC 9110, section 5.6.6) that s begins with,
// semicolon first. The value is as written, with its quotation marks.
func cutParameter(s string) (name, value, rest string, ok bool) {
	if s == "" || s[0] != ';' {
		return "", "", s, false
	}
	s = strings.TrimLeft(s[1:], " \t")
	n := tokenLen(s)
	if n == 0 || n == len(s) || s[n] != '=' {
		return "", "", s, false
	}
	name, value = s[:n], s[n+1:]
	if strings.HasPrefix(value, `"`) {
		if _, rest, ok = quotedString(value); !ok {
			return "", "", s, false
		}
	} else {
		rest = value[tokenLen(value):]
	}
	value = value[:len(value)-len(rest)]
	return name, value, rest, value != ""
}

// parseWeight reads a qvalue (RFC 9110, section 12.4.2) in thousandths.
func parseWeight(s string) (weight int, ok bool) {
	if s == "" || s[0] != '0' && s[0] != '1' || len(s) > len("0.123") {
		return 0, false
	}
	weight = int(s[0]-'0') * 1000
	if s = s[1:]; s != "" && s[0] != '.' {
		return 0, false
	}
	for i, unit := 1, 100; i < len(s); i, unit = i+1, unit/10 {
		if !isDigit(s[i]) {
			return 0, false
		}
		weight += int(s[i]-'0') * unit
	}
	return weight, weight <= 1000
}

func appendPreferences(b []byte, list []preference) []byte {
	slices.SortStableFunc(list, func(x, y preference) int { return y.weight - x.weight })
	for i, p := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLower(b, p.name)
		for s := p.parameters; s != ""; {
			name, value, rest, _ := cutParameter(s)
			b = append(appendLower(append(b, ';'), name), '=')
			b = append(b, value...)
			s = strings.TrimLeft(rest, " \t")
		}
		b = appendWeight(b, p.weight)
	}
	return b
}

// appendWeight writes a weight in its shortest form; 1 is what no weight means.
func appendWeight(b []byte, weight int) []byte {
	if weight == 1000 {
		return b
	}
	b = append(b, ";q=0"...)
	if weight > 0 {
		b = append(b, '.')
	}
	for ; weight > 0; weight = weight % 100 * 10 {
		b = append(b, '0'+byte(weight/100))
	}
	return b
}

func appendLower(b []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		b = append(b, c)
	}
	return b
}
