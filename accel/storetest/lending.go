package storetest

import (
	"context"
	"reflect"
	"slices"
	"sync/atomic"

	"github.com/accelhttp/accelerator/accel"
)

// Lending returns s as an [accel.Lender] that lends all it has: each entry with no other
// body than the one that was picked, and in memory that is written over when it is given
// back. Who uses a body for longer, or another one, sees bytes 0xDB or none. Giving
// something back twice panics.
func Lending(s accel.Store) accel.Lender { return lending{s} }

type lending struct{ accel.Store }

func (s lending) Lend(ctx context.Context, key accel.Key, vary []string, pick func(*accel.Entry) int) (accel.Found, error) {
	found, err := s.Get(ctx, key, vary)
	if found.Entry == nil {
		return found, err
	}
	e := clone(found.Entry)
	e.Bodies = slices.Clone(e.Bodies)
	for i := range e.Bodies {
		e.Bodies[i].Data = nil
	}
	picked := pick(e)
	for i := range e.Bodies {
		if picked < 0 || picked == i {
			e.Bodies[i].Data = slices.Clone(found.Entry.Bodies[i].Data)
		}
	}
	var released atomic.Bool
	found.Entry, found.Release = e, func() {
		if released.Swap(true) {
			panic("storetest: released twice")
		}
		for _, b := range e.Bodies {
			for i := range b.Data {
				b.Data[i] = 0xDB
			}
		}
	}
	return found, err
}

// clone returns another entry with what e has.
func clone(e *accel.Entry) *accel.Entry {
	c := new(accel.Entry)
	from, to := reflect.ValueOf(e).Elem(), reflect.ValueOf(c).Elem()
	for i := range from.NumField() {
		if from.Type().Field(i).IsExported() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return c
}
