package boltstore

import (
	"sync"

	"github.com/accelhttp/accelerator/internal/format"
	"github.com/accelhttp/accelerator/internal/point"
)

// A loan is of memory into which the bodies of an entry are read that nobody keeps: it
// is written to one client, and the memory used again, which spares the garbage
// collector most of what a hit from disk would leave it. A loan that is not given back
// is garbage itself.
type loan struct {
	format.Loan
	end func() // accel.Found.Release
}

// loans are those that were given back.
type loans struct{ pool sync.Pool }

// maxLoan is the size in bytes of memory that is used again. Where many were lent at once,
// as many lie there until the garbage collector has come by twice.
const maxLoan = 1 << 20

func (p *loans) begin() *loan {
	if l, ok := p.pool.Get().(*loan); ok {
		return l
	}
	l := new(loan)
	l.end = func() {
		if point.Built {
			clear(l.Memory) // so that tests see who is not finished with it
		}
		if l.Pick = nil; cap(l.Memory) <= maxLoan {
			p.pool.Put(l)
		}
	}
	return l
}

// how is how the entry is read: without a loan, whole and into memory of its own.
func (l *loan) how() *format.Loan {
	if l == nil {
		return nil
	}
	return &l.Loan
}
