package program

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"

	"gin-sse/internal/testsse"
	"gin-sse/internal/testwait"
	"gin-sse/test/internal/app"
)

func TestUnreadStreamIsCutOffAndItsNeighboursOnTheConnectionGoOn(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=10ms")
	transport, connections := sharing(t)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 1024}

	unread := app.Open(t, transport, http.MethodGet, a.URL+"/sse").Body
	neighbour := app.Open(t, transport, http.MethodGet, a.URL+"/sse").Body
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, neighbour)
		ended <- err
	}()

	line := a.Out.Wait(t, `path=/sse `) // the handler has returned
	if !regexp.MustCompile(` status=200 seconds=\d\d+\.\d+ client=127\.0\.0\.1 ended=slow `).MatchString(line) {
		t.Errorf("unexpected log line %q", line)
	}
	if _, err := io.ReadAll(unread); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("the unread stream ended with %v, want a reset", err)
	}
	select {
	case err := <-ended:
		t.Errorf("its neighbour ended with %v", err)
	default:
	}
	testsse.ReadUntil(t, app.Open(t, transport, http.MethodGet, a.URL+"/sse").Body, "Server Time: ")
	if n := connections.Load(); n != 1 {
		t.Errorf("there were %d connections, want 1", n)
	}
	if code := a.Stop(syscall.SIGTERM); code != 0 {
		t.Errorf("exit status %d; it said:\n%s", code, a.Out.String())
	}
	if err := <-ended; err != nil {
		t.Errorf("its neighbour ended with %v", err)
	}
}

func TestConnectionThatTakesNothingIsCutOffWithAllItsStreams(t *testing.T) {
	t.Parallel()
	a := app.Start(t, "TICK_INTERVAL=10ms")
	asleep, wake := context.WithCancel(t.Context())
	defer wake()
	var stalled atomic.Bool
	transport, _ := sharing(t)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialer := net.Dialer{Control: func(_, _ string, socket syscall.RawConn) error {
			var err error
			controlled := socket.Control(func(fd uintptr) {
				// With small segments the kernel holds less for a client that takes nothing.
				err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1000)
			})
			return errors.Join(controlled, err)
		}}
		conn, err := dialer.DialContext(ctx, network, address)
		return stallingConn{conn, &stalled, asleep}, err
	}
	const streams = 250 // they fill what it holds soon
	for range streams {
		app.Open(t, transport, http.MethodGet, a.URL+"/sse")
	}
	stalled.Store(true)
	a.Out.WaitFor(t, `path=/sse `, streams, testwait.Limit)
}

// stallingConn takes nothing from the network while it is stalled.
type stallingConn struct {
	net.Conn
	stalled *atomic.Bool
	asleep  context.Context
}

func (c stallingConn) Read(p []byte) (int, error) {
	if c.stalled.Load() {
		<-c.asleep.Done()
	}
	return c.Conn.Read(p)
}

// sharing returns a client that has all its streams on one HTTP/2 connection in clear text, and the
// number of connections that it opened after all.
func sharing(t *testing.T) (*http.Transport, *atomic.Int32) {
	connections := new(atomic.Int32)
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			connections.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}
	transport.Protocols.SetUnencryptedHTTP2(true)
	return transport, connections
}
