package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// A trace remembers which rows were read or changed on behalf of a request, so
// that the page can show what it was made from. The cache needs none of it. A
// nil trace remembers nothing.
type trace struct {
	mu      sync.Mutex // guards what follows
	queries int
	tags    []string // each once, in the order they came
}

type traceKey struct{}

// withTrace returns a context whose queries are remembered.
func withTrace(ctx context.Context) (context.Context, *trace) {
	t := new(trace)
	return context.WithValue(ctx, traceKey{}, t), t
}

func traceFrom(ctx context.Context) *trace {
	t, _ := ctx.Value(traceKey{}).(*trace)
	return t
}

func (t *trace) add(tags ...string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.queries++
	for _, tag := range tags {
		if !slices.Contains(t.tags, tag) {
			t.tags = append(t.tags, tag)
		}
	}
}

func (t *trace) seen() (tags []string, queries int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.tags), t.queries
}

// A journal counts renderings and remembers the latest events, newest first.
type journal struct {
	mu     sync.Mutex // guards what follows
	counts map[string]int
	events []event // at most journalLength
}

const journalLength = 40

// An event is a page that was rendered, or a change.
type event struct {
	When    time.Time
	Path    string // what was rendered, or where the form went
	Took    time.Duration
	Changed bool
	Tags    []string // what it was made from, or what it invalidated
}

// add notes an event. It returns how often the page has been rendered now.
func (j *journal) add(e event) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append([]event{e}, j.events[:min(len(j.events), journalLength-1)]...)
	if e.Changed {
		return 0
	}
	if j.counts == nil {
		j.counts = make(map[string]int)
	}
	j.counts[e.Path]++
	return j.counts[e.Path]
}

func (j *journal) count(path string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.counts[path]
}

func (j *journal) latest() []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}
