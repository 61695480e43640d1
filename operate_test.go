package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

func TestPanicEndsItsRequestAlone(t *testing.T) {
	t.Parallel()
	s := http1.start(t, func(app *gin.Engine) {
		app.GET("/late-panic", func(c *gin.Context) {
			c.String(http.StatusOK, "begun")
			c.Writer.Flush()
			panic("this one comes in the middle")
		})
	})
	beside := s.stream()
	defer beside.Close()
	if body, err := io.ReadAll(s.get("/late-panic").Body); string(body) != "begun" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after a panic in the middle: body %q and error %v, want it cut off", body, err)
	}
	errorLog.Wait(t, "this one comes in the middle")
	s.tick("still here")
	testsse.ReadUntil(t, beside, "still here")
}

func TestTrustedProxiesTellWhoTheClientIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ trusted, logged string }{
		{"", "127.0.0.1"},
		{"10.0.0.0/8", "127.0.0.1"},
		{"127.0.0.1", "203.0.113.7"},
		{"10.0.0.0/8, 127.0.0.0/8", "203.0.113.7"},
	} {
		s := start(t, "TRUSTED_PROXIES="+test.trusted)
		s.ask(http.MethodHead, "/", http.Header{"X-Forwarded-For": {"203.0.113.7"}}, "")
		if line := s.out.Wait(t, "HEAD"); !strings.HasSuffix(line, " client="+test.logged) {
			t.Errorf("TRUSTED_PROXIES=%q: the log says %q, want %s", test.trusted, line, test.logged)
		}
	}
}

func TestEachRequestIsOneLogLineAndAStreamsComesWhenItEnds(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		s.ask(http.MethodGet, "/healthz", nil, "")
		stream := s.get("/sse")
		begin := time.Now()
		s.ask(http.MethodGet, "/style.css", nil, "")
		s.out.Wait(t, `method=GET path=/style.css`)
		if lines := s.out.Lines(`path=/sse`); len(lines) > 0 {
			t.Errorf("while the stream is open the log has %q", lines)
		}
		took := time.Since(begin)
		stream.Body.Close()
		s.tick("tick") // on HTTP/1.1 a failed write reports the disconnect
		testwait.Until(t, func() string {
			if len(s.out.Lines(`path=/sse`)) == 0 {
				s.tick("tick")
				return "the stream of a client that left is not logged"
			}
			return ""
		})
		line := s.out.Lines(`path=/sse`)[0]
		found := regexp.MustCompile(` status=200 seconds=([\d.]+) client=127\.0\.0\.1 ended=left topics="" events=\d+$`).FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("unexpected log line %q", line)
		}
		if lasted, err := time.ParseDuration(found[1] + "s"); err != nil || lasted < took.Truncate(10*time.Microsecond) {
			t.Errorf("the log says that the stream lasted %s, want at least %v", found[1], took)
		}
		s.stop()
		if lines := s.out.Lines(""); len(lines) != 2 {
			t.Errorf("the log has %q, want two lines", lines)
		}
	})
}

func TestLimitSendsTheNextClientAwayUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "MAX_CLIENTS=2")
		first := s.get("/sse")
		s.get("/sse")
		for range 3 {
			response, body := s.ask(http.MethodGet, "/sse", nil, "")
			if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") != "5" ||
				body != `{"error":"All places are taken. Try again in a few seconds."}` {
				t.Errorf("third client: status %d, Retry-After %q, body %q", response.StatusCode, response.Header.Get("Retry-After"), body)
			}
		}
		if response, _ := s.ask(http.MethodGet, "/", nil, ""); response.StatusCode != http.StatusOK {
			t.Errorf("the page: status %d", response.StatusCode)
		}
		// Nothing is sent, so no write reports that the client has left: its place is free all the same.
		first.Body.Close()
		testwait.Until(t, func() string {
			if response, _ := s.ask(http.MethodHead, "/sse", nil, ""); response.StatusCode != http.StatusOK {
				return fmt.Sprintf("status %d after a client left", response.StatusCode)
			}
			return ""
		})
	})
}

func TestClientThatLeavesIsNoticedWithinTwoTicks(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.0", "1.1"} {
		t.Run("HTTP/"+version, func(t *testing.T) {
			t.Parallel()
			s := start(t, "KEEPALIVE=1h") // no comment against silence comes
			conn := s.raw("GET /sse HTTP/" + version + "\r\nHost: localhost\r\n\r\n")
			s.tick("tick")
			for lines := bufio.NewReader(conn); ; { // to the end, as with something unread the system would reset the connection
				line, err := lines.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(line, `data:"tick"`) {
					_, _ = lines.Discard(lines.Buffered())
					break
				}
			}
			conn.Close()
			clock := time.NewTicker(time.Second / 2)
			for range 2 {
				<-clock.C
				s.tick("tick")
			}
			clock.Stop()
			testwait.Until(t, func() string {
				if n := s.events.Stats().Subscribers; n > 0 {
					return fmt.Sprintf("HTTP/%s: %d streams after two ticks", version, n)
				}
				return ""
			})
		})
	}
}

// Not parallel: it counts what the whole process holds.
func TestThousandsComingAndGoingLeaveNothing(t *testing.T) {
	idle := runtime.NumGoroutine() // those of parallel tests that wait are among them
	s := start(t)
	churn := func(n int) {
		for i := range n {
			conn := s.stream()
			if i%2 == 0 {
				_ = conn.SetLinger(0) // RST, as after a crash
			}
			conn.Close()
			s.tick(i)
		}
	}
	held := func() (goroutines, descriptors int, heap uint64) {
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		open, err := os.ReadDir("/proc/self/fd") // Linux's; elsewhere the descriptors go uncounted
		if err != nil && runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		return runtime.NumGoroutine(), len(open), memory.HeapAlloc
	}

	churn(100) // what is made once is there now
	var goroutines, descriptors int
	var heap uint64
	testwait.Until(t, func() string {
		goroutines, descriptors, heap = held()
		if goroutines > idle+10 {
			return fmt.Sprintf("still %d goroutines after the first 100", goroutines)
		}
		return ""
	})
	const n = 5000
	churn(n)
	logged := uint64(n) * 300 // bytes: s.out keeps a line for each, with room to grow
	testwait.Until(t, func() string {
		g, d, h := held()
		if g > goroutines || d > descriptors || h > heap+logged+2<<20 {
			return fmt.Sprintf("%d goroutines, %d descriptors, %d bytes; before it was %d, %d, %d", g, d, h, goroutines, descriptors, heap)
		}
		return ""
	})
}

func TestStopEndsEveryKindOfStreamProperly(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		var problem string
		for range 5 { // a stop has 0.7 s, which may not be enough on a busy machine
			s := p.start(t, nil)
			s.tick("tick")
			streams := []*http.Response{s.get("/sse"), s.get("/status/sse"), s.get("/sse")}
			before := len(errorLog.Lines("cut off"))
			s.stop()
			problem = ""
			for _, stream := range streams {
				if text, err := io.ReadAll(stream.Body); err != nil || !bytes.HasSuffix(text, []byte("\n\n")) {
					problem = fmt.Sprintf("%s ended with %v after %q", stream.Request.URL.Path, err, text)
				}
			}
			if problem == "" || len(errorLog.Lines("cut off")) == before { // unless a server says so
				break
			}
		}
		if problem != "" {
			t.Error(problem)
		}
	})
}
