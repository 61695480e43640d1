package hub

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// heap is how many bytes are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // completes the sweep of the first one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// These tests measure memory, so they do not run in parallel with others.

func TestClientsThatFallBehindKeepABoundedAmountInMemory(t *testing.T) {
	h := begun(Limits{History: 100, HistoryBytes: 1 << 20})
	defer h.Close()
	before := heap()
	var stalled []*Subscriber
	for i := range 200 {
		s := subscribe(t, h, "", "news", fmt.Sprint(i%10))
		now(t, s)
		stalled = append(stalled, s)
	}
	payload := json.RawMessage(`"` + strings.Repeat("x", 10_000) + `"`)
	const messages = 8_000 // 80 MB
	for n := range uint64(messages) {
		if err := h.Append(Message{Number: n + 1, Topic: "news", Data: payload}); err != nil {
			t.Fatal(err)
		}
	}
	h.flushWaiting()
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("the hub keeps %d MB for clients that do not read", grown>>20)
	}
	for _, s := range stalled {
		got := brief(t, now(t, s))
		if !strings.HasPrefix(got, "gap ") || !strings.Contains(got, " null, ") && !strings.Contains(got, " 79") || !strings.HasSuffix(got, fmt.Sprint(", ", messages)) {
			t.Fatalf("a client that fell behind got %.60q...", got)
		}
	}
}

func TestPassedBatchesAreNotKept(t *testing.T) {
	h := begun(Limits{})
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
	h := begun(Limits{History: 10_000, HistoryBytes: 64 << 20})
	defer h.Close()
	for n := range uint64(10_000) {
		if err := h.Append(Message{Number: n + 1, Topic: "a", Data: json.RawMessage(`"` + strings.Repeat("x", 500) + `"`)}); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	const clients = 5000
	pieces := make([][]byte, clients)
	names := [][]string{{"a"}, {"*"}, {"a", "b"}}
	var coming sync.WaitGroup
	var longest time.Duration
	coming.Go(func() { // a publisher on another topic
		for n := range uint64(200) {
			start := time.Now()
			send(t, h, 10_001+n, "b")
			longest = max(longest, time.Since(start))
			time.Sleep(time.Millisecond)
		}
	})
	for i := range clients {
		coming.Go(func() {
			s := subscribe(t, h, "e-1", names[i%3]...)
			pieces[i], _ = s.Next(t.Context())
		})
	}
	coming.Wait()
	t.Logf("others waited %v at most", longest)
	if grown := heap() - before; grown > 150<<20 {
		t.Errorf("%d clients take %d MB", clients, grown>>20)
	}
	runtime.KeepAlive(pieces)
}

func TestLargeMessagesAreNotCopiedForThoseThatComeBack(t *testing.T) {
	h := begun(Limits{History: 10, HistoryBytes: 64 << 20})
	defer h.Close()
	for n := range uint64(10) {
		if err := h.Append(Message{Number: n + 1, Topic: "a", Data: json.RawMessage(`"` + strings.Repeat("x", 1<<20) + `"`)}); err != nil {
			t.Fatal(err)
		}
	}
	before := heap()
	var pieces [][]byte
	for i := range 200 {
		s := subscribe(t, h, h.ID(uint64(i%10)), "a")
		for range 2 { // where the stream begins, then the message
			piece, _, err := s.take()
			if err != nil {
				t.Fatal(err)
			}
			pieces = append(pieces, piece)
		}
	}
	if grown := heap() - before; grown > 8<<20 {
		t.Errorf("clients that all read the same messages take %d MB", grown>>20)
	}
	runtime.KeepAlive(pieces)
}

func TestThoseThatReadTheHistoriesDoNotQueueForTheLock(t *testing.T) {
	h := newHub(t, roomy)
	send(t, h, 1, "a")
	h.reading.Lock() // as one that reads does
	read := make(chan string, 10)
	for range cap(read) {
		s := subscribe(t, h, "e-0", "a")
		go func() {
			data, _, err := s.take()
			read <- fmt.Sprint(string(data), err)
		}()
	}
	for range 1000 {
		runtime.Gosched()
		send(t, h, h.last+1, "b")
	}
	if len(read) > 0 {
		t.Error("several subscribers read the histories at the same time")
	}
	h.reading.Unlock()
	for range cap(read) {
		if got := <-read; !strings.HasSuffix(got, "data:1\n\n<nil>") {
			t.Errorf("got %q", got)
		}
	}
}

func TestALongQueryIsNotKeptWithItsTopics(t *testing.T) {
	h := begun(Limits{})
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

func TestATopicDoesNotKeepTheNamesOfAChainThatIsGone(t *testing.T) {
	h := begun(Limits{})
	defer h.Close()
	before := heap()
	for i := range 1000 {
		set := []string{fmt.Sprint(i)}
		for n := range maxTopics - 1 {
			set = append(set, fmt.Sprintf("%0*d", maxTopic, n))
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

func TestHistoriesStayWithinTheirBytes(t *testing.T) {
	const limit = 8 << 20
	h := begun(Limits{History: 5, HistoryBytes: limit})
	defer h.Close()
	before := heap()
	number := uint64(0)
	for round := range 3 {
		for i := range 40_000 {
			number++
			m := Message{Number: number, Topic: fmt.Sprintf("orders/%d/%d", round, i), Data: json.RawMessage(`{"state":"sent"}`), End: i%2 == 0}
			if i%10 == 0 {
				m.Topic = "news/all"
			}
			if err := h.Append(m); err != nil {
				t.Fatal(err)
			}
		}
	}
	grown := heap() - before
	t.Logf("%d bytes are counted, %d taken; %d topics, %d empty, %d messages", h.histories.bytes, grown, len(h.histories.topics), h.histories.empty.Len(), h.histories.kept)
	if h.histories.bytes > limit+leastBuried || grown > limit+limit/4 {
		t.Errorf("%d bytes are counted and %d taken, want at most %d", h.histories.bytes, grown, limit)
	}
	if h.histories.kept < 5000 {
		t.Errorf("only %d messages are kept", h.histories.kept)
	}
	for id, want := range map[uint64]bool{number - 1000: false, 1: true} {
		got := brief(t, now(t, subscribe(t, h, h.ID(id), "orders/*")))
		if strings.Contains(got, "gap") != want {
			t.Errorf("after %d: %.100q, want a gap: %v", id, got, want)
		}
	}
	bytes := h.histories.bytes
	for _, t := range h.histories.topics {
		bytes -= t.cost
	}
	for _, m := range h.histories.all {
		if m.frame != nil {
			bytes -= messageCost + size(m.frame)
		}
	}
	if bytes != 0 {
		t.Errorf("%d bytes too much are counted", bytes)
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
	if len(h.chains)+len(h.topics) > 0 || h.silent.next != &h.silent || len(h.histories.topics) != 1 || h.Stats().Subscribers != 0 {
		t.Errorf("%d chains, %d topics and %d histories are left", len(h.chains), len(h.topics), len(h.histories.topics))
	}
}
