package server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"math"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"gin-sse/internal/stream"
)

// How much the server still reads from a client whose request it has refused, and for how long.
const (
	lingerBytes  = 256 << 20
	lingerTime   = 10 * time.Second
	lingerSilent = 3 * time.Second
)

const (
	mostBrief   = 32                     // connections beyond those that may stay
	briefTime   = 2 * time.Second        // how long each of them lasts
	briefSilent = 100 * time.Millisecond // and if it sends nothing
	mostOther   = 32                     // open files that are no connections
	reminder    = time.Minute            // between two lines in the log about the limit of open files
)

// connections is a TCP port whose connections have two properties that those of net/http lack.
//
// A client gets the answer to its request even in the middle of an upload. With anything unread, the system would reset the
// connection, and the client would report that in place of the answer.
//
// There are fewer connections than the process may open files. Beyond those that may stay, a connection is brief: it answers
// one request, and carries no stream. So /healthz stays well, and a client that wants a stream is told to try again, rather
// than left to wait.
type connections struct {
	*net.TCPListener
	places, brief chan struct{} // a value for each connection that may stay, and for each brief one
	silent        time.Duration
	files         uint64
	reported      time.Time
	open          context.Context
	close         context.CancelFunc
}

// newConnections returns the port of a listener in a process that may open so many files, or any number if that is 0. Through
// TLS, a client has to shake hands before it sends a request.
func newConnections(listener *net.TCPListener, encrypted bool, files uint64) *connections {
	p := &connections{TCPListener: listener, silent: briefSilent, files: files}
	p.open, p.close = context.WithCancel(context.Background())
	if encrypted {
		p.silent = briefTime
	}
	places, brief := uint64(math.MaxInt32), uint64(mostBrief)
	if files > 0 {
		brief = max(1, min(mostBrief, files/8))
		places = min(places, files-brief-min(mostOther, files/4))
	}
	p.places, p.brief = make(chan struct{}, places), make(chan struct{}, brief)
	return p
}

// Accept returns the next connection, once there is room for it.
func (p *connections) Accept() (net.Conn, error) {
	inner, err := p.AcceptTCP()
	if err != nil {
		return nil, err
	}
	c := &conn{TCPConn: inner, port: p, place: p.places}
	select {
	case p.places <- struct{}{}:
		return c, nil
	default:
	}
	if time.Since(p.reported) >= reminder {
		p.reported = time.Now()
		slog.Warn("the limit of open files is reached: new clients get 503 until others leave. Raise it: LimitNOFILE= in the unit of systemd, --ulimit nofile= with Docker, ulimit -n in a shell", "limit", p.files)
	}
	select {
	case p.brief <- struct{}{}:
	case <-p.open.Done():
		_ = inner.Close() // nothing was sent
		return nil, net.ErrClosed
	}
	c.place = p.brief
	time.AfterFunc(p.silent, func() {
		if !c.active.Load() {
			_ = c.Close()
		}
	})
	time.AfterFunc(briefTime, func() { _ = c.Close() })
	return c, nil
}

// Close stops listening. From then on, connections are closed at once.
func (p *connections) Close() error {
	p.close()
	return p.TCPListener.Close()
}

// conn is one of the connections.
type conn struct {
	*net.TCPConn
	port             *connections
	place            chan struct{}
	active           atomic.Bool // a request is being answered, and no stream has taken the connection over
	lingered, closed atomic.Bool
}

func (c *conn) isBrief() bool { return c.place == c.port.brief }

// plain returns the connection below TLS, if it is a conn.
func plain(c net.Conn) (*conn, bool) {
	if encrypted, ok := c.(*tls.Conn); ok {
		c = encrypted.NetConn()
	}
	own, ok := c.(*conn)
	return own, ok
}

// track is for http.Server.ConnState.
func track(c net.Conn, state http.ConnState) {
	if own, ok := plain(c); ok {
		own.active.Store(state == http.StateActive)
	}
}

// briefly makes net/http close a brief connection after its answer, and tell the client so: others need the place.
func briefly(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if stream.HasNoRoom(r.Context()) {
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
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
	if c.active.Load() && !c.isBrief() && !c.lingered.Load() {
		_ = c.CloseWrite() // fails if the connection is gone, and then linger ends at once
	}
	err := c.TCPConn.Close()
	if !c.closed.Swap(true) {
		<-c.place
	}
	return err
}

// linger reads what the client still sends, and drops it, once and within limits, until the port is closed.
func (c *conn) linger() {
	if !c.active.Load() || c.isBrief() || c.lingered.Swap(true) {
		return
	}
	defer context.AfterFunc(c.port.open, func() { _ = c.TCPConn.Close() })()
	end := time.Now().Add(lingerTime)
	dropped := make([]byte, 16<<10)
	for read := 0; read < lingerBytes && time.Now().Before(end); {
		if c.SetReadDeadline(time.Now().Add(lingerSilent)) != nil {
			return
		}
		n, err := c.Read(dropped)
		if err != nil {
			return
		}
		read += n
	}
}
