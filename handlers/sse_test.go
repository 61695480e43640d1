package handlers_test

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tmaxmax/go-sse"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

func TestStreamHasTheTutorialsHeadersAndFrames(t *testing.T) {
	t.Parallel()
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	tick := handlers.SimulateData(events)
	tick(time.Date(2026, 1, 2, 14, 3, 25, 0, time.UTC))

	conn := connect(t, server)
	fmt.Fprint(conn, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
	wire := bufio.NewReader(conn)
	head := readHead(t, wire)
	if want := []string{
		"Cache-Control: no-cache",
		"Connection: keep-alive",
		"Content-Type: text/event-stream",
		"HTTP/1.1 200 OK",
		"Transfer-Encoding: chunked",
		"X-Accel-Buffering: no",
	}; !slices.Equal(head, want) {
		t.Errorf("head %q, want %q", head, want)
	}

	tick(time.Date(2026, 1, 2, 0, 3, 26, 0, time.UTC))
	events.Close()
	request, _ := http.NewRequest(http.MethodGet, "/", nil)
	body, err := http.ReadResponse(bufio.NewReader(io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), wire)), request)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := io.ReadAll(body.Body) // an error if the last chunk is missing
	if err != nil {
		t.Fatal(err)
	}
	if want := regexp.MustCompile(`^retry:[2-4]\d\d\d\n\n` +
		`id:[a-z0-9]{8}-0\nevent:position\ndata:{}\n\n` +
		`data:{"message":"Server Time: 2:03:25 PM"}\n\n` +
		`data:{"message":"Server Time: 12:03:26 AM"}\n\n$`); !want.Match(stream) {
		t.Errorf("stream %q, want %s", stream, want)
	}
}

func TestHeadAnswersWithTheHeadersAndEnds(t *testing.T) {
	t.Parallel()
	server := serve(t, fstest.MapFS{}, hub.New(100))
	response, body := ask(t, server, http.MethodHead, "/sse", nil)
	want := http.Header{
		"Cache-Control": {"no-cache"}, "Connection": {"keep-alive"}, "Content-Type": {"text/event-stream"},
		"Date": response.Header["Date"], "X-Accel-Buffering": {"no"},
	}
	if response.StatusCode != http.StatusOK || body != "" || !maps.EqualFunc(response.Header, want, slices.Equal) {
		t.Errorf("status %d, body %q, header %v, want %v", response.StatusCode, body, response.Header, want)
	}
}

func TestAnotherPeoplesClientSeesEveryTickInOrder(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, serve func(*testing.T, fs.FS, *hub.Hub) *httptest.Server) {
		events := hub.New(100)
		server := serve(t, fstest.MapFS{}, events)
		response, err := server.Client().Get(server.URL + "/sse")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()

		start := time.Date(2026, 1, 2, 9, 59, 58, 0, time.UTC)
		tick := handlers.SimulateData(events)
		tick(start)
		n, position := 0, ""
		for event, err := range sse.Read(response.Body, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if event.Type == "position" {
				position = event.LastEventID
				continue
			}
			if want := `{"message":"Server Time: ` + start.Add(time.Duration(n)*time.Second).Format("3:04:05 PM") + `"}`; event.Data != want || event.LastEventID != position || event.Type != "" {
				t.Fatalf("event %d is %+v, want the data %s", n, event, want)
			}
			if n++; n == 100 {
				break
			}
			tick(start.Add(time.Duration(n) * time.Second))
		}
		if n != 100 {
			t.Errorf("the stream ended after %d events", n)
		}
	})
}

// What is left behind shows in TestMain's check for leaks, and in a server that cannot be closed.
func TestClientsThatLeaveLeaveNothing(t *testing.T) {
	t.Parallel()
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	for i := range 200 {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if i%2 == 0 {
			if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
				t.Error(err)
			}
		}
		if i%4 < 2 {
			_ = conn.(*net.TCPConn).SetLinger(0) // RST, as after a crash
		}
		conn.Close()
	}
	eventually(t, func() string {
		if err := events.Tick("tick"); err != nil {
			t.Fatal(err)
		}
		if left := events.Stats().Subscribers; left > 0 {
			return fmt.Sprintf("%d streams are left", left)
		}
		return ""
	})
}
