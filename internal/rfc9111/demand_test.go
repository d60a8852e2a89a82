package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestRFC9111_5_2_1_Demand(t *testing.T) {
	const s = time.Second
	type stored struct {
		age, left  time.Duration
		mayBeStale bool
	}
	for name, c := range map[string]struct {
		lines []string
		yes   []stored
		no    []stored
	}{
		"nothing": {nil, []stored{{0, 1, false}, {forEver, 1, false}}, []stored{{0, 0, true}, {0, -1, true}, {0, -forEver, true}}},
		"others":  {[]string{"no-transform, x=1, no-store"}, []stored{{0, 1, false}}, []stored{{0, 0, true}}},

		"max-age":                     {[]string{"max-age=60"}, []stored{{60 * s, 1, true}}, []stored{{60*s + 1, s, true}, {0, 0, true}}},
		"max-age, longer than fresh":  {[]string{"max-age=60"}, nil, []stored{{30 * s, 0, true}, {30 * s, -s, true}}},
		"max-age=0":                   {[]string{"max-age=0"}, []stored{{0, s, true}}, []stored{{1, s, true}}},
		"max-age, twice alike":        {[]string{"max-age=60", "Max-Age=060"}, []stored{{60 * s, 1, true}}, []stored{{61 * s, s, true}}},
		"max-age, twice":              {[]string{"max-age=60, max-age=90"}, nil, []stored{{s, s, true}}},
		"max-age, unreadable":         {[]string{"max-age=x"}, nil, []stored{{s, s, true}}},
		"max-age, negative":           {[]string{"max-age=-60"}, nil, []stored{{s, s, true}}},
		"max-age, empty":              {[]string{"max-age"}, nil, []stored{{s, s, true}}},
		"max-age, junk":               {[]string{"max-age=60 x"}, nil, []stored{{s, s, true}}},
		"max-age, quoted":             {[]string{`max-age="60"`}, []stored{{60 * s, 1, true}}, []stored{{61 * s, s, true}}},
		"max-age, in another's quote": {[]string{`x="max-age=0, no-cache"`}, []stored{{60 * s, 1, true}}, nil},
		"max-age, huge":               {[]string{"max-age=99999999999999"}, []stored{{forEver, 1, true}}, nil},

		"min-fresh":             {[]string{"min-fresh=60"}, []stored{{0, 60 * s, false}}, []stored{{0, 60*s - 1, true}, {0, -s, true}}},
		"min-fresh=0":           {[]string{"min-fresh=0"}, []stored{{0, 1, false}}, []stored{{0, 0, true}}},
		"min-fresh, unreadable": {[]string{"min-fresh"}, []stored{{0, forEver, false}}, []stored{{0, forEver - 1, true}}},
		"min-fresh, twice":      {[]string{"min-fresh=6", "min-fresh=7"}, nil, []stored{{0, 1000 * s, true}}},

		"max-stale":             {[]string{"max-stale=60"}, []stored{{0, 1, false}, {0, 0, true}, {0, -60 * s, true}}, []stored{{0, -60*s - 1, true}, {0, 0, false}, {0, -s, false}}},
		"max-stale, any":        {[]string{"max-stale"}, []stored{{0, 1, false}, {forEver, -forEver, true}}, []stored{{0, 0, false}, {0, -s, false}}},
		"max-stale=0":           {[]string{"max-stale=0"}, []stored{{0, 1, false}}, []stored{{0, 0, true}, {0, -1, true}}},
		"max-stale, unreadable": {[]string{"max-stale=x"}, []stored{{0, 1, false}}, []stored{{0, 0, true}, {0, -1, true}}},
		"max-stale, empty":      {[]string{"max-stale="}, nil, []stored{{0, -1, true}}},
		"max-stale, junk":       {[]string{"max-stale 60"}, nil, []stored{{0, -1, true}}},
		"max-stale, twice":      {[]string{"max-stale, max-stale=60"}, nil, []stored{{0, -1, true}}},
		"max-stale, any, twice": {[]string{"max-stale, max-stale"}, []stored{{0, -60 * s, true}}, nil},

		"max-age and max-stale":   {[]string{"max-age=60, max-stale=30"}, []stored{{60 * s, -30 * s, true}}, []stored{{61 * s, -30 * s, true}, {60 * s, -31 * s, true}}},
		"min-fresh and max-stale": {[]string{"min-fresh=60, max-stale"}, []stored{{0, 60 * s, false}}, []stored{{0, 59 * s, true}, {0, -s, true}}},
		"no-cache":                {[]string{"max-stale, no-cache"}, nil, []stored{{0, forEver, true}, {0, -s, true}}},
	} {
		t.Run(name, func(t *testing.T) {
			d := rfc9111.DemandOf(http.Header{"Cache-Control": c.lines})
			for _, r := range c.yes {
				assert.True(t, d.Allows(r.age, r.left, r.mayBeStale), "%+v", r)
			}
			for _, r := range c.no {
				assert.False(t, d.Allows(r.age, r.left, r.mayBeStale), "%+v", r)
			}
		})
	}
	assert.Equal(t, rfc9111.Demand{}, rfc9111.DemandOf(nil))
	assert.Equal(t, rfc9111.Demand{}, rfc9111.DemandOf(http.Header{"Cache-Control": {"no-store, x=1"}}))
}

func TestRFC9111_5_4_Pragma(t *testing.T) {
	for name, c := range map[string]struct {
		header      []string
		noCache     bool
		onlyIfCache bool
	}{
		"nothing":               {},
		"no-cache":              {[]string{"Cache-Control", "no-cache"}, true, false},
		"No-Cache, second line": {[]string{"Cache-Control", "max-age=5", "Cache-Control", "x, No-Cache"}, true, false},
		"no-cache=x":            {[]string{"Cache-Control", "no-cache=x"}, true, false},
		"x=no-cache":            {[]string{"Cache-Control", "x=no-cache"}, false, false},
		"only-if-cached":        {[]string{"Cache-Control", "only-if-cached, max-stale"}, false, true},
		"both":                  {[]string{"Cache-Control", "Only-If-Cached", "Cache-Control", "no-cache"}, true, true},
		"Pragma":                {[]string{"Pragma", "no-cache"}, true, false},
		"Pragma, in a list":     {[]string{"Pragma", "x=1, NO-CACHE"}, true, false},
		"Pragma, another":       {[]string{"Pragma", "only-if-cached, max-age=0"}, false, false},
		"Cache-Control wins":    {[]string{"Pragma", "no-cache", "Cache-Control", "max-age=60"}, false, false},
		"an empty one too":      {[]string{"Pragma", "no-cache", "Cache-Control", ""}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := rfc9111.DemandOf(header(c.header...))
			assert.Equal(t, c.noCache, d.NoCache)
			assert.Equal(t, c.onlyIfCache, d.OnlyIfCached)
			assert.Equal(t, !c.noCache && len(c.header) == 0, d == rfc9111.Demand{} && len(c.header) == 0)
		})
	}
}

func drawDemand(t *rapid.T) rfc9111.Demand {
	return rfc9111.DemandOf(http.Header{"Cache-Control": rapid.SliceOfN(rapid.SampledFrom([]string{
		"no-cache", "max-age=5", "max-age=0", "max-age=x", "min-fresh=3", "min-fresh", "max-stale=4", "max-stale", "max-stale=0", "x", `x="`, "",
	}), 0, 3).Draw(t, "lines")})
}

// What is not good enough now will not be later.
func TestRFC9111_4_2_TimeNeverMakesFresh(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDemand(t)
		lifetime := time.Duration(rapid.Int64Range(0, int64(forEver)).Draw(t, "lifetime"))
		initial := time.Duration(rapid.Int64Range(0, int64(20*time.Second)).Draw(t, "initial"))
		now := noon.Add(time.Duration(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "now")))
		later := now.Add(time.Duration(rapid.Int64Range(0, 1<<40).Draw(t, "later")))
		before := rfc9111.CurrentAge(initial, noon, now)
		after := rfc9111.CurrentAge(initial, noon, later)
		mayBeStale := rapid.Bool().Draw(t, "may be stale")
		if d.Allows(after, lifetime-after, mayBeStale) && !d.Allows(before, lifetime-before, mayBeStale) {
			t.Fatalf("%+v: %v of %v, then %v", d, before, lifetime, after)
		}
		if d.Allows(after, lifetime-after, false) && !d.Allows(after, lifetime-after, true) {
			t.Fatalf("%+v: permission to be stale forbids", d)
		}
		if (rfc9111.Demand{}).Allows(after, lifetime-after, mayBeStale) != (lifetime > after) {
			t.Fatalf("no demand at %v of %v", after, lifetime)
		}
	})
}

func TestDemandAllocatesNothing(t *testing.T) {
	headers := []http.Header{
		nil, {"Accept": {"*/*"}}, {"Pragma": {"no-cache"}},
		{"Cache-Control": {"No-Cache, max-age=0", `min-fresh=5, max-stale, only-if-cached, x="a, b"`}},
	}
	allowed := 0
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		for _, h := range headers {
			if rfc9111.DemandOf(h).Allows(time.Minute, time.Hour, true) {
				allowed++
			}
		}
	}))
	assert.NotZero(t, allowed)
}

func BenchmarkDemandOf(b *testing.B) {
	for name, h := range map[string]http.Header{
		"none": {"Accept": {"*/*"}, "User-Agent": {"x"}}, "reload": {"Cache-Control": {"max-age=0"}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rfc9111.DemandOf(h)
			}
		})
	}
}

func FuzzDemandOf(f *testing.F) {
	for _, s := range []string{"", "no-cache", "max-age=0", "max-stale", "max-stale=5, min-fresh=3", `x="a, no-cache`, "only-if-cached", "max-age=1,max-age=2"} {
		f.Add(s, "max-age=60", int64(5), int64(5))
	}
	f.Fuzz(func(t *testing.T, a, b string, age, left int64) {
		// The reader of Cache-Control agrees.
		lines := []string{a, b}
		d, directives := rfc9111.DemandOf(http.Header{"Cache-Control": lines}), rfc9111.ParseCacheControl(lines)
		if d.NoCache != directives.Has("no-cache") || d.OnlyIfCached != directives.Has("only-if-cached") {
			t.Fatalf("%q: %+v", lines, d)
		}
		if maxAge, said := directives.Seconds("max-age"); said && d.Allows(maxAge+1, forEver, true) {
			t.Fatalf("%q: older than %v", lines, maxAge)
		}
		if directives.Has("min-fresh") {
			if least, _ := directives.Seconds("min-fresh"); d.Allows(0, least-1, true) && least > 0 {
				t.Fatalf("%q: less than %v", lines, least)
			}
		}
		if d.Allows(0, -1, true) && !directives.Has("max-stale") || d.Allows(time.Duration(age), 0, false) {
			t.Fatalf("%q: stale", lines)
		}
		if d.Allows(time.Duration(age), time.Duration(left), false) && !d.Allows(time.Duration(age), time.Duration(left), true) {
			t.Fatalf("%q: permission to be stale forbids", lines)
		}
		if p := rfc9111.DemandOf(http.Header{"Pragma": lines}); p.NoCache != d.NoCache || p.OnlyIfCached {
			t.Fatalf("%q: as Pragma %+v", lines, p)
		}
	})
}
