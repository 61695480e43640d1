package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tmaxmax/go-sse"

	"gin-sse/internal/testsse"
)

func TestPublishedEventReachesTheStream(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		const maxBytes = 1000
		s := p.start(t, nil, fmt.Sprint("MAX_EVENT_BYTES=", maxBytes))
		stream := s.get("/sse")
		var want strings.Builder
		for _, test := range []struct{ path, contentType, body, name, data string }{
			{"/sse", "application/json", `{"message":"Deploy finished"}`, "", `{"message":"Deploy finished"}`},
			{"/sse", "application/json; charset=utf-8", " [1, 2,\n3] ", "", `[1,2,3]`},
			{"/sse", "Application/JSON", `"text"`, "", `"text"`},
			{"/sse", "application/json", `null`, "", `null`},
			{"/sse", "application/json", `1e400`, "", `1e400`},
			{"/sse", "application/json", `{"message":"a\r\nid:forged\n\ndata:forged\u0000"}`, "", `{"message":"a\r\nid:forged\n\ndata:forged\u0000"}`},
			{"/sse", "application/json", `"<b>&amp;</b>"`, "", `"<b>&amp;</b>"`},
			{"/sse?event=deploy.done-1_x", "application/json", `{}`, "deploy.done-1_x", `{}`},
			{"/sse?event=" + strings.Repeat("x", 64), "application/json", `{}`, strings.Repeat("x", 64), `{}`},
			{"/sse?event=message", "application/json", `{}`, "message", `{}`},
			{"/sse", "application/json", `"` + strings.Repeat("x", maxBytes-2) + `"`, "", `"` + strings.Repeat("x", maxBytes-2) + `"`},
			{"/sse", "application/x-www-form-urlencoded", "message=hello", "", `{"message":"hello"}`},
			{"/sse", "application/x-www-form-urlencoded", "message=a%0D%0Ab%00&n=1&n=2", "", `{"message":"a\r\nb\u0000","n":["1","2"]}`},
		} {
			response, fields := s.publish(test.path, authorized(test.contentType), test.body)
			if response.StatusCode != http.StatusAccepted || len(fields) != 1 || fields["id"] == "" {
				t.Errorf("%q: status %d and %v", test.body, response.StatusCode, fields)
			}
			name := ""
			if test.name != "" {
				name = "event:" + test.name + "\n"
			}
			want.WriteString("id:" + fields["id"] + "\n" + name + "data:" + test.data + "\n\n")
		}
		s.stop() // what was accepted before arrives
		text, err := io.ReadAll(stream.Body)
		if _, got := testsse.CutFirst(t, string(text)); err != nil || timeless.ReplaceAllString(got, "") != want.String() {
			t.Errorf("the stream has %q and error %v, want %q", got, err, want.String())
		}
	})
}

// timeless matches what differs each time, and is tested where the time is.
var timeless = regexp.MustCompile(`(?m)^time:1\d{12}\n`)

func TestWhatCannotBePublishedIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	const maxBytes = 1000
	on, off := start(t, fmt.Sprint("MAX_EVENT_BYTES=", maxBytes)), start(t, "PUBLISH_TOKEN=")
	ok := authorized("application/json")
	with := func(name, value string) http.Header {
		header := ok.Clone()
		header.Set(name, value)
		return header
	}
	for _, test := range []struct {
		site   *site
		path   string
		header http.Header
		body   string
		status int
		reason string
	}{
		{off, "/sse", ok, `{}`, 403, "Publishing is off. To turn it on, start the server with PUBLISH_TOKEN set to a secret."},
		{on, "/sse", with("Authorization", ""), `{}`, 401, "Publishing needs the server's PUBLISH_TOKEN, in a header: Authorization: Bearer TOKEN."},
		{on, "/sse", with("Authorization", "Bearer"), `{}`, 401, "Publishing needs"},
		{on, "/sse", with("Authorization", "Bearer "), `{}`, 401, "Publishing needs"},
		{on, "/sse", with("Authorization", "Bearer "+secret+"x"), `{}`, 401, "The token in the header Authorization is not the server's PUBLISH_TOKEN."},
		{on, "/sse", with("Authorization", "Bearer "+secret[1:]), `{}`, 401, "The token in the header Authorization is not"},
		{on, "/sse", with("Authorization", "Basic "+secret), `{}`, 401, "Publishing needs"},
		{on, "/sse", with("Authorization", secret), `{}`, 401, "Publishing needs"},
		{on, "/sse?token=" + secret, with("Authorization", ""), `{}`, 401, "Publishing needs"},
		{on, "/sse", ok, ``, 400, "The event cannot be published: the body is not JSON: unexpected end of JSON input, at line 1, column 1."},
		{on, "/sse", ok, "{\n  \"message\": hello\n}", 400, "The event cannot be published: the body is not JSON: invalid character 'h' looking for beginning of value, at line 2, column 14."},
		{on, "/sse", ok, `{"a":1}{"b":2}`, 400, "The event cannot be published: the body is not JSON: invalid character '{' after top-level value, at line 1, column 8."},
		{on, "/sse", ok, "\"a\nb\"", 400, "The event cannot be published: the body is not JSON: invalid character '\\n' in string literal, at line 1, column 3."},
		{on, "/sse", ok, "\"\x00\"", 400, "The event cannot be published: the body is not JSON: invalid character '\\x00' in string literal, at line 1, column 2."},
		{on, "/sse", ok, "\"\xff\"", 400, "The event cannot be published: the body is not JSON: byte 0xff at line 1, column 2 is not UTF-8; send UTF-8, or name the charset"},
		{on, "/sse", ok, `"` + strings.Repeat("x", maxBytes-1) + `"`, 413, "The event is too large: this server accepts up to 1000 bytes (MAX_EVENT_BYTES)."},
		{on, "/sse", with("Idempotency-Key", strings.Repeat("x", 256)), `{}`, 400, "This Idempotency-Key cannot be used. Send up to 255 printable ASCII characters, different for each event, such as a UUID."},
		{on, "/sse", with("Idempotency-Key", "a\tb"), `{}`, 400, "This Idempotency-Key cannot be used."},
		{on, "/sse", with("Idempotency-Key", "é"), `{}`, 400, "This Idempotency-Key cannot be used."},
		{on, "/sse", with("Content-Type", "text/html"), `{}`, 415, `Content-Type "text/html" is not accepted. Send one of: application/json, application/x-www-form-urlencoded, application/x-ndjson, text/plain.`},
		{on, "/sse", with("Content-Encoding", "gzip"), `{}`, 415, `Content-Encoding "gzip" is not accepted. Send the body as it is.`},
		{on, "/sse", with("Content-Type", ""), `{}`, 415, `Content-Type "" is not accepted.`},
		{on, "/sse", with("Content-Type", "multipart/form-data; boundary=x"), `{}`, 415, `Content-Type "multipart/form-data" is not accepted.`},
		{on, "/sse", with("Content-Type", "application/x-www-form-urlencoded"), `{"message":"hello"}`, 400, "The event cannot be published: it looks like JSON that was sent as a form; with curl, add -H 'Content-Type: application/json'."},
		{on, "/sse", with("Content-Type", "application/x-www-form-urlencoded"), ``, 400, "The event cannot be published: the form is empty; send a field, such as message=hello."},
		{on, "/sse", with("Content-Type", "application/x-www-form-urlencoded"), `a=%zz`, 400, `The event cannot be published: the body is not a form: field "a": invalid URL escape "%zz".`},
		{on, "/sse?event=a%20b", ok, `{}`, 400, `The event cannot be published: "a b" is no name for an event: it takes 1 to 64 letters, digits, dots, underscores or hyphens, and none of open, error, statechange, gap, position`},
		{on, "/sse?event=a%0Adata:forged", ok, `{}`, 400, `The event cannot be published: "a\ndata:forged" is no name`},
		{on, "/sse?event=" + strings.Repeat("x", 65), ok, `{}`, 400, `The event cannot be published: "xxx`},
		{on, "/sse?event=error", ok, `{}`, 400, `The event cannot be published: "error" is no name`},
		{on, "/sse?event=gap", ok, `{}`, 400, `The event cannot be published: "gap" is no name`},
		{on, "/sse?event=%zz", ok, `{}`, 400, `The event cannot be published: the query cannot be read: invalid URL escape "%zz".`},
		{on, "/sse?event=a;topic=b", ok, `{}`, 400, `The event cannot be published: the query cannot be read: `},
		{on, "/sse?topics=orders", ok, `{}`, 400, `The event cannot be published: "topics" is unknown in the query of a POST: write topic=NAME.`},
		{on, "/sse?topic=", ok, `{}`, 400, `The event cannot be published: "topic" is empty in the query: give it a value, or leave it out.`},
		{on, "/sse?topic=a&topic=b", ok, `{}`, 400, `The event cannot be published: "topic" is in the query twice`},
		{on, "/sse?topic=a//b", ok, `{}`, 400, `The event cannot be published: "a//b" is no topic`},
		{on, "/sse?topic=a/*", ok, `{}`, 400, `The event cannot be published: "a/*" is no topic`},
		{on, "/sse?topic=" + strings.Repeat("x", 201), ok, `{}`, 400, `The event cannot be published: "xxx`},
		{on, "/sse?topic=a&end=yes", ok, `{}`, 400, `The event cannot be published: end="yes" is unknown: it is end=true or left out.`},
		{on, "/sse?end=true", ok, `{}`, 400, `The event cannot be published: end=true needs a topic`},
		{on, "/sse?event=caf%C3%A9", ok, `{}`, 400, `The event cannot be published: "café" is no name`},
	} {
		response, fields := test.site.publish(test.path, test.header, test.body)
		if response.StatusCode != test.status || !strings.HasPrefix(fields["error"], test.reason) {
			t.Errorf("%s, %q: status %d and %q, want %d and %q", test.path, test.body, response.StatusCode, fields["error"], test.status, test.reason)
		}
		if got := response.Header.Get("WWW-Authenticate"); (got == `Bearer realm="gin-sse"`) != (test.status == 401) {
			t.Errorf("%s: status %d with WWW-Authenticate %q", test.path, test.status, got)
		}
		if kept := test.site.events.Stats().Kept; kept != 0 {
			t.Fatalf("%s, %q was sent all the same", test.path, test.body)
		}
	}
}

func TestPublishingToAStoppingServerSaysTryAgain(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.close()
	response, fields := s.publish("/sse", authorized("application/json"), `{}`)
	if response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" || fields["error"] == "" {
		t.Errorf("status %d, Retry-After %q, %v", response.StatusCode, response.Header.Get("Retry-After"), fields)
	}
}

func TestKeyThatWasUsedHasTheSameAnswerAndSendsNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	header := authorized("application/json")
	header.Set("Idempotency-Key", "8e03978e-40d5-43e8-bc93-6894a57f9324")
	_, first := s.publish("/sse", header, `{"x": 1}`)
	response, again := s.publish("/sse", header, ` {"x":1}`)
	if response.StatusCode != http.StatusAccepted || again["id"] != first["id"] || first["id"] == "" {
		t.Errorf("status %d and id %q, after %q", response.StatusCode, again["id"], first["id"])
	}
	header.Set("Idempotency-Key", strings.Repeat("~", 255))
	if _, other := s.publish("/sse", header, `{"x":1}`); other["id"] == first["id"] || other["id"] == "" {
		t.Errorf("another key has id %q", other["id"])
	}
	if kept := s.events.Stats().Kept; kept != 2 {
		t.Errorf("%d messages were sent, want 2", kept)
	}
}

// Whatever is published, and with whatever id a client comes, another client sees whole events whose data is the
// JSON that was accepted, and no line that the server did not mean.
func FuzzPublishInjectsNoLine(f *testing.F) {
	f.Add(`{"message":"hello"}`, "application/json", "deploy", "x-1")
	f.Add("message=a\r\nb\x00", "application/x-www-form-urlencoded", "", "\r\ndata:forged\x00")
	f.Add("\"\u2028\r\"", "application/json", "a\nid:forged", strings.Repeat("9", 10<<10))
	f.Add("[1,\n2]", "application/json", "\x00", "-")
	f.Fuzz(func(t *testing.T, body, contentType, name, lastID string) {
		s := start(t)
		before := s.send([]string{"sent before"})
		request := httptest.NewRequest(http.MethodPost, "/sse", strings.NewReader(body))
		request.Header = authorized(contentType)
		request.URL.RawQuery = url.Values{"event": {name}}.Encode()
		answer := httptest.NewRecorder()
		s.app.ServeHTTP(answer, request)
		s.close()

		accepted := answer.Code == http.StatusAccepted
		if !accepted && (answer.Code < 400 || answer.Code >= 500) {
			t.Errorf("status %d", answer.Code)
		}
		for _, id := range []string{before, lastID} {
			if id == "" {
				continue // a new client, which gets no message from before
			}
			_, stream := s.ask(http.MethodGet, "/sse?"+url.Values{"lastEventId": {id}}.Encode(), nil, "")
			if !utf8.ValidString(stream) || strings.ContainsAny(stream, "\r\x00") {
				t.Fatalf("the stream is not plain text: %q", stream)
			}
			messages := 0
			for block := range strings.SplitSeq(strings.TrimSuffix(stream, "\n\n"), "\n\n") {
				fields := map[string]string{}
				for line := range strings.SplitSeq(block, "\n") {
					field, value, ok := strings.Cut(line, ":")
					if _, twice := fields[field]; !ok || twice {
						t.Fatalf("unexpected line %q in %q", line, stream)
					}
					fields[field] = value
				}
				data, ok := fields["data"]
				if ok && !json.Valid([]byte(data)) {
					t.Fatalf("data %q is not JSON", data)
				}
				if ok && data != `["sent before"]` && fields["event"] != "gap" && !testsse.IsPosition(sse.Event{Type: fields["event"]}) {
					messages++
				}
			}
			if (messages == 1) != accepted {
				t.Errorf("status %d, and %d messages in %q", answer.Code, messages, stream)
			}
		}
	})
}
