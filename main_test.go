package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/handlers"
	"gin-sse/internal/config"
	"gin-sse/internal/event"
	"gin-sse/internal/output"
	"gin-sse/internal/server"
	"gin-sse/internal/testcert"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

// errorLog is what package slog writes, from all tests.
var errorLog testlog.Log

func TestMain(m *testing.M) {
	gin.SetMode(gin.TestMode)
	gin.DebugPrintFunc = func(string, ...any) {}
	slog.SetDefault(slog.New(output.Handler(&errorLog, "text")))
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil { // many tests wait
		log.Fatal(err)
	}
	goleak.VerifyTestMain(m)
}

const (
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
	reload func()       // reads the files with secrets again
	cfg    config.Config
	services
}

// protocol is one that a client may speak.
type protocol struct {
	name  string
	proto string // as http.Response has it
	tls   bool
	set   func(*http.Protocols, bool)
}

var (
	http1 = protocol{"HTTP1", "HTTP/1.1", false, (*http.Protocols).SetHTTP1}
	http2 = protocol{"HTTP2", "HTTP/2.0", false, (*http.Protocols).SetUnencryptedHTTP2}
)

// onEveryProtocol runs a test with each writer that a stream may have: its own on HTTP/1.1, in clear text and
// over TLS, and net/http's on HTTP/2.
func onEveryProtocol(t *testing.T, test func(t *testing.T, p protocol)) {
	for _, p := range []protocol{
		http1,
		{"HTTP1 over TLS", "HTTP/1.1", true, (*http.Protocols).SetHTTP1},
		http2,
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

	s := &site{t: t, cfg: cfg, out: new(testlog.Log)}
	if s.secrets, err = cfg.Secrets(); err != nil {
		t.Fatal(err)
	}
	if s.events, err = handlers.Open(options(cfg, s.secrets)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.events.Close)
	s.status = handlers.NewStatus(s.events, cfg.Viewers(), cfg.Keepalive)
	var cancel context.CancelFunc
	s.running, cancel = context.WithCancel(context.Background())
	app, err := newApp(cfg, s.services, slog.New(output.Handler(s.out, cfg.LogFormat)))
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
	s.client = &http.Client{Transport: transport, Timeout: testwait.Limit} // also for a body

	port, err := server.Open(s.running, cfg.Server())
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- port.Serve(s.running, app, s.close)
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
	s.url, s.reload = port.URL(), func() { s.secrets.Reload(time.Now()); port.Reload(time.Now()) }
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
	id, err := s.events.Publish(context.Background(), "", data)
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// ended reports whether a topic has ended. Unless it has, it gets a message.
func (s *site) ended(topic string) bool {
	_, err := s.events.Publish(context.Background(), topic, "is it over?")
	return errors.Is(err, event.ErrEnded)
}

// get asks for the path and returns the answer.
func (s *site) get(path string) *http.Response {
	s.t.Helper()
	return s.open(path, nil)
}

// open asks for the path with these headers and returns the answer, which is cut off when the test ends.
func (s *site) open(path string, header http.Header) *http.Response {
	s.t.Helper()
	response, _ := testsse.Get(s.t, s.client, s.url+path, header)
	return response
}

// follow opens a stream.
func (s *site) follow(path string, header http.Header) *testsse.Stream {
	s.t.Helper()
	return testsse.Open(s.t, s.client, s.url+path, header)
}

// ask sends one request as it is written, follows no redirect, and returns the answer and its body.
func (s *site) ask(method, target string, header http.Header, body string) (*http.Response, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testwait.Limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.url, strings.NewReader(body))
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
	if err := conn.SetDeadline(time.Now().Add(testwait.Limit)); err != nil {
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
