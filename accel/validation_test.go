package accel_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// A validating handler has one page in versions, speaks HTTP caching and nothing
// of ours.
type validating struct {
	mu      sync.Mutex
	version int
	header  map[string]string              // of every response
	confirm map[string]string              // of a 304, beside that
	during  func(r *http.Request)          // runs inside
	asked   []http.Header                  // the requests
	reply   func(http.ResponseWriter) bool // replies in place of the handler, if it returns true
}

func (v *validating) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, r.Header)
	if v.during != nil {
		v.during(r)
	}
	if v.reply != nil && v.reply(w) {
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "max-age=60")
	h.Set("Etag", fmt.Sprintf(`"v%d"`, v.version))
	for name, value := range v.header {
		h.Set(name, value)
	}
	if r.Header.Get("If-None-Match") == h.Get("Etag") {
		for name, value := range v.confirm {
			h.Set(name, value)
		}
		w.WriteHeader(http.StatusNotModified)
		return
	}
	fmt.Fprintf(w, "version %d %s", v.version, text)
}

func (v *validating) calls() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.asked)
}

func newValidating(t *testing.T, opts ...accel.Option) (*validating, *accel.Cache, *clock) {
	v, clk := &validating{version: 1}, newClock()
	opts = append([]accel.Option{accel.WithPolicy(accel.RFC9111), accel.WithClock(clk.now)}, opts...)
	return v, newCache(t, v.ServeHTTP, opts...), clk
}

// RFC 9111, section 4.3: what is stale is asked about, and a 304 makes it fresh
// for those who come later, too.
func TestValidation(t *testing.T) {
	v, c, clk := newValidating(t)
	v.header = map[string]string{"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "X-Old": "1"}
	v.confirm = map[string]string{"X-New": "2", "Content-Type": "application/x-wrong", "Content-Encoding": "br", "Content-Length": "7"}
	first := get(c, "/", "Accept-Encoding", "gzip")
	expect(t, first, "fwd=uri-miss; stored")
	clk.add(61 * time.Second)

	// Two clients that have it, one by each validator, and one that has nothing.
	res := get(c, "/", "Accept-Encoding", "gzip", "If-None-Match", first.Header.Get("Etag"))
	expect(t, res, "fwd=stale; fwd-status=304; stored")
	equal(t, "status", res.StatusCode, http.StatusNotModified)
	equal(t, "If-None-Match", v.asked[1].Get("If-None-Match"), `"v1"`)
	equal(t, "If-Modified-Since", v.asked[1].Get("If-Modified-Since"), "Mon, 01 Jan 2024 00:00:00 GMT")

	clk.add(10 * time.Second)
	res = get(c, "/", "Accept-Encoding", "gzip")
	expect(t, res, "hit")
	equal(t, "Age", res.Header.Get("Age"), "10")
	equal(t, "X-Old", res.Header.Get("X-Old"), "1")
	equal(t, "X-New", res.Header.Get("X-New"), "2")
	equal(t, "Content-Type", res.Header.Get("Content-Type"), "text/plain; charset=utf-8")
	equal(t, "Content-Encoding", res.Header.Get("Content-Encoding"), "gzip")
	equal(t, "ETag", res.Header.Get("Etag"), `"v1-gzip"`)
	equal(t, "Date", res.Header.Get("Date"), clk.now().Add(-10*time.Second).Format(http.TimeFormat))
	if got := body(t, get(c, "/")); !strings.HasPrefix(got, "version 1 ") {
		t.Errorf("body: %.20q", got)
	}

	clk.add(61 * time.Second)
	v.version = 2
	res = get(c, "/", "Range", "bytes=0-8")
	expect(t, res, "fwd=stale; stored")
	equal(t, "body", body(t, res), "version 2")
	equal(t, "Range", v.asked[len(v.asked)-1].Get("Range"), "")
	equal(t, "calls", v.calls(), 3)
	equal(t, "renewed", c.Stats().Renewed, 1)
}

// A 304 that confirms another response than the one we have: the handler is asked
// for the whole.
func TestValidationOfAnother(t *testing.T) {
	v, c, clk := newValidating(t)
	get(c, "/")
	clk.add(61 * time.Second)
	v.reply = func(w http.ResponseWriter) bool {
		if len(v.asked) == 2 {
			w.Header().Set("Etag", `"v0"`)
			w.WriteHeader(http.StatusNotModified)
			return true
		}
		return false
	}
	v.version = 2
	res := get(c, "/")
	expect(t, res, "fwd=stale; stored")
	if got := body(t, res); !strings.HasPrefix(got, "version 2 ") {
		t.Errorf("body: %.20q", got)
	}
	equal(t, "calls", v.calls(), 3)
	equal(t, "If-None-Match", v.asked[2].Get("If-None-Match"), "")
	expect(t, get(c, "/"), "hit")
}

// Rule 6 of the promise: what was purged while the handler confirmed it is not
// renewed, and not served to anybody.
func TestValidationDuringPurge(t *testing.T) {
	v, c, clk := newValidating(t)
	v.header = map[string]string{"Surrogate-Key": "a"}
	get(c, "/")
	clk.add(61 * time.Second)
	v.during = func(*http.Request) {
		if len(v.asked) == 2 {
			if err := c.InvalidateTag(context.Background(), "a"); err != nil {
				t.Error(err)
			}
		}
	}
	res := get(c, "/")
	expect(t, res, "fwd=stale; detail=invalidated")
	equal(t, "calls", v.calls(), 3)
	equal(t, "If-None-Match", v.asked[2].Get("If-None-Match"), "")
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
}

// The tags of a renewal are those of before and those of the 304.
func TestValidationUnitesTags(t *testing.T) {
	for _, purged := range []string{"before", "confirmed"} {
		v, c, clk := newValidating(t)
		v.header = map[string]string{"Surrogate-Key": "before"}
		get(c, "/")
		clk.add(61 * time.Second)
		v.header = map[string]string{"Surrogate-Key": "confirmed"}
		expect(t, get(c, "/"), "fwd=stale; fwd-status=304; stored")
		expect(t, get(c, "/"), "hit")
		if err := c.InvalidateTag(context.Background(), purged); err != nil {
			t.Fatal(err)
		}
		expect(t, get(c, "/"), "fwd=uri-miss; stored")
	}
}

// A 304 brings no digest of what the handler sent into an entry that clients get in
// other codings.
func TestValidationBringsNoDigest(t *testing.T) {
	v, c, clock := newValidating(t)
	v.confirm = map[string]string{"Content-Digest": "sha-256=:AAAA:", "X-New": "1"}
	get(c, "/")
	clock.add(2 * time.Minute)
	get(c, "/")
	res := get(c, "/", "Accept-Encoding", "gzip")
	expect(t, res, "hit")
	equal(t, "coding", res.Header.Get("Content-Encoding"), "gzip")
	equal(t, "renewed", res.Header.Get("X-New"), "1")
	equal(t, "digest", res.Header.Get("Content-Digest"), "")
}

// A 304 may say that the response is no longer for everybody.
func TestValidationForbids(t *testing.T) {
	for name, test := range map[string]struct{ header, value, reason string }{
		"no-store":   {"Cache-Control", "no-store", "no-store"},
		"private":    {"Cache-Control", "private", "private"},
		"Set-Cookie": {"Set-Cookie", "a=b", "set-cookie"},
	} {
		t.Run(name, func(t *testing.T) {
			v, c, clk := newValidating(t)
			get(c, "/")
			clk.add(61 * time.Second)
			v.confirm = map[string]string{test.header: test.value}
			res := get(c, "/")
			expect(t, res, "fwd=stale; fwd-status=304; detail="+test.reason)
			equal(t, test.header, res.Header.Get(test.header), test.value)
			if got := body(t, res); !strings.HasPrefix(got, "version 1 ") {
				t.Errorf("body: %.20q", got)
			}
			res = get(c, "/")
			expect(t, res, "fwd=uri-miss; stored")
			equal(t, "Set-Cookie", res.Header.Get("Set-Cookie"), "")
		})
	}
}

// A 304 with another Vary says that the response is selected in another way than
// the one it is stored under.
func TestValidationChangesVary(t *testing.T) {
	v, c, clk := newValidating(t)
	get(c, "/")
	clk.add(61 * time.Second)
	v.header = map[string]string{"Vary": "Accept-Language"}
	expect(t, get(c, "/", "Accept-Language", "de"), "fwd=stale; stored")
	equal(t, "calls", v.calls(), 3)
	expect(t, get(c, "/", "Accept-Language", "de"), "hit")
	expect(t, get(c, "/", "Accept-Language", "en"), "fwd=vary-miss; stored")
}

// What must be validated before each use is nobody's but whose request it was
// validated for, and is stored all the same.
func TestNoCacheIsValidatedEachTime(t *testing.T) {
	v, c, _ := newValidating(t)
	v.header = map[string]string{"Cache-Control": "no-cache"}
	expect(t, get(c, "/"), "fwd=uri-miss; stored")
	for range 3 {
		expect(t, get(c, "/"), "fwd=stale; fwd-status=304") // nothing new to store
	}
	v.version = 2
	if got := body(t, get(c, "/")); !strings.HasPrefix(got, "version 2 ") {
		t.Errorf("body: %.20q", got)
	}
	equal(t, "calls", v.calls(), 5)
}

// Surrogate-Control is taken off what clients see and still rules after a 304
// that does not repeat it.
func TestValidationRemembersControl(t *testing.T) {
	v, c, clk := newValidating(t)
	v.header = map[string]string{"Cache-Control": "private, max-age=5", "Surrogate-Control": "max-age=600"}
	equal(t, "Surrogate-Control", get(c, "/").Header.Get("Surrogate-Control"), "")
	clk.add(601 * time.Second)
	v.header = map[string]string{"Cache-Control": "private, max-age=5"}
	expect(t, get(c, "/"), "fwd=stale; fwd-status=304; stored")
	clk.add(599 * time.Second)
	res := get(c, "/")
	expect(t, res, "hit")
	equal(t, "Cache-Control", res.Header.Get("Cache-Control"), "private, max-age=5")
}

// A store that fails at a renewal changes nothing for the client.
func TestValidationWhenTheStoreFails(t *testing.T) {
	v, clk := &validating{version: 1}, newClock()
	c := newCacheOver(t, &unrenewing{Store: newStore(t)}, v.ServeHTTP, accel.WithPolicy(accel.RFC9111), accel.WithClock(clk.now))
	get(c, "/")
	clk.add(61 * time.Second)
	res := get(c, "/")
	expect(t, res, "fwd=stale; fwd-status=304; detail=store-busy")
	if got := body(t, res); !strings.HasPrefix(got, "version 1 ") {
		t.Errorf("body: %.20q", got)
	}
}

// An unrenewing store fails at renewals.
type unrenewing struct{ accel.Store }

func (s *unrenewing) Put(e, old *accel.Entry) error {
	if old != nil {
		return accel.ErrBusy
	}
	return s.Store.Put(e, nil)
}

// A handler that fails when it is asked to confirm is a handler that fails.
func TestValidationFails(t *testing.T) {
	v, c, clk := newValidating(t)
	v.header = map[string]string{"Cache-Control": "max-age=60, stale-if-error=600"}
	get(c, "/")
	clk.add(61 * time.Second)
	v.reply = func(w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusBadGateway)
		return true
	}
	res := get(c, "/")
	expect(t, res, "fwd=stale; fwd-status=502; detail=stale-if-error")
	equal(t, "status", res.StatusCode, http.StatusOK)
	clk.add(600 * time.Second)
	equal(t, "status", get(c, "/").StatusCode, http.StatusBadGateway)

	// It is still there, to be confirmed when the handler is back.
	v.reply = nil
	expect(t, get(c, "/"), "fwd=stale; fwd-status=304; stored")
}

// RFC 9111, section 4.3.5: a HEAD may tell that a stored GET is outdated.
func TestHeadOfAnotherVersion(t *testing.T) {
	v, c, clk := newValidating(t)
	get(c, "/")
	clk.add(61 * time.Second)
	head := newRequest("/")
	head.Method = http.MethodHead
	do(c, head)
	equal(t, "entries", c.Stats().Store.Entries, 1)
	v.version = 2
	do(c, head)
	equal(t, "entries", c.Stats().Store.Entries, 0)
}

// RFC 9111, section 5.2.1: clients have a say only if the site wants it.
func TestRequestDirectives(t *testing.T) {
	for _, test := range []struct {
		name           string
		header, value  string
		age            time.Duration
		ignored, heard string
	}{
		{"no-cache", "Cache-Control", "no-cache", 0, "hit", "fwd=request; fwd-status=304; stored"},
		{"Pragma", "Pragma", "no-cache", 0, "hit", "fwd=request; fwd-status=304; stored"},
		{"max-age enough", "Cache-Control", "max-age=30", 30 * time.Second, "hit", "hit"},
		{"max-age", "Cache-Control", "max-age=30", 31 * time.Second, "hit", "fwd=request; fwd-status=304; stored"},
		{"min-fresh", "Cache-Control", "min-fresh=40", 31 * time.Second, "hit", "fwd=request; fwd-status=304; stored"},
		{"max-stale", "Cache-Control", "max-stale=10", 65 * time.Second, "fwd=stale; fwd-status=304; stored", "hit"},
		{"max-stale too little", "Cache-Control", "max-stale=1", 65 * time.Second, "fwd=stale; fwd-status=304; stored", "fwd=stale; fwd-status=304; stored"},
		{"only-if-cached", "Cache-Control", "only-if-cached", 0, "hit", "hit"},
		{"only-if-cached, stale", "Cache-Control", "only-if-cached", 61 * time.Second, "fwd=stale; fwd-status=304; stored", "detail=only-if-cached"},
		{"nothing of ours", "Cache-Control", "no-transform", 0, "hit", "hit"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for heard, want := range map[bool]string{false: test.ignored, true: test.heard} {
				var opts []accel.Option
				if heard {
					opts = append(opts, accel.WithRequestDirectives())
				}
				_, c, clk := newValidating(t, opts...)
				get(c, "/")
				clk.add(test.age)
				res := get(c, "/", test.header, test.value)
				expect(t, res, want)
				if want == "detail=only-if-cached" {
					equal(t, "status", res.StatusCode, http.StatusGatewayTimeout)
				}
			}
		})
	}
}

// Clients that ask for validation share no flight, and a no-store of theirs is
// heeded in any case.
func TestRequestDirectivesUnderCrowd(t *testing.T) {
	v, c, _ := newValidating(t, accel.WithRequestDirectives())
	expect(t, get(c, "/", "Cache-Control", "no-store"), "fwd=uri-miss; detail=request-no-store")
	get(c, "/")
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			// That others renew the entry meanwhile may keep this one's renewal out.
			status := get(c, "/", "Cache-Control", "no-cache").Header.Get("Cache-Status")
			equal(t, status, strings.Contains(status, "; fwd=") && !strings.Contains(status, "collapsed"), true)
		})
	}
	wg.Wait()
	equal(t, "calls", v.calls(), 12)
}

// RFC 9111, section 4.2.2.
func TestHeuristicFreshness(t *testing.T) {
	modified := newClock().now().Add(-100 * time.Minute).UTC().Format(http.TimeFormat)
	for _, test := range []struct {
		limit time.Duration
		fresh time.Duration
	}{{0, 0}, {time.Hour, 10 * time.Minute}, {time.Minute, time.Minute}} {
		clk := newClock()
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Last-Modified", modified)
			http.Error(w, "no such page", http.StatusNotFound)
		}, accel.WithPolicy(accel.RFC9111), accel.WithHeuristicFreshness(test.limit), accel.WithClock(clk.now))
		get(c, "/")
		clk.add(test.fresh - time.Second)
		if test.fresh > 0 {
			expect(t, get(c, "/"), "hit")
		}
		clk.add(time.Second)
		expect(t, get(c, "/"), "fwd=stale; stored")
	}
}

// RFC 9211, section 2.7, and what a site may keep to itself.
func TestCacheStatusVisibility(t *testing.T) {
	h, _ := page(func(*http.Request) string { return "x" })
	for v, want := range map[accel.Visibility][3]string{
		accel.ShowStatus: {"Accelerator; fwd=uri-miss; stored", "Accelerator; hit; ttl=3600", "Accelerator; fwd=uri-miss; detail=not-opted-in"},
		accel.ShowKey: {
			`Accelerator; fwd=uri-miss; stored; key="http://example.com/a?%FF=\\"`,
			`Accelerator; hit; ttl=3600; key="http://example.com/a?%FF=\\"`,
			`Accelerator; fwd=uri-miss; detail=not-opted-in; key="http://example.com/plain"`,
		},
		accel.HideStatus: {"", "", ""},
	} {
		clk := newClock()
		c := newCache(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/plain" {
				_, _ = io.WriteString(w, "x")
				return
			}
			h(w, r)
		}, accel.WithCacheStatus(v), accel.WithClock(clk.now))
		for i, target := range []string{"/a?\xff=\\", "/a?\xff=\\", "/plain"} {
			r := newRequest("/")
			r.RequestURI = target
			r.URL.Path, r.URL.RawQuery, _ = strings.Cut(target, "?")
			equal(t, target, do(c, r).Header.Get("Cache-Status"), want[i])
		}
	}
}
