package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"gin-sse/internal/testlog"
	"gin-sse/internal/testport"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
)

// Command prepares the program with nothing in its environment but env. It is killed if it runs for
// longer than any test, or benchmark, should.
func Command(t testing.TB, env ...string) *exec.Cmd {
	limit := 15 * time.Minute
	if _, ok := t.(*testing.B); ok {
		limit = time.Hour // -benchtime may ask for much
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	cmd := child.Command(ctx, binary)
	cmd.Env = env
	cmd.WaitDelay = testwait.Limit
	cmd.Dir = t.TempDir()
	return cmd
}

// Server is a running server. It is stopped when the test ends, if it has not been before.
type Server struct {
	T       testing.TB
	Cmd     *exec.Cmd
	Port    string
	URL     string
	Out     *testlog.Log
	exited  chan struct{} // closed when the process has ended
	stopped bool
}

// Start runs the program and waits until it serves. Unless env has a PORT, a free one is taken.
func Start(t testing.TB, env ...string) *Server {
	t.Helper()
	return StartIn(t, t.TempDir(), env...)
}

// StartIn is start in a given folder.
func StartIn(t testing.TB, dir string, env ...string) *Server {
	t.Helper()
	cmd := Command(t, env...)
	cmd.Dir = dir
	return StartCommand(t, cmd)
}

// StartLimited is start with so many file descriptors at most.
func StartLimited(t testing.TB, descriptors int, env ...string) *Server {
	t.Helper()
	cmd := Command(t, env...)
	cmd.Args = []string{"sh", "-c", `ulimit -n "$0" && exec "$1"`, fmt.Sprint(descriptors), cmd.Path}
	cmd.Path = "/bin/sh"
	return StartCommand(t, cmd)
}

// StartCommand is Start for a command of the caller's own.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Server {
	t.Helper()
	a := begin(t, cmd)
	a.serves(a.Out.Wait(t, running))
	return a
}

// TryStart starts the program. If it does not run, it returns what the program said.
func TryStart(t *testing.T, env ...string) (*Server, string) {
	t.Helper()
	a := begin(t, Command(t, env...))
	exited := func() bool {
		select {
		case <-a.exited:
			return true
		default:
			return false
		}
	}
	testwait.For(t, "a server, or of its end", func() bool { return exited() || len(a.Out.Lines(running)) > 0 })
	if lines := a.Out.Lines(running); len(lines) > 0 {
		a.serves(lines[0])
		return a, ""
	}
	a.stopped = true
	if code := a.Cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d; it said:\n%s", code, a.Out.String())
	}
	return nil, a.Out.String()
}

// running is what the program says when it serves, with the address after it.
const running = "Server running on "

// begin starts the process.
func begin(t testing.TB, cmd *exec.Cmd) *Server {
	t.Helper()
	a := &Server{T: t, Cmd: cmd, Out: new(testlog.Log), exited: make(chan struct{})}
	cmd.Env = append([]string{fmt.Sprint("PORT=", testport.Free(t)), "GIN_MODE=release"}, cmd.Env...)
	cmd.Stdout, cmd.Stderr = a.Out, a.Out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		close(a.exited)
	}()
	t.Cleanup(func() {
		if !a.stopped {
			a.Stop(syscall.SIGTERM)
		}
		if strings.Contains(a.Out.String(), "DATA RACE") {
			t.Errorf("the race detector found something in the server:\n%s", a.Out.String())
		}
	})
	return a
}

// serves takes the address from that line of the output.
func (a *Server) serves(line string) {
	_, a.URL, _ = strings.Cut(line, running)
	a.URL, _, _ = strings.Cut(strings.TrimSuffix(a.URL, "\n"), `"`) // which ends it in JSON
	a.Port = a.URL[strings.LastIndex(a.URL, ":")+1:]
}

// Stop sends the signal and returns the exit status.
func (a *Server) Stop(signal os.Signal) int {
	a.T.Helper()
	a.stopped = true
	if err := a.Cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		a.T.Errorf("signal the server: %v", err)
	}
	select {
	case <-a.exited:
	case <-time.After(testwait.Limit):
		_ = a.Cmd.Process.Kill()
		a.T.Errorf("the server did not stop at %v; it said:\n%s", signal, a.Out.String())
		<-a.exited
	}
	http.DefaultClient.CloseIdleConnections() // a server that comes to the same port does not know them
	return a.Cmd.ProcessState.ExitCode()
}

// StopPolitely is stop for a server whose clients all take what it has to send.
func (a *Server) StopPolitely(signal os.Signal) {
	a.T.Helper()
	if code := a.Stop(signal); code != 0 || strings.Contains(a.Out.String(), "cut off") {
		a.T.Errorf("exit status %d; the server said:\n%s", code, a.Out.String())
	}
}

// Fails runs the program, which must exit by itself, and returns what it said and its exit status.
func Fails(t *testing.T, env []string, args ...string) (string, int) {
	t.Helper()
	cmd := Command(t, env...)
	cmd.Args = append(cmd.Args, args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || !cmd.ProcessState.Exited() {
		t.Fatalf("it did not exit by itself: %v; it said %q", err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}
