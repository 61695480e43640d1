package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/tmaxmax/go-sse"
	"go.uber.org/goleak"

	"gin-sse/handlers"
	"gin-sse/internal/config"
	"gin-sse/internal/hub"
	"gin-sse/internal/server"
	"gin-sse/internal/storage"
	"gin-sse/internal/testcert"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testnats"
	"gin-sse/internal/token"
)

// errorLog is what package log writes, from all tests.
var errorLog testlog.Log

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DebugPrintFunc = func(string, ...any) {}
	log.SetOutput(&errorLog)
	goleak.VerifyTestMain(m,
		// The NATS server's own, for the whole process.
		goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"),
	)
}

const (
	// patience bounds each wait for something that takes milliseconds on an idle machine.
	patience = 30 * time.Second

	secret = "s3cret"

	// subscribeKey signs the tokens of private topics.
	subscribeKey = "0123456789abcdef0123456789abcdef"
)

// site is a server with the program's own routes, without its process, its clock and its signals.
type site struct {
	t      testing.TB
	app    *gin.Engine
	url    string
	client *http.Client
	out    *testlog.Log // what it prints
	stop   func()       // stops it as a signal does, and waits
	services
}

// protocol is one that a client may speak.
type protocol struct {
	name  string
	proto string // as http.Response has it
	tls   bool
	set   func(*http.Protocols, bool)
}

var http1 = protocol{"HTTP1", "HTTP/1.1", false, (*http.Protocols).SetHTTP1}

// onEveryProtocol runs a test with each writer that a stream may have: its own on HTTP/1.1, in clear text and
// over TLS, and net/http's on HTTP/2.
func onEveryProtocol(t *testing.T, test func(t *testing.T, p protocol)) {
	for _, p := range []protocol{
		http1,
		{"HTTP1 over TLS", "HTTP/1.1", true, (*http.Protocols).SetHTTP1},
		{"HTTP2", "HTTP/2.0", false, (*http.Protocols).SetUnencryptedHTTP2},
		{"HTTP2 over TLS", "HTTP/2.0", true, (*http.Protocols).SetHTTP2},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			test(t, p)
		})
	}
}

// start serves until the test ends. The settings are as in the environment, such as MAX_CLIENTS=1.
func start(t testing.TB, settings ...string) *site { return http1.start(t, nil, settings...) }

// start serves for clients that speak the protocol, with routes of the test's own added to the program's.
func (p protocol) start(t testing.TB, more func(app *gin.Engine), settings ...string) *site {
	t.Helper()
	environment := map[string]string{"HOST": "127.0.0.1", "PORT": "0", "PUBLISH_TOKEN": secret}
	var pool *x509.CertPool
	if p.tls {
		environment["TLS_CERT_FILE"], environment["TLS_KEY_FILE"], pool = testcert.Write(t)
	}
	for _, setting := range settings {
		name, value, _ := strings.Cut(setting, "=")
		environment[name] = value
	}
	cfg, err := config.Load(environment)
	if err != nil {
		t.Fatal(err)
	}

	s := &site{t: t, out: new(testlog.Log)}
	s.events = hub.New(cfg.Hub())
	if s.storage, err = storage.Open(cfg, s.events, t.Logf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.storage.Close)
	s.status = handlers.NewStatus(s.events, s.storage.Size, cfg.Keepalive)
	if s.tokens, err = token.New([]byte(cfg.SubscribeKey)); err != nil {
		t.Fatal(err)
	}
	app, err := newApp(cfg, s.services, s.out)
	if err != nil {
		t.Fatal(err)
	}
	s.app = app.(*gin.Engine)
	if more != nil {
		more(s.app)
	}
	transport := &http.Transport{
		Protocols:       new(http.Protocols),
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			if err == nil {
				t.Cleanup(func() { conn.Close() }) // before the stop, which an open connection of HTTP/2 delays by a second
			}
			return conn, err
		},
	}
	p.set(transport.Protocols, true)
	s.client = &http.Client{Transport: transport}

	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- server.Run(ctx, cfg.Server(), app, s.out, s.close)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		s.stop()
		transport.CloseIdleConnections()
	})
	_, s.url, _ = strings.Cut(s.out.Wait(t, "Server running on "), "Server running on ")
	return s
}

// tick sends an event that has no id to every client.
func (s *site) tick(data any) {
	s.t.Helper()
	if err := s.events.Tick(data); err != nil {
		s.t.Fatal(err)
	}
}

// send sends a message to every client, and returns its id.
func (s *site) send(data any) (id string) {
	s.t.Helper()
	encoded, err := json.Marshal(data)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, id, err = s.storage.Log.Publish(context.Background(), hub.Message{Data: encoded}); err != nil {
		s.t.Fatal(err)
	}
	return id
}

// afterFirst returns what a stream has after its first block, which says where it begins.
func afterFirst(t testing.TB, stream string) string {
	t.Helper()
	first, rest, found := strings.Cut(stream, "\n\n")
	if !found || !strings.Contains("\n"+first, "\nid:") {
		t.Errorf("the stream begins with %q, want a block with an id", first)
	}
	return rest
}

// isFirst tells whether the event only says where its stream begins.
func isFirst(event sse.Event) bool { return event.Type == "position" }

// get asks for the path and returns the answer, whose body is closed when the test ends.
func (s *site) get(path string) *http.Response {
	s.t.Helper()
	response, err := s.client.Get(s.url + path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { response.Body.Close() })
	return response
}

// ask sends one request as it is written, follows no redirect, and returns the answer and its body.
func (s *site) ask(method, target string, header http.Header, body string) (*http.Response, string) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.URL.Opaque = target // not cleaned, not encoded
	maps.Copy(request.Header, header)
	response, err := s.client.Transport.RoundTrip(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response, string(text)
}

// publish posts a body and returns the answer and its fields.
func (s *site) publish(path string, header http.Header, body string) (*http.Response, map[string]string) {
	s.t.Helper()
	response, text := s.ask(http.MethodPost, path, header, body)
	var fields map[string]string
	if err := json.Unmarshal([]byte(text), &fields); err != nil {
		s.t.Fatalf("status %d, and an answer that is not JSON: %v", response.StatusCode, err)
	}
	return response, fields
}

func authorized(contentType string) http.Header {
	return http.Header{"Authorization": {"Bearer " + secret}, "Content-Type": {contentType}}
}

// raw sends bytes as they are and returns the connection, which the caller closes.
func (s *site) raw(text string) *net.TCPConn {
	s.t.Helper()
	_, address, _ := strings.Cut(s.url, "://")
	conn, err := net.Dial("tcp", address)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		s.t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

// stream opens a stream by hand and returns its connection, which the caller closes, once the answer has begun.
func (s *site) stream() *net.TCPConn {
	s.t.Helper()
	conn := s.raw("GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if _, err := io.ReadFull(conn, make([]byte, len("HTTP/1.1 200 OK"))); err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// readUntil reads whole lines until one has the text.
func readUntil(t testing.TB, r io.Reader, text string) {
	t.Helper()
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatalf("%v before %q", err, text)
		}
		if strings.Contains(line, text) {
			return
		}
	}
}

// eventually waits until complaint returns nothing.
func eventually(t testing.TB, complaint func() string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for complaint() != "" {
		if time.Now().After(deadline) {
			t.Fatal(complaint())
		}
		runtime.Gosched()
	}
}

func TestStreamHasTheTutorialsHeadersAndFrames(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		tick := handlers.SimulateData(s.events)
		tick(time.Date(2026, 1, 2, 14, 3, 25, 0, time.UTC))
		head, nothing := s.ask(http.MethodHead, "/sse", nil, "")
		stream := s.get("/sse")
		for _, response := range []*http.Response{head, stream} {
			if response.Proto != p.proto || response.StatusCode != http.StatusOK {
				t.Errorf("%s is answered with %s %s, want %s 200 OK", response.Request.Method, response.Proto, response.Status, p.proto)
			}
			for name, want := range map[string]string{
				"Content-Type":      "text/event-stream",
				"Cache-Control":     "no-cache, no-transform",
				"X-Accel-Buffering": "no",
				"Connection":        map[bool]string{true: "keep-alive"}[response.ProtoMajor == 1], // HTTP/2 forbids it
			} {
				if got := strings.Join(response.Header[name], ", "); got != want {
					t.Errorf("%s: %s is %q, want %q", response.Request.Method, name, got, want)
				}
			}
		}
		if nothing != "" {
			t.Errorf("HEAD is answered with the body %q", nothing)
		}

		tick(time.Date(2026, 1, 2, 0, 3, 26, 0, time.UTC))
		s.stop()
		text, err := io.ReadAll(stream.Body) // an error if the end is missing
		if err != nil {
			t.Fatal(err)
		}
		want := "data:{\"message\":\"Server Time: 2:03:25 PM\"}\n\ndata:{\"message\":\"Server Time: 12:03:26 AM\"}\n\n"
		if got := afterFirst(t, string(text)); got != want {
			t.Errorf("the stream has %q, want %q", got, want)
		}
	})
}

func TestThirdPartyClientSeesEveryTickInOrder(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		begin := time.Date(2026, 1, 2, 9, 59, 58, 0, time.UTC)
		tick := handlers.SimulateData(s.events)
		tick(begin)
		n := 0
		for event, err := range sse.Read(s.get("/sse").Body, nil) {
			if err != nil {
				t.Fatal(err)
			}
			if isFirst(event) {
				continue
			}
			want := `{"message":"Server Time: ` + begin.Add(time.Duration(n)*time.Second).Format("3:04:05 PM") + `"}`
			if event.Data != want || event.Type != "" {
				t.Fatalf("event %d is %+v, want the data %s", n, event, want)
			}
			if n++; n == 100 {
				return
			}
			tick(begin.Add(time.Duration(n) * time.Second))
		}
		t.Errorf("the stream ended after %d events", n)
	})
}

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
		if got := afterFirst(t, string(text)); err != nil || got != want.String() {
			t.Errorf("the stream has %q and error %v, want %q", got, err, want.String())
		}
	})
}

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
		{on, "/sse", with("Authorization", "Bearer "+secret+"x"), `{}`, 401, "Publishing needs"},
		{on, "/sse", with("Authorization", "Bearer "+secret[1:]), `{}`, 401, "Publishing needs"},
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
		{on, "/sse?topics=orders", ok, `{}`, 400, `The event cannot be published: "topics" is unknown in the query of a POST: it accepts topic, event and end.`},
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
	_, first := s.publish("/sse", header, `1`)
	response, again := s.publish("/sse", header, `1`)
	if response.StatusCode != http.StatusAccepted || again["id"] != first["id"] || first["id"] == "" {
		t.Errorf("status %d and id %q, after %q", response.StatusCode, again["id"], first["id"])
	}
	header.Set("Idempotency-Key", strings.Repeat("~", 255))
	if _, other := s.publish("/sse", header, `1`); other["id"] == first["id"] || other["id"] == "" {
		t.Errorf("another key has id %q", other["id"])
	}
	if kept := s.events.Stats().Kept; kept != 2 {
		t.Errorf("%d messages were sent, want 2", kept)
	}
}

func TestLastEventIDComesFromTheHeaderOrElseTheAddress(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		var ids []string
		for n := range 4 {
			ids = append(ids, s.send(n))
		}
		s.close() // each stream ends after what it missed
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
			header := http.Header{}
			if test.header != "" {
				header.Set("Last-Event-ID", test.header)
			}
			_, text := s.ask(http.MethodGet, "/sse"+test.query, header, "")
			var got []string
			for event, err := range sse.Read(strings.NewReader(text), &sse.ReadConfig{MaxEventSize: 1 << 20}) {
				if err != nil {
					t.Fatal(err)
				}
				if !isFirst(event) {
					got = append(got, event.Data)
				}
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%q with %.20q: got %q, want %q", test.query, test.header, got, test.want)
			}
		}
	})
}

func TestManyPublishersToManySubscribersThatAreCutOffAndResume(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		const publishers, each, subscribers = 16, 128, 16
		s := p.start(t, nil, fmt.Sprint("HISTORY=", publishers*each))
		got := make([][]string, subscribers)
		var reading, publishing, connected sync.WaitGroup
		for i := range got {
			connected.Add(1)
			reading.Go(func() {
				random := rand.New(rand.NewPCG(2, uint64(i)))
				last := ""
				for first := true; len(got[i]) < publishers*each; first = false {
					request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/sse", nil)
					if err != nil {
						t.Error(err)
						return
					}
					if !first {
						request.Header.Set("Last-Event-ID", last)
					}
					response, err := s.client.Do(request)
					if first {
						connected.Done()
					}
					if err != nil {
						t.Error(err)
						return
					}
					left := random.IntN(50) // until it is cut off
					for event, err := range sse.Read(response.Body, nil) {
						if err != nil {
							t.Error(err)
							break
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
					if response, fields := s.publish("/sse", authorized("application/json"), fmt.Sprintf("[%d,%d]", publisher, n)); response.StatusCode != http.StatusAccepted {
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
				if ok && data != `["sent before"]` && fields["event"] != "gap" && !isFirst(sse.Event{Type: fields["event"]}) {
					messages++
				}
			}
			if (messages == 1) != accepted {
				t.Errorf("status %d, and %d messages in %q", answer.Code, messages, stream)
			}
		}
	})
}

func TestErrorsAreJSONUnlessHTMLIsAskedFor(t *testing.T) {
	t.Parallel()
	s := http1.start(t, func(app *gin.Engine) {
		app.GET("/panic", func(*gin.Context) { panic("this one is intended") })
	})
	const (
		chromium = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
		asJSON   = "application/json; charset=utf-8"
		asHTML   = "text/html; charset=utf-8"
	)
	for _, test := range []struct {
		method, path, accept string
		status               int
		typ, text            string
	}{
		{"GET", "/nope", "", 404, asJSON, `{"error":"There is nothing at this address."}`},
		{"GET", "/nope", "*/*", 404, asJSON, `{"error":"There is nothing at this address."}`}, // curl
		{"GET", "/nope", "application/json, text/plain, */*", 404, asJSON, `{"error":"There is nothing at this address."}`},
		{"GET", "/nope", "text/event-stream", 404, asJSON, `{"error":"There is nothing at this address."}`},
		{"POST", "/nope", "application/json", 404, asJSON, `{"error":"There is nothing at this address."}`},
		{"GET", "/nope", chromium, 404, asHTML, "<h1>Not Found</h1>\n    <p>There is nothing at this address.</p>"},
		{"GET", "/nope", "text/html", 404, asHTML, "<h1>Not Found</h1>\n    <p>There is nothing at this address.</p>"},
		{"DELETE", "/sse", "", 405, asJSON, `{"error":"This address accepts only GET, HEAD, POST."}`},
		{"DELETE", "/sse", chromium, 405, asHTML, "<h1>Method Not Allowed</h1>\n    <p>This address accepts only GET, HEAD, POST.</p>"},
		{"POST", "/app.js", "*/*", 405, asJSON, `{"error":"This address accepts only GET, HEAD."}`},
		{"GET", "/panic", "", 500, asJSON, `{"error":"Something went wrong. The server's log says what."}`},
		{"GET", "/panic", chromium, 500, asHTML, "<h1>Internal Server Error</h1>\n    <p>Something went wrong. The server&#39;s log says what.</p>"},
	} {
		header := http.Header{}
		if test.accept != "" {
			header.Set("Accept", test.accept)
		}
		response, body := s.ask(test.method, test.path, header, "")
		exact := test.typ == asHTML || body == test.text
		if response.StatusCode != test.status || response.Header.Get("Content-Type") != test.typ || !exact || !strings.Contains(body, test.text) {
			t.Errorf("%s %s with Accept %q: status %d, type %q, body %q; want %d, %q, %q", test.method, test.path, test.accept,
				response.StatusCode, response.Header.Get("Content-Type"), body, test.status, test.typ, test.text)
		}
		if got := response.Header.Get("Allow"); (got != "") != (test.status == http.StatusMethodNotAllowed) {
			t.Errorf("%s %s: Allow is %q", test.method, test.path, got)
		}
		if got := response.Header.Get("Vary"); !strings.Contains(got, "Accept") {
			t.Errorf("%s %s: Vary is %q, so a cache could show a page to a program", test.method, test.path, got)
		}
	}
}

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
	readUntil(t, beside, "still here")
}

// The tutorial's own page has its script and its style inline.
func TestPageOfTheUsersOwnWorksAndAnEditShowsOnTheNextRefreshInDebugMode(t *testing.T) {
	write := func(path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	const page = `<!DOCTYPE html><style>li { color: teal }</style><ul id="events"></ul><script>
		new EventSource('/sse').onmessage = event => { document.getElementById('events').innerHTML += '<li>' + JSON.parse(event.data).message }
	</script>`
	html := http.Header{"Accept": {"text/html"}}
	for _, mode := range []string{gin.DebugMode, gin.ReleaseMode} {
		t.Run(mode, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write("public/index.html", page)
			write("templates/error.html", "<h1>{{.title}}</h1>")
			write("secret.txt", "secret")
			gin.SetMode(mode)
			s := start(t)
			gin.SetMode(gin.TestMode)
			fromDisk := mode == gin.DebugMode

			response, body := s.ask(http.MethodGet, "/", nil, "")
			if (body == page) != fromDisk {
				t.Errorf("the page is %q", body)
			}
			// A policy with one of these would block the page's script, its style or its EventSource.
			policy := response.Header.Get("Content-Security-Policy")
			for _, directive := range []string{"default-src", "script-src", "style-src", "connect-src", "sandbox", "require-trusted-types-for"} {
				if strings.Contains(policy, directive) {
					t.Errorf("the policy is %q, with a %s", policy, directive)
				}
			}
			if _, body := s.ask(http.MethodGet, "/nope", html, ""); (body == "<h1>Not Found</h1>") != fromDisk {
				t.Errorf("the error's page is %q", body)
			}
			write("public/index.html", "second")
			write("templates/error.html", "<b>{{.title}}</b>")
			if _, body := s.ask(http.MethodGet, "/", nil, ""); (body == "second") != fromDisk {
				t.Errorf("after an edit the page is %q", body)
			}
			if _, body := s.ask(http.MethodGet, "/nope", html, ""); (body == "<b>Not Found</b>") != fromDisk {
				t.Errorf("after an edit the error's page is %q", body)
			}
			for _, path := range []string{"/%2e%2e/secret.txt", "/..%2fsecret.txt", "/public/index.html", "/%00", "/index.html%00", "/main.go"} {
				if response, _ := s.ask(http.MethodGet, path, nil, ""); response.StatusCode != http.StatusNotFound {
					t.Errorf("%s is answered with %d", path, response.StatusCode)
				}
			}
		})
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, path := range []string{"/", "/app.js", "/nope", "/healthz", "/readyz", "/sse", "/status", "/status/sse"} {
		header := s.get(path).Header
		for name, want := range map[string]string{
			"Content-Security-Policy": "object-src 'none'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff",
			"X-Frame-Options":         "DENY",
			"Referrer-Policy":         "same-origin",
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
}

func TestAllowedOriginsMayOpenTheStream(t *testing.T) {
	t.Parallel()
	const dev, other, evil = "http://localhost:5173", "https://example.com", "https://evil.example"
	for _, test := range []struct {
		allowed, origin string
		status          int
		allow           string
	}{
		{"", dev, 200, ""},
		{dev, dev, 200, dev},
		{dev + ", " + other, other, 200, other},
		{dev, evil, 403, ""},
		{dev, dev + "0", 403, ""},
		{dev, "null", 403, ""},
		{dev, "", 200, ""},
		{"*", evil, 200, "*"},
	} {
		s := start(t, "ALLOWED_ORIGINS="+test.allowed)
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			want := test.status
			header := http.Header{}
			if test.origin != "" {
				header.Set("Origin", test.origin)
			}
			if method == http.MethodOptions {
				if test.origin == "" || test.allowed == "" {
					continue
				}
				header.Set("Access-Control-Request-Method", http.MethodGet)
				header.Set("Access-Control-Request-Headers", "last-event-id")
				if want == http.StatusOK {
					want = http.StatusNoContent
				}
			}
			request, err := http.NewRequest(method, s.url+"/sse", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header = header
			response, err := s.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if got := response.Header.Get("Access-Control-Allow-Origin"); response.StatusCode != want || got != test.allow {
				t.Errorf("ALLOWED_ORIGINS=%q, %s from %q: status %d, allowed %q; want %d, %q",
					test.allowed, method, test.origin, response.StatusCode, got, want, test.allow)
			}
			credentials := response.Header.Get("Access-Control-Allow-Credentials") == "true"
			if listed := test.allow != "" && test.allow != "*"; credentials != listed {
				t.Errorf("ALLOWED_ORIGINS=%q, %s from %q: credentials allowed: %v", test.allowed, method, test.origin, credentials)
			}
		}
	}
}

func TestNoOtherOriginMayPublishFromABrowser(t *testing.T) {
	t.Parallel()
	const evil = "https://evil.example"
	for _, allowed := range []string{"", evil, "*"} {
		s := start(t, "ALLOWED_ORIGINS="+allowed)
		// With the token in a header, a browser asks for permission first, and gets none.
		preflight, _ := s.ask(http.MethodOptions, "/sse", http.Header{
			"Origin":                         {evil},
			"Access-Control-Request-Method":  {http.MethodPost},
			"Access-Control-Request-Headers": {"authorization,content-type"},
		}, "")
		methods, headers := preflight.Header.Get("Access-Control-Allow-Methods"), strings.ToLower(preflight.Header.Get("Access-Control-Allow-Headers"))
		mayAuthorize := strings.Contains(headers, "authorization") // for private topics; the page would need the token as well
		if strings.ContainsAny(methods+headers, "*") || strings.Contains(methods, http.MethodPost) || mayAuthorize != (allowed == evil) {
			t.Errorf("ALLOWED_ORIGINS=%q: a browser may send %q with %q", allowed, methods, headers)
		}
		// A request that needs no permission has no token.
		for _, contentType := range []string{"application/x-www-form-urlencoded", "text/plain"} {
			header := http.Header{"Origin": {evil}, "Content-Type": {contentType}, "Cookie": {"token=" + secret}}
			if response, _ := s.ask(http.MethodPost, "/sse", header, "message=forged"); response.StatusCode != http.StatusUnauthorized {
				t.Errorf("ALLOWED_ORIGINS=%q: a form is answered with %d", allowed, response.StatusCode)
			}
		}
	}
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
		if line := s.out.Wait(t, "HEAD"); !strings.Contains(line, " "+test.logged+" ") {
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
		s.out.Wait(t, `GET      "/style.css"`)
		if lines := s.out.Lines(`"/sse"`); len(lines) > 0 {
			t.Errorf("while the stream is open the log has %q", lines)
		}
		took := time.Since(begin)
		stream.Body.Close()
		s.tick("tick") // on HTTP/1.1 a failed write reports the disconnect
		eventually(t, func() string {
			if len(s.out.Lines(`"/sse"`)) == 0 {
				s.tick("tick")
				return "the stream of a client that left is not logged"
			}
			return ""
		})
		line := s.out.Lines(`"/sse"`)[0]
		found := regexp.MustCompile(`\| 200 \| +([\d.]+(?:µs|ms|s)) \| +127\.0\.0\.1 \| GET`).FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("unexpected log line %q", line)
		}
		if lasted, err := time.ParseDuration(found[1]); err != nil || lasted < took.Truncate(10*time.Microsecond) {
			t.Errorf("the log says that the stream lasted %s, want at least %v", found[1], took)
		}
		s.stop()
		if lines := s.out.Lines("[GIN]"); len(lines) != 2 {
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
		eventually(t, func() string {
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
		s := start(t)
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
		begin := time.Now()
		clock := time.NewTicker(time.Second / 2)
		for range 2 {
			<-clock.C
			s.tick("tick")
		}
		clock.Stop()
		eventually(t, func() string {
			if n := s.events.Stats().Subscribers; n > 0 {
				return fmt.Sprintf("HTTP/%s: %d streams after two ticks", version, n)
			}
			return ""
		})
		if took := time.Since(begin); took > 14*time.Second { // a comment against silence would come after 15
			t.Errorf("HTTP/%s: it took %v", version, took)
		}
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
	eventually(t, func() string {
		goroutines, descriptors, heap = held()
		if goroutines > idle+10 {
			return fmt.Sprintf("still %d goroutines after the first 100", goroutines)
		}
		return ""
	})
	n := 5000
	if testing.Short() {
		n = 500
	}
	churn(n)
	logged := uint64(n) * 300 // bytes: s.out keeps a line for each, with room to grow
	eventually(t, func() string {
		g, d, h := held()
		if g > goroutines || d > descriptors || h > heap+logged+2<<20 {
			return fmt.Sprintf("%d goroutines, %d descriptors, %d bytes; before it was %d, %d, %d", g, d, h, goroutines, descriptors, heap)
		}
		return ""
	})
}

func TestThousandStalledClientsAreCutOffAndHoldNobodyUp(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes more than 10 s")
	}
	t.Parallel()
	const stalled = 1000
	s := start(t)
	for range stalled {
		conn := s.stream()
		defer conn.Close()
		_ = conn.SetReadBuffer(4 << 10) // and then never read
	}
	healthy := bufio.NewReader(s.get("/sse").Body)
	filler := strings.Repeat("x", 32<<10)
	begin, timeout := time.Now(), time.After(2*time.Minute)
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for n := 0; ; n++ {
		s.tick(map[string]string{"filler": filler, "number": fmt.Sprint(n)})
		// The healthy client has this one before the next is sent.
		for want := fmt.Sprintf(`"number":"%d"`, n); ; {
			line, err := healthy.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, want) {
				break
			}
		}
		left := s.events.Stats().Subscribers - 1
		select {
		case <-ticks.C:
			if left == 0 {
				t.Logf("%d stalled clients were cut off within %v", stalled, time.Since(begin))
				return
			}
		case <-timeout:
			t.Fatalf("%d of %d stalled clients are not cut off", left, stalled)
		}
	}
}

// busy gives a site a message that it keeps and two clients, which have each seen three events: what they
// missed, a tick and the message.
func (s *site) busy() {
	s.t.Helper()
	s.tick("tick")
	s.send("message")
	for range 2 {
		readUntil(s.t, s.get("/sse?lastEventId=unknown").Body, `data:"message"`)
	}
}

func TestStatusPageShowsTheFiguresWithoutJavaScript(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.busy()
	response, page := s.ask(http.MethodGet, "/status", nil, "")
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != "text/html; charset=utf-8" {
		t.Errorf("status %d, type %q", response.StatusCode, got)
	}
	if got := response.Header.Get("Cache-Control"); got != "no-cache" {
		t.Errorf("Cache-Control %q: the figures of earlier could be shown", got)
	}
	want := map[string]string{
		"subscribers": "2", "rate": `\d+(\.\d)?`, "delivered": "6", "kept": "1", "topics": "1", "uptime": `(\d+m)?\d+s`, "memory": `\d+(\.\d)? MB`,
		"top": `\d+`, "summary": "Nothing to show yet.",
	}
	for id, value := range want {
		if !regexp.MustCompile(` id="` + id + `">` + value + `</`).MatchString(page) {
			t.Errorf("%s is not %s in %s", id, value, page)
		}
	}
	if strings.Contains(page, "{{") || strings.Contains(page, "<no value>") || strings.Contains(page, "127.0.0.1") || strings.Contains(page, secret) {
		t.Errorf("a place that is not filled in, an address, or a secret, in %s", page)
	}

	sent := s.figures()
	want["chart"], want["busiest"] = "", ""
	for id := range maps.Keys(sent) {
		if !strings.Contains(page, ` id="`+id+`"`) {
			t.Errorf("%q is sent, and no element of the page has that id", id)
		}
	}
	if len(sent) != len(want) || sent["subscribers"] != "2" || sent["delivered"] != "6" || sent["kept"] != "1" {
		t.Errorf("sent are %v", sent)
	}
}

// figures returns what the stream of the status page sends first, by name.
func (s *site) figures() (figures map[string]string) {
	s.t.Helper()
	for event, err := range sse.Read(s.get("/status/sse").Body, nil) {
		if err != nil {
			s.t.Fatal(err)
		}
		if !isFirst(event) {
			var all map[string]any
			if err := json.Unmarshal([]byte(event.Data), &all); err != nil {
				s.t.Fatalf("%q: %v", event.Data, err)
			}
			figures = map[string]string{}
			for name, value := range all {
				figures[name] = fmt.Sprint(value)
			}
			return figures
		}
	}
	s.t.Fatal("the stream ended without figures")
	return nil
}

func TestFirstViewerInAWhileGetsTheFiguresOfNow(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.status.Refresh(nil) // somebody looked before
	s.busy()
	if got := s.figures()["kept"]; got != "1" {
		t.Errorf("%s messages are kept, says what is sent first, want 1", got)
	}
}

func TestStatusIsOpenWhenAllPlacesAreTaken(t *testing.T) {
	t.Parallel()
	s := start(t, "MAX_CLIENTS=1")
	s.get("/sse")
	if response := s.get("/sse"); response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("a second client is answered with %d", response.StatusCode)
	}
	for _, path := range []string{"/status", "/status/sse"} { // the places of the two streams are counted apart
		if response := s.get(path); response.StatusCode != http.StatusOK {
			t.Errorf("%s is answered with %d", path, response.StatusCode)
		}
	}
}

func TestMetricsAreWhatPrometheusExpects(t *testing.T) {
	t.Parallel()
	s := start(t, "METRICS=true")
	s.busy()
	response, text := s.ask(http.MethodGet, "/metrics", nil, "")
	if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("status %d, type %q", response.StatusCode, got)
	}
	for _, want := range []string{
		"# TYPE gin_sse_subscribers gauge\ngin_sse_subscribers 2\n",
		"# TYPE gin_sse_events_delivered_total counter\ngin_sse_events_delivered_total 6\n",
		"# TYPE gin_sse_history_messages gauge\ngin_sse_history_messages 1\n",
		"\ngo_goroutines ", "\nprocess_start_time_seconds ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "gin_sse_") {
			t.Errorf("%s: %s", problem.Metric, problem.Text)
		}
	}
	for line := range strings.Lines(text) {
		if !regexp.MustCompile(`^(# (HELP|TYPE) )?(gin_sse|go|process)_`).MatchString(line) {
			t.Errorf("something else is exposed: %s", line)
		}
	}
}

func TestMetricsAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	for setting, want := range map[string]int{"METRICS=": 404, "METRICS=false": 404, "METRICS=true": 200} {
		if response := start(t, setting).get("/metrics"); response.StatusCode != want {
			t.Errorf("with %s /metrics is answered with %d, want %d", setting, response.StatusCode, want)
		}
	}
}

func TestStopEndsEveryKindOfStreamProperly(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		s.tick("tick")
		streams := []*http.Response{s.get("/sse"), s.get("/status/sse"), s.get("/sse")}
		s.stop()
		for _, stream := range streams {
			if text, err := io.ReadAll(stream.Body); err != nil || !bytes.HasSuffix(text, []byte("\n\n")) {
				t.Errorf("%s ended with %v after %q", stream.Request.URL.Path, err, text)
			}
		}
	})
}

func TestEmbeddedFilesAreServed(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, name := range []string{"index.html", "app.js", "style.css", "favicon.svg"} {
		want, err := assets.ReadFile("public/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := s.ask(http.MethodGet, "/"+name, nil, ""); got != string(want) {
			t.Errorf("/%s is not public/%s", name, name)
		}
	}
}

// follower reads a stream event by event.
type follower struct {
	t     testing.TB
	last  string // the id to resume from
	next  func() (sse.Event, error, bool)
	leave context.CancelFunc
}

// open asks for the path with these headers and returns the answer, which is cut off by leave or when the test ends.
func (s *site) open(path string, header http.Header) (response *http.Response, leave context.CancelFunc) {
	s.t.Helper()
	ctx, leave := context.WithCancel(s.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	maps.Copy(request.Header, header)
	if response, err = s.client.Do(request); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		leave()
		response.Body.Close()
	})
	return response, leave
}

// follow opens a stream.
func (s *site) follow(path string, header http.Header) *follower {
	s.t.Helper()
	response, leave := s.open(path, header)
	if response.StatusCode != http.StatusOK {
		s.t.Fatalf("%s is answered with %s", path, response.Status)
	}
	f := &follower{t: s.t, leave: leave}
	next, stop := iter.Pull2(sse.Read(response.Body, &sse.ReadConfig{MaxEventSize: 1 << 20}))
	s.t.Cleanup(stop)
	f.next = next
	return f
}

// more returns the next event, as its name and its data, unless the stream has ended properly.
func (f *follower) more() (text string, ok bool) {
	f.t.Helper()
	defer time.AfterFunc(patience, f.leave).Stop()
	for {
		event, err, ok := f.next()
		if err != nil {
			f.t.Fatalf("the stream was cut off: %v", err)
		}
		if !ok {
			return "", false
		}
		f.last = event.LastEventID
		if !isFirst(event) {
			return strings.TrimSpace(event.Type + " " + event.Data), true
		}
	}
}

// wants fails the test unless these events come next.
func (f *follower) wants(events ...string) {
	f.t.Helper()
	for _, want := range events {
		if got, ok := f.more(); got != want || !ok {
			f.t.Fatalf("got %q (the stream goes on: %v), want %q", got, ok, want)
		}
	}
}

// rest returns all events until the stream ends, which has to be properly.
func (f *follower) rest() (events []string) {
	f.t.Helper()
	for event, ok := f.more(); ok; event, ok = f.more() {
		events = append(events, event)
	}
	return events
}

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
		case <-time.After(patience):
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
		s := p.start(t, nil)
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
				f.wants("log " + test.want[i])
			}
			write(t, body, test.rest)
			body.Close()
			f.wants("log " + test.last)
			if got, want := answer(), (uploaded{Status: 202, Events: len(test.want) + 1, ID: f.last}); got != want {
				t.Errorf("%s: the answer is %+v, want %+v", test.contentType, got, want)
			}
		}
	})
}

func TestALineThatCannotBePublishedEndsTheRequestAtOnceWithItsNumber(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "MAX_EVENT_BYTES=100")
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
			_, _ = f.more()
			_, _ = f.more()
			write(t, body, test.bad)
			got := answer() // while the body goes on
			want := uploaded{Status: test.status, Events: 2, ID: f.last, Error: got.Error}
			if got != want || !strings.HasPrefix(got.Error, test.reason) {
				t.Errorf("%q: the answer is %+v, want %+v with %q", test.bad, got, want, test.reason)
			}
			if s.events.Ended(fmt.Sprint(i)) {
				t.Errorf("%q: the topic has ended", test.bad)
			}
			f.leave()
			if p.name == http1.name {
				// A publisher that sends on all the time can read the answer as well.
				head := "POST " + topic + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\nContent-Type: " + test.contentType + "\r\nAuthorization: Bearer " + secret + "\r\n\r\n"
				conn := s.raw(head + test.good + test.bad + strings.Repeat("3\n", 1000))
				readUntil(t, conn, "HTTP/1.1 "+fmt.Sprint(test.status))
				conn.Close()
			}
		}
		want := uint64(4 * 2)
		if p.name == http1.name {
			want *= 2
		}
		if got := s.events.Stats().Published; got != want {
			t.Errorf("%d lines were published, want %d", got, want)
		}
	})
}

func TestAnUploadThatBreaksOffKeepsWhatArrivedAndPublishesNoHalfLine(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		for topic, contentType := range map[string]string{"a": "text/plain", "b": "application/x-ndjson"} {
			before := s.events.Stats().Published
			f := s.follow("/sse?topic="+topic, nil)
			body, _ := s.upload("/sse?end=true&topic="+topic, authorized(contentType))
			write(t, body, "1\n2\n")
			_, _ = f.more()
			_, _ = f.more()
			write(t, body, "345")
			body.CloseWithError(errors.New("the publisher is gone"))
			s.out.Wait(t, `"/sse?end=true&topic=`+topic) // the request has ended
			if n := s.events.Stats().Published - before; n != 2 || s.events.Ended(topic) {
				t.Errorf("%s: %d messages were published, want 2; the topic has ended: %v", contentType, n, s.events.Ended(topic))
			}
		}
	})
	for _, framing := range []string{"Content-Length: 100\r\n\r\n1\n2\n345", "Transfer-Encoding: chunked\r\n\r\n2\r\n1\n\r\n9\r\n2\n345", "Transfer-Encoding: chunked\r\n\r\n7\r\n1\n2\n345\r\n"} {
		s := start(t)
		conn := s.raw("POST /sse?topic=a&end=true HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nAuthorization: Bearer " + secret + "\r\n" + framing)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(conn)
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 400 ")) || !bytes.Contains(answer, []byte(`"events":2`)) || !bytes.Contains(answer, []byte("Line 3 did not arrive whole.")) {
			t.Errorf("%q: the answer is %q, and %v", framing, answer, err)
		}
		conn.Close()
		if n := s.events.Stats().Published; n != 2 || s.events.Ended("a") {
			t.Errorf("%q: %d messages were published, want 2", framing, n)
		}
	}
}

func TestAnUploadEndsItsTopicWhenTheBodyDoes(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		f := s.follow("/sse?topic=a", nil)
		body, answer := s.upload("/sse?topic=a&end=true", authorized("text/plain"))
		write(t, body, "1\n")
		f.wants(`{"message":"1"}`)
		write(t, body, "2")
		body.Close()
		if got := f.rest(); !slices.Equal(got, []string{`{"message":"2"}`}) {
			t.Errorf("the stream ends with %q", got)
		}
		if got, want := answer(), (uploaded{Status: 202, Events: 2, ID: f.last}); got != want {
			t.Errorf("the answer is %+v, want %+v", got, want)
		}
		if got, _ := s.open("/sse?topic=a", http.Header{"Last-Event-Id": {f.last}}); got.StatusCode != http.StatusNoContent {
			t.Errorf("a client that has seen the end gets %s", got.Status)
		}
		if got := s.lines("/sse?topic=a", authorized("text/plain"), "3\n"); got.Status != http.StatusConflict || got.Events != 0 || !strings.HasPrefix(got.Error, "Line 1: This topic has ended.") {
			t.Errorf("another line is answered with %+v", got)
		}
		if got, want := s.lines("/sse?topic=nothing&end=true", authorized("text/plain"), ""), (uploaded{Status: 202}); got != want {
			t.Errorf("no line at all is answered with %+v, want %+v", got, want)
		}
		if got := s.follow("/sse?topic=nothing", nil).rest(); len(got) > 0 {
			t.Errorf("a topic without messages that has ended has %q", got)
		}
	})
}

func TestAnUploadThatIsSentAgainPublishesOnlyTheRest(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		with := func(key, contentType string) http.Header {
			header := authorized(contentType)
			header.Set("Idempotency-Key", key)
			return header
		}
		f := s.follow("/sse?topic=a", nil)
		body, _ := s.upload("/sse?topic=a&end=true", with("k", "application/x-ndjson"))
		write(t, body, "1\n\n1\n")
		f.wants("1", "1") // lines that are alike are two events
		body.CloseWithError(errors.New("the publisher is gone"))
		s.out.Wait(t, `"/sse?topic=a&end=true"`)

		for range 2 {
			got := s.lines("/sse?topic=a&end=true", with("k", "application/x-ndjson"), "1\n\n1\n3\n")
			f.rest()
			if want := (uploaded{Status: 202, Events: 3, ID: f.last}); got != want {
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
	s := start(t)
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
		s := p.start(t, nil)
		f := s.follow("/sse?topic=a", nil)
		body, answer := s.upload("/sse?topic=a&end=true", authorized("text/plain"))
		write(t, body, "1\n2\n3")
		f.wants(`{"message":"1"}`, `{"message":"2"}`)
		s.stop()
		got := answer()
		want := uploaded{Status: 503, Events: 2, ID: f.last, Error: "The server is stopping. Send the lines from number 3 on again in a few seconds."}
		if got != want {
			t.Errorf("the answer is %+v, want %+v", got, want)
		}
		if rest := f.rest(); len(rest) > 0 || s.events.Ended("a") {
			t.Errorf("after the stop came %q, and the topic has ended: %v", rest, s.events.Ended("a"))
		}
	})
}

func TestATopicReachesItsFollowersAloneAndTicksTheDefaultTopicAlone(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		s.tick("tick")
		twenty := ""
		for n := range 19 {
			twenty += fmt.Sprint("topic=", n, "&")
		}
		type client struct {
			query string
			want  []string
			*follower
		}
		clients := []client{
			{query: "", want: []string{"default"}},
			{query: "topic=a", want: []string{"a"}},
			{query: "topic=a&topic=a", want: []string{"a"}},
			{query: "topic=a/b&topic=b", want: []string{"a/b", "b"}},
			{query: "topic=a/*", want: []string{"a/b", "a/b/c"}},
			{query: "topic=a/b/*", want: []string{"a/b/c"}},
			{query: "topic=*", want: []string{"a", "a/b", "a/b/c", "ab", "A", "b"}},
			{query: "topic=a/*&topic=*&topic=a&topic=a/b", want: []string{"a", "a/b", "a/b/c", "ab", "A", "b"}},
			{query: twenty + "topic=a", want: []string{"a"}},
			{query: twenty + "topic=a/*", want: []string{"a/b", "a/b/c"}},
			{query: "topic=nobody"},
			{query: "topic=private"},
		}
		for i := range clients {
			clients[i].follower = s.follow("/sse?"+clients[i].query, nil)
		}
		for _, topic := range []string{"a", "", "a/b", "a/b/c", "ab", "A", "private/a", "b"} {
			path := "/sse"
			if topic != "" {
				path += "?topic=" + topic
			}
			s.publish(path, authorized("application/json"), `"`+cmp.Or(topic, "default")+`"`)
		}
		s.tick("tock")
		s.close()
		for _, c := range clients {
			want := []string{}
			for _, topic := range c.want {
				want = append(want, `"`+topic+`"`)
			}
			live := c.rest()
			if c.query == "" {
				want = []string{`"tick"`, `"default"`, `"tock"`}
			}
			if !slices.Equal(live, want) {
				t.Errorf("?%s got %q, want %q", c.query, live, want)
			}
			if c.query == "" {
				want = []string{`"tock"`, `"default"`} // the latest tick, and what is kept
			}
			if got := s.follow("/sse?lastEventId=earliest&"+c.query, nil).rest(); !slices.Equal(got, want) {
				t.Errorf("?%s has kept %q, want %q", c.query, got, want)
			}
		}
	})
}

func TestATopicThatCannotBeIsRefusedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := start(t)
	query := strings.Repeat("&topic=a", 21)
	if response, text := s.ask(http.MethodGet, "/sse?"+query[1:], nil, ""); response.StatusCode != 400 || !strings.Contains(text, "21 topics are too many: one subscriber follows up to 20.") {
		t.Errorf("21 topics are answered with %d and %q", response.StatusCode, text)
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", "a%20b", "a+b", "%C3%A9", "a%00", "a%0Aid:1", "a,b", "a*", "*a", "a/*b", "*/a", "a/*/b", "**", "a/**", "%2A%2A",
		"a:b", "a?b", "a%23", "~", "private/", "private//a", "%zz", strings.Repeat("x", 201), strings.Repeat("x", 199) + "/*",
	} {
		for method, header := range map[string]http.Header{http.MethodGet: nil, http.MethodHead: nil, http.MethodPost: authorized("application/json")} {
			response, text := s.ask(method, "/sse?topic="+name, header, "{}")
			if response.StatusCode != http.StatusBadRequest || method != http.MethodHead && !strings.HasPrefix(text, `{"error":"`) {
				t.Errorf("%s of topic %.20q is answered with %d and %q", method, name, response.StatusCode, text)
			}
		}
		if response, text := s.ask(http.MethodGet, "/sse?topic=a&topic="+name, nil, ""); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%.20q beside a good topic is answered with %d and %q", name, response.StatusCode, text)
		}
	}
	if topics, _ := s.events.Topics(); s.events.Stats() != (hub.Stats{}) || topics > 0 {
		t.Errorf("what was refused left %+v and %d topics", s.events.Stats(), topics)
	}
}

func TestOnlyClientsThatMissSomethingGetAGap(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "HISTORY=2")
		var ids []string
		for _, topic := range []string{"b", "a/x", "a/x", "a/x", "a/x", "a/y", "b"} {
			_, answer := s.publish("/sse?topic="+topic, authorized("application/json"), fmt.Sprintf(`"%s %d"`, topic, len(ids)))
			ids = append(ids, answer["id"])
		}
		s.close()
		for _, test := range []struct {
			query, after string
			want         []string
		}{
			{"topic=b", ids[0], []string{`"b 6"`}},
			{"topic=a/y&topic=b", ids[0], []string{`"a/y 5"`, `"b 6"`}},
			{"topic=a/x", ids[0], []string{`gap {"missed":2}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x&topic=b", ids[0], []string{`gap {"missed":2}`, `"a/x 3"`, `"a/x 4"`, `"b 6"`}},
			{"topic=a/x", ids[1], []string{`gap {"missed":1}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x", ids[2], []string{`"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x", ids[5], nil},
			{"topic=a/*", ids[0], []string{`gap {"missed":null}`, `"a/x 3"`, `"a/x 4"`, `"a/y 5"`}},
			{"topic=a/*", ids[2], []string{`"a/x 3"`, `"a/x 4"`, `"a/y 5"`}},
			{"topic=a/x", "other-1", []string{`gap {"missed":null}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x", strings.Replace(ids[0], "-1", "-18446744073709551615", 1), []string{`gap {"missed":null}`, `"a/x 3"`, `"a/x 4"`}},
			{"topic=a/x&topic=b", "earliest", []string{`"b 0"`, `"a/x 3"`, `"a/x 4"`, `"b 6"`}},
			{"topic=*", "earliest", []string{`"b 0"`, `"a/x 3"`, `"a/x 4"`, `"a/y 5"`, `"b 6"`}},
			{"topic=nobody", "earliest", nil},
			{"topic=a/x", "", nil},
		} {
			if got := s.follow("/sse?"+test.query, http.Header{"Last-Event-Id": {test.after}}).rest(); !slices.Equal(got, test.want) {
				t.Errorf("%s after %q in the header: got %q, want %q", test.query, test.after, got, test.want)
			}
			if got := s.follow("/sse?lastEventId="+test.after+"&"+test.query, nil).rest(); !slices.Equal(got, test.want) {
				t.Errorf("%s after %q in the address: got %q, want %q", test.query, test.after, got, test.want)
			}
		}
	})
}

func TestAnEndedTopicEndsItsStreamsAndTakesNothingMore(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil)
		alone, both, wild := s.follow("/sse?topic=a/x", nil), s.follow("/sse?topic=a/x&topic=b", nil), s.follow("/sse?topic=a/*", nil)
		_, first := s.publish("/sse?topic=a/x", authorized("application/json"), `1`)
		_, last := s.publish("/sse?topic=a/x&event=done&end=true", authorized("application/json"), `2`)
		if got := alone.rest(); !slices.Equal(got, []string{"1", "done 2"}) {
			t.Errorf("a client that follows nothing else got %q", got)
		}
		for _, f := range []*follower{both, wild} {
			f.wants("1", "done 2")
		}
		for _, test := range []struct {
			after string
			want  []string
		}{{"", []string{"1", "done 2"}}, {"earliest", []string{"1", "done 2"}}, {first["id"], []string{"done 2"}}} {
			if got := s.follow("/sse?topic=a/x", http.Header{"Last-Event-Id": {test.after}}).rest(); !slices.Equal(got, test.want) {
				t.Errorf("a client that comes late, with %q, got %q, want %q", test.after, got, test.want)
			}
		}
		if response, text := s.ask(http.MethodGet, "/sse?topic=a/x", http.Header{"Last-Event-Id": {last["id"]}}, ""); response.StatusCode != http.StatusNoContent || text != "" {
			t.Errorf("a client that has seen the end gets %d and %q", response.StatusCode, text)
		}
		for _, path := range []string{"/sse?topic=a/x", "/sse?topic=a/x&end=true"} {
			if response, fields := s.publish(path, authorized("application/json"), `3`); response.StatusCode != http.StatusConflict || !strings.HasPrefix(fields["error"], "This topic has ended.") {
				t.Errorf("%s is answered with %d and %v", path, response.StatusCode, fields)
			}
		}
		s.publish("/sse?topic=b", authorized("application/json"), `4`)
		s.publish("/sse?topic=a/y", authorized("application/json"), `5`)
		both.wants("4")
		wild.wants("5")
		s.publish("/sse?topic=b&end=true", authorized("application/json"), `6`)
		if got := both.rest(); !slices.Equal(got, []string{"6"}) {
			t.Errorf("when the other topic has ended as well, the stream ends with %q", got)
		}
	})
}

// bearer is the header with a token for private topics that expires then.
func bearer(t testing.TB, expires time.Time, topics ...string) http.Header {
	t.Helper()
	exp := float64(expires.UnixMilli()) / 1000
	text, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{"topics": topics, "exp": exp}).SignedString([]byte(subscribeKey))
	if err != nil {
		t.Fatal(err)
	}
	return http.Header{"Authorization": {"Bearer " + text}}
}

// cookie is the same token in a cookie.
func cookie(header http.Header) http.Header {
	return http.Header{"Cookie": {"access_token=" + strings.TrimPrefix(header.Get("Authorization"), "Bearer ")}}
}

func TestPrivateTopicsAreForTokensThatListThem(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		on := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey, "METRICS=true")
		off := p.start(t, nil)
		later := time.Now().Add(time.Hour)
		alice, builds, all := bearer(t, later, "private/orders/alice"), bearer(t, later, "private/builds/*", "private/orders/alice"), bearer(t, later, "private/*")
		expired := bearer(t, time.Now().Add(-time.Minute), "private/orders/alice")
		forged := http.Header{"Authorization": {alice.Get("Authorization") + "x"}}
		both := cookie(expired)
		maps.Copy(both, alice)
		bothWrong := cookie(alice)
		maps.Copy(bothWrong, expired)
		const challenge, invalid = `Bearer realm="gin-sse"`, `Bearer realm="gin-sse", error="invalid_token", error_description="`
		const scope = `Bearer realm="gin-sse", error="insufficient_scope", error_description="The token does not list the topic `
		for _, test := range []struct {
			site              *site
			query             string
			header            http.Header
			status            int
			reason, challenge string
		}{
			{off, "topic=private/orders/alice", alice, 403, "The topic private/orders/alice is private, and private topics are off. To turn them on, start the server with SUBSCRIBE_KEY", ""},
			{off, "topic=a&topic=private/*", nil, 403, "The topic private/* is private", ""},
			{on, "topic=private/orders/alice", nil, 401, "The topic private/orders/alice needs a token. Send it in a header, Authorization: Bearer TOKEN, or in the cookie access_token.", challenge},
			{on, "topic=a&topic=private/orders/alice", nil, 401, "The topic private/orders/alice needs a token.", challenge},
			{on, "topic=*&topic=private/*", nil, 401, "The topic private/* needs a token.", challenge},
			{on, "topic=private/orders/alice", authorized(""), 401, "The token is not a JWT", invalid},
			{on, "topic=private/orders/alice", forged, 401, "The token is not signed with this server's SUBSCRIBE_KEY.", invalid},
			{on, "topic=private/orders/alice", cookie(forged), 401, "The token is not signed with this server's SUBSCRIBE_KEY.", invalid},
			{on, "topic=private/orders/alice", expired, 401, "The token expired at ", invalid},
			{on, "topic=private/orders/alice", bothWrong, 401, "The token expired at ", invalid},
			{on, "topic=private/orders/bob", alice, 403, "The token does not list the topic private/orders/bob.", scope + "private/orders/bob"},
			{on, "topic=private/orders/alice&topic=private/orders/bob", alice, 403, "The token does not list the topic private/orders/bob.", scope},
			{on, "topic=private/orders/alice/x", alice, 403, "The token does not list the topic private/orders/alice/x.", scope},
			{on, "topic=private/orders/*", alice, 403, "The token does not list the topic private/orders/*.", scope},
			{on, "topic=private/*", builds, 403, "The token does not list the topic private/*.", scope},
			{on, "topic=private/buildsecret", builds, 403, "The token does not list the topic private/buildsecret.", scope},
			{on, "topic=private/builds", builds, 403, "The token does not list the topic private/builds.", scope},
			{on, "topic=private/orders/alice&access_token=" + strings.TrimPrefix(alice.Get("Authorization"), "Bearer "), nil, 400, "A token does not belong in the address", challenge},
			{on, "token=x", nil, 400, "A token does not belong in the address", challenge},
		} {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				response, text := test.site.ask(method, "/sse?"+test.query, test.header, "")
				if response.StatusCode != test.status || method == http.MethodGet && !strings.HasPrefix(text, `{"error":"`+test.reason) {
					t.Errorf("%s ?%s is answered with %d and %q, want %d and %q", method, test.query, response.StatusCode, text, test.status, test.reason)
				}
				if got := response.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, test.challenge) || test.challenge == "" && got != "" {
					t.Errorf("%s ?%s: WWW-Authenticate is %q, want %q", method, test.query, got, test.challenge)
				}
				for _, header := range []http.Header{alice, expired, forged} {
					if token := strings.TrimPrefix(header.Get("Authorization"), "Bearer "); strings.Contains(text+fmt.Sprint(response.Header), token[10:40]) {
						t.Errorf("the answer to ?%s repeats a token: %q, %v", test.query, text, response.Header)
					}
				}
			}
		}
		for _, s := range []*site{on, off} {
			if topics, _ := s.events.Topics(); s.events.Stats() != (hub.Stats{}) || topics > 0 {
				t.Errorf("what was refused left %+v and %d topics", s.events.Stats(), topics)
			}
		}

		type client struct {
			query  string
			header http.Header
			want   []string
			*follower
		}
		const a, b, seven, secretBuild, public = `"private/orders/alice"`, `"private/orders/bob"`, `"private/builds/7"`, `"private/buildsecret"`, `"news"`
		clients := []client{
			{query: "topic=private/orders/alice", header: alice, want: []string{a}},
			{query: "topic=private/orders/alice", header: cookie(alice), want: []string{a}},
			{query: "topic=private/orders/alice", header: both, want: []string{a}},
			{query: "topic=private/orders/alice&topic=news", header: alice, want: []string{a, public}},
			{query: "topic=private/builds/7&topic=private/orders/alice", header: builds, want: []string{a, seven}},
			{query: "topic=private/builds/*", header: builds, want: []string{seven}},
			{query: "topic=private/*", header: all, want: []string{a, b, seven, secretBuild}},
			{query: "topic=private/orders/*", header: all, want: []string{a, b}},
			{query: "topic=*", header: all, want: []string{public}},
			{query: "topic=*", header: nil, want: []string{public}},
			{query: "topic=*&topic=private/*", header: all, want: []string{a, b, seven, secretBuild, public}},
			{query: "topic=*", header: expired, want: []string{public}}, // nobody needs a token for public topics
			{query: "topic=private/nobody", header: all},
		}
		for i, c := range clients {
			clients[i].follower = on.follow("/sse?"+c.query, c.header)
		}
		for _, topic := range []string{a, b, seven, secretBuild, public} {
			on.publish("/sse?topic="+strings.Trim(topic, `"`), authorized("application/json"), topic)
		}
		_, page := on.ask(http.MethodGet, "/status", nil, "")
		_, metrics := on.ask(http.MethodGet, "/metrics", nil, "")
		figures := on.figures()
		if figures["topics"] != "6" || !strings.Contains(page, ` id="topics">6</`) || !strings.Contains(metrics, "\ngin_sse_topics 6\n") {
			t.Errorf("the status page says %s topics, want 6, in %s", figures["topics"], page)
		}
		on.close()
		for _, c := range clients {
			if got := c.rest(); !slices.Equal(got, c.want) {
				t.Errorf("?%s got %q, want %q", c.query, got, c.want)
			}
			if got := on.follow("/sse?lastEventId=earliest&"+c.query, c.header).rest(); !slices.Equal(got, c.want) {
				t.Errorf("?%s has kept %q, want %q", c.query, got, c.want)
			}
		}
		on.stop()
		texts := map[string]string{"/status": page, "/status/sse": fmt.Sprint(figures), "/metrics": metrics}
		for name, text := range texts {
			if strings.Contains(text, "private/") {
				t.Errorf("%s has the name of a private topic: %s", name, text)
			}
		}
		texts["the log"], texts["what package log wrote"] = on.out.String()+off.out.String(), errorLog.String()
		for name, text := range texts {
			for _, header := range []http.Header{alice, builds, all, expired, forged} {
				parts := strings.Split(strings.TrimPrefix(header.Get("Authorization"), "Bearer "), ".")
				if strings.Contains(text, parts[1]) || strings.Contains(text, parts[2]) || strings.Contains(text, subscribeKey) {
					t.Errorf("%s has a token or the key: %s", name, text)
				}
			}
		}
	})
}

func TestAStreamEndsWhenItsTokenExpiresAndGoesOnWithANewOne(t *testing.T) {
	t.Parallel()
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey, "HISTORY=100000")
		tokens, lifetime := 3, time.Second
		if testing.Short() {
			tokens, lifetime = 1, 300*time.Millisecond
		}
		done := make(chan struct{})
		var publishing sync.WaitGroup
		published := 0
		publishing.Go(func() {
			pause := time.NewTicker(2 * time.Millisecond)
			defer pause.Stop()
			for {
				select {
				case <-done:
					return
				case <-pause.C:
				}
				published++
				if _, _, err := s.storage.Log.Publish(context.Background(), hub.Message{Topic: "private/a", Data: json.RawMessage(fmt.Sprint(published))}); err != nil {
					t.Error(err)
					return
				}
			}
		})
		last := "earliest"
		var got []string
		for range tokens {
			expires := time.Now().Add(lifetime)
			header := bearer(t, expires, "private/*")
			header.Set("Last-Event-ID", last)
			f := s.follow("/sse?topic=private/a&topic=nobody", header)
			begun := time.Now()
			got = append(got, f.rest()...)
			last = f.last
			switch ended := time.Now(); {
			case ended.Before(expires.Truncate(time.Millisecond)): // which is what the token says
				t.Errorf("the stream ended %v before its token expired", expires.Sub(ended))
			case begun.Before(expires) && ended.Sub(expires) > patience/2:
				t.Errorf("the stream ended %v after its token expired", ended.Sub(expires))
			}
		}
		close(done)
		publishing.Wait()
		s.close()
		header := bearer(t, time.Now().Add(time.Hour), "private/*")
		header.Set("Last-Event-ID", last)
		got = append(got, s.follow("/sse?topic=private/a&topic=nobody", header).rest()...)
		for i, data := range got {
			if data != fmt.Sprint(i+1) {
				t.Fatalf("event %d is %q", i+1, data)
			}
		}
		if len(got) != published {
			t.Errorf("%d of %d messages arrived", len(got), published)
		}
	})
}

func TestAClientThatIsFarBehindGetsNothingMoreOnceItsTokenHasExpired(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes many bytes")
	}
	onEveryProtocol(t, func(t *testing.T, p protocol) {
		if p.tls {
			t.Skip("encrypting so much takes long")
		}
		const messages, size = 24, 1 << 20 // more than all buffers on the way
		s := p.start(t, nil, "SUBSCRIBE_KEY="+subscribeKey)
		data, err := json.Marshal(strings.Repeat("x", size))
		if err != nil {
			t.Fatal(err)
		}
		for range messages {
			if _, _, err := s.storage.Log.Publish(t.Context(), hub.Message{Topic: "private/a", Data: data}); err != nil {
				t.Fatal(err)
			}
		}
		expires := time.Now().Add(time.Second)
		header := bearer(t, expires, "private/a")
		header.Set("Last-Event-ID", "earliest")
		response, _ := s.open("/sse?topic=private/a", header)
		if time.Now().After(expires) {
			t.Skip("this machine is too slow: the token expired before the stream began")
		}
		<-time.After(time.Until(expires.Add(10 * time.Millisecond))) // meanwhile it reads nothing
		n, err := io.Copy(io.Discard, response.Body)
		if err != nil || n >= messages*size {
			t.Errorf("after its token had expired, the client got %d MiB of %d and the end %v", n>>20, messages, err)
		}
	})
}

// covers tells whether a pattern of a subscription or a token stands for the topic.
func covers(pattern, topic string) bool {
	below, wild := strings.CutSuffix(pattern, "*")
	switch {
	case pattern == "*":
		return topic != "" && !strings.HasPrefix(topic, "private/")
	case wild:
		return strings.HasPrefix(topic, below)
	}
	return pattern == topic
}

func TestRandomClientsGetAllThatTheyMayReadInOrderAndNothingElse(t *testing.T) {
	t.Parallel()
	settings := []string{"SUBSCRIBE_KEY=" + subscribeKey, "HISTORY=10000"}
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		onEveryProtocol(t, func(t *testing.T, p protocol) {
			clientsFollowTopics(t, p.start(t, nil, settings...))
		})
	})
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("it takes a NATS server for each protocol")
		}
		for _, p := range []protocol{http1, {"HTTP2", "HTTP/2.0", false, (*http.Protocols).SetUnencryptedHTTP2}} {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				shared := append([]string{"NATS_URL=" + testnats.Start(t).ClientURL()}, settings...)
				replicas := []*site{p.start(t, nil, shared...), p.start(t, nil, shared...)}
				for _, s := range replicas {
					eventually(t, func() string {
						if err := s.storage.Ready(); err != nil {
							return err.Error()
						}
						return ""
					})
				}
				clientsFollowTopics(t, replicas...)
			})
		}
	})
}

// clientsFollowTopics lets publishers send to random topics, and clients with random tokens follow random ones. The
// clients leave again and again, and resume at any of the replicas.
func clientsFollowTopics(t *testing.T, replicas ...*site) {
	const publishers, each, clients = 4, 60, 16
	seed := rand.Uint64()
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	topics := []string{"", "a", "a/x", "a/x/1", "ab", "b", "private", "private/a", "private/a/x", "private/ab", "private/b/y", "end"}
	names := []string{"a", "b", "a/x", "a/*", "*", "nobody", "private", "private/a", "private/a/x", "private/a/*", "private/ab", "private/b/*", "private/b/y", "private/*"}
	grants := []string{"private/a", "private/a/*", "private/b/*", "private/*", "a", "*"}

	type sent struct {
		number      int
		topic, data string
	}
	var mu sync.Mutex
	var all []sent
	publish := func(s *site, topic, data string) {
		path := "/sse"
		if topic != "" {
			path += "?topic=" + topic
		}
		response, fields := s.publish(path, authorized("application/json"), data)
		_, digits, _ := strings.Cut(fields["id"], "-")
		number, err := strconv.Atoi(digits)
		if response.StatusCode != http.StatusAccepted || err != nil {
			t.Errorf("status %d: %v", response.StatusCode, fields)
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, sent{number, topic, data})
	}

	// A client has to have got everything before the last message.
	const end = `"end"`
	got, wanted := make([][]string, clients), make([][]string, clients)
	var reading, publishing sync.WaitGroup
	for i := range clients {
		reading.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			pick := func(from []string, n int) (some []string) {
				for range n {
					some = append(some, from[random.IntN(len(from))])
				}
				return some
			}
			granted, asked := pick(grants, random.IntN(3)), pick(names, 1+random.IntN(5))
			header := http.Header{}
			if len(granted) > 0 {
				header = bearer(t, time.Now().Add(time.Hour), granted...)
			}
			if random.IntN(2) == 0 && len(granted) > 0 {
				header = cookie(header)
			}
			mayRead := func(name string) bool {
				return !strings.HasPrefix(name, "private/") || slices.ContainsFunc(granted, func(grant string) bool { return covers(grant, name) })
			}
			if all := (url.Values{"topic": asked}).Encode(); slices.ContainsFunc(asked, func(name string) bool { return !mayRead(name) }) {
				want := http.StatusForbidden
				if len(granted) == 0 {
					want = http.StatusUnauthorized
				}
				if response, text := replicas[0].ask(http.MethodGet, "/sse?"+all, header, ""); response.StatusCode != want {
					t.Errorf("%q with a token for %q: status %d and %q, want %d", asked, granted, response.StatusCode, text, want)
				}
			}
			asked = slices.DeleteFunc(asked, func(name string) bool { return !mayRead(name) })
			wanted[i] = append(asked, "end")
			last := "earliest"
			for !slices.Contains(got[i], end) && !t.Failed() {
				s := replicas[random.IntN(len(replicas))]
				query := url.Values{"topic": wanted[i]}
				if header.Del("Last-Event-ID"); random.IntN(2) == 0 {
					query.Set("lastEventId", last)
				} else {
					header.Set("Last-Event-ID", last)
				}
				got[i], last = readSome(t, s, "/sse?"+query.Encode(), header, random.IntN(30), end, got[i], last)
			}
		})
	}
	for i := range publishers {
		publishing.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(clients+i)))
			for n := range each {
				topic := topics[random.IntN(len(topics)-1)]
				publish(replicas[i%len(replicas)], topic, fmt.Sprintf(`"%s %d %d"`, topic, i, n))
			}
		})
	}
	publishing.Wait()
	publish(replicas[0], "end", end)
	reading.Wait()

	slices.SortFunc(all, func(a, b sent) int { return cmp.Compare(a.number, b.number) })
	for i, names := range wanted {
		want := []string{}
		for _, m := range all {
			if slices.ContainsFunc(names, func(name string) bool { return covers(name, m.topic) }) {
				want = append(want, m.data)
			}
		}
		if !slices.Equal(got[i], want) {
			t.Errorf("%q got %q, want %q", names, got[i], want)
		}
	}
}

// readSome reads the stream until so many events came or the last one did, and appends them to those that came before.
func readSome(t *testing.T, s *site, path string, header http.Header, n int, end string, before []string, after string) (got []string, last string) {
	ctx, leave := context.WithTimeout(t.Context(), patience)
	defer leave()
	got, last = before, after
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		t.Error(err)
		return
	}
	request.Header = header.Clone()
	response, err := s.client.Do(request)
	if err != nil {
		t.Error(err)
		return
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", path, response.Status)
	}
	for event, err := range sse.Read(response.Body, nil) {
		if err != nil {
			t.Errorf("%s after %s: %v", path, after, err)
			return
		}
		if last = event.LastEventID; isFirst(event) {
			continue
		}
		got = append(got, strings.TrimSpace(event.Type+" "+event.Data))
		if n--; n < 0 || event.Data == end {
			return
		}
	}
	t.Errorf("%s after %s: the stream ended", path, after)
	return
}

func TestPagesOfListedOriginsMayUseTokensAndCookiesAndNoOthers(t *testing.T) {
	t.Parallel()
	const shop = "https://shop.example"
	for _, test := range []struct {
		allowed, origin string
		may, reads      bool // send credentials; read the answer
	}{{shop, shop, true, true}, {shop, "https://evil.example", false, false}, {"*", shop, false, true}, {"", shop, false, false}} {
		s := start(t, "ALLOWED_ORIGINS="+test.allowed, "SUBSCRIBE_KEY="+subscribeKey)
		s.close() // streams end at once
		preflight, _ := s.ask(http.MethodOptions, "/sse?topic=private/a", http.Header{
			"Origin": {test.origin}, "Access-Control-Request-Method": {http.MethodGet}, "Access-Control-Request-Headers": {"authorization,last-event-id"},
		}, "")
		allowed := strings.ToLower(preflight.Header.Get("Access-Control-Allow-Headers"))
		if got := strings.Contains(allowed, "authorization"); got != test.may {
			t.Errorf("ALLOWED_ORIGINS=%q, a page of %s may send %q", test.allowed, test.origin, allowed)
		}
		if got := strings.Contains(allowed, "last-event-id"); got != test.reads {
			t.Errorf("ALLOWED_ORIGINS=%q, a page of %s may send %q", test.allowed, test.origin, allowed)
		}
		for _, header := range []http.Header{{}, cookie(bearer(t, time.Now().Add(time.Hour), "private/a"))} { // 401 and 200
			header.Set("Origin", test.origin)
			response, _ := s.ask(http.MethodGet, "/sse?topic=private/a", header, "")
			if got := response.Header.Get("Access-Control-Allow-Credentials") == "true"; got != test.may {
				t.Errorf("ALLOWED_ORIGINS=%q, origin %s, status %d: credentials are allowed: %v", test.allowed, test.origin, response.StatusCode, got)
			}
			if got := response.Header.Get("Access-Control-Allow-Origin") != ""; got != test.reads {
				t.Errorf("ALLOWED_ORIGINS=%q, origin %s, status %d: the page may read it: %v", test.allowed, test.origin, response.StatusCode, got)
			}
		}
	}
}
