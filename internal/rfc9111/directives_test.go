package rfc9111_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

const forEver = (1 << 31) * time.Second

func parse(lines ...string) rfc9111.Directives { return rfc9111.ParseCacheControl(lines) }

func TestRFC9111_5_2_Presence(t *testing.T) {
	for _, c := range []struct {
		lines []string
		has   []string
		not   []string
	}{
		{nil, nil, []string{"no-store", ""}},
		{[]string{""}, nil, []string{"no-store", ""}},
		{[]string{",, ,\t,"}, nil, []string{""}},
		{[]string{"no-store"}, []string{"no-store"}, []string{"no-cache", "store"}},
		{[]string{"No-STORE"}, []string{"no-store"}, nil},
		{[]string{"\tpublic ,, max-age=5,"}, []string{"public", "max-age"}, []string{"no-store"}},
		{[]string{"max-age=60", "no-store"}, []string{"max-age", "no-store"}, nil}, // Header.Get would see the first line only
		{[]string{"community=UCI"}, []string{"community"}, nil},
		// A comma in quotes separates nothing.
		{[]string{`extension="no-store, max-age=3600"`}, []string{"extension"}, []string{"no-store", "max-age"}},
		{[]string{`extension="a\", no-store, \"b"`}, []string{"extension"}, []string{"no-store"}},
		// What breaks the grammar still forbids.
		{[]string{"no-store=1"}, []string{"no-store"}, nil},
		{[]string{"no-store; private"}, []string{"no-store"}, []string{"private"}},
		{[]string{`extension="abc, no-store`}, []string{"extension", "no-store"}, nil},
		{[]string{`extension="abc\, no-store`}, []string{"extension", "no-store"}, nil},
		{[]string{`extension=a"b, no-store, c="d"`}, []string{"extension", "no-store"}, nil},
		{[]string{`"max-age=60", no-store`}, []string{"no-store"}, []string{"max-age"}},
		{[]string{`extension="abc`, "no-store"}, []string{"no-store"}, nil},
	} {
		d := parse(c.lines...)
		for _, name := range c.has {
			assert.True(t, d.Has(name), "%q has %s", c.lines, name)
		}
		for _, name := range c.not {
			assert.False(t, d.Has(name), "%q has not %s", c.lines, name)
		}
	}
}

func TestRFC9111_1_2_2_DeltaSeconds(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  time.Duration
	}{
		{[]string{"max-age=0"}, 0},
		{[]string{"max-age=3600"}, time.Hour},
		{[]string{"MAX-Age=3600"}, time.Hour},
		{[]string{"max-age=003600"}, time.Hour},
		{[]string{`max-age="3600"`}, time.Hour}, // both forms are accepted (5.2)
		{[]string{`max-age="36\00"`}, time.Hour},
		{[]string{"max-age=3600, max-age=3600"}, time.Hour},
		{[]string{"max-age=60", `max-age="060"`}, time.Minute},
		{[]string{"max-age=2147483647"}, forEver - time.Second},
		{[]string{"max-age=2147483648"}, forEver},
		{[]string{"max-age=99999999999"}, forEver},
		{[]string{"max-age=9223372036854775808"}, forEver},
		{[]string{"max-age=" + strings.Repeat("9", 400)}, forEver},
		// Unreadable is present and stale.
		{[]string{"max-age"}, 0},
		{[]string{"max-age="}, 0},
		{[]string{`max-age=""`}, 0},
		{[]string{"max-age=-3600"}, 0},
		{[]string{"max-age=+3600"}, 0},
		{[]string{"max-age=3600.0"}, 0},
		{[]string{"max-age=1e3"}, 0},
		{[]string{"max-age=0x10"}, 0},
		{[]string{"max-age='3600'"}, 0},
		{[]string{"max-age=3600s"}, 0},
		{[]string{"max-age=3600 s"}, 0},
		{[]string{"max-age=3600;public"}, 0},
		{[]string{"max-age =3600"}, 0},
		{[]string{"max-age= 3600"}, 0},
		{[]string{"max-age: 3600"}, 0},
		{[]string{`max-age="3600`}, 0},
		{[]string{`max-age="3600"x`}, 0},
		{[]string{"max-age=\u0663"}, 0}, // a digit, elsewhere
		// Inside what may have been a quoted string.
		{[]string{`extension="a, max-age=3600`}, 0},
		{[]string{`extension x="a, max-age=3600, b"`}, 0},
		// Several that differ: stale, and never the longest (4.2.1).
		{[]string{"max-age=3600, max-age=1"}, 0},
		{[]string{"max-age=1, max-age=3600"}, 0},
		{[]string{"max-age=3600", "max-age=1"}, 0},
		{[]string{"max-age=3600, max-age=x"}, 0},
		{[]string{"max-age=3600, max-age"}, 0},
	} {
		got, present := parse(c.lines...).Seconds("max-age")
		assert.True(t, present, "%q", c.lines)
		assert.Equal(t, c.want, got, "%q", c.lines)
	}

	for _, line := range []string{"", "public", `extension="max-age=3600"`, "x-max-age=3600", "smax-age=60", "max-age2=7"} {
		got, present := parse(line).Seconds("max-age")
		assert.False(t, present, "%q", line)
		assert.Zero(t, got, "%q", line)
	}
}

func TestRFC9111_5_2_2_4_Fields(t *testing.T) {
	for _, c := range []struct {
		line    string
		want    []string
		present bool
	}{
		{"public", nil, false},
		{"no-cache", nil, true},
		{`no-cache="set-cookie"`, []string{"Set-Cookie"}, true},
		{`no-cache="a, b"`, []string{"A", "B"}, true},
		{`no-cache=" a ,,b, "`, []string{"A", "B"}, true},
		{`no-cache="a\, b"`, []string{"A", "B"}, true},
		{"no-cache=x-token-form", []string{"X-Token-Form"}, true},
		{`no-cache="a", no-cache="b"`, []string{"A", "B"}, true},
		// The unqualified form is the stricter one.
		{`no-cache="a", no-cache`, nil, true},
		{`no-cache, no-cache="a"`, nil, true},
		{`no-cache=""`, nil, true},
		{`no-cache=" , "`, nil, true},
		{"no-cache=", nil, true},
		{`no-cache="a`, nil, true},
		{`no-cache="a b"`, nil, true},
		{`no-cache="a" b`, nil, true},
	} {
		names, present := parse(c.line).Fields("no-cache")
		assert.Equal(t, c.present, present, "%q", c.line)
		assert.Equal(t, c.want, names, "%q", c.line)
	}
}

// A megabyte of made-up directives is a request anybody can send.
func TestRFC9111_5_2_3_ExtensionsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&b, "x%d,", i)
	}
	b.WriteString("no-store")
	d := parse(b.String())
	assert.True(t, d.Has("x0"))
	assert.False(t, d.Has("x99999"))
	assert.True(t, d.Has("no-store"), "what is known is kept")

	// Stray quotation marks must not make it read the rest again and again.
	start := time.Now()
	parse(strings.Repeat(`a="\`, 250_000), strings.Repeat(`a=\",`, 200_000), strings.Repeat(`"`, 1_000_000))
	assert.Less(t, time.Since(start), 5*time.Second)
}

// Whatever stands before it, a directive that forbids is seen.
func TestNoStoreIsNeverHidden(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		line := rapid.StringMatching(`[a-c",=\\ \t;0-9]{0,20}`).Draw(t, "line")
		if d := parse(line + ", no-store"); !d.Has("no-store") {
			t.Fatalf("%q hides no-store", line)
		}
		if d := parse("no-store, " + line); !d.Has("no-store") {
			t.Fatalf("no-store is lost before %q", line)
		}
	})
}

func FuzzParseCacheControl(f *testing.F) {
	for _, s := range []string{
		"", "no-store", "public, max-age=60", `private="a, b", no-cache="c"`, `x="a\"b", s-maxage=1`,
		`x="a, no-store`, "max-age=99999999999999999999", "max-age=-1", ",,, =,=a,\"", "max-age =1; public",
	} {
		f.Add(s, "no-store")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		d := rfc9111.ParseCacheControl([]string{a, b})
		for _, name := range []string{"max-age", "s-maxage", "private", "no-cache", "x"} {
			delta, present := d.Seconds(name)
			if present != d.Has(name) || delta < 0 || delta > forEver || !present && delta != 0 {
				t.Fatalf("%q %q: Seconds(%s) = %v, %v", a, b, name, delta, present)
			}
			names, present := d.Fields(name)
			if present != d.Has(name) || !present && names != nil {
				t.Fatalf("%q %q: Fields(%s) = %q, %v", a, b, name, names, present)
			}
			for _, n := range names {
				if n == "" || strings.ContainsAny(n, " \t,\"\r\n") {
					t.Fatalf("%q %q: Fields(%s) = %q", a, b, name, names)
				}
			}
			// More lines never take a directive away.
			one := rfc9111.ParseCacheControl([]string{a})
			if one.Has(name) && !d.Has(name) {
				t.Fatalf("%q hides %s of %q", b, name, a)
			}
			if x, ok := one.Seconds(name); ok {
				if y, _ := d.Seconds(name); y > x {
					t.Fatalf("%q lengthens %s of %q to %v", b, name, a, y)
				}
			}
		}
		if !rfc9111.ParseCacheControl([]string{a + ",no-store"}).Has("no-store") {
			t.Fatalf("%q hides no-store", a)
		}
	})
}
