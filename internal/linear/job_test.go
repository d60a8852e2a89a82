package linear

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/accelhttp/accelerator/internal/point"
)

// A job is what a process is started for that makes histories.
type job struct {
	Settings  []string // of each batch another one
	Seed      uint64
	Histories int
	Until     bool          // only until one is wrong
	For       time.Duration // no longer than this; 0: no matter how long
	Off       []string      // lines
	Promise   bool          // judge the registers only
	Hot       []point.Place // wait there, instead of where the setting says
	Meet      bool          // at the first of these, until somebody comes by the second
	Dir       string        // for what is drawn
}

// A report is what became of it.
type report struct {
	Histories  int
	Operations int
	Hits       int64
	Renewed    uint64
	Slow       int // histories of which the keys could not be judged
	Seconds    float64
	Wrong      []string // what was found, with setting and seed
	Errors     []string // histories that went wrong in another way
	Unvisited  []point.Place
}

const jobEnv = "ACCEL_HISTORIES"

func TestMain(m *testing.M) {
	if text := os.Getenv(jobEnv); text != "" {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			panic(err)
		}
		if err := json.NewEncoder(os.Stdout).Encode(j.do()); err != nil {
			panic(err)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if binary.dir != "" {
			os.RemoveAll(binary.dir)
		}
		os.Exit(code)
	}))
}

// atOnce is how many histories are made at once. They spend most of their time
// waiting.
const atOnce = 8

func (j job) do() (rep report) {
	begin := time.Now()
	defer func() { rep.Seconds, rep.Unvisited = time.Since(begin).Seconds(), unvisited() }()
	base, err := os.MkdirTemp("", "accel-histories-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(base)
	for batch := 0; rep.Histories < j.Histories; batch++ {
		if j.For > 0 && time.Since(begin) > j.For || j.Until && len(rep.Wrong) > 0 {
			break
		}
		s := settingOf(j.Settings[(int(j.Seed%1024)+batch)%len(j.Settings)])
		n := atOnce
		if j.Meet {
			n = 1 // they are to meet those of their own history
		}
		seed := j.Seed + uint64(batch*n)
		j.plan(s, seed)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range uint64(min(n, j.Histories-rep.Histories)) {
			wg.Go(func() {
				h := newHistory(s, seed+i)
				dir := filepath.Join(base, strconv.FormatUint(h.seed, 10))
				err := os.Mkdir(dir, 0o755)
				if err == nil {
					err = h.run(dir)
				}
				wrong := h.judge(j.Dir, j.Promise)
				from := fmt.Sprintf("setting %s, seed %d: ", s.name, seed)
				mu.Lock()
				defer mu.Unlock()
				rep.Histories++
				rep.Operations += h.n
				rep.Hits += h.hits.Load()
				rep.Renewed += h.renewed
				if h.slow {
					rep.Slow++
				}
				for _, w := range wrong {
					rep.Wrong = append(rep.Wrong, from+w)
				}
				if err != nil {
					rep.Errors = append(rep.Errors, from+err.Error())
				}
			})
		}
		wg.Wait()
	}
	return rep
}

// plan chooses where there is to be waited in the histories of a batch: nowhere, or
// at some places at random, or where it is known to bring out what a line keeps from
// happening.
func (j job) plan(s *setting, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	waits := make(map[point.Place]time.Duration)
	hot := j.Hot
	if hot == nil {
		if known := knownHot(s); len(known) > 0 && r.IntN(2) == 0 {
			hot = known[r.IntN(len(known))]
		} else {
			for range r.IntN(4) {
				hot = append(hot, s.hot[r.IntN(len(s.hot))])
			}
		}
	}
	for _, at := range hot {
		waits[at] = s.long
	}
	until := make(map[point.Place]point.Place)
	if j.Meet {
		until[hot[0]] = hot[1]
	}
	follow(seed, j.Off, waits, until, s.spans)
}
