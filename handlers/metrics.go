package handlers

import (
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gin-sse/internal/hub"
	"gin-sse/internal/stream"
)

// Metrics are the figures of the events, of requests and streams, of the process and Go's runtime, in Prometheus's format.
type Metrics struct {
	Page     gin.HandlerFunc // shows them
	posts    *prometheus.HistogramVec
	refusals *prometheus.CounterVec
	ends     *prometheus.CounterVec
}

// NewMetrics returns the figures. Count must see each request.
func NewMetrics(events *Events) *Metrics {
	m := &Metrics{
		posts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gin_sse_post_seconds",
			Help:    "How long requests that publish took, by the status of the answer. An upload of lines takes as long as its publisher.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8), // 0.5 ms to 8 s
		}, []string{"status"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gin_sse_refusals_total",
			Help: "Requests for a stream, and to publish, that were refused.",
		}, []string{"reason"}),
		ends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gin_sse_streams_ended_total",
			Help: "Streams that have ended, by the reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"max_clients", "token", "origin", "size", "request", "unavailable"} {
		m.refusals.WithLabelValues(reason) // so that each begins at 0, from which an alert can tell the first one
	}
	var counted busiest
	gauge := func(name, help string, value func(hub.Stats) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(events.Stats()) })
	}
	counter := func(name, help string, value func(hub.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, func() float64 { return float64(value(events.Stats())) })
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(events.metrics...)
	registry.MustRegister(readiness(events.ready)...)
	registry.MustRegister(
		m.posts, m.refusals, m.ends,
		collectors.NewBuildInfoCollector(),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("gin_sse_subscribers", "Streams that are open.", func(s hub.Stats) float64 { return float64(s.Subscribers) }),
		counter("gin_sse_events_delivered_total", "Events handed to streams. An event counts once for each stream.", func(s hub.Stats) uint64 { return s.Delivered }),
		counter("gin_sse_gaps_total", "Gaps that streams were told of.", func(s hub.Stats) uint64 { return s.Gaps }),
		counter("gin_sse_messages_published_total", "Messages published. With NATS, those to topics that clients of this replica follow.", func(s hub.Stats) uint64 { return s.Published }),
		gauge("gin_sse_topics", "Topics that have subscribers or messages.", func(hub.Stats) float64 {
			topics, _ := counted.count(events.hub)
			return float64(topics)
		}),
		gauge("gin_sse_history_messages", "Messages kept for clients that reconnect.", func(s hub.Stats) float64 { return float64(s.Kept) }),
		gauge("gin_sse_history_bytes", "About how many bytes these take.", func(hub.Stats) float64 { return float64(events.Bytes()) }),
	)
	m.Page = gin.WrapH(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return m
}

// Count counts a request to /sse, and the end of its stream.
func (m *Metrics) Count(c *gin.Context) {
	if c.FullPath() != "/sse" {
		return
	}
	start := time.Now()
	c.Next()
	status := c.Writer.Status()
	if c.Request.Method == http.MethodPost {
		m.posts.WithLabelValues(strconv.Itoa(status)).Observe(time.Since(start).Seconds())
	}
	if status >= http.StatusBadRequest {
		m.refusals.WithLabelValues(refusal(c, status)).Inc()
	}
	stream.AtEnd(c, func(end stream.End) {
		if end != "" {
			m.ends.WithLabelValues(string(end)).Inc()
		}
	})
}

// readiness returns figures about whether messages can be stored and followed.
func readiness(ready func() error) []prometheus.Collector {
	var mu sync.Mutex
	was := time.Now() // when it was ready
	return []prometheus.Collector{
		yesOrNo("gin_sse_ready", "1 while messages can be stored and followed.", func() bool { return ready() == nil }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gin_sse_behind_seconds",
			Help: "For how long messages could not be stored, or may not have come from NATS, as far as earlier requests for these figures know.",
		}, func() float64 {
			mu.Lock()
			defer mu.Unlock()
			if ready() == nil {
				was = time.Now()
				return 0
			}
			return time.Since(was).Seconds()
		}),
	}
}

// yesOrNo returns a figure that is 1 or 0.
func yesOrNo(name, help string, is func() bool) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 {
		if is() {
			return 1
		}
		return 0
	})
}

// refusal returns what kind of reason a request was refused for.
func refusal(c *gin.Context, status int) string {
	last := c.Errors.Last()
	switch {
	case last != nil && errors.Is(last, errFull):
		return "max_clients"
	case last != nil && errors.Is(last, errOrigin):
		return "origin"
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return "token"
	case status == http.StatusRequestEntityTooLarge || status == http.StatusRequestHeaderFieldsTooLarge:
		return "size"
	case status < http.StatusInternalServerError:
		return "request"
	}
	return "unavailable"
}
