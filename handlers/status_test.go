package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/tmaxmax/go-sse"

	"gin-sse/handlers"
	"gin-sse/internal/clock"
	"gin-sse/internal/event"
	"gin-sse/internal/hub"
	"gin-sse/internal/testsse"
)

// figures returns what the stream sends, by name.
func figures(t *testing.T, data string) map[string]any {
	t.Helper()
	var figures map[string]any
	if err := json.Unmarshal([]byte(data), &figures); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return figures
}

func TestFiguresFollowTheEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := open(t, handlers.Options{History: new(10)})
		status := handlers.NewStatus(events, 0, 0)
		defer status.Viewers.Stop()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go clock.Run(ctx, time.Second, handlers.SimulateData(events))
		go clock.Run(ctx, time.Second/2, status.Update)

		var latest atomic.Value
		viewer := subscribe(t, status.Viewers)
		go func() {
			defer viewer.Close()
			for {
				data, err := viewer.Next(ctx)
				if err != nil {
					return
				}
				latest.Store(string(data))
			}
		}()
		started := time.Now()
		check := func(after time.Duration, want map[string]string, chart string) {
			t.Helper()
			time.Sleep(time.Until(started.Add(after + 600*time.Millisecond)))
			synctest.Wait()
			_, data, _ := strings.Cut(latest.Load().(string), "data:")
			got := figures(t, data)
			for name, value := range want {
				if got[name] != value {
					t.Errorf("after %v %s is %q, want %q", after, name, got[name], value)
				}
			}
			if got["chart"] != chart {
				t.Errorf("after %v the chart is %q, want %q", after, got["chart"], chart)
			}
		}

		check(2*time.Second, map[string]string{"subscribers": "0", "rate": "0", "top": "1", "summary": "Nothing to show yet.", "uptime": "2s"}, "")
		check(9*time.Second, map[string]string{"rate": "0", "delivered": "0", "top": "1", "summary": "Lowest 0, highest 0."}, "")

		client, leave := context.WithCancel(ctx)
		subscriber := subscribe(t, events)
		go func() {
			defer subscriber.Close()
			for {
				if _, err := subscriber.Next(client); err != nil {
					return
				}
			}
		}()
		check(14*time.Second, map[string]string{"subscribers": "1", "rate": "1.2", "delivered": "6", "top": "2"}, "M59.5 40V16.0") // the latest tick came at once
		check(24*time.Second, map[string]string{"rate": "1", "delivered": "16", "summary": "Lowest 0, highest 1.2.", "uptime": "24s"},
			"M57.5 40V16.0M58.5 40V20.0M59.5 40V20.0")

		even := func(bars int, y string) (path string) {
			for bar := range bars {
				path += fmt.Sprintf("M%d.5 40V%s", bar, y)
			}
			return path
		}
		check(10*time.Minute, map[string]string{"rate": "1", "delivered": "592", "summary": "Lowest 1, highest 1.", "top": "2"}, even(60, "20.0"))

		for range 995 {
			if _, err := events.Publish(ctx, "", "message"); err != nil {
				t.Error(err)
			}
		}
		check(10*time.Minute+4*time.Second, map[string]string{"rate": "200", "delivered": "1,591", "kept": "10", "summary": "Lowest 1, highest 200.", "top": "500"},
			even(59, "39.9")+"M59.5 40V24.0")

		leave()
		check(16*time.Minute, map[string]string{"subscribers": "0", "rate": "0", "summary": "Lowest 0, highest 0.", "top": "1"}, "")
		stop()
		synctest.Wait()
	})
}

// busy gives a site a message that it keeps and two clients, which have each seen three events: what they
// missed, a tick and the message.
func (s *site) busy() {
	s.t.Helper()
	s.tick("tick")
	s.send("message")
	for range 2 {
		testsse.ReadUntil(s.t, s.get("/sse?lastEventId=unknown").Body, `data:"message"`)
	}
}

func TestStatusPageShowsTheFiguresWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	s.busy()
	response, page := s.ask(http.MethodGet, "/status", nil, "")
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Errorf("status %d, type %q", response.StatusCode, got)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("Cache-Control %q: the figures of earlier could be shown", got)
	}
	want := map[string]string{
		"subscribers": "2", "rate": `\d+(\.\d)?`, "delivered": "6", "kept": "1", "topics": "1", "uptime": `(\d+m)?\d+s`, "memory": `\d+(\.\d)? MB`,
		"top": `\d+`, "summary": "Nothing to show yet.",
	}
	for id, value := range want {
		if !regexp.MustCompile(` id="` + id + `">` + value + `</`).MatchString(page) {
			t.Errorf("%s is not %s in %s", id, value, page)
		}
	}
	if strings.Contains(page, "{{") || strings.Contains(page, "<no value>") || strings.Contains(page, "127.0.0.1") || strings.Contains(page, publishToken) {
		t.Errorf("a place that is not filled in, an address, or a secret, in %s", page)
	}

	sent := s.figures()
	want["chart"], want["busiest"] = "", ""
	for id := range maps.Keys(sent) {
		if !strings.Contains(page, ` id="`+id+`"`) {
			t.Errorf("%q is sent, and no element of the page has that id", id)
		}
	}
	if len(sent) != len(want) || sent["subscribers"] != "2" || sent["delivered"] != "6" || sent["kept"] != "1" {
		t.Errorf("sent are %v", sent)
	}
}

// figures returns what the stream of the status page sends first, by name.
func (s *site) figures() (figures map[string]string) {
	s.t.Helper()
	for event, err := range sse.Read(s.get("/status/sse").Body, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
		if !testsse.IsPosition(event) {
			var all map[string]any
			if err := json.Unmarshal([]byte(event.Data), &all); err != nil {
				s.t.Fatalf("%q: %v", event.Data, err)
			}
			figures = map[string]string{}
			for name, value := range all {
				figures[name] = fmt.Sprint(value)
			}
			return figures
		}
	}
	s.t.Fatal("the stream ended without figures")
	return nil
}

func TestFirstViewerInAWhileGetsTheFiguresOfNow(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	s.status.Refresh(nil) // somebody looked before
	s.busy()
	if got := s.figures()["kept"]; got != "1" {
		t.Errorf("%s messages are kept, says what is sent first, want 1", got)
	}
}

func TestUptimeIsInWholeSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := open(t, handlers.Options{})
		status := handlers.NewStatus(events, 0, 0)
		events.Stop() // or their comments would keep the clock busy
		status.Viewers.Stop()
		started := time.Now()
		for _, test := range []struct {
			after time.Duration
			want  string
		}{
			{0, "0s"},
			{time.Minute - 1, "59s"},
			{time.Minute, "1m0s"},
			{time.Hour - 1, "59m59s"},
			{time.Hour, "1h0m0s"},
			{24*time.Hour - 1, "23h59m59s"},
			{26 * time.Hour, "26h0m0s"},
			{24001 * time.Hour, "24001h0m0s"},
		} {
			time.Sleep(time.Until(started.Add(test.after)))
			recorder := httptest.NewRecorder()
			c, app := gin.CreateTestContext(recorder)
			app.SetHTMLTemplate(template.Must(template.New("status.html").Parse("{{.uptime}}")))
			status.Page(c)
			if got := recorder.Body.String(); got != test.want {
				t.Errorf("after %v it has been up for %q, want %q", test.after, got, test.want)
			}
		}
	})
}

func TestNoFiguresAreComputedWhileNobodyLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		status := handlers.NewStatus(open(t, handlers.Options{}), 0, 0)
		defer status.Viewers.Stop()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		clock.Run(ctx, time.Second/2, status.Update)
		viewer := subscribe(t, status.Viewers)
		defer viewer.Close()
		if sent, err := viewer.Next(t.Context()); err != nil || strings.Contains(string(sent), "subscribers") {
			t.Errorf("figures were sent while nobody looked: %q, %v", sent, err)
		}
	})
}

func subscribe(t *testing.T, events *handlers.Events) *hub.Subscriber {
	t.Helper()
	subscriber, err := events.Hub().Subscribe(t.Context(), event.Topics{}, "")
	if err != nil {
		t.Fatal(err)
	}
	return subscriber
}
