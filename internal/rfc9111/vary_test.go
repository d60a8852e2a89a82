package rfc9111_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestRFC9111_4_1_VaryNames(t *testing.T) {
	for name, c := range map[string]struct {
		header http.Header
		names  []string
		star   bool
	}{
		"absent":                  {http.Header{}, nil, false},
		"no lines":                {http.Header{"Vary": nil}, nil, false},
		"empty":                   {http.Header{"Vary": {" , ,"}}, nil, false},
		"sorted and canonical":    {http.Header{"Vary": {"user-AGENT,accept"}}, []string{"Accept", "User-Agent"}, false},
		"all lines":               {http.Header{"Vary": {"Origin", "Accept"}}, []string{"Accept", "Origin"}, false},
		"once each":               {http.Header{"Vary": {"Accept, ACCEPT", "accept"}}, []string{"Accept"}, false},
		"Accept-Encoding is ours": {http.Header{"Vary": {"accept-encoding, Accept"}}, []string{"Accept"}, false},
		"nothing else":            {http.Header{"Vary": {"Accept-Encoding"}}, nil, false},
		"odd spelling":            {http.Header{"Vary": {"Accept"}, "vary": {"Cookie"}}, []string{"Accept", "Cookie"}, false},
		"*":                       {http.Header{"Vary": {"*"}}, nil, true},
		"* in the list":           {http.Header{"Vary": {"Accept, *"}}, nil, true},
		"* after empty members":   {http.Header{"Vary": {", ,\t* "}}, nil, true},
		"* on another line":       {http.Header{"Vary": {"Accept", "*"}}, nil, true},
		"* in odd spelling":       {http.Header{"Vary": {"Accept"}, "vary": {"*"}}, nil, true},
		"no field name":           {http.Header{"Vary": {"Accept Language"}}, nil, true},
		"quoted":                  {http.Header{"Vary": {`"Accept"`}}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			names, star := rfc9111.VaryNames(c.header)
			if len(c.names) == 0 {
				assert.Empty(t, names)
			} else {
				assert.Equal(t, c.names, names)
			}
			assert.Equal(t, c.star, star)
		})
	}
}

func FuzzVaryNames(f *testing.F) {
	for _, s := range []string{"", "*", "Accept, accept-encoding", ",,a b", "Cookie,\t*", "a,b,c,A"} {
		f.Add(s, "Origin")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		names, star := rfc9111.VaryNames(http.Header{"Vary": {a, b}})
		if star && names != nil {
			t.Fatalf("%q %q: names beside *: %q", a, b, names)
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != len(names) {
			t.Fatalf("%q %q: %q", a, b, names)
		}
		for _, n := range names {
			if n == "" || n != http.CanonicalHeaderKey(n) || n == "Accept-Encoding" || n == "*" || strings.ContainsAny(n, ", \t\r\n\"") {
				t.Fatalf("%q %q: %q", a, b, names)
			}
		}
		swapped, starToo := rfc9111.VaryNames(http.Header{"Vary": {b, a}})
		if starToo != star || !slices.Equal(swapped, names) {
			t.Fatalf("%q %q: the order of lines counts: %q, %q", a, b, names, swapped)
		}
		joined, starToo := rfc9111.VaryNames(http.Header{"Vary": {a + "," + b}})
		if starToo != star || !slices.Equal(joined, names) {
			t.Fatalf("%q %q: lines count: %q, %q", a, b, names, joined)
		}
	})
}
