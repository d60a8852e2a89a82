// Package rfc9111 is HTTP caching as pure functions of a request, a response
// and a moment: may this be stored, how long is it fresh, how old is it, which
// request may it answer, and with what.
//
// Nothing here has a clock, a logger, a handler or a store, nothing keeps
// state, and nothing writes to its arguments except the functions called
// Remove. So whoever explains a decision calls the same code as whoever took
// it. Every function may be called by any number of goroutines at once.
//
// # Concepts and their files
//
//   - directives.go: reading Cache-Control
//   - dates.go: reading HTTP-date
//   - freshness.go: how long a response is fresh, and when it may be used stale
//   - age.go: how old a response is
//   - storable.go: whether a shared cache may store a response, and the reason
//   - vary.go: which request headers choose between variants
//   - conditional.go: 304, 412 and If-Range out of a stored response
//   - headers.go: which header fields end at this hop
//
// # In doubt
//
// A field that cannot be read never permits anything and forbids all that it
// may have meant to: an unreadable lifetime is stale, an unreadable
// no-cache="..." is an unqualified one, an unreadable Vary is "Vary: *". The
// other side of a mistake would be one user's page in another user's browser.
//
// Response headers are looked up without regard to case, even where a handler
// wrote h["set-cookie"] past the methods of [net/http.Header]: net/http sends
// such a field, so it counts. The functions that every hit calls read request
// headers in canonical form only, as net/http delivers them.
//
// # Not here yet
//
// Heuristic freshness (RFC 9111, section 4.2.2), updating a stored response
// from a 304 (sections 3.2 and 4.3), invalidation by unsafe methods (section
// 4.4), must-understand (section 5.2.2.3), the directives of a request other
// than no-store (section 5.2.1), targeted fields (RFC 9213) and
// Surrogate-Control, and normalising request headers before they are compared
// (section 4.1).
package rfc9111
