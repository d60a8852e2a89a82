package rfc9111

import (
	"strings"
	"unicode/utf8"
)

// An item is a member of a structured field without its parameters, which
// nothing here needs (RFC 9651, section 3.3).
type item struct {
	kind itemKind

	// text is the value of a String without quotes and escapes, an Integer or a
	// Token as it is written, and the digit of a Boolean. The other kinds are
	// read only to get past them; they have none.
	text string
}

type itemKind uint8

const (
	invalid itemKind = iota
	integer
	decimal
	sfString
	token
	byteSequence
	boolean
	date
	displayString
	innerList
)

// parseDictionary reads a Dictionary (RFC 9651, section 4.2.2) and calls member
// for each of its members in order; where a key comes twice, the last counts. A
// syntax error anywhere makes it return false, and what member was told before
// is to be forgotten.
func parseDictionary(s string, member func(key string, value item)) bool {
	p := structuredReader{rest: strings.TrimLeft(s, " ")}
	for p.rest != "" {
		key, ok := p.key()
		if !ok {
			return false
		}
		value := item{boolean, "1"}
		if p.skip('=') {
			value, ok = p.itemOrInnerList()
		} else {
			ok = p.parameters()
		}
		if !ok || !p.endOfMember() {
			return false
		}
		member(key, value)
	}
	return true
}

// parseList reads a List (RFC 9651, section 4.2.1) as [parseDictionary] does a
// Dictionary.
func parseList(s string, member func(value item)) bool {
	p := structuredReader{rest: strings.TrimLeft(s, " ")}
	for p.rest != "" {
		value, ok := p.itemOrInnerList()
		if !ok || !p.endOfMember() {
			return false
		}
		member(value)
	}
	return true
}

// A structuredReader takes a structured field apart from its front, by the
// algorithms of RFC 9651, section 4.2. Each method reads what it is named after
// and reports whether it was there; after the first that was not, the field is
// worth nothing.
type structuredReader struct {
	rest string
}

func (p *structuredReader) skip(c byte) bool {
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *structuredReader) take(n int) string {
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

// endOfMember reads what stands after a member of a List or Dictionary: nothing,
// or a comma and another member.
func (p *structuredReader) endOfMember() bool {
	p.rest = strings.TrimLeft(p.rest, " \t")
	if p.rest == "" {
		return true
	}
	if !p.skip(',') {
		return false
	}
	p.rest = strings.TrimLeft(p.rest, " \t")
	return p.rest != "" // no trailing comma
}

// key is section 4.2.3.3.
func (p *structuredReader) key() (string, bool) {
	n := 0
	for n < len(p.rest) {
		c := p.rest[n]
		first := 'a' <= c && c <= 'z' || c == '*'
		if !first && (n == 0 || !isDigit(c) && c != '_' && c != '-' && c != '.') {
			break
		}
		n++
	}
	return p.take(n), n > 0
}

// itemOrInnerList is section 4.2.1.1.
func (p *structuredReader) itemOrInnerList() (item, bool) {
	if !p.skip('(') {
		return p.item()
	}
	for {
		p.rest = strings.TrimLeft(p.rest, " ")
		if p.skip(')') {
			return item{kind: innerList}, p.parameters()
		}
		if _, ok := p.item(); !ok {
			return item{}, false
		}
		if p.rest == "" || p.rest[0] != ' ' && p.rest[0] != ')' {
			return item{}, false
		}
	}
}

// item is section 4.2.3.
func (p *structuredReader) item() (item, bool) {
	value, ok := p.bareItem()
	return value, ok && p.parameters()
}

// parameters is section 4.2.3.2.
func (p *structuredReader) parameters() bool {
	for p.skip(';') {
		p.rest = strings.TrimLeft(p.rest, " ")
		if _, ok := p.key(); !ok {
			return false
		}
		if p.skip('=') {
			if _, ok := p.bareItem(); !ok {
				return false
			}
		}
	}
	return true
}

// bareItem is section 4.2.3.1.
func (p *structuredReader) bareItem() (item, bool) {
	if p.rest == "" {
		return item{}, false
	}
	switch c := p.rest[0]; {
	case c == '-' || isDigit(c):
		return p.number()
	case c == '"':
		return p.string()
	case c == '*' || isAlpha(c):
		n := 1
		for n < len(p.rest) && (isTokenByte(p.rest[n]) || p.rest[n] == ':' || p.rest[n] == '/') {
			n++
		}
		return item{token, p.take(n)}, true
	case c == ':':
		return p.byteSequence()
	case c == '?':
		if len(p.rest) < 2 || p.rest[1] != '0' && p.rest[1] != '1' {
			return item{}, false
		}
		return item{boolean, p.take(2)[1:]}, true
	case c == '@':
		p.take(1)
		n, ok := p.number()
		return item{kind: date}, ok && n.kind == integer
	case c == '%':
		return p.displayString()
	}
	return item{}, false
}

// number is section 4.2.4.
func (p *structuredReader) number() (item, bool) {
	start := p.rest
	p.skip('-')
	whole := p.digits()
	if whole == 0 || whole > 15 {
		return item{}, false
	}
	if !p.skip('.') {
		return item{integer, start[:len(start)-len(p.rest)]}, true
	}
	fraction := p.digits()
	return item{kind: decimal}, whole <= 12 && fraction >= 1 && fraction <= 3
}

// digits returns how many it has read.
func (p *structuredReader) digits() (n int) {
	for n < len(p.rest) && isDigit(p.rest[n]) {
		n++
	}
	p.take(n)
	return n
}

// string is section 4.2.5.
func (p *structuredReader) string() (item, bool) {
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			text := p.take(i + 1)[1:i]
			if strings.Contains(text, `\`) {
				text = unescape.Replace(text)
			}
			return item{sfString, text}, true
		case c == '\\':
			if i++; i == len(p.rest) || p.rest[i] != '"' && p.rest[i] != '\\' {
				return item{}, false
			}
		case c < ' ' || c > '~':
			return item{}, false
		}
	}
	return item{}, false
}

var unescape = strings.NewReplacer(`\\`, `\`, `\"`, `"`)

// byteSequence is section 4.2.7. Padding may be missing, as the section asks,
// but if it is there it must be right.
func (p *structuredReader) byteSequence() (item, bool) {
	end := strings.IndexByte(p.rest[1:], ':')
	if end < 0 {
		return item{}, false
	}
	padded := p.take(1 + end + 1)[1 : 1+end]
	content := strings.TrimRight(padded, "=")
	for i := range len(content) {
		if c := content[i]; !isAlpha(c) && !isDigit(c) && c != '+' && c != '/' {
			return item{}, false
		}
	}
	ok := len(content)%4 != 1
	if padding := len(padded) - len(content); padding > 0 {
		ok = ok && padding <= 2 && len(padded)%4 == 0
	}
	return item{kind: byteSequence}, ok
}

// displayString is section 4.2.10.
func (p *structuredReader) displayString() (item, bool) {
	if !strings.HasPrefix(p.rest, `%"`) {
		return item{}, false
	}
	var decoded []byte
	for i := 2; i < len(p.rest); i++ {
		switch c := p.rest[i]; {
		case c == '"':
			p.take(i + 1)
			return item{kind: displayString}, utf8.Valid(decoded)
		case c == '%':
			if i+2 >= len(p.rest) {
				return item{}, false
			}
			high, low := strings.IndexByte(lowerHex, p.rest[i+1]), strings.IndexByte(lowerHex, p.rest[i+2])
			if high < 0 || low < 0 {
				return item{}, false
			}
			decoded = append(decoded, byte(high<<4|low))
			i += 2
		case c < ' ' || c > '~':
			return item{}, false
		default:
			decoded = append(decoded, c)
		}
	}
	return item{}, false
}

const lowerHex = "0123456789abcdef"

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isAlpha(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// fieldValue combines the lines of a field into one value (RFC 9110, section
// 5.3), which is what a structured field is read from.
func fieldValue(lines []string) string {
	if len(lines) == 1 {
		return trimOWS(lines[0])
	}
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = trimOWS(line)
	}
	return strings.Join(trimmed, ", ")
}
