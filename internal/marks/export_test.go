package marks

// Peak returns the most rows that the map has held since it was built, which is
// what a Go map keeps room for.
func (m *Marks) Peak() int { return m.peak }
