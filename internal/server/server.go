// Package server runs an http.Server that is fit for streams: its protocols, its limits, its port and its
// graceful stop.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gin-sse/internal/capacity"
	"gin-sse/internal/secret"
	"gin-sse/internal/stream"
)

// stopTimeout is how long a stop waits for clients that are slow to receive the rest of their answers. All others come
// back meanwhile and find nobody listening, so one client that reads nothing must not make it long.
const stopTimeout = 700 * time.Millisecond

// Config is where the server listens, and what it speaks there.
type Config struct {
	Host              string        // empty for all addresses
	Port              uint16        // 0 for any free one
	CertFile, KeyFile string        // PEM; both or neither
	HTTP2             bool          // beside HTTP/1.1
	Delay             time.Duration // how long Serve goes on after it is told to stop
}

// Port is an open port. Clients that connect before Serve is called wait until it is, and are not refused.
type Port struct {
	net.Listener
	*secret.Files // of the certificate, for connections from when they were read; or nil
	cfg           Config
}

// Open opens the port. If another program has it, Open waits for it up to 2 s, so that a restart may overlap. An error
// is about the port or the certificate, and says what to do.
func Open(ctx context.Context, cfg Config) (*Port, error) {
	encryption, files, err := encryption(cfg)
	if err != nil {
		return nil, err
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
	listener = newConnections(listener.(*net.TCPListener), encryption != nil, capacity.Files())
	if encryption != nil {
		listener = tls.NewListener(listener, encryption)
	}
	return &Port{listener, files, cfg}, nil
}

// encryption returns what TLS needs, and the files that it comes from, or nothing without a certificate.
func encryption(cfg Config) (*tls.Config, *secret.Files, error) {
	if cfg.CertFile == "" {
		return nil, nil, nil
	}
	var current atomic.Pointer[tls.Certificate]
	files, err := secret.Open("TLS_CERT_FILE and TLS_KEY_FILE", func(contents [][]byte) error {
		certificate, err := tls.X509KeyPair(contents[0], contents[1])
		if err == nil {
			current.Store(&certificate)
		}
		return err
	}, cfg.CertFile, cfg.KeyFile)
	if err != nil {
		return nil, nil, fmt.Errorf("TLS_CERT_FILE=%q with TLS_KEY_FILE=%q cannot be used: they accept the PEM files of a certificate and of its private key: %w", cfg.CertFile, cfg.KeyFile, err)
	}
	encryption := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return current.Load(), nil },
	}
	if !cfg.HTTP2 {
		encryption.NextProtos = encryption.NextProtos[1:]
	}
	return encryption, files, nil
}

// URL returns the address at which a browser on this machine finds the server.
func (p *Port) URL() string { return address(p.cfg, p.Addr().(*net.TCPAddr).Port) }

// address returns the URL at which a browser on this machine finds the server.
func address(cfg Config, port int) string {
	host, scheme := cfg.Host, "http"
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	if cfg.CertFile != "" {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, strconv.Itoa(port))
}

// Serve serves until ctx ends, and then for the configured delay. Then it stops gracefully: it accepts no more connections,
// calls onStop, which must make the streams end, and after 0.7 s cuts off those that have not ended.
func (p *Port) Serve(ctx context.Context, handler http.Handler, onStop func()) error {
	streams, quiet := stream.NewGroup(), &quiet{since: map[net.Conn]time.Time{}}
	server := &http.Server{
		Handler:        briefly(handler),
		ReadTimeout:    10 * time.Second, // for a whole request to arrive
		IdleTimeout:    2 * time.Minute,
		MaxHeaderBytes: 60 << 10, // net/http adds 4 KiB; a middleware refuses much less, and says why
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
			quiet.track(c, state)
			track(c, state)
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if own, ok := plain(c); ok && own.isBrief() {
				return stream.NoRoom(ctx)
			}
			return ctx
		},
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(p.cfg.HTTP2)            // over TLS
	server.Protocols.SetUnencryptedHTTP2(p.cfg.HTTP2) // h2c, for proxies that are told to speak it
	told := make(chan struct{})
	server.RegisterOnShutdown(func() {
		defer close(told)
		streams.Ending()
		onStop()
		streams.Stop()
	})

	serving := make(chan error, 1)
	go func() { serving <- server.Serve(p.Listener) }()
	select {
	case err := <-serving:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	slog.Info("told to stop", "streams", streams.Open(), "delay", p.cfg.Delay.String())
	select { // the load balancers move on meanwhile
	case err := <-serving:
		return fmt.Errorf("serve: %w", err)
	case <-time.After(p.cfg.Delay):
	}
	late, cancel := context.WithTimeout(context.Background(), stopTimeout)
	var closing sync.WaitGroup
	defer closing.Wait()
	defer cancel()
	closing.Go(func() { quiet.close(late) })
	err := server.Shutdown(late)
	<-told // a stream that ended before onStop has returned could miss the last events
	if err := errors.Join(err, streams.Shutdown(late)); err != nil {
		slog.Warn("stopped; some clients did not receive the rest in time and were cut off", "after", stopTimeout.String(), "error", err)
		_ = server.Close() // an error changes nothing: the process ends
	} else {
		slog.Info("stopped; all streams have ended")
	}
	<-serving
	return nil
}

// quiet are the connections on which nobody waits for an answer. net/http would wait for them before it stops: for a
// request on those that have sent nothing yet, which browsers open in advance, and on HTTP/2 for a second after the last
// answer, unless the client closes the connection.
type quiet struct {
	mu    sync.Mutex
	since map[net.Conn]time.Time // when the last answer ended; zero if the client has sent nothing yet
}

func (q *quiet) track(conn net.Conn, state http.ConnState) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch state {
	case http.StateNew:
		q.since[conn] = time.Time{}
	case http.StateIdle:
		q.since[conn] = time.Now()
	default:
		delete(q.since, conn)
	}
}

// close closes them, until ctx ends. Where there was an answer, it waits for a moment: in that moment the client is told that
// the server goes away, and gets the last bytes of the answer.
func (q *quiet) close(ctx context.Context) {
	const moment = 50 * time.Millisecond
	ticker := time.NewTicker(moment)
	defer ticker.Stop()
	for begin := time.Now(); ctx.Err() == nil; {
		q.mu.Lock()
		for conn, since := range q.since {
			if since.IsZero() || time.Since(begin) >= moment && time.Since(since) >= moment {
				_ = conn.Close() // all that was asked for has been sent
			}
		}
		q.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}
