//go:build accelpoints

package point

import (
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Built reports whether the points do something in this build.
const Built = true

// OffEnv is the variable with the names of lines that are off from the beginning,
// separated by commas.
const OffEnv = "ACCEL_POINTS_OFF"

// A Plan says what happens at the points of this process.
type Plan struct {
	Seed uint64
	// Off are the lines that are switched off.
	Off []Line
	// Waits has, by place, how long one waits there at most. What happens at a
	// place without one is next to nothing.
	Waits map[Place]time.Duration
	// Until has places at which one waits until somebody comes by another, but no
	// longer than Waits says.
	Until map[Place]Place
	// Spans are intervals that are not as long as usual.
	Spans map[Interval]time.Duration
}

type plan struct {
	seed  uint64
	off   [lines]bool
	waits [places]time.Duration
	until [places]*meeting // at the place where one waits
	meets [places]*meeting // at the other
	spans [intervals]time.Duration
}

// A meeting is where those wait who wait for somebody to come by.
type meeting struct {
	mu   sync.Mutex
	come chan struct{} // closed when somebody does
}

func (m *meeting) next() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.come
}

func (m *meeting) here() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.come)
	m.come = make(chan struct{})
}

var (
	present atomic.Pointer[plan]
	count   atomic.Uint64
	visited [places]atomic.Bool
)

func init() {
	var p Plan
	if names := os.Getenv(OffEnv); names != "" {
		for _, name := range strings.Split(names, ",") {
			p.Off = append(p.Off, LineOf(name))
		}
	}
	Follow(p)
}

// Follow makes a plan that of the process.
func Follow(p Plan) {
	n := &plan{seed: p.Seed}
	for _, l := range p.Off {
		n.off[l] = true
	}
	for at, d := range p.Waits {
		n.waits[at] = d
	}
	for at, other := range p.Until {
		if n.meets[other] == nil {
			n.meets[other] = &meeting{come: make(chan struct{})}
		}
		n.until[at] = n.meets[other]
	}
	for i, d := range p.Spans {
		n.spans[i] = d
	}
	present.Store(n)
}

// At is a place. In every second visit it waits for up to as long as the plan says,
// and in every fourth it lets others run.
func At(at Place) {
	visited[at].Store(true)
	p := present.Load()
	x := mix(p.seed + count.Add(1))
	if m := p.meets[at]; m != nil {
		m.here()
	}
	if m := p.until[at]; m != nil {
		select {
		case <-m.next():
		case <-time.After(p.waits[at]):
		}
		return
	}
	switch d := p.waits[at]; {
	case d > 0 && x&1 == 0:
		time.Sleep(time.Duration(mix(x) % uint64(d)))
	case x&3 == 1:
		runtime.Gosched()
	}
}

// Unvisited returns the places that nobody has come by yet.
func Unvisited() (list []Place) {
	for i := range visited {
		if !visited[i].Load() {
			list = append(list, Place(i))
		}
	}
	return list
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Off reports whether a line is switched off.
func Off(l Line) bool { return present.Load().off[l] }

// Gap lets others in where l is held, if the line is switched off that keeps them
// out.
func Gap(line Line, l sync.Locker) {
	if Off(line) {
		l.Unlock()
		At(LetIn)
		l.Lock()
	}
}

// Span returns how long an interval is: as long as it is given, or as the plan
// says.
func Span(i Interval, d time.Duration) time.Duration {
	if short := present.Load().spans[i]; short > 0 {
		return short
	}
	return d
}
