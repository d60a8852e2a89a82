package codec_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/codec"
)

const none = "none of them"

// chosen is what Negotiate chooses, by name.
func chosen(accept []string, offers ...string) string {
	i, ok := codec.Negotiate(accept, offers)
	if ok != (i >= 0) || i >= len(offers) || i < -1 {
		panic(fmt.Sprintf("Negotiate(%q, %q) = %d, %t", accept, offers, i, ok))
	}
	if !ok {
		return none
	}
	return offers[i]
}

// The server of these tests likes zstd best and has gzip and identity, too.
func TestRFC9110_12_5_3_Negotiate(t *testing.T) {
	for _, tc := range []struct{ accept, want string }{
		// The examples of the section, in its order.
		{"compress, gzip", "gzip"},
		{"", ""},
		{"*", "zstd"},
		{"compress;q=0.5, gzip;q=1.0", "gzip"},
		{"gzip;q=1.0, identity; q=0.5, *;q=0", "gzip"},

		// What browsers and programs send.
		{"gzip, deflate, br, zstd", "zstd"},
		{"gzip, deflate, br", "gzip"},
		{"gzip,deflate", "gzip"},
		{"gzip", "gzip"},
		{"identity", ""},
		{"deflate, gzip;q=1.0, *;q=0.5", "gzip"},
		{"br;q=1.0, gzip;q=0.8, *;q=0.1", "gzip"},

		// The highest weight wins, of equals the server's order.
		{"gzip;q=0.9, zstd;q=0.8", "gzip"},
		{"gzip;q=0.8, zstd;q=0.8", "zstd"},
		{"gzip;q=0.001", "gzip"},
		{"identity;q=0.5, gzip;q=0.4", ""},
		{"identity, gzip", "gzip"},

		// Not acceptable.
		{"gzip;q=0", ""},
		{"gzip;q=0, zstd;q=0.0, *", ""},
		{"zstd;q=0.000, *", "gzip"},
		{"br", ""},
		{"identity;q=0", none},
		{"*;q=0", none},
		{"identity;q=0, gzip", "gzip"},
		{"*;q=0, gzip", "gzip"},
		{"*;q=0, identity", ""},
		{"*;q=0, identity;q=0.1", ""},
		{"identity;q=0, *", "zstd"},
		{"identity;q=0, br", none},

		// "*" is for what is not listed, identity included.
		{"gzip;q=0.5, *;q=0.8", "zstd"},
		{"gzip;q=0.5, zstd;q=0.5, *;q=0.8", ""},
		{"gzip, *;q=0.1", "gzip"},

		// Case, aliases, white space, empty members.
		{"GZIP", "gzip"},
		{"GZip ; Q=1", "gzip"},
		{"IDENTITY;q=0, x-GZip", "gzip"},
		{"x-gzip", "gzip"},
		{"x-gzip;q=0, *", "zstd"},
		{" gzip\t;\tq=0.5 , zstd ; q=0.4 ", "gzip"},
		{",, gzip ,\t,", "gzip"},
		{" ", ""},
		{",", ""},
		{", ;q=1", ""},

		// Listed twice: what is refused once is refused.
		{"gzip, gzip;q=0", ""},
		{"gzip;q=0, gzip", ""},
		{"gzip, x-gzip;q=0.3, zstd;q=0.4", "zstd"},
		{"*, *;q=0", none},

		// Names are whole.
		{"gzipped, xgzip, zst, zstdd", ""},
		{"gzip2;q=1, identityy;q=0", ""},
	} {
		require.Equal(t, tc.want, chosen([]string{tc.accept}, "zstd", "gzip", ""), "%q", tc.accept)
	}
}

func TestRFC9110_12_5_3_NoField(t *testing.T) {
	for _, accept := range [][]string{nil, {}} {
		require.Equal(t, "", chosen(accept, "zstd", "gzip", ""))
		require.Equal(t, none, chosen(accept, "zstd", "gzip"), "the caller has to decode")
		require.True(t, codec.Acceptable(accept, "identity"))
		require.False(t, codec.Acceptable(accept, "gzip"))
	}
}

func TestRFC9110_12_5_3_IdentityNotOffered(t *testing.T) {
	for accept, want := range map[string]string{
		"":                   none,
		"br":                 none,
		"identity":           none,
		"gzip;q=0.1, br":     "gzip",
		"*;q=0.1, gzip;q=0":  "zstd",
		"identity, *;q=0.01": "zstd",
	} {
		require.Equal(t, want, chosen([]string{accept}, "zstd", "gzip"), "%q", accept)
	}
}

// RFC 9110 section 5.3: several lines are one list.
func TestRFC9110_5_3_SeveralLines(t *testing.T) {
	require.Equal(t, "zstd", chosen([]string{"gzip", "zstd"}, "zstd", "gzip", ""))
	require.Equal(t, "gzip", chosen([]string{"", "gzip"}, "zstd", "gzip", ""))
	require.Equal(t, "gzip", chosen([]string{"zstd;q=0", "*"}, "zstd", "gzip", ""))
	require.Equal(t, "", chosen([]string{"", ""}, "zstd", "gzip", ""))
	require.Equal(t, none, chosen([]string{"br", "identity;q=0"}, "zstd", "gzip", ""))
}

func TestRFC9110_12_4_2_Weights(t *testing.T) {
	for _, q := range []string{"0.1", "0.12", "0.123", "0.001", "1", "1.", "1.0", "1.00", "1.000", "0.999", "1 ", "1\t "} {
		require.True(t, codec.Acceptable([]string{"gzip;q=" + q}, "gzip"), "%q", q)
	}
	for _, q := range []string{"0", "0.", "0.0", "0.00", "0.000", // zero
		"", " ", "2", "1.001", "1.1", "1.0000", "0.1234", "0.0001", "00.5", "01", ".5", "-1", "+1", "-0.5", "1e0", "0,5",
		"0.5x", "0.5;x=1", "0.5 x", "\"1\"", "0x1", "NaN", "0.5.5", " 1", "=1", "١"} {
		require.False(t, codec.Acceptable([]string{"gzip;q=" + q}, "gzip"), "%q", q)
	}
	for _, member := range []string{"gzip;", "gzip;;q=1", "gzip;level=1", "gzip;level=1;q=1", "gzip q=1", "gzip x", "gzip;q",
		"gzip;q =1", "gzip;q= 1", "gzip;qq=1", "gzip=1"} {
		require.False(t, codec.Acceptable([]string{member}, "gzip"), "%q", member)
		require.True(t, codec.Acceptable([]string{member + ", zstd"}, "zstd"), "%q spoils only itself", member)
	}
	for n := range 1000 {
		less, more := fmt.Sprintf("0.%03d", n), fmt.Sprintf("0.%03d", n+1)
		if n == 999 {
			more = "1"
		}
		require.Equal(t, "gzip", chosen([]string{"zstd;q=" + less + ", gzip;q=" + more}, "zstd", "gzip"))
	}
}

func TestNegotiateManyOffers(t *testing.T) {
	var offers []string
	for i := range 30 {
		offers = append(offers, "c"+strconv.Itoa(i))
	}
	require.Equal(t, "c0", chosen([]string{"*"}, offers...))
	require.Equal(t, "c29", chosen([]string{"*;q=0.5, c29"}, offers...))
	require.Equal(t, "c8", chosen([]string{"c17, c8, c9"}, offers...))
	require.Equal(t, none, chosen([]string{"c30"}, offers...))
	require.Equal(t, none, chosen([]string{"*"}))
}

func TestAcceptable(t *testing.T) {
	accept := []string{"gzip, br;q=0, *;q=0.1"}
	require.True(t, codec.Acceptable(accept, "X-GZIP"))
	require.True(t, codec.Acceptable(accept, "zstd"))
	require.True(t, codec.Acceptable(accept, ""))
	require.False(t, codec.Acceptable(accept, "BR"))
	require.False(t, codec.Acceptable([]string{""}, "gzip"))
	require.True(t, codec.Acceptable([]string{""}, ""))
	require.False(t, codec.Acceptable([]string{"gzip, br"}, "gzip, br"), "a list is not a coding")
}

func TestNegotiateAllocatesNothing(t *testing.T) {
	offers := []string{"zstd", "gzip", ""}
	for _, accept := range [][]string{
		nil,
		{""},
		{"gzip, deflate, br, zstd"},
		{"GZIP;q=0.5, *;q=0.1, identity;q=0", "x-gzip;q=bad"},
	} {
		require.Zero(t, testing.AllocsPerRun(100, func() {
			_, _ = codec.Negotiate(accept, offers)
		}), "%q", accept)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			// Offers made for the occasion stay on the stack.
			local := append(make([]string, 0, 4), "zstd", "gzip")
			_, _ = codec.Negotiate(accept, local)
		}), "%q", accept)
		require.Zero(t, testing.AllocsPerRun(100, func() {
			_ = codec.Acceptable(accept, "gzip")
		}), "%q", accept)
	}
}

// reference is section 12.5.3 once more, by other means and without haste.
func reference(accept []string, offers []string) int {
	if len(accept) == 0 {
		return slices.Index(offers, "")
	}
	weights := map[string]float64{}
	for member := range strings.SplitSeq(strings.Join(accept, ","), ",") {
		m := memberPattern.FindStringSubmatch(strings.Trim(member, " \t"))
		name := codec.Normalize(m[1])
		if name == "" && m[1] == "" {
			continue
		}
		q := 1.0
		if m[2] != "" {
			q = 0
			if w := weightPattern.FindStringSubmatch(m[2]); w != nil {
				q, _ = strconv.ParseFloat(w[1], 64)
			}
		}
		if old, ok := weights[name]; !ok || q < old {
			weights[name] = q
		}
	}
	best, index := 0.0, -1
	for i, offer := range offers {
		q, listed := weights[offer]
		if !listed {
			q, listed = weights["*"]
		}
		if !listed && offer == "" {
			q = 0.0001
		}
		if q > best {
			best, index = q, i
		}
	}
	return index
}

var (
	memberPattern = regexp.MustCompile(`(?s)^([^; \t]*)(.*)$`)
	weightPattern = regexp.MustCompile(`^[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*$`)
)

func TestNegotiateLikeReference(t *testing.T) {
	name := rapid.SampledFrom([]string{"gzip", "GZip", "x-gzip", "zstd", "identity", "Identity", "*", "br", "zst", "", "q"})
	weight := rapid.OneOf(
		rapid.Just(""),
		rapid.StringMatching(`;q=0\.[0-9]{0,4}`),
		rapid.StringMatching(`[ \t]?;[ \t]?[qQ]=[01](\.[0-9]{0,3})?[ \t]?`),
		rapid.StringMatching(`[;q=0-9. x]{0,8}`),
	)
	member := rapid.Custom(func(t *rapid.T) string { return name.Draw(t, "name") + weight.Draw(t, "weight") })
	line := rapid.Custom(func(t *rapid.T) string {
		separator := rapid.SampledFrom([]string{",", ", ", " ,\t", ",,"}).Draw(t, "separator")
		return strings.Join(rapid.SliceOfN(member, 0, 6).Draw(t, "members"), separator)
	})
	offer := rapid.SampledFrom([]string{"zstd", "gzip", "", "br"})

	rapid.Check(t, func(t *rapid.T) {
		accept := rapid.SliceOfN(line, 0, 3).Draw(t, "accept")
		offers := rapid.SliceOfN(offer, 0, 12).Draw(t, "offers")
		i, ok := codec.Negotiate(accept, offers)
		if want := reference(accept, offers); i != want || ok != (want >= 0) {
			t.Fatalf("Negotiate(%q, %q) = %d, %t; reference: %d", accept, offers, i, ok, want)
		}
		for _, coding := range []string{"zstd", "gzip", "", "br"} {
			if got, want := codec.Acceptable(accept, coding), reference(accept, []string{coding}) == 0; got != want {
				t.Fatalf("Acceptable(%q, %q) = %t", accept, coding, got)
			}
		}
	})
}
