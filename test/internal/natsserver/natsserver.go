// Package natsserver runs NATS servers with JetStream in the process of a test.
package natsserver

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"gin-sse/internal/testport"
	"gin-sse/internal/testwait"
)

// Server is a NATS server that can be stopped and run again, on the same port and in the same folder. Its
// methods are for one goroutine.
type Server struct {
	*server.Server
	Options *server.Options // for the next Run
}

// Options are those of a server without a port and a folder.
func Options() *server.Options {
	return &server.Options{
		Host: "127.0.0.1", NoLog: true, NoSigs: true,
		JetStream: true, JetStreamMaxMemory: 64 << 20, JetStreamMaxStore: 256 << 20,
		DisableJetStreamBanner: true,
	}
}

// Start runs a server until the test ends.
func Start(t testing.TB, change ...func(*server.Options)) *Server {
	t.Helper()
	s := &Server{Options: Options()}
	s.Options.Port = testport.Free(t)
	s.Options.StoreDir = t.TempDir()
	for _, change := range change {
		change(s.Options)
	}
	s.Run(t)
	t.Cleanup(s.Stop)
	return s
}

// Run starts the server, and waits until it takes connections.
func (s *Server) Run(t testing.TB) {
	t.Helper()
	var err error
	if s.Server, err = server.NewServer(s.Options.Clone()); err != nil {
		t.Fatal(err)
	}
	s.Server.Start()
	if !s.ReadyForConnections(testwait.Limit) {
		t.Fatal("the NATS server does not start")
	}
}

// Stop ends the server, and waits for it. What it stored stays.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}
