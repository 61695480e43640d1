package hub

import (
	"iter"
	"slices"
	"strings"
	"time"
)

const (
	// silence is how long a chain sends nothing before a comment goes out, unless Limits say otherwise. Comments keep
	// connections from looking dead to proxies.
	silence = 15 * time.Second

	// pace is the least time between two batches of messages on a chain. A write to each client costs far
	// more than a few more messages in that write. A message after a pause goes out at once.
	pace = 40 * time.Millisecond

	// maxBatch is how many bytes of messages go out together, unless a single one is larger.
	maxBatch = 16 << 10

	// maxBehind is how many bytes the hub sends before a subscriber that has not taken the first of them
	// must read the histories instead. Without it, a client that stalls would keep everything since in memory.
	maxBehind = 8 << 20

	batchCost = 256 // bytes that a batch takes beside its data
)

// batch is a link of a chain: encoded events that are written together. It has either messages or a single
// frame that is no message, such as a tick. Subscribers that are up to date wait at the last batch, which has
// not been sent yet.
type batch struct {
	sent   chan struct{} // closed when the batch is sent; after that, nothing in it changes
	data   []byte
	events int32
	own    int32   // bytes of data that no other batch shares
	first  uint64  // number of the first message, 0 if there is none
	last   uint64  // number of the last one
	starts []begin // of the messages after the first one
	before int     // bytes that the hub had sent before it
	next   *batch  // nil sends the subscriber to the histories
}

// begin is where in a batch a message begins.
type begin struct {
	number uint64
	offset int
}

// after returns the part of the batch for a subscriber that has all messages up to that number.
func (b *batch) after(number uint64) (data []byte, events int) {
	switch {
	case b.first == 0 || b.first > number:
		return b.data, int(b.events)
	case b.last <= number:
		return nil, 0
	}
	i := slices.IndexFunc(b.starts, func(s begin) bool { return s.number > number })
	return b.data[b.starts[i].offset:], len(b.starts) - i
}

// chain is what is sent to the subscribers of one set of topics.
type chain struct {
	topics      Topics
	follows     []follow // one for each name of the set
	subscribers int
	end         *batch        // the batch to be sent next, with the messages that wait for the pace
	last        uint64        // subscribers may have been given messages up to this number
	missing     int           // how many of its keys are not loaded; until then it sends no messages
	complete    chan struct{} // closed when missing becomes 0
	late        bool          // while it waits for its keys, a message was loaded that is not above last
	waiting     bool          // the chain is in Hub.waiting
	paced       time.Duration // when the chain last sent messages
	active      time.Duration // when it last sent anything
	previous    *chain        // previous and next make a ring of all chains, in the order of active
	next        *chain
}

// push adds a chain to a ring as the one that was active last.
func (ring *chain) push(c *chain) {
	c.previous, c.next = ring.previous, ring
	c.previous.next, ring.previous = c, c
}

// unlink takes a chain out of the ring.
func (c *chain) unlink() { c.previous.next, c.next.previous = c.next, c.previous }

// topic leads from a name to the chains whose sets have it.
type topic struct {
	key         string
	chains      []following
	subscribers int
}

// follow and following are the two ends of the link between a chain and a topic. Each knows the position of
// the other, so that a link is removed without a search even if ten thousand chains follow the topic.
type follow struct {
	topic *topic
	index int // in topic.chains
}

type following struct {
	chain *chain
	index int // in chain.follows
}

func newBatch() *batch { return &batch{sent: make(chan struct{})} }

func (b *batch) isSent() bool {
	select {
	case <-b.sent:
		return true
	default:
		return false
	}
}

// join adds a subscriber to the chain of that set.
func (h *Hub) join(s *Subscriber, topics Topics) {
	s.index = len(h.subscribers)
	h.subscribers = append(h.subscribers, s)
	c := h.chains[topics]
	if c == nil {
		c = &chain{topics: topics, end: newBatch(), paced: -pace, active: h.now()}
		names := topics.Names()
		c.follows = make([]follow, len(names))
		for i, name := range names {
			key := indexKey(name)
			t := h.topics[key]
			if t == nil {
				t = &topic{key: strings.Clone(key)} // it may outlive this chain, whose names are much longer
				h.topics[t.key] = t
			}
			h.demand.join(c, key)
			c.follows[i] = follow{t, len(t.chains)}
			t.chains = append(t.chains, following{c, i})
		}
		h.chains[topics] = c
		h.silent.push(c)
	}
	c.subscribers++
	for _, f := range c.follows {
		f.topic.subscribers++
	}
	s.chain = c
}

// leave takes a subscriber off its chain. The chain goes with its last subscriber.
func (h *Hub) leave(s *Subscriber) {
	last := h.subscribers[len(h.subscribers)-1]
	h.subscribers[s.index], last.index = last, s.index
	h.subscribers[len(h.subscribers)-1] = nil
	h.subscribers = h.subscribers[:len(h.subscribers)-1]

	c := s.chain
	c.subscribers--
	for _, f := range c.follows {
		t := f.topic
		t.subscribers--
		if c.subscribers > 0 {
			continue
		}
		last := t.chains[len(t.chains)-1]
		t.chains[f.index] = last
		last.chain.follows[last.index].index = f.index
		t.chains[len(t.chains)-1] = following{}
		if t.chains = t.chains[:len(t.chains)-1]; len(t.chains) == 0 {
			delete(h.topics, t.key)
			h.leaveKey(t.key)
		}
	}
	if c.subscribers == 0 {
		delete(h.chains, c.topics)
		c.unlink()
	}
}

// followers yields the chains whose sets have that topic.
func (h *Hub) followers(topic string) iter.Seq[*chain] {
	return func(yield func(*chain) bool) {
		for key := range Keys(topic) {
			if t := h.topics[key]; t != nil {
				for _, f := range t.chains {
					if !yield(f.chain) {
						return
					}
				}
			}
		}
	}
}

// has reports whether the chain's set has that topic.
func (c *chain) has(topic string) bool {
	for key := range Keys(topic) {
		for _, f := range c.follows {
			if f.topic.key == key {
				return true
			}
		}
	}
	return false
}

// add sends a message to a chain, at once or within its pace. All chains share the bytes of the frame; own is
// how many of them are counted for this chain.
func (h *Hub) add(c *chain, number uint64, frame []byte, own int) {
	if len(c.end.data)+len(frame) > maxBatch {
		h.flush(c)
	}
	b := c.end
	b.events++
	b.last, c.last = number, number
	if b.events > 1 {
		b.starts = append(b.starts, begin{number, len(b.data)})
		b.data = append(b.data, frame...) // the first append copies, because a frame has no spare room
		b.own = int32(cap(b.data))
		return
	}
	b.first, b.data, b.own = number, frame, int32(own)
	now := h.now()
	if now >= c.paced+pace {
		h.flush(c)
		return
	}
	if len(h.waiting) == 0 {
		h.pacer.Reset(max(c.paced, h.paced) + pace - now)
	}
	if !c.waiting {
		c.waiting = true
		h.waiting = append(h.waiting, c)
	}
}

// flush sends the messages that wait for the pace of a chain.
func (h *Hub) flush(c *chain) {
	if c.end.events > 0 {
		h.send(c)
		c.paced = c.active
	}
}

// flushWaiting sends all messages that wait for the pace of their chains. The pacer calls it.
func (h *Hub) flushWaiting() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.paced = h.now()
	for i, c := range h.waiting {
		if c.subscribers > 0 { // otherwise the chain is gone by now
			h.flush(c)
		}
		c.waiting = false
		h.waiting[i] = nil
	}
	h.waiting = h.waiting[:0]
}

// sendNow sends a frame that is no message, after the messages that wait.
func (h *Hub) sendNow(c *chain, frame []byte, events int32) {
	h.flush(c)
	c.end.data, c.end.events, c.end.own = frame, events, int32(len(frame))
	h.send(c)
}

// send sends the last batch of a chain. It costs the sender only waking the waiting subscribers.
func (h *Hub) send(c *chain) {
	b := c.end
	c.end = newBatch()
	b.data = slices.Clip(b.data) // subscribers share it: appending to it must copy it
	b.before = h.sent
	b.next = c.end
	close(b.sent)
	c.active = h.now()
	c.unlink()
	h.silent.push(c)
	if h.sent += batchCost + int(b.own); h.sent-h.swept > maxBehind/4 {
		h.sweep()
	}
}

// sweep makes subscribers that are too far behind let go of their chains and read the histories.
func (h *Hub) sweep() {
	h.swept = h.sent
	for _, s := range h.subscribers {
		if b := s.at.Load(); b != nil && b.next != nil && h.sent-b.before > maxBehind {
			s.at.CompareAndSwap(b, nil)
		}
	}
}

// breakOff makes all subscribers of a chain read the histories, once they have what was sent until now.
func (h *Hub) breakOff(c *chain) {
	h.flush(c)
	close(c.end.sent)
	c.end = newBatch()
}

// comment sends a comment on each chain that was silent for too long. A timer calls it.
func (h *Hub) comment() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	now, silence := h.now(), h.limits.Keepalive
	wait := silence
	for c := h.silent.next; c != &h.silent; c = h.silent.next {
		if wait = c.active + silence - now; wait > 0 {
			break
		}
		wait = silence
		h.sendNow(c, comment, 0)
	}
	h.quiet.Reset(wait)
}

func (h *Hub) now() time.Duration { return time.Since(h.started) }
