package codec

import (
	"maps"
	"slices"
)

// CompressibleTypes shows the list to the tests.
func CompressibleTypes() []string { return slices.Sorted(maps.Keys(compressibleTypes)) }
