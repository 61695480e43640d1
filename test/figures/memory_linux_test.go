package figures

import (
	"fmt"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
)

// BenchmarkFullHistory is the memory of a process whose history is as full as the defaults allow, without a limit and with
// what a container of 128 MiB leaves for Go.
func BenchmarkFullHistory(b *testing.B) {
	const full = 64 << 20
	for _, limit := range []string{"off", "115MiB"} {
		for _, size := range []int{60_000, 1_000, 100} {
			b.Run(fmt.Sprintf("limit=%s/message=%d", limit, size), func(b *testing.B) {
				a := app.Start(b, "GOMEMLIMIT="+limit, "TICK_INTERVAL=0", "PUBLISH_TOKEN="+app.Token)
				line := fmt.Sprintf("%q\n", strings.Repeat("x", size))
				const each = 500 // messages of a topic
				for b.Loop() {
					for topic := range 2*full/size/each + 1 { // twice as many as fit, so that old ones have gone
						postLines(b, a, fmt.Sprint("t", topic), line, each)
					}
				}
				b.ReportMetric(float64(resident(b, a.Cmd.Process.Pid))/(1<<20), "MiB")
			})
		}
	}
}
