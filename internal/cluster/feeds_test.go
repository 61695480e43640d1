package cluster

import (
	"math"
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
			loaded: true, upTo: 13,
		},
		"what came in the session before is not fetched again": {
			steps:  []step{{subject: "a", previous: 7, number: 13}, {end: 11, from: 9, fetched: map[string]uint64{}}},
			loaded: true, upTo: 13,
		},
	} {
		for _, pattern := range []event.Pattern{"a", "*"} {
			s := newFeeds()
			s.sure.Store(math.MaxUint64)
			s.Follow(pattern)
			f := s.byPattern[pattern]
			hole := false
			for _, step := range test.steps {
				if pattern == "a" && step.subject != "" && step.subject != "a" {
					break // another topic's
				}
				if hole = false; step.end > 0 {
					f.loaded = f.load(&job{from: step.from, end: step.end, fetched: step.fetched})
					continue
				}
				m := received{subject: step.subject, previous: step.previous, place: place{number: step.number}}
				var above uint64
				if above, hole = f.came(m, step.previous > f.before(step.subject), false); hole {
					s.reload(f, above)
				}
			}
			if pattern == "a" && test.onlyBelow {
				continue
			}
			loaded := f.loaded
			if loaded { // so that it shows from where on it would be loaded again
				s.reload(f, math.MaxUint64)
			}
			if hole != test.hole || loaded != test.loaded || f.upTo != test.upTo {
				t.Errorf("%s, %q: hole %t, loaded %t, up to %d; want %t, %t, %d", name, pattern, hole, loaded, f.upTo, test.hole, test.loaded, test.upTo)
			}
		}
	}
}
