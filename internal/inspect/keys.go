package inspect

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/codec"
	"github.com/accelhttp/accelerator/internal/format"
)

// A KeyFilter says which entries are wanted. Conditions add up.
type KeyFilter struct {
	Tag    string // that they bear; "" for any
	Prefix string // of the target if it begins with "/", else of the URL
	All    bool   // also those that are dead
	Limit  int    // after sorting; 0 for no limit
}

// Keys is what a database has of entries.
type Keys struct {
	Database    string `json:"database"`
	BeginsEmpty string `json:"begins_empty,omitempty"`
	Keys        []Key  `json:"keys"`
	// Total is how many there were before the limit.
	Total int `json:"total"`
	// Hidden is how many were left out because they are dead.
	Hidden int `json:"hidden"`
	// Damaged is how many could not be read.
	Damaged int `json:"damaged"`
}

// A Key is an entry in short.
type Key struct {
	URL    string `json:"url"` // "" if it was not stored by the middleware
	State  State  `json:"state"`
	Status int    `json:"status"`
	// Bytes is what the entry occupies, all its bodies and rows.
	Bytes int64 `json:"bytes"`
	// Length is that of the body without a coding, -1 if unknown.
	Length  int64    `json:"length"`
	Codings []Coding `json:"codings"`
	Tags    []string `json:"tags"`
	// Request has the fields that a request must have to be answered with it.
	Request []RequestField `json:"request,omitempty"`
	// Rewritten is the path and query that the handler saw, where they were not
	// those of the URL.
	Rewritten string `json:"rewritten,omitempty"`
	// AppKey is what the application's own WithKey has added.
	AppKey string `json:"app_key,omitempty"`

	Date time.Time `json:"date"`
	// Age is how old it is, with what it was at Date.
	Age        float64   `json:"age"`
	FreshUntil time.Time `json:"fresh_until"`
	KeepUntil  time.Time `json:"keep_until"`
	StaleSince time.Time `json:"stale_since,omitzero"` // by ExpireTag
}

// A Coding is a body in one content coding.
type Coding struct {
	Coding string `json:"coding"` // "identity" for none
	Bytes  int64  `json:"bytes"`
	ETag   string `json:"etag"`
}

// A Response is an entry in full.
type Response struct {
	Key

	Header []Field `json:"header"`
	// Control has the fields that govern the entry and are not sent on.
	Control []Field `json:"control"`
	// ETag is the entity tag that the handler gave; empty if it gave none.
	ETag string `json:"etag"`
	// Vary has the names that select among the URL's variants.
	Vary []string `json:"vary"`

	StaleWhileRevalidate float64 `json:"stale_while_revalidate"`
	StaleIfError         float64 `json:"stale_if_error"`
	// ByHandler says that CacheFor stored it, not HTTP's own rules.
	ByHandler      bool `json:"by_handler"`
	Public         bool `json:"public"`
	MustRevalidate bool `json:"must_revalidate"`

	// Position is the number of the last invalidation before it was made. A dump
	// has none: positions have a meaning only in the file they are in.
	Position *uint64 `json:"position,omitempty"`

	// Body is the body without a coding, if it was asked for; in BodyCoding if
	// that is not "", for it could not be decoded.
	Body       []byte `json:"body,omitzero"`
	BodyCoding string `json:"body_coding,omitempty"`
}

// A Field is a field of a response's header.
type Field struct {
	Name   string   `json:"name"`
	Values []string `json:"values"`
}

// Responses is what Show has found.
type Responses struct {
	Database    string     `json:"database"`
	BeginsEmpty string     `json:"begins_empty,omitempty"`
	URL         string     `json:"url"`
	Responses   []Response `json:"responses"`
	Hidden      int        `json:"hidden"`
	Damaged     int        `json:"damaged"`
}

// Keys lists entries, sorted by their URL.
func (d *Database) Keys(ctx context.Context, f KeyFilter) (*Keys, error) {
	out := &Keys{Database: d.path, BeginsEmpty: d.beginsEmpty, Keys: []Key{}}
	mark := accel.MarkAll
	if f.Tag != "" {
		mark = accel.TagMark(f.Tag)
	}
	err := d.each(ctx, mark, false, func(row format.Row, e *accel.Entry, lengths []int64) error {
		if e == nil {
			out.Damaged++
			return nil
		}
		k := d.key(row, e, lengths)
		if f.Prefix != "" && !hasPrefix(e, k.URL, f.Prefix) {
			return nil
		}
		if k.State.Dead() && !f.All {
			out.Hidden++
			return nil
		}
		out.Keys = append(out.Keys, k)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out.Keys, compareKeys)
	out.Total = len(out.Keys)
	if f.Limit > 0 {
		out.Keys = out.Keys[:min(f.Limit, len(out.Keys))]
	}
	return out, nil
}

func hasPrefix(e *accel.Entry, url, prefix string) bool {
	if strings.HasPrefix(prefix, "/") {
		r, ok := readResource(e.Resource)
		return ok && strings.HasPrefix(r.target, prefix)
	}
	return strings.HasPrefix(url, prefix)
}

func compareKeys(a, b Key) int {
	if c := cmp.Or(cmp.Compare(a.URL, b.URL), cmp.Compare(a.AppKey, b.AppKey), cmp.Compare(a.Rewritten, b.Rewritten)); c != 0 {
		return c
	}
	return slices.CompareFunc(a.Request, b.Request, func(a, b RequestField) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), slices.Compare(a.Values, b.Values))
	})
}

// Show returns every variant that is stored of a URL, which is absolute, or path
// and query alone: then on every host. The error of a URL that is neither is
// [accel.ErrInvalidURL].
func (d *Database) Show(ctx context.Context, url string, all, bodies bool) (*Responses, error) {
	mark, err := accel.ParseURLMark(url)
	if err != nil {
		return nil, err
	}
	out := &Responses{Database: d.path, BeginsEmpty: d.beginsEmpty, URL: url, Responses: []Response{}}
	err = d.each(ctx, mark, bodies, func(row format.Row, e *accel.Entry, lengths []int64) error {
		if e == nil {
			out.Damaged++
			return nil
		}
		r := d.response(row, e, lengths, bodies)
		if r.State.Dead() && !all {
			out.Hidden++
			return nil
		}
		r.Position = &row.At.N
		out.Responses = append(out.Responses, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out.Responses, func(a, b Response) int { return compareKeys(a.Key, b.Key) })
	return out, nil
}

// Dump calls f with every entry, in no order. An error of f ends it. The file
// stays locked all the while. It returns how many could not be read.
func (d *Database) Dump(ctx context.Context, all, bodies bool, f func(Response) error) (damaged int, err error) {
	err = d.each(ctx, accel.MarkAll, bodies, func(row format.Row, e *accel.Entry, lengths []int64) error {
		if e == nil {
			damaged++
			return nil
		}
		if s, _ := d.state(row); s.Dead() && !all {
			return nil
		}
		return f(d.response(row, e, lengths, bodies))
	})
	return damaged, err
}

// each reads the entries that a mark names. Of one that is damaged, e is nil.
func (d *Database) each(ctx context.Context, m accel.Mark, bodies bool, f func(row format.Row, e *accel.Entry, lengths []int64) error) error {
	return d.view(func(tx *format.Tx) error {
		for row, err := range tx.Bearing(m) {
			if err := ctx.Err(); err != nil {
				return err
			}
			var e *accel.Entry
			var lengths []int64
			if err == nil {
				if e, lengths, err = tx.Head(row); err == nil && bodies {
					e, err = tx.Record(row)
				}
			}
			switch {
			case errors.Is(err, format.ErrDamaged):
				e = nil
			case err != nil:
				return err
			}
			if err := f(row, e, lengths); err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *Database) key(row format.Row, e *accel.Entry, lengths []int64) Key {
	s, since := d.state(row)
	k := Key{
		URL: strings.Clone(e.URL()), State: s, Status: e.Status,
		Bytes: int64(row.Size), Length: e.Length,
		Codings: []Coding{}, Tags: []string{},
		Date: e.Date, Age: (d.now.Sub(e.Date) + e.InitialAge).Seconds(),
		FreshUntil: row.FreshUntil, KeepUntil: row.KeepUntil, StaleSince: since,
	}
	for i, b := range e.Bodies {
		// All strings of a head share its memory; these may be kept for long.
		k.Codings = append(k.Codings, Coding{Coding: cmp.Or(strings.Clone(b.Coding), "identity"), Bytes: lengths[i], ETag: strings.Clone(b.ETag)})
	}
	for _, t := range e.Tags {
		k.Tags = append(k.Tags, strings.Clone(t))
	}
	if r, ok := readResource(e.Resource); ok {
		k.Rewritten, k.AppKey = r.rewritten, r.key
	}
	var ok bool
	if k.Request, ok = readVariant(e.Variant); !ok {
		k.Request = []RequestField{{Name: "?", Values: []string{strings.Clone(e.Variant)}}}
	}
	return k
}

func (d *Database) response(row format.Row, e *accel.Entry, lengths []int64, bodies bool) Response {
	r := Response{
		Key:    d.key(row, e, lengths),
		Header: fields(e.Header), Control: fields(e.Control), ETag: strings.Clone(e.ETag),
		Vary:                 append([]string{}, e.Vary...),
		StaleWhileRevalidate: e.StaleWhileRevalidate.Seconds(), StaleIfError: e.StaleIfError.Seconds(),
		ByHandler: e.ByHandler, Public: e.Public, MustRevalidate: e.MustRevalidate,
	}
	if bodies {
		r.Body, r.BodyCoding = identity(e)
	}
	return r
}

func fields(list []accel.Field) []Field {
	out := []Field{}
	for _, f := range list {
		out = append(out, Field{f.Name, append([]string{}, f.Values...)})
	}
	return out
}

// maxDecoded bounds a body whose length is not known, because its handler encoded
// it: what comes from there may be a bomb.
const maxDecoded = 256 << 20

// identity returns the body of an entry without a coding, or, with its name, in
// the coding of the first if none of them can be decoded.
func identity(e *accel.Entry) (body []byte, coding string) {
	for _, b := range e.Bodies {
		if b.Coding == "" {
			return append([]byte{}, b.Data...), ""
		}
	}
	limit := int64(maxDecoded)
	if e.Length >= 0 {
		limit = e.Length
	}
	for _, b := range e.Bodies {
		data, err := codec.Decode([]byte{}, b.Coding, b.Data, limit)
		if err == nil && (e.Length < 0 || int64(len(data)) == e.Length) {
			return data, ""
		}
	}
	if len(e.Bodies) == 0 {
		return []byte{}, ""
	}
	return e.Bodies[0].Data, e.Bodies[0].Coding
}
