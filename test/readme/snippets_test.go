package readme

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gin-sse/internal/testsse"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// under returns the blocks of a document in a language, of the part that begins with a text and ends with another one.
func under(t *testing.T, document, language, begin, end string) (found []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(app.Root(), document))
	if err != nil {
		t.Fatal(err)
	}
	_, part, _ := strings.Cut(string(text), begin)
	part, _, ok := strings.Cut(part, end)
	if !ok {
		t.Fatalf("%s has nothing between %q and %q", document, begin, end)
	}
	return code(t, part, language)
}

func TestTheStepsToAProgramOfOnesOwnWork(t *testing.T) {
	t.Parallel()
	p := copyProject(t)
	above := t.TempDir()
	shop := filepath.Join(above, "shop")
	if err := os.Mkdir(shop, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(p.dir, filepath.Join(above, "gin-sse")); err != nil {
		t.Fatal(err)
	}
	snippets := under(t, "README.md", "go", "\n## In your own Gin program\n", "\n## ")
	program := `package main

import (
	"context"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"

	"gin-sse/handlers"
)

func main() {
	app := gin.New()
	server := &http.Server{Handler: app}
	ctx := context.Background()
` + strings.Join(snippets, "\n") + `
	log.Println(id, err)
}
`
	if err := os.WriteFile(filepath.Join(shop, "main.go"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	var steps string
	for _, b := range blocks(t, "README.md") {
		if strings.HasPrefix(b.text, "go mod ") {
			steps = b.text
		}
	}
	if steps == "" {
		t.Fatal("README does not say how to make the module known")
	}
	cmd := child.Command(t.Context(), "sh", "-e", "-c", "go mod init shop\n"+steps+"go run .")
	cmd.Dir = shop
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "-1 <nil>") {
		t.Errorf("%v: the id of a message, and no error, are not in\n%s\nof\n%s", err, out, program)
	}
}

func TestTheGoOfTheHTTPDocumentPublishes(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "PUBLISH_TOKEN=secret", "TICK_INTERVAL=0")
	f := testsse.Read(t, a.Get("/sse").Body)
	snippet := strings.Join(under(t, "docs/http.md", "go", "\nIn Go:\n", "\nIn JavaScript, "), "\n")
	program := "package main\n\nimport (\n\t\"fmt\"\n\t\"log\"\n\t\"net/http\"\n\t\"strings\"\n)\n\nfunc main() {\n" + strings.ReplaceAll(snippet, "localhost:3000", "localhost:"+a.Port) + "}\n"
	file := filepath.Join(t.TempDir(), "main.go")
	if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := child.Command(t.Context(), "go", "run", file).CombinedOutput()
	if err != nil || string(out) != "202 Accepted\n" {
		t.Errorf("%v, and it prints %q", err, out)
	}
	f.Wants(`{"message":"hello"}`)
}

func TestTheJavaScriptOfTheHTTPDocumentPublishes(t *testing.T) {
	t.Parallel()
	need.Program(t, "node")
	a := app.Start(t, "PUBLISH_TOKEN=secret", "TICK_INTERVAL=0")
	f := testsse.Read(t, a.Get("/sse").Body)
	file := filepath.Join(t.TempDir(), "publish.mjs")
	text := strings.Join(under(t, "docs/http.md", "js", "\nIn JavaScript, ", "\nIn Go code "), "\n")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "localhost:3000", "localhost:"+a.Port)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := child.Command(t.Context(), "node", file).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	f.Wants(`{"message":"hello"}`)
}
