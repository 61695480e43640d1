package readme

import (
	"go/build"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gin-sse/test/internal/app"
)

// Some of these commands take an hour. What can be wrong with them in time are names: of packages, tests and flags.
func TestTheCommandsThatRepeatFiguresNameTestsThatExist(t *testing.T) {
	t.Parallel()
	checked := 0
	for _, document := range documents(t) {
		text, err := os.ReadFile(filepath.Join(app.Root(), document))
		if err != nil {
			t.Fatal(err)
		}
		folder := "."
		for n, line := range strings.Split(string(text), "\n") {
			line = strings.TrimSpace(strings.TrimPrefix(line, "    "))
			switch {
			case line == "" || strings.HasPrefix(line, "#"):
				folder = "."
			case line == "cd test":
				folder = "test"
			}
			command, inTest := strings.CutPrefix(line, "cd test && ")
			words := strings.Fields(command)
			if len(words) < 3 || words[0] != "go" || words[1] != "test" && words[1] != "run" || strings.Contains(line, "main.go") {
				continue
			}
			checked++
			in := folder
			if inTest {
				in = "test"
			}
			for _, problem := range wrongNames(in, words[1:]) {
				t.Errorf("%s, line %d: %s: %s", document, n+1, problem, line)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d commands were found", checked)
	}
}

func TestREADMEHasTheFiguresOfTheDocumentOfFigures(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(app.Root(), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	figures := read("docs/figures.md")
	_, costs, _ := strings.Cut(read("README.md"), "\n## What it costs\n")
	costs, _, _ = strings.Cut(costs, "\n## ")
	rows := 0
	for line := range strings.Lines(costs) {
		if strings.HasPrefix(line, "| ") {
			if rows++; !strings.Contains(figures, "\n"+line) {
				t.Errorf("docs/figures.md has no row %s", line)
			}
		}
	}
	if rows < 4 {
		t.Errorf("README has %d rows of figures", rows)
	}
}

// wrongNames returns what the arguments of the go command name that does not exist, in a folder of the project.
func wrongNames(folder string, args []string) (problems []string) {
	var source strings.Builder // of the packages
	var names []string         // of flags that are not Go's own
	var patterns []string
	for i, arg := range args {
		name := strings.TrimLeft(arg, "-")
		switch value := func() string { return strings.Trim(args[min(i+1, len(args)-1)], "'") }; {
		case strings.HasPrefix(arg, "./") && !strings.Contains(arg, "..."):
			dir := filepath.Join(app.Root(), folder, arg)
			pkg, err := build.ImportDir(dir, 0)
			if err != nil && !strings.Contains(err.Error(), "no buildable Go") {
				problems = append(problems, err.Error())
			}
			files, _ := filepath.Glob(filepath.Join(dir, "*.go"))                   // the pattern is right
			for _, used := range slices.Concat(pkg.TestImports, pkg.XTestImports) { // some flags are those of a package that helps tests
				if used, ours := strings.CutPrefix(used, "gin-sse/internal/test"); ours {
					more, _ := filepath.Glob(filepath.Join(app.Root(), "internal", "test"+used, "*.go")) // the pattern is right
					files = append(files, more...)
				}
			}
			for _, file := range files {
				text, err := os.ReadFile(file)
				if err != nil {
					problems = append(problems, err.Error())
				}
				source.Write(text)
			}
		case !strings.HasPrefix(arg, "-"):
		case name == "run" || name == "bench":
			if v := value(); v != "none" && v != "^$" && v != "." {
				patterns = append(patterns, v)
			}
		case !slices.Contains([]string{"benchtime", "timeout", "v", "count", "race", "short", "cpu", "benchmem"}, name):
			names = append(names, name)
		}
	}
	for _, alternatives := range patterns {
		for pattern := range strings.SplitSeq(alternatives, "|") {
			pattern, _, _ = strings.Cut(pattern, "/") // what comes after are cases of the test
			if found, err := regexp.MatchString(`func (Test|Benchmark)\w*`+pattern, source.String()); err != nil || !found {
				problems = append(problems, "no test is called "+pattern)
			}
		}
	}
	for _, name := range names {
		if !strings.Contains(source.String(), `"`+name+`"`) {
			problems = append(problems, "there is no flag -"+name)
		}
	}
	return problems
}
