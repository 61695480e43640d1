package handlers_test

import (
	"fmt"
	"net/http"
	"os"
	"runtime"
	"testing"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/testwait"
)

func TestLimitSendsTheNextClientAwayUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{MaxClients: 2}, func(s *site) {
			s.more = func(app *gin.Engine) { app.GET("/again", handlers.SSE(s.events)) } // which has the same places
		})
		first := s.get("/sse")
		s.get("/again")
		for _, path := range []string{"/sse", "/again", "/sse?topic=a"} {
			response, body := s.ask(http.MethodGet, path, nil, "")
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

// Not parallel: it counts what the whole process holds.
func TestThousandsComingAndGoingLeaveNothing(t *testing.T) {
	idle := runtime.NumGoroutine() // those of parallel tests that wait are among them
	s := start(t, handlers.Options{})
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

func TestAllPlacesTakenIsOneLineAMinute(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{MaxClients: 3}) // as no other test has it: they share the log
	for range 3 {
		s.follow("/sse", nil)
	}
	before := len(errorLog.Lines(" path=/sse places=3"))
	for range 20 {
		s.ask(http.MethodGet, "/sse", nil, "")
	}
	if n := len(errorLog.Lines(" path=/sse places=3")) - before; n < 1 || n > 2 {
		t.Errorf("%d lines", n)
	}
}
