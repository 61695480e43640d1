package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

func TestARequestThatPanicsIsInTheMetrics(t *testing.T) {
	t.Parallel()
	s := http1.start(t, func(app *gin.Engine) {
		app.PUT("/sse", func(*gin.Context) { panic("a mistake") })
	}, "METRICS=true")
	if response, _ := s.ask(http.MethodPut, "/sse", nil, ""); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("it is answered with %d", response.StatusCode)
	}
	if _, text := s.ask(http.MethodGet, "/metrics", nil, ""); !strings.Contains(text, "\ngin_sse_refusals_total{reason=\"unavailable\"} 1\n") {
		t.Errorf("the figures are %s", text)
	}
}
