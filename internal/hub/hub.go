// Package hub sends events to any number of subscribers at a cost that does not grow with them.
//
// What was sent forms a chain of frames. A subscriber is a position in that chain, so there is no
// queue per client: nothing to size, nothing that overflows, nobody to drop. A slow client merely
// stands further back, and frames that nobody stands on or before are garbage.
//
// There are two kinds of event. A tick is worth nothing once there is a newer one; it has no id. A
// message has an id and is kept for a while, so that who was away can have what it missed.
//
// A hub numbers its messages itself, with Send, or is a replica: then a stream elsewhere numbers them,
// and Follow and Append bring them here, so that an id means the same to every replica.
package hub

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gin-contrib/sse"
)

const (
	// silence is how long nothing is sent before a comment goes out, which keeps connections from
	// looking dead to proxies.
	silence = 15 * time.Second

	// pace is the least time between two messages going out. Those in between go out together: a write
	// to each client costs far more than a few messages more in it. A message after a pause goes out
	// at once.
	pace = 40 * time.Millisecond

	// batch is how many bytes go out together at most, unless a single event is larger.
	batch = 64 << 10
)

// ErrClosed is what a closed hub answers.
var ErrClosed = errors.New("hub closed")

// frame is encoded events that go out together, or a comment, and the way to the frame after it.
type frame struct {
	data   []byte // nil where another run begins: subscribers have to be placed anew
	events int
	number uint64        // of the last message in it, 0 if there is none
	next   *frame        // set before more is closed; nil after that means the hub is closed
	more   chan struct{} // closed once there is something to find in next
}

// message is one that is kept.
type message struct {
	number uint64
	frame  []byte
}

// Hub is where events come in. Its methods may be called from any number of goroutines.
type Hub struct {
	mu      sync.Mutex
	last    *frame // the newest frame of the chain
	next    *frame // the one after it, while it is filled
	flushed time.Time
	pacer   *time.Timer
	quiet   *time.Timer
	closed  bool
	tick    []byte    // the latest tick, for who comes between two ticks
	run     string    // tells the ids of this hub from those of another one, or of an earlier start
	replica bool      // the messages come from a stream, whose other replicas may be ahead
	seen    uint64    // of a replica: the last message from before its start
	sent    uint64    // number of the latest message; its id has it
	ahead   uint64    // number of the latest message that a subscriber has seen elsewhere
	gone    uint64    // number up to which messages are not in the history any more
	history []message // the latest messages; their bytes are never changed, as subscribers share them
	keep    int       // how many of them
	keys    keys

	subscribers atomic.Int64
	delivered   atomic.Uint64
}

// Stats are figures of a hub.
type Stats struct {
	Subscribers int64  // now
	Delivered   uint64 // events handed over to subscribers so far, each counted for each of them
	Kept        int    // messages in the history
}

// Stats returns the figures of this moment.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	return Stats{h.subscribers.Load(), h.delivered.Load(), len(h.history)}
}

// New returns a hub that keeps the latest history messages for those who were away. Close frees what
// it holds.
func New(history int) *Hub {
	h := &Hub{last: newFrame(), next: newFrame(), run: strings.ToLower(rand.Text()[:8]), keep: history}
	h.mu.Lock() // the timers' goroutines have to see the timers
	defer h.mu.Unlock()
	h.quiet = time.AfterFunc(silence, h.comment)
	h.pacer = time.AfterFunc(pace, h.flush)
	return h
}

// NewReplica is New for a hub whose messages come by Append. Until Follow is called, subscribers get
// ticks alone, and what they ask for afterwards.
func NewReplica(history int) *Hub {
	h := New(history)
	h.replica, h.run = true, ""
	return h
}

// Tick sends an event that has no id and is not kept, except that a new subscriber gets the latest
// one at once. The data is sent as JSON; it is an error if it cannot be, or ErrClosed. Tick waits for
// no subscriber.
func (h *Hub) Tick(data any) error {
	encoded, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode tick: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	h.tick = encode(sse.Event{Data: encoded})
	h.add(h.tick, 1)
	h.chain()
	return nil
}

// Send sends a message, under a name if that is not empty, and returns its id. It is in the history
// then, and goes out at once, or within 40 ms of what was sent before. The data is sent as JSON; it is
// an error if it cannot be, or ErrClosed. Send waits for no subscriber.
func (h *Hub) Send(name string, data any) (id string, err error) {
	encoded, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("encode message: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return "", ErrClosed
	}
	return h.issue(h.sent+1, name, encoded), nil
}

// Follow tells a replica that what Append brings from now on is that run of messages after number: ids
// of other runs are unknown, and what was kept is dropped. Who waited for it without an id gets the
// messages after seen.
func (h *Hub) Follow(run string, number, seen uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.chain()
	h.run, h.sent, h.ahead, h.gone, h.seen, h.history = run, number, 0, number, seen, nil
	h.link(newFrame())
}

// Append is Send for a replica: the message has the number that its stream gave it, and data is JSON. One
// that the hub has already is left out. If there are numbers between it and the one before, subscribers
// are told of a gap first.
func (h *Hub) Append(number uint64, name string, data json.RawMessage) error {
	encoded, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	if number <= h.sent {
		return nil
	}
	if missed := number - 1 - h.sent; missed > 0 {
		h.keepAndSend(number-1, h.gap(number-1, missed))
	}
	h.issue(number, name, encoded)
	return nil
}

// Forget drops messages up to that number from the history, and returns how many those were.
func (h *Hub) Forget(number uint64) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	kept := h.after(number)
	dropped := len(h.history) - len(kept)
	h.history, h.gone = kept, max(h.gone, min(number, h.sent))
	return dropped
}

// ID is the id of the message with that number.
func (h *Hub) ID(number uint64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id(number)
}

// Subscribe returns a subscriber that gets the latest tick, if there is one, and all that is sent from
// now on, until it is closed. If after is the id of the last message that it saw, it first gets every message since.
//
// It begins with an event called position, whose id is that of the last message before those that
// follow: a client that loses its connection before any message comes has an id to go on from. If
// messages since after are no longer kept, or it is not an id of this hub's, an event called gap is in
// its place, with the number of messages that are missing, or null if that is unknown.
//
// A replica takes an id that it has not reached yet for one of a replica that is ahead: the subscriber
// gets what comes after that.
func (h *Hub) Subscribe(after string) *Subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &Subscriber{hub: h, after: after}
	h.place(s)
	if h.tick != nil {
		s.missed = slices.Insert(s.missed, min(1, len(s.missed)), h.tick)
	}
	h.subscribers.Add(1)
	return s
}

// place puts the subscriber where it belongs: to the end of the chain, with what it missed until
// there. h.mu is held.
func (h *Hub) place(s *Subscriber) {
	h.chain() // the seam is then between the history and what is not sent yet
	s.at = h.last
	if h.run == "" {
		return // until Follow tells
	}
	var first []byte
	at, known := h.number(s.after)
	switch {
	case s.after == "":
		at = max(h.sent, h.seen)
		first = h.position(at)
	case !known:
		at = h.gone
		first = h.gap(at, nil)
	case at < h.gone:
		first = h.gap(h.gone, h.gone-at)
		at = h.gone
	default:
		first = h.position(at)
	}
	s.missed = [][]byte{first}
	for _, message := range h.after(at) {
		s.missed = append(s.missed, message.frame)
	}
	s.skip = at
	h.ahead = max(h.ahead, at)
	s.after = elsewhere
}

// replace is place for a subscriber that came to the beginning of another run.
func (h *Hub) replace(s *Subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.after == "" {
		s.after = h.id(h.seen)
	}
	h.place(s)
}

// Close ends every subscription: subscribers get what was sent before, then ErrClosed.
// Calling it again does nothing.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.chain()
	h.closed = true
	h.quiet.Stop()
	h.pacer.Stop()
	close(h.last.more)
}

// issue sends a message and returns its id; h.mu is held and the hub is open.
func (h *Hub) issue(number uint64, name string, encoded []byte) (id string) {
	id = h.id(number)
	h.keepAndSend(number, encode(sse.Event{Id: id, Event: name, Data: encoded}))
	return id
}

func (h *Hub) keepAndSend(number uint64, data []byte) {
	h.sent = number
	h.history = append(h.history, message{number, data})
	if len(h.history) > h.keep {
		h.gone = h.history[0].number
		h.history = h.history[1:]
	}
	h.add(data, 1)
	h.next.number = number
	if wait := pace - time.Since(h.flushed); wait <= 0 || number <= h.ahead {
		h.chain() // alone, if there is who has seen it and has to leave it out
	} else if h.next.events == 1 {
		h.pacer.Reset(wait)
	}
}

// add puts something into the next frame; h.mu is held and the hub is open.
func (h *Hub) add(data []byte, events int) {
	if len(h.next.data)+len(data) > batch {
		h.chain()
	}
	h.next.data = append(h.next.data, data...)
	h.next.events += events
}

// chain sends the next frame, if there is something in it; h.mu is held.
func (h *Hub) chain() {
	if len(h.next.data) == 0 || h.closed {
		return
	}
	next := h.next
	next.data = slices.Clip(next.data) // without room to append to, as subscribers share it
	h.next = newFrame()
	h.link(next)
}

// link chains a frame to the last; h.mu is held and the hub is open. Its cost to the sender is that of
// waking who waits.
func (h *Hub) link(next *frame) {
	h.last.next = next
	close(h.last.more)
	h.last = next
	h.flushed = time.Now()
	h.quiet.Reset(silence)
}

// flush sends what has waited for its pace.
func (h *Hub) flush() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chain()
}

// comment is sent when nothing else was for some time.
func (h *Hub) comment() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.add([]byte(":\n\n"), 0)
		h.chain()
	}
}

// id is the id of the message with that number.
func (h *Hub) id(number uint64) string {
	return h.run + "-" + strconv.FormatUint(number, 10)
}

// elsewhere is an id that no run has.
const elsewhere = "-"

// after is the part of the history after that number.
func (h *Hub) after(number uint64) []message {
	i, _ := slices.BinarySearchFunc(h.history, number+1, func(m message, n uint64) int { return cmp.Compare(m.number, n) })
	return h.history[i:]
}

// number is the number of the message with that id, if it is one of this run that was given already, here
// or by a replica that is ahead.
func (h *Hub) number(id string) (number uint64, known bool) {
	digits, ours := strings.CutPrefix(id, h.run+"-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ours && err == nil && (number <= h.sent || h.replica)
}

// position tells the subscriber up to which message it has everything.
func (h *Hub) position(number uint64) []byte {
	return []byte("id:" + h.id(number) + "\nevent:position\ndata:\n\n")
}

// gap tells how many messages up to that number the subscriber cannot have any more.
func (h *Hub) gap(number uint64, missed any) []byte {
	return encode(sse.Event{Id: h.id(number), Event: "gap", Data: map[string]any{"missed": missed}})
}

func newFrame() *frame { return &frame{more: make(chan struct{})} }

// encode returns the frame of an event whose data can be encoded.
func encode(e sse.Event) []byte {
	var b bytes.Buffer
	_ = sse.Encode(&b, e) // fails only for data that is no JSON
	return slices.Clip(b.Bytes())
}
