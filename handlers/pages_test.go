package handlers_test

import (
	"html/template"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

// folder returns files with these texts.
func folder(texts map[string]string) fstest.MapFS {
	files := fstest.MapFS{}
	for name, text := range texts {
		files[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return files
}

// pages reads the templates in a mode of Gin's. Tests that use it do not run in parallel, as the mode is the process's.
func pages(t *testing.T, mode string, files fs.FS, funcs template.FuncMap) (*handlers.Pages, error) {
	t.Helper()
	gin.SetMode(mode)
	defer gin.SetMode(gin.TestMode)
	return handlers.NewPages(files, funcs)
}

// show asks for a page, and returns the answer and what is logged of it.
func show(t *testing.T, p *handlers.Pages, name string, data any) (status int, body, logged string) {
	t.Helper()
	app := gin.New()
	app.HTMLRender = p
	app.Use(func(c *gin.Context) {
		c.Next()
		logged = strings.Join(c.Errors.Errors(), "\n")
	}, handlers.PageErrors)
	app.GET("/", func(c *gin.Context) { c.HTML(http.StatusOK, name, data) })
	app.NoRoute(handlers.NotFound(nil, fstest.MapFS{}))
	path := "/"
	if name == "error.html" {
		path = "/nope"
	}
	request := httptest.NewRequest(http.MethodGet, path, nil)
	request.Header.Set("Accept", "text/html")
	answer := httptest.NewRecorder()
	app.ServeHTTP(answer, request)
	if got := answer.Header().Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("%s has the type %q", name, got)
	}
	return answer.Code, answer.Body.String(), logged
}

const (
	goodError  = "<h1>{{.title}}</h1><p>{{.message}}</p>"
	goodStatus = "{{template \"head.html\" .}}<b>{{.rate}}</b>"
	goodHead   = "<title>{{.title}}</title>"
)

func TestAMistakeInATemplateBreaksThatPageAloneAndIsShownWithItsFileAndLine(t *testing.T) {
	for _, test := range []struct {
		name   string
		broken string // the file
		text   string // that it has
		where  string // that the page shows
	}{
		{"an unknown function", "status.html", "<p>\n{{nope}}", "templates/status.html:2: function &#34;nope&#34; not defined"},
		{"an unknown field", "status.html", "<p>\n\n{{.rate.none}}", "templates/status.html:3:7: executing &#34;status.html&#34;"},
		{"an action that does not end", "status.html", "<p>{{.rate", "templates/status.html:1: unclosed action"},
		{"an if that does not end", "status.html", "<p>{{if .rate}}", "templates/status.html:1: unexpected EOF"},
		{"a quote that does not end", "status.html", `<a href="{{.rate}}>`, "templates/status.html: ends in a non-text context"},
		{"a template that is not there", "status.html", `{{template "foot.html"}}`, "no such template &#34;foot.html&#34;"},
		{"a part of the page", "head.html", "<p>\n{{nope}}", "; templates/head.html:2: function &#34;nope&#34; not defined"},
		{"the page of errors", "error.html", "<p>\n{{.titel", "templates/error.html:2: unclosed action"},
		{"the page of errors runs into it", "error.html", "<p>\n{{.title.none}}", "templates/error.html:2:8: executing"},
	} {
		t.Run(test.name, func(t *testing.T) {
			texts := map[string]string{
				"error.html": goodError, "status.html": goodStatus, "head.html": goodHead, "other.html": "other {{.rate}}",
			}
			texts[test.broken] = test.text
			p, err := pages(t, gin.DebugMode, folder(texts), nil)
			if err != nil {
				t.Fatal(err)
			}
			data := gin.H{"rate": "12.5", "title": "a <title>"}
			status, body, logged := show(t, p, "status.html", data)
			if test.broken == "error.html" {
				if status != http.StatusOK || body != "<title>a &lt;title&gt;</title><b>12.5</b>" || logged != "" {
					t.Errorf("the page beside it is %q with status %d, and the log has %q", body, status, logged)
				}
				status, body, logged = show(t, p, "error.html", nil)
				if status != http.StatusNotFound || !strings.Contains(body, "<h1>Not Found</h1>") || !strings.Contains(body, "There is nothing at this address.") || !strings.Contains(body, `<a href="./">`) {
					t.Errorf("the error is shown as %q with status %d", body, status)
				}
			} else if status != http.StatusInternalServerError || !strings.Contains(body, "<h1>Internal Server Error</h1>") {
				t.Errorf("the page is %q with status %d", body, status)
			}
			if !strings.Contains(body, test.where) || logged == "" || strings.Contains(logged, "\n") {
				t.Errorf("the page is %q, want it to have %q, and the log has %q", body, test.where, logged)
			}
			if status, body, _ := show(t, p, "other.html", data); status != http.StatusOK || body != "other 12.5" {
				t.Errorf("another page is %q with status %d", body, status)
			}
		})
	}
}

func TestTwoBrokenTemplatesAreBothShown(t *testing.T) {
	p, err := pages(t, gin.DebugMode, folder(map[string]string{"error.html": "\n{{.title", "status.html": "\n\n{{nope}}"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	status, body, _ := show(t, p, "status.html", gin.H{})
	if status != http.StatusInternalServerError || !strings.Contains(body, "templates/status.html:3:") || !strings.Contains(body, "templates/error.html:2:") {
		t.Errorf("status %d and %q", status, body)
	}
}

func TestMistakeInATemplateEndsTheStartInReleaseModeWithOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"<p>\n{{nope}}":       `templates/status.html:2: function "nope" not defined`,
		"<p>\n{{.rate":        `templates/status.html:2: unclosed action`,
		`<a href="{{.rate}}>`: `templates/status.html: ends in a non-text context`,
		"{{template \"x\"}}":  `templates/status.html:1:11: no such template "x"`,
	} {
		_, err := pages(t, gin.ReleaseMode, folder(map[string]string{"error.html": goodError, "status.html": text}), nil)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: the error is %v, want one line that begins with %s", text, err, want)
		}
	}
}

func TestPageThatFailsInReleaseModeShowsNothingOfTheInside(t *testing.T) {
	p, err := pages(t, gin.ReleaseMode, folder(map[string]string{"error.html": goodError, "status.html": "half of it {{.rate.none}}"}), nil)
	if err != nil {
		t.Fatal(err)
	}
	status, body, logged := show(t, p, "status.html", gin.H{"rate": "12.5"})
	if want := "<h1>Internal Server Error</h1><p>This page cannot be shown. The server&#39;s log says why.</p>"; status != http.StatusInternalServerError || body != want {
		t.Errorf("status %d and %q, want %q", status, body, want)
	}
	if !strings.HasPrefix(logged, "templates/status.html:1:") {
		t.Errorf("the log has %q", logged)
	}
	if status, body, _ := show(t, p, "none.html", nil); status != http.StatusInternalServerError || body == "" {
		t.Errorf("a page that is not there: status %d and %q", status, body)
	}
}

func TestPagesShareParts(t *testing.T) {
	files := folder(map[string]string{
		"error.html":  goodError,
		"layout.html": `<body>{{template "content" .}}</body>`,
		"parts.html":  `{{define "nav"}}<nav>{{shout .name}}</nav>{{end}}`,
		"one.html":    `{{define "content"}}{{template "nav" .}}one{{end}}{{template "layout.html" .}}`,
		"two.html":    `{{define "content"}}two{{end}}{{template "layout.html" .}}`,
		"cell.html":   `<td class="`, // a part that is no page by itself
		"row.html":    `<table><tr>{{if .name}}{{template "cell.html"}}x"></td>{{end}}</tr></table>`,
	})
	for _, mode := range []string{gin.DebugMode, gin.ReleaseMode} {
		p, err := pages(t, mode, files, template.FuncMap{"shout": strings.ToUpper})
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{
			"one.html": "<body><nav>HOME</nav>one</body>",
			"two.html": "<body>two</body>",
			"row.html": `<table><tr><td class="x"></td></tr></table>`,
		} {
			if status, body, logged := show(t, p, name, gin.H{"name": "home"}); status != http.StatusOK || body != want {
				t.Errorf("%s: %s is %q with status %d and %s, want %q", mode, name, body, status, logged, want)
			}
		}
	}
}

func TestAFileThatCannotBeReadBreaksNoPage(t *testing.T) {
	for _, mode := range []string{gin.DebugMode, gin.ReleaseMode} {
		p, err := pages(t, mode, folder(map[string]string{"error.html": goodError, "one.html": "one", ".#two.html/a": ""}), nil)
		if err != nil {
			t.Fatal(err)
		}
		const reason = "There is nothing at this address."
		for name, want := range map[string]struct{ body, logged string }{"one.html": {"one", ""}, "error.html": {"<h1>Not Found</h1><p>" + reason + "</p>", reason}} {
			if _, body, logged := show(t, p, name, nil); body != want.body || logged != want.logged {
				t.Errorf("%s: %s is %q, and the log has %q, want %q", mode, name, body, logged, want)
			}
		}
	}
}

func TestPagesHaveRelativeAddressesAlone(t *testing.T) {
	t.Parallel()
	s := start(t, handlers.Options{})
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
			s := start(t, handlers.Options{})
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
