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

// writeTimeout is how long a client may take no byte of a write before it is cut off, at least; it may
// be a third longer.
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
		var deadline time.Time // setting it for every write would be a tenth of what an event costs
		sendData := func(frames []byte) error {
			if now := time.Now(); deadline.Sub(now) < writeTimeout {
				deadline = now.Add(writeTimeout * 4 / 3)
				if err := connection.SetWriteDeadline(deadline); err != nil {
					return err
				}
			}
			_, err := c.Writer.Write(frames)
			return err
		}
		noDeadline := func() {
			deadline = time.Time{}
			_ = connection.SetWriteDeadline(deadline) // a connection that cannot take it is gone
		}

		// The server's limit on the time for a request would end a stream, too.
		if err := connection.SetReadDeadline(time.Time{}); err != nil {
			return
		}
		// When to come back after an interruption: not everybody in the same instant.
		if err := sendData(fmt.Appendf(nil, "retry:%d\n\n", 2000+rand.IntN(3000))); err != nil {
			return
		}

		// Nothing is flushed before, so what is sent after the client sees an answer reaches it.
		subscriber := events.Subscribe(lastEventID(c))
		defer subscriber.Close()
		c.Stream(func(io.Writer) bool {
			if c.Request.ProtoMajor == 2 {
				noDeadline() // left behind, it would end a silent stream
			}
			// The request's context ends when the client closes the connection: req.on('close').
			frames, err := subscriber.Next(c.Request.Context())
			return err == nil && sendData(frames) == nil
		})
		noDeadline() // the end of the answer may come long after the last event
	}
}

// lastEventID is the id of the last message that the client saw. Browsers send it when they reconnect;
// a new EventSource, which can send no header, puts it into its address.
func lastEventID(c *gin.Context) string {
	if id := c.GetHeader("Last-Event-ID"); id != "" {
		return id
	}
	return c.Query("lastEventId")
}

// SimulateData sends the server's time to every client. It is called at every tick of the clock.
func SimulateData(events *hub.Hub) func(now time.Time) {
	return func(now time.Time) {
		message := "Server Time: " + now.Format("3:04:05 PM")
		_ = events.Tick(gin.H{"message": message}) // a string is always JSON, and a closed hub has no clients
	}
}
