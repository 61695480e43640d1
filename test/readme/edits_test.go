package readme

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/child"
)

// section returns what README says after such a bold heading, up to the next one.
func section(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(app.Root(), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n**"+heading)
	if !found {
		t.Fatalf("README has no edit %q", heading)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	rest, _, _ = strings.Cut(rest, "\n**")
	return rest
}

// code returns the blocks of a section that are in a language.
func code(t *testing.T, text, language string) (blocks []string) {
	t.Helper()
	for _, block := range regexp.MustCompile("(?s)\n```"+language+"\n(.*?)```\n").FindAllStringSubmatch(text, -1) {
		blocks = append(blocks, block[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("there is no %s in %q", language, text)
	}
	return blocks
}

// project is a copy of the product.
type project struct {
	t   *testing.T
	dir string
}

func copyProject(t *testing.T) project {
	t.Helper()
	dir := t.TempDir()
	err := filepath.WalkDir(app.Root(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(app.Root(), path)
		if err != nil {
			return err
		}
		switch {
		case name == ".git" || name == "test":
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(dir, name), 0o755)
		case !entry.Type().IsRegular():
			return nil
		}
		content, err := os.ReadFile(path)
		return errors.Join(err, os.WriteFile(filepath.Join(dir, name), content, 0o644))
	})
	if err != nil {
		t.Fatal(err)
	}
	return project{t, dir}
}

// write makes a file.
func (p project) write(name, text string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644); err != nil {
		p.t.Fatal(err)
	}
}

// edit replaces what the expression finds, once, in a file.
func (p project) edit(name, find, replacement string) {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.dir, name))
	if err != nil {
		p.t.Fatal(err)
	}
	found := regexp.MustCompile("(?m)"+find).FindAllIndex(text, -1)
	if len(found) != 1 {
		p.t.Fatalf("%s has %q %d times, want once", name, find, len(found))
	}
	p.write(name, string(text[:found[0][0]])+replacement+string(text[found[0][1]:]))
}

// route puts a route into the table.
func (p project) route(text string) {
	p.t.Helper()
	const before = `^\tapp\.POST\("/sse"`
	p.edit("main.go", before, text+"\tapp.POST(\"/sse\"")
}

// start runs it.
func (p project) start() *app.Server {
	p.t.Helper()
	cmd := app.Command(p.t)
	cmd.Path = filepath.Join(p.t.TempDir(), "gin-sse")
	build := child.Command(p.t.Context(), "go", "build", "-o", cmd.Path, ".")
	build.Dir = p.dir
	if out, err := build.CombinedOutput(); err != nil {
		p.t.Fatalf("%v: %s", err, out)
	}
	return app.StartCommand(p.t, cmd)
}

// event is a line of the output of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
}

// test runs README's test command. It must pass, or one test must fail soon and say which expectation to change.
func (p project) test() {
	p.t.Helper()
	cmd := child.Command(p.t.Context(), "go", "test", "-json", "-timeout", "15m", "./...")
	cmd.Dir = p.dir
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); err == nil || !errors.As(err, &exit) {
		if err != nil {
			p.t.Fatal(err)
		}
		return
	}
	failed, outputs := map[string]float64{}, map[string]string{}
	for decoder := json.NewDecoder(bytes.NewReader(out)); decoder.More(); {
		var e event
		if err := decoder.Decode(&e); err != nil {
			p.t.Fatal(err)
		}
		name, _, _ := strings.Cut(e.Package+" "+e.Test, "/Test")
		name, _, _ = strings.Cut(name, "/HTTP")
		switch {
		case e.Test == "":
		case e.Action == "output":
			outputs[name] += e.Output
		case e.Action == "fail":
			failed[name] = max(failed[name], e.Elapsed)
		}
	}
	if len(failed) != 1 {
		p.t.Fatalf("the tests that fail are %v, want one at most\n%s%s", failed, out, said.String())
	}
	for name, seconds := range failed {
		says := outputs[name]
		p.t.Logf("%s fails in %.2f s and says:\n%s", name, seconds, says)
		file := regexp.MustCompile(`change it here, in (\S+_test\.go)`).FindStringSubmatch(says)
		if file == nil {
			p.t.Errorf("%s fails and does not say what to change: %s", name, says)
		}
		if seconds >= testwait.Limit.Seconds() {
			p.t.Errorf("%s waits for %.1f s before it fails", name, seconds)
		}
	}
}

// change is an edit of README, and what shows that it works.
type change struct {
	edit func(t *testing.T, p project)
	look func(t *testing.T, a *app.Server)
}

var text = change{
	func(t *testing.T, p project) {
		p.edit("handlers/sse.go", `^\t\tmessage := .*\n`, code(t, section(t, "The text."), "go")[0])
	},
	func(t *testing.T, a *app.Server) {
		testsse.ReadUntil(t, a.Get("/sse").Body, `data:{"message":"It is `)
	},
}

var field = change{
	func(t *testing.T, p project) {
		text := section(t, "Another field.")
		p.edit("handlers/sse.go", `^\t\t_ = events\.Tick\(.*\n`, code(t, text, "go")[0])
		const before = `  lines.add(data, event);` + "\n"
		p.edit("public/app.js", "^"+regexp.QuoteMeta(before), code(t, text, "js")[0]+before)
	},
	func(t *testing.T, a *app.Server) {
		testsse.ReadUntil(t, a.Get("/sse").Body, `data:{"clients":1,"message":"`)
	},
}

var ownStream = change{
	func(t *testing.T, p project) {
		blocks := code(t, section(t, "A stream of your own."), "go")
		if len(blocks) != 2 {
			t.Fatalf("README has %d blocks, want a file and a route", len(blocks))
		}
		p.write("handlers/dice.go", blocks[0])
		p.route(blocks[1])
	},
	func(t *testing.T, a *app.Server) {
		testsse.ReadUntil(t, a.Get("/dice").Body, `data:{"message":`)
	},
}

var ownPage = change{
	func(t *testing.T, p project) {
		if text := section(t, "The page."); !strings.Contains(text, "put a page of your own there") {
			t.Fatalf("README says %q", text)
		}
		p.write("public/index.html", "<!DOCTYPE html><title>Mine</title><ul id=sse-data></ul><script>new EventSource('/sse').onmessage = console.log</script>")
	},
	func(t *testing.T, a *app.Server) {
		if got := testsse.ReadAll(t, a.Get("/").Body); !strings.Contains(got, "<title>Mine</title>") {
			t.Errorf("the page is %q", got)
		}
	},
}

var template = change{
	func(t *testing.T, p project) {
		text := section(t, "A template page.")
		p.write("templates/hello.html", code(t, text, "html")[0])
		p.route(code(t, text, "go")[0])
	},
	func(t *testing.T, a *app.Server) {
		if got := testsse.ReadAll(t, a.Get("/hello?name=Ada").Body); !strings.Contains(got, "Hello, Ada!") {
			t.Errorf("the page is %q", got)
		}
	},
}

// The edits come one after the other, and the test command once, after all of them: it takes a while.
func TestEveryEditWorksAndTogetherTheyBreakNoTestOrOneThatSaysWhatToChange(t *testing.T) {
	t.Parallel()
	p := copyProject(t)
	for _, change := range []change{text, field, ownStream, ownPage, template} {
		change.edit(t, p)
		a := p.start()
		change.look(t, a)
		a.Stop(syscall.SIGTERM)
	}
	p.test()
}

func TestThePaceIsASetting(t *testing.T) {
	t.Parallel()
	setting, found := strings.CutSuffix(strings.Trim(section(t, "The pace."), "* \n"), " go run main.go`.")
	_, setting, named := strings.Cut(setting, "`")
	if !found || !named {
		t.Fatalf("README says %q", section(t, "The pace."))
	}
	testsse.ReadUntil(t, app.Start(t, setting).Get("/sse").Body, "Server Time: ")
}
