package accel

import (
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

// closeWait is how long Close waits for the handlers of refreshes, which are told
// to end. One that does not listen must not keep the store's file from the next
// process for ever; what it makes is not stored any more.
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

// close lets nothing more begin, and waits for what has begun, for closeWait at most.
func (b *background) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		b.wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeWait):
	}
}
