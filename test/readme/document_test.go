package readme

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
)

// block is a piece of code in a document: between two fences, or indented.
type block struct {
	document string
	line     int
	language string // empty for an indented one
	text     string
}

// blocks returns the pieces of code of a document.
func blocks(t *testing.T, document string) (found []block) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(app.Root(), document))
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("^```([a-z]*)$")
	lines := strings.Split(string(text), "\n")
	for i := 0; i < len(lines); i++ {
		b := block{document: document, line: i + 1}
		switch opens := fence.FindStringSubmatch(lines[i]); {
		case opens != nil:
			b.language = opens[1]
			for i++; i < len(lines) && lines[i] != "```"; i++ {
				b.text += lines[i] + "\n"
			}
		case strings.HasPrefix(lines[i], "    ") && (i == 0 || lines[i-1] == ""):
			for ; i < len(lines) && (lines[i] == "" || strings.HasPrefix(lines[i], "    ")); i++ {
				b.text += strings.TrimPrefix(lines[i], "    ") + "\n"
			}
			b.text = strings.TrimRight(b.text, "\n") + "\n"
		default:
			continue
		}
		found = append(found, b)
	}
	return found
}

// documents returns the paths of all documents of the product.
func documents(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/examples/*.md", "docs/examples/*/*.md"} {
		found, err := filepath.Glob(filepath.Join(app.Root(), filepath.FromSlash(pattern)))
		if err != nil || len(found) == 0 {
			t.Fatalf("there is no %s: %v", pattern, err)
		}
		for _, name := range found {
			name, err := filepath.Rel(app.Root(), name)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, filepath.ToSlash(name))
		}
	}
	return all
}
