package handlers

import (
	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
	"gin-sse/internal/hub"
	"gin-sse/internal/stream"
)

// Together is how many lines are published at once at most.
const Together = together

// PublishTo is Publish with a log of the test's own.
func PublishTo(log event.Log, max int64) gin.HandlerFunc {
	return Publish(&Events{log: log, max: max, streams: stream.NewGroup()})
}

// Hub is what the events go through.
func (e *Events) Hub() *hub.Hub { return e.hub }
