package pages

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gin-sse/internal/testwait"
)

// policy is the strictest Content-Security-Policy that the page works under.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// stage serves the page with a stream that does what a test tells it to.
type stage struct {
	url string

	mu       sync.Mutex
	changed  chan struct{} // closed at any change
	messages []string      // frames; the id of a message is "e-" and its number, from 1
	tick     string        // the latest
	ticks    int           // so far
	lost     int           // the first messages are no longer there
	refused  int           // streams that were answered with status
	status   int           // to answer with, unless it is 0
	epoch    int           // streams of an earlier one end
	open     int           // streams now
	opened   int           // streams ever
	finite   int           // requests that were answered with what is kept, and the end
	died     int           // streams up to this one are dead: nothing comes any more, not even an end
	loading  bool          // the second position does not come yet

	native     bool   // app.js is without its first line
	allowed    string // the origin of another site that may use this one
	preflights int    // times that it asked for permission
	cookie     string // that the last stream was asked for with
	folder     string // served below /built/
}

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{changed: make(chan struct{})}
	files := http.FileServer(http.Dir("../../public"))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /sse", s.stream)
	mux.HandleFunc("GET /tab", html("tab.html"))
	mux.HandleFunc("GET /reader.mjs", html("reader.mjs"))
	mux.HandleFunc("GET /built/", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		folder := http.Dir(s.folder)
		s.mu.Unlock()
		http.StripPrefix("/built/", http.FileServer(folder)).ServeHTTP(w, r)
	})
	mux.HandleFunc("GET /elsewhere", html("elsewhere.html"))
	mux.HandleFunc("OPTIONS /", func(http.ResponseWriter, *http.Request) { s.change(func() { s.preflights++ }) })
	mux.HandleFunc("GET /app.js", func(w http.ResponseWriter, r *http.Request) {
		script, err := os.ReadFile("../../public/app.js")
		if err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.native {
			_, script, _ = bytes.Cut(script, []byte("\n"))
		}
		http.ServeContent(w, r, "app.js", time.Time{}, bytes.NewReader(script))
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		files.ServeHTTP(w, r)
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.allowed != "" {
			w.Header().Set("Access-Control-Allow-Origin", s.allowed)
			w.Header().Set("Access-Control-Allow-Credentials", "true")
		}
		s.mu.Unlock()
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		s.change(func() { s.epoch, s.status = s.epoch+1, http.StatusServiceUnavailable })
		server.CloseClientConnections()
		server.Close()
	})
	// Locks are for localhost and HTTPS only.
	s.url = strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	return s
}

// html serves a page of testdata.
func html(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/"+name) }
}

// change changes something and wakes all streams.
func (s *stage) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// cut ends all streams.
func (s *stage) cut() { s.change(func() { s.epoch++ }) }

// send sends a message to all streams. The data is JSON.
func (s *stage) send(data ...string) { s.sendAs("", data...) }

// sendAs sends messages with more fields.
func (s *stage) sendAs(fields string, data ...string) {
	s.change(func() {
		for _, data := range data {
			s.messages = append(s.messages, fmt.Sprintf("id:e-%d\n%sdata:%s\n\n", len(s.messages)+1, fields, data))
		}
	})
}

// beat sends a tick to all streams.
func (s *stage) beat(data string) {
	s.change(func() { s.tick, s.ticks = "data:"+data+"\n\n", s.ticks+1 })
}

// until waits until the condition holds.
func (s *stage) until(t *testing.T, condition func() bool) {
	t.Helper()
	timeout := time.After(testwait.Limit)
	for {
		s.mu.Lock()
		ok, changed := condition(), s.changed
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatal("the browser did not do what it should")
		}
	}
}

// get returns one of the stage's numbers.
func (s *stage) get(number *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *number
}

func (s *stage) stream(w http.ResponseWriter, r *http.Request) {
	after := r.Header.Get("Last-Event-ID")
	if after == "" {
		after = r.URL.Query().Get("lastEventId")
	}
	s.mu.Lock()
	sent, ticks, epoch, status := len(s.messages), s.ticks-1, s.epoch, s.status
	if at, err := strconv.Atoi(strings.TrimPrefix(after, "e-")); after != "" && err == nil {
		sent = at
	}
	if after == "earliest" {
		sent = s.lost
	}
	head := fmt.Sprintf("retry:1000\n%s", position(sent, sent == len(s.messages)))
	if s.lost > sent {
		head += fmt.Sprintf("id:e-%d\nevent:gap\ndata:{}\n\n", s.lost)
		sent = s.lost
	}
	loading := false
	if sent < len(s.messages) {
		head += strings.Join(s.messages[sent:], "")
		sent = len(s.messages)
		if loading = s.loading; !loading {
			head += position(sent, true)
		}
	}
	s.mu.Unlock()
	if status != 0 {
		s.change(func() { s.refused++ })
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(status)
		return
	}

	if r.URL.Query().Get("follow") == "false" {
		s.change(func() { s.finite++ })
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, head)
		return
	}
	var number int
	s.change(func() {
		s.open, s.opened = s.open+1, s.opened+1
		number = s.opened
		if cookie, err := r.Cookie("stage"); err == nil {
			s.cookie = cookie.Value
		}
	})
	defer s.change(func() { s.open-- })
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache")
	for {
		s.mu.Lock()
		dead := number <= s.died
		frames := head + strings.Join(s.messages[sent:], "")
		if loading && !s.loading {
			frames += position(len(s.messages), true)
			loading = false
		}
		if ticks < s.ticks {
			frames += s.tick
		}
		head, sent, ticks = "", len(s.messages), s.ticks
		over, changed := s.epoch != epoch, s.changed
		s.mu.Unlock()
		if over {
			return
		}
		if dead {
			frames = ""
		}
		if _, err := fmt.Fprint(w, frames); err != nil {
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-changed:
		case <-r.Context().Done():
			return
		}
	}
}

func position(number int, live bool) string {
	return fmt.Sprintf("id:e-%d\nevent:position\ndata:{\"live\":%v}\n\n", number, live)
}
