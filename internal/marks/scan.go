package marks

import (
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/internal/point"
)

// Scan judges a copy in memory by the rows that are about to be dropped: it
// reports whether they strike it, and calls stale with the moment since when, if
// they make it stale. It is what a store does to each of its copies between
// [Marks.Prunable] and [Marks.Drop].
func Scan(rows map[accel.Hash]Row, e *accel.Entry, stale func(since time.Time)) (struck bool) {
	for _, h := range e.Marks {
		r, ok := rows[h]
		if !ok {
			continue
		}
		if r.Strikes(e.At.N) {
			return true
		}
		if r.Stales(e.At.N) && !point.Off(point.SoftWritten) {
			stale(r.Since)
		}
	}
	return false
}

// Row returns what is remembered under a mark; the zero Row if nothing is.
func (m *Marks) Row(mk accel.Mark) Row {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.rows[mk.Hash].Row
}
