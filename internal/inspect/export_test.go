package inspect

// CompactAt has fn called at each moment of a compaction, until the function that
// it returns is called.
func CompactAt(fn func(moment string) error) (restore func()) {
	was := compactAt
	compactAt = fn
	return func() { compactAt = was }
}
