package history

import (
	"gin-sse/internal/event"
)

// A log that several servers share has the messages of many topics that nobody reads here. It fills in those of a topic
// when they are needed, and has them forgotten afterwards.

// Fill adds messages of a topic that came before others that are here already, and notes that those up to lost are lost.
// Those of all topics of a wildcard are, if its name is given instead.
// Messages that are here already are left out. Fill returns the lowest number that it added, or 0.
func (h *History) Fill(name string, lost uint64, messages []event.Message, frames [][]byte) (lowest uint64) {
	for i := range h.pieces {
		h.pieces[i].Store(nil)
	}
	if pattern := event.Pattern(name); pattern.IsWildcard() {
		h.watch[pattern] = max(h.watch[pattern], lost)
		return 0
	}
	for t := h.topics[name]; t != nil && len(t.messages) > 0 && t.messages[0].number <= lost; {
		h.drop(t)
	}
	if t := h.topics[name]; t != nil && lost > t.lost {
		h.lose(name, &t.past, lost)
	} else if p := h.empty.past(name); t == nil && (lost > p.lost || lost > 0 && p.assumed) {
		h.lose(name, &p, lost)
		h.remember(name, p)
	}
	for i, m := range messages {
		if m.Replace {
			h.replace(name, m.Number)
		}
		if m.End {
			h.end(name, m.Number)
		}
		if frames[i] == nil {
			continue
		}
		t := h.topics[name]
		if t == nil {
			t = h.open(name)
			if t.assumed { // not as much as of a topic that the log did not look at
				t.lost, t.assumed = h.floor, h.floor > 0
			}
		}
		if t.has(m.Number) || m.Number <= t.lost && m.Number > h.floor {
			continue
		}
		h.insert(&message{number: m.Number, frame: frames[i], topic: t})
		h.shorten(t)
		if h.clean(t); lowest == 0 {
			lowest = m.Number
		}
	}
	h.trim()
	return lowest
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
		h.empty.below(pattern, func(t emptyTopic) { names = append(names, t.name) })
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
