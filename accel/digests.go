package accel

import (
	"hash/maphash"
	"sync/atomic"
)

// A digestTable remembers what the keys of pages that are asked for often are hashed
// to: two SHA-256 would be a quarter of what a hit in memory costs. A key is found by
// a faster hash, and its material compared byte by byte, so that the table says what
// SHA-256 says.
//
// Only keys that were found in the store are put in, and one that is in use does not
// make room for another that falls on its place: a flood of other URLs changes
// nothing. It has a fixed number of places, some 1.5 MiB at most. It is safe for
// concurrent use, and takes no lock.
type digestTable struct {
	seed  maphash.Seed // nobody outside can tell which keys share a place
	slots [1 << digestBits]atomic.Pointer[digested]
}

const (
	digestBits = 12
	// maxDigested is the length of the material that is remembered.
	maxDigested = 256
	// idleAfter is how many look-ups for other keys make one's place free.
	idleAfter = 8
)

type digested struct {
	resource string
	digest   Digest
	target   Hash
	others   atomic.Uint32 // look-ups for other keys since the last for this one
}

// digestsOf is for all caches of the process: a key's material says all about it.
var digestsOf = &digestTable{seed: maphash.MakeSeed()}

func (t *digestTable) slot(resource []byte) *atomic.Pointer[digested] {
	return &t.slots[maphash.Bytes(t.seed, resource)&(1<<digestBits-1)]
}

// get returns the digests of a key's material, and false if they are not here.
func (t *digestTable) get(resource []byte) (digest Digest, target Hash, ok bool) {
	d := t.slot(resource).Load()
	switch {
	case d == nil:
		return digest, 0, false
	case string(resource) != d.resource:
		d.others.Add(1)
		return digest, 0, false
	case d.others.Load() != 0: // a look first: writing would be felt on many cores
		d.others.Store(0)
	}
	return d.digest, d.target, true
}

// put has the digests remembered, unless their place is taken.
func (t *digestTable) put(resource []byte, digest Digest, target Hash) {
	if len(resource) > maxDigested {
		return
	}
	slot := t.slot(resource)
	if d := slot.Load(); d == nil || d.others.Load() >= idleAfter {
		slot.CompareAndSwap(d, &digested{resource: string(resource), digest: digest, target: target})
	}
}
