package cluster

import (
	"fmt"
	"strings"
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
