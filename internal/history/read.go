package history

import (
	"math"
	"slices"

	"gin-sse/internal/event"
)

// MaxPiece is how many bytes are read at once, unless a single message is larger.
const MaxPiece = 16 << 10

const (
	scanAtOnce = 512 // messages of all topics that a wildcard looks at in one Read
	scanSparse = 64  // after so many that do not match, it looks in the index where the next one is
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

// begin is what a cursor must know until it has read what was there when it was made.
type begin struct {
	until     uint64 // the newest message then
	forgotten uint64 // topics that were unknown then may have lost messages up to this number
	shown     bool   // it reads only what was shown then: at most that many messages of each topic, ...
	hidden    uint64 // ... and none up to this number
	latest    bool   // of what was shown, it reads only the newest message of each topic
	empty     uint64 // for wildcards: the latest loss of a topic that had no message left then, ...
	losses    int    // ... and how many losses there had been
	matched   int    // how many topics a wildcard matched when it last looked in the index
}

// After returns a cursor that reads what came after that number.
func (h *History) After(topics event.Topics, number uint64) Cursor {
	c := Cursor{Topics: topics, Number: number}
	if number < h.last {
		c.begin = &begin{until: h.last, forgotten: h.empty.forgotten}
	}
	return c
}

// Earliest returns a cursor that reads everything that is kept.
func (h *History) Earliest(topics event.Topics) Cursor {
	return Cursor{Topics: topics, begin: &begin{until: h.last, forgotten: h.empty.forgotten, shown: true, hidden: h.hidden}}
}

// Latest returns a cursor that reads the newest message of each topic, and then what comes from now on.
func (h *History) Latest(topics event.Topics) Cursor {
	c := h.Earliest(topics)
	c.begin.latest, c.begin.forgotten = true, 0
	for pattern := range topics.Patterns() {
		if pattern.IsWildcard() {
			w, looked := h.watch[pattern], 0
			h.empty.below(pattern, func(t emptyTopic) bool {
				if looked++; looked > scanAtOnce { // of very many, assume that one of them lost the latest
					c.begin.empty = max(c.begin.empty, w.lost)
				} else if !t.assumed {
					c.begin.empty = max(c.begin.empty, t.lost)
				}
				return looked <= scanAtOnce
			})
		}
	}
	c.begin.losses = h.losses(topics)
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
		if pattern.IsWildcard() || !h.Ended(string(pattern)) {
			return false
		}
	}
	return true
}

// Read returns what comes next, messages and gaps, and moves the cursor. It returns at most room bytes, unless a single
// message is larger than that and comes first. more says that there is more to read, perhaps even if nothing was
// returned. The bytes are shared and must not be changed.
func (h *History) Read(c *Cursor, room int) (data []byte, events int, more bool) {
	var t *topic
	var list []*message
	sources, simple := 0, true
	for pattern := range c.Topics.Patterns() {
		if pattern.IsWildcard() {
			simple = false
			break
		}
		if (c.begin != nil || c.Number < h.lost) && h.loss(c, pattern) > c.Number {
			simple = false
			break
		}
		if found := h.topics[string(pattern)]; found != nil {
			if rest := h.list(c, found, c.Number); len(rest) > 0 {
				t, list = found, rest
				sources++
			}
		}
	}
	switch {
	case !simple || sources > 1:
		data, events, more = h.merge(c, room)
	case sources == 1:
		data, events, more = h.take(c, t, list, room)
	}
	if !more && c.begin != nil && c.Number >= c.begin.until {
		c.begin = nil
	} else if !more && c.begin != nil {
		c.Number, c.begin = c.begin.until, nil // nothing of these topics is left up to there
	}
	return data, events, more
}

// loss returns the number of the latest loss of a pattern, as far as this cursor has to be told.
func (h *History) loss(c *Cursor, pattern event.Pattern) uint64 {
	b := c.begin
	if pattern.IsWildcard() {
		switch w := h.watch[pattern]; {
		case b == nil || b.latest && h.losses(c.Topics) != b.losses: // something was lost since
			return w.lost
		case b.latest:
			return b.empty
		default:
			return max(w.lost, b.forgotten)
		}
	}
	t := h.topics[string(pattern)]
	if t == nil {
		p := h.empty.past(string(pattern))
		switch {
		case !p.assumed:
			return p.lost
		case b != nil:
			return b.forgotten
		}
		return 0
	}
	switch first, then := h.firstShown(c, t), h.before(c, t); {
	case b != nil && b.latest && first < then && t.lost <= b.until: // its newest message is there
		return 0
	case first > 0:
		return t.messages[first-1].number
	case t.assumed && (b == nil || b.latest):
		return 0
	}
	return t.lost
}

// before returns how many of the topic's messages were there when the cursor was made.
func (h *History) before(c *Cursor, t *topic) int {
	if c.begin == nil {
		return 0
	}
	return len(t.messages) - len(t.after(c.begin.until))
}

// firstShown returns the index of the topic's first message that this cursor may read.
func (h *History) firstShown(c *Cursor, t *topic) int {
	if c.begin == nil || !c.begin.shown {
		return 0
	}
	then := h.before(c, t)
	first := max(0, then-h.limits.PerTopic, min(then, len(t.messages)-len(t.after(c.begin.hidden))))
	if c.begin.latest {
		first = max(first, then-1)
	}
	return first
}

// piece is several messages of one topic in one.
type piece struct {
	topic       *topic
	first, last uint64 // numbers
	events      int
	data        []byte
}

// take reads the messages of a single topic.
func (h *History) take(c *Cursor, t *topic, list []*message, room int) (data []byte, events int, more bool) {
	if len(list[0].frame) > room && room < MaxPiece {
		return nil, 0, true
	}
	if len(list) == 1 {
		c.Number = list[0].number
		return list[0].frame, 1, false
	}
	shared := &h.pieces[list[0].number%uint64(len(h.pieces))]
	p := shared.Load()
	if p == nil || p.topic != t || p.first != list[0].number || len(p.data) > room || p.last < list[len(list)-1].number && len(p.data) < room/2 {
		p = join(t, list, room)
		if p.events > 1 {
			shared.Store(p)
		}
	}
	c.Number = p.last
	return p.data, p.events, p.last < list[len(list)-1].number
}

// join makes a piece of the first messages of a list.
func join(t *topic, list []*message, room int) *piece {
	size, n := len(list[0].frame), 1
	for n < len(list) && size+len(list[n].frame) <= room {
		size += len(list[n].frame)
		n++
	}
	p := &piece{topic: t, first: list[0].number, last: list[n-1].number, events: n}
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
	*History
	c      *Cursor
	room   int
	frames [][]byte
	size   int
	full   bool
	losses []uint64 // that the cursor was not told of
}

// merge reads several topics, in the order of their messages, and tells of what is lost.
func (h *History) merge(c *Cursor, room int) (data []byte, events int, more bool) {
	r := &reading{History: h, c: c, room: room}
	var lists [][]*message
	var wildcards []event.Pattern
	for pattern := range c.Topics.Patterns() {
		if lost := h.loss(c, pattern); lost > c.Number {
			r.losses = append(r.losses, lost)
		}
		if pattern.IsWildcard() {
			wildcards = append(wildcards, pattern)
		} else if list := h.list(c, h.topics[string(pattern)], c.Number); len(list) > 0 {
			lists = append(lists, list)
		}
	}
	if len(wildcards) > 0 {
		more = r.scan(wildcards)
	} else {
		more = r.zip(lists)
	}
	if len(r.frames) == 1 {
		return r.frames[0], 1, more
	}
	return slices.Concat(r.frames...), len(r.frames), more
}

// list returns what the cursor may read of a topic after that number.
func (h *History) list(c *Cursor, t *topic, number uint64) []*message {
	if t == nil {
		return nil
	}
	list := t.after(number)
	if i := h.firstShown(c, t); i > len(t.messages)-len(list) {
		return t.messages[i:]
	}
	return list
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
		frame := event.Gap(r.ID(at))
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

// scan reads the messages of all topics, in their order, and picks those of the set. Where few of them match, it looks
// in the index which topic has the next one.
func (r *reading) scan(wildcards []event.Pattern) (more bool) {
	c := r.c
	at := c.Number // everything up to here was looked at
	left, misses := scanAtOnce, 0
	sparse := scanAtOnce // a cursor that keeps up has not far to go
	if c.begin != nil {
		sparse = max(scanSparse, c.begin.matched)
	}
	for done := !r.hasAny(wildcards); !done && !r.full; {
		done = true
		r.order.AscendGreaterOrEqual(&message{number: at + 1}, func(m *message) bool {
			if left == 0 || misses == sparse {
				done = false
				return false
			}
			left--
			misses++
			if r.matches(wildcards, m.topic.name) && r.pick(m) {
				misses = 0
			}
			if !r.full {
				at = m.number
			}
			return !r.full
		})
		switch {
		case r.full || done:
		case left == 0:
			if r.gap(at + 1); !r.full {
				c.Number = max(c.Number, at)
			}
			return true
		default:
			next, matched := r.nextOf(wildcards, at)
			if c.begin != nil {
				c.begin.matched = matched
			}
			misses, sparse = 0, max(scanSparse, matched)
			if done = next == math.MaxUint64; !done {
				at = next - 1
			}
		}
	}
	if !r.full {
		r.gap(math.MaxUint64)
	}
	return r.full
}

// hasAny reports whether any topic of the set has messages.
func (r *reading) hasAny(wildcards []event.Pattern) (found bool) {
	for _, pattern := range wildcards {
		r.while(pattern, func(*topic) bool {
			found = true
			return false
		})
	}
	for pattern := range r.c.Topics.Patterns() {
		found = found || r.topics[string(pattern)] != nil
	}
	return found
}

// pick adds a message of the set or, if the cursor must not read it, the loss of it. It reports whether it is one of the
// two.
func (r *reading) pick(m *message) bool {
	first := r.firstShown(r.c, m.topic)
	switch {
	case first == 0 || first < len(m.topic.messages) && m.number >= m.topic.messages[first].number:
		r.message(m)
	case r.isLoss(m.topic, first) && m == m.topic.messages[first-1]:
		r.losses = append(r.losses, m.number)
	default:
		return false
	}
	return true
}

// isLoss reports whether the cursor must be told that it does not get the message before the first one of a topic: the
// newest one of many is all that some ask for.
func (r *reading) isLoss(t *topic, first int) bool {
	return first > 0 && (!r.c.begin.latest || first == r.before(r.c, t))
}

func (r *reading) matches(wildcards []event.Pattern, name string) bool {
	for _, pattern := range wildcards {
		if pattern.Matches(name) {
			return true
		}
	}
	for pattern := range r.c.Topics.Patterns() {
		if string(pattern) == name {
			return true
		}
	}
	return false
}

// nextOf returns the number of the first message of the set after that number, and how many topics were looked at. Of very
// many topics it looks at some: then their messages are not far from each other.
func (r *reading) nextOf(wildcards []event.Pattern, number uint64) (next uint64, looked int) {
	next = math.MaxUint64
	see := func(t *topic) bool {
		looked++
		rest := t.after(number)
		if first := r.firstShown(r.c, t); first > 0 { // whatever is before that makes one gap at most
			from := first
			if r.isLoss(t, first) {
				from--
			}
			rest = t.messages[max(from, len(t.messages)-len(rest)):]
		}
		if len(rest) > 0 {
			next = min(next, rest[0].number)
		}
		return looked < scanAtOnce
	}
	for _, pattern := range wildcards {
		r.while(pattern, see)
	}
	if looked >= scanAtOnce {
		return number + 1, looked
	}
	for pattern := range r.c.Topics.Patterns() {
		if t := r.topics[string(pattern)]; t != nil {
			see(t)
		}
	}
	return next, looked
}
