package journal

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are figures for Prometheus.
type metrics struct {
	duration prometheus.Histogram
	bytes    prometheus.Counter
	failures prometheus.Counter
}

func newMetrics() metrics {
	return metrics{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gin_sse_journal_commit_seconds",
			Help:    "How long the commits to the disk took. Each takes all messages that waited.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9), // 0.1 ms to 6.6 s
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gin_sse_journal_message_bytes_total",
			Help: "Bytes of the messages that were committed to the disk.",
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "gin_sse_journal_failed_commits_total",
			Help: "Commits that failed, for want of room or because of the disk.",
		}),
	}
}

// commit counts a commit.
func (m metrics) commit(took time.Duration, bytes int, err error) {
	if err != nil {
		m.failures.Inc()
		return
	}
	m.duration.Observe(took.Seconds())
	m.bytes.Add(float64(bytes))
}

func (m metrics) collectors(size func() int64) []prometheus.Collector {
	return []prometheus.Collector{m.duration, m.bytes, m.failures, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gin_sse_journal_size_bytes",
		Help: "Size of the file in DATA_DIR.",
	}, func() float64 { return float64(size()) })}
}
