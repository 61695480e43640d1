// Package hub sends events to any number of subscribers at a cost that does not grow with them.
//
// What was sent forms a chain of frames. A subscriber is a position in that chain, so there is no
// queue per client: nothing to size, nothing that overflows, nobody to drop. A slow client merely
// stands further back, and frames that nobody stands on or before are garbage.
package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gin-contrib/sse"
)

const (
	silence = 15 * time.Second // with nothing sent for so long, a comment goes out
	batch   = 64 << 10         // bytes that Next hands over at once, unless a single frame is larger
)

// ErrClosed is what Next returns once a closed hub has nothing more for the subscriber.
var ErrClosed = errors.New("hub closed")

// frame is one encoded event, or a comment, and the way to the one after it.
type frame struct {
	data []byte
	next *frame        // set before more is closed; nil after that means the hub is closed
	more chan struct{} // closed once there is something to find in next
}

// Hub is where events come in. Its methods may be called from any number of goroutines.
type Hub struct {
	mu     sync.Mutex
	last   *frame // the newest frame; the next one is chained to it
	tick   []byte // the latest tick, for who comes between two ticks
	quiet  *time.Timer
	closed bool
}

// New returns a hub without subscribers. Close frees what it holds.
func New() *Hub {
	h := &Hub{last: &frame{more: make(chan struct{})}}
	h.quiet = time.AfterFunc(silence, h.comment)
	return h
}

// Tick sends an event that is worth nothing once there is a newer one, such as the time. A new
// subscriber gets the latest tick at once. The data is a map, slice or struct, and is sent as JSON;
// it is an error if it cannot be. Tick waits for no subscriber. On a closed hub it does nothing.
func (h *Hub) Tick(data any) error {
	encoded, err := encode(sse.Event{Data: data})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tick = encoded
	h.send(encoded)
	return nil
}

// Subscribe returns a subscriber that gets the latest tick, if there is one, and then all that is
// sent from now on. It need not be closed: dropping it is enough.
func (h *Hub) Subscribe() *Subscriber {
	h.mu.Lock()
	defer h.mu.Unlock()
	return &Subscriber{first: h.tick, at: h.last}
}

// Close ends every subscription: subscribers get what was sent before, then ErrClosed.
// Calling it again does nothing.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return
	}
	h.closed = true
	h.quiet.Stop()
	close(h.last.more)
}

// send chains one frame to the last; h.mu is held. Its cost to the sender is that of waking who waits.
func (h *Hub) send(data []byte) {
	if h.closed {
		return
	}
	// Without room to append to, as subscribers share it.
	next := &frame{data: slices.Clip(data), more: make(chan struct{})}
	h.last.next = next
	close(h.last.more)
	h.last = next
	h.quiet.Reset(silence)
}

// comment keeps the connections from looking dead to proxies while there is nothing to send.
func (h *Hub) comment() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.send([]byte(":\n\n"))
}

func encode(e sse.Event) ([]byte, error) {
	var b bytes.Buffer
	if err := sse.Encode(&b, e); err != nil {
		return nil, fmt.Errorf("encode event: %w", err)
	}
	return b.Bytes(), nil
}

// Subscriber is one client's position among what was sent. It belongs to one goroutine.
type Subscriber struct {
	first []byte // what goes before the chain
	at    *frame // the last frame handed over
}

// Next waits until there is something for this subscriber and returns all of it, ready to be
// written, up to 64 KiB: a client that fell behind catches up in few large writes. The bytes are
// shared and must not be changed. Its error is ErrClosed, or the reason that ctx ended.
func (s *Subscriber) Next(ctx context.Context) ([]byte, error) {
	if s.first != nil {
		first := s.first
		s.first = nil
		return first, nil
	}
	select {
	case <-s.at.more:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if s.at.next == nil {
		return nil, ErrClosed
	}
	s.at = s.at.next
	data := s.at.data
	for next := s.at.ready(); next != nil && len(data)+len(next.data) <= batch; next = next.ready() {
		data = append(data, next.data...)
		s.at = next
	}
	return data, nil
}

// ready returns the frame after f, or nil while there is none.
func (f *frame) ready() *frame {
	select {
	case <-f.more:
		return f.next
	default:
		return nil
	}
}
