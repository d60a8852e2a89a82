package rfc9111_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"pgregory.net/rapid"

	"github.com/accelhttp/accelerator/internal/rfc9111"
)

// RFC 9111, section 4.2.3: the response delay is part of the age, but not of what
// Date says.
func TestResponseDelay(t *testing.T) {
	r := response(200, "Age", "10")
	r.Requested = r.Received.Add(-30 * time.Second)
	assert.Equal(t, 40*time.Second, rfc9111.InitialAge(r))
	r.Header.Set("Date", httpDate(r.Received.Add(-50*time.Second)))
	assert.Equal(t, 50*time.Second, rfc9111.InitialAge(r))
	r.Requested = r.Received.Add(time.Hour) // a clock was set back
	assert.Equal(t, 50*time.Second, rfc9111.InitialAge(r))
}

func TestRFC9111_4_2_3_InitialAge(t *testing.T) {
	at := func(d time.Duration) string { return httpDate(noon.Add(d)) }
	for name, c := range map[string]struct {
		date, age []string
		want      time.Duration
	}{
		"nothing":                    {nil, nil, 0},
		"Age":                        {nil, []string{"60"}, time.Minute},
		"Date":                       {[]string{at(-time.Hour)}, nil, time.Hour},
		"Date is older than Age":     {[]string{at(-time.Hour)}, []string{"60"}, time.Hour},
		"Age is older than Date":     {[]string{at(-time.Minute)}, []string{"3600"}, time.Hour},
		"Date in the future":         {[]string{at(time.Hour)}, nil, 0},
		"Date in the future and Age": {[]string{at(time.Hour)}, []string{"60"}, time.Minute},
		"Date unreadable":            {[]string{"long ago"}, nil, 0},
		"Date in the year 1":         {[]string{"Mon, 01 Jan 0001 00:00:00 GMT"}, nil, forEver},

		// 5.1: the first line, the first member
		"first line":   {nil, []string{"60", "7200"}, time.Minute},
		"first member": {nil, []string{"60, 7200"}, time.Minute},
		"leading zero": {nil, []string{"0060"}, time.Minute},
		"whitespace":   {nil, []string{" 60 "}, time.Minute},
		"not a number": {nil, []string{"abc"}, 0},
		"negative":     {nil, []string{"-7200"}, 0},
		"signed":       {nil, []string{"+7200"}, 0},
		"decimal":      {nil, []string{"7200.0"}, 0},
		"parameter":    {nil, []string{"7200;x=1"}, 0},
		"quoted":       {nil, []string{`"7200"`}, 0},
		"empty":        {nil, []string{""}, 0},
		"no lines":     {nil, []string{}, 0},
		"huge":         {nil, []string{"99999999999999999999999"}, forEver},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{}
			if c.date != nil {
				h["Date"] = c.date
			}
			if c.age != nil {
				h["Age"] = c.age
			}
			assert.Equal(t, c.want, rfc9111.InitialAge(rfc9111.Response{Header: h, Received: noon}))
		})
	}

	t.Run("Date has whole seconds", func(t *testing.T) {
		r := rfc9111.Response{Header: http.Header{"Date": {at(0)}}, Received: noon.Add(999 * time.Millisecond)}
		assert.Zero(t, rfc9111.InitialAge(r))
	})
	t.Run("time of receipt unknown", func(t *testing.T) {
		assert.Zero(t, rfc9111.InitialAge(rfc9111.Response{Header: http.Header{"Date": {at(0)}}}))
	})
}

func TestRFC9111_4_2_3_CurrentAge(t *testing.T) {
	assert.Equal(t, time.Duration(0), rfc9111.CurrentAge(0, noon, noon))
	assert.Equal(t, 90*time.Second, rfc9111.CurrentAge(time.Minute, noon, noon.Add(30*time.Second)))
	assert.Equal(t, time.Duration(0), rfc9111.CurrentAge(time.Minute, noon, noon.Add(-time.Hour)), "the clock was set back")
	assert.Equal(t, time.Duration(0), rfc9111.CurrentAge(-time.Minute, noon, noon))
	assert.Equal(t, forEver, rfc9111.CurrentAge(forEver, noon, noon.Add(time.Hour)))
	assert.Equal(t, forEver, rfc9111.CurrentAge(1<<63-1, time.Time{}, noon.AddDate(5000, 0, 0)))
	assert.Equal(t, forEver, rfc9111.CurrentAge(0, time.Time{}, noon))
}

func TestRFC9111_4_2_3_AgeNeverFalls(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		initial := time.Duration(rapid.Int64().Draw(t, "initial"))
		received := time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "received"), 0)
		now := time.Unix(rapid.Int64Range(-1<<40, 1<<40).Draw(t, "now"), 0)
		later := now.Add(time.Duration(rapid.Int64Range(0, 1<<62).Draw(t, "later")))
		a, b := rfc9111.CurrentAge(initial, received, now), rfc9111.CurrentAge(initial, received, later)
		if a < 0 || a > b || b > forEver {
			t.Fatalf("%v, then %v", a, b)
		}
	})
}

func TestCurrentAgeAllocatesNothing(t *testing.T) {
	assert.Zero(t, testing.AllocsPerRun(100, func() { rfc9111.CurrentAge(time.Minute, noon, noon.Add(time.Hour)) }))
}
