package main

import (
	"context"
	"time"
)

// Sample returns a small town of five.
//
//	Mira — Jonas
//	    \  /
//	    Aiko — Tomás — Nell
//
// Not everybody knows everybody, on purpose: what Mira does is seen on the
// pages of Jonas and Aiko as well as her own, and on no other.
//
// Each query calls query, which may take its time, as a database would.
func Sample(query func(context.Context), now func() time.Time) *Data {
	ago := func(d time.Duration) time.Time { return now().Add(-d) }
	const day = 24 * time.Hour
	return &Data{
		query:  query,
		now:    now,
		people: []string{"42", "7", "23", "11", "3"},
		rows: rows{
			profile: map[string]Profile{
				"42": {"Mira Lindqvist", "Harbour Street", "I repair accordions and other things that breathe. On Thursdays the workshop is open to anybody with something broken and a little patience."},
				"7":  {"Jonas Achterberg", "Mill Lane", "Baker by night, sleeper by day. If the lights are on at four in the morning, knock: the first rolls are the best ones."},
				"23": {"Aiko Tanabe", "Old Observatory", "I look after the small telescope and the even smaller museum around it. Clear nights are open house."},
				"11": {"Tomás Herrera", "Station Square", "Train driver on the coast line, which is the slow one with the view. I collect timetables of lines that are gone."},
				"3":  {"Nell Okafor", "Upper Orchard", "Forty-one apple trees, nine sorts, two beehives and a dog who thinks that all of it is his."},
			},
			photo: map[string]Photo{
				"42": {Seed: 4201, Caption: "In the workshop, before the dust"},
				"7":  {Seed: 702, Caption: "After the morning shift"},
				"23": {Seed: 2300, Caption: "Waiting for the clouds to leave"},
				"11": {Seed: 1105, Caption: "Platform one, on time"},
				"3":  {Seed: 306, Caption: "Harvest, first day"},
			},
			status: map[string]Status{
				"42": {"Looking for a left-hand reed block, anything from the sixties.", ago(3 * time.Hour)},
				"7":  {"Rye today. The sourdough has opinions again.", ago(7 * time.Hour)},
				"23": {"Jupiter tonight from nine, if the fog keeps its word.", ago(40 * time.Minute)},
				"11": {"The 17:12 has a window seat with your name on it.", ago(26 * time.Hour)},
				"3":  {"Apples! Bring baskets. And the dog is friendly.", ago(2 * day)},
			},
			friends: map[string][]string{
				"42": {"7", "23"},
				"7":  {"42", "23"},
				"23": {"42", "7", "11"},
				"11": {"23", "3"},
				"3":  {"11"},
			},
			guestbook: map[string][]Note{
				"42": {
					{"Aiko", "The concertina works again and so does my grandfather's smile. Thank you!", ago(1 * day)},
					{"A passer-by", "Heard music through the window and stayed for an hour.", ago(5 * day)},
				},
				"7":  {{"Mira", "Best rolls this side of the river.\nAlso the only ones, but still.", ago(2 * day)}},
				"23": {{"Tomás", "Saw the rings of Saturn. I have no words, and I have tried three languages.", ago(9 * day)}},
				"11": {{"Nell", "You waited for me at the orchard stop. I noticed.", ago(12 * day)}},
				"3":  {{"Tomás", "The russets did not last until Sunday.", ago(3 * day)}},
			},
			badges: map[string][]string{
				"42": {"Night owl", "Chess player"},
				"7":  {"Night owl", "Baker"},
				"23": {"Night owl", "Bookworm", "Polyglot"},
				"11": {"Early bird", "Bookworm"},
				"3":  {"Early bird", "Cyclist", "Gardener"},
			},
		},
	}
}
