package handlers

import (
	"fmt"
	"net/url"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
)

// subscription returns what a client asks for: the topics, and the id of the last message that it saw. A browser
// sends that id in a header when it reconnects; a new EventSource, which can send no header, has it in its address.
func subscription(c *gin.Context) (topics event.Topics, after string, err error) {
	query, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return topics, "", fmt.Errorf("the query cannot be read: %w", err)
	}
	if after = c.GetHeader("Last-Event-ID"); after == "" {
		after = query.Get("lastEventId")
	}
	topics, err = event.ParseTopics(query["topic"])
	return topics, after, err
}
