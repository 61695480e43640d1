package journal

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
)

// Publishing with so many publishers, each of which waits for its answer, beside a committer that does nothing but store
// what its publishers bring together in one transaction of bbolt. Both have their turn twenty times, and the ratio is the median
// of these, as other work on the machine may slow one of them down. 50 topics keep 20 messages each, so each message that comes
// makes one go.
func BenchmarkPublish(b *testing.B) {
	for _, publishers := range []int{1, 16, 64} {
		for _, kind := range []string{"plain", "keys", "replace"} {
			b.Run(fmt.Sprintf("publishers=%d/%s", publishers, kind), func(b *testing.B) {
				s := start(b, b.TempDir(), hub.Options{Limits: history.Limits{PerTopic: 20, Bytes: 64 << 20, Window: 1}})
				bare := newBare(b)
				number := 0
				const turns = 20
				turn := func(publish func(event.Message) error) time.Duration {
					begin := time.Now()
					number++
					var publishing sync.WaitGroup
					for p := range publishers {
						publishing.Go(func() {
							m := event.Message{Data: json.RawMessage(`{"message":"` + strings.Repeat("x", 100) + `"}`), Replace: kind == "replace"}
							for n := range b.N/publishers/turns + 1 {
								if m.Topic = fmt.Sprint("metrics/", n%50); kind == "keys" {
									m.Key = fmt.Sprint(number, "-", p, "-", n, "-0123456789abcdef")
								}
								if err := publish(m); err != nil {
									b.Error(err)
									return
								}
							}
						})
					}
					publishing.Wait()
					return time.Since(begin)
				}
				both := func() (own, least time.Duration) {
					return turn(func(m event.Message) error {
						_, _, err := s.Publish(b.Context(), m)
						return err
					}), turn(bare.publish)
				}
				both()
				b.ResetTimer()
				var own, least time.Duration
				var ratios []float64
				for range turns {
					o, l := both()
					own, least, ratios = own+o, least+l, append(ratios, l.Seconds()/o.Seconds())
				}
				slices.Sort(ratios)
				total := float64(turns * publishers * (b.N/publishers/turns + 1))
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(total/own.Seconds(), "journal/s")
				b.ReportMetric(total/least.Seconds(), "bare/s")
				b.ReportMetric(ratios[turns/2], "x-bare")
				b.ReportMetric(float64(s.Size()), "file-bytes")
			})
		}
	}
}

// bare is the least that stores messages together and answers when they are on the disk.
type bare struct {
	db    *bolt.DB
	queue chan bareCall
	last  uint64
}

type bareCall struct {
	m      event.Message
	answer chan error
}

func newBare(b *testing.B) *bare {
	db, err := openDatabase(file(b.TempDir()), mapped)
	if err != nil {
		b.Fatal(err)
	}
	if err := db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucket(recordsBucket)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	s := &bare{db: db, queue: make(chan bareCall)}
	var running sync.WaitGroup
	running.Go(s.run)
	b.Cleanup(func() {
		close(s.queue)
		running.Wait()
		db.Close()
	})
	return s
}

func (s *bare) publish(m event.Message) error {
	c := bareCall{m, make(chan error, 1)}
	s.queue <- c
	return <-c.answer
}

func (s *bare) run() {
	var buffer []byte
	for c := range s.queue {
		calls := []bareCall{c}
		runtime.Gosched()
		for more := true; more && len(calls) < maxBatch; {
			select {
			case c, open := <-s.queue:
				if more = open; open {
					calls = append(calls, c)
				}
			default:
				more = false
			}
		}
		err := s.db.Update(func(tx *bolt.Tx) error {
			bucket := tx.Bucket(recordsBucket)
			bucket.FillPercent = 0.9
			for _, c := range calls {
				s.last++
				if err := bucket.Put(encodeNumber(s.last), appendMessage(make([]byte, 0, 200), c.m, &buffer)); err != nil {
					return err
				}
			}
			return nil
		})
		for _, c := range calls {
			c.answer <- err
		}
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
