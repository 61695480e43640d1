package survive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/tmpfs"
)

// When clients are told of a gap. By default they are where something is missing.
const (
	never  = "never"
	always = "always"
)

// scenario is something bad that happens.
type scenario struct {
	name string // of the row in docs/cluster.md, and what is special about it here

	servers   int      // of NATS; 0 is one
	jetstream string   // settings of NATS
	disk      string   // size of the disk of NATS, if it is a small one
	relayed   bool     // there is a link between NATS and the first replica
	replicas  int      // 0 is two
	env       []string // of the replicas
	elsewhere bool     // the client that stays follows another topic than those that resume

	before  func(*world) // happens after a third of the messages
	happens func(*world)
	noticed func(*world) // waits until replicas have noticed, if they do at the next message
	gaps    string       // never, always, or the client that must be told of one
}

func TestSurvives(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			survive(t, s)
		})
	}
}

// survive plays a scenario. One client stays connected. Two leave before something happens and resume afterwards: one that
// was late, and one that was up to date.
func survive(t *testing.T, s scenario) {
	w := start(t, s)
	stays := &client{w: w, name: "stays", topic: topic, last: "earliest"}
	late := &client{w: w, name: "late", topic: topic, last: "earliest", at: len(w.replicas) - 1}
	current := &client{w: w, name: "current", topic: topic, last: "earliest"}
	if s.elsewhere {
		stays.topic = other
	}
	w.publish(quiet, 1)
	w.publish(stays.topic, 1)
	defer stays.open(stays.has(end))()

	w.publish(topic, 10)
	if s.before != nil {
		s.before(w)
	}
	w.publish(topic, 20)
	late.read(func() bool { return len(late.got) == 5 })
	promised := w.promised(topic)
	current.read(current.has(promised[len(promised)-1].data))

	s.happens(w)
	w.ready()
	w.publish(topic, 5)
	if s.noticed != nil {
		s.noticed(w)
	}
	w.send(topic, end)
	if s.elsewhere {
		w.send(other, end)
	}
	late.read(late.has(end))
	current.read(current.has(end))
	testwait.Closed(t, "the end of the stream that stays", stays.done)
	for _, c := range []*client{stays, late, current} {
		c.judge(s.gaps)
	}
	w.ready()
	w.calm()
}

// The table in docs/cluster.md says what each of these looks like.
func TestTheDocumentHasEachScenario(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## What happens on a bad day\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var rows, names []string
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, " | "); len(cells) > 2 && strings.HasSuffix(cells[0], ".") {
			rows = append(rows, strings.TrimPrefix(cells[0], "| "))
		}
	}
	for _, s := range scenarios {
		name, _, _ := strings.Cut(s.name, ".")
		names = append(names, name+".")
	}
	names = slices.Compact(names)
	if !slices.Equal(rows, names) {
		t.Errorf("the table has the rows\n%s\nwant\n%s", strings.Join(rows, "\n"), strings.Join(names, "\n"))
	}
}

var scenarios = []scenario{
	{
		name: "NATS goes away, or is not there at the start.",
		happens: func(w *world) {
			w.nats[0].Stop()
			w.restart(1)
			w.refuses("NATS cannot be reached", 0, 1)
			w.nats[0].Run()
		},
		gaps: never,
	},
	{
		name:    "NATS is killed.",
		happens: func(w *world) { w.nats[0].Kill(); w.nats[0].Run() },
		gaps:    never,
	},
	{
		name: "NATS is killed. A publisher repeats its message.",
		env:  []string{"HISTORY=5"},
		happens: func(w *world) {
			data := w.books.next()
			w.send(topic, data)
			w.publish(topic, 10) // the topic no longer keeps that message
			w.nats[0].Kill()
			w.nats[0].Run()
			w.send(topic, data)
		},
	},
	{
		name: "NATS is frozen, or does not answer.",
		happens: func(w *world) {
			w.nats[0].Freeze()
			w.refuses("NATS does not answer", 0, 1)
			w.nats[0].Thaw()
		},
		gaps: never,
	},
	{
		name:    "The link between a replica and NATS stalls.",
		relayed: true,
		happens: func(w *world) {
			w.link.Stall()
			w.refuses("NATS does not answer", 0)
			w.publish(topic, 10, 1)
			w.link.Restore()
		},
		gaps: never,
	},
	{
		name:    "The leader of three NATS servers is killed.",
		servers: 3,
		env:     []string{"HISTORY=1000000"}, // the longer it takes, the more is published
		happens: func(w *world) {
			w.manyPublish(func() {
				leader := w.leader()
				leader.Kill()
				w.awaitLeader(leader.Name)
				leader.Run()
			})
		},
		gaps: never,
	},
	{
		name:    "The leader of three NATS servers is frozen.",
		servers: 3,
		happens: func(w *world) {
			leader := w.leader()
			leader.Freeze()
			w.publish(topic, 5) // through another leader
			w.ready()
			leader.Thaw()
		},
		gaps: never,
	},
	{
		name:    "A replica is suspended for longer than the history.",
		relayed: true,
		env:     []string{"HISTORY=40"},
		happens: func(w *world) {
			w.must(child.Suspend(w.replicas[0].Cmd.Process))
			w.link.Block() // NATS gives up a connection that takes nothing
			w.publish(topic, 100, 1)
			w.link.Restore()
			w.must(child.Resume(w.replicas[0].Cmd.Process))
		},
		gaps: "stays",
	},
	{
		name:    "An older copy of NATS is put back.",
		before:  (*world).copyNATS,
		happens: func(w *world) { w.putBack(); w.publish(topic, 50) },
		gaps:    always,
	},
	{
		name:     "An older copy of NATS is put back. There is one replica.",
		replicas: 1,
		before:   (*world).copyNATS,
		happens:  func(w *world) { w.putBack(); w.publish(topic, 50) },
		gaps:     always,
	},
	{
		name:      "An older copy of NATS is put back. Clients follow other topics.",
		elsewhere: true,
		before:    (*world).copyNATS,
		happens:   func(w *world) { w.putBack(); w.publish(topic, 50) },
	},
	{
		name:    "An older copy of NATS is put back. One replica is restarted meanwhile.",
		before:  (*world).copyNATS,
		happens: func(w *world) { w.putBack(func() { w.restart(1) }); w.publish(topic, 50) },
		gaps:    always,
	},
	{
		name:   "An older copy of NATS is put back. It happens twice.",
		before: (*world).copyNATS,
		happens: func(w *world) {
			for range 2 {
				w.putBack()
				w.publish(topic, 50)
			}
		},
		gaps: always,
	},
	{
		name:   "An older copy of NATS is put back. Everything expires while no replica runs.",
		before: (*world).copyNATS,
		happens: func(w *world) {
			w.putBack()
			w.publish(topic, 50)
			w.ready()
			w.expire()
		},
		gaps: always,
	},
	{
		name:    "Everything expires while no replica runs.",
		happens: (*world).expire,
	},
	{
		name: "The directory of NATS is wiped.",
		happens: func(w *world) {
			w.nats[0].Stop()
			w.must(os.RemoveAll(w.nats[0].Dir))
			w.nats[0].Run()
		},
		gaps: always,
	},
	{
		name: "Somebody deletes the stream.",
		happens: func(w *world) {
			_, js := w.direct()
			w.must(js.DeleteStream(w.Context(), "sse"))
		},
		gaps: always,
	},
	{
		name: "Another program makes the stream anew, with other limits.",
		happens: func(w *world) {
			_, js := w.direct()
			w.must(js.DeleteStream(w.Context(), "sse"))
			_, err := js.CreateStream(w.Context(), jetstream.StreamConfig{Name: "sse", Subjects: []string{"sse.>"}, MaxMsgsPerSubject: 7, MaxAge: time.Hour})
			if err != nil {
				w.Logf("a replica was faster: %v", err)
			}
			w.publish(topic, 50)
		},
		gaps: always,
	},
	{
		name: "Messages expire.",
		happens: func(w *world) {
			last := w.stream().CachedInfo().State.LastSeq
			w.edit(func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = 3*time.Second, 3*time.Second })
			testwait.For(w, "a stream without old messages", func() bool { return w.stream().CachedInfo().State.FirstSeq > last })
			w.edit(func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour })
			w.restart(1) // it cannot have what is gone
		},
		gaps: "late",
	},
	{
		name: "Somebody deletes messages.",
		happens: func(w *world) {
			all := w.promised(topic)
			older, newest := all[20], all[len(all)-1]
			w.must(w.stream().DeleteMsg(w.Context(), older.number))
			w.must(w.stream().DeleteMsg(w.Context(), newest.number))
			w.forgive(func(d delivery) bool { return d == older }) // nobody can know that there was one
			w.restart(1)                                           // it cannot have what is gone
		},
		noticed: func(w *world) { w.replicas[1].Out.Wait(w, "messages were removed from the stream") },
		gaps:    "late",
	},
	{
		name: "Another program replaces a topic's messages.",
		happens: func(w *world) {
			_, js := w.direct()
			data := w.books.next()
			ack, err := js.PublishMsg(w.Context(), &nats.Msg{Subject: "sse." + topic, Data: []byte(data), Header: nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}})
			w.must(err)
			w.restart(1)
			w.forgive(func(d delivery) bool { return d.topic == topic }) // it was replaced
			w.takeFromStream(topic, ack.Sequence, data)
		},
		gaps: never,
	},
	{
		name:    "Somebody purges the stream.",
		happens: func(w *world) { w.must(w.stream().Purge(w.Context())) },
	},
	{
		name: "Somebody purges a topic.",
		happens: func(w *world) {
			w.must(w.stream().Purge(w.Context(), jetstream.WithPurgeSubject("sse."+topic)))
			w.restart(1)
		},
		noticed: func(w *world) { w.replicas[1].Out.Wait(w, "messages were removed from the stream") },
		gaps:    "late",
	},
	{
		name: "The stream is full, and drops the oldest messages.",
		happens: func(w *world) {
			w.edit(func(c *jetstream.StreamConfig) { c.MaxMsgs = 20 })
			w.publish(topic, 30)
		},
	},
	{
		name: "The stream is full, and drops the oldest messages. It keeps three.",
		happens: func(w *world) {
			w.edit(func(c *jetstream.StreamConfig) { c.MaxMsgs = 3 })
			for i := range 10 {
				c := &client{w: w, topic: fmt.Sprint("new-", i), at: i % 2, last: "earliest"}
				w.send(c.topic, end)
				c.read(c.has(end))
			}
		},
	},
	{
		name: "The stream is full, and takes no more.",
		happens: func(w *world) {
			w.edit(func(c *jetstream.StreamConfig) {
				c.Discard, c.MaxMsgs = jetstream.DiscardNew, int64(w.stream().CachedInfo().State.Msgs)
			})
			w.refuses("maximum messages exceeded", 0, 1)
			w.serves()
			w.restart(1)
			w.serves()
			w.edit(func(c *jetstream.StreamConfig) { c.MaxMsgs = -1 })
		},
		gaps: never,
	},
	{
		name:      "NATS has no room for the stream.",
		jetstream: "max_file_store: 1M",
		happens: func(w *world) {
			w.fillNATS()
			w.refuses("insufficient resources", 0, 1)
			w.serves()
			w.must(w.stream().Purge(w.Context(), jetstream.WithPurgeSubject("sse.big")))
		},
		gaps: never,
	},
	{
		name: "The disk of NATS is full.",
		disk: "16m",
		happens: func(w *world) {
			w.must(tmpfs.Fill(w.disk))
			w.fillNATS()
			w.refuses("messages are not stored: no answer in time", 0, 1)
			w.serves()
			w.must(tmpfs.Clear(w.disk))
			w.nats[0].Stop() // after a failed write, NATS stores nothing until it is restarted
			w.nats[0].Run()
		},
		gaps: never,
	},
	{
		name:    "Another program publishes what makes no sense.",
		happens: func(w *world) { w.publishNonsense(20_000) },
		gaps:    never,
	},
	{
		name:    "Another program publishes what makes no sense. It has numbers that NATS will give to other messages.",
		happens: func(w *world) { w.publishNonsense(1, 70) },
	},
}

// leader is the NATS server that leads the stream.
func (w *world) leader() *natsserver.Process {
	w.Helper()
	name := w.awaitLeader("")
	for _, n := range w.nats {
		if n.Name == name {
			return n
		}
	}
	w.Fatalf("the leader is %q", name)
	return nil
}

// awaitLeader waits until the stream has a leader that is not this one.
func (w *world) awaitLeader(not string) (name string) {
	w.Helper()
	_, js := w.direct()
	testwait.For(w, "a leader", func() bool {
		ctx, cancel := context.WithTimeout(w.Context(), 2*time.Second)
		defer cancel()
		s, err := js.Stream(ctx, "sse")
		if err == nil {
			name = s.CachedInfo().Cluster.Leader
		}
		return err == nil && name != "" && name != not
	})
	return name
}

// manyPublish publishes from 16 publishers before, while and after something happens.
func (w *world) manyPublish(during func()) {
	w.Helper()
	var begun, publishing sync.WaitGroup
	var over atomic.Bool
	begun.Add(16)
	for range 16 {
		publishing.Go(func() {
			w.publish(topic, 5)
			begun.Done()
			for !over.Load() {
				w.publish(topic, 1)
				time.Sleep(10 * time.Millisecond) // as there are other tests
			}
			w.publish(topic, 5)
		})
	}
	begun.Wait()
	during()
	over.Store(true)
	publishing.Wait()
}

// expire stops the replicas, waits until the stream has dropped all its messages for their age, and starts the replicas.
func (w *world) expire() {
	w.Helper()
	for i := range w.replicas {
		w.stop(i)
	}
	w.edit(func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = 200*time.Millisecond, 200*time.Millisecond })
	testwait.For(w, "a stream without messages", func() bool { return w.stream().CachedInfo().State.Msgs == 0 })
	w.edit(func(c *jetstream.StreamConfig) { c.MaxAge, c.Duplicates = 0, 2*time.Minute })
	for i := range w.replicas {
		w.restart(i)
	}
}

// fillNATS publishes as another program until NATS takes no more.
func (w *world) fillNATS() {
	w.Helper()
	_, js := w.direct()
	for size := 64 << 10; size > 0; {
		ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
		_, err := js.Publish(ctx, "sse.big", []byte(strings.Repeat("x", size)), jetstream.WithRetryAttempts(0))
		cancel()
		if err != nil {
			w.Logf("NATS does not take %d bytes: %v", size, err)
			size /= 16 // a smaller message may fit
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return // a write has failed
		}
	}
}

// publishNonsense publishes as a program that knows nothing of replicas, or wishes them ill. It forges messages that are so
// far ahead of the last one.
func (w *world) publishNonsense(ahead ...uint64) {
	w.Helper()
	forged := &client{w: w, name: "forged", topic: "forged"} // so that a replica listens to this subject
	w.publish(forged.topic, 1)
	defer forged.open(func() bool { return false })()

	nc, js := w.direct()
	last := w.stream().CachedInfo().State.LastSeq
	for _, subject := range []string{"sse." + topic, "sse.forged", "sse", "sse.$ended", "sse.$sync", "sse.$x", "sse.a b", "sse.a/b", "sse.ä", "sse." + strings.Repeat("x", 300), "sse.private", "sse." + topic + "."} {
		for _, header := range []nats.Header{
			nil,
			{"Event": {"no name: it has\tspaces"}},
			{"Event": {strings.Repeat("x", 1000)}, "End": {"perhaps"}, "Floor": {"-1"}},
			{"Nats-Sequence": {"18446744073709551615"}, "Nats-Stream": {"other"}, "Nats-Time-Stamp": {"yesterday"}},
		} {
			for _, data := range []string{"", "{", "\xff\x00"} {
				m := &nats.Msg{Subject: subject, Header: header, Data: []byte(data)}
				_ = nc.PublishMsg(m) // the client library refuses some subjects
			}
		}
		_ = nc.Publish(subject, []byte(strings.Repeat("x", 900<<10)))
		// What replicas listen to, as if NATS had stored it.
		numbers := []string{"", "0", "1", "-1", "x", "9223372036854775808", "18446744073709551615"}
		if subject != "sse."+topic {
			for _, n := range ahead {
				numbers = append(numbers, fmt.Sprint(last+n))
			}
		}
		for _, number := range numbers {
			m := &nats.Msg{Subject: "sse-live." + subject, Data: []byte(`"forged"`), Header: nats.Header{
				"Nats-Stream": {"sse"}, "Nats-Subject": {subject}, "Nats-Time-Stamp": {time.Now().UTC().Format(time.RFC3339Nano)}, "Nats-Last-Sequence": {"0"},
			}}
			if number != "" {
				m.Header.Set("Nats-Sequence", number)
			}
			_ = nc.PublishMsg(m)
		}
	}
	w.must(nc.Flush())
	// What makes sense reaches clients as if a replica had published it.
	for range 100 {
		data := w.books.next()
		ack, err := js.Publish(w.Context(), "sse."+topic, []byte(data))
		w.must(err)
		w.takeFromStream(topic, ack.Sequence, data)
	}
}
