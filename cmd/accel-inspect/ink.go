package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// safe writes text out so that it cannot steer a terminal, nor look like other
// text than it is: control characters, those that change the direction of
// writing, others that cannot be seen, and bytes that are not UTF-8 become
// escapes as in Go. A backslash stays one: what is not escaped can be copied.
func safe(s string) string { return escape(s, strconv.IsPrint) }

// safeText is safe for text of several lines.
func safeText(s string) string {
	return escape(s, func(r rune) bool { return r == '\n' || r == '\t' || strconv.IsPrint(r) })
}

func escape(s string, ok func(rune) bool) string {
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case ok(r):
			b.WriteRune(r)
		case r < 0x80:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

func safeAll(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = safe(s)
	}
	return out
}

// printJSON writes v on one line, or indented on several. Its text is escaped as
// far as JSON has escapes for it: it may land on a terminal too.
func printJSON(w io.Writer, v any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // a URL should look like one
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return err
	}
	out := make([]byte, 0, b.Len())
	// Outside of strings there is nothing that cannot be printed but line feeds.
	for _, r := range b.String() {
		switch {
		case r == '\n' || strconv.IsPrint(r):
			out = utf8.AppendRune(out, r)
		case r < 0x10000:
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			r1, r2 := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, r1, r2)
		}
	}
	_, err := w.Write(out)
	return err
}

// A table is aligned columns. Cells are safe already.
type table struct {
	columns []column
	rows    [][]string
}

type column struct {
	head  string
	right bool
	// most is how wide the column becomes; longer cells stand out. 0 is no
	// limit.
	most int
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) widths() []int {
	w := make([]int, len(t.columns))
	for i, c := range t.columns {
		w[i] = utf8.RuneCountInString(c.head)
		for _, row := range t.rows {
			if n := utf8.RuneCountInString(row[i]); c.most == 0 || n <= c.most {
				w[i] = max(w[i], n)
			}
		}
	}
	return w
}

func (t *table) write(w io.Writer) error {
	widths := t.widths()
	line := func(cells []string) error {
		var b strings.Builder
		for i, cell := range cells {
			pad := strings.Repeat(" ", max(0, widths[i]-utf8.RuneCountInString(cell)))
			if i > 0 {
				b.WriteString("  ")
			}
			if t.columns[i].right {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		_, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		return err
	}
	heads := make([]string, len(t.columns))
	for i, c := range t.columns {
		heads[i] = c.head
	}
	if err := line(heads); err != nil {
		return err
	}
	for _, row := range t.rows {
		if err := line(row); err != nil {
			return err
		}
	}
	return nil
}

// size writes a number of bytes for people.
func size(n int64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f := float64(n)
	for _, unit := range []string{"KiB", "MiB", "GiB", "TiB"} {
		f /= 1024
		if f < 9.95 {
			return fmt.Sprintf("%.1f %s", f, unit)
		}
		if f < 1023.5 || unit == "TiB" {
			return fmt.Sprintf("%.0f %s", f, unit)
		}
	}
	return "" // not reached
}

// count writes a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

// span writes a duration for people, with two units at most.
func span(d time.Duration) string {
	if d < 0 {
		return "-" + span(-d)
	}
	s := int64(d / time.Second)
	two := func(n int64, unit string, rest int64, small string) string {
		if rest == 0 {
			return fmt.Sprintf("%d%s", n, unit)
		}
		return fmt.Sprintf("%d%s%d%s", n, unit, rest, small)
	}
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm", s/60)
	case s < 24*3600:
		return two(s/3600, "h", s%3600/60, "m")
	case s < 365*24*3600:
		return two(s/86400, "d", s%86400/3600, "h")
	}
	return two(s/(365*86400), "y", s%(365*86400)/86400, "d")
}

// relative writes when something is, seen from now.
func relative(t, now time.Time) string {
	if d := t.Sub(now); d >= 0 {
		return "in " + span(d)
	}
	return span(now.Sub(t)) + " ago"
}

// moment writes when something is, both ways.
func moment(t, now time.Time) string {
	return fmt.Sprintf("%s (%s)", t.UTC().Format("2006-01-02 15:04:05Z"), relative(t, now))
}
