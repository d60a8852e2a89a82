package accel

import (
	"log/slog"
	"net/http"
	"time"
)

// A Policy says whose word it takes for a response to be stored.
type Policy uint8

const (
	// OptIn stores nothing unless the handler asks for it: by [CacheFor], or by
	// a Cache-Control that speaks to shared caches (s-maxage, or public with
	// max-age). It is the default.
	OptIn Policy = iota

	// RFC9111 stores whatever RFC 9111, section 3, lets a shared cache store.
	// It is meant for handlers that speak HTTP caching already. It is not
	// complete yet: stale responses are not validated with the handler, unsafe
	// methods invalidate nothing, and targeted fields are not read.
	RFC9111
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

func (o *options) now() time.Time {
	if o.clock == nil {
		return time.Now()
	}
	return o.clock()
}
