//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// theTag is what each entry of the second table bears.
const theTag = "catalogue"

// samples is how many pages are asked for to see what is there.
const samples = 1000

// maxPasses bounds how often all pages are asked for until a cache has them.
const maxPasses = 6

// tags prints two tables: of memory and restarts, and of invalidations.
func (s *session) tags() error {
	c, err := loadContent("json")
	if err != nil {
		return err
	}
	fmt.Fprintf(s.out, "%d entries of one tag, %d bytes each. Memory and disk are what they add.\n\n", s.entries, len(c.sent))
	keeping := table{head: []string{
		"entries", "server", "RssAnon + RssShmem, MiB", "RSS, MiB", "disk, MiB", "there after a restart", "there after kill -9",
	}}
	purging := table{head: []string{
		"entries", "server", "by", "ms", "least to most", "served after it", "served after it and kill -9",
	}}
	for _, v := range s.servers {
		if v.noCache || v.pages != 1 {
			continue
		}
		err := s.tagsOf(v, c, &keeping, &purging)
		if err := s.ctx.Err(); err != nil {
			return err
		}
		if err != nil {
			s.note("%s has no row, or not all: %v.", v.title, err)
		}
	}
	keeping.print(s.out)
	if len(purging.rows) != 0 {
		fmt.Fprintln(s.out)
		purging.print(s.out)
	}
	return nil
}

func (s *session) tagsOf(v server, c *content, keeping, purging *table) error {
	set := setting{content: c, dir: s.place("tags", v.name), tag: theTag}
	in, err := s.start(v, set)
	if in == nil {
		return err
	}
	defer func() {
		if in != nil {
			in.end()
		}
	}()
	restart := func() error {
		in = nil
		next, err := s.start(v, set)
		if err == nil && next == nil {
			err = errMissing
		}
		in = next
		return err
	}

	// One page first, so that what a server has for any is not counted.
	if err := errors.Join(in.fetch(c, s.entries), in.settle()); err != nil {
		return err
	}
	memory0, disk0, err := s.footprint(in, set)
	if err != nil {
		return err
	}
	stored, err := s.fill(v, in, c)
	if err != nil {
		return err
	}
	s.progress("%s says: %s", v.name, in.stats())
	memory1, disk1, err := s.footprint(in, set)
	if err != nil {
		return err
	}

	in.end()
	if err := restart(); err != nil {
		return err
	}
	kept, err := s.there(in, c, stored, 0)
	if err != nil {
		return err
	}
	survived := 0.0
	if kept > 0 { // or there is nothing that could
		in.kill()
		if err := restart(); err != nil {
			return err
		}
		if survived, err = s.there(in, c, stored, 1); err != nil {
			return err
		}
	}
	keeping.add(
		fmt.Sprint(stored),
		v.title,
		mib(memory1.anon+memory1.shared-memory0.anon-memory0.shared),
		mib(memory1.anon+memory1.shared+memory1.mapped-memory0.anon-memory0.shared-memory0.mapped),
		mib(disk1-disk0),
		percent(kept),
		percent(survived),
	)
	if v.tags == "" {
		return nil
	}

	var times []float64
	var stale float64
	for range s.purges {
		if stored, err = s.fill(v, in, c); err != nil {
			return err
		}
		took, err := in.invalidate(theTag)
		if err != nil {
			return err
		}
		times = append(times, micros(took)/1000)
		served, err := s.there(in, c, stored, 2)
		if err != nil {
			return err
		}
		stale = max(stale, served)
	}
	// The sample of before is there again. This one must not be.
	in.kill()
	if err := restart(); err != nil {
		return err
	}
	undead, err := s.there(in, c, stored, 3)
	if err != nil {
		return err
	}
	purging.add(
		fmt.Sprint(stored),
		v.title,
		v.tags,
		fmt.Sprintf("%.2f", median(times)),
		fmt.Sprintf("%.2f to %.2f", slices.Min(times), slices.Max(times)),
		percent(stale),
		percent(undead),
	)
	return nil
}

// fill asks for all pages until a cache has them, and returns how many it has
// taken: fewer than all if the time is up before the first pass is done. A store
// that cannot write as fast as it is filled keeps the rest in memory alone, which
// more passes make good.
func (s *session) fill(v server, in *instance, c *content) (int, error) {
	start := time.Now()
	stored := 0
	for pass := range maxPasses {
		before, err := in.runs()
		if err != nil {
			return 0, err
		}
		r, err := load(in.fill(c, 0, s.entries, s.limit))
		if err != nil {
			return 0, err
		}
		if err := in.settle(); err != nil {
			return 0, err
		}
		after, err := in.runs()
		if err != nil {
			return 0, err
		}
		stored = max(stored, r.Requests)
		s.progress("%s: pass %d asked for %d pages, %d were made, in %v", v.name, pass+1, r.Requests, after-before, time.Since(start).Round(time.Millisecond))
		if after == before || r.Requests < s.entries || time.Since(start) > s.limit {
			break
		}
	}
	if stored < samples {
		return stored, fmt.Errorf("only %d entries within %v", stored, s.limit)
	}
	return stored, nil
}

// there returns the share of the pages that are answered without the handler, as
// a sample tells. Samples with different numbers have no page in common.
func (s *session) there(in *instance, c *content, pages, number int) (float64, error) {
	before, err := in.runs()
	if err != nil {
		return 0, err
	}
	n := min(samples, pages/4)
	step := pages / n
	for i := range n {
		if err := in.fetch(c, i*step+number); err != nil {
			return 0, err
		}
	}
	after, err := in.runs()
	if err != nil {
		return 0, err
	}
	return 1 - float64(after-before)/float64(n), nil
}

// footprint is what a server occupies in memory and on disk.
func (s *session) footprint(in *instance, set setting) (footprint, int64, error) {
	f, err := memoryOf(tree(in.process.pid()))
	return f, diskOf(set.dir), err
}

func mib(bytes int64) string { return fmt.Sprintf("%.0f", float64(bytes)/(1<<20)) }

func percent(share float64) string { return fmt.Sprintf("%.4g %%", 100*share) }
