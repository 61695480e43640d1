package handlers_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

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

func TestStreamEndsProperlyAfterAnySilence(t *testing.T) {
	// The deadline of the last write has passed in each, and the next comment has not been written.
	for _, silence := range []time.Duration{14 * time.Second, 29 * time.Second, time.Hour + 14*time.Second} {
		synctest.Test(t, func(t *testing.T) {
			gin.SetMode(gin.TestMode)
			events := hub.New(0)
			app := gin.New()
			app.GET("/sse", handlers.SSE(events))
			server := &http.Server{Handler: app}
			port := make(pipe)
			served := make(chan error, 1)
			go func() { served <- server.Serve(port) }()
			client, conn := net.Pipe()
			defer client.Close()
			port <- conn

			fmt.Fprint(client, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
			response, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatal(err)
			}
			begin := time.Now()
			time.AfterFunc(silence, events.Close)
			text, err := io.ReadAll(response.Body)
			if err != nil || time.Since(begin) != silence {
				t.Errorf("after %v the stream ended with %v, want a proper end after %v", time.Since(begin), err, silence)
			}
			if got, want := strings.Count(string(text), ":\n\n"), int(silence/(15*time.Second)); got != want {
				t.Errorf("%d comments in %v, want %d", got, silence, want)
			}
			if err := server.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != http.ErrServerClosed {
				t.Error(err)
			}
		})
	}
}
