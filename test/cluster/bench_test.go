package cluster

import (
	"fmt"
	"strings"
	"sync"
	"testing"

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

// BenchmarkPublish publishes with 16 publishers, each of which waits for its answer: messages that stay, or 50 values that
// replace each other.
func BenchmarkPublish(b *testing.B) {
	const publishers = 16
	for _, replace := range []bool{false, true} {
		b.Run(fmt.Sprintf("replace=%v", replace), func(b *testing.B) {
			n := natsserver.Start(b)
			a := join(b, n.ClientURL()).ready(b)
			var publishing sync.WaitGroup
			each := b.N/publishers + 1
			b.ResetTimer()
			for range publishers {
				publishing.Go(func() {
					for n := range each {
						m := message(fmt.Sprint("metrics/", n%50), n)
						m.Replace = replace
						if _, _, err := a.Publish(b.Context(), m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			publishing.Wait()
			b.ReportMetric(float64(each*publishers)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}
