package figures

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
	"gin-sse/test/internal/child"
)

// BenchmarkFanout holds clients open over loopback and reports what one event a second to each of
// them costs the server's process, beside the same work written by hand on net/http
// (testdata/baseline). One iteration is one event to all clients, so
//
//	go test -run '^$' -bench Fanout -benchtime 10x ./figures
//
// measures each server for ten seconds.
//
//	cpu-µs/event  user and system time of the server's process for one event to one client
//	B/client      by how much its resident memory grew for each client
//	p99-ms        by how much later than the first client 99 % of them had an event; of all the
//	              events the median, as anything else that the machine does delays some of them
//	x-...         the same as a multiple of what net/http took just before
func BenchmarkFanout(b *testing.B) {
	for _, clients := range []int{100, 1_000, 5_000, 15_000} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			var base, own *cost
			b.Run("server=net-http", func(b *testing.B) {
				cmd := app.Command(b)
				cmd.Path = compile(b, "./testdata/baseline")
				base = fanOut(b, app.StartCommand(b, cmd), clients)
			})
			b.Run("server=gin-sse", func(b *testing.B) {
				own = fanOut(b, app.Start(b, "HOST=127.0.0.1"), clients)
				if base != nil { // -bench may have left it out
					b.ReportMetric(own.cpu/base.cpu, "x-cpu")
					b.ReportMetric(own.memory/base.memory, "x-memory")
					b.ReportMetric(own.spread/base.spread, "x-p99")
				}
			})
		})
	}
}

// compile returns the program that is made of a package.
func compile(b *testing.B, folder string, flags ...string) (program string) {
	b.Helper()
	program = filepath.Join(b.TempDir(), filepath.Base(folder))
	cmd := child.Command(context.Background(), "go", append(append([]string{"build", "-o", program}, flags...), ".")...)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s in %s: %v\n%s", cmd, folder, err, out)
	}
	return program
}

// BenchmarkChurn holds 15,000 clients and replaces 25 of them after each event, a tenth of them in a
// minute. One iteration is one event, so
//
//	go test -run '^$' -bench Churn -benchtime 600x -timeout 20m ./figures
//
// takes ten minutes.
//
//	early-B/client  resident memory for each client, on average in the second tenth of the time
//	late-B/client   the same in the last tenth
//	highest-B/client
//	lost            streams that ended although their client did not
func BenchmarkChurn(b *testing.B) {
	const clients, replaced = 15_000, 25
	server := app.Start(b, "HOST=127.0.0.1")
	pid := server.Cmd.Process.Pid
	before := resident(b, pid)
	var lost atomic.Int64
	var readers sync.WaitGroup
	open := func() net.Conn {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", server.Port), testwait.Limit)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.WriteString(conn, "GET /sse HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		readers.Go(func() {
			buffer := make([]byte, 512)
			for {
				if _, err := conn.Read(buffer); errors.Is(err, net.ErrClosed) {
					return
				} else if err != nil {
					lost.Add(1)
					return
				}
			}
		})
		return conn
	}
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
		readers.Wait()
	}()
	for range clients {
		conns = append(conns, open())
	}

	events := bufio.NewScanner(server.Get("/sse").Body)
	var memory []int
	busy := cpuTime(b, pid)
	for b.Loop() {
		for events.Scan() && !strings.Contains(events.Text(), "Server Time") {
		}
		if err := events.Err(); err != nil {
			b.Fatal(err)
		}
		for range replaced {
			conns[0].Close()
			conns = append(conns[1:], open())
		}
		memory = append(memory, (resident(b, pid)-before)/clients)
	}
	busy = cpuTime(b, pid) - busy
	b.ReportMetric(0, "ns/op") // it is the clock's second
	b.ReportMetric(float64(busy.Nanoseconds())/1e3/float64(clients*len(memory)), "cpu-µs/event")
	b.ReportMetric(mean(memory[len(memory)/10:max(1, len(memory)/5)]), "early-B/client")
	b.ReportMetric(mean(memory[len(memory)*9/10:]), "late-B/client")
	b.ReportMetric(float64(slices.Max(memory)), "highest-B/client")
	b.ReportMetric(float64(lost.Load()), "lost")
}

func mean(of []int) float64 {
	sum := 0
	for _, n := range of {
		sum += n
	}
	return float64(sum) / float64(len(of))
}

// cost is what a server took for its clients, in the units that BenchmarkFanout reports.
type cost struct{ cpu, memory, spread float64 }

func fanOut(b *testing.B, server *app.Server, clients int) *cost {
	pid := server.Cmd.Process.Pid
	before := resident(b, pid)
	f := newFan(clients)
	defer f.close()
	for i := range clients {
		f.follow(openHTTP1(b, i, http.Header{}, func() (net.Conn, error) {
			return net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", server.Port), testwait.Limit)
		}))
	}
	c := &cost{}
	c.cpu, c.spread = f.measure(b, pid)
	c.memory = float64(resident(b, pid)-before) / float64(clients)
	b.ReportMetric(0, "ns/op") // it is the clock's second
	b.ReportMetric(c.cpu, "cpu-µs/event")
	b.ReportMetric(c.memory, "B/client")
	b.ReportMetric(c.spread, "p99-ms")
	return c
}

// openHTTP1 opens a stream on a connection of its own.
func openHTTP1(b *testing.B, client int, header http.Header, dial func() (net.Conn, error)) io.ReadCloser {
	b.Helper()
	conn, err := dial()
	if err != nil {
		b.Fatalf("client %d cannot connect (this process and the server each need as many descriptors, see ulimit -n): %v", client+1, err)
	}
	request := &http.Request{Method: http.MethodGet, Host: "localhost", URL: &url.URL{Path: "/sse"}, Header: header}
	if err := request.Write(conn); err != nil {
		b.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReaderSize(conn, 1024), request)
	if err != nil {
		b.Fatal(err)
	}
	return struct {
		io.Reader
		io.Closer
	}{response.Body, conn}
}

// fan is many clients that get the same events.
type fan struct {
	clients int
	streams []io.Closer
	readers sync.WaitGroup

	mu    sync.Mutex
	seen  map[string][]time.Time // an event, and when one client after the other got it
	ticks chan []time.Time       // events that all clients got
}

func newFan(clients int) *fan {
	return &fan{clients: clients, seen: map[string][]time.Time{}, ticks: make(chan []time.Time, 100)}
}

// follow reads a stream until it ends; if that is too early, tick finds out.
func (f *fan) follow(stream io.ReadCloser) {
	f.streams = append(f.streams, stream)
	f.readers.Go(func() {
		lines := bufio.NewReaderSize(stream, 256)
		for {
			line, err := lines.ReadSlice('\n')
			if err != nil {
				return
			}
			if strings.Contains(string(line), "Server Time") {
				f.got(string(line))
			}
		}
	})
}

// measure returns what an event to one client costs the process pid, in µs of CPU, and by how many ms 99 % of the
// clients have it later than the first.
func (f *fan) measure(b *testing.B, pid int) (cpu, spread float64) {
	b.Helper()
	for range 3 { // connecting is over, and what it left behind is settled
		f.tick(b)
	}
	var spreads []time.Duration
	busy := cpuTime(b, pid)
	for b.Loop() {
		at := f.tick(b) // in order
		spreads = append(spreads, at[f.clients*99/100].Sub(at[0]))
	}
	busy = cpuTime(b, pid) - busy
	slices.Sort(spreads)
	return float64(busy.Nanoseconds()) / 1e3 / float64(f.clients*len(spreads)), float64(spreads[len(spreads)/2].Microseconds()) / 1e3
}

func (f *fan) got(event string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen[event] = append(f.seen[event], time.Now())
	if len(f.seen[event]) == f.clients {
		f.ticks <- f.seen[event]
	}
}

// received is how many events the clients got so far, all together.
func (f *fan) received() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.seen {
		n += len(at)
	}
	return n
}

// tick waits until every client has the next event, and returns when each of them got it.
func (f *fan) tick(b *testing.B) []time.Time {
	b.Helper()
	select {
	case at := <-f.ticks:
		return at
	case <-time.After(testwait.Limit):
		b.Fatalf("no event has reached all of the %d clients for %v", f.clients, testwait.Limit)
		return nil
	}
}

func (f *fan) close() {
	for _, stream := range f.streams {
		stream.Close()
	}
	f.readers.Wait()
}

// cpuTime is what all threads of a process have run for. /proc/PID/stat has it as well, but in
// steps of 10 ms: too coarse for 100 clients.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(threads) == 0 {
		b.Fatalf("no schedstat for process %d: %v", pid, err)
	}
	var sum time.Duration
	for _, thread := range threads {
		sum += time.Duration(number(b, thread, 0))
	}
	return sum
}

// resident is the memory in use by a process, in bytes.
func resident(b *testing.B, pid int) int {
	b.Helper()
	return number(b, fmt.Sprintf("/proc/%d/statm", pid), 1) * os.Getpagesize()
}

// number is one of the fields in a file of /proc.
func number(b *testing.B, file string, field int) int {
	b.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(content))[field])
	if err != nil {
		b.Fatalf("%s: %v", file, err)
	}
	return n
}
