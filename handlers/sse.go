// Package handlers is what a client can ask for over HTTP, one file for each.
package handlers

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
)

// SSE streams what is sent through the hub, until the client leaves or the hub is closed.
func SSE(events *hub.Hub) gin.HandlerFunc {
	buffers := newBuffers()
	return func(c *gin.Context) {
		c.Header("Content-Type", "text/event-stream")
		c.Header("Cache-Control", "no-cache")
		c.Header("Connection", "keep-alive")
		c.Header("X-Accel-Buffering", "no") // nginx would collect the events otherwise
		if c.Request.Method == http.MethodHead {
			return
		}

		connection := http.NewResponseController(c.Writer)
		deadline := deadline{connection: connection}
		sendData := func(frames []byte) error {
			for len(frames) > 0 {
				if err := deadline.extend(); err != nil {
					return err
				}
				n, err := c.Writer.Write(frames[:min(len(frames), 64<<10)])
				if err != nil {
					return err
				}
				frames = frames[n:]
			}
			return nil
		}

		// A body means nothing here, but net/http waits for it before it answers. It has the server's time
		// for a request, which would end a stream, too, and is lifted then.
		if _, err := io.Copy(io.Discard, http.MaxBytesReader(c.Writer, c.Request.Body, 64<<10)); err != nil {
			refuse(c, http.StatusBadRequest, "A request for the stream has no body.")
			return
		}
		if err := connection.SetReadDeadline(time.Time{}); err != nil {
			return
		}

		// Before the client sees an answer, so that what is sent from then on reaches it.
		subscriber := events.Subscribe(lastEventID(c))
		defer subscriber.Close()
		closed := c.Request.Context() // ends when the client closes the connection: req.on('close')
		var stream *hijacked
		if c.Request.ProtoMajor == 1 {
			var err error
			if stream, err = hijack(c, buffers); err != nil {
				_ = c.Error(err) // for the log
				return
			}
			defer stream.conn.Close()
			c.Writer = stream
			closed = context.Background() // a write that fails tells
		}
		// When to come back after an interruption: not everybody in the same instant.
		if err := sendData(fmt.Appendf(nil, "retry:%d\n", 2000+rand.IntN(3000))); err != nil {
			return
		}
		c.Stream(func(io.Writer) bool {
			if c.Request.ProtoMajor == 2 {
				deadline.clear() // left behind, it would end a silent stream
			}
			frames, err := subscriber.Next(closed)
			return err == nil && sendData(frames) == nil
		})
		_ = deadline.extend() // for the end of the answer, which may come long after the last event
		if stream != nil {
			stream.end()
		}
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
