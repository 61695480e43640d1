package examples

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

// examples is the folder with a folder for each example.
var examples = filepath.Join("..", "..", "docs", "examples")

// inREADME returns a command as the README of an example has it, and fails the test if that has another one.
func inREADME(t *testing.T, example, command string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(examples, example, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(strings.Split(string(text), "\n"), command) {
		t.Fatalf("the README of %s has no line %q", example, command)
	}
	return command
}

// startExample runs a command of a README in the folder of the project, until the test ends, and waits until it
// writes that it is ready. The first word of the command is a program that may be missing.
func startExample(t *testing.T, command, ready string, env ...string) *testlog.Log {
	t.Helper()
	need.Program(t, command)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := child.Command(ctx, "sh", "-c", "exec "+command)
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = testwait.Limit
	out := new(testlog.Log)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() {
			t.Logf("%s said:\n%s", command, last(out.String(), 3000))
		}
	})
	out.Wait(t, ready)
	return out
}

func last(text string, n int) string { return text[max(0, len(text)-n):] }

func TestExamplesHaveAtMost150LinesWithoutTheirStyle(t *testing.T) {
	t.Parallel()
	folders, err := filepath.Glob(filepath.Join(examples, "*", "README.md"))
	if err != nil || len(folders) == 0 {
		t.Fatalf("there are no examples: %v", err)
	}
	for _, readme := range folders {
		folder, lines := filepath.Dir(readme), 0
		err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || slices.Contains([]string{".md", ".css", ".png", ".txt"}, filepath.Ext(path)) {
				return err
			}
			text, err := os.ReadFile(path)
			lines += bytes.Count(text, []byte("\n"))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if lines == 0 || lines > 150 {
			t.Errorf("%s has %d lines", filepath.Base(folder), lines)
		}
	}
}
