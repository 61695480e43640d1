//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"
)

// loadCommand is the argument that makes this program a process of clients. It reads a task, a plan and what was
// published from its standard input, each as JSON and when it is time for it, and ends when that is closed.
const loadCommand = "load"

const (
	perLoad  = 15_000           // clients of one process
	dialing  = 64               // clients of one process that connect for the first time at once
	arrival  = time.Minute      // for the last messages to arrive, and the last clients to come back
	interval = time.Second / 10 // between two looks at whether they have
)

// task is what a load process is to do.
type task struct {
	Replicas       []string // addresses
	First, Clients int      // the user of the first client, and how many there are
}

// sent is how many messages were published, and acknowledged.
type sent struct {
	News  int
	Users []int // from the first client of the task on
}

// received is what a load process reports.
type received struct {
	Outcome
	Latencies  [phases][2]histogram // from POST to receipt, for single clients and for news
	Back       histogram            // from the end of a stream to the beginning of the next one
	Opened     []atomic.Int64       `json:"-"` // streams that began, in each slot
	Ended      []atomic.Int64       `json:"-"` // streams that ended
	Slots      [2][]int64           // both, for the report
	Incomplete int                  // clients that do not have everything, or no stream
}

// Outcome is what happened to clients.
type Outcome struct {
	Delivered  int // messages
	Lost       int // messages that were left out
	Doubled    int // messages that came again
	Disordered int // messages whose id was not above that of the message before
	Wrong      int // events that are nobody's or another client's
	Gaps       int // events that say that messages were lost
	Epochs     int // changes of the epoch
	Refused    int // attempts to connect that failed
	Full       int // attempts that were answered with another status than 200
}

func (o *Outcome) add(other Outcome) {
	o.Delivered += other.Delivered
	o.Lost += other.Lost
	o.Doubled += other.Doubled
	o.Disordered += other.Disordered
	o.Wrong += other.Wrong
	o.Gaps += other.Gaps
	o.Epochs += other.Epochs
	o.Refused += other.Refused
	o.Full += other.Full
}

// merge adds what another process reports.
func (r *received) merge(other *received) {
	r.add(other.Outcome)
	r.Incomplete += other.Incomplete
	r.Back.merge(&other.Back)
	for phase := range r.Latencies {
		for kind := range r.Latencies[phase] {
			r.Latencies[phase][kind].merge(&other.Latencies[phase][kind])
		}
	}
	for i, counts := range other.Slots {
		if r.Slots[i] == nil {
			r.Slots[i] = make([]int64, len(counts))
		}
		for j, n := range counts {
			r.Slots[i][j] += n
		}
	}
}

// crowd is the clients of one process.
type crowd struct {
	balancer *balancer
	plan     atomic.Pointer[plan] // set before the first message
	starting chan struct{}        // has room for those that connect for the first time
	received received
}

// load is a process of clients.
func load(in io.Reader, out io.Writer) error {
	commands, reports := json.NewDecoder(in), json.NewEncoder(out)
	var t task
	if err := commands.Decode(&t); err != nil {
		return fmt.Errorf("read the task: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()

	c := &crowd{balancer: newBalancer(t.Replicas), starting: make(chan struct{}, dialing)}
	running.Go(func() { c.balancer.check(ctx) })
	var opened sync.WaitGroup
	opened.Add(t.Clients)
	clients := make([]*client, t.Clients)
	for i := range clients {
		clients[i] = &client{crowd: c, user: t.First + i, opened: opened.Done}
		running.Go(func() { clients[i].run(ctx) })
	}
	opened.Wait() // or this process is killed
	if err := reports.Encode("open"); err != nil {
		return fmt.Errorf("report: %w", err)
	}

	var is plan
	if err := commands.Decode(&is); err != nil {
		return fmt.Errorf("read the plan: %w", err)
	}
	r := &c.received
	r.Opened, r.Ended = make([]atomic.Int64, is.slots()), make([]atomic.Int64, is.slots())
	c.plan.Store(&is)

	var all sent
	if err := commands.Decode(&all); err != nil {
		return fmt.Errorf("read what was sent: %w", err)
	}
	incomplete := func() (n int) {
		for i, client := range clients {
			if !client.connected.Load() || client.news.Load() < int64(all.News) || client.own.Load() < int64(all.Users[i]) {
				n++
			}
		}
		return n
	}
	for deadline := time.Now().Add(arrival); incomplete() > 0 && time.Now().Before(deadline); {
		if err := wait(ctx, time.Now().Add(interval)); err != nil {
			return err
		}
	}
	r.Incomplete = incomplete()
	cancel()
	running.Wait()
	for _, client := range clients {
		r.add(client.Outcome)
	}
	for i, counts := range [][]atomic.Int64{r.Opened, r.Ended} {
		for j := range counts {
			r.Slots[i] = append(r.Slots[i], counts[j].Load())
		}
	}
	if err := reports.Encode(r); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	_, err := io.Copy(io.Discard, in) // the report is read before this process may end
	return err
}

// loader is a load process, as seen from the first one.
type loader struct {
	*process
	task
	in      io.WriteCloser
	reports *json.Decoder
}

// tell sends a command.
func (l *loader) tell(command any) error {
	if err := json.NewEncoder(l.in).Encode(command); err != nil {
		return fmt.Errorf("tell %s: %w", l.name, err)
	}
	return nil
}

// connect starts the load processes, and waits until all their clients are connected.
func (c *cluster) connect(ctx context.Context, s settings) (loads []*loader, err error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for first := 0; first < s.clients; first += perLoad {
		l := &loader{task: task{Replicas: c.addresses(), First: first, Clients: min(perLoad, s.clients-first)}}
		var pipes error
		l.process = c.process(fmt.Sprint("load", len(loads)+1), func() *exec.Cmd {
			cmd := exec.Command(program, loadCommand)
			cmd.Stderr = os.Stderr
			var out io.ReadCloser
			if l.in, pipes = cmd.StdinPipe(); pipes == nil {
				out, pipes = cmd.StdoutPipe()
			}
			l.reports = json.NewDecoder(out)
			return cmd
		})
		if err := l.start(); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.loads = append(c.loads, l.process)
		c.mu.Unlock()
		if pipes != nil {
			return nil, pipes
		}
		if err := l.tell(l.task); err != nil {
			return nil, err
		}
		loads = append(loads, l)
	}
	for _, l := range loads {
		var open string
		if err := l.reports.Decode(&open); err != nil {
			return nil, fmt.Errorf("wait until the clients of %s are connected: %w", l.name, err)
		}
	}
	return loads, nil
}

// collect tells the load processes what was published, waits until their clients have it, and adds up what they
// report.
func collect(loads []*loader, all *published) (*received, error) {
	for _, l := range loads {
		if err := l.tell(sent{News: all.News, Users: all.Users[l.First : l.First+l.Clients]}); err != nil {
			return nil, err
		}
	}
	total := new(received)
	for _, l := range loads {
		r := new(received)
		if err := l.reports.Decode(r); err != nil {
			return nil, fmt.Errorf("wait for the report of %s: %w", l.name, err)
		}
		total.merge(r)
	}
	return total, nil
}
