package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestSafe(t *testing.T) {
	for in, want := range map[string]string{
		"":                      "",
		"user:42":               "user:42",
		"größe, 大きさ, 👍":         "größe, 大きさ, 👍",
		`a\b`:                   `a\b`,
		"a\nb\tc\rd\x00":        `a\x0ab\x09c\x0dd\x00`,
		"\x1b[31m":              `\x1b[31m`,
		"\u009b31m":             `\u009b31m`, // the C1 form of the same
		"caf\xe9":               `caf\xe9`,
		"\x7f":                  `\x7f`,
		"abc\u202egpj.exe":      `abc\u202egpj.exe`,
		"\u2066\u2069\u200f":    `\u2066\u2069\u200f`,
		"zero\u200bwidth\ufeff": `zero\u200bwidth\ufeff`,
		"line\u2028end":         `line\u2028end`,
		"no-break\u00a0space":   `no-break\u00a0space`,
		"tag\U000e0041":         `tag\U000e0041`,
		"\ufffd":                "\ufffd",
	} {
		require.Equal(t, want, safe(in))
	}
	require.Equal(t, "a\n\tb\\x1b\n", safeText("a\n\tb\x1b\n"))
}

func FuzzSafe(f *testing.F) {
	f.Add("\x1b[31m\u202e\xff\u009b")
	f.Fuzz(func(t *testing.T, s string) {
		out := safe(s)
		require.True(t, utf8.ValidString(out))
		require.False(t, strings.ContainsFunc(out, func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }))

		var b bytes.Buffer
		require.NoError(t, printJSON(&b, map[string]string{"s": s}, ""))
		require.Equal(t, 1, strings.Count(b.String(), "\n"))
		require.False(t, strings.ContainsFunc(strings.TrimSuffix(b.String(), "\n"), func(r rune) bool { return r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }))
		var back map[string]string
		require.NoError(t, json.Unmarshal(b.Bytes(), &back))
		require.Equal(t, string([]rune(s)), back["s"])
	})
}

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 10188: "9.9 KiB", 10189: "10 KiB", 1<<20 - 1: "1.0 MiB",
		7340032: "7.0 MiB", 123456789: "118 MiB", 1 << 40: "1.0 TiB", 1 << 62: "4194304 TiB",
	} {
		require.Equal(t, want, size(n), "%d", n)
	}
}

func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 999 * time.Millisecond, "59s": 59 * time.Second, "57m": 57*time.Minute + 59*time.Second,
		"1h": time.Hour, "1h58m": 118 * time.Minute, "3d4h": 76 * time.Hour, "2d": 48 * time.Hour,
		"1y35d": 400 * 24 * time.Hour, "-2m": -2 * time.Minute,
	} {
		require.Equal(t, want, span(d))
	}
	now := time.Unix(0, 0)
	require.Equal(t, "in 1h", relative(now.Add(time.Hour), now))
	require.Equal(t, "1h ago", relative(now.Add(-time.Hour), now))
}
