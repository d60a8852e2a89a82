package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/accel"
)

// model performs random operations on a store and on a plain map that forgets
// nothing, and compares.
func model(t *testing.T, b *backend) {
	seed, steps := rand.Uint64(), 3000
	if testing.Short() {
		steps = 500
	}
	for env, set := range map[string]func(string) error{
		"ACCEL_STORETEST_SEED":  func(s string) (err error) { seed, err = strconv.ParseUint(s, 10, 64); return },
		"ACCEL_STORETEST_STEPS": func(s string) (err error) { steps, err = strconv.Atoi(s); return },
	} {
		if s := os.Getenv(env); s != "" {
			require.NoError(t, set(s), env)
		}
	}
	t.Logf("ACCEL_STORETEST_SEED=%d ACCEL_STORETEST_STEPS=%d", seed, steps)
	m := &run{
		fixture: b.start(t, 0),
		r:       rand.New(rand.NewPCG(seed, 0)),
		entries: map[accel.Key]*version{},
		names:   map[accel.Digest][]string{},
		hard:    map[accel.Hash]uint64{},
		soft:    map[accel.Hash][]softMark{},
	}
	at := m.Begin()
	m.End(at)
	m.at = at
	for i := range steps {
		m.step()
		if t.Failed() {
			t.Fatalf("at step %d; the last ones were:\n%s", i, m.history())
		}
	}
}

// A run is the model: the rules, as plainly as they can be written.
type run struct {
	*fixture
	r   *rand.Rand
	log []string
	// subject is the resource of the last Get or Put, as it is in the log.
	subject string

	at      accel.Position            // the store's own
	held    []hold                    // by Begin
	ended   []accel.Position          // let go
	entries map[accel.Key]*version    // of each key, what was put last
	names   map[accel.Digest][]string // of each resource, those of its last entry
	seen    []*accel.Entry            // whatever was ever put or got
	hard    map[accel.Hash]uint64     // number of the last invalidation
	floor   uint64                    // that of everything
	soft    map[accel.Hash][]softMark // all expiries
	softAll []softMark
}

type version struct{ *accel.Entry }

type hold struct {
	at    accel.Position
	since time.Time
}

// patience is for how long a store has at least to hold a position: "a few
// minutes", by the most impatient reading.
const patience = time.Minute

func (m *run) hold() accel.Position {
	at := m.Begin()
	m.held = append(m.held, hold{at, m.clock.Now()})
	return at
}

func (m *run) holds(at accel.Position) bool {
	return slices.ContainsFunc(m.held, func(h hold) bool {
		return h.at == at && m.clock.Now().Sub(h.since) <= patience
	})
}

type softMark struct {
	n     uint64
	since time.Time
}

func (m *run) logf(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

// history returns the last operations, and before them those on the resource
// that the last one was about.
func (m *run) history() string {
	var b strings.Builder
	recent := max(0, len(m.log)-40)
	for i, l := range m.log {
		if i >= recent || m.subject != "" && strings.Contains(l, m.subject) {
			fmt.Fprintf(&b, "%6d %s\n", i, l)
		}
	}
	return b.String()
}

// marked reports whether a hard mark strikes.
func (m *run) marked(n uint64, marks []accel.Hash) bool {
	for _, h := range marks {
		if n < m.hard[h] {
			return true
		}
	}
	return n < m.floor
}

// live reports whether an entry may be returned.
func (m *run) live(v *version) bool {
	return v != nil && !m.marked(v.At.N, v.Marks) && m.clock.Now().Before(v.KeepUntil)
}

// stale returns when e was first expired, and the earliest moment a store may
// give instead: a mark may remember its first expiry only, though that was
// before the entry.
func (m *run) stale(e *accel.Entry) (exact, earliest time.Time) {
	all := slices.Clone(m.softAll)
	for _, h := range e.Marks {
		all = append(all, m.soft[h]...)
	}
	for _, s := range all {
		if e.At.N < s.n && (exact.IsZero() || s.since.Before(exact)) {
			exact = s.since
		}
		if earliest.IsZero() || s.since.Before(earliest) {
			earliest = s.since
		}
	}
	return exact, earliest
}

func pick[T any](m *run, from []T) T { return from[m.r.IntN(len(from))] }

var (
	modelURLs  = []string{"/a", "/b", "https://example.org/a", "/c"}
	modelNames = [][]string{nil, nil, {"Accept-Language"}, {"Accept-Language", "Cookie"}}
	modelTags  = []string{"s", "t", "u", "v", "w"}
)

// some returns a few tags.
func (m *run) some() (tags []string) {
	for _, t := range modelTags {
		if m.r.IntN(3) == 0 {
			tags = append(tags, t)
		}
	}
	return tags
}

func (m *run) marks() []accel.Mark {
	if m.r.IntN(25) == 0 {
		return []accel.Mark{accel.MarkAll}
	}
	var marks []accel.Mark
	switch m.r.IntN(6) {
	case 0:
		marks = append(marks, URLMark(pick(m, modelURLs)))
	case 1:
		marks = append(marks, TargetMark(pick(m, modelURLs)))
	default:
		marks = append(marks, accel.TagMark(pick(m, modelTags)))
	}
	if m.r.IntN(3) == 0 {
		marks = append(marks, accel.TagMark(pick(m, modelTags)))
	}
	return marks
}

// variant returns Vary names and one of the variants under them.
func (m *run) variant() (names []string, variant string) {
	names = pick(m, modelNames)
	if names != nil || m.r.IntN(8) == 0 {
		variant = fmt.Sprint(len(names), "-", m.r.IntN(3))
	}
	return names, variant
}

func (m *run) step() {
	switch p := m.r.IntN(100); {
	case p < 10:
		at := m.hold()
		m.logf("Begin = %+v", at)
		require.Equal(m, m.at, at)
	case p < 18:
		for one := m.r.IntN(8) > 0; len(m.held) > 0; { // all of them, now and then
			i := m.r.IntN(len(m.held))
			at := m.held[i].at
			m.End(at)
			m.logf("End %+v", at)
			m.ended = append(m.ended, at)
			m.held = slices.Delete(m.held, i, i+1)
			if one {
				break
			}
		}
	case p < 45:
		m.stepPut()
	case p < 75:
		m.stepGet()
	case p < 79:
		if len(m.seen) > 0 {
			e := m.seen[max(0, len(m.seen)-1-m.r.IntN(20))]
			m.logf("Delete %s", m.name(e))
			require.NoError(m, m.Delete(e))
			if v := m.entries[e.Key]; v != nil && (v.Entry == e || Diff(v.Entry, e) == "") {
				delete(m.entries, e.Key)
			}
		}
	case p < 86:
		marks := m.marks()
		m.logf("Invalidate %v", marks)
		m.invalidate(marks...)
		m.advance()
		for _, mk := range marks {
			if mk.Kind == accel.KindAll {
				m.floor = m.at.N
			} else {
				m.hard[mk.Hash] = m.at.N
			}
		}
	case p < 90:
		marks := m.marks()
		m.logf("Expire %v", marks)
		m.expire(marks...)
		m.advance()
		for _, mk := range marks {
			s := softMark{m.at.N, m.clock.Now()}
			if mk.Kind == accel.KindAll {
				m.softAll = append(m.softAll, s)
			} else {
				m.soft[mk.Hash] = append(m.soft[mk.Hash], s)
			}
		}
	case p < 93:
		at := m.position()
		marks := Entry(pick(m, modelURLs), Tags(m.some()...)).Marks
		got := m.Valid(at, marks)
		m.logf("Valid %+v %v = %v", at, marks, got)
		switch m.judge(at, marks) {
		case must:
			require.True(m, got)
		case mustNot:
			require.False(m, got)
		}
	case p < 96:
		d := time.Duration(m.r.Int64N(int64(10 * time.Second)))
		if m.r.IntN(4) == 0 {
			d *= 60
		}
		m.logf("the clock advances by %v", d)
		m.clock.Advance(d)
	case p < 98:
		m.logf("sweep")
		m.sweep()
	case p < 99:
		if m.b.reopen == nil {
			return
		}
		m.logf("reopen")
		m.reopen()
		at := m.Begin()
		m.End(at)
		require.NotEqual(m, m.at.Epoch, at.Epoch)
		require.GreaterOrEqual(m, at.N, m.at.N)
		m.at = at
		for _, h := range m.held {
			m.ended = append(m.ended, h.at)
		}
		m.held = nil
	default:
		st := m.Stats()
		require.GreaterOrEqual(m, st.Bytes, int64(0))
		require.GreaterOrEqual(m, st.Entries, int64(0))
	}
}

// advance follows the store, whose number has grown by one.
func (m *run) advance() {
	at := m.Begin()
	m.End(at)
	require.Equal(m, m.at.N+1, at.N)
	m.at = at
}

func (m *run) position() accel.Position {
	switch p := m.r.IntN(20); {
	case p == 0 && len(m.ended) > 0:
		return pick(m, m.ended)
	case p == 1:
		return accel.Position{Epoch: m.at.Epoch, N: m.at.N + 1}
	case p < 10 && len(m.held) > 0:
		return pick(m, m.held).at
	default:
		return m.hold()
	}
}

// A verdict says what a store has to do.
type verdict int

const (
	may verdict = iota
	must
	mustNot
)

// judge says whether something made at a position may be used: rules 6, 7, 15.
func (m *run) judge(at accel.Position, marks []accel.Hash) verdict {
	switch {
	case at.Epoch != m.at.Epoch || at.N > m.at.N || m.marked(at.N, marks):
		return mustNot
	case at != m.at && !m.holds(at):
		return may
	}
	return must
}

func (m *run) stepPut() {
	at := m.position()
	url := pick(m, modelURLs)
	names, variant := m.variant()
	now := m.clock.Now()
	var old *accel.Entry
	e := Entry(url, At(at), Vary(names...), Variant(variant), Tags(m.some()...),
		Text(fmt.Sprint("text ", len(m.log))), Times(now, now.Add(time.Minute), now.Add(time.Duration(1+m.r.Int64N(int64(time.Hour))))))
	if m.r.IntN(4) == 0 && len(m.seen) > 0 { // a renewal
		old = m.seen[max(0, len(m.seen)-1-m.r.IntN(10))]
		e.Key, e.Resource, e.Variant, e.Vary = old.Key, old.Resource, old.Variant, old.Vary
		e.Bodies, e.Length = old.Bodies, old.Length
		tags, marks := e.Tags, e.Marks[2:]
		e.Tags, e.Marks = slices.Clone(old.Tags), slices.Clone(old.Marks)
		for i, tag := range tags {
			if !slices.Contains(e.Tags, tag) {
				e.Tags, e.Marks = append(e.Tags, tag), append(e.Marks, marks[i])
			}
		}
	}

	want := m.judge(at, e.Marks)
	have := m.entries[e.Key]
	weaken := func() {
		if want == must {
			want = may
		}
	}
	switch {
	case have == nil:
		if old != nil {
			want = mustNot
		}
	case old != nil && have.Entry != old && Diff(have.Entry, old) != "", old != nil && m.marked(old.At.N, old.Marks):
		want = mustNot
	case have.At.N > at.N && m.live(have) && slices.Equal(have.Vary, e.Vary):
		want = mustNot
	case have.At.N > at.N || old != nil && !m.live(have):
		weaken() // it may be there, invalid as it is, or have been reclaimed
	}
	for k, v := range m.entries {
		if k.Resource == e.Key.Resource && !slices.Equal(v.Vary, e.Vary) && v.At.N > at.N {
			weaken() // a higher position under other names: neither rule 4 nor rule 11 decides
		}
	}

	m.subject = fmt.Sprintf("%q", e.Resource)
	err := m.Put(e, old)
	m.logf("Put %s renewing %s: %v, want %v", m.name(e), m.name(old), err, want)
	if err != nil {
		require.ErrorIs(m, err, accel.ErrInvalidated)
		require.NotEqual(m, must, want, "must be accepted\n%s", m.history())
		return
	}
	require.NotEqual(m, mustNot, want, "must be refused\n%s", m.history())
	for k, v := range m.entries {
		if k.Resource == e.Key.Resource && !slices.Equal(v.Vary, e.Vary) {
			delete(m.entries, k)
		}
	}
	m.entries[e.Key] = &version{e}
	m.names[e.Key.Resource] = e.Vary
	m.seen = append(m.seen, e)
}

func (m *run) stepGet() {
	url := pick(m, modelURLs)
	names, variant := m.variant()
	key := Key(url, variant)
	found, err := m.Get(m.ctx, key, names)
	m.subject = fmt.Sprintf("%q", Entry(url).Resource)
	m.logf("Get %s vary %q %q = %s, stale since %v, %q, %v", m.subject, names, variant, m.name(found.Entry), found.StaleSince, found.Vary, err)

	v := m.entries[key]
	if m.live(v) && slices.Equal(v.Vary, names) {
		require.NoError(m, err, "want %s\n%s", m.name(v.Entry), m.history())
		require.Empty(m, Diff(v.Entry, found.Entry), m.history())
		exact, earliest := m.stale(v.Entry)
		require.Equal(m, exact.IsZero(), found.StaleSince.IsZero(), "stale since %v\n%s", exact, m.history())
		require.False(m, found.StaleSince.After(exact) || !exact.IsZero() && found.StaleSince.Before(earliest),
			"stale since %v\n%s", exact, m.history())
		m.seen = append(m.seen, found.Entry)
		return
	}
	require.True(m, errors.Is(err, accel.ErrNotFound), "nothing valid is there, but Get returned %v\n%s", err, m.history())
	require.Nil(m, found.Entry, m.history())

	right := m.names[key.Resource]
	if slices.Equal(right, names) {
		require.Nil(m, found.Vary, "the names were right\n%s", m.history())
		return
	}
	known := found.Vary != nil
	for k, v := range m.entries {
		// None are the right names, too, but nothing can say so.
		known = known || k.Resource == key.Resource && m.live(v) && len(right) > 0
	}
	if known { // they may be remembered for longer than the last entry
		require.Equal(m, right, found.Vary, m.history())
	}
}

func (m *run) name(e *accel.Entry) string {
	if e == nil {
		return "nothing"
	}
	return fmt.Sprintf("{%q %q vary %q tags %q at %+v keep %v: %s}",
		e.Resource, e.Variant, e.Vary, e.Tags, e.At, e.KeepUntil.Sub(Start), e.Bodies[0].Data)
}
