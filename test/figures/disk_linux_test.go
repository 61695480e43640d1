package figures

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
)

// BenchmarkDiskAfterAPause measures the time from a POST to receipt, one message at a time, with a pause before each:
// messages in quick succession are gathered for up to 40 ms. -benchtime 200x.
func BenchmarkDiskAfterAPause(b *testing.B) {
	for _, where := range []string{"memory", "disk"} {
		b.Run(where, func(b *testing.B) {
			env := []string{"TICK_INTERVAL=0", "PUBLISH_TOKEN=" + app.Token}
			if where == "disk" {
				env = append(env, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
			}
			server := app.Start(b, env...)
			client := app.Client(b)
			stream := server.Get("/sse").Body
			testsse.ReadFirst(b, stream)
			received := make(chan time.Time)
			var listening sync.WaitGroup
			listening.Go(func() {
				listen(stream, func(string) bool { received <- time.Now(); return true })
			})
			var took []time.Duration
			for b.Loop() {
				<-time.After(50 * time.Millisecond)
				begin := time.Now()
				if err := publishTo(client, server.URL, []byte(`{"message":"hello"}`)); err != nil {
					b.Fatal(err)
				}
				took = append(took, (<-received).Sub(begin))
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
			stream.Close()
			listening.Wait()
		})
	}
}

// BenchmarkStartWithKeptMessages measures how long it takes until the program serves, with a DATA_DIR that keeps nothing
// and with one that keeps 100,000 messages of 100 bytes in 100 topics. One iteration is one start: -benchtime 20x.
func BenchmarkStartWithKeptMessages(b *testing.B) {
	for _, topics := range []int{0, 100} {
		b.Run(fmt.Sprintf("messages=%d", topics*1000), func(b *testing.B) {
			env := []string{"TICK_INTERVAL=0", "PUBLISH_TOKEN=" + app.Token, "DATA_DIR=" + b.TempDir()}
			server := app.Start(b, env...)
			line := fmt.Sprintf("{\"message\":%q}\n", strings.Repeat("x", 86))
			for n := range topics {
				postLines(b, server, fmt.Sprint("t/", n), line, 1000)
			}
			server.Stop(syscall.SIGTERM)
			var all []time.Duration
			for b.Loop() {
				cmd := app.Command(b, append(env, "PORT=0", "GIN_MODE=release")...)
				out, err := cmd.StdoutPipe()
				if err != nil {
					b.Fatal(err)
				}
				begin := time.Now()
				if err := cmd.Start(); err != nil {
					b.Fatal(err)
				}
				testsse.ReadUntil(b, out, "Server running on ")
				all = append(all, time.Since(begin))
				if err := cmd.Process.Kill(); err != nil {
					b.Fatal(err)
				}
				_ = cmd.Wait() // it was killed
			}
			slices.Sort(all)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(all[len(all)-1].Microseconds())/1000, "highest-ms")
		})
	}
}
