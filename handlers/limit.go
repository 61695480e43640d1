package handlers

import (
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// Limit allows at most max open streams, or any number if max is 0. Before it refuses a client, it makes sure that no
// client that has left holds a place.
func Limit(max uint64) gin.HandlerFunc {
	var open atomic.Uint64
	take := func() bool {
		if n := open.Add(1); max == 0 || n <= max {
			return true
		}
		open.Add(^uint64(0)) // minus 1
		return false
	}
	return func(c *gin.Context) {
		if !take() {
			stream.LetGo(c)
			if !take() {
				unavailable(c, "All places are taken. Try again in a few seconds.")
				return
			}
		}
		defer stream.AtEnd(c, func() { open.Add(^uint64(0)) })
		c.Next()
	}
}
