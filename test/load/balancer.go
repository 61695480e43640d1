//go:build linux

package main

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// balancer spreads the clients of a process over the replicas as the load balancer of docs/haproxy-replicas.cfg does.
// It asks each replica every second whether it is ready, and leaves out one that was not twice. A client goes to the one
// with the fewest of its clients, and to another one if that cannot be reached. The balancer passes no data on, as that
// would cost more than all that is to be measured.
type balancer struct {
	replicas []backend
}

type backend struct {
	address string
	failed  atomic.Int32 // checks in a row
	clients atomic.Int32
}

func newBalancer(addresses []string) *balancer {
	b := &balancer{replicas: make([]backend, len(addresses))}
	for i, address := range addresses {
		b.replicas[i].address = address
	}
	return b
}

// check asks until ctx ends.
func (b *balancer) check(ctx context.Context) {
	var checking sync.WaitGroup
	defer checking.Wait()
	for i := range b.replicas {
		checking.Go(func() {
			for r := &b.replicas[i]; wait(ctx, time.Now().Add(time.Second)) == nil; {
				if ready(ctx, r.address) == "" {
					r.failed.Store(0)
				} else {
					r.failed.Add(1)
				}
			}
		})
	}
}

// perSource is how many clients share an address of this machine. Linux looks for a free port at every connection. Once
// half of the ports that it may take are connected to the same server, that takes it milliseconds.
const perSource = 5000

// dial connects a user to a replica. Call left when the connection has ended.
func (b *balancer) dial(ctx context.Context, user int) (conn net.Conn, left func(), err error) {
	dialer := net.Dialer{
		Timeout:   2 * time.Second,
		LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(user/perSource))},
		Control: func(_, _ string, conn syscall.RawConn) error {
			var err error
			outer := conn.Control(func(fd uintptr) { // otherwise no two connections could have the same port
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
			return errors.Join(outer, err)
		},
	}
	err = errors.New("no replica is ready")
	tried := make(map[*backend]bool, len(b.replicas))
	for r := b.least(tried); r != nil; r = b.least(tried) {
		tried[r] = true
		r.clients.Add(1)
		left := func() { r.clients.Add(-1) }
		if conn, err = dialer.DialContext(ctx, "tcp", r.address); err == nil {
			return conn, left, nil
		}
		left()
	}
	return nil, nil, err
}

// least returns the replica with the fewest clients of those that are left, or nil.
func (b *balancer) least(tried map[*backend]bool) (least *backend) {
	for i := range b.replicas {
		r := &b.replicas[i]
		if r.failed.Load() < 2 && !tried[r] && (least == nil || r.clients.Load() < least.clients.Load()) {
			least = r
		}
	}
	return least
}
