package figures

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/test/internal/app"
)

// BenchmarkRestart stops a server with 500 clients and one that reads nothing, and starts it again, with a DATA_DIR that is
// as full as the defaults allow or without one. "away" is from the end of the last stream until the port is open again,
// and "silent" until a request is answered.
func BenchmarkRestart(b *testing.B) {
	for _, test := range []struct {
		name    string
		stalled bool
		size    int // of the messages in DATA_DIR
	}{{"in memory", false, 0}, {"in memory, one stalled", true, 0}, {"full of 500 bytes", true, 500}, {"full of 60000 bytes", true, 60_000}} {
		b.Run(test.name, func(b *testing.B) {
			env := []string{"TICK_INTERVAL=0", "PUBLISH_TOKEN=" + app.Token}
			if test.size > 0 {
				env = append(env, "DATA_DIR="+b.TempDir())
			}
			a := app.Start(b, env...)
			env = append(env, "PORT="+a.Port)
			post := func(topic, line string, lines int) { postLines(b, a, topic, line, lines) }
			if test.size > 0 {
				const each = 500 // messages of a topic
				for topic := range (64<<20)/test.size/each + 1 {
					post(fmt.Sprint("kept", topic), fmt.Sprintf("%q\n", strings.Repeat("x", test.size)), each)
				}
			}
			var stop, away, silent time.Duration
			for b.Loop() {
				if test.stalled {
					conn, err := net.Dial("tcp", "127.0.0.1:"+a.Port)
					if err != nil {
						b.Fatal(err)
					}
					defer conn.Close()
					fmt.Fprint(conn, "GET /sse?topic=much HTTP/1.1\r\nHost: x\r\n\r\n")
				}
				var streams sync.WaitGroup
				for n := range 500 {
					stream := openHTTP1(b, n, nil, func() (net.Conn, error) { return net.Dial("tcp", "127.0.0.1:"+a.Port) })
					streams.Go(func() {
						_, _ = io.Copy(io.Discard, stream)
						stream.Close()
					})
				}
				if test.stalled {
					post("much", fmt.Sprintf("%q\n", strings.Repeat("x", 60_000)), 150)
				}
				begin := time.Now()
				a.Stop(syscall.SIGTERM)
				exited := time.Now()
				if streams.Wait(); !test.stalled && strings.Contains(a.Out.String(), "cut off") || test.stalled && !strings.Contains(a.Out.String(), "cut off") {
					b.Fatalf("the server said:\n%s", a.Out.String())
				}
				opened := make(chan time.Time, 1)
				go func() {
					for range time.Tick(time.Millisecond) {
						if conn, err := net.Dial("tcp", "127.0.0.1:"+a.Port); err == nil {
							opened <- time.Now()
							conn.Close()
							return
						}
					}
				}()
				a = app.Start(b, env...)
				silent += time.Since(exited)
				stop += exited.Sub(begin)
				away += (<-opened).Sub(exited)
			}
			for name, took := range map[string]time.Duration{"stop": stop, "away": away, "silent": silent} {
				b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms/"+name)
			}
		})
	}
}

// postLines publishes the same line of JSON several times, in one request.
func postLines(b *testing.B, a *app.Server, topic, line string, lines int) {
	b.Helper()
	request, err := http.NewRequest(http.MethodPost, a.URL+"/sse?topic="+topic, strings.NewReader(strings.Repeat(line, lines)))
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+app.Token)
	request.Header.Set("Content-Type", "application/x-ndjson")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		b.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusAccepted {
		b.Fatal(response.Status)
	}
}
