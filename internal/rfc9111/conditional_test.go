package rfc9111_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

const (
	proceed     = rfc9111.Proceed
	notModified = rfc9111.NotModified
	failed      = rfc9111.PreconditionFailed
)

func TestRFC9110_13_1_2_MatchETagWeak(t *testing.T) {
	for _, c := range []struct {
		list []string
		etag string
		want bool
	}{
		{nil, `"a"`, false},
		{[]string{""}, `"a"`, false},
		{[]string{`"a"`}, `"a"`, true},
		{[]string{`"b"`}, `"a"`, false},
		{[]string{`"A"`}, `"a"`, false},
		{[]string{`""`}, `""`, true},
		// 8.8.3.2, table 3
		{[]string{`W/"1"`}, `W/"1"`, true},
		{[]string{`W/"1"`}, `W/"2"`, false},
		{[]string{`W/"1"`}, `"1"`, true},
		{[]string{`"1"`}, `W/"1"`, true},
		// anywhere in the list, on any line
		{[]string{`"x", "y" ,W/"a"`}, `"a"`, true},
		{[]string{`"x"`, `"a"`}, `"a"`, true},
		{[]string{`,, "x",,"a",`}, `"a"`, true},
		{[]string{"\t\"a\" "}, `"a"`, true},
		// commas inside the quotes
		{[]string{`"x,y"`}, `"x,y"`, true},
		{[]string{`"x,y", "a"`}, `"a"`, true},
		{[]string{`"x,"a""`}, `"a"`, false},
		{[]string{`"x, "a"`}, `"a"`, false},
		{[]string{`"b,a,c"`}, `"a"`, false},
		// a backslash escapes nothing
		{[]string{`"a\", "b"`}, `"b"`, true},
		{[]string{"\"\xfc\""}, "\"\xfc\"", true}, // obs-text
		// malformed members are ignored
		{[]string{`a`}, `"a"`, false},
		{[]string{`a, "a"`}, `"a"`, true},
		{[]string{`w/"a"`}, `"a"`, false},
		{[]string{`w/"a", "a"`}, `"a"`, true},
		{[]string{`W/ "a"`}, `"a"`, false},
		{[]string{`W/a, "a"`}, `"a"`, true},
		{[]string{`"a"x`}, `"a"`, false},
		{[]string{`"a" "b"`}, `"a"`, false},
		{[]string{`"a b", "a"`}, `"a"`, true},
		{[]string{`"a b"`}, `"a b"`, false},
		{[]string{`"a`}, `"a"`, false},
		{[]string{`"a`, `"a"`}, `"a"`, true},
		{[]string{`W/`}, `"a"`, false},
		// "*"
		{[]string{"*"}, `"a"`, true},
		{[]string{" * "}, `"a"`, true},
		{[]string{",*,"}, `"a"`, true},
		{[]string{"*"}, ``, true},
		{[]string{`"*"`}, `"a"`, false},
		{[]string{`*, "b"`}, `"a"`, false},
		{[]string{`"b"`, "*"}, `"a"`, false},
		{[]string{"*", "*"}, `"a"`, false},
		{[]string{"**"}, `"a"`, false},
		{[]string{`""*`}, `"a"`, false},
		{[]string{`"b c"*`}, `"a"`, false},
		{[]string{`*, "a"`}, `"a"`, true},
		// no entity tag of ours, or none worth the name
		{[]string{`"a"`}, ``, false},
		{[]string{`""`}, ``, false},
		{[]string{`a`}, `a`, false},
		{[]string{`"a"`}, `a`, false},
	} {
		assert.Equal(t, c.want, rfc9111.MatchETagWeak(c.list, c.etag), "%q in %q", c.etag, c.list)
	}
}

func TestRFC9110_13_2_2_Precedence(t *testing.T) {
	lm := noon
	before, same, after := httpDate(lm.Add(-time.Second)), httpDate(lm), httpDate(lm.Add(time.Hour))
	const etag = `"a"`
	for name, c := range map[string]struct {
		method string
		header http.Header
		etag   string
		lm     time.Time
		want   rfc9111.Precondition
	}{
		"no condition": {"GET", http.Header{}, etag, lm, proceed},
		"nil header":   {"GET", nil, etag, lm, proceed},

		"13.1.2 match":                  {"GET", http.Header{"If-None-Match": {etag}}, etag, lm, notModified},
		"13.1.2 HEAD":                   {"HEAD", http.Header{"If-None-Match": {etag}}, etag, lm, notModified},
		"13.1.2 other methods":          {"PUT", http.Header{"If-None-Match": {etag}}, etag, lm, failed},
		"13.1.2 no match":               {"GET", http.Header{"If-None-Match": {`"b"`}}, etag, lm, proceed},
		"13.1.2 weak":                   {"GET", http.Header{"If-None-Match": {`W/"a"`}}, etag, lm, notModified},
		"13.1.2 second line":            {"GET", http.Header{"If-None-Match": {`"b"`, etag}}, etag, lm, notModified},
		"13.1.2 *":                      {"GET", http.Header{"If-None-Match": {"*"}}, "", time.Time{}, notModified},
		"13.1.2 a header called ETag":   {"GET", http.Header{"Etag": {etag}}, etag, lm, proceed},
		"13.1.2 OPTIONS":                {"OPTIONS", http.Header{"If-None-Match": {"*"}, "If-Match": {`"b"`}}, etag, lm, proceed},
		"13.1.3 no match beats a date":  {"GET", http.Header{"If-None-Match": {`"b"`}, "If-Modified-Since": {after}}, etag, lm, proceed},
		"13.1.3 match beats a date":     {"GET", http.Header{"If-None-Match": {etag}, "If-Modified-Since": {before}}, etag, lm, notModified},
		"13.1.3 empty one beats a date": {"GET", http.Header{"If-None-Match": {""}, "If-Modified-Since": {after}}, etag, lm, proceed},

		"13.1.3 equal":            {"GET", http.Header{"If-Modified-Since": {same}}, etag, lm, notModified},
		"13.1.3 later":            {"GET", http.Header{"If-Modified-Since": {after}}, etag, lm, notModified},
		"13.1.3 earlier":          {"GET", http.Header{"If-Modified-Since": {before}}, etag, lm, proceed},
		"13.1.3 RFC 850":          {"GET", http.Header{"If-Modified-Since": {"Saturday, 14-Mar-26 12:00:00 GMT"}}, etag, lm, notModified},
		"13.1.3 asctime":          {"GET", http.Header{"If-Modified-Since": {"Sat Mar 14 12:00:00 2026"}}, etag, lm, notModified},
		"13.1.3 finer than dates": {"GET", http.Header{"If-Modified-Since": {same}}, etag, lm.Add(700 * time.Millisecond), notModified},
		"13.1.3 HEAD":             {"HEAD", http.Header{"If-Modified-Since": {same}}, etag, lm, notModified},
		"13.1.3 other methods":    {"POST", http.Header{"If-Modified-Since": {same}}, etag, lm, proceed},
		"13.1.3 no date":          {"GET", http.Header{"If-Modified-Since": {"0"}}, etag, lm, proceed},
		"13.1.3 two members":      {"GET", http.Header{"If-Modified-Since": {same, same}}, etag, lm, proceed},
		"13.1.3 two on a line":    {"GET", http.Header{"If-Modified-Since": {same + ", " + same}}, etag, lm, proceed},
		"13.1.3 nothing to compare": {"GET", http.Header{"If-Modified-Since": {after}}, etag, time.Time{},
			proceed},

		"13.1.1 match":        {"GET", http.Header{"If-Match": {`"x", "a"`}}, etag, lm, proceed},
		"13.1.1 no match":     {"GET", http.Header{"If-Match": {`"b"`}}, etag, lm, failed},
		"13.1.1 strong":       {"GET", http.Header{"If-Match": {`W/"a"`}}, etag, lm, failed},
		"13.1.1 ours is weak": {"GET", http.Header{"If-Match": {`W/"a"`}}, `W/"a"`, lm, failed},
		"13.1.1 only ours is": {"GET", http.Header{"If-Match": {`"a"`}}, `W/"a"`, lm, failed},
		"13.1.1 *":            {"GET", http.Header{"If-Match": {"*"}}, "", lm, proceed},
		"13.1.1 no tag":       {"GET", http.Header{"If-Match": {`"a"`}}, "", lm, failed},
		"13.1.1 then 13.1.2":  {"GET", http.Header{"If-Match": {etag}, "If-None-Match": {etag}}, etag, lm, notModified},
		"13.1.1 first":        {"GET", http.Header{"If-Match": {`"b"`}, "If-None-Match": {etag}}, etag, lm, failed},

		"13.1.4 equal":              {"GET", http.Header{"If-Unmodified-Since": {same}}, etag, lm, proceed},
		"13.1.4 later":              {"GET", http.Header{"If-Unmodified-Since": {after}}, etag, lm, proceed},
		"13.1.4 earlier":            {"GET", http.Header{"If-Unmodified-Since": {before}}, etag, lm, failed},
		"13.1.4 finer than dates":   {"GET", http.Header{"If-Unmodified-Since": {same}}, etag, lm.Add(700 * time.Millisecond), proceed},
		"13.1.4 If-Match beats it":  {"GET", http.Header{"If-Match": {etag}, "If-Unmodified-Since": {before}}, etag, lm, proceed},
		"13.1.4 no date":            {"GET", http.Header{"If-Unmodified-Since": {"never"}}, etag, lm, proceed},
		"13.1.4 nothing to compare": {"GET", http.Header{"If-Unmodified-Since": {before}}, etag, time.Time{}, proceed},
		"13.1.4 before 13.1.3":      {"GET", http.Header{"If-Unmodified-Since": {before}, "If-Modified-Since": {after}}, etag, lm, failed},
		"13.1.4 then 13.1.3":        {"GET", http.Header{"If-Unmodified-Since": {same}, "If-Modified-Since": {same}}, etag, lm, notModified},
	} {
		t.Run(name, func(t *testing.T) {
			got := rfc9111.EvaluatePreconditions(c.method, c.header, c.etag, c.lm, time.Time{})
			assert.Equal(t, c.want, got, got.String())
		})
	}
}

func TestRFC9110_13_1_5_IfRange(t *testing.T) {
	lm := noon
	const etag = `"a"`
	for name, c := range map[string]struct {
		lines []string
		etag  string
		lm    time.Time
		want  bool
	}{
		"absent":             {nil, etag, lm, true},
		"same tag":           {[]string{`"a"`}, etag, lm, true},
		"whitespace":         {[]string{` "a" `}, etag, lm, true},
		"other tag":          {[]string{`"b"`}, etag, lm, false},
		"weak tag":           {[]string{`W/"a"`}, etag, lm, false},
		"ours is weak":       {[]string{`"a"`}, `W/"a"`, lm, false},
		"both weak":          {[]string{`W/"a"`}, `W/"a"`, lm, false},
		"no tag of ours":     {[]string{`"a"`}, "", lm, false},
		"a list":             {[]string{`"a", "b"`}, etag, lm, false},
		"two lines":          {[]string{`"a"`, `"a"`}, etag, lm, false},
		"*":                  {[]string{"*"}, etag, lm, false},
		"empty":              {[]string{""}, etag, lm, false},
		"same date":          {[]string{httpDate(lm)}, etag, lm, true},
		"same, another form": {[]string{"Sat Mar 14 12:00:00 2026"}, etag, lm, true},
		"earlier date":       {[]string{httpDate(lm.Add(-time.Second))}, etag, lm, false},
		"later date":         {[]string{httpDate(lm.Add(time.Second))}, etag, lm, false},
		"weak date":          {[]string{httpDate(lm)}, etag, time.Time{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if c.lines != nil {
				h["If-Range"] = c.lines
			}
			assert.Equal(t, c.want, rfc9111.IfRangeMatches(h, c.etag, c.lm))
		})
	}
}

func TestRFC9110_8_8_2_2_StrongLastModified(t *testing.T) {
	assert.True(t, rfc9111.StrongLastModified(noon, noon.Add(time.Second)))
	assert.False(t, rfc9111.StrongLastModified(noon, noon))
	assert.False(t, rfc9111.StrongLastModified(noon, noon.Add(999*time.Millisecond)))
	assert.False(t, rfc9111.StrongLastModified(noon, time.Time{}))
	assert.False(t, rfc9111.StrongLastModified(time.Time{}, noon))
}

func TestPreconditionsAllocateNothing(t *testing.T) {
	list := []string{`"x", W/"y,z"`, `bad, "a"`}
	tags := http.Header{"If-Match": {`"a"`}, "If-None-Match": list}
	dates := http.Header{"If-Unmodified-Since": {httpDate(noon)}, "If-Modified-Since": {"Saturday, 14-Mar-26 12:00:00 GMT"}}
	ifRange := http.Header{"If-Range": {httpDate(noon)}}
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		rfc9111.MatchETagWeak(list, `"a"`)
		rfc9111.EvaluatePreconditions("GET", tags, `"a"`, noon, time.Time{})
		rfc9111.EvaluatePreconditions("GET", dates, `"a"`, noon, time.Time{})
		rfc9111.EvaluatePreconditions("GET", nil, `"a"`, noon, time.Time{})
		rfc9111.IfRangeMatches(ifRange, `"a"`, noon)
	}))
}

// RFC 9111, section 4.3.2: Date stands in for Last-Modified, in If-Modified-Since
// alone.
func TestDateStandsInForLastModified(t *testing.T) {
	since := func(name string, t time.Time) http.Header { return http.Header{name: {httpDate(t)}} }
	for _, c := range []struct {
		header http.Header
		want   rfc9111.Precondition
	}{
		{since("If-Modified-Since", noon.Add(time.Second)), rfc9111.NotModified},
		{since("If-Modified-Since", noon), rfc9111.Proceed}, // there may have been another in this second
		{since("If-Modified-Since", noon.Add(-time.Second)), rfc9111.Proceed},
		{since("If-Unmodified-Since", noon.Add(-time.Second)), rfc9111.Proceed},
	} {
		got := rfc9111.EvaluatePreconditions("GET", c.header, "", time.Time{}, noon.Add(time.Millisecond))
		assert.Equal(t, c.want.String(), got.String(), "%v", c.header)
		assert.Equal(t, rfc9111.Proceed, rfc9111.EvaluatePreconditions("GET", c.header, "", time.Time{}, time.Time{}))
	}
}

func BenchmarkEvaluatePreconditions(b *testing.B) {
	for name, h := range map[string]http.Header{
		"none":  {"Accept": {"*/*"}, "User-Agent": {"x"}, "Accept-Encoding": {"gzip"}},
		"match": {"If-None-Match": {`"b", "a"`}},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				rfc9111.EvaluatePreconditions("GET", h, `"a"`, noon, time.Time{})
			}
		})
	}
}

func FuzzMatchETagWeak(f *testing.F) {
	for _, s := range []string{"", "*", `"a"`, `W/"a", "b"`, `"a,b"`, `"a`, `a,"b`, `"a"x, "b"`, `*, *`, `"\"`} {
		f.Add(s, `"a"`, `"b"`)
	}
	f.Fuzz(func(t *testing.T, a, b, etag string) {
		got := rfc9111.MatchETagWeak([]string{a, b}, etag)
		opaque := strings.TrimPrefix(etag, "W/")
		if got && !strings.Contains(a+"\n"+b, opaque) && strings.Trim(a+b, " \t,") != "*" {
			t.Fatalf("%q matches %q %q", etag, a, b)
		}
		// A well-formed tag in front of a list is always found, if it is
		// well-formed.
		alone := rfc9111.MatchETagWeak([]string{etag}, etag) && strings.Trim(etag, " \t,") != "*"
		if alone && !rfc9111.MatchETagWeak([]string{etag + ", " + a, b}, etag) {
			t.Fatalf("%q is lost before %q", etag, a)
		}
		if alone && !rfc9111.MatchETagWeak([]string{a, b, etag}, etag) {
			t.Fatalf("%q is lost behind %q", etag, a)
		}
		// The weak comparison ignores W/ (RFC 9110, section 8.8.3.2).
		if rfc9111.MatchETagWeak([]string{a, b}, opaque) != got && !strings.HasPrefix(opaque, "W/") {
			t.Fatalf("%q and %q differ in %q %q", etag, opaque, a, b)
		}
	})
}
