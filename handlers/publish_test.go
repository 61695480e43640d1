package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/tmaxmax/go-sse"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

// publish posts a body and returns the answer and its fields.
func publish(t testing.TB, server *httptest.Server, path string, header http.Header, body string) (*http.Response, map[string]string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	response, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var fields map[string]string
	if err := json.NewDecoder(response.Body).Decode(&fields); err != nil {
		t.Fatalf("status %d, and an answer that is not JSON: %v", response.StatusCode, err)
	}
	return response, fields
}

func authorized(contentType string) http.Header {
	return http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {contentType}}
}

func TestPublishedEventReachesTheStream(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, serve func(*testing.T, fs.FS, *hub.Hub) *httptest.Server) {
		for _, test := range []struct{ path, contentType, body, name, data string }{
			{"/sse", "application/json", `{"message":"Deploy finished"}`, "", `{"message":"Deploy finished"}`},
			{"/sse", "application/json; charset=utf-8", " [1, 2,\n3] ", "", `[1,2,3]`},
			{"/sse", "Application/JSON", `"text"`, "", `"text"`},
			{"/sse", "application/json", `null`, "", `null`},
			{"/sse", "application/json", `1e400`, "", `1e400`},
			{"/sse", "application/json", `{"message":"a\r\nid:forged\n\ndata:forged\u0000"}`, "", `{"message":"a\r\nid:forged\n\ndata:forged\u0000"}`},
			{"/sse", "application/json", `"<b>&amp;</b>"`, "", `"\u003cb\u003e\u0026amp;\u003c/b\u003e"`},
			{"/sse?event=deploy.done-1_x", "application/json", `{}`, "deploy.done-1_x", `{}`},
			{"/sse?event=" + strings.Repeat("x", 64), "application/json", `{}`, strings.Repeat("x", 64), `{}`},
			{"/sse?event=message", "application/json", `{}`, "message", `{}`},
			{"/sse?event=", "application/json", `{}`, "", `{}`},
			{"/sse", "application/json", `"` + strings.Repeat("x", maxBytes-2) + `"`, "", `"` + strings.Repeat("x", maxBytes-2) + `"`},
			{"/sse", "application/x-www-form-urlencoded", "message=hello", "", `{"message":"hello"}`},
			{"/sse", "application/x-www-form-urlencoded", "message=a%0D%0Ab%00&n=1&n=2", "", `{"message":"a\r\nb\u0000","n":["1","2"]}`},
			{"/sse", "application/x-www-form-urlencoded", "message=%ff", "", `{"message":"\ufffd"}`},
		} {
			events := hub.New(10)
			server := serve(t, fstest.MapFS{}, events)
			stream, err := server.Client().Get(server.URL + "/sse")
			if err != nil {
				t.Fatal(err)
			}
			response, fields := publish(t, server, test.path, authorized(test.contentType), test.body)
			if response.StatusCode != http.StatusAccepted || len(fields) != 1 || fields["id"] == "" {
				t.Errorf("%q: status %d and %v", test.body, response.StatusCode, fields)
			}
			events.Close()
			name := ""
			if test.name != "" {
				name = "event:" + test.name + "\n"
			}
			want := "id:" + fields["id"] + "\n" + name + "data:" + test.data + "\n\n"
			body, err := io.ReadAll(stream.Body)
			stream.Body.Close()
			if _, got, _ := strings.Cut(string(body), "event:position\ndata:{}\n\n"); err != nil || got != want {
				t.Errorf("%q: the stream has %q and error %v, want %q", test.body, got, err, want)
			}
		}
	})
}

func TestWhatCannotBePublishedIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	ok := authorized("application/json")
	with := func(name, value string) http.Header {
		header := ok.Clone()
		header.Set(name, value)
		return header
	}
	for _, test := range []struct {
		path   string
		header http.Header
		body   string
		status int
		reason string
	}{
		{"/off", ok, `{}`, 403, "Publishing is off. To turn it on, start the server with PUBLISH_TOKEN set to a secret."},
		{"/sse", with("Authorization", ""), `{}`, 401, "This takes the server's PUBLISH_TOKEN, in a header: Authorization: Bearer TOKEN."},
		{"/sse", with("Authorization", "Bearer"), `{}`, 401, "This takes"},
		{"/sse", with("Authorization", "Bearer "), `{}`, 401, "This takes"},
		{"/sse", with("Authorization", "Bearer "+token+"x"), `{}`, 401, "This takes"},
		{"/sse", with("Authorization", "Bearer "+token[1:]), `{}`, 401, "This takes"},
		{"/sse", with("Authorization", "Basic "+token), `{}`, 401, "This takes"},
		{"/sse", with("Authorization", token), `{}`, 401, "This takes"},
		{"/sse?token=" + token, with("Authorization", ""), `{}`, 401, "This takes"},
		{"/sse", ok, ``, 400, "This cannot be sent: the body is not JSON: unexpected end of JSON input, at line 1, column 1."},
		{"/sse", ok, "{\n  \"message\": hello\n}", 400, "This cannot be sent: the body is not JSON: invalid character 'h' looking for beginning of value, at line 2, column 14."},
		{"/sse", ok, `{"a":1}{"b":2}`, 400, "This cannot be sent: the body is not JSON: invalid character '{' after top-level value, at line 1, column 8."},
		{"/sse", ok, "\"a\nb\"", 400, "This cannot be sent: the body is not JSON: invalid character '\\n' in string literal, at line 1, column 3."},
		{"/sse", ok, "\"\x00\"", 400, "This cannot be sent: the body is not JSON: invalid character '\\x00' in string literal, at line 1, column 2."},
		{"/sse", ok, "\"\xff\"", 400, "This cannot be sent: the body is not JSON: it is not UTF-8."},
		{"/sse", ok, `"` + strings.Repeat("x", maxBytes-1) + `"`, 413, "The event is too large: this server takes up to 1000 bytes (MAX_EVENT_BYTES)."},
		{"/sse", with("Idempotency-Key", strings.Repeat("x", 256)), `{}`, 400, "This Idempotency-Key is not taken. Send up to 255 letters, digits and signs, which no other event has, such as a UUID."},
		{"/sse", with("Idempotency-Key", "a\tb"), `{}`, 400, "This Idempotency-Key is not taken."},
		{"/sse", with("Idempotency-Key", "é"), `{}`, 400, "This Idempotency-Key is not taken."},
		{"/sse", with("Content-Type", "text/plain"), `{}`, 415, `Content-Type "text/plain" is not taken. Send JSON with Content-Type: application/json, or a form.`},
		{"/sse", with("Content-Type", ""), `{}`, 415, `Content-Type "" is not taken.`},
		{"/sse", with("Content-Type", "multipart/form-data; boundary=x"), `{}`, 415, `Content-Type "multipart/form-data" is not taken.`},
		{"/sse", with("Content-Type", "application/x-www-form-urlencoded"), `{"message":"hello"}`, 400, "This cannot be sent: it looks like JSON that was sent as a form; with curl, add -H 'Content-Type: application/json'."},
		{"/sse", with("Content-Type", "application/x-www-form-urlencoded"), ``, 400, "This cannot be sent: the form is empty; send a field, such as message=hello."},
		{"/sse", with("Content-Type", "application/x-www-form-urlencoded"), `a=%zz`, 400, `This cannot be sent: the body is not a form: invalid URL escape "%zz".`},
		{"/sse?event=a%20b", ok, `{}`, 400, `event="a b" is no name for an event: it takes 1 to 64 letters, digits, dots, underscores or hyphens, and none of open, error, gap, position.`},
		{"/sse?event=a%0Adata:forged", ok, `{}`, 400, `event="a\ndata:forged" is no name`},
		{"/sse?event=" + strings.Repeat("x", 65), ok, `{}`, 400, `event="xxx`},
		{"/sse?event=error", ok, `{}`, 400, `event="error" is no name`},
		{"/sse?event=gap", ok, `{}`, 400, `event="gap" is no name`},
		{"/sse?event=caf%C3%A9", ok, `{}`, 400, `event="café" is no name`},
	} {
		events := hub.New(10)
		server := serve(t, fstest.MapFS{}, events)
		response, fields := publish(t, server, test.path, test.header, test.body)
		if response.StatusCode != test.status || !strings.HasPrefix(fields["error"], test.reason) {
			t.Errorf("%s, %q: status %d and %q, want %d and %q", test.path, test.body, response.StatusCode, fields["error"], test.status, test.reason)
		}
		if got := response.Header.Get("WWW-Authenticate"); (got == `Bearer realm="gin-sse"`) != (test.status == 401) {
			t.Errorf("%s: status %d with WWW-Authenticate %q", test.path, test.status, got)
		}
		if id, err := events.Send("", 1); err != nil || !strings.HasSuffix(id, "-1") {
			t.Errorf("%s, %q was sent all the same", test.path, test.body)
		}
	}
}

func TestPublishingToAStoppingServerSaysTryAgain(t *testing.T) {
	t.Parallel()
	events := hub.New(10)
	server := serve(t, fstest.MapFS{}, events)
	events.Close()
	response, fields := publish(t, server, "/sse", authorized("application/json"), `{}`)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || fields["error"] == "" {
		t.Errorf("status %d, Retry-After %q, %v", response.StatusCode, response.Header.Get("Retry-After"), fields)
	}
}

// refusing is a Publisher that always answers with the same error.
type refusing struct{ error }

func (r refusing) Publish(context.Context, string, string, any) (string, error) { return "", r }

func (r refusing) Unwrap() error { return r.error }

func TestPublisherThatCannotStoreIsExplained(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		reason string
	}{
		{errors.New("NATS is away"), 503, "The event could not be stored: NATS is away. Send it again in a few seconds; with an Idempotency-Key it arrives once, even if it was stored after all."},
		{hub.ErrClosed, 503, "The server is stopping. Send the event again in a few seconds."},
		{hub.ErrTooLarge, 413, "The event is too large for NATS, which stores the events: raise max_payload there, or the stream's max_msg_size."},
	} {
		app := gin.New()
		app.POST("/sse", handlers.Publish(refusing{test.err}, maxBytes))
		server := httptest.NewServer(app)
		response, fields := publish(t, server, "/sse", authorized("application/json"), `{}`)
		server.Close()
		if response.StatusCode != test.status || fields["error"] != test.reason || (response.Header.Get("Retry-After") != "") != (test.status == 503) {
			t.Errorf("%v: status %d, Retry-After %q and %q", test.err, response.StatusCode, response.Header.Get("Retry-After"), fields["error"])
		}
	}
}

func TestKeyThatWasUsedHasTheSameAnswerAndSendsNothing(t *testing.T) {
	t.Parallel()
	events := hub.New(10)
	server := serve(t, fstest.MapFS{}, events)
	header := authorized("application/json")
	header.Set("Idempotency-Key", "8e03978e-40d5-43e8-bc93-6894a57f9324")
	_, first := publish(t, server, "/sse", header, `1`)
	response, again := publish(t, server, "/sse", header, `1`)
	if response.StatusCode != http.StatusAccepted || again["id"] != first["id"] || first["id"] == "" {
		t.Errorf("status %d and id %q, after %q", response.StatusCode, again["id"], first["id"])
	}
	header.Set("Idempotency-Key", strings.Repeat("~", 255))
	if _, other := publish(t, server, "/sse", header, `1`); other["id"] == first["id"] || other["id"] == "" {
		t.Errorf("another key has id %q", other["id"])
	}
	if kept := events.Stats().Kept; kept != 2 {
		t.Errorf("%d messages were sent, want 2", kept)
	}
}

func TestLastEventIDComesFromTheHeaderOrElseTheAddress(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, serve func(*testing.T, fs.FS, *hub.Hub) *httptest.Server) {
		events := hub.New(10)
		server := serve(t, fstest.MapFS{}, events)
		var ids []string
		for n := range 4 {
			id, err := events.Send("", n)
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, id)
		}
		events.Close()
		for _, test := range []struct {
			query, header string
			want          []string
		}{
			{"", "", nil},
			{"", ids[1], []string{"2", "3"}},
			{"?lastEventId=" + ids[0], "", []string{"1", "2", "3"}},
			{"?lastEventId=" + ids[0], ids[2], []string{"3"}}, // an EventSource that reconnects has a newer one in the header
			{"?lastEventId=" + url.QueryEscape("\r\n\x00"), "", []string{`{"missed":null}`, "0", "1", "2", "3"}},
			{"", strings.Repeat("9", 10<<10), []string{`{"missed":null}`, "0", "1", "2", "3"}},
		} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/sse"+test.query, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.header != "" {
				request.Header.Set("Last-Event-ID", test.header)
			}
			response, err := server.Client().Do(request)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for event, err := range sse.Read(response.Body, &sse.ReadConfig{MaxEventSize: 1 << 20}) {
				if err != nil {
					t.Fatal(err)
				}
				if event.Type != "position" {
					got = append(got, event.Data)
				}
			}
			response.Body.Close()
			if !slices.Equal(got, test.want) {
				t.Errorf("%q with %.20q: got %q, want %q", test.query, test.header, got, test.want)
			}
		}
	})
}

func TestManyPublishersToManySubscribersThatAreCutOffAndResume(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, serve func(*testing.T, fs.FS, *hub.Hub) *httptest.Server) {
		const publishers, each, subscribers = 16, 128, 16
		events := hub.New(publishers * each)
		server := serve(t, fstest.MapFS{}, events)
		got := make([][]string, subscribers)
		var reading, publishing, connected sync.WaitGroup
		for i := range got {
			connected.Add(1)
			reading.Go(func() {
				random := rand.New(rand.NewPCG(2, uint64(i)))
				last := ""
				for first := true; len(got[i]) < publishers*each; first = false {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/sse", nil)
					if err != nil {
						t.Error(err)
						return
					}
					if !first {
						request.Header.Set("Last-Event-ID", last)
					}
					response, err := server.Client().Do(request)
					if err != nil {
						t.Error(err)
						return
					}
					if first {
						connected.Done()
					}
					left := random.IntN(50) // until it is cut off
					for event, err := range sse.Read(response.Body, nil) {
						if err != nil {
							t.Error(err)
							return
						}
						last = event.LastEventID
						switch event.Type {
						case "":
							got[i] = append(got[i], event.Data)
						case "gap":
							t.Errorf("subscriber %d was told of a gap: %s", i, event.Data)
						}
						if left--; left < 0 || len(got[i]) == publishers*each {
							break
						}
					}
					response.Body.Close()
				}
			})
		}
		connected.Wait()
		for publisher := range publishers {
			publishing.Go(func() {
				for n := range each {
					if response, fields := publish(t, server, "/sse", authorized("application/json"), fmt.Sprintf("[%d,%d]", publisher, n)); response.StatusCode != http.StatusAccepted {
						t.Errorf("status %d: %v", response.StatusCode, fields)
					}
				}
			})
		}
		publishing.Wait()
		reading.Wait()

		next := make([]int, publishers)
		for _, data := range got[0] {
			var publisher, n int
			if _, err := fmt.Sscanf(data, "[%d,%d]", &publisher, &n); err != nil || n != next[publisher] {
				t.Fatalf("unexpected %q, want number %d of publisher %d", data, next[publisher], publisher)
			}
			next[publisher]++
		}
		for i := range got {
			if !slices.Equal(got[i], got[0]) {
				t.Errorf("subscriber %d saw something else than subscriber 0", i)
			}
		}
	})
}

// Whatever is published, and with whatever id a client comes, another client sees whole events whose
// data is the JSON that was accepted, and no line that the server did not mean.
func FuzzPublishInjectsNoLine(f *testing.F) {
	f.Add(`{"message":"hello"}`, "application/json", "deploy", "x-1")
	f.Add("message=a\r\nb\x00", "application/x-www-form-urlencoded", "", "\r\ndata:forged\x00")
	f.Add("\"\u2028\r\"", "application/json", "a\nid:forged", strings.Repeat("9", 10<<10))
	f.Add("[1,\n2]", "application/json", "\x00", "-")
	f.Fuzz(func(t *testing.T, body, contentType, name, lastID string) {
		events := hub.New(10)
		server := serve(t, fstest.MapFS{}, events)
		before, err := events.Send("", json.RawMessage("[\"sent before\"]"))
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequest(http.MethodPost, "/sse", strings.NewReader(body))
		request.Header = authorized(contentType)
		request.URL.RawQuery = url.Values{"event": {name}}.Encode()
		answer := httptest.NewRecorder()
		server.Config.Handler.ServeHTTP(answer, request)
		events.Close()

		accepted := answer.Code == http.StatusAccepted
		if !accepted && (answer.Code < 400 || answer.Code >= 500) {
			t.Errorf("status %d", answer.Code)
		}
		for _, id := range []string{before, lastID} {
			if id == "" {
				continue // a new client, which gets no message from before
			}
			response, err := server.Client().Get(server.URL + "/sse?" + url.Values{"lastEventId": {id}}.Encode())
			if err != nil {
				t.Fatal(err)
			}
			stream, err := io.ReadAll(response.Body)
			response.Body.Close()
			if err != nil || !utf8.Valid(stream) || strings.ContainsAny(string(stream), "\r\x00") {
				t.Fatalf("%v, or not plain text: %q", err, stream)
			}
			messages := 0
			for block := range strings.SplitSeq(strings.TrimSuffix(string(stream), "\n\n"), "\n\n") {
				fields := map[string]string{}
				for line := range strings.SplitSeq(block, "\n") {
					field, value, ok := strings.Cut(line, ":")
					if _, twice := fields[field]; !ok || twice {
						t.Fatalf("unexpected line %q in %q", line, stream)
					}
					fields[field] = value
				}
				if data, ok := fields["data"]; ok && !json.Valid([]byte(data)) {
					t.Fatalf("data %q is not JSON", data)
				}
				if fields["event"] != "position" && fields["event"] != "gap" && fields["data"] != "" && fields["data"] != `["sent before"]` {
					messages++
				}
			}
			if (messages == 1) != accepted {
				t.Errorf("status %d, and %d messages in %q", answer.Code, messages, stream)
			}
		}
	})
}
