package inspect

import (
	"encoding/binary"
	"strings"
)

// What an entry is kept under is text that package accel has made of a request:
// see question in its key.go. It is read here only to be shown; what cannot be
// read is shown as it is.

// A RequestField is a field that a request must have to be answered with an
// entry: without a value, one that it must not have.
type RequestField struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// text reads the fields of such a material.
type text struct {
	s   string
	bad bool
}

func (t *text) uvarint() uint64 {
	n, size := binary.Uvarint([]byte(t.s[:min(len(t.s), binary.MaxVarintLen64)]))
	if t.bad || size <= 0 {
		t.bad = true
		return 0
	}
	t.s = t.s[size:]
	return n
}

func (t *text) field() string {
	n := t.uvarint()
	if t.bad || n > uint64(len(t.s)) {
		t.bad = true
		return ""
	}
	f := t.s[:n]
	t.s = t.s[n:]
	return strings.Clone(f)
}

func (t *text) byte() byte {
	if t.bad || t.s == "" {
		t.bad = true
		return 0
	}
	b := t.s[0]
	t.s = t.s[1:]
	return b
}

// resource is what the material of a resource says.
type resource struct {
	target    string
	rewritten string // the path, where something before the cache has changed it
	key       string // of the application's own
}

// readResource reads Entry.Resource. ok is false if it is nothing of ours.
func readResource(s string) (r resource, ok bool) {
	t := &text{s: s}
	if t.byte() != 1 {
		return r, false
	}
	t.field() // scheme
	t.field() // host
	r.target = t.field()
	rewritten := t.field()
	r.key = t.field()
	if t.bad || t.s != "" {
		return resource{}, false
	}
	if rewritten != "" {
		u := &text{s: rewritten}
		u.byte() // 'r'
		path, _, query, force := u.field(), u.field(), u.field(), u.field()
		r.rewritten = path + force
		if query != "" {
			r.rewritten = path + "?" + query
		}
		// A path that was escaped is written out too; it follows from the target.
		if u.bad || strings.Contains(r.target, "%") {
			r.rewritten = ""
		}
	}
	return r, true
}

// readVariant reads Entry.Variant. ok is false if it is nothing of ours.
func readVariant(s string) (fields []RequestField, ok bool) {
	t := &text{s: s}
	for t.s != "" && !t.bad {
		switch t.byte() {
		case 'v': // named in Vary
			f := RequestField{Name: t.field(), Values: []string{}}
			switch t.byte() {
			case 0:
			case 1:
				f.Values = append(f.Values, t.field())
			default:
				t.bad = true
			}
			fields = append(fields, f)
		case 'k': // a proxy's; up to the end
			for t.s != "" && !t.bad {
				f := RequestField{Name: t.field(), Values: []string{}}
				for n := t.uvarint(); n > 0 && !t.bad; n-- {
					if f.Name == "Forwarded" {
						f.Values = append(f.Values, t.forwarded())
					} else {
						f.Values = append(f.Values, t.field())
					}
				}
				fields = append(fields, f)
			}
		default:
			t.bad = true
		}
	}
	if t.bad {
		return nil, false
	}
	return fields, true
}

// forwarded reads a line of Forwarded: whole, or the pieces without the client's
// addresses.
func (t *text) forwarded() string {
	var pieces []string
	for {
		switch t.byte() {
		case 2:
			return t.field()
		case 1:
			pieces = append(pieces, t.field())
		case 0:
			return strings.Join(pieces, ";")
		default:
			t.bad = true
			return ""
		}
		if t.bad {
			return ""
		}
	}
}
