package stream_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/stream"
	"gin-sse/internal/testwait"
)

func TestShutdownWaitsForEveryStreamAndSendsItsEnd(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(*httptest.Server){"HTTP1": http1, "HTTP1 over TLS": (*httptest.Server).StartTLS} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended atomic.Int32
			h := serve(t, start, func(ctx context.Context, c *gin.Context) {
				untilDone(ctx, c)
				_, _ = c.Writer.WriteString(", and good-bye")
				ended.Add(1)
			})
			var streams []*http.Response
			for range 100 {
				streams = append(streams, h.get("/"))
			}
			read := make(chan string, len(streams))
			for _, response := range streams {
				go func() {
					body, err := io.ReadAll(response.Body)
					read <- fmt.Sprint(string(body), err)
				}()
			}
			if err := h.shut(t.Context()); err != nil || ended.Load() != 100 {
				t.Errorf("error %v, and %d of 100 streams have ended", err, ended.Load())
			}
			for range streams {
				if got := <-read; got != "hello, and good-bye<nil>" {
					t.Errorf("a client has %q", got)
				}
			}
		})
	}
}

func TestShutdownCutsOffTheStreamsThatDoNotEndInTime(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	h := serve(t, http1, func(_ context.Context, c *gin.Context) {
		defer close(ended)
		for { // it watches neither its context nor the errors of its writes
			_, _ = c.Writer.WriteString("more")
			c.Writer.Flush()
			runtime.Gosched()
		}
	})
	response := h.get("/")
	late := errors.New("it is late")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(late)
	if err := h.shut(ctx); err != late {
		t.Errorf("error %v, want %v", err, late)
	}
	if _, err := io.ReadAll(response.Body); err == nil {
		t.Error("the client takes it for a proper end")
	}
	testwait.Closed(t, "the end of the function", ended)
}

func TestNoStreamBeginsAfterShutdown(t *testing.T) {
	t.Parallel()
	var ended atomic.Int32
	h := serve(t, http1, func(context.Context, *gin.Context) { t.Error("it was run") }, func(c *gin.Context) {
		c.Next()
		stream.AtEnd(c, func(stream.End) { ended.Add(1) })
	})
	if err := h.shut(t.Context()); err != nil {
		t.Fatal(err)
	}
	response := h.get("/")
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("status %d, body %q and error %v", response.StatusCode, body, err)
	}
	if n := ended.Load(); n != 1 {
		t.Errorf("AtEnd called its function %d times", n)
	}
}

func TestStreamThatBeginsWhileTheServerStopsHasItsEnd(t *testing.T) {
	t.Parallel()
	for range 100 {
		ready := make(chan struct{})
		h := serve(t, http1, untilDone, func(*gin.Context) { close(ready) })
		shut := make(chan error, 1)
		h.shutdown = func(context.Context) error { return <-shut }
		go func() {
			<-ready
			shut <- h.group.Shutdown(context.Background())
		}()
		response := h.get("/")
		if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode == http.StatusOK && string(body) != "hello" {
			t.Fatalf("status %d, body %q and error %v", response.StatusCode, body, err)
		}
	}
}

// noUnwrap compresses as gin-contrib/gzip does: its writer embeds the one before and has no method Unwrap.
type noUnwrap struct {
	gin.ResponseWriter
	zip *gzip.Writer
}
