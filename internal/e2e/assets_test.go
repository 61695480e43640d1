package e2e

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

func body(t *testing.T, response *http.Response) string {
	t.Helper()
	all, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestEmbeddedFilesAreServedFromAnyFolder(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"debug", "release"} {
		a := start(t, "GIN_MODE="+mode)
		for _, name := range []string{"index.html", "app.js", "style.css", "favicon.svg"} {
			want, err := os.ReadFile(filepath.Join("..", "..", "public", name))
			if err != nil {
				t.Fatal(err)
			}
			if got := body(t, a.get("/"+name)); !bytes.Equal([]byte(got), want) {
				t.Errorf("%s: /%s is not public/%s", mode, name, name)
			}
		}
		if page := a.get("/nope"); page.StatusCode != http.StatusNotFound || !bytes.Contains([]byte(body(t, page)), []byte("<h1>Not Found</h1>")) {
			t.Errorf("%s: status %d, or not the page of templates/", mode, page.StatusCode)
		}
	}
}

func TestEditShowsOnTheNextRefreshInDebugModeOnly(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode string
		disk bool
	}{{"debug", true}, {"release", false}} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "public", "index.html"), "first")
		write(t, filepath.Join(dir, "templates", "error.html"), "<b>{{.status}}</b>")
		write(t, filepath.Join(dir, "secret.txt"), "secret")
		a := startIn(t, dir, "GIN_MODE="+test.mode)
		if got := body(t, a.get("/")) == "first"; got != test.disk {
			t.Errorf("%s: served from disk is %v", test.mode, got)
		}
		if got := body(t, a.get("/nope")) == "<b>404</b>"; got != test.disk {
			t.Errorf("%s: template from disk is %v", test.mode, got)
		}
		write(t, filepath.Join(dir, "public", "index.html"), "second")
		if got := body(t, a.get("/")) == "second"; got != test.disk {
			t.Errorf("%s: edit shown is %v", test.mode, got)
		}
		for _, path := range []string{"/%2e%2e/secret.txt", "/..%2fsecret.txt", "/public/index.html", "/%00", "/index.html%00", "/main.go"} {
			if response := a.get(path); response.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s is answered with %d", test.mode, path, response.StatusCode)
			}
		}
	}
}
