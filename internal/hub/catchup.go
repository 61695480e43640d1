package hub

import (
	"slices"
	"time"
)

// maxScan is how many kept messages are looked at while the hub is locked. Without it, a client that
// comes back after a long time could keep all others waiting.
const maxScan = 512

// catchUp returns the next piece of what the subscriber missed, and the number of events in it. The piece is
// small enough to be written together with head bytes that come before it. When nothing is left, catchUp
// attaches the subscriber to its chain under the same lock, so that nothing is lost or doubled in between.
func (s *Subscriber) catchUp(head int) (data []byte, events int, err error) {
	frames, events, err := s.missed(head)
	if len(frames) == 1 {
		return frames[0], events, err // shared instead of copied: it may be large
	}
	return slices.Concat(frames...), events, err // copied while the hub is not locked
}

func (s *Subscriber) missed(size int) (frames [][]byte, events int, err error) {
	h := s.hub
	h.reading.Lock() // other readers wait here. If they waited for mu, a publisher would wait behind all of them
	defer h.reading.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	add := func(frame []byte) {
		frames = append(frames, frame)
		size += len(frame)
		events++
	}
	switch {
	case s.chain.missing > 0 && h.closed:
		return nil, 0, ErrClosed // a message that came live must not overtake those still to be loaded
	case s.chain.missing > 0:
		s.attach()
		return nil, 0, nil
	case s.epoch == 0 && s.after == "" && h.begins > 0:
		s.cursor, s.epoch = h.from, h.begins
		frames = append(frames, start(0, h.id(s.cursor)))
	case s.epoch < h.begins, s.cursor > h.highest() && s.overdue():
		first := s.epoch == 0
		gap := h.place(s)
		if first {
			frames = append(frames, start(0, h.id(s.cursor)))
		}
		if gap != nil {
			add(gap)
		}
	}
	if s.cursor <= h.highest() {
		s.ahead = time.Time{}
	}

	r := h.newReader(s)
	for {
		frame, number := r.next(s.cursor)
		if !s.ticked && !r.gap && len(h.tick) > 0 {
			add(h.tick)
		}
		s.ticked = s.ticked || !r.gap
		if frame == nil || !r.gap && size > 0 && size+len(frame) > maxPiece {
			break
		}
		add(frame)
		s.cursor = number
	}
	s.cursor = max(s.cursor, r.reach-1)
	s.chain.last = max(s.chain.last, min(s.cursor, h.last)) // a message that comes late is behind this subscriber, too
	if r.reach < r.limit {
		s.passed = r.passed(s.cursor)
		return frames, events, nil
	}
	s.passed = 0
	end := h.end(s.chain)
	switch ended := end > 0 && end <= s.cursor && s.ahead.IsZero(); {
	case len(frames) > 0 && (h.closed || ended):
		// The error comes next.
	case h.closed:
		return nil, 0, ErrClosed
	case ended:
		return nil, 0, ErrEnded
	default:
		s.pardon = 0
		s.attach()
	}
	return frames, events, nil
}

// overdue reports whether this replica has had its time to get as far as the subscriber.
func (s *Subscriber) overdue() bool { return !s.ahead.IsZero() && time.Now().After(s.ahead) }

// reader reads what the histories have for a set of topics, while the hub is locked.
type reader struct {
	hub       *Hub
	s         *Subscriber
	limit     uint64       // messages from here on come from the chain
	histories []*history   // for each name of the set
	lists     [][]*message // unread: one for each name or, if there is a wildcard, the one of all topics
	wildcard  bool
	scan      int    // how many messages may still be looked at
	reach     uint64 // everything below was returned, or is about to be
	gap       bool   // the frame that next returned last is a gap
	counted   uint64 // gaps that were returned count the lost messages up to here
	told      bool   // the losses before the limit were looked at
}

func (h *Hub) newReader(s *Subscriber) *reader {
	r := &reader{hub: h, s: s, limit: h.last + 1, scan: maxScan, reach: s.cursor + 1, counted: s.cursor}
	if s.chain.end.events > 0 {
		r.limit = s.chain.end.first
	}
	for _, f := range s.chain.follows {
		t := h.histories.of(f.topic.key)
		r.histories = append(r.histories, t)
		r.lists = append(r.lists, after(t.messages, s.cursor))
		r.wildcard = r.wildcard || IsWildcard(f.topic.key)
	}
	if r.wildcard {
		r.lists = [][]*message{after(h.histories.all, s.cursor)}
	}
	return r
}

// next returns the frame that comes after the cursor, a message or a gap, and its number. It returns nil if
// there is none, or if scan is used up, which leaves reach below the limit.
func (r *reader) next(cursor uint64) (frame []byte, number uint64) {
	m := r.peek(cursor)
	number, r.gap = r.lost(cursor)
	switch {
	case r.gap:
		missed, known := r.missed(number)
		r.counted, r.s.passed = number, 0
		return encodeGap(r.hub.id(number), missed, known), number
	case m == nil:
		return nil, 0
	}
	return m.frame, m.number
}

// peek returns the first message after the cursor.
func (r *reader) peek(cursor uint64) *message {
	for ; r.scan > 0; r.scan-- {
		first := -1
		for i, list := range r.lists {
			if len(list) > 0 && list[0].number < r.limit && (first < 0 || list[0].number < r.lists[first][0].number) {
				first = i
			}
		}
		if first < 0 {
			r.reach = max(r.reach, r.limit)
			return nil
		}
		m := r.lists[first][0]
		r.reach = m.number
		if m.number > cursor && m.frame != nil && (!r.wildcard || r.s.chain.has(m.history.key)) {
			return m
		}
		r.lists[first] = r.lists[first][1:]
		r.reach = m.number + 1
	}
	return nil
}

// lost returns the number of the last message that is lost between the cursor and reach, if there is one. One
// gap tells of all losses of a topic, at the place of the last one. If that place is still in the chain, the gap
// is at the last lost message before the chain. If that one is unknown, or the messages never came, the gap
// comes right before the chain.
func (r *reader) lost(cursor uint64) (number uint64, found bool) {
	for _, t := range r.histories {
		if t.gone <= cursor || t.losses <= r.s.pardon {
			continue
		}
		at := t.gone
		if at >= r.limit {
			at = t.lostBelow(r.reach)
		}
		switch {
		case cursor < at && at < r.reach:
			number, found = max(number, at), true
		case t.gone < r.limit || r.reach != r.limit || r.told:
		case t.unknown > r.counted && r.limit-1 > r.counted:
			number, found = r.limit-1, true
			if r.s.chain.end.events == 0 {
				r.s.pardon = r.hub.histories.losses // otherwise the same gap would come again and again
			}
		}
	}
	r.told = r.told || r.reach == r.limit
	return number, found
}

// missed returns how many messages up to that number are lost without the subscriber having been told, and
// whether that is known.
func (r *reader) missed(number uint64) (missed int, known bool) {
	missed, known = max(r.s.passed, 0), r.s.passed >= 0 && r.s.pardon == 0 && !r.wildcard
	for _, t := range r.histories {
		n, all := t.between(r.counted, number)
		missed += n
		known = known && all
	}
	return missed, known
}

// passed returns how many lost messages up to the cursor a later gap has to count, or -1 if that is unknown.
func (r *reader) passed(cursor uint64) int {
	missed, known := r.missed(cursor)
	switch later := func(t *history) bool { return t.gone > cursor && t.losses > r.s.pardon }; {
	case !slices.ContainsFunc(r.histories, later):
		return 0
	case !known:
		return -1
	}
	return missed
}
