// Package npm has what tests take from npm: axe-core, and the client eventsource.
package npm

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
	"gin-sse/test/internal/need"
)

//go:embed package.json package-lock.json eventsource.mjs
var files embed.FS

// Install returns a folder with the packages of package.json, and eventsource.mjs.
func Install(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	InstallIn(t, dir, files)
	return dir
}

// InstallIn copies a package.json, and what is beside it, into a folder and installs its packages there.
func InstallIn(t *testing.T, dir string, files fs.FS) {
	t.Helper()
	need.Program(t, "npm")
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testwait.Limit)
	defer cancel()
	install := child.Command(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=5")
	install.Dir = dir
	if out, err := install.CombinedOutput(); err != nil {
		need.Missing(t, "packages from npm", fmt.Sprintf("connect to npm's registry, which npm ci could not reach: %v\n%s", err, out))
	}
}

// EventSource runs the client eventsource on the stream. It prints a line for each message.
func EventSource(t *testing.T, url string) *testlog.Log {
	t.Helper()
	folder := Install(t)
	out := new(testlog.Log)
	cmd := child.Command(t.Context(), "node", "eventsource.mjs", url)
	cmd.Dir = folder
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = testwait.Limit
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(done)
	}()
	t.Cleanup(func() { <-done })
	return out
}

// Printed returns the lines of the output that begin with the prefix.
func Printed(out *testlog.Log, prefix string) []string {
	var found []string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, prefix) {
			found = append(found, strings.TrimSuffix(line, "\n"))
		}
	}
	return found
}
