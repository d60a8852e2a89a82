package boltstore

import "time"

// WithReadBudget lets a look-up wait longer for the disk than a site should.
func WithReadBudget(d time.Duration) Option {
	return func(o *options) { o.readBudget = d }
}
