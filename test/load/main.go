//go:build linux

// Command load finds out what three replicas and three NATS servers do on one machine. It starts them, opens many
// clients, publishes, kills a replica and a NATS server and brings them back, and reports whether every client got
// every message once and in order, how long that took, and what it cost.
//
//	go run ./load -clients 45000 -for 10m
//
// Each client follows the topic news and one of its own. Everything is on loopback, in processes that end with this
// one. The exit status is 1 if a message was lost, came twice or came out of order.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// settings are what the command line says.
type settings struct {
	clients    int
	rate       int // messages a second to single clients
	publishers int
	lasts      time.Duration
	down       time.Duration // how long what was killed stays away
}

const (
	open   = 5 * time.Minute // for everything to start and for all clients to connect
	finish = 2 * time.Minute // after the last message, for everything to arrive
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == loadCommand {
		exit(load(os.Stdin, os.Stdout))
	}
	var s settings
	flag.IntVar(&s.clients, "clients", 45_000, "how many `clients` there are")
	flag.IntVar(&s.rate, "rate", 1000, "how many `messages` a second go to single clients; one more goes to all")
	flag.IntVar(&s.publishers, "publishers", 300, "how many `connections` publish to single clients")
	flag.DurationVar(&s.lasts, "for", 10*time.Minute, "how `long` messages are published")
	flag.DurationVar(&s.down, "down", 5*time.Second, "how `long` a killed replica or NATS server stays away")
	flag.Parse()
	if flag.NArg() > 0 || s.clients < 1 || s.rate < 1 || s.publishers < 1 || s.down <= 0 || s.lasts < 8*s.down {
		fmt.Fprintln(os.Stderr, "load: every number must be positive, and -for at least eight times -down; there are no arguments")
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := run(ctx, s, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err == nil {
		r.print(os.Stdout)
		err = r.verdict()
	}
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does all of it and leaves nothing behind. It logs what happens.
func run(ctx context.Context, s settings, log func(format string, args ...any)) (_ *report, err error) {
	dir, err := os.MkdirTemp("", "gin-sse-load")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, cancel := context.WithTimeoutCause(ctx, open+s.lasts+finish, errors.New("it does not come to its end in time"))
	defer cancel()
	ctx, fail := context.WithCancelCause(ctx)

	begin := time.Now()
	c := &cluster{dir: dir, fail: fail, log: func(format string, args ...any) {
		log("%7.1fs  %s", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}}
	defer context.AfterFunc(ctx, c.stop)() // which ends the reading of what killed processes report
	var background sync.WaitGroup
	defer func() {
		fail(nil)
		c.stop()
		background.Wait()
		if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, context.Canceled) {
			err = cause // what went wrong first
		}
	}()

	if err := build(ctx, dir); err != nil {
		return nil, err
	}
	if err := c.start(ctx, s); err != nil {
		return nil, err
	}
	c.log("%d replicas and %d NATS servers are ready", len(c.replicas), len(c.nats))

	c.sample()
	r := &report{settings: s, cluster: c, empty: time.Now(), kernelEmpty: kernelMemory()}
	background.Go(func() { c.measure(ctx) })
	loads, err := c.connect(ctx, s)
	if err != nil {
		return nil, err
	}
	c.log("%d clients of %d processes are connected", s.clients, len(loads))

	r.plan = newPlan(s, time.Now().Add(time.Second))
	r.kernelFull = kernelMemory()
	for _, l := range loads {
		if err := l.tell(r.plan); err != nil {
			return nil, err
		}
	}
	var watching, acting sync.WaitGroup
	watch, unwatch := context.WithCancel(ctx)
	defer watching.Wait()
	defer unwatch()
	gaps := make([][]gap, len(c.replicas))
	for i, p := range c.replicas {
		watching.Go(func() { gaps[i] = c.watch(watch, p, r.plan) })
	}
	acting.Go(func() {
		if err := c.kill(ctx, r.plan); err != nil {
			fail(err)
		}
	})
	r.published = publish(ctx, s, r.plan, c.addresses(), fail)
	acting.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c.log("everything is published")

	r.loads, err = collect(loads, r.published)
	if err != nil {
		return nil, err
	}
	r.end = time.Now()
	c.log("%d clients do not have everything", r.loads.Incomplete)
	unwatch()
	watching.Wait()
	for _, of := range gaps {
		r.gaps = append(r.gaps, of...)
	}
	return r, nil
}

// build compiles the program, with what its own go.mod says, and a NATS server.
func build(ctx context.Context, dir string) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "gin-sse")
	product, err := list.Output()
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	for _, build := range []*exec.Cmd{
		exec.CommandContext(ctx, "go", "build", "-C", strings.TrimSpace(string(product)), "-o", dir, "."),
		exec.CommandContext(ctx, "go", "build", "-o", dir, "github.com/nats-io/nats-server/v2"),
	} {
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", build, err, out)
		}
	}
	return nil
}
