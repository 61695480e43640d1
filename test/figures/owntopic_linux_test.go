package figures

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/replica"
)

// BenchmarkTopicOfItsOwn holds 9,000 clients open that each follow a topic of their own: of a server on its own, and of
// one of several replicas. One iteration is one message to the topic of each:
//
//	go test ./figures -run none -bench TopicOfItsOwn -benchtime 1x
//
// The collector runs often, so that garbage counts little.
//
//	B/client        by how much the server's resident memory grew for each client
//	heap-B/client   by how much Go's heap grew
//	stack-B/client  by how much its stacks grew
func BenchmarkTopicOfItsOwn(b *testing.B) {
	const clients = 9_000
	for _, test := range []struct {
		name  string
		start func(env ...string) *app.Server
	}{
		{"alone", func(env ...string) *app.Server { return app.Start(b, env...) }},
		{"replica", func(env ...string) *app.Server { return replica.Start(b, replica.NATS(b), env...).Ready() }},
	} {
		b.Run(test.name, func(b *testing.B) {
			server := test.start("HOST=127.0.0.1", "TICK_INTERVAL=0", "METRICS=true", "GOGC=10", "PUBLISH_TOKEN="+app.Token)
			before, heap, stack := resident(b, server.Cmd.Process.Pid), goFigure(b, server, "go_memstats_heap_alloc_bytes"), goFigure(b, server, "go_memstats_stack_inuse_bytes")
			r := follow(b, server, clients, func(i int) string { return fmt.Sprint("/sse?topic=users/", i) })
			defer r.close()
			for i := range b.N * clients {
				if err := publishTopic(http.DefaultClient, server.URL, fmt.Sprint("users/", i%clients), r.body()); err != nil {
					b.Fatal(err)
				}
			}
			r.wait(b, int64(b.N*clients))
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(resident(b, server.Cmd.Process.Pid)-before)/clients, "B/client")
			b.ReportMetric((goFigure(b, server, "go_memstats_heap_alloc_bytes")-heap)/clients, "heap-B/client")
			b.ReportMetric((goFigure(b, server, "go_memstats_stack_inuse_bytes")-stack)/clients, "stack-B/client")
		})
	}
}

// goFigure is what the server says of itself at /metrics.
func goFigure(b *testing.B, server *app.Server, name string) (value float64) {
	b.Helper()
	response, err := http.Get(server.URL + "/metrics")
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "\n"+name+" ")
	if _, err := fmt.Sscan(rest, &value); err != nil {
		b.Fatalf("%s has no %s: %v", response.Request.URL, name, err)
	}
	return value
}
