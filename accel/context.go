package accel

import (
	"context"
	"slices"
	"sync"
	"time"
)

// CacheFor asks for the response to be stored and served for ttl. It is the
// handler's word to this cache alone: what the handler says to browsers in
// Cache-Control stays as it is written, and is not looked at for how long. What
// forbids storing (no-store, private, Set-Cookie, Vary: *, see the package
// comment) still does.
//
// It counts until the header of the response is written. If it is called
// several times, by the parts of which a page is made, the response lives as
// long as the shortest of them: ttl and each of the options count as the moment
// they lead to, and the earliest decides. A ttl of zero or less makes a response
// that is stale at once, hence stored only together with [StaleWhileRevalidate]
// or [StaleIfError].
//
// Outside a request that a [Cache] serves, and where the cache has passed the
// request on as it is, and in a request with another method than GET (a POST, say),
// it does nothing. It may be called by
// several goroutines at once.
func CacheFor(ctx context.Context, ttl time.Duration, opts ...Freshness) {
	f := lifetime{ttl: clamp(ttl)}
	for _, o := range opts {
		o(&f)
	}
	for x := exchangeOf(ctx); x != nil; x = x.outer {
		x.cacheFor(f)
	}
}

// A Freshness is an option of [CacheFor].
type Freshness func(*lifetime)

// StaleWhileRevalidate lets the response be served for d after its time is up,
// while one request in the background renders it anew (RFC 5861, section 3).
// The default, and zero or less, is not to serve it.
func StaleWhileRevalidate(d time.Duration) Freshness {
	return func(f *lifetime) { f.whileRevalidate = clamp(d) }
}

// StaleIfError lets the response be served for d after its time is up, when the
// handler fails to render it anew: it answers 500, 502, 503 or 504, panics, or
// takes longer than those want to wait who wait for another's request to it; see
// [WithWait] (RFC 5861, section 4). The default, and zero or less, is to pass the failure on.
func StaleIfError(d time.Duration) Freshness {
	return func(f *lifetime) { f.ifError = clamp(d) }
}

// Tag says that the response is made from the things that the tags name, so
// that [Cache.InvalidateTag] of any of them removes it. Tags may be added from
// any depth, best where the data is read, by several goroutines at once, until
// the handler returns.
//
// A tag has 1 to [MaxTagLength] bytes of valid UTF-8 without control
// characters; a response has at most [MaxTags] different ones. A response whose
// tags are not like that is served and not stored. Where [CacheFor] does
// nothing, Tag does nothing.
func Tag(ctx context.Context, tags ...string) {
	for x := exchangeOf(ctx); x != nil; x = x.outer {
		x.tag(tags)
	}
}

// NoStore forbids storing the response, whatever else is said. It counts until
// the handler returns, for what is stored; those who wait for the same response
// do not get it either. Where [CacheFor] does nothing, NoStore does nothing.
func NoStore(ctx context.Context) {
	for x := exchangeOf(ctx); x != nil; x = x.outer {
		x.noStore()
	}
}

// FromContext returns the cache that serves the request ctx belongs to; of
// several around each other the innermost. Outside it returns nil, whose
// methods do nothing, so that handlers can be tested without a cache. A job in
// the background must be given its Cache: the nil one purges nothing.
func FromContext(ctx context.Context) *Cache {
	if x := exchangeOf(ctx); x != nil {
		return x.cache
	}
	return nil
}

// A lifetime is what one call of CacheFor asks for, or all of them together.
type lifetime struct {
	ttl, whileRevalidate, ifError time.Duration
}

// shorter returns the lifetime of what is made from a and b.
func (a lifetime) shorter(b lifetime) lifetime {
	ttl := min(a.ttl, b.ttl)
	return lifetime{
		ttl:             ttl,
		whileRevalidate: min(a.ttl+a.whileRevalidate, b.ttl+b.whileRevalidate) - ttl,
		ifError:         min(a.ttl+a.ifError, b.ttl+b.ifError) - ttl,
	}
}

// forever is the longest duration the cache knows, that of RFC 9111, section
// 1.2.2. A time.Time of today plus several of them can be written as a number
// of nanoseconds.
const forever = 1 << 31 * time.Second

func clamp(d time.Duration) time.Duration { return min(max(d, 0), forever) }

// An exchange is one request on its way through a cache, as the context of its
// handler knows it.
type exchange struct {
	cache *Cache
	outer *exchange // that of a cache around this one; what is said here counts there too

	// passing says that the request was passed on as it is: nothing said here
	// matters. The fields below belong to exchanges that are not passing.
	passing bool

	mu            sync.Mutex // guards the following
	headerWritten bool       // CacheFor counts no more
	over          bool       // nothing counts any more
	wishes        wishes
}

// wishes are what a handler said about its response.
type wishes struct {
	asked   bool // CacheFor was called
	life    lifetime
	vetoed  bool // NoStore was called
	tags    []string
	badTags string // why the response may not be stored, if its tags forbid it
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

// in returns ctx with x in it.
func (x *exchange) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, exchangeKey{}, x)
}

// stores reports whether a cache may store the response.
func (x *exchange) stores() bool {
	for ; x != nil; x = x.outer {
		if !x.passing {
			return true
		}
	}
	return false
}

// isWithin reports whether c is already at work on the request.
func (x *exchange) isWithin(c *Cache) bool {
	for ; x != nil; x = x.outer {
		if x.cache == c {
			return true
		}
	}
	return false
}

func (x *exchange) cacheFor(l lifetime) {
	if x.passing {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.headerWritten {
		return
	}
	if x.wishes.asked {
		l = x.wishes.life.shorter(l)
	}
	x.wishes.asked, x.wishes.life = true, l
}

func (x *exchange) tag(tags []string) {
	if x.passing {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, t := range tags {
		switch {
		case x.over || x.wishes.badTags != "":
			return
		case !validTag(t):
			x.wishes.badTags = reasonInvalidTag
		case slices.Contains(x.wishes.tags, t): // at most MaxTags comparisons
		case len(x.wishes.tags) == MaxTags:
			x.wishes.badTags = reasonTooManyTags
		default:
			x.wishes.tags = append(x.wishes.tags, t)
		}
	}
}

func (x *exchange) noStore() {
	if x.passing {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.wishes.vetoed = true
	}
}

// freeze ends what CacheFor may say and returns what was said so far.
func (x *exchange) freeze() wishes {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.headerWritten = true
	return x.wishes
}

// finish ends everything and returns what was said.
func (x *exchange) finish() wishes {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.headerWritten, x.over = true, true
	return x.wishes
}

// adopt tells the caches around this one that their response is made from an
// entry of this one: the handler that would tell them did not run.
func (x *exchange) adopt(e *Entry, staleFrom, now time.Time) {
	for ; x != nil; x = x.outer {
		x.tag(e.Tags)
		if e.ByHandler {
			x.cacheFor(lifetime{ttl: clamp(staleFrom.Sub(now))})
		}
	}
}
