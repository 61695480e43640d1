package figures

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

// BenchmarkPost publishes with 1, 16 and 64 publishers, each of which waits for its answer, over connections that stay
// open: to the same work written by hand on net/http (testdata/baseline), to a server that keeps messages in memory and to
// one that keeps them on disk. Each has its turn ten times. One iteration is one message to each of them:
//
//	go test -run '^$' -bench Post -benchtime 20000x ./figures
//
//	…-posts/s  that are acknowledged
//	…-p99-ms   until the answer is there
//	…-cpu-µs   user and system time of the server's process for each
//	x-memory   what memory does for each one of net/http
//	x-disk     what the disk does for each one of memory
func BenchmarkPost(b *testing.B) {
	baseline := compile(b, "./testdata/baseline")
	for _, publishers := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("publishers=%d", publishers), func(b *testing.B) {
			cmd := app.Command(b)
			cmd.Path = baseline
			env := []string{"HOST=127.0.0.1", "TICK_INTERVAL=0", "PUBLISH_TOKEN=" + app.Token}
			servers := []*posted{
				newPosted(b, "net-http", app.StartCommand(b, cmd), publishers),
				newPosted(b, "memory", app.Start(b, env...), publishers),
				newPosted(b, "disk", app.Start(b, append(env, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))...), publishers),
			}
			b.ResetTimer()
			const turns = 10
			for range turns {
				for _, server := range servers {
					server.post(b, (b.N+turns-1)/turns)
				}
			}
			b.ReportMetric(0, "ns/op")
			for _, server := range servers {
				server.report(b)
			}
			b.ReportMetric(servers[1].rate()/servers[0].rate(), "x-memory")
			b.ReportMetric(servers[2].rate()/servers[1].rate(), "x-disk")
		})
	}
}

// posted is a server, its publishers, and how it has answered them.
type posted struct {
	name       string
	pid        int
	publishers []*publisher
	sent       int
	took, cpu  time.Duration
}

func newPosted(b *testing.B, name string, server *app.Server, publishers int) *posted {
	s := &posted{name: name, pid: server.Cmd.Process.Pid}
	for range publishers {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", server.Port), testwait.Limit)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		s.publishers = append(s.publishers, &publisher{conn: conn})
	}
	s.post(b, 100*publishers) // warm
	s.sent, s.took, s.cpu = 0, 0, 0
	for _, p := range s.publishers {
		p.waited = nil
	}
	return s
}

// post publishes so many messages.
func (s *posted) post(b *testing.B, messages int) {
	cpu, begin := cpuTime(b, s.pid), time.Now()
	var publishing sync.WaitGroup
	for i, p := range s.publishers {
		publishing.Go(func() {
			for range share(messages, len(s.publishers), i) {
				if err := p.post(); err != nil {
					b.Errorf("%s: %v", s.name, err)
					return
				}
			}
		})
	}
	publishing.Wait()
	s.took += time.Since(begin)
	s.cpu += cpuTime(b, s.pid) - cpu
	s.sent += messages
	if b.Failed() {
		b.FailNow()
	}
}

func (s *posted) rate() float64 { return float64(s.sent) / s.took.Seconds() }

func (s *posted) report(b *testing.B) {
	var waited []time.Duration
	for _, p := range s.publishers {
		waited = append(waited, p.waited...)
	}
	slices.Sort(waited)
	b.ReportMetric(s.rate(), s.name+"-posts/s")
	b.ReportMetric(float64(waited[len(waited)*99/100].Microseconds())/1e3, s.name+"-p99-ms")
	b.ReportMetric(float64(s.cpu.Microseconds())/float64(s.sent), s.name+"-cpu-µs")
}

// publisher is a connection. It does as little as it can, because it takes its time from the server.
type publisher struct {
	conn   net.Conn
	buffer [4096]byte
	waited []time.Duration
}

func (p *publisher) post() error {
	const body = `{"message":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}`
	const request = "POST /sse HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + app.Token +
		"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n" + body
	begin := time.Now()
	if _, err := io.WriteString(p.conn, request); err != nil {
		return err
	}
	for n := 0; ; {
		read, err := p.conn.Read(p.buffer[n:])
		if err != nil {
			return err
		}
		n += read
		head, answer, whole := bytes.Cut(p.buffer[:n], []byte("\r\n\r\n"))
		if !whole || !bytes.HasSuffix(answer, []byte(`"}`)) {
			continue
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 202 ")) || !bytes.HasPrefix(answer, []byte(`{"id":"`)) {
			return fmt.Errorf("the answer is %q", p.buffer[:n])
		}
		p.waited = append(p.waited, time.Since(begin))
		return nil
	}
}
