package cluster

import (
	"maps"
	"testing"
)

// step is a message that came, or what was fetched.
type step struct {
	subject          string
	previous, number uint64

	fence   uint64 // of what was fetched
	from    uint64
	fetched map[string]uint64
}

func TestFollowNoticesEachMessageThatDidNotCome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		steps  []step
		hole   bool // the last step shows one
		loaded bool
		upTo   uint64
		lost   map[string]uint64 // of the last step
	}{
		"one after the other": {
			steps:  []step{{fence: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "a", previous: 5, number: 10}, {subject: "a", previous: 10, number: 12}},
			loaded: true, upTo: 12,
		},
		"one is missing": {
			steps: []step{{fence: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "a", previous: 5, number: 10}, {subject: "a", previous: 11, number: 12}},
			hole:  true, upTo: 10,
		},
		"another subject goes on": {
			steps:  []step{{fence: 9, from: 1, fetched: map[string]uint64{"a": 5, "b": 6}}, {subject: "b", previous: 6, number: 11}, {subject: "a", previous: 5, number: 12}},
			loaded: true, upTo: 12,
		},
		"the first of a new subject is missing": {
			steps: []step{{fence: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "b", previous: 10, number: 11}},
			hole:  true, upTo: 0,
		},
		"one comes twice, by two subscriptions": {
			steps:  []step{{fence: 9, from: 1, fetched: map[string]uint64{"a": 5}}, {subject: "a", previous: 5, number: 10}, {subject: "a", previous: 5, number: 10}},
			loaded: true, upTo: 10,
		},
		"one came before what it follows was fetched": {
			steps:  []step{{subject: "a", previous: 5, number: 10}, {fence: 11, from: 1, fetched: map[string]uint64{"a": 10}}},
			loaded: true, upTo: 11,
		},
		"one after the fence is missing": {
			steps: []step{{subject: "a", previous: 12, number: 13}, {fence: 11, from: 1, fetched: map[string]uint64{"a": 10}}},
			upTo:  0,
		},
		"the stream dropped one before it was fetched": {
			steps:  []step{{subject: "a", previous: 7, number: 13}, {fence: 11, from: 1, fetched: map[string]uint64{"a": 5}}},
			loaded: true, upTo: 13, lost: map[string]uint64{"a": 7},
		},
		"what came in the session before is not fetched again": {
			steps:  []step{{subject: "a", previous: 7, number: 13}, {fence: 11, from: 9, fetched: map[string]uint64{}}},
			loaded: true, upTo: 13,
		},
	} {
		var f follow
		var hole bool
		var lost map[string]uint64
		for _, s := range test.steps {
			if hole, lost = false, nil; s.fence > 0 {
				lost = f.load(s.from, s.fence, s.fetched)
			} else {
				hole = f.came(received{subject: s.subject, previous: s.previous, number: s.number})
			}
		}
		if hole != test.hole || f.loaded != test.loaded || f.upTo != test.upTo || !maps.Equal(lost, test.lost) {
			t.Errorf("%s: hole %t, loaded %t, up to %d, lost %v; want %t, %t, %d, %v", name, hole, f.loaded, f.upTo, lost, test.hole, test.loaded, test.upTo, test.lost)
		}
	}
}
