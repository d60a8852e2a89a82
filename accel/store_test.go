package accel_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/memstore"
)

// Each reason for which a response is not stored, as Cache-Status says it.
func TestNotStored(t *testing.T) {
	set := func(name string, values ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			w.Header()[name] = values
			_, _ = io.WriteString(w, "x")
		}
	}
	tags := func(tags ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.WriteString(w, "x")
			accel.Tag(r.Context(), tags...) // after the header, as the data layer may
		}
	}
	many := func(n int) (tags []string) {
		for i := range n {
			tags = append(tags, fmt.Sprint(i), fmt.Sprint(i))
		}
		return tags
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		reason  string
	}{
		"not asked": {func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "x") }, "not-opted-in"},
		"max-age alone": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "max-age=60")
			w.WriteHeader(200)
		}, "not-opted-in"},
		"vary star":         {set("Vary", "Accept, *"), "vary-star"},
		"vary auth":         {set("Vary", "Authorization"), "vary-authorization"},
		"partial":           {set("Content-Range", "bytes 0-0/2"), "partial"},
		"header too large":  {set("X-Big", strings.Repeat("x", 33<<10)), "header-too-large"},
		"two codings":       {set("Content-Encoding", "gzip, br"), "content-encoding"},
		"empty tag":         {tags("a", ""), "invalid-tag"},
		"long tag":          {tags(strings.Repeat("x", 257)), "invalid-tag"},
		"control in tag":    {tags("a\r\nSet-Cookie: x"), "invalid-tag"},
		"DEL in tag":        {tags("a\x7f"), "invalid-tag"},
		"C1 in tag":         {tags("a\u0085"), "invalid-tag"},
		"tag not UTF-8":     {tags("a\xff"), "invalid-tag"},
		"129 tags":          {tags(many(129)...), "too-many-tags"},
		"128 tags":          {tags(many(128)...), ""},
		"long enough tag":   {tags(strings.Repeat("x", 256)), ""},
		"tag in any script": {tags("benutzer:Jürgen Groß", "数据"), ""},
		"veto": {func(w http.ResponseWriter, r *http.Request) {
			accel.CacheFor(r.Context(), time.Hour)
			_, _ = io.WriteString(w, "x")
			accel.NoStore(r.Context())
		}, "vetoed"},
		"cookie allowed": {set("X-Fine", "1"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCache(t, test.handler)
			want := "fwd=uri-miss; detail=" + test.reason
			if test.reason == "" {
				want = "fwd=uri-miss; stored"
			}
			expect(t, get(c, "/"), want)
			if test.reason != "" {
				equal(t, "counter", c.Stats().NotStored[test.reason], 1)
				expect(t, get(c, "/"), want)
			} else {
				expect(t, get(c, "/"), "hit")
			}
		})
	}
}

// OptIn: by header, only what speaks to shared caches, below 400.
func TestOptInByHeader(t *testing.T) {
	for _, test := range []struct {
		cc     string
		status int
		stored bool
	}{
		{"public, max-age=60", 200, true}, {"s-maxage=60", 200, true}, {"s-maxage=60", 404, false},
		{"public, max-age=60", 301, true}, {"max-age=60", 200, false}, {"public", 200, false},
	} {
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", test.cc)
			w.WriteHeader(test.status)
		})
		get(c, "/")
		equal(t, fmt.Sprint("stored ", test), status(get(c, "/")) == "hit", test.stored)
	}
}

func TestWithUncacheableHeaders(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("X-Session", "1")
		_, _ = io.WriteString(w, "x")
	}
	c := newCache(t, h, accel.WithUncacheableHeaders())
	get(c, "/")
	res := get(c, "/")
	expect(t, res, "hit")
	equal(t, "Set-Cookie", res.Header.Get("Set-Cookie"), "a=b")
	expect(t, get(newCache(t, h, accel.WithUncacheableHeaders("x-session")), "/"), "fwd=uri-miss; detail=uncacheable-header")
}

func TestPolicyRFC9111(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", r.URL.Query().Get("cc"))
		_, _ = io.WriteString(w, "x")
	}, accel.WithPolicy(accel.RFC9111))
	for cc, want := range map[string]string{"max-age=60": "hit", "no-cache,max-age=60": "fwd=uri-miss; detail=no-cache"} {
		get(c, "/?cc="+cc)
		expect(t, get(c, "/?cc="+cc), want)
	}
}

// WithMaxBody and WithHoldLimit: a body at the limit, and one byte above.
func TestLimits(t *testing.T) {
	n := 0
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		_, _ = io.WriteString(w, strings.Repeat("x", n))
	}, accel.WithMaxBody(100), accel.WithHoldLimit(50))
	for _, test := range []struct {
		n    int
		want string
	}{{50, "fwd=uri-miss; stored"}, {51, "fwd=uri-miss"}, {100, "fwd=uri-miss"}, {101, "fwd=uri-miss; detail=too-large"}} {
		n = test.n
		target := fmt.Sprint("/", n)
		res := get(c, target)
		expect(t, res, test.want)
		equal(t, "length", len(body(t, res)), n)
		equal(t, "stored", status(get(c, target)) == "hit", n <= 100)
	}
}

func TestInvalidateURL(t *testing.T) {
	h, _ := page(func(*http.Request) string { return "x" })
	c := newCache(t, h)
	targets := []string{"http://a.example/x?y=z", "http://b.example/x?y=z", "http://a.example:80/x?y=z", "http://a.example/", "http://a.example/x%2Fy", "http://a.example/x"}
	for _, test := range []struct {
		url     string
		strikes []int
	}{
		{"http://a.example/x?y=z", []int{0, 2}},
		{"HTTP://A.Example/x?y=z", []int{0, 2}},
		{"/x?y=z", []int{0, 1, 2}},
		{"http://a.example:80/x?y=z", []int{0, 2}},
		{"https://a.example/x?y=z", nil},
		{"http://a.example", []int{3}},
		{"/x%2Fy", []int{4}},
		{"/x%2fy", nil},
		{"/x", []int{5}},
	} {
		for _, target := range targets {
			get(c, target)
		}
		if err := c.InvalidateURL(t.Context(), test.url); err != nil {
			t.Errorf("%s: %v", test.url, err)
		}
		for i, target := range targets {
			if struck := status(get(c, target)) != "hit"; struck != slices.Contains(test.strikes, i) {
				t.Errorf("%s strikes %s: %v", test.url, target, struck)
			}
		}
	}
	for _, bad := range []string{
		"", "x", "a.example/x", "ftp://a.example/x", "http://", "http:///x", "http://u@a.example/", "/x#y",
		"http://a.example/x#y", "http://a example/", "/a\n", "/%zz", "//", "mailto:x", "http://a.example:x/",
	} {
		err := c.InvalidateURL(t.Context(), "/ok", bad)
		if bad == "//" { // an odd target, but one
			equal(t, "error", err, nil)
			continue
		}
		if !errors.Is(err, accel.ErrInvalidURL) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestInvalidateAllVariants(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		w.Header().Set("Vary", "Accept-Language")
		_, _ = io.WriteString(w, "x")
	})
	fill := func() {
		for _, l := range []string{"de", "en"} {
			get(c, "/", "Accept-Language", l)
			get(c, "/", "Accept-Language", l, "X-Forwarded-Proto", "https")
		}
	}
	for _, purge := range []func() error{
		func() error { return c.InvalidateURL(t.Context(), "/") },
		func() error { return c.InvalidateURL(t.Context(), "http://example.com/") },
		func() error { return c.InvalidateAll(t.Context()) },
	} {
		fill()
		if err := purge(); err != nil {
			t.Fatal(err)
		}
		for _, l := range []string{"de", "en"} {
			for _, header := range [][]string{{"Accept-Language", l}, {"Accept-Language", l, "X-Forwarded-Proto", "https"}} {
				if s := status(get(c, "/", header...)); s == "hit" {
					t.Errorf("%v is still there", header)
				}
			}
		}
	}
}

// If one tag is invalid, nothing is invalidated.
func TestInvalidateTagChecksFirst(t *testing.T) {
	c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "good")
		_, _ = io.WriteString(w, "x")
	})
	get(c, "/")
	for _, f := range []func(context.Context, ...string) error{c.InvalidateTag, c.ExpireTag} {
		if err := f(t.Context(), "good", "bad\n"); !errors.Is(err, accel.ErrInvalidTag) {
			t.Errorf("error: %v", err)
		}
		if err := f(t.Context()); err != nil {
			t.Error(err)
		}
	}
	expect(t, get(c, "/"), "hit")
}

// A broken store is a store that fails where it is told to.
type broken struct {
	accel.Store
	get, put, invalidate error
	change               func(*accel.Found)
}

func (b *broken) Get(ctx context.Context, k accel.Key, vary []string) (accel.Found, error) {
	if b.get != nil {
		return accel.Found{}, b.get
	}
	f, err := b.Store.Get(ctx, k, vary)
	if b.change != nil {
		b.change(&f)
	}
	return f, err
}

func (b *broken) Put(e, old *accel.Entry) error {
	if b.put != nil {
		return b.put
	}
	return b.Store.Put(e, old)
}

func (b *broken) Invalidate(ctx context.Context, marks ...accel.Mark) error {
	if b.invalidate != nil {
		return b.invalidate
	}
	return b.Store.Invalidate(ctx, marks...)
}

// Design, section 6: a store error is a miss, counted, logged once.
func TestStoreFails(t *testing.T) {
	for _, err := range []error{accel.ErrUnavailable, accel.ErrBusy, accel.ErrTooLarge, accel.ErrClosed, accel.ErrInvalidated, errors.New("disk on fire")} {
		t.Run(err.Error(), func(t *testing.T) {
			var log strings.Builder
			var mu sync.Mutex
			logger := slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))
			b := &broken{Store: newStore(t)}
			h, _ := page(func(*http.Request) string { return text })
			c := newCacheOver(t, b, h, accel.WithLogger(logger))

			b.put = err
			for range 3 {
				res := get(c, "/", "Accept-Encoding", "gzip")
				equal(t, "body", decoded(t, res), text)
				if s := status(res); s == "hit" || strings.Contains(s, "stored") || !strings.Contains(s, "detail=") {
					t.Errorf("Cache-Status: %s", s)
				}
			}
			b.put = nil
			get(c, "/")
			expect(t, get(c, "/"), "hit")
			b.get = fmt.Errorf("wrapped: %w", err)
			for range 3 {
				equal(t, "body", body(t, get(c, "/")), text)
			}
			if n := strings.Count(log.String(), "\n"); n > 2 {
				t.Errorf("%d lines in the log:\n%s", n, log.String())
			}
			if c.Stats().StoreErrors < 6 {
				t.Errorf("%d store errors counted", c.Stats().StoreErrors)
			}
		})
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

func TestInvalidationErrorsAreReturned(t *testing.T) {
	b := &broken{Store: newStore(t), invalidate: accel.ErrNotDurable}
	h, _ := page(func(*http.Request) string { return "x" })
	c := newCacheOver(t, b, h)
	for _, err := range []error{
		c.InvalidateTag(t.Context(), "x"), c.InvalidateURL(t.Context(), "/"), c.InvalidateAll(t.Context()),
	} {
		if !errors.Is(err, accel.ErrNotDurable) {
			t.Errorf("error: %v", err)
		}
	}
}

// What a store is given is a whole entry.
func TestEntry(t *testing.T) {
	k := newClock()
	b := &keeper{Store: memstore.New(memstore.WithClock(k.now))}
	c := newCacheOver(t, b, func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Minute, accel.StaleWhileRevalidate(time.Hour), accel.StaleIfError(2*time.Hour))
		accel.Tag(r.Context(), "b", "a", "b")
		w.Header().Set("Vary", "Accept-Language")
		w.Header().Set("X-Foo", "1")
		_, _ = io.WriteString(w, text)
	}, accel.WithClock(k.now))
	get(c, "http://Example.com/a?b", "Accept-Language", "de")
	e := b.last
	equal(t, "URL", e.URL(), "http://example.com/a?b")
	equal(t, "tags", fmt.Sprint(e.Tags), "[b a]")
	url := accel.URLMark("http", "example.com", "/a?b")
	want := []accel.Hash{url.Hash, accel.TargetMark("/a?b").Hash, accel.TagMark("b").Hash, accel.TagMark("a").Hash}
	equal(t, "marks", fmt.Sprint(e.Marks), fmt.Sprint(want))
	equal(t, "target", e.Key.Target, want[1])
	equal(t, "Vary", fmt.Sprint(e.Vary), "[Accept-Language]")
	equal(t, "length", e.Length, int64(len(text)))
	equal(t, "fresh until", e.FreshUntil, k.now().Add(time.Minute))
	equal(t, "keep until", e.KeepUntil, k.now().Add(time.Minute+2*time.Hour))
	equal(t, "by handler", e.ByHandler, true)
	equal(t, "header", fmt.Sprint(e.Header), "[{Content-Type [text/html; charset=utf-8]} {Vary [Accept-Language]} {X-Foo [1]}]")
	var codings []string
	for _, b := range e.Bodies {
		codings = append(codings, b.Coding)
	}
	equal(t, "codings", fmt.Sprint(codings), "[zstd gzip]")
	equal(t, "an entry that is not ours", (&accel.Entry{Resource: "\x01\xff"}).URL(), "")
	c.InvalidateAll(t.Context())
}

type keeper struct {
	accel.Store
	last *accel.Entry
}

func (k *keeper) Put(e, old *accel.Entry) error {
	k.last = e
	return k.Store.Put(e, old)
}

func TestNewPanicsWithoutStore(t *testing.T) {
	defer func() { equal(t, "panic", recover(), "accel: New: nil store") }()
	accel.New(nil, nil)
}

var registerOnce sync.Once

func TestNilNextIsDefaultServeMux(t *testing.T) {
	registerOnce.Do(func() {
		http.HandleFunc("/default-mux-of-the-test", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "mux") })
	})
	c := newCache(t, nil)
	equal(t, "body", body(t, get(accel.New(nil, memstoreOf(t)), "/default-mux-of-the-test")), "mux")
	equal(t, "body", body(t, get(c.Wrap(nil), "/default-mux-of-the-test")), "mux")
}

func memstoreOf(t *testing.T) accel.Store {
	s := newStore(t)
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// Close during requests on their way, twice, and requests after it.
func TestClose(t *testing.T) {
	h, _ := page(func(*http.Request) string { return text })
	// Not newCache: positions that are held when the store is closed stay counted.
	c := accel.New(h, newStore(t), accel.WithLogger(quiet))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				equal(t, "body", body(t, get(c, fmt.Sprintf("/%d/%d", i, j%5))), text)
			}
		})
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	equal(t, "Cache-Status after Close", get(c, "/").Header.Get("Cache-Status"), "")
	if err := c.InvalidateTag(t.Context(), "x"); !errors.Is(err, accel.ErrClosed) {
		t.Errorf("error after Close: %v", err)
	}
}
