// Package testport finds ports for the servers of tests.
package testport

import (
	"fmt"
	"math/rand/v2"
	"net"
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

// Find is Free outside of tests. Systems give connections, and listeners on port 0, ports above 32767. This one is
// below, so no connection of another test takes it before a server starts on it, or while that server is restarted.
func Find() (port int, err error) {
	for range 100 {
		port = 16_000 + rand.IntN(16_000)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprint(":", port)); err == nil {
			listener.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port is free: %w", err)
}
