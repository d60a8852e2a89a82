package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

// A Site is an application whose pages say of themselves what they are made of,
// so that one that is wrong, damaged, somebody else's or outdated is known by its
// text alone. Page i carries the tag i mod Tags and the tag "all".
//
// It is safe for concurrent use. The zero Site has no pages.
type Site struct {
	// Cache serves the site. [Open] makes it; who opened closes it.
	Cache *accel.Cache
	// Handler is the site without its cache.
	Handler http.Handler
	// Freshness are further wishes for the life of every page. They are set before
	// the first request.
	Freshness []accel.Freshness

	pages, tags int
	size        int
	varied      int                                           // see Shape
	form        func(page int) (size int, contentType string) // nil: as Open says
	committed   []atomic.Uint64                               // versions of the tags, as the application has them
	purged      []atomic.Uint64                               // versions whose invalidation has returned nil

	// Made counts runs of the handler.
	Made atomic.Uint64
}

// Open returns a site of so many pages and tags, with bodies of about size bytes,
// in front of which a cache stands that keeps them in store.
func Open(store accel.Store, pages, tags, size int, opts ...accel.Option) *Site {
	s := &Site{
		pages: pages, tags: tags, size: size,
		committed: make([]atomic.Uint64, tags),
		purged:    make([]atomic.Uint64, tags),
	}
	s.Handler = http.HandlerFunc(s.serve)
	s.Cache = accel.New(s.Handler, store, opts...)
	return s
}

// URL is the path of a page.
func URL(page int) string { return "/p/" + strconv.Itoa(page) }

// Tag is the name of a tag.
func Tag(tag int) string { return "t" + strconv.Itoa(tag) }

// variantHeader selects among the four forms of a varied page.
const variantHeader = "X-Form"

// Shape makes a site less uniform, before it is served: pages have the size and
// type that form says, and the first so many of them are the variants, four each,
// of a quarter as many URLs, selected by a header of the request.
func (s *Site) Shape(varied int, form func(page int) (size int, contentType string)) {
	s.varied, s.form = varied&^3, form
}

// Pages returns how many pages there are.
func (s *Site) Pages() int { return s.pages }

// Tags returns how many tags there are.
func (s *Site) Tags() int { return s.tags }

// TagOf returns the tag that a page carries.
func (s *Site) TagOf(page int) int { return page % s.tags }

func (s *Site) serve(w http.ResponseWriter, r *http.Request) {
	page, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/p/"))
	if err != nil || page < 0 || page >= s.pages {
		http.NotFound(w, r)
		return
	}
	if page < s.varied {
		w.Header().Set("Vary", variantHeader)
		if form, err := strconv.Atoi(r.Header.Get(variantHeader)); err == nil {
			page = page&^3 + form&3
		}
	}
	size, contentType := s.size, "text/plain; charset=utf-8"
	if s.form != nil {
		size, contentType = s.form(page)
	}
	tag := s.TagOf(page)
	body := Body(page, tag, s.committed[tag].Load(), size)
	s.Made.Add(1)
	w.Header().Set("Content-Type", contentType)
	accel.CacheFor(r.Context(), time.Hour, s.Freshness...)
	accel.Tag(r.Context(), Tag(tag), "all")
	w.Write(body)
}

// Body is the text of a page at a version of its tag: about size bytes, of which
// every one is known.
func Body(page, tag int, version uint64, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "page %d\ntag %d\nversion %d\n", page, tag, version)
	r := rand.New(rand.NewPCG(uint64(page), version))
	for b.Len() < size {
		fmt.Fprintf(&b, "%016x\n", r.Uint64())
	}
	fmt.Fprintf(&b, "sum %08x\n", crc32.ChecksumIEEE(b.Bytes()))
	return b.Bytes()
}

// ErrWrong is matched by every error that means that a client got what it should
// not: bytes that nobody wrote, another's page, or one that was purged.
var ErrWrong = errors.New("wrong response")

// ErrPurged is matched by those of them that mean that what was purged was served.
var ErrPurged = fmt.Errorf("%w: purged", ErrWrong)

// Check reads a body and returns the version that it says it is of.
func Check(page int, body []byte) (version uint64, err error) {
	var p, tag int
	if _, err := fmt.Sscanf(string(body[:min(len(body), 80)]), "page %d\ntag %d\nversion %d\n", &p, &tag, &version); err != nil {
		return 0, fmt.Errorf("%w: page %d: no page at all: %.60q", ErrWrong, page, body)
	}
	if p != page {
		return 0, fmt.Errorf("%w: page %d: another page: %.60q", ErrWrong, page, body)
	}
	rest, sum, ok := bytes.Cut(body, []byte("sum "))
	if !ok || fmt.Sprintf("%08x\n", crc32.ChecksumIEEE(rest)) != string(sum) {
		return 0, fmt.Errorf("%w: page %d: its bytes are damaged", ErrWrong, page)
	}
	return version, nil
}

// SetVersion says what version of a tag the application has, and that everything
// before is purged: the state in which an earlier process has left it.
func (s *Site) SetVersion(tag int, committed, purged uint64) {
	s.committed[tag].Store(committed)
	s.purged[tag].Store(purged)
}

// Commit changes what the pages of a tag are made of and returns the new version.
// What was made before may be served until Purge.
func (s *Site) Commit(tag int) uint64 { return s.committed[tag].Add(1) }

// Purge invalidates a tag. Once it has returned nil, no page of an older version
// is accepted by Get.
func (s *Site) Purge(ctx context.Context, tag int) error {
	version := s.committed[tag].Load()
	if err := s.Cache.InvalidateTag(ctx, Tag(tag)); err != nil {
		return err
	}
	for {
		have := s.purged[tag].Load()
		if have >= version || s.purged[tag].CompareAndSwap(have, version) {
			return nil
		}
	}
}

// Committed returns the version of a tag that the application has.
func (s *Site) Committed(tag int) uint64 { return s.committed[tag].Load() }

// Purged returns the lowest version of a tag that may be served.
func (s *Site) Purged(tag int) uint64 { return s.purged[tag].Load() }

// Get asks for a page, without a connection, and looks at the answer. It returns
// the version it got and whether the cache had it; an error that matches ErrWrong
// if the answer is not what a client may get, and another if it is not a page at
// all.
func (s *Site) Get(page int) (version uint64, hit bool, err error) {
	purged := s.purged[s.TagOf(page)].Load()
	w := httptest.NewRecorder()
	s.Cache.ServeHTTP(w, s.request(page))
	return s.judge(page, purged, w.Result())
}

func (s *Site) request(page int) *http.Request {
	if page >= s.varied {
		return httptest.NewRequest(http.MethodGet, URL(page), nil)
	}
	r := httptest.NewRequest(http.MethodGet, URL(page&^3), nil)
	r.Header.Set(variantHeader, strconv.Itoa(page&3))
	return r
}

// Fetch is Get over a connection to the server at base ("http://127.0.0.1:1234").
func (s *Site) Fetch(client *http.Client, base string, page int) (version uint64, hit bool, err error) {
	purged := s.purged[s.TagOf(page)].Load()
	r := s.request(page)
	r.RequestURI = ""
	r.URL, _ = url.Parse(base + r.URL.Path)
	r.Host = ""
	res, err := client.Do(r)
	if err != nil {
		return 0, false, err
	}
	defer res.Body.Close()
	return s.judge(page, purged, res)
}

func (s *Site) judge(page int, purged uint64, res *http.Response) (version uint64, hit bool, err error) {
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, false, fmt.Errorf("page %d: %w", page, err)
	}
	if res.StatusCode != http.StatusOK {
		return 0, false, fmt.Errorf("page %d: status %d: %.80q", page, res.StatusCode, body)
	}
	if version, err = Check(page, body); err != nil {
		return 0, false, err
	}
	hit = strings.Contains(res.Header.Get("Cache-Status"), "; hit")
	if version < purged {
		return version, hit, fmt.Errorf("%w: page %d: version %d, purged up to %d (%s)", ErrPurged, page, version, purged, res.Header.Get("Cache-Status"))
	}
	return version, hit, nil
}
