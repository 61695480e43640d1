package cluster

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// relay passes connections on to a server, until it is cut.
type relay struct {
	url      string
	mu       sync.Mutex
	conns    []net.Conn
	isCut    bool
	upstream string
}

func newRelay(t testing.TB, url string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{url: "nats://" + listener.Addr().String(), upstream: strings.TrimPrefix(url, "nats://")}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed below
			}
			running.Go(func() { r.pass(client) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		r.cut()
		running.Wait()
	})
	return r
}

func (r *relay) pass(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.upstream)
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	if r.isCut {
		r.mu.Unlock()
		return
	}
	r.conns = append(r.conns, client)
	r.mu.Unlock()
	var upward sync.WaitGroup
	upward.Go(func() {
		_, _ = io.Copy(server, client) // until either end is closed
		server.Close()
	})
	_, _ = io.Copy(client, server)
	client.Close()
	upward.Wait()
}

// cut closes all connections, and those to come.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = true
	for _, conn := range r.conns {
		conn.Close()
	}
	r.conns = nil
}

// restore lets connections through again.
func (r *relay) restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.isCut = false
}
