package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

var noon = time.Date(2026, time.March, 14, 12, 0, 0, 0, time.UTC)

func httpDate(t time.Time) string { return t.UTC().Format(http.TimeFormat) }

func TestRFC9111_4_2_1_FreshnessLifetime(t *testing.T) {
	past, future := httpDate(noon.Add(-time.Hour)), httpDate(noon.Add(time.Hour))
	for name, c := range map[string]struct {
		header http.Header
		want   rfc9111.Lifetime
	}{
		"nothing":  {http.Header{}, rfc9111.Lifetime{}},
		"max-age":  {http.Header{"Cache-Control": {"max-age=60"}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.MaxAge}},
		"s-maxage": {http.Header{"Cache-Control": {"s-maxage=60"}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.SMaxAge}},
		"Expires":  {http.Header{"Expires": {future}}, rfc9111.Lifetime{Duration: time.Hour, Source: rfc9111.Expires}},

		"s-maxage beats longer max-age":  {http.Header{"Cache-Control": {"max-age=600, s-maxage=60"}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.SMaxAge}},
		"s-maxage beats shorter max-age": {http.Header{"Cache-Control": {"max-age=6", "s-maxage=60"}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.SMaxAge}},
		"s-maxage beats Expires":         {http.Header{"Cache-Control": {"s-maxage=60"}, "Expires": {past}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.SMaxAge}},
		"max-age beats later Expires":    {http.Header{"Cache-Control": {"max-age=60"}, "Expires": {future}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.MaxAge}},
		"max-age beats past Expires":     {http.Header{"Cache-Control": {"max-age=60"}, "Expires": {past}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.MaxAge}},
		"max-age beats invalid Expires":  {http.Header{"Cache-Control": {"max-age=60"}, "Expires": {"0"}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.MaxAge}},

		"max-age=0 does not fall back":           {http.Header{"Cache-Control": {"max-age=0"}, "Expires": {future}}, rfc9111.Lifetime{Source: rfc9111.MaxAge}},
		"unreadable max-age does not fall back":  {http.Header{"Cache-Control": {"max-age='60'"}, "Expires": {future}}, rfc9111.Lifetime{Source: rfc9111.MaxAge}},
		"unreadable s-maxage does not fall back": {http.Header{"Cache-Control": {"s-maxage=-1, max-age=60"}}, rfc9111.Lifetime{Source: rfc9111.SMaxAge}},
		"quoted extension is no lifetime":        {http.Header{"Cache-Control": {`extension="max-age=3600"`}}, rfc9111.Lifetime{}},
		"overflow":                               {http.Header{"Cache-Control": {"max-age=99999999999"}}, rfc9111.Lifetime{Duration: forEver, Source: rfc9111.MaxAge}},
		"odd spelling of the field":              {http.Header{"cache-control": {"max-age=60"}}, rfc9111.Lifetime{Duration: time.Minute, Source: rfc9111.MaxAge}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rfc9111.FreshnessLifetime(rfc9111.Response{Status: 200, Header: c.header, Received: noon})
			assert.Equal(t, c.want, got)
		})
	}
}

func TestRFC9111_5_3_Expires(t *testing.T) {
	at := func(d time.Duration) string { return httpDate(noon.Add(d)) }
	for name, c := range map[string]struct {
		expires  []string
		date     []string
		received time.Time
		want     time.Duration
	}{
		"minus Date, not minus now":      {[]string{at(time.Hour)}, []string{at(-time.Hour)}, noon, 2 * time.Hour},
		"Date in the future":             {[]string{at(2 * time.Hour)}, []string{at(time.Hour)}, noon, time.Hour},
		"equal to Date is stale":         {[]string{at(0)}, []string{at(0)}, noon, 0},
		"before Date":                    {[]string{at(-time.Hour)}, []string{at(0)}, noon, 0},
		"no Date: time of receipt":       {[]string{at(time.Hour)}, nil, noon, time.Hour},
		"bad Date: time of receipt":      {[]string{at(time.Hour)}, []string{"yesterday"}, noon, time.Hour},
		"neither Date nor receipt":       {[]string{at(time.Hour)}, nil, time.Time{}, 0},
		"0":                              {[]string{"0"}, nil, noon, 0},
		"-1":                             {[]string{"-1"}, nil, noon, 0},
		"empty":                          {[]string{""}, nil, noon, 0},
		"another zone":                   {[]string{"Sat, 14 Mar 2026 13:00:00 CET"}, nil, noon, 0},
		"two lines alike":                {[]string{at(time.Hour), at(time.Hour)}, nil, noon, time.Hour},
		"two lines, the first is longer": {[]string{at(time.Hour), at(time.Minute)}, nil, noon, 0},
		"two lines, one is bad":          {[]string{at(time.Hour), "0"}, nil, noon, 0},
		"two dates on a line":            {[]string{at(time.Hour) + ", " + at(time.Hour)}, nil, noon, 0},
		"far future":                     {[]string{"Fri, 31 Dec 9999 23:59:59 GMT"}, nil, noon, forEver},
		"RFC 850":                        {[]string{"Saturday, 14-Mar-26 13:00:00 GMT"}, nil, noon, time.Hour},
		"asctime":                        {[]string{"Sat Mar 14 13:00:00 2026"}, nil, noon, time.Hour},
		"local zone of the clock":        {[]string{at(time.Hour)}, nil, noon.In(time.FixedZone("", 5*3600)), time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{"Expires": c.expires}
			if c.date != nil {
				h["Date"] = c.date
			}
			got := rfc9111.FreshnessLifetime(rfc9111.Response{Status: 200, Header: h, Received: c.received})
			assert.Equal(t, rfc9111.Lifetime{Duration: c.want, Source: rfc9111.Expires}, got)
		})
	}
}

func TestRFC5861_StaleWindows(t *testing.T) {
	for line, want := range map[string][2]time.Duration{
		"max-age=60":                                                             {},
		"max-age=60, stale-while-revalidate=30":                                  {30 * time.Second, 0},
		"max-age=60, stale-if-error=90":                                          {0, 90 * time.Second},
		"max-age=60, Stale-While-Revalidate=30, stale-if-error=90":               {30 * time.Second, 90 * time.Second},
		"max-age=60, stale-while-revalidate=soon":                                {},
		"max-age=60, stale-while-revalidate":                                     {},
		"max-age=60, stale-while-revalidate=99999999999":                         {forEver, 0},
		"max-age=60, stale-while-revalidate=30, must-revalidate":                 {},
		"max-age=60, stale-while-revalidate=30, proxy-revalidate":                {},
		"s-maxage=60, stale-while-revalidate=30":                                 {},
		"max-age=60, stale-if-error=30, no-cache":                                {},
		`max-age=60, stale-if-error=30, no-cache="Set-Cookie"`:                   {0, 30 * time.Second},
		`max-age=60, stale-if-error=30, no-cache="Set-Cookie`:                    {},
		"max-age=60, stale-while-revalidate=30, stale-while-revalidate=86400":    {},
		"max-age=60, stale-while-revalidate=30, extension=must-revalidate-often": {30 * time.Second, 0},
	} {
		swr, sie := rfc9111.StaleWindows(rfc9111.Response{Header: http.Header{"Cache-Control": {line}}})
		assert.Equal(t, want, [2]time.Duration{swr, sie}, line)
	}
}

func TestRFC9111_4_2_4_MustRevalidate(t *testing.T) {
	for line, want := range map[string]bool{
		"":                         false,
		"public, max-age=60":       false,
		"must-revalidate":          true,
		"Must-Revalidate=x":        true,
		"proxy-revalidate":         true,
		"s-maxage=60":              true, // 5.2.2.10
		"no-cache":                 true,
		`no-cache="Set-Cookie"`:    false,
		`no-cache=""`:              true,
		`extension="no-cache"`:     false,
		"stale-while-revalidate=9": false,
	} {
		got := rfc9111.MustRevalidate(rfc9111.Response{Header: http.Header{"Cache-Control": {line}}})
		assert.Equal(t, want, got, line)
	}
}

func TestSourceString(t *testing.T) {
	for source, want := range map[rfc9111.Source]string{
		rfc9111.None: "none", rfc9111.SMaxAge: "s-maxage", rfc9111.MaxAge: "max-age", rfc9111.Expires: "expires", rfc9111.Heuristic: "heuristic", 99: "none",
	} {
		assert.Equal(t, want, source.String())
	}
}
