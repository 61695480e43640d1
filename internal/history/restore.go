package history

import (
	"cmp"
	"iter"
	"slices"

	"gin-sse/internal/event"
)

// A log that survives a restart must keep more than the messages. Without what is here, the history would not know after
// the restart which messages it had lost before, and readers that miss them would get no gap.

// Changes are what such a log must note, since the last call of History.Changes.
type Changes struct {
	Last      uint64   // the messages up to this number are accounted for
	Dropped   []uint64 // numbers of messages that are no longer kept
	Topics    []Past   // topics of which something else is known now
	Forgotten uint64   // topics of which nothing is known may have lost messages up to this number
}

// Past is what must be noted of a topic beside its messages.
type Past struct {
	Topic string
	Lost  uint64 // the number of the latest message that it lost, or 0
	Ended uint64 // the number of its latest end, or 0
}

// Hole is numbers that a log has left out, because a copy of it may have given them. Both are in it.
type Hole struct{ First, Last uint64 }

// record collects what changes.
type record struct {
	dropped []uint64
	topics  map[string]bool // whose past has changed
}

// Restore begins an epoch with what a log kept from before a restart: everything that Changes ever returned, and the
// messages, with rising numbers. Messages above noted.Last came after the last Changes. The last number that was ever
// given is last. An id with a number in a hole is unknown. From then on, Changes returns what the log must note.
func (h *History) Restore(epoch string, last uint64, holes []Hole, noted Changes, messages iter.Seq[event.Message]) {
	h.Begin(epoch, noted.Forgotten)
	h.holes = holes
	h.record = &record{topics: map[string]bool{}}
	next, stop := iter.Pull(messages)
	defer stop()
	m, more := next()
	for ; more && m.Number <= noted.Last; m, more = next() {
		if frame := m.Frame(h.ID(m.Number)); frame != nil { // an end without an event is in noted
			t := h.open(m.Topic)
			h.note(t, event.Message{Number: m.Number, Replace: m.Replace})
			h.insert(&message{number: m.Number, frame: frame, topic: t})
		}
	}
	slices.SortFunc(noted.Topics, func(a, b Past) int { return cmp.Compare(a.Lost, b.Lost) })
	for _, n := range noted.Topics {
		if event.CheckTopic(n.Topic) != nil { // earlier versions noted wildcards, too
			continue
		}
		t := h.open(n.Topic)
		t.ended = n.Ended
		if n.Lost > 0 {
			h.lose(t, n.Lost)
		}
		if len(t.messages) == 0 {
			h.remember(t)
		}
	}
	for _, t := range h.topics {
		h.shorten(t)
	}
	h.trim()
	for _, t := range h.topics {
		h.clean(t)
	}
	for ; more; m, more = next() {
		h.Add(m, m.Frame(h.ID(m.Number)))
	}
	h.last = last
}

// Changes returns what the log must note before the next restart. A history that was not restored returns nothing.
func (h *History) Changes() Changes {
	if h.record == nil {
		return Changes{}
	}
	changes := Changes{Last: h.last, Dropped: h.record.dropped, Forgotten: h.empty.forgotten}
	for name := range h.record.topics {
		p := Past{Topic: name}
		if t := h.topics[name]; t != nil {
			p.Lost, p.Ended = t.lost, t.ended
		}
		changes.Topics = append(changes.Topics, p)
	}
	h.record.dropped = nil
	if len(h.record.topics) > 1000 {
		h.record.topics = map[string]bool{} // a map never shrinks
	}
	clear(h.record.topics)
	return changes
}

// change records that the past of a topic has changed.
func (r *record) change(name string) {
	if r != nil {
		r.topics[name] = true
	}
}

// drop records that a message is no longer kept.
func (r *record) drop(number uint64) {
	if r != nil {
		r.dropped = append(r.dropped, number)
	}
}
