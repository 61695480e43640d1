package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/natsserver"
)

// blockOf returns the first block of a document that has the text.
func blockOf(t *testing.T, document, text string) string {
	t.Helper()
	for _, b := range blocks(t, document) {
		if strings.Contains(b.text, text) {
			return b.text
		}
	}
	t.Fatalf("%s has no block with %q", document, text)
	return ""
}

// The two servers are started with the variables of the document, and what the program nats would send is sent for it.
func TestWhatAnotherProgramPublishesThroughNATSArrivesAsDocumented(t *testing.T) {
	t.Parallel()
	n := natsserver.Start(t)
	var replicas []*app.Server
	for line := range strings.Lines(strings.ReplaceAll(blockOf(t, "docs/cluster.md", "NATS_URL="), "nats://localhost:4222", n.ClientURL())) {
		variables, ok := strings.CutSuffix(line, " go run main.go\n")
		if !ok {
			t.Fatalf("this starts no server: %s", line)
		}
		variables = strings.TrimPrefix(variables, "PORT=3001 ") // each has a free one here
		replicas = append(replicas, app.Start(t, strings.Fields(variables)...).Ready())
	}
	if len(replicas) != 2 {
		t.Fatalf("the document starts %d servers", len(replicas))
	}
	conn, err := nats.Connect(n.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	command := regexp.MustCompile(`^nats pub (\S+)((?: -H \S+)*) '(.*)'\n$`)
	for line := range strings.Lines(blockOf(t, "docs/cluster.md", "nats pub")) {
		found := command.FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("what does this publish? %s", line)
		}
		message := nats.NewMsg(found[1])
		message.Data = []byte(found[3])
		for _, header := range strings.Fields(strings.ReplaceAll(found[2], "-H", "")) {
			name, value, _ := strings.Cut(header, ":")
			message.Header[name] = []string{value} // as it is written
		}
		want := strings.TrimSpace(strings.ToLower(message.Header.Get("Event")) + " " + found[3])
		path := "/sse"
		if subject, ok := strings.CutPrefix(found[1], "sse."); ok {
			path += "?topic=" + strings.NewReplacer(".", "/", ":", ".").Replace(subject)
		}
		var streams []*testsse.Stream
		for _, replica := range replicas {
			streams = append(streams, testsse.Open(t, app.Client(t), replica.URL+path, nil))
		}
		if err := conn.PublishMsg(message); err != nil {
			t.Fatal(err)
		}
		for _, stream := range streams {
			stream.Until(want)
			if message.Header["End"] != nil {
				stream.WantsRest()
			}
		}
		if message.Header["Nats-Rollup"] == nil {
			continue
		}
		if err := conn.PublishMsg(message); err != nil {
			t.Fatal(err)
		}
		for i, stream := range streams {
			stream.Until(want)
			testsse.Read(t, replicas[i].Get(path+"&lastEventId=earliest&follow=false").Body).WantsRest(want)
		}
	}
}

func TestNATSTakesTheSettingThatWritesEachMessageToTheDisk(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(blockOf(t, "docs/cluster.md", "sync_interval")), 0o600); err != nil {
		t.Fatal(err)
	}
	if options, err := server.ProcessConfigFile(file); err != nil || !options.SyncAlways {
		t.Errorf("%+v, %v", options, err)
	}
}
