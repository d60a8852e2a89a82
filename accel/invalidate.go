package accel

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// ErrInvalidURL is returned by InvalidateURL for what cannot be the URL of a
// stored response. Compare with errors.Is.
var ErrInvalidURL = errors.New("accel: invalid URL")

// InvalidateTag removes every response that bears one of the tags. After it has
// returned nil, no request that arrives is answered with a response that bears
// one and whose handler started before the call: not from memory, not from disk,
// not after a crash. Commit the change first, then call it.
//
// It takes a time that does not depend on the number of responses. ctx bounds
// the wait alone: the invalidation is carried out even if ctx ends, and
// ctx.Err() returned. An error that is [ErrNotDurable] means that it holds in
// this process and may be undone by a restart. If one of the tags is invalid,
// none is invalidated, and the error is [ErrInvalidTag].
//
// Without tags, and on a nil Cache, it does nothing and returns nil.
func (c *Cache) InvalidateTag(ctx context.Context, tags ...string) error {
	if c == nil || len(tags) == 0 {
		return nil
	}
	marks, err := tagMarks(tags)
	if err != nil {
		return err
	}
	return c.invalidate(ctx, marks)
}

// ExpireTag makes every response that bears one of the tags stale. It is the
// milder InvalidateTag: a response that was stored with [StaleWhileRevalidate]
// is still served, for that long, while one request renders it anew.
//
// Errors are those of InvalidateTag. Without tags, and on a nil Cache, it does
// nothing and returns nil.
func (c *Cache) ExpireTag(ctx context.Context, tags ...string) error {
	if c == nil || len(tags) == 0 {
		return nil
	}
	marks, err := tagMarks(tags)
	if err != nil {
		return err
	}
	if err := c.store.Expire(ctx, marks...); err != nil {
		return fmt.Errorf("expire tags: %w", err)
	}
	return nil
}

// InvalidateURL removes every response stored for one of the URLs, in all its
// variants. A URL is either absolute ("https://example.com/a?b=c"), or path and
// query alone ("/a?b=c"), which means that target on every scheme and host.
//
// Path and query are taken as a client sends them: "/%7Ea" is not "/~a", and
// "/a" not "/a?". Scheme and host may be in any case, and the default port is as
// good as none. A fragment is never
// sent, so a URL that has one is an error and not a purge that strikes nothing.
//
// If one of the URLs is no such URL, none is invalidated and the error is
// [ErrInvalidURL]; otherwise errors are those of InvalidateTag. Without URLs,
// and on a nil Cache, it does nothing and returns nil.
func (c *Cache) InvalidateURL(ctx context.Context, urls ...string) error {
	if c == nil || len(urls) == 0 {
		return nil
	}
	marks := make([]Mark, 0, len(urls))
	for _, u := range urls {
		m, err := ParseURLMark(u)
		if err != nil {
			return err
		}
		marks = append(marks, m)
	}
	return c.invalidate(ctx, marks)
}

// InvalidateAll removes every response. It takes no longer than for one, and
// its errors are those of InvalidateTag. On a nil Cache it does nothing and
// returns nil.
func (c *Cache) InvalidateAll(ctx context.Context) error {
	if c == nil {
		return nil
	}
	return c.invalidate(ctx, []Mark{MarkAll})
}

func (c *Cache) invalidate(ctx context.Context, marks []Mark) error {
	if err := c.store.Invalidate(ctx, marks...); err != nil {
		return fmt.Errorf("invalidate: %w", err)
	}
	return nil
}

// ParseURLMark returns the mark of a URL in one of the two forms that
// [Cache.InvalidateURL] takes: that of one scheme, host and target, or that of
// a target everywhere. The error is [ErrInvalidURL].
func ParseURLMark(u string) (Mark, error) {
	invalid := func(why string) (Mark, error) {
		return Mark{}, fmt.Errorf("%w: %s: %.300q", ErrInvalidURL, why, u)
	}
	if strings.Contains(u, "#") {
		return invalid("it has a fragment, which no client sends")
	}
	scheme, host, target := "", "", u
	if !strings.HasPrefix(u, "/") {
		var ok bool
		if scheme, target, ok = strings.Cut(u, "://"); !ok {
			return invalid("neither absolute nor a path")
		}
		scheme = strings.ToLower(scheme)
		if scheme != "http" && scheme != "https" {
			return invalid("its scheme is not http or https")
		}
		host, target = cutAuthority(target)
		if host == "" || strings.Contains(host, "@") {
			return invalid("its host is missing or not a host")
		}
	}
	// Parsing looks for what no request can have had; the text is used as it
	// is, because the key was made of the text of the request.
	if _, err := url.ParseRequestURI(target); err != nil {
		return invalid("not a request target")
	}
	if scheme == "" {
		return TargetMark(target), nil
	}
	if parsed, err := url.Parse(scheme + "://" + host); err != nil || parsed.Host != host {
		return invalid("its host is not a host")
	}
	return URLMark(scheme, originHost(scheme, host), target), nil
}

// cutAuthority cuts what follows "://" into authority and target. The target of
// "example.com?q" is "/?q" (RFC 9110, section 4.2.3: an empty path is "/").
func cutAuthority(s string) (authority, target string) {
	i := strings.IndexAny(s, "/?")
	switch {
	case i < 0:
		return s, "/"
	case s[i] == '?':
		return s[:i], "/" + s[i:]
	}
	return s[:i], s[i:]
}
