package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// BenchmarkKeeping publishes with 1, 16 and 64 publishers, each of which waits for its answer, to a server that keeps
// messages in memory and to one that keeps them on disk, in turn. One client must get all messages, each publisher's in
// order. One iteration is one message:
//
//	go test -run '^$' -bench Keeping -benchtime 5000x ./internal/e2e
//
//	messages/s       that are acknowledged
//	p50-ms, p99-ms   from before the POST until the client has the message
func BenchmarkKeeping(b *testing.B) {
	for _, publishers := range []int{1, 16, 64} {
		for _, where := range []string{"memory", "disk"} {
			b.Run(fmt.Sprintf("publishers=%d/%s", publishers, where), func(b *testing.B) {
				env := []string{"HOST=127.0.0.1", "TICK_INTERVAL=0", "PUBLISH_TOKEN=" + token}
				if where == "disk" {
					env = append(env, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
				}
				server := start(b, env...)
				audience := newAudience(b, server, 1, publishers, b.N)
				defer audience.close()
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: publishers}}
				defer client.CloseIdleConnections()

				b.ResetTimer()
				var publishing sync.WaitGroup
				for p := range publishers {
					publishing.Go(func() {
						for n := range share(b.N, publishers, p) {
							body := fmt.Appendf(nil, "[%d,%d,%d]", p, n, time.Since(audience.epoch).Nanoseconds())
							if err := publishTo(client, server.url, body); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				publishing.Wait()
				took := b.Elapsed()
				if b.Failed() {
					return
				}
				audience.wait(b)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(b.N)/took.Seconds(), "messages/s")
				b.ReportMetric(audience.latency(50), "p50-ms")
				b.ReportMetric(audience.latency(99), "p99-ms")
			})
		}
	}
}
