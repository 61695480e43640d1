package hub

import (
	"iter"

	"gin-sse/internal/event"
)

// Stats are figures of a hub.
type Stats struct {
	Subscribers int64  // now
	Delivered   uint64 // events handed over so far; an event counts once for each subscriber
	Gaps        uint64 // that subscribers were told of so far
	Published   uint64 // messages that were appended so far
	Kept        int    // messages that a subscriber could get
	Topics      int    // that have messages
}

// Bytes returns about how many bytes all messages take.
func (h *Hub) Bytes() int64 {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.history.Bytes()
}

// Following is how a pattern is followed.
type Following struct {
	Subscribers int  // that name it
	Kept        bool // it is a topic that has messages
}

// Stats returns the figures of this moment.
func (h *Hub) Stats() Stats {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return Stats{
		Subscribers: int64(h.subscribers),
		Delivered:   h.delivered.Load(),
		Gaps:        h.gaps.Load(),
		Published:   h.published,
		Kept:        h.history.Shown(),
		Topics:      h.history.Topics(),
	}
}

// Followed yields the patterns that are followed, in any order. Those that come and go
// meanwhile may be left out. The hub is locked in between, for a moment at a time.
func (h *Hub) Followed() iter.Seq2[event.Pattern, Following] {
	return func(yield func(event.Pattern, Following) bool) {
		h.mu.RLock()
		defer h.mu.RUnlock()
		n := 0
		for pattern, f := range h.feeds {
			if !yield(pattern, Following{f.subscribers(), h.history.Has(string(pattern))}) {
				return
			}
			if n++; n%1000 == 0 {
				h.mu.RUnlock()
				h.mu.RLock()
			}
		}
	}
}
