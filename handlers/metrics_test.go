package handlers_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"gin-sse/handlers"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestMetricsAreWhatPrometheusExpects(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{MaxClients: 2, MaxEventBytes: 10}, func(s *site) {
		s.more = func(app *gin.Engine) { app.PUT("/sse", func(*gin.Context) { panic("a mistake") }) }
	})
	s.ask(http.MethodPut, "/sse", nil, "")
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
		"\ngin_sse_refusals_total{reason=\"request\"} 1\n", "\ngin_sse_refusals_total{reason=\"unavailable\"} 1\n",
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
