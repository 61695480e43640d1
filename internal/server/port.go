package server

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// vanished is how long a client's machine may acknowledge nothing before its connection counts as lost.
const vanished = 40 * time.Second

// portWait is how long a start waits for a port that another program has, which may be about to end.
const portWait = 2 * time.Second

// openPort opens a TCP port such as ":3000". It waits for one that is taken. A client that vanishes without a word (its cable
// is pulled, its battery is empty) loses its connection within 60 s. Where the platform cannot bound how long data stays
// unacknowledged, that holds only for connections without data under way.
func openPort(ctx context.Context, address string) (net.Listener, error) {
	config := net.ListenConfig{Control: control, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: vanished / 3, Interval: vanished / 3, Count: 2}}
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for begin := time.Now(); ; {
		port, err := config.Listen(ctx, "tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Since(begin) >= portWait {
			return port, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// control sets the options that every accepted connection inherits.
func control(_, _ string, conn syscall.RawConn) error {
	var err error
	outer := conn.Control(func(fd uintptr) { err = setOptions(int(fd)) })
	return errors.Join(outer, err)
}
