package readme

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
)

// guide is what docs/reading.md names, in its order.
type guide struct {
	files    []string       // paths in the project
	tutorial int            // how many of them are the tutorial, which is read from the outside to the inside
	last     map[string]int // by folder: the line of the guide that names its last file so far
}

// variant is the end of a name that is for some systems. One file stands for all variants of it.
var variant = regexp.MustCompile(`_(linux|darwin|unix|other)\.go$`)

// readGuide returns the files that the guide names before it comes to examples and tests. A name without a folder belongs
// to the folder that was named last.
func readGuide(t *testing.T) guide {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(app.Root(), "docs", "reading.md"))
	if err != nil {
		t.Fatal(err)
	}
	code, _, found := strings.Cut(string(text), "\n## Examples\n")
	if !found {
		t.Fatal("docs/reading.md has no section Examples after the code")
	}
	g, folder := guide{last: map[string]int{}}, "."
	for number, line := range strings.Split(code, "\n") {
		if strings.HasPrefix(line, "## ") && g.tutorial == 0 {
			g.tutorial = len(g.files) // of the sections before: none, at the first one
		}
		for _, name := range regexp.MustCompile("`([^` ]+)`").FindAllStringSubmatch(line, -1) {
			info, err := os.Stat(filepath.Join(app.Root(), name[1]))
			switch {
			case err == nil && info.IsDir():
				folder = name[1]
			case err == nil:
				g.add(name[1], number+1)
			case strings.Contains(name[1], "/"):
			default:
				file := path.Join(folder, name[1])
				if _, err := os.Stat(filepath.Join(app.Root(), file)); err == nil {
					g.add(file, number+1)
				} else if regexp.MustCompile(`\.(go|js|css|html|svg)$`).MatchString(name[1]) && name[1] != "server.js" { // the tutorial's
					t.Errorf("docs/reading.md, line %d: there is no %s; take its words out", number+1, file)
				}
			}
		}
	}
	return g
}

func (g *guide) add(file string, line int) {
	g.files = append(g.files, file)
	g.last[path.Dir(file)] = line
}

// productFiles returns the paths of all files that are the product's own code.
func productFiles(t *testing.T) (files []string) {
	t.Helper()
	for _, top := range []string{"main.go", "handlers", "internal", "public", "templates"} {
		err := filepath.WalkDir(filepath.Join(app.Root(), top), func(name string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err = filepath.Rel(app.Root(), name)
			if name = filepath.ToSlash(name); err != nil || entry.IsDir() && !strings.HasPrefix(name, "internal/test") && entry.Name() != "testdata" {
				return err
			}
			if entry.IsDir() {
				return fs.SkipDir
			}
			if !strings.HasSuffix(name, "_test.go") {
				files = append(files, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

func TestTheGuideToTheCodeNamesEveryFileOnce(t *testing.T) {
	t.Parallel()
	g := readGuide(t)
	times := map[string]int{}
	for _, file := range g.files {
		times[variant.ReplaceAllString(file, ".go")]++
	}
	for _, file := range productFiles(t) {
		switch times[variant.ReplaceAllString(file, ".go")] {
		case 0:
			where := "where all that it imports has come before"
			if line := g.last[path.Dir(file)]; line > 0 {
				where = fmt.Sprintf("after line %d, for instance", line)
			}
			t.Errorf("docs/reading.md does not name %s; add a line %s, and finish it:\n    - `%s`: ", file, where, path.Base(file))
			times[variant.ReplaceAllString(file, ".go")] = 1 // one line is enough for all variants
		case 1:
		default:
			t.Errorf("docs/reading.md names %s several times: name it where it is explained", file)
		}
	}
}

func TestInTheGuideToTheCodeEachFileNeedsOnlyWhatCameBeforeIt(t *testing.T) {
	t.Parallel()
	g := readGuide(t)
	if g.tutorial == 0 || g.tutorial > 6 {
		t.Fatalf("the tutorial of docs/reading.md has %d files", g.tutorial)
	}
	checked := 0
	for i, file := range g.files[g.tutorial:] {
		before := g.files[:g.tutorial+i]
		for _, needed := range imports(t, file) {
			checked++
			if !slices.ContainsFunc(before, func(file string) bool { return file == needed || path.Dir(file) == needed }) {
				t.Errorf("docs/reading.md explains %s before %s, which it imports: move the item of %s up, or that of %s down", file, needed, needed, file)
			}
		}
	}
	if checked < 50 {
		t.Errorf("only %d imports were found", checked)
	}
}

// imports returns the packages of the product that a file of Go imports, or the files that a module of JavaScript does.
func imports(t *testing.T, file string) (needed []string) {
	t.Helper()
	name := filepath.Join(app.Root(), file)
	switch path.Ext(file) {
	case ".go":
		parsed, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, ok := strings.CutPrefix(imported, "gin-sse/"); ok {
				needed = append(needed, ours)
			}
		}
	case ".js":
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, from := range regexp.MustCompile(`(?m)^import .* from '(\..*)';`).FindAllSubmatch(text, -1) {
			needed = append(needed, path.Join(path.Dir(file), string(from[1])))
		}
	}
	return needed
}
