package hub

import (
	"context"
	"maps"
	"slices"
	"time"

	"gin-sse/internal/event"
)

// A log that several servers share has the messages of many topics that nobody follows here. It hands over those of a
// pattern only when that is followed. While a pattern is not complete, the hub holds its subscribers: they get ticks and
// comments alone. Then they read the history from their own positions on, so that what was published meanwhile is
// neither lost nor doubled, and in order.

// Source is a log that hands over messages on demand. Its methods are called while the hub is locked, so they must
// return at once, and must not call the hub.
type Source interface {
	Follow(event.Pattern) (complete bool) // a pattern is followed from now on
	Unfollow(event.Pattern)               // and no longer
	Complete(event.Pattern) bool          // the hub has all messages of the pattern
}

// loadWait is how long a new subscriber waits for its topics to be loaded. What is published after its stream has
// begun then reaches it even if it asked for no id.
const loadWait = 2 * time.Second

// OnDemand makes the hub expect the messages of followed patterns alone. It must be called before the first subscriber
// comes.
func (h *Hub) OnDemand(source Source) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.source = source
}

// Fill adds messages of a topic that came before others that the hub has already, with rising numbers, and notes that
// those up to lost are lost. Messages that are there already are left out. Fill returns the lowest number that it added,
// or 0. Subscribers that are not held do not get what is filled in. The error is event.ErrClosed.
func (h *Hub) Fill(topic string, lost uint64, messages []event.Message) (lowest uint64, err error) {
	frames := make([][]byte, len(messages))
	for i, m := range messages {
		frames[i] = m.Frame(h.ID(m.Number))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return 0, event.ErrClosed
	}
	return h.history.Fill(topic, lost, messages, frames), nil
}

// Miss says that subscribers of a topic that are below that number may have missed one of its messages.
func (h *Hub) Miss(topic string, number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.history.Miss(topic, number)
}

// Hold holds the subscribers of patterns that are no longer complete.
func (h *Hub) Hold(patterns ...event.Pattern) {
	h.mu.Lock()
	defer h.unlock()
	h.check(patterns)
}

// HoldAll holds the subscribers of all patterns that are not complete. New subscribers do not wait for their topics until
// Release is called again, as that may take long.
func (h *Hub) HoldAll() {
	h.mu.Lock()
	defer h.unlock()
	h.answers = false
	h.check(slices.Collect(maps.Keys(h.feeds)))
}

// Release lets the subscribers of patterns go on that are complete now. The hub must have all messages of the complete
// patterns up to that number.
func (h *Hub) Release(number uint64, patterns ...event.Pattern) {
	h.mu.Lock()
	defer h.unlock()
	h.history.Seen(number)
	h.answers = true
	h.check(patterns)
}

// check asks the source whether patterns are complete: they may have changed again since the caller knew.
func (h *Hub) check(patterns []event.Pattern) {
	if h.closed {
		return
	}
	changed := false
	for _, pattern := range patterns {
		if f := h.feeds[pattern]; f != nil && f.held == h.source.Complete(pattern) {
			f.held = !f.held
			h.turn(f)
			changed = true
		}
	}
	if changed { // otherwise thousands that wait would wake for nothing
		close(h.released)
		h.released = make(chan struct{})
	}
}

// isHeld reports whether one of a subscriber's patterns is held.
func (h *Hub) isHeld(s *Subscriber) bool {
	if h.source == nil {
		return false
	}
	for pattern := range s.Topics.Patterns() {
		if h.feeds[pattern].held {
			return true
		}
	}
	return false
}

// await waits until the subscriber is not held, for some time. It gives up the hub's lock meanwhile.
func (h *Hub) await(ctx context.Context, s *Subscriber) {
	if !h.answers || !h.isHeld(s) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, loadWait)
	defer cancel()
	for h.isHeld(s) && !h.closed && ctx.Err() == nil {
		released := h.released
		h.mu.Unlock()
		select {
		case <-released:
		case <-ctx.Done():
		}
		h.mu.Lock()
	}
}

// See says that numbers up to this one have been given.
func (h *Hub) See(number uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = max(h.seen, number)
}

// LoseAll says that the messages of all topics up to that number may be lost. It returns how many were dropped.
func (h *Hub) LoseAll(number uint64) (dropped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.history.LoseAll(number)
}

// Forget drops what is kept of the topics that these patterns match, unless they are needed. Their messages do not count
// as lost.
func (h *Hub) Forget(patterns []event.Pattern, needed func(topic string) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, pattern := range patterns {
		h.history.Forget(pattern, needed)
	}
}
