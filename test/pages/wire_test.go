package pages

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gin-sse/test/internal/browser"
)

func TestAnswersThatAreNoStreamEndItOrAreTriedAgain(t *testing.T) {
	t.Parallel()
	type answer struct {
		status      int
		contentType string
		header      [2]string
		final       bool
		after       time.Duration // at the earliest
	}
	answers := map[string]answer{
		"no content":          {status: 204, final: true},
		"bad request":         {status: 400, final: true},
		"unauthorized":        {status: 401, final: true},
		"forbidden":           {status: 403, final: true},
		"not found":           {status: 404, final: true},
		"internal error":      {status: 500},
		"bad gateway":         {status: 502},
		"unavailable":         {status: 503, header: [2]string{"Retry-After", "2"}, after: 2 * time.Second},
		"another status":      {status: 206, final: true},
		"another type":        {status: 200, contentType: "text/plain", final: true},
		"a type that is like": {status: 200, contentType: "text/event-streaming", final: true},
		"a redirect":          {status: 307, header: [2]string{"Location", "/stream"}},
		"cut off":             {status: -1},
	}
	var mu sync.Mutex
	asked := map[string]time.Time{}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("../../public")))
	mux.HandleFunc("GET /page", html("cases.html"))
	mux.HandleFunc("GET /stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "retry:1\ndata: redirected\n\n")
	})
	mux.HandleFunc("GET /cases/{browser}/{name}", func(w http.ResponseWriter, r *http.Request) {
		answer := answers[r.PathValue("name")]
		mu.Lock()
		first, again := asked[r.URL.Path]
		if !again {
			asked[r.URL.Path] = time.Now()
		}
		mu.Unlock()
		if again {
			if waited := time.Since(first); waited < answer.after {
				t.Errorf("%s: tried again after %s", r.URL.Path, waited)
			}
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "retry:1\ndata: at last\n\n")
			return
		}
		if answer.status < 0 {
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Type", cmp.Or(answer.contentType, "text/event-stream"))
		if answer.header[0] != "" {
			w.Header().Set(answer.header[0], answer.header[1])
		}
		w.WriteHeader(answer.status)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })

	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		b.Offline.Store(true)
		page := b.Open(strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/page")
		page.Until("window.ready === true")
		var names []string
		for name := range answers {
			names = append(names, b.Name+"/"+name)
		}
		type result struct {
			Happened [][3]string
			Status   int
		}
		results := browser.Evaluate[[]result](page, fmt.Sprintf("Promise.all(%q.split('|').map(tryCase))", strings.Join(names, "|")))
		for i, path := range names {
			answer, got := answers[strings.Split(path, "/")[1]], results[i]
			if answer.final != (got.Status == answer.status) || answer.final != (len(got.Happened) == 0) {
				t.Errorf("%s: got %v", path, got)
			}
		}
	})
}
