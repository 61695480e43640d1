package program

import (
	"bufio"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testsse"
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

func TestBurstIsAcceptedWithAStalledClientAndNobodyMissesAnything(t *testing.T) {
	t.Parallel()
	const burst = 3_000 // more than are kept
	a := app.Start(t, "PUBLISH_TOKEN="+app.Token, "TICK_INTERVAL=0")
	a.Raw("GET /sse HTTP/1.1\r\nHost: x\r\n\r\n") // reads nothing
	stream := a.Get("/sse").Body
	testsse.ReadFirst(t, stream)
	next := 0
	var reading sync.WaitGroup
	reading.Go(func() { // while the burst goes on: on a busy machine it lasts longer than a client may read nothing
		for lines := bufio.NewScanner(stream); next < burst && lines.Scan(); {
			data, is := strings.CutPrefix(lines.Text(), "data:")
			switch {
			case !is || data == "{}":
			case data != fmt.Sprint(next):
				t.Errorf("message %s, want %d", data, next)
				return
			default:
				next++
			}
		}
	})
	begin := time.Now()
	for n := range burst {
		a.Publish(fmt.Sprint(n))
	}
	t.Logf("%d messages accepted in %v", burst, time.Since(begin))
	if reading.Wait(); next != burst {
		t.Errorf("the stream ended after %d messages", next)
	}
}
