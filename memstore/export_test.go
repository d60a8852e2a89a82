package memstore

// Sweep goes one whole round of the sweeper.
func (s *Store) Sweep() { s.sweep() }
