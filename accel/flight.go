package accel

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/accelhttp/accelerator/internal/point"
	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// A flightKey says whose requests may wait for each other. Requests with
// Authorization are apart: to the response of one of them another rule applies
// (RFC 9111, section 3.5), so that one would often wait for the other in vain.
type flightKey struct {
	Key
	authorized bool
}

func (q *question) flightKey() flightKey { return flightKey{q.key, q.authorized} }

// A flight is one run of a handler that other requests may be waiting for. The
// leader is the request whose goroutine it is; followers wait. It holds the
// store's position until its last follower has decided, because rule 15 of a
// store wants it held as long as somebody asks whether the response is valid.
type flight struct {
	key  flightKey
	at   Position // of the store when the leader's look-up began
	over chan struct{}

	ctx  context.Context         // the handler's
	stop context.CancelCauseFunc // ends ctx

	store Store // which holds at; nil if nothing is held

	mu      sync.Mutex // guards the following
	holders int        // leader and followers; with the last the position goes
	waiting int        // the leader's client and the followers; without any the handler is cancelled
	dead    bool       // cancelled: nobody may join

	settling bool // guarded by the shard: its leader is answered, and it is being stored

	// The following are the leader's alone, or of the goroutine that it has handed the
	// flight to.
	handed, landed, ended, left bool

	landing // written before over is closed, read after it
}

// A landing is what a flight brought for its followers.
type landing struct {
	outcome    outcome
	entry      *Entry           // shared
	response   rfc9111.Response // what made it
	permission rfc9111.Permission
}

// An outcome says what followers may do.
type outcome uint8

const (
	crashed outcome = iota // the handler did not end well: one of them tries again
	private                // not for others: each runs the handler itself, at once
	failed                 // the handler failed; who has a stale entry may serve it
	shared                 // they may have it, if it suits them
)

// flights are those in the air, by key. There may be several of one key, begun
// at different positions; the map has the newest.
type flights struct {
	shards [64]flightShard
}

type flightShard struct {
	mu     sync.Mutex
	m      map[flightKey]*flight
	landed uint64 // flights that are in the air no more
}

func (s *flights) lock(key *Key) *flightShard {
	shard := &s.shards[key.Resource[0]%64]
	shard.mu.Lock()
	return shard
}

// landings counts the flights that have landed where those for the key's resource
// are. If it is the same before a look-up and when a flight is to be led, then
// nothing was stored by a flight in between.
func (s *flights) landings(key *Key) uint64 {
	shard := s.lock(key)
	defer shard.mu.Unlock()
	return shard.landed
}

// join makes the caller a follower of the flight for the key, if there is one
// that was begun at or after the position since (the zero one: at any); else the
// leader of a new one, begun at the position at, which the flight then holds. It
// returns no flight if some have landed since there were so many landings: one of
// them may have been for the key, and what it stored is to be looked up first.
//
// The handler of a flight has the values of its leader's context, and a
// cancellation of its own: it is cancelled when nobody waits any more.
func (s *flights) join(ctx context.Context, key flightKey, store Store, at, since Position, landings uint64) (f *flight, leads bool) {
	shard := s.lock(&key.Key)
	defer shard.mu.Unlock()
	if f := shard.m[key]; f != nil && (since == Position{} || notBefore(f.at, since)) && f.follow() {
		return f, false
	}
	if shard.landed != landings {
		return nil, false
	}
	return shard.put(ctx, key, store, at), true
}

// leadOnly makes the caller the leader of a flight, if there is none.
func (s *flights) leadOnly(ctx context.Context, key flightKey, store Store, at Position) *flight {
	shard := s.lock(&key.Key)
	defer shard.mu.Unlock()
	if shard.m[key] != nil {
		return nil
	}
	return shard.put(ctx, key, store, at)
}

func (s *flightShard) put(ctx context.Context, key flightKey, store Store, at Position) *flight {
	if s.m == nil {
		s.m = make(map[flightKey]*flight)
	}
	f := newSolo(context.WithoutCancel(ctx), key)
	f.ctx, f.stop = context.WithCancelCause(f.ctx)
	f.hold(store, at)
	s.m[key] = f
	return f
}

// beginSettling says that the flight's leader is being answered, and that what is left
// to be done is to store the response. It returns false if nobody would find the
// flight, to wait for that.
func (s *flights) beginSettling(f *flight) bool {
	shard := s.lock(&f.key.Key)
	defer shard.mu.Unlock()
	if shard.m[f.key] != f || !f.stay() { // it never was there, or a newer one took its place, or will
		return false
	}
	f.settling = true
	return true
}

// settle waits for a response that is being stored under a key. It returns false if
// there is none, or patience ended. Who comes after a page was sent finds it in the
// store, as if it had been put there before.
func (s *flights) settle(ctx context.Context, key *Key, patience time.Duration) bool {
	f := s.settlingAt(key)
	if f == nil || patience < 0 {
		return false
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.over:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

func (s *flights) settlingAt(key *Key) *flight {
	shard := s.lock(key)
	defer shard.mu.Unlock()
	for _, authorized := range []bool{false, true} {
		if f := shard.m[flightKey{*key, authorized}]; f != nil && f.settling {
			return f
		}
	}
	return nil
}

// remove takes a flight out of the map: who comes now leads another.
func (s *flights) remove(f *flight) {
	shard := s.lock(&f.key.Key)
	defer shard.mu.Unlock()
	if shard.m[f.key] == f {
		delete(shard.m, f.key)
		shard.landed++
	}
}

// notBefore reports whether position a is b or later in the same history.
func notBefore(a, b Position) bool { return a.Epoch == b.Epoch && a.N >= b.N }

// newSolo returns a flight that nobody can join, and that holds no position.
func newSolo(ctx context.Context, key flightKey) *flight {
	return &flight{
		key: key, over: make(chan struct{}),
		ctx: ctx, stop: func(error) {}, holders: 1, waiting: 1,
	}
}

// hold makes the flight the holder of a position of the store.
func (f *flight) hold(store Store, at Position) { f.store, f.at = store, at }

func (f *flight) follow() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return false
	}
	f.holders++
	f.waiting++
	return true
}

// stay keeps the flight from being given up when its client leaves: it has been
// answered. It returns false if that has happened.
func (f *flight) stay() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting++
	return !f.dead
}

// unwait says that somebody waits no longer. When it was the last, the handler's
// work is for nobody.
func (f *flight) unwait(cause error) {
	f.mu.Lock()
	f.waiting--
	last := f.waiting == 0
	f.dead = f.dead || last
	f.mu.Unlock()
	if last {
		f.stop(cause)
	}
}

// drop lets go of the flight.
func (f *flight) drop() {
	f.mu.Lock()
	f.holders--
	last := f.holders == 0
	f.mu.Unlock()
	if last && f.store != nil {
		f.store.End(f.at)
	}
}

// land ends the flight for its followers. Only the first call counts: it is for
// the leader, who calls it as soon as it knows what to say.
func (f *flight) land(s *flights, o outcome) {
	if f.landed {
		return
	}
	f.landed, f.outcome = true, o
	s.remove(f) // first: who comes now must not join
	close(f.over)
}

// end is the leader's last word. If it has said nothing else, the flight has
// crashed. Only the first call counts.
func (f *flight) end(s *flights) {
	if f.ended {
		return
	}
	f.ended = true
	f.land(s, crashed)
	f.stop(nil)
	f.leave()
}

// leave lets go of the flight for the leader, as soon as nothing it does will be
// stored any more. Only the first call counts.
func (f *flight) leave() {
	if !f.left {
		f.left = true
		f.drop()
	}
}

// await waits for the flight as a follower. It returns false if patience ended
// first.
//
// A client that has left keeps no handler going, but its request waits on for what
// there may be: some clients close their half of the connection when they have
// asked, which to net/http looks the same, and read what comes.
func (f *flight) await(ctx context.Context, patience <-chan time.Time) bool {
	select {
	case <-f.over:
		f.unwait(nil)
		return true
	case <-patience:
		f.unwait(context.DeadlineExceeded)
		return false
	case <-ctx.Done():
		f.unwait(context.Cause(ctx))
	}
	select {
	case <-f.over:
		return true
	case <-patience:
		return false
	}
}

// suits reports whether a follower may be answered with what its flight brought.
//
//   - The response must have been storable for the follower's own request: the
//     leader may have borne no Authorization where the follower does.
//   - It must be the variant that the follower's own headers select.
//   - It must have been begun at or after the position since, at which the follower
//     arrived. Otherwise something was invalidated in between, or expired: then what
//     is stored is looked up again, because the store knows what was struck and what
//     is stale. "No mark of its tags after the follower came" would be too little: a
//     second one could hide the first.
func (f *flight) suits(r *http.Request, q *question, since Position) bool {
	if f.outcome != shared {
		return false
	}
	point.At(point.Landed)
	req := rfc9111.Request{Method: r.Method, Header: r.Header}
	if rfc9111.Storable(req, f.response, f.permission) != rfc9111.ReasonStorable {
		return false
	}
	q.vary(r.Header, f.entry.Vary)
	if !q.answeredBy(f.entry) {
		return false
	}
	return notBefore(f.at, since) || point.Off(point.FollowerValid)
}
