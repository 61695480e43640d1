//go:build unix

package stream

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasClosed reports whether the client has closed the connection. It discards whatever the client has sent,
// because nothing is expected from it.
func hasClosed(conn net.Conn) bool {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return true
	}
	closed := false
	err = raw.Control(func(fd uintptr) {
		unread := make([]byte, 4<<10)
		for range 16 { // a client that keeps sending is still there
			n, err := unix.Read(int(fd), unread)
			if n <= 0 {
				closed = err != unix.EAGAIN && err != unix.EINTR
				return
			}
		}
	})
	return closed || err != nil
}
