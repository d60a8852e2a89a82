// Package trace makes sequences of requests, and has the cache that others are
// compared with: the least recently used one, perfect, of so many bytes.
package trace

import (
	"container/list"
	"math"
	"math/rand/v2"
	"sort"
)

// Zipf returns n numbers below keys, of which k occurs in proportion to
// 1/(k+1)^s. Requests for pages are like that with s between 0.7 and 1. The same
// seed gives the same sequence.
func Zipf(seed uint64, s float64, keys, n int) []int {
	r := rand.New(rand.NewPCG(seed, 1))
	sums := make([]float64, keys) // math/rand's Zipf wants s above 1
	sum := 0.0
	for k := range sums {
		sum += math.Pow(float64(k+1), -s)
		sums[k] = sum
	}
	t := make([]int, n)
	for i := range t {
		t[i] = min(sort.SearchFloat64s(sums, r.Float64()*sum), keys-1)
	}
	return t
}

// Scanned returns t with a crawler in it: every second request is the crawler's,
// which asks for each of the keys from first on, once.
func Scanned(t []int, first int) []int {
	both := make([]int, 0, 2*len(t))
	for i, k := range t {
		both = append(both, k, first+i)
	}
	return both
}

// An LRU is a cache of keys with sizes that evicts exactly what was used least
// recently. It is not safe for concurrent use.
type LRU struct {
	max, bytes int64
	order      *list.List // of item; the last used in front
	items      map[int]*list.Element
}

type item struct {
	key  int
	size int64
}

// NewLRU returns an empty cache of at most maxBytes.
func NewLRU(maxBytes int64) *LRU {
	return &LRU{max: maxBytes, order: list.New(), items: map[int]*list.Element{}}
}

// Ask reports whether the key is there, and puts it there if it is not.
func (c *LRU) Ask(key int, size int64) (hit bool) {
	if e := c.items[key]; e != nil {
		c.order.MoveToFront(e)
		return true
	}
	if size > c.max {
		return false
	}
	c.items[key] = c.order.PushFront(item{key, size})
	for c.bytes += size; c.bytes > c.max; {
		last := c.order.Remove(c.order.Back()).(item)
		delete(c.items, last.key)
		c.bytes -= last.size
	}
	return false
}
