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
		if w, watched := h.watch[pattern]; watched && lost > 0 {
			w.lost, w.losses = max(w.lost, lost), w.losses+1
			h.watch[pattern] = w
		}
		return 0
	}
	if lost >= h.past(name).replaced {
		h.loseUpTo(name, lost)
	}
	for i, m := range messages {
		if m.Number < h.past(name).replaced { // it must not come back
			continue
		}
		if m.Replace {
			h.replace(name, m.Number)
		}
		if m.End {
			h.end(name, m.Number)
		}
		t, p := h.topics[name], h.past(name)
		if t == nil && p.assumed { // not as much as of a topic that the log did not look at
			p.lost, p.assumed = h.floor, h.floor > 0
		}
		if m.Replace && p.lost < m.Number {
			p.lost, p.assumed, p.replaced = 0, false, m.Number
		}
		// Readers know already of what is lost. Up to the floor, that is only possible: a message that turns up is kept.
		if frames[i] == nil || t != nil && t.has(m.Number) || m.Number <= p.lost && m.Number > h.floor {
			continue
		}
		if t == nil {
			t = h.open(name)
		}
		t.past = p
		h.insert(&message{number: m.Number, frame: frames[i], topic: t})
		h.shorten(t)
		if h.clean(t); lowest == 0 {
			lowest = m.Number
		}
	}
	h.trim()
	return lowest
}

// loseUpTo loses the messages of a topic up to that number.
func (h *History) loseUpTo(name string, number uint64) {
	for t := h.topics[name]; t != nil && len(t.messages) > 0 && t.messages[0].number <= number; {
		h.drop(t)
	}
	if t := h.topics[name]; t != nil && number > t.lost {
		h.lose(name, &t.past, number)
	} else if p := h.empty.past(name); t == nil && (number > p.lost || number > 0 && p.assumed) {
		h.lose(name, &p, number)
		h.remember(name, p)
	}
}

// Miss notes that readers of a topic that are below that number may have missed one of its messages.
func (h *History) Miss(name string, number uint64) {
	if t := h.topics[name]; t != nil {
		h.lose(name, &t.past, number)
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
	names := []string{string(pattern)}
	if pattern.IsWildcard() {
		names = nil
		h.below(pattern, func(t *topic) { names = append(names, t.name) })
		h.empty.below(pattern, func(t emptyTopic) bool {
			names = append(names, t.name)
			return true
		})
	}
	for _, name := range names {
		if needed(name) {
			continue
		}
		if t := h.topics[name]; t != nil {
			for len(t.messages) > 0 {
				h.remove(t)
			}
			h.close(t)
		}
		h.empty.remove(name)
	}
}

// LoseAll loses the messages of all topics up to that number, also of those that are not here.
func (h *History) LoseAll(number uint64) (dropped int) {
	for {
		first, some := h.order.Min()
		if !some || first.number > number {
			break
		}
		h.drop(first.topic)
		dropped++
	}
	h.floor = max(h.floor, number)
	h.empty.forgotten = max(h.empty.forgotten, number)
	return dropped
}
