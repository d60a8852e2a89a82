package reference

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// The reference cache: what the property test expects of the real one. It is
// plain and slow, so that one can see that it is right: one lock, one map,
// identity bodies, and a purge is a walk over everything. It decides from what
// handlers mean, which it is told in a struct, and not from header fields, so
// that it shares no mistake with the code that reads them.

// A kept is a response in the cache.
type kept struct {
	*rendering
	place
	variant    string
	date       time.Time // when it was made, or confirmed
	freshUntil time.Time
	keepUntil  time.Time
}

// A reference is the cache.
type reference struct {
	mu        sync.Mutex
	rfc9111   bool // else OptIn
	now       func() time.Time
	maxBody   int
	holdLimit int
	pages     map[place][]*kept
	known     map[place]bool // it has an opinion on whether this is for storing
	hidden    *kept          // is not found
}

// An answer is what a client gets.
type answer struct {
	*rendering
	as   means
	date time.Time // when the page was made, or confirmed
}

// means says how an answer is made.
type means string

const (
	hit      means = "a hit"
	fetched  means = "fetched and stored"
	renewed  means = "confirmed and stored"
	affirmed means = "confirmed and dropped"
	streamed means = "streamed and stored" // as the handler wrote it
	relayed  means = "relayed"             // the same, unstored
	passed   means = "passed"              // the same, by the handler's own writer
)

// A question is what a handler is asked, as far as conditions and ranges go.
type question string

const (
	everything question = "what the client asks"
	theWhole   question = "the whole"
	eitherOf   question = "either"
	toConfirm  question = "to confirm"
)

// serve answers a visit. The handler is run by ask, which is told what it has to
// be asked, and what it is to confirm.
func (c *reference) serve(v *visit, ask func(question, *kept) *rendering) answer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.method != "GET" && v.method != "HEAD" || v.odd {
		r := ask(everything, nil)
		if c.rfc9111 && v.method == "POST" && 200 <= r.status && r.status < 400 {
			c.remove(func(k *kept) bool { return k.place == v.place })
		}
		return answer{r, passed, time.Time{}}
	}

	k := c.find(v)
	if k != nil && v.bearer != "" && !k.forAll() {
		k = nil
	}
	if k != nil && c.now().Before(k.freshUntil) {
		return k.answer(hit)
	}
	if v.method == "HEAD" {
		r := ask(everything, nil)
		if c.rfc9111 && k != nil && r.contradicts(k) {
			c.remove(func(x *kept) bool { return x == k })
		}
		return answer{r, relayed, time.Time{}}
	}

	var r *rendering
	switch {
	case v.guarded():
		r = ask(everything, nil) // the handler may have to fail it
	case k != nil && c.rfc9111 && k.validated() && (v.cookie == "" || k.lasts() || k.forAll()):
		r = ask(toConfirm, k)
		if r.status == http.StatusNotModified {
			return c.renew(v, k)
		}
	case k != nil:
		r = ask(theWhole, nil)
	case c.known[v.place]:
		r = ask(eitherOf, nil) // what it remembers it may forget at any time
	case v.rng != "" || !c.rfc9111:
		r = ask(everything, nil)
	case v.cookie != "" || v.bearer != "":
		r = ask(eitherOf, nil) // it may be for this one alone
	default:
		r = ask(theWhole, nil)
	}
	if r.sawRange() {
		return answer{r, passed, time.Time{}}
	}
	if c.rfc9111 || r.sawCondition() && r.status == http.StatusNotModified && r.asks >= 0 {
		c.known[v.place] = true
	}
	if stored, denied := c.storable(v, r); !stored {
		if k != nil && denied && r.status < 500 && r.status != http.StatusNotModified {
			c.remove(func(x *kept) bool { return x == k })
		}
		return answer{r, relayed, time.Time{}}
	}
	k = c.put(v, r)
	if len(r.body) > c.holdLimit {
		return answer{r, streamed, time.Time{}}
	}
	return k.answer(fetched)
}

func (k *kept) answer(as means) answer { return answer{k.rendering, as, k.date} }

// age is the Age that an answer tells at a moment, negative if none. What CacheFor
// keeps does not age, and what was made for the very request only if its handler
// has said so.
func (a answer) age(now time.Time) time.Duration {
	if a.asks >= 0 || a.as != hit && a.rules.age == 0 {
		return -1
	}
	return now.Sub(a.date) + a.rules.age
}

// find returns what is kept for a visit, stale or not.
func (c *reference) find(v *visit) *kept {
	for _, k := range c.pages[v.place] {
		if k != c.hidden && k.variant == v.variantBy(k.vary) && c.now().Before(k.keepUntil) {
			return k
		}
	}
	return nil
}

func (c *reference) put(v *visit, r *rendering) *kept {
	k := &kept{rendering: r, place: v.place, variant: v.variantBy(r.vary), date: c.now()}
	k.freshUntil, k.keepUntil = c.life(r)
	others := slices.DeleteFunc(c.pages[v.place], func(x *kept) bool {
		return x.variant == k.variant || !slices.Equal(x.vary, k.vary)
	})
	c.pages[v.place] = append(others, k)
	c.known[v.place] = true
	return k
}

// life returns how long a response made now is fresh, and how long it is of use.
func (c *reference) life(r *rendering) (freshUntil, keepUntil time.Time) {
	freshUntil = c.now().Add(r.freshFor())
	if c.rfc9111 && r.validated() {
		return freshUntil, freshUntil.Add(24 * time.Hour)
	}
	return freshUntil, freshUntil
}

// renew takes the handler's word that what is kept is still good. The handler
// gives the same header fields as it did then, or it would not have said so.
func (c *reference) renew(v *visit, k *kept) answer {
	again := *k
	again.date = c.now()
	again.freshUntil, again.keepUntil = c.life(k.rendering)
	stored, denied := c.storable(v, k.rendering)
	if !stored {
		if denied {
			c.remove(func(x *kept) bool { return x == k })
		}
		return again.answer(affirmed)
	}
	if !k.lasts() && again.keepUntil.Sub(k.keepUntil) < 6*time.Hour {
		return again.answer(affirmed) // it is asked about again all the same
	}
	*k = again
	return k.answer(renewed)
}

// lasts reports whether the response was fresh at first.
func (k *kept) lasts() bool { return k.freshFor() >= time.Second }

// storable reports whether the answer of a handler to a visit may be stored; and
// if not, whether that is said of the page, so that what is kept of it is not its
// answer any more, and not of this visit alone.
func (c *reference) storable(v *visit, r *rendering) (stored, denied bool) {
	switch {
	case v.noStore:
		return false, false
	case r.sawCondition() && r.status == http.StatusPreconditionFailed:
		return false, false // it answers a condition of this client
	case !r.says.noStore && (r.says.private || r.setCookie) && v.cookie != "":
		return false, false
	case r.says.noStore, r.says.private, r.setCookie, r.varyStar, r.status == http.StatusNotModified,
		v.bearer != "" && !r.forAll():
		return false, true
	}
	if r.asks < 0 && c.rfc9111 {
		switch {
		case v.cookie != "" && !r.says.public && (r.lifetime() <= 0 || r.says.noCache):
			return false, false
		case r.lifetime() < 0 && !r.says.public && !byItself[r.status]:
			return false, true
		}
	}
	if r.asks < 0 && !c.rfc9111 {
		wanted := r.says.sMaxAge >= 0 || r.says.maxAge >= 0 && (r.says.public || r.targeted)
		switch {
		case !wanted, r.says.noCache, r.status >= 400, slices.Contains(r.vary, "Cookie"):
			return false, true
		case v.cookie != "" && !r.forAll():
			return false, false
		}
	}
	switch _, keepUntil := c.life(r); {
	case r.flushes, !c.now().Before(keepUntil):
		return false, true
	case r.panicked:
		return false, false
	case r.lies, r.vetoes, r.badTag, len(r.body) > c.maxBody:
		return false, true
	}
	return true, false
}

// byItself are the statuses that are cacheable without a word (RFC 9110, section
// 15.1).
var byItself = map[int]bool{200: true, 203: true, 204: true, 300: true, 301: true, 308: true,
	404: true, 405: true, 410: true, 414: true, 501: true}

// contradicts reports whether the answer to HEAD is not about what is kept.
func (c *rendering) contradicts(k *kept) bool {
	return c.status == 200 && (c.etag != "" && strings.TrimPrefix(c.etag, "W/") != strings.TrimPrefix(k.etag, "W/") ||
		!c.modified.IsZero() && !c.modified.Equal(k.modified) || c.files && len(c.body) != len(k.body))
}

// remove forgets what match says.
func (c *reference) remove(match func(*kept) bool) {
	for p, list := range c.pages {
		c.pages[p] = slices.DeleteFunc(list, match)
	}
}

// expire makes stale what match says.
func (c *reference) expire(match func(*kept) bool) {
	for _, list := range c.pages {
		for _, k := range list {
			if now := c.now(); match(k) && now.Before(k.freshUntil) {
				k.freshUntil = now
			}
		}
	}
}
