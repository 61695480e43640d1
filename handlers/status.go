package handlers

import (
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/hub"
)

const (
	bars   = 60 // of the chart
	perBar = 5  // seconds
	height = 40 // of the chart, in units of its own, as the template has it
)

// Status is how the server does: figures on a page, and a stream that keeps them up to date. Its
// methods may be called from any number of goroutines.
type Status struct {
	Viewers *hub.Hub // has the figures for who looks at the page; close it when the server stops

	events  *hub.Hub
	started time.Time
	mu      sync.Mutex
	samples []sample // one a second; the first of them begins a bar
}

// sample is how many events had been delivered at a moment.
type sample struct {
	at        time.Time
	delivered uint64
}

// NewStatus returns the status of a server that starts now. Its figures are those of the hub.
func NewStatus(events *hub.Hub) *Status {
	now := time.Now()
	return &Status{Viewers: hub.New(0), events: events, started: now, samples: []sample{{at: now}}}
}

// Page shows the figures, with or without JavaScript.
func (s *Status) Page(c *gin.Context) {
	c.Header("Cache-Control", "no-cache")
	c.HTML(http.StatusOK, "status.html", s.figures())
}

// Refresh goes before the stream of Viewers: the first to look in a while would get the figures of
// when somebody last did.
func (s *Status) Refresh(*gin.Context) {
	if s.Viewers.Stats().Subscribers == 0 {
		s.send()
	}
}

// Tick takes note of the events of the last second, and sends the figures if anybody looks. It is
// called at every half second of the clock, and does so halfway between two seconds: on the second
// events are on their way, some of them counted and some not.
func (s *Status) Tick(now time.Time) {
	if now.Nanosecond() == 0 {
		return
	}
	s.sample()
	if s.Viewers.Stats().Subscribers > 0 {
		s.send()
	}
}

func (s *Status) sample() {
	delivered := s.events.Stats().Delivered
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.samples = append(s.samples, sample{time.Now(), delivered}); len(s.samples) > (bars+1)*perBar {
		s.samples = slices.Delete(s.samples, 0, perBar)
	}
}

func (s *Status) send() { _ = s.Viewers.Tick(s.figures()) } // text is always JSON, and a closed hub has no viewers

// figures are the page's, ready to be shown. In the page each has its name for an id.
func (s *Status) figures() gin.H {
	now := s.events.Stats()
	s.mu.Lock()
	defer s.mu.Unlock()

	var chart []float64
	for i := perBar; i < len(s.samples); i += perBar {
		chart = append(chart, rate(s.samples[i-perBar], s.samples[i]))
	}
	summary := "Nothing to show yet."
	highest := 0.0
	if len(chart) > 0 {
		highest = slices.Max(chart)
		summary = fmt.Sprintf("Lowest %s, highest %s.", decimal(slices.Min(chart)), decimal(highest))
	}
	top := roundAbove(highest)
	last := len(s.samples) - 1
	return gin.H{
		"subscribers": grouped(uint64(now.Subscribers)),
		"rate":        decimal(rate(s.samples[max(0, last-perBar)], s.samples[last])),
		"delivered":   grouped(now.Delivered),
		"kept":        grouped(uint64(now.Kept)),
		"uptime":      duration(time.Since(s.started)),
		"memory":      decimal(float64(resident())/1e6) + " MB",
		"top":         decimal(top),
		"summary":     summary,
		"chart":       draw(chart, top),
		"topics":      "1",
		"busiest":     []gin.H{{"topic": "", "subscribers": grouped(uint64(now.Subscribers))}, {"topic": "orders/7", "subscribers": "2"}},
	}
}

// rate is the events per second between two samples, which may be the same.
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

// roundAbove is the next of 1, 2, 5, 10, 20, 50 and so on that is above the value.
func roundAbove(value float64) float64 {
	for power := 1.0; ; power *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if digit*power > value {
				return digit * power
			}
		}
	}
}

// grouped is a number with its thousands set apart: 1,234,567.
func grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// decimal is a number with one place after the point while that tells something: 0.4, 9.9, 10.
func decimal(value float64) string {
	if tenths := math.Round(value * 10); tenths < 100 {
		return strconv.FormatFloat(tenths/10, 'f', -1, 64)
	}
	return grouped(uint64(math.Round(value)))
}

// duration is a time in the two largest of its units.
func duration(d time.Duration) string {
	s := uint64(d.Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%d s", s)
	case s < 60*60:
		return fmt.Sprintf("%d min %d s", s/60, s%60)
	case s < 24*60*60:
		return fmt.Sprintf("%d h %d min", s/60/60, s/60%60)
	default:
		return fmt.Sprintf("%s d %d h", grouped(s/60/60/24), s/60/60%24)
	}
}

// resident is the memory of this process, in bytes: what the system says on Linux, elsewhere what Go
// has from the system.
func resident() uint64 {
	if statm, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := strings.Fields(string(statm)); len(fields) > 1 {
			if pages, err := strconv.ParseUint(fields[1], 10, 64); err == nil {
				return pages * uint64(os.Getpagesize())
			}
		}
	}
	memory := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(memory)
	return memory[0].Value.Uint64() - memory[1].Value.Uint64()
}
