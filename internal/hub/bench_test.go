package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type data map[string]any

var roomy = Limits{History: 10_000, HistoryBytes: 64 << 20}

func begun(limits Limits) *Hub {
	h := New(limits)
	h.Begin("e", 0, 0)
	return h
}

// crowd is subscribers that all wait in Next, each on a goroutine of its own.
type crowd struct {
	left    atomic.Int64
	all     chan struct{}
	running sync.WaitGroup
}

// newCrowd returns subscribers to these sets.
func newCrowd(b *testing.B, h *Hub, sets []Topics) *crowd {
	c := &crowd{all: make(chan struct{})}
	var ready sync.WaitGroup
	ready.Add(len(sets))
	for _, set := range sets {
		s, err := h.Subscribe(b.Context(), set, "")
		if err != nil {
			b.Fatal(err)
		}
		ctx, cancel := context.WithCancel(b.Context()) // each has its own, as requests do
		c.running.Go(func() {
			defer cancel()
			defer s.Close()
			if _, err := s.Next(ctx); err != nil { // where the stream begins
				b.Error(err)
			}
			ready.Done()
			for {
				if _, err := s.Next(ctx); err != nil {
					return
				}
				// From here back into Next there is nothing to wait for: when the last one is
				// counted, the others wait again, but for as many as there are processors.
				if c.left.Add(-1) == 0 {
					c.all <- struct{}{}
				}
			}
		})
	}
	ready.Wait()
	return c
}

// measure sends to so many of the crowd and waits until all of them have it.
//
//	ns/op          until the last subscriber has the event
//	sender-ns/op   the part of it until send returns
//	ns/subscriber  ns/op for each subscriber
func (c *crowd) measure(b *testing.B, subscribers int, send func() error) {
	once := func() time.Duration {
		c.left.Store(int64(subscribers))
		start := time.Now()
		if err := send(); err != nil {
			b.Fatal(err)
		}
		took := time.Since(start)
		<-c.all
		return took
	}
	once()
	var sender time.Duration
	for b.Loop() {
		sender += once()
	}
	b.ReportMetric(float64(sender.Nanoseconds())/float64(b.N), "sender-ns/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subscribers), "ns/subscriber")
}

// BenchmarkTick is the tutorial's stream.
func BenchmarkTick(b *testing.B) {
	for _, subscribers := range []int{1, 100, 1_000, 10_000, 15_000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := begun(roomy)
			c := newCrowd(b, h, make([]Topics, subscribers))
			event := data{"message": "Server Time: 2:03:25 PM"}
			c.measure(b, subscribers, func() error { return h.Tick(event) })
			h.Close()
			c.running.Wait()
		})
	}
}

// BenchmarkTopics sends to 10,000 subscribers. own=true gives each a topic of its own beside news.
func BenchmarkTopics(b *testing.B) {
	const subscribers = 10_000
	for _, own := range []bool{false, true} {
		sets := make([]Topics, subscribers)
		for i := range sets {
			names := []string{"news"}
			if own {
				names = append(names, fmt.Sprintf("users/%d", i))
			}
			sets[i], _ = ParseTopics(names)
		}
		h := begun(roomy)
		c := newCrowd(b, h, sets)
		number := uint64(0)
		publish := func(topic string) error {
			number++
			return h.Append(Message{Number: number, Topic: topic, Data: json.RawMessage(`{"message":"Server Time: 2:03:25 PM"}`)})
		}
		b.Run(fmt.Sprintf("own=%v/to=news", own), func(b *testing.B) {
			c.measure(b, subscribers, func() error {
				afterPause(h)
				return publish("news")
			})
		})
		if own {
			b.Run("own=true/to=one", func(b *testing.B) {
				c.measure(b, 1, func() error {
					afterPause(h)
					return publish(fmt.Sprintf("users/%d", number%subscribers))
				})
			})
		}
		h.Close()
		c.running.Wait()
	}
}

// afterPause lets the next message go out at once.
func afterPause(h *Hub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.started = h.started.Add(-pace)
}

// BenchmarkSubscriberMemory is what 10,000 subscribers take in the hub. own=true gives each a topic of its
// own beside news.
func BenchmarkSubscriberMemory(b *testing.B) {
	const subscribers = 10_000
	for _, own := range []bool{false, true} {
		b.Run(fmt.Sprintf("own=%v", own), func(b *testing.B) {
			all := make([]*Subscriber, subscribers)
			for b.Loop() {
				h := begun(roomy)
				before := heap()
				for i := range all {
					names := []string{"news"}
					if own {
						names = append(names, fmt.Sprintf("users/%d", i))
					}
					set, err := ParseTopics(names)
					if err != nil {
						b.Fatal(err)
					}
					if all[i], err = h.Subscribe(b.Context(), set, ""); err != nil {
						b.Fatal(err)
					}
					all[i].head = nil // written soon
				}
				b.ReportMetric(float64(heap()-before)/subscribers, "B/subscriber")
				start := time.Now()
				h.Topics()
				b.ReportMetric(float64(time.Since(start).Microseconds()), "stats-µs")
				h.Close()
				clear(all)
			}
		})
	}
}

// BenchmarkManyTopics keeps one small message in each of 100,000 topics.
func BenchmarkManyTopics(b *testing.B) {
	const topics = 100_000
	for b.Loop() {
		h := begun(roomy)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range topics {
			m := Message{Number: uint64(i + 1), Topic: fmt.Sprintf("orders/%d", i), Data: json.RawMessage(`{"state":"sent"}`)}
			if err := h.Append(m); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if kept := h.Stats().Kept; kept != topics {
			b.Fatalf("%d are kept", kept)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/topics, "B/topic")
		b.ReportMetric(float64(h.histories.bytes)/topics, "counted-B/topic")
		h.Close()
	}
}

// BenchmarkSubscribe opens a stream on a topic with 10,000 kept messages and takes what comes first.
func BenchmarkSubscribe(b *testing.B) {
	for _, topic := range []string{"a", "*"} {
		for _, after := range []string{"", "earliest", "e-1", "e-9999"} {
			b.Run(fmt.Sprintf("topic=%s/after=%s", topic, after), func(b *testing.B) {
				h := begun(roomy)
				defer h.Close()
				for i := range 10_000 {
					m := Message{Number: uint64(i + 1), Topic: "a", Data: json.RawMessage(`{"message":"Server Time: 2:03:25 PM"}`)}
					if err := h.Append(m); err != nil {
						b.Fatal(err)
					}
				}
				set, _ := ParseTopics([]string{topic})
				b.ReportAllocs()
				for b.Loop() {
					s, err := h.Subscribe(b.Context(), set, after)
					if err != nil {
						b.Fatal(err)
					}
					if _, err := s.Next(b.Context()); err != nil {
						b.Fatal(err)
					}
					s.Close()
				}
			})
		}
	}
}

// BenchmarkAppend publishes to a topic whose history is full.
func BenchmarkAppend(b *testing.B) {
	for _, topic := range []string{"", "a", "a/b/c/d"} {
		b.Run("topic="+topic, func(b *testing.B) {
			h := begun(Limits{History: 100, HistoryBytes: 1 << 20})
			defer h.Close()
			b.ReportAllocs()
			for number := uint64(1); b.Loop(); number++ {
				if err := h.Append(Message{Number: number, Topic: topic, Data: json.RawMessage(`{"message":"Server Time: 2:03:25 PM"}`)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFullSpeed publishes as fast as it can to 1,000 subscribers that take what they can.
func BenchmarkFullSpeed(b *testing.B) {
	const subscribers = 1000
	h := begun(Limits{History: 1000, HistoryBytes: 64 << 20})
	var bytes atomic.Int64
	var running sync.WaitGroup
	for range subscribers {
		s, err := h.Subscribe(b.Context(), Topics{}, "")
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() {
			defer s.Close()
			for {
				piece, err := s.Next(b.Context())
				if err != nil {
					return
				}
				bytes.Add(int64(len(piece)))
			}
		})
	}
	text := make([]byte, 200)
	for i := range text {
		text[i] = 'x'
	}
	payload, _ := json.Marshal(string(text))
	b.ReportAllocs()
	for number := uint64(1); b.Loop(); number++ {
		if err := h.Append(Message{Number: number, Data: payload}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(h.delivered.Load())/float64(b.N)/subscribers, "delivered")
	h.Close()
	running.Wait()
}
