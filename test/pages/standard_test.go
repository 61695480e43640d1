package pages

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gin-sse/test/internal/browser"
)

// differences are the cases of the standard that SharedEventSource does not follow. docs/browser.md gives the reasons.
var differences = []string{
	"Last-Event-ID beyond ASCII",
	"a message is trusted",
	"another site that allows an empty origin closes",
	"another site that allows none closes",
	"another site that allows others alone closes",
	"the status 503 closes",
}

func TestStreamsAreReadAsTheStandardSaysInPagesAndWorkers(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("../../public")))
	for _, name := range []string{"standard.html", "standard.mjs", "worker.mjs"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "testdata/"+name) })
	}
	(&standard{}).register(mux)
	server, other := httptest.NewServer(mux), httptest.NewServer(mux)
	t.Cleanup(func() {
		for _, s := range []*httptest.Server{server, other} {
			s.CloseClientConnections()
			s.Close()
		}
	})
	_, port, _ := strings.Cut(strings.TrimPrefix(other.URL, "http://"), ":")
	address := strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/standard.html?other=" + port

	document, err := os.ReadFile("../../docs/browser.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range differences {
		if !strings.Contains(string(document), name) {
			t.Errorf("docs/browser.md does not name the case %q", name)
		}
	}

	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		b.Offline.Store(true)
		page := b.Open(address)
		page.Until("window.ready === true")
		type result struct {
			Failed map[string]string
			Total  int
		}
		native := browser.Evaluate[result](page, "runs.native()")
		t.Logf("the browser's own: %d of %d; not %q", native.Total-len(native.Failed), native.Total, native.Failed)
		for _, where := range []string{"page", "worker"} {
			shared := browser.Evaluate[result](page, "runs."+where+"()")
			t.Logf("SharedEventSource in a %s: %d of %d", where, shared.Total-len(shared.Failed), shared.Total)
			if failed := slices.Sorted(maps.Keys(shared.Failed)); !slices.Equal(failed, differences) {
				t.Errorf("in a %s these cases differ from the standard: %q, want %q", where, shared.Failed, differences)
			}
		}
	})
}

// standard is the server of testdata/standard.mjs.
type standard struct {
	mu    sync.Mutex
	times map[string]int // requests by their id
}

func (s *standard) register(mux *http.ServeMux) {
	s.times = map[string]int{}
	mux.HandleFunc("GET /standard/stream", s.stream)
	mux.HandleFunc("GET /standard/headers", func(w http.ResponseWriter, r *http.Request) {
		events(w, "data:"+r.Header.Get(r.URL.Query().Get("name"))+"\n\n")
	})
	mux.HandleFunc("GET /standard/status", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(status)
		if status != http.StatusNoContent {
			fmt.Fprint(w, "data:data\n\n")
		}
	})
	mux.HandleFunc("GET /standard/redirect", func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		http.Redirect(w, r, "/standard/stream?message=data:x", status)
	})
	mux.HandleFunc("GET /standard/comes-back", func(w http.ResponseWriter, r *http.Request) {
		switch s.nth(r) {
		case 1:
			events(w, "retry:1000\ndata:opened\n\n")
		case 2:
			events(w, "data:reconnected\n\n")
		default:
			w.WriteHeader(http.StatusNoContent)
		}
	})
	mux.HandleFunc("GET /standard/empty-first", func(w http.ResponseWriter, r *http.Request) {
		allow(w, r, r.Header.Get("Origin"))
		if s.nth(r) == 1 {
			events(w, "retry:1000\n\n")
		} else {
			events(w, "data:data\n\n")
		}
	})
	mux.HandleFunc("GET /standard/last-event-id", func(w http.ResponseWriter, r *http.Request) {
		if _, again := r.Header["Last-Event-Id"]; again || s.nth(r) > 1 {
			events(w, "data:"+r.Header.Get("Last-Event-ID")+"\n\n")
		} else {
			events(w, "retry:1000\nid:"+r.URL.Query().Get("value")+"\ndata:hello\n\n")
		}
	})
	mux.HandleFunc("GET /standard/cors", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if !q.Has("none") {
			origin := r.Header.Get("Origin")
			if q.Has("origin") {
				origin = q.Get("origin")
			}
			allow(w, r, origin)
		}
		if q.Has("redirect") {
			http.Redirect(w, r, q.Get("redirect"), http.StatusFound)
			return
		}
		events(w, "data:data\n\n")
	})
	mux.HandleFunc("GET /standard/cookie", func(w http.ResponseWriter, r *http.Request) {
		allow(w, r, r.Header.Get("Origin"))
		name := "standard" + strings.NewReplacer("-", "", ".", "").Replace(r.URL.Query().Get("id"))
		if s.nth(r) == 1 {
			http.SetCookie(w, &http.Cookie{Name: name, Value: "1"})
			events(w, "retry:1000\ndata:first\n\n")
			return
		}
		value := ""
		if cookie, err := r.Cookie(name); err == nil {
			value = " " + cookie.Value
		}
		events(w, "data:second"+value+"\n\n")
	})
	mux.HandleFunc("GET /standard/not-utf-8", func(w http.ResponseWriter, r *http.Request) { events(w, "data:\xff\xe2\x98\n\n") })
	mux.HandleFunc("GET /standard/large", func(w http.ResponseWriter, r *http.Request) {
		events(w, "data:"+strings.Repeat("x", 3_000_000)+"\n\n")
	})
}

// nth counts the requests with the same id, from 1.
func (s *standard) nth(r *http.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := r.URL.Query().Get("id")
	s.times[id]++
	return s.times[id]
}

func (s *standard) stream(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	w.Header().Set("Content-Type", cmp.Or(q.Get("mime"), "text/event-stream"))
	text := q.Get("message")
	if q.Get("newline") != "none" && q.Get("open") == "" {
		text += "\n\n"
	}
	size := len(text)
	if q.Get("pieces") != "" {
		size = 1
	}
	for len(text) > 0 {
		fmt.Fprint(w, text[:size])
		w.(http.Flusher).Flush()
		text = text[size:]
	}
}

func events(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, text)
}

func allow(w http.ResponseWriter, r *http.Request, origin string) {
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Allow-Credentials", "true")
}
