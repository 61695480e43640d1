package history

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gin-sse/internal/event"
	"gin-sse/internal/testmodel"
)

// model is what a history should do, written as simply as it can be: it looks at all messages ever, each time.
type model struct {
	t       *testing.T
	r       *rand.Rand
	h       *History
	room    int64
	all     []*kept
	old     uint64 // messages up to this number have left the window
	readers []*reader
	journal journal
}

// kept is a message, and what has become of it.
type kept struct {
	event.Message
	size     int64
	shown    bool // to a reader that asks for all that is kept
	present  bool // for a reader that was here
	replaced bool // nobody misses it
}

// journal is what a log would have on its disk.
type journal struct {
	messages  map[uint64]event.Message
	topics    map[string]Past
	last      uint64
	forgotten uint64
}

// reader is a cursor and what it must be told.
type reader struct {
	m      *model
	c      Cursor
	names  []string
	cursor uint64
	hidden map[uint64]bool // messages that were not shown when a reader came that wants only these
	skips  map[uint64]bool // messages that a reader does not miss that wants only the newest ones
	loose  bool            // a gap may come later than it should
	owed   map[uint64]bool // losses before which it was cut short
	sure   uint64          // gaps up to here may be about topics that are forgotten
}

var (
	topicPool = []string{"", "a", "b", "a/x", "a/y", "a/x/1", "a/x/2", "c/d", "private/p", "private/q/r"}
	namePool  = []string{"a", "b", "a/x", "a/y", "a/x/1", "c/d", "nobody", "private/p", "*", "a/*", "a/x/*", "private/*", "nobody/*"}
)

func (m *model) last() uint64 {
	if len(m.all) == 0 {
		return 0
	}
	return m.all[len(m.all)-1].Number
}

func (m *model) publish() {
	r := m.r
	topic := topicPool[r.IntN(len(topicPool))]
	if r.IntN(8) == 0 {
		topic = fmt.Sprintf("a/many/%d", r.IntN(300))
	}
	size := r.IntN(40)
	if r.IntN(10) == 0 {
		size = r.IntN(2 * MaxPiece)
	}
	message := event.Message{Number: m.last() + 1 + uint64(r.IntN(3)), Topic: topic, End: r.IntN(15) == 0, Replace: r.IntN(12) == 0, Time: int64(r.IntN(3))}
	if !message.End || r.IntN(3) > 0 {
		message.Data = json.RawMessage(fmt.Sprintf(`{"n":%d,"x":%q}`, message.Number, strings.Repeat("x", size)))
	}
	frame := message.Frame(m.h.ID(message.Number))
	m.h.Add(message, frame)
	if message.Replace {
		for _, k := range m.all {
			if k.Topic == topic {
				k.shown, k.present, k.replaced = false, false, true
				delete(m.journal.messages, k.Number) // in the same transaction
			}
		}
	}
	k := &kept{Message: message, size: costOf(frame), shown: frame != nil, present: frame != nil}
	m.all = append(m.all, k)
	m.journal.messages[message.Number] = message
	m.limit()
}

func costOf(frame []byte) int64 { return (&message{frame: frame}).cost() }

// limit hides and drops what exceeds the limits.
func (m *model) limit() {
	perTopic := map[string]int{}
	for _, k := range slices.Backward(m.all) {
		if k.shown {
			perTopic[k.Topic]++
			k.shown = perTopic[k.Topic] <= m.h.limits.PerTopic
		}
	}
	for {
		bytes, topics := int64(0), map[string]bool{}
		var oldest *kept
		for _, k := range slices.Backward(m.all) {
			if k.shown {
				bytes += k.size
				topics[k.Topic], oldest = true, k
			}
		}
		for topic := range topics {
			bytes += topicCost + int64(len(topic))
		}
		if bytes <= m.h.limits.Bytes || oldest == nil {
			break
		}
		oldest.shown = false
	}
	young, newest := int64(0), true
	for _, k := range slices.Backward(m.all) {
		if k.present && k.Number > m.old {
			if young += k.size; young > m.h.limits.Window && !newest {
				m.old = k.Number
			}
			newest = false
		}
	}
	for _, k := range m.all {
		k.present = k.present && (k.shown || k.Number > m.old)
	}
}

func (m *model) ended(names []string) bool {
	for _, name := range names {
		ended := false
		for _, k := range m.all {
			if k.Topic == name {
				ended = k.End
			}
		}
		if !ended {
			return false
		}
	}
	return true
}

func (m *model) open() {
	r := m.r
	var names []string
	for range r.IntN(4) {
		names = append(names, namePool[r.IntN(len(namePool))])
	}
	topics, err := event.ParseTopics(names)
	if err != nil {
		m.t.Fatal(err)
	}
	c := &reader{m: m, names: topics.Names(), hidden: map[uint64]bool{}, skips: map[uint64]bool{}, owed: map[uint64]bool{}, sure: m.h.empty.forgotten}
	for pattern := range topics.Patterns() {
		if pattern.IsWildcard() {
			m.h.Watch(pattern)
		}
	}
	switch r.IntN(6) {
	case 0:
		c.c, c.cursor = m.h.After(topics, m.last()), m.last()
	case 1:
		c.c = m.h.Earliest(topics)
		for _, k := range m.all {
			c.hidden[k.Number] = !k.shown
		}
	case 2:
		c.c = m.h.Latest(topics)
		newest := map[string]bool{}
		for _, k := range slices.Backward(m.all) {
			if len(k.Data) > 0 && !k.replaced {
				c.hidden[k.Number], c.skips[k.Number] = !k.shown || newest[k.Topic], newest[k.Topic]
				newest[k.Topic] = true
			}
		}
		for pattern := range topics.Patterns() {
			if pattern.IsWildcard() {
				c.sure, c.loose = m.last(), true // what is lost while it reads may be something that it skips
			}
		}
	default:
		c.cursor = uint64(r.IntN(int(m.last()) + 1))
		c.c = m.h.After(topics, c.cursor)
	}
	m.readers = append(m.readers, c)
}

func (c *reader) matches(topic string) bool {
	return slices.ContainsFunc(c.names, func(name string) bool { return event.Pattern(name).Matches(topic) })
}

// due reports whether the reader must get a message. If not, the message is lost for it.
func (c *reader) due(k *kept) bool { return k.present && !c.hidden[k.Number] }

// losses returns the numbers at which the reader must be told of a loss, if it is not past them: for a topic the latest
// one, for a wildcard the latest one of all its topics. What is only hidden from a reader counts for each topic.
func (c *reader) losses() map[uint64]bool {
	latest := map[string]uint64{}
	for _, k := range c.m.all {
		if len(k.Data) == 0 || k.replaced || c.skips[k.Number] || c.due(k) {
			continue
		}
		for _, name := range c.names {
			pattern := event.Pattern(name)
			if !pattern.Matches(k.Topic) {
				continue
			}
			if pattern.IsWildcard() && k.present {
				name = "hidden " + k.Topic
			}
			latest[name] = max(latest[name], k.Number)
		}
	}
	numbers := map[uint64]bool{}
	for _, number := range latest {
		numbers[number] = true
	}
	return numbers
}

// read takes one piece and checks it.
func (c *reader) read() (more bool) {
	t := c.m.t
	losses := c.losses()
	room := MaxPiece
	if c.m.r.IntN(4) == 0 {
		room = c.m.r.IntN(MaxPiece)
	}
	before := c.c.Number
	data, events, more := c.m.h.Read(&c.c, room)
	blocks := strings.Split(strings.TrimSuffix(string(data), "\n\n"), "\n\n")
	if len(data) == 0 {
		blocks = nil
	}
	if events != len(blocks) {
		t.Errorf("%q: %d events, but %d were counted", c.names, len(blocks), events)
	}
	messages := 0
	afterGap := false
	for _, block := range blocks {
		isGap := strings.Contains(block, "\nevent:gap\ndata:{}")
		digits, _, _ := strings.Cut(strings.TrimPrefix(block, "id:"+c.m.h.Epoch()+"-"), "\n")
		number, err := strconv.ParseUint(digits, 10, 64)
		if err != nil {
			t.Fatalf("bad block %q", block)
		}
		if number <= c.cursor {
			t.Errorf("%q: number %d after %d", c.names, number, c.cursor)
		}
		for _, k := range c.m.all {
			if c.cursor < k.Number && k.Number < number && c.matches(k.Topic) && c.due(k) {
				t.Errorf("%q: number %d of %q was left out before %.60q", c.names, k.Number, k.Topic, block)
			}
		}
		for loss := range losses {
			if !isGap && !c.loose && c.cursor < loss && loss < number && loss > c.m.h.empty.forgotten { // what is forgotten may have been lost later
				t.Errorf("%q: no gap at %d before %.60q", c.names, loss, block)
			}
		}
		if isGap {
			if !losses[number] && !c.owed[number] && number > max(c.sure, c.m.h.empty.forgotten) {
				t.Errorf("%q: a gap at %d, where nothing is lost", c.names, number)
			}
			if afterGap {
				t.Errorf("%q: two gaps with nothing between them", c.names)
			}
		} else {
			messages++
			i := slices.IndexFunc(c.m.all, func(k *kept) bool { return k.Number == number })
			if i < 0 || !c.matches(c.m.all[i].Topic) || !strings.Contains(block, `data:`+string(c.m.all[i].Data)) || c.m.all[i].Topic != "" && !strings.Contains(block, "\ntopic:"+c.m.all[i].Topic+"\n") {
				t.Errorf("%q got what is not theirs: %.100q", c.names, block)
			}
		}
		c.cursor, afterGap = number, isGap
	}
	if len(data) > room && (room < MaxPiece && messages > 0 || events > 1) {
		t.Errorf("%d bytes with room for %d", len(data), room)
	}
	if more && len(data) == 0 && c.c.Number == before && room == MaxPiece {
		t.Errorf("%q: there is more, but nothing was read", c.names)
	}
	if maps.Copy(c.owed, losses); !more {
		c.caughtUp(losses)
		clear(c.owed)
	}
	return more
}

// caughtUp checks that the reader has everything.
func (c *reader) caughtUp(losses map[uint64]bool) {
	for _, k := range c.m.all {
		if k.Number > c.cursor && c.matches(k.Topic) && c.due(k) {
			c.m.t.Errorf("%q: number %d of %q is missing, the last one was %d", c.names, k.Number, k.Topic, c.cursor)
		}
	}
	for loss := range losses {
		if loss > c.cursor {
			c.m.t.Errorf("%q: no gap at %d, the last number was %d", c.names, loss, c.cursor)
		}
	}
	c.hidden, c.skips, c.loose = nil, nil, false
	if got, want := c.m.h.AllEnded(c.c.Topics), c.m.ended(c.names); got != want && c.m.h.empty.forgotten == 0 {
		c.m.t.Errorf("%q: ended is %t, want %t", c.names, got, want)
	}
}

// note writes what has changed into the journal.
func (m *model) note() {
	changes := m.h.Changes()
	for _, number := range changes.Dropped {
		delete(m.journal.messages, number)
	}
	for _, p := range changes.Topics {
		if m.journal.topics[p.Topic] = p; p.Lost == 0 && p.Ended == 0 {
			delete(m.journal.topics, p.Topic)
		}
	}
	m.journal.last, m.journal.forgotten = changes.Last, changes.Forgotten
	for number, message := range m.journal.messages {
		if message.IsSilent() && number <= m.journal.last {
			delete(m.journal.messages, number)
		}
	}
}

func (m *model) restart() {
	for _, c := range m.readers { // they come back with their last ids
		c.hidden, c.skips = nil, nil
	}
	m.h = New(m.h.limits, func(string) bool { return true })
	numbers := slices.Sorted(maps.Keys(m.journal.messages))
	noted := Changes{Last: m.journal.last, Topics: slices.Collect(maps.Values(m.journal.topics)), Forgotten: m.journal.forgotten}
	m.h.Restore("e", m.last(), nil, noted, func(yield func(event.Message) bool) {
		for _, number := range numbers {
			if !yield(m.journal.messages[number]) {
				return
			}
		}
	})
	m.h.empty.room = m.room
	all := m.all
	m.old = 0
	since, _ := slices.BinarySearchFunc(all, m.journal.last+1, func(k *kept, n uint64) int { return cmp.Compare(k.Number, n) })
	for i, k := range all {
		_, k.present = m.journal.messages[k.Number] // also what was dropped since the last note
		k.present = k.present && !k.IsSilent() && !k.replaced
		k.shown = k.present // as long as there is room
		if m.all = all[:i+1]; i >= since-1 {
			m.limit()
		}
	}
	for _, c := range m.readers {
		for pattern := range c.c.Topics.Patterns() {
			if pattern.IsWildcard() {
				m.h.Watch(pattern)
			}
		}
		c.c, c.sure = m.h.After(c.c.Topics, c.cursor), m.h.empty.forgotten
	}
}

func (m *model) step() {
	switch op := m.r.IntN(100); {
	case op < 50:
		m.publish()
	case op < 60:
		m.note()
	case op < 61:
		m.restart()
	case op < 70:
		m.open()
	case len(m.readers) == 0:
	case op < 95:
		m.readers[m.r.IntN(len(m.readers))].read()
	default:
		i := m.r.IntN(len(m.readers))
		m.readers = slices.Delete(m.readers, i, i+1)
	}
}

func runModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	limits := Limits{
		PerTopic: []int{0, 1, 3, 20, 1000}[r.IntN(5)],
		Bytes:    []int64{0, 3_000, 30_000, 300_000, 1 << 40}[r.IntN(5)],
		Window:   []int64{1, 2_000, 20_000, 200_000, 1 << 40}[r.IntN(5)],
	}
	m := &model{t: t, r: r, h: New(limits, func(string) bool { return true }), room: emptyBytes}
	if r.IntN(3) == 0 { // the topics of the readers must not be forgotten, but those of others are
		m.room = 2_000
	}
	m.h.keep = func(topic string) bool {
		return slices.ContainsFunc(m.readers, func(c *reader) bool { return slices.Contains(c.names, topic) })
	}
	m.journal = journal{messages: map[uint64]event.Message{}, topics: map[string]Past{}}
	m.restart()
	for range 400 {
		if m.step(); t.Failed() {
			break
		}
	}
	for _, c := range m.readers {
		for !t.Failed() && c.read() {
		}
	}
	if t.Failed() {
		t.Logf("%+v, room for %d bytes of empty topics", limits, m.room)
	}
}

func TestRandomUseAgreesWithASimpleModel(t *testing.T) {
	t.Parallel()
	testmodel.Run(t, 200, runModel)
}

func FuzzHistoryAgreesWithASimpleModel(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(runModel)
}
