package capacity

import (
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	forHistory = 22 // percent of a large history that the heap may grow by before garbage is collected
	forRest    = 100
	small      = 8 << 20 // bytes of the history that count as the rest: to collect more often is dearer than these bytes
)

// Collector returns a function that tells the garbage collector how much the heap may grow, for the clock to call. Go lets
// it double, which is right for clients that come and go, but too much for messages that only stay: a full history would
// take twice its size. history is how many bytes the messages take. GOGC in the environment has precedence: then the
// function does nothing.
func Collector(history func() int64) func(time.Time) {
	if os.Getenv("GOGC") != "" {
		return func(time.Time) {}
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	now := forRest
	return func(time.Time) {
		metrics.Read(live)
		percent := growth(history(), int64(live[0].Value.Uint64()))
		if percent < now-4 || percent > now+4 { // each change stops the process for a moment
			debug.SetGCPercent(percent)
			now = percent
		}
	}
}

// growth returns by how many percent a heap may grow, of which so many bytes are the history.
func growth(history, live int64) int {
	live = max(live, history)
	history = max(0, history-small)
	if live == 0 {
		return forRest
	}
	return int((history*forHistory + (live-history)*forRest) / live)
}
