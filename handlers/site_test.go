package handlers_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/event"
	"gin-sse/internal/output"
	"gin-sse/internal/secret"
	"gin-sse/internal/testlog"
	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
)

const (
	publishToken = "s3cret"

	// subscribeKey signs the tokens of private topics.
	subscribeKey = "0123456789abcdef0123456789abcdef"
)

// site is a server of a program that has all handlers, at the addresses of main.go. A test may change the first fields
// before it starts.
type site struct {
	publishers *secret.List          // PUBLISH_TOKEN
	origins    []string              // ALLOWED_ORIGINS
	logFormat  string                // LOG_FORMAT
	more       func(app *gin.Engine) // adds routes

	t      testing.TB
	app    *gin.Engine
	events *handlers.Events
	status *handlers.Status
	url    string
	client *http.Client
	out    *testlog.Log // a line for each request
	stop   func()       // stops the server as its program would, and waits
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

// start serves until the test ends.
func start(t testing.TB, o handlers.Options, changes ...func(*site)) *site {
	t.Helper()
	return http1.start(t, o, changes...)
}

// start serves for clients that speak the protocol.
func (p protocol) start(t testing.TB, o handlers.Options, changes ...func(*site)) *site {
	t.Helper()
	s := &site{t: t, publishers: handlers.Secrets(publishToken), logFormat: "text", out: new(testlog.Log), app: gin.New()}
	for _, change := range changes {
		change(s)
	}
	var err error
	if s.events, err = handlers.Open(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.events.Close)
	s.status = handlers.NewStatus(s.events, o.MaxClients, o.Keepalive)
	s.mount()

	server := httptest.NewUnstartedServer(s.app)
	server.Config.Protocols = new(http.Protocols)
	p.set(server.Config.Protocols, true)
	server.Config.RegisterOnShutdown(s.close)
	if p.tls {
		server.EnableHTTP2 = p.proto == "HTTP/2.0"
		server.StartTLS()
	} else {
		server.Start()
	}
	s.url, s.client = server.URL, server.Client()
	s.client.Timeout = testwait.Limit // also for a body
	transport := s.client.Transport.(*http.Transport)
	transport.Protocols = server.Config.Protocols
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err == nil {
			t.Cleanup(func() { conn.Close() }) // before the stop, which an open connection of HTTP/2 delays by a second
		}
		return conn, err
	}
	s.stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testwait.Limit)
		defer cancel()
		if err := server.Config.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		s.events.Close()
	})
	t.Cleanup(func() {
		s.stop()
		server.Close()
	})
	return s
}

// mount gives each handler its address, behind the same middleware as main.go.
func (s *site) mount() {
	s.app.HandleMethodNotAllowed = true
	s.app.RedirectTrailingSlash = false
	templates, err := handlers.NewPages(handlers.Assets(os.DirFS(".."), "templates", "error.html"), s.app.FuncMap)
	if err != nil {
		s.t.Fatal(err)
	}
	s.app.HTMLRender = templates
	metrics := handlers.NewMetrics(s.events)
	s.app.Use(handlers.RequestLog(slog.New(output.Handler(s.out, s.logFormat))), metrics.Count, gin.CustomRecoveryWithWriter(nil, handlers.InternalError),
		handlers.WriteDeadline, handlers.PageErrors, handlers.LimitHeader, handlers.Secure(), handlers.CORS(s.origins))
	get := []string{http.MethodGet, http.MethodHead}
	s.app.Match(get, "/sse", handlers.SSE(s.events))
	s.app.POST("/sse", handlers.Authorize(s.publishers), handlers.Publish(s.events))
	s.app.Match(get, "/status", s.status.Page)
	s.app.Match(get, "/status/sse", s.status.Refresh, handlers.SSE(s.status.Viewers))
	s.app.Match(get, "/metrics", metrics.Page)
	if s.more != nil {
		s.more(s.app)
	}
	files := handlers.Assets(os.DirFS(".."), "public", "index.html")
	s.app.NoRoute(handlers.Static(files), handlers.NotFound(s.app.Routes(), files))
	s.app.NoMethod(handlers.MethodNotAllowed)
}

// close ends every stream.
func (s *site) close() {
	s.events.Stop()
	s.status.Viewers.Stop()
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
	return send(s.t, s.client, s.url, method, target, header, body)
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
	return http.Header{"Authorization": {"Bearer " + publishToken}, "Content-Type": {contentType}}
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
