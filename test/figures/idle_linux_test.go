package figures

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/replica"
)

// BenchmarkReplicaBesideAnother publishes 2,000 messages a second to topics that the clients of one replica follow, and
// measures what another replica, which has as many clients, pays for that: once its clients follow other topics, and
// once the same ones. One iteration is one message: -benchtime 20000x takes ten seconds.
//
//	other-%          CPU of the other replica, of what the first one takes
//	other-B/message  what the other replica reads, which is from NATS
//	other-MB         its memory at the end
//	other-grown-MB   by how much that grew
func BenchmarkReplicaBesideAnother(b *testing.B) {
	for name, topic := range map[string]string{"with other topics": "/sse?topic=others/", "with the same topics": usersPath} {
		b.Run(name, func(b *testing.B) { benchmarkBeside(b, topic) })
	}
}

const usersPath = "/sse?topic=users/"

func benchmarkBeside(b *testing.B, topicOfOther string) {
	const clients, publishers, rate = 100, 32, 2000
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = publishers
	n := replica.NATS(b)
	first, other := replica.Start(b, n).Ready(), replica.Start(b, n).Ready()
	var listening, sending sync.WaitGroup
	var arrived atomic.Int64
	all := make(chan struct{})
	for i := range clients {
		stream, beside := first.Get(fmt.Sprint(usersPath, i)).Body, other.Get(fmt.Sprint(topicOfOther, i)).Body
		testsse.ReadFirst(b, stream)
		listening.Go(func() {
			listen(stream, func(string) bool {
				if arrived.Add(1) == int64(b.N) {
					close(all)
				}
				return true
			})
		})
		listening.Go(func() { _, _ = io.Copy(io.Discard, beside) })
	}
	took, paid, before, read := cpu(first), cpu(other), megabytes(other), hasRead(other)
	b.ResetTimer()
	var next atomic.Int64
	for range publishers {
		sending.Go(func() {
			pace := time.NewTicker(publishers * time.Second / rate)
			defer pace.Stop()
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				<-pace.C
				publishBench(b, fmt.Sprint(first.URL, usersPath, i%clients), `{"message":"hello"}`)
			}
		})
	}
	sending.Wait()
	took, paid, read = cpu(first)-took, cpu(other)-paid, hasRead(other)-read
	b.StopTimer()
	b.ReportMetric(0, "ns/op") // it is the pace
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(float64(took.Microseconds())/float64(b.N), "first-µs-CPU/message")
	b.ReportMetric(float64(paid.Microseconds())/float64(b.N), "other-µs-CPU/message")
	b.ReportMetric(100*paid.Seconds()/took.Seconds(), "other-%")
	b.ReportMetric(float64(read)/float64(b.N), "other-B/message")
	b.ReportMetric(megabytes(other), "other-MB")
	b.ReportMetric(megabytes(other)-before, "other-grown-MB")
	select {
	case <-all:
	case <-time.After(testwait.Limit):
		b.Errorf("%d of %d messages arrived", arrived.Load(), b.N)
	}
	first.Stop(os.Interrupt)
	other.Stop(os.Interrupt)
	listening.Wait()
}

// hasRead is how many bytes the server has read so far, from its connections and from files.
func hasRead(a *app.Server) (bytes int) {
	a.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", a.Cmd.Process.Pid))
	if err != nil {
		a.T.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &bytes); err != nil {
		a.T.Fatal(err)
	}
	return bytes
}
