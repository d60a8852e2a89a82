package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
)

// start is when the databases of the scripts are made.
var start = time.Date(2026, 1, 2, 15, 0, 0, 0, time.UTC)

// clock is start, moved by $CLOCK.
func clock() time.Time {
	d, err := time.ParseDuration(os.Getenv("CLOCK"))
	if err != nil && os.Getenv("CLOCK") != "" {
		panic(err)
	}
	return start.Add(d)
}

// site is a handler with something of everything: tags, variants, codings,
// a status of its own, and text that would steer a terminal.
func site() http.Handler {
	mux := http.NewServeMux()
	page := func(w http.ResponseWriter, text string) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintln(w, strings.Repeat("<p>"+text+"</p>\n", 40))
	}
	mux.HandleFunc("/users/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		accel.CacheFor(r.Context(), time.Hour, accel.StaleWhileRevalidate(time.Minute))
		accel.Tag(r.Context(), "user:"+id, "friends:"+id, "users")
		page(w, "user "+id)
	})
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), 2*time.Hour)
		accel.Tag(r.Context(), "hello")
		w.Header().Set("Vary", "Accept-Language")
		fmt.Fprintf(w, "hello in %q\n", r.Header.Get("Accept-Language"))
	})
	mux.HandleFunc("/gone", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Minute)
		w.WriteHeader(http.StatusGone)
	})
	mux.HandleFunc("/evil", func(w http.ResponseWriter, r *http.Request) {
		accel.CacheFor(r.Context(), time.Hour)
		accel.Tag(r.Context(), "a\u202eb", "tag, with comma", strings.Repeat("long", 20))
		w.Header().Set("X-Latin", "caf\xe9")
		fmt.Fprint(w, "\x1b]0;title\a red \x1b[31m\n")
	})
	return mux
}

// makedb is a command of the scripts: it makes a database by asking the site.
//
//	makedb FILE [TARGET | -H NAME:VALUE | invalidate:TAG | expire:TAG | hold:FILE ...]
//
// It prints the Cache-Status of each answer. A header counts for the targets after
// it. hold: creates a file and keeps the
// database open until it is interrupted.
func makedb() int {
	store := boltstore.Open(os.Args[1], boltstore.WithClock(clock), boltstore.WithLogger(slog.New(slog.DiscardHandler)))
	if err := store.Ping(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cache := accel.New(site(), store, accel.WithClock(clock), accel.WithKey(func(r *http.Request) string { return r.Header.Get("Tenant") }))
	defer cache.Close()
	header := http.Header{}
	for i := 2; i < len(os.Args); i++ {
		arg := os.Args[i]
		verb, what, _ := strings.Cut(arg, ":")
		var err error
		switch {
		case arg == "-H":
			i++
			name, value, _ := strings.Cut(os.Args[i], ":")
			header.Set(name, value)
		case verb == "invalidate":
			err = cache.InvalidateTag(context.Background(), what)
		case verb == "expire":
			err = cache.ExpireTag(context.Background(), what)
		case verb == "hold":
			stop := make(chan os.Signal, 1)
			signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
			err = os.WriteFile(what, nil, 0o666)
			<-stop
		default:
			r := httptest.NewRequest("GET", arg, nil)
			r.RequestURI = arg
			r.Header = header.Clone()
			w := httptest.NewRecorder()
			cache.ServeHTTP(w, r)
			fmt.Println(arg, w.Header().Get("Cache-Status"))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}
