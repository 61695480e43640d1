package handlers

import (
	"sync/atomic"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// Limit lets at most max streams be open at the same time, or any number if max is 0. The next client is told to
// come back, unless one of the others turns out to have left.
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
			stream.FreeGone(c)
			if !take() {
				unavailable(c, "All places are taken. Try again in a few seconds.")
				return
			}
		}
		defer stream.AtEnd(c, func() { open.Add(^uint64(0)) })
		c.Next()
	}
}
