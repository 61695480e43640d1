package handlers

import (
	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// limit allows as many open streams as the events may have clients. Before it refuses one, it makes sure that no client that
// has left holds a place.
func limit(events *Events, next gin.HandlerFunc) gin.HandlerFunc {
	leave := func() { events.open.Add(^uint64(0)) } // minus 1
	take := func() bool {
		if n := events.open.Add(1); events.clients == 0 || n <= events.clients {
			return true
		}
		leave()
		return false
	}
	return func(c *gin.Context) {
		c.Request = c.Request.WithContext(events.streams.Within(c.Request.Context()))
		if !take() {
			stream.LetGo(c)
			if !take() {
				unavailable(c, "All places are taken. Try again in a few seconds.")
				return
			}
		}
		defer stream.AtEnd(c, leave)
		next(c)
	}
}
