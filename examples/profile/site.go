package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"slices"
	"time"

	"github.com/accelhttp/accelerator/accel"
)

//go:embed pages
var pageFiles embed.FS

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"clock": func(t time.Time) string { return t.Format("15:04:05.000") },
	"date":  func(t time.Time) string { return t.Format("2 January, 15:04") },
	"stamp": func(t time.Time) string { return t.Format(time.RFC3339) },
	"took":  took,
}).ParseFS(pageFiles, "pages/*.html"))

// took leaves the digits of a duration that say something.
func took(d time.Duration) string {
	if d < time.Millisecond {
		return d.Round(time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}

// keep is how long a page may stay if nothing it was made from changes.
const keep = time.Hour

// server has the handlers.
type server struct {
	data    *Data
	now     func() time.Time
	log     *slog.Logger
	journal journal
}

// site returns the handler of the whole site. Its pages say how long they may
// be kept; outside of a cache, that does nothing.
func site(data *Data, now func() time.Time, logger *slog.Logger) http.Handler {
	s := &server{data: data, now: now, log: logger}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.front)
	mux.HandleFunc("GET /people/{id}", s.person)
	mux.HandleFunc("GET /people/{id}/photo.svg", s.photo)
	mux.HandleFunc("GET /people/{id}/friends", s.friends)
	mux.HandleFunc("POST /people/{id}/{source}", s.change)
	mux.HandleFunc("GET /renders", s.renders)
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		s.problem(w, http.StatusNotFound, "There is no such page", "Perhaps it was here once.", "/")
	})
	return http.NewCrossOriginProtection().Handler(mux)
}

// copyOf is what a page says about itself: it stays true for as long as the
// page is kept.
type copyOf struct {
	Made    time.Time
	Took    time.Duration
	Queries int
	Tags    []string
	Number  int // of the renderings of this page
}

// A card is somebody in short, as others' pages show them.
type card struct {
	ID      string
	Profile Profile
	Status  Status
}

func (s *server) card(ctx context.Context, id string) (card, error) {
	profile, err := s.data.Profile(ctx, id)
	if err != nil {
		return card{}, err
	}
	status, err := s.data.Status(ctx, id)
	return card{ID: id, Profile: profile, Status: status}, err
}

func (s *server) cards(ctx context.Context, ids []string) ([]card, error) {
	var cards []card
	for _, id := range ids {
		c, err := s.card(ctx, id)
		if err != nil {
			return nil, err
		}
		cards = append(cards, c)
	}
	return cards, nil
}

// view is what the templates see.
type view struct {
	Title string
	Copy  *copyOf // nil on pages that are not kept
	Page  any
}

// front shows everybody.
func (s *server) front(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "front", func(ctx context.Context) (string, any, error) {
		cards, err := s.cards(ctx, s.data.People())
		return "Everybody", cards, err
	})
}

// personView is a profile page, from six sources.
type personView struct {
	ID        string
	Profile   Profile
	Photo     Photo
	Status    Status
	Friends   []card
	Guestbook []Note
	Badges    []string

	BadgeSet []award // for the form
	Max      limits
}

type award struct {
	Name string
	Has  bool
}

type limits struct{ Name, Street, About, Caption, Status, Note int }

func (s *server) person(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "person", func(ctx context.Context) (string, any, error) {
		p, err := s.readPerson(ctx, r.PathValue("id"))
		return p.Profile.Name, p, err
	})
}

// readPerson asks the six sources about a person, and about each friend those
// two that are shown of them.
func (s *server) readPerson(ctx context.Context, id string) (p personView, err error) {
	if !s.data.Has(id) {
		return p, errNoPerson
	}
	p = personView{ID: id, Max: limits{maxName, maxStreet, maxAbout, maxCaption, maxStatus, maxNote}}
	var friends []string
	read := func(ask func() error) {
		if err == nil {
			err = ask()
		}
	}
	read(func() (err error) { p.Profile, err = s.data.Profile(ctx, id); return })
	read(func() (err error) { p.Photo, err = s.data.Photo(ctx, id); return })
	read(func() (err error) { p.Status, err = s.data.Status(ctx, id); return })
	read(func() (err error) { friends, err = s.data.Friends(ctx, id); return })
	read(func() (err error) { p.Friends, err = s.cards(ctx, friends); return })
	read(func() (err error) { p.Guestbook, err = s.data.Guestbook(ctx, id); return })
	read(func() (err error) { p.Badges, err = s.data.Badges(ctx, id); return })
	for _, badge := range badgeSet {
		p.BadgeSet = append(p.BadgeSet, award{badge, slices.Contains(p.Badges, badge)})
	}
	return p, err
}

// friendsView is the page on which one makes friends. It names everybody, so
// it is made from everybody's profile. That is why it is a page of its own:
// else a new name would strike the pages of all the town.
type friendsView struct {
	ID      string
	Profile Profile
	Others  []other
}

type other struct {
	ID      string
	Profile Profile
	Friend  bool
}

func (s *server) friends(w http.ResponseWriter, r *http.Request) {
	s.serve(w, r, "friends", func(ctx context.Context) (string, any, error) {
		f, err := s.readFriends(ctx, r.PathValue("id"))
		return "Friends of " + f.Profile.Name, f, err
	})
}

func (s *server) readFriends(ctx context.Context, id string) (friendsView, error) {
	if !s.data.Has(id) {
		return friendsView{}, errNoPerson
	}
	friends, err := s.data.Friends(ctx, id)
	if err != nil {
		return friendsView{}, err
	}
	f := friendsView{ID: id}
	for _, who := range s.data.People() {
		profile, err := s.data.Profile(ctx, who)
		switch {
		case err != nil:
			return friendsView{}, err
		case who == id:
			f.Profile = profile
		default:
			f.Others = append(f.Others, other{who, profile, slices.Contains(friends, who)})
		}
	}
	return f, nil
}

// serve renders a page that may be kept, and notes that it was rendered: what
// the cache answers alone does not come here.
func (s *server) serve(w http.ResponseWriter, r *http.Request, name string, read func(context.Context) (title string, page any, err error)) {
	start := s.now()
	ctx, trace := withTrace(r.Context())
	title, page, err := read(ctx)
	if err != nil {
		s.fail(w, r, err, "/")
		return
	}
	made := &copyOf{Made: start, Took: s.now().Sub(start)}
	made.Tags, made.Queries = trace.seen()
	made.Number = s.journal.add(event{When: start, Path: r.URL.Path, Took: made.Took, Tags: made.Tags})

	accel.CacheFor(r.Context(), keep)
	// Browsers ask each time, for an invalidation does not reach them. If
	// nothing has changed, 304 is the answer.
	w.Header().Set("Cache-Control", "no-cache")
	s.write(w, http.StatusOK, name, view{Title: title, Copy: made, Page: page})
}

// photo draws a portrait. It is kept on its own: a new status leaves it alone,
// and a new portrait strikes only it and the page that has its caption.
func (s *server) photo(w http.ResponseWriter, r *http.Request) {
	start := s.now()
	ctx, trace := withTrace(r.Context())
	photo, err := s.data.Photo(ctx, r.PathValue("id"))
	if err != nil {
		s.fail(w, r, err, "/")
		return
	}
	drawn := portrait(photo)
	tags, _ := trace.seen()
	s.journal.add(event{When: start, Path: r.URL.Path, Took: s.now().Sub(start), Tags: tags})

	accel.CacheFor(r.Context(), keep)
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Content-Type", "image/svg+xml")
	h.Set("Content-Security-Policy", "default-src 'none'")
	_, _ = w.Write(drawn) // the client may have left
}

// change answers every form: it changes a source and sends the browser back to
// the page, which the change has struck.
func (s *server) change(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	back := "/"
	if s.data.Has(id) {
		back = "/people/" + id
	}
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	if err := r.ParseForm(); err != nil {
		s.problem(w, http.StatusBadRequest, "That cannot be saved", "The form could not be read, or it is too long.", back)
		return
	}
	start := s.now()
	ctx, trace := withTrace(r.Context())
	value := r.PostForm.Get
	var err error
	switch r.PathValue("source") {
	case "profile":
		err = s.data.SetProfile(ctx, id, Profile{Name: value("name"), Street: value("street"), About: value("about")})
	case "photo":
		err = s.data.NewPhoto(ctx, id, value("caption"))
	case "status":
		err = s.data.SetStatus(ctx, id, value("status"))
	case "friends":
		err = s.data.Befriend(ctx, id, value("friend"))
	case "guestbook":
		err = s.data.Sign(ctx, id, value("name"), value("message"))
	case "badges":
		err = s.data.Award(ctx, id, value("badge"))
	default:
		s.problem(w, http.StatusNotFound, "There is no such form", "Nothing was changed.", back)
		return
	}
	if err != nil {
		s.fail(w, r, err, back)
		return
	}
	tags, _ := trace.seen()
	s.journal.add(event{When: start, Path: r.URL.Path, Took: s.now().Sub(start), Changed: true, Tags: tags})
	http.Redirect(w, r, back, http.StatusSeeOther)
}

// rendersView is the table of /renders.
type rendersView struct {
	Pages  []pageCount
	Events []event
}

type pageCount struct {
	Path  string
	Count int
}

// renders shows what was rendered and what was changed. It never asks to be
// kept, so it is not.
func (s *server) renders(w http.ResponseWriter, r *http.Request) {
	v := rendersView{Events: s.journal.latest()}
	v.Pages = append(v.Pages, pageCount{"/", s.journal.count("/")})
	for _, rest := range []string{"", "/photo.svg", "/friends"} {
		for _, id := range s.data.People() {
			path := "/people/" + id + rest
			v.Pages = append(v.Pages, pageCount{path, s.journal.count(path)})
		}
	}
	w.Header().Set("Cache-Control", "no-store")
	s.write(w, http.StatusOK, "renders", view{Title: "Renderings", Page: v})
}

// fail answers with the page that an error deserves.
func (s *server) fail(w http.ResponseWriter, r *http.Request, err error, back string) {
	var invalid invalidError
	switch {
	case errors.As(err, &invalid):
		s.problem(w, http.StatusBadRequest, "That cannot be saved", err.Error(), back)
	case errors.Is(err, errNoPerson):
		s.problem(w, http.StatusNotFound, "Nobody lives here", "There is no such person.", back)
	case errors.Is(err, accel.ErrNotDurable):
		s.log.Warn("invalidate", "path", r.URL.Path, "err", err)
		s.problem(w, http.StatusInternalServerError, "Saved, but not quite done",
			"The change is made, and the cache has dropped what showed the old state. It could not write that down: after a restart, old pages might come back.", back)
	default:
		s.log.Error("request failed", "path", r.URL.Path, "err", err)
		s.problem(w, http.StatusInternalServerError, "Something went wrong", "It is in the log.", back)
	}
}

// problemView is a page that says what went wrong.
type problemView struct{ Text, Back string }

func (s *server) problem(w http.ResponseWriter, status int, title, text, back string) {
	s.write(w, status, "problem", view{Title: title, Page: problemView{text, back}})
}

// write executes a template before anything is sent, so that an error in it is
// not half a page.
func (s *server) write(w http.ResponseWriter, status int, name string, v view) {
	var body bytes.Buffer
	if err := pages.ExecuteTemplate(&body, name, v); err != nil {
		s.log.Error("render", "template", name, "err", err)
		http.Error(w, "This page could not be rendered.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w) // the client may have left
}
