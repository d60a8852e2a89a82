package accel

import (
	"net/http"

	"github.com/accelhttp/accelerator/codec"
)

// A loan is what a question has to do with a [Lender]. What is lent is only ever sent as
// a fresh hit, by the request that found it, and given back when it is written. It goes
// to no flight, to no cache around this one, and is not what a handler confirms.
type loan struct {
	choose  func(*Entry) int // pick of this very loan, made once
	header  http.Header      // of the request
	offers  []string
	picked  int    // the body that was chosen; -1 means all
	release func() // nil if what the last look-up found is not lent
}

// pick chooses the body with which the request will be answered if the entry is good for
// it: as prepared.choose does, as far as that can be told without the bodies.
func (l *loan) pick(e *Entry) int {
	l.picked = -1
	if len(e.Bodies) < 2 {
		return -1
	}
	l.offers = l.offers[:0]
	for i := range e.Bodies {
		l.offers = append(l.offers, e.Bodies[i].Coding)
	}
	if i, ok := codec.Negotiate(l.header["Accept-Encoding"], l.offers); ok {
		l.picked = i
	}
	return l.picked
}

// lent reports whether what the last look-up found is lent.
func (l *loan) lent() bool { return l.release != nil }

// suffices reports whether what is lent has the body that is to be sent. It has, as long
// as pick and prepared.choose agree; if they ever do not, the whole entry is asked for.
func (l *loan) suffices(a *answer) bool {
	return l.picked < 0 || l.picked == a.form.body
}

// clear leaves nothing of the request, nor of what was found.
func (l *loan) clear() {
	if l.header == nil {
		return
	}
	l.header, l.release = nil, nil
	if len(l.offers) != 0 {
		clear(l.offers)
		l.offers = l.offers[:0]
	}
}

// giveBack ends the loan. Nobody has the bodies any more.
func (l *loan) giveBack() {
	l.release()
	l.release = nil
}
