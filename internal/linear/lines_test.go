package linear

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
	"github.com/accelhttp/accelerator/internal/point"
)

type form int

const (
	inShort form = iota
	inCI
	inFull
)

// A without is a line, or several, without which the histories of a setting go
// wrong. It is several where one stands behind the other: then the promise holds as
// long as one of them does.
type without struct {
	off     []point.Line
	setting string
	hot     []point.Place // where waiting brings it out
	from    form
	// store: it is a rule of what a key holds. The others are of the promise, and it
	// takes a register to show that they are missing.
	store bool
	// meet: at the first place of hot, who waits is to wait for who comes by the
	// second. Chance would take minutes.
	meet bool
}

func lines(l ...point.Line) []point.Line { return l }
func at(p ...point.Place) []point.Place  { return p }
func (w without) String() string         { return fmt.Sprintf("%s in %s", join(w.off), w.setting) }
func join[T fmt.Stringer](l []T) string {
	var names []string
	for _, x := range l {
		names = append(names, x.String())
	}
	return strings.Join(names, " and ")
}

func by(store bool) string {
	if store {
		return "what a key holds"
	}
	return "what clients may read"
}

var needed = []without{
	{lines(point.PositionBeforeHandler), "memory", nil, inShort, false, false},
	{lines(point.FollowerValid), "memory", nil, inShort, false, false},
	{lines(point.StrictlyLess), "memory", nil, inShort, false, false},
	{lines(point.MemoryChecks), "memory", nil, inShort, false, false},
	{lines(point.DiskChecks), "disk", nil, inShort, false, false},
	{lines(point.ScanBeforeDrop), "memory", nil, inShort, false, false},

	{lines(point.FollowerArrival), "memory", nil, inCI, false, false},
	{lines(point.RenewalUnion), "renewals", nil, inCI, false, false},
	{lines(point.AdmitChecks), "lapsing", nil, inCI, false, false},
	{lines(point.Horizon), "lapsing", nil, inCI, false, false},
	{lines(point.NumberLast), "memory", nil, inCI, false, false},
	{lines(point.Floor), "memory", nil, inCI, false, false},
	{lines(point.SoftMarks), "memory", nil, inCI, false, false},
	{lines(point.SoftWritten), "memory", nil, inCI, false, false},
	{lines(point.QueueChecks), "queue", nil, inCI, false, false},
	{lines(point.QueueHolds), "queue", nil, inCI, false, false},
	{lines(point.DiskClean), "disk", nil, inCI, false, false},
	{lines(point.FlushChecks), "disk", nil, inCI, false, false},
	{lines(point.HigherStays), "impatient", at(), inCI, true, false},
	{lines(point.QueueHides), "overflow", at(), inCI, true, false},

	{lines(point.AdmitOneStep), "lapsing", at(point.LetIn), inFull, false, false},
	{lines(point.UpToLooked), "memory", at(point.LetIn), inFull, false, false},
	{lines(point.DropUnchanged), "memory", at(point.Scanned), inFull, false, false},
	{lines(point.MemoryGone), "memory", at(point.MemoryFound), inFull, false, false},
	{lines(point.MemoryGone), "tiers", at(point.MemoryFound), inFull, false, false},
	{lines(point.ScanBeforeDrop), "tiers", nil, inFull, false, false},
	{lines(point.SoftWritten), "tiers", nil, inFull, false, false},
	{lines(point.HigherStays), "impatient-on-disk", at(), inFull, true, false},
	{lines(point.Generation), "disk", at(point.DiskFound), inFull, false, false},
	{lines(point.Generation), "queue", at(point.QueueFound), inFull, false, false},
	{lines(point.PromoteChecks), "calm", at(point.DiskJudged, point.Scanned), inFull, false, true},
	{lines(point.PromoteGeneration), "calm", at(point.DiskJudged), inFull, false, false},
	{lines(point.PromoteTicket), "tiers", at(point.DiskJudged), inFull, true, false},
	{lines(point.DisplaceOlder), "loose", nil, inFull, true, false},
	{lines(point.RenewalUnion), "renewals-on-disk", nil, inFull, false, false},

	// A mark is not dropped while a position before it is held, so that what is made
	// there can be judged by it. If it were dropped, the horizon would refuse what is
	// made there.
	{lines(point.FlightsHold, point.Horizon), "memory", nil, inFull, false, false},
	// What a renewal confirms was found after its position was taken. So what strikes
	// the old entry strikes the new one, too. If it were found before, the old one is
	// looked at once more; and it is to be what the key still holds, which a struck
	// entry soon is not, in memory at once.
	{lines(point.PositionBeforeLookUp, point.RenewalOldValid), "renewals-on-disk", at(point.NothingFound), inFull, false, false},
	{lines(point.PositionBeforeLookUp, point.RenewalOldValid, point.RenewalOldThere), "renewals", at(point.NothingFound), inFull, false, false},
}

// afterCrash are the lines that no history can miss in which nothing crashes.
var afterCrash = lines(point.AckAfterDurable, point.SeqWritten, point.MarksWritten)

// A found is where a history has been wrong once, with every line in its place.
type found struct {
	what    string
	setting string
	hot     []point.Place
}

var mended = []found{
	{"an older version was promoted over one that had left queue and memory", "tiers", at(point.QueueFound, point.DiskJudged)},
	{"an older version was promoted over its renewal", "renewals-on-disk", at(point.QueueFound, point.DiskJudged)},
}

// What has been found does not come back.
func TestFound(t *testing.T) {
	for _, f := range mended {
		t.Run(strings.ReplaceAll(f.what, " ", "_"), func(t *testing.T) {
			rep := start(t, job{
				Settings: []string{f.setting}, Seed: seed(t), Dir: artifacts(t), Hot: f.hot,
				Histories: faults.Rounds(8, 48, 400),
			})
			rep.check(t)
		})
	}
}

// knownHot returns the places at which waiting has brought something out.
func knownHot(s *setting) (hot [][]point.Place) {
	for _, w := range needed {
		if w.setting == s.name && len(w.hot) > 0 {
			hot = append(hot, w.hot)
		}
	}
	for _, f := range mended {
		if f.setting == s.name {
			hot = append(hot, f.hot)
		}
	}
	return hot
}

// Each line of the protocol is needed: without it, or without it and what stands
// behind it, a history is found that no order explains, within a minute.
func TestEveryLineIsNeeded(t *testing.T) {
	for _, l := range point.Lines() {
		require.True(t, slices.Contains(afterCrash, l) || slices.ContainsFunc(needed, func(w without) bool {
			return slices.Contains(w.off, l)
		}), "nothing shows that %s is needed", l)
	}
	upTo := form(faults.Rounds(int(inShort), int(inCI), int(inFull)))
	var table strings.Builder
	for _, w := range needed {
		if w.from > upTo {
			continue
		}
		t.Run(strings.ReplaceAll(w.String(), " ", "_"), func(t *testing.T) {
			j := job{
				Settings: []string{w.setting}, Seed: seed(t), Histories: 1 << 20, Until: true,
				For: time.Minute, Hot: w.hot, Meet: w.meet, Promise: !w.store,
			}
			for _, l := range w.off {
				j.Off = append(j.Off, l.String())
			}
			rep := start(t, j)
			require.NotEmpty(t, rep.Wrong, "%d histories, and nobody has missed it", rep.Histories)
			fmt.Fprintf(&table, "| %s | %s | %s | %d | %.1f |\n", join(w.off), w.setting, by(w.store), rep.Histories, rep.Seconds)
		})
	}
	t.Logf("switched off until it was noticed:\n| lines | setting | noticed in | histories | seconds |\n|---|---|---|---:|---:|\n%s", table.String())
}
