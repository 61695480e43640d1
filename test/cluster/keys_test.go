package cluster

import (
	"errors"
	"fmt"
	"testing"

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
	}{
		{"a message", numbered("key", 1, 1), false},
		{"a message, again through another replica", numbered("key", 1, 1), true},
		{"messages with keys of their own", numbered("key", 1, 4), true},
		{"lines of an upload that is longer than the history", numbered(lines, 1, 20), false},
		{"lines of an upload, again through another replica", numbered(lines, 1, 20), true},
		{"a message that is replaced", []event.Message{keyed("key", replacing)}, true},
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
			for i := range 10 {
				m := message(topic, fmt.Sprint("after ", i))
				m.Replace = test.first[0].Replace
				a.send(t, "", m)
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
			c := b.client(t, "", topics...)
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
			want(t, c.until(t, 1), end)
		})
	}
}
