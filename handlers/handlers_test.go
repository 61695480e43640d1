package handlers_test

import (
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"
	"go.uber.org/goleak"

	"gin-sse/handlers"
	"gin-sse/internal/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs the handlers on a real connection, as main.go's table of routes does.
func serve(t *testing.T, files fs.FS, events *hub.Hub) *httptest.Server {
	gin.SetMode(gin.TestMode)
	app := gin.New()
	app.HandleMethodNotAllowed = true
	app.HTMLRender = handlers.Pages{Templates: fstest.MapFS{
		"error.html": {Data: []byte(`<title>${title}</title><p>${message}</p>`)},
	}}
	app.Use(gin.CustomRecoveryWithWriter(io.Discard, handlers.InternalError))
	app.Use(handlers.Static(files))
	app.GET("/sse", handlers.SSE(events))
	app.HEAD("/sse", handlers.SSE(events))
	app.GET("/panic", func(*gin.Context) { panic("no") })
	app.NoRoute(handlers.NotFound)
	app.NoMethod(handlers.MethodNotAllowed)
	server := httptest.NewServer(app)
	t.Cleanup(func() {
		events.Close()
		server.Close()
	})
	return server
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
