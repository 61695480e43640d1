// Package hub sends events to any number of subscribers, each of which follows a set of topics.
//
// What is sent to one set of topics forms a chain of batches. A subscriber is a position in such a chain,
// so there is no queue for each client: nothing to size, nothing that overflows, nobody to drop. A client
// that was away, or falls too far behind, reads what it missed from the histories, which keep the latest
// messages of each topic, and then goes on in its chain.
//
// There are two kinds of event. A tick is worth nothing once there is a newer one; it has no id. A
// message has an id, whose number a log has given it, and is kept for a while.
package hub

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrClosed says that the hub is closed.
	ErrClosed = errors.New("hub closed")

	// ErrEnded says that a topic has ended, or that all topics of a set have.
	ErrEnded = errors.New("topic ended")

	// ErrTooLarge says that a log cannot keep a message of this size, however often it is sent.
	ErrTooLarge = errors.New("message too large")

	// ErrKeyReused says that an idempotency key belongs to another message.
	ErrKeyReused = errors.New("key used for another message")
)

// Message is a published event, as a log hands it to the hub.
type Message struct {
	Number uint64          // given by the log: 1 or more, rising over all topics, possibly with holes
	Topic  string          // empty is the default topic
	Name   string          // the event's name, or empty
	Data   json.RawMessage // JSON; empty if the message only ends its topic
	End    bool            // it ends its topic
	Key    string          // idempotency key, or empty; for the log alone
}

// endsSilently reports whether the message ends its topic without an event.
func (m Message) endsSilently() bool { return m.End && len(m.Data) == 0 }

// Limits bound what a hub keeps, and which ids it accepts.
type Limits struct {
	History      int           // messages for each topic
	HistoryBytes int64         // for all histories together, including what it costs to keep them
	Keepalive    time.Duration // how long a stream is silent before it gets a comment; 0 for 15 s
	Ahead        uint64        // how far an id may be above the last number, because another replica may be ahead; 0 without replicas
}

// Hub delivers messages and ticks to its subscribers. Its methods may be called from any number of goroutines, except
// that a log must call Append from one at a time, and no other of its methods during Begin.
type Hub struct {
	reading   sync.Mutex // locked before mu by a subscriber that reads the histories
	mu        sync.Mutex
	limits    Limits
	epoch     string
	begins    int    // how often Begin was called
	last      uint64 // number of the latest message
	seen      uint64 // numbers up to this one were given, as far as the log knows
	from      uint64 // what seen was at the last Begin
	histories *histories
	tick      []byte // the latest one, for subscribers that come between two ticks
	published uint64
	counted   topicCounts
	closed    bool
	demand    *demand // nil if the log hands over every message

	chains      map[Topics]*chain
	topics      map[string]*topic // by indexKey
	subscribers []*Subscriber
	delivered   atomic.Uint64

	started time.Time
	sent    int // bytes so far
	swept   int // what sent was at the last sweep
	waiting []*chain
	paced   time.Duration // when the pacer last sent something
	pacer   *time.Timer   // flushes the waiting chains
	silent  chain         // begins and ends the ring of all chains, the longest silent one first
	quiet   *time.Timer   // sends a comment on silent chains
}

// New returns a hub within these limits. Close frees what it holds.
func New(limits Limits) *Hub {
	if limits.Keepalive == 0 {
		limits.Keepalive = silence
	}
	h := &Hub{
		limits:    limits,
		histories: newHistories(limits, 0),
		chains:    map[Topics]*chain{},
		topics:    map[string]*topic{},
		started:   time.Now(),
	}
	h.silent.previous, h.silent.next = &h.silent, &h.silent
	h.mu.Lock() // no timer may fire before both are set
	defer h.mu.Unlock()
	h.quiet = time.AfterFunc(limits.Keepalive, h.comment)
	h.pacer = time.AfterFunc(pace, h.flushWaiting)
	return h
}

// Begin begins an epoch. It drops all that is kept, and ids of other epochs become unknown. The next message has a
// number above last. Subscribers get a gap, except those that have waited for the first epoch; before it begins,
// subscribers get ticks alone.
//
// seen is the number of the last message from before the start of the log. That message may still have to be loaded.
// Subscribers that asked for no id get the messages after it.
func (h *Hub) Begin(epoch string, last, seen uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for _, c := range h.chains {
		h.breakOff(c)
		c.last, c.late = 0, false
	}
	h.begins++
	h.epoch, h.last, h.seen, h.from = epoch, last, seen, seen
	h.histories = newHistories(h.limits, last)
	if h.demand != nil {
		h.histories.isKey = func(key string) bool { return h.demand.needs[key] != nil }
		h.unloadAll()
	}
}

// Append keeps a message and sends it to all subscribers of its topic, at once or within 40 ms of the message before. A
// message whose number is not above the last one is ignored; on demand, one that came before, or that nobody follows.
// A message on a topic that has ended opens the topic again. The error is about data that is not JSON, or ErrClosed.
// Append waits for no subscriber.
func (h *Hub) Append(m Message) error {
	var frame []byte
	if !m.endsSilently() {
		var err error
		if frame, err = encodeMessage(h.ID(m.Number), m); err != nil { // the epoch cannot change until Append returns
			return err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if h.demand == nil && m.Number <= h.last || h.demand != nil && (!h.needs(m.Topic) || h.histories.has(m.Topic, m.Number)) {
		return nil
	}
	h.last = max(h.last, m.Number)
	if frame == nil {
		h.histories.end(m.Topic, m.Number)
	} else {
		h.published++
		h.histories.add(m, frame)
	}
	own := len(frame)
	for c := range h.followers(m.Topic) {
		switch {
		case c.missing > 0:
			continue // its subscribers will read the histories
		case m.Number <= c.last: // it came late
			h.sendNow(c, encodeGap(h.id(c.last), 0, false), 1)
		case frame != nil:
			h.add(c, m.Number, frame, own)
			own = 0
		}
		if m.End && h.end(c) > 0 {
			h.breakOff(c)
		}
	}
	return nil
}

// LostAll drops the kept messages of all topics up to that number, and returns how many it dropped.
func (h *Hub) LostAll(number uint64) (dropped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.histories.dropAllUpTo(number)
}

// Tick sends an event to the subscribers of the default topic. The event has no id and is not kept, except that a new
// subscriber gets the latest one at once. The data is sent as JSON. The error is about data that cannot be JSON, or
// ErrClosed. Tick waits for no subscriber.
func (h *Hub) Tick(data any) error {
	frame, err := encodeTick(data)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.tick = frame
	if c := h.chains[Topics{}]; c != nil {
		h.sendNow(c, frame, 1)
	}
	return nil
}

// beforeKept returns the number just before the oldest message that is kept of the chain's topics.
func (h *Hub) beforeKept(c *chain) uint64 {
	before := h.highest()
	for _, f := range c.follows {
		first := h.histories.of(f.topic.key).first()
		if IsWildcard(f.topic.key) {
			first = h.histories.oldest()
		}
		if first != nil {
			before = min(before, first.number-1)
		}
	}
	return before
}

// Ended reports whether a topic has ended. Topics that have been quiet for long may be forgotten, and their ends with
// them.
func (h *Hub) Ended(topic string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.histories.of(topic).ended > 0
}

// end returns the number of the message that ended the last of the chain's topics, or 0 if one of them goes on. A
// wildcard never ends.
func (h *Hub) end(c *chain) uint64 {
	var last uint64
	for _, f := range c.follows {
		ended := h.histories.of(f.topic.key).ended
		if ended == 0 {
			return 0
		}
		last = max(last, ended)
	}
	return last
}

// ID returns the id of the message with that number.
func (h *Hub) ID(number uint64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id(number)
}

func (h *Hub) id(number uint64) string { return h.epoch + "-" + strconv.FormatUint(number, 10) }

// number returns the number in an id. known is false if the id is not of this epoch, or too far ahead.
func (h *Hub) number(id string) (number uint64, known bool) {
	digits, ours := strings.CutPrefix(id, h.epoch+"-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ours && err == nil && (number <= h.highest() || number-h.highest() <= h.limits.Ahead)
}

// highest returns the highest number that the hub knows of.
func (h *Hub) highest() uint64 { return max(h.last, h.seen) }

// Close ends every subscription: each subscriber gets what was sent before, then ErrClosed.
// Calling it again does nothing.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	for _, c := range h.chains {
		h.breakOff(c)
		if c.missing > 0 {
			close(c.complete) // nothing will be loaded any longer
		}
	}
	h.closed = true
	h.quiet.Stop()
	h.pacer.Stop()
}
