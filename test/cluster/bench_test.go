package cluster

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/cluster"
	"gin-sse/test/internal/natsserver"
)

// BenchmarkLoad measures how long a fresh replica takes until it is ready when all topics have lost messages.
func BenchmarkLoad(b *testing.B) {
	n := natsserver.Start(b)
	small := func(c *cluster.Config) { c.History = 100 }
	join(b, n.ClientURL(), small).ready(b).stop()
	_, js := direct(b, n.ClientURL())
	const topics, each = 1000, 110
	data := []byte(`"` + strings.Repeat("x", 100) + `"`)
	for i := range topics * each {
		if _, err := js.PublishAsync(fmt.Sprint("sse.t.", i%topics), data); err != nil {
			b.Fatal(err)
		}
		if i%1000 == 0 {
			<-js.PublishAsyncComplete()
		}
	}
	<-js.PublishAsyncComplete()
	for b.Loop() {
		join(b, n.ClientURL(), small).ready(b).stop()
	}
	b.ReportMetric(topics*100, "messages/op")
}

// BenchmarkPublish publishes single messages in turn: with a bare program, whose publishers wait for what PublishMsgAsync
// returns, and through a replica. An operation is 1,000 messages with each. Messages of the bare program have no keys.
func BenchmarkPublish(b *testing.B) {
	const round = 1000
	for _, test := range []struct {
		name       string
		publishers int
		topics     int64
		keys       bool
		replace    bool
	}{
		{"one topic", 64, 1, false, false},
		{"50 topics", 64, 50, false, false},
		{"50 topics with values that replace each other", 64, 50, false, true},
		{"5000 topics", 64, 5000, false, false},
		{"5000 topics with keys", 64, 5000, true, false},
		{"one publisher", 1, 1, false, false},
		{"one publisher with keys", 1, 1, true, false},
	} {
		b.Run(test.name, func(b *testing.B) {
			n := natsserver.Start(b)
			a := join(b, n.ClientURL()).ready(b)
			_, js := direct(b, n.ClientURL())
			sent := new(atomic.Int64)
			turn := func(publish func(n int64) error) time.Duration {
				begin, last := time.Now(), sent.Load()+round
				var publishing sync.WaitGroup
				for range test.publishers {
					publishing.Go(func() {
						for n := sent.Add(1); n <= last; n = sent.Add(1) {
							if err := publish(n); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				publishing.Wait()
				return time.Since(begin)
			}
			var bare, replica time.Duration
			for b.Loop() {
				bare += turn(func(n int64) error {
					m := &nats.Msg{Subject: fmt.Sprint("sse.bare.", n%test.topics), Data: fmt.Append(nil, n)}
					if test.replace {
						m.Header = nats.Header{jetstream.MsgRollup: {jetstream.MsgRollupSubject}}
					}
					stored, err := js.PublishMsgAsync(m)
					if err != nil {
						return err
					}
					select {
					case <-stored.Ok():
						return nil
					case err := <-stored.Err():
						return err
					}
				})
				replica += turn(func(n int64) error {
					m := message(fmt.Sprint("replica/", n%test.topics), n)
					if m.Replace = test.replace; test.keys {
						m.Key = fmt.Sprint("key", n)
					}
					_, _, err := a.Publish(b.Context(), m)
					return err
				})
			}
			b.ReportMetric(float64(b.N*round)/bare.Seconds(), "bare/s")
			b.ReportMetric(float64(b.N*round)/replica.Seconds(), "replica/s")
			b.ReportMetric(bare.Seconds()/replica.Seconds(), "replica/bare")
		})
	}
}
