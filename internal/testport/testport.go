// Package testport finds ports for the servers of tests.
package testport

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

// Free returns a TCP port that nothing listens on.
func Free(t testing.TB) int {
	t.Helper()
	port, err := Find()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// found counts the ports of this process. Each is another one, so that no test of it takes the port of another one's server
// before that listens. Tests in other processes begin elsewhere.
var found atomic.Int64

// Find is Free outside of tests. Systems give connections, and listeners on port 0, ports above 32767. This one is
// below, so no connection of another test takes it before a server starts on it, or while that server is restarted.
func Find() (port int, err error) {
	for range 100 {
		port = 16_000 + (101*os.Getpid()+int(found.Add(1)))%16_000
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprint(":", port)); err == nil {
			listener.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port is free: %w", err)
}
