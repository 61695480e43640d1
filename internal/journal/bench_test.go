package journal

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

// Publishing with so many publishers, each of which waits for its answer: messages that stay, or 50 values that replace
// each other.
func BenchmarkPublish(b *testing.B) {
	for i, publishers := range []int{1, 1, 16, 16, 64, 64} {
		replace := i%2 == 1
		b.Run(fmt.Sprintf("publishers=%d/replace=%v", publishers, replace), func(b *testing.B) {
			s := start(b, b.TempDir(), hub.Options{Limits: history.Limits{PerTopic: 1000, Bytes: 64 << 20, Window: 1}})
			m := event.Message{Data: json.RawMessage(`{"message":"` + strings.Repeat("x", 100) + `"}`)}
			var publishing sync.WaitGroup
			each := b.N/publishers + 1
			b.ResetTimer()
			for range publishers {
				publishing.Go(func() {
					m := m
					for n := range each {
						m.Topic, m.Replace = fmt.Sprint("metrics/", n%50), replace
						if _, _, err := s.Publish(b.Context(), m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			publishing.Wait()
			b.ReportMetric(float64(each*publishers)/b.Elapsed().Seconds(), "messages/s")
			b.ReportMetric(float64(s.Size()), "file-bytes")
		})
	}
}

// A start with 100,000 messages of 100 bytes in 100 topics.
func BenchmarkStart(b *testing.B) {
	s := start(b, b.TempDir(), hub.Options{Limits: history.Limits{PerTopic: 1000, Bytes: 64 << 20, Window: 1}})
	var messages []event.Message
	for i := range 1000 {
		messages = append(messages, event.Message{Topic: fmt.Sprint("t/", i%100), Data: json.RawMessage(`{"message":"` + strings.Repeat("x", 86) + `"}`)})
	}
	for range 100 {
		if _, _, err := s.Publish(b.Context(), messages...); err != nil {
			b.Fatal(err)
		}
	}
	if kept := s.events.Stats().Kept; kept != 100_000 {
		b.Fatalf("%d messages are kept", kept)
	}
	s.close()
	b.ResetTimer()
	for b.Loop() {
		s.open()
		b.StopTimer()
		s.close()
		b.StartTimer()
	}
}
