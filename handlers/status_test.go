package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/tmaxmax/go-sse"

	"gin-sse/handlers"
	"gin-sse/internal/clock"
	"gin-sse/internal/hub"
)

// serveStatus runs what shows how a server does, as main.go's table of routes does, with its templates.
func serveStatus(t *testing.T, events *hub.Hub) (*httptest.Server, *handlers.Status) {
	status := handlers.NewStatus(events)
	gin.SetMode(gin.TestMode)
	app := gin.New()
	app.HTMLRender = handlers.Pages{Templates: os.DirFS("../templates")}
	get := []string{http.MethodGet, http.MethodHead}
	app.Match(get, "/sse", handlers.SSE(events))
	app.Match(get, "/status", status.Page)
	app.Match(get, "/status/sse", status.Refresh, handlers.SSE(status.Viewers))
	app.Match(get, "/metrics", handlers.Metrics(events))
	server := httptest.NewServer(app)
	t.Cleanup(func() {
		events.Close()
		status.Viewers.Close()
		server.Close()
	})
	return server, status
}

// follow opens a stream and reads the first n events that have no name.
func follow(t *testing.T, server *httptest.Server, path string, n int) (data []string) {
	t.Helper()
	response, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	for event, err := range sse.Read(response.Body, nil) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == "" {
			data = append(data, event.Data)
		}
		if len(data) == n {
			return data
		}
	}
	t.Fatalf("%s ended after %d events, want %d", path, len(data), n)
	return nil
}

// figures returns what the stream sends, by name.
func figures(t *testing.T, data string) map[string]string {
	t.Helper()
	var figures map[string]string
	if err := json.Unmarshal([]byte(data), &figures); err != nil {
		t.Fatalf("%q: %v", data, err)
	}
	return figures
}

// busy gives a server a message that it keeps and two clients, who have each seen three events: what
// they missed, a tick and the message.
func busy(t *testing.T, server *httptest.Server, events *hub.Hub) {
	t.Helper()
	if err := events.Tick("tick"); err != nil {
		t.Fatal(err)
	}
	if _, err := events.Send("", "message"); err != nil {
		t.Fatal(err)
	}
	follow(t, server, "/sse?lastEventId=unknown", 2)
	follow(t, server, "/sse?lastEventId=unknown", 2)
}

func TestStatusPageShowsTheFiguresWithoutJavaScript(t *testing.T) {
	t.Parallel()
	events := hub.New(10)
	server, _ := serveStatus(t, events)
	busy(t, server, events)

	response, page := ask(t, server, http.MethodGet, "/status", nil)
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Errorf("status %d, type %q", response.StatusCode, got)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("Cache-Control %q: the figures of earlier could be shown", got)
	}
	want := map[string]string{
		"subscribers": "2", "rate": `\d+(\.\d)?`, "delivered": "6", "kept": "1", "uptime": `\d+ s`, "memory": `\d+(\.\d)? MB`,
		"top": `\d+`, "summary": "Nothing to show yet.",
	}
	for id, value := range want {
		if !regexp.MustCompile(` id="` + id + `">` + value + `</`).MatchString(page) {
			t.Errorf("%s is not %s in %s", id, value, page)
		}
	}
	if strings.Contains(page, "${") || strings.Contains(page, "127.0.0.1") {
		t.Errorf("a place that is not filled in, or an address, in %s", page)
	}

	sent := figures(t, follow(t, server, "/status/sse", 1)[0])
	want["chart"] = ""
	for id := range maps.Keys(sent) {
		if !strings.Contains(page, ` id="`+id+`"`) {
			t.Errorf("%q is sent, and no element of the page has that id", id)
		}
	}
	if len(sent) != len(want) || sent["subscribers"] != "2" || sent["delivered"] != "6" || sent["kept"] != "1" {
		t.Errorf("sent are %v", sent)
	}
}

func TestFirstViewerInAWhileGetsTheFiguresOfNow(t *testing.T) {
	t.Parallel()
	events := hub.New(10)
	server, status := serveStatus(t, events)
	earlier := status.Viewers.Subscribe("")
	status.Tick(time.Unix(0, int64(time.Second/2)))
	earlier.Close()
	busy(t, server, events)

	if got := figures(t, follow(t, server, "/status/sse", 1)[0])["kept"]; got != "1" {
		t.Errorf("%s messages are kept, says what is sent first, want 1", got)
	}
}

func TestFiguresFollowTheEvents(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := hub.New(10)
		defer events.Close()
		status := handlers.NewStatus(events)
		defer status.Viewers.Close()
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go clock.Run(ctx, time.Second, handlers.SimulateData(events))
		go clock.Run(ctx, time.Second/2, status.Tick)

		var latest atomic.Value
		viewer := status.Viewers.Subscribe("")
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

		check(2*time.Second, map[string]string{"subscribers": "0", "rate": "0", "top": "1", "summary": "Nothing to show yet.", "uptime": "2 s"}, "")
		check(9*time.Second, map[string]string{"rate": "0", "delivered": "0", "top": "1", "summary": "Lowest 0, highest 0."}, "")

		client, leave := context.WithCancel(ctx)
		subscriber := events.Subscribe("")
		go func() {
			defer subscriber.Close()
			for {
				if _, err := subscriber.Next(client); err != nil {
					return
				}
			}
		}()
		check(14*time.Second, map[string]string{"subscribers": "1", "rate": "1.4", "delivered": "7", "top": "2"}, "M59.5 40V12.0") // the position and the latest tick came at once
		check(24*time.Second, map[string]string{"rate": "1", "delivered": "17", "summary": "Lowest 0, highest 1.4.", "uptime": "24 s"},
			"M57.5 40V12.0M58.5 40V20.0M59.5 40V20.0")

		even := func(bars int, y string) (path string) {
			for bar := range bars {
				path += fmt.Sprintf("M%d.5 40V%s", bar, y)
			}
			return path
		}
		check(10*time.Minute, map[string]string{"rate": "1", "delivered": "593", "summary": "Lowest 1, highest 1.", "top": "2"}, even(60, "20.0"))

		for range 995 {
			if _, err := events.Send("", "message"); err != nil {
				t.Error(err)
			}
		}
		check(10*time.Minute+4*time.Second, map[string]string{"rate": "200", "delivered": "1,592", "kept": "10", "summary": "Lowest 1, highest 200.", "top": "500"},
			even(59, "39.9")+"M59.5 40V24.0")

		leave()
		check(16*time.Minute, map[string]string{"subscribers": "0", "rate": "0", "summary": "Lowest 0, highest 0.", "top": "1"}, "")
		stop()
		synctest.Wait()
	})
}

func TestUptimeIsShortHoweverLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := hub.New(0)
		status := handlers.NewStatus(events)
		events.Close() // or their comments would keep the clock busy
		status.Viewers.Close()
		started := time.Now()
		for _, test := range []struct {
			after time.Duration
			want  string
		}{
			{0, "0 s"},
			{time.Minute - 1, "59 s"},
			{time.Minute, "1 min 0 s"},
			{time.Hour - 1, "59 min 59 s"},
			{time.Hour, "1 h 0 min"},
			{24*time.Hour - 1, "23 h 59 min"},
			{26 * time.Hour, "1 d 2 h"},
			{24001 * time.Hour, "1,000 d 1 h"},
		} {
			time.Sleep(time.Until(started.Add(test.after)))
			recorder := httptest.NewRecorder()
			c, app := gin.CreateTestContext(recorder)
			app.HTMLRender = handlers.Pages{Templates: fstest.MapFS{"status.html": {Data: []byte("${uptime}")}}}
			status.Page(c)
			if got := recorder.Body.String(); got != test.want {
				t.Errorf("after %v it has been up for %q, want %q", test.after, got, test.want)
			}
		}
	})
}

func TestNobodyLookingCostsNoFigures(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events := hub.New(0)
		defer events.Close()
		status := handlers.NewStatus(events)
		defer status.Viewers.Close()
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		clock.Run(ctx, time.Second/2, status.Tick)
		viewer := status.Viewers.Subscribe("")
		defer viewer.Close()
		if sent, err := viewer.Next(t.Context()); err != nil || strings.Contains(string(sent), "subscribers") {
			t.Errorf("figures were sent while nobody looked: %q, %v", sent, err)
		}
	})
}

func TestMetricsAreWhatPrometheusExpects(t *testing.T) {
	t.Parallel()
	events := hub.New(10)
	server, _ := serveStatus(t, events)
	busy(t, server, events)
	response, text := ask(t, server, http.MethodGet, "/metrics", nil)
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("status %d, type %q", response.StatusCode, got)
	}
	for _, want := range []string{
		"# TYPE gin_sse_subscribers gauge\ngin_sse_subscribers 2\n",
		"# TYPE gin_sse_events_delivered_total counter\ngin_sse_events_delivered_total 6\n",
		"# TYPE gin_sse_history_messages gauge\ngin_sse_history_messages 1\n",
		"\ngo_goroutines ", "\nprocess_start_time_seconds ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "gin_sse_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	for line := range strings.Lines(text) {
		if !regexp.MustCompile(`^(# (HELP|TYPE) )?(gin_sse|go|process)_`).MatchString(line) {
			t.Errorf("something else is exposed: %s", line)
		}
	}
}
