package rfc9111

import "strings"

// IsSafe reports whether a method is registered as safe (RFC 9110, sections
// 9.2.1 and 16.1.1): it changes nothing, so nothing stored is outdated by it.
// Methods are case-sensitive, and one that nobody knows is not safe.
func IsSafe(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH":
		return true
	}
	return false
}

// Invalidates reports whether a response means that what is stored for the
// target of its request is outdated (RFC 9111, section 4.4): the method is not
// safe, and the status is no error.
func Invalidates(method string, status int) bool {
	return !IsSafe(method) && status >= 200 && status <= 399
}

// SameOrigin resolves a reference as it stands in Location or Content-Location
// against the URL of the request, scheme://host and the target in origin form
// (RFC 3986, section 5.2). If it is of the same origin (RFC 9110, section
// 4.3.1), it returns the request target that a client would send for it, without
// the fragment. Only such a one may be invalidated (RFC 9111, section 4.4).
//
// It takes the reference as it is written: percent-encodings are neither decoded
// nor changed. What clients do not agree on is refused: backslashes, control
// characters, whitespace, encoded dot segments, a scheme without a host, and all
// else that is no URI. So is userinfo.
func SameOrigin(scheme, host, target, reference string) (resolved string, ok bool) {
	reference = trimOWS(reference)
	if reference == "" || !strings.HasPrefix(target, "/") || !isReference(reference) {
		return "", false
	}
	reference, _, _ = strings.Cut(reference, "#")

	if end := strings.IndexAny(reference, ":/?"); end >= 0 && reference[end] == ':' {
		if !strings.EqualFold(reference[:end], scheme) || !strings.HasPrefix(reference[end+1:], "//") {
			return "", false
		}
		reference = reference[end+1:]
	}
	if authority, found := strings.CutPrefix(reference, "//"); found {
		reference = ""
		if end := strings.IndexAny(authority, "/?"); end >= 0 {
			authority, reference = authority[:end], authority[end:]
		}
		if !sameHost(scheme, authority, host) {
			return "", false
		}
		if !strings.HasPrefix(reference, "/") {
			reference = "/" + reference
		}
	}

	if reference == "" { // there was only a fragment
		return target, true
	}
	path, query, hasQuery := strings.Cut(reference, "?")
	base, _, _ := strings.Cut(target, "?")
	switch {
	case path == "":
		path = base
	case path[0] != '/':
		path = base[:strings.LastIndexByte(base, '/')+1] + path
		fallthrough
	default:
		if path, ok = removeDotSegments(path); !ok {
			return "", false
		}
	}
	if hasQuery {
		path += "?" + query
	}
	return path, true
}

// sameHost compares an authority with the host of a request. There is no
// userinfo in either.
func sameHost(scheme, authority, host string) bool {
	authority, host = withoutDefaultPort(scheme, authority), withoutDefaultPort(scheme, host)
	return authority != "" && authority[0] != ':' && !strings.Contains(authority, "@") &&
		strings.EqualFold(authority, host)
}

// withoutDefaultPort removes the port that is the default of the scheme (RFC
// 9110, section 4.2.3), and the colon of an empty one.
func withoutDefaultPort(scheme, host string) string {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		name, port = host[:i], host[i+1:]
	}
	if port == "" || port == "80" && strings.EqualFold(scheme, "http") || port == "443" && strings.EqualFold(scheme, "https") {
		return name
	}
	return host
}

// removeDotSegments is RFC 3986, section 5.2.4, for an absolute path. Browsers
// take %2e for a dot there and others do not, so such a segment is not ok.
func removeDotSegments(path string) (_ string, ok bool) {
	var out []string
	segments := strings.Split(path[1:], "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		dots, encoded := dotSegment(segment)
		if encoded {
			return "", false
		}
		if dots == 2 && len(out) > 0 {
			out = out[:len(out)-1]
		}
		switch {
		case dots == 0:
			out = append(out, segment)
		case last:
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/"), true
}

// dotSegment returns how many dots a path segment is, 0 if it is anything but
// one or two dots, and whether one of them is percent-encoded.
func dotSegment(segment string) (dots int, encoded bool) {
	for segment != "" {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && strings.EqualFold(segment[:3], "%2e"):
			segment, encoded = segment[3:], true
		default:
			return 0, false
		}
		if dots++; dots > 2 {
			return 0, false
		}
	}
	return dots, encoded
}

// isReference reports whether s is made of the characters of a URI (RFC 3986,
// section 2): all others, some clients encode and some do not.
func isReference(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			i += 2
			continue
		}
		if !isAlpha(c) && !isDigit(c) && strings.IndexByte("-._~:/?#[]@!$&'()*+,;=", c) < 0 {
			return false
		}
	}
	return true
}

func isHex(c byte) bool { return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f' }
