package hub

import (
	"cmp"
	"iter"
	"slices"
)

// A log that survives a restart must keep more than the messages. Without what is here, the hub would not know after
// the restart which messages it had dropped before, and clients that miss them would get no gap.

// Changes are what a log that keeps messages for a restart must note, since the last call of Hub.Changes.
type Changes struct {
	Last      uint64   // the messages up to this number are accounted for
	Dropped   []uint64 // numbers of messages that are no longer kept
	Histories []History
	Floor     uint64 // messages of any topic up to this number may be lost
}

// History is what must be noted of a topic, or of a wildcard, beside its messages.
type History struct {
	Key   string // of any form, even empty
	Gone  uint64 // the highest number of a lost message; 0 if that is not above Changes.Floor
	Ended uint64 // number of the message that ended the topic, or 0
}

// known reports whether there is something to note.
func (t History) known() bool { return t.Gone > 0 || t.Ended > 0 }

// record collects what changes in histories.
type record struct {
	dropped []uint64
	changed map[string]History // what was noted last of each history that has changed
}

// Restore begins an epoch with what a log kept from before a restart: everything that Changes ever returned, and the
// messages, with rising numbers. Messages above noted.Last came after the last Changes. The last number that was ever
// given is last. Subscribers get no gap for the restart. From then on Changes returns what the log must note.
//
// The error is about data that is not JSON, or ErrClosed.
func (h *Hub) Restore(epoch string, last uint64, noted Changes, messages iter.Seq[Message]) error {
	h.Begin(epoch, 0, 0)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return ErrClosed
	}
	k := newHistories(h.limits, noted.Floor)
	k.record = &record{changed: map[string]History{}}
	h.histories = k
	next, stop := iter.Pull(messages)
	defer stop()
	m, more := next()
	for ; more && m.Number <= noted.Last; m, more = next() {
		if m.endsSilently() {
			continue // its end is in noted
		}
		frame, err := encodeMessage(h.id(m.Number), m)
		if err != nil {
			return err
		}
		k.keep(k.open(m.Topic), m.Number, frame)
	}
	for _, t := range slices.SortedFunc(slices.Values(noted.Histories), func(a, b History) int { return cmp.Compare(a.Gone, b.Gone) }) {
		k.restore(t)
	}
	for _, m := range slices.Clone(k.all) {
		for len(m.history.messages) > k.limits.History {
			k.drop(m.history)
		}
	}
	k.trim()
	for ; more; m, more = next() {
		if m.endsSilently() {
			k.end(m.Topic, m.Number)
			continue
		}
		frame, err := encodeMessage(h.id(m.Number), m)
		if err != nil {
			return err
		}
		k.add(m, frame)
	}
	h.last = last
	return nil
}

// restore sets what was noted of a history.
func (k *histories) restore(noted History) {
	t := k.open(noted.Key)
	t.noted, t.ended = noted, noted.Ended
	if noted.Gone > t.gone {
		k.losses++
		t.gone, t.unknown, t.losses = noted.Gone, noted.Gone, k.losses
	}
	k.settle(t)
}

// Changes returns what the log must note before the next restart. A hub that was not restored returns nothing.
func (h *Hub) Changes() Changes {
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.histories
	if k.record == nil {
		return Changes{}
	}
	changes := Changes{Last: h.last, Dropped: k.record.dropped, Floor: k.other.gone}
	for key, before := range k.record.changed {
		now := History{Key: key}
		if t := k.topics[key]; t != nil {
			now.Ended = t.ended
			if t.gone > k.other.gone {
				now.Gone = t.gone
			}
			t.noted = now
		}
		if now.known() && now != before || before.known() && !now.known() {
			changes.Histories = append(changes.Histories, now)
		}
	}
	k.record.dropped = nil
	if len(k.record.changed) > 1000 {
		k.record.changed = map[string]History{} // a map never shrinks
	}
	clear(k.record.changed)
	return changes
}

// note records that a history has changed, or is forgotten.
func (r *record) note(t *history) {
	if r == nil {
		return
	}
	if _, known := r.changed[t.key]; !known {
		r.changed[t.key] = t.noted
	}
}

// drop records that a message is no longer kept.
func (r *record) drop(number uint64) {
	if r != nil {
		r.dropped = append(r.dropped, number)
	}
}
