package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gin-sse/internal/event"
)

var serverTime = json.RawMessage(`{"message":"Server Time: 2:03:25 PM"}`)

// crowdOf is subscribers that all wait in Next, each on a goroutine of its own.
type crowdOf struct {
	left    atomic.Int64 // bytes that the subscribers have to get
	all     chan struct{}
	running sync.WaitGroup
}

func newCrowd(b *testing.B, h *Hub, sets []event.Topics) *crowdOf {
	c := &crowdOf{all: make(chan struct{})}
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
				piece, err := s.Next(ctx)
				if err != nil {
					return
				}
				// From here back into Next there is nothing to wait for: when the last one is
				// counted, the others wait again, but for as many as there are processors.
				if piece[0] != ':' && c.left.Add(-int64(len(piece))) == 0 {
					c.all <- struct{}{}
				}
			}
		})
	}
	ready.Wait()
	return c
}

// measure sends a burst of events of that size to so many of the crowd and waits until all of them have it.
//
//	ns/op          until the last subscriber has all of it
//	ns/delivery    the same for each event and subscriber
//	longest-µs     the longest that a call of send took, on average of the bursts
func (c *crowdOf) measure(b *testing.B, subscribers, burst, size int, pause func(), send func() error) {
	once := func() (longest time.Duration) {
		pause()
		c.left.Store(int64(subscribers * burst * size))
		for range burst {
			start := time.Now()
			if err := send(); err != nil {
				b.Fatal(err)
			}
			longest = max(longest, time.Since(start))
		}
		<-c.all
		return longest
	}
	once()
	var longest time.Duration
	for b.Loop() {
		longest += once()
	}
	b.ReportMetric(float64(longest.Microseconds())/float64(b.N), "longest-µs")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subscribers*burst), "ns/delivery")
}

// afterPause lets the next message go out at once.
func afterPause(h *Hub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.started = h.started.Add(-pace)
}

// BenchmarkTick is the tutorial's stream.
func BenchmarkTick(b *testing.B) {
	for _, subscribers := range []int{1, 100, 1_000, 10_000, 45_000} {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := begun(roomy)
			c := newCrowd(b, h, make([]event.Topics, subscribers))
			value := data{"message": "Server Time: 2:03:25 PM"}
			frame, err := event.Tick(value)
			if err != nil {
				b.Fatal(err)
			}
			c.measure(b, subscribers, 1, len(frame), func() {}, func() error { return h.Tick(value) })
			h.Close()
			c.running.Wait()
		})
	}
}

// BenchmarkTopics publishes to all subscribers. own=true gives each a topic of its own beside news.
func BenchmarkTopics(b *testing.B) {
	for _, subscribers := range []int{1_000, 10_000, 45_000} {
		for _, own := range []bool{false, true} {
			sets := make([]event.Topics, subscribers)
			for i := range sets {
				names := []string{"news"}
				if own {
					names = append(names, fmt.Sprintf("users/%d", i))
				}
				sets[i], _ = event.ParseTopics(names)
			}
			h := begun(roomy)
			c := newCrowd(b, h, sets)
			number := uint64(1_000_000) // so that all frames have one size
			frame := event.Message{Data: serverTime}.Frame(h.ID(number))
			publish := func(topic string) error {
				number++
				return h.Append(event.Message{Number: number, Topic: topic, Data: serverTime})
			}
			for _, burst := range []int{1, 20} {
				b.Run(fmt.Sprintf("subscribers=%d/own=%v/to=news/burst=%d", subscribers, own, burst), func(b *testing.B) {
					c.measure(b, subscribers, burst, len(frame), func() { afterPause(h) }, func() error { return publish("news") })
				})
			}
			if own {
				b.Run(fmt.Sprintf("subscribers=%d/own=true/to=one", subscribers), func(b *testing.B) {
					c.measure(b, 1, 1, len(frame), func() { afterPause(h) }, func() error { return publish(fmt.Sprintf("users/%d", number%uint64(subscribers))) })
				})
			}
			h.Close()
			c.running.Wait()
		}
	}
}

// BenchmarkSubscriberMemory is what 10,000 subscribers take in the hub: to news and so many topics of their own.
func BenchmarkSubscriberMemory(b *testing.B) {
	const subscribers = 10_000
	for _, topics := range []int{1, 2, 20} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			all := make([]*Subscriber, subscribers)
			for b.Loop() {
				h := begun(roomy)
				before := heap()
				for i := range all {
					names := []string{"news"}
					for n := range topics - 1 {
						names = append(names, fmt.Sprintf("users/%d/%d", i, n))
					}
					set, err := event.ParseTopics(names)
					if err != nil {
						b.Fatal(err)
					}
					if all[i], err = h.Subscribe(b.Context(), set, ""); err != nil {
						b.Fatal(err)
					}
					if _, err := all[i].Next(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(heap()-before)/subscribers, "B/subscriber")
				h.Close()
				clear(all)
			}
		})
	}
}

// BenchmarkSubscribe opens a stream on a topic with 10,000 kept messages and takes what comes first.
func BenchmarkSubscribe(b *testing.B) {
	for _, topic := range []string{"a", "*", "nobody/*", "nobody"} {
		for _, after := range []string{"", Earliest, "e-1", "e-9999"} {
			b.Run(fmt.Sprintf("topic=%s/after=%s", topic, after), func(b *testing.B) {
				h := begun(roomy)
				defer h.Close()
				for i := range 10_000 {
					if err := h.Append(event.Message{Number: uint64(i + 1), Topic: "a", Data: serverTime}); err != nil {
						b.Fatal(err)
					}
				}
				set, _ := event.ParseTopics([]string{topic})
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

// BenchmarkFullSpeed publishes as fast as it can to 1,000 subscribers that take what they can.
func BenchmarkFullSpeed(b *testing.B) {
	const subscribers = 1000
	h := begun(roomy)
	var running sync.WaitGroup
	for range subscribers {
		s, err := h.Subscribe(b.Context(), event.Topics{}, "")
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() {
			defer s.Close()
			for {
				if _, err := s.Next(b.Context()); err != nil {
					return
				}
			}
		})
	}
	b.ReportAllocs()
	for number := uint64(1); b.Loop(); number++ {
		if err := h.Append(event.Message{Number: number, Data: text(200)}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(h.delivered.Load())/float64(b.N)/subscribers, "delivered")
	h.Close()
	running.Wait()
}
