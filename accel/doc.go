// Package accel is an HTTP response cache that lives inside a Go program, as
// middleware. Responses are kept rendered and compressed, until their time is up
// or until something they were made from changes: each bears tags, and
// invalidating a tag removes all that bear it.
//
//	cache := accel.New(site, boltstore.Open("cache.db"))
//	err := http.ListenAndServe(":8080", cache)
//	cache.Close()
//
// A handler says that its response may be stored and what it is made from; code
// that changes something says so:
//
//	func profile(w http.ResponseWriter, r *http.Request) {
//		accel.CacheFor(r.Context(), time.Hour)
//		accel.Tag(r.Context(), "user:"+r.PathValue("id"))
//		...
//	}
//
//	func save(w http.ResponseWriter, r *http.Request) {
//		... // commit the change first, then:
//		err := accel.FromContext(r.Context()).InvalidateTag(r.Context(), "user:"+r.PathValue("id"))
//		...
//	}
//
// # What is stored
//
// With the default policy, [OptIn], nothing is stored unless the handler asks:
// by [CacheFor], or by a header that speaks to shared caches (Cache-Control with
// s-maxage, or with public and max-age; CDN-Cache-Control; Surrogate-Control).
// Then the complete response to a GET is stored,
// whatever its status by CacheFor, and below 400 by header: call CacheFor when
// nothing can fail any more, or [NoStore] when something did. GET and HEAD are
// answered from it, with 304, 412 and 206 where the request asks for these.
//
// A response is found again by its URL: scheme, host, and path and query exactly
// as the client sent them, by what middleware in front made of the URL, by the
// request headers that the response names in Vary, and by those that handlers
// read without naming them, such as X-Forwarded-Host. [WithKey] adds to this.
//
// # Handlers that speak HTTP caching
//
// With the policy [RFC9111] the cache is a shared one as RFC 9111 describes it, for
// reverse proxies and handlers that set Cache-Control and ETag for themselves.
// Whatever section 3 allows is stored: any final status with a lifetime, and what
// has none but can be validated, unless its request bore a cookie. What is stale
// is asked about with If-None-Match and If-Modified-Since; a 304 renews it, with
// the header fields and the tags of both. A request with a method not known to be
// safe, if it succeeds, drops what is stored for its URL, and for those of its
// Location and Content-Location. CacheFor, Tag and NoStore work there, too.
//
// With either policy a field addressed to such caches rules in place of
// Cache-Control and Expires, for this cache alone: CDN-Cache-Control or
// Surrogate-Control; see [WithTargets]. Tags may come in the header, as
// Surrogate-Key, Cache-Tag or Cache-Groups, from a handler in any language; those
// that are for no one else are taken off, see [WithStrippedHeaders]. The response
// to an unsafe method may name groups of its own origin in
// Cache-Group-Invalidation (RFC 9875), with the policy RFC9111.
//
// # What is not stored
//
// No-store and private in Cache-Control, Set-Cookie (see
// [WithUncacheableHeaders]), "Vary: *", Content-Range, trailers, and [NoStore]
// forbid it, CacheFor or not. A response to a request with Authorization needs
// public, s-maxage or must-revalidate as well. A response that was stored by
// CacheFor answers requests with cookies and without: what depends on the user
// must not be given to CacheFor, or say "Vary: Cookie".
//
// A response that is hijacked, longer than [WithMaxBody], shorter or longer than
// its Content-Length, that has a Transfer-Encoding, or whose handler panics, is
// what the client would have got without a cache, and is not stored. Nor is a 412
// to a condition of the client's, a response that adds to a field which middleware
// around the cache has set, and by OptIn one that is flushed. (By RFC9111 a flush
// takes effect when a response for storing was held 20 ms more: reverse proxies
// flush after every piece.)
//
// By header alone, without CacheFor, a request with a cookie needs more: by OptIn
// public, s-maxage or must-revalidate, by RFC9111 public or a lifetime.
//
// Requests that are anything but plain questions meet no cache at all: other
// methods, a body, an upgrade, a header that overrides the method, no host, a
// Range of something not known. Their handlers have the original ResponseWriter,
// and their answers no Cache-Status; FromContext works in them. Only by RFC9111
// are the methods that are not safe looked at: their answers say fwd=method, their
// handlers have a writer of ours (so that http.MaxBytesReader cannot close the
// connection), and the answer to a POST is stored if it has a lifetime and a
// Content-Location that is its own URL.
//
// Why a response was not stored stands in [Stats], in the log at debug level, and
// in its Cache-Status (RFC 9211), unless its header was sent before that was known:
// see [WithHoldLimit], and Compression.
//
// # Tags
//
// A tag names something that responses are made from: a row, a user, a list. The
// best place to say it is where the data is read, through the context:
//
//	func (db *DB) User(ctx context.Context, id string) (User, error) {
//		accel.Tag(ctx, "user:"+id)
//		...
//	}
//
// so that no handler can forget it. Outside a cached request this does nothing.
//
// # Purging
//
// [Cache.InvalidateTag] keeps a promise: a request that arrives after it has
// returned nil is never answered with a response that bears the tag and whose
// handler started before the call. Not from memory or disk, not by having waited
// for a response that was being made, not by a refresh that was on its way, not
// after a crash. That is: commit first, then invalidate. What a handler reads
// outside itself (a replica that lags, a cache of its own) is outside the
// promise.
//
// [Cache.ExpireTag] is milder, [Cache.InvalidateURL] and [Cache.InvalidateAll]
// go by other names. None takes longer for a million responses than for one.
//
// # Freshness
//
// What CacheFor says rules this cache alone; Cache-Control goes to browsers as
// the handler wrote it. Such a response is the origin's own word, kept true by
// its tags, so it is served without Age and with a new Date: a browser's max-age
// begins when it is served. A response that was stored because of its
// Cache-Control keeps its Date and gets an Age.
//
// With [StaleWhileRevalidate] a response past its time is served while one
// request in the background renders it anew, and with [StaleIfError] when the
// handler fails to.
//
// # Compression
//
// A response is stored as zstd and as gzip, if it is of a kind and size worth
// compressing, else as it is; what the handler encoded itself is kept so. Each
// coding has its own ETag: the handler's with a suffix ("v1-gzip"), or one made
// from the content. A weak one stays as it is. A client that takes neither
// coding gets the response decoded. "no-transform" leaves the body alone. Do not
// compress in middleware between the cache and the handler; around the cache
// there is nothing left to compress.
//
// The first client is answered as soon as its own coding is made. The other is made,
// and the response stored, behind that answer; requests that come meanwhile wait, and
// find it stored. If the store does not take it, though the answer said "stored", the
// answers that follow say so.
//
// # One at a time
//
// Requests for a response that is being made wait for it, [WithWait] at most,
// and get it if it proves to be for them: if it may be stored for their own
// request, is the variant their headers select, and was not invalidated since
// they came. Above [WithHoldLimit] they run the handler themselves. What is not
// for sharing makes nobody wait for ten seconds from then. A client that leaves
// does not cancel a handler that others wait for, and a slow one holds nobody up.
//
// # When the store fails
//
// An error of a store is a miss, or a response not stored; the site is served by
// its handlers. It is logged once for each kind and counted in [Stats]. Only
// invalidations report it, because something may be wrong then that the
// application has to know. (One that a request with an unsafe method caused by
// RFC9111 has nobody to report to, so look at Stats.StoreErrors.)
//
// # Middleware
//
// The cache may stand in front of a whole site ([New]) or of parts ([Cache.Wrap]),
// even both: a cache that is met again in a request passes it on. Of several
// caches around each other each stores for itself, and what a handler says
// counts for all. Invalidate the inner one first, or the outer may store once
// more what the inner still has.
//
// What middleware around the cache put into the header before it is not stored,
// as it will be there for the next request, too; but it is looked at, so that a
// Set-Cookie or a no-store from there keeps the response from being stored.
// Header values that a hit writes are shared between requests: middleware may
// replace and add values, not write into the slices.
//
// # Concurrency
//
// Everything exported may be used by any number of goroutines at once, except
// that options are applied once, in New. A Cache has goroutines only while it
// refreshes in the background, sixteen at most; [Cache.Close] waits for them.
// Whoever made a Cache closes it, and the Cache closes its store.
package accel
