package accel

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
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
