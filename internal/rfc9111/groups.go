package rfc9111

import "strings"

// SurrogateKeys returns the tags of a Surrogate-Key field: separated by
// whitespace, on any number of lines.
func SurrogateKeys(lines []string) []string {
	var keys []string
	for _, line := range lines {
		keys = append(keys, strings.FieldsFunc(line, func(c rune) bool { return c == ' ' || c == '\t' })...)
	}
	return keys
}

// CacheTags returns the tags of a Cache-Tag field: separated by commas, on any
// number of lines.
func CacheTags(lines []string) []string {
	var tags []string
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") {
			if tag = trimOWS(tag); tag != "" {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}

// CacheGroups returns the groups of a Cache-Groups or Cache-Group-Invalidation
// field: a List of Strings (RFC 9875, sections 2 and 3). ok is false if it is
// anything else, and then there are no groups. Groups belong to an origin: the
// same name on another origin is another group (section 2.1).
func CacheGroups(lines []string) (groups []string, ok bool) {
	ok = true
	valid := parseList(fieldValue(lines), func(value item) {
		ok = ok && value.kind == sfString
		groups = append(groups, value.text)
	})
	if !ok || !valid {
		return nil, false
	}
	return groups, true
}
