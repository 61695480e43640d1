package hub

import (
	"context"
	"math"
)

// Subscriber is one client's position among what was sent. It belongs to one goroutine, which closes it.
type Subscriber struct {
	hub    *Hub
	after  string   // the id to go on from, until the hub knows where that is
	missed [][]byte // events that go before the chain
	at     *frame   // the last frame of the chain that was handed over
	skip   uint64   // messages up to that number were seen
}

// Next waits until there is something for this subscriber and returns all of it, ready to be
// written, up to 64 KiB: a client that fell behind catches up in few large writes. The bytes are
// shared and must not be changed. Its error is ErrClosed, or the reason that ctx ended.
func (s *Subscriber) Next(ctx context.Context) ([]byte, error) {
	var data []byte
	var events int
	for data == nil { // what comes may have been seen
		if len(s.missed) == 0 {
			select {
			case <-s.at.more: // first, or the end of ctx could hide what was sent before it
			default:
				select {
				case <-s.at.more:
				case <-ctx.Done():
					return nil, context.Cause(ctx)
				}
			}
			if s.at.next == nil {
				return nil, ErrClosed
			}
		}
		data, events = s.pop(math.MaxInt)
	}
	for {
		more, n := s.pop(batch - len(data))
		if more == nil {
			break
		}
		data = append(data, more...) // copies, as there is no room to append to
		events += n
	}
	s.hub.delivered.Add(uint64(events))
	return data, nil
}

// Close tells the hub that this subscriber is gone. It must be called once.
func (s *Subscriber) Close() { s.hub.subscribers.Add(-1) }

// pop takes what comes next and was not seen, with the number of events in it, or nil if there is
// nothing yet or it has more than max bytes.
func (s *Subscriber) pop(max int) (data []byte, events int) {
	for len(s.missed) == 0 {
		select {
		case <-s.at.more:
		default:
			return nil, 0
		}
		next := s.at.next
		switch {
		case next == nil:
			return nil, 0
		case next.data == nil:
			s.hub.replace(s)
		case next.number > 0 && next.number <= s.skip:
			s.at = next
		case len(next.data) > max:
			return nil, 0
		default:
			s.at = next
			return next.data, next.events
		}
	}
	data = s.missed[0]
	if len(data) > max {
		return nil, 0
	}
	if s.missed = s.missed[1:]; len(s.missed) == 0 {
		s.missed = nil // not held for as long as the client stays
	}
	return data, 1
}
