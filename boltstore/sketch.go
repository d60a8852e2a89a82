package boltstore

import (
	"encoding/binary"
	"sync/atomic"

	"github.com/accelhttp/accelerator/accel"
)

// A sketch remembers, in 128 KiB, which keys were read from disk since the hand
// of the clock came by: a bit for each of a million keys, shared by those that
// collide. It is all that eviction needs to know, and costs a hit no write to
// disk.
type sketch struct{ bits [1 << 14]atomic.Uint64 }

func (s *sketch) place(key accel.Key) (*atomic.Uint64, uint64) {
	h := binary.LittleEndian.Uint64(key.Resource[:]) ^ binary.LittleEndian.Uint64(key.Variant[:])
	return &s.bits[h>>6&(1<<14-1)], 1 << (h & 63)
}

func (s *sketch) set(key accel.Key) {
	w, bit := s.place(key)
	if w.Load()&bit == 0 {
		w.Or(bit)
	}
}

// take reports whether the key was read, and forgets it.
func (s *sketch) take(key accel.Key) bool {
	w, bit := s.place(key)
	if w.Load()&bit == 0 {
		return false
	}
	w.And(^bit)
	return true
}
