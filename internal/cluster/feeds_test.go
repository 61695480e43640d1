package cluster

import (
	"maps"
	"testing"

	"gin-sse/internal/event"
)

// step is a message that came, or what was fetched.
type step struct {
	subject          string
	previous, number uint64

	end     uint64 // of what was fetched
	from    uint64
	fetched map[string]uint64
}

func TestFeedNoticesEachMessageThatDidNotCome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		steps  []step
		hole   bool // the last step shows one
		loaded bool
		upTo   uint64
		lost   map[string]uint64 // of the last step

		onlyBelow bool // it is about several subjects below a wildcard
	}{
		"one after the other": {
			steps:  []step{{end: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "a", previous: 5, number: 10}, {subject: "a", previous: 10, number: 12}},
			loaded: true, upTo: 12,
		},
		"one is missing": {
			steps: []step{{end: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "a", previous: 5, number: 10}, {subject: "a", previous: 11, number: 12}},
			hole:  true, upTo: 10,
		},
		"another subject goes on": {
			steps:  []step{{end: 9, from: 1, fetched: map[string]uint64{"a": 5, "b": 6}}, {subject: "b", previous: 6, number: 11}, {subject: "a", previous: 5, number: 12}},
			loaded: true, upTo: 12, onlyBelow: true,
		},
		"the first of a new subject is missing": {
			steps: []step{{end: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "b", previous: 10, number: 11}},
			hole:  true, upTo: 0, onlyBelow: true,
		},
		"one comes twice, by two subscriptions": {
			steps:  []step{{end: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "a", previous: 5, number: 10}, {subject: "a", previous: 5, number: 10}},
			loaded: true, upTo: 10,
		},
		"one came before what it follows was fetched": {
			steps:  []step{{subject: "a", previous: 5, number: 10}, {end: 11, from: 1, fetched: map[string]uint64{"a": 10}}},
			loaded: true, upTo: 11,
		},
		"one after the end is missing": {
			steps: []step{{subject: "a", previous: 12, number: 13}, {end: 11, from: 1, fetched: map[string]uint64{"a": 10}}},
			upTo:  0,
		},
		"the stream dropped one before it was fetched": {
			steps:  []step{{subject: "a", previous: 7, number: 13}, {end: 11, from: 1, fetched: map[string]uint64{"a": 5}}},
			loaded: true, upTo: 13, lost: map[string]uint64{"a": 7},
		},
		"what came in the session before is not fetched again": {
			steps:  []step{{subject: "a", previous: 7, number: 13}, {end: 11, from: 9, fetched: map[string]uint64{}}},
			loaded: true, upTo: 13,
		},
	} {
		for _, pattern := range []event.Pattern{"a", "*"} {
			f := feed{pattern: pattern, state: loading}
			var hole bool
			var lost map[string]uint64
			for _, s := range test.steps {
				if pattern == "a" && s.subject != "" && s.subject != "a" {
					break // another topic's
				}
				if hole, lost = false, nil; s.end > 0 {
					var complete bool
					complete, lost = f.load(&job{from: s.from, end: s.end, fetched: s.fetched})
					f.state = map[bool]state{true: loaded, false: wanted}[complete]
					continue
				}
				m := received{subject: s.subject, previous: s.previous, place: place{number: s.number}}
				if hole = f.came(m, s.previous > f.before(s.subject), false); hole {
					f.state = wanted
				}
			}
			if pattern == "a" && test.onlyBelow {
				continue
			}
			if hole != test.hole || (f.state == loaded) != test.loaded || f.upTo != test.upTo || !maps.Equal(lost, test.lost) {
				t.Errorf("%s, %q: hole %t, state %d, up to %d, lost %v; want %t, loaded %t, %d, %v", name, pattern, hole, f.state, f.upTo, lost, test.hole, test.loaded, test.upTo, test.lost)
			}
		}
	}
}
