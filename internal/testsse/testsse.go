// Package testsse reads streams of events in tests, with a parser of somebody else's. Reading a stream that stays silent
// fails the test after testwait.Limit.
package testsse

import (
	"context"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testwait"
)

// Stream reads a stream event by event.
type Stream struct {
	Last string // the id to resume from

	t     testing.TB
	next  func() (sse.Event, error, bool)
	leave func()
}

// Get asks for the address with these headers and returns the answer. Calling leave, and the end of the test, cut it off.
func Get(t testing.TB, client *http.Client, url string, header http.Header) (response *http.Response, leave context.CancelFunc) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	limit := time.AfterFunc(testwait.Limit, leave)
	response, err = client.Do(request)
	limit.Stop()
	if err != nil {
		leave()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		leave()
		response.Body.Close()
	})
	return response, leave
}

// Open opens a stream, which must be answered with 200.
func Open(t testing.TB, client *http.Client, url string, header http.Header) *Stream {
	t.Helper()
	response, leave := Get(t, client, url, header)
	if response.StatusCode != http.StatusOK {
		t.Fatalf("%s is answered with %s", url, response.Status)
	}
	s := Read(t, response.Body)
	s.leave = leave
	return s
}

// Read reads a stream that is open.
func Read(t testing.TB, body io.ReadCloser) *Stream {
	t.Helper()
	next, stop := iter.Pull2(sse.Read(body, &sse.ReadConfig{MaxEventSize: 1 << 20}))
	t.Cleanup(stop)
	return &Stream{t: t, next: next, leave: func() { body.Close() }}
}

// Events returns the events of a whole stream, without those that only tell its position.
func Events(t testing.TB, text string) (events []sse.Event) {
	t.Helper()
	for event, err := range sse.Read(strings.NewReader(text), &sse.ReadConfig{MaxEventSize: 1 << 20}) {
		if err != nil {
			t.Fatal(err)
		}
		if !IsPosition(event) {
			events = append(events, event)
		}
	}
	return events
}

// IsPosition tells whether the event only says where its stream is.
func IsPosition(event sse.Event) bool { return event.Type == "position" }

// Leave cuts the stream off.
func (s *Stream) Leave() { s.leave() }

// Next returns the next event that does not only tell the position, unless the stream has ended properly.
func (s *Stream) Next() (event sse.Event, ok bool) {
	s.t.Helper()
	defer time.AfterFunc(testwait.Limit, s.leave).Stop()
	for {
		event, err, ok := s.next()
		if err != nil {
			s.t.Fatalf("the stream was cut off: %v", err)
		}
		if !ok {
			return sse.Event{}, false
		}
		if s.Last = event.LastEventID; !IsPosition(event) {
			return event, true
		}
	}
}

// Text returns the next event as its name, if it has one, and its data.
func (s *Stream) Text() (text string, ok bool) {
	s.t.Helper()
	event, ok := s.Next()
	return strings.TrimSpace(event.Type + " " + event.Data), ok
}

// Wants fails the test unless these events come next.
func (s *Stream) Wants(events ...string) {
	s.t.Helper()
	for _, want := range events {
		if got, ok := s.Text(); got != want || !ok {
			s.t.Fatalf("got %q (the stream goes on: %v), want %q", got, ok, want)
		}
	}
}

// Until reads until such an event has come.
func (s *Stream) Until(text string) {
	s.t.Helper()
	var before []string
	for {
		got, ok := s.Text()
		if got == text && ok {
			return
		}
		if before = append(before, got); !ok {
			s.t.Fatalf("the stream ended before %q; it had %q", text, before)
		}
	}
}

// Rest returns all events until the stream ends, which it must do properly.
func (s *Stream) Rest() (events []string) {
	s.t.Helper()
	for event, ok := s.Text(); ok; event, ok = s.Text() {
		events = append(events, event)
	}
	return events
}

// WantsRest fails the test unless these events come next and then the end.
func (s *Stream) WantsRest(events ...string) {
	s.t.Helper()
	if got := s.Rest(); !slices.Equal(got, events) {
		s.t.Errorf("the stream ends with %q, want %q", got, events)
	}
}
