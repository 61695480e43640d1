package figures

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// BenchmarkTopicSets holds 10,000 clients open that follow news, and then 10,000 that each follow news and a topic of
// their own, and publishes to news ten times a second. One iteration is one message:
//
//	go test -run '^$' -bench TopicSets -benchtime 50x ./figures
//
//	B/client         by how much the server's resident memory grew for each client
//	cpu-µs/delivery  user and system time of the server's process for each message and client
func BenchmarkTopicSets(b *testing.B) {
	const clients = 10_000
	for _, test := range []struct {
		name string
		path func(i int) string
	}{
		{"news", func(int) string { return "/sse?topic=news" }},
		{"news+its-own", func(i int) string { return fmt.Sprint("/sse?topic=news&topic=users/", i) }},
	} {
		b.Run(test.name, func(b *testing.B) {
			server := app.Start(b, "HOST=127.0.0.1", "PUBLISH_TOKEN="+app.Token)
			pid := server.Cmd.Process.Pid
			before := resident(b, pid)
			r := follow(b, server, clients, test.path)
			defer r.close()
			memory := float64(resident(b, pid)-before) / clients
			busy := cpuTime(b, pid)
			due := time.Now()
			for sent := 1; b.Loop(); sent++ {
				due = due.Add(100 * time.Millisecond)
				<-time.After(time.Until(due))
				if err := publishTopic(http.DefaultClient, server.URL, "news", r.body()); err != nil {
					b.Fatal(err)
				}
				r.wait(b, int64(sent*clients))
			}
			busy = cpuTime(b, pid) - busy
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(memory, "B/client")
			b.ReportMetric(float64(busy.Nanoseconds())/1e3/float64(b.N*clients), "cpu-µs/delivery")
		})
	}
}

// BenchmarkManyTopics has 10,000 topics with a client each. 16 publishers keep their connections, and publish to topics
// at random as fast as they are answered. One iteration is one message:
//
//	go test -run '^$' -bench ManyTopics -benchtime 50000x ./figures
//
//	messages/s, cpu-µs/delivery
//	p50-ms, p99-ms   from before the POST until the client has the message
func BenchmarkManyTopics(b *testing.B) {
	const topics, publishers = 10_000, 16
	server := app.Start(b, "HOST=127.0.0.1", "PUBLISH_TOKEN="+app.Token)
	pid := server.Cmd.Process.Pid
	r := follow(b, server, topics, func(i int) string { return fmt.Sprint("/sse?topic=users/", i) })
	defer r.close()
	b.ResetTimer()
	busy, begin := cpuTime(b, pid), time.Now()
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range share(b.N, publishers, p) {
				if err := publishTopic(client, server.URL, fmt.Sprint("users/", rand.IntN(topics)), r.body()); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	publishing.Wait()
	r.wait(b, int64(b.N))
	r.report(b, b.N, 1, time.Since(begin), cpuTime(b, pid)-busy)
}

// BenchmarkLines sends lines in one POST to a topic that 1,000 clients follow, at 100 lines a second and as fast as they
// are taken. One iteration is one line:
//
//	go test -run '^$' -bench Lines/rate=100 -benchtime 1000x ./figures
//	go test -run '^$' -bench Lines/rate=max -benchtime 20000x ./figures
//
//	messages/s, cpu-µs/delivery
//	p50-ms, p99-ms   from when the line is written until a client has it. At the highest rate that is mostly the time
//	                 that the line waits in the connection's buffers.
func BenchmarkLines(b *testing.B) {
	b.Run("rate=100", func(b *testing.B) { benchmarkLines(b, 10*time.Millisecond) })
	b.Run("rate=max", func(b *testing.B) { benchmarkLines(b, 0) })
}

func benchmarkLines(b *testing.B, pause time.Duration) {
	const clients = 1000
	server := app.Start(b, "HOST=127.0.0.1", "PUBLISH_TOKEN="+app.Token)
	pid := server.Cmd.Process.Pid
	r := follow(b, server, clients, func(int) string { return "/sse?topic=builds/7" })
	defer r.close()
	lines, written := io.Pipe()
	request, err := http.NewRequest(http.MethodPost, server.URL+"/sse?topic=builds/7", lines)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "application/x-ndjson")
	b.ResetTimer()
	busy, begin := cpuTime(b, pid), time.Now()
	var writing sync.WaitGroup
	writing.Go(func() {
		due := time.Now()
		for range b.N {
			if due = due.Add(pause); pause > 0 {
				<-time.After(time.Until(due))
			}
			if _, err := written.Write(append(r.body(), '\n')); err != nil {
				b.Error(err)
				break
			}
		}
		written.Close()
	})
	response, err := app.Client(b).Do(request)
	if err != nil {
		b.Fatal(err)
	}
	response.Body.Close()
	writing.Wait()
	if response.StatusCode != http.StatusAccepted {
		b.Fatal(response.Status)
	}
	r.wait(b, int64(b.N*clients))
	r.report(b, b.N, clients, time.Since(begin), cpuTime(b, pid)-busy)
}

// BenchmarkTopicMemory publishes one small message to each of many topics. One iteration is one topic:
//
//	go test -run '^$' -bench TopicMemory -benchtime 100000x ./figures
//
//	B/topic  by how much the server's resident memory grew for each of them
func BenchmarkTopicMemory(b *testing.B) {
	server := app.Start(b, "HOST=127.0.0.1", "PUBLISH_TOKEN="+app.Token)
	pid := server.Cmd.Process.Pid
	const warm, publishers = 2000, 8
	publish := func(name string, n int) {
		var publishing sync.WaitGroup
		for p := range publishers {
			publishing.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for i := range share(n, publishers, p) {
					if err := publishTopic(client, server.URL, fmt.Sprint(name, "/", p, "/", i), []byte(`{"message":"shipped"}`)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		publishing.Wait()
	}
	publish("warm", warm)
	before := resident(b, pid)
	b.ResetTimer()
	publish("users", b.N)
	b.StopTimer()
	b.ReportMetric(float64(resident(b, pid)-before)/float64(b.N), "B/topic")
}

// BenchmarkOpenWithHistory opens a stream on a topic with 10,000 kept messages, from the earliest one on. One iteration is
// one stream:
//
//	go test -run '^$' -bench OpenWithHistory -benchtime 200x ./figures
//
//	first-ms  until the first byte of the body
//	all-ms    until the last message
func BenchmarkOpenWithHistory(b *testing.B) {
	const kept = 10_000
	server := app.Start(b, "HOST=127.0.0.1", "PUBLISH_TOKEN="+app.Token, fmt.Sprint("HISTORY=", kept))
	var lines bytes.Buffer
	for i := range kept {
		fmt.Fprintf(&lines, "{\"message\":\"line %d\"}\n", i)
	}
	request, err := http.NewRequest(http.MethodPost, server.URL+"/sse?topic=t", &lines)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := app.Client(b).Do(request)
	if err != nil {
		b.Fatal(err)
	}
	response.Body.Close()
	var first, all time.Duration
	for b.Loop() {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", server.Port))
		if err != nil {
			b.Fatal(err)
		}
		begin := time.Now()
		fmt.Fprint(conn, "GET /sse?topic=t&lastEventId=earliest HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			b.Fatal(err)
		}
		body := bufio.NewReader(response.Body)
		if _, err := body.Peek(1); err != nil {
			b.Fatal(err)
		}
		first += time.Since(begin)
		testsse.ReadUntil(b, io.NopCloser(body), fmt.Sprintf("line %d\"", kept-1))
		all += time.Since(begin)
		conn.Close()
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(first.Microseconds())/1e3/float64(b.N), "first-ms")
	b.ReportMetric(float64(all.Microseconds())/1e3/float64(b.N), "all-ms")
}

func publishTopic(client *http.Client, url, topic string, body []byte) error {
	return publishAt(client, url+"/sse?topic="+topic, body)
}

// readers are clients of topics, which note how long each message was under way.
type readers struct {
	epoch time.Time
	conns []net.Conn
	alive sync.WaitGroup
	got   atomic.Int64
	more  chan struct{} // has a token if got has changed

	mu   sync.Mutex
	late []time.Duration
}

// follow connects the clients, and returns when all of them have the beginning of their streams.
func follow(b *testing.B, server *app.Server, clients int, path func(i int) string) *readers {
	b.Helper()
	r := &readers{epoch: time.Now(), more: make(chan struct{}, 1)}
	var begun sync.WaitGroup
	for i := range clients {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", server.Port), testwait.Limit)
		if err != nil {
			b.Fatal(err)
		}
		r.conns = append(r.conns, conn)
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path(i))
		begun.Add(1)
		r.alive.Go(func() { r.read(conn, begun.Done) })
	}
	begun.Wait()
	return r
}

// body is a message that says when it was made.
func (r *readers) body() []byte {
	return strconv.AppendInt(nil, time.Since(r.epoch).Nanoseconds(), 10)
}

func (r *readers) read(conn net.Conn, begun func()) {
	lines := bufio.NewReaderSize(conn, 2048)
	begin := sync.OnceFunc(begun)
	defer begin()
	for {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			return // wait finds out what is missing
		}
		if bytes.HasPrefix(line, []byte("retry:")) {
			begin()
		}
		data, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:"))
		if !ok {
			continue
		}
		sent, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
		if err != nil {
			continue
		}
		if n := r.got.Add(1); n%20 == 1 { // a sample
			r.mu.Lock()
			r.late = append(r.late, time.Since(r.epoch)-time.Duration(sent))
			r.mu.Unlock()
		}
		select {
		case r.more <- struct{}{}:
		default:
		}
	}
}

// wait returns when the clients have got that many messages in all.
func (r *readers) wait(b *testing.B, want int64) {
	b.Helper()
	stuck := time.After(testwait.Limit)
	for r.got.Load() < want {
		select {
		case <-r.more:
		case <-stuck:
			b.Fatalf("%d of %d messages arrived", r.got.Load(), want)
		}
	}
}

func (r *readers) report(b *testing.B, messages, each int, took, busy time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	slices.Sort(r.late)
	percentile := func(p int) float64 { return float64(r.late[(len(r.late)-1)*p/100].Microseconds()) / 1e3 }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(messages)/took.Seconds(), "messages/s")
	b.ReportMetric(float64(busy.Nanoseconds())/1e3/float64(messages*each), "cpu-µs/delivery")
	b.ReportMetric(percentile(50), "p50-ms")
	b.ReportMetric(percentile(99), "p99-ms")
}

func (r *readers) close() {
	for _, conn := range r.conns {
		conn.Close()
	}
	r.alive.Wait()
}
