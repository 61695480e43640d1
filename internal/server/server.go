// Package server runs an http.Server that is fit for streams: its protocols, its limits, its port and its
// graceful stop.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"time"

	"gin-sse/internal/stream"
)

// stopTimeout is how long a stop waits for clients that are slow to receive the rest of their answers.
const stopTimeout = 1500 * time.Millisecond

// Config is where the server listens, and what it speaks there.
type Config struct {
	Host              string // empty for all addresses
	Port              uint16 // 0 for any free one
	CertFile, KeyFile string // PEM; both or neither
	HTTP2             bool   // beside HTTP/1.1
}

// Run serves until ctx ends, and then stops gracefully: it accepts no more connections, calls onStop, which must
// make the streams end, and after 1.5 s cuts off those that have not ended. It prints the address to out once
// the port is open. An error is about the port or the certificate, and says what to do.
func Run(ctx context.Context, cfg Config, handler http.Handler, out io.Writer, onStop func()) error {
	port, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Server running on %s\n", address(cfg, port.Addr().(*net.TCPAddr).Port))
	return serve(ctx, port, cfg, handler, onStop)
}

// serve is Run with a port that is open.
func serve(ctx context.Context, port net.Listener, cfg Config, handler http.Handler, onStop func()) error {
	streams, silent := stream.NewGroup(), newSilent()
	server := &http.Server{
		Handler:        handler,
		ReadTimeout:    10 * time.Second, // for a whole request to arrive
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 12 << 10, // net/http adds 4 KiB
		Protocols:      new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			// The browsers behind a proxy share its connection, and a stream does not end. Some proxies do not
			// open another connection when this one is full: their clients would wait forever.
			MaxConcurrentStreams: 1000,
			// Remember no headers of answers, where 0 would mean the default. That saves 6 KB for each browser that has
			// loaded the page, and costs 170 bytes for each answer. MaxDecoderHeaderTableSize would save as much, but
			// break connections: a client sends its first requests before it can know of it.
			MaxEncoderHeaderTableSize: 1,
			// A stream's own deadline cannot end it while the whole connection is stuck, so this closes the
			// connection. It takes up to twice as long, because the write that fills the last buffer succeeds.
			WriteByteTimeout: 5 * time.Second,
			// A silent client gets a ping, even in the middle of a request, and is cut off unless it answers. A client
			// that reads a stream is silent, and a ping costs as much CPU as five events.
			SendPingTimeout: 30 * time.Second,
			PingTimeout:     15 * time.Second,
		},
		BaseContext: func(net.Listener) context.Context { return streams.Context() },
		ConnState: func(c net.Conn, state http.ConnState) {
			silent.track(c, state)
			track(c, state)
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if own, ok := plain(c); ok && own.release != nil {
				return stream.NoRoom(ctx)
			}
			return ctx
		},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(cfg.HTTP2)            // over TLS
	server.Protocols.SetUnencryptedHTTP2(cfg.HTTP2) // h2c, for proxies that are told to speak it
	told := make(chan struct{})
	server.RegisterOnShutdown(func() {
		defer close(told)
		silent.close()
		onStop()
		streams.Stop()
	})

	serving := make(chan error, 1)
	go func() { serving <- server.Serve(port) }()
	select {
	case err := <-serving:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	late, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	err := server.Shutdown(late)
	<-told // a stream that ended before onStop has returned could miss the last events
	if err := errors.Join(err, streams.Shutdown(late)); err != nil {
		log.Printf("some clients did not receive the rest within %v and were cut off: %v", stopTimeout, context.Cause(late))
		_ = server.Close() // an error changes nothing: the process ends
	}
	<-serving
	return nil
}

// listen opens the port, with TLS if there is a certificate for it.
func listen(ctx context.Context, cfg Config) (net.Listener, error) {
	encryption := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if cfg.HTTP2 {
		encryption.NextProtos = []string{"h2", "http/1.1"}
	}
	if cfg.CertFile != "" {
		certificate, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("TLS_CERT_FILE=%q with TLS_KEY_FILE=%q cannot be used: they accept the PEM files of a certificate and of its private key: %w", cfg.CertFile, cfg.KeyFile, err)
		}
		encryption.Certificates = []tls.Certificate{certificate}
	}
	listener, err := openPort(ctx, net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))))
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("port %d is taken by another program: stop that one, or choose another port, such as PORT=%d", cfg.Port, cfg.Port+1)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("PORT=%d is reserved for the system: choose one above 1023, such as PORT=3000", cfg.Port)
	case err != nil:
		return nil, fmt.Errorf("cannot listen on HOST=%q: it accepts an address or a name of this machine, or nothing for all: %w", cfg.Host, err)
	}
	port := newPort(listener.(*net.TCPListener), cfg.CertFile != "")
	if cfg.CertFile != "" {
		return tls.NewListener(port, encryption), nil
	}
	return port, nil
}

// address returns the URL at which a browser on this machine finds the server.
func address(cfg Config, port int) string {
	host := cfg.Host
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if cfg.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// silent tracks the connections that have sent nothing yet. Browsers open such connections in advance, and
// net/http would wait for a request on each of them before it stops.
type silent struct {
	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	stopped bool // close was called
}

func newSilent() *silent { return &silent{conns: map[net.Conn]struct{}{}} }

func (s *silent) track(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.conns, conn)
	case s.stopped: // it was being accepted while close ran
		_ = conn.Close()
	default:
		s.conns[conn] = struct{}{}
	}
}

func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for conn := range s.conns {
		_ = conn.Close() // no request is lost with it
	}
}
