package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/internal/testport"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/relay"
)

// upTo reads until the message with that id, and returns all events.
func (c *client) upTo(t testing.TB, last string) []string {
	t.Helper()
	for c.last != last {
		c.until(t, len(c.got)+1)
	}
	return c.got
}

// live reads the start of a client's stream: what comes from then on does not have to be in the history.
func (c *client) live(t testing.TB) *client {
	t.Helper()
	if err := c.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMessageReachesTheSubscribersOfItsTopicOnEveryReplicaAndNobodyElse(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	nc, _ := direct(t, n.ClientURL())
	deep := strings.Repeat("d/", 99) + "d"
	topics := []string{"", "news", "v1.2", "v1/2", "private/a", deep}
	var clients []*client
	for _, topic := range topics {
		for _, r := range []*replica{a, b} {
			if topic == "" {
				clients = append(clients, r.client(t, ""))
			} else {
				clients = append(clients, r.client(t, "", topic))
			}
		}
	}
	everything := b.client(t, "", "*")
	for i, topic := range topics {
		a.send(t, "", message(topic, topic+" from a"))
		b.send(t, "", message(topic, topic+" from b"))
		subject := []string{"sse", "sse.news", "sse.v1:2", "sse.v1.2", "sse.private.a", "sse." + strings.Repeat("d.", 99) + "d"}[i]
		if err := nc.Publish(subject, []byte(topic+" from NATS")); err != nil {
			t.Fatal(err)
		}
	}
	var public []string
	for i, topic := range topics {
		all := []string{fmt.Sprintf("data:%q", topic+" from a"), fmt.Sprintf("data:%q", topic+" from b"), fmt.Sprintf("data:%q", topic+" from NATS")}
		if topic != "" && topic != "private/a" {
			public = append(public, all...)
		}
		slices.Sort(all)
		for _, c := range clients[2*i : 2*i+2] {
			got := slices.Clone(c.until(t, 3))
			slices.Sort(got) // what goes past the replica has an order of its own
			want(t, got, all...)
		}
	}
	got := slices.Clone(everything.until(t, len(public)))
	slices.Sort(got)
	slices.Sort(public)
	want(t, got, public...)
}

func TestSubjectsThatAreNoTopicsAreSkippedWithOneLine(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL()).ready(t)
	c, all := r.client(t, ""), r.client(t, "", "*")
	nc, _ := direct(t, n.ClientURL())
	for _, subject := range []string{"sse.a/b", "sse.ü", "sse.$x", "sse.$ended", "sse." + strings.Repeat("x", 201)} {
		if err := nc.Publish(subject, []byte("1")); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	r.publish(t, "", "default")
	r.send(t, "", message("a", "a"))
	want(t, c.until(t, 1), `data:"default"`)
	want(t, all.until(t, 1), `data:"a"`)
	if n := len(r.log.Lines("are no topics are skipped")); n != 1 {
		t.Errorf("%d lines, want 1", n)
	}
}

func TestKeyBelongsToOneMessage(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	m := event.Message{Topic: "a", Name: "name", Data: json.RawMessage(`{"x":1}`)}
	id := a.send(t, "key", m)
	if again := b.send(t, "key", m); again != id {
		t.Errorf("the id is %q, then %q", id, again)
	}
	topic, name, data, end := m, m, m, m
	topic.Topic, name.Name, data.Data, end.End = "b", "other", json.RawMessage(`2`), true
	for what, other := range map[string]event.Message{"topic": topic, "name": name, "data": data, "end": end} {
		other.Key = "key"
		if _, id, err := b.Publish(t.Context(), other); !errors.Is(err, event.ErrKeyReused) {
			t.Errorf("with another %s: %q and %v, want %v", what, id, err, event.ErrKeyReused)
		}
	}
	_, js := direct(t, n.ClientURL())
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := b.send(t, "key", m); again != id {
		t.Errorf("the id is %q, and %q when the message is gone", id, again)
	}
}

func TestEndedTopicIsEndedOnEveryReplica(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	one, two := a.client(t, "", "build"), b.client(t, "", "build")
	first := a.send(t, "first", message("build", 1))
	last := event.Message{Topic: "build", Data: json.RawMessage(`"over"`), End: true}
	id := a.send(t, "last", last)
	for _, c := range []*client{one, two} {
		want(t, c.until(t, 2), "data:1", `data:"over"`)
		if err := c.read(t.Context()); !errors.Is(err, event.ErrEnded) {
			t.Errorf("after the end: %v, want %v", err, event.ErrEnded)
		}
	}
	c := join(t, n.ClientURL()).ready(t)
	for _, r := range []*replica{a, b, c} {
		for _, key := range []string{"", "new"} {
			again := message("build", 2)
			again.Key = key
			if _, id, err := r.Publish(t.Context(), again); !errors.Is(err, event.ErrEnded) {
				t.Errorf("publish with the key %q: %q and %v, want %v", key, id, err, event.ErrEnded)
			}
		}
		if again := r.send(t, "last", last); again != id {
			t.Errorf("the end, sent again, has the id %q, want %q", again, id)
		}
		if again := r.send(t, "first", message("build", 1)); again != first {
			t.Errorf("a message from before the end, sent again, has the id %q, want %q", again, first)
		}
		other := message("build", 3)
		other.Key = "first"
		if _, id, err := r.Publish(t.Context(), other); !errors.Is(err, event.ErrKeyReused) {
			t.Errorf("a key from before the end: %q and %v, want %v", id, err, event.ErrKeyReused)
		}
	}
	nc, _ := direct(t, n.ClientURL()) // NATS itself does not refuse a message to an ended topic
	if err := nc.Publish("sse.build", []byte("4")); err != nil {
		t.Fatal(err)
	}
	testwait.For(t, "the topic open again", func() bool { return !b.events.Ended("build") })
	reader := b.client(t, id, "build")
	want(t, reader.until(t, 1), "data:4")
}

func TestReplicaThatHasEndedATopicTakesNothingMoreForItAtOnce(t *testing.T) {
	t.Parallel()
	a := join(t, natsserver.Start(t).ClientURL()).ready(t)
	a.client(t, "", "a/*", "b")
	for _, topic := range []string{"a/1", "a/2", "b", "c"} {
		for _, m := range []event.Message{message(topic, 1), {Topic: topic, End: true}} {
			a.send(t, "", m)
		}
		if _, id, err := a.Publish(t.Context(), message(topic, 2)); !errors.Is(err, event.ErrEnded) {
			t.Errorf("publish to %s right after its end: %q and %v, want %v", topic, id, err, event.ErrEnded)
		}
	}
}

func TestTopicEndsWithoutAnEvent(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	c := b.client(t, "", "build")
	last := a.send(t, "", message("build", 1))
	id := a.send(t, "end", event.Message{Topic: "build", End: true})
	if again := a.send(t, "end", event.Message{Topic: "build", End: true}); again != id {
		t.Errorf("the id is %q, then %q", id, again)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	for err := error(nil); !errors.Is(err, event.ErrEnded); {
		if err = c.read(ctx); err != nil && !errors.Is(err, event.ErrEnded) {
			t.Fatal(err)
		}
	}
	want(t, c.got, "data:1")
	if c.last != last {
		t.Errorf("the last id is %q, want that of the last message, %q", c.last, last)
	}
}

func TestStreamOfAnOperatorKeepsItsLimits(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	_, js := direct(t, n.ClientURL())
	made, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ops", Subjects: []string{"ops", "ops.>", "news"}, MaxMsgs: 20, Storage: jetstream.MemoryStorage})
	if err != nil {
		t.Fatal(err)
	}
	ops := func(c *cluster.Config) { c.Stream = "ops" }
	r := join(t, n.ClientURL(), ops).ready(t)
	c := r.client(t, "")
	quiet := r.client(t, "", "quiet")
	first := r.publish(t, "", 1)
	if _, err := js.Publish(t.Context(), "news", []byte("no topic")); err != nil {
		t.Fatal(err)
	}
	r.send(t, "", message("quiet", 1))
	want(t, c.until(t, 1), "data:1")
	want(t, quiet.until(t, 1), "data:1")
	var newest string
	for i := range 40 {
		newest = r.publish(t, "", i+2)
	}
	// Only 20 are left, so nobody knows what else a topic had.
	fresh := join(t, n.ClientURL(), ops).ready(t)
	want(t, fresh.client(t, first, "quiet", "other").until(t, 1), `event:gap data:{}`)
	back := fresh.client(t, first).upTo(t, newest)
	want(t, back[:1], `event:gap data:{}`)
	want(t, back[len(back)-10:], "data:32", "data:33", "data:34", "data:35", "data:36", "data:37", "data:38", "data:39", "data:40", "data:41")
	now, err := js.Stream(t.Context(), "ops")
	if err != nil {
		t.Fatal(err)
	}
	made.CachedInfo().Config.AllowAtomicPublish = true // for batches
	made.CachedInfo().Config.AllowMsgTTL = true        // for keys
	made.CachedInfo().Config.AllowDirect = true
	made.CachedInfo().Config.AllowRollup = true
	made.CachedInfo().Config.RePublish = now.CachedInfo().Config.RePublish
	made.CachedInfo().Config.Metadata = now.CachedInfo().Config.Metadata
	if a, b := fmt.Sprintf("%+v", made.CachedInfo().Config), fmt.Sprintf("%+v", now.CachedInfo().Config); a != b {
		t.Errorf("it was %s, and is %s", a, b)
	}
}

func TestStreamOfAVersionWithoutTopicsIsUpgraded(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	_, js := direct(t, n.ClientURL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "sse", Subjects: []string{"sse"}, MaxMsgs: 100}); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := js.Publish(t.Context(), "sse", fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	r := join(t, n.ClientURL(), func(c *cluster.Config) { c.History = 50 }).ready(t)
	r.send(t, "", message("topic", 1))
	want(t, r.client(t, "earliest").until(t, 3), "data:0", "data:1", "data:2")
	want(t, r.client(t, "earliest", "topic").until(t, 1), "data:1")
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	if c := s.CachedInfo().Config; c.MaxMsgs != -1 || c.MaxMsgsPerSubject != 52 || !slices.Equal(c.Subjects, []string{"sse", "sse.>"}) {
		t.Errorf("the stream is %+v", c)
	}
	if len(r.log.Lines("was changed for replicas")) != 1 {
		t.Error("the log does not tell")
	}
}

func TestStreamThatCannotTakeTopicsIsAClearProblem(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	_, js := direct(t, n.ClientURL())
	for name, subject := range map[string]string{"sse": "sse", "other": "sse.>"} {
		if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: name, Subjects: []string{subject}}); err != nil {
			t.Fatal(err)
		}
	}
	r := join(t, n.ClientURL())
	testwait.For(t, "a line about the subjects", func() bool { return len(r.log.Lines(`needs ["sse" "sse.>"]`)) == 1 })
	if err := r.Ready(); err == nil || !strings.Contains(err.Error(), `needs ["sse" "sse.>"]`) {
		t.Errorf("the problem is %v", err)
	}
}

func TestLostMessagesBeginAnEpochOnEveryReplica(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	one, two, quiet := a.client(t, ""), b.client(t, ""), b.client(t, "", "quiet")
	a.send(t, "", message("quiet", 0))
	a.publish(t, "", 1)
	a.publish(t, "", 2)
	one.until(t, 2)
	two.until(t, 2)
	quiet.until(t, 1)
	n.Stop()
	copied := t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(n.Options.StoreDir)); err != nil {
		t.Fatal(err)
	}
	n.Run(t)
	a.publish(t, "", 3)
	old := one.until(t, 3)
	two.until(t, 3)
	oldID := one.last

	n.Stop()
	n.Options.StoreDir = copied
	port := n.Options.Port
	n.Options.Port = testport.Free(t) // a port where the replicas do not find it
	n.Run(t)
	_, js := direct(t, n.ClientURL())
	for i := range 20 { // so many that the number of the last message from before is among them
		if _, err := js.Publish(t.Context(), "sse", fmt.Appendf(nil, "other %d", i)); err != nil {
			t.Fatal(err)
		}
	}
	n.Stop()
	n.Options.Port = port
	n.Run(t)

	after := []string{`event:gap data:{}`, "data:1", "data:2"}
	for i := range 20 {
		after = append(after, fmt.Sprintf(`data:"other %d"`, i))
	}
	for _, c := range []*client{one, two} {
		want(t, c.until(t, 26), append(slices.Clone(old), after...)...)
	}
	want(t, quiet.until(t, 3), "data:0", `event:gap data:{}`, "data:0")
	if one.last != two.last || epoch(one.last) == epoch(oldID) {
		t.Errorf("ids are %q and %q, and were %q", one.last, two.last, oldID)
	}
	c := join(t, n.ClientURL()).ready(t)
	for _, r := range []*replica{a, b, c} {
		want(t, r.ready(t).client(t, oldID).until(t, 23), after...)
		want(t, r.client(t, one.last).upTo(t, one.last))
	}
	if len(a.log.Lines("is another message now"))+len(b.log.Lines("is another message now")) == 0 {
		t.Error("the log does not tell")
	}

	// An operator removes all messages, including the one that names the epoch.
	_, js = direct(t, n.ClientURL())
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.Stop()
	n.Run(t)
	id := a.publish(t, "", "new")
	if epoch(id) != epoch(one.last) {
		t.Errorf("the epoch is %q, and was %q", epoch(id), epoch(one.last))
	}
	d := join(t, n.ClientURL()).ready(t)
	if id := d.publish(t, "", "newer"); epoch(id) != epoch(one.last) {
		t.Errorf("the epoch of a fresh replica is %q, and was %q", epoch(id), epoch(one.last))
	}
}

func epoch(id string) string { return id[:strings.LastIndex(id, "-")] }

func TestReplicaThatWasCutOffTellsOfAGapOnlyWhereMessagesAreLost(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	small := func(c *cluster.Config) { c.History = 5 }
	far := relay.New(t, strings.TrimPrefix(n.ClientURL(), "nats://"))
	a, b := join(t, n.ClientURL(), small).ready(t), join(t, "nats://"+far.Address, small).ready(t)
	topics := []string{"busy", "full", "quiet", "silent", "exact"}
	clients := map[string]*client{}
	for _, topic := range topics {
		clients[topic] = b.client(t, "", topic).live(t)
	}
	steady := a.client(t, "", "busy").live(t)
	ids := map[string]string{}
	send := func(topic string, from, to int) (all []string) {
		for i := from; i <= to; i++ {
			ids[topic] = a.send(t, "", message(topic, i))
			all = append(all, fmt.Sprint("data:", i))
		}
		return all
	}
	busy, full, quiet := send("busy", 1, 3), send("full", 1, 9), send("quiet", 1, 2)
	clients["busy"].upTo(t, ids["busy"])
	clients["full"].upTo(t, ids["full"])
	clients["quiet"].upTo(t, ids["quiet"])
	before := map[string]string{"busy": ids["busy"], "full": ids["full"], "quiet": ids["quiet"]}

	far.Block()
	testwait.For(t, "a replica that is not ready", func() bool { return b.Ready() != nil })
	send("busy", 4, 8)
	full, quiet = append(full, send("full", 10, 11)...), append(quiet, send("quiet", 3, 3)...)
	send("busy", 9, 12)
	full = append(full, send("full", 12, 12)...)
	far.Restore()
	b.ready(t)
	send("silent", 1, 1)
	busy = append(busy, `event:gap data:{}`, "data:6", "data:7", "data:8", "data:9", "data:10", "data:11", "data:12") // the stream has two more than HISTORY

	want(t, clients["busy"].upTo(t, ids["busy"]), busy...)
	want(t, clients["full"].upTo(t, ids["full"]), full...)
	want(t, clients["quiet"].upTo(t, ids["quiet"]), quiet...)
	want(t, clients["silent"].upTo(t, ids["silent"]), "data:1")
	for i, event := range steady.upTo(t, ids["busy"]) {
		if want := fmt.Sprint("data:", i+1); event != want {
			t.Errorf("a client of the replica that was not cut off got %q, want %q", event, want)
		}
	}

	// Clients come back with old ids, to this replica and to a fresh one.
	for _, r := range []*replica{b, join(t, n.ClientURL(), small).ready(t)} {
		want(t, r.client(t, before["busy"], "busy").upTo(t, ids["busy"]), busy[3:]...)
		want(t, r.client(t, before["full"], "full").upTo(t, ids["full"]), "data:10", "data:11", "data:12")
		want(t, r.client(t, before["quiet"], "quiet").upTo(t, ids["quiet"]), "data:3")
		want(t, r.client(t, before["quiet"], "silent").upTo(t, ids["silent"]), "data:1")
	}
	if len(b.log.Lines("were removed")) > 0 {
		t.Error("the log tells of a purge")
	}
}

func TestReplicaThatWasCutOffDuringAPurgeTellsOfAGap(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	far := relay.New(t, strings.TrimPrefix(n.ClientURL(), "nats://"))
	a, b := join(t, n.ClientURL()).ready(t), join(t, "nats://"+far.Address).ready(t)
	c, other := b.client(t, ""), b.client(t, "", "other")
	a.publish(t, "", 1)
	c.until(t, 1)
	far.Block()
	testwait.For(t, "a replica that is not ready", func() bool { return b.Ready() != nil })
	a.publish(t, "", 2)
	_, js := direct(t, n.ClientURL())
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.publish(t, "", 3)
	a.send(t, "", message("other", 1))
	far.Restore()
	want(t, c.until(t, 3), "data:1", `event:gap data:{}`, "data:3")
	want(t, other.until(t, 2), `event:gap data:{}`, "data:1")
	if len(b.log.Lines("removed from the stream")) != 1 {
		t.Error("the log does not tell")
	}
}

// A message comes late, and neither it nor the one before it is in the stream any longer.
func TestWhatTheStreamDroppedBeforeItCameIsAGap(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	_, js := direct(t, n.ClientURL())
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "sse", Subjects: []string{"sse", "sse.>"}, MaxMsgs: 5}); err != nil {
		t.Fatal(err)
	}
	link := relay.New(t, strings.TrimPrefix(n.ClientURL(), "nats://"))
	r := join(t, "nats://"+link.Address).ready(t)
	c := r.client(t, "", "a").live(t)
	publish := func(topic string, data int) {
		if _, err := js.Publish(t.Context(), "sse."+topic, fmt.Append(nil, data)); err != nil {
			t.Fatal(err)
		}
	}
	fill := func() {
		for i := range 10 {
			publish("b", i)
		}
	}
	publish("a", 1)
	want(t, c.until(t, 1), "data:1")
	link.Stall()
	fill()
	publish("a", 2)
	fill()
	link.Restore()
	want(t, c.until(t, 2), "data:1", "event:gap data:{}")
	publish("a", 3)
	want(t, c.until(t, 3), "data:1", "event:gap data:{}", "data:3")
}

func TestFreshReplicaTellsWaitingClientsOfTheirGapsAlone(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	small := func(c *cluster.Config) { c.History = 3 }
	a := join(t, n.ClientURL(), small).ready(t)
	quiet := a.send(t, "", message("quiet", 1))
	busy := a.send(t, "", message("busy", 1))
	for i := range 5 {
		a.send(t, "", message("busy", i+2))
	}
	recent := a.send(t, "", message("busy", 7))
	newest := a.send(t, "", message("busy", 8))
	a.stop()
	n.Stop()
	b := join(t, n.ClientURL(), small)
	one, two, three, fresh := b.client(t, quiet, "quiet"), b.client(t, busy, "busy"), b.client(t, recent, "busy"), b.client(t, "", "busy", "quiet")
	n.Run(t)
	b.ready(t)
	want(t, two.upTo(t, newest), `event:gap data:{}`, "data:4", "data:5", "data:6", "data:7", "data:8") // the stream has two more than HISTORY
	want(t, three.upTo(t, newest), "data:8")
	b.send(t, "", message("quiet", 2))
	last := b.send(t, "", message("busy", 9))
	want(t, one.until(t, 1), "data:2")
	want(t, fresh.upTo(t, last), "data:2", "data:9")
}

// Messages come in bursts, on a stream that keeps two for each topic, so a replica misses some in many places.
func TestReplicaThatFallsBehindTellsOfEveryLoss(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL(), func(c *cluster.Config) { c.History = 2 }).ready(t)
	_, js := direct(t, n.ClientURL())
	names := []string{"a", "b", "c"}
	var clients []*client
	for _, name := range names {
		clients = append(clients, r.client(t, "", name).live(t))
	}
	publish := func(name string, i int) {
		if _, err := js.PublishAsync("sse."+name, fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	const messages = 2000
	for i := range messages {
		for k, name := range names {
			if i%(1<<(4*k)) == 0 {
				publish(name, i)
			}
		}
		if i%100 == 0 {
			<-js.PublishAsyncComplete()
		}
	}
	for _, name := range names {
		publish(name, -1)
	}
	for k, c := range clients {
		next, gaps := 0, 0
		for i, told := 0, false; ; i++ {
			event := c.until(t, i+1)[i]
			if strings.HasPrefix(event, "event:gap") {
				told = true
				gaps++
				continue
			}
			var got int
			if _, err := fmt.Sscanf(event, "data:%d", &got); err != nil {
				t.Fatal(err)
			}
			if got < 0 {
				if next < messages && !told {
					t.Errorf("topic %s: the last ones from %d on are lost without a gap", names[k], next)
				}
				break
			}
			if got != next && !told {
				t.Errorf("topic %s: %d after %d without a gap", names[k], got, next-1<<(4*k))
			}
			next, told = got+1<<(4*k), false
		}
		t.Logf("topic %s: %d events, %d gaps", names[k], len(c.got), gaps)
	}
}

func TestStreamWithManyTopicsIsLoadedInTime(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	small := func(c *cluster.Config) { c.History = 3 }
	a := join(t, n.ClientURL(), small).ready(t)
	_, js := direct(t, n.ClientURL())
	const topics = 1000
	for i := range 5 * topics { // of every other topic all messages, and of the others the last three
		topic := i % topics
		if i/topics >= 3 && topic%2 == 0 {
			continue
		}
		if _, err := js.PublishAsync(fmt.Sprint("sse.t.", topic), fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	last := s.CachedInfo().State.LastSeq
	b := join(t, n.ClientURL(), small).ready(t)
	begin := time.Now()
	b.client(t, "", "t/*")
	t.Logf("%d messages were loaded in %v", last, time.Since(begin))
	id := a.send(t, "", message("end", 0))
	for _, r := range []*replica{a, b} {
		r.client(t, "earliest", "*").upTo(t, id)
		if kept := r.events.Stats().Kept; kept != 3*topics+1 {
			t.Errorf("%d messages are kept, want %d", kept, 3*topics+1)
		}
	}
}

func TestTopicsWhoseLastMessagesExceedOneAnswerAreLoaded(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a := join(t, n.ClientURL()).ready(t)
	large := strings.Repeat("x", 500_000)
	var topics, events []string
	for i := range 20 {
		topic := fmt.Sprint("large/", i)
		a.send(t, "", message(topic, fmt.Sprint(i, large)))
		topics, events = append(topics, topic), append(events, fmt.Sprintf("data:%q", fmt.Sprint(i, large)))
	}
	b := join(t, n.ClientURL()).ready(t)
	if got := b.client(t, "earliest", topics...).until(t, len(topics)); !slices.Equal(got, events) {
		t.Errorf("%d events come, and not those that were published", len(got))
	}
}

func TestWhatIsLoadedForOneClientIsNoGapForAnother(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	r := join(t, n.ClientURL(), func(c *cluster.Config) { c.History = 1 }).ready(t)
	slow := r.client(t, "", "*", "private/*").live(t)
	var sent []string
	for i := range 10 { // more than NATS keeps
		r.send(t, "", message("a", i))
		sent = append(sent, fmt.Sprint("data:", i))
	}
	want(t, r.client(t, "earliest", "a").until(t, 2), "event:gap data:{}", "data:9")
	want(t, slow.until(t, len(sent)), sent...)
}
