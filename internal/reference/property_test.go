package reference

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/accel/storetest"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/memstore"
)

// Nobody gets a response that he cannot decode or that is not his. Random
// visits, to handlers with random rules, are made to the cache and to the
// reference cache, among changes, purges, expiries, the clock going on, and
// restarts. Each answer is checked twice:
//
//   - By itself: it is for this user, URL and variant, it is not older than the
//     last purge or than its lifetime, and its coding, length, entity tag and
//     part are right.
//   - Against the reference: it is a hit where that has one, the handler is
//     asked where that asks, and what for, and the answer is the same.
//
// A run consists of rounds, each with a world of its own. The seed of a round is
// printed when it fails. ACCEL_PROPERTY_SEED begins with it, ACCEL_PROPERTY_STEPS
// says how many steps there are for each policy and store, and
// ACCEL_PROPERTY_STORE chooses the store:
//
//	ACCEL_PROPERTY_STEPS=1000000 ACCEL_PROPERTY_STORE=memstore \
//		go test ./accel -run TestProperty -timeout 1h
func TestProperty(t *testing.T) {
	steps := fromEnv(t, "ACCEL_PROPERTY_STEPS", 5000)
	if testing.Short() {
		steps = min(steps, 1000)
	}
	seed := fromEnv(t, "ACCEL_PROPERTY_SEED", int(rand.Uint32()))
	forEachStore(t, func(t *testing.T, open func(*testing.T) opener) {
		for name, policy := range policies {
			t.Run(name, func(t *testing.T) {
				var total tally
				for n, seed := 0, uint64(seed); n < steps; n, seed = n+roundSteps, seed+1 {
					w := newWorld(t, seed, policy, open(t))
					for range min(roundSteps, steps-n) {
						w.step()
					}
					w.close()
					total.add(w.tally)
				}
				t.Logf("%d steps from seed %d: %v", steps, seed, total)
			})
		}
	})
}

// roundSteps is the length of a round: long enough for all to meet, and short
// enough to be read.
const roundSteps = 5000

var policies = map[string]accel.Policy{"OptIn": accel.OptIn, "RFC9111": accel.RFC9111}

func fromEnv(t *testing.T, name string, otherwise int) int {
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// An opener opens a store, and again what it holds after it was closed.
type opener func(now func() time.Time) accel.Store

func forEachStore(t *testing.T, f func(t *testing.T, open func(*testing.T) opener)) {
	stores := map[string]func(t *testing.T) opener{
		"memstore": func(*testing.T) opener {
			return func(now func() time.Time) accel.Store { return memstore.New(memstore.WithClock(now)) }
		},
		"boltstore": func(t *testing.T) opener {
			path := filepath.Join(t.TempDir(), "cache.db")
			return func(now func() time.Time) accel.Store {
				s := boltstore.Open(path, boltstore.WithClock(now), boltstore.WithLogger(slog.New(slog.DiscardHandler)))
				if err := s.Ping(context.Background()); err != nil {
					t.Fatal(err)
				}
				return s
			}
		},
	}
	for name, open := range stores {
		if only := os.Getenv("ACCEL_PROPERTY_STORE"); only == "" || only == name {
			t.Run(name, func(t *testing.T) { f(t, open) })
		}
	}
}

// The sizes that matter are small here, so that bodies are.
const (
	minCompressed = 512
	holdLimit     = 4 << 10
	maxBody       = 8 << 10
)

// A world is what a round plays in: the site, its visitors, and its cache.
type world struct {
	t       *testing.T
	seed    uint64
	r       *rand.Rand
	clock   *storetest.Clock
	policy  accel.Policy
	open    opener
	cache   *accel.Cache
	site    *site
	ref     *reference
	log     []string
	subject string // of the last visit, as it is in the log
	tally   tally
	faults  uint64 // of the store, so far

	forms *forms
}

func newWorld(t *testing.T, seed uint64, policy accel.Policy, open opener) *world {
	w := &world{
		t: t, seed: seed, r: rand.New(rand.NewPCG(seed, 0)), clock: storetest.NewClock(), policy: policy, open: open,
		forms: newForms(),
	}
	w.site = newSite(w.clock, func() *rules { return randomRules(w.r, policy) })
	w.ref = &reference{
		rfc9111: policy == accel.RFC9111, now: w.clock.Now, maxBody: maxBody, holdLimit: holdLimit,
		pages: map[place][]*kept{}, known: map[place]bool{},
	}
	w.start()
	return w
}

func (w *world) start() {
	w.faults = 0
	w.cache = accel.New(w.site, w.open(w.clock.Now), accel.WithPolicy(w.policy), accel.WithClock(w.clock.Now),
		accel.WithLogger(slog.New(slog.DiscardHandler)), accel.WithMaxBody(maxBody), accel.WithHoldLimit(holdLimit))
}

// rest waits for what is stored behind an answer: the clock is to stand still for it,
// and what comes next depends on it.
func (w *world) rest() {
	for range 10_000_000 {
		if w.cache.Stats().Store.InFlight == 0 {
			return
		}
		runtime.Gosched()
	}
	w.fatalf("%d positions are still held", w.cache.Stats().Store.InFlight)
}

func (w *world) close() {
	w.rest()
	if err := w.cache.Close(); err != nil {
		w.fatalf("%v", err)
	}
}

func (w *world) logf(format string, args ...any) {
	w.log = append(w.log, w.clock.Now().Format("02 15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// fatalf ends the test, with how to have it again, and what was done.
func (w *world) fatalf(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("ACCEL_PROPERTY_SEED=%d, at step %d: %s\nBefore it:\n%s", w.seed, len(w.log),
		fmt.Sprintf(format, args...), w.history())
}

// history has what was done lately to all, and what to the place of the last visit.
func (w *world) history() string {
	var b strings.Builder
	for i, l := range w.log {
		if here := strings.Contains(strings.ToLower(l), " "+strings.ToLower(w.subject)+" "); here && i >= len(w.log)-1000 ||
			i >= len(w.log)-300 && (strings.Contains(l, " purge ") || strings.Contains(l, " restart")) {
			fmt.Fprintf(&b, "%6d %s\n", i, l)
		}
	}
	return b.String()
}

// step does one thing, and writes one line into the log.
func (w *world) step() {
	switch p := w.r.IntN(1000); {
	case p < 40:
		d := time.Duration(w.r.Int64N(int64(5 * time.Second)))
		switch w.r.IntN(20) {
		case 0:
			d *= 20
		case 1:
			d *= 800
		}
		w.clock.Advance(d)
		w.logf("%v later", d)
	case p < 70:
		w.purge()
	case p < 90:
		at := randomPlace(w.r)
		w.logf("%s changes: version %d", at, w.site.change(at.String()))
	case p < 105:
		at := randomPlace(w.r)
		r := w.site.replace(at)
		w.logf("%s has new rules: %+v", at, *r)
	case p < 107:
		w.close()
		w.start()
		if w.cache.Stats().Store.Entries == 0 { // it is not a durable store
			w.ref.remove(func(*kept) bool { return true })
		}
		w.logf("a restart")
	default:
		v := randomVisit(w.r, w.forms.known, w.site.dates)
		w.subject = v.place.String()
		w.logf("%v", v)
		w.visit(v)
	}
}

// purge purges or expires something, which most often has changed before.
func (w *world) purge() {
	ctx := w.t.Context()
	soft := false
	var names []string
	var purge func() error
	var err error
	switch n := w.r.IntN(40); {
	case n == 0:
		names = []string{"*"}
		purge = func() error { return w.cache.InvalidateAll(ctx) }
	case n < 8:
		p := randomPlace(w.r)
		names = []string{p.String()}
		if n < 3 {
			names[0] = p.target
		}
		purge = func() error { return w.cache.InvalidateURL(ctx, names...) }
	default:
		names = []string{pick(w.r, siteTags), pick(w.r, siteTags)}[:1+w.r.IntN(2)]
		purge = func() error { return w.cache.InvalidateTag(ctx, names...) }
		if soft = n < 16; soft {
			purge = func() error { return w.cache.ExpireTag(ctx, names...) }
		}
	}
	version := -1
	if w.r.IntN(4) > 0 {
		version = w.site.change(names...)
	}
	w.logf("purge of %q, expiry %v, for version %d", names, soft, version)
	if err = purge(); err != nil {
		w.fatalf("%v", err)
	}
	w.site.purge(version, names...)
	match := func(k *kept) bool {
		return slices.ContainsFunc(names, func(n string) bool { return slices.Contains(madeFrom(k.place, k.rules), n) })
	}
	if soft {
		w.ref.expire(match)
	} else {
		w.ref.remove(match)
	}
	w.tally.purges++
}

// visit makes a visit, and compares what comes of it.
func (w *world) visit(v *visit) {
	arrival := w.site.arrive()
	w.site.calls = []*rendering{}
	res := send(w.cache, v)
	w.rest()
	calls := w.site.calls
	if err := w.site.examine(v, res, arrival, w.forms); err != nil {
		w.fatalf("%v\n%s", err, dump(res))
	}

	w.excuse(v, len(calls))
	asked := ""
	want := w.ref.serve(v, func(q question, k *kept) *rendering {
		asked += " " + string(q)
		if len(calls) == 0 {
			w.fatalf("the handler was not asked%s\n%s", asked, dump(res))
		}
		c := calls[0]
		calls = calls[1:]
		if err := fits(q, k, v, c); err != nil {
			w.fatalf("the handler was asked what it should not be: %v\n%s", err, dump(res))
		}
		return c
	})
	if len(calls) > 0 {
		w.fatalf("the handler was asked, though this is %s, of %v\n%s", want.as, want.rendering, dump(res))
	}
	if err := w.compare(v, res, want); err != nil {
		w.fatalf("%v; this is %s, of %v\n%s", err, want.as, want.rendering, dump(res))
	}
	if w.policy == accel.RFC9111 && v.method == "POST" && want.status < 400 {
		w.site.purge(want.version, v.place.String())
	}
}

// excuse lets a store not find for once what it could not read in time, as
// boltstore may when the machine is busy.
func (w *world) excuse(v *visit, calls int) {
	w.ref.hidden = nil
	k := w.ref.find(v)
	if k == nil || calls == 0 {
		return
	}
	s := w.cache.Stats()
	if faults := s.StoreErrors + s.Store.ReadErrors; faults > w.faults {
		w.faults = faults
		w.tally.excused++
		w.ref.hidden = k
	}
}

// fits reports how a handler was asked something else than it should.
func fits(q question, k *kept, v *visit, c *rendering) error {
	client := v.request().Header
	asIs, bare := true, true
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"} {
		saw := c.saw[name]
		bare = bare && saw == nil
		if name == "If-Match" && len(saw) == 2 {
			saw = saw[:1] // the handler is told what its own tags for these are
		}
		asIs = asIs && slices.Equal(saw, client[name])
	}
	switch q {
	case everything:
		if asIs {
			return nil
		}
	case theWhole:
		if bare {
			return nil
		}
	case eitherOf:
		if asIs || bare {
			return nil
		}
	case toConfirm:
		date := ""
		if !k.modified.IsZero() {
			date = k.modified.Format(http.TimeFormat)
		}
		if c.saw.Get("If-None-Match") == k.etag && c.saw.Get("If-Modified-Since") == date && !c.sawRange() &&
			c.saw["If-Match"] == nil && c.saw["If-Unmodified-Since"] == nil {
			return nil
		}
	}
	return fmt.Errorf("%v, for %s", c.saw, q)
}

// compare compares a response with what the reference answers.
func (w *world) compare(v *visit, res *response, want answer) error {
	status := res.Header.Get("Cache-Status")
	for part, has := range map[string]bool{
		"Accelerator; ":    want.as != passed || w.policy == accel.RFC9111 && v.method == "POST",
		"Accelerator; hit": want.as == hit,
		"; stored":         want.as == fetched || want.as == renewed,
		"; fwd-status=304": want.as == renewed || want.as == affirmed,
	} {
		if strings.Contains(status, part) != has {
			return fmt.Errorf("Cache-Status %q", status)
		}
	}
	if res.panicked != want.panicked {
		return fmt.Errorf("panicked: %v", res.panicked)
	}
	w.tally.count(want.as, res.status)
	switch want.as {
	case streamed, relayed, passed:
		switch {
		case res.status != want.status:
			return fmt.Errorf("status %d, not %d", res.status, want.status)
		case string(res.body) != want.sent:
			return fmt.Errorf("not the handler's body")
		}
		return nil
	}

	coding := ""
	if want.compressible() {
		coding = v.accept.best
	}
	tag, err := w.forms.tagOf(v.place, want.rendering, coding, res.Header.Get("Etag"))
	if err != nil {
		return err
	}
	h := res.Header
	outcome := v.outcome(want.rendering, tag, want.date)
	age := ""
	if d := want.age(w.clock.Now()); d >= 0 {
		age = strconv.Itoa(int(d / time.Second))
	}
	vary := strings.ToLower(strings.Join(h["Vary"], ", "))
	switch {
	case res.status != outcome:
		return fmt.Errorf("status %d, not %d", res.status, outcome)
	case h.Get("X-Page") != want.page:
		return fmt.Errorf("another page, not %s", want.page)
	case h.Get("Etag") != tag:
		return fmt.Errorf("entity tag %s, not %s", h.Get("Etag"), tag)
	case h.Get("Age") != age:
		return fmt.Errorf("Age %q, not %q", h.Get("Age"), age)
	case want.compressible() && !strings.Contains(vary, "accept-encoding"):
		return fmt.Errorf("Vary is %q", vary)
	case h.Get("Content-Encoding") != coding && (outcome == 200 || outcome == 206):
		return fmt.Errorf("Content-Encoding %q, not %q", h.Get("Content-Encoding"), coding)
	}
	if v.method == "HEAD" && outcome == http.StatusOK && coding == "" && h.Get("Content-Length") != strconv.Itoa(len(want.body)) {
		return fmt.Errorf("Content-Length %s", h.Get("Content-Length"))
	}
	for _, name := range want.vary {
		if !strings.Contains(vary, strings.ToLower(name)) {
			return fmt.Errorf("Vary is %q", vary)
		}
	}
	return nil
}

// A response is one that was read.
type response struct {
	status int
	http.Header
	body     []byte
	panicked bool
}

func dump(r *response) string {
	return fmt.Sprintf("%d %v panicked: %v\n%.300q", r.status, r.Header, r.panicked, r.body)
}

func send(c *accel.Cache, v *visit) *response {
	rec := httptest.NewRecorder()
	res := &response{panicked: true}
	func() {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				panic(p)
			}
		}()
		c.ServeHTTP(rec, v.request())
		res.panicked = false
	}()
	res.status, res.Header, res.body = rec.Code, rec.Result().Header, rec.Body.Bytes()
	return res
}

type tally struct{ hits, fetched, confirmed, relayed, passed, notModified, partial, failed, purges, excused int }

func (t *tally) count(as means, status int) {
	switch as {
	case hit:
		t.hits++
	case fetched, streamed:
		t.fetched++
	case renewed, affirmed:
		t.confirmed++
	case relayed:
		t.relayed++
	case passed:
		t.passed++
	}
	switch status {
	case http.StatusNotModified:
		t.notModified++
	case http.StatusPartialContent:
		t.partial++
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		t.failed++
	}
}

func (t *tally) add(o tally) {
	a := []*int{&t.hits, &t.fetched, &t.confirmed, &t.relayed, &t.passed, &t.notModified, &t.partial, &t.failed, &t.purges, &t.excused}
	b := []int{o.hits, o.fetched, o.confirmed, o.relayed, o.passed, o.notModified, o.partial, o.failed, o.purges, o.excused}
	for i := range a {
		*a[i] += b[i]
	}
}

func (t tally) String() string {
	return fmt.Sprintf("%d hits, %d fetched and stored, %d confirmed, %d relayed, %d passed; %d 304, %d 206, %d 412 and 416; %d purges; %d excused",
		t.hits, t.fetched, t.confirmed, t.relayed, t.passed, t.notModified, t.partial, t.failed, t.purges, t.excused)
}
