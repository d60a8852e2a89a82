package rfc9111

import (
	"net/http"
	"slices"
	"strings"
	"time"
)

// MaxVaryNames is how many request headers a stored response may name in Vary.
// Every one of them multiplies the variants that fill a cache and hit nothing.
const MaxVaryNames = 16

// A Reason says why a response may be stored or why it may not. The zero Reason
// is neither: the question has not been asked.
type Reason uint8

// The reasons. Their texts, not their numbers, are stable.
const (
	_ Reason = iota

	// ReasonStorable is the only one that permits.
	ReasonStorable

	// Of the request.
	ReasonMethod         // the method is not GET
	ReasonRequestNoStore // the request says no-store (section 5.2.1.5)

	// Of the response, and no permission helps.
	ReasonStatus            // the status may not be stored, or not by this permission
	ReasonPartial           // 206, or Content-Range (section 3.3)
	ReasonNotUnderstood     // must-understand, and a status that is not understood (section 5.2.2.3)
	ReasonNoStore           // no-store (section 5.2.2.5)
	ReasonPrivate           // private (section 5.2.2.7)
	ReasonSetCookie         // Set-Cookie, which Permission.Uncacheable names
	ReasonHeader            // another header that Permission.Uncacheable names
	ReasonTrailer           // trailers are announced
	ReasonVaryStar          // Vary: * (section 4.1)
	ReasonVaryAuthorization // Vary names Authorization
	ReasonVaryCookie        // Vary names Cookie, and the handler did not ask
	ReasonTooManyVary       // Vary names more than MaxVaryNames headers

	// Of both together.
	ReasonAuthorization // the request has Authorization (section 3.5)
	ReasonCookie        // the request has Cookie, and nothing says that the answer is for all

	// No permission.
	ReasonNotOptedIn   // nobody asked for storing it
	ReasonNoCache      // no-cache (section 5.2.2.4)
	ReasonNoFreshness  // no lifetime, and no validator
	ReasonAlreadyStale // its lifetime was over when it was made
)

var reasonTexts = [...]string{
	ReasonStorable:          "stored",
	ReasonMethod:            "method",
	ReasonRequestNoStore:    "request-no-store",
	ReasonStatus:            "status",
	ReasonPartial:           "partial",
	ReasonNotUnderstood:     "not-understood",
	ReasonNoStore:           "no-store",
	ReasonPrivate:           "private",
	ReasonSetCookie:         "set-cookie",
	ReasonHeader:            "uncacheable-header",
	ReasonTrailer:           "trailer",
	ReasonVaryStar:          "vary-star",
	ReasonVaryAuthorization: "vary-authorization",
	ReasonVaryCookie:        "vary-cookie",
	ReasonTooManyVary:       "too-many-vary",
	ReasonAuthorization:     "authorization",
	ReasonCookie:            "cookie",
	ReasonNotOptedIn:        "not-opted-in",
	ReasonNoCache:           "no-cache",
	ReasonNoFreshness:       "no-freshness",
	ReasonAlreadyStale:      "already-stale",
}

// String returns a short text that stays the same between versions. It is a
// token of RFC 9651, fit for the detail parameter of Cache-Status (RFC 9211,
// section 2.8).
func (r Reason) String() string {
	if int(r) < len(reasonTexts) && reasonTexts[r] != "" {
		return reasonTexts[r]
	}
	return "unknown"
}

// A Permission is what is known beside request and response. The zero value is
// the policy of RFC 9111 without any word from the handler.
type Permission struct {
	// ByHandler says that the handler called CacheFor: it asked for the
	// response to be stored, and said for how long.
	ByHandler bool

	// OptIn is the policy that stores nothing unless it was asked to. Without
	// it the rules are those of RFC 9111, section 3.
	OptIn bool

	// Uncacheable are the response headers that forbid storing whatever bears
	// one of them, in any spelling. Nil means none.
	Uncacheable []string

	// Heuristic is the longest heuristic lifetime that is allowed (section
	// 4.2.2); 0 allows none. Under OptIn it means nothing: nobody asked.
	Heuristic time.Duration
}

// Lifetime returns the lifetime that a response has by its header, under a
// permission: the explicit one, else the heuristic one if that is allowed (RFC
// 9111, section 4.2). What a handler said in CacheFor is not in the header.
func (p Permission) Lifetime(r Response) Lifetime {
	lifetime := FreshnessLifetime(r)
	if lifetime.Source == None && !p.OptIn {
		lifetime = HeuristicLifetime(r, p.Heuristic)
	}
	return lifetime
}

// Storable decides whether a shared cache may store a response.
//
// Some things forbid it whatever the handler asks for: another method than GET
// (a HEAD has no body to store under GET; for POST see [StorablePost]), no-store
// in request or response, private (one that names fields too: what else such a
// response holds, nobody has looked at), a status that is not final, 206, 304
// and Content-Range, trailers, one of the Uncacheable headers, and a Vary that
// cannot be matched. Beside must-understand, a no-store of the response is for
// caches that do not know the status, and such a status is what forbids here
// (section 5.2.2.3).
//
// What the response says is what its governing field says: the first valid one
// of [Response].Targets, else Cache-Control (RFC 9213, section 2.2).
//
// Two more are about people. A request with Authorization needs public,
// s-maxage or must-revalidate on the response (section 3.5), CacheFor or not.
// "Vary: Authorization" is never stored: it would put each user's page under
// the digest of a credential that nobody can revoke from here. "Vary: Cookie"
// is stored only if the handler asked: every cookie is then a variant of its
// own and nobody else is served it, but it is worth its space only where the
// handler knows that many clients share a cookie.
//
// Then, with Permission.ByHandler, everything else is storable: every final
// status, and over no-cache and max-age=0, which speak to browsers then. A
// lifetime in the header is not looked at.
//
// Otherwise, with OptIn, the response must speak to shared caches itself
// ([SharedExplicitly]), be no error (a 4xx or 5xx that an attacker provoked
// would be served to everybody), have no unqualified no-cache, and be fresh. A
// request with Cookie then needs what one with Authorization needs.
//
// Without OptIn it is section 3 of RFC 9111: any final status with explicit
// freshness or public, and the statuses of RFC 9110, section 15.1 without. What
// could neither be served nor validated is not stored; nor is, which the RFC
// leaves open, the response to a request with Cookie that is not fresh for a moment
// (no lifetime, one of 0, no-cache) and does not say public.
func Storable(req Request, resp Response, p Permission) Reason {
	if req.Method != http.MethodGet {
		return ReasonMethod
	}
	return storable(req, resp, p)
}

// StorablePost decides whether the response to a POST may be stored as that of a
// later GET (RFC 9110, section 9.3.3): by all the rules of [Storable], if it is
// a success and has an explicit lifetime. CacheFor does not stand in for that.
// That the Content-Location is the target of the request is for the caller to
// see to; see [SameOrigin].
func StorablePost(req Request, resp Response, p Permission) Reason {
	switch {
	case req.Method != http.MethodPost:
		return ReasonMethod
	case resp.Status < 200 || resp.Status > 299:
		return ReasonStatus
	}
	if r := storable(req, resp, p); r != ReasonStorable {
		return r
	}
	if FreshnessLifetime(resp).Source == None {
		return ReasonNoFreshness
	}
	return ReasonStorable
}

// storable is Storable for any method.
func storable(req Request, resp Response, p Permission) Reason {
	d, _ := governing(resp)
	if r := forbidden(req, resp, d, p); r != ReasonStorable {
		return r
	}
	forAll := sharedReuse(d)
	if len(values(req.Header, "Authorization")) > 0 && !forAll {
		return ReasonAuthorization
	}
	switch {
	case p.ByHandler:
		return ReasonStorable
	case p.OptIn:
		switch {
		case !SharedExplicitly(resp):
			return ReasonNotOptedIn
		case resp.Status >= 400:
			return ReasonStatus
		case d.unqualified("no-cache"):
			return ReasonNoCache
		case len(values(req.Header, "Cookie")) > 0 && !forAll:
			return ReasonCookie
		case FreshnessLifetime(resp).Duration <= InitialAge(resp):
			return ReasonAlreadyStale
		}
		return ReasonStorable
	}
	if len(values(req.Header, "Cookie")) > 0 && !declared(resp, d) {
		return ReasonCookie
	}
	return storableBySection3(resp, d, p)
}

// declared reports whether a response says of itself that it may be used again:
// by public, or by a lifetime. A page for one user that says nothing, or asks to
// be validated each time, must not be stored for its validator alone: a handler
// that compares a modification date and looks at no cookie would confirm it to
// another user.
func declared(resp Response, d Directives) bool {
	return d.says("public") || FreshnessLifetime(resp).Duration > 0 && !d.unqualified("no-cache")
}

// forbidden returns what forbids storing a response whoever asks for it, or
// ReasonStorable.
func forbidden(req Request, resp Response, d Directives, p Permission) Reason {
	if ParseCacheControl(values(req.Header, "Cache-Control")).Has("no-store") {
		return ReasonRequestNoStore
	}
	switch {
	case resp.Status == http.StatusPartialContent, len(values(resp.Header, "Content-Range")) > 0:
		return ReasonPartial
	case resp.Status < 200, resp.Status > 599, resp.Status == http.StatusNotModified:
		return ReasonStatus
	case d.Has("must-understand") && !understood(resp.Status):
		return ReasonNotUnderstood
	case d.Has("no-store") && !d.says("must-understand"):
		return ReasonNoStore
	case d.Has("private"):
		return ReasonPrivate
	}
	for _, name := range p.Uncacheable {
		name = http.CanonicalHeaderKey(name)
		if len(values(resp.Header, name)) == 0 {
			continue
		}
		if name == "Set-Cookie" {
			return ReasonSetCookie
		}
		return ReasonHeader
	}
	if announcesTrailers(resp.Header) {
		return ReasonTrailer
	}
	names, star := VaryNames(resp.Header)
	switch {
	case star:
		return ReasonVaryStar
	case slices.Contains(names, "Authorization"):
		return ReasonVaryAuthorization
	case slices.Contains(names, "Cookie") && !p.ByHandler && p.OptIn:
		return ReasonVaryCookie
	case len(names) > MaxVaryNames:
		return ReasonTooManyVary
	}
	return ReasonStorable
}

// SharedExplicitly reports whether a response asks shared caches to store it: a
// targeted field or Surrogate-Control governs and has a lifetime, or
// Cache-Control has s-maxage, or public and max-age.
//
// It is a wish and not yet a permission: see [Storable].
func SharedExplicitly(r Response) bool {
	d, targeted := governing(r)
	return d.Has("s-maxage") || d.Has("max-age") && (targeted || d.says("public"))
}

// sharedReuse reports whether one user's response may answer another's request
// (RFC 9111, section 3.5), by the directives that govern it: a targeted field
// without one of these three permits nothing, though Cache-Control have them
// all, and Surrogate-Control does not know them. An s-maxage that cannot be read permits nothing;
// neither does one of 0, which asks for validation before each reuse.
func sharedReuse(d Directives) bool {
	if lifetime, _ := d.Seconds("s-maxage"); lifetime > 0 {
		return true
	}
	return d.says("public") || d.says("must-revalidate")
}

// announcesTrailers reports whether fields will follow the body, declared in
// Trailer or already there under http.TrailerPrefix. A cache would lose them.
func announcesTrailers(h http.Header) bool {
	if len(values(h, "Trailer")) > 0 {
		return true
	}
	for key := range h {
		if strings.HasPrefix(key, http.TrailerPrefix) {
			return true
		}
	}
	return false
}

// storableBySection3 is the last item of RFC 9111, section 3: what makes a
// response cacheable by itself. Section 3 would also allow to store what can
// never be used; that is left out, as the section says other caches do.
func storableBySection3(resp Response, d Directives, p Permission) Reason {
	lifetime := p.Lifetime(resp)
	if lifetime.Source == None && !d.says("public") && !heuristicallyCacheable(resp.Status) {
		return ReasonNoFreshness
	}
	if !ValidatorsOf(resp.Header).Empty() {
		return ReasonStorable // stale or not, it can be validated
	}
	whileRevalidate, ifError := StaleWindows(resp)
	switch {
	case d.unqualified("no-cache"):
		return ReasonNoCache
	case lifetime.Source == None:
		return ReasonNoFreshness
	case lifetime.Duration+max(whileRevalidate, ifError) <= InitialAge(resp):
		return ReasonAlreadyStale
	}
	return ReasonStorable
}

// heuristicallyCacheable lists the statuses of RFC 9110, section 15.1, without
// 206, which is never stored.
func heuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// understood lists the statuses whose rules on caching are known and kept, for
// must-understand (RFC 9111, section 5.2.2.3): those of RFC 9110, section 15,
// without the ones that have no meaning (306, 402, 418) or had one (305), and
// without the ones that are about a part or a condition (206, 304, 412, 416).
func understood(status int) bool {
	switch status {
	case 200, 201, 202, 203, 204, 205,
		300, 301, 302, 303, 307, 308,
		400, 401, 403, 404, 405, 406, 407, 408, 409, 410, 411, 413, 414, 415, 417, 421, 422, 426,
		500, 501, 502, 503, 504, 505:
		return true
	}
	return false
}
