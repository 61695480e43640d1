package relay

import (
	"io"
	"net"
	"sync"
	"testing"
)

// relay passes connections on to servers in turn, and can cut off those that there are.
type relay struct {
	URL   string
	mu    sync.Mutex
	conns map[net.Conn]bool
}

func New(t *testing.T, servers ...string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{URL: "http://" + listener.Addr().String(), conns: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for n := 0; ; n++ {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			running.Go(func() { r.pass(client, servers[n%len(servers)]) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		r.Cut()
		running.Wait()
	})
	return r
}

func (r *relay) pass(client net.Conn, server string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return // the client sees its connection closed
	}
	defer upstream.Close()
	r.mu.Lock()
	r.conns[client] = true
	r.mu.Unlock()
	var upward sync.WaitGroup
	upward.Go(func() {
		_, _ = io.Copy(upstream, client)
		upstream.Close()
	})
	_, _ = io.Copy(client, upstream)
	client.Close()
	upward.Wait()
	r.mu.Lock()
	delete(r.conns, client)
	r.mu.Unlock()
}

// Cut resets every connection, as a network that fails does.
func (r *relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}
