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
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

// connect opens a connection that is closed when the test ends.
func connect(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// after serves the stream behind a middleware of the test's.
func after(t *testing.T, events *hub.Hub, middleware ...gin.HandlerFunc) *httptest.Server {
	gin.SetMode(gin.TestMode)
	app := gin.New()
	app.Use(middleware...)
	app.GET("/sse", handlers.SSE(events))
	return run(t, app, events, (*httptest.Server).Start)
}

func TestHTTP10ClientHasAStreamWithoutChunksUntilTheConnectionIsClosed(t *testing.T) {
	t.Parallel()
	for _, header := range []string{"", "Connection: keep-alive\r\n"} {
		events := hub.New(100)
		server := serve(t, fstest.MapFS{}, events)
		conn := connect(t, server)
		fmt.Fprintf(conn, "GET /sse HTTP/1.0\r\n%s\r\n", header)
		wire := bufio.NewReader(conn)
		head := readHead(t, wire)
		if want := []string{"Cache-Control: no-cache", "Content-Type: text/event-stream", "HTTP/1.0 200 OK", "X-Accel-Buffering: no"}; !slices.Equal(head, want) {
			t.Errorf("head %q, want %q", head, want)
		}
		if err := events.Tick("tick"); err != nil {
			t.Fatal(err)
		}
		events.Close()
		body, err := io.ReadAll(wire)
		_, frames, found := strings.Cut(string(body), "event:position\ndata:{}\n\n")
		if err != nil || !strings.HasPrefix(string(body), "retry:") || !found || frames != "data:\"tick\"\n\n" {
			t.Errorf("body %q and error %v", body, err)
		}
	}
}

// The answer to each is what net/http alone would have sent.
func TestHeadOfAStreamIsAsNetHTTPWouldSendIt(t *testing.T) {
	t.Parallel()
	events := hub.New(100)
	set := func(c *gin.Context) {
		c.Header("Vary", "Origin")
		c.Writer.Header().Add("Vary", "Accept")
		c.Header("X-Forged", "a\r\nX-Other: b")
		http.SetCookie(c.Writer, &http.Cookie{Name: "session", Value: "1"})
	}
	server := after(t, events, set)
	app := gin.New()
	app.GET("/sse", set, func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		c.Header("Cache-Control", "no-cache")
		c.Header("Connection", "keep-alive")
		c.Header("X-Accel-Buffering", "no")
		c.Writer.Flush()
	})
	plain := httptest.NewServer(app)
	defer plain.Close()
	for _, request := range []string{
		"GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"GET /sse HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
		"GET /sse HTTP/1.0\r\n\r\n",
		"GET /sse HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
	} {
		var heads [2][]string
		for i, server := range []*httptest.Server{server, plain} {
			conn := connect(t, server)
			fmt.Fprint(conn, request)
			heads[i] = readHead(t, bufio.NewReader(conn))
		}
		if !slices.Equal(heads[0], heads[1]) {
			t.Errorf("%q is answered with %q, by net/http with %q", request, heads[0], heads[1])
		}
	}
}

func TestClientThatLeavesIsNoticedWithinTwoTicks(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.0", "1.1"} {
		events := hub.New(100)
		server := serve(t, fstest.MapFS{}, events)
		conn := connect(t, server)
		fmt.Fprintf(conn, "GET /sse HTTP/%s\r\nHost: localhost\r\n\r\n", version)
		for lines := bufio.NewReader(conn); ; { // to the end, as with something unread the system would reset the connection
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data:{}") {
				_, _ = lines.Discard(lines.Buffered())
				break
			}
		}
		conn.Close()
		begin := time.Now()
		clock := time.NewTicker(time.Second / 2)
		for range 2 {
			<-clock.C
			if err := events.Tick("tick"); err != nil {
				t.Fatal(err)
			}
		}
		clock.Stop()
		eventually(t, func() string {
			if n := events.Stats().Subscribers; n > 0 {
				return fmt.Sprintf("HTTP/%s: %d streams after two ticks", version, n)
			}
			return ""
		})
		if took := time.Since(begin); took > 10*time.Second { // a comment against silence would come after 15
			t.Errorf("HTTP/%s: it took %v", version, took)
		}
	}
}

func TestStreamAfterOtherRequestsAndBeforeMoreBytesHasItsEnd(t *testing.T) {
	t.Parallel()
	events := hub.New(100)
	server := serve(t, fstest.MapFS{}, events)
	conn := connect(t, server)
	wire := bufio.NewReader(conn)
	for range 3 {
		fmt.Fprint(conn, "GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
		response, err := http.ReadResponse(wire, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusNotFound {
			t.Fatalf("status %d and error %v", response.StatusCode, err)
		}
	}
	fmt.Fprint(conn, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\nGET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
	response, err := http.ReadResponse(wire, nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, strings.Repeat("more", 1000))
	if err := events.Tick(strings.Repeat("x", 100<<10)); err != nil {
		t.Fatal(err)
	}
	events.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !bytes.HasSuffix(body, []byte("x\"\n\n")) {
		t.Errorf("the stream ended with %v after %d bytes", err, len(body))
	}
	if rest, err := io.ReadAll(wire); err != nil || len(rest) > 0 {
		t.Errorf("after the stream there is %q and error %v, want the end of the connection", rest, err)
	}
}

func TestMiddlewareSeesWhatTheStreamSent(t *testing.T) {
	t.Parallel()
	type seen struct {
		status, size int
		written      bool
		kind         string
	}
	events := hub.New(100)
	ended := make(chan seen, 1)
	server := after(t, events, func(c *gin.Context) {
		c.Next()
		ended <- seen{c.Writer.Status(), c.Writer.Size(), c.Writer.Written(), c.Writer.Header().Get("Content-Type")}
	})
	response, err := server.Client().Get(server.URL + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := events.Tick("tick"); err != nil {
		t.Fatal(err)
	}
	events.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := <-ended, (seen{http.StatusOK, len(body), true, "text/event-stream"}); got != want {
		t.Errorf("it saw %+v, want %+v", got, want)
	}
}

// fragile is a connection that panics when a certain text is written.
type fragile struct{ net.Conn }

func (f fragile) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("panic")) {
		panic("no")
	}
	return f.Conn.Write(p)
}

// breaking lets go of a connection that is fragile.
type breaking struct{ gin.ResponseWriter }

func (b breaking) Unwrap() http.ResponseWriter { return b.ResponseWriter }

func (b breaking) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffers, err := b.ResponseWriter.Hijack()
	return fragile{conn}, buffers, err
}

func TestPanicInTheMiddleOfAStreamCutsItOff(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	events := hub.New(100)
	server := after(t, events,
		gin.CustomRecoveryWithWriter(&log, handlers.InternalError),
		func(c *gin.Context) { c.Writer = breaking{c.Writer} },
	)
	response, err := server.Client().Get(server.URL + "/sse")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	for _, message := range []string{"well", "panic"} {
		if err := events.Tick(message); err != nil {
			t.Fatal(err)
		}
		if message == "well" {
			readUntil(t, response.Body, message)
		}
	}
	if rest, err := io.ReadAll(response.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after a panic: %q and error %v, want it cut off", rest, err)
	}
	eventually(t, func() string {
		if !strings.Contains(log.String(), "panic recovered") || events.Stats().Subscribers > 0 {
			return fmt.Sprintf("%d streams, and the log says %q", events.Stats().Subscribers, log.String())
		}
		return ""
	})
}

func readUntil(t *testing.T, r io.Reader, text string) {
	t.Helper()
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}
