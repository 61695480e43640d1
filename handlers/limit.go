package handlers

import (
	"net/http"
	"sync/atomic"

	"github.com/gin-gonic/gin"
)

// Limit lets at most max requests run at the same time, or any number if max is 0. The next one is
// told to come back.
func Limit(max uint64) gin.HandlerFunc {
	var running atomic.Uint64
	return func(c *gin.Context) {
		defer running.Add(^uint64(0)) // minus 1
		if n := running.Add(1); max > 0 && n > max {
			c.Header("Retry-After", "5")
			refuse(c, http.StatusServiceUnavailable, "All places are taken. Try again in a few seconds.")
			return
		}
		c.Next()
	}
}
