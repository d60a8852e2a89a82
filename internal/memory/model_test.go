package memory_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/memory"
)

// The cache against a plain map. What the map has and the cache has not was
// evicted; whatever the cache has, the map has too, and there has to be a
// reason for each loss.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := memory.New(rapid.SampledFrom([]int64{4 << 10, 20 << 10, 1 << 20, 1 << 30}).Draw(t, "bound"))
		model := map[accel.Key]*accel.Entry{}
		names := rapid.SampledFrom([][]string{nil, {"A"}, {"A", "B"}})
		draw := func() *accel.Entry {
			return entry(
				rapid.StringMatching(`[a-f]`).Draw(t, "resource"),
				rapid.StringMatching(`[a-z]?`).Draw(t, "variant"),
				names.Draw(t, "vary"),
				rapid.Uint64Range(1, 4).Draw(t, "n"),
				rapid.IntRange(0, 2000).Draw(t, "body"),
			)
		}
		siblings := func(e *accel.Entry) (es []*accel.Entry) {
			for k, x := range model {
				if k.Resource == e.Key.Resource && k != e.Key {
					es = append(es, x)
				}
			}
			return es
		}
		// lose takes from the model what the cache has evicted.
		lose := func(allowed bool) {
			for k := range model {
				if c.Peek(k) == nil {
					require.True(t, allowed, "lost without a reason")
					delete(model, k)
				}
			}
		}
		evicted := uint64(0)
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				e := draw()
				ok, kept := c.Put(e, time.Time{})
				higher := model[e.Key] != nil && slices.Equal(model[e.Key].Vary, e.Vary) && model[e.Key].At.N > e.At.N
				var drop []accel.Key
				for _, x := range append(siblings(e), model[e.Key]) {
					if x != nil && !slices.Equal(x.Vary, e.Vary) {
						higher = higher || x.At.N > e.At.N
						drop = append(drop, x.Key)
					}
				}
				require.Equal(t, !higher, ok)
				if !ok {
					require.False(t, kept)
					return
				}
				require.True(t, kept)
				for _, k := range drop {
					delete(model, k)
				}
				model[e.Key] = e
				it, _, _ := c.Get(e.Key, e.Vary)
				require.NotNil(t, it)
				require.Same(t, e, it.Entry)
			},
			"promote": func(t *rapid.T) {
				e := draw()
				want := model[e.Key] == nil && len(siblings(e)) < accel.MaxVariants
				for _, x := range siblings(e) {
					want = want && slices.Equal(x.Vary, e.Vary)
				}
				require.Equal(t, want, c.Promote(e, time.Time{}))
				if want {
					model[e.Key] = e
				}
			},
			"get": func(t *rapid.T) {
				e := draw()
				it, vary, known := c.Get(e.Key, e.Vary)
				want := model[e.Key]
				if want != nil && slices.Equal(want.Vary, e.Vary) {
					require.NotNil(t, it)
					require.Same(t, want, it.Entry)
					return
				}
				require.Nil(t, it)
				for _, x := range append(siblings(e), want) {
					if x != nil {
						require.Equal(t, !slices.Equal(x.Vary, e.Vary), known)
						if known {
							require.Equal(t, x.Vary, vary)
						}
						return
					}
				}
				require.False(t, known)
			},
			"delete": func(t *rapid.T) {
				e := draw()
				have := model[e.Key]
				want := have != nil && memory.Same(have, e)
				require.Equal(t, want, c.Delete(e.Key, e))
				if want {
					delete(model, e.Key)
				}
			},
			"deleteAny": func(t *rapid.T) {
				e := draw()
				require.Equal(t, model[e.Key] != nil, c.Delete(e.Key, nil))
				delete(model, e.Key)
			},
			"deleteFunc": func(t *rapid.T) {
				n := rapid.Uint64Range(1, 4).Draw(t, "n")
				want := 0
				for k, e := range model {
					if e.At.N == n {
						want++
						delete(model, k)
					}
				}
				require.Equal(t, want, c.DeleteFunc(func(it *memory.Item) bool { return it.Entry.At.N == n }))
			},
			"clear": func(t *rapid.T) {
				if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
					c.Clear()
					clear(model)
				}
			},
			"": func(t *rapid.T) {
				lose(c.Evicted() > evicted)
				evicted = c.Evicted()
				require.Equal(t, len(model), c.Len())
				memory.Check(t, c)
			},
		})
	})
}
