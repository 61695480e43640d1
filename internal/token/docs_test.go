package token

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// patience is how long a program may take that must not hang.
const patience = 3 * time.Minute

func TestTheExamplesOfTheDocumentationIssueTokensThatAreAccepted(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/private-topics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		heading, file string
		command       func(t *testing.T, dir string) []string // what runs the file
	}{
		{"Python", "example.py", python},
		{"Node.js", "example.mjs", node},
		{"Go", "example.go", func(*testing.T, string) []string { return []string{"go", "run"} }},
		{"PHP", "example.php", php},
	} {
		t.Run(test.heading, func(t *testing.T) {
			t.Parallel()
			block := regexp.MustCompile("(?s)\n### " + regexp.QuoteMeta(test.heading) + "\n.*?\n```[a-z]+\n(.*?\n)```\n").FindSubmatch(text)
			if block == nil {
				t.Fatalf("the documentation has no example under %s", test.heading)
			}
			dir := t.TempDir()
			file := filepath.Join(dir, test.file)
			if err := os.WriteFile(file, block[1], 0o600); err != nil {
				t.Fatal(err)
			}
			out := output(t, append(test.command(t, dir), file)...)

			until, err := verifier(t, key).Check(bearer(strings.TrimSpace(out)), []string{"private/orders/alice"})
			if err != nil {
				t.Fatalf("it printed %q: %v", out, err)
			}
			if lasts := time.Until(until); lasts > time.Hour || lasts < 55*time.Minute {
				t.Errorf("the token is valid for %v, want an hour", lasts)
			}
			if _, err := verifier(t, key).Check(bearer(strings.TrimSpace(out)), []string{"private/orders/bob"}); err == nil {
				t.Error("the token opens more than the example says")
			}
		})
	}
}

// python runs a file with the first Python that has PyJWT; Debian's may not be the first in PATH.
func python(t *testing.T, _ string) []string {
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), program, "-c", "import jwt").Run() == nil {
			return []string{program}
		}
	}
	missing(t, "Python with PyJWT", "apt-get install python3-jwt")
	return nil
}

// node runs a file that finds the packages of testdata beside it.
func node(t *testing.T, dir string) []string {
	if _, err := exec.LookPath("npm"); err != nil {
		missing(t, "Node.js and npm", "apt-get install npm")
	}
	if err := os.CopyFS(dir, os.DirFS("testdata/npm")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		missing(t, "jsonwebtoken", fmt.Sprintf("connect to npm's registry, which npm ci could not reach: %v\n%s", err, out))
	}
	return []string{"node"}
}

func php(t *testing.T, _ string) []string {
	if _, err := exec.LookPath("php"); err != nil {
		missing(t, "PHP", "apt-get install php-cli")
	}
	return []string{"php"}
}

// missing skips the test for want of a program, but not where CI=true.
func missing(t *testing.T, what, get string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("this test needs %s: %s", what, get)
	}
	t.Skipf("this test needs %s: %s", what, get)
}

// output returns what a command prints when SUBSCRIBE_KEY is set.
func output(t *testing.T, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	program := exec.CommandContext(ctx, command[0], command[1:]...)
	program.Env = append(os.Environ(), "SUBSCRIBE_KEY="+string(key))
	var errors strings.Builder
	program.Stderr = &errors
	out, err := program.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, errors.String())
	}
	return string(out)
}
