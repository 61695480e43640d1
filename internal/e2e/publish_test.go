package e2e

import (
	"bufio"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testlog"
)

// eventsource runs the npm client on the stream; it prints a line for each message.
func eventsource(t *testing.T, url string) *testlog.Log {
	t.Helper()
	folder := npm(t)
	out := new(testlog.Log)
	cmd := exec.CommandContext(t.Context(), "node", "eventsource.mjs", url)
	cmd.Dir = folder
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = patience
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
	t.Cleanup(func() { <-done })
	return out
}

func TestNpmClientThatIsCutOffMissesNothing(t *testing.T) {
	t.Parallel()
	a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
	front := newRelay(t, "127.0.0.1:"+a.port)
	out := eventsource(t, front.url+"/sse")
	out.Wait(t, "open")
	var want []string
	say := func(text string) {
		id := a.publish(`{"message":"` + text + `"}`)
		want = append(want, fmt.Sprintf(`message %s {"message":"%s"}`, id, text))
	}
	front.cut() // before any message
	say("first")
	out.Wait(t, "first")
	for round := range 3 {
		front.cut()
		for n := range 5 {
			say(fmt.Sprintf("%d of round %d", n, round))
		}
		out.Wait(t, fmt.Sprintf("4 of round %d", round))
	}
	if got := printed(out, "message "); !slices.Equal(got, want) {
		t.Errorf("it saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := printed(out, "gap "); len(got) > 0 {
		t.Errorf("it was told of %q", got)
	}
}

func TestNpmClientIsToldOfAGapWhenTheServerWasRestarted(t *testing.T) {
	t.Parallel()
	a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
	out := eventsource(t, a.url+"/sse")
	out.Wait(t, "open")
	before := a.publish(`"before"`)
	out.Wait(t, `message `+before+` "before"`)
	a.stop(syscall.SIGTERM)

	b := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0", "PORT="+a.port)
	after := b.publish(`"after"`) // while the client waits to come back
	out.Wait(t, `message `+after+` "after"`)
	last := b.publish(`"last"`)
	out.Wait(t, `message `+last+` "last"`)
	if got, want := printed(out, "message "), []string{"message " + before + ` "before"`, "message " + after + ` "after"`, "message " + last + ` "last"`}; !slices.Equal(got, want) {
		t.Errorf("it saw %q, want %q", got, want)
	}
	if got := printed(out, "gap "); len(got) != 1 || !strings.HasSuffix(got[0], ` {"missed":null}`) {
		t.Errorf("it was told of %q, want one gap of unknown size", got)
	}
}

func TestCurlPublishesAsTheREADMESays(t *testing.T) {
	t.Parallel()
	long(t)
	if _, err := exec.LookPath("curl"); err != nil {
		missing(t, "curl", "install it (apt-get install curl)")
	}
	a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
	stream := a.get("/sse").Body
	readFirst(t, stream)
	for _, args := range [][]string{
		{"-H", "Content-Type: application/json", "-d", `{"message":"Deploy finished"}`},
		{"-d", "message=Deploy finished"},
	} {
		curl := exec.CommandContext(t.Context(), "curl", append([]string{"-sS", "-H", "Authorization: Bearer " + token, a.url + "/sse"}, args...)...)
		out, err := curl.CombinedOutput()
		if err != nil || !strings.HasPrefix(string(out), `{"id":"`) {
			t.Errorf("%v, and curl said %s", err, out)
		}
		readUntil(t, stream, "data:{\"message\":\"Deploy finished\"}\n\n")
	}
	off := start(t)
	if _, err := (&app{url: off.url}).tryPublish(`{}`); err == nil || !strings.Contains(err.Error(), "status 403: Publishing is off.") {
		t.Errorf("with no token set: %v", err)
	}
}

func TestBurstIsAcceptedWithAStalledClientAndNobodyMissesAnything(t *testing.T) {
	t.Parallel()
	long(t)
	const burst = 10_000
	a := start(t, "PUBLISH_TOKEN="+token, "TICK_INTERVAL=0")
	a.raw("GET /sse HTTP/1.1\r\nHost: x\r\n\r\n") // reads nothing
	stream := a.get("/sse").Body
	readFirst(t, stream)
	begin := time.Now()
	for n := range burst {
		a.publish(fmt.Sprint(n))
	}
	t.Logf("%d messages accepted in %v", burst, time.Since(begin))
	next := 0
	for lines := bufio.NewScanner(stream); next < burst && lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data:"); ok && data != "{}" {
			if data != fmt.Sprint(next) {
				t.Fatalf("message %s, want %d", data, next)
			}
			next++
		}
	}
	if next != burst {
		t.Errorf("the stream ended after %d messages", next)
	}
}

// printed are the lines of the output that begin so.
func printed(out *testlog.Log, prefix string) []string {
	var found []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, prefix) {
			found = append(found, strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}
