package readme

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
)

var (
	fenced  = regexp.MustCompile("(?s)\n```.*?\n```\n")
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

func TestEveryLinkOfTheDocumentsLeadsToAFileAndAHeading(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, document := range append(documents(t), "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md") {
		text := fenced.ReplaceAllString(read(t, document), "\n")
		for _, found := range link.FindAllStringSubmatch(text, -1) {
			to, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(to, ":") { // elsewhere
				continue
			}
			checked++
			target := document
			if to != "" {
				target = path.Join(path.Dir(document), to)
			}
			if _, err := os.Stat(filepath.Join(app.Root(), target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", document, target)
			} else if anchor != "" && strings.HasSuffix(target, ".md") && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s links to %s#%s, and no heading has that name", document, target, anchor)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d links were found", checked)
	}
}

func read(t *testing.T, document string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(app.Root(), document))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// anchors returns what the hosts of repositories make of headings.
func anchors(text string) (names []string) {
	for _, found := range heading.FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(found[1], "$1")
		name = regexp.MustCompile(`[^\pL\pN_\- ]`).ReplaceAllString(strings.ToLower(name), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}
