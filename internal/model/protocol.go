package model

// A protocol is the machine that a scenario runs: ours, unless faults are set.
type protocol struct {
	*scenario
	faults [faultCount]bool
	// active counts the steps of a state that are not accidents: if there is
	// none, everything is at rest.
	active int
}

// What is violated.
const (
	promiseBroken = "the promise: an answer is older than an invalidation that was acknowledged before the request came"
	staleAsFresh  = "freshness: an answer passes for fresh, and is older than an expiry that was acknowledged before the request came"
	orderBroken   = "order: an answer is older than what the key held when the request came"
	tooMuch       = "too much is struck: an entry is gone or refused that no mark says so of"
	neverEnds     = "rest: a mark is left when nothing moves any more"
)

// next adds the steps of a state. It returns what is wrong when it has none.
func (m *protocol) next(s *world, out *Steps[world]) string {
	m.active = 0
	for i := range m.requests {
		m.request(s, out, uint8(i))
	}
	for i := range m.writes {
		m.change(s, out, uint8(i))
	}
	for p := range m.procs {
		m.process(s, out, uint8(p))
	}
	if m.active == 0 {
		return m.atRest(s)
	}
	return ""
}

// step adds a step that happens sooner or later.
func (m *protocol) step(out *Steps[world], t *world, broken, words string, args ...uint8) {
	m.active++
	out.add(t, broken, words, args...)
}

// accident adds a step that may happen.
func (m *protocol) accident(s *world, out *Steps[world], kind uint8, change func(t *world), words string, args ...uint8) {
	if s.used[kind] >= m.accidents[kind] {
		return
	}
	t := *s
	t.used[kind]++
	change(&t)
	out.add(&t, "", words, args...)
}

// atRest looks at a state in which nothing is left to be done: no mark is to be
// left, in memory or on disk, while its process lives and has its file.
func (m *protocol) atRest(s *world) string {
	if m.restless {
		return ""
	}
	for p := range m.procs {
		pr := &s.procs[p]
		if pr.up != open {
			continue
		}
		for t := range m.tags {
			if pr.rows[t].known() || m.file(s, uint8(p)).marks[t] != (mark{}) && !m.inMemory {
				return neverEnds
			}
		}
	}
	return ""
}

// The marks of a process. These are the functions of package marks, each of which
// is one step there, because it holds the lock.

func (m *protocol) strikes(r row, at uint8) bool { return at < r.hard }
func (m *protocol) stales(r row, at uint8) bool  { return at < r.soft }

func (m *protocol) valid(pr *process, at, tags uint8) bool {
	if at < pr.floor || at > pr.n {
		return false
	}
	for t := range m.tags {
		if tags>>t&1 != 0 && m.strikes(pr.rows[t], at) {
			return false
		}
	}
	return true
}

func (m *protocol) staleSince(pr *process, at, tags uint8) uint8 {
	for t := range m.tags {
		if tags>>t&1 != 0 && m.stales(pr.rows[t], at) {
			return 1
		}
	}
	return 0
}

// check is Check: checked is up to where the marks have been looked at.
func (m *protocol) check(pr *process, at, checked, tags uint8) (valid bool, stale uint8) {
	switch {
	case checked == pr.n:
		return true, 0
	case !m.valid(pr, at, tags):
		return false, 0
	}
	return true, m.staleSince(pr, at, tags)
}

func (m *protocol) mayUse(pr *process, epoch, at, tags uint8) bool {
	if epoch != pr.epoch && !m.faults[epochIgnored] || at < pr.horizon && !m.faults[horizonIgnored] {
		return false
	}
	if m.faults[expiryRefuses] && m.staleSince(pr, at, tags) != 0 {
		return false
	}
	return m.valid(pr, at, tags)
}

// mark makes marks of one change: Invalidate and Expire.
func (m *protocol) mark(t *world, p uint8, w write) (num uint8) {
	pr := &t.procs[p]
	n := pr.n + 1
	if m.faults[numberStays] {
		n = max(pr.n, 1)
	}
	raise := w.kind == everything
	for tag := range m.tags {
		if w.tags>>tag&1 == 0 || w.kind == everything {
			continue
		}
		r := &pr.rows[tag]
		if w.kind == expiry {
			r.soft = n
			if m.faults[oneKindOfMark] {
				r.hard = 0
			}
		} else {
			r.hard = n
		}
		r.owed = 1
	}
	known := uint8(0)
	for tag := range m.tags {
		if pr.rows[tag].known() {
			known++
		}
	}
	if m.limit > 0 && known > m.limit {
		if m.faults[oldestForgotten] {
			// The lowest row makes room.
			low := -1
			for tag := range m.tags {
				if w.tags>>tag&1 == 0 && pr.rows[tag].known() && (low < 0 || pr.rows[tag].top() < pr.rows[low].top()) {
					low = tag
				}
			}
			pr.rows[low] = row{}
		} else {
			raise = true
		}
	}
	if raise {
		m.raise(pr, n)
	}
	pr.n = n
	return n
}

func (m *protocol) raise(pr *process, n uint8) {
	pr.floor = n
	if !m.faults[floorNotOwed] {
		pr.owesFloor = 1
	}
	pr.rows = [maxTags]row{}
}

// oldest returns the lowest number that is held.
func (m *protocol) oldest(s *world, p uint8) uint8 {
	pr := &s.procs[p]
	low := pr.n
	if !m.faults[flightsHoldNothing] {
		for i := range m.requests {
			if r := &s.requests[i]; m.requests[i].proc == p && r.holds != 0 && r.epoch == pr.epoch {
				low = min(low, r.at)
			}
		}
	}
	if !m.faults[queueHoldsNothing] {
		for k := range m.keys {
			if o := &pr.queue[k]; o.kind == opStore && o.e.epoch == pr.epoch {
				low = min(low, o.e.at)
			}
		}
	}
	if pr.leaked != 0 {
		low = min(low, pr.leaked-1)
	}
	return low
}

// enter is the end of Adopt and Reset.
func (m *protocol) enter(t *world, p, n uint8) {
	pr := &t.procs[p]
	t.epochs++
	pr.epoch, pr.horizon, pr.n, pr.leaked = t.epochs, n, n, 0
	for i := range m.requests {
		if m.requests[i].proc == p {
			t.requests[i].holds = 0
		}
	}
	m.generation(t, p)
}

// generation raises Gen: who is at a look-up will find it changed.
func (m *protocol) generation(t *world, p uint8) {
	for i := range m.requests {
		if r := &t.requests[i]; m.requests[i].proc == p {
			switch r.ph {
			case atQueue, inQueue, atDisk, onDisk, promotes, asked:
				r.dropped = 1
			}
		}
	}
}

// The memory tier.

// touch voids the tickets of a key. A ticket is taken in the step that looks: in
// the code it is taken before, and what comes in between voids it, which is as if
// the look had come later.
func (m *protocol) touch(t *world, p, key uint8) {
	for i := range m.requests {
		if r := &t.requests[i]; m.requests[i].proc == p && m.requests[i].key == key && (r.ph == atDisk || r.ph == onDisk || r.ph == promotes || r.ph == asked) {
			r.changed = 1
		}
	}
}

// take takes an item out of memory.
func (m *protocol) take(t *world, p, key uint8) {
	pr := &t.procs[p]
	if pr.mem[key].e.is == 0 {
		return
	}
	pr.mem[key] = item{}
	for i := range m.requests {
		if r := &t.requests[i]; m.requests[i].proc == p && m.requests[i].key == key && (r.ph == inMemory || r.ph == judged) {
			r.removed = 1
		}
	}
}

// drop removes what a key holds in memory, if it is e.
func (m *protocol) drop(t *world, p, key uint8, e *response) {
	m.touch(t, p, key)
	if e == nil || t.procs[p].mem[key].e == *e {
		m.take(t, p, key)
	}
}

func (m *protocol) clear(t *world, p uint8) {
	for k := range m.keys {
		m.drop(t, p, uint8(k), nil)
	}
}

// markStale writes into an item that it is stale; who has it at hand sees it.
func (m *protocol) markStale(t *world, p, key uint8) {
	t.procs[p].mem[key].stale = 1
	for i := range m.requests {
		r := &t.requests[i]
		if m.requests[i].proc == p && m.requests[i].key == key && (r.ph == inMemory || r.ph == judged) && r.removed == 0 && !m.faults[staleReadEarly] {
			r.stale = 1
		}
	}
}

// Answers.

// answers tells what an answer violates. stored is whether it is from the store.
func (m *protocol) answers(r *request, e *response, stale uint8, fromStore bool) string {
	for t := range m.tags {
		if e.dep>>t&1 == 0 {
			continue
		}
		if e.val[t] < r.hard[t] {
			return promiseBroken
		}
		if stale == 0 && e.conf[t] < r.soft[t] && !(m.followersMayBeStale && !fromStore) {
			return staleAsFresh
		}
	}
	if m.order && fromStore && e.life+1 == r.sawGone {
		return orderBroken
	}
	if m.order && !m.slow && fromStore && e.life < r.seen {
		return orderBroken
	}
	return ""
}

// arrive makes a request come.
func (m *protocol) arrive(t *world, i uint8) *request {
	r, p := &t.requests[i], m.requests[i].proc
	for tag := range m.tags {
		told := t.procs[p].told[tag]
		r.hard[tag], r.soft[tag] = max(t.hard[tag], told), max(t.soft[tag], told)
	}
	if m.order {
		r.seen, r.sawGone = t.procs[p].put[m.requests[i].key], t.procs[p].gone[m.requests[i].key]
	}
	return r
}

// begin is Begin. The zero position has no epoch, and is not held.
func (m *protocol) begin(t *world, p uint8, r *request) {
	pr := &t.procs[p]
	if m.blindly(pr) {
		r.epoch, r.at, r.holds = 0, 0, 0
		return
	}
	r.epoch, r.at, r.holds = pr.epoch, pr.n, 1
}

// blindly reports whether positions are zero, because another process may have the
// file.
func (m *protocol) blindly(pr *process) bool {
	return pr.up != open && !(pr.up == waiting && pr.fails == forbidden) && !m.faults[beginsBlindly]
}

// leave ends a request. If it was a follower, its flight may be over for good.
func (m *protocol) leave(t *world, i uint8) {
	f := t.requests[i].flight
	t.requests[i] = request{ph: over}
	if f != 0 && t.requests[f-1].ph == landed && !m.followed(t, f-1) {
		t.requests[f-1] = request{ph: over}
	}
}

func (m *protocol) followed(t *world, i uint8) bool {
	for j := range m.requests {
		if t.requests[j].flight == i+1 {
			return true
		}
	}
	return false
}

// land ends a flight: whoever follows decides now.
func (m *protocol) land(t *world, i uint8) {
	r := &t.requests[i]
	if !m.followed(t, i) {
		*r = request{ph: over}
		return
	}
	*r = request{ph: landed, holds: r.holds, epoch: r.epoch, at: r.at, e: r.e}
}

// request adds the steps of a request.
func (m *protocol) request(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	pr := &s.procs[ro.proc]
	if pr.up == down || r.ph == over {
		return
	}
	if r.ph == notYet {
		// Of requests that are alike the first comes first.
		if i > 0 && m.requests[i-1] == ro && s.requests[i-1].ph == notYet {
			return
		}
	}
	if r.holds != 0 && r.at != pr.n && r.ph == hung && !m.faults[lapsesNever] {
		t := *s
		t.requests[i].holds = 0
		t.procs[ro.proc].horizon = max(pr.horizon, r.at+1)
		m.step(out, &t, "", "five minutes pass: what is held at position %d lapses", r.at)
	} else if r.holds != 0 && r.at != pr.n {
		m.accident(s, out, lapse, func(t *world) {
			for j := range m.requests {
				if o := &t.requests[j]; m.requests[j].proc == ro.proc && o.at == r.at && o.epoch == r.epoch {
					o.holds = 0
				}
			}
			t.procs[ro.proc].horizon = max(pr.horizon, r.at+1)
		}, "five minutes pass: what is held at position %d lapses", r.at)
	}
	if r.holds != 0 {
		m.accident(s, out, letGo, func(t *world) { t.requests[i].holds = 0 },
			"request %d lets go of position %d before it is done", i, r.at)
	}
	switch ro.kind {
	case leader:
		m.leads(s, out, i)
	case follower:
		m.follows(s, out, i)
	case reader, renewer, dropper:
		m.looksUp(s, out, i)
	}
}

// leads: begin, read, put, land. That a leader found nothing first is left out:
// it may lead at any time.
func (m *protocol) leads(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	switch r.ph {
	case notYet:
		t := *s
		n := m.arrive(&t, i)
		n.ph = begun
		m.begin(&t, ro.proc, n)
		m.step(out, &t, "", "request %d comes, and leads a flight for key %d from position %d", i, ro.key, n.at)
	case begun:
		if s.used[hang] < m.accidents[hang] {
			m.accident(s, out, hang, func(t *world) { t.requests[i].ph = hung }, "request %d: its handler hangs", i)
		}
		for _, tags := range m.tagsets {
			m.reads(s, out, i, tags, s.ver, "request %d: its handler reads version %d of tag 0 and %d of tag 1, and tags with %d")
			if m.replica {
				behind := s.ver
				for tag := range m.tags {
					if tags>>tag&1 != 0 && behind[tag] > 0 {
						behind[tag]--
					}
				}
				if behind != s.ver {
					m.reads(s, out, i, tags, behind, "request %d: its handler reads from a replica that lags: version %d of tag 0 and %d of tag 1, and tags with %d")
				}
			}
		}
	default:
		m.puts(s, out, i)
	}
}

func (m *protocol) reads(s *world, out *Steps[world], i, tags uint8, ver versions, words string) {
	t := *s
	n := &t.requests[i]
	n.ph = made
	n.e = response{is: 1, epoch: n.epoch, at: n.at, dep: tags, tags: tags}
	if m.faults[variantsWithoutURL] && m.requests[i].key > 0 {
		n.e.tags &^= 2
	}
	for tag := range m.tags {
		if tags>>tag&1 != 0 {
			n.e.val[tag], n.e.conf[tag] = ver[tag], ver[tag]
		}
	}
	m.step(out, &t, "", words, i, ver[0], ver[1], tags)
}

// puts goes on with a flight whose handler has returned.
func (m *protocol) puts(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	pr := &s.procs[ro.proc]
	switch r.ph {
	case made:
		switch {
		case m.faults[checkedApart]:
			t := *s
			if m.mayUse(pr, r.e.epoch, r.e.at, r.e.tags) {
				t.requests[i].ph = checked
				if m.faults[endsAtTheCheck] {
					t.requests[i].holds = 0
				}
				m.step(out, &t, "", "request %d: Put looks at the marks, and will store", i)
				return
			}
			m.land(&t, i)
			m.step(out, &t, "", "request %d: Put looks at the marks, and refuses", i)
		case m.twoSteps && !m.inMemory && pr.up == open:
			t := *s
			n := &t.requests[i]
			if r.at == pr.n && r.epoch == pr.epoch {
				n.ph = unasked
				m.step(out, &t, "", "request %d: Put finds that nothing newer can stand on disk", i)
				return
			}
			n.ph = asked
			if m.faults[ticketAfterLook] {
				n.ph = unticketed
			}
			if m.order {
				n.stood = s.disk.rec[ro.key].e.is
				n.higher = s.disk.rec[ro.key].e.at
				m.seesQueue(&t, i)
			}
			m.step(out, &t, "", "request %d: Put looks at what stands on disk", i)
			if m.slow && n.stood != 0 {
				n.stood, n.higher = 0, 0
				m.step(out, &t, "", "request %d: Put asks what stands on disk, and is not told in time", i)
			}
		default:
			m.admits(s, out, i, pr.up == open)
		}
	case unticketed:
		m.takesTicket(s, out, i)
	case asked, unasked, checked:
		m.admits(s, out, i, true)
	case stored:
		t := *s
		m.land(&t, i)
		m.step(out, &t, "", "request %d: its flight lands", i)
	case landed:
		if !m.followed(s, i) {
			t := *s
			m.land(&t, i)
			m.step(out, &t, "", "request %d is over", i)
		}
	}
}

// seesQueue notes whether the queue has something where Put looks. Nothing is taken
// from the queue that is not on disk by then: so, if it has nothing any more when
// the entry is admitted, what was seen on disk is out of date.
func (m *protocol) seesQueue(t *world, i uint8) {
	if ro := m.requests[i]; t.procs[ro.proc].queue[ro.key].kind != opNone {
		t.requests[i].queued = 1
	}
}

// moved reports whether what Put has seen may be out of date.
func (m *protocol) moved(s *world, i uint8) bool {
	ro, r := m.requests[i], &s.requests[i]
	if r.ph == unasked {
		return r.at != s.procs[ro.proc].n && !m.faults[unlookedForGood]
	}
	return r.changed != 0 && !m.faults[putWithoutTicket] ||
		r.queued != 0 && s.procs[ro.proc].queue[ro.key].kind == opNone && !m.faults[putSeesNoQueue]
}

func (m *protocol) takesTicket(s *world, out *Steps[world], i uint8) {
	t := *s
	t.requests[i].ph = asked
	m.step(out, &t, "", "request %d: Put takes its ticket", i)
}

// admits is Put inside the lock of the marks.
func (m *protocol) admits(s *world, out *Steps[world], i uint8, file bool) {
	ro, r := m.requests[i], &s.requests[i]
	end := func(t *world, words string) {
		// Between Put and landing a follower can come.
		n := &t.requests[i]
		n.ph, n.stood, n.higher, n.dropped, n.changed, n.queued = stored, 0, 0, 0, 0, 0
		if !m.hasFollowers {
			m.land(t, i)
		}
		m.step(out, t, "", words, i, r.e.at)
	}
	t := *s
	pr := &t.procs[ro.proc]
	e := r.e
	if m.faults[stampedAtStore] {
		e.at, e.epoch = pr.n, pr.epoch
	}
	may := m.mayUse(pr, e.epoch, e.at, e.tags)
	if m.faults[putUnchecked] || r.ph == checked {
		may = true
	}
	if !file || !may {
		if file && m.onlyMarksRefuse && e.epoch == pr.epoch && e.at >= pr.horizon && m.valid(pr, e.at, e.tags) {
			m.step(out, &t, tooMuch, "request %d: Put refuses what was made at position %d", i, e.at)
			return
		}
		end(&t, "request %d: Put refuses what was made at position %d")
		return
	}
	if m.moved(s, i) {
		n := &t.requests[i]
		n.ph = made
		if pr.up != open {
			n.ph = asked // and sees nothing
		}
		n.stood, n.higher, n.dropped, n.changed, n.queued = 0, 0, 0, 0, 0
		if n.ph == asked {
			m.seesQueue(&t, i)
		}
		m.step(out, &t, "", "request %d: the key has changed since Put looked; it looks again", i)
		return
	}
	o, mem := &pr.queue[ro.key], &pr.mem[ro.key]
	stands, higher := r.stood, r.higher
	if m.order && !m.twoSteps && !m.faults[standingUnasked] {
		stands, higher = s.disk.rec[ro.key].e.is, s.disk.rec[ro.key].e.at
	}
	lower := o.kind == opStore && o.e.at > e.at || mem.e.is != 0 && mem.e.at > e.at ||
		o.kind == opNone && stands != 0 && higher > e.at
	if lower && !m.faults[putsReplaceHigher] {
		end(&t, "request %d: Put refuses what was made at position %d: the key has a higher one")
		return
	}
	if m.order && !m.slow && m.holdsHigher(s, ro.proc, ro.key, e.at) {
		m.step(out, &t, orderBroken, "request %d: Put stores what was made at position %d, where something higher is", i, e.at)
		return
	}
	if m.order {
		pr.put[ro.key]++
		e.life = pr.put[ro.key] // by which what came later is known
	}
	m.enters(&t, ro.proc, ro.key, &e)
	if s.used[overflow] < m.accidents[overflow] {
		f := t
		f.used[overflow]++
		fp := &f.procs[ro.proc]
		fp.queue[ro.key] = op{kind: opDelete}
		if m.faults[droppedLeaves] {
			fp.queue[ro.key] = op{}
		}
		end(&f, "request %d: Put stores what was made at position %d in memory; the queue is full, and has a deletion in its place")
	}
	if !m.inMemory {
		pr.queue[ro.key] = op{opStore, e}
	}
	end(&t, "request %d: Put stores what was made at position %d")
}

// holdsHigher reports whether the key holds something of a higher position.
func (m *protocol) holdsHigher(s *world, p, key, at uint8) bool {
	pr, rec := &s.procs[p], &s.disk.rec[key]
	switch o := &pr.queue[key]; {
	case pr.mem[key].e.is != 0:
		return pr.mem[key].e.at > at
	case o.kind == opStore:
		return o.e.at > at
	case o.kind == opDelete, o.kind == opDeleteOnly && rec.e == o.e:
		return false
	}
	return rec.e.is != 0 && rec.e.at > at
}

// enters is Put of the memory tier.
func (m *protocol) enters(t *world, p, key uint8, e *response) {
	m.take(t, p, key)
	m.touch(t, p, key)
	t.procs[p].mem[key] = item{e: *e}
}

// follows: join a flight, wait, decide.
func (m *protocol) follows(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	pr := &s.procs[ro.proc]
	switch r.ph {
	case notYet:
		if m.blindly(pr) && !m.faults[sharesBlindly] {
			return // it leads a flight of its own
		}
		for j := range m.requests {
			f := &s.requests[j]
			if m.requests[j].proc != ro.proc || m.requests[j].key != ro.key || f.is(notYet, landed, over, follows) || m.requests[j].kind == reader {
				continue
			}
			if f.epoch == 0 && !m.faults[sharesBlindly] {
				continue // nobody joins it
			}
			t := *s
			n := m.arrive(&t, i)
			m.begin(&t, ro.proc, n)
			n.ph, n.holds, n.flight = follows, 0, uint8(j)+1
			m.step(out, &t, "", "request %d comes at position %d, and follows the flight of request %d", i, n.at, uint8(j))
		}
	case follows:
		f := &s.requests[r.flight-1]
		if f.ph == over {
			t := *s
			m.leave(&t, i)
			m.step(out, &t, "", "request %d: its flight has crashed", i)
			return
		}
		if f.ph != landed {
			return
		}
		t := *s
		suits := f.e.is != 0 && f.epoch == r.epoch && f.at >= r.at
		switch {
		case m.faults[followersTakeTheValid]:
			suits = suits || f.e.is != 0 && m.mayUse(pr, f.epoch, f.at, f.e.tags)
		case m.faults[followersIgnoreEpochs]:
			suits = suits || f.e.is != 0 && f.at >= r.at
		case m.faults[followersTakeAnything]:
			suits = f.e.is != 0
		case m.faults[followersAskForTheLastMark]:
			// Refuse if the last mark of a tag lies in (begin, join].
			suits = f.e.is != 0
			for tag := range m.tags {
				if h := pr.rows[tag].hard; f.e.tags>>tag&1 != 0 && h > f.at && h <= r.at {
					suits = false
				}
			}
		}
		m.leave(&t, i)
		if suits {
			m.step(out, &t, m.answers(r, &f.e, 0, false), "request %d is answered with its flight's response, made at position %d", i, f.e.at)
		} else {
			m.step(out, &t, "", "request %d: its flight's response does not suit it", i)
		}
	}
}

func (r *request) is(phases ...uint8) bool {
	for _, ph := range phases {
		if r.ph == ph {
			return true
		}
	}
	return r.ph > over
}

// looksUp: memory, queue, disk. A renewal holds a position meanwhile, and goes on
// with what it finds.
func (m *protocol) looksUp(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	pr := &s.procs[ro.proc]
	miss := func(words string, args ...uint8) {
		t := *s
		m.leave(&t, i)
		m.step(out, &t, "", words, args...)
	}
	// hit is what a look-up ends with. If it was on disk, it is promoted.
	hit := func(t *world, stale uint8, words string) {
		n := &t.requests[i]
		e := n.e
		if ro.kind != reader {
			*n = request{ph: found, holds: n.holds, epoch: n.epoch, at: n.at, hard: n.hard, soft: n.soft, e: e}
			m.step(out, t, "", words+", and asks its handler about it", i, e.at)
			return
		}
		broken := m.answers(r, &e, stale, true)
		if r.ph == onDisk && m.promotion {
			*n = request{ph: promotes, e: e, stale: n.stale, dropped: n.dropped, changed: n.changed}
		} else {
			m.leave(t, i)
		}
		if stale != 0 {
			words += ", as stale"
		}
		m.step(out, t, broken, words, i, e.at)
	}

	switch r.ph {
	case notYet:
		if pr.up != open && !(m.faults[servedWithoutFile] && pr.up == waiting) {
			return
		}
		mem := &pr.mem[ro.key]
		if mem.e.is == 0 && m.inMemory {
			return
		}
		t := *s
		n := m.arrive(&t, i)
		if ro.kind != reader {
			m.begin(&t, ro.proc, n)
		}
		if mem.e.is == 0 {
			n.ph = atQueue
			m.step(out, &t, "", "request %d comes, and finds nothing in memory", i)
			return
		}
		n.ph, n.e, n.stale, n.checked = inMemory, mem.e, mem.stale, mem.checked
		m.step(out, &t, "", "request %d comes, and finds in memory what was made at position %d", i, mem.e.at)
	case inMemory:
		ok, stale := m.check(pr, r.e.at, max(r.e.at, r.checked), r.e.tags)
		if m.faults[blind] {
			ok, stale = true, 0
		}
		t := *s
		n := &t.requests[i]
		if !ok {
			if m.faults[fallsThrough] {
				*n = request{ph: atQueue, holds: n.holds, epoch: n.epoch, at: n.at, hard: n.hard, soft: n.soft, seen: n.seen}
				m.step(out, &t, "", "request %d: it is not valid; look further down", i)
				return
			}
			m.drop(&t, ro.proc, ro.key, &r.e)
			m.leave(&t, i)
			m.step(out, &t, "", "request %d: it is not valid", i)
			return
		}
		n.ph, n.stale = judged, max(n.stale, stale)
		n.checked = 0
		if stale == 0 {
			n.checked = pr.n + 1 // UpTo, plus one: 0 is for what is stale
		}
		if m.faults[staleReadEarly] {
			n.stale = max(r.stale, stale)
		}
		m.step(out, &t, "", "request %d: the marks say that it is valid", i)
	case judged:
		if r.removed != 0 && !m.faults[goneIgnored] {
			miss("request %d: it was removed meanwhile", i)
			return
		}
		t := *s
		if mem := &t.procs[ro.proc].mem[ro.key]; r.removed == 0 && mem.e.is != 0 {
			if r.checked != 0 {
				mem.checked = max(mem.checked, r.checked-1)
			} else {
				m.markStale(&t, ro.proc, ro.key)
			}
		}
		hit(&t, r.stale, "request %d is answered from memory with what was made at position %d")
	case atQueue:
		o := &pr.queue[ro.key]
		t := *s
		n := &t.requests[i]
		if o.kind == opStore {
			n.ph, n.e = inQueue, o.e
			m.step(out, &t, "", "request %d finds in the queue what was made at position %d", i, o.e.at)
			return
		}
		n.ph, n.dropped = atDisk, 0
		switch o.kind {
		case opDelete:
			n.deletes = 1
		case opDeleteOnly:
			n.deletes, n.e = 2, o.e
		}
		m.step(out, &t, "", "request %d finds nothing in the queue", i)
	case inQueue, onDisk:
		t := *s
		n := &t.requests[i]
		if m.faults[generationFirst] && r.passed == 0 {
			if r.dropped != 0 {
				miss("request %d: marks were dropped meanwhile", i)
				return
			}
			n.passed = 1
			m.step(out, &t, "", "request %d: no marks were dropped so far", i)
			return
		}
		ok, stale := m.check(pr, r.e.at, r.e.at, r.e.tags)
		if r.dropped != 0 && !m.faults[generationIgnored] && r.passed == 0 {
			ok = false
		}
		n.passed = 0
		if !ok {
			if r.ph == inQueue && m.faults[queueFallsThrough] {
				*n = request{ph: atDisk, holds: n.holds, epoch: n.epoch, at: n.at, hard: n.hard, soft: n.soft, seen: n.seen}
				m.step(out, &t, "", "request %d: it is not valid; look further down", i)
				return
			}
			miss("request %d: it is not valid, or marks were dropped meanwhile", i)
			return
		}
		stale = max(stale, r.stale)
		if r.ph == onDisk {
			hit(&t, stale, "request %d is answered from disk with what was made at position %d")
		} else {
			hit(&t, stale, "request %d is answered from the queue with what was made at position %d")
		}
	case atDisk:
		rec := &m.file(s, ro.proc).rec[ro.key]
		if pr.up != open || rec.e.is == 0 || r.deletes == 1 || r.deletes == 2 && rec.e == r.e {
			miss("request %d finds nothing on disk", i)
			return
		}
		t := *s
		n := &t.requests[i]
		n.ph, n.e, n.stale, n.deletes = onDisk, rec.e, rec.stale, 0
		if m.faults[ticketAfterQueue] {
			n.changed = 0
		}
		m.step(out, &t, "", "request %d reads from disk what was made at position %d", i, rec.e.at)
	case promotes:
		t := *s
		np := &t.procs[ro.proc]
		ok := (r.dropped == 0 || m.faults[promotionIgnoresGeneration]) && (m.valid(np, r.e.at, r.e.tags) || m.faults[promotionUnchecked])
		if !m.faults[promotionReplaces] {
			ok = ok && np.mem[ro.key].e.is == 0 && (r.changed == 0 || m.faults[promotionWithoutTicket]) &&
				(np.queue[ro.key].kind == opNone || m.faults[promotionOverQueue])
		}
		if ok {
			stale := max(r.stale, m.staleSince(np, r.e.at, r.e.tags))
			if m.faults[promotedAsFresh] {
				stale = 0
			}
			m.take(&t, ro.proc, ro.key)
			np.mem[ro.key] = item{e: r.e, stale: stale}
		}
		m.leave(&t, i)
		if ok {
			m.step(out, &t, "", "request %d: what it read is promoted into memory", i)
		} else {
			m.step(out, &t, "", "request %d: what it read is not promoted", i)
		}
	default:
		m.renews(s, out, i)
	}
}

// renews goes on with what was found: the handler confirms it, and it is stored
// with a new position and the tags of both.
func (m *protocol) renews(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	pr := &s.procs[ro.proc]
	switch r.ph {
	case found:
		if ro.kind == dropper {
			m.deletesQueued(s, out, i)
			return
		}
		for _, tags := range m.tagsets {
			t := *s
			n := &t.requests[i]
			n.ph = confirms
			// What it renews is in e; what the handler has seen, beside it.
			n.e.conf = s.ver
			for tag := range m.tags {
				if (r.e.dep|tags)>>tag&1 == 0 {
					n.e.conf[tag] = 0
				} else if r.e.dep>>tag&1 == 0 {
					n.e.val[tag] = s.ver[tag]
				}
			}
			n.seen = r.e.tags
			n.e.dep |= tags
			n.e.tags |= tags
			if m.faults[renewalsLoseTags] {
				n.e.tags = tags
			}
			n.deletes = r.e.at // of what it renews
			n.stood = r.e.epoch
			if m.faults[stampedAfterLookup] {
				m.begin(&t, ro.proc, n)
			}
			m.step(out, &t, "", "request %d: its handler says that nothing has changed, and tags with %d", i, tags)
		}
	case drops:
		t := *s
		if !m.faults[deletionSparesMemory] {
			m.drop(&t, ro.proc, ro.key, &r.e)
		}
		t.procs[ro.proc].gone[ro.key] = r.e.life + 1
		m.leave(&t, i)
		m.step(out, &t, "", "request %d: Delete takes it from memory, and returns", i)
	case confirms:
		if !m.inMemory && pr.up != open {
			t := *s
			m.leave(&t, i)
			m.step(out, &t, "", "request %d: there is no file to renew in", i)
			return
		}
		t := *s
		n := &t.requests[i]
		n.ph = asked
		if m.faults[ticketAfterLook] {
			n.ph = unticketed
		}
		n.higher = 0
		if rec := &m.file(s, ro.proc).rec[ro.key]; rec.e.is != 0 && m.sameRecord(&rec.e, r) {
			n.higher = 1 // it stands on disk
		}
		m.seesQueue(&t, i)
		m.step(out, &t, "", "request %d: Put of the renewal looks at what stands on disk", i)
		// A renewal that says nothing new is not stored.
		t = *s
		if !m.mayUse(pr, r.epoch, r.at, r.e.tags) {
			m.leave(&t, i)
			m.step(out, &t, "", "request %d: its renewal is refused", i)
			return
		}
		broken := m.answers(r, &r.e, 0, false)
		m.lands(&t, i)
		m.step(out, &t, broken, "request %d is answered with what its handler confirmed; nothing is stored", i)
	case unticketed:
		m.takesTicket(s, out, i)
	case asked:
		t := *s
		np := &t.procs[ro.proc]
		e := r.e
		e.at, e.epoch, e.life = r.at, r.epoch, r.e.life+1
		if m.order {
			e.life = np.put[ro.key] + 1
		}
		ok := m.mayUse(np, e.epoch, e.at, e.tags)
		if !m.faults[renewsTheStruck] {
			ok = ok && m.valid(np, r.deletes, r.seen)
		}
		if !m.faults[renewsTheGone] {
			ok = ok && (r.dropped == 0 || m.faults[renewalIgnoresGeneration]) && m.holds(np, ro.key, r)
		}
		o, mem := &np.queue[ro.key], &np.mem[ro.key]
		if o.kind == opStore && o.e.at > e.at || mem.e.is != 0 && mem.e.at > e.at {
			ok = false
		}
		if !ok {
			m.leave(&t, i)
			m.step(out, &t, "", "request %d: its renewal is refused", i)
			return
		}
		if m.moved(s, i) {
			n := &t.requests[i]
			n.ph, n.higher, n.dropped, n.changed, n.queued = confirms, 0, 0, 0, 0
			m.step(out, &t, "", "request %d: the key has changed since Put looked; it looks again", i)
			return
		}
		broken := m.answers(r, &e, 0, false)
		if m.order {
			np.put[ro.key]++
			if !m.holdsNow(s, ro.proc, ro.key, r) {
				broken = orderBroken
			}
		}
		m.enters(&t, ro.proc, ro.key, &e)
		if !m.inMemory {
			np.queue[ro.key] = op{opStore, e}
		}
		t.requests[i].e = e
		m.lands(&t, i)
		m.step(out, &t, broken, "request %d: its renewal is stored at position %d, and answers it", i, e.at)
	case landed:
		if !m.followed(s, i) {
			t := *s
			m.land(&t, i)
			m.step(out, &t, "", "request %d is over", i)
		}
	}
}

// deletesQueued is the first half of Delete: the handler's answer is not for
// storing, so what it answered before is not its answer any more.
func (m *protocol) deletesQueued(s *world, out *Steps[world], i uint8) {
	ro, r := m.requests[i], &s.requests[i]
	t := *s
	pr := &t.procs[ro.proc]
	if pr.up != open {
		m.leave(&t, i)
		m.step(out, &t, "", "request %d: there is no file to delete from", i)
		return
	}
	switch o := &pr.queue[ro.key]; {
	case m.faults[deletionUnqueued]:
	case o.kind == opNone:
		*o = op{opDeleteOnly, r.e}
	case o.kind == opStore && o.e == r.e:
		*o = op{kind: opDelete}
		if m.faults[deletionForgetsStore] {
			*o = op{}
		}
	}
	t.requests[i].ph = drops
	m.step(out, &t, "", "request %d: its handler's answer is not for storing; Delete queues the deletion of what was made at position %d", i, r.e.at)
}

// lands is for a renewal what land is for a response.
func (m *protocol) lands(t *world, i uint8) {
	r := &t.requests[i]
	r.e.at, r.e.epoch = r.at, r.epoch
	m.land(t, i)
}

// sameRecord reports whether an entry is what a renewal renews. Its position and
// its life tell it from every other.
func (m *protocol) sameRecord(e *response, r *request) bool {
	return e.is != 0 && e.at == r.deletes && e.epoch == r.stood && e.tags == r.seen && e.life == r.e.life
}

// holdsNow is the truth of what holds reports: what stands on disk may have changed
// since the Put looked.
func (m *protocol) holdsNow(s *world, p, key uint8, r *request) bool {
	pr := &s.procs[p]
	switch o := &pr.queue[key]; {
	case pr.mem[key].e.is != 0:
		return m.sameRecord(&pr.mem[key].e, r)
	case o.kind == opStore:
		return m.sameRecord(&o.e, r)
	case o.kind == opDelete, o.kind == opDeleteOnly && s.disk.rec[key].e == o.e:
		return false
	}
	rec := &s.disk.rec[key].e
	return m.sameRecord(rec, r) || rec.is == 0 && s.used[evictDisk] != 0 // to renew what was evicted does no harm
}

// holds reports whether the key still holds what is to be renewed.
func (m *protocol) holds(pr *process, key uint8, r *request) bool {
	if mem := &pr.mem[key]; mem.e.is != 0 {
		return m.sameRecord(&mem.e, r)
	}
	if m.inMemory {
		return false
	}
	switch o := &pr.queue[key]; o.kind {
	case opStore:
		return m.sameRecord(&o.e, r)
	case opDelete:
		return false
	case opDeleteOnly:
		return r.higher != 0 && !m.sameRecord(&o.e, r)
	}
	return r.higher != 0
}
