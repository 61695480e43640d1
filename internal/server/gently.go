package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// How much the server still reads from a client whose request it has refused, and for how long.
const (
	lingerBytes  = 256 << 20
	lingerTime   = 10 * time.Second
	lingerSilent = 3 * time.Second
)

// gentlePort is a TCP port. When net/http closes one of its connections after an answer, the client still gets that answer,
// even if it is in the middle of an upload: with anything unread, the system would reset the connection, and the client
// would report that in place of the answer.
type gentlePort struct {
	*net.TCPListener
	spare       *spare
	spareSilent time.Duration

	mu        sync.Mutex
	closed    bool
	lingering map[*conn]struct{}
}

// newGentlePort returns the port of a listener. Through TLS, a client has to shake hands before it sends a request.
func newGentlePort(listener *net.TCPListener, encrypted bool) *gentlePort {
	p := &gentlePort{TCPListener: listener, spare: newSpare(), spareSilent: spareSilent, lingering: map[*conn]struct{}{}}
	if encrypted {
		p.spareSilent = spareTime
	}
	return p
}

// Accept returns the next connection. It does not fail at the limit of open files.
func (p *gentlePort) Accept() (net.Conn, error) {
	inner, release, err := p.spare.accept(p.AcceptTCP)
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: inner, port: p, release: release}
	if release != nil {
		c.hurry()
	}
	return c, nil
}

// Close stops listening. From then on, connections are closed at once.
func (p *gentlePort) Close() error {
	p.mu.Lock()
	p.closed = true
	for c := range p.lingering {
		_ = c.SetReadDeadline(time.Now()) // fails if it is closed
	}
	p.mu.Unlock()
	p.spare.close()
	return p.TCPListener.Close()
}

// conn is a connection of a gentlePort.
type conn struct {
	*net.TCPConn
	port    *gentlePort
	active  atomic.Bool // a request is being answered, and no stream has taken the connection over
	closing atomic.Bool
	release func() // gives back a spare descriptor; nil if the connection has a descriptor of its own
}

// plain returns the connection below TLS, if it belongs to a gentlePort.
func plain(c net.Conn) (*conn, bool) {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	own, ok := c.(*conn)
	return own, ok
}

// track is for http.Server.ConnState.
func track(c net.Conn, state http.ConnState) {
	own, ok := plain(c)
	if !ok {
		return
	}
	own.active.Store(state == http.StateActive)
	if state == http.StateIdle && own.release != nil {
		_ = own.Close() // others need the descriptor
	}
}

// hurry closes a connection with a spare descriptor soon, so that it cannot keep others from being answered.
func (c *conn) hurry() {
	giveBack := c.release
	end := time.AfterFunc(time.Hour, func() { _ = c.Close() })
	silent := time.AfterFunc(time.Hour, func() {
		if !c.active.Load() && !hasSent(c.TCPConn) {
			_ = c.Close()
		}
	})
	c.release = func() {
		end.Stop()
		silent.Stop()
		giveBack()
	}
	end.Reset(spareTime) // not before release is set
	silent.Reset(c.port.spareSilent)
}

// CloseWrite tells the client that the answer is complete. net/http calls it before it closes a connection on which a
// request was not read to its end, and a stream when it ends.
func (c *conn) CloseWrite() error {
	err := c.TCPConn.CloseWrite()
	c.linger()
	return err
}

// Close closes the connection, after an answer once the client has closed its side or linger has given up.
func (c *conn) Close() error {
	if c.active.Load() && !c.closing.Load() {
		_ = c.TCPConn.CloseWrite() // fails if the connection is gone, and then linger ends at once
		c.linger()
	}
	err := c.TCPConn.Close()
	if c.release != nil {
		c.release()
	}
	return err
}

// linger reads what the client still sends, and drops it, once and within limits.
func (c *conn) linger() {
	if !c.active.Load() || c.release != nil || c.closing.Swap(true) {
		return
	}
	defer func() {
		c.port.mu.Lock()
		defer c.port.mu.Unlock()
		delete(c.port.lingering, c)
	}()
	end := time.Now().Add(lingerTime)
	dropped := make([]byte, 16<<10)
	for read := 0; read < lingerBytes && c.mayLinger(end); {
		n, err := c.Read(dropped)
		if err != nil {
			return
		}
		read += n
	}
}

// mayLinger sets the deadline of the next read, and reports whether there may be one.
func (c *conn) mayLinger(end time.Time) bool {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	if c.port.closed || time.Now().After(end) {
		return false
	}
	c.port.lingering[c] = struct{}{}
	silent := time.Now().Add(lingerSilent)
	if end.Before(silent) {
		silent = end
	}
	return c.SetReadDeadline(silent) == nil
}
