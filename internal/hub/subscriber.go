package hub

import (
	"context"
	"errors"
	"sync/atomic"
	"time"
)

const (
	// maxPiece is how many bytes a subscriber is handed at once, unless a single event is larger.
	maxPiece = 16 << 10

	// patience is how long a subscriber waits for this replica to get as far as another one. When NATS loses the leader
	// of the stream, one replica may take more than 5 s longer than another one to go on. Without patience, a subscriber
	// would be told of a gap although nothing is lost, and get all that is kept once more.
	patience = 30 * time.Second

	// earliest asks for everything that is kept.
	earliest = "earliest"

	// foreign is an id of no epoch.
	foreign = "-"
)

// Subscriber is one client's position in what is sent. It belongs to one goroutine, which must close it.
type Subscriber struct {
	hub    *Hub
	chain  *chain
	index  int                   // in the hub's subscribers
	at     atomic.Pointer[batch] // the next batch to take; nil while it reads the histories
	cursor uint64                // messages up to this number were handed over, or a gap told of them
	head   []byte                // comes before anything else
	heads  int                   // events in it
	ticked bool                  // it was given the latest tick, or needs none
	after  string                // the id that the client asked for, until the hub knows where that is
	epoch  int                   // h.begins when the cursor was set, or 0
	pardon uint64                // losses that were counted up to here make no gap
	passed int                   // how many lost messages up to the cursor the next gap has to count, -1 if unknown
	ahead  time.Time             // until when the cursor may be above the hub's last number
}

// Subscribe returns a subscriber that gets all that is sent to these topics from now on, until it is
// closed. If after is the id of the last message that it saw, it first gets every message since; if it is
// "earliest", every message that is kept.
//
// The stream begins with an event called position, whose id is where the stream begins. If messages that the
// subscriber should have had are lost, an event called gap is in their place. It says how many, or null if that
// is unknown. After an id of another epoch, the gap comes first, then everything that is kept.
//
// If a log hands over messages on demand, Subscribe waits up to 2 s, or until ctx ends, for those of these topics.
//
// The error is ErrEnded if all of these topics have ended and after is not before the last end. From a closed hub
// the subscriber gets what it missed, then ErrClosed.
func (h *Hub) Subscribe(ctx context.Context, topics Topics, after string) (*Subscriber, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &Subscriber{hub: h, after: after, ticked: topics != Topics{}}
	h.join(s, topics)
	h.await(ctx, s.chain)
	end := h.end(s.chain)
	switch {
	case h.begins == 0, s.chain.missing > 0 && after != "":
		s.head = start(retry(), "")
		s.attachNew()
		return s, nil
	case after == "" && end == 0:
		s.epoch = h.begins
		s.cursor = h.highest()
		s.head = start(retry(), h.id(s.cursor))
		s.attachNew()
		return s, nil
	case after == "":
		s.after = earliest
	}
	gap := h.place(s)
	if s.pardon == 0 && end > 0 && end <= s.cursor && s.cursor <= h.highest() {
		h.leave(s)
		return nil, ErrEnded
	}
	s.head = append(start(retry(), h.id(s.cursor)), gap...)
	if gap != nil {
		s.heads++
	}
	return s, nil
}

// place sets where the subscriber goes on in this epoch, and returns the gap that comes first, if there is one.
func (h *Hub) place(s *Subscriber) (gap []byte) {
	number, known := h.number(s.after)
	if known {
		s.cursor, s.pardon = number, 0
		s.ahead = time.Now().Add(patience)
	} else {
		s.cursor, s.pardon = h.beforeKept(s.chain), h.histories.losses
		s.ahead = time.Time{}
		if s.after != earliest {
			gap = encodeGap(h.id(s.cursor), 0, false)
		}
	}
	s.epoch, s.after, s.passed = h.begins, foreign, 0
	return gap
}

// attach puts the subscriber at the end of its chain, unless the hub is closed: then nothing comes there.
func (s *Subscriber) attach() {
	if !s.hub.closed {
		s.at.Store(s.chain.end)
	}
}

// attachNew is attach for a subscriber that missed nothing. It gets the latest tick first.
func (s *Subscriber) attachNew() {
	s.attach()
	if !s.ticked && len(s.hub.tick) > 0 {
		s.head = append(s.head, s.hub.tick...)
		s.heads++
	}
	s.ticked = true
}

// Next waits until there is something for this subscriber and returns as much of it as makes one write of
// at most 16 KiB, unless a single event is larger. The bytes are shared and must not be changed. The error is
// ErrClosed, or ErrEnded once all topics of the set have ended and everything was handed over, or the reason why
// ctx ended. What was sent before ctx was canceled is still handed over, but nothing is after its deadline.
func (s *Subscriber) Next(ctx context.Context) ([]byte, error) {
	for {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return nil, context.Cause(ctx)
		}
		data, events, err := s.take()
		if len(data) > 0 {
			s.hub.delivered.Add(uint64(events))
			return data, nil
		}
		if err != nil {
			return nil, err
		}
		b := s.at.Load()
		if b == nil && ctx.Err() == nil {
			continue // there is more to look through in the histories
		}
		if b == nil {
			return nil, context.Cause(ctx)
		}
		select {
		case <-b.sent:
		case <-ctx.Done():
			if !b.isSent() { // what was sent before a stop still goes out
				return nil, context.Cause(ctx)
			}
		}
	}
}

// take returns what there is now without waiting, and the number of events in it.
func (s *Subscriber) take() (data []byte, events int, err error) {
	data, events = s.head, s.heads
	s.head, s.heads = nil, 0
	if s.at.Load() == nil {
		missed, n, failed := s.catchUp(len(data))
		data, events, err = concat(data, missed), events+n, failed
	}
	for {
		b := s.at.Load()
		if b == nil {
			return data, events, err
		}
		if !b.isSent() {
			return data, events, err
		}
		more, n := b.after(s.cursor)
		if len(data) > 0 && len(data)+len(more) > maxPiece {
			return data, events, err
		}
		s.at.Store(b.next)
		data = concat(data, more)
		events += n
		if b.last > s.cursor {
			s.cursor, s.ahead = b.last, time.Time{}
		}
		if s.overdue() {
			s.at.Store(nil) // the hub should have got as far as the cursor by now
		}
	}
}

// concat is append, but copies nothing if data is empty. Frames have no spare room, so append never writes to one.
func concat(data, more []byte) []byte {
	if len(data) == 0 {
		return more
	}
	return append(data, more...)
}

// Close tells the hub that this subscriber is gone. It must be called once.
func (s *Subscriber) Close() {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	s.hub.leave(s)
}
