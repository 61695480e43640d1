//go:build unix

package server

import (
	"net"

	"golang.org/x/sys/unix"
)

// openFilesLimit returns how many files the process may have open, connections included.
func openFilesLimit() (limit uint64, ok bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true
}

// hasSent reports whether something from the client waits to be read.
func hasSent(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false // it is closed
	}
	n := 0
	err = raw.Control(func(fd uintptr) {
		n, _, _ = unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT) // an error means no
	})
	return err == nil && n > 0
}
