package cluster

import (
	"maps"
	"slices"
	"sync"
	"time"

	"gin-sse/internal/event"
)

// maxIdle is how many patterns that nobody follows are kept. Beyond that, a pattern goes with its last subscriber.
const maxIdle = 10_000

// need is a pattern that some subscriber follows. Each time the pattern has to be loaded, there is a new need.
type need struct {
	pattern event.Pattern
	known   bool // the hub still has what was loaded of it before
	state   state
	given   bool      // wanted has returned the pattern
	idle    time.Time // since when nobody follows it, if it is loaded
}

type state int

const (
	wanted state = iota
	loading
	loaded
	idle // loaded, but no longer followed
)

// demand knows which patterns are followed, and which are loaded. The hub calls some of its methods while it is locked,
// so demand never calls the hub.
type demand struct {
	mu      sync.Mutex
	changed chan struct{} // has a value when something is wanted
	needs   map[event.Pattern]*need
	wanted  map[event.Pattern]*need // those that take will return
	idle    int                     // how many are idle
	dropped map[event.Pattern]bool  // patterns that take had returned, since the last forget
}

func newDemand() *demand {
	return &demand{
		changed: make(chan struct{}, 1), needs: map[event.Pattern]*need{},
		wanted: map[event.Pattern]*need{}, dropped: map[event.Pattern]bool{},
	}
}

// Follow notes that a pattern is followed, and reports whether it is loaded.
func (d *demand) Follow(pattern event.Pattern) (complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.needs[pattern]
	if n == nil {
		n = d.want(&need{pattern: pattern, given: d.dropped[pattern]})
	}
	if n.state == idle {
		n.state = loaded
		d.idle--
	}
	return n.state == loaded
}

// Unfollow notes that a pattern is no longer followed. It stays loaded for a while.
func (d *demand) Unfollow(pattern event.Pattern) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.needs[pattern]
	if n.state == loaded && d.idle < maxIdle {
		n.state, n.idle = idle, time.Now()
		d.idle++
		return
	}
	d.drop(n)
}

// Complete reports whether a pattern is loaded.
func (d *demand) Complete(pattern event.Pattern) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.needs[pattern]
	return n != nil && n.state >= loaded
}

// want notes that a pattern must be loaded.
func (d *demand) want(n *need) *need {
	d.needs[n.pattern], d.wanted[n.pattern] = n, n
	select {
	case d.changed <- struct{}{}:
	default: // it has a value
	}
	return n
}

// take returns what must be loaded and was not returned before.
func (d *demand) take() (needs []*need) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.wanted {
		n.state, n.given = loading, true
		needs = append(needs, n)
	}
	d.wanted = map[event.Pattern]*need{} // a map never shrinks
	return needs
}

// has reports whether a need that take returned is still one: its pattern was not given up since.
func (d *demand) has(n *need) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.needs[n.pattern] == n
}

// load notes that patterns are loaded, and returns them.
func (d *demand) load(needs []*need) (patterns []event.Pattern) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range needs {
		if d.needs[n.pattern] == n {
			n.state = loaded
			patterns = append(patterns, n.pattern)
		}
	}
	return patterns
}

// unload notes that messages of these patterns may be missing, or that loading them must begin again. Those that are
// followed are wanted once more, the others are dropped.
func (d *demand) unload(patterns ...event.Pattern) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, pattern := range patterns {
		switch n := d.needs[pattern]; {
		case n == nil || n.state == wanted:
		case n.state == idle:
			d.drop(n)
		default:
			d.want(&need{pattern: pattern, known: n.known || n.state == loaded, given: n.given})
		}
	}
}

func (d *demand) all() []event.Pattern {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.needs))
}

// begin notes that the hub has nothing of any pattern: an epoch begins.
func (d *demand) begin() {
	d.unload(d.all()...)
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.needs {
		n.known = false
	}
}

// forget drops the patterns that nobody has followed for that long. It returns these, and those that were dropped for
// another reason since the last call, unless somebody follows them again.
func (d *demand) forget(idleFor time.Duration) (patterns []event.Pattern) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, n := range d.needs {
		if n.state == idle && time.Since(n.idle) >= idleFor {
			d.drop(n)
		}
	}
	for pattern := range d.dropped {
		if d.needs[pattern] == nil {
			patterns = append(patterns, pattern)
		}
	}
	d.dropped = map[event.Pattern]bool{}
	return patterns
}

// drop gives up a pattern.
func (d *demand) drop(n *need) {
	delete(d.needs, n.pattern)
	delete(d.wanted, n.pattern)
	if n.state == idle {
		d.idle--
	}
	if n.given { // otherwise it may be one of very many that come and go while NATS is away
		d.dropped[n.pattern] = true
	}
}

// needed reports whether messages of a topic are needed.
func (d *demand) needed(topic string) bool { return d.find(topic, wanted) }

// covers reports whether the hub has all messages of a topic.
func (d *demand) covers(topic string) bool { return d.find(topic, loaded) }

// find reports whether a pattern that matches the topic is in this state or a later one.
func (d *demand) find(topic string, least state) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := d.needs[event.Pattern(topic)]; n != nil && n.state >= least {
		return true
	}
	for pattern := range event.Wildcards(topic) {
		if n := d.needs[pattern]; n != nil && n.state >= least {
			return true
		}
	}
	return false
}
