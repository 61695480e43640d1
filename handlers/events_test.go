package handlers_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

// host is a server of somebody else's, which has the stream at an address of its own.
func host(t *testing.T, events *handlers.Events) (url string, server *http.Server) {
	t.Helper()
	app := gin.New()
	app.GET("/events", handlers.SSE(events))
	app.POST("/events", handlers.Publish(events))
	s := serve(t, app)
	return s.URL, s.Config
}

func TestAServerOfOnesOwnEndsItsStreamsProperly(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"", t.TempDir()} { // in memory, and on disk
		events := open(t, handlers.Options{DataDir: dir})
		url, server := host(t, events)
		server.RegisterOnShutdown(events.Stop)
		var streams []*testsse.Stream
		for range 3 {
			streams = append(streams, testsse.Open(t, http.DefaultClient, url+"/events?topic=orders", nil))
		}
		if _, err := events.Publish(t.Context(), "orders", gin.H{"message": "<Shipped>"}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		events.Close()
		if n := events.Stats().Subscribers; n > 0 {
			t.Errorf("after Close, %d clients are served", n)
		}
		for _, s := range streams {
			s.WantsRest(`{"message":"<Shipped>"}`)
		}
		if _, err := events.Publish(t.Context(), "orders", 1); err == nil {
			t.Error("after Close, a message is published")
		}
	}
}

func TestAnUploadDoesNotHoldUpAServerOfOnesOwn(t *testing.T) {
	t.Parallel()
	events := open(t, handlers.Options{})
	url, server := host(t, events)
	server.RegisterOnShutdown(events.Stop)
	stream := testsse.Open(t, http.DefaultClient, url+"/events?topic=log", nil)
	body, lines := io.Pipe()
	defer lines.Close()
	status := make(chan int, 1)
	go func() {
		response, err := http.Post(url+"/events?topic=log", "text/plain", body)
		if err != nil {
			t.Error(err)
			status <- 0
			return
		}
		response.Body.Close()
		status <- response.StatusCode
	}()
	if _, err := io.WriteString(lines, "one\n"); err != nil {
		t.Fatal(err)
	}
	stream.Wants(`{"message":"one"}`) // and no more comes
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if got := <-status; got != http.StatusServiceUnavailable {
		t.Errorf("the upload is answered with %d", got)
	}
}

func TestMessagesInTheDataDirOutliveTheEvents(t *testing.T) {
	t.Parallel()
	o := handlers.Options{DataDir: filepath.Join(t.TempDir(), "data")}
	before := open(t, o)
	if _, err := before.Publish(t.Context(), "orders", "kept"); err != nil {
		t.Fatal(err)
	}
	before.Close()
	url, _ := host(t, open(t, o))
	testsse.Open(t, http.DefaultClient, url+"/events?topic=orders&follow=false", nil).WantsRest(`"kept"`)
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

func TestPrivateTopicsAreClosedWithoutASubscribeKey(t *testing.T) {
	t.Parallel()
	url, _ := host(t, open(t, handlers.Options{}))
	response, _ := testsse.Get(t, http.DefaultClient, url+"/events?topic=private/a", nil)
	if response.StatusCode != http.StatusForbidden {
		t.Errorf("a private topic is answered with %s", response.Status)
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

func TestAllHandlersOfTheSameEventsShareThePlaces(t *testing.T) {
	t.Parallel()
	events := open(t, handlers.Options{MaxClients: 1})
	url, _ := host(t, events)
	other, _ := host(t, events)
	first := testsse.Open(t, http.DefaultClient, url+"/events", nil)
	if response, _ := testsse.Get(t, http.DefaultClient, other+"/events", nil); response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Errorf("a second client is answered with %s", response.Status)
	}
	first.Leave()
	testwait.For(t, "a free place", func() bool {
		response, leave := testsse.Get(t, http.DefaultClient, other+"/events", nil)
		leave()
		return response.StatusCode == http.StatusOK
	})
}
