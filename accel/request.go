package accel

import (
	"net/http"
	"slices"
	"strings"

	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A glance is what one walk over a request finds. A hit cannot afford to look
// for two dozen header fields by name.
type glance struct {
	odd         bool   // the request must not meet the cache at all
	conditional bool   // it has If-Match, If-None-Match, ...
	guarded     bool   // it has If-Match or If-Unmodified-Since, which may fail
	ranged      bool   // it has Range
	authorized  bool   // it has Authorization
	keyed       uint32 // which of keyedHeaders it has
	underscored bool   // it may have a keyed header spelt with underscores
	demanding   bool   // it has Cache-Control or Pragma
}

// look looks at a request.
//
// Only exactly GET and HEAD may be answered by a stored response. What is odd
// about such a request is left to the handler alone, unstored and unshared: a
// body may change the answer and is in no key; an upgrade ends HTTP; a header
// that overrides the method makes a GET a DELETE; without a host, nobody knows
// whose page it is.
func look(r *http.Request) (g glance) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead ||
		r.ContentLength != 0 || len(r.TransferEncoding) != 0 {
		g.odd = true
		return g
	}
	g.lookAtHeader(r)
	return g
}

// lookAtHeader looks at what a request of any method says in its header. It ends at
// the first thing that is odd.
func (g *glance) lookAtHeader(r *http.Request) {
	if r.Host == "" || r.URL == nil {
		g.odd = true
		return
	}
	for name, values := range r.Header {
		switch name {
		case "Range":
			g.ranged = true
		case "Authorization":
			g.authorized = true
		case "Cache-Control", "Pragma":
			g.demanding = true
		case "If-Match", "If-Unmodified-Since":
			g.conditional, g.guarded = true, true
		case "If-None-Match", "If-Modified-Since", "If-Range":
			g.conditional = true
		case "Host":
			// Over HTTP/2 a client may send one beside its :authority, and
			// handlers may read it.
			if len(values) != 1 || values[0] != r.Host {
				g.odd = true
				return
			}
		case "Upgrade", "Expect", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override":
			g.odd = true
			return
		case "Connection":
			// A Connection that only says keep-alive or close is on many
			// requests.
			for _, v := range values {
				if containsFold(v, "upgrade") {
					g.odd = true
					return
				}
			}
		default:
			if name == "" || name[0] != 'X' && name[0] != 'F' {
				continue // no name in keyedHeaders begins with another letter
			}
			if i := keyedIndex(name); i >= 0 {
				g.keyed |= 1 << i
			} else if strings.IndexByte(name, '_') > 0 {
				// What reaches CGI or FastCGI loses the difference.
				switch dashed(name) {
				case "X-Http-Method-Override", "X-Http-Method", "X-Method-Override":
					g.odd = true
					return
				}
				g.underscored = true
			}
		}
	}
}

// containsFold reports whether s contains sub, which is in lower case.
func containsFold(s, sub string) bool {
	for i := 0; i+len(sub) <= len(s); i++ {
		if strings.EqualFold(s[i:i+len(sub)], sub) {
			return true
		}
	}
	return false
}

// requestHeader returns the header that the handler is given: its own, so that
// whatever it does to it, the client's is still there when the response's Vary is
// looked up.
//
// Of a request whose key is known to be cacheable the conditions are taken off,
// and Range: the handler is to make the whole response, out of which the client
// is then answered, or to confirm the one that is stored. Otherwise it sees what
// the client sent: a handler that never asked for storage, a file server say,
// answers 304 and 206 itself.
func (fl *fill) requestHeader() http.Header {
	if fl.why == fwdMethod {
		return undoETags(fl.r.Header)
	}
	h := undoETags(fl.r.Header).Clone()
	if fl.whole {
		fl.asks.SetConditions(h)
	}
	if fl.cache.opts.policy != OptIn && fl.never == storable && (fl.whole || fl.q.guarded) {
		// What is encoded beyond here in a coding that we cannot decode would be
		// of use to few.
		fl.restricted = true
		if accept := h["Accept-Encoding"]; accept != nil {
			h["Accept-Encoding"] = []string{codec.Restrict(accept)}
		}
	}
	return h
}

// undoETags returns the header with which a request is passed on: itself, but
// for an If-Match that bears a tag of ours. Who has got `"v1-gzip"` from us, and
// now wants to change the page if it is still that one, must be understood by
// the handler, which knows `"v1"`. So that is added.
func undoETags(h http.Header) http.Header {
	lines := h["If-Match"]
	var undone []string
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") { // at a comma within a tag, there is none of ours
			b := Body{ETag: strings.TrimSpace(tag)}
			for _, b.Coding = range [...]string{codec.Zstd, codec.Gzip} {
				if b.ETag != "" && b.ETag[0] == '"' && strings.HasSuffix(b.ETag, "-"+b.Coding+`"`) && rfc9111.IsETag(b.ETag) {
					tag, rest := identityETag(b)
					undone = append(undone, tag+rest)
				}
			}
		}
	}
	if undone == nil {
		return h
	}
	h = h.Clone()
	h["If-Match"] = append(slices.Clip(lines), strings.Join(undone, ", "))
	return h
}

// shareTrailer sees to it that a copy of r has the trailer fields that its client
// sends without having announced them: net/http puts them into the original, into
// the map that is there.
func shareTrailer(r *http.Request) {
	if r.Trailer == nil && len(r.TransferEncoding) != 0 {
		r.Trailer = make(http.Header)
	}
}

// copyBack carries over what others look for in the original of a request that
// was copied: net/http removes the temporary files of MultipartForm, and
// middleware outside reports the pattern that a mux found.
func copyBack(original, copy *http.Request) {
	original.MultipartForm = copy.MultipartForm
	original.Pattern = copy.Pattern
}
