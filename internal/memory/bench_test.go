package memory

import (
	"encoding/json"
	"fmt"
	"testing"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

// Publishing messages that stay, or 50 values that replace each other.
func BenchmarkPublish(b *testing.B) {
	for _, replace := range []bool{false, true} {
		b.Run(fmt.Sprintf("replace=%v", replace), func(b *testing.B) {
			events := hub.New(hub.Options{Limits: history.Limits{PerTopic: 1000, Bytes: 64 << 20}})
			defer events.Close()
			log := New(events)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				m := event.Message{Topic: fmt.Sprint("metrics/", n%50), Data: json.RawMessage(`{"value":12.5}`), Replace: replace}
				if _, _, err := log.Publish(b.Context(), m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
