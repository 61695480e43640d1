package figures

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/natsserver"
	"gin-sse/test/internal/replica"
)

// publishBench posts once; the answer must be 202.
func publishBench(b *testing.B, url, body string) {
	request, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		b.Error(err)
		return
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Error(err)
		return
	}
	_, _ = io.Copy(io.Discard, response.Body) // so that the connection is used again
	response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		b.Errorf("status %d", response.StatusCode)
	}
}

// listen calls each with the data of every message, until that returns false or the stream ends.
func listen(body io.Reader, each func(data string) bool) {
	for lines := bufio.NewScanner(body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok && data != "{}" && !each(data) {
			return
		}
	}
}

// BenchmarkFromOneReplicaToAnother measures the time from a POST on one replica to receipt on another, one message at
// a time, with a pause before each: messages in quick succession are gathered for up to 40 ms.
func BenchmarkFromOneReplicaToAnother(b *testing.B) {
	n := replica.NATS(b)
	from, to := replica.Start(b, n).Ready(), replica.Start(b, n).Ready()
	stream := to.Get("/sse").Body
	testsse.ReadFirst(b, stream)
	received := make(chan time.Time)
	var listening sync.WaitGroup
	listening.Go(func() {
		listen(stream, func(string) bool { received <- time.Now(); return true })
	})
	var took []time.Duration
	for b.Loop() {
		<-time.After(50 * time.Millisecond)
		begin := time.Now()
		publishBench(b, from.URL+"/sse", `{"message":"hello"}`)
		took = append(took, (<-received).Sub(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	stream.Close()
	listening.Wait()
}

// BenchmarkPublishingThroughTwoReplicas has 16 publishers on two replicas, as fast as they are answered. A client on
// each replica gets all messages.
func BenchmarkPublishingThroughTwoReplicas(b *testing.B) {
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 16
	n := replica.NATS(b)
	replicas := []*app.Server{replica.Start(b, n, "HISTORY=1000000").Ready(), replica.Start(b, n, "HISTORY=1000000").Ready()}
	var listening, sending sync.WaitGroup
	counts := make([]atomic.Int64, len(replicas))
	arrived := make(chan struct{}, len(replicas))
	target := int64(b.N)
	for i, r := range replicas {
		stream := r.Get("/sse").Body
		testsse.ReadFirst(b, stream)
		listening.Go(func() {
			listen(stream, func(string) bool { return counts[i].Add(1) < target })
			arrived <- struct{}{}
		})
	}
	b.ResetTimer()
	var next atomic.Int64
	for range 16 {
		sending.Go(func() {
			for n := next.Add(1); n <= target; n = next.Add(1) {
				publishBench(b, replicas[n%2].URL+"/sse", `{"message":"hello"}`)
			}
		})
	}
	sending.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "publishes/s")
	for range replicas {
		select {
		case <-arrived:
		case <-time.After(testwait.Limit):
			b.Fatalf("%d and %d of %d messages arrived", counts[0].Load(), counts[1].Load(), b.N)
		}
	}
	listening.Wait()
}

// BenchmarkStreamOfLinesThroughReplica sends the lines of one POST as fast as the replica reads them. A client of
// another replica must get all of them in order. One iteration is one line: -benchtime 100000x.
//
//	lines/s       until the publisher has its answer
//	delivered/s   until the client has the last line
func BenchmarkStreamOfLinesThroughReplica(b *testing.B) {
	for _, test := range []struct{ name, key string }{{"without a key", ""}, {"with a key", "key"}} {
		b.Run(test.name, func(b *testing.B) {
			n := replica.NATS(b)
			from, to := replica.Start(b, n).Ready(), replica.Start(b, n).Ready()
			stream := to.Get("/sse").Body
			defer stream.Close()
			testsse.ReadFirst(b, stream)
			var body strings.Builder
			for i := range b.N {
				fmt.Fprintf(&body, "[%d,%q]\n", i, "some words, as many as a line of a log or an answer has")
			}
			request, err := http.NewRequest(http.MethodPost, from.URL+"/sse", strings.NewReader(body.String()))
			if err != nil {
				b.Fatal(err)
			}
			request.Header.Set("Authorization", "Bearer "+app.Token)
			request.Header.Set("Content-Type", "application/x-ndjson")
			if test.key != "" {
				request.Header.Set("Idempotency-Key", test.key)
			}
			wrong := make(chan error, 1)
			go func() {
				next := 0
				listen(stream, func(data string) bool {
					if !strings.HasPrefix(data, fmt.Sprintf("[%d,", next)) {
						return false
					}
					next++
					return next < b.N
				})
				if next < b.N {
					wrong <- fmt.Errorf("line %d of %d did not come, or not in its order", next, b.N)
				}
				close(wrong)
			}()
			b.ResetTimer()
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				b.Fatal(err)
			}
			defer response.Body.Close()
			if answer, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusAccepted {
				b.Fatalf("status %d: %s: %v", response.StatusCode, answer, err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
			select {
			case err := <-wrong:
				if err != nil {
					b.Fatal(err)
				}
			case <-time.After(testwait.Limit):
				b.Fatal("the client does not get all lines")
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "delivered/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkSyncInterval publishes through a replica to a NATS server that writes to the disk every two minutes, as it does
// by default, and to one that writes each message before it acknowledges it (sync_interval: always), in turn. One
// iteration is one message, or one line of a single POST.
func BenchmarkSyncInterval(b *testing.B) {
	for _, publishers := range []int{1, 16, 0} {
		for _, always := range []bool{false, true} {
			name := map[bool]string{false: "two minutes", true: "always"}[always]
			kind := fmt.Sprintf("publishers=%d", publishers)
			if publishers == 0 {
				kind = "lines"
			}
			b.Run(kind+"/"+name, func(b *testing.B) {
				n := natsserver.Start(b, func(o *server.Options) {
					o.Username, o.Password, o.SyncAlways = "user", "nats-secret", always
				})
				replica := replica.Start(b, n).Ready()
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: max(1, publishers)}}
				defer client.CloseIdleConnections()
				b.ResetTimer()
				if publishers == 0 {
					request, err := http.NewRequest(http.MethodPost, replica.URL+"/sse", strings.NewReader(strings.Repeat(`{"message":"hello"}`+"\n", b.N)))
					if err != nil {
						b.Fatal(err)
					}
					request.Header.Set("Authorization", "Bearer "+app.Token)
					request.Header.Set("Content-Type", "application/x-ndjson")
					response, err := client.Do(request)
					if err != nil {
						b.Fatal(err)
					}
					defer response.Body.Close()
					if answer := testsse.ReadAll(b, response.Body); response.StatusCode != http.StatusAccepted {
						b.Fatalf("status %d: %s", response.StatusCode, answer)
					}
				}
				var publishing sync.WaitGroup
				for p := range publishers {
					publishing.Go(func() {
						for range share(b.N, publishers, p) {
							if err := publishTo(client, replica.URL, []byte(`{"message":"hello"}`)); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				publishing.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "messages/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// cpu is the time that the server has used so far.
func cpu(a *app.Server) time.Duration {
	a.T.Helper()
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", a.Cmd.Process.Pid))
	if err != nil {
		a.T.Fatal(err)
	}
	var all int64
	for _, entry := range entries {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", a.Cmd.Process.Pid, entry.Name()))
		if err != nil {
			a.T.Fatal(err)
		}
		var on int64
		if _, err := fmt.Sscan(string(text), &on); err != nil {
			a.T.Fatal(err)
		}
		all += on
	}
	return time.Duration(all)
}

// megabytes is what the server holds.
func megabytes(a *app.Server) float64 {
	a.T.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.Cmd.Process.Pid))
	if err != nil {
		a.T.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	var kb float64
	if _, err := fmt.Sscan(rest, &kb); err != nil {
		a.T.Fatal(err)
	}
	return kb / 1000
}
