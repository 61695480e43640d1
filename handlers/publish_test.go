package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/event"
)

// refusing is a log that always answers with the same error.
type refusing struct{ error }

func (r refusing) Publish(context.Context, ...event.Message) (int, string, error) {
	return 0, "", r.error
}

func TestPublisherThatCannotStoreIsExplained(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		reason string
	}{
		{errors.New("NATS is away"), 503, "The event could not be stored: NATS is away. Send it again in a few seconds; with an Idempotency-Key it arrives once, even if it was stored after all."},
		{event.ErrClosed, 503, "The server is stopping. Send the event again in a few seconds."},
		{event.ErrEnded, 409, "This topic has ended. Publish to another topic, such as one with a number in its name."},
		{event.ErrKeyReused, 422, "This Idempotency-Key was used for another event. Give each event a key of its own."},
		{event.ErrTooLarge, 413, "The event is too large for NATS, which stores the events: raise max_payload there, or the stream's max_msg_size."},
	} {
		app := gin.New()
		app.POST("/sse", handlers.PublishTo(refusing{test.err}, 1000))
		request := httptest.NewRequest(http.MethodPost, "/sse", strings.NewReader(`{}`))
		request.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, request)
		var fields map[string]string
		if err := json.Unmarshal(answer.Body.Bytes(), &fields); err != nil {
			t.Fatal(err)
		}
		if answer.Code != test.status || fields["error"] != test.reason || (answer.Header().Get("Retry-After") != "") != (test.status == 503) {
			t.Errorf("%v: status %d, Retry-After %q and %q", test.err, answer.Code, answer.Header().Get("Retry-After"), fields["error"])
		}
	}
}

func TestALineOfNothingButCarriageReturnsIsTooLong(t *testing.T) {
	t.Parallel()
	app := gin.New()
	app.POST("/sse", handlers.PublishTo(refusing{errors.New("a message was published")}, 1000))
	server := httptest.NewServer(app)
	defer server.Close()
	answer, err := server.Client().Post(server.URL+"/sse", "application/x-ndjson", strings.NewReader(strings.Repeat("\r", 100_000)+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d, want 413", answer.StatusCode)
	}
}
