package rfc9111_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// targeted is a response whose CDN-Cache-Control has these lines.
func targeted(lines ...string) rfc9111.Response {
	return rfc9111.Response{
		Status:   200,
		Header:   http.Header{"Cdn-Cache-Control": lines},
		Received: noon,
		Targets:  []string{"CDN-Cache-Control"},
	}
}

// isDictionary reports whether a field is a valid Dictionary with a member
// max-age=7: then, and only then, that is the lifetime.
func isDictionary(lines ...string) bool {
	got := rfc9111.FreshnessLifetime(targeted(lines...))
	return got == rfc9111.Lifetime{Duration: 7 * time.Second, Source: rfc9111.MaxAge}
}

// Each is read as the value of a member, as an item of an inner list and as the
// value of a parameter.
func TestRFC9651_4_2_3_1_BareItems(t *testing.T) {
	long := strings.Repeat("x", 20_000)
	for value, want := range map[string]bool{
		// 4.2.4
		"0": true, "-0": true, "00": true, "042": true, "-42": true, "999999999999999": true, "-999999999999999": true,
		"1000000000000000": false, "0000000000000001": false, "-": false, "--1": false, "+1": false, "- 1": false,
		"4.5": true, "-0.0": true, "1.123": true, "123456789012.1": true, "000000000000.000": true,
		"1234567890123.1": false, "1.1234": false, "1.": false, ".1": false, "1..2": false, "1.2.3": false, "1.-2": false,
		"1e3": false, "0x1": false, "1_000": false,
		// 4.2.5
		`""`: true, `"a b"`: true, `"a,b;c=(d)"`: true, `"\""`: true, `"\\"`: true, `"a\"b\\c"`: true, `"` + long + `"`: true,
		`"`: false, `"a`: false, `"a\"`: false, `"\a"`: false, `"\`: false, "\"a\tb\"": false, "\"\x00\"": false, "\"\x7f\"": false,
		"\"\u00fc\"": false, "\"\xff\"": false, "'a'": false, `"a"b`: false,
		// 4.2.6
		"a": true, "A": true, "*": true, "a*": true, "a/b": true, "a:b": true, "foo123/456": true, "*/*": true, "a!#$%&'*+-.^_`|~": true, long: true,
		"_a": false, "/a": false, "a\u00fc": false, `a"b`: false, "a@b": false, "{}": false, "&": false,
		// 4.2.7
		"::": true, ":aGVsbG8=:": true, ":aGVsbG8:": true, ":YQ==:": true, ":YQ:": true, ":iZ==:": true, ":/+Ah:": true, ":" + long + ":": true,
		":aGVsbG8=": false, ":": false, ":a:": false, ":=aGVsbG8=:": false, ":a=GVsbG8=:": false, ":aGVsbG8=!:": false, ":aGVs bG8=:": false,
		":_-Ah:": false, ":YQ=:": false, ":YQ===:": false, ":=:": false, ":====:": false, ":aGVsbA==\n:": false, "aGVsbG8=:": false,
		// 4.2.8
		"?0": true, "?1": true, "?": false, "?2": false, "?01": false, "?T": false, "?true": false, "?-1": false, "? 1": false,
		// 4.2.9
		"@0": true, "@1659578233": true, "@-62135596800": true, "@253402214400": true,
		"@": false, "@1.5": false, "@a": false, "@-": false, "@@1": false, "@ 1": false, "@1000000000000000": false,
		// 4.2.10
		`%""`: true, `%"a b"`: true, `%"f%c3%bc"`: true, `%"\"`: true, `%"!~"`: true, `%"%g0"`: false, `%"%0g"`: false, `%"%22%25%00%0f%f0%90%80%80"`: true, `%"` + long + `"`: true,
		`%"%f0%9f%98%80"`: true,
		`%`:               false, `%a`: false, `%"`: false, `%"a`: false, `%"%C3%BC"`: false, `%"%c3"`: false, `%"%"`: false, `%"%2"`: false, `%"%2`: false,
		`%"%zz"`: false, "%\"\u00fc\"": false, "%\"\t\"": false, `%"%ed%a0%80"`: false, `%"\""`: false, `% "a"`: false,
		// nothing
		"": false, " ": false,
	} {
		shown := value[:min(len(value), 40)]
		assert.Equal(t, want, isDictionary("x="+value+", max-age=7"), "member %q", shown)
		assert.Equal(t, want, isDictionary("max-age=7, x="+value), "last member %q", shown)
		assert.Equal(t, want, isDictionary("max-age=7;x="+value), "parameter %q", shown)
		if strings.TrimSpace(value) != "" {
			assert.Equal(t, want, isDictionary("x=("+value+" a), max-age=7"), "inner list %q", shown)
		}
	}
}

func TestRFC9651_4_2_2_Dictionaries(t *testing.T) {
	for line, want := range map[string]bool{
		"max-age=7":                                        true,
		"  max-age=7  ":                                    true,
		"a,max-age=7":                                      true,
		"a \t,\t max-age=7":                                true,
		"a;b;c=1, max-age=7":                               true,
		"a; b;  c, max-age=7":                              true,
		"a=();b, max-age=7":                                true,
		"a=(1 2  3), max-age=7;x=(":                        false,
		"a=( 1;b=2 \"c\" );d, max-age=7":                   true,
		"max-age=9, max-age=7":                             true, // the last counts
		"*=1, a_b-c.d*9z=1, z, max-age=7":                  true,
		strings.Repeat("a;b;c=1, ", 1024) + "max-age=7":    true,
		"a=(" + strings.Repeat("x ", 256) + "), max-age=7": true,
		strings.Repeat("k", 64) + "=1, max-age=7":          true,

		"max-age=7, a=1 b":      false,
		"max-age=7, a=1;":       false,
		"max-age=7,":            false,
		",max-age=7":            false,
		"a,,max-age=7":          false,
		"a max-age=7":           false,
		"Max-age=7":             false, // keys are in lower case
		"A, max-age=7":          false,
		"1=a, max-age=7":        false,
		"-a, max-age=7":         false,
		"\"a\", max-age=7":      false,
		"max-age =7":            false,
		"max-age= 7":            false,
		"a=, max-age=7":         false,
		"a=1 b, max-age=7":      false,
		"a;=1, max-age=7":       false,
		"a;, max-age=7":         false,
		"a ;b, max-age=7":       false,
		"a;b =1, max-age=7":     false,
		"a;\tb, max-age=7":      false,
		"a;B, max-age=7":        false,
		"a=(1, max-age=7":       false,
		"a=(1,2), max-age=7":    false,
		"a=(1\t2), max-age=7":   false,
		"a=(\"b\"c), max-age=7": false,
		"a=((1)), max-age=7":    false,
		"a=1), max-age=7":       false,
		"a(1), max-age=7":       false,
		"max-age=7; public!":    false,
		"max-age=7\x00":         false,
		"max-age=7\u00a0":       false,
	} {
		assert.Equal(t, want, isDictionary(line), "%.60q", line)
	}

	// Lines are one field (4.2), whatever they look like one by one.
	assert.True(t, isDictionary("a", "max-age=7"))
	assert.True(t, isDictionary(" a\t", "\tmax-age=7 "))
	assert.True(t, isDictionary("max-age=9", "max-age=7"))
	assert.True(t, isDictionary(`a="x`, `y", max-age=7`))
	assert.False(t, isDictionary("a", "", "max-age=7"))
	assert.False(t, isDictionary("max-age=7", "Public"))
	assert.False(t, isDictionary("max-age=7", ""))
}

// sfDictionary is a Dictionary by the ABNF of RFC 9651, which was not written by
// whoever wrote the reader. (It cannot tell which display strings are UTF-8.)
var sfDictionary = func() *regexp.Regexp {
	const (
		key        = `[a-z*][a-z0-9_.*-]*`
		number     = `-?(?:[0-9]{1,12}\.[0-9]{1,3}|[0-9]{1,15})`
		str        = `"(?:[ !#-\[\]-~]|\\["\\])*"`
		tok        = "[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*"
		binary     = `:(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?:`
		boolean    = `\?[01]`
		date       = `@-?[0-9]{1,15}`
		display    = `%"(?:[ !#$&-~]|%[0-9a-f]{2})*"`
		bare       = `(?:` + number + `|` + str + `|` + tok + `|` + binary + `|` + boolean + `|` + date + `|` + display + `)`
		parameters = `(?:; *` + key + `(?:=` + bare + `)?)*`
		item       = bare + parameters
		inner      = `\( *(?:` + item + `(?: +` + item + `)* *)?\)` + parameters
		member     = key + `(?:=(?:` + item + `|` + inner + `)|` + parameters + `)`
	)
	return regexp.MustCompile(`^(?:` + member + `(?:[ \t]*,[ \t]*` + member + `)*)?$`)
}()

func FuzzStructuredDictionary(f *testing.F) {
	for _, s := range []string{
		"", "a", "a=1, b;c=?0", `a="\"b"`, "a=(1 2);q", "a=:YQ==:", "a=@1, b=-1.5", `a=%"f%c3%bc"`, "a=*/*;b", "a,", "A", "a=1.2345",
	} {
		f.Add(s)
	}
	displayBytes := regexp.MustCompile(`%[89a-f][0-9a-f]`)
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.Trim(s, " \t")
		if displayBytes.MatchString(s) {
			return
		}
		r := targeted(s)
		r.Header["Cache-Control"] = []string{"s-maxage=1234567"}
		governs := rfc9111.FreshnessLifetime(r).Duration != 1234567*time.Second
		if want := s != "" && sfDictionary.MatchString(s); governs != want {
			t.Fatalf("%q: %v", s, governs)
		}
	})
}
