package handlers

import (
	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics shows the figures of the events, the process and Go's runtime in Prometheus's format.
func Metrics(events *Events) gin.HandlerFunc {
	var counted busiest
	registry := prometheus.NewRegistry()
	registry.MustRegister(events.metrics...)
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gin_sse_subscribers",
			Help: "Streams that are open.",
		}, func() float64 { return float64(events.Stats().Subscribers) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gin_sse_events_delivered_total",
			Help: "Events handed to streams. An event counts once for each stream.",
		}, func() float64 { return float64(events.Stats().Delivered) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "gin_sse_messages_published_total",
			Help: "Messages published. With NATS, those to topics that clients of this replica follow.",
		}, func() float64 { return float64(events.Stats().Published) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gin_sse_topics",
			Help: "Topics that have subscribers or messages.",
		}, func() float64 {
			topics, _ := counted.count(events.hub)
			return float64(topics)
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "gin_sse_history_messages",
			Help: "Messages kept for clients that reconnect.",
		}, func() float64 { return float64(events.Stats().Kept) }),
	)
	return gin.WrapH(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
}
