// Package hub sends events to any number of subscribers at a cost that does not grow with them.
//
// What was sent forms a chain of frames. A subscriber is a position in that chain, so there is no
// queue per client: nothing to size, nothing that overflows, nobody to drop. A slow client merely
// stands further back, and frames that nobody stands on or before are garbage.
//
// There are two kinds of event. A tick is worth nothing once there is a newer one; it has no id. A
// message has an id and is kept for a while, so that who was away can have what it missed.
package hub

import (
	"bytes"
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
	pace = 30 * time.Millisecond

	// batch is how many bytes go out together at most, unless a single event is larger.
	batch = 64 << 10
)

// ErrClosed is what a closed hub answers.
var ErrClosed = errors.New("hub closed")

// frame is encoded events that go out together, or a comment, and the way to the frame after it.
type frame struct {
	data   []byte
	events int
	next   *frame        // set before more is closed; nil after that means the hub is closed
	more   chan struct{} // closed once there is something to find in next
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
	tick    []byte   // the latest tick, for who comes between two ticks
	run     string   // tells the ids of this hub from those of another one, or of an earlier start
	sent    uint64   // messages so far; the id of each has its number
	history [][]byte // the latest messages; their bytes are never changed, as subscribers share them
	keep    int      // how many of them

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
	h.quiet = time.AfterFunc(silence, h.comment)
	h.pacer = time.AfterFunc(pace, h.flush)
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
// then, and goes out at once, or within 30 ms of what was sent before. The data is sent as JSON; it is an error if it cannot be, or ErrClosed. Send waits for no
// subscriber.
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
	h.sent++
	id = h.id(h.sent)
	message := encode(sse.Event{Id: id, Event: name, Data: encoded})
	h.history = append(h.history, message)
	if len(h.history) > h.keep {
		h.history = h.history[1:]
	}
	h.add(message, 1)
	if wait := pace - time.Since(h.flushed); wait <= 0 {
		h.chain()
	} else if h.next.events == 1 {
		h.pacer.Reset(wait)
	}
	return id, nil
}

// Subscribe returns a subscriber that gets the latest tick, if there is one, and all that is sent from
// now on, until it is closed. If after is the id of the last message that it saw, it first gets every message since.
//
// It begins with an event called position, whose id is that of the last message before those that
// follow: a client that loses its connection before any message comes has an id to go on from. If
// messages since after are no longer kept, or it is not an id of this hub's, an event called gap is in
// its place, with the number of messages that are missing, or null if that is unknown.
func (h *Hub) Subscribe(after string) *Subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.chain()                                 // the seam is then between the history and what is not sent yet
	oldest := h.sent - uint64(len(h.history)) // the number of the message before the oldest kept
	at, known := h.number(after)
	var first []byte
	switch {
	case after == "":
		at = h.sent
		first = h.position(at)
	case !known:
		at = oldest
		first = h.gap(at, nil)
	case at < oldest:
		first = h.gap(oldest, oldest-at)
		at = oldest
	default:
		first = h.position(at)
	}
	missed := [][]byte{first}
	if h.tick != nil {
		missed = append(missed, h.tick)
	}
	h.subscribers.Add(1)
	return &Subscriber{hub: h, missed: append(missed, h.history[at-oldest:]...), at: h.last}
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

// add puts something into the next frame; h.mu is held and the hub is open.
func (h *Hub) add(data []byte, events int) {
	if len(h.next.data)+len(data) > batch {
		h.chain()
	}
	h.next.data = append(h.next.data, data...)
	h.next.events += events
}

// chain chains the next frame to the last, if there is something in it; h.mu is held. Its cost to the
// sender is that of waking who waits.
func (h *Hub) chain() {
	if len(h.next.data) == 0 || h.closed {
		return
	}
	h.next.data = slices.Clip(h.next.data) // without room to append to, as subscribers share it
	h.last.next = h.next
	close(h.last.more)
	h.last, h.next = h.next, newFrame()
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

// number is the number of the message with that id, if it is one that this hub has given.
func (h *Hub) number(id string) (number uint64, known bool) {
	digits, ours := strings.CutPrefix(id, h.run+"-")
	number, err := strconv.ParseUint(digits, 10, 64)
	return number, ours && err == nil && number <= h.sent
}

// position tells the subscriber up to which message it has everything.
func (h *Hub) position(number uint64) []byte {
	return encode(sse.Event{Id: h.id(number), Event: "position", Data: map[string]any{}})
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
