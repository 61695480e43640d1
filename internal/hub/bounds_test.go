package hub

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
)

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // completes the sweep of the first one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func text(size int) json.RawMessage {
	return json.RawMessage(`"` + strings.Repeat("x", size) + `"`)
}

func publish(t *testing.T, h *Hub, m event.Message) {
	t.Helper()
	if err := h.Append(m); err != nil {
		t.Fatal(err)
	}
}

// These tests measure memory, so they do not run in parallel with others.

func TestClientsThatFallBehindKeepABoundedAmountInMemoryAndAreTold(t *testing.T) {
	h := begun(Options{Limits: history.Limits{PerTopic: 100, Bytes: 1 << 20, Window: 1 << 20}})
	defer h.Close()
	before := heap()
	var stalled []*Subscriber
	for i := range 200 {
		s := subscribe(t, h, "", "news", fmt.Sprint(i%10))
		now(t, s)
		stalled = append(stalled, s)
	}
	const messages = 1_000 // 10 MB
	for n := range uint64(messages) {
		publish(t, h, event.Message{Number: n + 1, Topic: "news", Data: text(10_000)})
	}
	h.flush()
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("the hub keeps %d MB for clients that do not read", grown>>20)
	}
	for _, s := range stalled {
		got := brief(t, now(t, s))
		if !strings.HasPrefix(got, "gap ") || strings.Count(got, "gap") > 1 || !strings.HasSuffix(got, fmt.Sprint(", ", messages)) {
			t.Fatalf("a client that fell behind got %.60q...", got)
		}
	}
}

func TestWhatEverybodyHasIsNotKept(t *testing.T) {
	h := begun(Options{})
	defer h.Close()
	s := subscribe(t, h, "")
	before := heap()
	for range 1000 {
		tick(t, h, strings.Repeat("x", 10_000))
		now(t, s)
	}
	if grown := heap() - before; grown > 1<<20 {
		t.Errorf("%d bytes are kept of 10 MB that everybody has", grown)
	}
}

func TestManyClientsThatComeBackAndDoNotReadTakeLittleMemory(t *testing.T) {
	h := begun(Options{Limits: history.Limits{PerTopic: 10_000, Bytes: 64 << 20}})
	defer h.Close()
	for n := range uint64(10_000) {
		publish(t, h, event.Message{Number: n + 1, Topic: "a", Data: text(500)})
	}
	before := heap()
	const clients = 3000
	pieces := make([][]byte, clients)
	names := [][]string{{"a"}, {"*"}, {"a", "b"}}
	var coming sync.WaitGroup
	for i := range clients {
		coming.Go(func() {
			s := subscribe(t, h, "e-1", names[i%3]...)
			pieces[i], _ = s.Next(t.Context())
		})
	}
	coming.Wait()
	if grown := heap() - before; grown > 80<<20 {
		t.Errorf("%d clients take %d MB", clients, grown>>20)
	}
	runtime.KeepAlive(pieces)
}

func TestLargeMessagesAreNotCopied(t *testing.T) {
	h := begun(Options{Limits: history.Limits{PerTopic: 10, Bytes: 64 << 20}})
	defer h.Close()
	live := []*Subscriber{subscribe(t, h, "", "a"), subscribe(t, h, "", "a", "b"), subscribe(t, h, "", "*")}
	for n := range uint64(10) {
		publish(t, h, event.Message{Number: n + 1, Topic: "a", Data: text(1 << 20)})
	}
	before := heap()
	var pieces [][]byte
	next := func(s *Subscriber) {
		for range 2 { // where the stream begins, then the message
			piece, err := s.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, piece)
		}
	}
	for _, s := range live {
		next(s)
	}
	for i := range 200 {
		next(subscribe(t, h, h.ID(uint64(i%10)), [][]string{{"a"}, {"a", "b"}, {"a", "b/*"}}[i%3]...))
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("clients that all read the same messages take %d MB", grown>>20)
	}
	runtime.KeepAlive(pieces)
}

func TestALongQueryIsNotKeptWithItsTopics(t *testing.T) {
	h := begun(Options{})
	defer h.Close()
	before := heap()
	for i := range 1000 {
		query := fmt.Sprintf("%d/%s", i, strings.Repeat("x", 10_000))
		name, _, _ := strings.Cut(query, "/")
		subscribe(t, h, "", name)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("1,000 subscribers with short names keep %d bytes", grown)
	}
}

func TestATopicDoesNotKeepTheNamesOfASubscriberThatIsGone(t *testing.T) {
	h := begun(Options{})
	defer h.Close()
	before := heap()
	for i := range 1000 {
		set := []string{fmt.Sprint(i)}
		for n := range 19 {
			set = append(set, fmt.Sprintf("%0*d", 200, n))
		}
		first, err := h.Subscribe(t.Context(), topics(t, set...), "")
		if err != nil {
			t.Fatal(err)
		}
		subscribe(t, h, "", fmt.Sprint(i))
		first.Close()
	}
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("1,000 subscribers with short names keep %d bytes", grown)
	}
}

func TestASubscriptionToUnknownTopicsLeavesNothing(t *testing.T) {
	t.Parallel()
	h := newHub(t, roomy)
	send(t, h, 1, "a")
	for i := range 100 {
		s, err := h.Subscribe(t.Context(), topics(t, fmt.Sprint("x/", i), "a", "*", "y/*"), "e-0")
		if err != nil {
			t.Fatal(err)
		}
		now(t, s)
		s.Close()
	}
	if len(h.feeds) > 0 || h.Stats().Topics != 1 || h.Stats().Subscribers != 0 {
		t.Errorf("%d feeds and %+v are left", len(h.feeds), h.Stats())
	}
}

// A subscriber that reads on before the window has passed is never told of a gap, whatever the limits are, and whatever
// others do: the readers keep up round by round, and a round is less than the window.
func TestASubscriberThatKeepsUpIsNeverToldOfAGap(t *testing.T) {
	t.Parallel()
	const window, rounds, messages = 128 << 10, 15, 80
	pool := []string{"news", "b", "b/1", "b/2"}
	sets := [][]string{{"news"}, {"b/*"}, {"*"}, {"news", "b"}, {"news", "b/*"}, {"b", "b/1", "b/2"}}
	for _, limits := range []history.Limits{
		{Window: window},
		{PerTopic: 1, Bytes: 1 << 20, Window: window},
		{PerTopic: 1000, Bytes: 1000, Window: window},
	} {
		h := newHub(t, Options{Limits: limits})
		kept := make(chan struct{}) // a reader has all of a round
		var running sync.WaitGroup
		for i := range 24 {
			names := sets[i%len(sets)]
			s := subscribe(t, h, "", names...)
			now(t, s)
			perRound := 0 // events that say that a round is over: each topic has one
			for _, topic := range pool {
				if slices.ContainsFunc(names, func(name string) bool { return event.Pattern(name).Matches(topic) }) {
					perRound++
				}
			}
			running.Go(func() {
				for seen := 0; seen < rounds*perRound; {
					piece, err := s.Next(t.Context())
					if err != nil {
						return
					}
					if strings.Contains(string(piece), "event:gap") {
						t.Errorf("%+v: %q was told of a gap", limits, names)
					}
					for range strings.Count(string(piece), "event:round\n") {
						if seen++; seen%perRound == 0 {
							kept <- struct{}{}
						}
					}
				}
			})
		}
		running.Go(func() { // others come, ask for much, read little, and go
			for range 200 {
				s, err := h.Subscribe(t.Context(), topics(t, "*"), []string{Earliest, "e-1", "f-1"}[rand.IntN(3)])
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = s.Next(t.Context())
				s.Close()
			}
		})
		number := uint64(0)
		for range rounds {
			for range messages {
				number++
				publish(t, h, event.Message{Number: number, Topic: pool[rand.IntN(len(pool))], Data: text(rand.IntN(1000))})
			}
			for _, topic := range pool {
				number++
				publish(t, h, event.Message{Number: number, Topic: topic, Name: "round", Data: text(0)})
			}
			for range 24 {
				select {
				case <-kept:
				case <-t.Context().Done():
					t.Fatal("a reader does not get on")
				}
			}
		}
		running.Wait()
	}
}
