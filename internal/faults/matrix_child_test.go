package faults_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/accelhttp/accelerator/accel"
	"github.com/accelhttp/accelerator/boltstore"
	"github.com/accelhttp/accelerator/internal/faults"
)

func init() {
	faults.Role("matrix", matrixServeDamaged)
	faults.Role("matrix naive", matrixOpenNaively)
}

// matrixHangs is how long nothing may take: no response, no purge, no Close.
const matrixHangs = 10 * time.Second

// matrixStack lets a process that recurses without end die of 64 MiB instead of a
// gigabyte: several run at once. Nothing needs that much.
const matrixStack = 64 << 20

// An order is what a child is told, as JSON in a variable.
type matrixOrder struct {
	Path     string
	Template string      `json:",omitempty"` // of the naive one
	Versions [][2]uint64 `json:",omitempty"`
	Seed     uint64
	Nobody   bool `json:",omitempty"` // permissions are to apply
	Whole    bool `json:",omitempty"` // nothing is damaged: the sweeper will have its turn
}

const matrixEnv = "ACCEL_FAULTS_MATRIX"

func (o matrixOrder) env() []string {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return []string{matrixEnv + "=" + string(b)}
}

func readMatrixOrder() (o matrixOrder) {
	if err := json.Unmarshal([]byte(os.Getenv(matrixEnv)), &o); err != nil {
		panic(err)
	}
	return o
}

// A result is what a child says, as a line of JSON.
type matrixResult struct {
	Hung   string       `json:",omitempty"` // the phase that did not end
	Wrong  matrixFaulty // bytes that matrixNobody wrote, or another's
	Purged matrixFaulty // what was purged
	Failed matrixFaulty // no page at all

	Gets, Hits, Swept     int
	SetAside, ReadErrors  int
	Refused               string `json:",omitempty"` // there was no file in the end
	Empty                 bool   // everything in the file was taken for invalid
	Slowest               time.Duration
	NotDurable, WriteErrs int

	// Of the naive one.
	Missing int    `json:",omitempty"`
	Err     string `json:",omitempty"`
}

// matrixFaulty is what must not have happened: how often, and the first of it.
type matrixFaulty struct {
	N     int
	First string `json:",omitempty"`
}

func (f *matrixFaulty) add(err error, when string) {
	if f.N++; f.N == 1 {
		f.First = when + ": " + err.Error()
	}
}

func (r *matrixResult) say() {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(b))
}

// matrixTimer runs out when nothing moves any more.
var matrixTimer atomic.Pointer[time.Timer]

// matrixBounded runs a phase. If nothing in it comes to an end for as long as
// matrixHangs, that is a hang: the child says so, and where everybody is.
func matrixBounded(r *matrixResult, phase string, do func()) {
	hung := time.AfterFunc(matrixHangs, func() {
		buf := make([]byte, 1<<20)
		fmt.Fprintf(os.Stderr, "%s: hangs\n%s\n", phase, buf[:runtime.Stack(buf, true)])
		(&matrixResult{Hung: phase}).say()
		os.Exit(3)
	})
	matrixTimer.Store(hung)
	do()
	hung.Stop()
}

// matrixMoves says that something has come to an end.
func matrixMoves() { matrixTimer.Load().Reset(matrixHangs) }

// matrixLog is a log that remembers whether something was said.
type matrixLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (h *matrixLog) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.text.Write(p)
}

func (h *matrixLog) has(s string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return bytes.Contains(h.text.Bytes(), []byte(s))
}

// A matrixVisitor looks at a site and notes what is not as it should be.
type matrixVisitor struct {
	store *boltstore.Store
	site  *faults.Site

	mu  sync.Mutex
	res *matrixResult

	// Of each tag, the version whose purge is known to be on disk. What is purged
	// only in memory is so in this process, and may come back with the next.
	durable [matrixTags]atomic.Uint64
}

func (v *matrixVisitor) get(page int, when string) {
	start := time.Now()
	_, hit, err := v.site.Get(page)
	took := time.Since(start)
	matrixMoves()
	v.mu.Lock()
	defer v.mu.Unlock()
	v.res.Gets++
	if hit {
		v.res.Hits++
	}
	v.res.Slowest = max(v.res.Slowest, took)
	switch {
	case err == nil:
	case errors.Is(err, faults.ErrPurged):
		v.res.Purged.add(err, when)
	case errors.Is(err, faults.ErrWrong):
		v.res.Wrong.add(err, when)
	default:
		v.res.Failed.add(err, when)
	}
}

// purge changes a tag and purges it. Only one goroutine does so with a tag.
func (v *matrixVisitor) purge(tag int) {
	version := v.site.Commit(tag)
	err := v.site.Purge(context.Background(), tag)
	matrixMoves()
	switch {
	case err == nil:
		v.durable[tag].Store(version)
	case errors.Is(err, accel.ErrNotDurable):
		// It holds as long as this process lives.
		v.site.SetVersion(tag, version, version)
		v.mu.Lock()
		v.res.NotDurable++
		v.mu.Unlock()
	default:
		v.mu.Lock()
		v.res.Failed.add(err, "purge")
		v.mu.Unlock()
	}
}

// Pages are read at different times: what was purged and is damaged so that matrixNobody
// finds it to delete it must get its chance to come back, after the mark has gone.
const (
	matrixAlways     = iota // from the beginning
	matrixAfterSweep        // not before the sweeper had a turn
	matrixAfterClose        // not before the file was opened again
)

func matrixTimeOf(page int) int { return page / matrixTags % 3 }

// load serves the site to a few clients at once, until the sweeper had its turn.
func (v *matrixVisitor) load(o matrixOrder) {
	seed := o.Seed
	var early, rest []int
	for page := range matrixPages {
		switch matrixTimeOf(page) {
		case matrixAlways:
			early = append(early, page)
		case matrixAfterSweep:
			rest = append(rest, page)
		}
	}
	var wg sync.WaitGroup
	for reader := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(reader)))
			for _, i := range r.Perm(len(early)) {
				v.get(early[i], "at first")
			}
		})
	}
	wg.Go(func() {
		r := rand.New(rand.NewPCG(seed, 2))
		for _, tag := range matrixPurgeTags[1:] {
			v.purge(tag)
			for range 10 {
				v.get(early[r.IntN(len(early))], "between purges")
			}
		}
	})
	wg.Go(func() {
		r := rand.New(rand.NewPCG(seed, 3))
		for range 3 {
			v.purge(matrixPurgeTags[0])
			for i := range early {
				if page := early[i]; v.site.TagOf(page) == matrixPurgeTags[0] && r.IntN(2) == 0 {
					v.get(page, "after a purge")
				}
			}
		}
	})
	wg.Wait()
	v.swept(o.Whole)
	for _, page := range rest {
		v.get(page, "after sweeping")
	}
}

// swept waits until the sweeper has deleted something, or cannot. There may be
// nothing for it to delete, of which matrixNobody knows: a damaged index has no rows.
func (v *matrixVisitor) swept(certain bool) {
	patience := time.Second
	if certain {
		patience = matrixHangs
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if st := v.store.Stats(); st.Swept > 0 || st.SetAside > 0 || v.store.Err() != nil {
			return
		}
	}
}

// matrixServeDamaged serves a site from a damaged file, closes it, and does so again.
func matrixServeDamaged() {
	debug.SetMaxStack(matrixStack)
	o := readMatrixOrder()
	res := &matrixResult{}
	log := &matrixLog{}
	open := func(versions [][2]uint64) *matrixVisitor {
		store := boltstore.Open(o.Path, boltstore.WithLogger(slog.New(slog.NewTextHandler(log, nil))),
			boltstore.WithMemory(256<<10), boltstore.WithMaxSize(matrixMaxSize))
		return &matrixVisitor{store: store, site: matrixOpen(store, versions), res: res}
	}
	leave := func(v *matrixVisitor) {
		if err := v.store.Err(); err != nil {
			res.Refused = err.Error()
		}
		if err := v.site.Cache.Close(); err != nil {
			res.Failed.add(err, "close")
		}
		st := v.store.Stats()
		res.SetAside += int(st.SetAside)
		res.ReadErrors += int(st.ReadErrors)
		res.WriteErrs += int(st.WriteErrors)
		res.Swept += int(st.Swept)
	}

	v := open(o.Versions)
	for tag, version := range o.Versions {
		v.durable[tag].Store(version[1])
	}
	matrixBounded(res, "load", func() { v.load(o) })
	matrixBounded(res, "close", func() { leave(v) })

	versions := make([][2]uint64, matrixTags)
	for tag := range versions {
		versions[tag] = [2]uint64{v.site.Committed(tag), v.durable[tag].Load()}
	}
	w := open(versions)
	matrixBounded(res, "reopened", func() {
		// The store is waited for, so that it is the file which answers.
		w.store.Ping(context.Background())
		var wg sync.WaitGroup
		for half := range 2 {
			wg.Go(func() {
				for page := half; page < matrixPages; page += 2 {
					w.get(page, "reopened")
				}
			})
		}
		wg.Wait()
	})
	matrixBounded(res, "closed again", func() { leave(w) })
	res.Empty = log.has("beginning empty")
	if res.Wrong.N+res.Purged.N+res.Failed.N > 0 {
		os.Stderr.Write(log.text.Bytes())
	}
	res.say()
}

// matrixOpenNaively does what a program does that trusts its database: it reads all that
// the template has, writes, and closes, with bbolt's default options.
func matrixOpenNaively() {
	debug.SetMaxStack(matrixStack)
	o := readMatrixOrder()
	good, err := bolt.Open(o.Template, 0o400, &bolt.Options{ReadOnly: true})
	if err != nil {
		panic(err)
	}
	var rows [][3][]byte // bucket, key, value
	if err := good.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			return b.ForEach(func(k, v []byte) error {
				rows = append(rows, [3][]byte{name, k, bytes.Clone(v)})
				return nil
			})
		})
	}); err != nil {
		panic(err)
	}

	res := &matrixResult{}
	matrixBounded(res, "naive", func() {
		failed := func(err error) {
			if err != nil && res.Err == "" {
				res.Err = err.Error()
			}
		}
		db, err := bolt.Open(o.Path, 0o600, nil)
		if err != nil {
			failed(err)
			return
		}
		failed(db.View(func(tx *bolt.Tx) error {
			for _, row := range rows {
				var v []byte
				if b := tx.Bucket(row[0]); b != nil {
					v = b.Get(row[1])
				}
				switch {
				case v == nil:
					res.Missing++
				case !bytes.Equal(v, row[2]) && string(row[1]) != "inode" && string(row[1]) != "sum":
					res.Wrong.N++
				}
			}
			return nil
		}))
		failed(db.Update(func(tx *bolt.Tx) error {
			for i := 0; i < len(rows); i += 40 {
				row := rows[i]
				b := tx.Bucket(row[0])
				if b == nil {
					continue
				}
				if err := b.Put(row[1], row[2]); err != nil {
					return err
				}
			}
			return nil
		}))
		failed(db.Close())
	})
	res.say()
}
