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

// demand is which keys are followed and loaded. The hub's lock guards it.
type demand struct {
	changed  chan struct{}            // has a value when wanted has grown
	wanted   map[string]bool          // followed, neither loaded nor being loaded
	loaded   map[string]bool          //
	idle     map[string]time.Duration // loaded but not followed, since when
	answered bool                     // keys are loaded within a moment, as far as the hub knows
}

// OnDemand makes the hub expect the messages of followed topics alone. It must be called before the first subscriber
// comes. The channel has a value whenever Wanted may return more.
func (h *Hub) OnDemand() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.demand = &demand{
		changed: make(chan struct{}, 1),
		wanted:  map[string]bool{},
		loaded:  map[string]bool{},
		idle:    map[string]time.Duration{},
	}
	return h.demand.changed
}

// Wanted returns the keys that are followed, and have not been loaded or returned before.
func (h *Hub) Wanted() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	keys := make([]string, 0, len(h.demand.wanted))
	for key := range h.demand.wanted {
		keys = append(keys, key)
	}
	h.demand.wanted = map[string]bool{} // a map never shrinks
	return keys
}

// follow notes that a new chain has a key, and whether it is the first one to have it.
func (d *demand) follow(c *chain, key string, first bool) {
	switch {
	case d == nil:
	case d.loaded[key]:
		delete(d.idle, key)
	default:
		c.lack()
		if first {
			d.want(key)
		}
	}
}

// leave notes that the last chain that had a key is gone.
func (d *demand) leave(key string, now time.Duration) {
	if d == nil {
		return
	}
	delete(d.wanted, key)
	if d.loaded[key] {
		d.idle[key] = now
	}
}

func (d *demand) want(key string) {
	d.wanted[strings.Clone(key)] = true // the chain's names are much longer
	select {
	case d.changed <- struct{}{}:
	default: // it has a value
	}
}

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
		for _, m := range h.histories.load(kept, frames[i]) {
			added = append(added, m)
			for c := range h.followers(kept.Key) {
				c.late = c.late || m.number <= c.last
			}
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

// Loaded says that the histories have all messages of these keys up to that number, and that Append brings all later
// ones. No later message of another loaded key has been brought before an earlier one of these.
func (h *Hub) Loaded(number uint64, keys ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	d := h.demand
	d.answered = true
	h.seen = max(h.seen, number)
	for _, key := range keys {
		if d.loaded[key] {
			continue
		}
		d.loaded[key] = true
		t := h.topics[key]
		if t == nil {
			d.idle[key] = h.now()
			continue
		}
		for _, f := range t.chains {
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
// the key is forgotten, and Unload returns false.
func (h *Hub) Unload(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.unload(key)
}

// UnloadAll is Unload for every key. New subscribers do not wait until a key is loaded, as that may take long.
func (h *Hub) UnloadAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.unloadAll()
}

func (h *Hub) unloadAll() {
	h.demand.answered = false
	for key := range h.demand.loaded {
		h.unload(key)
	}
	for key := range h.topics { // those that were being loaded
		h.demand.want(key)
	}
}

func (h *Hub) unload(key string) bool {
	d := h.demand
	if !d.loaded[key] {
		return true
	}
	if _, idle := d.idle[key]; idle {
		h.forget(key)
		return false
	}
	delete(d.loaded, key)
	d.want(key)
	for _, f := range h.topics[key].chains {
		h.flush(f.chain) // a subscriber that comes while the chain waits must not get these messages from it
		f.chain.lack()
	}
	return true
}

// lack makes the chain wait for one more key.
func (c *chain) lack() {
	if c.missing == 0 {
		c.complete = make(chan struct{})
	}
	c.missing++
}

// Idle returns the loaded keys that nobody has followed for so long.
func (h *Hub) Idle(long time.Duration) (keys []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, since := range h.demand.idle {
		if h.now()-since >= long {
			keys = append(keys, key)
		}
	}
	return keys
}

// Forget drops the messages of a key that nobody follows, unless another loaded key has them. It reports whether it
// did: somebody may follow the key again. They do not count as lost.
func (h *Hub) Forget(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, idle := h.demand.idle[key]; !idle {
		return false
	}
	h.forget(key)
	return true
}

func (h *Hub) forget(key string) {
	d := h.demand
	delete(d.idle, key)
	delete(d.loaded, key)
	if !isWildcard(key) {
		if !h.covered(key) {
			h.histories.forget(key)
		}
		return
	}
	h.histories.forget(key)
	for topic := range h.histories.topics {
		if !isWildcard(topic) && !h.covered(topic) {
			h.histories.forget(topic)
		}
	}
}

// Covered reports whether the hub has all that is kept of a topic.
func (h *Hub) Covered(topic string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.covered(topic)
}

func (h *Hub) covered(topic string) bool {
	for key := range Keys(topic) {
		if h.demand.loaded[key] {
			return true
		}
	}
	return false
}

// await waits until the chain's keys are loaded, for some time. It gives up the hub's lock meanwhile.
func (h *Hub) await(ctx context.Context, c *chain) {
	if c.missing == 0 || !h.demand.answered {
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
