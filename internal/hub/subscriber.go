package hub

import (
	"context"
	"math"
)

// batch is how many bytes Next hands over at once, unless a single frame is larger.
const batch = 64 << 10

// Subscriber is one client's position among what was sent. It belongs to one goroutine, which closes it.
type Subscriber struct {
	hub    *Hub
	after  string   // the id to go on from, until the hub knows where that is
	missed [][]byte // what goes before the chain
	at     *frame   // the last frame of the chain that was handed over
	skip   uint64   // messages up to that number were seen
}

// Next waits until there is something for this subscriber and returns all of it, ready to be
// written, up to 64 KiB: a client that fell behind catches up in few large writes. The bytes are
// shared and must not be changed. Its error is ErrClosed, or the reason that ctx ended.
func (s *Subscriber) Next(ctx context.Context) ([]byte, error) {
	var data []byte
	for data == nil { // what comes may have been seen
		if len(s.missed) == 0 {
			select {
			case <-s.at.more:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			if s.at.next == nil {
				return nil, ErrClosed
			}
		}
		data = s.pop(math.MaxInt)
	}
	events := count(data)
	for more := s.pop(batch - len(data)); more != nil; more = s.pop(batch - len(data)) {
		data = append(data, more...) // copies, as a frame has no room to append to
		events += count(more)
	}
	s.hub.delivered.Add(events)
	return data, nil
}

// Close tells the hub that this subscriber is gone. It must be called once.
func (s *Subscriber) Close() { s.hub.subscribers.Add(-1) }

// count is how many events a frame is: none if it is a comment.
func count(frame []byte) uint64 {
	if frame[0] == ':' {
		return 0
	}
	return 1
}

// pop takes the next frame that was not seen, or nil if there is none yet or it has more than max bytes.
func (s *Subscriber) pop(max int) []byte {
	for len(s.missed) == 0 {
		select {
		case <-s.at.more:
		default:
			return nil
		}
		next := s.at.next
		switch {
		case next == nil:
			return nil
		case next.data == nil:
			s.hub.replace(s)
		case next.number > 0 && next.number <= s.skip:
			s.at = next
		case len(next.data) > max:
			return nil
		default:
			s.at = next
			return next.data
		}
	}
	data := s.missed[0]
	if len(data) > max {
		return nil
	}
	s.missed = s.missed[1:]
	return data
}
