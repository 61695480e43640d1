package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/event"
	"gin-sse/internal/hub"
)

// asked is what a client asks for.
type asked struct {
	topics event.Topics
	after  string // the id of the last message that it saw, or earliest or latest
	follow bool   // also what is published from now on
}

// subscription returns what a client asks for. A browser sends the id in a header when it reconnects; a new EventSource,
// which can send no header, has it in its address. Anything unknown in the query is an error: a mistyped lastEventId must
// not become a lost message.
func subscription(c *gin.Context) (asked, error) {
	want := asked{follow: true}
	values, err := url.ParseQuery(c.Request.URL.RawQuery)
	if err != nil {
		return want, fmt.Errorf("the query cannot be read: %w", err)
	}
	err = eachParameter(values, func(name string, given []string) error {
		switch {
		case name == "topic":
			want.topics, err = event.ParseTopics(given)
			return err
		case len(given) > 1:
			return fmt.Errorf("%q is in the query twice: give it once", name)
		case given[0] == "":
			return fmt.Errorf("%q is empty in the query: give it a value, or leave it out", name)
		case name == "lastEventId":
			want.after = given[0]
		case name == "follow":
			if want.follow = false; given[0] != "false" {
				return fmt.Errorf("follow=%q is unknown: it is follow=false or left out", cut(given[0], 100))
			}
		default:
			return unknownParameter(name, "GET", "topic, lastEventId and follow", map[string][]string{
				"topic=NAME, once for each topic":                      {"topics", "channel", "channels", "room", "rooms", "subject", "stream", "streams", "subscribe", "match"},
				"lastEventId=ID, or send it in a header Last-Event-ID": {"lasteventid", "lastid", "id", "since", "after", "cursor", "offset", "from"},
				"follow=false to get what is kept and no more":         {"live", "once", "tail", "poll", "mode"},
			})
		}
		return nil
	})
	if header := c.GetHeader("Last-Event-ID"); header != "" {
		want.after = header
	}
	return want, err
}

// subscribe returns a subscriber that gets what the client asked for. If there can be none, it answers the request and
// returns nil.
func (want asked) subscribe(c *gin.Context, events *hub.Hub) *hub.Subscriber {
	subscribe := events.Subscribe
	if !want.follow {
		subscribe = events.Fetch
		c.Header("Connection", "close") // a stream takes its connection along: no other request may come on this one
	}
	subscriber, err := subscribe(c.Request.Context(), want.topics, want.after)
	switch {
	case errors.Is(err, event.ErrEnded):
		c.Status(http.StatusNoContent) // at which an EventSource stops for good
	case err != nil:
		c.Header("Content-Type", gin.MIMEJSON)
		refuse(c, http.StatusServiceUnavailable, "The messages could not be loaded in time. Try again in a few seconds.")
	default:
		c.Set(subscriberKey, subscriber) // for the log
	}
	return subscriber
}
