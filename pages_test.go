package main

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
)

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

func TestPagesHaveRelativeAddressesAlone(t *testing.T) {
	t.Parallel()
	s := start(t)
	address := regexp.MustCompile(`(?:href|src)="([^"]*)"`)
	for _, path := range []string{"/", "/status", "/nope", "/nope/", "/a/b%2Fc/nope?d=/e/"} {
		_, body := s.ask(http.MethodGet, path, http.Header{"Accept": {"text/html"}}, "")
		found := address.FindAllStringSubmatch(body, -1)
		if len(found) < 4 && path != "/" { // which may be a page of the user's own
			t.Fatalf("%s has the addresses %q", path, found)
		}
		page, err := url.Parse("http://example.com" + path)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range found {
			to, err := page.Parse(match[1])
			if err != nil || strings.HasPrefix(match[1], "/") {
				t.Fatalf("%s has the address %q, which does not hold below the path of a proxy: write it without the slash before it; %v", path, match[1], err)
			}
			if linked, _ := s.ask(http.MethodGet, to.Path, nil, ""); linked.StatusCode != http.StatusOK {
				t.Errorf("%s has the address %q, which is %s, and that is answered with %d", path, match[1], to.Path, linked.StatusCode)
			}
		}
	}
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
