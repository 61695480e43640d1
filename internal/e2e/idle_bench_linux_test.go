package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// BenchmarkReplicaWhoseClientsFollowOtherTopics publishes 2,000 messages a second to topics that only the clients of
// one replica follow, and measures what the other replica, which has as many clients, pays for that. One iteration is
// one message: -benchtime 20000x takes ten seconds.
//
//	idle-%          CPU of the other replica, of what the first one takes
//	idle-B/message  what the other replica reads, which is from NATS
//	idle-MB         its memory at the end
//	idle-grown-MB   by how much that grew
func BenchmarkReplicaWhoseClientsFollowOtherTopics(b *testing.B) {
	const clients, publishers, rate = 100, 32, 2000
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = publishers
	n := startNATS(b)
	busy, idle := startReplica(b, n).ready(), startReplica(b, n).ready()
	var listening, sending sync.WaitGroup
	var arrived atomic.Int64
	all := make(chan struct{})
	for i := range clients {
		stream, other := busy.get(fmt.Sprint("/sse?topic=users/", i)).Body, idle.get(fmt.Sprint("/sse?topic=others/", i)).Body
		readFirst(b, stream)
		listening.Go(func() {
			listen(stream, func(string) bool {
				if arrived.Add(1) == int64(b.N) {
					close(all)
				}
				return true
			})
		})
		listening.Go(func() { _, _ = io.Copy(io.Discard, other) })
	}
	took, paid, before, read := busy.cpu(), idle.cpu(), idle.memory(), idle.hasRead()
	b.ResetTimer()
	var next atomic.Int64
	for range publishers {
		sending.Go(func() {
			pace := time.NewTicker(publishers * time.Second / rate)
			defer pace.Stop()
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				<-pace.C
				publishBench(b, fmt.Sprint(busy.url, "/sse?topic=users/", i%clients), `{"message":"hello"}`)
			}
		})
	}
	sending.Wait()
	took, paid, read = busy.cpu()-took, idle.cpu()-paid, idle.hasRead()-read
	b.StopTimer()
	b.ReportMetric(0, "ns/op") // it is the pace
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(took.Microseconds())/float64(b.N), "busy-µs-CPU/message")
	b.ReportMetric(float64(paid.Microseconds())/float64(b.N), "idle-µs-CPU/message")
	b.ReportMetric(100*paid.Seconds()/took.Seconds(), "idle-%")
	b.ReportMetric(float64(read)/float64(b.N), "idle-B/message")
	b.ReportMetric(idle.memory(), "idle-MB")
	b.ReportMetric(idle.memory()-before, "idle-grown-MB")
	select {
	case <-all:
	case <-time.After(patience):
		b.Errorf("%d of %d messages arrived", arrived.Load(), b.N)
	}
	busy.stop(os.Interrupt)
	idle.stop(os.Interrupt)
	listening.Wait()
}

// hasRead is how many bytes the server has read so far, from its connections and from files.
func (a *app) hasRead() (bytes int) {
	a.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &bytes); err != nil {
		a.t.Fatal(err)
	}
	return bytes
}
