package handlers

import (
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// errFull is for the log and the figures.
var errFull = errors.New("all places are taken (MAX_CLIENTS)")

// Limit allows at most max open streams, or any number if max is 0. Before it refuses a client, it makes sure that no
// client that has left holds a place.
func Limit(max uint64) gin.HandlerFunc {
	var open atomic.Uint64
	var told atomic.Int64 // when the log was, in seconds since 1970
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
				if now, before := time.Now().Unix(), told.Load(); now-before >= 60 && told.CompareAndSwap(before, now) {
					slog.Warn("all places for streams are taken: new clients get 503 until others leave. MAX_CLIENTS says how many there may be, or else the limits of open files and of memory", "path", c.FullPath(), "places", max)
				}
				_ = c.Error(errFull)
				unavailable(c, "All places are taken. Try again in a few seconds.")
				return
			}
		}
		defer stream.AtEnd(c, func(stream.End) { open.Add(^uint64(0)) })
		c.Next()
	}
}
