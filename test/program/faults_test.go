package program

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// answered asks on a connection of its own until there is an answer, and returns its status, or 0. The server closes a
// connection for which there is little room unless the request comes at once. On a busy machine it may not.
func answered(a *app.Server, path string) (conn net.Conn, status int) {
	for deadline := time.Now().Add(testwait.Limit); time.Now().Before(deadline); {
		conn, err := net.Dial("tcp", "127.0.0.1:"+a.Port)
		if err != nil {
			continue
		}
		a.T.Cleanup(func() { conn.Close() })
		_ = conn.SetDeadline(deadline)
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n") // if that fails, there is no answer
		if response, err := http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			return conn, response.StatusCode
		}
		conn.Close()
	}
	return nil, 0
}

func TestOutOfDescriptorsStreamsGoOnAndNewClientsAreTurnedAwayUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	a := app.StartLimited(t, 64, "TICK_INTERVAL=50ms", "MAX_CLIENTS=0")
	stream := a.Get("/sse").Body
	testsse.ReadUntil(t, stream, "Server Time: ")
	var mu sync.Mutex
	var open []net.Conn
	var asking sync.WaitGroup
	for range 100 {
		asking.Go(func() {
			conn, status := answered(a, "/sse")
			mu.Lock()
			defer mu.Unlock()
			switch status {
			case http.StatusOK:
				open = append(open, conn)
			case http.StatusServiceUnavailable:
			default:
				t.Errorf("a client is answered with %d", status)
			}
		})
	}
	asking.Wait()
	if len(open) < 20 || len(open) >= 64 {
		t.Errorf("%d streams are open", len(open))
	}
	for range 20 {
		a.Raw("") // sends nothing
	}
	for range 3 {
		if _, status := answered(a, "/healthz"); status != http.StatusOK {
			t.Errorf("/healthz is answered with %d", status)
		}
		testsse.ReadUntil(t, stream, "Server Time: ")
	}
	if lines := a.Out.Lines("the limit of open files is reached"); len(lines) == 0 || !strings.Contains(lines[0], "LimitNOFILE=") || !strings.HasSuffix(lines[0], " limit=64") {
		t.Errorf("the log has %q", lines)
	}
	for _, conn := range open {
		conn.Close()
	}
	testwait.Until(t, func() string { // the last of those that were turned away have to go
		conn, status := answered(a, "/sse")
		if status != http.StatusOK {
			return fmt.Sprint("a new client is answered with ", status)
		}
		testsse.ReadUntil(t, conn, "Server Time: ")
		return ""
	})
	testsse.ReadUntil(t, stream, "Server Time: ")
}

func TestStoppedProcessGoesOnWithEveryStream(t *testing.T) {
	t.Parallel()
	a := app.Start(t)
	stream := bufio.NewReader(a.Get("/sse").Body)
	next := func() string {
		for {
			line, err := stream.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data:") {
				return line
			}
		}
	}
	before := next()
	if err := a.Cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(20 * time.Second) // longer than the server's limits for a request, a write and an answer to its ping
	if err := a.Cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{before: true}
	for range 4 {
		line := next()
		if seen[line] {
			t.Errorf("%q came twice", line)
		}
		seen[line] = true
	}
}

func TestThousandStalledClientsAreCutOffAndHoldNobodyUp(t *testing.T) {
	t.Parallel()
	const stalled = 1000
	a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0", "METRICS=true")
	for range stalled {
		conn := a.Raw("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n").(*net.TCPConn)
		_ = conn.SetReadBuffer(4 << 10)
		testsse.ReadFirst(t, conn) // and nothing after that
	}
	healthy := testsse.Open(t, app.Client(t), a.URL+"/sse", nil)
	filler := strings.Repeat("x", 32<<10)
	begin := time.Now()
	for n := 0; ; n++ {
		data := fmt.Sprintf(`{"filler":"%s","number":%d}`, filler, n)
		a.Publish(data)
		healthy.Wants(data) // before the next one is sent
		if n%50 > 0 {
			continue
		}
		if strings.Contains(testsse.ReadAll(t, a.Get("/metrics").Body), "\ngin_sse_subscribers 1\n") {
			t.Logf("%d stalled clients were cut off within %v, and %d messages", stalled, time.Since(begin), n)
			return
		}
		if time.Since(begin) > 2*testwait.Limit {
			t.Fatal("the stalled clients are not cut off")
		}
	}
}
