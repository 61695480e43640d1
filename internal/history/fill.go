package history

import "gin-sse/internal/event"

// A log that several servers share has the messages of many topics that nobody reads here. It fills in those of a topic
// when they are needed, and has them forgotten afterwards.

// Fill adds messages of a topic that came before others that are here already, and notes that those up to lost are lost.
// With a wildcard instead of a topic, messages of all its topics are lost up to there. Messages that are here already are
// left out, and those that were replaced or lost do not come back. Fill returns the lowest number that it added, or 0.
func (h *History) Fill(name string, lost uint64, messages []event.Message, frames [][]byte) (lowest uint64) {
	for i := range h.pieces {
		h.pieces[i].Store(nil)
	}
	if pattern := event.Pattern(name); pattern.IsWildcard() {
		if lost > 0 {
			h.loseOf(pattern, lost)
		}
		return 0
	}
	h.bury(len(h.gone)) // a message with the same number may come back
	if t := h.open(name); lost >= t.replaced {
		h.loseUpTo(t, lost)
	}
	for i, m := range messages {
		t := h.open(name)
		t.unknown = min(t.unknown, h.floor) // the log has looked at it
		if m.Number < t.replaced {          // it must not come back
			continue
		}
		h.note(t, m)
		// Readers know already of what is lost. Up to the floor, that is only possible: a message that turns up is kept.
		if frames[i] == nil || t.has(m.Number) || m.Number <= t.lost && m.Number > h.floor {
			continue
		}
		h.insert(&message{number: m.Number, frame: frames[i], topic: t})
		if lowest == 0 {
			lowest = m.Number
		}
	}
	h.fit(h.open(name))
	return lowest
}

// loseUpTo loses the messages of a topic up to that number.
func (h *History) loseUpTo(t *topic, number uint64) {
	for len(t.messages) > 0 && t.messages[0].number <= number {
		h.drop(t)
	}
	if number > t.lost {
		h.lose(t, number)
	}
}

// Miss notes that readers of a topic that are below that number may have missed one of its messages.
func (h *History) Miss(name string, number uint64) {
	if t := h.topics[name]; t.after(0) != nil {
		h.lose(t, number)
	}
}

func (t *topic) has(number uint64) bool {
	rest := t.after(number - 1)
	return len(rest) > 0 && rest[0].number == number
}

// Seen says that numbers up to this one have been given.
func (h *History) Seen(number uint64) { h.last = max(h.last, number) }

// Forget drops what is kept and known of the topics that a pattern matches, unless they are needed. Their messages do
// not count as lost.
func (h *History) Forget(pattern event.Pattern, needed func(topic string) bool) {
	var found []*topic
	if add := func(t *topic) bool { found = append(found, t); return true }; pattern.IsWildcard() {
		below(h.names, pattern, add)
		below(h.empty.topics, pattern, add)
	} else if t := h.topics[string(pattern)]; t != nil {
		found = append(found, t)
	}
	for _, t := range found {
		if needed(t.name) {
			continue
		}
		for len(t.messages) > 0 {
			h.remove(t)
		}
		h.forget(t)
	}
}

// LoseAll loses the messages of all topics up to that number, also of those that are not here.
func (h *History) LoseAll(number uint64) (dropped int) {
	for m := h.next(0); m != nil && m.number <= number; m = h.next(m.number) {
		h.drop(m.topic)
		dropped++
	}
	h.floor = max(h.floor, number)
	h.empty.forgotten = max(h.empty.forgotten, number)
	return dropped
}
