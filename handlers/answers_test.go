package handlers_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/testsse"
)

func TestHEADIsAnsweredAsGETIs(t *testing.T) {
	t.Parallel()
	with := func(o handlers.Options) string {
		app, events := gin.New(), open(t, o)
		app.Match([]string{http.MethodGet, http.MethodHead}, "/events", handlers.SSE(events))
		app.POST("/events", handlers.Publish(events))
		return serve(t, app).URL + "/events"
	}
	here, away := with(handlers.Options{}), with(handlers.Options{NATSURL: "nats://127.0.0.1:1"}) // where nothing is
	response, err := http.Post(here+"?topic=a&end=true", "application/json", strings.NewReader("1"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var end struct{ ID string }
	if err := json.NewDecoder(response.Body).Decode(&end); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]int{
		here:                                    http.StatusOK,
		here + "?topic=a&follow=false":          http.StatusOK,
		here + "?topic=a":                       http.StatusOK,
		here + "?topic=a&lastEventId=" + end.ID: http.StatusNoContent,
		here + "?topic=//":                      http.StatusBadRequest,
		here + "?topic=private/a":               http.StatusForbidden,
		away + "?follow=false":                  http.StatusServiceUnavailable,
	} {
		get, leave := testsse.Get(t, http.DefaultClient, url, nil)
		leave()
		head, err := http.Head(url)
		if err != nil {
			t.Fatal(err)
		}
		head.Body.Close()
		if get.StatusCode != want || head.StatusCode != want {
			t.Errorf("%s: GET is answered with %d and HEAD with %d, want %d", url, get.StatusCode, head.StatusCode, want)
		}
	}
}

func TestAStreamOfFiguresThatFollowsNothingEnds(t *testing.T) {
	t.Parallel()
	status := handlers.NewStatus(open(t, handlers.Options{}), 0, 0)
	t.Cleanup(status.Viewers.Stop)
	app := gin.New()
	app.GET("/status/sse", status.Refresh, handlers.SSE(status.Viewers))
	if response, body := ask(t, serve(t, app), http.MethodGet, "/status/sse?follow=false", nil); response.StatusCode != http.StatusOK || !strings.HasSuffix(body, "data:{\"live\":true}\n\n") {
		t.Errorf("status %d and %q", response.StatusCode, body)
	}
}

func TestARequestThatPanicsIsInTheMetrics(t *testing.T) {
	t.Parallel()
	app := gin.New()
	metrics := handlers.NewMetrics(open(t, handlers.Options{}))
	app.Use(metrics.Count, gin.CustomRecoveryWithWriter(nil, handlers.InternalError))
	app.PUT("/sse", func(*gin.Context) { panic("a mistake") })
	app.GET("/metrics", metrics.Page)
	server := serve(t, app)
	if response, _ := ask(t, server, http.MethodPut, "/sse", nil); response.StatusCode != http.StatusInternalServerError {
		t.Errorf("it is answered with %d", response.StatusCode)
	}
	if _, text := ask(t, server, http.MethodGet, "/metrics", nil); !strings.Contains(text, "\ngin_sse_refusals_total{reason=\"unavailable\"} 1\n") {
		t.Errorf("the figures are %s", text)
	}
}
