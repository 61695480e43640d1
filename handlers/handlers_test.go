package handlers_test

import (
	"bufio"
	"context"
	"flag"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/handlers"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testwait"
)

// errorLog is what package slog writes, from all tests.
var errorLog testlog.Log

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DebugPrintFunc = func(string, ...any) {}
	slog.SetDefault(logger(&errorLog))
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // many tests wait
		log.Fatal(err)
	}
	goleak.VerifyTestMain(m)
}

// open opens events until the test ends.
func open(t *testing.T, o handlers.Options) *handlers.Events {
	t.Helper()
	events, err := handlers.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(events.Close)
	return events
}

// serve runs a server until the test ends.
func serve(t *testing.T, app http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	server.Client().Timeout = testwait.Limit // also for a body
	return server
}

// ask sends one request as it is written, follows no redirect, and returns the answer and its body.
func ask(t *testing.T, server *httptest.Server, method, target string, header http.Header) (*http.Response, string) {
	t.Helper()
	return send(t, server.Client(), server.URL, method, target, header, "")
}

// send is ask for any client, and with a body.
func send(t testing.TB, client *http.Client, url, method, target string, header http.Header, body string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = target // not cleaned, not encoded
	maps.Copy(request.Header, header)
	response, err := client.Transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(text)
}

// pipe is a listener with one connection within the process, as time in a bubble is not for real ones.
type pipe chan net.Conn

func (p pipe) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (p pipe) Close() error   { close(p); return nil }
func (p pipe) Addr() net.Addr { return nil }

// servePipe asks for /sse on a connection within the process and returns the answer and the
// client's side of the connection. The test has to end the stream.
func servePipe(t *testing.T, app http.Handler) (*http.Response, net.Conn) {
	t.Helper()
	server := &http.Server{Handler: app}
	port := make(pipe)
	served := make(chan error, 1)
	go func() { served <- server.Serve(port) }()
	client, conn := net.Pipe()
	t.Cleanup(func() {
		client.Close()
		if err := server.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	port <- conn
	if _, err := io.WriteString(client, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(client), nil)
	if err != nil {
		t.Fatal(err)
	}
	return response, client
}
