package reference

import (
	"crypto/tls"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
)

// The site of the property test, and its visitors.

// A place is a URL.
type place struct{ scheme, host, target string }

func (p place) String() string { return p.scheme + "://" + p.host + p.target }

// directives are what the field says that governs caching here.
type directives struct {
	public, private, noStore, noCache, mustRevalidate bool

	maxAge, sMaxAge time.Duration // negative: not said
}

// rules are how a handler answers, whatever it answers.
type rules struct {
	id    int
	since int // the version with which they came

	asks     time.Duration // by CacheFor; negative: it does not call it
	vetoes   bool          // by NoStore
	says     directives
	targeted bool // in CDN-Cache-Control, and Cache-Control says something else
	age      time.Duration

	tags        []string
	badTag      bool
	tagsInField bool

	vary      []string // Accept-Language, X-Variant, Cookie
	varyStar  bool
	personal  string // "Cookie" or "Authorization": the page is about who sends it; else ""
	setCookie bool

	status   int
	tag      string // "strong", "weak", or "" for none
	modified bool   // it gives Last-Modified
	files    bool   // it answers conditions and ranges as a file server does

	media   string
	length  int  // of the body
	flushes bool // in the middle
	lies    bool // about the length
	panics  bool
}

// A rendering is what a run of a handler came to.
type rendering struct {
	*rules
	page     string // names URL, user, variant, version and rules
	version  int
	body     string
	etag     string    // as the handler gave it
	modified time.Time // zero if not said

	// What it saw of this request, and what it wrote.
	saw      http.Header
	status   int
	sent     string
	panicked bool
}

func (c *rendering) String() string { return fmt.Sprintf("%s: %d by %+v", c.page, c.status, *c.rules) }

func (c *rendering) sawRange() bool { return c.saw["Range"] != nil }

func (c *rendering) sawCondition() bool {
	return c.saw["If-None-Match"] != nil || c.saw["If-Modified-Since"] != nil ||
		c.saw["If-Match"] != nil || c.saw["If-Unmodified-Since"] != nil
}

// validated reports whether its handler can be asked if it is still good.
func (c *rendering) validated() bool { return c.etag != "" || !c.modified.IsZero() }

// forAll reports whether one user's page may answer a request that bears
// Authorization (RFC 9111, section 3.5).
func (p *rules) forAll() bool {
	return p.says.public || p.says.sMaxAge > 0 || p.says.mustRevalidate
}

// lifetime is that in a shared cache; negative: nobody says.
func (p *rules) lifetime() time.Duration {
	if p.says.sMaxAge >= 0 {
		return p.says.sMaxAge
	}
	return p.says.maxAge
}

// freshFor is for how long a response is fresh from when it is made, zero or less
// if it is not.
func (p *rules) freshFor() time.Duration {
	switch {
	case p.asks >= 0:
		return p.asks
	case p.says.noCache:
		return 0
	}
	return max(p.lifetime(), 0) - p.age
}

// compressible reports whether the page is kept as gzip and zstd.
func (p *rules) compressible() bool {
	return p.media == "text/html" && p.length >= minCompressed && p.status != http.StatusNoContent
}

// A site answers each of its places by rules of its own. Its data has one
// version, which grows with every change of anything; a page shows the version
// of the last change of what it is made from. It is safe for concurrent use.
type site struct {
	clock *storetest.Clock

	mu        sync.Mutex // guards the following
	makeRules func() *rules
	version   int
	times     []time.Time // of the versions
	changed   map[string]int
	purged    map[string]int // which version a purge that has returned was about
	at        map[place]*rules
	all       []*rules
	produced  map[string]time.Time // when a page was last made or confirmed
	calls     []*rendering         // nil if they are not wanted

	dawdles bool // its handlers let others run
}

func newSite(c *storetest.Clock, makeRules func() *rules) *site {
	return &site{
		clock: c, makeRules: makeRules, times: []time.Time{c.Now()},
		changed: map[string]int{}, purged: map[string]int{}, at: map[place]*rules{}, produced: map[string]time.Time{},
	}
}

// madeFrom are the names by which a page can be changed and purged.
func madeFrom(p place, r *rules) []string {
	return append([]string{"*", p.String(), p.target}, r.tags...)
}

// latest is the greatest version among those of what a page is made from.
func latest(versions map[string]int, p place, r *rules) (version int) {
	for _, name := range madeFrom(p, r) {
		version = max(version, versions[name])
	}
	return version
}

// change gives things a new version. A second passes at least, or Last-Modified
// would not tell.
func (s *site) change(names ...string) (version int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grow()
	for _, name := range names {
		s.changed[name] = s.version
	}
	return s.version
}

func (s *site) grow() {
	s.clock.Advance(1100 * time.Millisecond)
	s.version++
	s.times = append(s.times, s.clock.Now())
}

// purge notes that what was changed is purged, too.
func (s *site) purge(version int, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.purged[name] = max(s.purged[name], version)
	}
}

// replace gives a place new rules.
func (s *site) replace(p place) *rules {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grow()
	delete(s.at, p)
	return s.rules(p)
}

func (s *site) rules(p place) *rules {
	r := s.at[p]
	if r == nil {
		r = s.makeRules()
		r.id, r.since = len(s.all), s.version
		s.at[p], s.all = r, append(s.all, r)
	}
	return r
}

// facts are what a page may depend on.
type facts struct {
	place
	cookie, bearer  string // the user's name by each
	language        string
	variant, behind string
}

// page names everything that a page depends on, and nothing else.
func (f facts) page(r *rules, version int) string {
	user, language, variant := "everybody", "-", "-"
	switch r.personal {
	case "Cookie":
		user = f.cookie
	case "Authorization":
		user = f.bearer
	}
	if slices.Contains(r.vary, "Accept-Language") {
		language = f.language
	}
	if slices.Contains(r.vary, "X-Variant") {
		variant = f.variant
	}
	return fmt.Sprintf("%s|user %s|language %s|variant %s|behind %s|version %d|rules %d",
		f.place, user, language, variant, f.behind, version, r.id)
}

// parsePage returns version and rules of a page.
func parsePage(page string) (version, id int) {
	fields := strings.Split(page, "|")
	if len(fields) != 7 {
		return -1, -1
	}
	version, _ = strconv.Atoi(strings.TrimPrefix(fields[5], "version "))
	id, _ = strconv.Atoi(strings.TrimPrefix(fields[6], "rules "))
	return version, id
}

// textOf is the body of a page.
func textOf(page string, r *rules) string {
	if r.status == http.StatusNoContent {
		return ""
	}
	filler := page + "\n" + strings.Repeat(page[len(page)/2:]+" and so on\n", r.length/len(page)*3)
	return filler[:max(r.length, len(page)+1)]
}

func digest(s string) uint32 {
	h := fnv.New32a()
	io.WriteString(h, s)
	return h.Sum32()
}

func tagOf(page string, r *rules) string {
	switch tag := fmt.Sprintf(`"%x"`, digest(page)); r.tag {
	case "strong":
		return tag
	case "weak":
		return "W/" + tag
	}
	return ""
}

func (s *site) modified(r *rules, version int) time.Time {
	if !r.modified {
		return time.Time{}
	}
	return s.times[version].Truncate(time.Second)
}

// factsOf reads the facts from a request, as a handler does.
func factsOf(r *http.Request) facts {
	f := facts{place: place{"http", strings.ToLower(r.Host), r.RequestURI}}
	if r.TLS != nil {
		f.scheme = "https"
	}
	if c, err := r.Cookie("user"); err == nil {
		f.cookie = c.Value
	}
	f.bearer = strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	f.variant = strings.TrimSpace(strings.Join(r.Header["X-Variant"], ", "))
	f.behind = r.Header.Get("X-Forwarded-Host")
	for name, spellings := range languages {
		if slices.Contains(spellings, r.Header.Get("Accept-Language")) {
			f.language = name
		}
	}
	return f
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := factsOf(r)
	s.mu.Lock()
	p := s.rules(f.place)
	if r.Method == http.MethodPost && r.Header.Get("X-Want") < "400" {
		s.grow()
		s.changed[f.place.String()] = s.version
	}
	version := max(p.since, latest(s.changed, f.place, p))
	page := f.page(p, version)
	c := &rendering{
		rules: p, page: page, version: version, body: textOf(page, p), etag: tagOf(page, p),
		modified: s.modified(p, version), saw: r.Header.Clone(), status: http.StatusOK,
	}
	s.produced[page] = s.clock.Now()
	if s.calls != nil {
		s.calls = append(s.calls, c)
	}
	s.mu.Unlock()

	if s.dawdles {
		dawdle(page)
	}
	c.panicked = true
	c.write(&tee{ResponseWriter: w, call: c}, r, f)
	c.panicked = false

	s.mu.Lock()
	defer s.mu.Unlock()
	s.produced[page] = s.clock.Now() // the cache counts from some time before
}

// A tee takes down what a handler writes.
type tee struct {
	http.ResponseWriter
	call *rendering
}

func (t *tee) Unwrap() http.ResponseWriter { return t.ResponseWriter }

func (t *tee) WriteHeader(status int) {
	t.call.status = status
	t.ResponseWriter.WriteHeader(status)
}

func (t *tee) Write(p []byte) (int, error) {
	t.call.sent += string(p)
	return t.ResponseWriter.Write(p)
}

// write answers r by the rules.
func (c *rendering) write(w http.ResponseWriter, r *http.Request, f facts) {
	ctx, h := r.Context(), w.Header()
	if c.asks >= 0 {
		accel.CacheFor(ctx, c.asks)
	}
	h.Set("X-Page", c.page)
	h.Set("Content-Type", c.media)
	c.writeDirectives(h)
	if c.age > 0 {
		h.Set("Age", strconv.Itoa(int(c.age/time.Second)))
	}
	if c.setCookie {
		h.Set("Set-Cookie", "for="+f.cookie+f.bearer)
	}
	if c.etag != "" {
		h.Set("Etag", c.etag)
	}
	if c.tagsInField {
		h.Set("Surrogate-Key", strings.Join(c.tags, " "))
	} else {
		accel.Tag(ctx, c.tags...)
	}
	if c.varyStar {
		h.Add("Vary", "X-Something, *")
	}
	for _, name := range c.vary {
		h.Add("Vary", strings.ToLower(name)+", accept-encoding")
	}
	switch {
	case r.Method == http.MethodPost:
		status, _ := strconv.Atoi(r.Header.Get("X-Want"))
		w.WriteHeader(status)
		return
	case c.files:
		http.ServeContent(w, r, "", c.modified, strings.NewReader(c.body))
	default:
		if !c.modified.IsZero() {
			h.Set("Last-Modified", c.modified.Format(http.TimeFormat))
		}
		if c.lies && r.Method != http.MethodHead {
			h.Set("Content-Length", strconv.Itoa(len(c.body)+1))
		}
		w.WriteHeader(c.rules.status)
		if r.Method == http.MethodHead {
			break
		}
		_, _ = io.WriteString(w, c.body[:len(c.body)/2])
		if c.flushes {
			_ = http.NewResponseController(w).Flush()
		}
		if c.panics {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, c.body[len(c.body)/2:])
	}
	if c.vetoes {
		accel.NoStore(ctx)
	}
	if c.badTag {
		accel.Tag(ctx, "bad\n")
	}
}

func (c *rendering) writeDirectives(h http.Header) {
	var list []string
	for name, said := range map[string]bool{
		"public": c.says.public, "private": c.says.private, "no-store": c.says.noStore,
		"no-cache": c.says.noCache, "must-revalidate": c.says.mustRevalidate,
	} {
		if said {
			list = append(list, name)
		}
	}
	for name, d := range map[string]time.Duration{"max-age": c.says.maxAge, "s-maxage": c.says.sMaxAge} {
		if d >= 0 {
			list = append(list, fmt.Sprintf("%s=%d", name, int(d/time.Second)))
		}
	}
	if slices.Sort(list); len(list) > 0 { // the order of a rule is always the same
		first := c.id % len(list)
		list = append(list[first:len(list):len(list)], list[:first]...)
	}
	switch {
	case c.targeted:
		h.Set("CDN-Cache-Control", strings.Join(list, ", "))
		h.Set("Cache-Control", decoys[c.id%len(decoys)])
	case len(list) > 0:
		h["Cache-Control"] = list
	}
}

// decoys are for other caches than ours.
var decoys = []string{"no-store", "private, max-age=7", "public, s-maxage=86400"}

var lifetimes = []time.Duration{0, 2 * time.Second, 10 * time.Second, time.Minute, time.Hour}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

// randomRules returns rules that an application may have: whatever they are, a
// page about somebody says that it is.
func randomRules(r *rand.Rand, policy accel.Policy) *rules {
	oneIn := func(n int) bool { return r.IntN(n) == 0 }
	p := &rules{
		asks: -1, says: directives{maxAge: -1, sMaxAge: -1}, status: http.StatusOK, media: "text/html",
		length: pick(r, []int{300, 300, 1500, 1500, 1500, 5000, 9000}),
	}
	p.says.public = oneIn(2)
	p.says.noStore, p.says.private, p.says.noCache, p.says.mustRevalidate = oneIn(30), oneIn(30), oneIn(12), oneIn(6)
	if !oneIn(4) {
		p.says.maxAge = pick(r, lifetimes)
	}
	if oneIn(4) {
		p.says.sMaxAge = pick(r, lifetimes)
	}
	if policy == accel.OptIn && oneIn(2) || oneIn(6) {
		p.asks = pick(r, lifetimes[1:])
	}
	for _, tag := range siteTags {
		if oneIn(8) {
			p.tags = append(p.tags, tag)
		}
	}
	p.tagsInField = oneIn(4)
	p.vetoes, p.badTag, p.varyStar, p.setCookie, p.panics, p.lies = oneIn(40), oneIn(60), oneIn(60), oneIn(40), oneIn(60), oneIn(60)
	p.vary = pick(r, [][]string{nil, nil, nil, {"Accept-Language"}, {"X-Variant"}, {"Accept-Language", "X-Variant"}, {"Cookie"}})
	p.tag = pick(r, []string{"", "", "", "strong", "strong", "weak"})
	p.modified, p.flushes = oneIn(3), oneIn(40)
	if oneIn(5) {
		p.status = pick(r, []int{203, 204, 301, 302, 404, 410, 500, 503})
	}
	if oneIn(10) {
		p.age = time.Second * time.Duration(r.IntN(20))
	}
	if oneIn(5) {
		p.media = "image/png"
	}
	p.targeted = oneIn(4)
	if oneIn(5) {
		p.keepPersonal(r, policy)
	}
	if p.says == (directives{maxAge: -1, sMaxAge: -1}) {
		p.targeted = false // an empty field governs nothing
	}
	if policy != accel.OptIn {
		p.flushes = false // it is held for a moment of real time
	}
	if p.status == http.StatusOK && !p.flushes && !p.panics && !p.lies {
		p.files = oneIn(3)
	}
	p.lies = p.lies && p.status != http.StatusNoContent
	return p
}

// keepPersonal makes a page personal, and says so in one of the ways there are.
func (p *rules) keepPersonal(r *rand.Rand, policy accel.Policy) {
	if r.IntN(2) == 0 {
		// Nothing has to be said. It must not be said that it is for all.
		p.personal = "Authorization"
		p.says.public, p.says.mustRevalidate, p.says.sMaxAge = false, false, -1
		return
	}
	p.personal = "Cookie"
	switch n := r.IntN(6); {
	case n == 0:
		p.says.noStore = true
	case n == 1:
		p.says.private = true
	case n == 2:
		p.vetoes = true
	case n == 3:
		p.setCookie = true
	case n == 4 && policy == accel.OptIn:
		// Not asking is enough, and a max-age for browsers is no asking.
		p.asks, p.says, p.targeted = -1, directives{maxAge: p.says.maxAge, sMaxAge: -1}, false
	default:
		p.vary = []string{"Cookie"}
	}
}

// What visits choose from. The URLs are those that a careless key takes for one.
var (
	siteTags = []string{"s", "t", "u", "v", "w", "x"}
	targets  = []string{"/a?b=1", "/ab?=1", "/ab=1", "/a/b", "/a%2fb", "/a/b?", "//a/b", "/A/b"}
	hosts    = []string{"a.example", "a.example", "b.example", "a.example:8080"}

	// Spellings of one language are one to the cache. The first stands for
	// those that send none.
	languages = map[string][]string{
		"none": {""}, "de": {"de, en;q=0.5", "en;q=0.5,DE", "de;q=1.0 , en ;q=0.50"}, "en": {"en", "EN"},
	}

	// What a client accepts: the field, the codings it takes, and which of zstd
	// and gzip it gets if there are both.
	accepts = []accept{
		{nil, "", ""},
		{[]string{""}, "", ""},
		{[]string{"identity"}, "", ""},
		{[]string{"br"}, "", ""},
		{[]string{"gzip"}, "gzip", "gzip"},
		{[]string{"GZip, deflate, br"}, "gzip", "gzip"},
		{[]string{"gzip, deflate, br, zstd"}, "gzip zstd", "zstd"},
		{[]string{"gzip", "zstd"}, "gzip zstd", "zstd"},
		{[]string{"zstd;q=0.5, gzip;q=0.8"}, "gzip zstd", "gzip"},
		{[]string{"gzip;q=0, *"}, "zstd", "zstd"},
		{[]string{"*;q=0.1, zstd;q=0"}, "gzip", "gzip"},
		{[]string{"gzip;q=0, zstd;q=0.000"}, "", ""},
		{[]string{"*;q=0"}, "", ""},
		{[]string{"identity;q=0, x-gzip"}, "gzip", "gzip"},
	}
)

type accept struct {
	lines []string
	takes string
	best  string
}

func randomPlace(r *rand.Rand) place {
	if r.IntN(3) > 0 {
		return place{"http", hosts[0], pick(r, targets)} // or there would be few hits
	}
	p := place{"http", pick(r, hosts), pick(r, targets)}
	if r.IntN(4) == 0 {
		p.scheme = "https"
	}
	return p
}

// A visit is a request.
type visit struct {
	facts
	method   string
	spelling string // of the host
	speaks   string // Accept-Language
	accept   accept
	noStore  bool
	odd      bool
	want     string // the status of a POST

	ifMatch, ifNoneMatch    []string
	modifiedSince, notSince time.Time // If-Modified-Since, If-Unmodified-Since
	rng, ifRange            string
}

// randomVisit returns a visit. tags are entity tags that the client may know,
// and times are modification dates.
func randomVisit(r *rand.Rand, tags func(place) []string, times func() []time.Time) *visit {
	oneIn := func(n int) bool { return r.IntN(n) == 0 }
	v := &visit{facts: facts{place: randomPlace(r)}, method: "GET", accept: pick(r, accepts)}
	v.spelling = v.host
	if oneIn(4) {
		v.spelling = strings.ToUpper(v.host)
	}
	if oneIn(3) {
		v.cookie = pick(r, []string{"alice", "bob"})
	}
	if oneIn(6) {
		v.bearer = pick(r, []string{"alice", "bob"})
	}
	v.language = pick(r, []string{"none", "de", "en"})
	v.speaks = pick(r, languages[v.language])
	if oneIn(2) {
		v.variant = "a, b"
	}
	if oneIn(8) {
		v.behind = "evil.example"
	}
	v.noStore, v.odd = oneIn(60), oneIn(60)
	switch {
	case oneIn(12):
		v.method = "HEAD"
	case oneIn(30):
		v.method, v.want = "POST", pick(r, []string{"200", "303", "400", "500"})
		return v
	}
	known := append([]string{`"nobody's"`}, tags(v.place)...)
	tag := func() string { return pick(r, known) }
	day := func() time.Time { return pick(r, times()).Add(time.Duration(r.IntN(3)-1) * time.Second) }
	switch r.IntN(16) {
	case 0, 1:
		v.ifNoneMatch = []string{tag()}
	case 2:
		v.ifNoneMatch = []string{tag(), "W/" + strings.TrimPrefix(tag(), "W/")}
	case 3:
		v.ifNoneMatch, v.modifiedSince = []string{tag()}, day()
	case 4:
		v.modifiedSince = day()
	case 5:
		v.ifMatch = []string{tag(), tag()}
	case 6:
		v.notSince = day()
	case 7:
		v.ifNoneMatch = []string{"*"}
	}
	if v.method == "GET" && oneIn(8) {
		v.rng = pick(r, []string{"bytes=0-9", "bytes=5-", "bytes=-7", "bytes=100000-", "bytes=0-9,20-29", "lines=1-2"})
		if oneIn(3) {
			v.ifRange = tag()
		}
	}
	return v
}

// variantBy is what of a visit selects among the variants of a place.
func (v *visit) variantBy(names []string) string {
	s := "behind " + v.behind
	for _, name := range names {
		switch name {
		case "Accept-Language":
			s += ", language " + v.language
		case "X-Variant":
			s += ", variant " + v.variant
		case "Cookie":
			s += ", cookie " + v.cookie
		}
	}
	return s
}

func (v *visit) String() string {
	odd := ""
	if v.odd {
		odd = " (odd)"
	}
	return fmt.Sprintf("%s%s %s://%s%s %v", v.method, odd, v.scheme, v.spelling, v.target, v.request().Header)
}

func (v *visit) request() *http.Request {
	u, err := url.ParseRequestURI(v.target)
	if err != nil {
		panic(err)
	}
	r := &http.Request{
		Method: v.method, URL: u, RequestURI: v.target, Host: v.spelling, Header: http.Header{}, Body: http.NoBody,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "192.0.2.1:1234",
	}
	if v.scheme == "https" {
		r.TLS = &tls.ConnectionState{}
	}
	set := func(name, prefix, value string) {
		if value != "" {
			r.Header.Set(name, prefix+value)
		}
	}
	set("Cookie", "user=", v.cookie)
	set("Authorization", "Bearer ", v.bearer)
	set("Accept-Language", "", v.speaks)
	set("X-Forwarded-Host", "", v.behind)
	set("X-Want", "", v.want)
	if v.variant != "" {
		r.Header["X-Variant"] = strings.Split(v.variant, ", ")
		if digest(v.place.String()+v.speaks)%2 == 0 {
			r.Header["X-Variant"] = []string{" " + v.variant}
		}
	}
	if v.accept.lines != nil {
		r.Header["Accept-Encoding"] = v.accept.lines
	}
	if v.noStore {
		r.Header.Set("Cache-Control", "max-age=1, no-store")
	}
	switch {
	case v.odd && v.method == "GET":
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1
	case v.odd:
		r.Header.Set("X-HTTP-Method-Override", "PUT")
	}
	set("If-Match", "", strings.Join(v.ifMatch, ", "))
	if len(v.ifNoneMatch) > 0 {
		r.Header["If-None-Match"] = v.ifNoneMatch
	}
	for name, t := range map[string]time.Time{"If-Modified-Since": v.modifiedSince, "If-Unmodified-Since": v.notSince} {
		if !t.IsZero() {
			set(name, "", t.UTC().Format(http.TimeFormat))
		}
	}
	set("Range", "", v.rng)
	set("If-Range", "", v.ifRange)
	return r
}

// guarded reports whether the visit is to fail if the page has changed.
func (v *visit) guarded() bool { return v.ifMatch != nil || !v.notSince.IsZero() }

// outcome is the status with which something is answered that the client could
// have whole, with this entity tag, and made at this date (RFC 9110, section
// 13.2.2).
func (v *visit) outcome(r *rendering, tag string, date time.Time) int {
	status := r.rules.status
	modified := r.modified
	if modified.IsZero() {
		modified = date.Truncate(time.Second).Add(time.Second) // RFC 9111, section 4.3.2
	}
	if status < 200 || status > 299 {
		return status
	}
	weaken := func(s string) string { return strings.TrimPrefix(s, "W/") }
	strong := tag != "" && tag == weaken(tag)
	switch {
	case v.ifMatch != nil:
		if !strong || !slices.Contains(v.ifMatch, tag) {
			return http.StatusPreconditionFailed
		}
	case !v.notSince.IsZero() && !r.modified.IsZero() && r.modified.After(v.notSince):
		return http.StatusPreconditionFailed
	}
	if v.ifNoneMatch != nil {
		for _, t := range v.ifNoneMatch {
			if t == "*" || tag != "" && weaken(t) == weaken(tag) {
				return http.StatusNotModified
			}
		}
	} else if !v.modifiedSince.IsZero() && !modified.After(v.modifiedSince) {
		return http.StatusNotModified
	}
	coded := r.compressible() && v.accept.best != ""
	switch {
	case v.method != "GET" || status != 200 || v.ifRange != "" && (!strong || v.ifRange != tag):
		return status
	case v.rng == "bytes=100000-":
		return http.StatusRequestedRangeNotSatisfiable
	case strings.HasPrefix(v.rng, "bytes=") && !(coded && strings.Contains(v.rng, ",")):
		return http.StatusPartialContent
	}
	return status
}
