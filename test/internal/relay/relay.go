// Package relay is a network that fails when a test wants it to.
package relay

import (
	"net"
	"sync"
	"testing"
)

// Relay passes connections on to servers in turn.
type Relay struct {
	Address string

	mu       sync.Mutex
	conns    map[net.Conn]bool
	blocked  bool
	stalled  bool
	restored *sync.Cond // signals that stalled is false
}

// New starts a relay to the servers at these addresses, until the test ends.
func New(t testing.TB, servers ...string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Address: listener.Addr().String(), conns: map[net.Conn]bool{}}
	r.restored = sync.NewCond(&r.mu)
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
		r.Block()
		running.Wait()
	})
	return r
}

// URL returns the address for clients of HTTP.
func (r *Relay) URL() string { return "http://" + r.Address }

func (r *Relay) pass(client net.Conn, server string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return // the client sees its connection closed
	}
	defer upstream.Close()
	r.mu.Lock()
	if r.blocked {
		r.mu.Unlock()
		return
	}
	r.conns[client] = true
	r.mu.Unlock()
	var upward sync.WaitGroup
	upward.Go(func() {
		r.copy(upstream, client)
		upstream.Close()
	})
	r.copy(client, upstream)
	client.Close()
	upward.Wait()
	r.mu.Lock()
	delete(r.conns, client)
	r.mu.Unlock()
}

// copy passes on what comes until either end is closed.
func (r *Relay) copy(to, from net.Conn) {
	for buffer := make([]byte, 32<<10); ; {
		n, err := from.Read(buffer)
		r.mu.Lock()
		for r.stalled {
			r.restored.Wait()
		}
		r.mu.Unlock()
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			return
		}
	}
}

// Stall holds back what is sent until Restore. Connections stay, and there may be new ones.
func (r *Relay) Stall() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stalled = true
}

// Cut resets the connections that there are.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reset()
}

// Block resets the connections, and lets none through until Restore.
func (r *Relay) Block() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked, r.stalled = true, false
	r.restored.Broadcast()
	r.reset()
}

// Restore lets connections, and what they send, through again.
func (r *Relay) Restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blocked, r.stalled = false, false
	r.restored.Broadcast()
}

func (r *Relay) reset() {
	for conn := range r.conns {
		_ = conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
}
