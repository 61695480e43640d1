package figures

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// BenchmarkPublish publishes to 1,000 clients over loopback, at 100 messages a second and as fast as
// four publishers are answered. It fails if a client misses a message or gets one out of its
// publisher's order. One iteration is one message, so
//
//	go test -run '^$' -bench Publish -benchtime 1000x ./figures
//
// measures 1,000 messages, which are a million deliveries.
//
//	deliveries/s     from the first POST until every client has every message
//	cpu-µs/delivery  user and system time of the server's process for each of them
//	p50-ms, p99-ms   from before the POST until a client has the message
func BenchmarkPublish(b *testing.B) {
	const clients = 1000
	for _, test := range []struct {
		name       string
		publishers int
		pause      time.Duration // between two messages of a publisher
	}{
		{"rate=100", 1, 10 * time.Millisecond},
		{"rate=max", 4, 0},
	} {
		b.Run(test.name, func(b *testing.B) {
			server := app.Start(b, "HOST=127.0.0.1", "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
			pid := server.Cmd.Process.Pid
			messages := b.N
			audience := newAudience(b, server, clients, test.publishers, messages)
			defer audience.close()

			b.ResetTimer()
			busy, begin := cpuTime(b, pid), time.Now()
			var publishing sync.WaitGroup
			for p := range test.publishers {
				publishing.Go(func() {
					client := &http.Client{Transport: &http.Transport{}}
					defer client.CloseIdleConnections()
					due := begin
					for n := range share(messages, test.publishers, p) {
						if due = due.Add(test.pause); test.pause > 0 {
							<-time.After(time.Until(due))
						}
						body := fmt.Appendf(nil, "[%d,%d,%d]", p, n, time.Since(audience.epoch).Nanoseconds())
						if err := publishTo(client, server.URL, body); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			publishing.Wait()
			if b.Failed() {
				return
			}
			audience.wait(b)
			took := time.Since(begin)
			busy = cpuTime(b, pid) - busy
			b.StopTimer()

			deliveries := float64(clients * messages)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(deliveries/took.Seconds(), "deliveries/s")
			b.ReportMetric(float64(busy.Nanoseconds())/1e3/deliveries, "cpu-µs/delivery")
			b.ReportMetric(audience.latency(50), "p50-ms")
			b.ReportMetric(audience.latency(99), "p99-ms")
		})
	}
}

// share is how many of the messages one publisher sends.
func share(messages, publishers, publisher int) int {
	return (messages + publishers - 1 - publisher) / publishers
}

func publishTo(client *http.Client, url string, body []byte) error {
	return publishAt(client, url+"/sse", body)
}

func publishAt(client *http.Client, address string, body []byte) error {
	request, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusAccepted {
		err = fmt.Errorf("publish: %s: %s", response.Status, answer)
	}
	return err
}

// audience is many clients that each expect every message of each publisher in its order.
type audience struct {
	epoch   time.Time
	conns   []net.Conn
	readers sync.WaitGroup

	mu   sync.Mutex
	err  error
	late []time.Duration
}

func newAudience(b *testing.B, server *app.Server, clients, publishers, messages int) *audience {
	b.Helper()
	a := &audience{epoch: time.Now()}
	var connected sync.WaitGroup
	for i := range clients {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", server.Port), testwait.Limit)
		if err != nil {
			b.Fatal(err)
		}
		a.conns = append(a.conns, conn)
		if _, err := io.WriteString(conn, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		connected.Add(1)
		a.readers.Go(func() {
			late, err := read(conn, connected.Done, publishers, messages, a.epoch, i%20 == 0)
			a.mu.Lock()
			defer a.mu.Unlock()
			a.late = append(a.late, late...)
			if err != nil && a.err == nil {
				a.err = fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	connected.Wait()
	return a
}

// read returns when the client has all messages. If it is one of the sample, it returns how long each
// was under way.
func read(conn net.Conn, connected func(), publishers, messages int, epoch time.Time, sample bool) (late []time.Duration, err error) {
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 4096), nil)
	connected()
	if err != nil {
		return nil, err
	}
	lines := bufio.NewReaderSize(response.Body, 4096)
	next := make([]int, publishers)
	for got := 0; got < messages; {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return nil, fmt.Errorf("after %d of %d messages: %w", got, messages, err)
		}
		data, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte("]\n")), []byte("data:["))
		if !ok {
			continue
		}
		var fields [3]int
		for i, field := range bytes.SplitN(data, []byte(","), len(fields)) {
			if fields[i], err = strconv.Atoi(string(field)); err != nil {
				return nil, err
			}
		}
		if publisher, n := fields[0], fields[1]; n != next[publisher] {
			return nil, fmt.Errorf("message %d of publisher %d, want %d", n, publisher, next[publisher])
		}
		next[fields[0]]++
		got++
		if sample {
			late = append(late, time.Since(epoch)-time.Duration(fields[2]))
		}
	}
	return late, nil
}

// wait waits until every client has every message.
func (a *audience) wait(b *testing.B) {
	b.Helper()
	stuck := time.AfterFunc(testwait.Limit, func() {
		for _, conn := range a.conns {
			conn.Close()
		}
	})
	defer stuck.Stop()
	a.readers.Wait()
	if a.err != nil {
		b.Fatal(a.err)
	}
	slices.Sort(a.late)
}

// latency is the percentile in milliseconds.
func (a *audience) latency(percent int) float64 {
	return float64(a.late[(len(a.late)-1)*percent/100].Microseconds()) / 1e3
}

func (a *audience) close() {
	for _, conn := range a.conns {
		conn.Close()
	}
	a.readers.Wait()
}
