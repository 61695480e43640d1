package handlers_test

import (
	"compress/gzip"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

// static serves files alone.
func static(t *testing.T, files fs.FS) *httptest.Server {
	app := gin.New()
	app.NoRoute(handlers.Static(files), handlers.NotFound(app.Routes(), files))
	return serve(t, app)
}

func TestStaticServesWhatExpressStaticServes(t *testing.T) {
	t.Parallel()
	server := static(t, fstest.MapFS{
		"index.html":     {Data: []byte("home")},
		"app.js":         {Data: []byte("go()")},
		"style.css":      {Data: []byte("p{}")},
		"icon.svg":       {Data: []byte("<svg/>")},
		"data.json":      {Data: []byte("{}")},
		"a b%.txt":       {Data: []byte("odd name")},
		"_under.txt":     {Data: []byte("underscore")},
		"sub/index.html": {Data: []byte("sub home")},
		"sub/x.txt":      {Data: []byte("x")},
		"empty/x.txt":    {Data: []byte("x")},
		".env":           {Data: []byte("secret")},
		"sub/.git/HEAD":  {Data: []byte("secret")},
	})

	for _, test := range []struct {
		path     string
		status   int
		typ      string
		body     string
		location string
	}{
		{"/", 200, "text/html; charset=utf-8", "home", ""},
		{"/index.html", 200, "text/html; charset=utf-8", "home", ""},
		{"/index.html?x=1", 200, "text/html; charset=utf-8", "home", ""},
		{"/app.js", 200, "text/javascript; charset=utf-8", "go()", ""},
		{"/style.css", 200, "text/css; charset=utf-8", "p{}", ""},
		{"/icon.svg", 200, "image/svg+xml", "<svg/>", ""},
		{"/data.json", 200, "application/json", "{}", ""},
		{"/a%20b%25.txt", 200, "text/plain; charset=utf-8", "odd name", ""},
		{"/_under.txt", 200, "text/plain; charset=utf-8", "underscore", ""},
		{"/sub/", 200, "text/html; charset=utf-8", "sub home", ""},
		{"/sub", 301, "", "", "sub/"},
		{"/sub?a=b", 301, "", "", "sub/?a=b"},
		{"/sub/x.txt", 200, "text/plain; charset=utf-8", "x", ""},

		// no listings, nothing hidden, nothing outside
		{"/empty", 404, "", "", ""},
		{"/empty/", 404, "", "", ""},
		{"/.env", 404, "", "", ""},
		{"/sub/.git/HEAD", 404, "", "", ""},
		{"/../handlers/static.go", 404, "", "", ""},
		{"/..%2fhandlers/static.go", 404, "", "", ""},
		{"/%2e%2e/handlers/static.go", 404, "", "", ""},
		{"/sub/../index.html", 404, "", "", ""},
		{"/sub/..%5c..%5cindex.html", 404, "", "", ""},
		{"//index.html", 404, "", "", ""},
		{"//sub", 404, "", "", ""},
		{"/index.html/", 404, "", "", ""},
		{"/index.html%00", 404, "", "", ""},
		{"/%00", 404, "", "", ""},
		{"/app.js%00.html", 404, "", "", ""},
		{"/" + strings.Repeat("a", 8000), 404, "", "", ""},
	} {
		t.Run(test.path[:min(len(test.path), 40)], func(t *testing.T) {
			response, body := ask(t, server, http.MethodGet, test.path, nil)
			if response.StatusCode != test.status {
				t.Fatalf("status %d, want %d", response.StatusCode, test.status)
			}
			if got := response.Header.Get("Location"); got != test.location {
				t.Errorf("location %q, want %q", got, test.location)
			}
			if test.status != http.StatusOK {
				return
			}
			if got := response.Header.Get("Content-Type"); got != test.typ || body != test.body {
				t.Errorf("type %q and body %q, want %q and %q", got, body, test.typ, test.body)
			}
			if got := response.Header.Get("Cache-Control"); got != "public, max-age=0" {
				t.Errorf("Cache-Control %q", got)
			}

			etag := response.Header.Get("ETag")
			again, body := ask(t, server, http.MethodGet, test.path, http.Header{"If-None-Match": {etag}})
			if etag == "" || again.StatusCode != http.StatusNotModified || body != "" || again.Header.Get("ETag") != etag {
				t.Errorf("asked again with ETag %s: status %d, body %q", etag, again.StatusCode, body)
			}
			head, body := ask(t, server, http.MethodHead, test.path, nil)
			if head.StatusCode != http.StatusOK || body != "" || head.ContentLength != int64(len(test.body)) || head.Header.Get("ETag") != etag {
				t.Errorf("HEAD: status %d, length %d, body %q, ETag %s", head.StatusCode, head.ContentLength, body, head.Header.Get("ETag"))
			}
			post, _ := ask(t, server, http.MethodPost, test.path, nil)
			if post.StatusCode != http.StatusMethodNotAllowed || post.Header.Get("Allow") != "GET, HEAD" {
				t.Errorf("POST: status %d, Allow %q", post.StatusCode, post.Header.Get("Allow"))
			}
		})
	}
}

func TestStaticServesRanges(t *testing.T) {
	t.Parallel()
	server := static(t, fstest.MapFS{"digits.txt": {Data: []byte("0123456789")}})
	for _, test := range []struct {
		ask    string
		status int
		body   string
	}{
		{"bytes=2-4", http.StatusPartialContent, "234"},
		{"bytes=-3", http.StatusPartialContent, "789"},
		{"bytes=20-", http.StatusRequestedRangeNotSatisfiable, "invalid range: failed to overlap\n"},
	} {
		response, body := ask(t, server, http.MethodGet, "/digits.txt", http.Header{"Range": {test.ask}})
		if response.StatusCode != test.status || body != test.body {
			t.Errorf("%s: status %d and body %q, want %d and %q", test.ask, response.StatusCode, body, test.status, test.body)
		}
	}
}

func TestETagChangesWithTheContent(t *testing.T) {
	t.Parallel()
	files := fstest.MapFS{"a.txt": {Data: []byte("one")}, "b.txt": {Data: []byte("two")}, "c.txt": {Data: []byte("one")}}
	server := static(t, files)
	tags := map[string]string{}
	for name := range files {
		response, _ := ask(t, server, http.MethodGet, "/"+name, nil)
		tags[name] = response.Header.Get("ETag")
	}
	if tags["a.txt"] == tags["b.txt"] || tags["a.txt"] != tags["c.txt"] {
		t.Errorf("ETags %v, want those of the same content alike and others not", tags)
	}
}

func TestStaticCompressesEmbeddedTextOnce(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("a line that repeats\n", 50)
	server := static(t, fstest.MapFS{"a.js": {Data: []byte(text)}, "short.css": {Data: []byte("p{}")}, "a.mp4": {Data: []byte(text)}})
	for _, test := range []struct {
		path, accepts string
		compressed    bool
	}{
		{"/a.js", "gzip", true},
		{"/a.js", "gzip, deflate, br, zstd", true},
		{"/a.js", "br;q=1.0, GZIP;q=0.2", true},
		{"/a.js", "", false},
		{"/a.js", "br", false},
		{"/a.js", "gzip;q=0", false},
		{"/a.js", "gzip; q=0.0, identity", false},
		{"/short.css", "gzip", false}, // compressed it would be longer
		{"/a.mp4", "gzip", false},
	} {
		header := http.Header{"Accept-Encoding": {test.accepts}}
		response, body := ask(t, server, http.MethodGet, test.path, header)
		compressed := response.Header.Get("Content-Encoding") == "gzip"
		if compressed {
			plain, err := gzip.NewReader(strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			unpacked, err := io.ReadAll(plain)
			if err != nil || len(body) >= len(unpacked) {
				t.Errorf("%s is %d bytes, compressed %d: %v", test.path, len(unpacked), len(body), err)
			}
			body = string(unpacked)
		}
		if want := map[bool]string{true: "p{}", false: text}[test.path == "/short.css"]; compressed != test.compressed || body != want {
			t.Errorf("%s with Accept-Encoding %q: compressed %v, want %v; the text is %.30q", test.path, test.accepts, compressed, test.compressed, body)
		}
		if got := response.Header.Get("Vary"); got != "Accept-Encoding" {
			t.Errorf("%s: Vary is %q", test.path, got)
		}
		tag := response.Header.Get("ETag")
		header.Set("If-None-Match", tag)
		if again, body := ask(t, server, http.MethodGet, test.path, header); again.StatusCode != http.StatusNotModified || body != "" || again.Header.Get("ETag") != tag {
			t.Errorf("%s with Accept-Encoding %q, asked again with its ETag %s: status %d", test.path, test.accepts, tag, again.StatusCode)
		}
		header = http.Header{"Accept-Encoding": {"gzip"}, "Range": {"bytes=0-1"}}
		if part, body := ask(t, server, http.MethodGet, test.path, header); part.Header.Get("Content-Encoding") != "" || len(body) != 2 || part.Header.Get("ETag") == tag && compressed {
			t.Errorf("a range of %s is %q, %q with the ETag %s", test.path, body, part.Header.Get("Content-Encoding"), part.Header.Get("ETag"))
		}
	}
}
