package reference

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// What can be said of a response without knowing what the cache holds.

// An arrival is what was the case when a request arrived.
type arrival struct {
	time   time.Time
	purged map[string]int
}

func (s *site) arrive() arrival {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Not the place's tags alone: what is served may be of older rules.
	a := arrival{s.clock.Now(), make(map[string]int, len(s.purged))}
	for name, version := range s.purged {
		a.purged[name] = version
	}
	return a
}

func (s *site) dates() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.times
}

// examine checks that a response is one that the visitor may get.
func (s *site) examine(v *visit, res *response, a arrival, known *forms) error {
	page := res.Header.Get("X-Page")
	version, id := parsePage(page)
	s.mu.Lock()
	if version < 0 || version > s.version || id < 0 || id >= len(s.all) {
		s.mu.Unlock()
		return fmt.Errorf("no page of this site: %q", page)
	}
	r, produced := s.all[id], s.produced[page]
	modified := s.times[version].Truncate(time.Second) // or later, if the page does not say
	s.mu.Unlock()

	h := res.Header
	age := a.time.Sub(produced)
	// Who has waited for a response gets it, though its time may be up by now.
	waited := strings.Contains(h.Get("Cache-Status"), "; collapsed")
	coding := h.Get("Content-Encoding")
	text := textOf(page, r)
	switch {
	case page != v.page(r, version):
		return fmt.Errorf("a page of others: %s", page)
	case version < latest(a.purged, v.place, r):
		return fmt.Errorf("version %d was purged, for version %d", version, latest(a.purged, v.place, r))
	case age > 0 && age >= max(r.freshFor(), 0) && !waited:
		return fmt.Errorf("a page that was made %v ago, and is good for %v", age, r.freshFor())
	case waited && r.freshFor() <= 0:
		return fmt.Errorf("a page that has to be validated, for somebody who waited")
	case h.Get("Set-Cookie") != "" && h.Get("Set-Cookie") != "for="+v.cookie+v.bearer:
		return fmt.Errorf("the cookie of others")
	case h.Get("Cache-Status") != "" && h.Get("Surrogate-Key") != "":
		return fmt.Errorf("tags are shown")
	case len(res.body) > 0 && (v.method == "HEAD" || res.status == http.StatusNotModified):
		return fmt.Errorf("a body")
	case coding != "" && !slices.Contains(strings.Fields(v.accept.takes), coding):
		return fmt.Errorf("coding %s, which is not accepted", coding)
	}
	if length := h.Get("Content-Length"); length != "" && !r.lies && v.method == "GET" && res.status != http.StatusNotModified &&
		length != strconv.Itoa(len(res.body)) {
		return fmt.Errorf("Content-Length %s of a body of %d", length, len(res.body))
	}

	tag := h.Get("Etag")
	weakly := func(t string) bool {
		return t == "*" || strings.TrimPrefix(t, "W/") == strings.TrimPrefix(tag, "W/")
	}
	switch {
	case res.panicked || v.method == "POST":
		return nil
	case res.status == http.StatusNotModified:
		switch {
		case v.ifNoneMatch != nil && !slices.ContainsFunc(v.ifNoneMatch, weakly):
			return fmt.Errorf("a 304 to other tags")
		case v.ifNoneMatch == nil && (v.modifiedSince.IsZero() || modified.After(v.modifiedSince)):
			return fmt.Errorf("a 304 to nothing")
		case tag != "" && v.ifNoneMatch != nil:
			// Who has this tag has got it with these bytes.
			return known.same(v.place, tag, page)
		}
		return nil
	case res.status == http.StatusPreconditionFailed:
		if v.ifMatch == nil && v.notSince.IsZero() {
			return fmt.Errorf("a 412 to nothing")
		}
		return nil
	case v.method == "HEAD":
		return nil
	case res.status == http.StatusPartialContent:
		whole := []byte(text)
		if coding != "" {
			if whole = known.bytesOf(page, coding); whole == nil {
				return nil
			}
		}
		return checkParts(h, res.body, whole)
	case res.status == http.StatusRequestedRangeNotSatisfiable:
		// http.ServeContent knows no other units, and refuses them.
		if v.rng != "bytes=100000-" && (v.rng != "lines=1-2" || h.Get("Cache-Status") != "") {
			return fmt.Errorf("a 416 to %q", v.rng)
		}
		return nil
	case res.status != r.status:
		return fmt.Errorf("status %d, not %d", res.status, r.status)
	}
	plain, err := known.decode(page, coding, res.body)
	if err != nil {
		return err
	}
	if string(plain) != text {
		return fmt.Errorf("another body than the header says")
	}
	if tag != "" {
		return known.learn(v.place, tag, page, coding)
	}
	return nil
}

// checkParts checks the parts of a 206 against the whole.
func checkParts(h http.Header, body, whole []byte) error {
	check := func(contentRange string, part []byte) error {
		var first, last, size int
		if _, err := fmt.Sscanf(contentRange, "bytes %d-%d/%d", &first, &last, &size); err != nil {
			return fmt.Errorf("Content-Range %q: %w", contentRange, err)
		}
		if size != len(whole) || first > last || last >= size || !bytes.Equal(part, whole[first:last+1]) {
			return fmt.Errorf("not the part %q of %d bytes", contentRange, len(whole))
		}
		return nil
	}
	media, parameters, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if media != "multipart/byteranges" {
		return check(h.Get("Content-Range"), body)
	}
	parts := multipart.NewReader(bytes.NewReader(body), parameters["boundary"])
	for n := 0; ; n++ {
		p, err := parts.NextPart()
		if err == io.EOF && n == 2 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("part %d: %w", n, err)
		}
		part, err := io.ReadAll(p)
		if err != nil {
			return err
		}
		if err := check(p.Header.Get("Content-Range"), part); err != nil {
			return err
		}
	}
}

// forms are the forms of pages that were seen: which entity tag each has, and
// that two never have the same. It is safe for concurrent use.
type forms struct {
	mu    sync.Mutex         // guards the following
	tags  map[form]string    // of each form
	of    map[tagged]form    // of each strong tag
	bytes map[form][]byte    // of each coded form
	tips  map[place][]string // tags a visitor may know, the last of them
}

type form struct{ page, coding string }

type tagged struct {
	place
	tag string
}

func newForms() *forms {
	return &forms{tags: map[form]string{}, of: map[tagged]form{}, bytes: map[form][]byte{}, tips: map[place][]string{}}
}

func (f *forms) known(p place) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tips[p]
}

func (f *forms) bytesOf(page, coding string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes[form{page, coding}]
}

// learn notes the tag of a form.
func (f *forms) learn(p place, tag, page, coding string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if list := f.tips[p]; !slices.Contains(list, tag) {
		f.tips[p] = append(list[max(0, len(list)-4):], tag)
	}
	if strings.HasPrefix(tag, "W/") {
		return nil
	}
	is := form{page, coding}
	if other, ok := f.of[tagged{p, tag}]; ok && other != is {
		return fmt.Errorf("the entity tag of %q is that of %q", is, other)
	}
	f.of[tagged{p, tag}] = is
	if old, ok := f.tags[is]; ok && old != tag {
		return fmt.Errorf("the entity tag of %q is %s and was %s", is, tag, old)
	}
	f.tags[is] = tag
	return nil
}

// same reports that a strong tag is not that of this page.
func (f *forms) same(p place, tag, page string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if is, ok := f.of[tagged{p, tag}]; ok && is.page != page {
		return fmt.Errorf("a 304 for %s, with the tag of %s", page, is.page)
	}
	return nil
}

// tagOf returns the tag that a form has to have, which may be the one it shows if
// its handler gave none.
func (f *forms) tagOf(p place, r *rendering, coding, shown string) (string, error) {
	switch {
	case r.tag == "weak", r.tag == "strong" && coding == "":
		return r.etag, nil
	case r.tag == "strong":
		return strings.TrimSuffix(r.etag, `"`) + "-" + coding + `"`, nil
	case r.rules.status > 299 || r.rules.status == http.StatusNoContent:
		return "", nil
	case shown == "" || strings.HasPrefix(shown, "W/"):
		return "", fmt.Errorf("entity tag %q", shown)
	}
	return shown, f.learn(p, shown, r.page, coding)
}

// decode decodes a body. That of a form that was seen is the same again.
func (f *forms) decode(page, coding string, body []byte) ([]byte, error) {
	if coding == "" {
		return body, nil
	}
	f.mu.Lock()
	old := f.bytes[form{page, coding}]
	f.mu.Unlock()
	if old != nil && !bytes.Equal(old, body) {
		return nil, fmt.Errorf("other bytes than before")
	}
	var plain []byte
	var err error
	switch coding {
	case "gzip":
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			plain, err = io.ReadAll(z)
		}
	case "zstd":
		plain, err = unzstd.DecodeAll(body, nil)
	default:
		err = fmt.Errorf("coding %q", coding)
	}
	if err == nil {
		f.mu.Lock()
		f.bytes[form{page, coding}] = body
		f.mu.Unlock()
	}
	return plain, err
}

var unzstd, _ = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
