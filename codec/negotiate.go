package codec

import "strings"

// Negotiate chooses one of offers for a request, by RFC 9110 section 12.5.3.
// accept has the values of all its Accept-Encoding field lines, as in
// r.Header["Accept-Encoding"]: none if the field is absent, one empty value if
// it is there and empty. offers has the codings at hand, as [Normalize] spells
// them, the one the server likes best first.
//
// It returns the index of the acceptable offer with the highest weight, of
// equals the first. If none is acceptable, it returns -1 and false.
//
// Details that the RFC leaves open, or that matter:
//
//   - No field, no coding. To the RFC a request without Accept-Encoding accepts
//     anything; in practice it comes from a client that has never heard of
//     codings. It gets identity, and if that is not offered, nothing: the caller
//     decodes what it has.
//   - Identity that is not mentioned is acceptable, but comes after everything
//     that is mentioned with a weight above zero. A "*" mentions it, too.
//   - A member whose weight is not a weight of section 12.4.2 (three digits at
//     the most, nothing behind them) counts as weight zero: not acceptable.
//   - A coding that is listed several times counts with its lowest weight. What
//     a client has once refused is not sent to it. "x-gzip" is "gzip".
//
// It allocates nothing and does not keep its arguments, so that offers may be an
// array on the caller's stack.
func Negotiate(accept []string, offers []string) (i int, ok bool) {
	best, i := weight(0), -1
	for from := 0; from < len(offers); from += batch {
		part := offers[from:min(from+batch, len(offers))]
		weights := weigh(accept, part)
		for k := range part {
			if weights[k] > best {
				best, i = weights[k], from+k
			}
		}
	}
	return i, i >= 0
}

// Acceptable reports whether a client with these Accept-Encoding field lines
// (see [Negotiate]) takes a body in this coding, in any spelling. Without the
// field it takes identity alone, for the reason given there.
func Acceptable(accept []string, coding string) bool {
	offer := [1]string{Normalize(coding)}
	return weigh(accept, offer[:])[0] > 0
}

// Restrict returns the Accept-Encoding for a request that is sent on in place of
// one with these field lines, so that its response can be decoded here: of the
// codings it accepts those that are [Known], or "identity".
func Restrict(accept []string) string {
	var known []string
	for _, coding := range []string{Zstd, Gzip} {
		if Acceptable(accept, coding) {
			known = append(known, coding)
		}
	}
	if known == nil {
		return "identity"
	}
	return strings.Join(known, ", ")
}

// A weight is a qvalue in units of 1/2000, which leaves a place between 0 and
// the least qvalue, 0.001.
type weight int16

const (
	unset      weight = -1
	refused    weight = 0
	unasked    weight = 1 // identity that nobody has mentioned
	thousandth weight = 2
	full       weight = 1000 * thousandth
)

// batch is how many offers are weighed in one pass over the field. There are
// seldom more than three.
const batch = 8

// weigh returns the weights of at most batch offers.
func weigh(accept []string, offers []string) (weights [batch]weight) {
	if len(accept) == 0 {
		for k, offer := range offers {
			if offer == Identity {
				weights[k] = unasked
			}
		}
		return weights
	}
	for k := range weights {
		weights[k] = unset
	}
	rest := unset // the weight of "*"
	for _, line := range accept {
		for line != "" {
			var name string
			var w weight
			name, w, line = readMember(line)
			switch name {
			case "": // RFC 9110 section 5.6.1.2: empty members are ignored
				continue
			case "*":
				rest = lower(rest, w)
				continue
			}
			coding := codingOf(name)
			for k, offer := range offers {
				if fold(coding, offer) {
					weights[k] = lower(weights[k], w)
				}
			}
		}
	}
	for k, offer := range offers {
		switch {
		case weights[k] != unset:
		case rest != unset:
			weights[k] = rest
		case offer == Identity:
			weights[k] = unasked
		default:
			weights[k] = refused
		}
	}
	return weights
}

func lower(old, w weight) weight {
	if old == unset || w < old {
		return w
	}
	return old
}

// readMember reads the first member of a list,
//
//	codings [ weight ]
//
// with white space around it, and returns what is behind the comma. A member
// with anything else in it is refused. Most have no weight: these are read once.
func readMember(line string) (name string, w weight, rest string) {
	line = trimLeft(line)
	n := 0
	for n < len(line) && !endsName(line[n]) {
		n++
	}
	name, line = line[:n], line[n:]
	switch {
	case line == "":
		return name, full, ""
	case line[0] == ',':
		return name, full, line[1:]
	}
	tail, rest, _ := strings.Cut(line, ",")
	return name, readWeight(tail), rest
}

func endsName(c byte) bool {
	return c <= ';' && (c == ',' || c == ';' || c == ' ' || c == '\t')
}

// readWeight reads
//
//	[ OWS ";" OWS "q=" qvalue ]
//
// with white space behind it. What is not one is refused.
func readWeight(s string) weight {
	s = trimLeft(s)
	if s == "" {
		return full
	}
	if s[0] != ';' {
		return refused
	}
	s = trimLeft(s[1:])
	if len(s) < 2 || s[0]|0x20 != 'q' || s[1] != '=' {
		return refused
	}
	return readQvalue(s[2:])
}

// readQvalue reads
//
//	( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
//
// with white space behind it. What is not one is refused.
func readQvalue(s string) weight {
	if s == "" || s[0] != '0' && s[0] != '1' {
		return refused
	}
	w := weight(s[0]-'0') * full
	s = s[1:]
	if s != "" && s[0] == '.' {
		s = s[1:]
		for unit := 100 * thousandth; s != "" && '0' <= s[0] && s[0] <= '9'; unit /= 10 {
			if unit < thousandth {
				return refused // a fourth digit
			}
			w += weight(s[0]-'0') * unit
			s = s[1:]
		}
	}
	if w > full || trimLeft(s) != "" {
		return refused
	}
	return w
}

func trimLeft(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	return s
}

// codingOf is [Normalize] for a name in Accept-Encoding, without an allocation:
// a name that is not one of ours keeps its case.
func codingOf(name string) string {
	switch len(name) {
	case len(Gzip): // and of Zstd
		switch {
		case fold(name, Gzip):
			return Gzip
		case fold(name, Zstd):
			return Zstd
		}
	case len("x-gzip"):
		if fold(name, "x-gzip") {
			return Gzip
		}
	case len("identity"):
		if fold(name, "identity") {
			return Identity
		}
	}
	return name
}

// fold is strings.EqualFold for ASCII, with lower in lower case already. It takes
// no Kelvin sign for a "k", and is faster.
func fold(s, lower string) bool {
	if s == lower {
		return true
	}
	if len(s) != len(lower) {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}
