package cluster

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/cluster"
	"gin-sse/internal/event"
	"gin-sse/test/internal/natsserver"
)

// NATS is restarted, and has dropped what was published with a key by then.
func TestKeysLastOverARestartOfNATSWhateverCameAfterThem(t *testing.T) {
	t.Parallel()
	small := func(c *cluster.Config) { c.History = 5 }
	replacing := message("state", 1)
	replacing.Replace = true
	for _, test := range []struct {
		name    string
		first   []event.Message // the last one is repeated alone, too
		another bool            // another replica gets the repetition
		ignored bool            // no client follows the topic there
	}{
		{"a message", numbered("key", 1, 1), false, false},
		{"a message, again through another replica", numbered("key", 1, 1), true, false},
		{"a message to a topic that nobody follows", numbered("key", 1, 1), true, true},
		{"messages with keys of their own", numbered("key", 1, 4), true, false},
		{"lines of an upload that is longer than the history", numbered(lines, 1, 20), false, false},
		{"lines of an upload, again through another replica", numbered(lines, 1, 20), true, false},
		{"lines of an upload to a topic that nobody follows", numbered(lines, 1, 20), false, true},
		{"a message that is replaced", []event.Message{keyed("key", replacing)}, true, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := natsserver.Start(t)
			a := join(t, n.ClientURL(), small).ready(t)
			kept, id, err := a.Publish(t.Context(), test.first...)
			if kept != len(test.first) || err != nil {
				t.Fatalf("%d were kept: %v", kept, err)
			}
			topic := test.first[0].Topic
			after := ""
			for i := range 10 {
				m := message(topic, fmt.Sprint("after ", i))
				m.Replace = test.first[0].Replace
				after = a.send(t, "", m)
			}
			n.Stop()
			n.Run(t)
			b := a
			if test.another {
				b = join(t, n.ClientURL(), small).ready(t)
			}
			b.ready(t)
			var topics []string // none is the default topic
			if topic != "" {
				topics = []string{topic}
			}
			var c *client
			if !test.ignored {
				c = b.client(t, "", topics...)
			}
			for range 2 { // of which the replica thinks from then on that it published the newest message
				b.send(t, "", message(topic, "between"))
			}
			for range 2 {
				if kept, again, err := b.Publish(t.Context(), test.first...); kept != len(test.first) || again != id || err != nil {
					t.Errorf("again, %d were kept, the last one as %q, want %q: %v", kept, again, id, err)
				}
			}
			other := test.first[len(test.first)-1]
			other.Data = []byte(`"other"`)
			if _, _, err := b.Publish(t.Context(), other); !errors.Is(err, event.ErrKeyReused) {
				t.Errorf("another message with the key: %v, want %v", err, event.ErrKeyReused)
			}
			b.send(t, "", message(topic, "end"))
			if test.ignored {
				c = b.client(t, after, topics...)
			}
			want(t, c.until(t, 3), `data:"between"`, `data:"between"`, end)
		})
	}
}

// Publishers that had no answer repeat what they sent, through any replica.
func TestManyPublishersThatRepeatTheirKeysStoreEachMessageOnce(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	replicas := []*replica{join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)}
	const publishers, each = 32, 10
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for i := range each {
				m := keyed(fmt.Sprint(p/2, " ", i), message(fmt.Sprint("topic-", i%3), fmt.Sprint(p/2, " ", i))) // two publishers have the same keys
				_, first, err := replicas[p%2].Publish(t.Context(), m)
				_, again, problem := replicas[i%2].Publish(t.Context(), m)
				if err != nil || problem != nil || first != again {
					t.Errorf("%q has the id %q, then %q: %v, %v", m.Key, first, again, err, problem)
				}
			}
		})
	}
	publishing.Wait()
	_, js := direct(t, n.ClientURL())
	s, err := js.Stream(t.Context(), "sse")
	if err != nil {
		t.Fatal(err)
	}
	info, err := s.Info(t.Context(), jetstream.WithSubjectFilter("sse.topic-*"))
	if err != nil {
		t.Fatal(err)
	}
	stored := uint64(0)
	for _, n := range info.State.Subjects {
		stored += n
	}
	if stored != publishers/2*each {
		t.Errorf("%d messages are stored, want %d", stored, publishers/2*each)
	}
}
