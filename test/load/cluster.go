//go:build linux

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"gin-sse/internal/testport"
)

// cluster is three replicas, three NATS servers, and the processes that load them.
type cluster struct {
	dir  string // of the programs, and of what NATS stores
	fail context.CancelCauseFunc
	log  func(format string, args ...any)

	nats, replicas []*process
	urls           []string // of the NATS servers
	own            *process // this one

	mu    sync.Mutex
	loads []*process
}

// secret is what publishers send.
const secret = "scale"

// natsConfig is docs/nats.conf for servers on one machine.
const natsConfig = `
server_name: %[1]s
listen: 127.0.0.1:%[2]d

jetstream {
    store_dir: %[3]q
}

cluster {
    name: gin-sse
    listen: %[4]s
    routes: [%[5]s]
}
`

// start starts the NATS servers and the replicas, and waits until those are ready.
func (c *cluster) start(ctx context.Context, s settings) error {
	c.own = self("publishers")
	const servers = 3
	var ports [3 * servers]int // for clients of NATS, between NATS servers, and for clients of the replicas
	for i := range ports {
		port, err := testport.Find()
		if err != nil {
			return err
		}
		ports[i] = port
	}
	var routes []string
	for i := range servers {
		c.urls = append(c.urls, fmt.Sprint("nats://127.0.0.1:", ports[i]))
		routes = append(routes, fmt.Sprint("nats://127.0.0.1:", ports[servers+i]))
	}
	for i := range servers {
		name := fmt.Sprint("nats", i+1)
		file := filepath.Join(c.dir, name+".conf")
		config := fmt.Sprintf(natsConfig, name, ports[i], filepath.Join(c.dir, name), strings.TrimPrefix(routes[i], "nats://"), strings.Join(routes, ", "))
		if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
			return err
		}
		c.nats = append(c.nats, c.process(name, func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(c.dir, "nats-server"), "-c", file)
			cmd.Stderr = &logLines{log: c.log, name: name, wanted: func(line []byte) bool {
				is := func(text string) bool { return bytes.Contains(line, []byte(text)) }
				return is("[FTL]") || is("Trapped") || // a signal
					is("[ERR]") && !is("connect to route") // there are many of these while a server is gone
			}}
			return cmd
		}))
	}
	places, err := descriptors()
	if err != nil {
		return err
	}
	for i := range servers {
		name := fmt.Sprint("replica", i+1)
		p := c.process(name, func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(c.dir, "gin-sse"))
			cmd.Dir = c.dir
			cmd.Env = []string{
				"GIN_MODE=release", "HOST=127.0.0.1", fmt.Sprint("PORT=", ports[2*servers+i]), "TICK_INTERVAL=0",
				"PUBLISH_TOKEN=" + secret, "NATS_REPLICAS=3", "NATS_URL=" + strings.Join(c.urls, ","),
				fmt.Sprint("MAX_CLIENTS=", places), // when a replica is gone, the others may not have room for all
			}
			cmd.Stdout = &logLines{log: c.log, name: name, wanted: func(line []byte) bool { return !bytes.Contains(line, []byte(" level=INFO ")) }}
			cmd.Stderr = cmd.Stdout
			return cmd
		})
		p.address = fmt.Sprint("127.0.0.1:", ports[2*servers+i])
		c.replicas = append(c.replicas, p)
	}
	for _, p := range append(c.nats, c.replicas...) {
		if err := p.start(); err != nil {
			return err
		}
	}
	for _, p := range c.replicas {
		for why := ready(ctx, p.address); why != ""; why = ready(ctx, p.address) {
			if err := wait(ctx, time.Now().Add(poll)); err != nil {
				return fmt.Errorf("%s is not ready: %s: %w", p.name, why, err)
			}
		}
	}
	return nil
}

func (c *cluster) process(name string, command func() *exec.Cmd) *process {
	return &process{name: name, command: command, died: func(how string) {
		c.fail(fmt.Errorf("%s ended by itself: %s", name, how))
	}}
}

// descriptors returns how many clients a process may have. A tenth of its descriptors are left for other files, and for
// clients that are being refused.
func descriptors() (int, error) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 0, fmt.Errorf("find out how many descriptors there are: %w", err)
	}
	return int(min(limit.Max, 1_000_000)) * 9 / 10, nil
}

// addresses returns where the replicas listen.
func (c *cluster) addresses() (all []string) {
	for _, p := range c.replicas {
		all = append(all, p.address)
	}
	return all
}

// processes returns all of them, without this one.
func (c *cluster) processes() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(append(append([]*process(nil), c.replicas...), c.nats...), c.loads...)
}

// stop ends everything and waits for it.
func (c *cluster) stop() {
	for _, p := range c.processes() {
		p.kill()
	}
}

// measure takes a sample of every process each second.
func (c *cluster) measure(ctx context.Context) {
	for next := time.Now().Add(time.Second); wait(ctx, next) == nil; next = next.Add(time.Second) {
		c.sample()
	}
}

func (c *cluster) sample() {
	for _, p := range append(c.processes(), c.own) {
		if err := p.measure(); err != nil {
			c.fail(err)
		}
	}
}

// kill kills a replica and brings it back, and then does the same to the NATS server that leads the stream.
func (c *cluster) kill(ctx context.Context, is plan) error {
	if err := wait(ctx, is.ReplicaDies); err != nil {
		return err
	}
	if err := c.interrupt(ctx, c.replicas[0], is.Down); err != nil {
		return err
	}
	if err := wait(ctx, is.NATSDies); err != nil {
		return err
	}
	leader, err := c.leader(ctx)
	if err != nil {
		return err
	}
	for _, p := range c.nats {
		if p.name == leader {
			c.log("%s leads the stream", leader)
			return c.interrupt(ctx, p, is.Down)
		}
	}
	return fmt.Errorf("the leader of the stream is %q, which is none of the NATS servers", leader)
}

func (c *cluster) interrupt(ctx context.Context, p *process, down time.Duration) error {
	c.log("%s is killed", p.name)
	p.kill()
	if err := wait(ctx, time.Now().Add(down)); err != nil {
		return err
	}
	c.log("%s is started again", p.name)
	return p.start()
}

// leader returns the name of the NATS server that leads the stream.
func (c *cluster) leader(ctx context.Context) (string, error) {
	nc, err := nats.Connect(strings.Join(c.urls, ","))
	if err != nil {
		return "", fmt.Errorf("ask NATS which server leads: %w", err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return "", fmt.Errorf("ask NATS which server leads: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, "sse")
	if err != nil {
		return "", fmt.Errorf("ask NATS which server leads: %w", err)
	}
	return stream.CachedInfo().Cluster.Leader, nil
}

// poll is how often replicas are asked whether they are ready.
const poll = 200 * time.Millisecond

// gap is a time in which a replica was not ready.
type gap struct {
	replica  string
	from, to time.Time
	why      string // at first
	open     bool   // it was not ready at the end
}

// maxGaps bounds the list.
const maxGaps = 100

// watch notes when a replica is not ready, until ctx ends.
func (c *cluster) watch(ctx context.Context, p *process, is plan) (gaps []gap) {
	var now *gap
	for wait(ctx, time.Now().Add(poll)) == nil {
		asked := time.Now()
		why := ready(ctx, p.address)
		switch {
		case ctx.Err() != nil:
		case why != "" && now == nil && len(gaps) < maxGaps:
			gaps = append(gaps, gap{replica: p.name, from: asked, why: why, open: true})
			now = &gaps[len(gaps)-1]
		case why == "" && now != nil:
			now.to, now.open = time.Now(), false
			c.log("%s is ready again, after %.1f s: %s", p.name, now.to.Sub(now.from).Seconds(), now.why)
			now = nil
		}
	}
	return gaps
}

// ready returns why a replica is not ready, or nothing.
func ready(ctx context.Context, address string) (why string) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return err.Error()
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "no answer"
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1000))
	switch {
	case err != nil:
		return "no answer"
	case response.StatusCode != http.StatusOK:
		return string(text)
	}
	return ""
}
