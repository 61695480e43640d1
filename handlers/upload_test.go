package handlers_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gin-sse/handlers"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

// uploaded is the answer to a request that publishes lines.
type uploaded struct {
	Status int `json:"-"`
	Events int
	ID     string
	Error  string
}

// upload begins a request that publishes lines. The body is what is written to it, until it is closed.
func (s *site) upload(path string, header http.Header) (body *io.PipeWriter, answer func() uploaded) {
	s.t.Helper()
	read, body := io.Pipe()
	request, err := http.NewRequest(http.MethodPost, s.url+path, read)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header = header
	response, failed := make(chan *http.Response, 1), make(chan error, 1)
	go func() {
		r, err := s.client.Do(request)
		if err != nil {
			failed <- err
			return
		}
		response <- r
	}()
	s.t.Cleanup(func() { body.Close() })
	return body, func() (u uploaded) {
		s.t.Helper()
		select {
		case r := <-response:
			defer r.Body.Close()
			if err := json.NewDecoder(r.Body).Decode(&u); err != nil {
				s.t.Fatal(err)
			}
			u.Status = r.StatusCode
		case err := <-failed:
			s.t.Fatal(err)
		case <-time.After(testwait.Limit):
			s.t.Fatalf("%s has no answer", path)
		}
		return u
	}
}

// lines is upload with a whole body.
func (s *site) lines(path string, header http.Header, body string) uploaded {
	s.t.Helper()
	response, text := s.ask(http.MethodPost, path, header, body)
	u := uploaded{Status: response.StatusCode}
	if err := json.Unmarshal([]byte(text), &u); err != nil {
		s.t.Fatalf("%q: %v", text, err)
	}
	return u
}

// write writes to a body that is being sent.
func write(t testing.TB, body io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(body, text); err != nil {
		t.Fatal(err)
	}
}

func TestALineIsDeliveredWhileTheRequestIsOpen(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		for _, test := range []struct {
			contentType string
			lines, want []string
			rest        string // after the last line end
			last        string
		}{
			{
				"text/plain; charset=utf-8",
				[]string{"cc -c main.c\n", "<b>&amp;</b> \"é\"\r\n", "\n", "  \n", "a\rb\n"},
				[]string{`{"message":"cc -c main.c"}`, `{"message":"<b>&amp;</b> \"é\""}`, `{"message":""}`, `{"message":"  "}`, `{"message":"a\rb"}`},
				"the last line has no end", `{"message":"the last line has no end"}`,
			},
			{
				"application/x-ndjson",
				[]string{`{"n": 1}` + "\n", "\n \n\r\n\"<b>&amp;</b>\"\r\n", "null\n"},
				[]string{`{"n":1}`, `"<b>&amp;</b>"`, `null`},
				"[1, 2]", `[1,2]`,
			},
			{"Text/Plain", []string{"\n", " \n"}, []string{`{"message":""}`, `{"message":" "}`}, "x", `{"message":"x"}`},
			{"Application/X-NDJSON", []string{"1\n"}, []string{"1"}, "2", "2"},
		} {
			f := s.follow("/sse?topic=builds/7", nil)
			body, answer := s.upload("/sse?topic=builds/7&event=log", authorized(test.contentType))
			for i, line := range test.lines {
				write(t, body, line)
				f.Wants("log " + test.want[i])
			}
			write(t, body, test.rest)
			body.Close()
			f.Wants("log " + test.last)
			if got, want := answer(), (uploaded{Status: 202, Events: len(test.want) + 1, ID: f.Last}); got != want {
				t.Errorf("%s: the answer is %+v, want %+v", test.contentType, got, want)
			}
		}
	})
}

func TestALineThatCannotBePublishedEndsTheRequestAtOnceWithItsNumber(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{MaxEventBytes: 100})
		for i, test := range []struct {
			contentType, good, bad string
			status                 int
			reason                 string
		}{
			{"application/x-ndjson", "1\n\n2\n", "{\n", 400, "Line 4 cannot be published: the body is not JSON: "},
			{"application/x-ndjson", "1\n2\n", "1 2\n", 400, "Line 3 cannot be published: the body is not JSON: "},
			{"application/x-ndjson", "1\n2\n", "\"\xff\"\n", 400, "Line 3 cannot be published: the body is not JSON: byte 0xff at column 2 is not UTF-8; "},
			{"application/x-ndjson", "1\n2\n", strings.Repeat(" ", 101) + "\n", 413, "Line 3: The event is too large: this server accepts up to 100 bytes (MAX_EVENT_BYTES)."},
		} {
			topic := fmt.Sprint("/sse?topic=", i)
			f := s.follow(topic, nil)
			body, answer := s.upload(topic+"&end=true", authorized(test.contentType))
			write(t, body, test.good)
			_, _ = f.Next()
			_, _ = f.Next()
			write(t, body, test.bad)
			got := answer() // while the body goes on
			want := uploaded{Status: test.status, Events: 2, ID: f.Last, Error: got.Error}
			if got != want || !strings.HasPrefix(got.Error, test.reason) {
				t.Errorf("%q: the answer is %+v, want %+v with %q", test.bad, got, want, test.reason)
			}
			if s.ended(fmt.Sprint(i)) {
				t.Errorf("%q: the topic has ended", test.bad)
			}
			f.Leave()
			if p.name == http1.name {
				// A publisher that sends on all the time can read the answer as well.
				head := "POST " + topic + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nContent-Type: " + test.contentType + "\r\nAuthorization: Bearer " + publishToken + "\r\n\r\n"
				conn := s.raw(head + test.good + test.bad + strings.Repeat("3\n", 1000))
				testsse.ReadUntil(t, conn, "HTTP/1.1 "+fmt.Sprint(test.status))
				conn.Close()
			}
		}
		want := uint64(4 * (2 + 1)) // two lines each, and the question whether the topic has ended
		if p.name == http1.name {
			want += 4 * 2
		}
		if got := s.events.Stats().Published; got != want {
			t.Errorf("%d lines were published, want %d", got, want)
		}
	})
}

func TestAnUploadThatBreaksOffKeepsWhatArrivedAndPublishesNoHalfLine(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		for topic, contentType := range map[string]string{"a": "text/plain", "b": "application/x-ndjson"} {
			before := s.events.Stats().Published
			f := s.follow("/sse?topic="+topic, nil)
			body, _ := s.upload("/sse?end=true&topic="+topic, authorized(contentType))
			write(t, body, "1\n2\n")
			_, _ = f.Next()
			_, _ = f.Next()
			write(t, body, "345")
			body.CloseWithError(errors.New("the publisher is gone"))
			s.out.Wait(t, `path="/sse?end=true&topic=`+topic) // the request has ended
			if n := s.events.Stats().Published - before; n != 2 || s.ended(topic) {
				t.Errorf("%s: %d messages were published, want 2, or the topic has ended", contentType, n)
			}
		}
	})
	for _, framing := range []string{"Content-Length: 100\r\n\r\n1\n2\n345", "Transfer-Encoding: chunked\r\n\r\n2\r\n1\n\r\n9\r\n2\n345", "Transfer-Encoding: chunked\r\n\r\n7\r\n1\n2\n345\r\n"} {
		s := start(t, handlers.Options{})
		conn := s.raw("POST /sse?topic=a&end=true HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nAuthorization: Bearer " + publishToken + "\r\n" + framing)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || !bytes.Contains(answer, []byte(`"events":2`)) || !bytes.Contains(answer, []byte("Line 3 did not arrive whole.")) {
			t.Errorf("%q: the answer is %q, and %v", framing, answer, err)
		}
		conn.Close()
		if n := s.events.Stats().Published; n != 2 || s.ended("a") {
			t.Errorf("%q: %d messages were published, want 2", framing, n)
		}
	}
}

func TestAnUploadEndsItsTopicWhenTheBodyDoes(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		f := s.follow("/sse?topic=a", nil)
		body, answer := s.upload("/sse?topic=a&end=true", authorized("text/plain"))
		write(t, body, "1\n")
		f.Wants(`{"message":"1"}`)
		write(t, body, "2")
		body.Close()
		if got := f.Rest(); !slices.Equal(got, []string{`{"message":"2"}`}) {
			t.Errorf("the stream ends with %q", got)
		}
		if got, want := answer(), (uploaded{Status: 202, Events: 2, ID: f.Last}); got != want {
			t.Errorf("the answer is %+v, want %+v", got, want)
		}
		if got := s.open("/sse?topic=a", http.Header{"Last-Event-Id": {f.Last}}); got.StatusCode != http.StatusNoContent {
			t.Errorf("a client that has seen the end gets %s", got.Status)
		}
		if got := s.lines("/sse?topic=a", authorized("text/plain"), "3\n"); got.Status != http.StatusConflict || got.Events != 0 || !strings.HasPrefix(got.Error, "Line 1: This topic has ended.") {
			t.Errorf("another line is answered with %+v", got)
		}
		if got, want := s.lines("/sse?topic=nothing&end=true", authorized("text/plain"), ""), (uploaded{Status: 202}); got != want {
			t.Errorf("no line at all is answered with %+v, want %+v", got, want)
		}
		if got := s.follow("/sse?topic=nothing", nil).Rest(); len(got) > 0 {
			t.Errorf("a topic without messages that has ended has %q", got)
		}
	})
}

func TestAnUploadThatIsSentAgainPublishesOnlyTheRest(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		with := func(key, contentType string) http.Header {
			header := authorized(contentType)
			header.Set("Idempotency-Key", key)
			return header
		}
		f := s.follow("/sse?topic=a", nil)
		body, _ := s.upload("/sse?topic=a&end=true", with("k", "application/x-ndjson"))
		write(t, body, "1\n\n1\n")
		f.Wants("1", "1") // lines that are alike are two events
		body.CloseWithError(errors.New("the publisher is gone"))
		s.out.Wait(t, `path="/sse?topic=a&end=true"`)

		for range 2 {
			got := s.lines("/sse?topic=a&end=true", with("k", "application/x-ndjson"), "1\n\n1\n3\n")
			f.Rest()
			if want := (uploaded{Status: 202, Events: 3, ID: f.Last}); got != want {
				t.Errorf("the answer is %+v, want %+v", got, want)
			}
		}
		if n := s.events.Stats().Published; n != 3 {
			t.Errorf("%d messages were published, want 3", n)
		}

		const reused = "This Idempotency-Key was used for another event."
		s.lines("/sse?topic=b&event=n", with("k2", "text/plain"), "1\n")
		s.publish("/sse?topic=b&event=n", with("k3", "application/json"), "1")
		for _, test := range []struct{ path, key, contentType, body string }{
			{"/sse?topic=c&event=n", "k2", "text/plain", "1\n"},
			{"/sse?event=n", "k2", "text/plain", "1\n"},
			{"/sse?topic=b&event=m", "k2", "text/plain", "1\n"},
			{"/sse?topic=b", "k2", "text/plain", "1\n"},
			{"/sse?topic=b&event=n", "k2", "text/plain", "2\n"},
			{"/sse?topic=c&event=n", "k3", "application/json", "1"},
			{"/sse?event=n", "k3", "application/json", "1"},
			{"/sse?topic=b&event=m", "k3", "application/json", "1"},
			{"/sse?topic=b&event=n", "k3", "application/json", "2"},
			{"/sse?topic=b&event=n&end=true", "k3", "application/json", "1"},
		} {
			got := s.lines(test.path, with(test.key, test.contentType), test.body)
			if got.Status != http.StatusUnprocessableEntity || !strings.HasPrefix(strings.TrimPrefix(got.Error, "Line 1: "), reused) {
				t.Errorf("%+v is answered with %+v", test, got)
			}
		}
		if n := s.events.Stats().Published; n != 5 {
			t.Errorf("%d messages were published, want 5", n)
		}
	})
}

func TestCompressedLinesAreRefused(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
	for encoding, want := range map[string]int{"gzip": 415, "br, gzip": 415, "identity": 202, "Identity": 202} {
		for contentType, body := range map[string]string{"text/plain": "1\n", "application/x-ndjson": "1\n", "application/json": "1", "application/x-www-form-urlencoded": "a=1"} {
			header := authorized(contentType)
			header.Set("Content-Encoding", encoding)
			if got := s.lines("/sse", header, body); got.Status != want {
				t.Errorf("Content-Encoding %s, %s: %+v, want %d", encoding, contentType, got, want)
			}
		}
	}
}

func TestAStopDuringAnUploadIsAnsweredWithWhatWasPublished(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, handlers.Options{})
		f := s.follow("/sse?topic=a", nil)
		body, answer := s.upload("/sse?topic=a&end=true", authorized("text/plain"))
		write(t, body, "1\n2\n3")
		f.Wants(`{"message":"1"}`, `{"message":"2"}`)
		s.stop()
		got := answer()
		want := uploaded{Status: 503, Events: 2, ID: f.Last, Error: "The server is stopping. Send the lines from number 3 on again in a few seconds."}
		if got != want {
			t.Errorf("the answer is %+v, want %+v", got, want)
		}
		if rest, ended := f.Rest(), s.ended("a"); len(rest) > 0 || ended {
			t.Errorf("after the stop came %q, and the topic has ended: %v", rest, ended)
		}
	})
}
