// Package handlers is what a client can ask for over HTTP, one file for each.
package handlers

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
)

// writeTimeout is how long a client may take no byte of a write before it is cut off.
const writeTimeout = 10 * time.Second

// SSE streams what is sent through the hub, until the client leaves or the hub is closed.
func SSE(events *hub.Hub) gin.HandlerFunc {
	return func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		c.Header("Cache-Control", "no-cache")
		c.Header("Connection", "keep-alive")
		c.Header("X-Accel-Buffering", "no") // nginx would collect the events otherwise
		if c.Request.Method == http.MethodHead {
			return
		}

		connection := http.NewResponseController(c.Writer)
		sendData := func(frames []byte) bool {
			err := connection.SetWriteDeadline(time.Now().Add(writeTimeout))
			if err == nil {
				_, err = c.Writer.Write(frames)
			}
			return err == nil
		}

		// When to come back after an interruption: not everybody in the same instant.
		if !sendData(fmt.Appendf(nil, "retry:%d\n\n", 2000+rand.IntN(3000))) {
			return
		}
		c.Writer.Flush()

		subscriber := events.Subscribe()
		c.Stream(func(io.Writer) bool {
			_ = connection.SetWriteDeadline(time.Time{}) // left behind, it would end a silent stream on HTTP/2
			// The request's context ends when the client closes the connection: req.on('close').
			frames, err := subscriber.Next(c.Request.Context())
			return err == nil && sendData(frames)
		})
	}
}

// SimulateData sends the server's time to every client. It is called at every tick of the clock.
func SimulateData(events *hub.Hub) func(now time.Time) {
	return func(now time.Time) {
		message := "Server Time: " + now.Format("3:04:05 PM")
		_ = events.Tick(gin.H{"message": message}) // a string is always JSON
	}
}
