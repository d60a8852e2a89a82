package rfc9111_test

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

func TestRFC9110_8_8_ValidatorsOf(t *testing.T) {
	date := httpDate(noon)
	for name, c := range map[string]struct {
		header []string
		want   rfc9111.Validators
	}{
		"nothing":             {nil, rfc9111.Validators{}},
		"both":                {[]string{"Etag", `"a"`, "Last-Modified", date}, rfc9111.Validators{ETag: `"a"`, LastModified: date}},
		"weak":                {[]string{"Etag", `W/"a"`}, rfc9111.Validators{ETag: `W/"a"`}},
		"empty tag":           {[]string{"Etag", `""`}, rfc9111.Validators{ETag: `""`}},
		"odd spelling":        {[]string{"ETag", `"a"`, "last-modified", date}, rfc9111.Validators{ETag: `"a"`, LastModified: date}},
		"whitespace":          {[]string{"Etag", ` "a"	`, "Last-Modified", " " + date}, rfc9111.Validators{ETag: `"a"`, LastModified: date}},
		"as given":            {[]string{"Last-Modified", "Saturday, 14-Mar-26 12:00:00 GMT"}, rfc9111.Validators{LastModified: "Saturday, 14-Mar-26 12:00:00 GMT"}},
		"lines alike":         {[]string{"Etag", `"a"`, "etag", `"a"`}, rfc9111.Validators{ETag: `"a"`}},
		"lines that differ":   {[]string{"Etag", `"a"`, "Etag", `"b"`, "Last-Modified", date, "Last-Modified", "0"}, rfc9111.Validators{}},
		"no quotes":           {[]string{"Etag", "a", "Last-Modified", "today"}, rfc9111.Validators{}},
		"a list":              {[]string{"Etag", `"a", "b"`}, rfc9111.Validators{}},
		"control characters":  {[]string{"Etag", "\"a\r\nX: b\""}, rfc9111.Validators{}},
		"empty fields":        {[]string{"Etag", "", "Last-Modified", ""}, rfc9111.Validators{}},
		"one of them is good": {[]string{"Etag", "a", "Last-Modified", date}, rfc9111.Validators{LastModified: date}},
	} {
		t.Run(name, func(t *testing.T) {
			got := rfc9111.ValidatorsOf(header(c.header...))
			assert.Equal(t, c.want, got)
			assert.Equal(t, c.want == rfc9111.Validators{}, got.Empty())
		})
	}
}

func TestRFC9111_4_3_1_SetConditions(t *testing.T) {
	client := func() http.Header {
		return header("Accept", "text/html", "Cookie", "a=1", "If-Match", `"x"`, "If-None-Match", `"y"`, "if-none-match", `"z"`,
			"If-Modified-Since", "0", "If-Unmodified-Since", "0", "If-Range", `"x"`, "RANGE", "bytes=0-", "Range", "bytes=1-")
	}
	for name, c := range map[string]struct {
		v    rfc9111.Validators
		want []string
	}{
		"both":    {rfc9111.Validators{ETag: `W/"a"`, LastModified: "x"}, []string{"If-None-Match", `W/"a"`, "If-Modified-Since", "x"}},
		"tag":     {rfc9111.Validators{ETag: `"a"`}, []string{"If-None-Match", `"a"`}},
		"date":    {rfc9111.Validators{LastModified: "x"}, []string{"If-Modified-Since", "x"}},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			h := client()
			c.v.SetConditions(h)
			assert.Equal(t, header(append(c.want, "Accept", "text/html", "Cookie", "a=1")...), h)
		})
	}
}

func TestRFC9111_4_3_4_ConfirmedBy(t *testing.T) {
	date, other := httpDate(noon), httpDate(noon.Add(time.Second))
	strong, weak := rfc9111.Validators{ETag: `"a"`}, rfc9111.Validators{ETag: `W/"a"`}
	dated, both, none := rfc9111.Validators{LastModified: date}, rfc9111.Validators{ETag: `"a"`, LastModified: date}, rfc9111.Validators{}
	for name, c := range map[string]struct {
		v    rfc9111.Validators
		h    []string
		want bool
	}{
		"no validator, strong": {strong, nil, true},
		"no validator, date":   {dated, nil, true},
		"no validator, none":   {none, nil, true},

		"strong, the same":               {strong, []string{"Etag", `"a"`}, true},
		"strong, in odd spelling":        {strong, []string{"ETag", ` "a"`}, true},
		"strong, another":                {strong, []string{"Etag", `"b"`}, false},
		"strong, of another case":        {strong, []string{"Etag", `"A"`}, false},
		"strong, ours is weak":           {weak, []string{"Etag", `"a"`}, false},
		"strong, we have none":           {dated, []string{"Etag", `"a"`, "Last-Modified", date}, false},
		"weak, the same":                 {weak, []string{"Etag", `W/"a"`}, true},
		"weak, ours is strong":           {strong, []string{"Etag", `W/"a"`}, true},
		"weak, another":                  {weak, []string{"Etag", `W/"b"`}, false},
		"weak, we have none":             {dated, []string{"Etag", `W/"a"`, "Last-Modified", date}, false},
		"the tag decides alone":          {both, []string{"Etag", `"a"`, "Last-Modified", other}, true},
		"the tag decides alone, against": {both, []string{"Etag", `"b"`, "Last-Modified", date}, false},

		"date, the same":         {dated, []string{"Last-Modified", date}, true},
		"date, in another form":  {dated, []string{"Last-Modified", "Saturday, 14-Mar-26 12:00:00 GMT"}, true},
		"date, another":          {dated, []string{"Last-Modified", other}, false},
		"date, beside our tag":   {both, []string{"Last-Modified", date}, true},
		"date, we have only tag": {strong, []string{"Last-Modified", date}, false},

		"unreadable tag":                 {strong, []string{"Etag", "a"}, false},
		"unreadable tag, as ours may be": {dated, []string{"Etag", "a"}, true},
		"unreadable tag, date differs":   {dated, []string{"Etag", "a", "Last-Modified", other}, false},
		"two tags":                       {strong, []string{"Etag", `"a"`, "Etag", `"b"`}, false},
		"a list of tags":                 {strong, []string{"Etag", `"a", "b"`}, false},
		"*":                              {strong, []string{"Etag", "*"}, false},
		"unreadable date":                {dated, []string{"Last-Modified", "0"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, rfc9111.ConfirmedBy(c.v, header(c.h...)))
		})
	}
	assert.True(t, rfc9111.ConfirmedBy(both, nil))
}

func TestRFC9111_4_3_5_HeadContradicts(t *testing.T) {
	date, other := httpDate(noon), httpDate(noon.Add(-time.Second))
	both := rfc9111.Validators{ETag: `"a"`, LastModified: date}
	for name, c := range map[string]struct {
		v      rfc9111.Validators
		length int64
		head   []string
		want   bool
	}{
		"nothing":                     {both, 10, nil, false},
		"all the same":                {both, 10, []string{"Etag", `"a"`, "Last-Modified", date, "Content-Length", "10"}, false},
		"another tag":                 {both, 10, []string{"Etag", `"b"`, "Last-Modified", date}, true},
		"a weak one":                  {both, 10, []string{"Etag", `W/"a"`}, false},
		"another date":                {both, 10, []string{"Etag", `"a"`, "Last-Modified", other}, true},
		"a new tag":                   {rfc9111.Validators{LastModified: date}, 10, []string{"Etag", `"a"`}, true},
		"a new date":                  {rfc9111.Validators{ETag: `"a"`}, 10, []string{"Last-Modified", date}, true},
		"unreadable, and we had one":  {both, 10, []string{"Etag", "a"}, true},
		"unreadable, and we had none": {rfc9111.Validators{}, 10, []string{"Etag", "a", "Last-Modified", "0"}, false},
		"another length":              {both, 10, []string{"Content-Length", "11"}, true},
		"a length in odd spelling":    {both, 10, []string{"content-length", "11"}, true},
		"length zero":                 {both, 0, []string{"Content-Length", "0"}, false},
		"not of length zero":          {both, 0, []string{"Content-Length", "1"}, true},
		"lengths alike":               {both, 10, []string{"Content-Length", "10", "Content-Length", "10"}, false},
		"lengths that differ":         {both, 10, []string{"Content-Length", "10", "Content-Length", "11"}, true},
		"unreadable length":           {both, 10, []string{"Content-Length", "ten"}, true},
		"signed length":               {both, 10, []string{"Content-Length", "+10"}, true},
		"huge length":                 {both, 10, []string{"Content-Length", "99999999999999999999"}, true},
		"length unknown":              {both, -1, []string{"Content-Length", "11"}, false},
		"of another coding":           {both, 10, []string{"Content-Length", "5", "Content-Encoding", "gzip"}, false},
		"of no coding":                {both, 10, []string{"Content-Length", "5", "Content-Encoding", ""}, true},
		"coding, another tag":         {both, 10, []string{"Etag", `"b"`, "Content-Encoding", "gzip"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, c.want, rfc9111.HeadContradicts(c.v, c.length, header(c.head...)))
		})
	}
}

func TestRFC9111_3_2_UpdateHeader(t *testing.T) {
	stored := header(
		"Cache-Control", "max-age=1", "Cache-Control", "public", "Date", "then", "Age", "7", "age", "8", "Warning", "110",
		"Etag", `"a"`, "Last-Modified", "a", "Content-Type", "text/html", "Content-Length", "10", "content-encoding", "gzip", "Content-Range", "x",
		"X-Kept", "1", "x-kept-too", "1", "x-old-spelling", "1", "X-New-Spelling", "1", "X-Empty", "1", "X-Named", "stored",
		"Content-Language", "de", "Set-Cookie", "a=1",
	)
	update := header(
		"Cache-Control", "max-age=60", "Etag", `W/"a"`, "Last-Modified", "b", "Content-Type", "text/plain", "content-length", "0",
		"Content-Encoding", "br", "Content-Range", "y", "Content-Language", "en", "Content-Security-Policy", "x", "Expires", "later",
		"X-Old-Spelling", "2", "x-new-spelling", "2", "X-Added", "1", "X-Added", "2", "warning", "110", "Set-Cookie", "b=1", "Set-Cookie", "c=1",
		"Connection", "close, X-Named", "X-Named", "update", "Keep-Alive", "1", "Transfer-Encoding", "chunked", "Proxy-Authenticate", "x",
		http.TrailerPrefix+"X-Sum", "1",
	)
	update["X-Empty"] = nil // is not sent
	storedBefore, updateBefore := stored.Clone(), update.Clone()

	want := header(
		"Cache-Control", "max-age=60", "Etag", `"a"`, "Last-Modified", "b", "Content-Type", "text/html", "Content-Length", "10",
		"content-encoding", "gzip", "Content-Range", "x", "X-Kept", "1", "x-kept-too", "1", "X-Old-Spelling", "2", "X-New-Spelling", "2",
		"X-Empty", "1", "X-Named", "stored", "Content-Language", "en", "Content-Security-Policy", "x", "Expires", "later",
		"X-Added", "1", "X-Added", "2", "Set-Cookie", "b=1", "Set-Cookie", "c=1",
	)
	got := rfc9111.UpdateHeader(stored, update)
	assert.Equal(t, want, got)

	for _, lines := range got {
		lines[0] = "changed"
	}
	assert.Equal(t, storedBefore, stored, "the arguments are shared")
	assert.Equal(t, updateBefore, update, "the arguments are shared")

	assert.Equal(t, header("Date", "now", "Age", "0"), rfc9111.UpdateHeader(header("Date", "then", "date", "then", "Age", "7"), header("date", "now", "AGE", "0")))
	assert.Equal(t, http.Header{}, rfc9111.UpdateHeader(header("Date", "then", "Age", "7"), nil), "a 304 without Date was made when it was received")
	assert.Equal(t, http.Header{}, rfc9111.UpdateHeader(nil, header("Etag", `"a"`)), "the entity tag is that of the stored bytes")
	assert.Equal(t, header("A", "1", "A", "2"), rfc9111.UpdateHeader(nil, header("A", "1", "a", "2")))
}

func drawHeader(t *rapid.T, label string) http.Header {
	names := []string{
		"A", "a", "b", "B", "Etag", "ETag", "Date", "age", "Warning", "Content-Length", "content-type", "Content-Encoding", "Content-Range",
		"Connection", "Keep-Alive", "Cache-Control", "Vary", http.TrailerPrefix + "A", "bad name",
	}
	return rapid.MapOfN(rapid.SampledFrom(names), rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2", "a", "B, etag"}), 0, 2), 0, 6).Draw(t, label)
}

func TestRFC9111_3_2_UpdatesAreIdempotent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stored, update := drawHeader(t, "stored"), drawHeader(t, "update")
		storedBefore, updateBefore := maps.Clone(stored), maps.Clone(update)
		once := rfc9111.UpdateHeader(stored, update)
		if !maps.EqualFunc(stored, storedBefore, slices.Equal) || !maps.EqualFunc(update, updateBefore, slices.Equal) {
			t.Fatalf("arguments changed: %v, %v", stored, update)
		}
		twice := rfc9111.UpdateHeader(once, update)
		if !maps.EqualFunc(once, twice, slices.Equal) {
			t.Fatalf("%v, then %v", once, twice)
		}
		for key := range once {
			switch {
			case strings.EqualFold(key, "Connection"), strings.EqualFold(key, "Keep-Alive"), strings.EqualFold(key, "Warning"), strings.HasPrefix(key, http.TrailerPrefix):
				t.Fatalf("%q: %v", key, once)
			case strings.HasPrefix(strings.ToLower(key), "content-"):
				if !slices.Equal(once[key], stored[key]) {
					t.Fatalf("%q is not the stored one: %v", key, once)
				}
			}
		}
	})
}

func FuzzConfirmedBy(f *testing.F) {
	for _, s := range []string{"", `"a"`, `W/"a"`, `"b"`, "a", `"a", "b"`} {
		f.Add(s, httpDate(noon), `"a"`, httpDate(noon))
	}
	f.Add("", "0", "", "Sat Mar 14 12:00:00 2026")
	f.Fuzz(func(t *testing.T, tag, date, newTag, newDate string) {
		stored, update := header("Etag", tag, "Last-Modified", date), header("Etag", newTag, "Last-Modified", newDate)
		v, w := rfc9111.ValidatorsOf(stored), rfc9111.ValidatorsOf(update)
		if strings.ContainsAny(v.ETag+v.LastModified, "\r\n") {
			t.Fatalf("%q", v)
		}
		if !v.Empty() && strings.HasPrefix(v.ETag, `"`) && !rfc9111.ConfirmedBy(v, stored) {
			t.Fatalf("%q does not confirm itself", v)
		}
		confirmed := rfc9111.ConfirmedBy(v, update)
		if confirmed && w.ETag != "" && strings.TrimPrefix(v.ETag, "W/") != strings.TrimPrefix(w.ETag, "W/") {
			t.Fatalf("%q confirms %q", w, v)
		}
		if !confirmed && rfc9111.ConfirmedBy(v, nil) && !rfc9111.HeadContradicts(v, -1, update) {
			t.Fatalf("%q does not confirm %q, and does not contradict it", w, v)
		}
		// What was confirmed is so again, by the header it leads to.
		if confirmed {
			updated := rfc9111.ValidatorsOf(rfc9111.UpdateHeader(stored, update))
			if !rfc9111.ConfirmedBy(updated, update) {
				t.Fatalf("%q, then %q, then not %q", v, w, updated)
			}
		}
	})
}
