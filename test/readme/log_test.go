package readme

import (
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
)

// The document shows one line of each kind. Their values are made up, but not their fields and their order.
func TestTheLogHasTheFieldsThatTheDocumentShows(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "DATA_DIR=data", "PUBLISH_TOKEN="+app.Token, "SUBSCRIBE_KEY="+app.SubscribeKey, "SHUTDOWN_DELAY=10ms")
	a.PublishTo("orders/7", "1")
	a.Get("/sse?topic=private/b").Body.Close()
	token := "Bearer " + app.TokenFor(t, "private/a", "--sub", "alice")
	stream := testsse.Open(t, app.Client(t), a.URL+"/sse?topic=news&topic=private/a", map[string][]string{"Authorization": {token}})
	a.PublishTo("news", "1")
	stream.Wants("1")
	stream.Leave()
	a.Out.Wait(t, "msg=stream")
	a.Stop(syscall.SIGTERM)

	field := regexp.MustCompile(`(\w+)=(?:"[^"]*"|\S*)`)
	kinds := func(line string) string {
		var names []string
		for _, found := range field.FindAllStringSubmatch(line, -1) {
			names = append(names, found[1])
		}
		return strings.Join(names, " ")
	}
	var have []string
	for line := range strings.Lines(a.Out.String()) {
		have = append(have, kinds(line))
	}
	for line := range strings.Lines(blockOf(t, "docs/operate.md", "msg=started")) {
		if !slices.Contains(have, kinds(line)) {
			t.Errorf("no line of the log has the fields of\n%sbut %q", line, have)
		}
		if found := regexp.MustCompile(`time=(\S+)`).FindStringSubmatch(line); found != nil {
			if _, err := time.Parse("2006-01-02T15:04:05.000Z07:00", found[1]); err != nil {
				t.Error(err)
			}
		}
	}
}
