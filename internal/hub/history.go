package hub

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
)

const (
	messageCost = 96   // bytes that a message takes beside its frame
	historyCost = 256  // bytes that a history takes beside its key and its messages
	maxLost     = 1000 // numbers of lost messages that a history remembers

	// leastBuried is how many bytes histories without messages may take, whatever the limits are. Otherwise the end
	// of a topic could be forgotten before its subscribers are told.
	leastBuried = 64 << 10
)

// message is a kept message.
type message struct {
	number  uint64
	frame   []byte   // shared, never changed; nil once the message is lost
	history *history // the history that has it
}

// history is what is kept of one topic, and what is known of its lost messages. A wildcard has a history too,
// once it has lost a message. Without one, resuming a wildcard would have to look at all topics.
type history struct {
	key      string        // the topic's name, or the wildcard's indexKey
	messages []*message    // kept messages, in the order of their numbers
	ended    uint64        // number of the message that ended the topic, or 0
	silent   uint64        // number of its latest end without an event, or 0
	gone     uint64        // the highest number of a lost message
	losses   uint64        // the counter of losses when gone was set
	lost     []uint64      // numbers of the latest lost messages, rising; the last one is gone
	unknown  uint64        // lost messages up to this number are not in lost
	cost     int64         // bytes that are counted for the history, without its messages
	grave    *list.Element // its place in histories.empty, if it has no messages
	noted    History       // what Changes returned last
}

// histories are the kept messages of all topics. The hub's lock guards them.
type histories struct {
	limits Limits
	topics map[string]*history
	floor  uint64     // messages of any topic up to this number may be lost, as the log says
	other  *history   // stands for the topics that are not in the map: it has what must be assumed of them
	all    []*message // of all topics, in the order of their numbers, with lost ones in between
	kept   int        // how many of them are not lost
	bytes  int64      // what everything here takes
	losses uint64     // counts losses: a subscriber that was told of the first n need not be told of them again
	empty  *list.List // histories without messages, the longest unchanged one first
	buried int64      // bytes of the empty histories
	record *record    // what changes, for a log that survives a restart; otherwise nil

	isKey func(key string) bool // whether what is lost of a wildcard has to be known; nil for all of them
}

func newHistories(limits Limits, gone uint64) *histories {
	return &histories{
		limits: limits,
		topics: map[string]*history{},
		floor:  gone,
		other:  &history{gone: gone, unknown: gone, losses: 1},
		losses: 1,
		empty:  list.New(),
	}
}

// of returns the history with that key, or the one that stands for all forgotten topics.
func (k *histories) of(key string) *history {
	if t := k.topics[key]; t != nil {
		return t
	}
	return k.other
}

// open returns the history with that key, and creates it if there is none. The caller must call settle.
func (k *histories) open(key string) *history {
	t := k.topics[key]
	if t == nil {
		t = &history{key: strings.Clone(key), gone: k.other.gone, unknown: k.other.unknown, losses: k.other.losses}
		k.topics[t.key] = t
	}
	return t
}

// add keeps a message, whose number is the highest of its topic, and drops what exceeds the limits.
func (k *histories) add(m Message, frame []byte) {
	t := k.open(m.Topic)
	t.ended = 0
	if m.End {
		t.ended = m.Number
	}
	k.keep(t, m.Number, frame)
	if len(t.messages) > k.limits.History {
		k.drop(t)
	}
	k.trim()
}

// keep keeps a message without a look at the limits.
func (k *histories) keep(t *history, number uint64, frame []byte) {
	m := &message{number, frame, t}
	t.messages = merge(t.messages, []*message{m})
	k.all = merge(k.all, []*message{m})
	k.count(m)
	k.settle(t)
}

// count counts a message that is kept from now on.
func (k *histories) count(m *message) {
	k.kept++
	k.bytes += messageCost + size(m.frame)
}

// merge returns all messages of two lists, each with rising numbers.
func merge(a, b []*message) []*message {
	if len(a) == 0 || len(b) == 0 || a[len(a)-1].number < b[0].number {
		return append(a, b...)
	}
	i := len(a)
	a = append(a, b...)
	for j, k := len(b), len(a); j > 0; k-- {
		if i > 0 && a[i-1].number > b[j-1].number {
			i--
			a[k-1] = a[i]
		} else {
			j--
			a[k-1] = b[j]
		}
	}
	return a
}

// has reports whether a message of the topic came before. A lost one did, too.
func (k *histories) has(topic string, number uint64) bool {
	t := k.topics[topic]
	return t != nil && (number <= t.gone || t.has(number))
}

func (t *history) has(number uint64) bool {
	rest := after(t.messages, number-1)
	return len(rest) > 0 && rest[0].number == number
}

// load keeps what a log has of a topic, and returns the messages that are new. They are still missing in k.all, and the
// limits may be exceeded.
func (k *histories) load(kept Kept, frames [][]byte) (added []*message) {
	t := k.topics[kept.Key]
	if t == nil { // open would assume that older messages are lost, but the log has just said which ones it has
		t = &history{key: strings.Clone(kept.Key), gone: k.floor, unknown: k.floor, losses: k.losses}
		k.topics[t.key] = t
	}
	if kept.Lost > t.gone {
		for len(t.messages) > 0 && t.messages[0].number <= kept.Lost {
			k.drop(t)
		}
		k.lose(t, kept.Lost)
		k.topics[t.key] = t // lose may have found nothing to remember
	}
	newest := t.newest()
	for i, m := range kept.Messages {
		if frames[i] != nil && !t.has(m.Number) && (m.Number > t.gone || m.Number <= k.floor) {
			added = append(added, &message{m.Number, frames[i], t})
			k.count(added[len(added)-1])
		}
		if m.Number > max(newest, t.ended) {
			t.ended = 0
			if m.End {
				t.ended = m.Number
			}
		}
		if m.endsSilently() {
			t.silent = max(t.silent, m.Number)
		}
	}
	t.messages = merge(t.messages, added)
	if t.silent > t.newest() {
		t.ended = cmp.Or(t.newest(), t.silent)
	}
	if t.gone > 0 {
		k.lose(t, t.gone) // a wildcard that was not followed when it happened must know of it
	}
	k.settle(t)
	return added
}

// newest returns the number of the history's last message, kept or lost, or 0.
func (t *history) newest() uint64 {
	if n := len(t.messages); n > 0 {
		return t.messages[n-1].number
	}
	return t.gone
}

// forget drops a history. Its messages do not count as lost.
func (k *histories) forget(key string) {
	t := k.topics[key]
	if t == nil {
		return
	}
	for _, m := range t.messages {
		k.kept--
		k.bytes -= messageCost + size(m.frame)
		m.frame = nil
	}
	k.uncount(t)
	delete(k.topics, key)
	k.compact()
}

// trim drops the oldest messages until all histories together are within their limit.
func (k *histories) trim() {
	for k.bytes-min(k.buried, leastBuried) > k.limits.HistoryBytes && k.kept > 0 {
		k.drop(k.oldest().history)
	}
}

// size is how many bytes a frame takes: the allocator rounds up by an eighth at most.
func size(frame []byte) int64 { return int64(len(frame) + len(frame)/8) }

// end ends a topic after its last message: a client that has that one has seen the end. The number is that of
// the end itself, for a topic without messages.
func (k *histories) end(topic string, number uint64) {
	t := k.open(topic)
	t.silent = number
	t.ended = cmp.Or(t.newest(), number)
	k.settle(t)
}

// oldest returns the message with the lowest number, if any is kept.
func (k *histories) oldest() *message {
	for len(k.all) > 0 && k.all[0].frame == nil {
		k.all[0], k.all = nil, k.all[1:]
	}
	if len(k.all) == 0 {
		return nil
	}
	return k.all[0]
}

// drop loses the first message of a history.
func (k *histories) drop(t *history) {
	m := t.messages[0]
	t.messages[0], t.messages = nil, t.messages[1:]
	if len(t.messages) == 0 {
		t.messages = nil
	}
	k.kept--
	k.bytes -= messageCost + size(m.frame)
	m.frame = nil
	k.record.drop(m.number)
	k.compact()
	if len(t.lost) >= maxLost {
		t.unknown, t.lost = t.lost[0], t.lost[1:]
	}
	t.lost = append(t.lost, m.number)
	k.lose(t, m.number)
}

// compact takes messages that are gone out of k.all, once they are many.
func (k *histories) compact() {
	if k.oldest(); len(k.all) > 64 && k.kept < len(k.all)/2 {
		k.all = slices.DeleteFunc(k.all, func(m *message) bool { return m.frame == nil })
	}
}

// lose notes that the topic's messages up to that number are gone.
func (k *histories) lose(topic *history, number uint64) {
	k.losses++
	for key := range Keys(topic.key) {
		t := topic
		switch {
		case key == topic.key:
		case k.isKey != nil && !k.isKey(key):
			continue
		default:
			t = k.open(key)
		}
		if number > t.gone {
			t.gone, t.losses = number, k.losses
		}
		if n := len(t.lost); n == 0 || t.lost[n-1] < t.gone {
			t.unknown, t.lost = t.gone, nil
		}
		k.settle(t)
	}
}

// dropAllUpTo loses the messages of all topics up to that number, and returns how many there were.
func (k *histories) dropAllUpTo(number uint64) int {
	k.floor = max(k.floor, number)
	before := k.kept
	for m := k.oldest(); m != nil && m.number <= number; m = k.oldest() {
		k.drop(m.history)
	}
	if k.isKey != nil && number > k.other.gone { // some of them may be of topics that are not here
		k.losses++
		k.other.gone, k.other.unknown, k.other.losses = number, number, k.losses
	}
	return before - k.kept
}

// settle counts the bytes of a history that has changed, and keeps the list of empty histories. Empty ones take
// at most an eighth of all bytes: beyond that, those that have not changed for longest are forgotten.
func (k *histories) settle(t *history) {
	k.record.note(t)
	k.uncount(t)
	if len(t.messages) == 0 && t.ended == 0 && t.gone <= k.other.gone {
		delete(k.topics, t.key) // nothing to remember
		return
	}
	t.cost = historyCost + int64(len(t.key)+8*cap(t.lost))
	k.bytes += t.cost
	if len(t.messages) > 0 {
		return
	}
	t.grave = k.empty.PushBack(t)
	k.buried += t.cost
	for k.buried > max(k.limits.HistoryBytes/8, leastBuried) {
		forgotten := k.empty.Front().Value.(*history)
		k.record.note(forgotten)
		k.uncount(forgotten)
		delete(k.topics, forgotten.key)
		if forgotten.gone > k.other.gone {
			k.losses++
			k.other.gone, k.other.unknown, k.other.losses = forgotten.gone, forgotten.gone, k.losses
		}
	}
}

func (k *histories) uncount(t *history) {
	k.bytes -= t.cost
	if t.grave != nil {
		k.buried -= t.cost
		k.empty.Remove(t.grave)
		t.grave = nil
	}
	t.cost = 0
}

// after returns the messages after that number.
func after(messages []*message, number uint64) []*message {
	i, _ := slices.BinarySearchFunc(messages, number+1, func(m *message, n uint64) int { return cmp.Compare(m.number, n) })
	return messages[i:]
}

// first returns the history's oldest message, or nil.
func (t *history) first() *message {
	if len(t.messages) == 0 {
		return nil
	}
	return t.messages[0]
}

// between returns how many messages are lost whose numbers are above "from" and not above "to", and whether that
// is known.
func (t *history) between(from, to uint64) (n int, known bool) {
	if to <= from || t.gone <= from {
		return 0, true
	}
	first, _ := slices.BinarySearch(t.lost, from+1)
	end, _ := slices.BinarySearch(t.lost, to+1)
	return end - first, t.unknown <= from
}

// busy returns how many topics have messages.
func (k *histories) busy() int { return len(k.topics) - k.empty.Len() }

// lostBelow returns the last lost number below a limit, or 0 if it is unknown.
func (t *history) lostBelow(limit uint64) uint64 {
	i, _ := slices.BinarySearch(t.lost, limit)
	if i == 0 {
		return 0
	}
	return t.lost[i-1]
}
