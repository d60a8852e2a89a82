package accel

import (
	"errors"
	"fmt"
	"net/http"
	"unicode"
	"unicode/utf8"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// Limits on tags. A response beyond them is served and not stored: with a
// shortened list of tags it could not be invalidated by those that are missing.
const (
	// MaxTagLength is the greatest length of a tag in bytes.
	MaxTagLength = 256

	// MaxTags is the number of different tags that one response may bear.
	MaxTags = 128
)

// ErrInvalidTag is returned for a tag that no response can bear: it is empty,
// longer than MaxTagLength, not valid UTF-8, or has control characters. Compare
// with errors.Is.
var ErrInvalidTag = errors.New("accel: invalid tag")

// validTag reports whether a tag may be used. Control characters are refused
// because tags are shown on terminals and written into header fields.
func validTag(tag string) bool {
	if tag == "" || len(tag) > MaxTagLength || !utf8.ValidString(tag) {
		return false
	}
	for _, r := range tag {
		if unicode.IsControl(r) {
			return false
		}
	}
	return true
}

// groupTag is the tag of a cache group. Groups of two origins are two, whatever
// they are called (RFC 9875, section 2.1), so this one bears its origin.
func groupTag(scheme, host, group string) string { return scheme + "://" + host + " " + group }

// tagByHeader adds the tags that a response header names: Surrogate-Key,
// Cache-Tag, and Cache-Groups, whose members count as tags by themselves and as
// groups of their origin.
func (fl *fill) tagByHeader(h http.Header) {
	var tags []string
	if lines := h["Surrogate-Key"]; lines != nil {
		tags = append(tags, rfc9111.SurrogateKeys(lines)...)
	}
	if lines := h["Cache-Tag"]; lines != nil {
		tags = append(tags, rfc9111.CacheTags(lines)...)
	}
	if lines := h["Cache-Groups"]; lines != nil {
		groups, ok := rfc9111.CacheGroups(lines)
		if !ok {
			// Its origin will name groups that nobody could find it by.
			tags = append(tags, "")
		}
		host := originHost(fl.q.scheme, fl.q.host)
		for _, g := range groups {
			if g != "" {
				tags = append(tags, g)
			}
			tags = append(tags, groupTag(fl.q.scheme, host, g))
		}
	}
	if len(tags) == 0 {
		return
	}
	for x := fl.exchange; x != nil; x = x.outer {
		x.tag(tags)
	}
}

// tagMarks returns the marks of tags, or an error and no marks at all: a caller
// whose list is wrong should hear of it before half of it is done.
func tagMarks(tags []string) ([]Mark, error) {
	marks := make([]Mark, 0, len(tags))
	for _, t := range tags {
		if !validTag(t) {
			return nil, fmt.Errorf("%w: %.300q", ErrInvalidTag, t)
		}
		marks = append(marks, TagMark(t))
	}
	return marks, nil
}
