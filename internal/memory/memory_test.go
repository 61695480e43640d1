package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/idempotency"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newLog(t *testing.T) (*Log, *hub.Hub) {
	events := hub.New(hub.Options{Limits: history.Limits{PerTopic: 10, Bytes: 1 << 20}})
	t.Cleanup(events.Close)
	return New(events), events
}

func publish(t *testing.T, l *Log, key string, m event.Message) (id string) {
	t.Helper()
	m.Key = key
	_, id, err := l.Publish(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func message(topic, data string) event.Message {
	return event.Message{Topic: topic, Data: json.RawMessage(data)}
}

func TestIdsCountOverAllTopics(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t)
	for i, topic := range []string{"", "a", "b", "a"} {
		if id, want := publish(t, l, "", message(topic, "1")), fmt.Sprintf("-%d", i+1); !strings.HasSuffix(id, want) {
			t.Errorf("message %d has the id %q, want one with %q", i, id, want)
		}
	}
	other, _ := newLog(t)
	if one, two := publish(t, l, "", message("", "1")), publish(t, other, "", message("", "1")); strings.Split(one, "-")[0] == strings.Split(two, "-")[0] {
		t.Errorf("two logs have the same epoch: %q and %q", one, two)
	}
}

func TestAKeyPublishesOnce(t *testing.T) {
	t.Parallel()
	l, events := newLog(t)
	m := event.Message{Topic: "a", Name: "n", Data: json.RawMessage(`{"x":1}`), End: true}
	first := publish(t, l, "key", m)
	if again := publish(t, l, "key", m); again != first { // though the topic has ended
		t.Errorf("the same key brings %q, want %q", again, first)
	}
	if kept := events.Stats().Kept; kept != 1 {
		t.Errorf("%d messages are kept, want 1", kept)
	}
	for name, change := range map[string]func(*event.Message){
		"topic": func(m *event.Message) { m.Topic = "b" },
		"name":  func(m *event.Message) { m.Name = "" },
		"data":  func(m *event.Message) { m.Data = json.RawMessage("2") },
		"end":   func(m *event.Message) { m.End = false },
	} {
		other := m
		change(&other)
		other.Key = "key"
		if _, _, err := l.Publish(t.Context(), other); !errors.Is(err, event.ErrKeyReused) {
			t.Errorf("the key with another %s: %v, want ErrKeyReused", name, err)
		}
	}
	m.Key = "other"
	if _, _, err := l.Publish(t.Context(), m); !errors.Is(err, event.ErrEnded) {
		t.Errorf("another key on a topic that has ended: %v, want ErrEnded", err)
	}
}

func TestKeysAreForgottenAfterTwoMinutesOr100000Others(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l, _ := newLog(t)
		m := message("a", "1")
		first := publish(t, l, "key", m)
		time.Sleep(2 * time.Minute)
		if again := publish(t, l, "key", m); again != first {
			t.Error("the key was forgotten too early")
		}
		time.Sleep(time.Nanosecond)
		second := publish(t, l, "key", m)
		if second == first {
			t.Error("the key was not forgotten after two minutes")
		}
		for i := range idempotency.MaxKeys - 1 {
			publish(t, l, fmt.Sprint(i), m)
		}
		if again := publish(t, l, "key", m); again != second {
			t.Error("the key was forgotten before 100,000 others were used")
		}
		if l.keys.Len() != idempotency.MaxKeys {
			t.Errorf("%d keys are kept, want %d", l.keys.Len(), idempotency.MaxKeys)
		}
		publish(t, l, "one more", m)
		if again := publish(t, l, "key", m); again == second {
			t.Error("the key was not forgotten after 100,000 others")
		}
	})
}

func TestWhatCannotBeSentTakesNoNumber(t *testing.T) {
	t.Parallel()
	l, events := newLog(t)
	publish(t, l, "", event.Message{Topic: "b", End: true})
	if _, _, err := l.Publish(t.Context(), message("b", "1")); !errors.Is(err, event.ErrEnded) {
		t.Errorf("to a topic that has ended: %v, want ErrEnded", err)
	}
	if id := publish(t, l, "key", message("a", "1")); !strings.HasSuffix(id, "-2") {
		t.Errorf("the next message has the id %q", id)
	}
	events.Close()
	if _, _, err := l.Publish(t.Context(), message("a", "1")); !errors.Is(err, event.ErrClosed) {
		t.Errorf("on a closed hub: %v, want ErrClosed", err)
	}
}

func TestManyPublishersGetEachNumberOnce(t *testing.T) {
	t.Parallel()
	l, _ := newLog(t)
	var mu sync.Mutex
	ids := map[string]bool{}
	var publishing sync.WaitGroup
	for range 16 {
		publishing.Go(func() {
			for i := range 100 {
				id := publish(t, l, fmt.Sprint("shared ", i), message("a", "1"))
				mu.Lock()
				ids[id] = true
				mu.Unlock()
			}
		})
	}
	publishing.Wait()
	if len(ids) != 100 {
		t.Errorf("%d messages for 100 keys", len(ids))
	}
}
