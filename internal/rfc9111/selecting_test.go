package rfc9111_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func selecting(name string, lines ...string) string {
	out, present := rfc9111.AppendSelectingValue([]byte("> "), http.Header{name: lines}, name)
	if !present {
		return "absent" + string(out)
	}
	return string(out)
}

func TestRFC9111_4_1_AppendSelectingValue(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  string
	}{
		// Any field.
		{"X", nil, "absent> "},
		{"X", []string{""}, "> "},
		{"X", []string{" \t"}, "> "},
		{"X", []string{" De, en;Q=1\t"}, "> De, en;Q=1"},
		{"X", []string{" a\t", " b "}, "> a, b"},
		{"X", []string{"a", ""}, "> a,"},
		{"X", []string{"", "a"}, "> , a"},
		{"X", []string{"a, "}, "> a,"}, // the same as its two lines
		{"Cookie", []string{"a=1; b=2"}, "> a=1; b=2"},

		{"Accept-Language", nil, "absent> "},
		{"Accept-Language", []string{""}, "> "},
		{"Accept-Language", []string{" , ,"}, "> "},
		{"Accept-Language", []string{"de"}, "> de"},
		{"Accept-Language", []string{"DE, En-gb"}, "> de,en-gb"},
		{"Accept-Language", []string{"de,en-GB , *"}, "> de,en-gb,*"},
		{"Accept-Language", []string{"de", "en"}, "> de,en"},
		{"Accept-Language", []string{"de-CH-1996, sr-Latn"}, "> de-ch-1996,sr-latn"},
		// weights
		{"Accept-Language", []string{"de;q=1"}, "> de"},
		{"Accept-Language", []string{"de;q=1.000, en;Q=0.80"}, "> de,en;q=0.8"},
		{"Accept-Language", []string{"de \t;\tq=0.5"}, "> de;q=0.5"},
		{"Accept-Language", []string{"de;q=0.123, en;q=0.120, fr;q=0.100"}, "> de;q=0.123,en;q=0.12,fr;q=0.1"},
		{"Accept-Language", []string{"de;q=0.001, en;q=0.01, fr;q=0.050, it;q=0.105"}, "> it;q=0.105,fr;q=0.05,en;q=0.01,de;q=0.001"},
		{"Accept-Language", []string{"de;q=0, en;q=0., fr;q=0.000, it;q=1."}, "> it,de;q=0,en;q=0,fr;q=0"},
		// order
		{"Accept-Language", []string{"en;q=0.5, de"}, "> de,en;q=0.5"},
		{"Accept-Language", []string{"fr;q=0.5, de;q=0.7", "en;q=0.5"}, "> de;q=0.7,fr;q=0.5,en;q=0.5"},
		{"Accept-Language", []string{"en, de"}, "> en,de"},
		{"Accept-Language", []string{"en, de;q=1.0"}, "> en,de"},
		{"Accept-Language", []string{"de, de"}, "> de,de"},
		// by the grammar, or as it is written
		{"Accept-Language", []string{"en_US, DE"}, "> en_US, DE"},
		{"Accept-Language", []string{"DE;q=.5"}, "> DE;q=.5"},
		{"Accept-Language", []string{"DE;q=2"}, "> DE;q=2"},
		{"Accept-Language", []string{"DE;q=1.001"}, "> DE;q=1.001"},
		{"Accept-Language", []string{"DE;q=0.1234"}, "> DE;q=0.1234"},
		{"Accept-Language", []string{"DE;q=-1"}, "> DE;q=-1"},
		{"Accept-Language", []string{"DE;q=01"}, "> DE;q=01"},
		{"Accept-Language", []string{"DE;q="}, "> DE;q="},
		{"Accept-Language", []string{"DE;q=0x5"}, "> DE;q=0x5"},
		{"Accept-Language", []string{"DE;q=0.x"}, "> DE;q=0.x"},
		{"Accept-Language", []string{"DE;q=a"}, "> DE;q=a"},
		{"Accept-Language", []string{"AZ-az"}, "> az-az"},
		{"Accept-Language", []string{"DE;q"}, "> DE;q"},
		{"Accept-Language", []string{"DE;q =1"}, "> DE;q =1"},
		{"Accept-Language", []string{`DE;q="1"`}, `> DE;q="1"`},
		{"Accept-Language", []string{"DE;q=1;q=1"}, "> DE;q=1;q=1"},
		{"Accept-Language", []string{"DE;x=1"}, "> DE;x=1"},
		{"Accept-Language", []string{"DE;"}, "> DE;"},
		{"Accept-Language", []string{"DE EN"}, "> DE EN"},
		{"Accept-Language", []string{"DE-"}, "> DE-"},
		{"Accept-Language", []string{"-DE"}, "> -DE"},
		{"Accept-Language", []string{"D2"}, "> D2"},
		{"Accept-Language", []string{"*-CH"}, "> *-CH"},
		{"Accept-Language", []string{"abcdefghI"}, "> abcdefghI"},
		{"Accept-Language", []string{"d\u00e9"}, "> d\u00e9"},
		{"Accept-Language", []string{"DE", "EN;q"}, "> DE, EN;q"},

		{"Accept-Charset", []string{"UTF-8, iso-8859-1;q=0.50, *;q=0"}, "> utf-8,iso-8859-1;q=0.5,*;q=0"},
		{"Accept-Charset", []string{"UTF-8;x=1"}, "> UTF-8;x=1"},

		{"Accept", []string{"*/*"}, "> */*"},
		{"Accept", []string{"text/*;q=0.3, Text/HTML;q=0.7, text/html;Level=1, text/html;level=2;q=0.4, */*;q=0.5"},
			"> text/html;level=1,text/html;q=0.7,*/*;q=0.5,text/html;level=2;q=0.4,text/*;q=0.3"},
		{"Accept", []string{"text/html ; Level=A ; x=\"B, \\\"c\" ; q=0.5 , a/b"}, "> a/b,text/html;level=A;x=\"B, \\\"c\";q=0.5"},
		{"Accept", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}, "> text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"},
		{"Accept", []string{"A/b;q=1;x=1"}, "> A/b;q=1;x=1"}, // before RFC 9110 that was an accept-ext
		{"Accept", []string{"A/b;q=1;q=0.5"}, "> A/b;q=1;q=0.5"},
		{"Accept", []string{"A/b, *; q=.2"}, "> A/b, *; q=.2"}, // java.net
		{"Accept", []string{"A"}, "> A"},
		{"Accept", []string{"A/"}, "> A/"},
		{"Accept", []string{"/B"}, "> /B"},
		{"Accept", []string{"*/B"}, "> */B"},
		{"Accept", []string{"A/b/c"}, "> A/b/c"},
		{"Accept", []string{"A / b"}, "> A / b"},
		{"Accept", []string{`A/b;x="c`}, `> A/b;x="c`},
		{"Accept", []string{`A/b;x="c`, `d"`}, `> A/b;x="c, d"`},
		{"Accept", []string{`A/b;x="c"d`}, `> A/b;x="c"d`},
		{"Accept", []string{"A/b;x"}, "> A/b;x"},
		{"Accept", []string{"A/b;x="}, "> A/b;x="},
	} {
		assert.Equal(t, c.want, selecting(c.name, c.lines...), "%s: %q", c.name, c.lines)
	}
}

func TestAppendSelectingValueAllocatesNothing(t *testing.T) {
	sixteen := strings.Repeat("De-ch ; q=0.80, ", 8) + strings.Repeat("en,", 8)
	h := http.Header{
		"Accept-Language": {sixteen},
		"Accept":          {strings.Repeat("Text/html;Level=1;q=0.7, ", 16)},
		"Accept-Charset":  {"utf-8, x y"},
		"X":               {" a ", "b"},
	}
	b := make([]byte, 0, 1024)
	assert.Zero(t, testing.AllocsPerRun(100, func() {
		for _, name := range [...]string{"Accept-Language", "Accept", "Accept-Charset", "X", "Y"} {
			b, _ = rfc9111.AppendSelectingValue(b[:0], h, name)
		}
	}))
	seventeen := selecting("Accept-Language", sixteen+"fr")
	assert.Equal(t, 16, strings.Count(seventeen, ","))
}

func BenchmarkAppendSelectingValue(b *testing.B) {
	h := http.Header{"Accept-Language": {"de-CH,de;q=0.9,en-US;q=0.8,en;q=0.7"}}
	out := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		out, _ = rfc9111.AppendSelectingValue(out[:0], h, "Accept-Language")
	}
}

func FuzzAppendSelectingValue(f *testing.F) {
	for _, s := range []string{"", "de, en;q=0.8", "text/html;Level=1;q=0.5, */*", "UTF-8;q=1.0", "a_b", "a;q=.5", `a/b;c="d,\"e"`, ",,", "*", "de-CH-1996;q=0.123"} {
		f.Add(s, "en;q=0.5")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		for _, name := range []string{"Accept", "Accept-Charset", "Accept-Language", "X"} {
			one := selecting(name, a)
			// What comes out is its own normal form, and says how it was made:
			// nothing that is written differently may come out the same.
			normal := strings.TrimPrefix(one, "> ")
			if again := selecting(name, normal); again != one {
				t.Fatalf("%s: %q, then %q", name, one, again)
			}
			if name == "X" {
				continue
			}
			if normal != strings.Trim(a, " \t") {
				// It was normalised: the same members, sorted.
				if got, want := letters(normal), letters(a); !slices.Equal(got, want) {
					t.Fatalf("%s: %q became %q", name, a, normal)
				}
			}
			// Members of two lines are those of one, where both are by the grammar.
			if valid(name, a) && valid(name, b) && selecting(name, a, b) != selecting(name, a+","+b) {
				t.Fatalf("%s: %q and %q: lines count", name, a, b)
			}
			if !strings.Contains(a, `"`) && valid(name, a) && selecting(name, strings.ReplaceAll(a, ",", " ,\t")) != one {
				t.Fatalf("%s: %q: whitespace counts", name, a)
			}
		}
	})
}

// valid reports whether a line is by the grammar of its field: another member is
// then made lower case.
func valid(name, line string) bool {
	probe := "ZZ"
	if name == "Accept" {
		probe = "ZZ/zz"
	}
	return !strings.Contains(selecting(name, line, probe), "ZZ")
}

// letters returns the names in a field, without what normalising changes.
func letters(s string) []string {
	words := strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r < 'a' || r > 'z' })
	words = slices.DeleteFunc(words, func(w string) bool { return w == "q" })
	slices.Sort(words)
	return words
}
