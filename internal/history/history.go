// Package history keeps the latest messages of all topics, and hands them over from any position on.
//
// A position is a number: a reader has everything up to it. What comes next for a set of topics is found in the lists
// of its topics or, for a wildcard of many topics, in the order of all messages. So a reader that was away and one that
// is up to date go the same way, and need nothing but that number and their set: together, a Cursor.
//
// Limits are for messages. Of each topic the latest few are shown to a reader that asks for everything that is kept,
// and of all topics together as many bytes as there is room for; the oldest are hidden first. The latest 8 MiB stay
// behind the scenes, whatever the limits are, for readers that are connected or were just now. So a reader loses a
// message only if it is itself more than 8 MiB behind.
//
// A loss is a fact, not a count. Each topic knows the number of the latest message that it lost. A reader whose
// position is below that number gets a gap where that message stood, and goes on from there. A topic that has lost all
// its messages is remembered by its name and that number, for as long as there is room: much more room than a client
// will notice. When even that is forgotten, the highest such number stands for all topics that are unknown, so that a
// reader from before it is told of a gap that may be none.
package history

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/google/btree"

	"gin-sse/internal/event"
)

const (
	defaultWindow = 8 << 20

	messageCost = 96  // bytes that a message takes beside its frame
	topicCost   = 256 // bytes that a topic with messages takes beside its name and its messages

	degree      = 32   // of the ordered indexes
	idleWatches = 1000 // wildcards that nothing reads
)

// Limits bound what a reader can get that asks for everything that is kept.
type Limits struct {
	PerTopic int   // messages of each topic
	Bytes    int64 // of all messages together, including what it costs to keep them
	Window   int64 // bytes of the latest messages that stay whatever the other limits are; 0 is 8 MiB
}

// History has the messages of one epoch. Reading may happen from any number of goroutines at the same time, and nothing
// else meanwhile: the hub's lock sees to that.
type History struct {
	limits Limits
	epoch  string
	last   uint64                    // the highest number so far
	topics map[string]*topic         // those of which anything is known
	names  *btree.BTreeG[*topic]     // those of them that have messages, by name
	order  *btree.BTreeG[*message]   // all messages, by number, and those in gone
	gone   []*message                // have left their topics, and will be taken out of order
	bytes  int64                     // of the messages that are shown
	total  int64                     // of all messages
	shown  int                       // how many these are
	hidden uint64                    // messages up to this number are hidden, because there is no room for them
	recent uint64                    // messages above this number are in the window
	young  int64                     // bytes of the window
	holes  []Hole                    // that the log remembers
	floor  uint64                    // messages of any topic up to this number may be lost, as the log says
	lost   uint64                    // the highest number that any topic has lost
	empty  emptied                   // topics that have no messages, but a past
	watch  map[event.Pattern]watch   // for each wildcard that is read, or was
	keep   func(topic string) bool   // whether a topic is read, so that its past must not be forgotten
	pieces [64]atomic.Pointer[piece] // shared by readers that need the same
	record *record                   // what changes, for a log that survives a restart; otherwise nil
}

// topic is what is known of a topic.
type topic struct {
	name     string
	messages []*message // with rising numbers
	shown    int32      // so many of the last ones are shown to readers that ask for all that is kept
	queued   int32      // how often it stands in emptied.queue
	lost     uint64     // messages up to this number may be lost
	unknown  uint64     // so may those up to this number, because nothing was known of the topic then
	ended    uint64     // number of its latest end, or 0; the topic goes on if a message came after that
	replaced uint64     // number of the latest message that took the place of those before it, or 0
}

// watch is what is known of the topics of a wildcard.
type watch struct {
	lost   uint64 // the number of their latest loss
	losses int    // how many there were
}

// message is a kept message.
type message struct {
	number uint64
	frame  []byte // shared, never changed
	topic  *topic
	hidden bool
}

// New returns an empty history. Topics for which keep is true are never forgotten altogether.
func New(limits Limits, keep func(topic string) bool) *History {
	if limits.Window == 0 {
		limits.Window = defaultWindow
	}
	h := &History{limits: limits, keep: keep, watch: map[event.Pattern]watch{}}
	h.Begin("", 0)
	return h
}

// Begin begins an epoch. It drops everything. Messages of any topic up to that number may be lost.
func (h *History) Begin(epoch string, lost uint64) {
	h.epoch, h.last, h.floor, h.holes, h.topics = epoch, lost, lost, nil, map[string]*topic{}
	h.names = byName()
	h.order = btree.NewG(degree, func(a, b *message) bool { return a.number < b.number })
	h.gone, h.bytes, h.total, h.shown, h.hidden, h.recent, h.young, h.lost = nil, 0, 0, 0, 0, 0, 0, 0
	h.empty = emptied{topics: byName(), room: emptyBytes, forgotten: lost}
	for pattern := range h.watch {
		h.watch[pattern] = watch{}
	}
	for i := range h.pieces {
		h.pieces[i].Store(nil)
	}
}

func byName() *btree.BTreeG[*topic] {
	return btree.NewG(degree, func(a, b *topic) bool { return a.name < b.name })
}

// Epoch returns the name of the epoch.
func (h *History) Epoch() string { return h.epoch }

// Last returns the highest number of a message so far.
func (h *History) Last() uint64 { return h.last }

// Bytes returns about how many bytes all messages take, hidden ones too.
func (h *History) Bytes() int64 { return h.total + topicCost*int64(h.names.Len()) }

// Shown returns how many messages a reader could get that asks for everything that is kept.
func (h *History) Shown() int { return h.shown }

// ID returns the id of the message with that number.
func (h *History) ID(number uint64) string { return event.ID(h.epoch, number) }

// Topics returns how many topics have messages.
func (h *History) Topics() int { return h.names.Len() }

// IsInHole reports whether a number is one that this log has never given, although it is not above the last one.
func (h *History) IsInHole(number uint64) bool {
	return slices.ContainsFunc(h.holes, func(hole Hole) bool { return hole.First <= number && number <= hole.Last })
}

// Has reports whether a topic has messages.
func (h *History) Has(name string) bool { return h.topics[name].after(0) != nil }

// Ended reports whether a topic has ended. A topic whose messages are gone may be forgotten after a long time, and its
// end with it.
func (h *History) Ended(name string) bool {
	t := h.topics[name]
	switch {
	case t == nil || t.ended == 0:
		return false
	case len(t.messages) == 0:
		return t.ended >= t.lost
	}
	return t.ended >= t.messages[len(t.messages)-1].number
}

// Add keeps a message whose number is higher than all before, and drops what exceeds the limits. The frame must not
// change afterwards; it is nil if the message only ends its topic. A message on a topic that has ended opens it again.
func (h *History) Add(m event.Message, frame []byte) {
	h.last = m.Number
	h.bury(64)
	t := h.open(m.Topic)
	h.note(t, m)
	if frame != nil {
		h.insert(&message{number: m.Number, frame: frame, topic: t})
	}
	h.fit(t)
}

// note notes what a message means for the past of its topic. One that replaces others takes them out and forgets what
// the topic lost: nothing of that is missing.
func (h *History) note(t *topic, m event.Message) {
	if m.End {
		t.ended = max(t.ended, m.Number)
		h.record.change(t.name)
	}
	if !m.Replace {
		return
	}
	h.record.change(t.name)
	for len(t.messages) > 0 && t.messages[0].number < m.Number {
		h.record.drop(t.messages[0].number)
		h.remove(t)
	}
	t.replaced = max(t.replaced, m.Number)
	if t.unknown < m.Number {
		t.unknown = 0
	}
	if t.lost >= m.Number || t.lost == 0 {
		return
	}
	lost := t.lost
	t.lost = 0
	for pattern := range event.Wildcards(t.name) {
		if w := h.watch[pattern]; w.lost == lost {
			w.lost = max(h.lostOf(pattern), min(lost, h.empty.forgotten)) // a topic that is forgotten may have lost messages, too
			h.watch[pattern] = w
		}
	}
}

// open returns what is known of a topic.
func (h *History) open(name string) *topic {
	t := h.topics[name]
	if t == nil {
		t = &topic{name: strings.Clone(name), unknown: h.empty.forgotten}
		h.topics[t.name] = t
	}
	return t
}

// cost returns how many bytes a message takes. The allocator rounds up by an eighth at most.
func (m *message) cost() int64 { return messageCost + int64(len(m.frame)+len(m.frame)/8) }

func (t *topic) cost() int64 { return topicCost + int64(len(t.name)) }

// insert adds a message to its topic. It is shown unless it is older than one that is hidden.
func (h *History) insert(m *message) {
	t := m.topic
	i := len(t.messages)
	for i > 0 && t.messages[i-1].number > m.number {
		i--
	}
	h.total += m.cost()
	m.hidden = i < len(t.messages)-int(t.shown)
	if len(t.messages) == 0 {
		h.empty.remove(t)
		h.names.ReplaceOrInsert(t)
	}
	t.messages = slices.Insert(t.messages, i, m)
	h.order.ReplaceOrInsert(m)
	if m.number > h.recent {
		h.young += m.cost()
	}
	if m.hidden {
		return
	}
	if t.shown++; t.shown == 1 {
		h.bytes += t.cost()
	}
	h.bytes += m.cost()
	h.shown++
	h.hidden = min(h.hidden, m.number-1)
}

// fit makes a topic and all others fit the limits.
func (h *History) fit(t *topic) {
	if len(t.messages) == 0 {
		h.remember(t)
	}
	h.shorten(t)
	h.trim()
	h.clean(t)
}

// shorten hides the messages of a topic that are too many.
func (h *History) shorten(t *topic) {
	for int(t.shown) > h.limits.PerTopic {
		h.hide(t)
	}
}

// trim hides the messages of all topics for which there is no room, and drops what leaves the window.
func (h *History) trim() {
	for h.bytes > h.limits.Bytes && h.shown > 0 {
		m := h.next(h.hidden)
		if h.hidden = m.number; !m.hidden {
			h.hide(m.topic)
		}
		h.clean(m.topic)
	}
	for h.young > h.limits.Window {
		m := h.next(h.recent)
		if h.next(m.number) == nil { // the newest one stays
			break
		}
		h.recent = m.number
		h.young -= m.cost()
		h.clean(m.topic)
	}
}

// next returns the first message after that number, or nil.
func (h *History) next(number uint64) (found *message) {
	h.order.AscendGreaterOrEqual(&message{number: number + 1}, func(m *message) bool {
		if m.topic != nil {
			found = m
		}
		return found == nil
	})
	return found
}

// bury takes some messages out of the index that their topics do not have any more. A topic may lose very many at once,
// and nobody should wait for that.
func (h *History) bury(some int) {
	for last := len(h.gone) - 1; last >= 0 && some > 0; last, some = last-1, some-1 {
		h.order.Delete(h.gone[last])
		h.gone[last], h.gone = nil, h.gone[:last]
	}
}

// hide hides the first message of a topic that is shown.
func (h *History) hide(t *topic) {
	m := t.messages[len(t.messages)-int(t.shown)]
	m.hidden = true
	h.bytes -= m.cost()
	h.shown--
	if t.shown--; t.shown == 0 {
		h.bytes -= t.cost()
	}
}

// clean drops the messages of a topic that are hidden and no longer in the window.
func (h *History) clean(t *topic) {
	for len(t.messages) > int(t.shown) && t.messages[0].number <= h.recent {
		h.drop(t)
	}
}

// drop loses the first message of a topic.
func (h *History) drop(t *topic) {
	m := t.messages[0]
	h.remove(t)
	h.record.drop(m.number)
	h.lose(t, m.number)
	if len(t.messages) == 0 {
		h.remember(t)
	}
}

// remove takes out the first message of a topic.
func (h *History) remove(t *topic) {
	m := t.messages[0]
	if !m.hidden {
		h.hide(t)
	}
	if m.number > h.recent {
		h.young -= m.cost()
	}
	h.total -= m.cost()
	t.messages[0], t.messages = nil, t.messages[1:]
	m.topic, m.frame = nil, nil
	h.gone = append(h.gone, m)
	if len(t.messages) == 0 {
		h.names.Delete(t)
	}
}

// lose notes a loss of a topic.
func (h *History) lose(t *topic, number uint64) {
	t.lost = max(t.lost, number)
	h.record.change(t.name)
	h.lost = max(h.lost, number)
	if len(h.watch) == 0 {
		return
	}
	for pattern := range event.Wildcards(t.name) {
		h.loseOf(pattern, number)
	}
}

// loseOf notes a loss of some topic that a wildcard matches.
func (h *History) loseOf(pattern event.Pattern, number uint64) {
	if w, watched := h.watch[pattern]; watched {
		h.watch[pattern] = watch{max(w.lost, number), w.losses + 1}
	}
}

// Watch must be called before a wildcard is read, and Unwatch when nothing reads it any longer. Some that nothing reads
// are kept, as it takes a while to find out what is known of many topics.
func (h *History) Watch(pattern event.Pattern) {
	if _, watched := h.watch[pattern]; !watched {
		h.watch[pattern] = watch{lost: h.lostOf(pattern)}
	}
}

// Unwatch undoes Watch.
func (h *History) Unwatch(pattern event.Pattern) {
	if len(h.watch) > idleWatches {
		delete(h.watch, pattern)
	}
}

// lostOf returns the number of the latest loss of the topics that a wildcard matches. Its cost follows how many these are.
func (h *History) lostOf(pattern event.Pattern) (lost uint64) {
	see := func(t *topic) bool {
		lost = max(lost, t.lost)
		return true
	}
	below(h.names, pattern, see)
	below(h.empty.topics, pattern, see)
	return lost
}

// below calls do for the topics that a wildcard matches, until it returns false in each of the ranges of the pattern.
func below(topics *btree.BTreeG[*topic], pattern event.Pattern, do func(*topic) (more bool)) {
	for first, end := range pattern.Ranges() {
		topics.AscendGreaterOrEqual(&topic{name: first}, func(t *topic) bool {
			return (end == "" || t.name < end) && do(t)
		})
	}
}

// after returns the topic's messages after that number.
func (t *topic) after(number uint64) []*message {
	if t == nil {
		return nil
	}
	n := len(t.messages)
	switch {
	case n == 0 || t.messages[n-1].number <= number:
		return nil
	case n == 1 || t.messages[n-2].number <= number:
		return t.messages[n-1:]
	}
	i, _ := slices.BinarySearchFunc(t.messages, number+1, func(m *message, n uint64) int { return cmp.Compare(m.number, n) })
	return t.messages[i:]
}
