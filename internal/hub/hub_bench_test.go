package hub

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var crowds = []int{1, 10, 100, 1_000, 10_000, 100_000}

// BenchmarkSendToBusy sends to subscribers that are writing to their clients and will come for the
// event later. There is nothing to do for them, so it costs the same for any number.
func BenchmarkSendToBusy(b *testing.B) {
	for _, subscribers := range crowds {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := New(0)
			defer h.Close()
			all := make([]*Subscriber, subscribers)
			for i := range all {
				all[i] = h.Subscribe("")
			}
			event := data{"message": "Server Time: 2:03:25 PM"}
			for n := 1; b.Loop(); n++ {
				if err := h.Tick(event); err != nil {
					b.Fatal(err)
				}
				if n%10_000 == 0 { // they keep what they have not taken, which is not what this measures
					b.StopTimer()
					for _, s := range all {
						s.at = h.last
					}
					b.StartTimer()
				}
			}
		})
	}
}

// BenchmarkSendToWaiting sends to subscribers that all wait in Next. The Go runtime wakes them one
// by one, so this cannot cost the same for any number.
//
//	ns/op          until the last subscriber has the event
//	sender-ns/op   the part of it until Tick returns
//	ns/subscriber  ns/op for each subscriber
func BenchmarkSendToWaiting(b *testing.B) {
	for _, subscribers := range crowds {
		b.Run(fmt.Sprintf("subscribers=%d", subscribers), func(b *testing.B) {
			h := New(0)
			var left atomic.Int64
			woken := make(chan struct{})
			var ready, running sync.WaitGroup
			ready.Add(subscribers)
			for range subscribers {
				s := h.Subscribe("")
				ctx, cancel := context.WithCancel(b.Context()) // each has its own, as requests do
				running.Go(func() {
					defer cancel()
					if _, err := s.Next(ctx); err != nil { // where it stands, which is no send
						b.Error(err)
					}
					ready.Done()
					for {
						if _, err := s.Next(ctx); err != nil {
							return
						}
						// From here back into Next there is nothing to wait for: when the last one is
						// counted, the others wait again, but for as many as there are processors.
						if left.Add(-1) == 0 {
							woken <- struct{}{}
						}
					}
				})
			}
			event := data{"message": "Server Time: 2:03:25 PM"}
			send := func() time.Duration {
				left.Store(int64(subscribers))
				start := time.Now()
				if err := h.Tick(event); err != nil {
					b.Fatal(err)
				}
				took := time.Since(start)
				<-woken
				return took
			}
			ready.Wait()
			send() // now all of them wait in the chain
			var sender time.Duration
			for b.Loop() {
				sender += send()
			}
			b.ReportMetric(float64(sender.Nanoseconds())/float64(b.N), "sender-ns/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(subscribers), "ns/subscriber")
			h.Close()
			running.Wait()
		})
	}
}
