//go:build linux

package main

import (
	"fmt"
	"slices"
	"time"
)

// A row is what was measured of one server with one content.
type row struct {
	server  server
	in      *instance
	turns   []result
	misses  int64 // runs of the handler during the turns
	refused error // it did not pass its check
}

// hits prints the table of hits.
func (s *session) hits() error {
	for _, name := range s.contents {
		c, err := loadContent(name)
		if err != nil {
			return err
		}
		if coding := c.coding(); coding == "" {
			fmt.Fprintf(s.out, "%s: %d bytes, kept and sent as they are.\n", name, len(c.sent))
		} else {
			fmt.Fprintf(s.out, "%s: %d bytes, sent as %d of %s.\n", name, len(c.plain), len(c.sent), coding)
		}
	}
	fmt.Fprintf(s.out, "%d connections, one request at a time on each; %d rounds of %v; medians.\n\n", s.conns, s.rounds, s.duration)
	t := table{head: []string{"content", "server", "CPU µs/request", "× bare", "least to most", "p50 µs", "p99 µs", "requests/s", "busy: server, client"}}
	for _, name := range s.contents {
		c, err := loadContent(name)
		if err != nil {
			return err
		}
		if err := s.hitsOf(c, &t); err != nil {
			return err
		}
	}
	t.print(s.out)
	return nil
}

func (s *session) hitsOf(c *content, t *table) error {
	var rows []*row
	defer func() {
		for _, r := range rows {
			r.in.end()
		}
	}()
	for _, v := range s.servers {
		in, err := s.start(v, setting{content: c, dir: s.place("hits", c.name, v.name)})
		if err != nil {
			return err
		}
		if in == nil {
			continue
		}
		r := &row{server: v, in: in}
		rows = append(rows, r)
		// What does not answer rightly is not measured, and keeps nobody else
		// from it.
		if r.refused = v.check(in, c); r.refused != nil {
			s.note("%s is left out with %s: %v.", v.title, c.name, r.refused)
		}
		s.progress("%s: %s is up: %v", c.name, v.name, r.refused == nil)
	}
	for round := range s.rounds {
		order := slices.Clone(rows)
		if round%2 == 1 {
			slices.Reverse(order) // what drifts strikes both ends alike
		}
		for _, r := range order {
			if err := s.ctx.Err(); err != nil {
				return err
			}
			if r.refused != nil {
				continue
			}
			if err := r.turn(s, c); err != nil {
				return fmt.Errorf("%s, %s: %w", c.name, r.server.name, err)
			}
		}
		s.progress("%s: round %d of %d", c.name, round+1, s.rounds)
	}
	bare := rows[0]
	for _, r := range rows {
		if r.refused == nil {
			t.add(r.cells(c, bare)...)
		}
		if r.misses != 0 && !r.server.noCache {
			s.note("%s with %s: %d answers were no hits.", r.server.title, c.name, r.misses)
		}
	}
	return nil
}

// turn is one server's part of a round.
func (r *row) turn(s *session, c *content) error {
	before, err := r.in.runs()
	if err != nil {
		return err
	}
	turn, err := load(job{
		Addr: r.in.addr, Accept: c.accept, URLs: r.server.pages, Conns: s.conns, Length: len(c.sent),
		Warm: s.duration / 8, Duration: s.duration, Root: r.in.process.pid(),
	})
	if err != nil {
		return err
	}
	after, err := r.in.runs()
	if err != nil {
		return err
	}
	if r.misses += after - before; after != before && !r.server.noCache {
		s.progress("%s: %s: %d answers were no hits; it says: %s", c.name, r.server.name, after-before, r.in.stats())
	}
	r.turns = append(r.turns, turn)
	return nil
}

func (r *row) cells(c *content, bare *row) []string {
	var ratios []float64
	for i := range r.turns {
		ratios = append(ratios, perRequest(r.turns[i])/perRequest(bare.turns[i]))
	}
	least, most := slices.Min(ratios), slices.Max(ratios)
	return []string{
		c.name,
		r.server.title,
		fmt.Sprintf("%.2f", median(each(r.turns, perRequest))),
		fmt.Sprintf("%.2f", median(ratios)),
		fmt.Sprintf("%.2f to %.2f", least, most),
		fmt.Sprintf("%.0f", median(each(r.turns, func(t result) float64 { return micros(t.P50) }))),
		fmt.Sprintf("%.0f", median(each(r.turns, func(t result) float64 { return micros(t.P99) }))),
		fmt.Sprintf("%.0f", median(each(r.turns, func(t result) float64 { return float64(t.Requests) / t.Elapsed.Seconds() }))),
		fmt.Sprintf("%.0f %%, %.0f %%",
			100*median(each(r.turns, func(t result) float64 { return float64(t.CPU) / float64(t.Elapsed) })),
			100*median(each(r.turns, func(t result) float64 { return float64(t.Own) / float64(t.Elapsed) }))),
	}
}

// perRequest is the server's processor time in microseconds.
func perRequest(t result) float64 { return micros(t.CPU) / float64(t.Requests) }

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

func each(turns []result, f func(result) float64) []float64 {
	var v []float64
	for _, t := range turns {
		v = append(v, f(t))
	}
	return v
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
