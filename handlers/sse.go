// Package handlers answers what clients ask for over HTTP, with a file for each kind of request.
package handlers

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
	"gin-sse/internal/stream"
)

// SSE streams what is sent through the hub until the client leaves or the hub is closed.
//
// To use it in a program of your own, copy internal/hub and internal/stream along with it.
func SSE(events *hub.Hub) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		c.Header("Cache-Control", "no-cache")
		c.Header("Connection", "keep-alive")
		c.Header("X-Accel-Buffering", "no") // without it nginx holds events back
		if c.Request.Method == http.MethodHead {
			return
		}

		// Subscribe before the client sees an answer: it then gets everything that is sent after the answer.
		subscriber := events.Subscribe(lastEventID(c))
		err := stream.Detach(c, func(ctx context.Context, c *gin.Context) {
			defer subscriber.Close()
			c.Stream(func(w io.Writer) bool {
				data, err := subscriber.Next(ctx)
				if err != nil {
					return false
				}
				_, err = w.Write(data)
				return err == nil
			})
		})
		if err != nil { // Detach has answered with an error
			subscriber.Close()
		}
	}
}

// lastEventID returns the id of the last message that the client saw, or nothing. A browser sends it in the
// header when it reconnects. A new EventSource cannot set a header, so it sends the id in the query.
func lastEventID(c *gin.Context) string {
	if id := c.GetHeader("Last-Event-ID"); id != "" {
		return id
	}
	return c.Query("lastEventId")
}

// SimulateData sends the server's time to every client. The clock calls it at every tick.
func SimulateData(events *hub.Hub) func(now time.Time) {
	return func(now time.Time) {
		message := "Server Time: " + now.Format("3:04:05 PM")
		_ = events.Tick(gin.H{"message": message}) // strings always encode, and a closed hub has no clients
	}
}
