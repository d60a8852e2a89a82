package accel

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// A recollection remembers things about keys for a while, in a fixed space. It
// may forget a key at any time, because another takes its place, and in one case
// of some billions it takes one key for another. So it is for what is good to
// know and harmless to be wrong about. Recollections are safe for concurrent
// use; the zero value remembers nothing yet.
type recollection struct {
	slots [1 << recollectionBits]atomic.Uint64
}

const (
	recollectionBits = 12 // 32 KiB: more keys than are hot at once on one machine

	// A slot is a fingerprint of 32 bits, a note of 8, and of the second it
	// ends in the last 24 bits, compared modulo 2^24 (194 days).
	noteShift   = 24
	secondsMask = 1<<noteShift - 1
)

// remember notes something about a key, until then.
func (m *recollection) remember(key flightKey, note uint8, until time.Time) {
	slot, print := m.find(key)
	second := uint64(until.Unix()) & secondsMask
	slot.Store(print<<32 | uint64(note)<<noteShift | second)
}

// recall returns what is noted about a key at this time.
func (m *recollection) recall(key flightKey, now time.Time) (note uint8, ok bool) {
	slot, print := m.find(key)
	v := slot.Load()
	if v == 0 || v>>32 != print {
		return 0, false
	}
	left := (v - uint64(now.Unix())) & secondsMask
	if left == 0 || left > uint64(knownFor/time.Second) { // the longest there is
		return uint8(v >> noteShift), false // over; the note may still be of use
	}
	return uint8(v >> noteShift), true
}

func (m *recollection) forget(key flightKey) {
	slot, print := m.find(key)
	if v := slot.Load(); v>>32 == print {
		slot.CompareAndSwap(v, 0)
	}
}

func (m *recollection) find(key flightKey) (slot *atomic.Uint64, print uint64) {
	sum := binary.BigEndian.Uint64(key.Resource[:]) + binary.BigEndian.Uint64(key.Variant[:])
	if key.authorized {
		sum = ^sum
	}
	return &m.slots[sum%(1<<recollectionBits)], sum >> 32
}
