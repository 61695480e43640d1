package handlers_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/event"
	"gin-sse/internal/testsse"
)

// host serves the stream at an address of the program's own, and returns that.
func host(t *testing.T, events *handlers.Events) (url string) {
	t.Helper()
	app := gin.New()
	app.GET("/events", handlers.SSE(events))
	return serve(t, app).URL + "/events"
}

func TestAServerOfOnesOwnEndsItsStreamsProperly(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		for _, dir := range []string{"", t.TempDir()} { // in memory, and on disk
			s := p.start(t, handlers.Options{DataDir: dir})
			streams := []*testsse.Stream{s.follow("/sse?topic=orders", nil), s.follow("/sse?topic=orders", nil)}
			viewer := s.get("/status/sse")
			if _, err := s.events.Publish(t.Context(), "orders", gin.H{"message": "<Shipped>"}); err != nil {
				t.Fatal(err)
			}
			s.stop()
			if n := s.events.Stats().Subscribers; n > 0 {
				t.Errorf("after Close, %d clients are served", n)
			}
			for _, stream := range streams {
				stream.WantsRest(`{"message":"<Shipped>"}`)
			}
			if text := testsse.ReadAll(t, viewer.Body); !strings.HasSuffix(text, "\n\n") {
				t.Errorf("the figures end with %q", text)
			}
			if _, err := s.events.Publish(t.Context(), "orders", 1); !errors.Is(err, event.ErrClosed) {
				t.Errorf("after Close, publishing ends with %v", err)
			}
		}
	})
}

func TestMessagesInTheDataDirOutliveTheEvents(t *testing.T) {
	t.Parallel()
	o := handlers.Options{DataDir: filepath.Join(t.TempDir(), "data")}
	before := open(t, o)
	if _, err := before.Publish(t.Context(), "orders", "kept"); err != nil {
		t.Fatal(err)
	}
	before.Close()
	url := host(t, open(t, o))
	testsse.Open(t, http.DefaultClient, url+"?topic=orders&follow=false", nil).WantsRest(`"kept"`)
}

func TestTheZeroOptionsAreTheSettingsDefaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		options       handlers.Options
		kept, largest int
	}{
		{handlers.Options{}, 1000, 65_000},
		{handlers.Options{History: new(0)}, 0, 65_000},
		{handlers.Options{History: new(2), MaxEventBytes: 10}, 2, 10},
		{handlers.Options{HistoryBytes: new(int64(0))}, 0, 65_000},
	} {
		events := open(t, test.options)
		data := strings.Repeat("x", test.largest-len(`""`))
		if _, err := events.Publish(t.Context(), "a", data+"x"); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("the event has %d bytes, and up to %d are allowed", test.largest+1, test.largest)) {
			t.Errorf("%+v: a larger event: %v", test.options, err)
		}
		if _, err := events.Publish(t.Context(), "a", data); err != nil {
			t.Errorf("%+v: an event of %d bytes: %v", test.options, test.largest, err)
		}
		for n := range 1001 {
			if _, err := events.Publish(t.Context(), "a", n); err != nil {
				t.Fatal(err)
			}
		}
		if got := events.Stats().Kept; got != test.kept {
			t.Errorf("%+v: %d messages are kept, want %d", test.options, got, test.kept)
		}
	}
}

func TestPublishRefusesWhatNoClientCouldReceive(t *testing.T) {
	t.Parallel()
	events := open(t, handlers.Options{})
	for want, publish := range map[string]struct {
		topic string
		data  any
	}{
		`"a//b" is no topic`: {"a//b", 1},
		`"a/*" is no topic`:  {"a/*", 1},
		`publish to the topic "a": json: unsupported type: `: {"a", make(chan int)},
	} {
		if id, err := events.Publish(t.Context(), publish.topic, publish.data); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: id %q and error %v, want %q", publish, id, err, want)
		}
	}
	if got := events.Stats().Published; got > 0 {
		t.Errorf("%d messages were published", got)
	}
}

func TestOpenSaysWhatItCannotUse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	few, little := -1, int64(-1)
	for want, o := range map[string]handlers.Options{
		"MaxEventBytes=-1 cannot be used: ":         {MaxEventBytes: -1},
		"Keepalive=-1 cannot be used: ":             {Keepalive: -1},
		"History=-1 cannot be used: ":               {History: &few},
		"HistoryBytes=-1 cannot be used: ":          {HistoryBytes: &little},
		"NATSURL cannot be used: ":                  {NATSURL: "http://localhost"},
		"SUBSCRIBE_KEY cannot be used: ":            {SubscribeKeys: handlers.Secrets("too short")},
		`"news//*" is no topic to follow: `:         {PublicTopics: []string{"news", "news//*"}},
		`"private/a" is never public: `:             {PublicTopics: []string{"private/a"}},
		"DataDir and NATSURL are both set: ":        {DataDir: t.TempDir(), NATSURL: "nats://localhost"},
		fmt.Sprintf("DATA_DIR=%q cannot be ", file): {DataDir: file},
	} {
		events, err := handlers.Open(o)
		if err == nil || events != nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}
