package handlers_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

func TestAnAddressWithASlashTooManyIsA404ThatNamesTheRightOne(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{
		"index.html": {Data: []byte("home")}, "app.js": {Data: []byte("go()")}, "a b.txt": {Data: []byte("x")},
		"sub/index.html": {Data: []byte("sub")}, "empty/x.txt": {Data: []byte("x")}, ".env": {Data: []byte("secret")},
	}
	var log bytes.Buffer
	app := gin.New()
	app.RedirectTrailingSlash = false
	app.Use(handlers.RequestLog(logger(&log)), handlers.Secure(), handlers.CORS([]string{"https://shop.example"}), handlers.Static(files))
	for _, path := range []string{"/sse", "/status", "/status/sse", "/healthz"} {
		app.Match([]string{http.MethodGet, http.MethodPost}, path, func(c *gin.Context) { t.Errorf("%s %s was answered", c.Request.Method, c.Request.URL) })
	}
	app.NoRoute(handlers.NotFound(app.Routes(), files))
	ask := func(method, path string, header http.Header) (*http.Response, string) {
		request := httptest.NewRequest(method, path, nil)
		maps.Copy(request.Header, header)
		answer := httptest.NewRecorder()
		app.ServeHTTP(answer, request)
		return answer.Result(), answer.Body.String()
	}
	for path, right := range map[string]string{
		"/sse/": "/sse", "/sse/?topic=a": "/sse", "//sse": "/sse", "/sse//": "/sse", "/sse/?": "/sse", "/sse%2F": "/sse", "/%73se/": "/sse",
		"/status/": "/status", "/status//sse": "/status/sse", "/status/sse/": "/status/sse", "//status//sse//": "/status/sse", "/healthz/": "/healthz",
		"/app.js/": "/app.js", "//app.js": "/app.js", "/a%20b.txt/": "/a%20b.txt", "//": "/", "///": "/", "//sub/": "/sub/", "/sub//": "/sub/",
		"/nope/": "", "/ssex/": "", "/empty/": "", "/empty//": "", "//empty": "", "/.env/": "", "//.env": "", "/sse/x/": "",
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, "PROPFIND"} {
			log.Reset()
			response, body := ask(method, path, http.Header{"Origin": {"https://shop.example"}})
			want := `{"error":"There is nothing at this address."}`
			if right != "" {
				want = `{"error":"There is nothing at this address, which has a slash too many. Use ` + right + `."}`
			}
			if method == http.MethodHead {
				body = want // net/http leaves it out
			}
			if response.StatusCode != http.StatusNotFound || body != want || response.Header.Get("Location") != "" {
				t.Errorf("%s %s: status %d, %q, location %q; want %s", method, path, response.StatusCode, body, response.Header.Get("Location"), want)
			}
			if response.Header.Get("Access-Control-Allow-Origin") == "" || response.Header.Get("X-Content-Type-Options") == "" || strings.Count(log.String(), "\n") != 1 {
				t.Errorf("%s %s: header %v and log %q", method, path, response.Header, log.String())
			}
		}
		if response, body := ask(http.MethodOptions, path, nil); response.StatusCode != http.StatusNotFound {
			t.Errorf("OPTIONS %s: status %d, %q", path, response.StatusCode, body)
		}
	}
}

func TestAPostIsNeverRedirected(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"sub/index.html": {Data: []byte("sub")}}
	server := static(t, files)
	response, err := server.Client().Post(server.URL+"/sub", "text/plain", strings.NewReader("lost"))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusNotFound || response.Request.Method != http.MethodPost {
		t.Errorf("status %d, %q, error %v, and it ended as a %s", response.StatusCode, body, err, response.Request.Method)
	}
}
