package handlers

import (
	"fmt"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

func follow(t *testing.T, h *hub.Hub, names ...string) {
	t.Helper()
	topics, err := event.ParseTopics(names)
	if err != nil {
		t.Fatal(err)
	}
	s, err := h.Subscribe(t.Context(), topics, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
}

func TestTheMostFollowedPublicTopicsAreShown(t *testing.T) {
	t.Parallel()
	h := hub.New(hub.Options{Limits: history.Limits{PerTopic: 2, Bytes: 1 << 20}})
	t.Cleanup(h.Close)
	h.Begin("e", 0, 0)
	for _, names := range [][]string{{"a", "b", "c/*"}, {"a"}, {"a", "d"}, {"e"}, {"f"}, {"g"}, {"private/x"}, {"private/x"}, {"private/x"}, nil, {"*"}} {
		follow(t, h, names...)
	}
	for n, topic := range []string{"a", "a", "a", "z", "c/1"} {
		if err := h.Append(event.Message{Number: uint64(n + 1), Topic: topic, Data: []byte("1")}); err != nil {
			t.Fatal(err)
		}
	}
	counted := busiest{public: event.Public{"*"}}
	topics, shown := counted.count(h)
	got := fmt.Sprint(h.Stats(), topics, shown)
	want := "{11 0 0 5 4 3} 10 [map[subscribers:3 topic:a] map[subscribers:1 topic:] map[subscribers:1 topic:b] map[subscribers:1 topic:d] map[subscribers:1 topic:e]]"
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestManyTopicsAreNotCountedEachTimeThatSomebodyAsks(t *testing.T) {
	t.Parallel()
	h := hub.New(hub.Options{})
	t.Cleanup(h.Close)
	for i := range fewTopics + 1 {
		follow(t, h, fmt.Sprint(i))
	}
	counted := busiest{public: event.Public{"*"}}
	counted.count(h)
	counted.until = time.Now().Add(time.Hour) // as if counting had taken long
	follow(t, h, "one", "more")
	if topics, _ := counted.count(h); topics != fewTopics+1 {
		t.Errorf("%d topics were counted, want the %d of before", topics, fewTopics+1)
	}
	counted.until = time.Time{}
	if topics, shown := counted.count(h); topics != fewTopics+3 || len(shown) != shownTopics || fmt.Sprint(shown[0]) != fmt.Sprint(gin.H{"topic": "0", "subscribers": "1"}) {
		t.Errorf("%d topics, the busiest %v", topics, shown)
	}
}
