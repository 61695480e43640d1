// Package handlers answers what clients ask for over HTTP, with a file for each kind of request.
//
// A Gin program of your own begins with [Open], and gives the [Events] to [SSE] and [Publish]. The other handlers answer
// browsers with pages, and need [NewPages] as the HTMLRender of the engine.
package handlers

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// SSE streams what is published to the topics that the client asks for, until the client leaves or the events are
// stopped. A client that asks for no topic gets the tutorial's stream. Private topics need a token.
func SSE(events *Events) gin.HandlerFunc {
	return private(events.tokens, limit(events, func(c *gin.Context) {
		want, err := subscription(c)
		if err != nil {
			refuse(c, http.StatusBadRequest, err.Error()+".")
			return
		}
		c.Header("Content-Type", "text/event-stream")
		c.Writer.Header().Add("Cache-Control", "no-cache, no-transform") // a proxy that compresses would hold events back
		c.Header("Connection", "keep-alive")
		c.Header("X-Accel-Buffering", "no") // without it nginx holds events back

		// Subscribe before the client sees an answer, so that it gets everything that is published from then on.
		subscriber := want.subscribe(c, events.hub)
		if subscriber == nil { // subscribe has answered why
			return
		}
		if c.Request.Method == http.MethodHead {
			subscriber.Close()
			return
		}
		err = stream.Detach(c, func(ctx context.Context, c *gin.Context) {
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
	}))
}

// SimulateData sends the server's time to the clients of the default topic. The clock calls it at every tick.
func SimulateData(events *Events) func(now time.Time) {
	return func(now time.Time) {
		message := "Server Time: " + now.Format("3:04:05 PM")
		_ = events.Tick(gin.H{"message": message}) // strings always encode, and there are no clients after Stop
	}
}
