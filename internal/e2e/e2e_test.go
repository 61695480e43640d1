// Package e2e tests the program as its users run it: a process, its port, its signals, real clients.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gin-gonic/gin"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
)

// patience bounds each wait for something that takes milliseconds on an idle machine.
const patience = 20 * time.Second

var binary string

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "gin-sse-e2e")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	// "go test" may reuse a result while the files that the test opened are the same. What the binary
	// is made of is opened by the compiler, so it is opened here as well.
	root := filepath.Join("..", "..")
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && entry.Name() == ".git" {
			return fs.SkipDir
		}
		if entry.Type().IsRegular() {
			_, err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		return 0, err
	}

	binary = filepath.Join(dir, "gin-sse")
	build := exec.Command("go", "build", "-o", binary)
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "-race" && setting.Value == "true" {
				build.Args = append(build.Args, "-race")
			}
		}
	}
	build.Args = append(build.Args, ".")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s: %w\n%s", build, err, out)
	}
	// Many tests wait, some for a minute: more of them at once than there may be processors.
	flag.Parse()
	if err := flag.Set("test.parallel", "4"); err != nil {
		return 0, err
	}
	gin.SetMode(gin.ReleaseMode) // where a test runs a handler of its own
	defer endBrowsers()
	return m.Run(), nil
}

// command prepares the program with nothing in its environment but env. It is killed if it runs for
// longer than any test, or benchmark, should.
func command(t testing.TB, env ...string) *exec.Cmd {
	limit := 8 * time.Minute
	if _, ok := t.(*testing.B); ok {
		limit = time.Hour // -benchtime may ask for much
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary)
	cmd.Env = env
	cmd.WaitDelay = patience
	cmd.Dir = t.TempDir()
	return cmd
}

// app is a running server. It is stopped when the test ends, if it has not been before.
type app struct {
	t       testing.TB
	cmd     *exec.Cmd
	port    string
	url     string
	out     *testlog.Log
	exited  chan struct{}
	status  error // of the process; after exited is closed
	stopped bool
}

// start runs the program and waits until it serves. Unless env has a PORT, a free one is taken.
func start(t testing.TB, env ...string) *app {
	t.Helper()
	return startIn(t, t.TempDir(), env...)
}

// startIn is start in a given folder.
func startIn(t testing.TB, dir string, env ...string) *app {
	t.Helper()
	cmd := command(t, env...)
	cmd.Dir = dir
	return startCommand(t, cmd)
}

// startLimited is start with so many file descriptors at most.
func startLimited(t testing.TB, descriptors int, env ...string) *app {
	t.Helper()
	cmd := command(t, env...)
	cmd.Args = []string{"sh", "-c", `ulimit -n "$0" && exec "$1"`, fmt.Sprint(descriptors), cmd.Path}
	cmd.Path = "/bin/sh"
	return startCommand(t, cmd)
}

func startCommand(t testing.TB, cmd *exec.Cmd) *app {
	t.Helper()
	a := &app{t: t, cmd: cmd, out: new(testlog.Log), exited: make(chan struct{})}
	a.cmd.Env = append([]string{fmt.Sprint("PORT=", testport.Free(t)), "GIN_MODE=release"}, a.cmd.Env...)
	a.cmd.Stdout, a.cmd.Stderr = a.out, a.out
	if err := a.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		a.status = a.cmd.Wait()
		close(a.exited)
	}()
	t.Cleanup(func() {
		if !a.stopped {
			a.stop(syscall.SIGTERM)
		}
		if strings.Contains(a.out.String(), "DATA RACE") {
			t.Errorf("the race detector found something in the server:\n%s", a.out.String())
		}
	})
	line := a.out.Wait(t, "Server running on ")
	_, a.url, _ = strings.Cut(line, "Server running on ")
	a.port = a.url[strings.LastIndex(a.url, ":")+1:]
	return a
}

// stop sends the signal and returns the exit status.
func (a *app) stop(signal os.Signal) int {
	a.t.Helper()
	a.stopped = true
	if err := a.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.t.Errorf("signal the server: %v", err)
	}
	select {
	case <-a.exited:
	case <-time.After(patience):
		_ = a.cmd.Process.Kill()
		a.t.Errorf("the server did not stop at %v; it said:\n%s", signal, a.out.String())
		<-a.exited
	}
	return a.cmd.ProcessState.ExitCode()
}

// stopPolitely is stop for a server whose clients all take what it has to send.
func (a *app) stopPolitely(signal os.Signal) {
	a.t.Helper()
	if code := a.stop(signal); code != 0 || strings.Contains(a.out.String(), "cut off") {
		a.t.Errorf("exit status %d; the server said:\n%s", code, a.out.String())
	}
}

// get asks the server and returns the answer, whose body is closed when the test ends.
func (a *app) get(path string) *http.Response {
	a.t.Helper()
	ctx, cancel := context.WithCancel(a.t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	response, err := client(a.t).Do(request)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { cancel(); response.Body.Close() })
	return response
}

// token is the PUBLISH_TOKEN of tests that publish.
const token = "s3cret"

// publish sends JSON to every client of a server that was started with the token, and returns the id.
func (a *app) publish(body string) string {
	a.t.Helper()
	id, err := a.tryPublish(body)
	if err != nil {
		a.t.Fatal(err)
	}
	return id
}

func (a *app) tryPublish(body string) (string, error) {
	request, err := http.NewRequest(http.MethodPost, a.url+"/sse", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	var answer struct{ ID, Error string }
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("publish: status %d: %s", response.StatusCode, answer.Error)
	}
	return answer.ID, nil
}

// client has connections of its own, and none of them are left when the test ends.
func client(t testing.TB) *http.Client {
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// readUntil reads until it has seen the text, and returns all that it read.
func readUntil(t testing.TB, r io.Reader, text string) string {
	t.Helper()
	var all []byte
	for buffer := make([]byte, 4096); ; {
		n, err := r.Read(buffer)
		all = append(all, buffer[:n]...)
		if bytes.Contains(all, []byte(text)) {
			return string(all)
		}
		if err != nil {
			t.Fatalf("%v before %q; there is %q", err, text, all)
		}
	}
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(all)
}

// readFirst reads what each stream begins with, and returns the id in it: where the stream begins.
func readFirst(t testing.TB, r io.Reader) (id string) {
	t.Helper()
	text := "\n" + readUntil(t, r, "\n\n")
	_, id, found := strings.Cut(text, "\nid:")
	if !found {
		t.Fatalf("the stream begins with %q, want an id", text)
	}
	id, _, _ = strings.Cut(id, "\n")
	return id
}

// long skips a test that takes many seconds, or needs a program besides Go, where -short asks for that.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}
