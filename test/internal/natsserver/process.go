package natsserver

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"gin-sse/internal/testport"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/child"
)

// asked is the variable that names the configuration of a process that is to be a NATS server.
const asked = "TEST_NATS_SERVER"

// RunIfAsked makes this program a NATS server and nothing else, if a test started it as one. Call it first in the TestMain
// of a package that has such servers.
func RunIfAsked() {
	file := os.Getenv(asked)
	if file == "" {
		return
	}
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		log.Fatal(err)
	}
	options.NoSigs = true
	s, err := server.NewServer(options)
	if err != nil {
		log.Fatal(err)
	}
	s.ConfigureLogger()
	s.Start() // if a port is taken, this ends the process
	if !s.ReadyForConnections(testwait.Limit) {
		log.Fatal("the NATS server does not start")
	}
	fmt.Println("started")
	_, _ = io.Copy(io.Discard, os.Stdin) // until the test ends it
	s.Shutdown()
	s.WaitForShutdown()
	os.Exit(0)
}

// Process is a NATS server in a process of its own, which can be killed and suspended. Its methods are for one goroutine.
type Process struct {
	Name, URL string
	Dir       string // where it stores messages

	t      testing.TB
	config string // file
	cmd    *exec.Cmd
	stdin  io.Closer
}

// StartProcesses starts a server, or a cluster of several, until the test ends. Each stores messages in a folder of that
// name below dir, and has these settings of JetStream.
func StartProcesses(t testing.TB, n int, dir, jetstream string) (all []*Process) {
	t.Helper()
	var err error
	for range 3 { // a port that was free may be taken by now
		if all, err = startProcesses(t, n, dir, jetstream); err == nil {
			return all
		}
		for _, p := range all {
			p.Kill()
		}
	}
	t.Fatal(err)
	return nil
}

func startProcesses(t testing.TB, n int, dir, jetstream string) (all []*Process, err error) {
	var routes []string
	for range n {
		routes = append(routes, fmt.Sprint("127.0.0.1:", testport.Free(t)))
	}
	for i := range n {
		p := &Process{Name: fmt.Sprint("n", i), t: t, config: filepath.Join(t.TempDir(), "nats.conf")}
		address := fmt.Sprint("127.0.0.1:", testport.Free(t))
		p.URL, p.Dir = "nats://"+address, filepath.Join(dir, p.Name)
		config := fmt.Sprintf("server_name: %s\nlisten: %q\nlog_file: %q\njetstream { store_dir: %q, %s }\n", p.Name, address, p.log(), p.Dir, jetstream)
		if n > 1 {
			config += fmt.Sprintf("cluster { name: test, listen: %q, routes: [ \"nats://%s\" ] }\n", routes[i], strings.Join(routes, `", "nats://`))
		}
		if err := os.WriteFile(p.config, []byte(config), 0o600); err != nil {
			return all, err
		}
		if err := p.start(); err != nil {
			return all, err
		}
		all = append(all, p)
	}
	return all, nil
}

func (p *Process) log() string { return p.config + ".log" }

// Run starts the server, and waits until it takes connections.
func (p *Process) Run() {
	p.t.Helper()
	if err := p.start(); err != nil {
		p.t.Fatal(err)
	}
}

func (p *Process) start() error {
	p.cmd = child.Command(context.Background(), os.Args[0])
	p.cmd.Env = append(os.Environ(), asked+"="+p.config)
	p.cmd.Stderr = os.Stderr
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.t.Cleanup(p.Kill)
	if _, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		said, _ := os.ReadFile(p.log()) // empty if it did not get so far
		return fmt.Errorf("the NATS server %s does not start: %w; it said:\n%s", p.Name, err, said)
	}
	return nil
}

// Stop ends the server properly. What it stored stays.
func (p *Process) Stop() {
	p.t.Helper()
	p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("the NATS server %s ended with %v", p.Name, err)
	}
}

// Kill ends the server without a warning, if it runs.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	_ = p.cmd.Wait()
	p.stdin.Close()
}

// Freeze suspends the server: its connections stay, and nothing answers.
func (p *Process) Freeze() {
	p.t.Helper()
	if err := child.Suspend(p.cmd.Process); err != nil {
		p.t.Fatalf("freeze the NATS server %s: %v", p.Name, err)
	}
}

// Thaw lets the server go on after Freeze.
func (p *Process) Thaw() {
	p.t.Helper()
	if err := child.Resume(p.cmd.Process); err != nil {
		p.t.Fatalf("thaw the NATS server %s: %v", p.Name, err)
	}
}
