package rfc9111

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Validators are what a stored response is validated by (RFC 9110, section
// 8.8), as their fields say it; empty where there is none.
type Validators struct {
	ETag         string // a valid entity tag
	LastModified string // a valid HTTP-date
}

// ValidatorsOf returns the validators of a response. A field that cannot be
// read, or whose lines differ, is none.
func ValidatorsOf(h http.Header) Validators {
	var v Validators
	if tag, ok := singleton(h, "Etag"); ok {
		if _, ok := parseETag(tag); ok {
			v.ETag = tag
		}
	}
	if date, ok := singleton(h, "Last-Modified"); ok {
		if _, ok := ParseDate(date); ok {
			v.LastModified = date
		}
	}
	return v
}

// singleton returns the value of a field that has only one.
func singleton(h http.Header, name string) (string, bool) {
	lines := values(h, name)
	if len(lines) == 0 {
		return "", false
	}
	value := trimOWS(lines[0])
	for _, line := range lines[1:] {
		if trimOWS(line) != value {
			return "", false
		}
	}
	return value, true
}

// Empty reports whether there is nothing to validate by.
func (v Validators) Empty() bool {
	return v == Validators{}
}

// conditional are the fields that make a request conditional or partial.
var conditional = []string{
	"If-Match", "If-Modified-Since", "If-None-Match", "If-Range", "If-Unmodified-Since", "Range",
}

// SetConditions makes the request with header h one that validates the response
// with these validators (RFC 9111, section 4.3.1): If-None-Match and
// If-Modified-Since take the place of every condition of the client, and Range
// goes, because it is the whole response that is stored. Without validators the
// request is unconditional.
func (v Validators) SetConditions(h http.Header) {
	for key := range h {
		if slices.Contains(conditional, http.CanonicalHeaderKey(key)) {
			delete(h, key)
		}
	}
	if v.ETag != "" {
		h["If-None-Match"] = []string{v.ETag}
	}
	if v.LastModified != "" {
		h["If-Modified-Since"] = []string{v.LastModified}
	}
}

// ConfirmedBy reports whether a 304 with header h, the answer to a request with
// the conditions of v, says that the stored response with these validators is
// good (RFC 9111, sections 4.3.3 and 4.3.4). If it is false, the 304 is about
// something else and must not touch the stored response.
//
// An entity tag in the 304 decides alone: a strong one must be the stored one by
// the strong comparison, a weak one by the weak comparison. Without one, the
// modification date decides. A 304 with no validator at all confirms: it answers
// the only question it was asked. (Section 4.3.4 is stricter there, because a
// cache may have asked about several responses at once.)
func ConfirmedBy(v Validators, h http.Header) bool {
	if same, said := v.sameETag(h); said {
		return same
	}
	same, said := v.sameLastModified(h)
	return same || !said
}

// HeadContradicts reports whether the header of a 200 answer to HEAD says that
// the stored response to GET is outdated (RFC 9111, section 4.3.5): an entity
// tag, a modification date or a length that is not the stored one. length is
// that of the stored response without content coding, -1 if it is unknown.
func HeadContradicts(v Validators, length int64, head http.Header) bool {
	if same, said := v.sameETag(head); said && !same {
		return true
	}
	if same, said := v.sameLastModified(head); said && !same {
		return true
	}
	lines := values(head, "Content-Length")
	if length < 0 || len(lines) == 0 || fieldValue(values(head, "Content-Encoding")) != "" {
		return false
	}
	value, _ := singleton(head, "Content-Length")
	n, err := strconv.ParseUint(value, 10, 63)
	return err != nil || int64(n) != length
}

// sameETag compares the entity tag of a header with that of v. said is false if
// there is nothing to compare: no tag in the header, or one that cannot be read
// and none in v, where one that cannot be read would have left none.
func (v Validators) sameETag(h http.Header) (same, said bool) {
	if len(values(h, "Etag")) == 0 {
		return false, false
	}
	theirs := ValidatorsOf(h).ETag
	if theirs == "" {
		return false, v.ETag != ""
	}
	how := strong
	if strings.HasPrefix(theirs, "W/") {
		how = weak
	}
	return matchETag([]string{theirs}, v.ETag, how), true
}

// sameLastModified compares modification dates as sameETag does entity tags.
func (v Validators) sameLastModified(h http.Header) (same, said bool) {
	if len(values(h, "Last-Modified")) == 0 {
		return false, false
	}
	theirs, ok := ParseDate(ValidatorsOf(h).LastModified)
	if !ok {
		return false, v.LastModified != ""
	}
	ours, ok := ParseDate(v.LastModified)
	return ok && ours.Equal(theirs), true
}

// notUpdated are the fields that an update leaves as they are stored (RFC 9111,
// section 3.2): what is stored depends on them. The entity tag, because it
// belongs to the stored bytes, and forms of these bytes have tags made from it.
var notUpdated = []string{
	"Content-Encoding", "Content-Length", "Content-Range", "Content-Type", "Etag",
}

// UpdateHeader returns the header of a stored response after a 304, or after a
// 200 to HEAD (RFC 9111, sections 3.2, 4.3.4 and 4.3.5): each field of update
// replaces the stored one, except those that what is stored depends on and those
// that end at this hop.
//
// Age and Date are those of update or none, since a 304 without Date was made
// when it was received. Warning is obsolete and goes (section 5.5).
//
// The result may say what the stored response did not, about storing, sharing
// and Vary; ask [Storable] again. It shares nothing with the arguments.
func UpdateHeader(stored, update http.Header) http.Header {
	out, update := stored.Clone(), update.Clone()
	if out == nil {
		out = http.Header{}
	}
	RemoveHopByHop(out)
	RemoveHopByHop(update)
	remove(out, "Age")
	remove(out, "Date")
	remove(out, "Warning")
	for key := range update {
		name := http.CanonicalHeaderKey(key)
		lines := values(update, name)
		if len(lines) == 0 || name == "Warning" || slices.Contains(notUpdated, name) {
			continue
		}
		remove(out, name)
		out[name] = lines
	}
	return out
}

// remove removes a field in every spelling of its name.
func remove(h http.Header, name string) {
	for key := range h {
		if strings.EqualFold(key, name) {
			delete(h, key)
		}
	}
}
