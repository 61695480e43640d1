package handlers_test

import (
	"bufio"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

func TestStreamEndsProperlyAfterAnySilence(t *testing.T) {
	// The deadline of the last write has passed in each, and the next comment has not been written.
	for _, silence := range []time.Duration{14 * time.Second, 29 * time.Second, time.Hour + 14*time.Second} {
		synctest.Test(t, func(t *testing.T) {
			events := open(t, handlers.Options{})
			app := gin.New()
			app.GET("/sse", handlers.SSE(events))
			response, _ := servePipe(t, app)
			begin := time.Now()
			time.AfterFunc(silence, events.Stop)
			text, err := io.ReadAll(response.Body)
			if err != nil || time.Since(begin) != silence {
				t.Errorf("after %v the stream ended with %v, want a proper end after %v", time.Since(begin), err, silence)
			}
			if got, want := strings.Count(string(text), ":\n\n"), int(silence/(15*time.Second)); got != want {
				t.Errorf("%d comments in %v, want %d", got, silence, want)
			}
		})
	}
}

func TestSilentStreamHasACommentAtEachKeepalive(t *testing.T) {
	for _, keepalive := range []time.Duration{time.Second, 4 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			events := open(t, handlers.Options{Keepalive: keepalive})
			app := gin.New()
			app.GET("/sse", handlers.SSE(events))
			response, _ := servePipe(t, app)
			lines := bufio.NewReader(response.Body)
			latest := time.Now()
			for n := 1; n <= 3; {
				line, err := lines.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if line != ":\n" {
					continue
				}
				if took := time.Since(latest); took < keepalive || took > keepalive+keepalive/15 { // as often the hub looks
					t.Errorf("with %v, comment %d came after %v", keepalive, n, took)
				}
				latest = time.Now()
				n++
			}
			events.Stop()
			if _, err := io.Copy(io.Discard, lines); err != nil {
				t.Errorf("the stream ended with %v", err)
			}
		})
	}
}

// Where the system does not say that a client has left, as here, the second write after that finds out.
func TestAClientThatLeavesIsLetGoAtTheSecondEventOrComment(t *testing.T) {
	for pause, send := range map[time.Duration]func(*handlers.Events) error{
		time.Second:      func(e *handlers.Events) error { return e.Tick("tick") },
		15 * time.Second: func(*handlers.Events) error { return nil }, // a comment comes by itself
	} {
		synctest.Test(t, func(t *testing.T) {
			events := open(t, handlers.Options{})
			app := gin.New()
			app.GET("/sse", handlers.SSE(events))
			_, client := servePipe(t, app)
			client.Close()
			for range 2 {
				time.Sleep(pause)
				if err := send(events); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
			if n := events.Stats().Subscribers; n > 0 {
				t.Errorf("after twice %v, %d streams are open", pause, n)
			}
		})
	}
}
