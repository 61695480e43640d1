package history

import (
	"math"
	"slices"

	"gin-sse/internal/event"
)

// MaxPiece is how many bytes are read at once, unless a single message is larger.
const MaxPiece = 16 << 10

const (
	scanAtOnce = 512 // topics, or messages of all topics, that a wildcard looks at in one Read
	fewTopics  = 64  // if no more have something for the cursor, they are read one by one, otherwise all messages are
)

// Cursor is a position in the messages of a set of topics. It belongs to one goroutine.
type Cursor struct {
	Topics event.Topics
	Number uint64 // everything up to here was read, or told of as lost
	Gaps   uint64 // how many gaps it was told of by Read
	begin  *begin // nil once it has read what was there when it was made
}

// Move goes to where another cursor of the same topics is. These stay untouched, so that others may read them meanwhile.
func (c *Cursor) Move(to Cursor) { c.Number, c.Gaps, c.begin = to.Number, to.Gaps, to.begin }

// CaughtUp reports whether the cursor has read what was there when it was made.
func (c *Cursor) CaughtUp() bool { return c.begin == nil }

// begin is what a cursor must know until it has read what was there when it was made.
type begin struct {
	until  uint64 // the newest message then
	lost   uint64 // a loss that it must be told of beside those of its topics: of what was unknown then, or of a wildcard
	shown  bool   // it reads only what was shown then: at most so many messages of each topic as are kept, ...
	hidden uint64 // ... and none up to this number
	latest bool   // of what was shown, it reads only the newest message of each topic
	empty  uint64 // for wildcards: the latest loss of a topic that had no message left then, ...
	losses int    // ... and how many losses there had been
}

// After returns a cursor that reads what came after that number.
func (h *History) After(topics event.Topics, number uint64) Cursor {
	c := Cursor{Topics: topics, Number: number}
	if number < h.last {
		c.begin = &begin{until: h.last}
		for pattern := range topics.Patterns() {
			if t := h.topics[string(pattern)]; t != nil {
				c.begin.lost = max(c.begin.lost, t.unknown)
			} else {
				c.begin.lost = h.empty.forgotten
			}
		}
	}
	return c
}

// Earliest returns a cursor that reads everything that is kept.
func (h *History) Earliest(topics event.Topics) Cursor {
	c := h.After(topics, 0)
	if c.begin != nil {
		c.begin.shown, c.begin.hidden = true, h.hidden
	}
	return c
}

// Latest returns a cursor that reads the newest message of each topic, and then what comes from now on.
func (h *History) Latest(topics event.Topics) Cursor {
	c := h.Earliest(topics)
	if c.begin == nil {
		return c
	}
	c.begin.latest, c.begin.lost, c.begin.losses = true, 0, h.losses(topics)
	for pattern := range topics.Patterns() {
		if !pattern.IsWildcard() {
			continue
		}
		looked, newest := 0, uint64(0)
		below(h.empty.topics, pattern, func(t *topic) bool {
			looked++
			newest = max(newest, t.lost)
			return looked <= scanAtOnce
		})
		if looked > scanAtOnce { // of very many, assume that one of them lost the latest
			newest = h.watch[pattern].lost
		}
		c.begin.empty = max(c.begin.empty, newest)
	}
	return c
}

// losses returns how many losses of the set's wildcards there were.
func (h *History) losses(topics event.Topics) (n int) {
	for pattern := range topics.Patterns() {
		n += h.watch[pattern].losses
	}
	return n
}

// SkipLost moves a cursor over the losses before its next message.
func (h *History) SkipLost(c *Cursor) {
	h.Read(c, 1) // there is no room for a message
}

// Misses reports whether messages after the cursor are lost that it has not been told of yet.
func (h *History) Misses(c *Cursor) bool {
	for pattern := range c.Topics.Patterns() {
		if h.loss(c, pattern) > c.Number {
			return true
		}
	}
	return false
}

// AllEnded reports whether all topics of a set have ended. A wildcard never ends.
func (h *History) AllEnded(topics event.Topics) bool {
	for pattern := range topics.Patterns() {
		if !h.Ended(string(pattern)) {
			return false
		}
	}
	return true
}

// Read returns what comes next, messages and gaps, and moves the cursor. It returns at most room bytes, unless a single
// message is larger than that and comes first. more says that there is more to read, perhaps even if nothing was
// returned. The bytes are shared and must not be changed.
func (h *History) Read(c *Cursor, room int) (data []byte, events int, more bool) {
	var list []*message
	sources, simple := 0, c.begin == nil || c.begin.lost <= c.Number
	for pattern := range c.Topics.Patterns() {
		simple = simple && !pattern.IsWildcard() && (c.begin == nil && c.Number >= h.lost || h.loss(c, pattern) <= c.Number)
		if !simple {
			break
		}
		if rest := h.rest(c, h.topics[string(pattern)]); len(rest) > 0 {
			list = rest
			sources++
		}
	}
	switch {
	case !simple || sources > 1:
		data, events, more = h.merge(c, room)
	case sources == 1:
		data, events, more = h.take(c, list, room)
	}
	if c.begin != nil && (!more || c.Number >= max(c.begin.until, c.begin.lost)) {
		c.Number, c.begin = max(c.Number, c.begin.until), nil // nothing of these topics is left up to there
	}
	return data, events, more
}

// loss returns the number of the latest loss of a pattern, as far as this cursor has to be told.
func (h *History) loss(c *Cursor, pattern event.Pattern) uint64 {
	b := c.begin
	if !pattern.IsWildcard() {
		t := h.topics[string(pattern)]
		if t == nil {
			return 0
		}
		_, told := h.withheld(c, t)
		if b != nil && b.latest && t.lost <= b.until && len(t.messages) > 0 && t.messages[0].number <= b.until {
			return told // not of what came before its newest message
		}
		return max(told, t.lost)
	}
	if b != nil && b.latest && h.losses(c.Topics) == b.losses {
		return b.empty
	}
	return h.watch[pattern].lost
}

// withheld returns how many of a topic's first messages the cursor must not read, and the number of the last one of them
// if it has to be told that it does not get it.
func (h *History) withheld(c *Cursor, t *topic) (n int, told uint64) {
	b := c.begin
	if b == nil || !b.shown {
		return 0, 0
	}
	then := len(t.messages) - len(t.after(b.until))
	n = max(0, then-h.limits.PerTopic, min(then, len(t.messages)-len(t.after(b.hidden))))
	switch {
	case b.latest && n < then:
		return then - 1, 0
	case n > 0:
		return n, t.messages[n-1].number
	}
	return 0, 0
}

// rest returns what the cursor may still read of a topic.
func (h *History) rest(c *Cursor, t *topic) []*message {
	rest := t.after(c.Number)
	if len(rest) > 0 && c.begin != nil {
		n, _ := h.withheld(c, t)
		return t.messages[max(n, len(t.messages)-len(rest)):]
	}
	return rest
}

// piece is several messages of one topic in one.
type piece struct {
	topic       *topic
	first, last uint64 // numbers
	events      int
	data        []byte
}

// take reads the messages of a single topic.
func (h *History) take(c *Cursor, list []*message, room int) (data []byte, events int, more bool) {
	first, last := list[0], list[len(list)-1].number
	if len(first.frame) > room && room < MaxPiece {
		return nil, 0, true
	}
	if len(list) == 1 {
		c.Number = last
		return first.frame, 1, false
	}
	shared := &h.pieces[first.number%uint64(len(h.pieces))]
	p := shared.Load()
	if p == nil || p.topic != first.topic || p.first != first.number || len(p.data) > room || p.last < last && len(p.data) < room/2 {
		p = join(list, room)
		if p.events > 1 {
			shared.Store(p)
		}
	}
	c.Number = p.last
	return p.data, p.events, p.last < last
}

// join makes a piece of the first messages of a list.
func join(list []*message, room int) *piece {
	size, n := len(list[0].frame), 1
	for n < len(list) && size+len(list[n].frame) <= room {
		size += len(list[n].frame)
		n++
	}
	p := &piece{topic: list[0].topic, first: list[0].number, last: list[n-1].number, events: n}
	if n == 1 {
		p.data = list[0].frame // shared instead of copied: it may be large
		return p
	}
	p.data = make([]byte, 0, size)
	for _, m := range list[:n] {
		p.data = append(p.data, m.frame...)
	}
	return p
}

// reading is one Read of several topics, or with a gap in it.
type reading struct {
	c      *Cursor
	id     func(number uint64) string
	room   int
	frames [][]byte
	size   int
	full   bool
	losses []uint64 // of which the cursor was not told
}

// merge reads several topics, in the order of their messages, and tells of what is lost.
func (h *History) merge(c *Cursor, room int) (data []byte, events int, more bool) {
	r := &reading{c: c, id: h.ID, room: room}
	if c.begin != nil {
		r.lose(c.begin.lost)
	}
	var lists [][]*message
	near := h.last-c.Number < fewTopics         // there is little to look through
	wild, looked, latest := false, 0, uint64(0) // latest is the latest loss of wildcards
	for pattern := range c.Topics.Patterns() {
		lost := h.loss(c, pattern)
		r.lose(lost)
		if !pattern.IsWildcard() {
			if list := h.rest(c, h.topics[string(pattern)]); len(list) > 0 {
				lists = append(lists, list)
			}
			continue
		}
		if wild, latest = true, max(latest, lost); near {
			continue
		}
		below(h.names, pattern, func(t *topic) bool {
			_, told := h.withheld(c, t)
			r.lose(told)
			if list := h.rest(c, t); len(list) > 0 {
				lists = append(lists, list)
			}
			looked++
			return looked < scanAtOnce && len(lists) <= fewTopics
		})
	}
	switch {
	case wild && (near || looked >= scanAtOnce || len(lists) > fewTopics):
		more = h.scan(r)
	case len(lists) == 1 && len(r.losses) == 0:
		return h.take(c, lists[0], room)
	default:
		more = r.zip(lists)
	}
	if more && latest > c.Number { // it stands for others as well, even if a message takes the place of what was lost last
		if c.begin == nil {
			c.begin = &begin{until: c.Number}
		}
		c.begin.lost = max(c.begin.lost, latest)
	}
	if len(r.frames) == 1 {
		return r.frames[0], 1, more
	}
	return slices.Concat(r.frames...), len(r.frames), more
}

// lose adds a loss of which the cursor has to be told.
func (r *reading) lose(number uint64) {
	if number > r.c.Number {
		r.losses = append(r.losses, number)
	}
}

// gap tells of the losses before the message with that number, unless there is no room for it.
func (r *reading) gap(next uint64) {
	at := uint64(0)
	for _, lost := range r.losses {
		if lost > r.c.Number && lost <= next {
			at = max(at, min(lost, next-1)) // a log may know only that it is before another one
		}
	}
	if at > 0 {
		frame := event.Gap(r.id(at))
		if r.full = r.size > 0 && r.size+len(frame) > r.room; r.full {
			return
		}
		r.frames, r.size, r.c.Number = append(r.frames, frame), r.size+len(frame), at
		r.c.Gaps++
	}
}

// message adds a message, unless there is no room for it.
func (r *reading) message(m *message) {
	if r.gap(m.number); r.full {
		return
	}
	if r.size+len(m.frame) > r.room && (r.size > 0 || r.room < MaxPiece) {
		r.full = true
		return
	}
	r.frames, r.size, r.c.Number = append(r.frames, m.frame), r.size+len(m.frame), m.number
}

// zip reads the lists of several topics in the order of their messages.
func (r *reading) zip(lists [][]*message) (more bool) {
	for !r.full {
		first := -1
		for i, list := range lists {
			if len(list) > 0 && (first < 0 || list[0].number < lists[first][0].number) {
				first = i
			}
		}
		if first < 0 {
			r.gap(math.MaxUint64)
			break
		}
		r.message(lists[first][0])
		lists[first] = lists[first][1:]
	}
	return r.full
}

// scan looks through the messages of all topics, in their order, and reads those of the set.
func (h *History) scan(r *reading) (more bool) {
	left, at := scanAtOnce, r.c.Number // everything up to there was looked at
	h.order.AscendGreaterOrEqual(&message{number: at + 1}, func(m *message) bool {
		if more = left == 0; more {
			return false
		}
		left--
		if m.topic != nil && r.c.Topics.Match(m.topic.name) {
			n, told := h.withheld(r.c, m.topic)
			if m.number == told {
				r.lose(told)
			} else if n == 0 || n < len(m.topic.messages) && m.number >= m.topic.messages[n].number {
				r.message(m)
			}
		}
		if !r.full {
			at = m.number
		}
		return !r.full
	})
	if !more && !r.full {
		r.gap(math.MaxUint64)
	} else if more {
		if r.gap(at + 1); !r.full {
			r.c.Number = max(r.c.Number, at)
		}
	}
	return more || r.full
}
