package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testsse"
)

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
	s := start(t)
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
	if strings.Contains(page, "{{") || strings.Contains(page, "<no value>") || strings.Contains(page, "127.0.0.1") || strings.Contains(page, secret) {
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
	s := start(t)
	s.status.Refresh(nil) // somebody looked before
	s.busy()
	if got := s.figures()["kept"]; got != "1" {
		t.Errorf("%s messages are kept, says what is sent first, want 1", got)
	}
}

func TestStatusIsOpenWhenAllPlacesAreTaken(t *testing.T) {
	t.Parallel()
	s := start(t, "MAX_CLIENTS=1")
	s.get("/sse")
	if response := s.get("/sse"); response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a second client is answered with %d", response.StatusCode)
	}
	for _, path := range []string{"/status", "/status/sse"} { // the places of the two streams are counted apart
		if response := s.get(path); response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered with %d", path, response.StatusCode)
		}
	}
}

func TestMetricsAreWhatPrometheusExpects(t *testing.T) {
	t.Parallel()
	s := start(t, "METRICS=true", "MAX_CLIENTS=2", "MAX_EVENT_BYTES=10")
	s.busy()
	s.ask(http.MethodGet, "/sse", nil, "")
	s.ask(http.MethodGet, "/sse?mistyped=a", nil, "")
	s.publish("/sse", nil, "1")
	s.publish("/sse?topic=a", authorized("application/json"), "1")
	s.publish("/sse?topic=a", authorized("application/json"), `"too large"`)
	response, text := s.ask(http.MethodGet, "/metrics", nil, "")
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("status %d, type %q", response.StatusCode, got)
	}
	for _, want := range []string{
		"# TYPE gin_sse_subscribers gauge\ngin_sse_subscribers 2\n",
		"# TYPE gin_sse_events_delivered_total counter\ngin_sse_events_delivered_total 6\n",
		"# TYPE gin_sse_history_messages gauge\ngin_sse_history_messages 2\n",
		"# TYPE gin_sse_gaps_total counter\ngin_sse_gaps_total 2\n",
		"# TYPE gin_sse_ready gauge\ngin_sse_ready 1\n", "\ngin_sse_behind_seconds ", "\ngin_sse_history_bytes ",
		"\ngin_sse_refusals_total{reason=\"max_clients\"} 1\n", "\ngin_sse_refusals_total{reason=\"token\"} 1\n", "\ngin_sse_refusals_total{reason=\"size\"} 1\n",
		"\ngin_sse_refusals_total{reason=\"request\"} 1\n", "\ngin_sse_refusals_total{reason=\"unavailable\"} 0\n",
		"\ngin_sse_post_seconds_count{status=\"202\"} 1\n", "\ngin_sse_post_seconds_count{status=\"413\"} 1\n", "\ngin_sse_post_seconds_count{status=\"401\"} 1\n",
		"\ngo_build_info{",
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

func TestMetricsAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]int{"METRICS=": 404, "METRICS=false": 404, "METRICS=true": 200} {
		if response := start(t, setting).get("/metrics"); response.StatusCode != want {
			t.Errorf("with %s /metrics is answered with %d, want %d", setting, response.StatusCode, want)
		}
	}
}
