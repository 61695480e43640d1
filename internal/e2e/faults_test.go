package e2e

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// raw sends bytes as they are and returns the connection, which is closed when the test ends.
func (a *app) raw(text string) net.Conn {
	a.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:"+a.port)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, text); err != nil {
		a.t.Fatal(err)
	}
	return conn
}

func TestOutOfDescriptorsStreamsGoOnAndNewClientsAreTurnedAwayUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	a := startLimited(t, 64, "TICK_INTERVAL=50ms")
	stream := a.get("/sse").Body
	readUntil(t, stream, "Server Time: ")
	var others, open []net.Conn
	for range 100 {
		others = append(others, a.raw("GET /sse HTTP/1.1\r\nHost: x\r\n\r\n"))
	}
	for _, conn := range others {
		switch line, err := bufio.NewReader(conn).ReadString('\n'); {
		case err != nil:
			t.Fatal(err)
		case strings.HasPrefix(line, "HTTP/1.1 200 "):
			open = append(open, conn)
		case !strings.HasPrefix(line, "HTTP/1.1 503 "):
			t.Errorf("a client is answered with %q", line)
		}
	}
	if len(open) < 20 || len(open) >= 64 {
		t.Errorf("%d streams are open", len(open))
	}
	for range 20 {
		a.raw("") // sends nothing
	}
	for range 3 {
		if response := a.get("/healthz"); response.StatusCode != http.StatusOK {
			t.Errorf("/healthz is answered with %s", response.Status)
		}
		readUntil(t, stream, "Server Time: ")
	}
	if lines := a.out.Lines("the limit of 64 open files is reached"); len(lines) != 1 || !strings.Contains(lines[0], "LimitNOFILE=") {
		t.Errorf("the log has %q", lines)
	}
	for _, conn := range open {
		conn.Close()
	}
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for deadline := time.Now().Add(patience); ; <-again.C { // the last of those that were turned away have to go
		response := a.get("/sse")
		if response.StatusCode == http.StatusOK {
			readUntil(t, response.Body, "Server Time: ")
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a new client is answered with %s", response.Status)
		}
	}
	readUntil(t, stream, "Server Time: ")
}

func TestStoppedProcessGoesOnWithEveryStream(t *testing.T) {
	t.Parallel()
	long(t)
	a := start(t)
	stream := bufio.NewReader(a.get("/sse").Body)
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
	if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(20 * time.Second) // longer than the server's limits for a request, a write and an answer to its ping
	if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
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

func TestNothingAClientSendsReachesTheLogUnescaped(t *testing.T) {
	t.Parallel()
	a := start(t)
	for _, path := range []string{
		"/%0a[GIN]%20forged", "/%1b[31mred", "/x?a=%0d%0aforged", "/%22quoted%22", "/%00", "/%e2%80%ae",
	} {
		response := a.get(path)
		if page := readAll(t, response.Body); response.StatusCode != http.StatusNotFound || strings.Contains(page, "forged") {
			t.Errorf("%s: status %d and %q", path, response.StatusCode, page)
		}
	}
	forged := a.raw("GET /<script> HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nUser-Agent: \x1b[31mred\r\nReferer: forged\r\n\r\n")
	if _, err := bufio.NewReader(forged).ReadString('\n'); err != nil {
		t.Error(err)
	}
	a.get("/last")
	a.out.Wait(t, "/last")
	for _, line := range strings.Split(strings.TrimSuffix(a.out.String(), "\n"), "\n")[1:] {
		if !strings.HasPrefix(line, "[GIN] 2") || strings.ContainsAny(line, "\x1b\x00\r\u202e") || strings.Contains(line, "6.6.6.6") {
			t.Errorf("a client wrote the log line %q", line)
		}
	}
}
