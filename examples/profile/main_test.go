package main

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is when everything happens in these tests.
func noon() time.Time { return time.Date(2030, time.May, 4, 12, 0, 0, 0, time.UTC) }

// town is the site without a cache, on data whose queries take no time.
func town() http.Handler {
	return site(Sample(func(context.Context) {}, noon), noon, slog.New(slog.DiscardHandler))
}

func get(h http.Handler, target string) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
	return w.Result()
}

func post(h http.Handler, target string, form url.Values, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func body(t *testing.T, res *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	return string(text)
}

func isHit(res *http.Response) bool {
	return strings.Contains(res.Header.Get("Cache-Status"), "; hit")
}

// everything has all pages that are kept.
func everything() []string {
	paths := []string{"/"}
	for _, id := range []string{"42", "7", "23", "11", "3"} {
		paths = append(paths, "/people/"+id, "/people/"+id+"/photo.svg", "/people/"+id+"/friends")
	}
	return paths
}

// The point of the example: a change strikes exactly the pages that show what
// has changed. The pages do not know each other; the data layer alone has
// named what it read.
func TestChangeStrikesWhatShowsIt(t *testing.T) {
	friendsPages := []string{"/people/42/friends", "/people/7/friends", "/people/23/friends", "/people/11/friends", "/people/3/friends"}
	for _, test := range []struct {
		name   string
		path   string
		form   url.Values
		struck []string
	}{
		{
			"a status is shown by friends", "/people/42/status", url.Values{"status": {"Gone fishing"}},
			[]string{"/", "/people/42", "/people/7", "/people/23"},
		}, {
			"at the edge of town", "/people/3/status", url.Values{"status": {"Pruning"}},
			[]string{"/", "/people/3", "/people/11"},
		}, {
			"a name is on every list of people", "/people/3/profile", url.Values{"name": {"Nell"}, "street": {"Orchard"}, "about": {"Apples"}},
			append([]string{"/", "/people/3", "/people/11"}, friendsPages...),
		}, {
			"a portrait is a page of its own", "/people/42/photo", url.Values{"caption": {"On the pier"}},
			[]string{"/people/42", "/people/42/photo.svg"},
		}, {
			"a friendship is on two pages", "/people/42/friends", url.Values{"friend": {"3"}},
			[]string{"/people/42", "/people/3", "/people/42/friends", "/people/3/friends"},
		}, {
			"a guestbook is on one", "/people/7/guestbook", url.Values{"name": {"Zoë"}, "message": {"Hello"}},
			[]string{"/people/7"},
		}, {
			"badges too", "/people/7/badges", url.Values{"badge": {"Gardener"}},
			[]string{"/people/7"},
		}, {
			"what is refused strikes nothing", "/people/7/status", url.Values{"status": {" "}},
			nil,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			cache := accel.New(town(), memstore.New())
			defer func() { assert.NoError(t, cache.Close()) }()
			before := make(map[string]string)
			for _, path := range everything() {
				res := get(cache, path)
				require.Equal(t, http.StatusOK, res.StatusCode, path)
				assert.Contains(t, res.Header.Get("Cache-Status"), "Accelerator; fwd=", path)
				before[path] = body(t, res)
			}
			for _, path := range everything() {
				res := get(cache, path)
				assert.True(t, isHit(res), "%s: %s", path, res.Header.Get("Cache-Status"))
				assert.True(t, before[path] == body(t, res), "%s from the cache differs", path)
			}

			res := post(cache, test.path, test.form)
			if test.struck == nil {
				assert.Equal(t, http.StatusBadRequest, res.StatusCode)
			} else {
				assert.Equal(t, http.StatusSeeOther, res.StatusCode)
				assert.Equal(t, test.path[:strings.LastIndex(test.path, "/")], res.Header.Get("Location"))
			}

			for _, path := range everything() {
				res := get(cache, path)
				assert.Equal(t, !slices.Contains(test.struck, path), isHit(res), "%s: %s", path, res.Header.Get("Cache-Status"))
			}
		})
	}
}

// One walks through the site as a person would, and sees the change at once.
func TestForms(t *testing.T) {
	cache := accel.New(town(), memstore.New())
	defer func() { assert.NoError(t, cache.Close()) }()
	for _, test := range []struct {
		source string
		form   url.Values
		shown  string
	}{
		{"status", url.Values{"status": {"  Gone \n fishing "}}, `<p class="says">Gone fishing <time`},
		{"profile", url.Values{"name": {"Mira <b>"}, "street": {"A & B"}, "about": {"x\r\ny"}}, "<h1>Mira &lt;b&gt;</h1>"},
		{"photo", url.Values{"caption": {"On the pier"}}, "<figcaption>On the pier</figcaption>"},
		{"friends", url.Values{"friend": {"11"}}, "Tomás Herrera"},
		{"guestbook", url.Values{"name": {"<script>alert(1)</script>"}, "message": {`"><img src=x onerror=alert(2)>`}}, "<strong>&lt;script&gt;alert(1)&lt;/script&gt;</strong>"},
		{"badges", url.Values{"badge": {"Baker"}}, "<li>Baker</li>"},
	} {
		old := body(t, get(cache, "/people/42"))
		assert.False(t, strings.Contains(old, test.shown), test.source)
		res := post(cache, "/people/42/"+test.source, test.form)
		require.Equal(t, http.StatusSeeOther, res.StatusCode, test.source)
		page := body(t, get(cache, res.Header.Get("Location")))
		assert.True(t, strings.Contains(page, test.shown), "%s is not shown", test.source)
		assert.False(t, strings.Contains(page, "<script") || strings.Contains(page, "<img src=x"), "%s is not escaped", test.source)
	}
	// What can be turned on can be turned off.
	post(cache, "/people/42/friends", url.Values{"friend": {"11"}})
	post(cache, "/people/42/badges", url.Values{"badge": {"Baker"}})
	page := body(t, get(cache, "/people/42"))
	assert.False(t, strings.Contains(page, "Tomás Herrera"))
	assert.False(t, strings.Contains(page, "<li>Baker</li>"))
}

func TestRefusals(t *testing.T) {
	h := town()
	for _, test := range []struct {
		path   string
		form   url.Values
		status int
		text   string
	}{
		{"/people/42/status", nil, 400, "The status is empty."},
		{"/people/42/status", url.Values{"status": {strings.Repeat("é", maxStatus+1)}}, 400, "The status has 141 characters; it may have 140."},
		{"/people/42/status", url.Values{"status": {"a\x00b"}}, 400, "not text"},
		{"/people/42/status", url.Values{"status": {"a\xffb"}}, 400, "not text"},
		{"/people/42/status", url.Values{"status": {strings.Repeat("a", 20<<10)}}, 400, "too long"},
		{"/people/42/profile", url.Values{"name": {"A"}, "about": {"B"}}, 400, "The street is empty."},
		{"/people/42/photo", url.Values{"caption": {strings.Repeat("a", maxCaption+1)}}, 400, "The caption has 81"},
		{"/people/42/friends", url.Values{"friend": {"42"}}, 400, "one of the others"},
		{"/people/42/friends", url.Values{"friend": {"nobody"}}, 400, "one of the others"},
		{"/people/42/guestbook", url.Values{"name": {"A"}}, 400, "The message is empty."},
		{"/people/42/badges", url.Values{"badge": {"King"}}, 400, "one of the badges"},
		{"/people/42/nothing", nil, 404, "no such form"},
		{"/people/99/status", url.Values{"status": {"Hello"}}, 404, "no such person"},
	} {
		res := post(h, test.path, test.form)
		assert.Equal(t, test.status, res.StatusCode, test.path)
		assert.True(t, strings.Contains(body(t, res), test.text), "%s does not say %q", test.path, test.text)
	}
	for _, path := range []string{"/people/99", "/people/99/photo.svg", "/people/99/friends", "/people/", "/nothing"} {
		assert.Equal(t, http.StatusNotFound, get(h, path).StatusCode, path)
	}
	assert.Equal(t, http.StatusSeeOther, post(h, "/people/42/status", url.Values{"status": {strings.Repeat("é", maxStatus)}}).StatusCode)
}

// A form on another site changes nothing.
func TestCrossOrigin(t *testing.T) {
	h := town()
	form := url.Values{"status": {"Owned"}}
	assert.Equal(t, http.StatusForbidden, post(h, "/people/42/status", form, "Sec-Fetch-Site", "cross-site").StatusCode)
	assert.Equal(t, http.StatusForbidden, post(h, "/people/42/status", form, "Origin", "https://evil.example").StatusCode)
	assert.False(t, strings.Contains(body(t, get(h, "/people/42")), "Owned"))
	assert.Equal(t, http.StatusSeeOther, post(h, "/people/42/status", form, "Sec-Fetch-Site", "same-origin").StatusCode)
}

// The strip tells the truth about the copy, also when the copy is old.
func TestStripAndRenders(t *testing.T) {
	cache := accel.New(town(), memstore.New())
	defer func() { assert.NoError(t, cache.Close()) }()
	page := body(t, get(cache, "/people/42"))
	assert.True(t, strings.Contains(page, "rendering no. <strong>1</strong>"))
	for _, tag := range []string{"profile:42", "photo:42", "status:42", "friends:42", "guestbook:42", "badges:42", "status:7", "profile:23"} {
		assert.True(t, strings.Contains(page, "<li>"+tag+"</li>"), tag)
	}
	assert.False(t, strings.Contains(page, "<li>status:11</li>"))

	get(cache, "/people/42")
	post(cache, "/people/7/status", url.Values{"status": {"Asleep"}})
	get(cache, "/people/42")
	for range 2 {
		res := get(cache, "/renders")
		assert.False(t, isHit(res))
		text := body(t, res)
		assert.True(t, strings.Contains(text, `<a href="/people/42">/people/42</a></td><td class="number">2</td>`))
		assert.True(t, strings.Contains(text, `<strong>changed</strong>`))
	}
}

func TestPortraits(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(20) {
		drawn := string(portrait(Photo{Seed: seed}))
		assert.Equal(t, drawn, string(portrait(Photo{Seed: seed, Caption: "other"})))
		assert.NotContains(t, drawn, "%!")
		seen[drawn] = true
	}
	assert.Len(t, seen, 20)
	res := get(town(), "/people/42/photo.svg")
	assert.Equal(t, "image/svg+xml", res.Header.Get("Content-Type"))
}

// The people are as they were at every start, so nothing older may be served.
func TestRestart(t *testing.T) {
	db := filepath.Join(t.TempDir(), "cache.db")
	for range 2 {
		serving(t, []string{"-db", db}, func(base string) {
			res, err := http.Get(base + "/people/3")
			require.NoError(t, err)
			defer res.Body.Close()
			assert.False(t, isHit(res), res.Header.Get("Cache-Status"))
			assert.True(t, strings.Contains(body(t, res), "Apples! Bring baskets."))
			res, err = http.PostForm(base+"/people/3/status", url.Values{"status": {"All gone"}})
			require.NoError(t, err)
			defer res.Body.Close()
			assert.True(t, strings.Contains(body(t, res), "All gone"))
		})
	}
	serving(t, nil, func(string) {})
}

// serving runs the program as it is run from a terminal.
func serving(t *testing.T, args []string, do func(base string)) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, screen := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := run(ctx, append(args, "-addr", "localhost:0"), screen)
		screen.CloseWithError(err)
		ended <- err
	}()
	var seen []byte
	address := regexp.MustCompile(`at home at (http://\S+)/\n`)
	for !address.Match(seen) {
		piece := make([]byte, 4096)
		n, err := out.Read(piece)
		require.NoError(t, err, "%s", seen)
		seen = append(seen, piece[:n]...)
	}
	drained := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, out); close(drained) }()
	do(string(address.FindSubmatch(seen)[1]))
	http.DefaultClient.CloseIdleConnections()
	stop()
	assert.NoError(t, <-ended)
	<-drained
}

func TestRunRefuses(t *testing.T) {
	assert.ErrorIs(t, run(t.Context(), []string{"-h"}, io.Discard), flag.ErrHelp)
	assert.Error(t, run(t.Context(), []string{"-unknown"}, io.Discard))
	assert.Error(t, run(t.Context(), []string{"extra"}, io.Discard))
	assert.ErrorContains(t, run(t.Context(), []string{"-addr", "localhost:99999"}, io.Discard), "-addr")
}
