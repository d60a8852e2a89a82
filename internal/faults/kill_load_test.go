package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/inspect"
)

func init() { faults.Role("kill load", killLoadChild) }

// A killLoad is what a child does to a database until it is killed.
type killLoad struct {
	DB          string
	Pages, Tags int
	Size        int   // of a page
	MaxSize     int64 // of the file
	Memory      int64
	Noise       bool // ExpireTag, InvalidateURL and InvalidateAll too
	Lie         bool // say that a purge holds before it is called for
}

func (l killLoad) env() []string {
	b, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	return []string{"LOAD=" + string(b)}
}

func (l *killLoad) decode() {
	if err := json.Unmarshal([]byte(os.Getenv("LOAD")), l); err != nil {
		panic(err)
	}
}

func (l killLoad) open() (*boltstore.Store, *faults.Site) {
	store := boltstore.Open(l.DB, boltstore.WithLogger(slog.New(slog.DiscardHandler)),
		boltstore.WithMemory(l.Memory), boltstore.WithMaxSize(l.MaxSize))
	return store, faults.Open(store, l.Pages, l.Tags, l.Size)
}

// killLoadChild is a site under load. Each line that it says is in the pipe before it
// does what comes next, so that who reads the pipe to its end knows what was true
// when the process died:
//
//	ready PID
//	c TAG VERSION     the application is about to commit this version
//	a TAG VERSION     a purge of the tag, called for after that, has returned nil
//	e TAG VERSION     the same of ExpireTag
//	u PAGE VERSION    the same of InvalidateURL, of one page
//	A VERSION...      the same of InvalidateAll, of every tag
//	x ERROR           something has returned this
//	w ERROR           a client got what it should not
//
// It reads the versions to begin with, as an account tells them, and ends when its
// standard input does.
func killLoadChild() {
	var l killLoad
	l.decode()
	in := bufio.NewScanner(os.Stdin)
	committed := make([]atomic.Uint64, l.Tags)
	store, site := l.open()
	for in.Scan() && in.Text() != "go" {
		var tag int
		var c, p uint64
		fmt.Sscan(in.Text(), &tag, &c, &p)
		committed[tag].Store(c)
		site.SetVersion(tag, c, p)
	}
	say := func(format string, args ...any) { os.Stdout.WriteString(fmt.Sprintf(format+"\n", args...)) }
	ctx := context.Background()
	if err := store.Ping(ctx); err != nil {
		say("x %v", err)
		return
	}
	say("ready %d", os.Getpid())
	for range 3 {
		go func() {
			for {
				page := rand.IntN(l.Pages)
				if _, _, err := site.Get(page); err != nil {
					say("w %v", err)
				}
			}
		}()
	}
	const purgers = 4
	for g := range purgers {
		go func() {
			for {
				// As often as a site is written to, and not all the time: there
				// should be something to purge.
				time.Sleep(rand.N(4 * time.Millisecond))
				tag := rand.IntN((l.Tags-g+purgers-1)/purgers)*purgers + g // nobody else's
				say("c %d %d", tag, committed[tag].Load()+1)
				version := site.Commit(tag)
				committed[tag].Store(version)
				what := rand.IntN(20)
				if !l.Noise {
					what = 20
				}
				var err error
				switch what {
				case 0:
					var all strings.Builder
					for i := range committed {
						fmt.Fprint(&all, " ", committed[i].Load())
					}
					if err = site.Cache.InvalidateAll(ctx); err == nil {
						say("A%s", all.String())
					}
				case 1, 2:
					if err = site.Cache.ExpireTag(ctx, faults.Tag(tag)); err == nil {
						say("e %d %d", tag, version)
					}
				case 3, 4:
					page := tag + rand.IntN(l.Pages/l.Tags)*l.Tags
					if err = site.Cache.InvalidateURL(ctx, faults.URL(page)); err == nil {
						say("u %d %d", page, version)
					}
				default:
					if l.Lie {
						say("a %d %d", tag, version)
						time.Sleep(10 * time.Millisecond) // what a queue in front of the disk would do
					}
					if err = site.Purge(ctx, tag); err == nil && !l.Lie {
						say("a %d %d", tag, version)
					}
				}
				if err != nil {
					say("x %v", err)
				}
			}
		}()
	}
	for in.Scan() {
	}
}

// An account is what is known of a database from outside: what the application has
// committed, and what has been acknowledged as purged.
type account struct {
	killLoad
	committed, purged []uint64 // by tag
	pages             []uint64 // purged, by page

	commits, acks int
	errors        []string
	wrong         []string

	acked chan struct{} // holds one for each acknowledgement, as far as it can
}

func newAccount(l killLoad) *account {
	return &account{killLoad: l, committed: make([]uint64, l.Tags), purged: make([]uint64, l.Tags), pages: make([]uint64, l.Pages), acked: make(chan struct{}, 1000)}
}

// await waits until so many more have been acknowledged, or the child is dead, or
// it has lasted too long.
func (l *account) await(acks int, ended chan struct{}) {
	deadline := time.After(20 * time.Second)
	for range acks {
		select {
		case <-l.acked:
		case <-ended:
			return
		case <-deadline:
			return
		}
	}
}

// start starts a child where the last one was killed.
func (l *account) start(t testing.TB, prefix ...string) *faults.Child {
	c := faults.Start(t, "kill load", l.env(), prefix...)
	for i := range l.committed {
		c.Say(fmt.Sprint(i, " ", l.committed[i], " ", l.purged[i]))
	}
	c.Say("go")
	return c
}

// hear notes what a child says, to the end. It returns the child's pid once it is
// ready, on a channel that is closed if it never is.
func (l *account) hear(c *faults.Child) (ready chan int, ended chan struct{}) {
	ready, ended = make(chan int, 1), make(chan struct{})
	for len(l.acked) > 0 {
		<-l.acked
	}
	go func() {
		defer close(ended)
		defer close(ready)
		for {
			line, err := c.Line()
			if err != nil {
				return // what has no end was not said
			}
			f := strings.Fields(line)
			var i int
			var v uint64
			if len(f) == 3 {
				fmt.Sscan(f[1]+" "+f[2], &i, &v)
			}
			if strings.Contains("aeuA", f[0]) {
				l.acks++
				select {
				case l.acked <- struct{}{}:
				default:
				}
			}
			switch f[0] {
			case "ready":
				fmt.Sscan(f[1], &i)
				ready <- i
			case "c":
				l.committed[i] = max(l.committed[i], v)
				l.commits++
			case "a", "e":
				l.purged[i] = max(l.purged[i], v)
			case "u":
				l.pages[i] = max(l.pages[i], v)
			case "A":
				for i, s := range f[1:] {
					fmt.Sscan(s, &v)
					l.purged[i] = max(l.purged[i], v)
				}
			case "x":
				l.errors = append(l.errors, line)
			default:
				l.wrong = append(l.wrong, line)
			}
		}
	}()
	return ready, ended
}

// wholeFile checks that the file at the path is one that nothing is wrong with. It
// reports whether there is one.
func wholeFile(path string, now time.Time) (bool, error) {
	d, err := inspect.Open(path, now)
	if _, serr := os.Stat(path); err != nil && os.IsNotExist(serr) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer d.Close()
	if d.BeginsEmpty() != "" {
		return false, fmt.Errorf("%s: %s", path, d.BeginsEmpty())
	}
	v, err := d.Verify(context.Background())
	if err == nil && !v.OK {
		err = fmt.Errorf("%s: %v", path, v.Problems)
	}
	return true, err
}

// A looked is what check has found.
type looked struct {
	cached int      // pages
	lost   []string // pages that an acknowledged invalidation is undone for
}

// check takes a database over as the next process does and asks for every page.
// It leaves all of them stored, and calls more with the site before it closes it.
func (l *account) check(more func(*faults.Site) error) (looked, error) {
	var out looked
	if _, err := wholeFile(l.DB, time.Now()); err != nil {
		return out, err
	}
	store, site := l.open()
	defer site.Cache.Close()
	for tag := range l.committed {
		site.SetVersion(tag, l.committed[tag], 0) // who is judged here, and how, is said below
	}
	// A process that another test has just forked holds, until it executes its
	// program, what is locked here.
	deadline := time.After(20 * time.Second)
	for store.Ping(context.Background()); errors.Is(store.Err(), boltstore.ErrLocked); {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			return out, store.Err()
		}
	}
	if err := store.Err(); err != nil {
		return out, err
	}
	for page := range l.Pages {
		tag := site.TagOf(page)
		version, hit, err := site.Get(page)
		switch {
		case err != nil:
			return out, err
		case version > l.committed[tag]:
			return out, fmt.Errorf("page %d: version %d, of which the application knows nothing", page, version)
		case version < max(l.purged[tag], l.pages[page]):
			out.lost = append(out.lost, fmt.Sprintf("page %d of tag %d: version %d, purged up to %d, the URL to %d", page, tag, version, l.purged[tag], l.pages[page]))
		case hit:
			out.cached++
		}
	}
	if more != nil {
		if err := more(site); err != nil {
			return out, err
		}
	}
	if list, err := filepath.Glob(l.DB + ".corrupt-*"); err != nil || len(list) > 0 {
		return out, fmt.Errorf("set aside: %v (%v)", list, err)
	}
	return out, nil
}

// beside lists what stands beside a file and was made for it.
func beside(t testing.TB, path string) []string {
	list, err := filepath.Glob(path + ".*")
	require.NoError(t, err)
	return list
}

// aKillLoad draws a load.
func aKillLoad(path string) killLoad {
	l := killLoad{
		DB: path, Tags: 48, Pages: 48 * (2 + rand.IntN(4)), Size: 300, MaxSize: 64 << 20,
		Memory: 64 << 10, Noise: rand.IntN(2) == 0,
	}
	switch rand.IntN(3) {
	case 0:
		l.Size = 3000
	case 1:
		// It does not hold them all, so that pages are evicted all the time.
		l.Size, l.MaxSize = 9000, 1<<20
	}
	return l
}
