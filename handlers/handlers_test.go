package handlers_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	token    = "s3cret"
	maxBytes = 1000
)

// serve runs the handlers on a real connection, as main.go's table of routes does.
func serve(t *testing.T, files fs.FS, events *hub.Hub) *httptest.Server {
	return serveWith(t, files, events, io.Discard, (*httptest.Server).Start)
}

// onEveryProtocol runs a test with each writer that a stream may have: its own on HTTP/1.1, in clear
// text and over TLS, and net/http's on HTTP/2.
func onEveryProtocol(t *testing.T, test func(t *testing.T, serve func(*testing.T, fs.FS, *hub.Hub) *httptest.Server)) {
	for name, start := range map[string]func(*httptest.Server){
		"HTTP/1.1":          (*httptest.Server).Start,
		"HTTP/1.1 over TLS": (*httptest.Server).StartTLS,
		"HTTP/2.0": func(server *httptest.Server) {
			server.EnableHTTP2 = true
			server.StartTLS()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, func(t *testing.T, files fs.FS, events *hub.Hub) *httptest.Server {
				server := serveWith(t, files, events, io.Discard, start)
				response, _ := ask(t, server, http.MethodHead, "/sse", nil)
				if !strings.HasPrefix(name, response.Proto) {
					t.Fatalf("it speaks %s", response.Proto)
				}
				return server
			})
		})
	}
}

// serveWith is serve with the log of panics, and with how the server is started.
func serveWith(t *testing.T, files fs.FS, events *hub.Hub, log io.Writer, start func(*httptest.Server)) *httptest.Server {
	gin.SetMode(gin.TestMode)
	app := gin.New()
	app.HandleMethodNotAllowed = true
	app.HTMLRender = handlers.Pages{Templates: fstest.MapFS{
		"error.html": {Data: []byte(`<title>${title}</title><p>${message}</p>`)},
	}}
	app.Use(gin.CustomRecoveryWithWriter(log, handlers.InternalError))
	app.Use(handlers.Static(files))
	app.GET("/sse", handlers.SSE(events))
	app.HEAD("/sse", handlers.SSE(events))
	app.POST("/sse", handlers.Authorize(token), handlers.Publish(events, maxBytes))
	app.POST("/off", handlers.Authorize(""), handlers.Publish(events, maxBytes))
	app.GET("/panic", func(*gin.Context) { panic("no") })
	app.GET("/late-panic", func(c *gin.Context) {
		c.String(http.StatusOK, "begun")
		c.Writer.Flush()
		panic("no")
	})
	app.Match([]string{http.MethodGet, http.MethodHead}, "/limited", handlers.Limit(2), handlers.SSE(events))
	app.NoRoute(handlers.NotFound)
	app.NoMethod(handlers.MethodNotAllowed)
	return run(t, app, events, start)
}

// run serves until the test ends, and then waits for every request.
func run(t *testing.T, app http.Handler, events *hub.Hub, start func(*httptest.Server)) *httptest.Server {
	var requests sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		defer requests.Done()
		app.ServeHTTP(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if encrypted, ok := conn.(*tls.Conn); ok {
			conn = encrypted.NetConn()
		}
		_ = conn.(*net.TCPConn).SetWriteBuffer(4 << 10) // a client that stops reading is noticed soon
		return ctx
	}
	start(server)
	t.Cleanup(func() {
		events.Close()
		server.Close()
		requests.Wait()
	})
	return server
}

// readHead reads the head of an answer as it is on the wire, past what an HTTP client would tidy up, and
// returns its lines without the date, in alphabetical order.
func readHead(t *testing.T, wire *bufio.Reader) (head []string) {
	t.Helper()
	for {
		line, err := wire.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if line = strings.TrimSuffix(line, "\r\n"); line == "" {
			slices.Sort(head)
			return head
		}
		if !strings.HasPrefix(line, "Date: ") {
			head = append(head, line)
		}
	}
}

// ask sends one request as it is written, follows no redirect, and returns the answer and its body.
func ask(t *testing.T, server *httptest.Server, method, target string, header http.Header) (*http.Response, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.URL.Opaque = target // not cleaned, not encoded
	maps.Copy(request.Header, header)
	response, err := server.Client().Transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}
