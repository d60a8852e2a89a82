package linear

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/codec"
)

const (
	readers = 8
	writers = 3
	few     = 4 // pages
	tags    = 3
	softs   = 2 // tags that are only expired

	writes   = 12 // by each writer
	maxReads = 70 // by each reader
)

// A name is that of a register, or of a key.
type name struct {
	name string
	key  bool
}

// A history is one life of a site: its clients, and who changes it.
type history struct {
	seed    uint64
	setting *setting

	start    time.Time
	versions map[string]*atomic.Uint64 // of the registers, as the application has them
	runs     atomic.Uint64             // of the handler
	hits     atomic.Int64
	renewed  uint64
	// slow: the disk did not answer in time, be it once. A Put that cannot learn what
	// stands there in time is accepted, and the writer looks; so what the key holds
	// is not known from what was returned.
	slow bool

	mu      sync.Mutex // guards the following
	ops     map[name][]porcupine.Operation
	unclear map[name]bool // keys of which not everything is known
	n       int
	err     error
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

func (h *history) record(to name, client int, in input, call int64) {
	h.recordUntil(to, client, in, call, h.now())
}

func (h *history) recordUntil(to name, client int, in input, call, end int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[to] = append(h.ops[to], porcupine.Operation{ClientId: client, Input: in, Call: call, Return: end})
	h.n++
}

func (h *history) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
}

func tagName(i int) string  { return "t" + strconv.Itoa(i) }
func softName(i int) string { return "s" + strconv.Itoa(i) }
func urlName(i int) string  { return "u" + strconv.Itoa(i) }
func pageURL(i int) string  { return "/page/" + strconv.Itoa(i) }

const allName = "all"

// newHistory prepares a history. Everything random in it but the order in which
// the processor runs it comes from the seed.
func newHistory(s *setting, seed uint64) *history {
	h := &history{
		seed: seed, setting: s,
		start:    time.Now(),
		versions: map[string]*atomic.Uint64{allName: {}},
		ops:      make(map[name][]porcupine.Operation),
		unclear:  make(map[name]bool),
	}
	for i := range tags {
		h.versions[tagName(i)] = new(atomic.Uint64)
	}
	for i := range softs {
		h.versions[softName(i)] = new(atomic.Uint64)
	}
	for i := range h.setting.pages {
		h.versions[urlName(i)] = new(atomic.Uint64)
	}
	return h
}

// run is the whole of a history. dir is for its file.
func (h *history) run(dir string) error {
	log := slog.New(slog.DiscardHandler)
	store, err := h.setting.open(dir, log)
	if err != nil {
		return err
	}
	watched := &watched{store, h}
	var seen accel.Store = watched
	if lends, ok := store.(accel.Lender); ok {
		seen = lender{watched, lends}
	}
	cache := accel.New(http.HandlerFunc(h.serve), seen,
		accel.WithPolicy(h.setting.policy), accel.WithLogger(log), accel.WithWait(h.setting.patience))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var door door
	server := &http.Server{Handler: door.to(cache)}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	transport := &http.Transport{MaxIdleConnsPerHost: readers}
	client := &http.Client{Transport: transport}
	base := "http://" + listener.Addr().String()

	var all, changing sync.WaitGroup
	quiet := make(chan struct{})
	for w := range writers {
		changing.Go(func() { h.change(readers+w, base, cache) })
	}
	for c := range readers {
		all.Go(func() { h.visit(c, client, base, quiet) })
	}
	changing.Wait()
	close(quiet)
	all.Wait()

	transport.CloseIdleConnections()
	err = server.Close()
	if e := <-served; e != http.ErrServerClosed {
		err = errors.Join(err, e)
	}
	door.close()
	h.renewed = cache.Stats().Renewed
	h.slow = store.Stats().ReadErrors > 0
	return errors.Join(err, cache.Close(), h.err)
}

// A door counts who is inside: a server that is closed does not wait for the
// requests of clients that have left.
type door struct {
	mu     sync.Mutex
	shut   bool
	inside sync.WaitGroup
}

func (d *door) to(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		if d.shut {
			d.mu.Unlock()
			return
		}
		d.inside.Add(1)
		d.mu.Unlock()
		defer d.inside.Done()
		next.ServeHTTP(w, r)
	})
}

// close lets nobody in any more, and waits until everybody is out.
func (d *door) close() {
	d.mu.Lock()
	d.shut = true
	d.mu.Unlock()
	d.inside.Wait()
}

func (h *history) rand(i int) *rand.Rand { return rand.New(rand.NewPCG(h.seed, uint64(i))) }

// change is a writer: it commits a version, and invalidates what was made of older
// ones.
func (h *history) change(id int, base string, cache *accel.Cache) {
	r := h.rand(id)
	ctx := context.Background()
	for range writes {
		pause(r, h.setting.calm)
		var reg string
		var invalidate func() error
		x := r.IntN(100)
		tag, page, soft := r.IntN(tags), r.IntN(h.setting.pages), r.IntN(softs)
		switch {
		case x < 55:
			reg, invalidate = tagName(tag), func() error { return cache.InvalidateTag(ctx, tagName(tag)) }
		case x < 70:
			url := pageURL(page)
			if r.IntN(2) == 0 {
				url = base + url
			}
			reg, invalidate = urlName(page), func() error { return cache.InvalidateURL(ctx, url) }
		case x < 75:
			reg, invalidate = allName, func() error { return cache.InvalidateAll(ctx) }
		case x < 95:
			reg, invalidate = softName(soft), func() error { return cache.ExpireTag(ctx, softName(soft)) }
		default:
			// Something else, in which no version is read; and a tag that somebody
			// expects to be invalidated is expired as well.
			if err := errors.Join(cache.InvalidateTag(ctx, "nobody's"), cache.ExpireTag(ctx, tagName(tag))); err != nil {
				h.fail(err)
			}
			continue
		}
		call := h.now()
		v := h.versions[reg].Add(1)
		h.record(name{name: reg}, id, input{do: commit, version: v}, call)
		pause(r, h.setting.calm/4)
		call = h.now()
		if err := invalidate(); err != nil {
			h.fail(fmt.Errorf("invalidate %s: %w", reg, err))
			return
		}
		h.record(name{name: reg}, id, input{do: purge, version: v}, call)
	}
}

// pause waits for up to d, often not at all.
func pause(r *rand.Rand, d time.Duration) {
	if d > 0 && r.IntN(4) > 0 {
		time.Sleep(time.Duration(r.Int64N(int64(d))))
	}
}

// visit is a reader. When all is quiet it has a last look at every page.
func (h *history) visit(id int, client *http.Client, base string, quiet <-chan struct{}) {
	r := h.rand(id)
	for range maxReads {
		select {
		case <-quiet:
			for p := range h.setting.pages {
				h.get(r, id, client, base, p)
			}
			return
		default:
		}
		h.get(r, id, client, base, r.IntN(h.setting.pages))
		pause(r, h.setting.calm/2)
	}
}

func (h *history) get(r *rand.Rand, id int, client *http.Client, base string, page int) {
	ctx := context.Background()
	if r.IntN(50) == 0 {
		// A client that leaves: its reading is nobody's.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Int64N(int64(5*time.Millisecond))))
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+pageURL(page), nil)
	if err != nil {
		h.fail(err)
		return
	}
	req.Header.Set("Accept-Language", []string{"de", "en"}[r.IntN(2)])
	call := h.now()
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() == nil {
			h.fail(err)
		}
		return
	}
	body, err := io.ReadAll(res.Body)
	res.Body.Close()
	end := h.now()
	switch {
	case err != nil || res.StatusCode == http.StatusServiceUnavailable:
		if ctx.Err() == nil {
			h.fail(fmt.Errorf("page %d: %s: %w", page, res.Status, err))
		}
		return
	case res.StatusCode != http.StatusOK:
		h.fail(fmt.Errorf("page %d: %s", page, res.Status))
		return
	}
	made, err := parse(body)
	if err != nil || made.page != page {
		h.fail(fmt.Errorf("page %d: %q", page, body))
		return
	}
	if strings.Contains(res.Header.Get("Cache-Status"), "; hit") {
		h.hits.Add(1)
	}
	for reg, v := range made.versions {
		if !strings.HasPrefix(reg, "s") { // of what is only expired, a reader may get any version for a while
			h.recordUntil(name{name: reg}, id, input{do: read, version: v}, call, end)
		}
	}
}

// serve is the site. It says of what versions a page was made, and by which run.
func (h *history) serve(w http.ResponseWriter, req *http.Request) {
	page, err := strconv.Atoi(strings.TrimPrefix(req.URL.Path, "/page/"))
	if err != nil {
		http.NotFound(w, req)
		return
	}
	run := h.runs.Add(1)
	r := rand.New(rand.NewPCG(h.seed, run<<8))
	pause(r, h.setting.slow/4)

	one, two := tagName(page%tags), tagName((page+1)%tags)
	soft := softName(page % softs)
	regs := []string{one, two, soft, urlName(page), allName}
	var b, etag strings.Builder
	fmt.Fprintf(&b, "page %d\nrun %d\n", page, run)
	if run%2 == 0 {
		// Worth compressing, so that it is stored behind the answer.
		fmt.Fprintf(&b, "pad %0600d\n", 0)
	}
	carried := []string{soft}
	for _, reg := range regs {
		v := h.versions[reg].Load()
		if reg == two && h.setting.loose && v%2 == 1 {
			continue // it is not made of it now, and does not carry it
		}
		fmt.Fprintf(&b, "%s %d\n", reg, v)
		if reg == one || reg == two {
			carried = append(carried, reg)
		}
		if reg != two {
			fmt.Fprintf(&etag, "%s-%d.", reg, v)
		}
	}
	fmt.Fprintf(&b, "of %d\n", b.Len())

	ctx := req.Context()
	ttl := h.setting.ttl
	if page%2 == 1 && h.setting.lasting {
		ttl = time.Hour
	}
	accel.CacheFor(ctx, ttl, accel.StaleWhileRevalidate(h.setting.window), accel.StaleIfError(time.Minute))
	w.Header().Set("Content-Type", "text/plain")
	if page == h.setting.pages-1 {
		w.Header().Set("Vary", "Accept-Language")
	}
	if h.setting.policy == accel.RFC9111 {
		// A handler may think that a page is what it was, and compare less than it
		// is made of: here, all but one tag. The tags know better.
		w.Header().Set("Etag", `"`+etag.String()+`"`)
		if req.Header.Get("If-None-Match") == w.Header().Get("Etag") {
			pause(r, h.setting.slow)
			w.WriteHeader(http.StatusNotModified)
			return
		}
	}
	pause(r, h.setting.slow)
	accel.Tag(ctx, carried...) // known only now
	io.WriteString(w, b.String())
}

// A made is what a page says of itself.
type made struct {
	page     int
	run      uint64
	versions map[string]uint64
}

func parse(body []byte) (m made, err error) {
	m.versions = make(map[string]uint64, 5)
	whole := false
	rest := string(body)
	for line := range strings.Lines(rest) {
		reg, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		v, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return m, err
		}
		switch reg {
		case "page":
			m.page = int(v)
		case "run":
			m.run = v
		case "pad":
		case "of":
			whole = len(body) == int(v)+len(line)
		default:
			m.versions[reg] = v
		}
	}
	if !whole {
		return m, errors.New("not a whole page")
	}
	return m, nil
}

func parseEntry(e *accel.Entry) (made, error) {
	b := e.Bodies[0]
	for i := 1; b.Data == nil && i < len(e.Bodies); i++ { // it is lent with another
		b = e.Bodies[i]
	}
	body, err := codec.Decode(nil, b.Coding, b.Data, e.Length)
	if err != nil {
		return made{}, err
	}
	return parse(body)
}

// watched is a store whose answers are recorded.
type watched struct {
	accel.Store
	h *history
}

func keyName(k accel.Key) name {
	return name{name: fmt.Sprintf("key-%x-%x", k.Resource[:4], k.Variant[:4]), key: true}
}

func (w *watched) Get(ctx context.Context, key accel.Key, vary []string) (accel.Found, error) {
	call := w.h.now()
	found, err := w.Store.Get(ctx, key, vary)
	w.got(key, found, call)
	return found, err
}

// lender is a watched store that lends.
type lender struct {
	*watched
	store accel.Lender
}

func (l lender) Lend(ctx context.Context, key accel.Key, vary []string, pick func(*accel.Entry) int) (accel.Found, error) {
	call := l.h.now()
	found, err := l.store.Lend(ctx, key, vary, pick)
	l.got(key, found, call)
	return found, err
}

func (w *watched) got(key accel.Key, found accel.Found, call int64) {
	if e := found.Entry; e != nil {
		m, perr := parseEntry(e)
		if perr != nil {
			w.h.fail(perr)
			return
		}
		w.h.record(keyName(key), 0, input{do: get, version: m.run, at: e.At.N}, call)
		if found.StaleSince.IsZero() {
			// As fresh as when it was made: not expired since.
			for reg, v := range m.versions {
				if strings.HasPrefix(reg, "s") {
					w.h.record(name{name: reg}, readers+writers, input{do: read, version: v}, call)
				}
			}
		}
	}
}

func (w *watched) Put(e, old *accel.Entry) error {
	call := w.h.now()
	until := call + int64(time.Until(e.KeepUntil))
	err := w.Store.Put(e, old)
	switch {
	case errors.Is(err, accel.ErrBusy):
		// It did not happen, but may have been seen meanwhile.
		w.h.mu.Lock()
		w.h.unclear[keyName(e.Key)] = true
		w.h.mu.Unlock()
	case err == nil:
		m, perr := parseEntry(e)
		if perr != nil {
			w.h.fail(perr)
			return err
		}
		done := w.h.now()
		w.h.recordUntil(keyName(e.Key), 0, input{
			do: put, version: m.run, at: e.At.N, ordered: w.h.setting.ordered, until: until, done: done,
		}, call, done)
	}
	return err
}
