package hub

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"
)

// A log that several servers share has the messages of many topics that no subscriber of this hub follows. It hands
// over a topic's messages only on demand, and the hub forgets them when nobody follows the topic any longer.
//
// A key is what a subscriber names: a topic, or the part of a wildcard before its *. While a key is not loaded, the
// chains that have it send nothing but ticks and comments. Once it is, their subscribers read the histories from their
// own positions on, so that what was published meanwhile is neither lost nor doubled, and in order.

// loadWait is how long a new subscriber waits for its topics to be loaded. What is published after its stream has
// begun then reaches it even if it asked for no id.
const loadWait = 2 * time.Second

// maxIdle is how many keys that nobody follows are kept. Beyond that, a key goes with its last subscriber.
const maxIdle = 10_000

// Need is a key that some subscriber follows. Each time the key has to be loaded, the hub makes a new Need.
type Need struct {
	Key   string
	Known bool // the hub still has what was loaded of it before
	state needState
	given bool          // Wanted has returned the key
	idle  time.Duration // since when nobody follows it, if it is loaded
}

type needState int

const (
	wanted needState = iota
	loading
	loaded
	idle // loaded, but no longer followed
)

// demand knows which keys are followed, and which are loaded. The hub's lock guards it.
type demand struct {
	changed  chan struct{}    // has a value when something is wanted
	needs    map[string]*Need // by key
	wanted   map[string]*Need // those that Wanted will return
	idle     int              // how many are idle
	dropped  map[string]bool  // keys that Wanted had returned, since the last Forget
	sweep    bool             // a wildcard was dropped, and topics below it may be left
	answered bool             // keys are loaded within a moment, as far as the hub knows
}

// OnDemand makes the hub expect the messages of followed topics alone. It must be called before the first subscriber
// comes. The channel has a value whenever Wanted may return more.
func (h *Hub) OnDemand() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.demand = &demand{changed: make(chan struct{}, 1), needs: map[string]*Need{}, wanted: map[string]*Need{}, dropped: map[string]bool{}}
	return h.demand.changed
}

// Wanted returns what must be loaded and was not returned before.
func (h *Hub) Wanted() (needs []*Need) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.demand.wanted {
		n.state, n.given = loading, true
		needs = append(needs, n)
	}
	h.demand.wanted = map[string]*Need{} // a map never shrinks
	return needs
}

// Needs reports whether a need that Wanted returned is still one: its key is followed, and was not given up since.
func (h *Hub) Needs(n *Need) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.demand.needs[n.Key] == n
}

// join notes that a new chain follows a key.
func (d *demand) join(c *chain, key string) {
	if d == nil {
		return
	}
	n := d.needs[key]
	if n == nil {
		n = d.want(&Need{Key: strings.Clone(key), given: d.dropped[key]}) // a chain's names are much longer
	}
	switch n.state {
	case idle:
		n.state = loaded
		d.idle--
	case wanted, loading:
		c.lack()
	}
}

// leaveKey notes that the last chain that followed a key is gone.
func (h *Hub) leaveKey(key string) {
	if h.demand == nil {
		return
	}
	n := h.demand.needs[key]
	if n.state == loaded && h.demand.idle < maxIdle {
		n.state, n.idle = idle, h.now()
		h.demand.idle++
		return
	}
	h.drop(n)
}

func (d *demand) want(n *Need) *Need {
	d.needs[n.Key], d.wanted[n.Key] = n, n
	select {
	case d.changed <- struct{}{}:
	default: // it has a value
	}
	return n
}

// again returns the Need for loading the same key once more.
func (n *Need) again(known bool) *Need { return &Need{Key: n.Key, Known: known, given: n.given} }

// Kept is what a log has of a topic. For a topic that was loaded before, that is what came since.
type Kept struct {
	Key      string    // the topic's name; a wildcard's key has no messages of its own
	Messages []Message // with rising numbers
	Lost     uint64    // messages up to this number may be lost
}

// Load adds messages to the histories. Loaded must be called afterwards. Messages that Append has brought already, or
// an earlier call, are left out. The error is about data that is not JSON.
func (h *Hub) Load(all []Kept) error {
	frames := make([][][]byte, len(all))
	for i, kept := range all {
		for _, m := range kept.Messages {
			var frame []byte
			if !m.endsSilently() {
				var err error
				if frame, err = encodeMessage(h.ID(m.Number), m); err != nil {
					return err
				}
			}
			frames[i] = append(frames[i], frame)
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	var added []*message
	for i, kept := range all {
		fresh := h.histories.load(kept, frames[i])
		if len(fresh) == 0 {
			continue
		}
		added = append(added, fresh...)
		for c := range h.followers(kept.Key) {
			c.late = c.late || c.missing > 0 && fresh[0].number <= c.last
		}
	}
	slices.SortFunc(added, func(a, b *message) int { return cmp.Compare(a.number, b.number) })
	h.histories.all = merge(h.histories.all, added)
	for _, kept := range all {
		t := h.histories.of(kept.Key)
		for len(t.messages) > h.limits.History {
			h.histories.drop(t)
		}
	}
	h.histories.trim()
	if len(added) > 0 {
		h.last = max(h.last, added[len(added)-1].number)
	}
	return nil
}

// Loaded says that the histories have all messages of these keys up to that number. Append brings the later ones. The
// caller must have appended all messages up to that number of the keys that were loaded before.
func (h *Hub) Loaded(number uint64, needs ...*Need) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.demand.answered = true
	h.last = max(h.last, number)
	for _, n := range needs {
		if h.demand.needs[n.Key] != n { // it is no longer followed, or must be loaded again
			continue
		}
		n.state = loaded
		for _, f := range h.topics[n.Key].chains {
			c := f.chain
			if c.missing--; c.missing > 0 {
				continue
			}
			if c.late {
				h.sendNow(c, encodeGap(h.id(c.last), 0, false), 1)
			}
			c.last, c.late = h.last, false
			h.breakOff(c)
			close(c.complete)
		}
	}
}

// See says that numbers up to this one have been given.
func (h *Hub) See(number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = max(h.seen, number)
}

// Unload says that messages of a loaded key may be missing. If the key is followed, Wanted returns it again. If not,
// the key is dropped.
func (h *Hub) Unload(key string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.demand.needs[key]; n != nil {
		h.unload(n)
	}
}

// UnloadAll is Unload for every key, and for those that were being loaded. New subscribers do not wait until a key is
// loaded, as that may take long.
func (h *Hub) UnloadAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unloadAll()
}

func (h *Hub) unloadAll() {
	h.demand.answered = false
	needs := make([]*Need, 0, len(h.demand.needs))
	for _, n := range h.demand.needs {
		needs = append(needs, n)
	}
	for _, n := range needs {
		if n.state == loading {
			h.demand.want(n.again(n.Known))
			continue
		}
		h.unload(n)
	}
}

func (h *Hub) unload(n *Need) {
	switch n.state {
	case idle:
		h.drop(n)
	case loaded:
		h.demand.want(n.again(true))
		for _, f := range h.topics[n.Key].chains {
			h.flush(f.chain) // a subscriber that comes while the chain waits must not get these messages from it
			f.chain.lack()
		}
	}
}

// lack makes the chain wait for one more key.
func (c *chain) lack() {
	if c.missing == 0 {
		c.complete = make(chan struct{})
	}
	c.missing++
}

// Forget drops the messages of keys that nobody has followed for that long. They do not count as lost. It returns these
// keys, and those that were dropped for another reason since the last call, unless somebody follows them again.
func (h *Hub) Forget(idleFor time.Duration) (keys []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.demand.needs {
		if n.state == idle && h.now()-n.idle >= idleFor {
			h.drop(n)
		}
	}
	for key := range h.demand.dropped {
		if h.demand.needs[key] == nil {
			keys = append(keys, key)
		}
	}
	h.demand.dropped = map[string]bool{}
	if h.demand.sweep {
		h.demand.sweep = false
		for key := range h.histories.topics {
			if !h.needs(key) {
				h.histories.forget(key)
			}
		}
	}
	return keys
}

// drop gives up a key. What is kept of the topics below a wildcard stays until the next Forget.
func (h *Hub) drop(n *Need) {
	d := h.demand
	delete(d.needs, n.Key)
	delete(d.wanted, n.Key)
	if n.state == idle {
		d.idle--
	}
	if n.given {
		d.dropped[n.Key] = true
	}
	if IsWildcard(n.Key) {
		d.sweep = true
	} else if !h.needs(n.Key) {
		h.histories.forget(n.Key)
	}
}

// needs reports whether the history with that key, of a topic or a wildcard, is kept for somebody.
func (h *Hub) needs(key string) bool {
	if IsWildcard(key) {
		return h.demand.needs[key] != nil
	}
	for key := range Keys(key) {
		if h.demand.needs[key] != nil {
			return true
		}
	}
	return false
}

// Covered reports whether the hub has all that is kept of a topic.
func (h *Hub) Covered(topic string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key := range Keys(topic) {
		if n := h.demand.needs[key]; n != nil && n.state >= loaded {
			return true
		}
	}
	return false
}

// await waits until the chain's keys are loaded, for some time. It gives up the hub's lock meanwhile.
func (h *Hub) await(ctx context.Context, c *chain) {
	if c.missing == 0 || !h.demand.answered || h.closed {
		return
	}
	complete := c.complete
	h.mu.Unlock()
	defer h.mu.Lock()
	timeout := time.NewTimer(loadWait)
	defer timeout.Stop()
	select {
	case <-complete:
	case <-timeout.C:
	case <-ctx.Done():
	}
}
