package stream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
	"gin-sse/internal/testwait"
)

// Nothing is written to these streams, so no failed write can show that their clients have left.
func TestAClientThatLeavesASilentStreamIsLetGoAtOnce(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(conn *net.TCPConn) error{
		"closes":      func(conn *net.TCPConn) error { return conn.Close() },
		"half-closes": func(conn *net.TCPConn) error { return conn.CloseWrite() },
		"resets": func(conn *net.TCPConn) error {
			if err := conn.SetLinger(0); err != nil {
				return err
			}
			return conn.Close()
		},
		"sends something and closes": func(conn *net.TCPConn) error {
			if _, err := io.WriteString(conn, strings.Repeat("x", 10_000)); err != nil {
				return err
			}
			return conn.Close()
		},
	} {
		for protocol, start := range map[string]func(*httptest.Server){"HTTP1": http1, "HTTP1 over TLS": (*httptest.Server).StartTLS} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				t.Parallel()
				left, freed := make(chan struct{}), make(chan struct{})
				send := func(ctx context.Context, _ *gin.Context) {
					<-ctx.Done()
					close(left)
				}
				h := serve(t, start, send, func(c *gin.Context) {
					c.Next()
					stream.AtEnd(c, func(stream.End) { close(freed) })
				})
				inner, client := h.open()
				readHead(t, bufio.NewReader(client))
				if err := leave(inner); err != nil {
					t.Fatal(err)
				}
				testwait.Closed(t, "the stream", left)
				testwait.Closed(t, "its place", freed)
			})
		}
	}
}

func TestAClientThatHalfClosesHasTheEndOfItsStream(t *testing.T) {
	t.Parallel()
	h := serve(t, http1, untilDone)
	conn := h.raw("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(text), "hello\r\n0\r\n\r\n") {
		t.Errorf("the stream is %q with error %v", text, err)
	}
}

func TestClientsThatStayAreNotLetGo(t *testing.T) {
	t.Parallel()
	const clients = 50
	var open atomic.Int32
	h := serve(t, http1, untilDone, func(c *gin.Context) {
		open.Add(1)
		c.Next()
		stream.AtEnd(c, func(stream.End) { open.Add(-1) })
	})
	var staying, leaving []*net.TCPConn
	for i := range 2 * clients {
		conn := h.raw("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200 OK"))); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			staying = append(staying, conn)
		} else {
			leaving = append(leaving, conn)
		}
	}
	for i, conn := range leaving {
		if _, err := io.WriteString(staying[i], "what nobody asked for"); err != nil {
			t.Fatal(err)
		}
		conn.Close()
	}
	testwait.Until(t, func() string {
		if n := open.Load(); n != clients {
			return fmt.Sprintf("%d streams are open, want %d", n, clients)
		}
		return ""
	})
	h.group.Stop()
	for _, conn := range staying {
		if text, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(text), "0\r\n\r\n") {
			t.Errorf("a client that stayed has %q and error %v", text, err)
		}
	}
}

func TestStreamsOfClientsThatHaveLeftAreFreedWhenThereIsNoRoom(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){"HTTP1": http1, "HTTP1 over TLS": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var open atomic.Int32
			h := serve(t, start, untilDone, func(c *gin.Context) {
				if c.Request.URL.Path == "/free" {
					stream.LetGo(c)
					return
				}
				open.Add(1)
				c.Next()
				stream.AtEnd(c, func(stream.End) { open.Add(-1) })
			})
			staying, leaving := h.get("/"), h.get("/")
			for _, response := range []*http.Response{staying, leaving} {
				if _, err := io.ReadFull(response.Body, make([]byte, len("hello"))); err != nil {
					t.Fatal(err)
				}
			}
			leaving.Body.Close()
			testwait.Until(t, func() string {
				response, err := h.Client().Get(h.URL + "/free")
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if n := open.Load(); n != 1 {
					return fmt.Sprintf("%d streams are open, want 1", n)
				}
				return ""
			})
			if err := h.shut(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := io.ReadAll(staying.Body); err != nil {
				t.Errorf("the client that stayed was cut off: %v", err)
			}
		})
	}
}

// open opens the stream at /, and returns the connection and what speaks through it.
func (h *host) open() (inner *net.TCPConn, client net.Conn) {
	h.t.Helper()
	inner, err := net.DialTCP("tcp", nil, h.Listener.Addr().(*net.TCPAddr))
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { inner.Close() })
	client = inner
	if h.TLS != nil {
		config := h.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
		config.ServerName = "example.com" // which httptest's certificate is for
		client = tls.Client(inner, config)
	}
	if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		h.t.Fatal(err)
	}
	return inner, client
}
