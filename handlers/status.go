package handlers

import (
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/gin-gonic/gin"
	"github.com/prometheus/procfs"

	"gin-sse/internal/hub"
)

const (
	bars   = 60 // of the chart
	perBar = 5  // seconds
	height = 40 // of the chart, in the units of the viewBox in the template
)

// Status shows how the server is doing: figures on a page, and a stream that keeps them up to date. Its
// methods may be called from any number of goroutines.
type Status struct {
	Viewers *Events // sends the figures to browsers that show the page; stop it with the server

	events  *Events
	busiest busiest
	started time.Time
	mu      sync.Mutex
	samples []sample // one a second; the first of them begins a bar
}

// sample is how many events had been delivered at a moment.
type sample struct {
	at        time.Time
	delivered uint64
}

// NewStatus returns the status of a server that starts now and has these events. It may have so many viewers at the same time,
// or any number if that is 0. A silent stream of figures gets a comment after keepalive, or after 15 s if that is 0.
func NewStatus(events *Events, viewers uint64, keepalive time.Duration) *Status {
	now := time.Now()
	figures := &Events{hub: hub.New(hub.Options{Keepalive: keepalive}), clients: viewers, tokens: events.tokens, streams: events.streams}
	figures.hub.Begin("status", 0, 0) // nothing but the latest figures is ever kept, so a restart loses nothing
	return &Status{Viewers: figures, events: events, busiest: busiest{public: events.public}, started: now, samples: []sample{{at: now}}}
}

// Page shows the figures, with or without JavaScript.
func (s *Status) Page(c *gin.Context) {
	c.Header("Cache-Control", "no-cache")
	c.HTML(http.StatusOK, "status.html", s.figures())
}

// Refresh runs before the stream of Viewers. Without it, the first viewer in a while would begin with old figures.
func (s *Status) Refresh(*gin.Context) {
	if s.Viewers.Stats().Subscribers == 0 {
		s.send()
	}
}

// Update takes a sample, and sends the figures if there are viewers. The clock calls it every half second, and it
// acts halfway between two seconds: on the second itself a tick is being delivered, and only part of it is counted.
func (s *Status) Update(now time.Time) {
	if now.Nanosecond() == 0 {
		return
	}
	delivered := s.events.Stats().Delivered
	s.mu.Lock()
	if s.samples = append(s.samples, sample{time.Now(), delivered}); len(s.samples) > (bars+1)*perBar {
		s.samples = slices.Delete(s.samples, 0, perBar)
	}
	s.mu.Unlock()
	if s.Viewers.Stats().Subscribers > 0 {
		s.send()
	}
}

func (s *Status) send() { _ = s.Viewers.Tick(s.figures()) } // strings always encode, and there are no viewers after Stop

// figures returns what the page shows, as text. Each name is the id of an element of the page.
func (s *Status) figures() gin.H {
	now := s.events.Stats()
	topics, followed := s.busiest.count(s.events.hub)
	s.mu.Lock()
	defer s.mu.Unlock()

	var chart []float64
	for i := perBar; i < len(s.samples); i += perBar {
		chart = append(chart, rate(s.samples[i-perBar], s.samples[i]))
	}
	summary, highest := "Nothing to show yet.", 0.0
	if len(chart) > 0 {
		highest = slices.Max(chart)
		summary = fmt.Sprintf("Lowest %s, highest %s.", decimal(slices.Min(chart)), decimal(highest))
	}
	top := roundAbove(highest)
	last := len(s.samples) - 1
	figures := gin.H{
		"subscribers": humanize.Comma(now.Subscribers),
		"rate":        decimal(rate(s.samples[max(0, last-perBar)], s.samples[last])),
		"delivered":   humanize.Comma(int64(now.Delivered)),
		"kept":        humanize.Comma(int64(now.Kept)),
		"topics":      humanize.Comma(int64(topics)),
		"busiest":     followed,
		"uptime":      time.Since(s.started).Truncate(time.Second).String(),
		"memory":      resident(),
		"top":         decimal(top),
		"summary":     summary,
		"chart":       draw(chart, top),
	}
	if s.events.size != nil {
		figures["disk"] = humanize.Bytes(uint64(s.events.size()))
	}
	return figures
}

// rate is the events per second between two samples, which may be the same one.
func rate(from, to sample) float64 {
	return float64(to.delivered-from.delivered) / max(1, to.at.Sub(from.at).Seconds())
}

// draw returns the data of the chart's path, a line for each bar, the newest at the right end.
func draw(chart []float64, top float64) string {
	var path strings.Builder
	for i, value := range chart {
		if y := height * (1 - value/top); y < height {
			fmt.Fprintf(&path, "M%.1f %dV%.1f", float64(bars-len(chart)+i)+0.5, height, y)
		}
	}
	return path.String()
}

// roundAbove returns the first of 1, 2, 5, 10, 20, 50 and so on that is above the value.
func roundAbove(value float64) float64 {
	for power := 1.0; ; power *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if digit*power > value {
				return digit * power
			}
		}
	}
}

// decimal formats a number, with one decimal place if it is below 10: 0.4, 9.9, 10.
func decimal(value float64) string {
	if value < 9.95 {
		return humanize.FtoaWithDigits(math.Round(value*10)/10, 1)
	}
	return humanize.Comma(int64(math.Round(value)))
}

// resident returns the resident memory of this process, where the system offers that figure.
func resident() string {
	if self, err := procfs.Self(); err == nil {
		if stat, err := self.Stat(); err == nil {
			return humanize.Bytes(uint64(stat.ResidentMemory()))
		}
	}
	return "unknown"
}
