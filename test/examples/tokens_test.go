package examples

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gin-sse/internal/secret"
	"gin-sse/internal/testwait"
	"gin-sse/internal/token"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
	"gin-sse/test/internal/npm"
)

// tokenKey is the SUBSCRIBE_KEY of the examples.
var tokenKey = []byte("a key of 32 bytes, for tests only")

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

			verifier := token.New(secret.Of(string(tokenKey)), []string{"*"})
			request := httptest.NewRequest(http.MethodGet, "/sse", nil)
			request.Header.Set("Authorization", "Bearer "+strings.TrimSpace(out))
			grant, err := verifier.Check(request, []string{"private/orders/alice"})
			if err != nil {
				t.Fatalf("it printed %q: %v", out, err)
			}
			if lasts := time.Until(grant.Until); lasts > time.Hour || lasts < 55*time.Minute {
				t.Errorf("the token is valid for %v, want an hour", lasts)
			}
			if _, err := verifier.Check(request, []string{"private/orders/bob"}); err == nil {
				t.Error("the token opens more than the example says")
			}
		})
	}
}

// python runs a file with the first Python that has PyJWT; Debian's may not be the first in PATH.
func python(t *testing.T, _ string) []string {
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if child.Command(t.Context(), program, "-c", "import jwt").Run() == nil {
			return []string{program}
		}
	}
	need.Missing(t, "Python with PyJWT", "apt-get install python3-jwt")
	return nil
}

// node runs a file that finds the package of testdata beside it.
func node(t *testing.T, dir string) []string {
	npm.InstallIn(t, dir, os.DirFS("testdata/jsonwebtoken"))
	return []string{"node"}
}

func php(t *testing.T, _ string) []string {
	if _, err := exec.LookPath("php"); err != nil {
		need.Missing(t, "PHP", "apt-get install php-cli")
	}
	return []string{"php"}
}

// output returns what a command prints when SUBSCRIBE_KEY is set.
func output(t *testing.T, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	program := child.Command(ctx, command[0], command[1:]...)
	program.Env = append(os.Environ(), "SUBSCRIBE_KEY="+string(tokenKey))
	var errors strings.Builder
	program.Stderr = &errors
	out, err := program.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, errors.String())
	}
	return string(out)
}
