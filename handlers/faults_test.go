package handlers_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gin-sse/internal/hub"
)

// patience bounds each wait for something that takes milliseconds on an idle machine.
const patience = 20 * time.Second

// dial opens a stream by hand and returns its connection once the answer has begun. It is closed when
// the test ends.
func dial(t *testing.T, server *httptest.Server, path string) *net.TCPConn {
	t.Helper()
	conn := dialAndClose(t, server, path)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// dialAndClose is dial for who closes the connection.
func dialAndClose(t *testing.T, server *httptest.Server, path string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path)
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200 OK"))); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for what() != "" {
		if time.Now().After(deadline) {
			t.Fatal(what())
		}
		runtime.Gosched()
	}
}

// Not parallel: it counts what the whole process holds.
func TestFiveThousandComingAndGoingLeaveNothing(t *testing.T) {
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	churn := func(n int) {
		for i := range n {
			conn := dialAndClose(t, server, "/sse")
			if i%2 == 0 {
				_ = conn.SetLinger(0) // RST, as after a crash
			}
			conn.Close()
			if err := events.Tick(map[string]int{"n": i}); err != nil {
				t.Fatal(err)
			}
		}
	}
	held := func() (goroutines, descriptors int, heap uint64) {
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		open, err := os.ReadDir("/proc/self/fd") // Linux's; elsewhere the descriptors go uncounted
		if err != nil && runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(open), memory.HeapAlloc
	}

	churn(100) // what is made once is there now
	var goroutines, descriptors int
	var heap uint64
	eventually(t, func() string {
		goroutines, descriptors, heap = held()
		if goroutines > 20 {
			return fmt.Sprintf("still %d goroutines after the first 100", goroutines)
		}
		return ""
	})
	churn(5000)
	eventually(t, func() string {
		g, d, h := held()
		if g > goroutines || d > descriptors || h > heap+2<<20 {
			return fmt.Sprintf("%d goroutines, %d descriptors, %d bytes; before it was %d, %d, %d", g, d, h, goroutines, descriptors, heap)
		}
		return ""
	})
}

func TestThousandStalledClientsAreCutOffAndHoldNobodyUp(t *testing.T) {
	t.Parallel()
	const stalled = 1000
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	for range stalled {
		_ = dial(t, server, "/sse").SetReadBuffer(4 << 10) // and then never read
	}

	response, err := server.Client().Get(server.URL + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	healthy := bufio.NewReader(response.Body)
	filler := strings.Repeat("x", 32<<10)
	begin, timeout := time.Now(), time.After(40*time.Second)
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for n := 0; ; n++ {
		if err := events.Tick(map[string]string{"filler": filler, "number": fmt.Sprint(n)}); err != nil {
			t.Fatal(err)
		}
		// The healthy client has this one before the next is sent.
		for want := fmt.Sprintf(`"number":"%d"`, n); ; {
			line, err := healthy.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, want) {
				break
			}
		}
		left := events.Stats().Subscribers - 1
		select {
		case <-ticks.C:
			if left == 0 {
				t.Logf("%d stalled clients were cut off within %v", stalled, time.Since(begin))
				return
			}
		case <-timeout:
			t.Fatalf("%d of %d stalled clients are not cut off", left, stalled)
		}
	}
}

func TestPanicEndsItsRequestAlone(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	events := hub.New(100)
	server := serveWith(t, fstest.MapFS{}, events, &log, (*httptest.Server).Start)
	stream := dial(t, server, "/sse")
	if response, _ := ask(t, server, http.MethodGet, "/panic", nil); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("status %d", response.StatusCode)
	}
	if got := log.String(); !strings.Contains(got, "panic recovered") || !strings.Contains(got, "no\n") {
		t.Errorf("the log says %q", got)
	}

	response, err := server.Client().Get(server.URL + "/late-panic")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); string(body) != "begun" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after a panic in the middle: body %q and error %v, want it cut off", body, err)
	}

	if err := events.Tick(map[string]string{"message": "still here"}); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "still here") {
			return
		}
	}
	t.Errorf("the stream beside it ended: %v", lines.Err())
}

func TestLimitSendsTheNextClientAwayUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	first := dial(t, server, "/limited")
	dial(t, server, "/limited")
	for range 3 {
		response, body := ask(t, server, http.MethodGet, "/limited", nil)
		if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "5" ||
			body != `{"error":"All places are taken. Try again in a few seconds."}` {
			t.Errorf("third client: status %d, Retry-After %q, body %q", response.StatusCode, response.Header.Get("Retry-After"), body)
		}
	}
	first.Close()
	eventually(t, func() string {
		if err := events.Tick("tick"); err != nil {
			t.Fatal(err)
		}
		response, _ := ask(t, server, http.MethodHead, "/limited", nil)
		if response.StatusCode != http.StatusOK {
			return fmt.Sprintf("status %d after a client left", response.StatusCode)
		}
		return ""
	})
}

func TestBodyOfAGetIsIgnored(t *testing.T) {
	t.Parallel()
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	if err := events.Tick(map[string]string{"message": "tick"}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET /sse HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello")
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "tick") {
			return
		}
	}
	t.Errorf("no stream: %v", lines.Err())
}

type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
