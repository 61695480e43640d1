package program

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gin-sse/test/internal/app"
	"gin-sse/test/internal/npm"
	"gin-sse/test/internal/relay"
)

func TestNpmClientThatIsCutOffMissesNothing(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
	front := relay.New(t, "127.0.0.1:"+a.Port)
	out := npm.EventSource(t, front.URL()+"/sse")
	out.Wait(t, "open")
	var want []string
	say := func(text string) {
		id := a.Publish(`{"message":"` + text + `"}`)
		want = append(want, fmt.Sprintf(`message %s {"message":"%s"}`, id, text))
	}
	front.Cut() // before any message
	say("first")
	out.Wait(t, "first")
	for round := range 3 {
		front.Cut()
		for n := range 5 {
			say(fmt.Sprintf("%d of round %d", n, round))
		}
		out.Wait(t, fmt.Sprintf("4 of round %d", round))
	}
	if got := npm.Printed(out, "message "); !slices.Equal(got, want) {
		t.Errorf("it saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if got := npm.Printed(out, "gap "); len(got) > 0 {
		t.Errorf("it was told of %q", got)
	}
}

func TestNpmClientIsToldOfAGapWhenTheServerWasRestarted(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
	out := npm.EventSource(t, a.URL+"/sse")
	out.Wait(t, "open")
	before := a.Publish(`"before"`)
	out.Wait(t, `message `+before+` "before"`)
	a.Stop(syscall.SIGTERM)

	b := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0", "PORT="+a.Port)
	after := b.Publish(`"after"`) // while the client waits to come back
	out.Wait(t, `message `+after+` "after"`)
	last := b.Publish(`"last"`)
	out.Wait(t, `message `+last+` "last"`)
	if got, want := npm.Printed(out, "message "), []string{"message " + before + ` "before"`, "message " + after + ` "after"`, "message " + last + ` "last"`}; !slices.Equal(got, want) {
		t.Errorf("it saw %q, want %q", got, want)
	}
	if got := npm.Printed(out, "gap "); len(got) != 1 || !strings.HasSuffix(got[0], ` {}`) {
		t.Errorf("it was told of %q, want one gap of unknown size", got)
	}
}
