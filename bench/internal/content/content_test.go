package content_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/bench/internal/content"
	"github.com/accelhttp/accelerator/codec"
)

func TestPagesHaveTheirSizeAndDiffer(t *testing.T) {
	c, err := content.Load(128 << 10)
	require.NoError(t, err)
	seen := map[string]bool{}
	for _, size := range []int{1 << 10, 8 << 10, 16 << 10, 64 << 10} {
		for i := range 50 {
			p := c.Page(i, size)
			require.Len(t, p, size)
			require.False(t, seen[string(p)], "page %d of %d bytes", i, size)
			seen[string(p)] = true
		}
	}
}

// What is measured with content that compresses to nothing says nothing.
func TestPagesCompressLikePages(t *testing.T) {
	c, err := content.Load(128 << 10)
	require.NoError(t, err)
	for i := range 10 {
		p := c.Page(i, 16<<10)
		z, err := codec.Encode(nil, codec.Gzip, p)
		require.NoError(t, err)
		require.Greater(t, len(z), len(p)/10)
		require.Less(t, len(z), len(p)/2)
	}
}

func TestJSONIsAboutAsLongAsWanted(t *testing.T) {
	c, err := content.Load(16 << 10)
	require.NoError(t, err)
	doc := c.JSON(1 << 10)
	require.True(t, json.Valid(doc))
	require.False(t, bytes.Contains(doc, []byte(",,")))
	require.InDelta(t, 1<<10, len(doc), 256)
}
