package handlers

import (
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
)

// errFull is for the log and the figures.
var errFull = errors.New("all places are taken (MAX_CLIENTS)")

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
				if now, before := time.Now().Unix(), events.full.Load(); now-before >= 60 && events.full.CompareAndSwap(before, now) {
					slog.Warn("all places for streams are taken: new clients get 503 until others leave. MAX_CLIENTS says how many there may be, or else the limits of open files and of memory", "path", c.FullPath(), "places", events.clients)
				}
				_ = c.Error(errFull)
				refuse(c, http.StatusServiceUnavailable, "All places are taken. Try again in a few seconds.")
				return
			}
		}
		defer stream.AtEnd(c, func(stream.End) { leave() })
		next(c)
	}
}
