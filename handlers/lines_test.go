package handlers_test

import (
	"context"
	"encoding/json"
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
	"gin-sse/internal/memory"
)

func TestAPublisherMayBeSilentForAnyTime(t *testing.T) {
	for name, set := range map[string]func(*http.Protocols, bool){
		"HTTP1": (*http.Protocols).SetHTTP1,
		"HTTP2": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				events := hub.New(hub.Limits{History: 100, HistoryBytes: 1 << 20})
				defer events.Close()
				app := gin.New()
				app.Use(handlers.WriteDeadline)
				app.POST("/sse", handlers.Publish(memory.New(events), 1000))
				server := &http.Server{Handler: app, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, Protocols: new(http.Protocols)}
				set(server.Protocols, true)
				port := make(pipe)
				served := make(chan error, 1)
				go func() { served <- server.Serve(port) }()
				transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
					client, conn := net.Pipe()
					port <- conn
					return client, nil
				}}
				set(transport.Protocols, true)

				read, body := io.Pipe()
				go func() {
					for _, silence := range []time.Duration{0, 9 * time.Second, time.Minute, time.Hour, 24 * time.Hour} {
						time.Sleep(silence)
						_, _ = io.WriteString(body, "half a line ")
						time.Sleep(silence)
						_, _ = io.WriteString(body, "and the rest\n")
						synctest.Wait()
					}
					time.Sleep(time.Hour)
					body.Close()
				}()
				request, err := http.NewRequest(http.MethodPost, "http://localhost/sse?topic=a", read)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "text/plain")
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				var answer struct {
					Events int
					ID     string
					Error  string
				}
				if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusAccepted || answer.Events != 5 || !strings.HasSuffix(answer.ID, "-5") {
					t.Errorf("status %d, %+v", response.StatusCode, answer)
				}
				transport.CloseIdleConnections()
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				<-served
			})
		})
	}
}
