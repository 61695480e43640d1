package pages

import (
	"cmp"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"gin-sse/test/internal/browser"
)

// The cases that the Web Platform Tests have for EventSource. An event without an id of its own has an
// empty lastEventId here, where EventSource repeats the one before.
func TestStreamsAreReadAsTheStandardSays(t *testing.T) {
	t.Parallel()
	type event = [3]string // type, data, lastEventId
	message := func(data ...string) (events []event) {
		for _, data := range data {
			events = append(events, event{"message", data, ""})
		}
		return events
	}
	cases := map[string]struct {
		stream string
		want   []event
		resume string // the id to resume from
	}{
		"line feeds":                  {stream: "data: a\n\ndata: b\n\n", want: message("a", "b")},
		"carriage returns":            {stream: "data: a\r\rdata: b\r\r", want: message("a", "b")},
		"both":                        {stream: "data: a\r\n\r\ndata: b\r\n\r\n", want: message("a", "b")},
		"mixed":                       {stream: "data: a\r\ndata: b\n\rdata: c\r\ndata: d\r\n\n", want: message("a\nb", "c\nd")},
		"byte order mark":             {stream: "\ufeffdata: a\n\n", want: message("a")},
		"only one byte order mark":    {stream: "\ufeff\ufeffdata: a\n\ndata: b\n\n", want: message("b")},
		"mark later on":               {stream: "data: a\n\n\ufeffdata: b\n\ndata: c\n\n", want: message("a", "c")},
		"comments":                    {stream: ": " + strings.Repeat("x", 2000) + "\n:\ndata: a\n:data: no\ndata: b\n\n:\n\n", want: message("a\nb")},
		"several lines":               {stream: "data: a\ndata:b\ndata\ndata:  c\n\n", want: message("a\nb\n\n c")},
		"empty data":                  {stream: "data:\n\ndata\ndata\n\ndata:test\n\n", want: message("", "\n", "test")},
		"no data":                     {stream: "event: test\n\ndata: a\n\n", want: message("a")},
		"colons":                      {stream: "data:::\ndata: :\n\n", want: message("::\n:")},
		"no empty line at the end":    {stream: "data: a\n\ndata: lost\n", want: message("a")},
		"no line end at the end":      {stream: "data: a\n\ndata: lost", want: message("a")},
		"unknown fields":              {stream: "data: a\ndata : b\n data: c\nDATA: d\nfoo: e\ndatab\n\n", want: message("a")},
		"tab is no space":             {stream: "data:\ta\n\n", want: message("\ta")},
		"null in data":                {stream: "data: a\x00b\n\n", want: message("a\x00b")},
		"not UTF-8":                   {stream: "data: \xff\xe2\x98\n\n", want: message("\ufffd\ufffd")},
		"more than one byte":          {stream: "data: héllo ☃ 🙂\n\n", want: message("héllo ☃ 🙂")},
		"line separators of Unicode":  {stream: "data: a\u2028b\u0085c\n\n", want: message("a\u2028b\u0085c")},
		"event":                       {stream: "event:test\ndata: a\n\ndata: b\n\n", want: []event{{"test", "a", ""}, {"message", "b", ""}}},
		"event twice":                 {stream: "event: no\nevent: test\ndata: a\n\n", want: []event{{"test", "a", ""}}},
		"empty event":                 {stream: "event: test\nevent:\ndata: a\n\n", want: message("a")},
		"event with a space":          {stream: "event:  space\ndata: a\n\n", want: []event{{" space", "a", ""}}},
		"unheard":                     {stream: "event: nobody\nid: 1\ndata: a\n\ndata: b\n\n", want: message("b"), resume: "1"},
		"id":                          {stream: "id: 1\ndata: a\n\ndata: b\n\n", want: []event{{"message", "a", "1"}, {"message", "b", ""}}, resume: "1"},
		"id after data":               {stream: "data: a\nid:…\n\n", want: []event{{"message", "a", "…"}}, resume: "…"},
		"id twice":                    {stream: "id: 1\nid: 2\ndata: a\n\n", want: []event{{"message", "a", "2"}}, resume: "2"},
		"id without data":             {stream: "id: 1\n\ndata: a\n\n", want: message("a"), resume: "1"},
		"id with null":                {stream: "id: 1\ndata: a\n\nid: 2\x003\ndata: b\n\n", want: []event{{"message", "a", "1"}, {"message", "b", ""}}, resume: "1"},
		"id taken back":               {stream: "id: 1\ndata: a\n\nid\ndata: b\n\n", want: []event{{"message", "a", "1"}, {"message", "b", ""}}},
		"id of an event that is lost": {stream: "id: 1\ndata: a\n\nid: 2\ndata: b\n", want: []event{{"message", "a", "1"}}, resume: "1"},
		"retry that is no number":     {stream: "retry: 1000x\nretry: -1\nretry:\ndata: a\n\n", want: message("a")},
		"spaces in the type":          {stream: "data: a\n\n", want: message("a")},
	}

	var mu sync.Mutex
	resumed := map[string]string{}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir("../../public")))
	mux.HandleFunc("GET /page", html("cases.html"))
	mux.HandleFunc("GET /cases/{browser}/{way}/{name}", func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		_, again := resumed[r.URL.Path]
		resumed[r.URL.Path] = r.URL.Query().Get("lastEventId")
		mu.Unlock()
		w.Header().Set("Content-Type", "text/event-stream")
		if r.PathValue("name") == "spaces in the type" {
			w.Header().Set("Content-Type", "Text/Event-Stream ; charset=utf-8")
		}
		if again {
			return
		}
		stream := "retry:1\n" + cases[r.PathValue("name")].stream
		if strings.HasPrefix(stream, "retry:1\n\ufeff") { // it is one at the start alone
			stream = cases[r.PathValue("name")].stream + "retry:1\n\n"
		}
		if r.PathValue("way") == "whole" {
			fmt.Fprint(w, stream)
			return
		}
		for i := range len(stream) {
			fmt.Fprint(w, stream[i:i+1])
			w.(http.Flusher).Flush()
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })

	browser.Each(t, func(t *testing.T, b *browser.Browser) {
		page := b.Open(strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/page")
		page.Until("window.ready === true")
		for _, way := range []string{"whole", "bytes"} {
			var names []string
			for name := range cases {
				names = append(names, fmt.Sprintf("%s/%s/%s", b.Name, way, name))
			}
			type result struct{ Happened []event }
			results := browser.Evaluate[[]result](page, fmt.Sprintf("Promise.all(%q.split('|').map(tryCase))", strings.Join(names, "|")))
			for i, path := range names {
				name := strings.Split(path, "/")[2]
				if got, want := results[i].Happened, cases[name].want; !reflect.DeepEqual(got, want) {
					t.Errorf("%s (%s): got %q, want %q", name, way, got, want)
				}
				mu.Lock()
				if got, want := resumed["/cases/"+path], cases[name].resume; got != want {
					t.Errorf("%s (%s): resumed from %q, want %q", name, way, got, want)
				}
				mu.Unlock()
			}
		}
	})
}

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
		"not found":           {status: 404},
		"internal error":      {status: 500},
		"bad gateway":         {status: 502},
		"unavailable":         {status: 503, header: [2]string{"Retry-After", "2"}, after: 2 * time.Second},
		"another status":      {status: 206},
		"another type":        {status: 200, contentType: "text/plain"},
		"a type that is like": {status: 200, contentType: "text/event-streaming"},
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
