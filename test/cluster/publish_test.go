package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/natsserver"
)

// lines is the beginning of the keys that the lines of an upload have.
const lines = "upload\t"

// numbered returns messages with the data from, from+1 … to. Their keys begin with that prefix, unless it is empty.
func numbered(prefix string, from, to int) (all []event.Message) {
	for i := from; i <= to; i++ {
		m := message("", i)
		if prefix != "" {
			m.Key = fmt.Sprint(prefix, i)
		}
		all = append(all, m)
	}
	return all
}

func keyed(key string, m event.Message) event.Message {
	m.Key = key
	return m
}

// TestMessagesThatArePublishedTogether publishes a first call and then a second one, which may be refused in part.
func TestMessagesThatArePublishedTogether(t *testing.T) {
	t.Parallel()
	ended := message("over", "done")
	ended.End = true
	for _, test := range []struct {
		name          string
		first, second []event.Message
		kept          int
		err           error
		got           string // in the default topic: ranges of numbers
	}{
		{"all are new", numbered("", 1, 10), numbered("", 11, 1500), 1490, nil, "1-1500"},
		{"one alone", nil, numbered("", 1, 1), 1, nil, "1-1"},
		{"all are lines of an upload", numbered(lines, 1, 10), numbered(lines, 11, 700), 690, nil, "1-700"},
		{"all with keys", numbered("k", 1, 10), numbered("k", 11, 30), 20, nil, "1-30"},
		{"all were published before", numbered("k", 1, 20), numbered("k", 1, 20), 20, nil, "1-20"},
		{"all lines were published before", numbered(lines, 1, 20), numbered(lines, 1, 20), 20, nil, "1-20"},
		{"the first ones were published before", numbered("k", 1, 20), numbered("k", 1, 40), 40, nil, "1-40"},
		{"the first lines were published before", numbered(lines, 1, 20), numbered(lines, 1, 600), 600, nil, "1-600"},
		{"some in the middle were published before", numbered("k", 4, 6), numbered("k", 1, 9), 9, nil, "4-6 1-3 7-9"},
		{"a key twice in a call", nil, slices.Concat(numbered("k", 1, 3), numbered("k", 3, 5)), 6, nil, "1-5"},
		{"a key of another message", numbered("k", 4, 4), slices.Concat(numbered("k", 1, 3), []event.Message{keyed("k4", message("", "other"))}, numbered("k", 5, 9)), 3, event.ErrKeyReused, "4-4 1-3"},
		{"a line is another one than before", numbered(lines, 1, 6), slices.Concat(numbered(lines, 1, 3), []event.Message{keyed(lines+"4", message("", "other"))}, numbered(lines, 5, 9)), 3, event.ErrKeyReused, "1-6"},
		{"the last line is another one than before", numbered(lines, 1, 4), slices.Concat(numbered(lines, 1, 3), []event.Message{keyed(lines+"4", message("", "other"))}, numbered(lines, 5, 9)), 3, event.ErrKeyReused, "1-4"},
		{"one is too large for NATS", nil, slices.Concat(numbered("", 1, 3), []event.Message{message("", strings.Repeat("x", 20_000))}, numbered("", 4, 9)), 3, event.ErrTooLarge, "1-3"},
		{"one is too large for the stream", nil, slices.Concat(numbered("", 1, 3), []event.Message{message("", strings.Repeat("x", 6_000))}, numbered("", 4, 9)), 3, event.ErrTooLarge, "1-3"},
		{"one topic has ended", []event.Message{ended}, slices.Concat(numbered("", 1, 3), []event.Message{message("over", 1)}, numbered("", 4, 9)), 3, event.ErrEnded, "1-3"},
		{"one topic has ended, with keys", []event.Message{ended}, slices.Concat(numbered("k", 1, 3), []event.Message{keyed("new", message("over", 1))}, numbered("k", 4, 9)), 3, event.ErrEnded, "1-3"},
		{"what ended the topic is repeated", []event.Message{keyed("end", ended)}, slices.Concat(numbered("", 1, 3), []event.Message{keyed("end", ended)}, numbered("", 4, 9)), 10, nil, "1-9"},
	} {
		for _, batches := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, batches %t", test.name, batches), func(t *testing.T) {
				t.Parallel()
				n := natsserver.Start(t, func(o *server.Options) { o.MaxPayload = 16_000 })
				_, js := direct(t, n.ClientURL())
				config := jetstream.StreamConfig{Name: "sse", Subjects: []string{"sse", "sse.>"}, MaxMsgSize: 5_000}
				if _, err := js.CreateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				r := join(t, n.ClientURL()).ready(t)
				s, err := js.Stream(t.Context(), "sse")
				if err != nil {
					t.Fatal(err)
				}
				now := s.CachedInfo().Config
				if !now.AllowAtomicPublish {
					t.Fatal("the stream takes no batches")
				}
				if now.AllowAtomicPublish = batches; !batches {
					if _, err := js.UpdateStream(t.Context(), now); err != nil {
						t.Fatal(err)
					}
				}
				c, over := r.client(t, ""), r.client(t, "", "over")
				if kept, _, err := r.Publish(t.Context(), test.first...); err != nil || kept != len(test.first) {
					t.Fatalf("the first call kept %d: %v", kept, err)
				}
				if len(test.first) > 0 && test.first[0].End {
					over.until(t, 1) // the replica knows of the end
				}
				kept, id, err := r.Publish(t.Context(), test.second...)
				if kept != test.kept || !errors.Is(err, test.err) {
					t.Errorf("kept %d: %v, want %d: %v", kept, err, test.kept, test.err)
				}
				if test.second[0].Key != "" && test.second[kept-1].Key != "" {
					if again, same, err := r.Publish(t.Context(), test.second[:kept]...); again != kept || same != id || err != nil {
						t.Errorf("%d were kept, the last one as %q; then %d, as %q: %v", kept, id, again, same, err)
					}
				}
				var wanted []string
				for span := range strings.FieldsSeq(test.got) {
					var from, to int
					if _, err := fmt.Sscanf(span, "%d-%d", &from, &to); err != nil {
						t.Fatal(err)
					}
					for i := from; i <= to; i++ {
						wanted = append(wanted, fmt.Sprint("data:", i))
					}
				}
				r.publish(t, "", "end")
				if got := c.until(t, len(wanted)+1); !slices.Equal(got, append(wanted, end)) {
					t.Errorf("got %d events, the last ones %q, want %d", len(got), tail(got), len(wanted)+1)
				}
			})
		}
	}
}

// TestLinesWithKeysAreRepeatedAfterTheirLeaderWasKilled publishes a long body, and all of it again after each error,
// as a publisher with an Idempotency-Key does.
func TestLinesWithKeysAreRepeatedAfterTheirLeaderWasKilled(t *testing.T) {
	t.Parallel()
	nats := startThree(t)
	three := func(c *cluster.Config) { c.Replicas = 3 }
	join(t, nats.url, three).ready(t).stop()
	nats.lead(t, "n2")
	a, b := join(t, nats.url, three).ready(t), join(t, nats.url, three).ready(t)
	c := b.client(t, "")

	const total, call = 4000, 160
	body := numbered(lines, 1, total)
	half, killed := make(chan struct{}), make(chan struct{})
	var reached sync.Once
	var killing sync.WaitGroup
	killing.Go(func() {
		defer close(killed)
		select {
		case <-half:
			nats.nodes[2].Kill()
		case <-t.Context().Done():
		}
	})
	defer killing.Wait()
	errorsSeen := 0
	deadline := time.Now().Add(2 * testwait.Limit)
	for from := 0; from < total; {
		kept, _, err := a.Publish(t.Context(), body[from:min(from+call, total)]...)
		if from += kept; from > total/2 {
			reached.Do(func() { close(half) }) // and publishing goes on meanwhile
		}
		switch {
		case err == nil:
		case !errors.Is(err, cluster.ErrAway) || time.Now().After(deadline):
			t.Fatalf("after %d lines: %v", from, err)
		default:
			errorsSeen++
			from = 0 // the whole body again
		}
	}
	<-killed
	// Once more, through the other replica: nothing is published.
	if kept, _, err := b.Publish(t.Context(), body[:call]...); kept != call || err != nil {
		t.Errorf("%d of %d lines again: %v", kept, call, err)
	}
	b.publish(t, "", "end")
	for i, event := range c.until(t, total+1) {
		wanted := fmt.Sprint("data:", i+1)
		if i == total {
			wanted = end
		}
		if event != wanted {
			t.Fatalf("event %d is %s, want %s", i, event, wanted)
		}
	}
	t.Logf("the body was sent %d times", errorsSeen+1)
}

// The replica has published to the topic itself, so it has an opinion about what the newest message is.
func TestTopicThatWasEndedElsewhereIsEndedAtOnce(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	_, js := direct(t, n.ClientURL())
	for i, end := range []func(topic string){
		func(topic string) { a.send(t, "", event.Message{Topic: topic, End: true}) },
		func(topic string) { a.send(t, topic+" end", event.Message{Topic: topic, Data: []byte("1"), End: true}) },
		func(topic string) {
			m := &nats.Msg{Subject: "sse." + topic, Header: nats.Header{"End": {"true"}}}
			if _, err := js.PublishMsg(t.Context(), m); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for already := range 5 {
			topic := fmt.Sprint("topic-", i, "-", already)
			for range already {
				b.send(t, "", message(topic, "before"))
			}
			end(topic)
			for _, m := range [][]event.Message{{message(topic, "alone")}, {message(topic, "with"), message(topic, "others")}, {keyed(topic, message(topic, "with a key"))}} {
				if kept, _, err := b.Publish(t.Context(), m...); kept != 0 || !errors.Is(err, event.ErrEnded) {
					t.Errorf("after %d messages and the end, %d were kept: %v, want %v", already, kept, err, event.ErrEnded)
				}
			}
			stored, err := js.Stream(t.Context(), "sse")
			if err != nil {
				t.Fatal(err)
			}
			last, err := stored.GetLastMsgForSubject(t.Context(), "sse."+topic)
			if err != nil || last.Header.Get("End") != "true" {
				t.Errorf("after %d messages and the end, the last message is %+v: %v", already, last, err)
			}
		}
	}
}

// NATS does not answer to messages that a replica may not publish.
func TestTopicThatIsNotStoredHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	config := `accounts { A { jetstream: enabled, users: [{user: app, password: secret, permissions { publish: {allow: ">", deny: ["sse.closed"]} } }] } }`
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	users, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n := natsserver.Start(t, func(o *server.Options) { o.Accounts, o.Users = users.Accounts, users.Users })
	r := join(t, fmt.Sprint("nats://app:secret@127.0.0.1:", n.Options.Port)).ready(t)
	ctx, cancel := context.WithCancel(t.Context())
	answers := 0
	var publishing sync.WaitGroup
	publishing.Go(func() {
		for ctx.Err() == nil {
			if _, _, err := r.Publish(ctx, message("closed", 1)); !errors.Is(err, cluster.ErrAway) {
				t.Errorf("it may not publish to the topic, and the error is %v", err)
			}
			answers++
		}
	})
	const others = 50
	for i := range others {
		r.send(t, "", message("open", i))
	}
	cancel()
	publishing.Wait()
	// Each of the others would wait for two seconds, and an answer comes after five.
	if most := others / 4; answers > most {
		t.Errorf("while %d messages were stored, there were %d answers for the other topic, want at most %d", others, answers, most)
	}
}
