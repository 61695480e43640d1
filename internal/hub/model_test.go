package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/testmodel"
)

// model publishes, subscribes and reads at random, and checks each stream against all messages ever. What the history
// still has is asked of the history, whose own model test says when that is right.
type model struct {
	t        *testing.T
	r        *rand.Rand
	h        *Hub
	all      []event.Message
	replaced map[string]uint64 // for each topic, the number of the latest message that replaced the earlier ones
	clients  []*client
}

// client reads one subscriber's stream and checks it.
type client struct {
	m       *model
	s       *Subscriber
	names   []string
	ids     []string          // seen
	cursor  uint64            // of the stream
	shown   map[uint64]bool   // if it asked for what is kept: the messages until then that it must get
	until   uint64            // then
	untold  map[string]uint64 // by topic: a message that was left out, and a gap must come
	newest  map[string]uint64 // if it asked for the newest: these, by topic
	unknown bool              // the first event has to be a gap
	live    bool              // it was told that it is
	ended   bool
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
	topic := topicPool[m.r.IntN(len(topicPool))]
	number := m.last() + 1 + uint64(m.r.IntN(3))
	size := 0
	if m.r.IntN(10) == 0 {
		size = m.r.IntN(2 * history.MaxPiece)
	}
	message := event.Message{Number: number, Topic: topic, End: m.r.IntN(15) == 0, Replace: m.r.IntN(10) == 0}
	if !message.End || m.r.IntN(2) == 0 {
		message.Data = json.RawMessage(fmt.Sprintf(`{"n":%d,"t":%q,"x":%q}`, number, topic, strings.Repeat("<", size)))
	}
	m.all = append(m.all, message)
	if message.Replace {
		m.replaced[topic] = number
	}
	if err := m.h.Append(message); err != nil {
		m.t.Fatal(err)
	}
}

// kept reports whether the history still has a message.
func (m *model) kept(message event.Message) bool {
	set, err := event.ParseTopics(slices.DeleteFunc([]string{message.Topic}, func(name string) bool { return name == "" }))
	if err != nil {
		m.t.Fatal(err)
	}
	c := m.h.history.After(set, message.Number-1)
	piece, _, _ := m.h.history.Read(&c, history.MaxPiece)
	first, _, _ := strings.Cut(string(piece), "\n\n")
	return strings.HasPrefix(first, "id:"+m.h.ID(message.Number)+"\n") && !strings.Contains(first, "\nevent:gap\n")
}

func (m *model) ended(names []string) bool {
	for _, name := range names {
		ended := false
		for _, message := range m.all {
			if message.Topic == name {
				ended = message.End
			}
		}
		if !ended {
			return false
		}
	}
	return true
}

func (c *client) matches(topic string) bool {
	return slices.ContainsFunc(c.names, func(name string) bool { return event.Pattern(name).Matches(topic) })
}

func (c *client) hasWildcard() bool {
	return slices.ContainsFunc(c.names, func(name string) bool { return event.Pattern(name).IsWildcard() })
}

func (m *model) subscribe(names []string, after string) {
	set, err := event.ParseTopics(names)
	if err != nil {
		m.t.Fatal(err)
	}
	c := &client{m: m, names: set.Names(), untold: map[string]uint64{}}
	number, known := event.Number("e", after)
	known = known && number <= m.last()
	c.unknown = after != "" && after != Earliest && after != Latest && !known
	switch {
	case after == "" && !m.ended(c.names):
		c.cursor = m.last()
	case known:
		c.cursor = number
	default:
		c.shown = map[uint64]bool{}
	}
	c.until = m.last()
	if after == Latest {
		c.newest = map[string]uint64{}
		for _, message := range m.all {
			if len(message.Data) > 0 {
				c.newest[message.Topic] = message.Number
			}
		}
	}
	c.s, err = m.h.Subscribe(m.t.Context(), set, after)
	if c.shown != nil {
		cursor := m.h.history.Earliest(set)
		for more := true; more; {
			var piece []byte
			piece, _, more = m.h.history.Read(&cursor, history.MaxPiece)
			for block := range strings.SplitSeq(string(piece), "\n\n") {
				id, rest, _ := strings.Cut(strings.TrimPrefix(block, "id:"), "\n")
				n, _ := event.Number("e", id)
				c.shown[n] = !strings.HasPrefix(rest, "event:gap")
			}
		}
	}
	if errors.Is(err, event.ErrEnded) {
		if !m.ended(c.names) || c.unknown || c.shown != nil {
			m.t.Errorf("ErrEnded for %q after %q", names, after)
		}
		for _, message := range m.all {
			if message.Number > c.cursor && c.matches(message.Topic) && c.wants(message) {
				m.t.Errorf("ErrEnded for %q after %q, though number %d comes after", names, after, message.Number)
			}
		}
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.clients = append(m.clients, c)
}

// read takes what there is for the client now, once. It reports whether there may be more.
func (c *client) read() bool {
	ctx, cancel := context.WithCancel(c.m.t.Context())
	cancel()
	piece, err := c.s.Next(ctx)
	switch {
	case errors.Is(err, event.ErrEnded):
		if !c.m.ended(c.names) {
			c.m.t.Errorf("%q ended, but not all topics have", c.names)
		}
		c.ended = true
		c.caughtUp()
		return false
	case err != nil:
		return false
	case len(piece) > history.MaxPiece && strings.Count(string(piece), "\n\n") > 1:
		c.m.t.Errorf("%q: a piece of %d bytes", c.names, len(piece))
	}
	for block := range strings.SplitSeq(strings.TrimSuffix(string(piece), "\n\n"), "\n\n") {
		c.block(block)
	}
	return true
}

func (c *client) block(block string) {
	fields := map[string]string{}
	for line := range strings.SplitSeq(block, "\n") {
		name, value, _ := strings.Cut(line, ":")
		fields[name] = value
	}
	t := c.m.t
	if fields["id"] == "" {
		return // a tick or a comment
	}
	c.ids = append(c.ids, fields["id"])
	number, err := strconv.ParseUint(strings.TrimPrefix(fields["id"], "e-"), 10, 64)
	if err != nil {
		t.Fatalf("bad id in %q", block)
	}
	isGap := fields["event"] == "gap"
	switch {
	case fields["event"] == "position" && fields["retry"] != "":
		if c.shown == nil && number != c.cursor {
			t.Errorf("%q: the stream begins at %d, want %d", c.names, number, c.cursor)
		}
		c.live = fields["data"] == `{"live":true}`
		return
	case fields["event"] == "position":
		if c.live || c.unknown || number < c.cursor || number < c.until {
			t.Errorf("%q: at %d after %d it is live, want that once, and not before %d", c.names, number, c.cursor, c.until)
		}
		c.live = true
		c.caughtUpTo(number)
		c.cursor = number // a client that is cut off now comes back with this id
		return
	case c.unknown:
		if c.unknown = false; !isGap || fields["data"] != "{}" {
			t.Errorf("%q: an unknown id brings %q first, want a gap", c.names, block)
		}
	case number <= c.cursor:
		t.Errorf("%q: number %d after %d: %.80q", c.names, number, c.cursor, block)
	}
	lost := c.cursor == 0 && isGap // also after an unknown id
	for _, message := range c.m.all {
		if message.Number > c.cursor && message.Number <= number && message.Number < c.m.replaced[message.Topic] && c.hasWildcard() && c.matches(message.Topic) {
			lost = true // it was, before something took its place
		}
		if message.Number <= c.cursor || message.Number > number || message.Number == number && !isGap || !c.matches(message.Topic) || !c.wants(message) {
			continue
		}
		if lost = true; c.due(message) {
			t.Errorf("%q: number %d was left out, though it is kept: %.80q", c.names, message.Number, block)
		}
		c.untold[message.Topic] = message.Number
	}
	if c.cursor = number; isGap {
		lost = lost || len(c.untold) > 0 || c.newest != nil // what it skips may be lost while it reads
		clear(c.untold)
		if !lost {
			t.Errorf("%q: a gap where nothing is lost: %q", c.names, block)
		}
		return
	}
	i := slices.IndexFunc(c.m.all, func(m event.Message) bool { return m.Number == number })
	if i < 0 || !c.matches(c.m.all[i].Topic) || fields["data"] != string(c.m.all[i].Data) {
		t.Errorf("%q got what is not theirs: %.100q", c.names, block)
		return
	}
	if lost := c.untold[c.m.all[i].Topic]; lost > 0 && lost >= c.m.replaced[c.m.all[i].Topic] && !c.hasWildcard() {
		t.Errorf("%q: number %d was left out without a gap: %.80q", c.names, lost, block)
	}
}

// wants reports whether the client misses a message that it does not get: it was not replaced, and it is not one of those
// before the newest if it asked for the newest alone.
func (c *client) wants(message event.Message) bool {
	return len(message.Data) > 0 && message.Number >= c.m.replaced[message.Topic] && (c.newest == nil || message.Number > c.until || message.Number == c.newest[message.Topic])
}

// due reports whether the client must get a message.
func (c *client) due(message event.Message) bool {
	return c.m.kept(message) && (c.shown == nil || message.Number > c.until || c.shown[message.Number])
}

// caughtUp checks that the client has everything.
func (c *client) caughtUp() {
	for topic, number := range c.untold {
		if number >= c.m.replaced[topic] {
			c.m.t.Errorf("%q: number %d of %q was left out without a gap", c.names, number, topic)
		}
	}
	if c.caughtUpTo(c.m.last()); !c.live {
		c.m.t.Errorf("%q: it was not told that it is live", c.names)
	}
}

// caughtUpTo checks that the client has everything up to that number.
func (c *client) caughtUpTo(number uint64) {
	for _, message := range c.m.all {
		if message.Number > c.cursor && message.Number <= number && c.wants(message) && c.matches(message.Topic) {
			c.m.t.Errorf("%q: number %d of %q is missing, the last one was %d", c.names, message.Number, message.Topic, c.cursor)
		}
	}
}

func (m *model) leave(i int) {
	m.clients[i].s.Close()
	m.clients = slices.Delete(m.clients, i, i+1)
}

func (m *model) step() {
	r := m.r
	any := func() int { return r.IntN(len(m.clients)) }
	switch op := r.IntN(100); {
	case op < 45:
		m.publish()
	case op < 50:
		_ = m.h.Tick("tick")
	case op < 55:
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		synctest.Wait()
	case op < 63:
		var names []string
		for range r.IntN(4) {
			names = append(names, namePool[r.IntN(len(namePool))])
		}
		after := ""
		switch r.IntN(6) {
		case 0:
			after = Earliest
		case 3:
			after = Latest
		case 1:
			after = m.h.ID(uint64(r.IntN(int(m.last()) + 3)))
		case 2:
			after = "other-5"
		}
		m.subscribe(names, after)
	case len(m.clients) == 0:
	case op < 88:
		m.clients[any()].read()
	case op < 90:
		time.Sleep(keepalive + time.Second)
		synctest.Wait()
	default: // goes on from any id that it has seen
		i := any()
		c := m.clients[i]
		after := ""
		names := c.names
		if len(c.ids) > 0 {
			after = c.ids[r.IntN(len(c.ids))]
		}
		m.leave(i)
		if names[0] == "" {
			names = nil
		}
		m.subscribe(names, after)
	}
}

func TestRandomUseLosesDoublesAndReordersNothing(t *testing.T) {
	t.Parallel()
	testmodel.Run(t, 60, runModel)
}

func FuzzHubLosesDoublesAndReordersNothing(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(runModel)
}

func runModel(t *testing.T, seed uint64) {
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		options := Options{Limits: history.Limits{
			PerTopic: []int{0, 1, 3, 20, 1000}[r.IntN(5)],
			Bytes:    []int64{0, 30_000, 1 << 40}[r.IntN(3)],
			Window:   []int64{1, 20_000, 0}[r.IntN(3)],
		}}
		m := &model{t: t, r: r, h: New(options), replaced: map[string]uint64{}}
		defer m.h.Close()
		m.h.Begin("e", 0, 0)
		for range 400 {
			if m.step(); t.Failed() {
				break
			}
		}
		time.Sleep(pace)
		synctest.Wait()
		for len(m.clients) > 0 {
			c := m.clients[0]
			for !t.Failed() && c.read() {
			}
			if !c.ended && !t.Failed() {
				c.caughtUp()
			}
			m.leave(0)
		}
		if s := m.h.Stats(); len(m.h.feeds) > 0 || s.Subscribers > 0 {
			t.Errorf("%d feeds are left of subscribers that are gone: %+v", len(m.h.feeds), s)
		}
		if t.Failed() {
			t.Logf("%+v", options)
		}
	})
}
