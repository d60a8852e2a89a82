package rfc9111_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestSurrogateKeys(t *testing.T) {
	assert.Empty(t, rfc9111.SurrogateKeys(nil))
	assert.Empty(t, rfc9111.SurrogateKeys([]string{"", " \t "}))
	assert.Equal(t, []string{"a", "b,c", `"d"`, "caf\u00e9", "x\u00a0y", "e"}, rfc9111.SurrogateKeys([]string{" a  b,c\t\"d\"", "caf\u00e9 x\u00a0y", "e "}))
}

func TestCacheTags(t *testing.T) {
	assert.Empty(t, rfc9111.CacheTags(nil))
	assert.Empty(t, rfc9111.CacheTags([]string{"", " , ,\t"}))
	assert.Equal(t, []string{"a", "b c", `"d`, `e"`, "f"}, rfc9111.CacheTags([]string{" a ,,b c\t,\"d,e\"", "f,"}))
}

func TestRFC9875_2_CacheGroups(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  []string
		ok    bool
	}{
		"absent":              {nil, nil, true},
		"empty":               {[]string{""}, nil, true},
		"blank":               {[]string{" \t"}, nil, true},
		"one":                 {[]string{`"scripts"`}, []string{"scripts"}, true},
		"two":                 {[]string{`"eurovision-results", "australia"`}, []string{"eurovision-results", "australia"}, true},
		"two lines":           {[]string{`"a"`, ` "b"	,"c"`}, []string{"a", "b", "c"}, true},
		"parameters":          {[]string{`"a";x;y="z" , "b"; q=1`}, []string{"a", "b"}, true},
		"escapes":             {[]string{`"a\"b\\c, d"`}, []string{`a"b\c, d`}, true},
		"the empty string":    {[]string{`""`}, []string{""}, true},
		"case is kept":        {[]string{`"A", "a", "a"`}, []string{"A", "a", "a"}, true},
		"a token":             {[]string{`"a", b`}, nil, false},
		"a number":            {[]string{`1`}, nil, false},
		"a boolean":           {[]string{`?1, "a"`}, nil, false},
		"a display string":    {[]string{`%"a"`}, nil, false},
		"an inner list":       {[]string{`("a" "b")`}, nil, false},
		"a dictionary":        {[]string{`a="b"`}, nil, false},
		"no quotation mark":   {[]string{`"a", "b`}, nil, false},
		"an escape too much":  {[]string{`"a\b"`}, nil, false},
		"trailing comma":      {[]string{`"a",`}, nil, false},
		"junk at the end":     {[]string{`"a", "b"c`}, nil, false},
		"no comma":            {[]string{`"a" "b"`}, nil, false},
		"an empty line":       {[]string{`"a"`, ""}, nil, false},
		"not ASCII":           {[]string{"\"caf\u00e9\""}, nil, false},
		"error on the second": {[]string{`"a"`, "&"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			groups, ok := rfc9111.CacheGroups(c.lines)
			assert.Equal(t, c.want, groups)
			assert.Equal(t, c.ok, ok)
		})
	}

	var lines, want []string // 32 of 32 are a must; there is no limit here
	for i := range 2000 {
		want = append(want, fmt.Sprintf("%0100d", i))
		lines = append(lines, `"`+want[i]+`"`)
	}
	groups, ok := rfc9111.CacheGroups(lines)
	assert.True(t, ok)
	assert.Equal(t, want, groups)
}

func FuzzTags(f *testing.F) {
	for _, s := range []string{"", "a b", `"a", "b"`, `"a\"";x=1`, "a,,b", `("a")`, `"a`} {
		f.Add(s, `"x"`)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		lines := []string{a, b}
		for _, tag := range append(rfc9111.SurrogateKeys(lines), rfc9111.CacheTags(lines)...) {
			if tag == "" || strings.Trim(tag, " \t") != tag || !strings.Contains(a+"\n"+b, tag) {
				t.Fatalf("%q: %q", lines, tag)
			}
		}
		groups, ok := rfc9111.CacheGroups(lines)
		if !ok && groups != nil {
			t.Fatalf("%q: %q beside an error", lines, groups)
		}
		// Written again, they are read alike.
		var written []string
		for _, group := range groups {
			written = append(written, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(group)+`"`)
		}
		again, stillOK := rfc9111.CacheGroups(written)
		if ok && (!stillOK || !slices.Equal(again, groups)) {
			t.Fatalf("%q: %q, then %q", lines, groups, again)
		}
	})
}
