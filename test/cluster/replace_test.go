package cluster

import (
	"errors"
	"strings"
	"testing"

	"gin-sse/internal/event"
	"gin-sse/test/internal/natsserver"
)

// A message that replaces is the only one of its topic on every replica: for clients that are connected, that come back,
// and that come to a replica which has just started.
func TestMessageThatReplacesIsTheOnlyOneOfItsTopicOnEveryReplica(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	a, b := join(t, n.ClientURL()).ready(t), join(t, n.ClientURL()).ready(t)
	live := b.client(t, "", "cpu")
	first := a.send(t, "", message("cpu", 1))
	a.send(t, "", message("cpu", 2))
	other := a.send(t, "", message("load", 7))
	live.until(t, 2)
	whole := message("cpu", 3)
	whole.Replace = true
	id := a.send(t, "key", whole)
	if again := b.send(t, "key", whole); again != id {
		t.Errorf("a repeated message has the id %q, want %q", again, id)
	}
	want(t, live.until(t, 3), "data:1", "data:2", "data:3")
	for name, r := range map[string]*replica{"where it was published": a, "another": b, "a new one": join(t, n.ClientURL()).ready(t)} {
		want(t, r.client(t, first, "cpu").until(t, 1), "data:3")
		want(t, r.client(t, "earliest", "cpu", "load").until(t, 2), "data:7", "data:3")
		want(t, r.client(t, "latest", "*").until(t, 2), "data:7", "data:3")
		if _, id, err := r.Publish(t.Context(), event.Message{Topic: "load", Data: whole.Data, Key: "key"}); !errors.Is(err, event.ErrKeyReused) {
			t.Errorf("%s: a key of another message is answered with %q and %v", name, id, err)
		}
	}

	// With an end and no data, nothing is left but the end, and that can be erased, too.
	for range 2 {
		if _, _, err := b.Publish(t.Context(), event.Message{Topic: "cpu", End: true, Replace: true}); err != nil {
			t.Error(err)
		}
	}
	if _, _, err := a.Publish(t.Context(), message("cpu", 4)); !errors.Is(err, event.ErrEnded) {
		t.Errorf("publishing to it is answered with %v", err)
	}
	if _, err := live.Next(t.Context()); !errors.Is(err, event.ErrEnded) {
		t.Errorf("its subscriber gets %v", err)
	}
	s, err := join(t, n.ClientURL()).ready(t).events.Fetch(t.Context(), topics(t, "cpu", "load"), other)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if piece, err := s.Next(t.Context()); err != nil || !strings.Contains(string(piece), `data:{"live":true}`) || strings.Contains(string(piece), "topic:") {
		t.Errorf("then there is %q, %v", piece, err)
	}
}

func topics(t *testing.T, names ...string) event.Topics {
	t.Helper()
	set, err := event.ParseTopics(names)
	if err != nil {
		t.Fatal(err)
	}
	return set
}
