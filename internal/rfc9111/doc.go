// Package rfc9111 is HTTP caching as pure functions of a request, a response
// and a moment: may this be stored, how long is it fresh, how old is it, which
// request may it answer, and with what.
//
// Nothing here has a clock, a logger, a handler or a store, nothing keeps
// state, and nothing writes to its arguments except the functions called
// Remove and Set. So whoever explains a decision calls the same code as whoever
// took it. Every function may be called by any number of goroutines at once.
//
// # Concepts and their files
//
// What a response says of itself:
//
//   - directives.go: reading Cache-Control
//   - targeted.go: the fields that take its place (RFC 9213, Surrogate-Control)
//   - structured.go: reading structured fields (RFC 9651)
//   - dates.go: reading HTTP-date
//   - groups.go: tags that come in headers (RFC 9875 and older fields)
//
// What follows from it:
//
//   - storable.go: whether a shared cache may store a response, and the reason
//   - freshness.go: how long a response is fresh, and when it may be used stale
//   - age.go: how old a response is
//   - vary.go: which request headers choose between variants
//   - headers.go: which header fields end at this hop
//
// What a request asks for:
//
//   - demand.go: whether its Cache-Control allows the stored response
//   - selecting.go: its headers, as they are compared for Vary
//   - conditional.go: 304, 412 and If-Range out of a stored response
//
// How what is stored changes:
//
//   - validation.go: asking the origin, and updating from its 304 or HEAD
//   - invalidation.go: which requests outdate which URLs
//
// # In doubt
//
// A field that cannot be read never permits anything and forbids all that it
// may have meant to: an unreadable lifetime is stale, an unreadable
// no-cache="..." is an unqualified one, an unreadable Vary is "Vary: *". The
// other side of a mistake would be one user's page in another user's browser.
//
// The exception is the syntax of structured fields: RFC 9651, section 4.2 wants
// a field with one error to be as if it were absent, so a targeted field with
// one leaves the word to the next. A member of the wrong type is no such error;
// it is present and unreadable.
//
// Response headers are looked up without regard to case, even where a handler
// wrote h["set-cookie"] past the methods of [net/http.Header]: net/http sends
// such a field, so it counts. The functions that every hit calls read request
// headers in canonical form only, as net/http delivers them; they allocate
// nothing.
package rfc9111
