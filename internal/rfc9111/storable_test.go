package rfc9111_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

var (
	get      = rfc9111.Request{Method: "GET", Header: http.Header{}}
	setByDef = []string{"Set-Cookie"} // what the cache passes by default

	optIn     = rfc9111.Permission{OptIn: true, Uncacheable: setByDef}
	byHandler = rfc9111.Permission{OptIn: true, ByHandler: true, Uncacheable: setByDef}
	byRFC     = rfc9111.Permission{Uncacheable: setByDef}
)

func request(pairs ...string) rfc9111.Request {
	return rfc9111.Request{Method: "GET", Header: header(pairs...)}
}

func response(status int, pairs ...string) rfc9111.Response {
	return rfc9111.Response{Status: status, Header: header(pairs...), Received: noon}
}

// header takes names and values in turn, and keeps the spelling of the names.
func header(pairs ...string) http.Header {
	h := http.Header{}
	for i := 0; i < len(pairs); i += 2 {
		h[pairs[i]] = append(h[pairs[i]], pairs[i+1])
	}
	return h
}

func TestOptInStoresNothingUnasked(t *testing.T) {
	for _, c := range []struct {
		cc   string
		want rfc9111.Reason
	}{
		{"", rfc9111.ReasonNotOptedIn},
		{"max-age=60", rfc9111.ReasonNotOptedIn},
		{"public", rfc9111.ReasonNotOptedIn},
		{"public, immutable", rfc9111.ReasonNotOptedIn},
		{"must-revalidate, max-age=60", rfc9111.ReasonNotOptedIn},
		{"public=1, max-age=60", rfc9111.ReasonNotOptedIn},
		{"public; max-age=60", rfc9111.ReasonNotOptedIn},
		{`extension="a, public, max-age=60`, rfc9111.ReasonNotOptedIn},
		{`extension="public, s-maxage=60"`, rfc9111.ReasonNotOptedIn},
		{"public, max-age=60", rfc9111.ReasonStorable},
		{"PUBLIC, Max-Age=60", rfc9111.ReasonStorable},
		{"s-maxage=60", rfc9111.ReasonStorable},
		{"s-maxage=60, max-age=0", rfc9111.ReasonStorable},
		{"public, max-age=0", rfc9111.ReasonAlreadyStale},
		{"public, max-age=soon", rfc9111.ReasonAlreadyStale},
		{"public, max-age=60, s-maxage=0", rfc9111.ReasonAlreadyStale},
		{"public, max-age=60, s-maxage=x", rfc9111.ReasonAlreadyStale},
		{"public, max-age=60, no-cache", rfc9111.ReasonNoCache},
		{`public, max-age=60, no-cache="X-Session"`, rfc9111.ReasonStorable},
		{`public, max-age=60, no-cache="X-Session`, rfc9111.ReasonNoCache},
		{"public, max-age=60, no-store", rfc9111.ReasonNoStore},
		{"public, max-age=60, no-store, must-understand", rfc9111.ReasonStorable},
		{"public, max-age=60, private", rfc9111.ReasonPrivate},
		{`public, max-age=60, private="X-Session"`, rfc9111.ReasonPrivate},
	} {
		got := rfc9111.Storable(get, response(200, "Cache-Control", c.cc), optIn)
		assert.Equal(t, c.want, got, "%q: %s", c.cc, got)
	}

	// Two lines, either order; and past the methods of http.Header.
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, response(200, "Cache-Control", "public", "Cache-Control", "max-age=60"), optIn))
	assert.Equal(t, rfc9111.ReasonNoStore, rfc9111.Storable(get, response(200, "Cache-Control", "s-maxage=60", "Cache-Control", "no-store"), optIn))
	assert.Equal(t, rfc9111.ReasonNoStore, rfc9111.Storable(get, response(200, "Cache-Control", "s-maxage=60", "cache-control", "no-store"), optIn))

	// A lifetime that was over on arrival.
	assert.Equal(t, rfc9111.ReasonAlreadyStale, rfc9111.Storable(get, response(200, "Cache-Control", "s-maxage=60", "Age", "60"), optIn))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, response(200, "Cache-Control", "s-maxage=60", "Age", "59"), optIn))
	assert.Equal(t, rfc9111.ReasonAlreadyStale, rfc9111.Storable(get, response(200, "Cache-Control", "s-maxage=60", "Date", httpDate(noon.Add(-time.Hour))), optIn))
}

func TestCacheForPermits(t *testing.T) {
	for cc, want := range map[string]rfc9111.Reason{
		"":                                 rfc9111.ReasonStorable,
		"no-cache":                         rfc9111.ReasonStorable, // that is for browsers
		"max-age=0":                        rfc9111.ReasonStorable,
		"max-age=0, must-revalidate":       rfc9111.ReasonStorable,
		"no-cache, no-store, max-age=0":    rfc9111.ReasonNoStore,
		"private":                          rfc9111.ReasonPrivate,
		`private="Set-Cookie"`:             rfc9111.ReasonPrivate,
		"Private, max-age=60":              rfc9111.ReasonPrivate,
		"no-store=true":                    rfc9111.ReasonNoStore,
		`extension="oops, no-store`:        rfc9111.ReasonNoStore,
		`extension="no-store and private"`: rfc9111.ReasonStorable,
	} {
		got := rfc9111.Storable(get, response(200, "Cache-Control", cc), byHandler)
		assert.Equal(t, want, got, "%q: %s", cc, got)
	}
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(request("Cookie", "a=1"), response(200), byHandler))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, response(200, "Age", "99999", "Expires", "0"), byHandler))
}

func TestRFC9111_3_Method(t *testing.T) {
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "QUERY", "get", "Get", "GET ", ""} {
		for _, p := range []rfc9111.Permission{optIn, byHandler, byRFC} {
			req := rfc9111.Request{Method: method, Header: http.Header{}}
			assert.Equal(t, rfc9111.ReasonMethod, rfc9111.Storable(req, response(200, "Cache-Control", "public, max-age=60"), p), method)
		}
	}
}

func TestRFC9111_3_Status(t *testing.T) {
	for status := range 700 {
		byHeader := rfc9111.Storable(get, response(status, "Cache-Control", "public, max-age=60"), optIn)
		handler := rfc9111.Storable(get, response(status), byHandler)
		rfc := rfc9111.Storable(get, response(status, "Cache-Control", "max-age=60"), byRFC)
		heuristic := rfc9111.Storable(get, response(status, "Etag", `"1"`), byRFC)

		final := rfc9111.ReasonStorable
		switch {
		case status == 206:
			final = rfc9111.ReasonPartial
		case status < 200, status > 599, status == 304:
			final = rfc9111.ReasonStatus
		}
		assert.Equal(t, final, handler, "%d by CacheFor", status)
		assert.Equal(t, final, rfc, "%d by RFC 9111", status)
		if status >= 400 {
			assert.Equal(t, rfc9111.ReasonStatus, byHeader, "%d by header", status) // an error provoked by one is not for all
		} else {
			assert.Equal(t, final, byHeader, "%d by header", status)
		}
		switch status {
		case 200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501: // RFC 9110, 15.1
			assert.Equal(t, rfc9111.ReasonStorable, heuristic, status)
		default:
			assert.NotEqual(t, rfc9111.ReasonStorable, heuristic, status)
		}
	}
	for _, p := range []rfc9111.Permission{optIn, byHandler, byRFC} {
		got := rfc9111.Storable(get, response(200, "Content-Range", "bytes 0-1/2", "Cache-Control", "public, max-age=60"), p)
		assert.Equal(t, rfc9111.ReasonPartial, got, "3.3")
	}
}

func TestVetoesOverEveryPermission(t *testing.T) {
	many := make([]string, 17)
	for i := range many {
		many[i] = fmt.Sprintf("X-%d", i)
	}
	for name, c := range map[string]struct {
		req  rfc9111.Request
		resp []string
		want rfc9111.Reason
	}{
		"Set-Cookie":              {get, []string{"Set-Cookie", "a=1"}, rfc9111.ReasonSetCookie},
		"set-cookie":              {get, []string{"set-cookie", "a=1"}, rfc9111.ReasonSetCookie},
		"SET-COOKIE":              {get, []string{"SET-COOKIE", "a=1"}, rfc9111.ReasonSetCookie},
		"Trailer":                 {get, []string{"Trailer", "X-Sum"}, rfc9111.ReasonTrailer},
		"trailer by prefix":       {get, []string{http.TrailerPrefix + "Set-Cookie", "a=1"}, rfc9111.ReasonTrailer},
		"Vary: *":                 {get, []string{"Vary", "*"}, rfc9111.ReasonVaryStar},
		"Vary: * on line 2":       {get, []string{"Vary", "Accept", "Vary", " ,*"}, rfc9111.ReasonVaryStar},
		"Vary: garbage":           {get, []string{"Vary", "a b"}, rfc9111.ReasonVaryStar},
		"Vary: Authorization":     {get, []string{"Vary", "authorization"}, rfc9111.ReasonVaryAuthorization},
		"Vary: 17 names":          {get, []string{"Vary", strings.Join(many, ",")}, rfc9111.ReasonTooManyVary},
		"Vary: 16 names, again":   {get, []string{"Vary", strings.Join(append(many[:16:16], many[:16]...), ",") + ", accept-encoding"}, rfc9111.ReasonStorable},
		"request says no-store":   {request("Cache-Control", "max-age=0, No-Store"), nil, rfc9111.ReasonRequestNoStore},
		"request says no-cache":   {request("Cache-Control", "no-cache", "Pragma", "no-cache"), nil, rfc9111.ReasonStorable},
		"private beats lifetimes": {get, []string{"Cache-Control", "private, s-maxage=60"}, rfc9111.ReasonPrivate},
		"no-store beats private":  {get, []string{"Cache-Control", "private, no-store"}, rfc9111.ReasonNoStore},
	} {
		t.Run(name, func(t *testing.T) {
			for _, p := range []rfc9111.Permission{optIn, byHandler, byRFC} {
				resp := response(200, append(c.resp, "Cache-Control", "public, max-age=60")...)
				got := rfc9111.Storable(c.req, resp, p)
				assert.Equal(t, c.want, got, "%+v: %s", p, got)
			}
		})
	}

	// Which headers is the caller's to say.
	p := rfc9111.Permission{OptIn: true, ByHandler: true, Uncacheable: []string{"x-session"}}
	assert.Equal(t, rfc9111.ReasonHeader, rfc9111.Storable(get, response(200, "X-Session", "1"), p))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, response(200, "Set-Cookie", "a=1"), p))
	resp := response(200)
	resp.Header["X-Session"] = nil // set to nothing, hence not sent
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, resp, p))
}

func TestVaryCookieIsForHandlersThatAsk(t *testing.T) {
	with, req := []string{"Vary", "Accept, COOKIE", "Cache-Control", "public, max-age=60"}, request("Cookie", "a=1")
	assert.Equal(t, rfc9111.ReasonVaryCookie, rfc9111.Storable(req, response(200, with...), optIn))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(req, response(200, with...), byHandler))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(req, response(200, with...), byRFC))
}

// The matrix of sixteen: a request with and without Authorization, against what
// the response says. Every column must hold every row.
func TestRFC9111_3_5_AuthorizationMatrix(t *testing.T) {
	const (
		yes     = rfc9111.ReasonStorable
		auth    = rfc9111.ReasonAuthorization
		not     = rfc9111.ReasonNotOptedIn
		private = rfc9111.ReasonPrivate
		noStore = rfc9111.ReasonNoStore
		noCache = rfc9111.ReasonNoCache
		empty   = rfc9111.ReasonNoFreshness
	)
	for _, c := range []struct {
		auth bool
		cc   string
		// under OptIn with CacheFor; under OptIn by the header; under RFC 9111
		handler, header, rfc rfc9111.Reason
	}{
		{false, "", yes, not, empty},
		{false, "public, max-age=60", yes, yes, yes},
		{false, "private, max-age=60", private, private, private},
		{false, "s-maxage=60", yes, yes, yes},
		{false, "must-revalidate, max-age=60", yes, not, yes},
		{false, "no-cache", yes, not, noCache},
		{false, "no-store", noStore, noStore, noStore},
		{false, `private="x", max-age=60`, private, private, private},

		{true, "", auth, auth, auth},
		{true, "public, max-age=60", yes, yes, yes},
		{true, "private, max-age=60", private, private, private},
		{true, "s-maxage=60", yes, yes, yes},
		{true, "must-revalidate, max-age=60", yes, not, yes},
		{true, "no-cache", auth, auth, auth},
		{true, "no-store", noStore, noStore, noStore},
		{true, `private="x", max-age=60`, private, private, private},
	} {
		req := request()
		if c.auth {
			req = request("Authorization", "Bearer x")
		}
		resp := response(200, "Cache-Control", c.cc)
		assert.Equal(t, c.handler.String(), rfc9111.Storable(req, resp, byHandler).String(), "CacheFor, %v, %q", c.auth, c.cc)
		assert.Equal(t, c.header.String(), rfc9111.Storable(req, resp, optIn).String(), "header, %v, %q", c.auth, c.cc)
		assert.Equal(t, c.rfc.String(), rfc9111.Storable(req, resp, byRFC).String(), "RFC 9111, %v, %q", c.auth, c.cc)
	}

	// What looks like permission and is none.
	for _, cc := range []string{
		"max-age=60", "proxy-revalidate", "s-maxage", "s-maxage=0", "s-maxage=x", `public="x"`, "public x", "must-revalidate=1",
		`extension="public"`, `extension="x, public`, "immutable", "publicly",
	} {
		req := request("Authorization", "")
		got := rfc9111.Storable(req, response(200, "Cache-Control", cc), byHandler)
		assert.Equal(t, rfc9111.ReasonAuthorization, got, "%q: %s", cc, got)
	}
}

func TestOptInCookies(t *testing.T) {
	req := request("Cookie", "session=1")
	for cc, want := range map[string]rfc9111.Reason{
		"":                   rfc9111.ReasonNotOptedIn, // the page at /account/x.css, with a cookie and no word on caching
		"max-age=60":         rfc9111.ReasonNotOptedIn,
		"public, max-age=60": rfc9111.ReasonStorable,
		"s-maxage=60":        rfc9111.ReasonStorable,
		"s-maxage=0":         rfc9111.ReasonCookie,
	} {
		got := rfc9111.Storable(req, response(200, "Cache-Control", cc), optIn)
		assert.Equal(t, want, got, "%q: %s", cc, got)
	}
}

// Without a word that it is for all, what can only be validated is not kept from
// a request with a cookie: the handler might confirm it to somebody else.
func TestRFC9111_CookieAndAValidator(t *testing.T) {
	for cc, want := range map[string]rfc9111.Reason{
		"":                           rfc9111.ReasonCookie,
		"no-cache":                   rfc9111.ReasonCookie,
		"no-cache, max-age=60":       rfc9111.ReasonCookie,
		"max-age=0, must-revalidate": rfc9111.ReasonCookie,
		"public, no-cache":           rfc9111.ReasonStorable,
		"max-age=60":                 rfc9111.ReasonStorable,
		"s-maxage=60":                rfc9111.ReasonStorable,
	} {
		resp := response(200, "Cache-Control", cc, "Last-Modified", httpDate(noon.Add(-time.Hour)))
		got := rfc9111.Storable(request("Cookie", "session=1"), resp, byRFC)
		assert.Equal(t, want, got, "%q: %s", cc, got)
		assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(request(), resp, byRFC), "%q without a cookie", cc)
	}
}

func TestRFC9111_3_WhatMakesAResponseCacheable(t *testing.T) {
	later := httpDate(noon.Add(time.Hour))
	for name, c := range map[string]struct {
		status int
		header []string
		want   rfc9111.Reason
	}{
		"max-age":                     {299, []string{"Cache-Control", "max-age=60"}, rfc9111.ReasonStorable},
		"Expires":                     {599, []string{"Expires", later}, rfc9111.ReasonStorable},
		"s-maxage":                    {302, []string{"Cache-Control", "s-maxage=60"}, rfc9111.ReasonStorable},
		"public and a validator":      {302, []string{"Cache-Control", "public", "Etag", `"1"`}, rfc9111.ReasonStorable},
		"public and nothing":          {302, []string{"Cache-Control", "public"}, rfc9111.ReasonNoFreshness},
		"nothing":                     {302, nil, rfc9111.ReasonNoFreshness},
		"a validator":                 {302, []string{"Etag", `"1"`}, rfc9111.ReasonNoFreshness},
		"heuristic, a validator":      {404, []string{"Last-Modified", later}, rfc9111.ReasonStorable},
		"heuristic, a bad validator":  {404, []string{"Last-Modified", "today", "Etag", "1"}, rfc9111.ReasonNoFreshness},
		"heuristic, nothing":          {404, nil, rfc9111.ReasonNoFreshness},
		"stale":                       {200, []string{"Cache-Control", "max-age=0"}, rfc9111.ReasonAlreadyStale},
		"stale, a validator":          {200, []string{"Cache-Control", "max-age=0", "Etag", `W/"1"`}, rfc9111.ReasonStorable},
		"stale, a window":             {200, []string{"Cache-Control", "max-age=0, stale-if-error=60"}, rfc9111.ReasonStorable},
		"stale, the window is closed": {200, []string{"Cache-Control", "max-age=0, stale-if-error=60, must-revalidate"}, rfc9111.ReasonAlreadyStale},
		"stale, the window is past":   {200, []string{"Cache-Control", "max-age=10, stale-while-revalidate=50", "Age", "60"}, rfc9111.ReasonAlreadyStale},
		"expired":                     {200, []string{"Expires", "0"}, rfc9111.ReasonAlreadyStale},
		"no-cache":                    {200, []string{"Cache-Control", "max-age=60, no-cache"}, rfc9111.ReasonNoCache},
		"no-cache, a validator":       {200, []string{"Cache-Control", "no-cache", "Etag", `"1"`}, rfc9111.ReasonStorable},
	} {
		t.Run(name, func(t *testing.T) {
			got := rfc9111.Storable(get, response(c.status, c.header...), byRFC)
			assert.Equal(t, c.want, got, got.String())
		})
	}
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, response(302), rfc9111.Permission{ByHandler: true}))
}

func TestSharedExplicitly(t *testing.T) {
	for cc, want := range map[string]bool{
		"": false, "public": false, "max-age=60": false, "public, max-age=60": true, "s-maxage=60": true,
		"s-maxage=0": true, // it speaks to shared caches; what it says is another matter
		"private":    false,
	} {
		assert.Equal(t, want, rfc9111.SharedExplicitly(response(200, "Cache-Control", cc)), cc)
	}
}

// Texts go into Cache-Status and onto people's dashboards.
func TestRFC9211_2_8_ReasonsAreTokens(t *testing.T) {
	token := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]bool{}
	for r := rfc9111.ReasonStorable; r <= rfc9111.ReasonAlreadyStale; r++ {
		assert.Regexp(t, token, r.String())
		assert.False(t, seen[r.String()] || r.String() == "unknown", r.String())
		seen[r.String()] = true
	}
	assert.Equal(t, "stored", rfc9111.ReasonStorable.String())
	assert.Equal(t, "unknown", rfc9111.Reason(0).String())
	assert.Equal(t, "unknown", rfc9111.Reason(255).String())
}

func TestRFC9111_5_2_2_3_MustUnderstand(t *testing.T) {
	for status := range 700 {
		without := rfc9111.Storable(get, response(status, "Cache-Control", "max-age=60"), byRFC)
		with := rfc9111.Storable(get, response(status, "Cache-Control", "max-age=60, must-understand"), byRFC)
		noStore := rfc9111.Storable(get, response(status, "Cache-Control", "no-store, max-age=60, must-understand"), byRFC)
		assert.Equal(t, with, noStore, status)
		if without != rfc9111.ReasonStorable {
			assert.Equal(t, without, with, status)
			continue
		}
		want := rfc9111.ReasonNotUnderstood
		switch status {
		case 200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 307, 308,
			400, 401, 403, 404, 405, 406, 407, 408, 409, 410, 411, 413, 414, 415, 417, 421, 422, 426,
			500, 501, 502, 503, 504, 505:
			want = rfc9111.ReasonStorable
		}
		assert.Equal(t, want, with, status)
	}
	for cc, want := range map[string]rfc9111.Reason{
		"no-store, must-understand, max-age=60":          rfc9111.ReasonStorable,
		"No-Store, MUST-Understand, s-maxage=60":         rfc9111.ReasonStorable,
		"no-store, must-understand, private, max-age=60": rfc9111.ReasonPrivate,
		"no-store, must-understand, no-cache":            rfc9111.ReasonNoCache,
		// What cannot be read does not permit.
		"no-store, must-understand=1, max-age=60":      rfc9111.ReasonNoStore,
		"no-store, must-understand x, max-age=60":      rfc9111.ReasonNoStore,
		`no-store, x="must-understand", max-age=60`:    rfc9111.ReasonNoStore,
		`no-store, x="a, must-understand, max-age=60`:  rfc9111.ReasonNoStore,
		"must-understand, must-understand=1, no-store": rfc9111.ReasonNoStore,
		"no-store, must-understanding, max-age=60":     rfc9111.ReasonNoStore,
	} {
		assert.Equal(t, want.String(), rfc9111.Storable(get, response(200, "Cache-Control", cc), byRFC).String(), cc)
	}
	assert.Equal(t, rfc9111.ReasonNotUnderstood, rfc9111.Storable(get, response(299, "Cache-Control", "max-age=60, must-understand=1"), byRFC), "but it forbids")

	both := response(200, "Cache-Control", "no-store, must-understand")
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, both, byHandler))
	assert.Equal(t, rfc9111.ReasonNotOptedIn, rfc9111.Storable(get, both, optIn))
	assert.Equal(t, rfc9111.ReasonRequestNoStore, rfc9111.Storable(request("Cache-Control", "no-store"), both, byHandler), "the request's is another")
	assert.Equal(t, rfc9111.ReasonNoStore, rfc9111.Storable(get, behind("Cdn-Cache-Control", "no-store", "Cache-Control", "must-understand"), byRFC))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, behind("Cdn-Cache-Control", "no-store, must-understand, max-age=60"), byRFC))
}

func TestRFC9111_4_2_2_Heuristics(t *testing.T) {
	modified, later := httpDate(noon.Add(-1000*time.Minute)), httpDate(noon.Add(time.Hour))
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		status int
		header []string
		limit  time.Duration
		want   time.Duration
	}{
		"a tenth":                   {200, []string{"Last-Modified", modified}, day, 100 * time.Minute},
		"at most the limit":         {200, []string{"Last-Modified", modified}, time.Minute, time.Minute},
		"no limit, no heuristics":   {200, []string{"Last-Modified", modified}, 0, 0},
		"a negative limit":          {200, []string{"Last-Modified", modified}, -1, 0},
		"from Date":                 {200, []string{"Last-Modified", modified, "Date", httpDate(noon.Add(-500 * time.Minute))}, day, 50 * time.Minute},
		"unreadable Date":           {200, []string{"Last-Modified", modified, "Date", "now"}, day, 100 * time.Minute},
		"modified just now":         {200, []string{"Last-Modified", httpDate(noon)}, day, 0},
		"modified in the future":    {200, []string{"Last-Modified", later}, day, 0},
		"in the year 1":             {200, []string{"Last-Modified", "Mon, 01 Jan 0001 00:00:00 GMT"}, 1 << 62, forEver / 10},
		"RFC 850":                   {200, []string{"Last-Modified", "Friday, 13-Mar-26 19:20:00 GMT"}, day, 100 * time.Minute},
		"no Last-Modified":          {200, []string{"Etag", `"a"`}, day, 0},
		"unreadable Last-Modified":  {200, []string{"Last-Modified", "today"}, day, 0},
		"two that differ":           {200, []string{"Last-Modified", modified, "Last-Modified", later}, day, 0},
		"heuristically cacheable":   {404, []string{"Last-Modified", modified}, day, 100 * time.Minute},
		"not so":                    {302, []string{"Last-Modified", modified}, day, 0},
		"not so, but public":        {302, []string{"Last-Modified", modified, "Cache-Control", "public"}, day, 100 * time.Minute},
		"not so, public=1":          {302, []string{"Last-Modified", modified, "Cache-Control", "public=1"}, day, 0},
		"explicit":                  {200, []string{"Last-Modified", modified, "Cache-Control", "max-age=60"}, day, 0},
		"explicitly stale":          {200, []string{"Last-Modified", modified, "Cache-Control", "max-age=0"}, day, 0},
		"explicit and unreadable":   {200, []string{"Last-Modified", modified, "Cache-Control", "max-age=x"}, day, 0},
		"Expires":                   {200, []string{"Last-Modified", modified, "Expires", later}, day, 0},
		"unreadable Expires":        {200, []string{"Last-Modified", modified, "Expires", "0"}, day, 0},
		"a targeted field, without": {200, []string{"Last-Modified", modified, "Expires", later, "Cache-Control", "max-age=5", "Cdn-Cache-Control", "none"}, day, 100 * time.Minute},
		"a targeted field, with":    {200, []string{"Last-Modified", modified, "Cdn-Cache-Control", "max-age=5"}, day, 0},
		"a targeted public":         {302, []string{"Last-Modified", modified, "Cdn-Cache-Control", "public"}, day, 100 * time.Minute},
		"public, not for us":        {302, []string{"Last-Modified", modified, "Cdn-Cache-Control", "none", "Cache-Control", "public"}, day, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := behind(c.header...)
			r.Status = c.status
			want := rfc9111.Lifetime{}
			if c.want != 0 {
				want = rfc9111.Lifetime{Duration: c.want, Source: rfc9111.Heuristic}
			}
			assert.Equal(t, want, rfc9111.HeuristicLifetime(r, c.limit))

			explicit := rfc9111.FreshnessLifetime(r)
			assert.Equal(t, explicit, rfc9111.Permission{}.Lifetime(r))
			assert.Equal(t, explicit, rfc9111.Permission{OptIn: true, Heuristic: c.limit}.Lifetime(r))
			if explicit.Source == rfc9111.None {
				assert.Equal(t, want, rfc9111.Permission{Heuristic: c.limit}.Lifetime(r))
			} else {
				assert.Equal(t, explicit, rfc9111.Permission{Heuristic: c.limit}.Lifetime(r))
			}
		})
	}
	r := rfc9111.Response{Status: 200, Header: header("Last-Modified", modified)}
	assert.Equal(t, rfc9111.Lifetime{}, rfc9111.HeuristicLifetime(r, day), "nobody knows when")

	p := rfc9111.Permission{OptIn: true, Heuristic: day}
	assert.Equal(t, rfc9111.ReasonNotOptedIn, rfc9111.Storable(get, response(200, "Last-Modified", modified), p))
	assert.Equal(t, rfc9111.ReasonStorable, rfc9111.Storable(get, response(200, "Last-Modified", modified), rfc9111.Permission{Heuristic: day}))
	assert.Equal(t, rfc9111.ReasonNoFreshness, rfc9111.Storable(get, response(302, "Last-Modified", modified), rfc9111.Permission{Heuristic: day}))
}

func TestRFC9110_9_3_3_StorablePost(t *testing.T) {
	post := rfc9111.Request{Method: "POST", Header: http.Header{}}
	fresh := []string{"Cache-Control", "public, max-age=60"}
	for _, method := range []string{"GET", "HEAD", "PUT", "post", ""} {
		req := rfc9111.Request{Method: method, Header: http.Header{}}
		assert.Equal(t, rfc9111.ReasonMethod, rfc9111.StorablePost(req, response(200, fresh...), byRFC), method)
	}
	for status := range 700 {
		want := rfc9111.ReasonStatus
		switch {
		case status == 206:
			want = rfc9111.ReasonPartial
		case status >= 200 && status <= 299:
			want = rfc9111.ReasonStorable
		}
		for _, p := range []rfc9111.Permission{optIn, byHandler, byRFC} {
			assert.Equal(t, want, rfc9111.StorablePost(post, response(status, fresh...), p), status)
		}
	}
	for name, c := range map[string]struct {
		header              []string
		optIn, handler, rfc rfc9111.Reason
	}{
		"nothing":       {nil, rfc9111.ReasonNotOptedIn, rfc9111.ReasonNoFreshness, rfc9111.ReasonNoFreshness},
		"a validator":   {[]string{"Etag", `"a"`, "Cache-Control", "public"}, rfc9111.ReasonNotOptedIn, rfc9111.ReasonNoFreshness, rfc9111.ReasonNoFreshness},
		"heuristic":     {[]string{"Last-Modified", httpDate(noon.AddDate(-1, 0, 0))}, rfc9111.ReasonNotOptedIn, rfc9111.ReasonNoFreshness, rfc9111.ReasonNoFreshness},
		"max-age":       {[]string{"Cache-Control", "max-age=60"}, rfc9111.ReasonNotOptedIn, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"Expires":       {[]string{"Expires", httpDate(noon.Add(time.Hour))}, rfc9111.ReasonNotOptedIn, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"already stale": {[]string{"Cache-Control", "s-maxage=0"}, rfc9111.ReasonAlreadyStale, rfc9111.ReasonStorable, rfc9111.ReasonAlreadyStale},
		"no-store":      {[]string{"Cache-Control", "s-maxage=60, no-store"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"private":       {[]string{"Cache-Control", "s-maxage=60, private"}, rfc9111.ReasonPrivate, rfc9111.ReasonPrivate, rfc9111.ReasonPrivate},
		"Set-Cookie":    {[]string{"Cache-Control", "s-maxage=60", "Set-Cookie", "a=1"}, rfc9111.ReasonSetCookie, rfc9111.ReasonSetCookie, rfc9111.ReasonSetCookie},
		"Vary: *":       {[]string{"Cache-Control", "s-maxage=60", "Vary", "*"}, rfc9111.ReasonVaryStar, rfc9111.ReasonVaryStar, rfc9111.ReasonVaryStar},
	} {
		heuristic := byRFC
		heuristic.Heuristic = time.Hour
		assert.Equal(t, c.optIn.String(), rfc9111.StorablePost(post, response(200, c.header...), optIn).String(), name)
		assert.Equal(t, c.handler.String(), rfc9111.StorablePost(post, response(200, c.header...), byHandler).String(), name)
		assert.Equal(t, c.rfc.String(), rfc9111.StorablePost(post, response(200, c.header...), heuristic).String(), name)
	}
	authorized := rfc9111.Request{Method: "POST", Header: http.Header{"Authorization": {"x"}}}
	assert.Equal(t, rfc9111.ReasonAuthorization, rfc9111.StorablePost(authorized, response(200, "Cache-Control", "max-age=60"), byRFC))
	assert.Equal(t, rfc9111.ReasonMethod, rfc9111.Storable(post, response(200, fresh...), byRFC))
}

// drawExchange draws a request, a response and a permission; most of them are
// near the border between stored and not.
func drawExchange(t *rapid.T) (rfc9111.Request, rfc9111.Response, rfc9111.Permission) {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	req := rfc9111.Request{Method: pick("method", "GET", "GET", "GET", "HEAD"), Header: http.Header{}}
	for _, name := range []string{"Cookie", "Authorization"} {
		if rapid.Bool().Draw(t, name) {
			req.Header.Set(name, "x")
		}
	}
	resp := rfc9111.Response{Header: http.Header{}, Received: noon}
	resp.Status = rapid.SampledFrom([]int{200, 200, 204, 206, 302, 304, 404, 503, 103}).Draw(t, "status")
	if rapid.Bool().Draw(t, "targets") {
		resp.Targets = []string{"CDN-Cache-Control", "Surrogate-Control"}
	}
	for range rapid.IntRange(0, 3).Draw(t, "lines") {
		members := rapid.SliceOfN(rapid.SampledFrom([]string{
			"public", "max-age=60", "s-maxage=60", "max-age=0", "must-revalidate", "no-cache", `no-cache="x"`, "immutable",
			`x="a`, `x="a, b"`, `x=a"b`, "max-age", "public=1", "", "stale-if-error=9", `y="\`, `"`,
		}), 0, 4).Draw(t, "members")
		key := pick("key", "Cache-Control", "cache-control", "Cdn-Cache-Control", "Surrogate-Control")
		resp.Header[key] = append(resp.Header[key], strings.Join(members, ", "))
	}
	for _, name := range []string{"Set-Cookie", "Vary", "Etag", "Age", "Content-Range"} {
		if rapid.IntRange(0, 5).Draw(t, name) == 0 {
			resp.Header.Set(name, pick(name+" value", "*", "Cookie", `"1"`, "30"))
		}
	}
	return req, resp, rfc9111.Permission{
		ByHandler:   rapid.Bool().Draw(t, "by handler"),
		OptIn:       rapid.Bool().Draw(t, "opt in"),
		Uncacheable: setByDef,
		Heuristic:   rapid.SampledFrom([]time.Duration{0, time.Hour}).Draw(t, "heuristic"),
	}
}

// no-store and private, said anywhere and in any spelling, win over everything.
func TestRFC9111_3_VetoesNeverMakeMoreStorable(t *testing.T) {
	for _, veto := range []string{"no-store", "private"} {
		t.Run(veto, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				req, resp, p := drawExchange(t)
				resp.Targets = nil // else it may be said in a field that means nothing
				key := rapid.SampledFrom([]string{"Cache-Control", "cache-control", "CACHE-CONTROL"}).Draw(t, "veto key")
				said := rapid.SampledFrom([]string{veto, strings.ToUpper(veto), veto + `="x"`, veto + "; x"}).Draw(t, "veto")
				lines := resp.Header[key]
				switch at := rapid.IntRange(0, 3).Draw(t, "place"); {
				case at == 0 || len(lines) == 0:
					lines = append(lines, said)
				case at == 1:
					lines = append([]string{said}, lines...)
				case at == 2:
					lines[0] = said + "," + lines[0]
				default:
					// Not with quotation marks of its own: these might close
					// what is open, and so become part of it.
					lines[0] += "," + veto
				}
				resp.Header[key] = lines
				if got := rfc9111.Storable(req, resp, p); got == rfc9111.ReasonStorable {
					t.Fatalf("stored in spite of %q: %v", said, resp.Header)
				}
			})
		})
	}
}

// Nor does a no-store that goes with must-understand, or one in any of the fields
// that may govern.
func TestRFC9111_3_NoStoreNeverMakesMoreStorable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, resp, p := drawExchange(t)
		if rapid.Bool().Draw(t, "must-understand") {
			resp.Header.Add("Cache-Control", "must-understand")
		}
		if rfc9111.Storable(req, resp, p) == rfc9111.ReasonStorable {
			return
		}
		key := rapid.SampledFrom([]string{"Cache-Control", "Surrogate-Control"}).Draw(t, "key")
		resp.Header[key] = append(slices.Clip(resp.Header[key]), "no-store")
		if rfc9111.Storable(req, resp, p) == rfc9111.ReasonStorable {
			t.Fatalf("stored because of no-store: %v", resp.Header)
		}
	})
}

func TestRFC9111_3_5_AuthorizationNeverMakesMoreStorable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, resp, p := drawExchange(t)
		post := rfc9111.Request{Method: "POST", Header: req.Header}
		before, beforePost := rfc9111.Storable(req, resp, p), rfc9111.StorablePost(post, resp, p)
		req.Header.Set(rapid.SampledFrom([]string{"Authorization", "Cookie"}).Draw(t, "credentials"), "x")
		if got := rfc9111.Storable(req, resp, p); got == rfc9111.ReasonStorable && before != got {
			t.Fatalf("stored because of credentials, not without: %s", before)
		}
		if got := rfc9111.StorablePost(post, resp, p); got == rfc9111.ReasonStorable && beforePost != got {
			t.Fatalf("stored because of credentials, not without: %s", beforePost)
		}
		if beforePost == rfc9111.ReasonStorable {
			asGet := rfc9111.Request{Method: "GET", Header: http.Header{}}
			if got := rfc9111.Storable(asGet, resp, p); got != rfc9111.ReasonStorable {
				t.Fatalf("stored of a POST, and of a GET %s", got)
			}
		}
	})
}

// The handler's word and the weaker policy only ever add permissions.
func TestPermissionsNeverForbid(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		req, resp, p := drawExchange(t)
		if rfc9111.Storable(req, resp, p) != rfc9111.ReasonStorable {
			return
		}
		for _, more := range []rfc9111.Permission{
			{ByHandler: true, OptIn: p.OptIn, Uncacheable: p.Uncacheable},
			{ByHandler: p.ByHandler, Uncacheable: p.Uncacheable},
			{ByHandler: p.ByHandler, OptIn: p.OptIn},
			{ByHandler: p.ByHandler, OptIn: p.OptIn, Uncacheable: p.Uncacheable, Heuristic: time.Hour},
		} {
			if got := rfc9111.Storable(req, resp, more); got != rfc9111.ReasonStorable {
				t.Fatalf("%+v permits, %+v says %s", p, more, got)
			}
		}
		bare := rfc9111.Request{Method: req.Method, Header: http.Header{}}
		if got := rfc9111.Storable(bare, resp, p); got != rfc9111.ReasonStorable {
			t.Fatalf("without credentials: %s", got)
		}
	})
}
