package handlers_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
	"gin-sse/internal/testsse"
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

func TestErrorsAreJSONUnlessHTMLIsAskedFor(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{}, func(s *site) {
		s.more = func(app *gin.Engine) {
			app.GET("/panic", func(*gin.Context) { panic("this one is intended") })
		}
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
	s := start(t, handlers.Options{}, func(s *site) {
		s.more = func(app *gin.Engine) {
			app.GET("/late-panic", func(c *gin.Context) {
				c.String(http.StatusOK, "begun")
				c.Writer.Flush()
				panic("this one comes in the middle")
			})
		}
	})
	beside := s.stream()
	defer beside.Close()
	if body, err := io.ReadAll(s.get("/late-panic").Body); string(body) != "begun" || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("after a panic in the middle: body %q and error %v, want it cut off", body, err)
	}
	errorLog.Wait(t, "this one comes in the middle")
	if line := s.out.Wait(t, "path=/late-panic"); !strings.HasSuffix(line, ` reason="a panic cut off the answer"`) {
		t.Errorf("the log has %q", line)
	}
	s.tick("still here")
	testsse.ReadUntil(t, beside, "still here")
}
