package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/event"
	"gin-sse/internal/history"
	"gin-sse/internal/hub"
	"gin-sse/internal/memory"
	"gin-sse/internal/stream"
)

func TestAPublisherMayBeSilentForAnyTime(t *testing.T) {
	for name, set := range map[string]func(*http.Protocols, bool){
		"HTTP1": (*http.Protocols).SetHTTP1,
		"HTTP2": (*http.Protocols).SetUnencryptedHTTP2,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				events := hub.New(hub.Options{Limits: history.Limits{PerTopic: 100, Bytes: 1 << 20}})
				defer events.Close()
				app := gin.New()
				app.Use(handlers.WriteDeadline)
				app.POST("/sse", handlers.PublishTo(memory.New(events), 1000))
				server := &http.Server{Handler: app, ReadTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, Protocols: new(http.Protocols)}
				set(server.Protocols, true)
				port := make(pipe)
				served := make(chan error, 1)
				go func() { served <- server.Serve(port) }()
				transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(context.Context, string, string) (net.Conn, error) {
					client, conn := net.Pipe()
					port <- conn
					return client, nil
				}}
				set(transport.Protocols, true)

				read, body := io.Pipe()
				go func() {
					for _, silence := range []time.Duration{0, 9 * time.Second, time.Minute, time.Hour, 24 * time.Hour} {
						time.Sleep(silence)
						_, _ = io.WriteString(body, "half a line ")
						time.Sleep(silence)
						_, _ = io.WriteString(body, "and the rest\n")
						synctest.Wait()
					}
					time.Sleep(time.Hour)
					body.Close()
				}()
				request, err := http.NewRequest(http.MethodPost, "http://localhost/sse?topic=a", read)
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "text/plain")
				response, err := transport.RoundTrip(request)
				if err != nil {
					t.Fatal(err)
				}
				var answer struct {
					Events int
					ID     string
					Error  string
				}
				if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if response.StatusCode != http.StatusAccepted || answer.Events != 5 || !strings.HasSuffix(answer.ID, "-5") {
					t.Errorf("status %d, %+v", response.StatusCode, answer)
				}
				transport.CloseIdleConnections()
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				<-served
			})
		})
	}
}

// batches is a log that accepts messages until one is "bad", and notes what came together.
type batches [][]string

func (b *batches) Publish(_ context.Context, messages ...event.Message) (kept int, id string, err error) {
	var batch []string
	for _, m := range messages {
		batch = append(batch, m.Key+" "+string(m.Data))
	}
	*b = append(*b, batch)
	for _, m := range messages {
		if string(m.Data) == `"bad"` {
			return kept, id, event.ErrEnded
		}
		kept, id = kept+1, string(m.Data)
	}
	return kept, id, nil
}

func TestLinesThatArriveTogetherArePublishedTogether(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body   string
		want   batches
		status int
		answer string
	}{
		"all":            {"1\n\n2\n3", batches{{"k\t1 1", "k\t3 2"}, {"k\t4 3"}}, 202, `{"events":3,"id":"3"}`},
		"one is refused": {"1\n\n2\n\"bad\"\n5\n", batches{{"k\t1 1", "k\t3 2", "k\t4 \"bad\"", "k\t5 5"}}, 409, `{"error":"Line 4: This topic has ended. Publish to another topic, such as one with a number in its name.","events":2,"id":"2"}`},
		"the first":      {"\"bad\"\n1\n", batches{{"k\t1 \"bad\"", "k\t2 1"}}, 409, `{"error":"Line 1: This topic has ended. Publish to another topic, such as one with a number in its name.","events":0,"id":""}`},
		"one is no JSON": {"1\n2\nx\n4\n", batches{{"k\t1 1", "k\t2 2"}}, 400, `{"error":"Line 3 cannot be published: the body is not JSON: invalid character 'x' looking for beginning of value, at column 1.","events":2,"id":"2"}`},
		"nothing":        {"", nil, 202, `{"events":0,"id":""}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log batches
			app := gin.New()
			app.POST("/sse", handlers.PublishTo(&log, 1000))
			server := httptest.NewServer(app)
			defer server.Close()
			request, err := http.NewRequest(http.MethodPost, server.URL+"/sse", strings.NewReader(test.body))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "application/x-ndjson")
			request.Header.Set("Idempotency-Key", "k")
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			answer, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || string(answer) != test.answer || !reflect.DeepEqual(log, test.want) {
				t.Errorf("%d %s, and the log got %q; want %d %s and %q", response.StatusCode, answer, log, test.status, test.answer, test.want)
			}
		})
	}
}

// unhurried is an answer whose request may take any time.
type unhurried struct{ *httptest.ResponseRecorder }

func (unhurried) SetReadDeadline(time.Time) error { return nil }

func TestALineOfTextIsPublishedWhateverItHas(t *testing.T) {
	t.Parallel()
	const replaced = `\ufffd` // what encoding/json writes for a byte that is not UTF-8
	for name, test := range map[string]struct {
		body string
		want []string
	}{
		"as long as may be":           {"12345678\n12345678\r\n12345678", []string{"12345678", "12345678", "12345678"}},
		"too long":                    {"123456789\nnext\n", []string{"12345678", "9", "next"}},
		"much too long":               {"12345678abcdefgh1234\r\n\nnext", []string{"12345678", "abcdefgh", "1234", "", "next"}},
		"no end":                      {"12345678abcdefgh", []string{"12345678", "abcdefgh"}},
		"an umlaut on the cut":        {"1234567äöü\n", []string{"1234567", "äöü"}},
		"a character on the cut":      {"1234567€\n", []string{"1234567", "€"}},
		"an emoji on the cut":         {"12345🙂🙂🙂\n", []string{"12345", "🙂🙂", "🙂"}},
		"an emoji before it":          {"1234🙂🙂", []string{"1234🙂", "🙂"}},
		"a return on the cut":         {"12345678\rx\n", []string{"12345678", `\rx`}},
		"not UTF-8":                   {"\xe4\xf6\nnext\n", []string{replaced + replaced, "next"}},
		"not UTF-8 on the cut":        {"1234567\xe4\xf6\n", []string{"1234567", replaced + replaced}},
		"no characters at all":        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\n", []string{strings.Repeat(replaced, 8), replaced}},
		"only beginnings":             {"\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0\xf0", []string{strings.Repeat(replaced, 7), replaced + replaced}},
		"a character without its end": {"\xf0\x9f\n\x99\x82", []string{replaced + replaced, replaced + replaced}},
	} {
		for pieces, body := range piecemeal(test.body) {
			var log batches
			app := gin.New()
			app.POST("/sse", handlers.PublishTo(&log, 8))
			request := httptest.NewRequest(http.MethodPost, "/sse", body)
			request.Header.Set("Content-Type", "text/plain")
			request.Header.Set("Idempotency-Key", "k")
			answer := unhurried{httptest.NewRecorder()}
			app.ServeHTTP(answer, request)
			var got, want []string
			for _, batch := range log {
				for _, message := range batch {
					got = append(got, strings.TrimSpace(message))
				}
			}
			for i, text := range test.want {
				want = append(want, fmt.Sprintf("k\t%d {\"message\":\"%s\"}", i+1, text))
			}
			if answer.Code != http.StatusAccepted || !slices.Equal(got, want) {
				t.Errorf("%s, %s: status %d, and the log got %q, want %q", name, pieces, answer.Code, got, want)
			}
		}
	}
}

func TestAfterALongLineNotAllThatHasArrivedIsPublishedAtOnce(t *testing.T) {
	t.Parallel()
	var log batches
	app := gin.New()
	app.POST("/sse", handlers.PublishTo(&log, 1<<20))
	const short = 10_000
	request := httptest.NewRequest(http.MethodPost, "/sse", strings.NewReader(strings.Repeat("x", 1<<20)+strings.Repeat("\n", 1+short)))
	request.Header.Set("Content-Type", "text/plain")
	answer := unhurried{httptest.NewRecorder()}
	app.ServeHTTP(answer, request)
	sent, most := 0, 0
	for _, batch := range log {
		sent, most = sent+len(batch), max(most, len(batch))
	}
	if answer.Code != http.StatusAccepted || sent != 1+short || most > handlers.Together {
		t.Errorf("status %d, %d events, and up to %d at once", answer.Code, sent, most)
	}
}

// slowDeadline is the writer of a connection on which it takes a second to set a deadline.
type slowDeadline struct {
	*httptest.ResponseRecorder
	entered chan struct{} // closed when the stop sets a deadline
	sets    int
}

func (w *slowDeadline) SetReadDeadline(time.Time) error {
	if w.sets++; w.sets == 2 { // the first one clears the limit of a whole request
		close(w.entered)
		time.Sleep(time.Second) // of the bubble
	}
	return nil
}

// On HTTP/2, net/http panics over a deadline that is set after the handler has returned, and takes the server along.
func TestAStopAtTheEndOfAnUploadTouchesItsConnectionOnlyWhileTheHandlerRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		streams := stream.NewGroup()
		w := &slowDeadline{ResponseRecorder: httptest.NewRecorder(), entered: make(chan struct{})}
		body, end := io.Pipe()
		request := httptest.NewRequest(http.MethodPost, "/sse", body).WithContext(streams.Context())
		request.Header.Set("Content-Type", "text/plain")
		app := gin.New()
		var log batches
		app.POST("/sse", handlers.PublishTo(&log, 1000))
		go func() {
			_, _ = io.WriteString(end, "the only line\n")
			streams.Stop()
			<-w.entered
			end.Close()
		}()
		begin := time.Now()
		app.ServeHTTP(w, request)
		if took := time.Since(begin); took != time.Second || w.Code != http.StatusAccepted {
			t.Errorf("the handler returned after %v with %d, want to wait for the deadline", took, w.Code)
		}
	})
}
