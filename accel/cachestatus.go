package accel

import (
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
)

// A forward describes how a request that went to the handler was answered: a
// member of Cache-Status (RFC 9211).
type forward struct {
	why       string // one of the constants above
	status    int    // the handler's status, where it is not that of the answer
	stored    bool
	collapsed bool   // another request's handler made the response
	detail    string // why it was not stored; a token
}

// field returns the lines of Cache-Status: what the handler wrote there, caches
// between it and us, and ours behind it.
func (f forward) field(existing []string) []string {
	b := append(make([]byte, 0, 64), cacheName+"; fwd="...)
	b = append(b, f.why...)
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
	return append(slices.Clip(existing), string(b))
}

// hitStatus returns the lines of Cache-Status for a hit. ttl is negative for an
// entry served stale.
func hitStatus(existing []string, ttl int64) []string {
	b := append(make([]byte, 0, 64), cacheName+"; hit; ttl="...)
	b = strconv.AppendInt(b, ttl, 10)
	return append(slices.Clip(existing), string(b))
}
