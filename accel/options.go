package accel

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Policy says whose word it takes for a response to be stored.
type Policy uint8

const (
	// OptIn stores nothing unless the handler asks for it: by [CacheFor], or by
	// a header that speaks to shared caches (Cache-Control with s-maxage, or with
	// public and max-age; a field of [WithTargets]). It is the default.
	OptIn Policy = iota

	// RFC9111 is a full shared cache as RFC 9111 describes it, for handlers that
	// speak HTTP caching already, reverse proxies above all. It stores whatever
	// section 3 lets a shared cache store, validates with the handler what is
	// stale (section 4.3), and drops what a successful request with an unsafe
	// method was made to: its URL, and those in Location and Content-Location if
	// they are of the same origin (section 4.4).
	RFC9111
)

// A Visibility says how much the Cache-Status field tells clients.
type Visibility uint8

const (
	// ShowStatus tells whether it was a hit, for how long it will be one, or why
	// it was none. It is the default.
	ShowStatus Visibility = iota
	// ShowKey tells the URL under which the cache knows the request as well. It
	// is for debugging: the URL may hold secrets that a proxy in front removes.
	ShowKey
	// HideStatus leaves Cache-Status as the handler wrote it. What remains to
	// tell a hit from a miss is time, and Age, which HTTP requires.
	HideStatus
)

// An Option changes a Cache from its defaults; see [New].
type Option func(*options)

// options are as they were given. The methods below know the defaults.
type options struct {
	policy      Policy
	logger      *slog.Logger
	maxBody     int64
	holdLimit   int64
	wait        time.Duration
	key         func(*http.Request) string
	uncacheable []string // nil: the default; empty: none
	targets     []string // nil: the default; empty: none
	stripped    []string // nil: the default; empty: none
	heuristic   time.Duration
	demands     bool
	visibility  Visibility
	clock       func() time.Time
}

// WithPolicy chooses the policy. The default, and the zero Policy, is [OptIn].
func WithPolicy(p Policy) Option {
	return func(o *options) { o.policy = p }
}

// WithLogger says where the cache writes what an operator should know: a store
// that fails (once for each kind of error, the rest is counted in [Stats]), a
// panic in a background refresh, and at debug level why a response was not
// stored. The default, and nil, is slog.Default().
func WithLogger(l *slog.Logger) Option {
	return func(o *options) { o.logger = l }
}

// WithMaxBody limits the body of a response that is stored, in bytes before
// compression. A larger one is served and not stored. The default, and zero or
// less, is 1 MiB.
func WithMaxBody(bytes int64) Option {
	return func(o *options) { o.maxBody = bytes }
}

// WithHoldLimit limits the body that is held until its handler returns, in
// bytes. What is held goes to its first client compressed and with an ETag, as
// to all later ones, and to those who waited with it. A larger body is sent
// while it is being made, and stored all the same. The default, and zero, is
// 64 KiB; with a negative limit nothing is held.
func WithHoldLimit(bytes int64) Option {
	return func(o *options) { o.holdLimit = bytes }
}

// WithWait limits how long a request waits for the response that another
// request for the same thing is already making, before it runs the handler
// itself. The default, and zero, is 5 seconds; with a negative duration no
// request waits for another.
func WithWait(d time.Duration) Option {
	return func(o *options) { o.wait = d }
}

// WithKey adds a text of the application's own to the key of each request: the
// tenant, the arm of an experiment, the language found in a cookie. Requests for
// which f returns different texts never share a response; it cannot make
// requests share that would not otherwise. f is called for each request that
// meets the cache, hits included, by many goroutines at once; it must not change
// the request. The default, and nil, and an f that returns "", add
// nothing.
func WithKey(f func(*http.Request) string) Option {
	return func(o *options) { o.key = f }
}

// WithUncacheableHeaders names the response headers that forbid storing
// whatever bears one of them. The default is Set-Cookie alone; without a name,
// no header does. Then a response that sets a cookie is stored, cookie and all,
// and everybody gets it: this is for those who know.
func WithUncacheableHeaders(names ...string) Option {
	names = append([]string{}, names...)
	return func(o *options) { o.uncacheable = names }
}

// WithTargets names the response fields that speak to this cache in place of
// Cache-Control, the strongest first (a target list, RFC 9213, section 2.2). The
// first of them that a response has, and that can be read, governs; its
// Cache-Control and Expires are then for others. So a page may live an hour here
// and a minute in browsers. Surrogate-Control is read by its own older syntax,
// all others are dictionaries of structured fields. The default is
// CDN-Cache-Control, then Surrogate-Control; without a name there is none.
func WithTargets(names ...string) Option {
	names = canonicalNames(names)
	return func(o *options) { o.targets = names }
}

// WithStrippedHeaders names the response headers that are for this cache alone,
// and are taken off every answer whose writer is the cache's. They are read
// first. The default is Surrogate-Control, Surrogate-Key and Cache-Tag, because
// tags tell what a page is made from; without a name nothing is taken off, which
// is what a cache in front of this one wants: a CDN that purges by these fields
// has to see them. Cache-Groups and CDN-Cache-Control are sent on unless they are
// named.
func WithStrippedHeaders(names ...string) Option {
	names = canonicalNames(names)
	return func(o *options) { o.stripped = names }
}

// WithHeuristicFreshness lets a response without any lifetime be fresh for a
// tenth of the time that it had not changed for when it was made, by its
// Last-Modified, and for limit at most (RFC 9111, section 4.2.2). The default,
// and zero or less, is not to guess. It is for the policy [RFC9111].
func WithHeuristicFreshness(limit time.Duration) Option {
	return func(o *options) { o.heuristic = limit }
}

// WithRequestDirectives lets clients have a say with Cache-Control in their
// requests (RFC 9111, section 5.2.1): no-cache, max-age, min-fresh, max-stale and
// only-if-cached, and Pragma: no-cache in place of the first. By default the
// cache takes no notice, because every reload in a browser says no-cache, and a
// client must not be able to keep the handlers busy. No-store is always heeded.
func WithRequestDirectives() Option {
	return func(o *options) { o.demands = true }
}

// WithCacheStatus says how much Cache-Status (RFC 9211) tells clients. The
// default, and the zero Visibility, is [ShowStatus].
func WithCacheStatus(v Visibility) Option {
	return func(o *options) { o.visibility = v }
}

// WithClock replaces the clock that decides what is fresh. It is for tests;
// waiting (see [WithWait]) goes by the real one. f is called by many goroutines
// at once. The default, and nil, is time.Now.
func WithClock(f func() time.Time) Option {
	return func(o *options) { o.clock = f }
}

func (o *options) log() *slog.Logger {
	if o.logger == nil {
		return slog.Default()
	}
	return o.logger
}

func (o *options) bodyLimit() int64 {
	if o.maxBody <= 0 {
		return 1 << 20 // a page, not a download
	}
	return o.maxBody
}

func (o *options) held() int64 {
	switch {
	case o.holdLimit < 0:
		return 0
	case o.holdLimit == 0:
		// Most pages are smaller; what is larger takes long enough to make
		// that its client should see the beginning.
		return 64 << 10
	}
	return o.holdLimit
}

func (o *options) patience() time.Duration {
	if o.wait == 0 {
		return 5 * time.Second // nginx waits as long (proxy_cache_lock_timeout)
	}
	return o.wait
}

var onlySetCookie = []string{"Set-Cookie"}

func (o *options) forbidding() []string {
	if o.uncacheable == nil {
		return onlySetCookie
	}
	return o.uncacheable
}

// The field of all CDNs, and what there was before it.
var usualTargets = []string{"Cdn-Cache-Control", "Surrogate-Control"}

func (o *options) targetList() []string {
	if o.targets == nil {
		return usualTargets
	}
	return o.targets
}

var usuallyStripped = []string{"Surrogate-Control", "Surrogate-Key", "Cache-Tag"}

func (o *options) strippedHeaders() []string {
	if o.stripped == nil {
		return usuallyStripped
	}
	return o.stripped
}

// strip takes off a header what is for this cache alone, in any spelling, and the
// trailers of that name. A cache around this one reads it first, and does so.
func (fl *fill) strip(h http.Header) {
	if fl.outer.stores() {
		return
	}
	names := fl.cache.opts.strippedHeaders()
	for name := range h {
		if slices.Contains(names, http.CanonicalHeaderKey(strings.TrimPrefix(name, http.TrailerPrefix))) {
			delete(h, name)
		}
	}
}

// canonicalNames returns names as keys of a header; never nil, because nil means
// the default.
func canonicalNames(names []string) []string {
	c := make([]string, len(names))
	for i, name := range names {
		c[i] = http.CanonicalHeaderKey(name)
	}
	return c
}

func (o *options) now() time.Time {
	if o.clock == nil {
		return time.Now()
	}
	return o.clock()
}
