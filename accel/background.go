package accel

import (
	"context"
	"net/http"
	"runtime/debug"
	"sync"
	"time"
)

// A background is work that goes on behind answers, in goroutines that the cache
// owns, so many at once: what finds no slot is done otherwise, or not at all.
type background struct {
	mu     sync.Mutex // guards closed, and Add against Wait
	closed bool
	wg     sync.WaitGroup
	slots  chan struct{}
}

// closeWait is how long Close waits, for the handlers of refreshes in the first place,
// which are told to end. One that does not listen must not keep the store's file from
// the next process for ever; what it makes is not stored any more.
const closeWait = 10 * time.Second

func (b *background) init(slots int) { b.slots = make(chan struct{}, slots) }

// begin returns false if there is no slot, or nothing more is to begin. Whoever is
// told true calls end.
func (b *background) begin() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	select {
	case b.slots <- struct{}{}:
		b.wg.Add(1)
		return true
	default:
		return false
	}
}

func (b *background) end() {
	<-b.slots
	b.wg.Done()
}

// shut lets nothing more begin.
func (b *background) shut() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// wait waits for what has begun, after shut, until ctx ends.
func (b *background) wait(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}

// survive is deferred where a panic would end the process, because net/http is not
// there to recover. It is logged.
func (c *Cache) survive(doing string, url func() string) {
	v := recover()
	if v == nil || v == http.ErrAbortHandler {
		return
	}
	defer func() { _ = recover() }() // of the logger
	c.opts.log().Error("accel: panic", "doing", doing, "url", url(), "panic", v, "stack", string(debug.Stack()))
}
