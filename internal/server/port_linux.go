package server

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// unsent is how many bytes the kernel accepts for a connection beyond those on their way to the client. Without
// this limit, a client that stops reading holds megabytes of kernel memory until it is cut off.
const unsent = 128 << 10

// control sets the options that every accepted connection inherits.
func control(_, _ string, conn syscall.RawConn) error {
	var err error
	outer := conn.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(vanished.Milliseconds())),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsent),
		)
	})
	return errors.Join(outer, err)
}
