package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/accelhttp/accelerator/accel"
)

// Profile is who somebody is.
type Profile struct {
	Name   string
	Street string
	About  string
}

// Photo is what a portrait is drawn from.
type Photo struct {
	Seed    uint64
	Caption string
}

// Status is what somebody is doing.
type Status struct {
	Text  string
	Since time.Time
}

// Note is an entry in a guestbook.
type Note struct {
	Author string
	Text   string
	When   time.Time
}

// Data is the data layer: six sources about every person, each a row that is
// read and written on its own.
//
// It is the only place that knows about tags. Whoever reads a row through it
// has told the cache so by reading, and whoever writes one has invalidated what
// was made from it; a handler can forget neither. It is safe for concurrent
// use, and lives in memory: a restart begins with [Sample] again.
type Data struct {
	query  func(context.Context) // what one query costs
	now    func() time.Time
	people []string // the IDs of all, in the order of the front page

	mu   sync.RWMutex // guards rows
	rows rows
}

// rows is the content of the six sources, by a person's ID. Slices in it are
// replaced, never written to, so that readers may keep them.
type rows struct {
	profile   map[string]Profile
	photo     map[string]Photo
	status    map[string]Status
	friends   map[string][]string // IDs, symmetric, nobody is their own friend
	guestbook map[string][]Note   // newest first
	badges    map[string][]string // in the order of badgeSet
}

// badgeSet has the badges there are.
var badgeSet = []string{"Early bird", "Night owl", "Bookworm", "Cyclist", "Baker", "Gardener", "Chess player", "Polyglot"}

// What a field may have at most, in characters, and a guestbook in notes.
const (
	maxName    = 40
	maxStreet  = 40
	maxAbout   = 400
	maxCaption = 80
	maxStatus  = 140
	maxNote    = 280
	maxNotes   = 20
)

// tag is the name of a row, such as "status:42".
func tag(source, id string) string { return source + ":" + id }

// read stands at the beginning of every query: it tells the cache what the
// response is made from, and takes the time a database would.
func (d *Data) read(ctx context.Context, source, id string) {
	accel.Tag(ctx, tag(source, id))
	traceFrom(ctx).add(tag(source, id))
	d.query(ctx)
}

// changed stands at the end of every change, after the new rows can be read:
// when it has returned, no page that is older is served again.
func (d *Data) changed(ctx context.Context, tags ...string) error {
	traceFrom(ctx).add(tags...)
	return accel.FromContext(ctx).InvalidateTag(ctx, tags...)
}

// row is a query for one row.
func row[T any](ctx context.Context, d *Data, source string, table map[string]T, id string) (T, error) {
	d.read(ctx, source, id)
	d.mu.RLock()
	defer d.mu.RUnlock()
	found, ok := table[id]
	if !ok {
		return found, errNoPerson
	}
	return found, nil
}

// write commits a change.
func (d *Data) write(id string, change func(rows)) error {
	if !d.Has(id) {
		return errNoPerson
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d.rows)
	return nil
}

// People returns the IDs of everybody. Nobody ever joins or leaves, so it
// needs no tag.
func (d *Data) People() []string { return d.people }

// Has reports whether there is such a person.
func (d *Data) Has(id string) bool { return slices.Contains(d.people, id) }

// Profile returns who a person is.
func (d *Data) Profile(ctx context.Context, id string) (Profile, error) {
	return row(ctx, d, "profile", d.rows.profile, id)
}

// Photo returns what a person's portrait is drawn from.
func (d *Data) Photo(ctx context.Context, id string) (Photo, error) {
	return row(ctx, d, "photo", d.rows.photo, id)
}

// Status returns what a person is doing.
func (d *Data) Status(ctx context.Context, id string) (Status, error) {
	return row(ctx, d, "status", d.rows.status, id)
}

// Friends returns the IDs of a person's friends.
func (d *Data) Friends(ctx context.Context, id string) ([]string, error) {
	return row(ctx, d, "friends", d.rows.friends, id)
}

// Guestbook returns what others wrote to a person, newest first.
func (d *Data) Guestbook(ctx context.Context, id string) ([]Note, error) {
	return row(ctx, d, "guestbook", d.rows.guestbook, id)
}

// Badges returns what a person was given.
func (d *Data) Badges(ctx context.Context, id string) ([]string, error) {
	return row(ctx, d, "badges", d.rows.badges, id)
}

// SetProfile changes who a person is.
func (d *Data) SetProfile(ctx context.Context, id string, p Profile) error {
	err := errors.Join(
		line(&p.Name, "name", maxName),
		line(&p.Street, "street", maxStreet),
		text(&p.About, "description", maxAbout),
	)
	if err != nil {
		return err
	}
	if err := d.write(id, func(r rows) { r.profile[id] = p }); err != nil {
		return err
	}
	return d.changed(ctx, tag("profile", id))
}

// NewPhoto takes another portrait of a person.
func (d *Data) NewPhoto(ctx context.Context, id, caption string) error {
	if err := line(&caption, "caption", maxCaption); err != nil {
		return err
	}
	err := d.write(id, func(r rows) { r.photo[id] = Photo{Seed: r.photo[id].Seed + 1, Caption: caption} })
	if err != nil {
		return err
	}
	return d.changed(ctx, tag("photo", id))
}

// SetStatus changes what a person is doing.
func (d *Data) SetStatus(ctx context.Context, id, status string) error {
	if err := line(&status, "status", maxStatus); err != nil {
		return err
	}
	if err := d.write(id, func(r rows) { r.status[id] = Status{Text: status, Since: d.now()} }); err != nil {
		return err
	}
	return d.changed(ctx, tag("status", id))
}

// Befriend makes two people friends, or strangers if they were friends. It
// changes a row of each.
func (d *Data) Befriend(ctx context.Context, a, b string) error {
	if a == b || !d.Has(b) {
		return invalidError("Choose one of the others.")
	}
	err := d.write(a, func(r rows) {
		r.friends[a] = turn(r.friends[a], b, d.people)
		r.friends[b] = turn(r.friends[b], a, d.people)
	})
	if err != nil {
		return err
	}
	return d.changed(ctx, tag("friends", a), tag("friends", b))
}

// Sign writes into a person's guestbook.
func (d *Data) Sign(ctx context.Context, id, author, note string) error {
	err := errors.Join(line(&author, "name", maxName), text(&note, "message", maxNote))
	if err != nil {
		return err
	}
	err = d.write(id, func(r rows) {
		notes := append([]Note{{Author: author, Text: note, When: d.now()}}, r.guestbook[id]...)
		r.guestbook[id] = notes[:min(len(notes), maxNotes)]
	})
	if err != nil {
		return err
	}
	return d.changed(ctx, tag("guestbook", id))
}

// Award gives a person a badge, or takes it back.
func (d *Data) Award(ctx context.Context, id, badge string) error {
	if !slices.Contains(badgeSet, badge) {
		return invalidError("Choose one of the badges.")
	}
	if err := d.write(id, func(r rows) { r.badges[id] = turn(r.badges[id], badge, badgeSet) }); err != nil {
		return err
	}
	return d.changed(ctx, tag("badges", id))
}

// turn returns a new list that has what if the old one had it not, and the
// other way round, in the order of all.
func turn(old []string, what string, all []string) []string {
	var list []string
	for _, each := range all {
		if slices.Contains(old, each) != (each == what) {
			list = append(list, each)
		}
	}
	return list
}

// errNoPerson says that there is nobody of that ID.
var errNoPerson = errors.New("there is no such person")

// invalidError says what is wrong with a field, in a sentence for its author.
type invalidError string

func (e invalidError) Error() string { return string(e) }

// line tidies and checks a field of one line.
func line(field *string, name string, most int) error {
	*field = strings.Join(strings.Fields(*field), " ")
	return text(field, name, most)
}

// text tidies and checks a field: not empty, not too long, nothing but text.
func text(field *string, name string, most int) error {
	*field = strings.TrimSpace(strings.ReplaceAll(*field, "\r\n", "\n"))
	isControl := func(r rune) bool { return r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 }
	n := utf8.RuneCountInString(*field)
	switch {
	case n == 0:
		return invalidError(fmt.Sprintf("The %s is empty.", name))
	case n > most:
		return invalidError(fmt.Sprintf("The %s has %d characters; it may have %d.", name, n, most))
	case !utf8.ValidString(*field), strings.ContainsFunc(*field, isControl):
		return invalidError(fmt.Sprintf("The %s has characters that are not text.", name))
	}
	return nil
}
