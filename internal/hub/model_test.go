package hub

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var (
	seed   = flag.Uint64("model.seed", 0, "run the model test with this seed alone")
	rounds = flag.Int("model.rounds", 30, "random runs of the model test")
)

// model is what the hub should do, as simple as it can be: all messages ever, and how many of each topic are kept.
type model struct {
	t       *testing.T
	r       *rand.Rand
	h       *Hub
	history int
	all     []Message
	clients []*client
}

// client reads one subscriber's stream and checks it.
type client struct {
	m       *model
	s       *Subscriber
	names   []string
	ids     []string // seen
	cursor  uint64   // of the stream
	untold  int      // messages skipped without a gap so far
	unknown bool     // the first event has to be a gap
	nulls   bool     // its gaps may not know how many
	forgive bool     // it asked for what is kept, so messages that were lost before make no gap
	lostAt  uint64   // the last message that was not kept when a forgiving client began
	ended   bool
}

var topicPool = []string{"", "a", "b", "a/x", "a/y", "a/x/1", "a/x/2", "c/d", "private/p", "private/q/r"}
var namePool = []string{"a", "b", "a/x", "a/y", "a/x/1", "c/d", "nobody", "private/p", "*", "a/*", "a/x/*", "private/*", "nobody/*"}

func matches(names []string, topic string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		below, wild := strings.CutSuffix(name, "*")
		switch {
		case name == "*":
			return topic != "" && !strings.HasPrefix(topic, "private/")
		case wild:
			return strings.HasPrefix(topic, below)
		}
		return name == topic
	})
}

func (m *model) last() uint64 {
	if len(m.all) == 0 {
		return 0
	}
	return m.all[len(m.all)-1].Number
}

// kept tells whether a message is among the latest of its topic.
func (m *model) kept(message Message) bool {
	later := 0
	for _, other := range slices.Backward(m.all) {
		if other.Number <= message.Number {
			break
		}
		if other.Topic == message.Topic {
			later++
		}
	}
	return later < m.history
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

func (m *model) publish() {
	topic := topicPool[m.r.IntN(len(topicPool))]
	number := m.last() + 1 + uint64(m.r.IntN(3))
	size := 0
	if m.r.IntN(10) == 0 {
		size = m.r.IntN(2 * maxPiece)
	}
	message := Message{
		Number: number,
		Topic:  topic,
		Data:   json.RawMessage(fmt.Sprintf(`{"n": %d, "t": %q, "x": %q}`, number, topic, strings.Repeat("<", size))),
		End:    m.r.IntN(15) == 0,
	}
	m.all = append(m.all, message)
	if err := m.h.Append(message); err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) subscribe(names []string, after string) {
	set, err := ParseTopics(names)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(names) == 0 {
		names = []string{""}
	}
	c := &client{m: m, names: names}
	c.nulls = slices.ContainsFunc(names, func(name string) bool { return strings.HasSuffix(name, "*") })
	number, known := m.h.number(after)
	switch {
	case after == "" && !m.ended(names):
		c.cursor = m.last()
	case after == "" || after == "earliest":
		c.forgive, c.nulls = true, true
	case known:
		c.cursor = number
	default:
		c.unknown, c.forgive, c.nulls = true, true, true
	}
	if c.forgive {
		for _, message := range m.all {
			if matches(names, message.Topic) && !m.kept(message) {
				c.lostAt = message.Number
			}
		}
	}
	c.s, err = m.h.Subscribe(m.t.Context(), set, after)
	if errors.Is(err, ErrEnded) {
		if !m.ended(names) || !known {
			m.t.Errorf("ErrEnded for %q after %q", names, after)
		}
		for _, message := range m.all {
			if message.Number > number && matches(names, message.Topic) {
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
	data, _, err := c.s.take()
	if len(data) == 0 {
		switch {
		case errors.Is(err, ErrEnded):
			if !c.m.ended(c.names) {
				c.m.t.Errorf("%q ended, but not all topics have", c.names)
			}
			c.ended = true
			c.caughtUp()
			return false
		case err != nil:
			c.m.t.Fatal(err)
		}
		return c.s.at.Load() == nil
	}
	for block := range strings.SplitSeq(strings.TrimSuffix(string(data), "\n\n"), "\n\n") {
		c.block(block)
	}
	return true
}

func (c *client) block(block string) {
	var id, event, data string
	var retry bool
	for line := range strings.SplitSeq(block, "\n") {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			data = value
		case "retry":
			retry = true
		}
	}
	t := c.m.t
	if id == "" {
		return // a tick or a comment
	}
	c.ids = append(c.ids, id)
	digits, ours := strings.CutPrefix(id, c.m.h.epoch+"-")
	number, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || !ours {
		t.Fatalf("bad id in %q", block)
	}
	if retry {
		if c.forgive {
			c.cursor = number
		} else if number != c.cursor {
			t.Errorf("%q: the stream begins at %d, want %d", c.names, number, c.cursor)
		}
		return
	}
	if c.unknown {
		c.unknown = false
		if event != "gap" || data != `{"missed":null}` {
			t.Errorf("%q: an unknown id brings %q first, want a gap", c.names, block)
		}
		c.cursor = number
		return
	}
	if number <= c.cursor && !(number == c.cursor && event == "gap" && c.nulls) {
		t.Errorf("%q: number %d after %d: %.80q", c.names, number, c.cursor, block)
	}
	skipped := 0
	for _, message := range c.m.all {
		if message.Number <= c.cursor || !matches(c.names, message.Topic) || message.Number > number || message.Number == number && event != "gap" {
			continue
		}
		if c.m.kept(message) {
			t.Errorf("%q: number %d was left out, though it is kept: %.80q", c.names, message.Number, block)
		}
		if !c.forgive || message.Number > c.lostAt {
			skipped++
		}
	}
	c.cursor = number
	c.untold += skipped
	if event == "gap" {
		missed := strconv.Itoa(c.untold)
		if data != `{"missed":`+missed+`}` && !(c.nulls && data == `{"missed":null}`) {
			t.Errorf("%q: gap %q, want %s", c.names, data, missed)
		}
		if c.untold == 0 && !c.nulls {
			t.Errorf("%q: a gap where nothing is lost: %q", c.names, block)
		}
		c.untold = 0
		return
	}
	i := slices.IndexFunc(c.m.all, func(m Message) bool { return m.Number == number })
	if i < 0 || !matches(c.names, c.m.all[i].Topic) || data != strings.ReplaceAll(string(c.m.all[i].Data), ": ", ":") && !strings.Contains(data, strings.ReplaceAll(fmt.Sprintf(`"n": %d`, number), ": ", ":")) {
		t.Errorf("%q got what is not theirs: %.100q", c.names, block)
	}
}

// caughtUp checks that the client has everything.
func (c *client) caughtUp() {
	for _, message := range c.m.all {
		if message.Number > c.cursor && matches(c.names, message.Topic) && (!c.forgive || message.Number > c.lostAt) {
			c.m.t.Errorf("%q: number %d of %q is missing, the last one was %d", c.names, message.Number, message.Topic, c.cursor)
		}
	}
	if c.untold > 0 {
		c.m.t.Errorf("%q: %d messages are missing without a gap", c.names, c.untold)
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
		switch r.IntN(5) {
		case 0:
			after = "earliest"
		case 1:
			after = m.h.id(uint64(r.IntN(int(m.last()) + 3)))
		case 2:
			after = "other-5"
		}
		m.subscribe(names, after)
	case len(m.clients) == 0:
	case op < 85:
		m.clients[any()].read()
	case op < 90: // is too far behind
		m.clients[any()].s.at.Store(nil)
	default: // goes on from any id that it has seen
		i := any()
		c := m.clients[i]
		after := ""
		names := c.names
		if len(c.ids) > 0 && !c.forgive {
			after = c.ids[r.IntN(len(c.ids))]
		}
		m.leave(i)
		if names[0] == "" {
			names = nil
		}
		m.subscribe(names, after)
	}
}

func TestRandomUseAgreesWithASimpleModel(t *testing.T) {
	t.Parallel()
	if *seed != 0 {
		runModel(t, *seed)
		return
	}
	for range *rounds {
		runModel(t, rand.Uint64())
	}
}

func FuzzHubAgreesWithASimpleModel(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) { runModel(t, seed) })
}

func runModel(t *testing.T, seed uint64) {
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(seed, 0))
		m := &model{t: t, r: r, history: []int{0, 1, 3, 20, 1000}[r.IntN(5)]}
		m.h = New(Limits{History: m.history, HistoryBytes: 1 << 40})
		defer m.h.Close()
		m.h.Begin("e", 0, 0)
		for range 400 {
			m.step()
			if t.Failed() {
				return
			}
		}
		time.Sleep(pace)
		synctest.Wait()
		for len(m.clients) > 0 {
			c := m.clients[0]
			for c.read() {
			}
			if !c.ended {
				c.caughtUp()
			}
			m.leave(0)
		}
		if len(m.h.chains) > 0 || len(m.h.topics) > 0 || m.h.silent.next != &m.h.silent {
			t.Errorf("%d chains and %d topics are left of subscribers that are gone", len(m.h.chains), len(m.h.topics))
		}
	})
}
