package accel

import (
	"net/http"
	"slices"
	"strconv"
)

// cacheName is how this cache calls itself in Cache-Status (RFC 9211, section 2).
const cacheName = "Accelerator"

// Why a request went to the handler (RFC 9211, section 2.2).
const (
	fwdURIMiss  = "uri-miss"
	fwdVaryMiss = "vary-miss"
	fwdRequest  = "request"
	fwdStale    = "stale"
	fwdMethod   = "method"
)

// A forward describes how a request that went to the handler was answered: a
// member of Cache-Status (RFC 9211).
type forward struct {
	why       string // one of the constants above; empty if it went nowhere
	status    int    // the handler's status, where it is not that of the answer
	stored    bool
	collapsed bool   // another request's handler made the response
	detail    string // why it was not stored; a token
}

func (f forward) member() []byte {
	b := append(make([]byte, 0, 64), cacheName...)
	if f.why != "" {
		b = append(b, "; fwd="...)
		b = append(b, f.why...)
	}
	if f.status != 0 {
		b = append(b, "; fwd-status="...)
		b = strconv.AppendInt(b, int64(f.status), 10)
	}
	if f.stored {
		b = append(b, "; stored"...)
	}
	if f.collapsed {
		b = append(b, "; collapsed"...)
	}
	if f.detail != "" {
		b = append(b, "; detail="...)
		b = append(b, f.detail...)
	}
	return b
}

// hitMember is the member for a hit. ttl is negative for an entry served stale.
func hitMember(ttl int64) []byte {
	b := append(make([]byte, 0, 64), cacheName+"; hit; ttl="...)
	return strconv.AppendInt(b, ttl, 10)
}

// put writes Cache-Status into h: what the handler wrote there, caches between
// it and us, and our member behind it.
func (v Visibility) put(h http.Header, existing []string, member []byte, url string) {
	switch v {
	case HideStatus:
		if existing != nil {
			h["Cache-Status"] = existing
		}
		return
	case ShowKey:
		member = appendKeyParameter(member, url)
	}
	h["Cache-Status"] = append(slices.Clip(existing), string(member))
}

// appendKeyParameter appends the key parameter (RFC 9211, section 2.7), a string
// of RFC 9651, section 3.3.3. What such a string cannot hold is escaped as in a
// URL.
func appendKeyParameter(b []byte, url string) []byte {
	const hex = "0123456789ABCDEF"
	b = append(b, `; key="`...)
	for i := range len(url) {
		switch c := url[i]; {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c < 0x20, c >= 0x7f:
			b = append(b, '%', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
