package rfc9111_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

var targets = []string{"example-cdn-cache-control", "CDN-Cache-Control", "Surrogate-Control"}

// behind is a response to a cache with all of the targets.
func behind(pairs ...string) rfc9111.Response {
	r := response(200, pairs...)
	r.Targets = targets
	return r
}

func TestRFC9213_2_2_TheFirstValidFieldGoverns(t *testing.T) {
	const (
		none    = rfc9111.None
		maxAge  = rfc9111.MaxAge
		sMaxAge = rfc9111.SMaxAge
		expires = rfc9111.Expires
	)
	later := httpDate(noon.Add(time.Hour))
	for name, c := range map[string]struct {
		header []string
		want   time.Duration
		source rfc9111.Source
	}{
		"nothing":              {nil, 0, none},
		"Cache-Control":        {[]string{"Cache-Control", "max-age=60"}, time.Minute, maxAge},
		"longer":               {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=600"}, 10 * time.Minute, maxAge},
		"shorter":              {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=6"}, 6 * time.Second, maxAge},
		"over s-maxage":        {[]string{"Cache-Control", "s-maxage=60", "Cdn-Cache-Control", "max-age=6"}, 6 * time.Second, maxAge},
		"s-maxage in it":       {[]string{"Cdn-Cache-Control", "max-age=6, s-maxage=7"}, 7 * time.Second, sMaxAge},
		"stale":                {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=0"}, 0, maxAge},
		"leading zeros":        {[]string{"Cdn-Cache-Control", "max-age=0060"}, time.Minute, maxAge},
		"far too long":         {[]string{"Cdn-Cache-Control", "max-age=999999999999999"}, forEver, maxAge},
		"too long to be valid": {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=9999999999999999"}, time.Minute, maxAge},
		"odd spelling":         {[]string{"Cache-Control", "max-age=60", "cdn-CACHE-control", "max-age=6"}, 6 * time.Second, maxAge},
		"two spellings":        {[]string{"Cdn-Cache-Control", "max-age=6", "cdn-cache-control", "s-maxage=7"}, 7 * time.Second, sMaxAge},
		"two lines":            {[]string{"Cdn-Cache-Control", "public", "Cdn-Cache-Control", "max-age=6"}, 6 * time.Second, maxAge},
		"last duplicate wins":  {[]string{"Cdn-Cache-Control", "max-age=6, max-age=600"}, 10 * time.Minute, maxAge},
		"parameters":           {[]string{"Cdn-Cache-Control", "max-age=6;x;y=2"}, 6 * time.Second, maxAge},

		"Expires is ignored":          {[]string{"Expires", later, "Cdn-Cache-Control", "public"}, 0, none},
		"Cache-Control is ignored":    {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "none"}, 0, none},
		"false governs":               {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=?0"}, 0, none},
		"false takes it back":         {[]string{"Cdn-Cache-Control", "s-maxage=5, max-age=6, s-maxage=?0"}, 6 * time.Second, maxAge},
		"empty is absent":             {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", ""}, time.Minute, maxAge},
		"blank is absent":             {[]string{"Expires", later, "Cdn-Cache-Control", " \t"}, time.Hour, expires},
		"no lines are absent":         {[]string{"Expires", later}, time.Hour, expires},
		"syntax error is absent":      {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=6, &"}, time.Minute, maxAge},
		"upper case is an error":      {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "Max-Age=6"}, time.Minute, maxAge},
		"space is an error":           {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age =6"}, time.Minute, maxAge},
		"trailing comma is an error":  {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=6,"}, time.Minute, maxAge},
		"error on the second line":    {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=6", "Cdn-Cache-Control", "&"}, time.Minute, maxAge},
		"error, and no Cache-Control": {[]string{"Cdn-Cache-Control", "max-age=6, &"}, 0, none},

		// 2.1: of the wrong type is present and unreadable
		"decimal":    {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=6.0"}, 0, maxAge},
		"string":     {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", `max-age="6"`}, 0, maxAge},
		"token":      {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=a6"}, 0, maxAge},
		"negative":   {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=-6"}, 0, maxAge},
		"true":       {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age"}, 0, maxAge},
		"inner list": {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=(6)"}, 0, maxAge},
		"date":       {[]string{"Cache-Control", "max-age=60", "Cdn-Cache-Control", "max-age=@6"}, 0, maxAge},

		// the target list
		"the stronger":            {[]string{"Example-Cdn-Cache-Control", "max-age=5", "Cdn-Cache-Control", "max-age=6", "Surrogate-Control", "max-age=7"}, 5 * time.Second, maxAge},
		"the stronger is invalid": {[]string{"Example-Cdn-Cache-Control", "max-age=5,", "Cdn-Cache-Control", "max-age=6"}, 6 * time.Second, maxAge},
		"the stronger is empty":   {[]string{"Example-Cdn-Cache-Control", "", "Cdn-Cache-Control", "max-age=6"}, 6 * time.Second, maxAge},
		"not in the list":         {[]string{"Other-Cache-Control", "max-age=5", "Cache-Control", "max-age=6"}, 6 * time.Second, maxAge},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, rfc9111.Lifetime{Duration: c.want, Source: c.source}, rfc9111.FreshnessLifetime(behind(c.header...)))
		})
	}
	without := response(200, "Cdn-Cache-Control", "max-age=6", "Surrogate-Control", "max-age=7", "Cache-Control", "max-age=60")
	assert.Equal(t, time.Minute, rfc9111.FreshnessLifetime(without).Duration, "no targets")
}

func TestRFC9213_2_2_Directives(t *testing.T) {
	for name, c := range map[string]struct {
		header []string
		optIn  rfc9111.Reason
		rfc    rfc9111.Reason
	}{
		"max-age":            {[]string{"Cdn-Cache-Control", "max-age=60"}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"s-maxage":           {[]string{"Cdn-Cache-Control", "s-maxage=60"}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"over no-store":      {[]string{"Cdn-Cache-Control", "max-age=60", "Cache-Control", "no-store, private"}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"no-store":           {[]string{"Cdn-Cache-Control", "max-age=60, no-store", "Cache-Control", "public, max-age=60"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"no-store=?1":        {[]string{"Cdn-Cache-Control", "max-age=60, no-store=?1"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"no-store=?0":        {[]string{"Cdn-Cache-Control", "max-age=60, no-store=?0"}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"no-store, =?0":      {[]string{"Cdn-Cache-Control", "max-age=60, no-store, no-store=?0"}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"no-store=0":         {[]string{"Cdn-Cache-Control", "max-age=60, no-store=0"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"no-store;x":         {[]string{"Cdn-Cache-Control", "max-age=60, no-store;x=1"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"private":            {[]string{"Cdn-Cache-Control", "max-age=60, private"}, rfc9111.ReasonPrivate, rfc9111.ReasonPrivate},
		`private="x"`:        {[]string{"Cdn-Cache-Control", `max-age=60, private="x"`}, rfc9111.ReasonPrivate, rfc9111.ReasonPrivate},
		"no-cache":           {[]string{"Cdn-Cache-Control", "max-age=60, no-cache"}, rfc9111.ReasonNoCache, rfc9111.ReasonNoCache},
		`no-cache="x"`:       {[]string{"Cdn-Cache-Control", `max-age=60, no-cache="x"`}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		`no-cache=""`:        {[]string{"Cdn-Cache-Control", `max-age=60, no-cache=""`}, rfc9111.ReasonNoCache, rfc9111.ReasonNoCache},
		`no-cache=x`:         {[]string{"Cdn-Cache-Control", `max-age=60, no-cache=x`}, rfc9111.ReasonNoCache, rfc9111.ReasonNoCache},
		`no-cache=("x")`:     {[]string{"Cdn-Cache-Control", `max-age=60, no-cache=("x")`}, rfc9111.ReasonNoCache, rfc9111.ReasonNoCache},
		"in a string":        {[]string{"Cdn-Cache-Control", `max-age=60, x="a, no-store"`}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"none":               {[]string{"Cdn-Cache-Control", "none", "Cache-Control", "no-store"}, rfc9111.ReasonNotOptedIn, rfc9111.ReasonNoFreshness}, // RFC 9213, 3.1
		"public alone":       {[]string{"Cdn-Cache-Control", "public", "Cache-Control", "max-age=60"}, rfc9111.ReasonNotOptedIn, rfc9111.ReasonNoFreshness},
		"invalid":            {[]string{"Cdn-Cache-Control", "max-age=60, ?", "Cache-Control", "no-store"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"unreadable":         {[]string{"Cdn-Cache-Control", "max-age=6.0", "Cache-Control", "public, max-age=60"}, rfc9111.ReasonAlreadyStale, rfc9111.ReasonAlreadyStale},
		"Age counts":         {[]string{"Cdn-Cache-Control", "max-age=60", "Age", "60"}, rfc9111.ReasonAlreadyStale, rfc9111.ReasonAlreadyStale},
		"Surrogate-Control":  {[]string{"Surrogate-Control", "max-age=60", "Cache-Control", "no-store"}, rfc9111.ReasonStorable, rfc9111.ReasonStorable},
		"Surrogate no-store": {[]string{"Surrogate-Control", "no-store", "Cache-Control", "public, max-age=60"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
		"Surrogate content":  {[]string{"Surrogate-Control", `content="ESI/1.0"`, "Cache-Control", "no-store"}, rfc9111.ReasonNoStore, rfc9111.ReasonNoStore},
	} {
		t.Run(name, func(t *testing.T) {
			got := rfc9111.Storable(get, behind(c.header...), optIn)
			assert.Equal(t, c.optIn.String(), got.String(), "OptIn")
			got = rfc9111.Storable(get, behind(c.header...), byRFC)
			assert.Equal(t, c.rfc.String(), got.String(), "RFC 9111")
		})
	}
}

// The directives that let an answer to one user be given to others are those of
// the field that governs.
func TestRFC9111_3_5_TargetedFields(t *testing.T) {
	authorized, withCookie := request("Authorization", "Basic x"), request("Cookie", "a=1")
	for field, shared := range map[string]bool{
		"max-age=60":                        false,
		"max-age=60, public":                true,
		"max-age=60, public=?1":             true,
		"max-age=60, public=?0":             false,
		"max-age=60, public=1":              false,
		`max-age=60, public="x"`:            false,
		"max-age=60, must-revalidate":       true,
		"max-age=60, must-revalidate=a":     false,
		"max-age=60, proxy-revalidate":      false,
		"s-maxage=60":                       true,
		"max-age=60, s-maxage=60.0":         false,
		"max-age=60, s-maxage=0":            false,
		"max-age=60, must-revalidate=?0, x": false,
	} {
		r := behind("Cdn-Cache-Control", field, "Cache-Control", "public, s-maxage=60")
		for _, p := range []rfc9111.Permission{byHandler, byRFC} {
			assert.Equal(t, shared, rfc9111.Storable(authorized, r, p) == rfc9111.ReasonStorable, field)
		}
		if !shared {
			assert.NotEqual(t, rfc9111.ReasonStorable, rfc9111.Storable(withCookie, r, optIn), field)
		}
	}
	for _, field := range []string{"max-age=60", "max-age=60, public", "max-age=60, must-revalidate", "max-age=60, s-maxage=60"} {
		r := behind("Surrogate-Control", field, "Cache-Control", "public, s-maxage=60")
		assert.Equal(t, rfc9111.ReasonAuthorization, rfc9111.Storable(authorized, r, optIn), field)
		assert.Equal(t, rfc9111.ReasonCookie, rfc9111.Storable(withCookie, r, optIn), field)
	}
}

func TestRFC9213_2_2_StaleUse(t *testing.T) {
	for field, c := range map[string]struct {
		must, validate         bool
		whileRevalidate, error time.Duration
	}{
		"max-age=60": {},
		"max-age=60, stale-while-revalidate=30, stale-if-error=90":        {false, false, 30 * time.Second, 90 * time.Second},
		"max-age=60, stale-while-revalidate=30.0, stale-if-error=\"90\"":  {},
		"max-age=60, stale-while-revalidate=30, must-revalidate":          {must: true},
		"max-age=60, stale-while-revalidate=30, must-revalidate=?0":       {whileRevalidate: 30 * time.Second},
		"max-age=60, stale-while-revalidate=30, must-revalidate=0":        {must: true},
		"s-maxage=60, stale-while-revalidate=30":                          {must: true},
		"max-age=60, stale-while-revalidate=30, no-cache":                 {must: true, validate: true},
		"max-age=60, stale-while-revalidate=30, no-cache=x":               {must: true, validate: true},
		"max-age=60, stale-while-revalidate=30, no-cache=\"Set-Cookie\"":  {whileRevalidate: 30 * time.Second},
		"max-age=60, stale-while-revalidate=30, no-cache=\"Set Cookie\"":  {must: true, validate: true},
		"max-age=60, stale-while-revalidate=-30":                          {},
		"max-age=60, stale-while-revalidate=3, stale-while-revalidate=30": {whileRevalidate: 30 * time.Second},
	} {
		r := behind("Cdn-Cache-Control", field, "Cache-Control", "no-cache, must-revalidate")
		swr, sie := rfc9111.StaleWindows(r)
		assert.Equal(t, c.whileRevalidate, swr, field)
		assert.Equal(t, c.error, sie, field)
		assert.Equal(t, c.must, rfc9111.MustRevalidate(r), field)
		assert.Equal(t, c.validate, rfc9111.NeedsValidation(r), field)
	}
}

func TestRFC9111_5_2_2_4_NeedsValidation(t *testing.T) {
	for line, want := range map[string]bool{
		"": false, "max-age=60": false, "must-revalidate": false, "no-cache": true, "NO-Cache": true, "no-cache=": true,
		`no-cache="a"`: false, `no-cache="a", no-cache`: true, `no-cache="a`: true, `x="no-cache"`: false, `x="a, no-cache`: true,
	} {
		assert.Equal(t, want, rfc9111.NeedsValidation(response(200, "Cache-Control", line)), line)
	}
}

func TestSurrogateControl(t *testing.T) {
	const s = time.Second
	for field, c := range map[string]struct {
		governs         bool
		lifetime, stale time.Duration
	}{
		"max-age=60":                     {true, 60 * s, 0},
		"Max-Age=60":                     {true, 60 * s, 0},
		`max-age="60"`:                   {true, 60 * s, 0},
		"max-age=60+30":                  {true, 60 * s, 30 * s},
		"max-age=0060+0":                 {true, 60 * s, 0},
		`max-age="60+30"`:                {true, 60 * s, 30 * s},
		"max-age=99999999999+9999999999": {true, forEver, forEver},
		"max-age=60+30, max-age=60+30":   {true, 60 * s, 30 * s},
		`no-store-remote, max-age=60+30, content="ESI/1.0 X/1.0"`: {true, 60 * s, 30 * s},
		`content="a, no-store", max-age=60`:                       {true, 60 * s, 0},

		// unreadable is stale
		"max-age":                        {true, 0, 0},
		"max-age=":                       {true, 0, 0},
		"max-age=x":                      {true, 0, 0},
		"max-age=-60":                    {true, 0, 0},
		"max-age=60.5":                   {true, 0, 0},
		"max-age=60+":                    {true, 0, 0},
		"max-age=+30":                    {true, 0, 0},
		"max-age=x+30":                   {true, 0, 0},
		"max-age=60+x":                   {true, 0, 0},
		"max-age=60+30+10":               {true, 0, 0},
		"max-age=60 +30":                 {true, 0, 0},
		"max-age=60 x":                   {true, 0, 0},
		"max-age=60, max-age=70":         {true, 0, 0},
		"max-age=60+30, max-age=60+40":   {true, 60 * s, 0},
		`content="ESI/1.0, max-age=60+9`: {true, 0, 0},

		// Parameters; one without a value is an addressee.
		"max-age=60;a=b":                   {true, 60 * s, 0},
		"max-age=60 ; a=b;":                {true, 60 * s, 0},
		`max-age=60;a="b"`:                 {true, 60 * s, 0},
		"max-age=60;":                      {true, 60 * s, 0},
		"max-age=60;=b":                    {true, 0, 0},
		"max-age=60;a b":                   {true, 0, 0},
		"max-age=60, max-age=600;abc":      {true, 60 * s, 0},
		"max-age=600;abc, max-age=60":      {true, 60 * s, 0},
		"max-age=600;a=b;abc, max-age=60":  {true, 60 * s, 0},
		"max-age=60, no-store;abc":         {true, 60 * s, 0},
		"max-age=600;abc":                  {},
		"no-store;abc":                     {},
		"no-store; abc, content=\"x\";abc": {},

		// Nothing about storing.
		"":                  {},
		",, ,":              {},
		`content="ESI/1.0"`: {},
		"no-store-remote":   {},
		"x-max-age=60":      {},
		"public, s-maxage=60, stale-while-revalidate=9, must-revalidate": {},
		`content="max-age=60"`: {},

		// Cache-Control in the wrong field.
		"max-age=60+30, must-revalidate":  {true, 60 * s, 0},
		"max-age=60+30, proxy-revalidate": {true, 60 * s, 0},
		"max-age=60, s-maxage=600":        {true, 60 * s, 0},
	} {
		r := behind("Surrogate-Control", field, "Cache-Control", "s-maxage=5")
		want := rfc9111.Lifetime{Duration: c.lifetime, Source: rfc9111.MaxAge}
		if !c.governs {
			want = rfc9111.Lifetime{Duration: 5 * s, Source: rfc9111.SMaxAge}
		}
		assert.Equal(t, want, rfc9111.FreshnessLifetime(r), field)
		swr, sie := rfc9111.StaleWindows(r)
		assert.Equal(t, c.stale, swr, field)
		assert.Zero(t, sie, field)
		assert.True(t, rfc9111.SharedExplicitly(r), field)
	}

	for _, field := range []string{
		"no-store", "No-Store", "no-store=1", "max-age=60, no-store", "max-age=60, no-cache", "no-cache", "private", `private="x", max-age=60`,
		"no-store; a=b", "no-store;;", `no-store;"`, "no-store x", `content="a, no-store`, `max-age=60;"x", no-store`,
	} {
		r := behind("Surrogate-Control", field, "Cache-Control", "public, s-maxage=5")
		for _, p := range []rfc9111.Permission{optIn, byHandler, byRFC} {
			assert.Equal(t, rfc9111.ReasonNoStore, rfc9111.Storable(get, r, p), field)
		}
	}
	two := behind("Surrogate-Control", "max-age=60", "Surrogate-Control", "no-store")
	assert.Equal(t, rfc9111.ReasonNoStore, rfc9111.Storable(get, two, optIn))
}

func TestSharedExplicitlyByTarget(t *testing.T) {
	for field, want := range map[string]bool{
		"": false, "public": false, "none": false, "max-age=60": true, "max-age=0": true, "s-maxage=60": true, "max-age=?0": false,
		"max-age=6.0": true, "max-age=60,": false,
	} {
		assert.Equal(t, want, rfc9111.SharedExplicitly(behind("Cdn-Cache-Control", field)), field)
	}
	assert.False(t, rfc9111.SharedExplicitly(behind("Cdn-Cache-Control", "none", "Cache-Control", "s-maxage=60")))
	assert.True(t, rfc9111.SharedExplicitly(behind("Cdn-Cache-Control", "none,", "Cache-Control", "s-maxage=60")))
}

// Whatever a targeted field holds, it either governs alone or is not there.
func FuzzTargetedFields(f *testing.F) {
	for _, s := range []string{"", "max-age=60", "no-store", "max-age=60+30;x", `private="a", no-cache=?0`, "s-maxage=1.5", "max-age=1, &", `content="ESI/1.0"`} {
		f.Add(s, "public, max-age=9")
	}
	f.Fuzz(func(t *testing.T, field, cacheControl string) {
		for _, name := range []string{"Cdn-Cache-Control", "Surrogate-Control"} {
			all := behind(name, field, "Cache-Control", cacheControl, "Expires", httpDate(noon.Add(time.Hour)))
			alone := behind(name, field)
			absent := behind("Cache-Control", cacheControl, "Expires", httpDate(noon.Add(time.Hour)))
			if got := summary(all); got != summary(alone) && got != summary(absent) {
				t.Fatalf("%s: %q with %q: %s", name, field, cacheControl, got)
			}
			twice := behind(name, field, "Cache-Control", cacheControl, "Expires", httpDate(noon.Add(time.Hour)))
			twice.Targets = append(targets[:3:3], targets...)
			if summary(all) != summary(twice) {
				t.Fatalf("%s: %q: named twice", name, field)
			}
			if got := rfc9111.FreshnessLifetime(all).Duration; got < 0 || got > forEver {
				t.Fatalf("%s: %q: %v", name, field, got)
			}
		}
		// More lines never take a no-store of Surrogate-Control away.
		if r := behind("Surrogate-Control", field, "Surrogate-Control", "no-store"); rfc9111.Storable(get, r, optIn) != rfc9111.ReasonNoStore {
			t.Fatalf("%q hides no-store", field)
		}
	})
}

// summary is everything that the rules say of a response.
func summary(r rfc9111.Response) string {
	var b strings.Builder
	for _, p := range []rfc9111.Permission{optIn, byHandler, byRFC} {
		b.WriteString(rfc9111.Storable(request("Authorization", "x"), r, p).String() + " ")
		b.WriteString(rfc9111.Storable(request("Cookie", "x"), r, p).String() + " ")
	}
	swr, sie := rfc9111.StaleWindows(r)
	lifetime := rfc9111.FreshnessLifetime(r)
	h := http.Header{"A": {"1"}, "Set-Cookie": {"1"}, "X": {"1"}}
	rfc9111.RemoveNoCacheFields(h, r)
	for _, d := range []time.Duration{swr, sie, lifetime.Duration, time.Duration(lifetime.Source), time.Duration(len(h))} {
		b.WriteString(d.String() + " ")
	}
	return b.String()
}
