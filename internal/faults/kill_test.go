package faults_test

import (
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/accelhttp/accelerator/internal/faults"
)

// killSum is the sum of many rounds.
type killSum struct {
	rounds, early, commits, acks int
	pages, cached, errors        int
}

func (s *killSum) add(l *account, f looked) {
	s.commits += l.commits
	s.acks += l.acks
	s.errors += len(l.errors)
	l.commits, l.acks, l.errors = 0, 0, nil
	s.pages += l.Pages
	s.cached += f.cached
}

func (s *killSum) log(t *testing.T, what string) {
	t.Logf("%s: %d rounds (%d while opening), %d commits, %d acknowledged, 0 undone, 0 wrong; %d%% of the pages still cached, %d errors",
		what, s.rounds, s.early, s.commits, s.acks, 100*s.cached/max(1, s.pages), s.errors)
}

// A site is killed again and again, at any moment. Whatever was acknowledged as
// invalidated before is not served by the process that comes next; what that gets
// is a whole file, and most of what was in it.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	var sum killSum
	var l *account
	for round := range faults.Rounds(6, 60, 1000) {
		if l == nil || rand.IntN(10) == 0 {
			l = newAccount(aKillLoad(filepath.Join(t.TempDir(), "cache.db")))
		}
		c := l.start(t)
		ready, ended := l.hear(c)
		if rand.IntN(8) == 0 {
			// While it opens, or creates.
			<-time.After(rand.N(40 * time.Millisecond))
			sum.early++
		} else {
			<-ready
			<-time.After(rand.N(120 * time.Millisecond))
			l.await(1, ended) // on a machine that is busy
		}
		c.Kill()
		<-ended
		require.Empty(t, l.wrong, "round %d, %+v", round, l.killLoad)
		require.Empty(t, l.errors, "round %d, %+v\n%s", round, l.killLoad, c.Stderr())

		f, err := l.check(nil)
		require.NoError(t, err, "round %d, %+v", round, l.killLoad)
		require.Empty(t, f.lost, "round %d, %+v", round, l.killLoad)
		sum.rounds++
		sum.add(l, f)
	}
	require.NotZero(t, sum.acks)
	sum.log(t, "kill -9")
}

// The harness sees it when invalidations are acknowledged too early.
func TestKillShowsWhatIsNotDurable(t *testing.T) {
	t.Parallel()
	l := newAccount(killLoad{DB: filepath.Join(t.TempDir(), "cache.db"), Tags: 24, Pages: 96, Size: 300, MaxSize: 64 << 20, Lie: true})
	for round := range 50 {
		_, err := l.check(nil) // stores every page
		require.NoError(t, err)
		c := l.start(t)
		ready, ended := l.hear(c)
		<-ready
		l.await(8, ended)
		c.Kill()
		<-ended
		f, err := l.check(nil)
		require.NoError(t, err)
		if len(f.lost) > 0 {
			t.Logf("round %d: %d of %d pages are of before what was said to be purged", round, len(f.lost), l.Pages)
			return
		}
		copy(l.purged, l.committed) // nothing older is left
	}
	t.Fatal("no round showed it")
}
