package storetest

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/accelhttp/accelerator/accel"
)

// ErrFault is what a [FaultyStore] fails with.
var ErrFault = errors.New("storetest: fault")

// A FaultyStore is a store one of whose operations fails. It is safe for
// concurrent use.
type FaultyStore struct {
	accel.Store
	n, at atomic.Int64
}

// Faulty returns s with a fault: of the calls of Get, Lend, Put, Delete,
// Invalidate and Expire, the n-th, counted from 1, is not carried out and returns
// [ErrFault]. Zero is a store without one.
//
// A test is run with n = 1, 2, 3, ... until [FaultyStore.Fired] is false at its
// end: then each operation it makes has failed once.
func Faulty(s accel.Store, n int) *FaultyStore {
	f := &FaultyStore{Store: s}
	f.at.Store(int64(n))
	return f
}

// Fired reports whether an operation has failed.
func (f *FaultyStore) Fired() bool {
	at := f.at.Load()
	return at > 0 && f.n.Load() >= at
}

func (f *FaultyStore) fails() bool { return f.n.Add(1) == f.at.Load() }

// Get implements [accel.Store].
func (f *FaultyStore) Get(ctx context.Context, key accel.Key, vary []string) (accel.Found, error) {
	if f.fails() {
		return accel.Found{}, ErrFault
	}
	return f.Store.Get(ctx, key, vary)
}

// Lend implements [accel.Lender]: as the store does, or as Get if it does not lend.
func (f *FaultyStore) Lend(ctx context.Context, key accel.Key, vary []string, pick func(*accel.Entry) int) (accel.Found, error) {
	l, ok := f.Store.(accel.Lender)
	switch {
	case !ok:
		return f.Get(ctx, key, vary)
	case f.fails():
		return accel.Found{}, ErrFault
	}
	return l.Lend(ctx, key, vary, pick)
}

// Put implements [accel.Store].
func (f *FaultyStore) Put(e, old *accel.Entry) error {
	if f.fails() {
		return ErrFault
	}
	return f.Store.Put(e, old)
}

// Delete implements [accel.Store].
func (f *FaultyStore) Delete(e *accel.Entry) error {
	if f.fails() {
		return ErrFault
	}
	return f.Store.Delete(e)
}

// Invalidate implements [accel.Store].
func (f *FaultyStore) Invalidate(ctx context.Context, marks ...accel.Mark) error {
	if f.fails() {
		return ErrFault
	}
	return f.Store.Invalidate(ctx, marks...)
}

// Expire implements [accel.Store].
func (f *FaultyStore) Expire(ctx context.Context, marks ...accel.Mark) error {
	if f.fails() {
		return ErrFault
	}
	return f.Store.Expire(ctx, marks...)
}
