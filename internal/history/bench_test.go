package history

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	"gin-sse/internal/event"
)

func heap() int64 {
	runtime.GC()
	runtime.GC() // completes the sweep of the first one
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func add(tb testing.TB, h *History, number uint64, topic, data string) {
	tb.Helper()
	m := event.Message{Number: number, Topic: topic, Data: json.RawMessage(data)}
	h.Add(m, m.Frame(h.ID(number)))
}

func begun(limits Limits) *History {
	h := New(limits, func(string) bool { return false })
	h.Begin("e", 0)
	return h
}

var byDefault = Limits{PerTopic: 1000, Bytes: 64 << 20}

// BenchmarkAdd adds to a history that is full: one topic, or 8,000 in turn.
func BenchmarkAdd(b *testing.B) {
	for _, topics := range []uint64{1, 8000} {
		b.Run(fmt.Sprintf("topics=%d", topics), func(b *testing.B) {
			h := begun(byDefault)
			number := uint64(0)
			next := func() {
				number++
				add(b, h, number, fmt.Sprintf("users/%d", number%topics), `{"n":1}`)
			}
			for range 600_000 {
				next()
			}
			b.ReportAllocs()
			for b.Loop() {
				next()
			}
		})
	}
}

// BenchmarkMemory fills a history of the default size with small messages to 8,000 topics in turn.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		before := heap()
		h := begun(byDefault)
		for number := range uint64(1_000_000) {
			add(b, h, number+1, fmt.Sprintf("users/%d", number%8000), `{"n":1}`)
		}
		b.ReportMetric(float64(h.Shown()), "messages")
		b.ReportMetric(float64(heap()-before)/(1<<20), "MiB")
		b.ReportMetric(float64(h.bytes+h.young)/(1<<20), "counted-MiB")
		runtime.KeepAlive(h)
	}
}

// BenchmarkEmptyTopics is what the memory of topics without messages takes, once that is full.
func BenchmarkEmptyTopics(b *testing.B) {
	for b.Loop() {
		before := heap()
		h := begun(Limits{Window: 1})
		for number := range uint64(200_000) {
			add(b, h, number+1, fmt.Sprintf("orders/%d", number), `{"n":1}`)
		}
		b.ReportMetric(float64(h.empty.topics.Len()), "topics")
		b.ReportMetric(float64(heap()-before)/float64(h.empty.topics.Len()), "B/topic")
		runtime.KeepAlive(h)
	}
}

// BenchmarkCatchUp reads 1,000 messages, with pieces that others have read before and with those that nobody has.
func BenchmarkCatchUp(b *testing.B) {
	for _, pattern := range []string{"a", "*"} {
		for _, shared := range []bool{true, false} {
			b.Run(fmt.Sprintf("topic=%s/shared=%v", pattern, shared), func(b *testing.B) {
				h := begun(Limits{PerTopic: 10_000, Bytes: 64 << 20})
				for number := range uint64(10_000) {
					add(b, h, number+1, "a", `{"message":"Server Time: 2:03:25 PM"}`)
				}
				set, err := event.ParseTopics([]string{pattern})
				if err != nil {
					b.Fatal(err)
				}
				if pattern == "*" {
					h.Watch("*")
				}
				messages, from := 0, uint64(0)
				for b.Loop() {
					if !shared {
						from = (from + 7) % 9000
					}
					c := h.After(set, from)
					for n := 0; n < 1000; {
						_, events, _ := h.Read(&c, MaxPiece)
						n += events
						messages += events
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(messages), "ns/message")
			})
		}
	}
}

// BenchmarkNothing asks for everything that is kept of what matches nothing, while 360,000 messages are kept.
func BenchmarkNothing(b *testing.B) {
	h := begun(Limits{PerTopic: 1000, Bytes: 1 << 30})
	for number := range uint64(360_000) {
		add(b, h, number+1, fmt.Sprintf("t/%d", number%400), `{"n":1}`)
	}
	for _, pattern := range []string{"zzz", "zzz/*"} {
		b.Run("topic="+pattern, func(b *testing.B) {
			set, err := event.ParseTopics([]string{pattern})
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if event.Pattern(pattern).IsWildcard() {
					h.Watch(event.Pattern(pattern))
				}
				c := h.Earliest(set)
				if data, _, more := h.Read(&c, MaxPiece); len(data) > 0 || more {
					b.Fatalf("there is %q", data)
				}
				h.Unwatch(event.Pattern(pattern))
			}
		})
	}
}

// BenchmarkReplace adds a message that takes the place of 60,000 others.
func BenchmarkReplace(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		h := begun(Limits{PerTopic: 60_000, Bytes: 64 << 20})
		for number := range uint64(60_000) {
			add(b, h, number+1, "a", `{"n":1}`)
		}
		m := event.Message{Number: 60_001, Topic: "a", Data: json.RawMessage("1"), Replace: true}
		frame := m.Frame(h.ID(m.Number))
		b.StartTimer()
		h.Add(m, frame)
	}
}
