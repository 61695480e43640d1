package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/internal/hub"
	"gin-sse/internal/testmodel"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/relay"
)

// model is what should be true of several replicas: they are one server.
type model struct {
	t        *testing.T
	r        *rand.Rand
	replicas []*replica
	relays   []*relay.Relay // between each replica and NATS
	away     int            // the replica that is cut off, or -1
	history  int
	all      []sent
	ended    map[string]bool
	clients  []*follower
}

// sent is a published message. Its data is its index in model.all.
type sent struct {
	topic string
	event bool   // false if it only ended its topic
	id    string // if it is known yet
}

// follower is a client that reads what it gets.
type follower struct {
	m       *model
	replica int
	names   []string
	s       *hub.Subscriber
	last    string         // id
	from    int            // index of the first message that it must get
	fresh   bool           // it asked for no id, so it may get messages that reached its replica after it
	next    map[string]int // for each topic, index of the first message that it may get
	lost    map[int]bool   // messages that it will not get; false until a gap has told of them
	forgive int            // it asked for what is kept, so it need not be told of lost messages before this one
	steady  bool           // it was up to date, and neither it nor its replica was disturbed since
	over    bool
}

// missing reports whether the client follows a message's topic, and did not get that message yet.
func (c *follower) missing(i int) bool {
	message := c.m.all[i]
	return message.event && matches(c.names, message.topic) && i >= max(c.from, c.next[message.topic])
}

var topicPool = []string{"", "a", "b", "a/x", "a/y", "c/d", "private/p", "private/q/r"}
var namePool = []string{"a", "b", "a/x", "c/d", "nobody", "private/p", "*", "a/*", "private/*", "nobody/*"}

func matches(names []string, topic string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		if name == "*" {
			return topic != "" && !strings.HasPrefix(topic, "private/")
		}
		above, wildcard := strings.CutSuffix(name, "*")
		return name == topic || wildcard && strings.HasPrefix(topic, above)
	})
}

// isKept reports whether a message is among the newest of its topic.
func (m *model) isKept(i int) bool {
	newer := 0
	for _, other := range m.all[i+1:] {
		if other.event && other.topic == m.all[i].topic {
			newer++
		}
	}
	return newer < m.history
}

func (m *model) publish() {
	topic := topicPool[m.r.IntN(len(topicPool))]
	replica := m.r.IntN(len(m.replicas))
	if replica == m.away {
		replica = (replica + 1) % len(m.replicas)
	}
	var messages []event.Message
	for range 1 + m.r.IntN(4) {
		data := fmt.Appendf(nil, "%d", len(m.all)+len(messages))
		messages = append(messages, event.Message{Topic: topic, Data: data})
	}
	if end := &messages[len(messages)-1]; m.r.IntN(12) == 0 {
		end.End = true
		if m.r.IntN(3) == 0 {
			end.Data = nil
		}
	}
	kept, id, err := m.replicas[replica].Publish(m.t.Context(), messages...)
	if m.ended[topic] {
		if !errors.Is(err, event.ErrEnded) || kept > 0 {
			m.t.Errorf("publish to %q, which has ended: %d kept, %v", topic, kept, err)
		}
		return
	}
	if err != nil {
		m.t.Errorf("publish to %q: %v", topic, err)
		return
	}
	for _, message := range messages {
		m.all = append(m.all, sent{topic: topic, event: len(message.Data) > 0})
		m.ended[topic] = message.End
	}
	m.all[len(m.all)-1].id = id
	if m.ended[topic] { // a replica whose clients follow the topic learns of its end a moment later
		for i, r := range m.replicas {
			testwait.For(m.t, "the end on every replica", func() bool { return i == m.away || !r.Covers(topic) || r.events.Ended(topic) })
		}
	}
}

// allEnded reports whether all of these topics have ended.
func (m *model) allEnded(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !m.ended[name] })
}

func (c *follower) subscribe(replica int, after string) {
	m := c.m
	set := c.names
	if c.names[0] == "" {
		set = nil
	}
	topics, err := event.ParseTopics(set)
	if err != nil {
		m.t.Fatal(err)
	}
	c.replica, c.last, c.steady = replica, after, false
	c.s, err = m.replicas[replica].events.Subscribe(m.t.Context(), topics, after)
	if err == nil {
		return
	}
	c.over = true
	if !errors.Is(err, event.ErrEnded) || !m.allEnded(c.names) {
		m.t.Errorf("subscribe to %q after %q: %v", c.names, after, err)
	}
	for i := range m.all {
		if c.missing(i) && !c.lost[i] {
			m.t.Errorf("subscribe to %q after %q: it has ended, but message %d comes after", c.names, after, i)
		}
	}
}

func (m *model) join() {
	c := &follower{m: m, names: []string{""}, from: len(m.all), next: map[string]int{}, lost: map[int]bool{}}
	if m.r.IntN(5) > 0 {
		c.names = nil
		for range 1 + m.r.IntN(3) {
			c.names = append(c.names, namePool[m.r.IntN(len(namePool))])
		}
	}
	after := ""
	switch known := m.known(); m.r.IntN(6) {
	case 0:
		after, c.from, c.forgive = "earliest", 0, len(m.all)
	case 1:
		after, c.from, c.forgive = "other-1", 0, len(m.all)+1
	case 2, 3:
		if len(known) > 0 {
			i := known[m.r.IntN(len(known))]
			after, c.from = m.all[i].id, i+1
		}
	}
	c.fresh = after == ""
	if after == "" && m.allEnded(c.names) { // then it is as if it had asked for the earliest
		c.from, c.forgive = 0, len(m.all)
	}
	c.subscribe(m.r.IntN(len(m.replicas)), after)
	if !c.over {
		m.clients = append(m.clients, c)
	}
}

// known returns the messages whose ids are known.
func (m *model) known() (known []int) {
	for i, message := range m.all {
		if message.id != "" {
			known = append(known, i)
		}
	}
	return known
}

// read reads until the client has everything, and waits for more.
func (c *follower) read() {
	m := c.m
	wait, cancel := context.WithTimeout(m.t.Context(), testwait.Limit)
	defer cancel()
	look, cancel := context.WithCancel(m.t.Context())
	cancel()
	looks := 0
	for !c.over && !m.t.Failed() {
		left := false
		for i := range m.all {
			told, lost := c.lost[i]
			left = left || c.missing(i) && m.isKept(i) || (c.missing(i) || lost) && i >= c.forgive && !told
		}
		ctx := wait
		if !left && !m.allEnded(c.names) {
			ctx = look
		}
		frames, err := c.s.Next(ctx)
		switch {
		case ctx == look && errors.Is(err, context.Canceled):
			if looks++; looks == 2 { // the first one may have found the end of a batch
				c.steady = true
				return
			}
			continue
		case errors.Is(err, event.ErrEnded) && m.allEnded(c.names) && !left:
			c.over = true
			c.s.Close()
		case err != nil:
			m.t.Errorf("%q on replica %d of %d messages: %v", c.names, c.replica, len(m.all), err)
		}
		for block := range strings.SplitSeq(strings.TrimSuffix(string(frames), "\n\n"), "\n\n") {
			c.block(block)
		}
	}
}

// skip moves on to a message of a topic. What the client has not got before must be lost.
func (c *follower) skip(topic string, to int) {
	for i := range to {
		if c.m.all[i].topic != topic || !c.missing(i) {
			continue
		}
		if _, known := c.lost[i]; !known {
			c.lost[i] = false
		}
		if c.m.isKept(i) {
			c.m.t.Errorf("%q on replica %d: message %d is missing, though it is kept", c.names, c.replica, i)
		}
	}
	c.next[topic] = to
}

func (c *follower) block(block string) {
	var id, event, data string
	for line := range strings.SplitSeq(block, "\n") {
		switch name, value, _ := strings.Cut(line, ":"); name {
		case "id":
			id = value
		case "event":
			event = value
		case "data":
			data = value
		}
	}
	switch {
	case id == "":
		return
	case strings.HasPrefix(c.last, epoch(id)+"-") && number(id) < number(c.last):
		c.m.t.Errorf("%q on replica %d: the id %s after %s", c.names, c.replica, id, c.last)
	}
	c.last = id
	switch {
	case event == "position":
		return
	case event == "gap":
		if c.steady {
			c.m.t.Errorf("%q on replica %d: a gap on a stream that nothing disturbed", c.names, c.replica)
		}
		nothing := c.forgive == 0
		for i := range c.m.all {
			told, lost := c.lost[i]
			if lost && !told || c.missing(i) && !c.m.isKept(i) {
				c.lost[i], nothing = true, false
			}
		}
		if nothing {
			c.m.t.Errorf("%q on replica %d: a gap at %s about nothing", c.names, c.replica, id)
		}
		return
	}
	var i int
	if _, err := fmt.Sscan(data, &i); err != nil || i >= len(c.m.all) {
		c.m.t.Errorf("%q on replica %d: %q is no message", c.names, c.replica, block)
		return
	}
	if c.fresh {
		c.from, c.fresh = min(c.from, i), false
	}
	switch message := &c.m.all[i]; {
	case !c.missing(i):
		c.m.t.Errorf("%q on replica %d: message %d of %q comes once more, or to a stranger", c.names, c.replica, i, message.topic)
	case message.id != "" && message.id != id:
		c.m.t.Errorf("message %d has the ids %s and %s", i, message.id, id)
	default:
		message.id = id
	}
	c.skip(c.m.all[i].topic, i)
	c.next[c.m.all[i].topic] = i + 1
}

func number(id string) (n uint64) {
	_, _ = fmt.Sscan(id[strings.LastIndex(id, "-")+1:], &n)
	return n
}

func (m *model) step() {
	k := 0
	if len(m.clients) > 0 {
		k = m.r.IntN(len(m.clients))
	}
	switch what := m.r.IntN(20); {
	case what < 9:
		m.publish()
	case what < 12 || len(m.clients) == 0:
		m.join()
	case what < 15:
		m.clients[k].read()
	case what < 17:
		c := m.clients[k]
		c.s.Close()
		if c.last == "" || c.last == "earliest" || c.last == "other-1" { // it has read nothing yet
			c.over = true
			break
		}
		c.fresh = false
		c.subscribe(m.r.IntN(len(m.replicas)), c.last)
	case what < 18:
		m.clients[k].s.Close()
		m.clients[k].over = true
	default:
		m.cutOff()
	}
	m.clients = slices.DeleteFunc(m.clients, func(c *follower) bool { return c.over })
}

// cutOff takes a replica off NATS for a while.
func (m *model) cutOff() {
	m.away = m.r.IntN(len(m.replicas))
	m.relays[m.away].Block()
	testwait.For(m.t, "a replica that is not ready", func() bool { return m.replicas[m.away].Ready() != nil })
	for range m.r.IntN(30) {
		m.publish()
	}
	m.relays[m.away].Restore()
	m.replicas[m.away].ready(m.t)
	for _, c := range m.clients {
		if c.replica == m.away {
			c.steady = false
		}
	}
	m.away = -1
}

func TestReplicasAgreeWithAModelOfOneServer(t *testing.T) {
	t.Parallel()
	testmodel.Run(t, 6, runModel)
}

func runModel(t *testing.T, seed uint64) {
	n := natsserver.Start(t)
	r := rand.New(rand.NewPCG(seed, 0))
	m := &model{t: t, r: r, history: []int{0, 1, 3, 20, 1000}[r.IntN(5)], ended: map[string]bool{}, away: -1}
	change := func(c *cluster.Config) { c.History, c.Linger = m.history, 20*time.Millisecond }
	for range 2 + r.IntN(2) {
		between := relay.New(t, strings.TrimPrefix(n.ClientURL(), "nats://"))
		m.relays = append(m.relays, between)
		m.replicas = append(m.replicas, join(t, "nats://"+between.Address, change).ready(t))
	}
	defer func() {
		if t.Failed() {
			t.Logf("%d replicas, %d messages for each topic", len(m.replicas), m.history)
		}
	}()
	for i := 0; i < 250 && !t.Failed(); i++ {
		m.step()
	}
	for _, c := range m.clients {
		if c.read(); !c.over {
			c.s.Close()
		}
	}
	for _, r := range m.replicas {
		testwait.For(t, "a replica that keeps nothing for nobody", func() bool { return r.events.Stats().Kept == 0 || t.Failed() })
		r.stop()
	}
}
