package model

// change adds the steps of the application: commit a change and mark its tags, as
// one step, because nothing is lost by it (what a handler reads in between is new
// and has an old position); then it waits.
func (m *protocol) change(s *world, out *Steps[world], i uint8) {
	if int(i) >= len(m.writes) {
		return
	}
	w, c := m.writes[i], &s.changes[i]
	pr := &s.procs[w.proc]
	if pr.up == down {
		return
	}
	switch c.ph {
	case ahead:
		if i > 0 && m.writes[i-1] == w && s.changes[i-1].ph == ahead {
			return
		}
		t := *s
		n := &t.changes[i]
		if !w.early {
			m.commit(&t, i)
		}
		if m.faults[deletesThenMarks] {
			m.deleteNow(&t, w)
			n.ph = cut
			m.step(out, &t, "", "change %d is committed, and what carries its tags is deleted", i)
			return
		}
		m.marks(&t, out, i)
	case cut:
		t := *s
		m.marks(&t, out, i)
	case waits:
		if m.inMemory {
			// Owed, Paid, Cleaned: there is no disk.
			t := *s
			tp := &t.procs[w.proc]
			for tag := range m.tags {
				if r := &tp.rows[tag]; r.owed != 0 {
					r.owed, r.clean = 0, r.top()
				}
			}
			tp.owesFloor = 0
			m.acknowledge(&t, i)
			m.step(out, &t, "", "change %d: its invalidation returns nil", i)
		}
	case late:
		t := *s
		m.commit(&t, i)
		m.acknowledge(&t, i)
		m.step(out, &t, "", "change %d is committed, after its invalidation", i)
	}
}

func (m *protocol) commit(t *world, i uint8) {
	w := m.writes[i]
	for tag := range m.tags {
		if w.tags>>tag&1 != 0 {
			t.ver[tag]++
			t.changes[i].ver[tag] = t.ver[tag]
		}
	}
}

var changeWords = [...]string{
	hardMark:   "change %d is committed and its tags (%d) invalidated in memory, with number %d",
	expiry:     "change %d is committed and its tags (%d) expired in memory, with number %d",
	everything: "change %d is committed and everything (%d) invalidated in memory, with number %d",
}

func (m *protocol) marks(t *world, out *Steps[world], i uint8) {
	w := m.writes[i]
	n := &t.changes[i]
	if m.faults[noMarks] {
		t.procs[w.proc].n++
	} else {
		n.num = m.mark(t, w.proc, w)
	}
	num := n.num
	if m.deletes && !m.faults[deletesThenMarks] {
		m.deleteNow(t, w)
	}
	n.ph = waits
	n.num = 0
	words := changeWords[w.kind]
	pr := &t.procs[w.proc]
	switch {
	case m.faults[acknowledgedEarly]:
		m.acknowledge(t, i)
	case m.faults[acknowledgedWhileOpening] && pr.up == waiting:
		m.acknowledge(t, i)
	case w.early:
		n.ph = late
	case pr.up == waiting && pr.fails != opening:
		m.notDurable(t, i)
		words += "; it is told that it is not durable"
	}
	m.step(out, t, "", words, i, w.tags, num)
}

// deleteNow is what the invalidation of a cache without marks does.
func (m *protocol) deleteNow(t *world, w write) {
	for k := range m.keys {
		if e := &t.procs[w.proc].mem[k].e; e.is != 0 && e.tags&w.tags != 0 {
			if m.faults[cancelsIndexed] {
				for j := range m.requests {
					if r := &t.requests[j]; m.requests[j].key == uint8(k) && r.is(begun, made) {
						*r = request{ph: over}
					}
				}
			}
			m.take(t, w.proc, uint8(k))
		}
	}
}

func (m *protocol) acknowledge(t *world, i uint8) {
	w, c := m.writes[i], &t.changes[i]
	for tag := range m.tags {
		if w.kind != expiry {
			t.hard[tag] = max(t.hard[tag], c.ver[tag])
		}
		t.soft[tag] = max(t.soft[tag], c.ver[tag])
	}
	*c = change{ph: done}
}

// notDurable tells that an invalidation holds in this process only.
func (m *protocol) notDurable(t *world, i uint8) {
	w, c := m.writes[i], &t.changes[i]
	pr := &t.procs[w.proc]
	if w.kind != expiry {
		for tag := range m.tags {
			pr.told[tag] = max(pr.told[tag], c.ver[tag])
		}
	}
	*c = change{ph: done}
}

// process adds what a process does by itself, and what happens to it.
func (m *protocol) process(s *world, out *Steps[world], p uint8) {
	if int(p) >= m.procs {
		return
	}
	pr := &s.procs[p]
	switch pr.up {
	case down:
		if m.restarts {
			t := *s
			m.start(&t, p)
			m.step(out, &t, "", "process %d starts", p)
		}
		if m.fileFree(s) {
			m.damages(s, out)
		}
		return
	case waiting:
		if m.fileFree(s) {
			t := *s
			m.opens(&t, p)
			m.step(out, &t, "", "process %d opens the file", p)
			m.accident(s, out, noOpen, func(t *world) { m.refuses(t, p, forbidden) }, "process %d cannot open the file; who waits is told that it is not durable", p)
		} else if pr.fails != locked {
			t := *s
			m.refuses(&t, p, locked)
			m.step(out, &t, "", "process %d finds that another has the file; who waits is told that it is not durable", p)
		}
	case leaving:
		t := *s
		t.disk.gone = renamed
		t.procs[p].up = moved
		if m.faults[asideUnsynced] {
			m.tellAll(&t, p)
		}
		m.step(out, &t, "", "process %d renames the file", p)
		m.accident(s, out, noAside, func(t *world) { m.refuses(t, p, forbidden) }, "process %d cannot set the file aside", p)
	case moved:
		t := *s
		t.disk = disk{gone: gone}
		t.procs[p].up, t.procs[p].fails = waiting, opening
		m.tellAll(&t, p)
		m.step(out, &t, "", "process %d: the file is gone from its path, durably; who waits is told nil", p)
		m.accident(s, out, noAside, func(t *world) { m.refuses(t, p, forbidden) }, "process %d cannot sync the directory", p)
	case open:
		m.works(s, out, p)
		if m.removes && p == 0 && pr.lost == 0 {
			m.accident(s, out, remove, func(t *world) {
				t.removed, t.disk = t.disk, disk{gone: gone}
				t.procs[p].lost = 1
			}, "the file of process %d is removed from its path", p)
		}
		if m.displaced && pr.lost == 0 {
			m.accident(s, out, remove, func(t *world) {
				t.removed, t.disk = t.disk, disk{}
				t.uuids++
				t.disk.uuid = t.uuids
				t.disk.rec[0].e = response{is: 1, dep: 1, tags: 1}
				t.procs[p].lost = 1
			}, "another file is moved to the path of process %d, which has an old entry", p)
		}
	}
	if !m.inMemory {
		back := s.disk.gone == renamed
		m.accident(s, out, crash, func(t *world) { m.dies(t, p) }, "process %d dies", p)
		if back {
			m.accident(s, out, crash, func(t *world) {
				m.dies(t, p)
				t.disk.gone = there
			}, "the power fails, process %d dies, and the file is at its path again", p)
		}
		if pr.up == open && m.closes && p == 0 && m.quiet(s, p) {
			t := *s
			t.disk.seq = max(t.disk.seq, pr.n)
			m.dies(&t, p)
			m.step(out, &t, "", "process %d closes the file in good order", p)
		}
	}
	if pr.up == open || m.inMemory {
		for k := range m.keys {
			if pr.mem[k].e.is != 0 {
				m.accident(s, out, evict, func(t *world) { m.take(t, p, uint8(k)) }, "key %d is evicted from memory", uint8(k))
			}
		}
	}
}

// quiet reports whether the writer would close the file now.
func (m *protocol) quiet(s *world, p uint8) bool {
	pr := &s.procs[p]
	if pr.worker.ph != atRest || pr.owesFloor != 0 {
		return false
	}
	for t := range m.tags {
		if pr.rows[t].owed != 0 {
			return false
		}
	}
	for k := range m.keys {
		if pr.queue[k].kind != opNone {
			return false
		}
	}
	for i, w := range m.writes {
		if w.proc == p && (s.changes[i].ph == waits || s.changes[i].ph == claimed) {
			return false
		}
	}
	return true
}

// fileFree reports whether nobody has the file.
func (m *protocol) fileFree(s *world) bool {
	for p := range m.procs {
		if up := s.procs[p].up; up != down && up != waiting && s.procs[p].lost == 0 {
			return false
		}
	}
	return true
}

// damages does to a file that nobody has what a program cannot prevent.
func (m *protocol) damages(s *world, out *Steps[world]) {
	if m.restores && s.used[backUp] != 0 {
		m.accident(s, out, damage, func(t *world) {
			t.disk, t.backup = t.backup, disk{}
			t.disk.suspect = copied
		}, "a copy of the file is restored")
	}
	if m.tears {
		for tag := range m.tags {
			if s.disk.marks[tag] != (mark{}) {
				m.accident(s, out, damage, func(t *world) {
					t.disk.marks[tag] = mark{}
					t.disk.suspect = marksTorn
				}, "the mark of tag %d is lost from the file", uint8(tag))
			}
		}
	}
	if m.rollsBack && s.before != (disk{}) {
		m.accident(s, out, damage, func(t *world) {
			t.disk, t.before = t.before, disk{}
			t.disk.suspect = rolledBack
		}, "the last meta page is damaged, and bbolt takes the one before")
	}
}

// dies ends a process with all it has in memory.
func (m *protocol) dies(t *world, p uint8) {
	t.procs[p] = process{}
	for i := range m.requests {
		if m.requests[i].proc == p && t.requests[i].ph != notYet {
			t.requests[i] = request{ph: over}
		}
	}
	for i, w := range m.writes {
		if w.proc == p && t.changes[i].ph != ahead {
			t.changes[i] = change{ph: done}
		}
	}
}

func (m *protocol) start(t *world, p uint8) {
	t.epochs++
	t.procs[p] = process{up: waiting, epoch: t.epochs}
	if t.disk.gone == renamed {
		t.disk = disk{gone: gone}
	}
}

// opens opens the file, or a new one, and adopts what it says.
func (m *protocol) opens(t *world, p uint8) {
	pr := &t.procs[p]
	d := &t.disk
	if d.gone != there {
		t.uuids++
		*d = disk{uuid: t.uuids, seq: pr.n, floor: pr.n}
	}
	entries := false
	for k := range m.keys {
		entries = entries || d.rec[k].e.is != 0
	}
	if entries && pr.left != 0 && pr.left != d.uuid+1 && !m.faults[anotherBelieved] ||
		d.suspect == copied && !m.faults[copyAdopted] ||
		d.suspect == marksTorn && !m.faults[marksUnguarded] ||
		d.suspect == rolledBack && !m.faults[rollbackBelieved] {
		d.floor = max(pr.n, d.seq) + 1
		d.seq = d.floor
		d.marks = [maxTags]mark{}
	}
	d.suspect = asLeft
	t.before = disk{}
	m.adopt(t, p)
}

// adopt is Adopt, and what the store does around it.
func (m *protocol) adopt(t *world, p uint8) {
	pr, d := &t.procs[p], &t.disk
	if m.faults[adoptionForgets] {
		pr.rows, pr.floor, pr.owesFloor = [maxTags]row{}, 0, 0
	}
	n := max(pr.n, d.seq, d.floor)
	owes := pr.owesFloor != 0
	for tag := range m.tags {
		n = max(n, d.marks[tag].hard, d.marks[tag].soft)
		owes = owes || pr.rows[tag].owed != 0
	}
	if owes && !m.faults[adoptionKeepsNumbers] {
		n++
		for tag := range m.tags {
			r := &pr.rows[tag]
			if r.owed == 0 {
				continue
			}
			if r.hard > 0 {
				r.hard = n
			}
			if r.soft > 0 {
				r.soft = n
			}
		}
		if pr.owesFloor != 0 {
			pr.floor = n
		}
	}
	pr.floor = max(pr.floor, d.floor)
	for tag := range m.tags {
		r := &pr.rows[tag]
		r.hard, r.soft, r.clean = max(r.hard, d.marks[tag].hard), max(r.soft, d.marks[tag].soft), 0
	}
	m.enter(t, p, n)
	for k := range m.keys {
		m.shed(t, p, uint8(k))
	}
	if !m.faults[adoptionKeepsMemory] {
		m.clear(t, p)
	}
	pr.up, pr.fails, pr.left = open, opening, 0
	pr.worker, pr.sweep = worker{}, sweep{}
}

// shed drops a queued store, and leaves a deletion in its place.
func (m *protocol) shed(t *world, p, key uint8) {
	if o := &t.procs[p].queue[key]; o.kind == opStore {
		*o = op{kind: opDelete}
	}
}

// leaves gives the file up, because a transaction failed.
func (m *protocol) leaves(t *world, p uint8, full bool) {
	pr := &t.procs[p]
	lost := pr.lost != 0
	pr.left = m.file(t, p).uuid + 1
	pr.lost, t.removed = 0, disk{}
	pr.worker, pr.sweep = worker{}, sweep{}
	owes := pr.owesFloor != 0
	for tag := range m.tags {
		owes = owes || pr.rows[tag].owed != 0
	}
	for i, w := range m.writes {
		if w.proc == p && t.changes[i].ph == claimed {
			t.changes[i].ph = waits
		}
	}
	if !m.faults[servedWithoutFile] {
		m.clear(t, p)
	}
	if lost || full && !owes {
		for k := range m.keys {
			m.shed(t, p, uint8(k))
		}
		pr.up, pr.fails = waiting, opening
		return
	}
	// Reset.
	n := pr.n + 1
	m.raise(pr, n)
	if m.faults[failureForgets] {
		pr.floor, pr.owesFloor = 0, 0
	}
	m.enter(t, p, n)
	for k := range m.keys {
		pr.queue[k] = op{}
	}
	pr.up = leaving
}

// refuses tells those who wait that there is no file to write to.
func (m *protocol) refuses(t *world, p, why uint8) {
	if t.disk.gone == renamed {
		t.disk.gone = there
	}
	t.procs[p].up, t.procs[p].fails = waiting, why
	for i, w := range m.writes {
		if w.proc == p && t.changes[i].ph == waits {
			m.notDurable(t, uint8(i))
		}
	}
}

func (m *protocol) tellAll(t *world, p uint8) {
	for i, w := range m.writes {
		if w.proc == p && (t.changes[i].ph == waits || t.changes[i].ph == claimed) {
			m.acknowledge(t, uint8(i))
		}
	}
}

// works adds the steps of the worker: what it has begun, or anything that there is
// to do. The real one settles what is owed before it does anything else; that is
// for those who wait, and the promise does not hang on it.
func (m *protocol) works(s *world, out *Steps[world], p uint8) {
	pr := &s.procs[p]
	if m.restores && s.used[backUp] < m.accidents[backUp] {
		m.accident(s, out, backUp, func(t *world) { t.backup = t.disk }, "the file is copied")
	}
	switch pr.worker.ph {
	case atRest:
		for k := range m.keys {
			if m.file(s, p).rec[k].e.is != 0 {
				m.accident(s, out, evictDisk, func(t *world) { m.file(t, p).rec[k] = record{} }, "key %d is evicted from disk, or its time is over", uint8(k))
			}
		}
		if !m.inMemory {
			m.settles(s, out, p)
			m.flushes(s, out, p)
			m.sweeps(s, out, p)
		}
		m.prunes(s, out, p)
	case settling:
		m.commits(s, out, p, m.pays)
	case settled:
		m.paid(s, out, p)
	case telling:
		t := *s
		m.pay(&t, out, p)
	case flushing:
		m.commits(s, out, p, m.writesOp)
	case flushed:
		t := *s
		tp := &t.procs[p]
		w := &tp.worker
		if tp.queue[w.key] == w.op {
			if m.faults[neverReleased] && w.op.kind == opStore && w.op.e.epoch == tp.epoch {
				tp.leaked = w.op.e.at + 1
			}
			tp.queue[w.key] = op{}
		}
		tp.worker = worker{}
		m.step(out, &t, "", "the writer takes key %d from the queue", pr.worker.key)
	case swept:
		t := *s
		tp := &t.procs[p]
		r, was := &tp.rows[pr.worker.tag], pr.worker.rows[pr.worker.tag]
		if r.hard == was.hard && r.soft == was.soft || m.faults[cleanedThoughGrown] {
			r.clean, r.owed = max(was.hard, was.soft), 0
		}
		tp.worker = worker{}
		m.step(out, &t, "", "the writer says that the disk is clean of what tag %d strikes", pr.worker.tag)
	default:
		m.prunes(s, out, p)
	}
}

// commits ends a transaction, in one of the ways it can end.
func (m *protocol) commits(s *world, out *Steps[world], p uint8, apply func(*world, uint8) string) {
	t := *s
	if m.rollsBack {
		t.before = t.disk
	}
	words, broken := apply(&t, p), ""
	if words == overwrites {
		broken = orderBroken
	}
	m.step(out, &t, broken, words)
	if s.used[fault] < m.accidents[fault] {
		m.accident(s, out, fault, func(t *world) { m.fails(t, p) }, "the transaction fails; process %d leaves the file", p)
		m.accident(s, out, fault, func(t *world) { apply(t, p); m.fails(t, p) }, "the transaction fails, though it is on disk; process %d leaves the file", p)
	}
	m.accident(s, out, noRoom, func(t *world) {
		// What was to be stored is dropped. What was claimed stays claimed.
		tp := &t.procs[p]
		if w := &tp.worker; w.ph == flushing && tp.queue[w.key] == w.op && w.op.kind == opStore {
			m.drop(t, p, w.key, &w.op.e)
			m.shed(t, p, w.key)
		}
		tp.worker = worker{}
	}, "the transaction finds no room, and the writer goes on")
	m.accident(s, out, fullDisk, func(t *world) { m.leaves(t, p, true) }, "the disk is full; process %d leaves the file", p)
}

func (m *protocol) fails(t *world, p uint8) {
	if m.faults[failureUnseen] {
		// As if it had been committed.
		w := &t.procs[p].worker
		switch w.ph {
		case settling:
			w.ph = settled
		case flushing:
			w.ph = flushed
		}
		return
	}
	if m.faults[debtPaidAtOnce] {
		pr := &t.procs[p]
		for tag := range m.tags {
			pr.rows[tag].owed = 0
		}
		m.leaves(t, p, true)
		return
	}
	m.leaves(t, p, false)
}

// file returns what a process has open.
func (m *protocol) file(w *world, p uint8) *disk {
	if w.procs[p].lost != 0 {
		return &w.removed
	}
	return &w.disk
}

const overwrites = "the flush is committed: the entry replaces one of a higher position"

// settles: claim who waits, read the debt, look what of it is needed.
func (m *protocol) settles(s *world, out *Steps[world], p uint8) {
	pr := &s.procs[p]
	t := *s
	tp := &t.procs[p]
	waited := false
	for i, w := range m.writes {
		if w.proc == p && s.changes[i].ph == claimed {
			waited = true
		}
		if w.proc == p && s.changes[i].ph == waits {
			waited = true
			if !m.faults[debtBeforeClaim] {
				t.changes[i].ph = claimed
			}
		}
	}
	w := &tp.worker
	*w = worker{ph: settling, seq: pr.n}
	owes := pr.owesFloor != 0
	if owes {
		w.floor, w.newFloor = pr.floor, 1
	}
	for tag := range m.tags {
		r := &pr.rows[tag]
		if r.owed == 0 {
			continue
		}
		owes = true
		w.rows[tag] = mark{r.hard, r.soft}
		if m.isNeeded(m.file(s, p), uint8(tag), *r) {
			w.needed |= 1 << tag
		} else {
			w.needless |= 1 << tag
		}
	}
	if !waited && !owes {
		return
	}
	if w.needed == 0 && w.newFloor == 0 {
		w.ph, w.seq = settled, 0
		m.step(out, &t, "", "the writer finds that nothing on disk is struck by what is owed")
		return
	}
	m.step(out, &t, "", "the writer begins a transaction for the marks of the tags %d", w.needed)
}

// isNeeded is Older, or HasMark.
func (m *protocol) isNeeded(d *disk, tag uint8, r row) bool {
	if m.faults[allNeedless] {
		return false
	}
	if d.marks[tag] != (mark{}) && !m.faults[standingMarkOverlooked] {
		return true
	}
	for k := range m.keys {
		if e := &d.rec[k].e; e.is != 0 && e.tags>>tag&1 != 0 && (m.strikes(r, e.at) || m.stales(r, e.at)) {
			return true
		}
	}
	return false
}

// pays commits what is owed.
func (m *protocol) pays(t *world, p uint8) string {
	w, d := &t.procs[p].worker, m.file(t, p)
	if w.newFloor != 0 && m.faults[floorAfterMarks] && w.first == 0 {
		w.first = 1
		for tag := range m.tags {
			if max(d.marks[tag].hard, d.marks[tag].soft) <= w.floor {
				d.marks[tag] = mark{}
			}
		}
		return "the writer deletes the marks that the floor stands for"
	}
	if !m.faults[seqUnwritten] {
		d.seq = max(d.seq, w.seq)
	}
	if w.newFloor != 0 {
		d.floor = max(d.floor, w.floor)
		d.seq = max(d.seq, w.floor)
		for tag := range m.tags {
			if max(d.marks[tag].hard, d.marks[tag].soft) <= w.floor {
				d.marks[tag] = mark{}
			}
		}
	}
	for tag := range m.tags {
		if w.needed>>tag&1 != 0 {
			d.marks[tag] = w.rows[tag]
		}
	}
	w.ph, w.seq, w.first = settled, 0, 0
	return "the marks are committed"
}

// paid: Paid, Cleaned, and tell who was claimed.
func (m *protocol) paid(s *world, out *Steps[world], p uint8) {
	t := *s
	tp := &t.procs[p]
	w := &s.procs[p].worker
	if tp.lost != 0 && !m.faults[pathUnchecked] {
		m.leaves(&t, p, true)
		m.step(out, &t, "", "process %d finds that its path leads elsewhere, and leaves the file", p)
		return
	}
	for tag := range m.tags {
		bit := uint8(1) << tag
		if (w.needed|w.needless)&bit == 0 {
			continue
		}
		r := &tp.rows[tag]
		same := r.hard == w.rows[tag].hard && r.soft == w.rows[tag].soft
		if same || m.faults[paidThoughGrown] {
			r.owed = 0
		}
		if w.needless&bit != 0 && (same || m.faults[cleanedThoughGrown]) {
			r.clean, r.owed = max(w.rows[tag].hard, w.rows[tag].soft), 0
		}
	}
	if w.newFloor != 0 && tp.floor == w.floor {
		tp.owesFloor = 0
	}
	if m.removes {
		tp.worker = worker{ph: telling}
		m.step(out, &t, "", "the file is still at its path: the marks are paid")
		return
	}
	m.pay(&t, out, p)
}

// pay tells those who were claimed.
func (m *protocol) pay(t *world, out *Steps[world], p uint8) {
	tp := &t.procs[p]
	for i, wr := range m.writes {
		if c := &t.changes[i]; wr.proc == p && (c.ph == claimed || c.ph == waits && m.faults[debtBeforeClaim]) {
			m.acknowledge(t, uint8(i))
		}
	}
	tp.worker = worker{}
	m.step(out, t, "", "who waited for the marks is told nil")
}

// flushes: judge an op inside a transaction.
func (m *protocol) flushes(s *world, out *Steps[world], p uint8) {
	pr := &s.procs[p]
	for k := range m.keys {
		o := pr.queue[k]
		if o.kind == opNone {
			continue
		}
		t := *s
		tp := &t.procs[p]
		w := worker{ph: flushing, key: uint8(k), op: o}
		rec := &m.file(s, p).rec[k]
		switch e := &o.e; {
		case o.kind != opStore:
			if rec.e.is != 0 && (o.kind == opDelete || rec.e == o.e) {
				w.does = clears
			}
		case e.epoch != pr.epoch && !m.faults[epochIgnored]:
		case rec.e.is != 0 && rec.e.at > e.at && !m.faults[flushReplacesHigher]:
			m.drop(&t, p, uint8(k), e)
		default:
			ok, stale := m.check(pr, e.at, e.at, e.tags)
			if m.faults[flushUnchecked] {
				ok = true
			}
			if m.faults[flushedAsFresh] {
				stale = 0
			}
			switch {
			case ok:
				w.does, w.stale = writes, stale
			case !m.faults[invalidLeaves]:
				w.does = clears
			}
		}
		if w.does == nothing {
			w.ph = flushed
		}
		if w.does == clears && rec.e.is == 0 {
			w.ph, w.does = flushed, nothing
		}
		tp.worker = w
		m.step(out, &t, "", "the writer judges what is queued for key %d", uint8(k))
	}
}

// writesOp commits a flush.
func (m *protocol) writesOp(t *world, p uint8) string {
	w, d := &t.procs[p].worker, m.file(t, p)
	words := "the flush is committed: the key has nothing on disk"
	was := d.rec[w.key]
	switch w.does {
	case clears:
		d.rec[w.key] = record{}
	case writes:
		d.rec[w.key] = record{w.op.e, w.stale}
		if !m.faults[seqUnwritten] {
			d.seq = max(d.seq, w.op.e.at)
		}
		words = "the flush is committed: the entry is on disk"
	}
	if m.order && w.does == writes && was.e.is != 0 && was.e.at > w.op.e.at {
		words = overwrites
	}
	w.ph, w.does, w.stale = flushed, 0, 0
	return words
}

// sweeps: delete what a mark strikes, a key at a time, and then the mark; and what
// is below the floor.
func (m *protocol) sweeps(s *world, out *Steps[world], p uint8) {
	pr := &s.procs[p]
	if sw := pr.sweep; sw.on != 0 {
		r := pr.rows[sw.on-1]
		if r.hard == sw.row.hard && r.soft == sw.row.soft || m.faults[sweepGoesOn] {
			m.sweepKey(s, out, p, sw)
		} else {
			m.pending(s, out, p)
		}
	} else {
		m.pending(s, out, p)
	}
	below := false
	t := *s
	d := m.file(&t, p)
	for k := range m.keys {
		if e := &d.rec[k].e; e.is != 0 && e.at < d.floor {
			d.rec[k] = record{}
			below = true
		}
	}
	if below {
		m.step(out, &t, "", "the writer deletes what is below the floor")
	}
}

func (m *protocol) pending(s *world, out *Steps[world], p uint8) {
	for tag := range m.tags {
		if r := s.procs[p].rows[tag]; r.known() && r.clean != r.top() {
			m.sweepKey(s, out, p, sweep{on: uint8(tag) + 1, row: mark{r.hard, r.soft}})
		}
	}
}

// sweepKey is one transaction of sweeping.
func (m *protocol) sweepKey(s *world, out *Steps[world], p uint8, sw sweep) {
	t := *s
	if m.rollsBack {
		t.before = t.disk
	}
	tp, d, tag := &t.procs[p], m.file(&t, p), sw.on-1
	was := row{hard: sw.row.hard, soft: sw.row.soft}
	broken := ""
	if rec := &d.rec[sw.key]; rec.e.is != 0 && rec.e.tags>>tag&1 != 0 {
		switch {
		case m.strikes(was, rec.e.at) || m.faults[sweepStrikesAt] && rec.e.at == was.hard:
			if m.onlyMarksRefuse && rec.e.at >= was.hard {
				broken = tooMuch
			}
			*rec = record{}
		case m.stales(was, rec.e.at) && !m.faults[expiryUnwritten]:
			rec.stale = 1
		}
	}
	if s.used[fault] < m.accidents[fault] {
		f := t
		m.accident(s, out, fault, func(t *world) { m.fails(t, p) }, "a sweep fails; process %d leaves the file", p)
		m.accident(&f, out, fault, func(t *world) { m.fails(t, p) }, "a sweep fails, though it is on disk; process %d leaves the file", p)
	}
	key := sw.key
	sw.key++
	if int(sw.key) < m.keys {
		m.accident(s, out, noRoom, func(t *world) {
			if m.faults[sweepMovesOn] {
				t.procs[p].sweep = sw
			}
		}, "the writer sweeps key %d for tag %d, and finds no room", key, tag)
	}
	if int(sw.key) < m.keys && !m.faults[sweepStopsEarly] {
		tp.sweep = sw
		m.step(out, &t, broken, "the writer sweeps key %d for tag %d", key, tag)
		return
	}
	tp.sweep = sweep{}
	if d.marks[tag] == sw.row || d.marks[tag] == (mark{}) || m.faults[markDeletedThoughGrown] {
		d.marks[tag] = mark{}
		tp.worker = worker{ph: swept, tag: tag}
		tp.worker.rows[tag] = sw.row
		m.step(out, &t, broken, "the writer sweeps key %d for tag %d, and deletes the mark", key, tag)
		return
	}
	if t != *s {
		m.step(out, &t, broken, "the writer sweeps key %d for tag %d; the mark has grown", key, tag)
	}
}

// prunes: Prunable, scan, Drop.
func (m *protocol) prunes(s *world, out *Steps[world], p uint8) {
	pr := &s.procs[p]
	w := &pr.worker
	t := *s
	tp := &t.procs[p]
	switch w.ph {
	case atRest:
		oldest := m.oldest(s, p)
		some := false
		for tag := range m.tags {
			r := pr.rows[tag]
			clean := r.clean == r.top() || m.faults[prunedUnclean]
			if m.faults[softNeedsNoSweep] && r.hard == 0 {
				clean = true
			}
			if r.known() && clean && r.top() <= oldest {
				some = true
				tp.worker.rows[tag] = mark{r.hard, r.soft}
				if !m.faults[horizonStays] {
					tp.horizon = max(tp.horizon, r.top())
				}
			}
		}
		if !some {
			return
		}
		tp.worker.ph = pruning
		m.step(out, &t, "", "the pruning begins")
	case pruning:
		if !m.faults[memoryUnscanned] {
			k := w.key
			if e := &pr.mem[k].e; e.is != 0 {
				struck, stale := false, false
				for tag := range m.tags {
					r := row{hard: w.rows[tag].hard, soft: w.rows[tag].soft}
					if e.tags>>tag&1 != 0 {
						struck = struck || m.strikes(r, e.at)
						stale = stale || m.stales(r, e.at)
					}
				}
				switch {
				case struck:
					m.drop(&t, p, k, nil)
				case stale && !m.faults[scanLeavesFresh]:
					m.markStale(&t, p, k)
				}
			}
		}
		tp.worker.key++
		if int(tp.worker.key) == m.keys || m.faults[memoryUnscanned] {
			tp.worker.ph, tp.worker.key = scanned, 0
		}
		m.step(out, &t, "", "key %d is scanned in memory", w.key)
	case scanned:
		m.generation(&t, p)
		for tag := range m.tags {
			was := w.rows[tag]
			r := &tp.rows[tag]
			if was != (mark{}) && (r.hard == was.hard && r.soft == was.soft || m.faults[droppedThoughGrown]) {
				*r = row{}
			}
		}
		tp.worker = worker{}
		m.step(out, &t, "", "the marks are dropped from memory")
	}
}
